"""Laws over all poolings: drawn calls against the reference, and what must hold without one.

`pytest -m full` runs forty times the examples.
"""
from __future__ import annotations

import doctest
import inspect
import itertools
import math
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import numbapool as nbp
from numbapool import random, strategies, testing

NDIM = st.integers(1, 3)
FLOATS = ("float64", "float32", "float16", "bfloat16")
poolings = pytest.mark.parametrize("name", nbp.POOLINGS)


@pytest.fixture(params=[1, pytest.param(40, marks=pytest.mark.full)], ids=["quick", "full"])
def check(request):
    """Runs a law on drawn data at once: @check(examples, strategies...)."""
    if request.param > 1 and "full" not in request.config.getoption("markexpr"):
        pytest.skip("runs with -m full")

    def run(examples, *drawn):
        often = settings(max_examples=examples * request.param, deadline=None, derandomize=True, database=None,
                         suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
        return lambda law: often(given(*drawn)(law))()
    return run


@st.composite
def drawn_calls(draw, name, *, prefixes=None, ndim=NDIM, batch=None, **more):
    """A call with everything drawn: name, ndim, prefix, args, kwargs, and the public function as `pool`."""
    ndim, prefix = draw(ndim), draw(st.sampled_from([p for p in testing.prefixes(name) if prefixes is None or p in prefixes]))
    shape = draw(testing.shapes(ndim))
    args, kwargs = draw(testing.calls(name, ndim, prefix, shape=shape if batch is None else (batch, *shape[1:]), **more))
    return call(name, ndim, args, kwargs, prefix)


def call(name, ndim, args, kwargs, prefix=""):
    """A call and its function; `on(x)` is the function with another x."""
    pool = testing.function(name, ndim, prefix)
    return SimpleNamespace(name=name, ndim=ndim, args=args, kwargs=kwargs, prefix=prefix, x=args[0], pool=pool, op=testing.operation(name, ndim, prefix),
                           on=lambda x: pool(x, *args[1:], **kwargs), all=(name, ndim, args, kwargs, prefix))


def having(name, *forms):
    """Poolings with one of the kinds of windows."""
    return any(p in forms for p in testing.prefixes(name)) and testing.operation(name, 1, testing.prefixes(name)[0]).form.name in ("sliding", "adaptive")


# ---------------------------------------------------------------- the reference of a drawn call

def uniforms(a, shape):
    """The samples of a call, or those that its seed stands for."""
    return random.uniforms(random.key(a["seed"], "test"), shape) if a["samples"] is None else a["samples"]


def axes_of(c, a, x):
    """The windows of a call, listed by the oracle; drawn ones as the function returns them."""
    form, spatial = c.op.form.name, x.shape[2:]
    if form == "sliding":
        return oracle.sliding_axes(spatial, a["kernel_size"], a["stride"], a["padding"], a["dilation"], a["ceil_mode"])
    if form == "fractional":
        return [oracle.boundaries(s, a["overlapping"]) for s in c.pool(*c.args, **c.kwargs, return_sequences=True)[-1]]
    size = a.get("output_size", 1)
    sizes = [size] * c.ndim if isinstance(size, int) else size
    return [oracle.adaptive(n, n if o is None else o) for n, o in zip(spatial, sizes, strict=True)]


def generic(c, a, x, axes):
    """oracle.<name> with the pooling's own parameters, by their kinds."""
    kinds = {p.kind: a[p.name] for p in c.op.parameters.values()}
    numbers = [p for p in c.op.parameters.values() if p.kind in ("number", "positive", "array")]
    ordered = sorted(numbers, key=lambda p: list(inspect.signature(getattr(oracle, c.name)).parameters).index(p.name))
    return oracle.pool(getattr(oracle, c.name), x, axes, *(over_outputs(a[p.name], c.ndim, p) for p in ordered),
                       element=kinds.get("logit"), weight=kinds.get("weights"))


def over_outputs(value, ndim, p):
    """A parameter as it broadcasts to the output: one dimension is a channel's, unless the pooling takes one a position."""
    value = np.asarray(value)
    return value.reshape(-1, *(1,) * ndim) if value.ndim == 1 and "channel" in p.shapes else value


def lp(c, a, x, axes):
    return oracle.pool(oracle.lp, x, axes, a["norm_type"], oracle.divisors(axes, False) if a["norm"] == "mean" else 1)


def avg(c, a, x, axes):
    return oracle.pool(oracle.avg, x, axes, oracle.divisors(axes, a.get("count_include_pad", False), a.get("divisor_override")))


def stochastic(c, a, x, axes):
    if not a["training"]:
        return oracle.pool(oracle.stochastic_inference, x, axes)
    return oracle.pool(oracle.stochastic, x, axes, uniforms(a, (*x.shape[:2], *map(len, axes))), return_indices=True)[0]


def fractional_max(c, a, x, axes):
    return oracle.pool(oracle.maximum, x, axes, return_indices=True)[0]


def torch_fractional_max(c, a, x):
    samples = uniforms(a, (*x.shape[:2], c.ndim))
    return oracle.fractional_max(x, a["kernel_size"], a["output_size"], samples if c.x.dtype == np.float64 else samples.astype(np.float32))[0]


def s3(c, a, x):
    if not a["training"]:
        return oracle.s3_inference(x, a["kernel_size"])
    return oracle.s3(x, a["kernel_size"], c.pool(*c.args, **c.kwargs, return_indices=True)[1])


REFERENCES = {  # where `generic` does not do
    "max": lambda c, a, x, axes: oracle.pool(oracle.maximum, x, axes), "min": lambda c, a, x, axes: oracle.pool(oracle.minimum, x, axes),
    "swap": lambda c, a, x, axes: oracle.pool(oracle.soft, x, axes), "avg": avg, "fractional_avg": avg, "lp": lp, "stochastic": stochastic,
    "fractional_max": fractional_max,
}


def reference(c, x=None):
    """The oracle's y of a call, and the largest |x| that each y was made of."""
    x = (c.x if x is None else x).astype(np.float64)
    bound = inspect.signature(c.pool).bind(*c.args, **c.kwargs)
    bound.apply_defaults()
    a = bound.arguments
    if c.name == "max_unpool":
        usual = [(n - 1) * (a["stride"] or a["kernel_size"]) - 2 * a["padding"] + a["kernel_size"] for n in x.shape[2:]]
        return oracle.unpool(x, a["indices"], usual), 0
    if c.name == "s3":
        return s3(c, a, x), size_of(x)
    if c.name == "fractional_max" and a["kernel_size"] is not None:
        return torch_fractional_max(c, a, x), 0
    axes = axes_of(c, a, x)
    return REFERENCES.get(c.name, generic)(c, a, x, axes), oracle.pool(size_of, x, axes)


def size_of(v):
    """The largest finite |v|."""
    return np.abs(np.where(np.isfinite(v), v, 0)).max()


def compared(c):
    """One drawn call against the oracle."""
    y, scale = reference(c)
    testing.close(c.pool(*c.args, **c.kwargs), y, scale, c.op.where)


def kinds_of(name):
    """What values a pooling is compared on: sums that decide which element is chosen must be exact."""
    return ["exact"] if name == "stochastic" else ["finite", "any"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@poolings
def test_agrees_with_the_reference(name, dtype, check):
    for values in kinds_of(name):
        check(50, drawn_calls(name, dtype=dtype, values=values))(compared)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "uint8"])
@poolings
def test_agrees_with_the_reference_in_other_dtypes(name, dtype, check):
    check(10, drawn_calls(name, dtype=dtype, values=kinds_of(name)[0]))(compared)
