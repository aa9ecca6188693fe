"""The C library through cffi on drawn calls: what it computes is what Python's functions compute, and what they refuse it refuses.

`pytest -m full` runs ten times the examples, in every floating dtype.
"""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import numbapool
from capi import functions
from capi.calls import Capi, load
from numbapool import testing

pytestmark = pytest.mark.jit
OFTEN = dict(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def capi(library, tmp_path_factory):
    """The library."""
    return Capi(load(tmp_path_factory.mktemp("capi")))


@pytest.fixture(params=[(1, ("float32",)), pytest.param((10, ("float32", "float64", "float16")), marks=pytest.mark.full)], ids=["quick", "full"])
def amount(request):
    """How many examples, times what a test asks for, and of which dtypes."""
    return request.param


def forward(name: str, ndim: int, prefix: str):
    return getattr(numbapool, testing.function(name, ndim, prefix).__name__)


def agree(got, expected, dtype: str) -> None:
    """Equal within rounding of the largest number."""
    largest = np.abs(np.nan_to_num(np.asarray(expected, np.float64), posinf=0, neginf=0)).max(initial=0)
    testing.close(np.asarray(got), np.asarray(expected), 1 + largest)


@pytest.mark.parametrize("name", functions.poolings())
def test_valid_calls(capi, name, amount):
    """Forward, and backward with respect to x, of drawn windows, parameters, memory layouts and seeds."""
    times, dtypes = amount

    def law(call, function, how, ndim):
        args, kwargs = call
        if function.__name__.startswith("max_unpool") and "output_size" in kwargs and kwargs["output_size"] is not None:
            kwargs["output_size"] = tuple(kwargs["output_size"])[-ndim:]
        x = args[0]
        expected = function(*args, **kwargs)
        got = capi.forward(function.__name__, *args, **kwargs)[0]
        agree(got, expected, x.dtype.name)
        if not how:
            return
        grad = testing.upstream(expected, x.dtype)
        wanted = getattr(numbapool, f"{function.__name__}_backward")(grad, *args, **kwargs)
        learns = [p.name for p in functions.parameters_of(name) if p.learnable and (p.kind != "filters" or kwargs.get(p.name) is not None)]
        made = capi.backward(function.__name__, grad, *args, learns=learns, **kwargs)
        agree(made[0], wanted[0] if isinstance(wanted, tuple) else wanted, x.dtype.name)

    kinds = [(p, n, d) for p in testing.prefixes(name) for n in (1, 2, 3) for d in dtypes if times > 1 or n == 2 or not p]
    for number, (prefix, ndim, dtype) in enumerate(kinds):
        function = forward(name, ndim, prefix)
        drawn = testing.calls(name, ndim, prefix, dtype=dtype)
        seed(number)(settings(max_examples=6 * times, **OFTEN)(given(drawn, st.just(function), st.booleans(), st.just(ndim))(law)))()


NUMBERS = st.one_of(st.integers(-2, 9), st.sampled_from([0, 1, 2, 3, 1 << 31, (1 << 31) - 1, -(1 << 63), (1 << 63) - 1]))


def test_windows_of_any_numbers(capi, amount):
    """Whatever stands in kernel_size, stride, padding, dilation and the shape: both refuse it, or both compute the same."""
    def law(shape, kernel, stride, padding, dilation, ceil_mode):
        x = np.random.default_rng(0).standard_normal((2, 3, *shape)).astype(np.float32)
        arguments = dict(kernel_size=kernel, stride=stride, padding=[max(p, -(1 << 62)) for p in padding], dilation=dilation, ceil_mode=ceil_mode)
        if 0 in stride or -1 in padding:  # which mean something else in C
            return
        outputs = [(n + 2 * p - d * (k - 1) - 1) // max(s, 1) for n, k, s, p, d in zip(shape, kernel, stride, padding, dilation, strict=True)]
        if 1 << 16 < max(outputs) < 1 << 40:  # all of it padding, but for a few, and all the memory there is; more are refused
            return
        try:
            expected = numbapool.max_pool2d(x, **arguments)
        except (ValueError, OverflowError):
            expected = None
        try:
            got = capi.forward("max_pool2d", x, **arguments)[0]
        except ValueError as error:
            assert expected is None, error
            return
        assert expected is not None, arguments
        np.testing.assert_array_equal(got, expected)

    pairs = st.tuples(NUMBERS, NUMBERS).map(list)
    drawn = (st.tuples(st.integers(0, 12), st.integers(0, 12)), pairs, pairs, pairs, pairs, st.booleans())
    seed(0)(settings(max_examples=300 * amount[0], **OFTEN)(given(*drawn)(law)))()


def test_fields_of_any_value(capi, amount):
    """No value in any field of params makes a call crash, or write outside of y."""
    ffi, lib = capi.ffi, capi.lib
    x = np.random.default_rng(1).random((2, 3, 6, 7)).astype(np.float32)
    fields = [name for name, field in ffi.typeof("numbapool_params").fields if field.type.kind == "primitive" or field.type.cname.endswith("[3]")]
    fields = [f for f in fields if f not in ("size", "sequences", "workspace_size")]
    values = st.one_of(st.integers(-3, 9), st.sampled_from([1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63)]))
    room = np.full((3, 2, 3, 8, 8), 7, np.float32)

    def law(pooling, changes, sizes):
        name, tensors, params = capi.bound(f"{pooling}_pool2d", x, (2,), {"seed": 1} if pooling == "stochastic" else {})
        for field, value in changes:
            kind = next(f for n, f in ffi.typeof("numbapool_params").fields if n == field).type
            if kind.kind == "primitive" and kind.cname == "double":
                setattr(params.p, field, float(value))
            elif kind.kind == "primitive":
                setattr(params.p, field, max(min(value, 2**31 - 1), -2**31) if kind.cname == "int32_t" else value)
            else:
                getattr(params.p, field)[value % 2] = value
        y = room[1][:, :, :sizes[0], :sizes[1]]
        status = capi.caller(name, {**tensors, "y": y}, params.p)()
        assert 0 <= status <= 5
        assert status == 0 or ffi.string(lib.numbapool_error_message())
        assert (room[[0, 2]] == 7).all()
        y[...] = 7
        assert (room == 7).all()

    changes = st.lists(st.tuples(st.sampled_from(fields), values), max_size=3)
    sizes = st.one_of(st.just((3, 3)), st.tuples(st.integers(0, 8), st.integers(0, 8)))
    drawn = st.sampled_from(["soft", "max", "avg", "stochastic", "gem", "s3"]), changes, sizes
    seed(0)(settings(max_examples=400 * amount[0], **OFTEN)(given(*drawn)(law)))()
