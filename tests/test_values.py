"""NaN, infinities, ties and all-zero windows: SEMANTICS' rules, in every dtype and memory order, at every position of a vector."""
from __future__ import annotations

import warnings

import numpy as np
import pytest
from cases import CASES

import numbapool
from numbapool.testing import TOLERANCE

INF, NAN = np.inf, np.nan
LENGTH = 2 * 37  # windows side by side: vector bodies and their remainders
DTYPES = ["float64", "float32", "float16", "bfloat16"]


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
@pytest.mark.parametrize("name", [n for n in CASES if n not in ("max_unpool", "s3", "fractional_max", "fractional_avg", "blur", "dpp")])
def test_large_windows_are_accurate(name):
    """One float32 window of 2^18 elements stays within a few ulp of float64."""
    x = np.random.default_rng(3).random((1, 1, 512, 512)) + 0.5
    small = x.astype(np.float32)
    args = {"lip": (small,), "sort": (np.zeros(7),), "ordinal": (np.arange(7.0),), "lp": (2.0,),
            "mixed": (0.5,), "gated": (np.full((512, 512), 1e-6),), "ada": (0.5,)}.get(name, ())
    wide = tuple(a.astype(np.float64) if a is small else a for a in args)
    own = {"stochastic": {"training": False}, "lp": {"norm": "mean"}, "auto": {"alpha": 1.0}, "rank": {"t": 1000}}.get(name, {})
    everywhere_else = hasattr(numbapool, f"global_{name}_pool2d")
    f = getattr(numbapool, f"global_{name}_pool2d" if everywhere_else else f"{name}_pool2d")
    window = () if everywhere_else else (512,)
    y, expected = f(small, *args, *window, **own), f(small.astype(np.float64), *wide, *window, **own)
    np.testing.assert_allclose(y, expected, 2e-6)
