"""The library on a CUDA device: times of its kernels beside torch's, shares of the device's copy bandwidth, what a call costs the host.

python -m benchmarks gpu [--only REGEX] [--full] [--list] [--json [PATH]]

A time is that between two events around one call, after the second-level cache was filled with something else; the contenders take turns. What
the figures are held against is a copy on the device that moves as many bytes as the operation must read and write. GB/s are those
bytes a second: each input read once, each output written once.
"""
from __future__ import annotations

import argparse
import datetime
import gc
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import numbapool
from numbapool import publish

from . import machine, report, rows, timing
from .rows import FIRST, LAST, SIMPLE, Row

RESULTS = Path(__file__).with_name("results")
LARGE, MIDDLE, SMALL = (64, 64, 224, 224), (64, 64, 112, 112), (1, 8, 16, 16)
WINDOWS = f"{SIMPLE}|3x3/s2/p1|3x3/s1/p1|adaptive-7x7|global"
MAIN = "max|avg|soft|lp/2"
WARM, FEWEST, MOST = 3, 7, 51  # calls before the first that counts; turns of a contender
CALLS, BATCHES = 200, 21  # small calls between two waits for the device, which queues more than that; and how often
PACKAGES = ("numba-cuda", "cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink", "cupy-cuda13x", "cupy-cuda12x")
FIRST_CALLS = "max", "avg", "soft", "sort"
OURS, COPY, TORCH = "numbapool", "copy", "torch"


# ---------------------------------------------------------------- rows

def label(row: Row) -> str:
    """A row's name: the CPU's without the threads."""
    return str(row).removesuffix(f" {row.threads}t")


def default_rows() -> list[Row]:
    """Every pooling at the large size; the main ones, with few windows, at the middle one."""
    kinds = dict(dtypes=("float32", "float16"), orders=(FIRST, LAST))
    return list(dict.fromkeys([*rows.rows_of(".*", WINDOWS, (LARGE,), **kinds), *rows.rows_of(MAIN, f"{SIMPLE}|3x3/s2/p1", (MIDDLE,), **kinds)]))


def full_rows() -> list[Row]:
    """All windows, both sizes, and the other dtypes."""
    kinds = dict(dtypes=("float32", "float16", "bfloat16", "float64"), orders=(FIRST, LAST))
    return list(dict.fromkeys([*default_rows(), *rows.rows_of(".*", ".*", (LARGE, MIDDLE), **kinds)]))


class Problem:
    """What all contenders of a row work on, in the device's memory; as far as torch_peer.py reads it, what problem.Problem is on the CPU."""

    def __init__(self, row: Row, torch: Any, device: str = "cuda") -> None:
        self.row, self.torch, self.pool, self.device = row, torch, rows.pools()[row.pool], device
        self.window = self.pool.windows_of(row.ndim)[row.window]
        self.generator = torch.Generator(device).manual_seed(0)
        self.x, self.own = self.drawn(row.shape), {}
        if self.pool.positive:
            self.x = self.x.abs_().add_(0.01)
        if self.pool.unpools:
            self.x, self.own["indices"] = getattr(numbapool, f"max_pool{row.ndim}d")(self.x, **self.window.arguments, return_indices=True)
        rng = np.random.default_rng(1)
        self.own |= {name: self.drawn(self.x.shape) if make is rows.logits else make(self.x, rng) for name, make in self.pool.parameters.items()}
        self.y, self.indices = self.forward(return_indices=True) if self.indexed else (self.forward(), None)
        self.grad = self.drawn(self.y.shape)

    def drawn(self, shape: tuple[int, ...]) -> Any:
        """Normal numbers in the row's dtype and memory order."""
        last = self.row.order == LAST
        stored = (shape[0], *shape[2:], shape[1]) if last else shape
        made = self.torch.randn(*stored, device=self.device, dtype=getattr(self.torch, self.row.dtype), generator=self.generator)
        return made.movedim(-1, 1) if last else made

    @property
    def indexed(self) -> bool:
        """Whether the row returns or takes indices."""
        return self.row.direction.endswith("+indices")

    @property
    def backward(self) -> bool:
        """Whether the row is a backward pass."""
        return self.row.direction.startswith("backward")

    def function(self, backward: bool = False) -> Callable[..., Any]:
        """The public function."""
        where = next(o.where for o in publish.operations(self.pool.name) if o.ndim == self.row.ndim and o.form.prefix == self.window.prefix)
        return getattr(numbapool, where + "_backward" * backward)

    def forward(self, **more: Any) -> Any:
        """One forward call."""
        return self.function()(self.x, **self.own, **self.window.arguments, **more)

    def call(self) -> Callable[[], Any]:
        """The measured call."""
        if not self.backward:
            return (lambda: self.forward(return_indices=True)) if self.indexed else self.forward
        function, more = self.function(True), {"indices": self.indices} if self.indexed else {}
        return lambda: function(self.grad, self.x, **self.own, **self.window.arguments, **more)

    def bytes(self) -> tuple[int, int]:
        """The minimal bytes, read and written."""
        return self.pool.bytes(self.row.direction, self.x.numel(), self.y.numel(), self.x.element_size())


# ---------------------------------------------------------------- torch as a peer

def stochastic(peer: Any, x: Any) -> Any:
    """A draw from unfolded windows that neither overlap nor are padded."""
    window = peer.arguments
    if peer.prefix or window["padding"] or window["stride"] != window["kernel_size"]:
        raise NotImplementedError("windows that overlap or are padded")
    for axis in peer.axes:
        x = x.unfold(axis, window["kernel_size"], window["stride"])
    x = x.flatten(-peer.ndim)
    reached = x.clamp(min=0).cumsum(-1)
    goal = peer.problem.torch.rand_like(reached[..., -1:]) * reached[..., -1:]
    return x.gather(-1, (reached < goal).sum(-1, keepdim=True))[..., 0]


def torch_call(problem: Problem) -> Callable[[], Any] | None:
    """torch's function or composition, as the CPU's benchmarks have it, for tensors on the device; None where there is none."""
    from . import torch_peer
    torch, name = problem.torch, problem.row.pool
    compute = {**torch_peer.POOLINGS, "stochastic": stochastic}.get(name)
    if compute is None or (name == "stochastic" and problem.backward):
        return None
    peer = torch_peer.Pooling(problem)
    peer.own = {k: v.to(problem.device) if isinstance(v, torch.Tensor) else v for k, v in peer.own.items()}
    if not problem.backward:
        def forward() -> Any:
            with torch.no_grad():
                return compute(peer, problem.x)
        return forward
    if name == "max" and not problem.window.prefix:
        return max_backward(problem, peer)
    x = problem.x.detach().requires_grad_()
    learned = [n for n in torch_peer.LEARNED if n in peer.own]
    peer.own |= {n: torch.as_tensor(peer.own[n], device=problem.device).detach().requires_grad_() for n in learned}
    wanted = [x, *(peer.own[n] for n in learned)]
    with torch.enable_grad():
        y = compute(peer, x)
        y = y[0] if isinstance(y, tuple) else y

    def call() -> Any:
        result = torch.autograd.grad(y, wanted, problem.grad, retain_graph=True)
        return result if learned else result[0]
    return call


def max_backward(problem: Problem, peer: Any) -> Callable[[], Any]:
    """torch's kernel without autograd."""
    torch, w, ndim = problem.torch, peer.arguments, problem.row.ndim
    _, indices = peer.function("max_pool")(problem.x, **w, return_indices=True)
    kernel = getattr(torch.ops.aten, f"max_pool{ndim}d_with_indices_backward")
    window = [[w[name]] * ndim for name in ("kernel_size", "stride", "padding")]
    return lambda: kernel(problem.grad, problem.x, *window, [1] * ndim, False, indices)


def agree(ours: Any, theirs: Any, dtype: str) -> bool:
    """Whether two results, or tuples of them, are the same but for rounding; gradients of parameters are sums whose terms cancel."""
    from .peers import TOLERANCE
    if isinstance(ours, tuple | list):
        return isinstance(theirs, tuple | list) and len(ours) == len(theirs) and all(agree(a, b, dtype) for a, b in zip(ours, theirs, strict=True))
    if ours.shape != theirs.shape:
        return False
    if not ours.is_floating_point() or not ours.numel():
        return bool((ours == theirs).all())
    most = TOLERANCE[dtype] * (100 if ours.ndim < 3 else 1) * float(ours.abs().max())
    return float((ours - theirs.to(ours.dtype)).abs().max()) <= most


# ---------------------------------------------------------------- times on the device

class Clock:
    """Seconds of calls on the current stream, by events, with the cache full of other memory before each."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        size = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0) or 64 << 20
        # read, not written: what is written would go back to memory within the time of the next call
        self.ballast = torch.zeros(max(4 * size, 1 << 30) // 4, device="cuda")
        self.sink = torch.zeros((), device="cuda")

    def turn(self, call: Callable[[], Any]) -> float:
        """One call.  The host enqueues it while the device reads the ballast: what it costs the host counts only where that is longer."""
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.torch.sum(self.ballast, dim=0, out=self.sink)
        begin.record()
        kept = call()
        end.record()
        end.synchronize()
        del kept
        return begin.elapsed_time(end) * 1e-3


def interleaved(calls: dict[str, Callable[[], Any]], turn: Callable[[Callable[[], Any]], float], seconds: float) -> dict[str, timing.Times]:
    """The times of calls that take turns within about so many seconds."""
    first = {name: [turn(call) for _ in range(WARM)][-1] for name, call in calls.items()}
    turns = int(min(MOST, max(FEWEST, seconds / (sum(first.values()) + 1e-4 * len(calls)))))
    found: dict[str, list[float]] = {name: [] for name in calls}
    gc.disable()
    try:
        for _ in range(turns):
            for name, call in calls.items():
                found[name].append(turn(call))
    finally:
        gc.enable()
    return {name: timing.summary(values) for name, values in found.items()}


def copy_of(torch: Any, size: int) -> Callable[[], Any]:
    """A copy that reads and writes so many bytes in all."""
    source, target = (torch.zeros(max(size // 2, 1), dtype=torch.uint8, device="cuda") for _ in range(2))
    return lambda: target.copy_(source)


def extra_memory(torch: Any, call: Callable[[], Any]) -> int:
    """The most bytes that a call took from torch's allocator beyond its results."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    torch.cuda.synchronize()
    results = result if isinstance(result, tuple) else (result,)
    return max(0, torch.cuda.max_memory_allocated() - before - sum(r.numel() * r.element_size() for r in results if hasattr(r, "element_size")))


def measure(row: Row, torch: Any, clock: Clock, seconds: float) -> dict[str, Any]:
    """One row's result."""
    problem = Problem(row, torch)
    call, agreed, calls = problem.call(), {}, {}
    calls[OURS] = call
    try:
        peer = torch_call(problem)
        if peer is not None:
            agreed[TORCH] = True if row.pool == "stochastic" else agree(call(), peer(), row.dtype)  # which draws others
            if agreed[TORCH]:
                calls[TORCH] = peer
    except Exception as error:  # whatever torch raises: it has no such dtype or window, or not the memory
        agreed[TORCH] = type(error).__name__
    read, write = problem.bytes()
    calls[COPY] = copy_of(torch, read + write)
    times = interleaved(calls, clock.turn, seconds)
    return described(row, read, write, times, agreed) | {"extra_bytes": extra_memory(torch, call)}


def described(row: Row, read: int, write: int, times: dict[str, timing.Times], agreed: dict[str, bool | str]) -> dict[str, Any]:
    """A row as it stands in the result file."""
    ours, copy = times[OURS].median, times[COPY].median

    def milliseconds(t: timing.Times) -> dict[str, Any]:
        return {"ms": round(t.median * 1e3, 6), "low": round(t.low * 1e3, 6), "high": round(t.high * 1e3, 6), "turns": t.turns}
    kept = {k: v for k, v in asdict(row).items() if k != "threads"}
    result = {"label": label(row), **kept, "read_bytes": read, "write_bytes": write, "gb_s": round((read + write) / ours / 1e9, 3),
              "copy_gb_s": round((read + write) / copy / 1e9, 3), "of_copy": round(copy / ours, 4),
              "times": {name: milliseconds(t) for name, t in times.items()}, "agrees": agreed}
    return result | ({"to_torch": round(ours / times[TORCH].median, 4)} if TORCH in times else {})


def measured(chosen: list[Row], torch: Any, seconds: float) -> Iterator[dict[str, Any]]:
    """The results of all rows; one that fails gives its error instead."""
    clock = Clock(torch)
    for row in chosen:
        try:
            yield measure(row, torch, clock, seconds)
        except Exception as error:
            yield {"label": label(row), "error": f"{type(error).__name__}: {error}"}
        gc.collect()
        torch.cuda.empty_cache()


# ---------------------------------------------------------------- what a call costs the host

def host_calls(x: Any, y: Any) -> dict[str, Callable[[], Any]]:
    """Small calls on arrays of any library; y : where a result of 2x2 windows may go."""
    found = {}
    for name in ("max", "avg", "soft"):
        forward, backward = getattr(numbapool, f"{name}_pool2d"), getattr(numbapool, f"{name}_pool2d_backward")
        found |= {f"{name} forward": lambda f=forward: f(x, 2), f"{name} forward out=": lambda f=forward: f(x, 2, out=y),
                  f"{name} backward": lambda f=backward: f(y, x, 2)}
    return found


def host_cost(call: Callable[[], Any], wait: Callable[[], Any]) -> float:
    """Microseconds until a call comes back; the device is waited for outside of what is timed."""
    def batch() -> float:
        wait()
        begin = time.perf_counter()
        for _ in range(CALLS):
            call()
        return (time.perf_counter() - begin) / CALLS
    for _ in range(WARM):
        batch()
    found = median(batch() for _ in range(BATCHES))
    wait()
    return round(found * 1e6, 3)


def host_rows(torch: Any, only: str) -> Iterator[dict[str, Any]]:
    """What small calls cost with tensors, with CuPy's arrays where it is installed, and torch's own beside them."""
    functional = torch.nn.functional
    x, y = (torch.randn(*SMALL[:2], n, n, device="cuda") for n in (SMALL[2], SMALL[2] // 2))
    contenders = {f"host {TORCH} {name}": (call, torch.cuda.synchronize) for name, call in host_calls(x, y).items()}
    for name in ("max", "avg"):
        theirs = getattr(functional, f"{name}_pool2d")
        contenders[f"host {TORCH} {name} forward by torch"] = (lambda f=theirs: f(x, 2), torch.cuda.synchronize)
    try:
        import cupy
    except ImportError:
        cupy = None
    if cupy is not None:
        a, b = (cupy.asarray(t.cpu().numpy()) for t in (x, y))
        contenders |= {f"host cupy {name}": (call, cupy.cuda.runtime.deviceSynchronize) for name, call in host_calls(a, b).items()}
    for name, (call, wait) in contenders.items():
        if re.search(only, name):
            yield {"label": name, "shape": SMALL, "us": host_cost(call, wait)}


# ---------------------------------------------------------------- first calls

# One line of JSON: seconds until the function is there, and of the first and the second call, with the device at rest before and after
CHILD = """
import json, sys, time
import numpy as np, torch
given = {k: np.array(v) if isinstance(v, list) else v for k, v in json.loads(sys.argv[2]).items()}
backward = sys.argv[1].endswith("_backward")
x, y = (torch.randn(1, 8, n, n, device="cuda") for n in (16, 8))
arrays = (y, x) if backward else (x,)
torch.cuda.synchronize()
begin = time.perf_counter()
import numbapool
function = getattr(numbapool, sys.argv[1])
times = [time.perf_counter()]
for _ in range(2):
    function(*arrays, **given)
    torch.cuda.synchronize()
    times.append(time.perf_counter())
print(json.dumps([b - a for a, b in zip([begin, *times], times)]))
"""


def first_calls(only: str) -> Iterator[dict[str, Any]]:
    """The first call of a function with nothing in the disk cache, and with its kernels found there; each in a process of its own."""
    for pool in FIRST_CALLS:
        for direction in ("forward", "backward"):
            if not re.search(only, f"first call {pool} {direction}"):
                continue
            given = {"kernel_size": 2} | ({"weight": [0.5, 0.25, -0.25, -0.5]} if pool == "sort" else {})
            command = [sys.executable, "-c", CHILD, f"{pool}_pool2d" + "_backward" * (direction == "backward"), json.dumps(given)]
            with tempfile.TemporaryDirectory() as folder:
                env = {**os.environ, "NUMBAPOOL_CACHE_DIR": folder, "PYTHONPATH": str(machine.ROOT)}
                for state in ("cold", "cached"):
                    child = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
                    imports, first, second = (round(1e3 * t, 4) for t in json.loads(child.stdout))
                    yield {"label": f"first call {pool} {direction} float32 {state}", "pool": pool, "direction": direction, "dtype": "float32",
                           "state": state, "import_ms": imports, "first_ms": first, "second_ms": second}


# ---------------------------------------------------------------- the result

def device(torch: Any, clock: Clock) -> dict[str, Any]:
    """What was measured on; copy_gb_s : of copies of 1 GB."""
    from numbapool.cuda.driver import driver
    d, about = driver(), torch.cuda.get_device_properties(0)
    versions = machine.versions() | {"cuda of torch": torch.version.cuda}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    size = 1 << 30
    speed = 2 * size / interleaved({COPY: copy_of(torch, 2 * size)}, clock.turn, 0.5)[COPY].median / 1e9
    return {"gpu": d.name(0), "capability": ".".join(map(str, d.capability(0))), "processors": d.processors(0), "driver_cuda": d.version,
            "memory_gb": round(about.total_memory / 1e9, 1), "l2_bytes": getattr(about, "L2_cache_size", None), "copy_gb_s": round(speed, 1),
            "cpu": machine.processor(), "cores": os.cpu_count(), "os": f"{platform.system()} {platform.release().split('-')[0]}",
            "versions": versions, "revision": machine.revision(), "date": datetime.date.today().isoformat()}


HEAD = f"{'':<72}{'ms':>9} {'GB/s':>6} {'of copy':>8} {'/torch':>7} {'extra MB':>9}"


def line(row: dict[str, Any]) -> str:
    """A row on the screen; `of copy` is the share of the copy's bandwidth, `/torch` the ratio of times: less is faster."""
    if "error" in row:
        return f"{row['label']:<72} {row['error'].splitlines()[0][:100]}"
    if "us" in row:
        return f"{row['label']:<72}{report.number(row['us']):>9} us"
    if "first_ms" in row:
        return (f"{row['label']:<72}{report.number(row['first_ms']):>9}   import {report.number(row['import_ms'])}, "
                f"second call {report.number(row['second_ms'])}")
    beside = ", ".join(f"{name} {report.number(t['ms'])}" for name, t in row["times"].items() if name != OURS)
    odd = "".join(f"  {name}: {'another result' if how is False else how}" for name, how in row["agrees"].items() if how is not True)
    return (f"{row['label']:<72}{report.number(row['times'][OURS]['ms']):>9} {report.number(row['gb_s']):>6} {row['of_copy']:>8.1%} "
            f"{report.number(row.get('to_torch')):>7} {report.number(row['extra_bytes'] / 1e6):>9}  {beside}{odd}")


def save(result: dict[str, Any], path: str) -> None:
    """Write a result file; an empty path stands for one by device and date."""
    about = result["machine"]
    name = machine.short_name({"cpu": about["gpu"], "date": about["date"]})
    target = Path(path) if path else RESULTS / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {target.name}")


def shown(found: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results, each printed at once."""
    kept = []
    for row in found:
        kept.append(row)
        print(line(row), flush=True)
    return kept


def ready() -> tuple[Any, str]:
    """torch, and why nothing can be measured: empty if it can."""
    try:
        import torch
    except ImportError:
        return None, "the benchmarks of the GPU need torch"
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a build for CUDA on a machine without a driver
        return torch, "" if torch.cuda.is_available() else "torch sees no CUDA device"


def main(given: argparse.Namespace) -> int:
    """The command gpu."""
    chosen = [row for row in (full_rows() if given.full else default_rows()) if re.search(given.only, label(row))]
    if given.list:
        print("\n".join(map(label, chosen)))
        return 0
    torch, obstacle = ready()
    if obstacle:
        print(obstacle, file=sys.stderr)
        return 1
    begin = time.monotonic()
    about = device(torch, Clock(torch))
    print(f"{about['gpu']}, copies at {about['copy_gb_s']:.0f} GB/s; {len(chosen)} rows\n{HEAD}")
    result = {"machine": about, "peers": [TORCH], "rows": shown(measured(chosen, torch, given.seconds)),
              "host_us": shown(host_rows(torch, given.only)), "first_calls": shown(first_calls(given.only))}
    failed = sum("error" in row for row in result["rows"])
    print(f"{len(chosen)} rows in {time.monotonic() - begin:.0f} s" + f", {failed} failed" * bool(failed))
    if given.json is not None:
        save(result, given.json)
    return 1 if failed else 0
