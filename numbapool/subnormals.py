"""The floating-point settings of a thread, which other libraries change: XLA's threads take numbers below 1.2e-38 (float32) for zeros.

Kernels count on such numbers: a sample of 0 draws the first element of a positive probability, which is more than none.
"""
from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

BYTES = 512  # more than any system's fenv_t


def _functions() -> tuple:
    try:
        library = ctypes.PyDLL(None)  # the process, which holds the C library's mathematics; no other thread runs in between
        return library.fegetenv, library.fesetenv
    except (AttributeError, OSError, TypeError):  # Windows
        return ()


FUNCTIONS = _functions()
NORMAL = ctypes.create_string_buffer(BYTES)  # of the thread that imports this
if FUNCTIONS:
    FUNCTIONS[0](NORMAL)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Within it this thread computes as the one that imported this module; where there is no fenv.h, as it did."""
    if not FUNCTIONS:
        yield
        return
    get, put = FUNCTIONS
    before = ctypes.create_string_buffer(BYTES)
    get(before)
    put(NORMAL)
    try:
        yield
    finally:
        put(before)
