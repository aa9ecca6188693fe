"""The faster bodies: what they must not change.  Specials at every position, windows far from the common reference, memory, wide rows."""
from __future__ import annotations

import functools
import itertools
import tracemalloc
import warnings

import numba
import numpy as np
import oracle
import pytest
from cases import CASES, by_dtype, examples

import numbapool
from numbapool import choices, composed, memory, operation, plan, prepared, sweeps, testing, threads, windows
from numbapool.loops import layout
from numbapool.memory import LANES

INF, NAN = np.inf, np.nan
FLOATING = "float32", "float64", "float16"
WIDTH = 70  # four vectors of 16 and a rest
WINDOWS = {"2x2": (2, 2, 0), "3x3/s2": (3, 2, 1), "3x3/s1": (3, 1, 1), "4x4/s3": (4, 3, 0)}
POOLINGS = {  # leading arguments, own parameters
    "max": ((), {}), "min": ((), {}), "avg": ((), {}), "soft": ((), {"temperature": 0.5}), "swap": ((), {}), "lip": ("logit", {}),
    "lp": ((2.0,), {}), "lp/1.5": ((1.5,), {}), "lp/2.2": ((2.2,), {}), "gem": ((), {}),
    "sort": ((np.array([0.3, -1.0, 2.0, 0.1]),), {}), "stochastic": ((), {"training": False}),
}


def case(name, x, window, last=False, dtype="float64", seed=0):
    """(function, arguments, keywords, reference's y) of a pooling on x, in a dtype and a memory order."""
    leading, own = POOLINGS[name]
    if leading == "logit":
        leading = (np.random.default_rng(seed).standard_normal(x.shape) * (min(np.abs(x).max(), 1e4) if np.isfinite(x).all() else 1),)
    stored = [np.asarray(v).astype(dtype) if np.ndim(v) == 4 else v for v in (x, *leading)]
    rounded = [v.astype(np.float64) if np.ndim(v) == 4 else v for v in stored]
    axes = oracle.sliding_axes(x.shape[2:], *(v if np.ndim(v) else (v, v) for v in window))
    name = name.partition("/")[0]
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
@pytest.mark.parametrize(("name", "dtype"), by_dtype(["soft", "swap", "lip", "lp", "lp/1.5", "lp/2.2", "gem", "stochastic"], FLOATING))
def test_windows_far_from_the_common_reference(name, dtype):
    """Rows with huge, tiny and usual windows: the exact loops redo the ones that need it, forward and backward."""
    rng = np.random.default_rng(6)
    sizes = [1e4, 1.0, 1e-3] if dtype == "float16" else [1e15 if name.startswith("lp") else 1e4, 200.0, 1.0, 1e-17]
    for window in WINDOWS.values():
        x = rng.standard_normal((2, 3, 13, 21)) * rng.choice(sizes, (2, 3, 13, 1))
        for last in (False, True):
            function, args, kwargs, expected = case(name, x, window, last, dtype)
            y = getattr(numbapool, function)(*args, **kwargs)
            scale = oracle.pool(oracle.maximum, np.abs(x), oracle.sliding_axes(x.shape[2:], *((v, v) for v in window)), return_indices=True)[0]
            testing.close(first(y, last), expected, 4 * scale)


@pytest.mark.jit
@pytest.mark.parametrize("p", [0.7, 2.2, 7.3])
def test_large_exponents_cost_no_digits(p):
    """Powers far from 1 are as exact as those near to it: the whole part of the logarithm is multiplied apart."""
    rng = np.random.default_rng(12)
    x = (10 ** rng.uniform(-12, 12, (1, 40, 6, 1)) * rng.uniform(1, 2, (1, 40, 6, 38))).astype(np.float32)
    for function, args in (("lp_pool2d", (p, 2)), ("gem_pool2d", (2,))):
        own = {"p": p, "eps": 1e-30} if args == (2,) else {}
        y, expected = (getattr(numbapool, function)(v, *args, **own) for v in (x, x.astype(np.float64)))
        np.testing.assert_allclose(y, expected, 5e-7)


@pytest.mark.jit
@pytest.mark.parametrize("name", ["soft", "lip", "lp", "lp/2.2", "gem"])
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
@pytest.mark.parametrize("name", ["max", "avg", "soft", pytest.param("lp", marks=pytest.mark.full)])
def test_rows_longer_than_what_is_worked_on_at_once(name):
    rng = np.random.default_rng(8)
    for shape, last in (((1, 1, 5, 5003), False), ((1, 150, 4, 50), True), ((1, 1, 4, 7001), False)):
        x = rng.standard_normal(shape)
        for window in (*WINDOWS.values(), (3, 7, 1), (4, 4, 0), (9, 4, 3)):
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


THREE = [  # kernel_size, stride, padding, dilation, ceil_mode: at most three rows and columns, at every or every second place
    (3, 1, 1, 1, False), (3, 2, 1, 1, False), (3, 2, 0, 1, True), (2, 1, 0, 1, False), (1, 2, 0, 1, True), (3, 1, 2, 2, False),
    (2, 1, ((1, 0), (0, 1)), 3, False),
    ((1, 3), (2, 1), (0, 1), 1, False), ((3, 2), (1, 2), (2, 1), 1, True), ((2, 3), (4, 2), ((1, 1), (2, 0)), 1, False),
    ((3, 1), (3, 1), (1, 0), 1, True),
]


@pytest.mark.parametrize(("name", "dtype"), [*by_dtype(("max", "avg", "soft", "lp", "gem", "lip"), ["float64"], ("max", "avg", "soft", "lip")),
                                             ("soft", "float32"), ("max", "float16"), ("soft", "float16")])
def test_windows_of_at_most_three_rows_and_columns(name, dtype):
    """Against the same windows with channels as lanes, which other loops serve, and these against the reference in test_forward.py."""
    rng = np.random.default_rng(11)
    for i, (kernel, stride, padding, dilation, ceil) in enumerate(THREE):
        x = (rng.standard_normal((2, 2, 5 + 3 * (i % 4), 37 + 5 * i)) + (3 if name in ("lp", "gem") else 0)).astype(dtype)
        leading = {"lip": (rng.standard_normal(x.shape).astype(dtype),), "lp": (3.0,)}.get(name, ())
        window = dict(kernel_size=kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil)
        if name == "gem":
            window["p"] = np.array([2.0, 3.5])
        forward, backward = getattr(numbapool, f"{name}_pool2d"), getattr(numbapool, f"{name}_pool2d_backward")
        turn = [np.ascontiguousarray(np.moveaxis(v, 1, -1)) if np.ndim(v) == 4 else v for v in (x, *leading)]
        y, other = forward(x, *leading, **window), forward(*turn, **window, channels_last=True)
        testing.close(y, np.moveaxis(np.asarray(other, np.float64), -1, 1), 4.0)
        g = rng.standard_normal(y.shape).astype(dtype)
        ours, theirs = backward(g, x, *leading, **window), backward(np.ascontiguousarray(np.moveaxis(g, 1, -1)), *turn, **window, channels_last=True)
        for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (ours, theirs)), strict=True):
            testing.close(a, np.moveaxis(np.asarray(b, np.float64), -1, 1) if a.ndim == 4 else b, 8.0)


@pytest.mark.jit
@pytest.mark.parametrize("channels", [300, 2050, 2003])
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.full)])
def test_whole_planes_of_many_channels_as_lanes(channels, dtype):
    """More than are lanes at once elsewhere, in equal parts where there are such."""
    rng, batch = np.random.default_rng(39), 20 if channels == 300 else 2
    x = rng.integers(-9, 9, (batch, 5, 7, channels)).astype(dtype)
    x[0, 3, 2, ::7] = NAN
    rows, g = x.reshape(batch, 35, channels).astype(np.float64), rng.integers(-9, 9, (batch, 1, 1, channels)).astype(dtype)
    y, index = numbapool.global_max_pool2d(x, channels_last=True, return_indices=True)
    places = np.where(np.isnan(rows), INF, rows).argmax(1)
    np.testing.assert_array_equal(index.reshape(batch, channels), places)
    np.testing.assert_array_equal(y.reshape(batch, channels), rows.max(1))
    np.testing.assert_array_equal(numbapool.global_max_pool2d(x, channels_last=True), y)
    gradient = np.where(np.arange(35)[:, None] == places[:, None], g.reshape(batch, 1, channels), 0)
    for more in ({}, {"indices": index}):
        np.testing.assert_array_equal(numbapool.global_max_pool2d_backward(g, x, channels_last=True, **more).reshape(rows.shape), gradient)
    testing.close(numbapool.global_avg_pool2d(x, channels_last=True).reshape(batch, channels), rows.mean(1), 4.0)
    found = numbapool.global_avg_pool2d_backward(g, x, channels_last=True)
    testing.close(found.reshape(rows.shape), np.broadcast_to(g.reshape(batch, 1, channels) / 35.0, rows.shape), 4.0)


IN_TURN = [  # kernel_size, stride, padding: planes a place apart, of at most three
    (3, 1, 1), (2, 1, 0), ((3, 2, 3), (1, 1, 2), (1, 0, 1)), ((2, 3, 1), (1, 2, 1), ((1, 1), (0, 1), (0, 0))), (3, (1, 2, 2), (0, 1, 1)),
]


@pytest.mark.parametrize(("name", "dtype"), [*by_dtype(("max", "avg", "soft", "lp", "gem", "lip"), ["float64"], ("max", "avg", "soft", "lip")),
                                             ("soft", "float32"), ("max", "float16")])
def test_windows_of_planes_in_turn(name, dtype, monkeypatch):
    """Planes that are kept, joined and summed in turn make what channels as lanes do, which other loops serve; by threads, the same bits."""
    rng = np.random.default_rng(38)
    forward, backward = getattr(numbapool, f"{name}_pool3d"), getattr(numbapool, f"{name}_pool3d_backward")
    for i, (kernel, stride, padding) in enumerate(IN_TURN):
        x = (rng.standard_normal((2, 2, 4 + i, 5 + 3 * (i % 4), 41 + 5 * i)) + (3 if name in ("lp", "gem") else 0)).astype(dtype)
        leading = {"lip": (rng.standard_normal(x.shape).astype(dtype),), "lp": (3.0,)}.get(name, ())
        window = dict(kernel_size=kernel, stride=stride, padding=padding)
        if name == "gem":
            window["p"] = np.array([2.0, 3.5])
        turn = [np.ascontiguousarray(np.moveaxis(v, 1, -1)) if np.ndim(v) == 5 else v for v in (x, *leading)]
        y, other = forward(x, *leading, **window), forward(*turn, **window, channels_last=True)
        testing.close(y, np.moveaxis(np.asarray(other, np.float64), -1, 1), 4.0)
        g = rng.standard_normal(y.shape).astype(dtype)
        ours, theirs = backward(g, x, *leading, **window), backward(np.ascontiguousarray(np.moveaxis(g, 1, -1)), *turn, **window, channels_last=True)
        ours, theirs = (r if isinstance(r, tuple) else (r,) for r in (ours, theirs))
        for a, b in zip(ours, theirs, strict=True):
            testing.close(a, np.moveaxis(np.asarray(b, np.float64), -1, 1) if a.ndim == 5 else b, 8.0)
        with monkeypatch.context() as patch:
            patch.setattr(threads, "SMALL", 0)
            patch.setattr(threads, "CHUNK", 1 << 12)  # tasks end anywhere, and begin again with nothing kept
            np.testing.assert_array_equal(forward(x, *leading, **window), y)
            again = backward(g, x, *leading, **window)
            for a, b in zip(again if isinstance(again, tuple) else (again,), ours, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.jit
@pytest.mark.parametrize(("name", "dtype"), [("avg", "float32"), ("soft", "float64"), ("lip", "float16"), ("max", "float32")])
def test_results_past_the_caches(name, dtype, monkeypatch):
    """What is written past the caches, as results larger than these are, is what is written through them."""
    rng = np.random.default_rng(12)
    forward, backward = getattr(numbapool, f"{name}_pool2d"), getattr(numbapool, f"{name}_pool2d_backward")
    for last, window, width in itertools.product((False, True), WINDOWS.values(), (64, 37)):
        x = rng.standard_normal((2, 9, width, 32) if last else (2, 32, 9, width)).astype(dtype)
        args, kwargs = ((x, x[::-1].copy(), *window) if name == "lip" else (x, *window)), dict(channels_last=last)
        usual = forward(*args, **kwargs)
        g = rng.standard_normal(usual.shape).astype(dtype)
        usual = usual, backward(g, *args, **kwargs)
        with monkeypatch.context() as patch:
            patch.setattr(memory, "cache_size", lambda: 0)
            patch.setattr(operation, "CALLS", prepared.Remembered())
            past = forward(*args, **kwargs), backward(g, *args, **kwargs)
        for a, b in zip(usual, past, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.jit
@pytest.mark.parametrize(("name", "dtype"), [("avg", "float32"), ("avg", "float16"), ("soft", "float64"), ("gem", "float32"), ("lip", "float32"),
                                             ("lip", "float16")])
def test_gradients_of_whole_planes_past_the_caches(name, dtype, monkeypatch):
    """Planes one behind the other are written in whole lines, wherever in one the first begins: what is written through the caches, and no more."""
    rng = np.random.default_rng(31)
    forward, backward = getattr(numbapool, f"global_{name}_pool2d"), getattr(numbapool, f"global_{name}_pool2d_backward")
    given = {"gem": {"p": np.array([1.5, 2.5, 3.5])}}.get(name, {})
    for (height, width), aligned in itertools.product(((1, 1), (7, 7), (31, 33), (32, 32), (45, 61)), (False, True)):
        x = (rng.random((7, 3, height, width)) + 0.5).astype(dtype)
        arrays = [x, x[::-1].copy()] if name == "lip" else [x]
        g = rng.random(forward(*arrays, **given).shape).astype(x.dtype)
        made = []
        for past in (False, True):
            with monkeypatch.context() as patch:
                patch.setattr(memory, "past_cache", lambda size, past=past: past)
                patch.setattr(numbapool.libraries, "past_cache", lambda size, aligned=aligned: aligned)
                patch.setattr(operation, "CALLS", prepared.Remembered())
                found = backward(g, *arrays, **given)
            made.append(found if isinstance(found, tuple) else (found,))
        for a, b in zip(*made, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("processors", [1, 2, None])
def test_a_cache_is_counted_as_what_the_processors_can_have_of_it(processors, monkeypatch, tmp_path):
    """A virtual machine is told of its host's whole cache; another cache, smaller than the shares of many processors, is taken as it is."""
    folder = tmp_path / "index3"
    folder.mkdir()
    (folder / "size").write_text("307200K\n")
    monkeypatch.setattr(memory, "Path", lambda name: tmp_path)
    monkeypatch.setattr(memory.os, "cpu_count", lambda: processors)
    assert memory.cache_size.__wrapped__() == (processors or 1) * memory.CACHE_SHARE
    monkeypatch.setattr(memory.os, "cpu_count", lambda: 128)
    assert memory.cache_size.__wrapped__() == 300 << 20


@pytest.mark.jit
@pytest.mark.parametrize("rows", [1, 5])
def test_places_of_windows_of_every_width(rows):
    """One column at a distance of 2 once took the column between two windows along."""
    x = np.random.default_rng(3).standard_normal((2, 3, 7, 29)).astype(np.float32)
    for last in (False, True):
        given = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x
        for kernel, stride in itertools.product(range(1, 8), range(1, 4)):
            window = dict(kernel_size=(rows, kernel), stride=(1, stride), channels_last=last)
            y, index = (first(r, last) for r in numbapool.max_pool2d(given, return_indices=True, **window))
            parts = [x[:, :, i:i + 7 - rows + 1, j:j + 29 - kernel + 1:stride] for i in range(rows) for j in range(kernel)]
            np.testing.assert_array_equal(y, np.max(parts, 0), f"{window}")
            np.testing.assert_array_equal(np.take_along_axis(x.reshape(2, 3, -1), index.reshape(2, 3, -1), 2), y.reshape(2, 3, -1))
            grad = np.ones(y.shape, np.float32)
            back = numbapool.max_pool2d_backward(np.moveaxis(grad, 1, -1) if last else grad, given, **window)
            expected = np.zeros((2, 3, 7 * 29), np.float32)
            np.add.at(expected, (*np.ogrid[:2, :3, :1][:2], index.reshape(2, 3, -1)), 1)
            np.testing.assert_array_equal(first(back, last).reshape(2, 3, -1), expected, f"{window}")


@pytest.mark.jit
@pytest.mark.parametrize("name", ["max", "avg", "soft"])
def test_large_overlapping_windows(name):
    rng = np.random.default_rng(9)
    x = rng.standard_normal((1, 2, 40, 45))
    for window in ((11, 1, 5), (16, 2, 3), (35, 1, 17), (33, 5, 0)):
        for last in (False, True):
            function, args, kwargs, expected = case(name, x, window, last)
            testing.close(first(getattr(numbapool, function)(*args, **kwargs), last), expected)


@pytest.mark.parametrize(("name", "dtype"), [
    ("max", "int64"), ("max", "float16"), ("max", "float32"), ("min", "float32"),
    *(pytest.param(*v, marks=pytest.mark.full) for v in (("max", "int8"), ("max", "uint16"), ("min", "int8"), ("min", "float16")))])
def test_elements_found_again_are_those_of_the_indices(name, dtype):
    rng = np.random.default_rng(10)
    x = rng.integers(0, 9, (2, 3, 9, 14)).astype(dtype)  # with many ties
    forward, backward = getattr(numbapool, f"{name}_pool2d"), getattr(numbapool, f"{name}_pool2d_backward")
    for view in (x, x[..., ::-1], x[..., ::2], x.transpose(0, 1, 3, 2), np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, 3, 1, 2)):
        for window in (*WINDOWS.values(), (5, 1, 2)):
            y, index = forward(view, *window, return_indices=True)
            g = rng.integers(-5, 6, y.shape).astype(dtype if dtype.startswith("float") else "float32")
            np.testing.assert_array_equal(backward(g, view, *window), backward(g, view, *window, indices=index))


CHOICES = {  # one for each way to choose: quad, short or nine; parts of windows, one window, windows in pieces
    "2x2": (2, 2, 0), "1x2": ((1, 2), (1, 2), 0), "2x2/s1": (2, 1, 0), "3x3/s2": (3, 2, 1), "3x3/s1": (3, 1, 1), "1x3/s2": ((1, 3), (1, 2), (0, 1)),
    "3x2/s3": ((3, 2), (3, 1), 1), "3x1/s2": ((3, 1), (1, 2), (2, 0)), "5x5/s1": (5, 1, 2), "4x12/s1": ((4, 12), 1, (3, 11)),
    "4x5/s2": ((4, 5), 2, (1, 4)), "2x9/s2": ((2, 9), 2, (0, 8)), "4x6/s3": ((4, 6), 3, (0, 5)), "5x70": ((5, 70), 1, 0),
    "2x2/d3": (2, 1, 3, 3), "3x3/s2/d2": (3, 2, 4, 2),
    "2x4/s2/d3": ((2, 4), 2, (0, 9), (1, 3)),
}


def indices_of(x, index, g):
    """The elements that indices name, and the gradient that they make, plane by plane."""
    planes = np.prod(x.shape[:2])
    gx = np.zeros((planes, x[0, 0].size))
    for plane, i, v in zip(gx, index.reshape(planes, -1), g.reshape(planes, -1), strict=True):
        np.add.at(plane, i, v)
    return np.take_along_axis(x.reshape(planes, -1), index.reshape(planes, -1), 1).reshape(index.shape), gx.reshape(x.shape)


@pytest.mark.jit
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("window", list(CHOICES))
def test_indices_with_ties_and_specials_at_every_position(window, last):
    """Values, indices and gradients, found again and followed, of windows full of ties, with NaN and infinities anywhere."""
    rng = np.random.default_rng(11)
    kernel, stride, padding, dilation = (*CHOICES[window], 1)[:4]
    x = rng.integers(-1, 2, (3, WIDTH, 5, 9) if last else (WIDTH, 2, 5, WIDTH)).astype(np.float64)
    x[rng.random(x.shape) < 0.2] = -INF
    if window == "5x70" and last:
        kernel = (5, 9)
    for i in range(WIDTH):
        x[(i % 3, i, i % 5, i % 9) if last else (i, 0, i % 5, i)] = NAN
    x[-1, -1] = -INF
    axes = oracle.sliding_axes(x.shape[2:], *(v if isinstance(v, tuple) else (v, v) for v in (kernel, stride, padding, dilation)))
    y, index = oracle.pool(oracle.maximum, x, axes, return_indices=True)
    given = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x
    g = rng.integers(-5, 6, y.shape).astype(np.float32)
    gradient = indices_of(x, index, g)[1]
    for dtype, sign, name in (("float32", 1, "max"), ("float16", -1, "min")):
        stored = (sign * given).astype(dtype)
        found = getattr(numbapool, f"{name}_pool2d")(stored, kernel, stride, padding, dilation=dilation, return_indices=True)
        np.testing.assert_array_equal(found[0], sign * y)
        np.testing.assert_array_equal(found[1], index)
        backward = getattr(numbapool, f"{name}_pool2d_backward")
        for more in ({}, {"indices": found[1]}):
            np.testing.assert_array_equal(backward(g.astype(dtype), stored, kernel, stride, padding, dilation=dilation, **more), gradient)


DEEP = (3, 1, 1), (2, 1, 0), ((3, 2, 3), (2, 1, 1), (1, 0, 1)), ((2, 3, 3), (1, 2, 1), 1), ((3, 1, 2), (4, 1, 1), (0, 0, 1)), (3, (1, 1, 2), 1)


@pytest.mark.jit
@pytest.mark.parametrize("shape", [(2, 1, 5, 9, 20), (1, 3, 3, 4, 1100), (1, 1, 7, 90, 400)], ids=["short", "in chunks", "too large to keep"])
def test_indices_in_windows_of_several_planes(shape):
    """Rows are joined once for the windows of all planes that need them, by one thread and by two, each of which begins anywhere."""
    rng = np.random.default_rng(37)
    x = rng.integers(-2, 3, shape).astype(np.float64)
    x = np.where(rng.random(shape) < 0.02, NAN, np.where(rng.random(shape) < 0.2, -INF, x))
    for kernel, stride, padding in DEEP[:1] if shape[3] > 9 else DEEP:
        axes = oracle.sliding_axes(shape[2:], *(v if isinstance(v, tuple) else (v,) * 3 for v in (kernel, stride, padding)))
        y, index = oracle.pool(oracle.maximum, x, axes, return_indices=True)
        g = rng.integers(-5, 6, y.shape).astype(np.float32)
        for count, dtype, sign, name in ((1, "float32", 1, "max"), (2, "float32", 1, "max"), (2, "float16", -1, "min")):
            numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
            try:
                found = getattr(numbapool, f"{name}_pool3d")((sign * x).astype(dtype), kernel, stride, padding, return_indices=True)
                again = getattr(numbapool, f"{name}_pool3d_backward")(g.astype(dtype), (sign * x).astype(dtype), kernel, stride, padding)
            finally:
                numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
            np.testing.assert_array_equal(found[0], sign * y)
            np.testing.assert_array_equal(found[1], index)
            np.testing.assert_array_equal(again, indices_of(x, index, g)[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nine_elements_are_sorted_by_exchanges(dtype):
    """Exchanges that sort all windows of zeros and ones sort all (Knuth 5.3.4, theorem Z); a NaN anywhere makes the sum one."""
    ones = np.array(list(itertools.product((0.0, 1.0), repeat=9)))
    weight = 2.0 ** -np.arange(9)
    x = np.moveaxis(ones.reshape(512, 3, 3), 0, 1).reshape(1, 1, 3, 3 * 512)
    y = numbapool.sort_pool2d(x.astype(dtype), np.log(weight), 3)  # whose softmax is taken
    np.testing.assert_allclose(y[0, 0, 0], [weight[:int(n)].sum() / weight.sum() for n in ones.sum(1)], 1e-5)
    x = np.tile(np.arange(9.0).reshape(3, 3), 9)
    for i in range(9):
        x[i // 3, 3 * i + i % 3] = NAN
    assert np.isnan(numbapool.sort_pool2d(x[None, None].astype(dtype), weight, 3)).all()


TALL = (7, 1, 3), (4, 1, 0), (11, 1, 5), ((9, 5), (2, 1), (4, 2)), ((13, 6), 3, (6, 0)), ((6, 3), 1, (0, 2), (1, 2)), ((30, 8), 1, (15, 0))


def gradient_of(x, g, axes, soft):
    """y and the gradient of averages, or of soft pooling, window by window."""
    y, gx, weight = np.zeros(g.shape), np.zeros(x.shape), np.exp(x) if soft else np.ones(x.shape)
    for (i, (rows, high)), (j, (columns, wide)) in itertools.product(enumerate(axes[0]), enumerate(axes[1])):
        at = (slice(None), slice(None), np.array(rows)[:, None], np.array(columns))
        share = weight[at] / (weight[at].sum((2, 3), keepdims=True) if soft else high * wide)
        y[:, :, i, j] = (share * x[at]).sum((2, 3))
        gx[at] += g[:, :, i, j, None, None] * share * (1 + x[at] - y[:, :, i, j, None, None] if soft else 1)
    return y, gx


@pytest.mark.jit
@pytest.mark.parametrize(("shape", "last"), [((2, 3, 29, 33), False), ((1, 20, 29, 33), True), ((1, 16, 9, 13), False)])
def test_tall_windows_that_overlap(shape, last):
    """Windows that are joined in blocks of rows: the ends and beginnings of these, and both edges."""
    rng = np.random.default_rng(32)
    x = rng.integers(-9, 9, shape).astype(np.float64) / 4
    order = (lambda v: np.moveaxis(np.ascontiguousarray(np.moveaxis(v, 1, -1)), -1, 1)) if last else np.ascontiguousarray
    for kernel, stride, padding, dilation in ((*window, 1)[:4] for window in (TALL[:3] if shape[2] == 9 else TALL)):
        axes = oracle.sliding_axes(shape[2:], *(v if isinstance(v, tuple) else (v, v) for v in (kernel, stride, padding, dilation)))
        holes = np.where(rng.random(shape) < 0.02, NAN, np.where(rng.random(shape) < 0.3, -INF, x))
        y, index = oracle.pool(oracle.maximum, holes, axes, return_indices=True)
        g = rng.integers(-5, 6, y.shape).astype(np.float32)
        for name, sign, dtype in (("max", 1, "float32"), ("min", -1, "float16")):
            given, pool = order((sign * holes).astype(dtype)), getattr(numbapool, f"{name}_pool2d")
            found = pool(given, kernel, stride, padding, dilation=dilation, return_indices=True)
            np.testing.assert_array_equal(found[0], sign * y)
            np.testing.assert_array_equal(found[1], index)
            np.testing.assert_array_equal(pool(given, kernel, stride, padding, dilation=dilation), sign * y)
            again = getattr(numbapool, f"{name}_pool2d_backward")(order(g.astype(dtype)), given, kernel, stride, padding, dilation=dilation)
            np.testing.assert_array_equal(again, indices_of(holes, index, g)[1])
        for name in ("avg", "soft"):
            y, gradient = gradient_of(x, g, axes, name == "soft")
            given, pool, backward = order(x.astype(np.float32)), *(getattr(numbapool, f"{name}_pool2d{end}") for end in ("", "_backward"))
            testing.close(pool(given, kernel, stride, padding, dilation=dilation), y, 4.0, f"{name} {kernel}")
            testing.close(backward(order(g), given, kernel, stride, padding, dilation=dilation), gradient, 40.0, f"gradient of {name} {kernel}")


@pytest.mark.jit
def test_tall_windows_in_threads():
    """Wherever the rows are divided, blocks are the same: bit for bit."""
    x = np.random.default_rng(33).standard_normal((1, 1, 901, 140)).astype(np.float32)
    results = []
    for count in (1, 2):
        numba.set_num_threads(count)
        try:
            y, index = numbapool.max_pool2d(x, 7, 1, 3, return_indices=True)
            results.append((y, index, *(numbapool.max_pool2d(x, 7, 1, 3), numbapool.avg_pool2d(x, 7, 1, 3), numbapool.soft_pool2d(x, 7, 1, 3)),
                            numbapool.avg_pool2d_backward(y, x, 7, 1, 3), numbapool.soft_pool2d_backward(y, x, 7, 1, 3)))
        finally:
            numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.jit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_that_are_turned(dtype):
    """Windows at any places, or more than two apart: bands of rows and what is left of them, parts of rows, both edges, a parameter."""
    rng, single = np.random.default_rng(34), dtype == "float32"  # tiles of float64 are another size: in fewer poolings
    for shape, window in (((1, 2, 37, 260), (5, 3, 2)), ((2, 1, 19, 61), ((2, 7), (1, 7), 0)), ((1, 3, 40, 70), ((3, 4), (2, 5), (0, 1))),
                          ((1, 2, 37, 260), ((18, 101),)), ((2, 2, 9, 61), ((4, 40),)), ((1, 1, 5, 12), ((11, 300),)), ((1, 1, 60, 8), ((41, 5),))):
        form, adaptive = ("adaptive_", True) if len(window) == 1 else ("", False)
        axes = ([oracle.adaptive(n, o) for n, o in zip(shape[2:], window[0], strict=True)] if adaptive
                else oracle.sliding_axes(shape[2:], *(v if isinstance(v, tuple) else (v, v) for v in window)))
        x = rng.integers(-9, 9, shape).astype(np.float64) / 4
        holes = np.where(rng.random(shape) < 0.02, NAN, np.where(rng.random(shape) < 0.3, -INF, x))
        y, index = oracle.pool(oracle.maximum, holes, axes, return_indices=True)
        g = rng.integers(-5, 6, y.shape).astype(dtype)
        for name, sign in (("max", 1), ("min", -1))[:2 if single else 1]:
            given, pool = (sign * holes).astype(dtype), getattr(numbapool, f"{form}{name}_pool2d")
            found = pool(given, *window, return_indices=True)
            np.testing.assert_array_equal(found[0], sign * y)
            np.testing.assert_array_equal(found[1], index)
            np.testing.assert_array_equal(pool(given, *window), sign * y)
            again = getattr(numbapool, f"{form}{name}_pool2d_backward")(g, given, *window)
            np.testing.assert_array_equal(again, indices_of(holes, index, g)[1])
        given = x.astype(dtype)
        for name in ("avg", "soft")[:2 if single else 1]:
            pool, backward = (getattr(numbapool, f"{form}{name}_pool2d{end}") for end in ("", "_backward"))
            y, gradient = gradient_of(x, g, axes, name == "soft")
            testing.close(pool(given, *window), y, 4.0, f"{name} {window}")
            testing.close(backward(g, given, *window), gradient, 40.0, f"gradient of {name} {window}")
        if not single:
            continue
        p = rng.uniform(1.5, 3.5, shape[1])
        pool, backward = (getattr(numbapool, f"{form}gem_pool2d{end}") for end in ("", "_backward"))
        rows = np.moveaxis(np.ascontiguousarray(np.moveaxis(given, 1, -1)), -1, 1)  # by other loops
        wide, few = rows.astype(np.float64), p.astype(dtype)
        testing.close(pool(given, *window, p=few), pool(wide, *window, p=p), 10.0, f"gem {window}")
        for found, wanted in zip(backward(g, given, *window, p=few), backward(g.astype(np.float64), wide, *window, p=p), strict=True):
            testing.close(found, wanted, 100.0, f"gradient of gem {window}")


@pytest.mark.jit
@pytest.mark.parametrize("last", [False, True])
def test_indices_in_rows_longer_than_what_is_worked_on_at_once(last):
    rng = np.random.default_rng(12)
    for shape in (((1, 150, 3, 67), (1, 20, 2, 700)) if last else ((1, 2, 5, 5003), (2, 1, 1, 2101))):
        x = rng.integers(0, 50, shape).astype(np.float32)
        given = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x
        wide = shape[3] - 3
        for kernel, stride, padding in ((2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0), ((1, wide), 1, 0), ((1, wide // 2), 5, (0, 9)), ((1, 40), 1, 0)):
            if shape[2] == 1:
                kernel, padding = (1, max(np.atleast_1d(kernel))), (0, max(np.atleast_1d(padding)))
            y, index = numbapool.max_pool2d(given, kernel, stride, padding, return_indices=True)
            np.testing.assert_array_equal(y, numbapool.max_pool2d(given, kernel, stride, padding))
            g = rng.integers(-5, 6, y.shape).astype(np.float32)
            value, gradient = indices_of(x, np.ascontiguousarray(index), g)
            np.testing.assert_array_equal(y, value)
            np.testing.assert_array_equal(numbapool.max_pool2d_backward(g, given, kernel, stride, padding), gradient)


@pytest.mark.jit
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 5), (4, 4), (1, 17), (7, 7), (5, 16), (9, 9), (21, 100)])
def test_indices_in_whole_planes(size, dtype):
    """Ties, NaN and infinities at every place of planes without gaps, in more planes than a tile holds; and indices outside of a plane."""
    rng = np.random.default_rng(14)
    n, area = 37, size[0] * size[1]
    x = rng.integers(-1, 2, (3, n, *size)).astype(dtype)
    x[rng.random(x.shape) < 0.2] = -INF
    for i in range(n):
        x[0, i].flat[i % area] = x[0, i].flat[(5 * i) % area] = NAN
        x[1, i].flat[:-1 - i % area] = -INF
        x[1, i].flat[-1 - i % area] = 3
    x[2, -1] = -INF
    for name, given in (("max", x), ("min", -x)):
        y, index = oracle.pool(oracle.maximum, x.astype(np.float64), oracle.sliding_axes(size, size, size, (0, 0), (1, 1)), return_indices=True)
        found = getattr(numbapool, f"{name}_pool2d")(given, size, return_indices=True)
        np.testing.assert_array_equal(found[0], y if name == "max" else -y)
        np.testing.assert_array_equal(found[1], index)
        g = rng.integers(1, 6, y.shape).astype(dtype)
        gradient, backward = indices_of(x, index, g)[1], getattr(numbapool, f"{name}_pool2d_backward")
        np.testing.assert_array_equal(backward(g, given, size), gradient)
        np.testing.assert_array_equal(backward(g, given, size, indices=found[1]), gradient)
    for wrong in (-1, area):
        index[1, 3] = wrong
        with pytest.raises(ValueError, match="indices"):
            numbapool.max_pool2d_backward(g, x, size, indices=index)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(2, 37, 9, 11), (1, 3, 12, 8), (3, 1, 5, 7), (1, 70, 4, 6)])
def test_interleaved_planes_with_windows_of_their_own(shape, dtype):
    """Channels-last planes, each with its own fractional windows, give what planes one behind the other give, ties and all."""
    rng = np.random.default_rng(15)
    x, samples = rng.integers(0, 6, shape).astype(dtype), rng.random((*shape[:2], 2)).astype(np.float32)
    given = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    own = dict(kernel_size=2, output_ratio=0.7, samples=samples)
    y, index = numbapool.fractional_max_pool2d(x, return_indices=True, **own)
    for found in (numbapool.fractional_max_pool2d(given, return_indices=True, **own), (numbapool.fractional_max_pool2d(given, **own), index)):
        np.testing.assert_array_equal(found[0], y)
        np.testing.assert_array_equal(found[1], index)
    g = rng.integers(-5, 6, y.shape).astype(dtype)
    gradient = indices_of(x, index, g)[1]
    np.testing.assert_array_equal(numbapool.fractional_max_pool2d_backward(g, given, **own), gradient)
    np.testing.assert_array_equal(numbapool.fractional_max_pool2d_backward(g, x, **own), gradient)


@pytest.mark.jit
@pytest.mark.parametrize("last", [False, True])
def test_indices_past_the_caches(last, monkeypatch):
    """What is written past the caches, here by decree, is what is written into them: whole lines, rows at any place in a line."""
    rng = np.random.default_rng(13)
    for dtype, width in (("float32", 32), ("float32", 34), ("float32", 67), ("float16", 64)):
        x = rng.standard_normal((2, 16 if width != 34 else 3, 7 if last else 6, width)).astype(dtype)
        given = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x
        for window in ((2, 2, 0), (3, 1, 1), (4, 2, 1)):
            made = []
            for past, parts in ((False, (given[:1], given[1:])), (True, (given,))):  # of other shapes, so that the plans are others
                monkeypatch.setattr(numbapool.memory, "past_cache", lambda size, past=past: past)
                monkeypatch.setattr(numbapool.libraries, "past_cache", lambda size, past=past: past)
                results = [(*numbapool.max_pool2d(p, *window, return_indices=True), p) for p in parts]
                results = [(y, index, numbapool.max_pool2d_backward(y, p, *window), numbapool.max_pool2d_backward(y, p, *window, indices=index))
                           for y, index, p in results]
                made.append([np.concatenate(r) for r in zip(*results, strict=True)])
            for a, b in zip(*made, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.jit
@pytest.mark.parametrize("last", [False, True])
def test_indices_past_the_caches_and_y_not(last, monkeypatch):
    """Indices go past the caches before y does, here by decree."""
    x = np.random.default_rng(27).standard_normal((2, 6, 32, 16) if last else (2, 7, 6, 32)).astype(np.float32)
    for window in ((2, 2, 0), (3, 1, 1), (4, 2, 1)):
        usual = numbapool.max_pool2d(x, *window, return_indices=True, channels_last=last)
        asked = []
        with monkeypatch.context() as patch:
            patch.setattr(memory, "past_cache", lambda size, least=2 * usual[1].nbytes, asked=asked: asked.append(size) or size >= least)
            patch.setattr(numbapool.libraries, "past_cache", lambda size: True)  # memory that begins at a line
            patch.setattr(operation, "CALLS", prepared.Remembered())
            past = numbapool.max_pool2d(x, *window, return_indices=True, channels_last=last)
        assert sorted(set(asked)) == [usual[0].nbytes, 2 * usual[1].nbytes]
        for a, b in zip(usual, past, strict=True):
            np.testing.assert_array_equal(a, b)


BESIDE = [  # kernel_size and padding, of rows and columns: windows a column apart
    ((3, 3), ((1, 1), (1, 1))), ((2, 3), ((1, 0), (1, 1))), ((3, 1), ((1, 1), (0, 0))), ((1, 2), ((0, 0), (1, 1))), ((3, 3), ((0, 0), (0, 0))),
    ((3, 2), ((0, 1), (1, 0))),
]


@pytest.mark.parametrize(("name", "dtype"), [("max", "float32"), ("max", "float64"), ("max", "float16"), ("min", "float32")])
def test_gradients_of_choices_one_axis_after_the_other(name, dtype, monkeypatch):
    """Whole gradients go exactly where indices say: in bands of rows, in lanes, past the caches, with NaN and infinities, of planes skipped."""
    rng, call, rows = np.random.default_rng(32), choices.separable, []
    monkeypatch.setattr(choices, "separable", lambda *a: rows.append(call(*a)) or rows[-1])
    forward, backward = getattr(numbapool, f"{name}_pool3d"), getattr(numbapool, f"{name}_pool3d_backward")
    for (kernel, padding), past in itertools.product(BESIDE, (False, True)):
        monkeypatch.setattr(memory, "past_cache", lambda size, past=past: past)
        for shape, deep, last in (((2, 3, 1, 9, 11), 1, False), ((1, 2, 4, 6, 32), 2, False), ((1, 1, 1, 150, 37), 1, False),
                                  ((1, 1, 1, 5, 990), 1, False), ((1, 1, 1, 6, 2100), 1, False), ((1, 40, 3, 12, 9), 1, True),
                                  ((2, 3, 1, 7, 40), 1, True), ((1, 64, 1, 9, 48), 1, True)):
            if past and shape[-1] not in (32, 48):
                continue
            x = rng.integers(-3, 4, shape).astype(dtype)
            x[0, 0, 0, 1, 2:4], x[0, -1, 0, 4:, :4], x[0, 0, 0, -1] = np.nan, -np.inf, np.inf
            window = dict(kernel_size=(1, *kernel), stride=(deep, 1, 1), padding=((0, 0), *padding))
            y, index = forward(x, return_indices=True, **window)
            g = rng.integers(-9, 10, y.shape).astype(dtype)
            turned = [np.ascontiguousarray(np.moveaxis(v, 1, -1)) if last else v for v in (g, x)]
            with monkeypatch.context() as patch:
                patch.setattr(operation, "CALLS", prepared.Remembered())
                found = backward(*turned, channels_last=last, **window)
            np.testing.assert_array_equal(np.moveaxis(found, -1, 1) if last else found, indices_of(x, index, g)[1])
    assert sum(r > 0 for r in rows) > len(rows) // 2


@pytest.mark.parametrize("name", ["soft", "avg"])
def test_rows_are_kept_from_plane_to_plane(name, monkeypatch):
    """What windows of several planes share is lifted, and handed out, once: numbers are those of rows made anew for each plane."""
    rng, build = np.random.default_rng(35), sweeps.build
    forward, backward = getattr(numbapool, f"{name}_pool3d"), getattr(numbapool, f"{name}_pool3d_backward")
    for shape, window in (((2, 2, 6, 9, 21), (3, 1, 1)), ((1, 2, 7, 19, 12), (4, (3, 3, 2), 2)), ((1, 1, 5, 20, 40), ((3, 11, 3), 1, (1, 5, 1))),
                          ((1, 1, 3, 5, 2500), ((2, 3, 5), 1, 1)), ((1, 2, 6, 70, 20), ((2, 3, 4), (1, 2, 3), 0)), ((2, 6, 5, 9, 3), (3, 1, 1))):
        last = shape[-1] == 3
        x, found, rows = rng.standard_normal(shape).astype(np.float32), [], []
        for kept in (True, False):
            with monkeypatch.context() as patch:
                patch.setattr(sweeps, "cached", lambda extent, *a, rows=rows: rows.append(build(*a)) or rows[-1])
                patch.setattr(sweeps, "kept_planes", lambda *_: 0)  # which three.py would take
                patch.setattr(operation, "CALLS", prepared.Remembered())
                if not kept:
                    patch.setattr(sweeps, "RING", 0)
                y = forward(x, *window, channels_last=last)
                g = np.random.default_rng(36).standard_normal(y.shape).astype(np.float32)
                found.append((y, backward(g, x, *window, channels_last=last)))
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)
        plain = first(x, last).astype(np.float64)
        testing.close(first(y, last), CASES[name].reference(plain, oracle.sliding_axes(plain.shape[2:], *window), (), {}), 4.0, f"{name} {window}")
        most, least = ([max(p.integers[field] for p in made) for field in (layout.HELD_H, *(layout.RING_H,) * (name == "soft"))]
                       for made in (rows[:2], rows[2:]))
        assert all(a > b for a, b in zip(most, least, strict=True)) or shape[-1] == 2500, (shape, most, least)


CUBES = {"max": {}, "min": {}, "avg": {}, "soft": {"temperature": 0.5}, "lip": {}, "lp": {"norm_type": 2.0}, "gem": {"p": np.array([1.5, 2.5])}}


@pytest.mark.jit
@pytest.mark.parametrize(("name", "dtype"), by_dtype(CUBES, FLOATING))
def test_windows_of_two_planes(name, dtype, monkeypatch):
    """2x2x2 windows have loops of their own, which compute what those for all windows do: with rests, in pieces, past the caches, out of reach."""
    rng, call = np.random.default_rng(29), sweeps.small
    forward, backward = getattr(numbapool, f"{name}_pool3d"), getattr(numbapool, f"{name}_pool3d_backward")
    for shape, window in (((2, 2, 4, 6, 32), {}), ((1, 2, 5, 7, 33), {}), ((2, 2, 3, 5, 1026), {}), ((1, 2, 4, 4, 1200), {}),
                          ((1, 2, 7, 5, 64), {"stride": (1, 3, 2)}), ((1, 2, 7, 5, 64), {"dilation": (2, 1, 1)})):
        x = rng.standard_normal(shape).astype(dtype)
        x[0, 0] *= 300 if dtype == "float16" else 1000
        arrays = [x, rng.standard_normal(shape).astype(dtype)] if name == "lip" else [x]
        own = {"kernel_size": 2, "stride": 2, "padding": 0, **window, **CUBES[name]}
        found: list = []
        for cubes in (False, True):
            taken = "eight" if cubes else ""
            with monkeypatch.context() as patch:
                patch.setattr(sweeps, "small", lambda *a, taken=taken, found=found: found.append(call(*a)) or (taken if found[-1] == taken else None))
                patch.setattr(memory, "past_cache", lambda size, cubes=cubes: cubes)
                patch.setattr(numbapool.libraries, "past_cache", lambda size, cubes=cubes: cubes)
                patch.setattr(operation, "CALLS", prepared.Remembered())
                y = forward(*arrays, **own)
                g = np.random.default_rng(30).standard_normal(y.shape).astype(dtype)
                grads = backward(g, *arrays, **own)
            found.append([y, *(grads if isinstance(grads, tuple) else (grads,))])
        assert "eight" in found
        usual, made = (r for r in found if isinstance(r, list))
        for a, b in zip(usual, made, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("dims", "last", "ahead"), [
    ((1, 64, 56, 56), False, 0), ((1, 64, 56, 56), True, 0), ((8, 64, 112, 112), False, memory.ASK_LEAST),
    ((8, 64, 112, 112), True, 2 * 64 * 112), ((1, 512, 224, 224), True, memory.ASK_LEAST), ((1, 3, 4096, 4096), False, 2 * 4096)])
def test_how_far_ahead_loops_ask(dims, last, ahead):
    """Not where caches hold the input; else two rows, where these are neither too short to be worth it nor too long to stay until they are read."""
    dims = (*dims[:2], 1, *dims[2:])
    axes = tuple(windows.sliding(n, k, k, 0, 0, 1, False, "padded") for n, k in zip(dims[2:], (1, 2, 2), strict=True))
    made = plan.build(dims, axes, ((layout.X, plan.dense(dims, last)),), last)
    assert made.integers[layout.ASK] == ahead


@pytest.mark.jit
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", ["max", "avg", "soft", "lip", "sort", "stochastic", "rank_stochastic"])
def test_asking_ahead_changes_nothing(name, last, monkeypatch):
    """Loops ask for memory that lies ahead, at last beyond the input; their results are those of loops that do not ask."""
    rng, forward, backward = np.random.default_rng(28), getattr(numbapool, f"{name}_pool2d"), getattr(numbapool, f"{name}_pool2d_backward")
    for kernel, stride, padding in ((2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 0))[:1 if name == "sort" else 4]:
        places = [(n + 2 * padding - kernel) // stride + 1 for n in (11, 35)]
        shape, outputs = ((2, *size, 18) if last else (2, 6, *size) for size in ((11, 35), places))
        x, g, samples = rng.random(shape, np.float32), rng.standard_normal(outputs, np.float32), rng.random(outputs)
        leading = {"lip": [rng.standard_normal(shape, np.float32)], "sort": [np.array([0.3, -1.0, 2.0, 0.1])]}.get(name, [])

        def both(n, x=x, g=g, samples=samples, leading=leading, window=(kernel, stride, padding)):
            """y and the gradients of the n-th inputs."""
            args, own = (x[n], *(v[n] if v.ndim == 4 else v for v in leading), *window), {"samples": samples[n]} if "stochastic" in name else {}
            y, grads = (call(*args, channels_last=last, **own) for call in (forward, functools.partial(backward, g[n])))
            return [y, *(v for v in (grads if isinstance(grads, tuple) else (grads,)) if v.ndim == 4)]

        usual, made = zip(both(slice(1)), both(slice(1, 2)), strict=True), []
        with monkeypatch.context() as patch:
            patch.setattr(plan, "ASK_FROM", 0)
            patch.setattr(plan.Buffer, "plan", lambda *a, made=made, closed=plan.Buffer.plan: made.append(closed(*a)) or made[-1])
            asking = both(slice(2))  # of another shape, so that the plans are others
        assert made and all(p.integers[layout.ASK] > 0 for p in made)
        for parts, whole in zip(usual, asking, strict=True):
            np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.jit
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_indices_inside_and_outside_of_windows_side_by_side(dtype, last):
    """Planes whose indices name elements of their own windows, and planes where one or all name others; odd sizes, long rows, one lane more."""
    rng = np.random.default_rng(20)
    shapes = (2, 3, 4, 6), (2, 2, 5, 37), (1, 2, 3, 2603), (2, 67, 5, 7), (1, 1, 2, 2), (1, 130, 2, 33), (1, LANES + 1, 3, 5), (2, 2, 1, 38)
    for shape, kernel in itertools.product(shapes, (2, (1, 2))):
        if kernel == 2 and shape[2] == 1:
            continue
        x = rng.standard_normal(shape).astype(dtype)
        y, index = numbapool.max_pool2d(x, kernel, return_indices=True)
        g = rng.integers(-5, 6, y.shape).astype(dtype)
        one, every = index.copy(), index.copy()
        one[-1, -1, -1, -1], one[0, 0, 0, 0] = 0, shape[2] * shape[3] - 1
        every[-1] = rng.integers(0, shape[2] * shape[3], every[-1].shape)
        order = functools.partial(np.moveaxis, source=1, destination=-1) if last else np.asarray
        back = functools.partial(np.moveaxis, source=-1, destination=1) if last else np.asarray
        given = [np.ascontiguousarray(order(v)) for v in (g, x)]
        for i in (index, one, every):
            j = np.ascontiguousarray(order(i))
            got = numbapool.max_pool2d_backward(*given, kernel, indices=j, channels_last=last)
            np.testing.assert_array_equal(back(got), indices_of(x, i, g.astype(np.float64))[1])
            whole = numbapool.max_unpool2d(given[0], j, kernel, output_size=shape[2:], channels_last=last)
            placed = np.zeros((shape[0] * shape[1], shape[2] * shape[3]), dtype)
            for p, (places, values) in enumerate(zip(i.reshape(len(placed), -1), g.reshape(len(placed), -1), strict=True)):
                for place, value in zip(places, values, strict=True):  # the last one stays
                    placed[p, place] = value
            np.testing.assert_array_equal(back(whole), placed.reshape(shape))
            apart = np.repeat(j, 2, -1)[..., ::2]
            np.testing.assert_array_equal(got, numbapool.max_pool2d_backward(*given, kernel, indices=apart, channels_last=last))
        for wrong in (-1, shape[2] * shape[3], 1 << 32):
            one[0, -1, -1, 0] = wrong
            with pytest.raises(ValueError, match="indices must lie between"):
                numbapool.max_pool2d_backward(*given, kernel, indices=np.ascontiguousarray(order(one)), channels_last=last)


@pytest.mark.jit
@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_rows_shorter_than_a_vector_are_done_together(name, scale):
    """Planes with columns and rows that no window covers, to the last element of memory; windows that lie too far from the common reference."""
    rng = np.random.default_rng(31)
    for shape in (2, 3, 4, 6), (1, 2, 7, 7), (2, 1, 14, 14), (1, 3, 28, 28), (1, 1, 131, 5), (1, 2, 300, 30), (1, 2, 3, 31):
        x = rng.standard_normal(shape)
        x[:, -1, shape[2] // 2:] *= scale
        function, args, kwargs, expected = case(name, x, (2, 2, 0))
        y = getattr(numbapool, function)(*args, **kwargs)
        testing.close(y, expected, 32.0)
        g = rng.standard_normal(y.shape)
        grads = getattr(numbapool, f"{function}_backward")(g, *args, **kwargs)
        grad = grads[0] if isinstance(grads, tuple) else grads
        for n, c in itertools.product(range(shape[0]), range(shape[1])):  # each plane by itself, its rows apart in memory
            one = [np.pad(v[n:n + 1, c:c + 1], [(0, 0)] * 3 + [(0, 3)])[..., :shape[3]] if np.ndim(v) == 4 else v for v in args]
            apart = getattr(numbapool, f"{function}_backward")(g[n:n + 1, c:c + 1], *one, **kwargs)
            np.testing.assert_array_equal(grad[n:n + 1, c:c + 1], apart[0] if isinstance(apart, tuple) else apart)


@pytest.mark.jit
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_gradients_of_windows_of_two_planes(dtype, last):
    """2x2x2 windows side by side, whose elements are chosen again, NaN among them, or named by indices, inside of their windows and elsewhere."""
    rng = np.random.default_rng(29)
    for shape in (1, 3, 2, 2, 2), (2, 2, 4, 6, 8), (1, 5, 5, 7, 37), (2, 1, 3, 4, 68), (1, 1, 2, 3, 2603), (1, LANES + 1, 3, 4, 6):
        x = rng.integers(0, 4, shape).astype(dtype)
        x[rng.random(shape) < 0.05] = np.nan
        given = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x
        y, index = numbapool.max_pool3d(given, 2, return_indices=True)
        g, elsewhere = rng.integers(-5, 6, y.shape).astype(dtype), index.copy()
        elsewhere[0, 0] = rng.integers(0, np.prod(shape[2:]), index[0, 0].shape)
        for i, own in ((index, {}), (index, {"indices": index}), (elsewhere, {"indices": elsewhere})):
            found = numbapool.max_pool3d_backward(g, given, 2, **own)
            np.testing.assert_array_equal(found, indices_of(x, i, g.astype(np.float64))[1])
        index[0, -1, 0, 0, 0] = np.prod(shape[2:])
        with pytest.raises(ValueError, match="indices must lie between"):
            numbapool.max_pool3d_backward(g, given, 2, indices=index)


@pytest.mark.jit
@pytest.mark.parametrize(("name", "dtype"), by_dtype(POOLINGS, ["float16", "float32"]))
def test_a_lane_more_than_are_taken_at_once(name, dtype):
    """The last group of channels is then a single lane, which is no row of windows; of half types in large planes groups are of 16."""
    rng, (leading, own) = np.random.default_rng(30), POOLINGS[name]
    forward, backward = (getattr(numbapool, f"{name.partition('/')[0]}_pool2d{way}") for way in ("", "_backward"))
    for shape in ((1, 17, 256, 257),) if dtype == "float16" else ((2, LANES + 1, 5, 8), (1, 2 * LANES + 1, 4, 4)):
        x, logit = (rng.random(shape) + 0.5).astype(dtype), rng.standard_normal(shape).astype(dtype)
        for window in ((2, 2, 0), (3, 2, 1), (2, 1, 0))[:1 if name == "sort" else 3]:
            found = []
            for last in (False, True):
                order = (lambda v: np.ascontiguousarray(np.moveaxis(v, 1, -1))) if last else np.asarray
                args = (order(x), *((order(logit),) if leading == "logit" else leading), *window)
                y = forward(*args, **own, channels_last=last)
                g = (np.arange(y.size) % 7).astype(dtype).reshape(np.moveaxis(y, -1, 1).shape if last else y.shape)
                grad = backward(order(g), *args, **own, channels_last=last)
                found.append([np.moveaxis(v, -1, 1) if last else v for v in (y, grad[0] if isinstance(grad, tuple) else grad)])
            for a, b in zip(*found, strict=True):
                testing.close(a, np.asarray(b, np.float64), 16.0)


@pytest.mark.jit
@pytest.mark.parametrize("last", [False, True])
def test_places_of_64_bits(last, monkeypatch):
    """Planes of 2^31 elements keep their places in 64 bits; smaller ones, here by decree, find the same."""
    x = np.random.default_rng(14).integers(0, 9, (3, 5, 9, 21) if last else (3, 2, 9, 45)).astype(np.float32)
    given = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x
    for window in ((2, 2, 0), (3, 2, 1), (4, 1, 2), (4, 3, 0)):
        made = []
        for wide, part in ((False, given[:2]), (True, given[1:2])):  # of other shapes, so that the calls are prepared anew
            monkeypatch.setattr(numbapool.families.Select, "wide", staticmethod(lambda call, wide=wide: wide))
            y, index = numbapool.max_pool2d(part, *window, return_indices=True)
            backward = functools.partial(numbapool.max_pool2d_backward, y, part, *window)
            made.append([r[-1] for r in (y, index, backward(), backward(indices=index))])
        for a, b in zip(*made, strict=True):
            np.testing.assert_array_equal(a, b)


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
        turned = y.nbytes if name == "gem" and direction == "backward" else 0  # dp of every window, before they are summed
        assert peak - kept - turned < x.nbytes / 8, f"{window}: {peak - kept} bytes"


@pytest.mark.jit
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", ["sort", "stochastic"])
def test_2x2_windows_in_registers_give_what_any_others_do(name, dtype):
    """Ties, NaN and infinities; rows below, off and far above a vector's width; the same elements two apart take the general loops."""
    rng = np.random.default_rng(11)
    forward, backward = getattr(numbapool, f"{name}_pool2d"), getattr(numbapool, f"{name}_pool2d_backward")
    for shape in ((2, 3, 5, 7), (1, 5, 6, 34), (2, 18, 4, 41), (1, 150, 3, 5), (1, 2, 2, 602)):
        x = rng.integers(-3, 4, shape).astype(dtype)
        x.flat[rng.integers(0, x.size, 3)] = NAN, INF, -INF
        g = rng.standard_normal((*shape[:2], shape[2] // 2, shape[3] // 2)).astype(dtype)
        leading, own = {"sort": ([(np.array([0.3, -1.0]),), (rng.standard_normal((shape[1], 4)),)], {}), "stochastic": ([()], {"seed": 3})}[name]
        for last, args in itertools.product((False, True), leading):
            u, h = (np.ascontiguousarray(np.moveaxis(v, 1, -1)) if last else v for v in (x, g))
            apart = np.zeros((*u.shape[:3], 2 * u.shape[3]), dtype)
            apart[..., ::2] = u
            kwargs = {**own, "channels_last": last}
            testing.close(forward(u, *args, 2, **kwargs), forward(apart[..., ::2], *args, 2, **kwargs), 4.0)
            with np.errstate(invalid="ignore"):
                got, expected = (backward(h, v, *args, 2, **kwargs) for v in (u, apart[..., ::2]))
            if name == "sort":
                np.testing.assert_allclose(got[1], expected[1], 1e-11 if dtype == "float64" else 1e-5)
                got, expected = got[0], expected[0]
            else:
                indices = forward(u, 2, return_indices=True, **kwargs)[1]
                np.testing.assert_array_equal(indices, forward(apart[..., ::2], 2, return_indices=True, **kwargs)[1])
                np.testing.assert_array_equal(got, backward(h, u, 2, indices=indices, channels_last=last))
            np.testing.assert_array_equal(got, expected)


@pytest.mark.jit
@pytest.mark.parametrize(("name", "dtype"), by_dtype(["gem", "lse", "auto"], FLOATING, ("lse",)))
def test_gradients_of_parameters_of_small_windows(name, dtype):
    """One number or one a channel, of windows near the common reference and of planes far from it; the same elements two apart take other loops."""
    rng, parameter = np.random.default_rng(19), {"gem": "p", "lse": "r", "auto": "alpha"}[name]
    forward, backward = getattr(numbapool, f"{name}_pool2d"), getattr(numbapool, f"{name}_pool2d_backward")
    rounding = 1e-11 if dtype == "float64" else 3e-5
    for shape, kernel, stride in (((2, 3, 5, 7), 2, 2), ((1, 5, 18, 70), 2, 2), ((1, 2, 4, 2400), 2, 2), ((2, 70, 4, 6), 2, 2), ((1, 3, 9, 41), 3, 2),
                                  ((2, 3, 7, 38), 3, 1), ((1, 19, 5, 7), (5, 7), 1)):
        x = rng.standard_normal(shape).astype(dtype)
        x[0, 1] *= 90
        for value in (1.5, rng.random(shape[1]) + 0.5):
            own = {"kernel_size": kernel, "stride": stride, parameter: value}
            g = rng.standard_normal(forward(x, **own).shape).astype(dtype)
            for last in (False, True):
                u, h = (np.ascontiguousarray(np.moveaxis(v, 1, -1)) if last else v for v in (x, g))
                apart = np.zeros((*u.shape[:3], 2 * u.shape[3]), dtype)
                apart[..., ::2] = u
                got, expected = (backward(h, v, **own, channels_last=last) for v in (u, apart[..., ::2]))
                testing.close(got[0], expected[0].astype(np.float64), 8 * np.abs(h).max())
                scale = np.abs(expected[1]).max() + 1
                np.testing.assert_allclose(got[1] / scale, expected[1] / scale, 0, rounding, err_msg=f"{shape} {value} {last}")


@pytest.mark.parametrize("across", [2, 5])
@pytest.mark.parametrize(("name", "dtype"), by_dtype(["soft", "swap", "lip", "lp", "gem", "avg"], ["float32", "float64"]))
def test_elements_that_no_window_covers_have_no_gradient(name, dtype, across):
    """Whatever they are: what is lifted and then belongs to no window must not come back as 0 times infinity."""
    for special in (NAN, INF, 300.0, 1e-30, -INF):
        x = (np.random.default_rng(13).random((1, 2, 7, 51)) + 0.5).astype(dtype)
        covered = np.zeros(x.shape, bool)
        covered[..., ::3, ::across] = True
        x[~covered] = special
        stride = (3, across)
        args = (x, x.copy(), 1, stride) if name == "lip" else (x, 2.5, 1, stride) if name == "lp" else (x, 1, stride)
        kwargs = {"norm": "sum"} if name == "lp" else {"padding": 0} if name == "lip" else {}
        y = getattr(numbapool, f"{name}_pool2d")(*args, **kwargs)
        grads = getattr(numbapool, f"{name}_pool2d_backward")(np.ones_like(y), *args, **kwargs)
        for grad in grads if isinstance(grads, tuple) else (grads,):
            if grad.ndim == 4:
                np.testing.assert_array_equal(grad[~covered], 0)
                assert np.isfinite(grad).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["avg", "max", "min"])
def test_long_rows_seen_as_many(name, dtype):
    """Windows side by side in a row of thousands, of one axis, give what the same elements as rows of 64 give."""
    x = np.random.default_rng(14).standard_normal((2, 3, 64 * 70)).astype(dtype)
    forward, backward = getattr(numbapool, f"{name}_pool1d"), getattr(numbapool, f"{name}_pool1d_backward")
    for given in (x, np.repeat(x, 2, 1)[:, ::2], x[..., ::-1]):
        y = forward(given, 2)
        rows = np.ascontiguousarray(given).reshape(2 * 3 * 70, 1, 64)
        np.testing.assert_array_equal(y, forward(rows, 2).reshape(y.shape))
        g = np.random.default_rng(15).standard_normal(y.shape).astype(dtype)
        whole = backward(g, given, 2)
        np.testing.assert_array_equal(whole, backward(g.reshape(2 * 3 * 70, 1, 32), rows, 2).reshape(x.shape))


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("name", ["mixed", "gated", "ada", "blur", "max_blur", "dpp"])
def test_composed_poolings_in_parts(monkeypatch, name, dtype):
    """Some entries of the batch at a time give what all together give; gradients of parameters are sums."""
    for e in examples(name, 2, few=True):
        x = np.concatenate([e.x, e.x[:1] * 2]).astype(dtype)  # an odd number of entries, none like another
        for given in (x, np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)):
            results = []
            for part in (1 << 21, 2 * given[:1].size * 4, 1):
                monkeypatch.setattr(composed, "PART", part)
                y = e.forward(given, *e.args, **e.kwargs)
                g = np.random.default_rng(16).standard_normal(y.shape).astype(dtype)
                made = e.backward(g, given, *e.args, **e.kwargs)
                out = np.empty_like(y)
                e.forward(given, *e.args, **e.kwargs, out=out)
                np.testing.assert_array_equal(out, y)
                results.append([y, *(made if isinstance(made, tuple) else (made,))])
            for others in results[1:]:
                for one, other in zip(results[0], others, strict=True):
                    assert one.dtype == other.dtype
                    np.testing.assert_allclose(one, other, *((1e-12, 1e-12) if dtype == "float64" else (2e-3, 2e-3)), err_msg=e.label)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tall_planes_are_read_in_turn(dtype):
    """One window over many rows that lie one behind the other: every row counts once, in blocks and in the rest."""
    for shape in ((1, 2, 512, 512), (2, 1, 37, 1999), (1, 1, 15, 1999), (1, 1, 16, 1999)):
        x = np.random.default_rng(17).standard_normal(shape).astype(dtype)
        x[..., -1, -1], x[..., -1, 0] = 50, -50  # in the last row
        for name in ("max", "min", "avg"):
            expected = {"max": np.max, "min": np.min, "avg": np.mean}[name](x.astype(np.float64), (2, 3), keepdims=True)
            np.testing.assert_allclose(getattr(numbapool, f"global_{name}_pool2d")(x), expected, 1e-5, 1e-6)


@pytest.mark.jit
@pytest.mark.parametrize(("name", "dtype"), by_dtype(["max", "avg", "soft", "lip", "lp", "gem", "stochastic"], ["float32", "float16"]))
def test_whole_planes(name, dtype):
    """Windows that are planes, of which many are taken together: huge, tiny and usual ones, none of which changes its neighbours."""
    sizes = {"lip": [1.0], "stochastic": [3.0]}.get(name, [300.0, 1.0, 1e-3] if dtype == "float16" else [1e4, 1.0, 1e-12])
    for planes, spatial in itertools.product((1, 19, 37), ((1, 1), (2, 2), (3, 5), (4, 4), (7, 7), (9, 15), (3, 700))):
        rng = np.random.default_rng(planes)
        x = (rng.standard_normal((2, planes, *spatial)) * rng.choice(sizes, (2, planes, 1, 1))).astype(dtype)
        if name == "stochastic":
            x = abs(x)
        function, args, kwargs, expected = case(name, x.astype(np.float64), (spatial, spatial, 0), dtype=dtype)
        forward, backward = getattr(numbapool, function), getattr(numbapool, function + "_backward")
        y = forward(*args, **kwargs)
        scale = np.abs(x.astype(np.float64)).max((2, 3), keepdims=True)
        testing.close(y, expected, 4 * scale)
        some = [a[:, 1:] if np.ndim(a) == 4 else a for a in args]
        if planes > 1:
            np.testing.assert_array_equal(forward(*some, **kwargs), y[:, 1:])
        g = testing.upstream(y)
        other = case(name, x.astype(np.float64), (spatial, spatial, 0), True, dtype)[1]
        taken = {k: v for k, v in kwargs.items() if k != "channels_last"}
        one = backward(g, *args, **taken)
        two = backward(np.ascontiguousarray(np.moveaxis(g, 1, -1)), *other, **taken, channels_last=True)
        for a, b, s in zip(one if isinstance(one, tuple) else [one], two if isinstance(two, tuple) else [two], (1.0, scale), strict=False):
            if np.ndim(a) == 4:
                testing.close(a, np.moveaxis(b, -1, 1), 4 * np.maximum(abs(g.astype(np.float64)) * s, 1e-30), name)


@pytest.mark.jit
@pytest.mark.parametrize("channels", [1, 3, 16, 40, 130])
def test_three_by_three_windows_with_channels_as_lanes(channels):
    """Bit for bit what windows as lanes give, whatever lies between the windows, and with NaN and padding anywhere."""
    rng = np.random.default_rng(31)
    for width, stride, dilation, padding in ((70, 1, 1, 1), (70, 2, 1, 1), (41, 3, 1, 0), (33, 4, 1, 1), (50, 7, 1, 0), (40, 1, 2, 2), (37, 2, 2, 1),
                                             (3, 1, 1, 1), (1, 1, 1, 1), (24, 5, 3, 2)):
        x = rng.integers(-20, 20, (2, channels, 7 if dilation < 3 else 9, width)).astype(np.float32) / 8
        x[rng.random(x.shape) < 0.02] = NAN
        last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        for name in ("max", "min", "avg", "sum"):
            pool = getattr(numbapool, f"{name}_pool2d")
            expected = pool(x, 3, stride, padding, dilation=dilation)
            got = pool(last, 3, stride, padding, dilation=dilation, channels_last=True)
            np.testing.assert_array_equal(np.moveaxis(got, -1, 1), expected, f"{name} {width} {stride} {dilation} {padding}")
            if name in ("avg", "sum"):
                g, back = rng.integers(-20, 20, expected.shape).astype(np.float32) / 8, getattr(numbapool, f"{name}_pool2d_backward")
                expected = back(g, x, 3, stride, padding, dilation=dilation)
                got = back(np.ascontiguousarray(np.moveaxis(g, 1, -1)), last, 3, stride, padding, dilation=dilation, channels_last=True)
                testing.close(np.moveaxis(got, -1, 1), expected, 0.0 if name == "sum" else 4.0)  # those of sums are exact
        expected = numbapool.max_pool2d(x, 3, stride, padding, dilation=dilation, return_indices=True)
        got = numbapool.max_pool2d(last, 3, stride, padding, dilation=dilation, return_indices=True, channels_last=True)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(np.moveaxis(a, -1, 1), b)
