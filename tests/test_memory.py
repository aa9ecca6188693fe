"""No byte but the output's is written, no byte outside the arrays is read, no fresh memory is used before it is filled.

Inputs, results and scratch lie between pages that cannot be touched, inputs on pages that cannot be written: a kernel that
strays kills its process.
"""
from __future__ import annotations

import ctypes
import functools
import math
import mmap
import os
import sys
from typing import Any

import children
import numba
import numpy as np
import pytest
from cases import CASES, Example, examples

import numbapool as nbp

LAYOUTS = {  # how an array of this shape may lie in memory: (the buffer's shape, the view of it)
    "plain": lambda s: (s, lambda b: b),
    "channels last": lambda s: ((s[0], *s[2:], s[1]), lambda b: np.moveaxis(b, -1, 1)),
    "reversed": lambda s: (s, lambda b: b[:, ::-1, ..., ::-1]),
    "steps": lambda s: ((*s[:2], *s[2:-1], 3 * s[-1] - 2), lambda b: b[..., ::3]),
}
FENCED = [("float32", False), *(pytest.param(dtype, front, marks=pytest.mark.full) for dtype, front in (
    ("float32", True), ("float16", True), ("float16", False), ("uint8", True), ("uint8", False), ("float64", False)))]

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="plain Python checks its memory itself")


# ---------------------------------------------------------------- fences

EMPTY = np.empty


def fenced(shape: Any, dtype: Any = float, *_: Any, front: bool) -> np.ndarray:
    """np.empty, full of NaN (or 255), with a page that nobody may touch right before or right after its elements."""
    dtype, count = np.dtype(dtype), math.prod(np.atleast_1d(np.array(shape, np.int64)).tolist())
    size, page = count * dtype.itemsize, mmap.PAGESIZE
    if size == 0:
        return EMPTY(shape, dtype)
    inner = -(-size // page) * page
    memory = mmap.mmap(-1, inner + 2 * page)
    at = page if front else page + inner - size
    memory[at:at + size] = b"\xff" * size
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for place in (start, start + page + inner):
        assert protect(place, page, 0) == 0
    return np.frombuffer(memory, dtype, count, at).reshape(shape)


def protect(address: int, size: int, rights: int) -> int:
    """mprotect of POSIX; rights: 0 none, 1 read."""
    return ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), rights)


def locked(values: np.ndarray, layout: str, front: bool) -> np.ndarray:
    """The values in memory between fences that is read-only by the processor's rights."""
    shape, view = LAYOUTS[layout](values.shape) if values.ndim > 2 else LAYOUTS["plain"](values.shape)
    buffer = fenced(shape, values.dtype, front=front)
    result = view(buffer)
    result[...] = values
    page = mmap.PAGESIZE
    first = buffer.ctypes.data // page * page
    assert protect(first, -(-(buffer.ctypes.data + buffer.nbytes - first) // page) * page, 1) == 0
    return result


def mapped(value: Any, place: Any) -> Any:
    """A value with every array in it put in its place."""
    if isinstance(value, np.ndarray):
        return place(value)
    if isinstance(value, dict):
        return {k: mapped(v, place) for k, v in value.items()}
    return type(value)(mapped(v, place) for v in value) if isinstance(value, list | tuple) else value


def arrays_of(results: Any) -> list[np.ndarray]:
    """The arrays of a call's results."""
    return [np.asarray(r) for r in (results if isinstance(results, tuple) else (results,))]


def converted(e: Example, dtype: np.dtype, place: Any) -> tuple[np.ndarray, tuple, dict]:
    """x, arguments and keywords of an example, x and arrays like it in a dtype, and every array put in its place."""
    def convert(a: np.ndarray) -> np.ndarray:
        return place(a.astype(dtype if a.shape == e.x.shape and a.dtype == np.float64 else a.dtype))

    return mapped((e.x, e.args, e.kwargs), convert)


def both(e: Example, dtype: np.dtype, place: Any) -> list[np.ndarray]:
    """The results of forward and backward, with the indices given and found again."""
    x, args, kwargs = converted(e, dtype, place)
    forward = arrays_of(e.forward(x, *args, **kwargs, **{"return_indices": True} if e.indexed else {}))
    y = forward[0]
    grad = place(y.astype(np.float32) if y.dtype.kind in "iub" and "unpool" not in e.function else y)
    results = forward + arrays_of(e.backward(grad, x, *args, **kwargs))
    return results + arrays_of(e.backward(grad, x, *args, **kwargs, indices=place(forward[1]))) if e.indexed else results


def check(name: str, dtype: str, front: bool) -> None:
    """Fenced calls, by threads, give what plain serial calls give."""
    from numbapool import threads
    for ndim in (1, 2, 3):
        for e in examples(name, ndim, few=True):
            if dtype == "uint8" and not e.integers:
                continue
            for layout in LAYOUTS:
                expected = both(e, np.dtype(dtype), lambda a, layout=layout: laid(a, layout))
                np.empty, threads.SMALL = functools.partial(fenced, front=front), 0
                got = both(e, np.dtype(dtype), lambda a, layout=layout: locked(a, layout, front))
                np.empty, threads.SMALL = EMPTY, 1 << 18
                for a, b in zip(got, expected, strict=True):
                    assert a.tobytes() == b.tobytes(), (e.label, dtype, layout)


def laid(values: np.ndarray, layout: str) -> np.ndarray:
    """The values in plain memory of a layout."""
    shape, view = LAYOUTS[layout](values.shape) if values.ndim > 2 else LAYOUTS["plain"](values.shape)
    result = view(np.zeros(shape, values.dtype))
    result[...] = values
    return result


@pytest.mark.skipif(sys.platform != "linux", reason="written for mmap and mprotect of Linux")
@pytest.mark.parametrize(("dtype", "front"), FENCED)
def test_between_fences(dtype, front):
    children.child(f"for name in CASES: check(name, {dtype!r}, {front})", "test_memory")


@pytest.mark.skipif(sys.platform != "linux", reason="written for mmap and mprotect of Linux")
@pytest.mark.parametrize("action", ["x[-1]", "x[:1]"])
@pytest.mark.parametrize("front", [False, True])
def test_fences_hold(front, action):
    """The last element (the first) is the fence's neighbour, and an input cannot be written."""
    step = "ctypes.string_at(x.ctypes.data - 1, 1)" if front else "ctypes.string_at(x.ctypes.data + x.nbytes, 1)"
    code = step if action == "x[-1]" else "ctypes.memset(x.ctypes.data, 0, 1)"
    process = children.start(f"x = locked(np.ones(5, np.float32), 'plain', {front}); assert x.sum() == 5; {code}", "test_memory")
    process.communicate(timeout=children.LIMIT)
    assert process.returncode < 0


# ---------------------------------------------------------------- out=

def surrounded(shape: tuple[int, ...], dtype: np.dtype, how: str) -> tuple[np.ndarray, np.ndarray]:
    """A larger buffer full of one byte, and a view of the shape amid it."""
    step = {"every second": 2, "reversed": -1}.get(how, 1)
    order = (0, *range(2, len(shape)), 1) if how == "channels last" else tuple(range(len(shape)))
    buffer = np.empty([shape[a] * abs(step) + 5 for a in order], dtype)
    buffer.view(np.uint8).fill(0xA5)
    inner = buffer[tuple(slice(2, 2 + shape[a] * abs(step), abs(step)) for a in order)].transpose(np.argsort(order))
    return buffer, inner[(slice(None, None, -1),) * len(shape)] if step < 0 else inner


@pytest.mark.parametrize("how", ["amid", "every second", "reversed", "channels last"])
@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_out_amid_other_memory(name, dtype, how):
    for e in examples(name, 2, few=True):
        x, args, kwargs = converted(e, np.dtype(dtype), lambda a: a)
        y = e.forward(x, *args, **kwargs)
        buffer, out = surrounded(y.shape, y.dtype, how)
        assert e.forward(x, *args, **kwargs, out=out) is out
        # another layout may take another body, which sums in another order
        np.testing.assert_allclose(out, y, 4 * np.finfo(dtype).eps, 4 * np.finfo(dtype).eps * np.abs(np.float64(y)).max())
        out.view(f"u{out.itemsize}")[...] = int.from_bytes(b"\xa5" * out.itemsize, "little")
        assert (buffer.view(np.uint8) == 0xA5).all(), e.label


def test_out_over_a_parameter():
    """Parameters are read before anything is written."""
    x, buffer = np.random.default_rng(0).random((2, 3, 4, 4)), np.arange(1.0, 25.0)
    expected = nbp.gem_pool2d(x, 2, p=buffer[:3].copy())
    np.testing.assert_array_equal(nbp.gem_pool2d(x, 2, p=buffer[:3], out=buffer.reshape(2, 3, 2, 2)), expected)


# ---------------------------------------------------------------- more than 2^31 elements

def room(size: int) -> None:
    """Skip where this much memory is not free."""
    free = os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE if sys.platform == "linux" else 0
    if free < 1.3 * size:
        pytest.skip(f"needs {size >> 30} GB")


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_more_than_2_31_elements(dtype):
    """An axis, the indices into it and the way back are longer than 32 bits count."""
    k = 1 << 12
    n = (1 << 31) + 3 * k + 100
    room(2 * n)
    x = np.zeros((1, 1, n), dtype)
    ends = [5, (1 << 31) - 1, (1 << 31) + 1, (1 << 31) + k, n - 101]
    x[0, 0, ends] = 3
    y, index = nbp.max_pool1d(x, k, return_indices=True)
    assert y.shape == (1, 1, n // k)
    assert y.sum() == 3 * len(ends)
    np.testing.assert_array_equal(index[y == 3], ends)
    room(5 * n)
    back = nbp.max_pool1d_backward(y.astype(np.float32), x, k, indices=index)
    np.testing.assert_array_equal(np.flatnonzero(back), ends)
    assert back.sum() == y.sum()


@pytest.mark.full
def test_more_than_2_31_elements_channels_last():
    n, c, k = (1 << 20) + 3, 1 << 11, 1 << 14
    room(2 * n * c)
    x = np.zeros((1, n, c), np.float16)
    x[0, ::k, -1] = 1
    x[0, k - 1::k, 0] = 2
    y = nbp.avg_pool1d(x, k, channels_last=True)
    assert y.shape == (1, n // k, c)
    assert (y[0, :, -1] == 1 / k).all()
    assert (y[0, :, 0] == 2 / k).all()
    assert np.count_nonzero(y) == 2 * (n // k)
