"""Threads: who runs a kernel's tasks, and when.

Kernels are serial cores over a range of tasks that release the GIL.  One small `parallel=True` driver calls any of them by
its address, so threads cost one compilation in all and not one a kernel.  The driver runs where Numba's threading layer
is safe to use from a library: layer omp or tbb, in the process that imported this module, for work that is worth it.  The
layer workqueue aborts when two Python threads enter it, and omp kills a forked child; there the serial core runs.
"""
from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from numba import njit, prange, types
from numba.core.compiler_lock import global_compiler_lock

from . import cache, memory, stamp
from .memory import call_kernel

SIGNATURE = types.void(*[types.int64] * 5)
SMALL = 1 << 18  # elements read: below it (about 150 us) waking threads costs more than it saves
CHUNK = 1 << 25  # elements read between two looks for Ctrl-C: 3 ms of max pooling, 1.2 s of sorting


def _born_by_fork() -> bool:
    """Whether this process was forked before it imported this module, from one that may have used OpenMP.

    Its libgomp waits for ever for threads that no fork copies (a DataLoader's worker whose parent used torch).
    """
    try:
        flags = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[6])
        return bool(flags & 0x40) and b"libgomp" in Path("/proc/self/maps").read_bytes()  # PF_FORKNOEXEC of Linux' sched.h
    except OSError:
        return False


_forked = _born_by_fork()
_layer: str | None = None
_addresses: dict[Callable[..., None], int] = {}


def _after_fork() -> None:
    global _forked
    _forked = True
    global_compiler_lock.release()


# a child that is forked while another thread compiles would wait for the compiler's lock for ever
os.register_at_fork(before=global_compiler_lock.acquire, after_in_parent=global_compiler_lock.release,
                    after_in_child=_after_fork)


def _drive(address, plan, data, slots, lo, hi):
    """Tasks lo..hi in as many equal parts as there are slots."""
    for t in prange(slots):
        slot = np.int64(t)
        call_kernel(address, plan, data, slot, lo + slot * (hi - lo) // slots, lo + (slot + 1) * (hi - lo) // slots)


_driver = None


def _get_driver() -> Callable[..., None]:
    global _driver
    if _driver is None:
        options = dict(stamp.OPTIONS, parallel=True)
        dispatcher = cache.attach(njit(**options)(_drive), stamp.digest_of([__file__]))
        dispatcher.compile(types.void(*[types.int64] * 6))
        _driver = dispatcher
    return _driver


def address(kernel: Callable[..., None]) -> int:
    """Where the machine code of a kernel is; in plain Python, what call_kernel knows it by."""
    if numba.config.DISABLE_JIT:
        memory.PLAIN_KERNELS[id(kernel)] = kernel
        return id(kernel)
    if kernel not in _addresses:
        with global_compiler_lock:  # a fork waits for it, so no child inherits llvmlite's own lock taken
            kernel.compile(SIGNATURE)
            compiled = kernel.overloads[SIGNATURE.args]
            _addresses[kernel] = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return _addresses[kernel]


def _libgomp() -> ctypes.CDLL | None:
    """GNU's OpenMP, if somebody has loaded it already."""
    try:
        return ctypes.CDLL("libgomp.so.1", os.RTLD_NOLOAD | os.RTLD_NOW)
    except (OSError, AttributeError):  # not loaded; no such flag outside of Unix
        return None


def layer() -> str:
    """Numba's threading layer: "omp", "tbb", or one that this library does not use ("workqueue", "none")."""
    global _layer
    if _layer is None:
        gomp = _libgomp()
        threads = gomp.omp_get_max_threads() if gomp else 0
        try:
            numba.get_num_threads()  # starts the layer
            from numba.np.ufunc.parallel import _launch_threads
            _launch_threads()
            _layer = numba.threading_layer()
        except (ValueError, RuntimeError, ImportError):
            _layer = "none"
        if gomp:  # Numba's omp layer has put its number of threads in place of torch's
            gomp.omp_set_num_threads(threads)
    return _layer


def usable() -> int:
    """How many threads a large call may use here."""
    if _forked or numba.config.DISABLE_JIT or numba.config.NUMBA_NUM_THREADS == 1 or layer() not in ("omp", "tbb"):
        return 1
    return numba.get_num_threads()


def slots_for(tasks: int, taps: int) -> int:
    """How many threads, and so slots of scratch, a call of this size is given."""
    return 1 if taps < SMALL or tasks < 2 else max(1, min(tasks, usable()))


def run(kernel: Callable[..., None], plan: int, data: int, tasks: int, taps: int, slots: int) -> None:
    """Run all tasks; between chunks Python looks for Ctrl-C."""
    if slots == 1 and taps < CHUNK:  # 0.3 us sooner
        kernel(plan, data, 0, 0, tasks)
        return
    chunks = max(1, min(tasks, taps // CHUNK))
    for c in range(chunks):
        lo, hi = tasks * c // chunks, tasks * (c + 1) // chunks
        if slots == 1:
            kernel(plan, data, 0, lo, hi)
        else:
            _get_driver()(address(kernel), plan, data, slots, lo, hi)
