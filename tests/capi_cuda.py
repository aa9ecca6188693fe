"""The C library's CUDA part behind the mock driver: a build without machine code, whose kernels the emulator runs, and calls of it.

Images are the names of kernels.  The library holds those that Python's planner asks for in the registry's examples, and so both launch the same.
"""
from __future__ import annotations

import contextlib
import importlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cffi
import mock_cuda
import numpy as np
from cases import Example, examples
from emulator import Emulator
from test_capi import ALL as EVERYWHERE
from test_capi import COMPOSED, kind_of, orders
from test_forward import in_dtype, run

import numbapool
from capi import build, calls, cuda, cuda_images, header
from numbapool.cuda import kernels
from numbapool.loops.cuda import layout as at
from numbapool.numeric import real_name

ALL = [(name, ndim) for name, ndim in EVERYWHERE if name not in COMPOSED]
LIBRARY = "libnumbapool.so"
ALIKE = dict.fromkeys(("numbapool.pools.fractional_avg", "numbapool.pools.sum"), "numbapool.pools.avg")  # formulas whose kernels are another's in C


# ---------------------------------------------------------------- what Python launches

class Recorder:
    """Notes the C library's entry of every kernel that is made, while it is entered."""

    def __init__(self) -> None:
        self.entries: dict[str, cuda.Entry | None] = {}

    def __enter__(self) -> Recorder:
        self.before = {name: getattr(kernels, name) for name in ("fold_kernel", "select_kernel", "index_kernel", "vote_kernel", "draw_kernel",
                                                                     "order_kernel", "rank_kernel")}
        for name in self.before:
            setattr(kernels, name, getattr(self, name))
        return self

    def __exit__(self, *_: Any) -> None:
        for name, function in self.before.items():
            setattr(kernels, name, function)

    def noted(self, kernel: Any, entry: cuda.Entry | None) -> Any:
        self.entries[kernel.name] = entry
        return kernel

    def fold_kernel(self, loop, formula, backward, dtype, numbers, arrays, options, lanes, channel, wide, *, uniform=False, apart=False, cut=False,
                    long=False, strip=None):
        own = importlib.import_module(ALIKE.get(formula.__name__, formula.__name__))
        f = next((f for f in cuda.formulas().values() if f.module is own and (f.backward if backward else f.forward) == options
                  and not (f.only_backward and not backward)), None)
        uniform_counts = loop not in ("fold_parts", "fold_gather") or (loop == "fold_gather" and f is not None and f.plain_sum)
        entry = None if f is None else cuda.Entry(f.name, loop, dtype, lanes, channel, backward, wide, uniform and uniform_counts, cut, long, apart,
                                                  **(strip._asdict() if strip else {}))
        return self.noted(self.before["fold_kernel"](loop, formula, backward, dtype, numbers, arrays, options, lanes, channel, wide, uniform=uniform,
                                                     apart=apart, cut=cut, long=long, strip=strip), entry)

    def select_kernel(self, loop, formula, dtype, lanes, channel, wide, *, values, indexed, long_index=True, per_plane=False, cut=False, strip=None):
        given = dict(values=values, indexed=indexed, long_index=long_index)
        chosen = {} if loop == "select_parts" else {**given, "long_index": long_index and indexed}
        name = {"s3": "max", "fractional_max": "max"}.get(formula.__name__.rpartition(".")[2], formula.__name__.rpartition(".")[2])
        entry = cuda.Entry(name, loop, dtype, lanes, channel, False, wide, per_plane=per_plane, cut=cut, **chosen,
                           **(strip._asdict() if strip else {}))
        return self.noted(self.before["select_kernel"](loop, formula, dtype, lanes, channel, wide, **given, per_plane=per_plane, cut=cut,
                                                       strip=strip), entry)

    def index_kernel(self, loop, dtype, lanes, channel, wide, *, long_index, adding=True):
        entry = cuda.Entry("index", loop, dtype, lanes, channel, False, wide, long_index=long_index, adding=adding and loop == "index_scatter")
        return self.noted(self.before["index_kernel"](loop, dtype, lanes, channel, wide, long_index=long_index, adding=adding), entry)

    def vote_kernel(self, dtype, channel, wide, *, values, indexed, long_index):
        entry = cuda.Entry("mode", "vote_forward", dtype, 1, channel, False, wide, values=values, indexed=indexed, long_index=long_index and indexed)
        return self.noted(self.before["vote_kernel"](dtype, channel, wide, values=values, indexed=indexed, long_index=long_index), entry)

    def draw_kernel(self, formula, dtype, channel, wide, *, values, indexed, long_index, sampled):
        name = formula.__name__.rpartition(".")[2]
        loop = "draw_ranked" if getattr(formula, "by_rank", False) else "draw_forward"
        entry = cuda.Entry(name, loop, dtype, 1, channel, False, wide, values=values, indexed=indexed,
                           long_index=long_index and indexed, sampled=sampled)
        return self.noted(self.before["draw_kernel"](formula, dtype, channel, wide, values=values, indexed=indexed, long_index=long_index,
                                                     sampled=sampled), entry)

    def order_kernel(self, loop, dtype, channel, wide):
        return self.noted(self.before["order_kernel"](loop, dtype, channel, wide), cuda.Entry("sort", loop, dtype, 1, channel, False, wide))

    def rank_kernel(self, loop, formula, dtype):
        return self.noted(self.before["rank_kernel"](loop, formula, dtype), cuda.Entry(formula.__name__.rpartition(".")[2], loop, dtype))


def contents(gpu: Emulator, words: np.ndarray) -> dict[str, list]:
    """The tables of a launch, by their names."""
    def table(word: int, n: int) -> np.ndarray:
        return gpu.mock.view(int(words[word]), int(n), np.int32).copy()
    found = {}
    for i, axis in enumerate("DHW"):
        outputs, size = words[at.OD + i], words[at.D + i]
        planes = words[at.N] * words[at.C] if words[at.D_PLANE + i] else 1
        found[f"{axis} first"] = table(at.D_FIRST + i, outputs * planes).tolist()
        found[f"{axis} count"] = table(at.D_COUNT + i, outputs).tolist()
        found[f"{axis} share"] = table(at.D_SHARE + i, outputs).tolist()
        if words[at.D_COVER + i] and not words[at.D_LIST + i]:  # of disjoint windows
            found[f"{axis} tiles"] = table(at.D_COVER + i, 2 * outputs).tolist()
        elif words[at.D_COVER + i]:
            bounds = table(at.D_COVER + i, 2 * size)
            found[f"{axis} cover"] = bounds.tolist()
            found[f"{axis} list"] = table(at.D_LIST + i, bounds.max(initial=0)).tolist()
    if words[at.RANK_COUNT]:
        found["counts"] = table(at.RANK_COUNT, words[at.GROUPS]).tolist()
    if words[at.RANK_ROW]:
        taps = int(np.prod([max(found[f"{axis} count"]) for axis in "DHW"]))
        found["rows"] = table(at.RANK_ROW, taps + 1).tolist()
    return found


ADDRESSES = [at.D_FIRST + i for i in range(9)] + [at.D_COVER + i for i in range(6)] + [at.RANK_ROW, at.WEIGHTS, at.RANK_COUNT] + [
    at.HEAD + at.RECORD * k for k in range(at.OPERANDS)]


def seen(gpu: Emulator, launch: mock_cuda.Launched) -> tuple:
    """What a kernel is launched with, but for addresses."""
    words = launch.parameters.copy()
    tables = contents(gpu, words)
    there = [int(words[k] != 0) for k in ADDRESSES]
    words[ADDRESSES] = there
    return launch.grid, launch.block, launch.stream, words.tolist(), tables


class World:
    """An emulated device, what Python launches there, and the C library with the same kernels."""

    def __init__(self, folder: Path, wide: bool = False) -> None:
        self.folder, self.gpu, self.recorder, self.launches = folder, Emulator(wide), Recorder(), []
        self.wide = wide

    def __enter__(self) -> World:
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(self.gpu)
        self.only_looked_at()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)

    def only_looked_at(self) -> None:
        """From now on no kernel runs."""
        self.gpu.mock.hook(lambda launch: self.launches.append((launch.name, *seen(self.gpu, launch))))

    def executed(self) -> None:
        """From now on they do."""
        self.gpu.mock.hook(self.gpu.launched)

    def launched(self, function: Any, *args: Any, **kwargs: Any) -> list[tuple]:
        """What a call launches."""
        self.launches.clear()
        function(*args, **kwargs)
        return list(self.launches)

    def entries(self) -> list[cuda.Entry]:
        """Those of all kernels so far, with what the C library asks for by another key."""
        found = {e for e in self.recorder.entries.values() if e}
        both = {cuda.Entry(**{**vars(e), "backward": not e.backward}) for e in found if e.loop == "fold_parts"}
        return sorted({e.key: e for e in (*both, *found)}.values(), key=lambda e: e.key)

    def build(self, more: list[cuda.Entry]) -> Path:
        """The C library, whose kernels on the CPU are all missing."""
        entries = list({e.key: e for e in (*more, *self.entries())}.values())
        for e in entries:
            self.gpu.kernels.setdefault(e.made().name, e.made())
        return compiled(entries, self.folder, wide=self.wide)


def compiled(entries: list[cuda.Entry], folder: Path, *flags: str, wide: bool = False) -> Path:
    """A library of some CUDA kernels whose images are their names."""
    files = {}
    (folder / "objects").mkdir(parents=True, exist_ok=True)
    for name, members in cuda.modules(entries).items():
        files[name] = folder / f"{name}.cuda"
        texts = [f"sm_{a} {' '.join(e.made().name for e in members)}".encode() + b"\0" for a in (*cuda_images.ARCHITECTURES, 0)]
        files[name].write_bytes(cuda_images.pack(tuple(texts)))
    build.write_sources([], ("generic",), set(), folder, entries, files)
    reach = ["-DNUMBAPOOL_CUDA_REACH=1"] if wide else []

    def compile_one(source: Path) -> Path:
        target = folder / "objects" / f"{source.stem}.o"
        build.run(*mock_cuda.compiler(), *build.FLAGS, "-O0", "-Werror", *flags, *reach, *build.c_flags(folder), "-c", source, "-o", target)
        return target
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, build.c_sources(folder)))
    library = folder / LIBRARY
    build.run(*mock_cuda.compiler(), *flags, "-shared", "-pthread", "-Wl,--no-undefined", "-o", library, *objects, "-lm", "-ldl")
    return library


# ---------------------------------------------------------------- calls of the C library

def loaded(library: Path, copy: Path) -> Any:
    """The library's functions, from a copy of it, in which nothing has happened yet."""
    shutil.copy(library, copy)
    ffi = cffi.FFI()
    ffi.cdef(header.declarations())
    return SimpleNamespace(ffi=ffi, lib=ffi.dlopen(str(copy)))


class Device(calls.Capi):
    """Calls with tensors in the mock's memory: arguments are copied there, and results back."""

    def __init__(self, module: Any, gpu: Emulator) -> None:
        super().__init__(module)
        self.gpu, self.pairs, self.host, self.device = gpu, [], set(), 0

    def tensor(self, array: Any) -> Any:
        array = np.asarray(array)
        if id(array) in self.host:
            return super().tensor(array)
        there = self.gpu.array(array)
        made = super().tensor(there.memory)
        made.t.device.device_type, made.t.device.device_id = 2, self.device
        self.pairs.append((array, there))
        made.keep = (made.keep, there, array)
        return made

    def call(self, name: str, tensors: dict[str, Any], params: Any, *more: Any) -> None:
        self.pairs = []
        self.host = {id(a) for n, a in tensors.items() if n == "samples" and "fractional" in name}
        super().call(name, tensors, params, *more)
        self.gpu.mock.settle()
        for array, there in self.pairs:
            if array.flags.writeable:
                array[...] = there.memory

    def scalar(self, dtype: np.dtype) -> Any:
        return real_name(np.dtype(dtype).name)

    def bound(self, function: str, x: np.ndarray, args: tuple, kwargs: dict[str, Any]) -> tuple[str, dict[str, Any], Any]:
        name, tensors, params = super().bound(function, x, args, kwargs)
        for n in ("p", "r", "alpha", "samples", "weight", "a", "beta", "omega", "lam"):
            if n in tensors and "fractional" not in function:
                tensors[n] = tensors[n].astype(real_name(np.dtype(x.dtype).name))
        return name, tensors, params


# ---------------------------------------------------------------- the registry

def wider(e: Example) -> Example | None:
    """The example with eight channels side by side, and sixteen elements a row."""
    arrays = any(isinstance(a, np.ndarray) and a.ndim > 1 for a in (*e.args, *e.kwargs.values()))
    if arrays or "unpool" in e.function or {"sequences", "samples", "indices"} & set(e.kwargs):
        return None
    x = np.concatenate([e.x, e.x, e.x], 1)[:, :8]
    x = np.concatenate([x, x, x], -1)[..., :16] if e.x.ndim > 3 else x
    return Example(**{**vars(e), "x": np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)})


def like(x: np.ndarray, array: Any) -> Any:
    """An array of x's shape in x's memory order; anything else as it is."""
    if not isinstance(array, np.ndarray) or array.shape != x.shape:
        return array
    made = np.empty_like(x, array.dtype)
    made[...] = array
    return made


def variants(name: str, ndim: int, dtype: str) -> list[Example]:
    """The examples of a pooling in both memory orders, and with channels and rows that vectors divide."""
    found = []
    for e in examples(name, ndim, few=True):
        e = in_dtype(e, kind_of(dtype))
        found += [Example(**{**vars(e), "x": x, "args": tuple(map(partial(like, x), e.args))}) for x in orders(e.x)[:2]]
        broad = wider(e)
        of_channels = any(np.ndim(a) == 1 for a in (*e.args, *e.kwargs.values()) if isinstance(a, np.ndarray))
        if broad and not (name in ("gem", "lse", "auto", "mixed", "dpp") and of_channels):
            found += [broad, Example(**{**vars(broad), "x": np.ascontiguousarray(broad.x)})]
    return found


def there(gpu: Emulator, e: Example) -> Example:
    """The example with its arrays on the GPU."""
    args = tuple(gpu.array(a) if isinstance(a, np.ndarray) and a.shape == e.x.shape else a for a in e.args)
    return Example(e.label, e.function, gpu.array(e.x), args, e.kwargs, e.reference, e.learns, e.indexed, e.integers)


def grad_of(e: Example, shape: tuple[int, ...]) -> np.ndarray:
    """A gradient of an example's result."""
    return np.random.default_rng(3).standard_normal(shape).astype(e.x.dtype)


__all__ = ["ALL", "COMPOSED", "Device", "World", "compiled", "grad_of", "loaded", "numbapool", "run", "there", "variants"]
