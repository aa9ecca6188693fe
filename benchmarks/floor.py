"""The floor: how long this machine takes to read and write the minimal bytes of an operation, whatever it computes."""
from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .timing import Contender

SOURCE = Path(__file__).with_name("floor.c")
LINE = 64  # bytes
NOISE = 1 << 16  # bytes, after which it repeats
# plain stores, and stores past the cache: the faster one is the floor
KINDS = {"floor": 0, "floor past the cache": 1}


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@functools.cache
def library() -> ctypes.CDLL:
    """floor.c, compiled for this machine into a folder that is gone when this returns; the loaded library stays."""
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "floor.so")
        command = [compiler() or "cc", "-O3", "-march=native", "-shared", "-fPIC", str(SOURCE), "-o", target]
        # OpenMP keeps its threads between calls and shares them with Numba and torch; without it there is one thread
        if subprocess.run([*command, "-fopenmp"], capture_output=True).returncode:
            subprocess.run([*command, "-Wno-unknown-pragmas"], check=True, capture_output=True)
        loaded = ctypes.CDLL(target)
    pointer, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    loaded.run.argtypes, loaded.run.restype = [pointer, size, pointer, size, number, number], ctypes.c_uint64
    loaded.evict.argtypes, loaded.evict.restype = [pointer, size, number], number
    return loaded


def aligned(size: int) -> np.ndarray:
    """Bytes that begin at a multiple of a cache line, all of them touched, and noise: some processors write zeros in half of the time."""
    memory = np.resize(np.random.default_rng(0).integers(0, 256, NOISE, np.uint8), size + LINE)
    start = -memory.ctypes.data % LINE
    return memory[start:start + size]


def evict(memory: Sequence[np.ndarray], threads: int) -> None:
    """Put dense arrays out of the caches."""
    for array in memory:
        if not library().evict(array.ctypes.data, array.nbytes, threads):
            sweep(threads)
            return


@functools.cache
def ballast() -> np.ndarray:
    """More memory than caches hold."""
    return aligned(1 << 28)


def sweep(threads: int) -> None:
    """Read so much that nothing else is left in the caches: the slow way, for other processors than x86."""
    library().run(ballast().ctypes.data, ballast().nbytes, None, 0, threads, 0)


def contenders(read: int, write: int, threads: int, cold: bool) -> dict[str, Contender]:
    """The contenders that read and write so many bytes; cold: with both out of the caches."""
    source, target = aligned(read), aligned(write)
    run, first, second = library().run, source.ctypes.data, target.ctypes.data

    def one(past_cache: int) -> Contender:
        def call(keep: tuple = (source, target)) -> int:  # alive as long as their addresses are in use
            return run(first, read, second, write, threads, past_cache)
        return Contender(call, (lambda: evict([source, target], threads)) if cold else None)
    return {name: one(kind) for name, kind in KINDS.items()}
