"""The faster bodies: what they must not change.  Specials at every position, windows far from the common reference, memory, wide rows."""
from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import oracle
import pytest
from cases import CASES

import numbapool
from numbapool import testing

INF, NAN = np.inf, np.nan
WIDTH = 70  # four vectors of 16 and a rest
WINDOWS = {"2x2": (2, 2, 0), "3x3/s2": (3, 2, 1), "3x3/s1": (3, 1, 1), "4x4/s3": (4, 3, 0)}
POOLINGS = {  # leading arguments, own parameters
    "max": ((), {}), "min": ((), {}), "avg": ((), {}), "soft": ((), {"temperature": 0.5}), "swap": ((), {}), "lip": ("logit", {}),
    "lp": ((2.0,), {}), "gem": ((), {}), "sort": ((np.array([0.3, -1.0, 2.0, 0.1]),), {}), "stochastic": ((), {"training": False}),
}


def case(name, x, window, last=False, dtype="float64", seed=0):
    """(function, arguments, keywords, reference's y) of a pooling on x, in a dtype and a memory order."""
    leading, own = POOLINGS[name]
    if leading == "logit":
        leading = (np.random.default_rng(seed).standard_normal(x.shape) * (min(np.abs(x).max(), 1e4) if np.isfinite(x).all() else 1),)
    stored = [np.asarray(v).astype(dtype) if np.ndim(v) == 4 else v for v in (x, *leading)]
    rounded = [v.astype(np.float64) if np.ndim(v) == 4 else v for v in stored]
    axes = oracle.sliding_axes(x.shape[2:], *((v, v) for v in window))
    y = CASES[name].reference(rounded[0], axes, tuple(rounded[1:]), own)
    given = [np.ascontiguousarray(np.moveaxis(v, 1, -1)) if last and np.ndim(v) == 4 else v for v in stored]
    return f"{name}_pool2d", (*given, *window), {**own, "channels_last": last}, y[0] if isinstance(y, tuple) else y


def first(y, last):
    """y as (N, C, H, W)."""
    return np.moveaxis(np.asarray(y), -1, 1) if last else np.asarray(y)


@pytest.mark.jit
@pytest.mark.parametrize("special", [NAN, INF, -INF])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", list(POOLINGS))
def test_specials_at_every_position(name, window, special):
    rng = np.random.default_rng(5)
    for last, shape in ((False, (WIDTH, 1, 5, WIDTH)), (True, (WIDTH, WIDTH, 5, 5))):
        x = rng.standard_normal(shape) + 0.1
        for i in range(WIDTH):  # each batch entry has its special one further along the vector axis
            x[(i, i, 2, 3) if last else (i, 0, 2, i)] = special
        function, args, kwargs, expected = case(name, x, WINDOWS[window], last, "float32")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            testing.close(first(getattr(numbapool, function)(*args, **kwargs), last), expected, 4.0)


@pytest.mark.jit
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", ["soft", "swap", "lip", "lp", "gem", "stochastic"])
def test_windows_far_from_the_common_reference(name, dtype):
    """Rows with huge, tiny and usual windows: the exact loops redo the ones that need it, forward and backward."""
    rng = np.random.default_rng(6)
    sizes = [1e4, 1.0, 1e-3] if dtype == "float16" else [1e15 if name == "lp" else 1e4, 200.0, 1.0, 1e-17]
    for window in WINDOWS.values():
        x = rng.standard_normal((2, 3, 13, 21)) * rng.choice(sizes, (2, 3, 13, 1))
        for last in (False, True):
            function, args, kwargs, expected = case(name, x, window, last, dtype)
            y = getattr(numbapool, function)(*args, **kwargs)
            scale = oracle.pool(oracle.maximum, np.abs(x), oracle.sliding_axes(x.shape[2:], *((v, v) for v in window)), return_indices=True)[0]
            testing.close(first(y, last), expected, 4 * scale)


@pytest.mark.jit
@pytest.mark.parametrize("name", ["soft", "lip", "lp", "gem"])
def test_gradients_far_from_the_common_reference(name):
    """One plane lies out of reach: its gradient is that of the same plane alone, and the others' are untouched."""
    rng = np.random.default_rng(7)
    for window in WINDOWS.values():
        x = rng.standard_normal((2, 2, 11, 17))
        x[1, 0] = x[1, 0] * 300 + 1e3
        function, args, kwargs, expected = case(name, x, window)
        g = rng.standard_normal(expected.shape)
        backward = getattr(numbapool, f"{function}_backward")
        whole = backward(g, *args, **kwargs)
        for n, c in ((1, 0), (0, 1)):
            own = [v[n:n + 1, c:c + 1] if np.ndim(v) == 4 else v for v in args]
            alone = backward(g[n:n + 1, c:c + 1], *own, **kwargs)
            for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (whole, alone)), strict=True):
                if a.ndim == 4:
                    np.testing.assert_allclose(a[n:n + 1, c:c + 1], b, 1e-12, 1e-300)


@pytest.mark.jit
@pytest.mark.parametrize("name", ["max", "avg", "soft", "lp"])
def test_rows_longer_than_what_is_worked_on_at_once(name):
    rng = np.random.default_rng(8)
    for shape, last in (((1, 2, 5, 5003), False), ((1, 150, 4, 67), True), ((1, 1, 4, 9001), False)):
        x = rng.standard_normal(shape)
        for window in (*WINDOWS.values(), (3, 7, 1)):
            function, args, kwargs, expected = case(name, x, window, last)
            testing.close(first(getattr(numbapool, function)(*args, **kwargs), last), expected)
            g = rng.standard_normal(expected.shape)
            given = np.ascontiguousarray(np.moveaxis(g, 1, -1)) if last else g
            whole = first(getattr(numbapool, f"{function}_backward")(given, *args, **kwargs), last)
            # the same gradient from the other memory order, whose rows are cut elsewhere
            turned = np.ascontiguousarray(np.moveaxis(args[0], -1, 1) if last else np.moveaxis(args[0], 1, -1))
            other = np.ascontiguousarray(np.moveaxis(given, -1, 1) if last else np.moveaxis(given, 1, -1))
            again = getattr(numbapool, f"{function}_backward")(other, turned, *args[1:], **{**kwargs, "channels_last": not last})
            np.testing.assert_allclose(whole, first(again, not last), 1e-11, 1e-12)


@pytest.mark.jit
@pytest.mark.parametrize("name", ["max", "avg", "soft"])
def test_large_overlapping_windows(name):
    rng = np.random.default_rng(9)
    x = rng.standard_normal((1, 2, 40, 45))
    for window in ((11, 1, 5), (16, 2, 3), (35, 1, 17), (33, 5, 0)):
        for last in (False, True):
            function, args, kwargs, expected = case(name, x, window, last)
            testing.close(first(getattr(numbapool, function)(*args, **kwargs), last), expected)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float16", "float32"])
@pytest.mark.parametrize("name", ["max", "min"])
def test_elements_found_again_are_those_of_the_indices(name, dtype):
    rng = np.random.default_rng(10)
    x = rng.integers(0, 9, (2, 3, 9, 14)).astype(dtype)  # with many ties
    forward, backward = getattr(numbapool, f"{name}_pool2d"), getattr(numbapool, f"{name}_pool2d_backward")
    for view in (x, x[..., ::-1], x[..., ::2], x.transpose(0, 1, 3, 2), np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, 3, 1, 2)):
        for window in (*WINDOWS.values(), (5, 1, 2)):
            y, index = forward(view, *window, return_indices=True)
            g = rng.integers(-5, 6, y.shape).astype(dtype if dtype.startswith("float") else "float32")
            np.testing.assert_array_equal(backward(g, view, *window), backward(g, view, *window, indices=index))


MEMORY = {n: {} for n in ("max", "min", "avg", "soft", "swap", "gem", "lip", "sort")} | {"lp": {"norm_type": 2.0}, "stochastic": {"seed": 1}}


@pytest.mark.jit
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", list(MEMORY))
def test_no_temporary_of_the_inputs_size(name, direction, last):
    """Beyond its results a call takes less than an eighth of the input's memory, windows that overlap or not."""
    x = np.random.default_rng(0).random((4, 256, 64, 32) if last else (4, 32, 64, 256)).astype(np.float32)
    own = dict(MEMORY[name], channels_last=last)
    leading = {"lip": (x.copy(),), "sort": (np.zeros(4),), "lp": (own.pop("norm_type", None),)}.get(name, ())
    for window in ((2, 2, 0), (3, 1, 1)):
        forward = getattr(numbapool, f"{name}_pool2d")
        args, f = (x, *leading, *window), forward
        y = forward(*args, **own)
        if direction == "backward":
            args, f = (y, *args), getattr(numbapool, f"{name}_pool2d_backward")
        f(*args, **own)
        tracemalloc.start()
        result = f(*args, **own)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        kept = sum(np.asarray(r).nbytes for r in (result if isinstance(result, tuple) else (result,)))
        draws = (8 + y.itemsize) * y.size if name == "stochastic" and direction == "backward" else 0  # the draw is made again
        turned = y.nbytes if name == "gem" and direction == "backward" else 0  # dp of every window, before they are summed
        assert peak - kept - draws - turned < x.nbytes / 8, f"{window}: {peak - kept} bytes"
