"""The C library beside Python's calls of the same kernels: whole calls in turns, small calls, and what loading costs.

It needs a built library ($NUMBAPOOL_CAPI, else build/capi) and measures through cffi, whose call is part of the figures.
"""
from __future__ import annotations

import functools
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numba
import numpy as np

import numbapool
from capi import cffi_module
from capi.calls import Capi, load

from . import timing

LARGE, SMALL = (16, 64, 112, 112), (1, 1, 4, 4)
WINDOWS = {"2x2": ((2,), {}), "3x3 s2 p1": ((3, 2, 1), {}), "5x5 s3": ((5, 3), {}), "global": ((), {})}
LOADS = 15
AT_ONCE = 8  # calls of several threads in a turn: after a rest the system needs some milliseconds to spread threads over processors
LOADING = "import ctypes, sys, time; begin = time.perf_counter(); ctypes.CDLL(sys.argv[1]); print(time.perf_counter() - begin)"


def contenders(capi: Capi, pool: str, window: str, backward: bool, channels_last: bool, dtype: str, shape: tuple) -> dict[str, Callable[[], Any]]:
    """The same call by Python and by C, into the same memory (but for gradients, which Python's calls make)."""
    args, kwargs = WINDOWS[window]
    name = f"{'global_' * (window == 'global')}{pool}_pool2d"
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    if channels_last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    function = getattr(numbapool, name)
    y = function(x, *args, **kwargs)
    c_name, tensors, params = capi.bound(name, x, args, kwargs)
    if not backward:
        mine = capi.caller(c_name, {**tensors, "y": y}, params.p)
        return {"Python": lambda: function(x, *args, out=y, **kwargs), "C": lambda: capi.check(mine())}
    gradient = getattr(numbapool, f"{name}_backward")
    made = gradient(y, x, *args, **kwargs)
    mine = capi.caller(f"{c_name}_backward", {**tensors, "grad": y, "grad_x": made[0] if isinstance(made, tuple) else made}, params.p)
    return {"Python": lambda: gradient(y, x, *args, **kwargs), "C": lambda: capi.check(mine())}


def repeated(call: Callable[[], Any], times: int) -> None:
    """So many calls."""
    for _ in range(times):
        call()


def rows() -> Iterator[tuple]:
    """Every row: pooling, window, direction, order, dtype, threads."""
    for pool in ("avg", "max", "soft"):
        for window in WINDOWS:
            for backward in (False, True):
                for channels_last in (False, True):
                    yield pool, window, backward, channels_last, "float32", 1
        yield pool, "2x2", False, False, "float32", 2
        yield pool, "2x2", True, False, "float64", 1
        yield pool, "2x2", False, False, "float16", 1


def label(row: tuple) -> str:
    """What a row is called."""
    pool, window, backward, channels_last, dtype, threads = row
    return f"{pool} {'backward' if backward else 'forward'} {window} {'channels-last' if channels_last else 'channels-first'} {dtype} {threads}t"


def measure(capi: Capi, row: tuple, seconds: float) -> dict[str, Any]:
    """Milliseconds of both, and C's by Python's."""
    pool, window, backward, channels_last, dtype, threads = row
    numba.set_num_threads(threads)
    capi.settings["num_threads"] = threads
    calls = contenders(capi, pool, window, backward, channels_last, dtype, LARGE)
    many = {name: timing.Contender(functools.partial(repeated, call, AT_ONCE if threads > 1 else 1)) for name, call in calls.items()}
    times = timing.interleaved(many, seconds, rest=0.01 if threads > 1 else 0.0)
    each = 1e3 / (AT_ONCE if threads > 1 else 1)
    milliseconds = {n: round(each * t.median, 4) for n, t in times.items()}
    return {"label": label(row), **milliseconds, "ratio": round(times["C"].median / times["Python"].median, 3)}


def small_call(capi: Capi) -> dict[str, float]:
    """Microseconds of a call of 16 elements."""
    capi.settings["num_threads"] = 0
    times = {}
    for pool in ("avg", "max", "soft"):
        for backward in (False, True):
            calls = contenders(capi, pool, "2x2", backward, False, "float32", SMALL)
            found = timing.interleaved({name: timing.Contender(call) for name, call in calls.items()}, 0.2)
            times |= {f"{pool} {'backward' if backward else 'forward'} {name}": round(1e6 * t.median, 3) for name, t in found.items()}
    return times


def loading(library: Path) -> float:
    """Milliseconds that dlopen takes in a fresh process."""
    return round(1e3 * median(float(subprocess.run([sys.executable, "-c", LOADING, str(library)], capture_output=True, check=True).stdout)
                              for _ in range(LOADS)), 3)


def sweep(only: str, seconds: float) -> dict[str, Any]:
    """All figures."""
    timing.keep_freed_memory()
    library = (cffi_module.library() / "lib" / "libnumbapool.so").resolve()
    with tempfile.TemporaryDirectory() as folder:
        capi = Capi(load(Path(folder)))
        measured = []
        for row in (r for r in rows() if re.search(only, label(r))):
            measured.append(measure(capi, row, seconds))
            print("{label:<56} Python {Python:9.3f} ms  C {C:9.3f} ms  {ratio:.3f}".format(**measured[-1]), flush=True)
        isa = capi.ffi.string(capi.lib.numbapool_isa()).decode()
        result = {"isa": isa, "bytes": library.stat().st_size, "load_ms": loading(library), "small_us": small_call(capi), "rows": measured}
    ratios = [row["ratio"] for row in measured]
    if ratios:
        print(f"C by Python: median {median(ratios):.3f}, largest {max(ratios):.3f}")
    print(f"{isa}; {result['bytes'] / 1e6:.1f} MB; load {result['load_ms']} ms; a call of 16 elements in us: {result['small_us']}")
    return result
