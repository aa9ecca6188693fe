"""NaN, infinities, ties and all-zero windows: SEMANTICS' rules, in every dtype and memory order, at every position of a vector."""
from __future__ import annotations

import warnings

import numpy as np
import oracle
import pytest
from cases import CASES

import numbapool
from numbapool import testing
from numbapool.testing import TOLERANCE

INF, NAN = np.inf, np.nan
KNOWN = {"ignore_nan": True}
LENGTH = 2 * 37  # windows side by side: vector bodies and their remainders
DTYPES = ["float64", "float32", "float16", pytest.param("bfloat16", marks=pytest.mark.full)]


def kind_of(dtype: str):
    return pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)


def everywhere(f, window, dtype, place=None):
    """The results of f for a plain signal with one special window, for each place of it, in both memory orders."""
    results = []
    width = len(window)
    for last in (False, True):
        for at in range(0, 37, 5) if place is None else place:
            x = np.linspace(0.5, 1.5, 37 * width).reshape(1, 1, -1)
            x[0, 0, at * width:(at + 1) * width] = window
            if last:  # channels are the vector axis: the signal's windows become channels
                y = f(np.ascontiguousarray(x.reshape(1, 37, width).transpose(0, 2, 1)).astype(kind_of(dtype)), width, channels_last=True)[0, 0]
            else:
                y = f(x.astype(kind_of(dtype)), width)[0, 0]
            y = np.asarray(y, np.float64)
            others = np.delete(y, at)
            assert np.isfinite(others).all()
            results.append(float(y[at]))
    return results


RULES = [  # pooling, own parameters, window, y
    ("max", {}, [1, NAN, 3], NAN), ("max", {}, [-INF, -INF, -INF], -INF), ("max", {}, [1, INF, 3], INF),
    ("min", {}, [1, NAN, 3], NAN), ("min", {}, [INF, INF, INF], INF), ("min", {}, [1, -INF, 3], -INF),
    ("avg", {}, [1, NAN, 3], NAN), ("avg", {}, [1, INF, 3], INF), ("avg", {}, [-INF, INF, 3], NAN),
    ("max", KNOWN, [1, NAN, 3], 3), ("max", KNOWN, [NAN, -INF, NAN], -INF), ("max", KNOWN, [NAN] * 3, NAN),
    ("min", KNOWN, [NAN, 2, 3], 2), ("min", KNOWN, [NAN, INF, NAN], INF), ("min", KNOWN, [NAN] * 3, NAN),
    ("avg", KNOWN, [1, NAN, 4], 2.5), ("avg", KNOWN, [NAN] * 3, NAN), ("avg", KNOWN, [1, NAN, INF], INF),
    ("avg", {**KNOWN, "divisor_override": 2}, [1, NAN, 4], 2.5), ("avg", {**KNOWN, "divisor_override": 2}, [NAN] * 3, 0),
    ("sum", {}, [1, 2, 4], 7), ("sum", {}, [1, NAN, 4], NAN), ("sum", {}, [INF, 1, -INF], NAN), ("sum", KNOWN, [1, NAN, 4], 5),
    ("sum", KNOWN, [NAN] * 3, 0), ("sum", KNOWN, [NAN, INF, 1], INF),
    ("std", {}, [1, 4, 4], 2**.5), ("std", {"correction": 1}, [1, 4, 4], 3**.5),
    ("std", {}, [2, 2, 2], 0), ("std", {}, [1, NAN, 4], NAN), ("std", {}, [1, INF, 4], NAN), ("std", KNOWN, [1, NAN, 4], 1.5),
    ("std", {**KNOWN, "correction": 1}, [1, NAN, 4], 4.5**.5), ("std", {**KNOWN, "correction": 1}, [NAN, NAN, 4], NAN),
    ("std", KNOWN, [NAN, 4, NAN], 0), ("std", KNOWN, [NAN] * 3, NAN), ("std", KNOWN, [NAN, INF, 1], NAN), ("std", {}, [64, 64, 67], 2**.5),
    ("mode", {}, [3, 1, 3], 3), ("mode", {}, [3, 1, 2], 1), ("mode", {}, [4, 2, 2, 4], 2), ("mode", {}, [1, NAN, 1], NAN),
    ("mode", {}, [INF, 1, INF], INF), ("mode", {}, [5, -INF, 5, -INF, 1], -INF),
    ("soft", {}, [1, NAN, 3], NAN), ("soft", {}, [1, -INF, 1], 1), ("soft", {}, [-INF] * 3, -INF), ("soft", {}, [1, INF, -INF], INF),
    ("soft", {}, [3e4, 3e4, 3e4], 3e4), ("soft", {}, [-3e4, 3e4, 0], 3e4), ("soft", {"temperature": 0.01}, [1, 2, 3], 3),
    ("swap", {}, [1, NAN, 3], NAN), ("swap", {}, [1, -INF, 1], 1), ("swap", {}, [INF, 1, INF], INF),
    ("lp2", {}, [0, 0, 0], 0), ("lp2", {}, [NAN, 0, 1], NAN), ("lp2", {}, [1, -INF, 2], INF), ("lp2", {}, [3e4, 4e4, 0], 5e4),
    ("lp2", {}, [-3, 4, 0], 5), ("lp1", {}, [1, -2, 3], 6), ("lp.5", {}, [0, 4, 0], 4),
    ("gem", {}, [0, 0, 0], 1e-6), ("gem", {}, [-5, NAN, 1], NAN), ("gem", {}, [1, INF, 1], INF), ("gem", {}, [2, 2, 2], 2),
    ("lse", {}, [1, NAN, 3], NAN), ("lse", {}, [-INF] * 3, -INF), ("lse", {}, [1, INF, -INF], INF), ("lse", {}, [3e4, 3e4, 3e4], 3e4),
    ("lse", {}, [-INF, 2, 2], 2 + np.log(2 / 3)),
    ("lse", {"r": 1e-3}, [1, 2, 3], 1e3 * np.log(np.exp([1e-3, 2e-3, 3e-3]).mean())), ("lse", {"r": 1e4}, [-1, -2, -3], -1 - np.log(3) / 1e4),
    ("lse", {}, [1e-3, 3e-3, 2e-3], np.log(np.exp([1e-3, 2e-3, 3e-3]).mean())), ("lse", {}, [-3e4, -3e4, -3e4], -3e4),
    ("auto", {"alpha": -1}, [1, NAN, 3], NAN), ("auto", {"alpha": 0.0}, [1, 2, 6], 3), ("auto", {"alpha": 0.0}, [1, -INF, 3], -INF),
    ("auto", {"alpha": 0.0}, [1, INF, 3], INF), ("auto", {"alpha": 2}, [1, -INF, 1], 1), ("auto", {"alpha": -2}, [1, -INF, 1], -INF),
    ("auto", {"alpha": -2}, [1, INF, 1], 1), ("auto", {"alpha": -1}, [3e4, -3e4, 1e4], -3e4), ("auto", {"alpha": -1}, [INF] * 3, INF),
    ("mixed", {}, [1, NAN, 3], NAN), ("mixed", {}, [1, 3, 5], 4), ("mixed", {}, [1, INF, 3], INF), ("mixed", {}, [-INF] * 3, -INF),
    ("gated", {}, [1, NAN, 3], NAN), ("gated", {}, [1, 3, 5], 4), ("gated", {}, [0, 0, 0], 0),
    ("ada", {}, [1, NAN, 3], NAN), ("ada", {}, [0, 0, 0], 0), ("ada", {}, [2, 2, 2], 2), ("ada", {}, [1, INF, 3], INF),
    ("ada", {}, [3e4, 3e4, 3e4], 3e4), ("ada", {}, [-INF] * 3, -INF),
    ("idw", {}, [1, NAN, 3], NAN), ("idw", {}, [1, 2, 3], 2), ("idw", {}, [0, 0, 6], 1.2), ("idw", {}, [2, 2, 2], 2), ("idw", {}, [1, INF, 3], INF),
    ("idw", {}, [-INF, INF, 3], NAN), ("idw", {}, [3e4, 3e4, 3e4], 3e4),
    ("rank", {"t": 2}, [1, 5, 3], 4), ("rank", {"t": 2}, [1, NAN, 3], NAN), ("rank", {"t": 1}, [INF, -INF, 3], INF),
    ("rank", {"t": 2}, [2, -INF, 4], 3), ("rank", {"t": 9}, [1, 5, 3], 3), ("rank", {"alpha": 0.5}, [4, 8, 16], 10.5),
    ("rank", {"alpha": 1.0}, [2, -INF, 4], 4), ("median", {}, [1, 5, 3], 3), ("median", {}, [4, 1, 3, 2], 2), ("median", {}, [1, NAN, 3], NAN),
    ("median", {}, [INF, -INF, 3], 3), ("median", {}, [-INF, -INF, 3], -INF), ("median", {}, [5, 5, 5, 1, 1], 5),
    ("stochastic", {"training": False}, [0, 0, 0], 0), ("stochastic", {"training": False}, [-1, -2, 0], 0),
    ("stochastic", {"training": False}, [1, NAN, 0], NAN), ("stochastic", {"training": False}, [1, INF, 2], INF),
    ("stochastic", {"training": False}, [-9, 2, 2], 2), ("stochastic", {"seed": 1}, [0, 0, 0], 0), ("stochastic", {"seed": 1}, [-2, -1, -3], -2),
    ("stochastic", {"seed": 1}, [1, NAN, 0], NAN), ("stochastic", {"seed": 1}, [1, INF, 2], INF), ("stochastic", {"seed": 1}, [-1, 2, -1], 2),
    ("sort", {}, [1, 1, NAN], NAN), ("sort", {}, [1, 1, INF], INF), ("sort1", {}, [1, 2, NAN], NAN), ("sort1", {}, [1, 2, 3], 3),
    ("s3", {"seed": 0}, [1, NAN, 3], NAN), ("fractional_avg", {}, [1, NAN, 3], NAN), ("fractional_max", {}, [1, 2, -INF], 2),
]


def function(name, own):
    """A pooling as f(x, kernel_size), with the parameters of a rule."""
    if name.startswith("lp"):
        return lambda x, k, **kw: numbapool.lp_pool1d(x, float(name[2:]), k, **kw)
    if name.startswith("sort"):
        return lambda x, k, **kw: numbapool.sort_pool1d(x, np.zeros(int(name[4:] or 3)), k, **kw)
    leading = {"mixed": 0.5, "ada": 0.25, "gated": np.zeros(3)}
    if name in leading:
        return lambda x, k, **kw: getattr(numbapool, f"{name}_pool1d")(x, leading[name], k, **kw)
    if name.startswith("fractional"):
        f = getattr(numbapool, f"{name}_pool1d")

        def cut(x, k, **kw):
            n = x.shape[1 if kw else 2]
            return f(x, sequences=[np.arange(0, n + 1, k)], **kw)
        return cut
    f = getattr(numbapool, f"{name}_pool1d")
    if name == "s3":
        return lambda x, k, **kw: f(x, k, indices=[np.arange(0, x.shape[1 if kw else 2], k)], **kw)
    return lambda x, k, **kw: f(x, k, **own, **kw)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "own", "window", "expected"), RULES)
def test_rules(name, own, window, expected, dtype):
    if dtype == "float16" and name == "gem" and expected == 1e-6:
        expected = float(np.float16(1e-6))
    rtol, _ = TOLERANCE[dtype]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # casts of NaN in NumPy
        for got in everywhere(function(name, own), window, dtype):
            np.testing.assert_allclose(got, expected, 4 * rtol, 1e-7 if dtype == "float16" else 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_last_nan_and_the_first_of_equals_are_chosen(dtype):
    kind = kind_of(dtype)
    for f in (numbapool.max_pool1d, numbapool.min_pool1d):
        for window, place in (([1, NAN, NAN, 0], 2), ([2, 2, 2, 2], 0), ([NAN, 1, 2, 3], 0), ([0.0, -0.0, 0.0, -0.0], 0)):
            for last in (False, True):
                x = np.tile(np.array(window, np.float64), 37)[None, None].astype(kind)
                index = f(np.ascontiguousarray(x.transpose(0, 2, 1)) if last else x, 4, channels_last=last, return_indices=True)[1]
                np.testing.assert_array_equal(index.ravel(), np.arange(37) * 4 + place)


WINDOWS = {1: [((2,), {}), ((3, 2, 1), {}), ((4, 3), {"dilation": 2}), ((9, 1, 4), {})],
           2: [((2,), {}), ((3, 2, 1), {}), (((3, 2), 1), {"dilation": 2}), (((7, 5), (2, 1), (3, 2)), {})],
           3: [((2,), {}), ((3, 2, 1), {})]}


def axes_of(spatial, args, kwargs):
    kernel, stride, padding = (*args, *(None, 0)[len(args) - 1:])
    return oracle.sliding_axes(spatial, kernel, stride, padding, **kwargs)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", *(pytest.param(d, marks=pytest.mark.full) for d in ("float64", "float16"))])
@pytest.mark.parametrize("name", ["avg", "sum", "std", "max", "min"])
def test_nan_is_left_out(name, dtype, channels_last):
    """By loops of every kind, windows without a number and without a NaN among them; gradients are those of the numbers, and 0 for NaN."""
    formula = {"max": oracle.maximum, "min": oracle.minimum, "sum": oracle.total}.get(name) or getattr(oracle, name)
    rng, rtol = np.random.default_rng(0), TOLERANCE[dtype][0]
    for ndim in (1, 2, 3) if dtype == "float32" else (2,):
        shape = (2, 3, *((61,), (13, 22), (5, 6, 8))[ndim - 1])
        x = (rng.integers(-40, 40, shape) / 8).astype(dtype)
        x[rng.random(shape) < 0.4] = NAN
        x[0, 0, ..., :9], x[1, 1] = NAN, 1
        memory = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if channels_last else x
        for args, kwargs in WINDOWS[ndim]:
            axes = axes_of(shape[2:], args, kwargs)
            own = dict(channels_last=channels_last, ignore_nan=True, **kwargs, **({"count_include_pad": False} if name == "avg" else {}))
            f, back = (getattr(numbapool, f"{name}_pool{ndim}d{b}") for b in ("", "_backward"))
            wanted = oracle.pool(lambda v, *n: oracle.known(formula, v, *n) if name != "avg" else oracle.known_avg(v, *n, True), x, axes,
                                 *([oracle.divisors(axes, False)] if name == "avg" else []), return_indices=name in ("max", "min"))
            got = f(memory, *args, **own, **({"return_indices": True} if name in ("max", "min") else {}))
            index = got[1] if name in ("max", "min") else None
            y, *more = (np.moveaxis(a, -1, 1) if channels_last else a for a in (got if isinstance(got, tuple) else (got,)))
            expected = wanted[0] if isinstance(wanted, tuple) else wanted
            np.testing.assert_allclose(y.astype(np.float64), expected, 4 * rtol, 8 * rtol, err_msg=f"{name}{ndim}d {args}")
            if more:
                np.testing.assert_array_equal(more[0], wanted[1])
            numbers = ~np.isnan(expected)
            assert numbers.any() and (name == "sum" or not numbers.all())
            grad = np.where(np.isnan(y), 0, testing.upstream(y)).astype(dtype)
            g = np.ascontiguousarray(np.moveaxis(grad, 1, -1)) if channels_last else grad
            found = [np.moveaxis(a, -1, 1) if channels_last else a for a in (back(g, memory, *args, **own), *(
                [back(g, memory, *args, **own, indices=index)] if more else []))]
            for grad_x in found:
                known = ~np.isnan(x)
                assert (grad_x[~known & (grad_x != 0)].size == 0) or more  # the first of a window of NaNs gets its g, which is 0 here
                expected_gradient = slopes(name, x.astype(np.float64), axes, grad.astype(np.float64))
                np.testing.assert_allclose(grad_x.astype(np.float64), expected_gradient, 8 * rtol, 40 * rtol, err_msg=f"{name}{ndim}d {args}")


def slopes(name, x, axes, g):
    """The gradient, window by window, by its definition."""
    result = np.zeros(x.shape)
    for at in np.ndindex(g.shape):
        places = np.ix_(*(axis[o][0] for axis, o in zip(axes, at[2:], strict=True)))
        window = x[at[:2]][places]
        known = ~np.isnan(window)
        n = known.sum()
        if not n:
            continue
        v, own = window[known], np.zeros(window.shape)
        if name in ("max", "min"):
            own.flat[np.flatnonzero(known.ravel() & (window.ravel() == (v.max() if name == "max" else v.min())))[0]] = 1
        elif name == "std":
            own[known] = (v - v.mean()) / (n * v.std()) if v.std() else 0
        else:
            own[known] = 1 if name == "sum" else 1 / n
        result[at[:2]][places] += g[at] * own
    return result


def test_integers_have_no_nan():
    x = np.arange(24, dtype=np.uint8).reshape(1, 1, 4, 6)
    for name in ("avg", "sum", "std", "max", "min"):
        f = getattr(numbapool, f"{name}_pool2d")
        np.testing.assert_array_equal(f(x, 2, ignore_nan=True), f(x, 2))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64", "bool"])
def test_integers_are_summed_exactly(dtype):
    x = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, (1, 2, 9, 34)).astype(dtype)
    if dtype == "int64":
        x[:] += 1 << 60
    for kernel in (2, 3, 9):
        y = numbapool.sum_pool2d(x, kernel)
        h, w = (n // kernel for n in x.shape[2:])
        blocks = x[:, :, :h * kernel, :w * kernel].reshape(1, 2, h, kernel, w, kernel)
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, blocks.astype(np.int64).sum((3, 5)))
    grad = numbapool.sum_pool2d_backward(np.ones((1, 2, 4, 17), np.float64 if dtype == "int64" else np.float32), x, 2)
    np.testing.assert_array_equal(grad, np.arange(9)[:, None] * np.ones(34) < 8 * np.ones((1, 2, 1, 1)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_lp_neither_overflows_nor_underflows(dtype):
    big = float(np.float64(np.finfo(np.float16).max if dtype == "float16" else 1e38)) / 8
    small = 6e-5 if dtype == "float16" else 1e-30
    for scale in (big, small):
        x = np.array([[[3, 4, 0, 0, 5, 12]]], np.float64) * scale / 16
        y = np.asarray(numbapool.lp_pool1d(x.astype(kind_of(dtype)), 2.0, 3), np.float64)
        np.testing.assert_allclose(y[0, 0], np.array([5, 13]) * scale / 16, 2e-2 if dtype in ("float16", "bfloat16") else 1e-6)


def test_soft_is_exact_where_the_original_overflows():
    """SoftPool's own kernel gives 3.4e38, 170.85 and -0.0011 for these."""
    x = np.array([[[100, 1, 1, 1], [88, 88, 88, 88], [-100, -100, -100, -101]]], np.float32)
    np.testing.assert_allclose(numbapool.soft_pool1d(x, 4)[0, :, 0], [100, 88, -100 - np.exp(-1) / (3 + np.exp(-1))], 1e-6)


@pytest.mark.jit
@pytest.mark.parametrize("name", [n for n in CASES if n not in ("max_unpool", "s3", "fractional_max", "fractional_avg", "blur", "max_blur", "dpp",
                                                       "idw")])  # the last: elements nearer to the mean than its rounding decide
def test_large_windows_are_accurate(name):
    """One float32 window of 2^18 elements stays within a few ulp of float64."""
    x = np.random.default_rng(3).random((1, 1, 512, 512)) + 0.5
    small = x.astype(np.float32)
    args = {"lip": (small,), "sort": (np.zeros(7),), "ordinal": (np.arange(7.0),), "lp": (2.0,),
            "mixed": (0.5,), "gated": (np.full((512, 512), 1e-6),), "ada": (0.5,)}.get(name, ())
    wide = tuple(a.astype(np.float64) if a is small else a for a in args)
    own = {"stochastic": {"training": False}, "rank_stochastic": {"training": False}, "lp": {"norm": "mean"}, "auto": {"alpha": 1.0},
           "rank": {"t": 1000}}.get(name, {})
    everywhere_else = hasattr(numbapool, f"global_{name}_pool2d")
    f = getattr(numbapool, f"global_{name}_pool2d" if everywhere_else else f"{name}_pool2d")
    window = () if everywhere_else else (512,)
    y, expected = f(small, *args, *window, **own), f(small.astype(np.float64), *wide, *window, **own)
    np.testing.assert_allclose(y, expected, 2e-6)
