"""Laws over all poolings: drawn calls against the reference, and what must hold without one.

`pytest -m full` runs ten times the examples.
"""
from __future__ import annotations

import doctest
import inspect
import math
from dataclasses import dataclass

import numpy as np
import oracle
import pytest
from cases import COMMON, by_dtype, whole
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st

import numbapool as nbp
from numbapool import random, strategies, testing

NDIM = st.integers(1, 3)
FLOATS = ("float64", "float32", "float16", "bfloat16")
poolings = pytest.mark.parametrize("name", nbp.POOLINGS)


@pytest.fixture(params=[1, pytest.param(10, marks=pytest.mark.full)], ids=["quick", "full"])
def check(request):
    """@check(examples, strategies...) runs a law at once, on the same data every time; on so many examples of each of `cases`."""
    often = dict(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

    def run(examples, drawn, *more):
        def now(law):
            for number, strategy in enumerate(drawn if isinstance(drawn, list) else [drawn]):
                seed(number)(settings(max_examples=examples * request.param, **often)(given(strategy, *more)(law)))()
        return now
    return run


@dataclass
class Case:
    """A call of a public function; `on(x)` is the function with another x."""

    name: str
    ndim: int
    args: tuple
    kwargs: dict
    prefix: str = ""

    @property
    def op(self):
        return testing.operation(self.name, self.ndim, self.prefix)

    @property
    def everything(self):
        return self.name, self.ndim, self.args, self.kwargs, self.prefix

    @property
    def x(self):
        return self.args[0]

    def on(self, x):
        return testing.function(self.name, self.ndim, self.prefix)(x, *self.args[1:], **self.kwargs)

    def pool(self, **more):
        return testing.function(self.name, self.ndim, self.prefix)(*self.args, **self.kwargs, **more)


def cases(name, *, prefixes=None, ndims=(1, 2, 3), **more):
    """Calls of each of a pooling's functions; one strategy a function, for hypothesis by itself would hardly touch some."""
    return [case(name, ndim, prefix, **more) for prefix in prefixes or testing.prefixes(name) for ndim in ndims]


@st.composite
def case(draw, name, ndim, prefix, batch=None, **more):
    """Calls of one function."""
    shape = draw(testing.shapes(ndim))
    args, kwargs = draw(testing.calls(name, ndim, prefix, shape=shape if batch is None else (batch, *shape[1:]), **more))
    return Case(name, ndim, args, kwargs, prefix)


# ---------------------------------------------------------------- the reference of a drawn call

def uniforms(a, shape):
    """The samples of a call, or those that its seed stands for."""
    size = int(np.prod(shape[2:]))
    return random.uniforms(random.key(a["seed"], "test"), shape[0] * shape[1], size).reshape(shape) if a["samples"] is None else a["samples"]


def axes_of(c, a, x):
    """The windows of a call, listed by the oracle; drawn ones as the function returns them."""
    form, spatial = c.op.form.name, x.shape[2:]
    if form == "sliding":
        return oracle.sliding_axes(spatial, a["kernel_size"], a["stride"], a["padding"], a["dilation"], a["ceil_mode"])
    if form == "fractional":
        return [oracle.boundaries(s, a["overlapping"]) for s in c.pool(return_sequences=True)[-1]]
    size = a.get("output_size", 1)
    sizes = [size] * c.ndim if isinstance(size, int) else size
    return [oracle.adaptive(n, n if o is None else o) for n, o in zip(spatial, sizes, strict=True)]


def generic(c, a, x, axes):
    """oracle.<name> with the pooling's own parameters, by their kinds."""
    own = [p for p in c.op.parameters.values() if p.name in a]
    kinds = {p.kind: a[p.name] for p in own}
    numbers = [p for p in own if p.kind in ("number", "positive", "array")]
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
    return oracle.pool(oracle.stochastic, x, axes, uniforms(a, (*x.shape[:2], *map(len, axes))), return_indices=True)


def ignoring(c, a, x, axes):
    """The reference of what is known: of an avg, by its divisor less what is not."""
    own = {"correction": a["correction"]} if c.name == "std" else {}
    if c.name == "avg":
        n = oracle.divisors(axes, a.get("count_include_pad", False), a.get("divisor_override"))
        return oracle.pool(oracle.known_avg, x, axes, n, a.get("divisor_override") is None)
    return oracle.pool(lambda v: oracle.known({**vars(oracle), **INSTEAD}[c.name], v, **own), x, axes, return_indices=c.name in ("max", "min"))


def maximum(c, a, x, axes):
    return oracle.pool(oracle.maximum, x, axes, return_indices=True)


def minimum(c, a, x, axes):
    return oracle.pool(oracle.minimum, x, axes, return_indices=True)


def torch_fractional_max(c, a, x):
    samples = uniforms(a, (*x.shape[:2], c.ndim)).astype(np.float64 if c.x.dtype == np.float64 else np.float32)
    return oracle.fractional_max(x, a["kernel_size"], a["output_size"], samples)


def s3(c, a, x):
    if not a["training"]:
        return oracle.s3_inference(x, a["kernel_size"])
    return oracle.s3(x, a["kernel_size"], c.pool(return_indices=True)[1])


def gated(c, a, x, axes):
    given = a["kernel_size"], a["stride"] or a["kernel_size"], a["padding"], a["dilation"]
    each = [list(v) if isinstance(v, list | tuple) else [v] * c.ndim for v in given]
    return oracle.by_position(oracle.gated, x, axes, oracle.tap_numbers(axes, *each, x.shape[2:]), a["omega"])


INSTEAD = {"max": oracle.maximum, "min": oracle.minimum, "sum": oracle.total}
def rank_stochastic(c, a, x, axes):
    if not a["training"]:
        return oracle.pool(oracle.rank_stochastic_inference, x, axes, a["alpha"])
    return oracle.pool(oracle.rank_stochastic, x, axes, uniforms(a, (*x.shape[:2], *map(len, axes))), a["alpha"], return_indices=True)


REFERENCES = {  # where `generic` does not do
    "max": maximum, "min": minimum, "fractional_max": maximum, "avg": avg, "fractional_avg": avg, "lp": lp, "stochastic": stochastic,
    "rank_stochastic": rank_stochastic,
    "gated": gated,
    "sum": lambda c, a, x, axes: oracle.pool(oracle.total, x, axes),
    "mode": lambda c, a, x, axes: oracle.pool(oracle.mode, x, axes, return_indices=True),
    "swap": lambda c, a, x, axes: oracle.pool(oracle.soft, x, axes),
    "median": lambda c, a, x, axes: oracle.pool(lambda v: oracle.median(v, a["even"]), x, axes),
    "rank": lambda c, a, x, axes: oracle.pool(lambda v: oracle.rank(v, a["t"], a["alpha"]), x, axes),
}


def reference(c, x=None):
    """The oracle's y of a call, or (y, indices), and the largest |x| that each y was made of."""
    x = (c.x if x is None else x).astype(np.float64)
    bound = inspect.signature(testing.function(c.name, c.ndim, c.prefix)).bind(*c.args, **c.kwargs)
    bound.apply_defaults()
    a = bound.arguments
    if c.name == "max_unpool":
        usual = [(n - 1) * (a["stride"] or a["kernel_size"]) - 2 * a["padding"] + a["kernel_size"] for n in x.shape[2:]]
        return oracle.unpool(x, a["indices"], usual), 0
    if c.name == "s3":
        return s3(c, a, x), size_of(x)
    if c.name == "fractional_max" and a["kernel_size"] is not None:
        return torch_fractional_max(c, a, x), 0
    if c.name in ("blur", "max_blur", "dpp"):
        own = {n: v for n, v in a.items() if n in inspect.signature(getattr(oracle, c.name)).parameters and n != "x"}
        return getattr(oracle, c.name)(x, **own), size_of(x)
    axes = axes_of(c, a, x)
    of = ignoring if a.get("ignore_nan") else REFERENCES.get(c.name, generic)
    return of(c, a, x, axes), oracle.pool(size_of, x, axes)


def size_of(v):
    """The largest finite |v|."""
    return np.abs(np.where(np.isfinite(v), v, 0)).max()


def compared(c):
    """One drawn call against the oracle."""
    expected, scale = reference(c)
    got = c.pool(return_indices=True) if isinstance(expected, tuple) else (c.pool(),)
    for a, b in zip(got, expected if isinstance(expected, tuple) else (expected,), strict=True):
        testing.close(a, b, scale, c.op.where)
    poisoned = np.full(got[0].shape, np.nan if got[0].dtype.name in FLOATS else 77).astype(got[0].dtype)
    assert c.pool(out=poisoned) is poisoned
    exact = np.float64 if got[0].dtype.name in FLOATS else got[0].dtype  # NumPy does not know that a bfloat16 is NaN
    np.testing.assert_array_equal(poisoned.astype(exact), got[0].astype(exact))


def kinds_of(name):
    """What values a pooling is compared on: sums that decide which element is chosen or how far a gate is open must be exact."""
    if name in ("stochastic", "gated", "dpp", "idw"):
        return ["exact"]
    return ["exact"] if name == "std" else ["finite", "any"]  # its squares must be in range


@pytest.mark.parametrize(("name", "dtype"), by_dtype(nbp.POOLINGS, FLOATS[:2], COMMON))
def test_agrees_with_the_reference(name, dtype, check):
    for values in kinds_of(name):
        check(8, cases(name, dtype=dtype, values=values))(compared)


OTHERS = [(n, d) if d == "uint8" or (d == "float16" and n in COMMON) else pytest.param(n, d, marks=pytest.mark.full)
          for n in nbp.POOLINGS for d in ("float16", "uint8", "bfloat16", "int32")]


@pytest.mark.parametrize(("name", "dtype"), OTHERS)
def test_agrees_with_the_reference_in_other_dtypes(name, dtype, check):
    check(4, cases(name, dtype=dtype, values=kinds_of(name)[0]))(compared)


# ---------------------------------------------------------------- values

def exact(name, **more):
    """Calls on small exact numbers, in float64."""
    return cases(name, dtype="float64", values="exact", **more)


MEANS = {"norm": "mean", "count_include_pad": False, "divisor_override": None, "eps": 1e-6}  # what makes y a mean of its window
NO_MEANS = ("sum", "std", "max_unpool")
SLIDES = [n for n in nbp.POOLINGS if testing.operation(n, 1).form.name == "sliding"]


def changed(c, **own):
    """A call with other values of those of the named parameters that it has."""
    return Case(c.name, c.ndim, c.args, {**c.kwargs, **{n: v for n, v in own.items() if n in c.op.parameters}}, c.prefix)


def as_mean(c, **own):
    """A call with those values of the parameters that make y a mean of its window."""
    if c.name in ("mixed", "ada"):  # whose share is any number, or many
        c = Case(c.name, c.ndim, (c.x, min(max(float(np.ravel(c.args[1])[0]), 0.0), 1.0)), c.kwargs, c.prefix)
    if "pad_mode" in c.kwargs:  # with zeros around it y is none
        c = Case(c.name, c.ndim, c.args, {**c.kwargs, "pad_mode": "reflect"}, c.prefix)
    return changed(c, **MEANS, **({"t": 3, "alpha": None} if c.name == "rank" else {}), **own)


def windowed(c):
    """The arguments that say where a call's windows are."""
    return {n: v for n, v in c.kwargs.items() if n in ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "output_size")}


@pytest.mark.parametrize(("name", "dtype"), by_dtype([n for n in SLIDES if n not in NO_MEANS], FLOATS[:2], COMMON))
def test_between_the_least_and_the_largest(name, dtype, check):
    @check(6, cases(name, dtype=dtype, values="positive"))
    def law(c):
        least, largest = (testing.function(n, c.ndim, c.prefix)(c.x, **windowed(c)) for n in ("min", "max"))
        testing.between(least, as_mean(c).pool(), largest, np.abs(c.x).max())


@pytest.mark.parametrize("dtype", FLOATS)
def test_mean_below_soft_below_max(dtype, check):
    @check(6, cases("soft", dtype=dtype, values="finite"))
    def law(c):
        own = {} if c.prefix else {"count_include_pad": False}
        mean, largest, scale = (testing.function(n, c.ndim, c.prefix)(x, **windowed(c), **(own if n == "avg" else {}))
                                for n, x in (("avg", c.x), ("max", c.x), ("max", abs(c.x))))
        testing.between(mean, c.pool(), largest, scale.astype(np.float64))


@pytest.mark.parametrize("name", [n for n in nbp.POOLINGS if "global_" in testing.prefixes(n) and n != "lip"])
def test_order_does_not_matter(name, check):
    @check(6, exact(name, prefixes=["global_"]), st.randoms(use_true_random=False))
    def law(c, shuffler):
        order = list(range(math.prod(c.x.shape[2:])))
        shuffler.shuffle(order)
        testing.order_does_not_matter(changed(c, training=False).on, c.x, order)


def test_order_does_not_matter_where_logits_move_along(check):
    @check(6, exact("lip", prefixes=["global_"]), st.randoms(use_true_random=False))
    def law(c, shuffler):
        order = list(range(math.prod(c.x.shape[2:])))
        shuffler.shuffle(order)
        both = np.concatenate([c.x, c.args[1]])
        pool = testing.function("lip", c.ndim, "global_")
        testing.order_does_not_matter(lambda b: pool(*np.split(b, 2)), both, order)


@pytest.mark.parametrize("name", [n for n in nbp.POOLINGS if n not in NO_MEANS])
def test_constants_stay(name, check, request):
    @check(6, exact(name), st.integers(1, 64), st.sampled_from(FLOATS if whole(request) else FLOATS[:2]))
    def law(c, eighths, dtype):
        c.args = tuple(a.astype(testing.dtype_of(dtype)) if np.shape(a) == c.x.shape else a for a in c.args)  # LIP's logits
        testing.constants_stay(as_mean(c).on, c.x.shape, eighths / 8, dtype)


@poolings
def test_nan_spreads_over_its_windows_alone(name, check):
    @check(6, cases(name, dtype="float64", values="finite" if name != "stochastic" else "exact"), st.integers(0, 999))
    def law(c, at):
        place = tuple(int(i) for i in np.unravel_index(at % c.x.size, c.x.shape))
        nan = np.zeros(c.x.shape)
        nan[place] = np.nan
        y, _ = reference(c, nan)
        testing.nan_spreads(c.on, c.x, place, np.isnan(y[0] if isinstance(y, tuple) else y))


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@poolings
def test_layouts_make_no_difference(name, backward, check):
    """To the bit where an element is chosen; a sum may be fused in one loop and not in another."""
    @check(6, exact(name), st.data())
    def law(c, data):
        same = testing.operation(name, 1).formula.family in ("select", "unpool", "draw") and c.kwargs.get("training", True)
        x, *rest = (data.draw(testing.layouts(a)) if isinstance(a, np.ndarray) else a for a in c.args)
        g = data.draw(testing.layouts(testing.upstream(c.pool())))
        run = (lambda a: testing.results(*c.everything[:2], (a, *c.args[1:]), c.kwargs, c.prefix)[1:]) if backward else c.on
        testing.same_everywhere(run, c.x, [x], bool(same))
        if backward:
            other = testing.results(name, c.ndim, (x, *rest), c.kwargs, c.prefix, g)[1:]
            for got, expected in zip(other, run(c.x), strict=True):
                testing.close(got, expected, 8, "gradient for another layout of g")


def test_a_broadcast_input(check):
    @check(12, [case(n, 2, p, dtype="float32", values="exact") for n in SLIDES for p in testing.prefixes(n)], st.integers(0, 4), st.data())
    def law(c, axis, data):
        axis %= c.x.ndim
        x = np.broadcast_to(c.x.take([0], axis), c.x.shape)
        testing.same_everywhere(c.on, np.ascontiguousarray(x), [x, data.draw(testing.layouts(x))], exact=False)


# ---------------------------------------------------------------- gradients

@pytest.mark.parametrize(("name", "dtype"), [
    p for some, chosen in ((FLOATS[:2], COMMON), (FLOATS[2:], ()))
    for p in by_dtype([n for n in nbp.POOLINGS if n not in ("lp", "gem", "gated", "ada", "dpp", *NO_MEANS)], some, chosen)])
def test_gradients_sum_to_g(name, dtype, check):
    @check(5, cases(name, dtype=dtype, values="exact"))
    def law(c):
        y, grad_x = testing.results(*as_mean(c, training=True).everything)[:2]
        testing.sums_to_g(y, grad_x, testing.upstream(y))


@pytest.mark.parametrize("name", ["max", "min", "avg", "lp", "sort", "s3", "fractional_max", "fractional_avg", "stochastic", "max_unpool",
                                  "lip", "ordinal", "rank", "median", "mode", "sum", "mixed", "blur", "max_blur", "idw",
                                  "rank_stochastic"])
def test_adjoint(name, check):
    """Linear poolings, and those that scale with x: for these <f(x), g> = <x, f'(x) g>."""
    @check(6, cases(name, dtype="float64", values="finite"))
    def law(c):
        backward = testing.function(name, c.ndim, c.prefix, backward=True)
        kwargs = {k: v for k, v in c.kwargs.items() if k in inspect.signature(backward).parameters}
        x = c.x / np.abs(c.x).max() if c.x.any() else c.x

        def transposed(g):
            found = backward(g, x, *c.args[1:], **kwargs)
            return found[0] if isinstance(found, tuple) else found
        testing.adjoint(c.on, transposed, x, testing.upstream(c.on(x)))


@pytest.mark.parametrize("name", ["max", "min", "mode", "stochastic", "rank_stochastic", "fractional_max"])
def test_adjoint_of_given_indices(name, check):
    """With the indices of one x, backward is the transpose of gathering another x."""
    @check(6, exact(name), st.integers(0, 999))
    def law(c, number):
        c = changed(c, training=True)
        index = c.pool(return_indices=True)[1]
        other = np.random.default_rng(number).integers(-9, 9, c.x.shape) / 8
        backward = testing.function(name, c.ndim, c.prefix, backward=True)
        kwargs = {k: v for k, v in c.kwargs.items() if k in inspect.signature(backward).parameters}

        def gathered(x):
            return np.take_along_axis(x.reshape(*x.shape[:2], -1), index.reshape(*index.shape[:2], -1), -1).reshape(index.shape)
        testing.adjoint(gathered, lambda g: backward(g, other, indices=index, **kwargs), other, testing.upstream(gathered(other)))


def clear_of_the_mean(c):
    """Whether no window of an IDW pooling has an element at its mean, where y has a kink; that of a single element has none."""
    bound = inspect.signature(testing.function(c.name, c.ndim, c.prefix)).bind(*c.args, **c.kwargs)
    bound.apply_defaults()
    apart = oracle.pool(lambda v: np.abs(v - v.mean()).min() if len(v) > 1 else 1.0, c.x, axes_of(c, bound.arguments, c.x))
    return apart.min() > 1e-3


@poolings
def test_derivatives(name, check):
    """Of x and of every learnable parameter."""
    @check(6, cases(name, dtype="float64", values="distinct"), st.integers(0, 999))
    def law(c, number):
        bound = inspect.signature(testing.function(*c.everything[:2], c.prefix)).bind(*c.args, **c.kwargs)
        bound.apply_defaults()
        names = ["x", *(p.name for p in c.op.parameters.values() if p.learnable and bound.arguments[p.name] is not None)]
        point = [np.asarray(bound.arguments[n], np.float64) for n in names]
        y, *gradients = testing.results(*c.everything)
        assume(np.isfinite(y).all())  # a standard deviation of too few elements is not
        assume(name != "idw" or clear_of_the_mean(c))

        def pool(*values):
            bound.arguments.update(zip(names, (v if v.ndim else float(v) for v in values), strict=True))
            return testing.function(*c.everything[:2], c.prefix)(*bound.args, **bound.kwargs)
        rng = np.random.default_rng(number)
        for moving in range(len(names)):
            directions = [rng.uniform(-1, 1, p.shape) * (i == moving) for i, p in enumerate(point)]
            testing.derivative(pool, gradients, point, directions, testing.upstream(y), 1e-6 if name == "idw" else 1e-5)  # close to kinks


# ---------------------------------------------------------------- one pooling, said in two ways

@poolings
def test_channels_last(name, check):
    @check(6, exact(name))
    def law(c):
        testing.channels_last_is_a_transpose(*c.everything)


@poolings
def test_a_batch_of_one(name, check):
    @check(6, exact(name, batch=1))
    def law(c):
        testing.a_batch_of_one(*c.everything)


@pytest.mark.parametrize("name", SLIDES)
def test_one_more_axis(name, check):
    @check(6, exact(name, ndims=(1, 2)))
    def law(c):
        testing.one_more_axis(*c.everything)


@pytest.mark.parametrize("name", [n for n in nbp.POOLINGS if "global_" in testing.prefixes(n)])
def test_global_is_adaptive_to_one(name, check):
    @check(6, exact(name, prefixes=["global_"]))
    def law(c):
        testing.global_is_adaptive_to_one(*c.everything[:4])


@pytest.mark.parametrize("name", [n for n in nbp.POOLINGS if "adaptive_" in testing.prefixes(n)])
def test_adaptive_with_a_divisor_is_sliding(name, check):
    @check(6, exact(name, prefixes=["adaptive_"]), st.data())
    def law(c, data):
        spatial = c.x.shape[2:]
        out = tuple(data.draw(st.sampled_from([o for o in range(1, n + 1) if n % o == 0])) for n in spatial)
        assume(name != "mixed" or np.ndim(c.args[1]) < 2)  # one a position
        own = {n: 7 if n == "seed" else v for n, v in c.kwargs.items() if n in c.op.parameters and n != "samples"}
        kernel = {"kernel_size": tuple(n // o for n, o in zip(spatial, out, strict=True)), "stride": None, "padding": 0}
        expected = testing.results(name, c.ndim, c.args, {**own, **kernel})
        for got, wanted in zip(testing.results(name, c.ndim, c.args, {**own, "output_size": out}, "adaptive_"), expected, strict=True):
            testing.close(got, wanted, 64, "adaptive")


@pytest.mark.parametrize("name", [n for n in SLIDES if n not in ("lp", "gem", "std")])
def test_a_window_of_one_element_is_the_identity(name, check):
    @check(6, cases(name, prefixes=[""], dtype="float64", values="positive"), st.integers(1, 3))
    def law(c, stride):
        own = {n: v for n, v in as_mean(c).kwargs.items() if n in c.op.parameters and n not in ("samples", "divisor_override")}
        pool, args = testing.function(name, c.ndim), (c.x, np.ones((1,) * c.ndim)) if name == "gated" else as_mean(c).args
        y = pool(*args, kernel_size=1, stride=stride, padding=0, **own)
        testing.close(y, c.x[(..., *[slice(None, None, stride)] * c.ndim)], 8)


def test_lp_with_p_1_is_the_average_of_absolute_values(check):
    @check(6, cases("lp", dtype="float64", values="finite"))
    def law(c):
        own = {} if c.prefix else {"count_include_pad": False}
        mean, scale = (testing.function(n, c.ndim, c.prefix)(abs(c.x), **windowed(c), **o) for n, o in (("avg", own), ("max", {})))
        testing.close(testing.function("lp", c.ndim, c.prefix)(c.x, 1.0, norm="mean", **windowed(c)), mean, scale)


def test_soft_becomes_max_and_average(check):
    @check(6, exact("soft"))
    def law(c):
        soft, largest, mean = (testing.function(n, c.ndim, c.prefix) for n in ("soft", "max", "avg"))
        own = {} if c.prefix else {"count_include_pad": False}
        testing.close(soft(c.x, **windowed(c), temperature=1e-3), largest(c.x, **windowed(c)), 8, "T -> 0")
        np.testing.assert_allclose(soft(c.x, **windowed(c), temperature=1e9), mean(c.x, **windowed(c), **own), atol=1e-6)


def test_avg_by_its_divisors(check):
    """The sum over any count is the average by that count."""
    @check(6, exact("avg", prefixes=[""]), st.sampled_from([1, 3, -7]))
    def law(c, divisor):
        pool = testing.function("avg", c.ndim)
        total = pool(c.x, **windowed(c), divisor_override=1)
        count = pool(np.ones_like(c.x), **windowed(c), divisor_override=1)
        testing.close(pool(c.x, **windowed(c), divisor_override=divisor), total / divisor, 64)
        testing.close(pool(c.x, **windowed(c), count_include_pad=False), total / count, 64)


def test_soft_swap_and_lip_are_one_formula(check):
    @check(6, exact("soft"))
    def law(c):
        soft, swap, lip = (testing.function(n, c.ndim, c.prefix) for n in ("soft", "swap", "lip"))
        testing.close(swap(c.x, **windowed(c)), soft(c.x, **windowed(c)), 8)
        testing.close(lip(c.x, 2 * c.x, **windowed(c)), soft(c.x, **windowed(c), temperature=0.5), 8)


def test_sort_with_equal_weights_is_the_average_and_with_one_the_maximum(check):
    @check(6, exact("sort"))
    def law(c):
        sort, largest, mean = (testing.function(n, c.ndim) for n in ("sort", "max", "avg"))
        testing.close(sort(c.x, np.zeros(7**c.ndim), **windowed(c)), mean(c.x, **windowed(c), count_include_pad=False), 8)
        testing.close(sort(c.x, np.zeros(1), **windowed(c)), largest(c.x, **windowed(c)), 8)


def test_ordinal_is_sort_by_the_weights_themselves(check):
    @check(6, exact("sort"))
    def law(c):
        ordinal, mean = (testing.function(n, c.ndim) for n in ("ordinal", "avg"))
        testing.close(ordinal(c.x, np.exp(c.args[1]), **windowed(c)), c.pool(), 8)
        testing.close(ordinal(c.x, np.full(7**c.ndim, 3.0), **windowed(c)), mean(c.x, **windowed(c), count_include_pad=False), 8)


def test_rank_becomes_max_and_average(check):
    @check(6, exact("rank"))
    def law(c):
        rank, largest, mean = (testing.function(n, c.ndim, c.prefix) for n in ("rank", "max", "avg"))
        own = {} if c.prefix else {"count_include_pad": False}
        for first in ({"t": 1}, {"alpha": 1.0}):
            np.testing.assert_array_equal(rank(c.x, **windowed(c), **first), largest(c.x, **windowed(c)))
        testing.close(rank(c.x, **windowed(c), t=10**6), mean(c.x, **windowed(c), **own), 8)


def test_the_median_is_an_element_with_half_of_them_below(check):
    @check(6, cases("median", dtype="float32", values="finite", prefixes=["global_"]))
    def law(c):
        y, flat = changed(c, even="lower").pool().reshape(*c.x.shape[:2], 1), c.x.reshape(*c.x.shape[:2], -1)
        below, above, n = (flat < y).sum(-1), (flat > y).sum(-1), flat.shape[-1]
        assert (flat == y).any(-1).all() and (below <= (n - 1) // 2).all() and (above <= n // 2).all()


def test_lse_lies_between_the_average_and_the_largest(check):
    @check(6, cases("lse", dtype="float64", values="finite"))
    def law(c):
        own = {} if c.prefix else {"count_include_pad": False}
        mean, largest, scale = (testing.function(n, c.ndim, c.prefix)(x, **windowed(c), **(own if n == "avg" else {}))
                                for n, x in (("avg", c.x), ("max", c.x), ("max", abs(c.x))))
        testing.between(mean, c.pool(), largest, scale)


def test_auto_is_the_average_soft_pooling_and_its_own_mirror(check):
    @check(6, exact("auto"))
    def law(c):
        mean, soft = (testing.function(n, c.ndim, c.prefix) for n in ("avg", "soft"))
        own = {} if c.prefix else {"count_include_pad": False}
        testing.close(changed(c, alpha=0).pool(), mean(c.x, **windowed(c), **own), 8)
        testing.close(changed(c, alpha=4.0).pool(), soft(c.x, **windowed(c), temperature=0.25), 8)
        testing.close(changed(c, alpha=-np.asarray(c.kwargs["alpha"])).on(-c.x), -c.pool(), 8)


def test_min_is_the_mirror_of_max(check):
    @check(6, cases("max", dtype="float32", values="any"))
    def law(c):
        c = changed(c, ignore_nan=False)
        y, index = c.pool(return_indices=True)
        mirrored, same = testing.function("min", c.ndim, c.prefix)(-c.x, **windowed(c), return_indices=True)
        np.testing.assert_array_equal(-mirrored, y)
        np.testing.assert_array_equal(same, index)


def test_unpooling_is_undone_by_max(check):
    """For windows that do not overlap, max(unpool(max(x))) = max(x) where that is above 0."""
    @check(40, NDIM, st.data())
    def law(ndim, data):
        kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(ndim))
        shape = (2, 3, *(k * data.draw(st.integers(1, 5)) for k in kernel))
        x = data.draw(testing.arrays(shape, "float32", "positive"))
        pool, unpool = testing.function("max", ndim), testing.function("max_unpool", ndim)
        y, index = pool(x, kernel, return_indices=True)
        back = unpool(y, index, kernel)
        assert np.count_nonzero(back) == y.size
        np.testing.assert_array_equal(pool(back, kernel), y)


@pytest.mark.parametrize("name", ["fractional_max", "fractional_avg"])
def test_fractional_windows_cover_the_input_once(name, check):
    @check(40, NDIM, st.data())
    def law(ndim, data):
        shape = data.draw(testing.shapes(ndim))
        ratio = data.draw(st.floats(1, 3, width=16))
        assume(min(shape[2:]) >= ratio)
        own = {"pooling_ratio": ratio, "seed": data.draw(st.integers(0, 99)), "pseudo_random": data.draw(st.booleans())}
        y, sequences = testing.function(name, ndim)(np.ones(shape), **own, return_sequences=True)
        for sequence, n in zip(sequences, shape[2:], strict=True):
            steps = np.diff(sequence)
            assert len(steps) == int(np.float32(n) / np.float32(ratio))
            least = n // len(steps)
            assert set(steps) <= ({least, least + 1} if not own["pseudo_random"] else set(range(1, least + 3)))
        counts = testing.function(name, ndim, backward=True)(np.ones_like(y), np.ones(shape), sequences=sequences)
        assert math.isclose(counts.sum(), y.size)


# ---------------------------------------------------------------- the module itself

@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
@pytest.mark.parametrize("module", [testing, strategies])
def test_the_examples_of_the_docstrings_run(module):
    found = doctest.testmod(module)
    assert found.attempted > 2
    assert found.failed == 0


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_windows_for_any_input_fit_every_size_from_nine(ndim, check):
    @check(100, testing.windows(ndim), st.integers(9, 20))
    def law(window, size):
        testing.function("max", ndim)(np.zeros((1, 1, *(size + i for i in range(ndim)))), **window)


def test_the_strategies_reach_what_they_promise(check):
    seen = set()

    @check(300, NDIM.flatmap(testing.shapes).flatmap(lambda s: st.tuples(st.just(s[2:]), testing.windows(len(s) - 2, s[2:]))))
    def law(drawn):
        spatial, w = drawn
        padding, kernel, stride = w["padding"], w["kernel_size"], w["stride"] or w["kernel_size"]
        seen.add(padding if isinstance(padding, str) else "pairs" if np.ndim(padding) == 2 else type(padding).__name__)
        kernel, stride = (v if isinstance(v, tuple | list) else (v,) * len(spatial) for v in (kernel, stride))
        pairs = {"input < kernel": (spatial, kernel), "kernel < stride": (kernel, stride), "stride < kernel": (stride, kernel)}
        seen.update(what for what, (a, b) in pairs.items() if any(map(int.__lt__, a, b)))
        seen.update({"dilated"} if w.get("dilation", 1) != 1 else {}, {"ceil_mode"} if w.get("ceil_mode") else {})
    assert seen == {"int", "tuple", "pairs", "same", "same_lower", "valid", "input < kernel", "kernel < stride", "stride < kernel",
                    "dilated", "ceil_mode"}


@poolings
def test_calls_reach_every_argument(name, check):
    """No parameter that a pooling declares is left out by `calls`."""
    seen = set()

    @check(100, cases(name, dtype="float32", ndims=(2,), values="nan"))  # else none is left out
    def law(c):
        seen.update(c.kwargs)
    for prefix in testing.prefixes(name):
        declared = testing.operation(name, 2, prefix).parameters.values()
        assert {p.name for p in declared if p.direction != "backward" and not p.leading} <= seen
