"""The C library through cffi: every example of the registry gives what the just-in-time kernels give, bit for bit where both can."""
from __future__ import annotations

import inspect

import numpy as np
import pytest
from cases import ALL as EVERYWHERE
from cases import CASES, examples
from test_forward import INTEGERS, in_dtype, run

import numbapool
from capi import build, functions
from capi.calls import Capi, load
from numbapool.testing import TOLERANCE

pytestmark = pytest.mark.jit
full = pytest.mark.full  # `make test` builds a library of few kernels (capi.kernels.few), `make test-full` the whole one
ALL = [(name, ndim) for name, ndim in EVERYWHERE if name in functions.poolings()]
DTYPES = ["float32", *(pytest.param(d, marks=full) for d in ("float64", "float16", "bfloat16"))]
COMPOSED = [n for n in functions.poolings() if functions.operation_of(n).formula.family == "composed"]
CHOICES = [n for n in functions.poolings() if examples(n, 2, few=True)[0].integers or n == "s3"]


@pytest.fixture(scope="module")
def capi(library, tmp_path_factory):
    """The library."""
    return Capi(load(tmp_path_factory.mktemp("capi")))


@pytest.fixture(scope="module")
def exact(capi):
    """Whether both fuse multiply-adds, or neither does: then bits are equal, whichever loops and vectors they take."""
    return (capi.ffi.string(capi.lib.numbapool_isa()).decode() == "x86-64") == (build.this_processor() == "x86-64")


def agree(got, expected, dtype: str, exact: bool, label: str) -> None:
    """Equal bits, or equal within the dtype's rounding."""
    assert got.dtype == expected.dtype and got.shape == expected.shape, label
    if exact or dtype in INTEGERS:
        both = (got, expected) if dtype != "bfloat16" else (got.astype(np.float32), expected.astype(np.float32))  # whose NaN is not NumPy's
        np.testing.assert_array_equal(*both, label)
    else:
        rtol, atol = TOLERANCE[dtype]
        np.testing.assert_allclose(got.astype(np.float64), expected.astype(np.float64), rtol, atol, err_msg=label)


def orders(x: np.ndarray) -> list[np.ndarray]:
    """x in channels-first and in channels-last memory, and with gaps."""
    gaps = np.repeat(np.repeat(x, 2, 1), 2, -1)[:, ::2, ..., ::2]
    return [x, np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1), gaps]


def kind_of(dtype: str):
    return pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "ndim"), ALL)
def test_forward(capi, exact, name, ndim, dtype):
    for e in examples(name, ndim, few=dtype != "float64"):
        e = in_dtype(e, kind_of(dtype))
        for x in orders(e.x):
            expected = run(e, x)
            got = capi.forward(e.function, x, *e.args, indexed=e.indexed, **e.kwargs)
            agree(got[0], expected[0], dtype, exact, e.label)
            if e.indexed:
                np.testing.assert_array_equal(got[1], expected[1], e.label)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "ndim"), ALL)
def test_backward(capi, exact, name, ndim, dtype):
    rng = np.random.default_rng(ndim)
    for e in examples(name, ndim, few=dtype != "float64"):
        e = in_dtype(e, kind_of(dtype))
        learns = [p if isinstance(p, str) else list(inspect.signature(e.forward).parameters)[1 + p] for p in e.learns]
        for x in orders(e.x)[:2]:
            y = run(e, x)[0]
            grad = rng.standard_normal(y.shape).astype(y.dtype)
            expected = e.backward(grad, x, *e.args, **e.kwargs)
            expected = list(expected) if isinstance(expected, tuple) else [expected]
            got = capi.backward(e.function, grad, x, *e.args, learns=learns, like=x, **e.kwargs)
            agree(got[0], expected[0], dtype, exact, e.label)
            for g, w in zip(got[1:], expected[1:], strict=True):
                if name == "lip":  # the logits' gradient is one for each element; those of parameters are sums
                    agree(g, w, dtype, exact, e.label)
                    continue
                scale = np.abs(w).astype(np.float64).max() + 1
                np.testing.assert_allclose(g.astype(np.float64) / scale, w.astype(np.float64) / scale,
                                           *TOLERANCE["float64" if dtype == "float64" else "float32"], err_msg=e.label)


BUNDLED = {  # own parameters
    "max": {}, "min": {}, "avg": {}, "soft": {"temperature": 0.5}, "lip": {}, "lp": {"norm_type": 2.0}, "gem": {}, "std": {}, "idw": {},
    "median": {}, "mode": {}, "stochastic": {"training": False},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1), (3, 1, 1), (4, 3, 0)])
@pytest.mark.parametrize("name", BUNDLED)
def test_bundles_of_small_planes(capi, exact, name, window, dtype):
    """More planes than a bundle has, some out of the common reference's reach, in memory with gaps and without."""
    rng, kind = np.random.default_rng(5), kind_of(dtype)
    own = {**dict(zip(("kernel_size", "stride", "padding"), window, strict=True)), **BUNDLED[name]}
    x = rng.standard_normal((3, 7, 9, 11)) * rng.choice([1, 1, 1, 100], (3, 7, 1, 1))
    x = (np.round(x) if name == "mode" else x).astype(kind)
    leading = [rng.standard_normal(x.shape).astype(kind)] if name == "lip" else []
    function, indexed = f"{name}_pool2d", name in ("max", "min")
    for given in (x, orders(x)[2], x[:, ::-1, 1:]):
        logits = [given[::-1] if name == "lip" else v for v in leading]
        with np.errstate(all="ignore"):
            expected = getattr(numbapool, function)(given, *logits, **own, **{"return_indices": True} if indexed else {})
            y, *places = expected if indexed else (expected,)
            got = capi.forward(function, given, *logits, indexed=indexed, **own)
            agree(got[0], y, dtype, exact, name)
            if indexed:
                np.testing.assert_array_equal(got[1], places[0])
                agree(capi.forward(function, given, **own)[0], y, dtype, exact, name)
            grad = rng.standard_normal(y.shape).astype(y.dtype)
            wanted = getattr(numbapool, f"{function}_backward")(grad, given, *logits, **own)
            wanted = wanted[0] if isinstance(wanted, tuple) else wanted
            learns = ["logit"] if name == "lip" else []
            agree(capi.backward(function, grad, given, *logits, learns=learns, **own)[0], wanted, dtype, exact, name)
            for index in places:
                wanted = getattr(numbapool, f"{function}_backward")(grad, given, indices=index, **own)
                agree(capi.backward(function, grad, given, indices=index, **own)[0], wanted, dtype, exact, name)


@pytest.mark.parametrize(("name", "ndim"), [(n, d) for n in COMPOSED for d in (1, 2, 3)])
def test_composed_of_float64(capi, exact, name, ndim):
    """Which `make test`'s library has, too: their arithmetic is written once for each dtype."""
    test_forward(capi, exact, name, ndim, "float64")
    test_backward(capi, exact, name, ndim, "float64")


@pytest.mark.parametrize("dtype", ["uint8", *(pytest.param(d, marks=full) for d in INTEGERS if d != "uint8")])
@pytest.mark.parametrize("name", [pytest.param(n, marks=full) if n == "min" else n for n in CHOICES])
def test_integers(capi, name, dtype):
    e = examples(name, 2, few=True)[0]
    limits = (0, 2) if dtype == "bool" else (max(np.iinfo(dtype).min, -100), min(np.iinfo(dtype).max, 100))
    for x in orders(np.random.default_rng(1).integers(*limits, e.x.shape).astype(dtype)):
        expected, got = run(e, x), capi.forward(e.function, x, *e.args, indexed=e.indexed, **e.kwargs)
        for g, w in zip(got, expected, strict=True):
            agree(g, w, dtype, True, e.label)
        if name == "max_unpool":
            grad = np.random.default_rng(2).integers(*limits, expected[0].shape).astype(dtype)
        else:
            grad = np.random.default_rng(2).standard_normal(expected[0].shape).astype(np.float32)
        agree(capi.backward(e.function, grad, x, *e.args, **e.kwargs)[0], e.backward(grad, x, *e.args, **e.kwargs), dtype, True, e.label)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["max", "mode", pytest.param("min", marks=full)])
def test_integers_of_every_size(capi, name, dtype):
    """The least and the greatest, and neighbours of the latter, which few bits do not tell apart: against NumPy alone."""
    least, greatest = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    x = np.random.default_rng(3).choice(np.array([least, greatest - (dtype != "bool"), greatest], dtype), (2, 3, 8, 18))
    x[0, 0, :2, :2], x[0, 0, :2, 2:4] = least, greatest
    for y in orders(x):
        fours = np.moveaxis(y.reshape(2, 3, 4, 2, 9, 2), 3, 4).reshape(2, 3, 4, 9, 4)
        chosen = {"max": fours.max, "min": fours.min, "mode": lambda axis, fours=fours: most_frequent(fours)}[name](axis=-1)
        agree(capi.forward(f"{name}_pool2d", y, 2)[0], chosen, dtype, True, "alone")
        got, places = capi.forward(f"{name}_pool2d", y, 2, indexed=True)
        agree(got, chosen, dtype, True, "with places")
        flat = places.reshape(2, 3, -1)
        agree(np.take_along_axis(y.reshape(2, 3, -1), flat, -1).reshape(got.shape), got, dtype, True, "places")
        for real in (np.float32, np.float64):
            expected = np.zeros(y.shape, real)
            np.put_along_axis(expected.reshape(2, 3, -1), flat, 1, -1)
            agree(capi.backward(f"{name}_pool2d", np.ones(got.shape, real), y, 2)[0], expected, dtype, True, "gradient")


def most_frequent(values: np.ndarray) -> np.ndarray:
    """Along the last axis; of equally frequent ones the smallest."""
    counts = (values[..., :, None] == values[..., None, :]).sum(-1)
    return np.where(counts == counts.max(-1, keepdims=True), values, values.max(-1, keepdims=True)).min(-1)


@pytest.mark.parametrize("name", [n for n in functions.poolings() if CASES[n].indexed] + ["fractional_max"])
def test_backward_by_indices(capi, name):
    for e in (in_dtype(e, np.float32) for e in examples(name, 2, few=True)):
        if e.indexed:
            y, index = run(e, e.x)
            grad = np.random.default_rng(0).standard_normal(y.shape, np.float32)
            agree(capi.backward(e.function, grad, e.x, *e.args, indices=index, **e.kwargs)[0],
                  e.backward(grad, e.x, *e.args, indices=index, **e.kwargs), "float32", True, e.label)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("last", [False, True])
def test_indices_outside_of_windows_side_by_side(capi, last, dtype):
    """Of one plane all, of another one: those planes take the loop for indices anywhere, with what no window covers."""
    rng = np.random.default_rng(8)
    for shape, kernel in (((2, 3, 7, 38), 2), ((1, 70, 4, 6), 2), ((2, 3, 3, 2601), (1, 2))):
        x = rng.standard_normal(shape).astype(dtype)
        x = orders(x)[1] if last else x
        y, index = numbapool.max_pool2d(x, kernel, return_indices=True)
        grad, places = rng.integers(-5, 6, y.shape).astype(dtype), shape[2] * shape[3]
        for changed in (0, 1, index[0, 0].size):
            index[0, 0].flat[:changed] = rng.integers(0, places, changed)
            index[-1, -1, -1, -1] = places - 1 if changed else index[-1, -1, -1, -1]
            expected = numbapool.max_pool2d_backward(grad, x, kernel, indices=index)
            np.testing.assert_array_equal(capi.backward("max_pool2d", grad, x, kernel, indices=index, like=x)[0], expected)
            size = list(shape[2:])
            np.testing.assert_array_equal(capi.forward("max_unpool2d", y, index, kernel, output_size=size)[0],
                                          numbapool.max_unpool2d(y, index, kernel, output_size=size))


@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_gradient(capi, exact, dtype):
    rng = np.random.default_rng(3)
    x, grad = rng.standard_normal((2, 3, 9, 12)).astype(kind_of(dtype)), rng.standard_normal((2, 3, 4, 6)).astype(kind_of(dtype))
    expected = numbapool.soft_pool2d_backward(grad, x, 2, gradient="constant")
    agree(capi.backward("soft_pool2d", grad, x, 2, gradient="constant")[0], expected, dtype, exact, dtype)


WITHOUT_NAN = ("avg", "float32"), ("max", "float32"), ("std", "float32"), ("avg", "bfloat16")  # the others go the same way


@pytest.mark.parametrize(("name", "dtype"), [(n, d) if (n, d) in WITHOUT_NAN else pytest.param(n, d, marks=full)
                                             for n in ("avg", "max", "min", "sum", "std") for d in ("float32", "float16", "bfloat16", "float64")])
def test_nan_is_left_out(capi, exact, name, dtype):
    """By kernels of their own, which half types have in float32 alone: of a batch that goes in parts."""
    rng = np.random.default_rng(len(name))
    for shape in ((2, 3, 9, 12), (5, 2, 2, 300, 260)):
        x, ndim = rng.standard_normal(shape).astype(kind_of(dtype)), len(shape) - 2
        x[rng.random(shape) < 0.3] = np.nan
        x[0, 0, ..., :4, :6] = np.nan
        for args, kwargs in (((2,), {}), ((3, 2, 1), {"ceil_mode": True}), *[((2, 3), {"divisor_override": 5})] * (name == "avg"),
                             *[((2,), {"correction": 1.0})] * (name == "std")):
            function, kwargs = f"{name}_pool{ndim}d", {**kwargs, "ignore_nan": True}
            expected = getattr(numbapool, function)(x, *args, **kwargs)
            indexed = name in ("max", "min")
            got = capi.forward(function, x, *args, indexed=indexed, **kwargs)
            agree(got[0], expected, dtype, exact, f"{function}{args} {kwargs}")
            grad = rng.standard_normal(expected.shape).astype(x.dtype)
            wanted = getattr(numbapool, f"{function}_backward")(grad, x, *args, **kwargs)
            agree(capi.backward(function, grad, x, *args, like=x, **kwargs)[0], wanted, dtype, exact, function)
            if indexed:
                np.testing.assert_array_equal(got[1], getattr(numbapool, function)(x, *args, return_indices=True, **kwargs)[1])
                agree(capi.backward(function, grad, x, *args, indices=got[1], **kwargs)[0], wanted, dtype, exact, function)


def test_integers_have_no_nan(capi):
    x = np.random.default_rng(0).integers(0, 200, (2, 3, 8, 10)).astype(np.uint8)
    np.testing.assert_array_equal(capi.forward("max_pool2d", x, 2, ignore_nan=True)[0], numbapool.max_pool2d(x, 2))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["lse", "auto", "std", "mode", "rank_stochastic"])
def test_half_types_in_parts(capi, exact, name, dtype):
    """A batch that goes in parts: gradients of parameters are their sums, draws are those of the whole."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((7, 3, 260, 300)).astype(kind_of(dtype))
    own = {"lse": {"r": rng.random(3) + 0.5}, "auto": {"alpha": rng.standard_normal(3)}, "rank_stochastic": {"seed": 3}}.get(name, {})
    function, learns = f"{name}_pool2d", list(own) if name in ("lse", "auto") else []
    y = getattr(numbapool, function)(x, 3, 2, **own)
    agree(capi.forward(function, x, 3, 2, **own)[0], y, dtype, exact, name)
    grad = rng.standard_normal(y.shape).astype(x.dtype)
    expected = getattr(numbapool, f"{function}_backward")(grad, x, 3, 2, **own)
    expected = expected if isinstance(expected, tuple) else (expected,)
    got = capi.backward(function, grad, x, 3, 2, learns=learns, **own)
    agree(got[0], expected[0], dtype, exact, name)
    for g, w in zip(got[1:], expected[1:], strict=True):
        np.testing.assert_allclose(g, w, 1e-4, 1e-2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", COMPOSED)
def test_composed_half_types_in_parts(capi, exact, name, dtype):
    """The same, of two parameters and of weights."""
    rng = np.random.default_rng(6)
    x, three = rng.standard_normal((7, 3, 260, 300)).astype(kind_of(dtype)), rng.standard_normal((3, 3, 3)) / 9
    own = {"mixed": {"a": rng.random(3), "kernel_size": 3}, "ada": {"beta": 0.3}, "gated": {"omega": three[0], "kernel_size": 3},
           "dpp": {"lam": three[0, 0], "alpha": three[0, 1], "weight": three}}.get(name, {})
    function, learns = f"{name}_pool2d", [n for n in own if n != "kernel_size"]
    y = getattr(numbapool, function)(x, **own)
    agree(capi.forward(function, x, **own)[0], y, dtype, exact, name)
    grad = rng.standard_normal(y.shape).astype(x.dtype)
    expected = getattr(numbapool, f"{function}_backward")(grad, x, **own)
    expected = expected if isinstance(expected, tuple) else (expected,)
    got = capi.backward(function, grad, x, learns=learns, **own)
    agree(got[0], expected[0], dtype, exact, name)
    for g, w in zip(got[1:], expected[1:], strict=True):
        np.testing.assert_allclose(g, w, 1e-4, 1e-2)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_draws_by_seed(capi, ndim):
    """The same seed draws the same windows and elements as in Python."""
    x = np.random.default_rng(ndim).random((2, 3, *(23, 29, 17)[:ndim])).astype(np.float32)
    for seed in (0, 5, -1, 1 << 40):
        for function, args, kwargs in (("stochastic", (2,), {}), ("s3", (2, 4), {}), ("fractional_max", (), {"pooling_ratio": 1.7}),
                                       ("fractional_max", (), {"pooling_ratio": 2.3, "pseudo_random": True}),
                                       ("fractional_avg", (), {"pooling_ratio": 1.4, "overlapping": True}),
                                       ("fractional_max", (2,), {"output_size": 5}), ("fractional_max", (3,), {"output_ratio": 0.3})):
            name = f"{function}_pool{ndim}d"
            expected = getattr(numbapool, name)(x, *args, seed=seed, **kwargs)
            np.testing.assert_array_equal(capi.forward(name, x, *args, seed=seed, **kwargs)[0], expected, f"{name} {kwargs}")


def test_sequences_are_handed_out(capi):
    x = np.random.default_rng(0).random((1, 2, 19, 31))
    ffi, kept = capi.ffi, capi.tensor(x)
    for function, fill, args, kwargs in (("fractional_max_pool2d", capi.lib.numbapool_fractional_sequences, (), {"pooling_ratio": (1.5, 2.2)}),
                                         ("s3_pool2d", capi.lib.numbapool_s3_positions, (3,), {})):
        name, _, params = capi.bound(function, x, args, {**kwargs, "seed": 9})
        shape = capi.shape(name, x, params)
        arrays = [ffi.new("int64_t[]", n + 1) for n in shape[2:]]
        capi.check(fill(kept.t, params.p, ffi.new("int64_t *[]", arrays)))
        wanted = {"return_sequences": True} if "fractional" in function else {"return_indices": True}
        for mine, theirs in zip(arrays, getattr(numbapool, function)(x, *args, **kwargs, seed=9, **wanted)[1], strict=True):
            assert list(mine[0:len(theirs)]) == list(theirs)


def test_gradient_of_any_strides(capi, exact):
    """A gradient whose memory has gaps is computed elsewhere and copied."""
    rng = np.random.default_rng(4)
    x, grad = rng.standard_normal((2, 3, 8, 10), np.float32), rng.standard_normal((2, 3, 4, 5), np.float32)
    expected = numbapool.soft_pool2d_backward(grad, x, 2)
    room = np.full((2, 6, 8, 20), 7, np.float32)
    like = room[:, ::2, :, ::2]
    tensors, results = {"x": x, "grad": grad}, {"grad_x": like}
    _, _, params = capi.bound("soft_pool2d", x, (2,), {})
    capi.call("numbapool_soft_pool_backward", tensors | results, params.p)
    agree(like, expected, "float32", exact, "soft")
    like[...] = 7
    assert (room == 7).all()


def test_memory_orders_of_gradients(capi):
    """x in one order and its gradient in the other."""
    rng = np.random.default_rng(5)
    for name, args in (("soft", (2,)), ("avg", (3, 1)), ("max", (2,)), ("lip", None), ("gem", (2,))):
        for x in orders(rng.standard_normal((2, 3, 8, 10), np.float32))[:2]:
            args_ = (rng.standard_normal(x.shape, np.float32), 2) if args is None else args
            y = getattr(numbapool, f"{name}_pool2d")(x, *args_)
            grad = rng.standard_normal(y.shape, np.float32)
            expected = getattr(numbapool, f"{name}_pool2d_backward")(grad, x, *args_)
            for like in orders(x):
                got = capi.backward(f"{name}_pool2d", grad, x, *args_, like=like, learns=["logit"] if name == "lip" else [])
                np.testing.assert_allclose(got[0], expected[0] if isinstance(expected, tuple) else expected, *TOLERANCE["float32"], err_msg=name)


def test_planes_beyond_32_bits(capi):
    """Positions from 2^31 on; of the plane's two gigabytes only the pages that windows touch are ever there."""
    x = np.zeros((1, 1, (1 << 31) + 5), np.uint8)
    x[..., (1 << 31) + 1] = 9
    y, index = capi.forward("max_pool1d", x, 2, 1 << 20, indexed=True)
    assert y.shape == (1, 1, 2049)
    assert y[..., -1] == 9 and index[..., -1] == (1 << 31) + 1
    assert not y[..., :-1].any() and (index[0, 0, :-1] == np.arange(2048) << 20).all()
    assert (capi.forward("max_pool1d", x, 2, 1 << 20)[0] == y).all()
