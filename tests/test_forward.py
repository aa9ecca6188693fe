"""Forward: every example of the registry against the float64 reference, in every dtype, order and layout."""
from __future__ import annotations

import numpy as np
import pytest
from cases import ALL, CASES, FLOATS, Example, examples, whole

import numbapool
from numbapool.testing import TOLERANCE

INTEGERS = ("uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64", "bool")
FEW = ("uint8", "int32", "int64", "bool")  # of each kind; the rest of all but max in test-full


def run(e: Example, x, **more):
    """The results of a call with x in place of the example's, always as a list [y, indices?]."""
    if e.indexed:
        more["return_indices"] = True
    result = e.forward(x, *e.args, **e.kwargs, **more)
    return list(result) if isinstance(result, tuple) else [result]


def close(got, expected, dtype: str) -> None:
    """Equal within the dtype's rounding."""
    rtol, atol = TOLERANCE[dtype]
    np.testing.assert_allclose(np.asarray(got, np.float64), expected, rtol, atol)


def converted(args: tuple, dtype) -> tuple:
    """Floating array arguments of x's shape in x's dtype (LIP's logits)."""
    return tuple(a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype == np.float64 and a.ndim > 2 else a for a in args)


def in_dtype(e: Example, dtype) -> Example:
    """The example with its arrays rounded to a dtype, and their rounded values as the reference's."""
    x, args = e.x.astype(dtype), converted(e.args, dtype)
    return Example(e.label, e.function, x, args, e.kwargs, e.reference, e.learns, e.indexed, e.integers)


def test_registry_is_complete():
    assert set(CASES) == set(numbapool.POOLINGS)


@pytest.mark.parametrize(("name", "ndim"), ALL)
def test_float64(name, ndim, request):
    for e in examples(name, ndim, every=whole(request)):
        y, index = e.expected()
        out = np.full(y.shape, np.nan)
        got = run(e, e.x, out=out)
        assert got[0] is out, e.label
        np.testing.assert_allclose(out, y, *TOLERANCE["float64"], err_msg=e.label)
        if e.indexed:
            assert got[1].dtype == np.int64
            np.testing.assert_array_equal(got[1], index, e.label)


@pytest.mark.parametrize(("name", "ndim", "dtype"), FLOATS)
def test_other_floats(name, ndim, dtype):
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    for e in (in_dtype(e, kind) for e in examples(name, ndim, few=True)):
        samples = e.kwargs.get("samples")
        if samples is not None:  # torch's fractional windows and the draws compare in the kernel's arithmetic
            e.kwargs["samples"] = samples.astype(np.float32)
        y, index = e.expected(e.x.astype(np.float64), tuple(a.astype(np.float64) if getattr(a, "dtype", None) == kind else a for a in e.args))
        got = run(e, e.x)
        assert got[0].dtype == kind
        if name == "stochastic" and index is not None:  # a running sum may round to the other side: the value must still be an element
            assert (np.asarray(got[1]) == index).mean() > 0.98, e.label
            continue
        close(got[0], y, dtype)
        if e.indexed:
            np.testing.assert_array_equal(got[1], index, e.label)


@pytest.mark.parametrize(("name", "dtype"), [(n, d) if n == "max" or d in FEW else pytest.param(n, d, marks=pytest.mark.full)
                                             for n in CASES for d in INTEGERS])
def test_integers(name, dtype):
    e = examples(name, 2, few=True)[0]
    limits = (0, 2) if dtype == "bool" else (max(np.iinfo(dtype).min, -100), min(np.iinfo(dtype).max, 100))
    x = np.random.default_rng(1).integers(*limits, e.x.shape).astype(dtype)
    real = np.dtype("float64" if "64" in dtype else "float32")
    args = tuple(a.astype(real) if isinstance(a, np.ndarray) and a.shape == x.shape and a.dtype == np.float64 else a for a in e.args)
    got = run(Example(e.label, e.function, x, args, e.kwargs, e.reference, indexed=e.indexed), x)[0]
    keeps = e.integers or name in ("s3", "sum")
    assert got.dtype == ("int64" if name == "sum" else dtype if keeps else "float64" if "64" in dtype else "float32")
    if name == "stochastic":
        assert np.isin(got, x).all()
        return
    y = e.expected(x.astype(np.float64), args)[0]
    size = 1 if keeps else 64  # tolerances are for inputs of size 1
    close(got / got.dtype.type(size), y / size, "float64" if keeps else got.dtype.name)


def test_wide_integers_are_exact():
    x = np.array([[[2**62 + 1, 2**62, -2**63, 2**63 - 1]]])
    np.testing.assert_array_equal(numbapool.max_pool1d(x, 2), [[[2**62 + 1, 2**63 - 1]]])
    np.testing.assert_array_equal(numbapool.min_pool1d(x.astype(np.uint64), 2), [[[2**62, 2**63 - 1]]])


def test_units_longer_than_the_lanes():
    rng = np.random.default_rng(0)
    for shape, last in (((1, 2, 300), False), ((1, 7, 261), True), ((2, 5, 9, 130), True)):
        x = rng.standard_normal(shape)
        ndim = len(shape) - 2
        plain = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if last else x
        for name in ("max", "soft"):
            f = getattr(numbapool, f"{name}_pool{ndim}d")
            y = f(x, 3, 2, 1, channels_last=last)
            expected = CASES[name].reference(plain, _axes(plain, ndim), (), {})
            expected = expected[0] if isinstance(expected, tuple) else expected
            np.testing.assert_allclose(np.moveaxis(y, -1, 1) if last else y, expected, 1e-12)


def _axes(x, ndim):
    import oracle
    return oracle.sliding_axes(x.shape[2:], (3,) * ndim, (2,) * ndim, (1,) * ndim)


LAYOUTS = {
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2),
    "reversed": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "gaps": lambda x: np.repeat(x, 3, axis=-1)[..., ::3],
    "channels last memory": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
    "batch last": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("name", list(CASES))
def test_layouts_agree(name):
    """The same numbers whatever the strides; an ulp apart where a vector body and a scalar one fuse a*b + c differently."""
    for e in examples(name, 2, few=True)[:4]:
        first = run(e, e.x)
        for label, layout in LAYOUTS.items():
            for got, wanted in zip(run(e, layout(e.x)), first, strict=True):
                np.testing.assert_allclose(got, wanted, 1e-13, 1e-15, err_msg=f"{e.label} {label}")


@pytest.mark.parametrize("name", list(CASES))
def test_unbatched_and_channels_last(name):
    e = examples(name, 2, few=True)[0]
    first = run(e, e.x)

    def moved(a):
        return np.moveaxis(a, 1, -1) if isinstance(a, np.ndarray) and a.ndim == 4 else a
    last = Example(e.label, e.function, e.x, tuple(map(moved, e.args)), {k: moved(v) for k, v in e.kwargs.items()}, e.reference, indexed=e.indexed)
    for got, wanted in zip(run(last, np.ascontiguousarray(moved(e.x)), channels_last=True), first, strict=True):
        np.testing.assert_allclose(np.moveaxis(got, -1, 1), wanted, 1e-13, 1e-15)

    def single(a):
        return a[0] if isinstance(a, np.ndarray) and a.ndim == 4 else a
    kwargs = {k: v[0] if k == "samples" else v for k, v in e.kwargs.items()}
    one = Example(e.label, e.function, e.x, tuple(map(single, e.args)), kwargs, e.reference, indexed=e.indexed)
    for got, wanted in zip(run(one, e.x[0]), first, strict=True):
        np.testing.assert_allclose(got, wanted[0], 1e-13, 1e-15)


@pytest.mark.parametrize("name", list(CASES))
def test_empty_batch(name):
    e = examples(name, 2, few=True)[0]

    def none(a):
        return a[:0] if isinstance(a, np.ndarray) and a.ndim == 4 else a
    kwargs = {k: v[:0] if k == "samples" else v for k, v in e.kwargs.items()}
    args = tuple(map(none, e.args))
    y = e.forward(e.x[:0], *args, **kwargs)
    assert y.shape == (0, *e.expected()[0].shape[1:])
    result = e.backward(y, e.x[:0], *args, **kwargs)
    assert (result[0] if isinstance(result, tuple) else result).shape == (0, *e.x.shape[1:])


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("name", ["avg", "soft", "max"])
def test_out_with_a_reversed_axis(name, axis):
    """Rows of y that follow one another backwards were once stored as one long row, before its first element."""
    x = np.random.default_rng(axis).standard_normal((2, 3, 8, 14), np.float32)
    for args in ((2,), (3, 2, 1), (2, 1)):
        expected = getattr(numbapool, f"{name}_pool2d")(x, *args)
        room = np.full((3, *expected.shape), 7, np.float32)
        out = np.flip(room[1], axis)
        getattr(numbapool, f"{name}_pool2d")(x, *args, out=out)
        np.testing.assert_allclose(out, expected, *TOLERANCE["float32"])
        assert (room[[0, 2]] == 7).all()


def test_channels_that_do_not_lie_side_by_side():
    """Every third channel of channels-last memory: the loop for 3x3 windows once read the channels between, too."""
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 14), np.float32)
    gaps = np.zeros((2, 9, 14, 9), np.float32)[..., ::3].transpose(0, 3, 1, 2)
    gaps[...] = x
    for args in ((2,), (3, 2, 1), (3, 1)):
        expected, index = numbapool.max_pool2d(x, *args, return_indices=True)
        got, found = numbapool.max_pool2d(gaps, *args, return_indices=True)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(found, index)
        grad = np.random.default_rng(1).standard_normal(expected.shape, np.float32)
        np.testing.assert_allclose(numbapool.max_pool2d_backward(grad, gaps, *args), numbapool.max_pool2d_backward(grad, x, *args), 1e-6, 1e-6)


def test_fractional_windows_of_an_empty_batch():
    x = np.zeros((0, 3, 9, 8), np.float32)
    for more in ({"seed": 1}, {"samples": np.zeros((0, 3, 2))}):
        y, index = numbapool.fractional_max_pool2d(x, 2, output_size=(4, 3), return_indices=True, **more)
        assert y.shape == index.shape == (0, 3, 4, 3)
        assert numbapool.fractional_max_pool2d_backward(y, x, 2, output_size=(4, 3), **more).shape == x.shape
