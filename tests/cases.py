"""The registry: one entry a pooling drives every suite.  A pooling without an entry fails test_registry.

An Example is one valid call with its float64 reference.  `examples(name, ndim)` lists them: every kind of window for the
first variant of a pooling's own parameters, a few windows for each further one.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np
import oracle
import pytest

import numbapool

SIZES = {1: (23,), 2: (7, 11), 3: (5, 4, 7)}  # primes mostly, off every vector width
BATCH, CHANNELS = 2, 3


def sized(values: Any, ndim: int) -> Any:
    """The last ndim entries of a list of per-axis values; anything else as it is."""
    return tuple(values[-ndim:]) if isinstance(values, list) else values


WINDOWS = [  # kernel_size, stride, padding, dilation, ceil_mode
    (2, None, 0, 1, False),
    (3, 2, 1, 1, False),
    ([2, 3, 2], [1, 2, 3], [(1, 0), (0, 2), (1, 1)], 1, False),
    (3, 2, "same", 1, False),
    (4, 3, "same_lower", 1, False),
    (2, 3, 0, 1, True),
    (3, 2, 1, 2, True),
    (2, 1, [(2, 1), (0, 2), (1, 2)], [2, 2, 2], False),
    ([6, 8, 13], 1, [3, 2, 5], 1, False),
]
ADAPTIVE = [[3, 2, 4], 1, [5, 4, 7]]


@dataclass(frozen=True)
class Example:
    """One call: numbapool.<function>(x, *args, **kwargs), and what it must give.

    reference(x, args, kwargs) -> y, or (y, indices); learns are the arguments with a gradient, by place or by keyword.
    """

    label: str
    function: str
    x: np.ndarray
    args: tuple
    kwargs: dict[str, Any]
    reference: Callable[[np.ndarray, tuple, dict[str, Any]], Any]
    learns: tuple[int | str, ...] = ()
    indexed: bool = False
    integers: bool = False

    def __str__(self) -> str:
        return self.label

    @property
    def forward(self) -> Callable[..., Any]:
        """The public function."""
        return getattr(numbapool, self.function)

    @property
    def backward(self) -> Callable[..., Any]:
        """Its backward."""
        return getattr(numbapool, f"{self.function}_backward")

    def expected(self, x: np.ndarray | None = None, args: tuple | None = None, **changed: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """The reference's y, and its indices where the pooling has them, for the example's arguments or others in their place."""
        result = self.reference(self.x if x is None else x, self.args if args is None else args, {**self.kwargs, **changed})
        return result if isinstance(result, tuple) else (result, None)

    def argument(self, place: int | str | None) -> np.ndarray:
        """A differentiable argument: x, by place, or by keyword (its default where it is not given)."""
        if place is None:
            return self.x
        if isinstance(place, int):
            return np.asarray(self.args[place], np.float64)
        return np.asarray(self.kwargs.get(place, inspect.signature(self.forward).parameters[place].default), np.float64)

    def with_argument(self, place: int | str | None, value: np.ndarray) -> np.ndarray:
        """The reference's y with another value of a differentiable argument."""
        if place is None:
            return self.expected(value)[0]
        if isinstance(place, int):
            return self.expected(args=(*self.args[:place], value, *self.args[place + 1:]))[0]
        return self.expected(**{place: value})[0]


@dataclass(frozen=True)
class Case:
    """A pooling: its reference on given windows, and the variants of its own parameters.

    reference(x, axes, args, own) -> y or (y, indices); a variant is (rng, x, out shape) -> (leading args, own keywords).
    """

    reference: Callable[..., Any] | None = None
    variants: tuple[Callable[..., tuple[tuple, dict[str, Any]]], ...] = (lambda rng, x, out: ((), {}),)
    learns: tuple[int | str, ...] = ()
    indexed: bool = False
    integers: bool = False
    forms: tuple[str, ...] = ("sliding", "adaptive", "global")
    only_sliding: tuple[int, ...] = ()
    special: Callable[[int], Iterator[Example]] | None = None
    values: Callable[[np.random.Generator, tuple], np.ndarray] = field(default=lambda rng, shape: rng.standard_normal(shape))


def avg(x, axes, args, own):
    return oracle.pool(oracle.avg, x, axes, oracle.divisors(axes, own.get("count_include_pad", True), own.get("divisor_override")))


def lp(x, axes, args, own):
    n = oracle.divisors(axes, False) if own.get("norm") == "mean" else 1.0
    return oracle.pool(oracle.lp, x, axes, args[0], n)


def gem(x, axes, args, own):
    return oracle.pool(oracle.gem, x, axes, over_channels(own.get("p", 3.0), x), own.get("eps", 1e-6))


def lse(x, axes, args, own):
    return oracle.pool(oracle.lse, x, axes, over_channels(own.get("r", 1.0), x))


def auto(x, axes, args, own):
    return oracle.pool(oracle.auto, x, axes, over_channels(own["alpha"], x))


def mixed(x, axes, args, own):
    a = np.asarray(args[0])
    return oracle.pool(oracle.mixed, x, axes, over_channels(a, x) if a.ndim < 2 else a)


def blur(ndim: int) -> Iterator[Example]:
    """Filters of even and odd sizes, borders wider than the input among them."""
    rng = np.random.default_rng(ndim)
    variants = [((), {}), ((3, 1), {"pad_mode": "replicate"}), ((sized([2, 5, 4], ndim), sized([1, 3, 2], ndim)), {"pad_mode": "constant"}),
                ((7, 2), {}), ((1, 2), {})]
    for i, (args, kwargs) in enumerate(variants):
        for spatial in [SIZES[ndim]] + [(2,) * ndim, (1,) * ndim] * (i == 3):
            x = rng.standard_normal((BATCH, CHANNELS, *spatial))
            yield Example(f"blur{ndim}d-{args}-{spatial}", f"blur_pool{ndim}d", x, args, kwargs, lambda x, a, kw: oracle.blur(x, *a, **kw))


def max_blur(ndim: int) -> Iterator[Example]:
    """Kernels and filters of even and odd sizes."""
    rng = np.random.default_rng(ndim)
    for args, kwargs in (
            ((), {}), ((sized([2, 3, 1], ndim), 1, 3), {"pad_mode": "replicate"}), ((3, 2, sized([2, 5, 4], ndim)), {"pad_mode": "constant"})):
        x = rng.standard_normal((BATCH, CHANNELS, *SIZES[ndim]))
        yield Example(f"max_blur{ndim}d-{args}", f"max_blur_pool{ndim}d", x, args, kwargs, lambda x, a, kw: oracle.max_blur(x, *a, **kw))


def dpp(ndim: int) -> Iterator[Example]:
    """Lite and full, symmetric and not, on an odd axis, too."""
    rng = np.random.default_rng(ndim)
    for full in (False, True):
        for symmetric in (True, False):
            x, args = rng.standard_normal((BATCH, CHANNELS, *SIZES[ndim])), tuple(rng.standard_normal((2, CHANNELS)))
            own = {"symmetric": symmetric} | ({"weight": rng.standard_normal((CHANNELS, *(3,) * ndim)) / 3**ndim} if full else {})
            yield Example(f"dpp{ndim}d-{full}-{symmetric}", f"dpp_pool{ndim}d", x, args, own, lambda x, a, kw: oracle.dpp(x, *a, **kw),
                          (0, 1, "weight") if full else (0, 1))


def ada(x, axes, args, own):
    return oracle.pool(oracle.ada, x, axes, args[0])


def gated(ndim: int) -> Iterator[Example]:
    """omega has the kernel's shape, so each window has an omega of its own."""
    rng = np.random.default_rng(ndim)
    for label, _, args, kwargs, axes in windowed("gated", ndim):
        x = rng.standard_normal((BATCH, CHANNELS, *SIZES[ndim]))
        each = [v if isinstance(v, tuple) else (v,) * ndim for v in (args[0], args[1] or args[0], args[2], kwargs["dilation"])]
        numbers = oracle.tap_numbers(axes, *each, x.shape[2:])
        yield Example(f"gated{ndim}d-{label}", f"gated_pool{ndim}d", x, (rng.standard_normal(each[0]), *args), kwargs,
                      lambda x, a, kw, axes=axes, numbers=numbers: oracle.by_position(oracle.gated, x, axes, numbers, a[0]), (0,))


def over_channels(value, x):
    """One number, or one a channel."""
    return np.reshape(value, (-1, *(1,) * (x.ndim - 2)))


def lip(x, axes, args, own):
    return oracle.pool(oracle.lip, x, axes, element=args[0])


def by_rank(formula):
    def reference(x, axes, args, own):
        weight = np.asarray(args[0])
        return oracle.pool(formula, x, axes, weight=np.broadcast_to(weight, (x.shape[1], weight.shape[-1])))
    return reference


def rank(x, axes, args, own):
    return oracle.pool(lambda v: oracle.rank(v, **own_of(own, "t", "alpha")), x, axes)


def own_of(own, *names):
    return {n: own[n] for n in names if n in own}


def stochastic(x, axes, args, own):
    if own.get("training", True):
        return oracle.pool(oracle.stochastic, x, axes, own["samples"], return_indices=True)
    return oracle.pool(oracle.stochastic_inference, x, axes)


def rank_stochastic(x, axes, args, own):
    if own.get("training", True):
        return oracle.pool(oracle.rank_stochastic, x, axes, own["samples"], own.get("alpha", 0.5), return_indices=True)
    return oracle.pool(oracle.rank_stochastic_inference, x, axes, own.get("alpha", 0.5))


def of_size(draw, *sizes):
    """Variants with an array of each of some sizes as leading argument."""
    return tuple(lambda rng, x, out, size=size: ((draw(rng, size),), {}) for size in sizes)


def given(*args: Any, **own: Any) -> Callable[..., tuple[tuple, dict[str, Any]]]:
    """A variant with fixed parameters."""
    return lambda rng, x, out: (args, own)


def drawn(rng, x, out):
    """Samples of the output's shape, 0 among them."""
    samples = rng.random(out)
    samples.flat[0] = 0
    return (), {"samples": samples}


# ---------------------------------------------------------------- windows of their own

def s3(ndim: int) -> Iterator[Example]:
    rng = np.random.default_rng(ndim)
    x = rng.standard_normal((BATCH, CHANNELS, *(n + 3 for n in SIZES[ndim])))
    for kernel in (2, sized([3, 2, 2], ndim)):
        per = (kernel,) * ndim if isinstance(kernel, int) else kernel
        rows = [np.sort(rng.choice(n - k + 1, n // k, replace=False)) for n, k in zip(x.shape[2:], per, strict=True)]
        name = f"s3_pool{ndim}d"
        yield Example(f"{name}-{kernel}-indices", name, x, (kernel,), {"indices": rows}, lambda x, a, kw, p=per, r=rows: oracle.s3(x, p, r))
        yield Example(f"{name}-{kernel}-inference", name, x, (kernel,), {"training": False}, lambda x, a, kw, p=per: oracle.s3_inference(x, p))


def sequence(rng: np.random.Generator, size: int) -> np.ndarray:
    """Boundaries from 0 to size."""
    inner = np.sort(rng.choice(np.arange(1, size), size // 2, replace=False))
    return np.concatenate([[0], inner, [size]])


def fractional(name: str, formula: Any, ndim: int) -> Iterator[Example]:
    """TensorFlow's windows."""
    rng = np.random.default_rng(ndim)
    x = rng.standard_normal((BATCH, CHANNELS, *SIZES[ndim]))
    function = f"{name}_pool{ndim}d"
    for overlapping in (False, True):
        cuts = [sequence(rng, n) for n in SIZES[ndim]]
        axes = [oracle.boundaries(s, overlapping) for s in cuts]
        indexed = formula is oracle.maximum

        def reference(x, a, kw, axes=axes):
            if formula is oracle.maximum:
                return oracle.pool(formula, x, axes, return_indices=True)
            return oracle.pool(formula, x, axes, oracle.divisors(axes, False))
        yield Example(f"{function}-overlapping={overlapping}", function, x, (), {"sequences": cuts, "overlapping": overlapping}, reference,
                      indexed=indexed, integers=indexed)


def fractional_max(ndim: int) -> Iterator[Example]:
    yield from fractional("fractional_max", oracle.maximum, ndim)
    rng = np.random.default_rng(7 + ndim)
    x = rng.standard_normal((BATCH, CHANNELS, *SIZES[ndim]))
    for kernel, out in ((2, sized([3, 3, 5], ndim)), (sized([2, 2, 3], ndim), 2), (1, 1)):
        samples = rng.random((BATCH, CHANNELS, ndim))
        name, per = f"fractional_max_pool{ndim}d", (lambda v: (v,) * ndim if isinstance(v, int) else v)

        def reference(x, a, kw, k=per(kernel), o=per(out), u=samples):
            return oracle.fractional_max(x, k, o, u)
        yield Example(f"{name}-{kernel}-{out}", name, x, (kernel,), {"output_size": out, "samples": samples}, reference, indexed=True, integers=True)


def max_unpool(ndim: int) -> Iterator[Example]:
    rng = np.random.default_rng(ndim)
    ones = (1,) * ndim  # whose strides say nothing of the memory order
    for spatial, stride, size in ((SIZES[ndim], None, None), (SIZES[ndim], 3, tuple(3 * n for n in SIZES[ndim])), (ones, None, None)):
        x = rng.standard_normal((BATCH, CHANNELS, *spatial))
        plane = size or tuple(2 * n for n in spatial)
        cells, count = int(np.prod(plane)), int(np.prod(spatial))
        indices = np.array([[rng.choice(cells, count, replace=False) for _ in range(CHANNELS)] for _ in range(BATCH)]).reshape(x.shape)
        name = f"max_unpool{ndim}d"
        yield Example(f"{name}-{spatial}-{stride}", name, x, (indices, 2, stride), {"output_size": size},
                      lambda x, a, kw, p=plane: oracle.unpool(x, a[0], p), integers=True)


CASES: dict[str, Case] = {
    "max": Case(lambda x, axes, args, own: oracle.pool(oracle.maximum, x, axes, return_indices=True), indexed=True, integers=True),
    "min": Case(lambda x, axes, args, own: oracle.pool(oracle.minimum, x, axes, return_indices=True), indexed=True, integers=True),
    "avg": Case(avg, (given(), given(count_include_pad=False), given(divisor_override=-3)), only_sliding=(1, 2)),
    "sum": Case(lambda x, axes, args, own: oracle.pool(oracle.total, x, axes)),
    "std": Case(lambda x, axes, args, own: oracle.pool(oracle.std, x, axes, own.get("correction", 0.0)), (given(), given(correction=0.5))),
    "lp": Case(lp, tuple(given(p, norm=n) for p, n in ((2, "sum"), (1.0, "mean"), (0.5, "mean"), (3, "mean"), (2.5, "sum"), (1.7, "sum")))),
    "gem": Case(gem, (given(), given(p=1.0), given(p=2), given(p=np.array([0.7, 2.0, 3.5]), eps=0.1), given(p=np.array(4.0)), given(p=2.6)),
                learns=("p",)),
    "lse": Case(lse, (given(), given(r=0.1), given(r=np.array([0.5, 4.0, 300.0])), given(r=np.array(10.0))), learns=("r",)),
    "soft": Case(lambda x, axes, args, own: oracle.pool(oracle.soft, x, axes, own.get("temperature", 1.0)), (given(), given(temperature=0.3))),
    "swap": Case(lambda x, axes, args, own: oracle.pool(oracle.soft, x, axes)),
    "auto": Case(auto, (given(alpha=1.0), given(alpha=0), given(alpha=-1.5), given(alpha=np.array([-3.0, 0.0, 90.0]))), learns=("alpha",)),
    "lip": Case(lip, (lambda rng, x, out: ((rng.standard_normal(x.shape),), {}),), learns=(0,)),
    "sort": Case(by_rank(oracle.sort), of_size(lambda rng, size: rng.standard_normal(size), (4,), (CHANNELS, 2), (50,)), learns=(0,),
                 forms=("sliding",)),
    "ordinal": Case(by_rank(oracle.ordinal), of_size(lambda rng, size: rng.random(size) + 0.1, (4,), (CHANNELS, 2), (50,)), learns=(0,),
                    forms=("sliding",)),
    "rank": Case(rank, (given(t=2), given(t=1), given(alpha=0.4), given(t=50))),
    "median": Case(lambda x, axes, args, own: oracle.pool(lambda v: oracle.median(v, **own_of(own, "even")), x, axes), (given(), given(even="mean"))),
    "mode": Case(lambda x, axes, args, own: oracle.pool(oracle.mode, x, axes, return_indices=True), indexed=True, integers=True,
                 values=lambda rng, shape: rng.integers(-2, 3, shape).astype(float)),
    "mixed": Case(mixed, (given(0.5), given(np.array([-1.0, 0.3, 2.0])), lambda rng, x, out: ((rng.random(out[1:]),), {})), learns=(0,)),
    "gated": Case(special=gated, forms=("sliding",)),
    "idw": Case(lambda x, axes, args, own: oracle.pool(oracle.idw, x, axes)),
    "blur": Case(special=blur),
    "max_blur": Case(special=max_blur),
    "dpp": Case(special=dpp),
    "ada": Case(ada, (given(0.7), lambda rng, x, out: ((rng.random(out[2:]),), {})), learns=(0,), forms=("sliding",)),
    "stochastic": Case(stochastic, (drawn, given(training=False)), indexed=True),
    "rank_stochastic": Case(rank_stochastic, (drawn, given(training=False), given(alpha=0.3, training=False),
                                              lambda rng, x, out: ((), {**drawn(rng, x, out)[1], "alpha": 0.2})), indexed=True),
    "s3": Case(special=s3),
    "fractional_max": Case(special=fractional_max),
    "fractional_avg": Case(special=lambda ndim: fractional("fractional_avg", oracle.avg, ndim)),
    "max_unpool": Case(special=max_unpool),
}


def windowed(name: str, ndim: int) -> Iterator[tuple[str, str, tuple, dict[str, Any], Any]]:
    """(label, prefix, window args, window keywords, axes) of every kind of window that a pooling has."""
    spatial, case = SIZES[ndim], CASES[name]
    if "sliding" in case.forms:
        for i, (k, s, p, d, c) in enumerate(WINDOWS):
            k, s, p, d = (sized(v, ndim) for v in (k, s, p, d))
            yield f"window{i}", "", (k, s, p), {"dilation": d, "ceil_mode": c}, oracle.sliding_axes(spatial, k, s, p, d, c)
    if "adaptive" in case.forms:
        for out in ADAPTIVE:
            sizes = sized(out, ndim)
            per = (sizes,) * ndim if isinstance(sizes, int) else sizes
            yield f"{sizes}", "adaptive_", (sizes,), {}, [oracle.adaptive(n, o) for n, o in zip(spatial, per, strict=True)]
    if "global" in case.forms:
        yield "whole", "global_", (), {}, [oracle.adaptive(n, 1) for n in spatial]


def examples(name: str, ndim: int, few: bool = False, every: bool = True) -> list[Example]:
    """The examples of a pooling; few: one window of each kind; few, or not every: three variants of its own parameters."""
    case = CASES[name]
    if case.special is not None:
        return list(case.special(ndim))
    result = []
    rng = np.random.default_rng([ndim, len(name)])
    kinds: set[str] = set()
    for w, (label, prefix, args, kwargs, axes) in enumerate(windowed(name, ndim)):
        if few and prefix in kinds and w != 1:
            continue
        kinds.add(prefix)
        for v, variant in enumerate(case.variants):
            if (few or not every) and v not in (0, len(case.variants) // 2, len(case.variants) - 1):
                continue
            if (v and prefix and v in case.only_sliding) or (v and not few and w not in (1, 6, len(WINDOWS) + 1)):
                continue
            x = case.values(rng, (BATCH, CHANNELS, *SIZES[ndim]))
            out = (BATCH, CHANNELS, *map(len, axes))
            leading, own = variant(rng, x, out)

            def reference(x, a, kw, axes=axes, n=len(leading)):
                return case.reference(x, axes, a[:n], kw)
            result.append(Example(f"{prefix}{name}{ndim}d-{label}-{v}", f"{prefix}{name}_pool{ndim}d", x, (*leading, *args), {**kwargs, **own},
                                  reference, case.learns, case.indexed and own.get("training", True), case.integers))
    return result


def whole(request: pytest.FixtureRequest) -> bool:
    """Whether this is the full suite, which deselects no test that is marked so."""
    return "not full" not in request.config.option.markexpr


ALL = [(name, ndim) for name in CASES for ndim in (1, 2, 3)]
PLAIN = numba.config.DISABLE_JIT  # where an element takes microseconds: gradients of 3d, by the loops of 2d, are left to test-full
GRADIENTS = [pytest.param(name, ndim, marks=pytest.mark.full) if PLAIN and ndim == 3 else (name, ndim) for name, ndim in ALL]
COMMON = ("max", "avg", "soft", "sort", "stochastic")  # one for each family of loops
CHOSEN = ("max", "soft")  # whose other dtypes are tried where nobody asks for the full suite


def by_dtype(names: Iterable[str], dtypes: Iterable[str], chosen: Container[str] = CHOSEN) -> list[Any]:
    """(name, dtype) for parametrize: float32 of all, of other dtypes the chosen ones, each for a kind of loop; the rest in test-full."""
    return [(n, d) if d == "float32" or n in chosen else pytest.param(n, d, marks=pytest.mark.full) for n in names for d in dtypes]


# by dtypes that share their arithmetic: all of float32, one pooling for each family of loops of the halves; the rest in test-full
FLOATS = [(name, ndim, dtype) if (dtype == "float32" and not (PLAIN and ndim == 3))
          or (ndim == 2 and ((name in COMMON and dtype == "float16") or (name in CHOSEN and dtype == "bfloat16")))
          else pytest.param(name, ndim, dtype, marks=pytest.mark.full) for name, ndim in ALL for dtype in ("float32", "float16", "bfloat16")]
