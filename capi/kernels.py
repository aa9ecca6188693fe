"""Which kernels the C library holds, and the tables through which C finds them.

Python compiles a kernel for what a call needs; a library cannot, and all that Python could ask for would be 100 MB.  So the general kernels of every
pooling are there for every dtype, and the fast ones where they pay.  C looks for the fast one first and takes the general one where there is none:
`selection` decides about size and speed, never about results.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from numbapool import kernels, publish, weigh
from numbapool.numeric import DTYPES, FLOATS, HALVES

from . import functions

SAME = {  # poolings whose kernels are those of another one, with what its further numbers then are
    "swap": ("soft", (1.0,)), "sum": ("avg", ()), "fractional_avg": ("avg", ()), "fractional_max": ("max", ()), "s3": ("max", ()),
    "ordinal": ("sort", ()), "rank": ("sort", ()), "median": ("sort", ()),
}
PARTS = ("edscw",)  # folds that composed poolings are made of, without functions of their own
# the kernels of half types, by formulas: where they are faster than copies in float32, which C computes all else by (slices.c)
HALVED = {"avg": ("QUAD",), "soft": ("QUAD", "GENERAL"), "max": ("QUAD",), "index": ("SCATTER_ADD", "SCATTER_REPLACE", "SCATTER_OWN", "GATHER")}
# dtypes that choices and votes have kernels of; other integers take those of one that holds all their values in order (slices.c)
CHOSEN = (*FLOATS, "uint8", "int64")
COMMON = ("avg", "soft")  # folds that have the loop for 3x3 windows not in float32 alone
SURVEYING = ("std", "idw", "edscw")  # folds with a first pass over their windows that have loops for 2x2 windows, in float32
WIDE = ("float32", "float64")
VALUES = {"lp": ("norm_type", 2.0), "gem": ("p", 3.0)}  # values of a parameter that have kernels of their own
# and others that share some, with the functions of the formula that know them all
FEW = {"lp": ("norm_type", (0.5, 1.0, 1.5, 2.5, 3.0, 4.0), ("raised", "raised_less", "lowered", "near_spread")),
       "gem": ("p", (1.0, 2.0, 4.0), ("powered", "lowered"))}
# folds that are seldom asked for: small windows take the loops of all others, the newest processors those of the ones before
SELDOM = ("stochastic_inference", "lp_few", "gem_few", "nanavg", "nansum")
LOOPS = (
    # of folds, and of choices without places
    "GENERAL", "GENERAL_WIDE", "SWEEP", "SWEEP_STRAIGHT", "QUAD", "QUAD_CHANNELS", "NINE_CHANNELS", "EIGHT", "THREE_ROWS", "PLANES",
    "PLACES", "PLACES_WIDE", "PLACES_QUAD", "PLACES_NINE", "PLACES_SHORT", "PLACES_OWN", "PLACES_WHOLE",  # of choices with their places
    "PLACES_SEPARATE",  # of gradients of choices
    "PLACES_QUAD_CHANNELS",  # of draws
    "FEW_SHORT", "SHORT_ONES", "LONG_ONES",  # by rank: few elements, short windows
    "VOTE_FEW", "VOTE_SORTED",  # with places
    "SCATTER_ADD", "SCATTER_REPLACE", "SCATTER_OWN", "SCATTER_WHOLE", "GATHER",  # by indices
    "BUNDLE",  # small planes side by side, for other kernels
    "WEIGH", "WEIGH_SUMS",  # sums of elements times weights, and the gradient of these
    "DETAIL",  # detail-preserving pooling
)


SPECIAL = ("QUAD", "QUAD_CHANNELS", "EIGHT")  # loops of folds that take windows side by side: results are bit for bit those of any others
KINDS = ("avg", "soft", "max", "lip", "std", "idw", "lp")  # plain sums, exponentials, choices, logits, first passes, a parameter


@dataclass(frozen=True)
class Entry:
    """One kernel: C's key for it, and what makes it.

    plain: whether it is wanted for the oldest processors, too; spare: whether the newest do with the kernel of those before them, which gives the
    same bits: it is seldom asked for, or goes element by element.
    """

    formula: str
    backward: bool
    dtype: str
    loop: str
    make: Callable[[], Any]
    plain: bool = False
    spare: bool = False

    @property
    def name(self) -> str:
        """The name of its function, but for the processor's."""
        return f"numbapool_{self.formula}_{'backward' if self.backward else 'forward'}_{self.dtype}_{self.loop}".lower()

    def symbol(self, processor: str) -> str:
        """The name of its function for a processor."""
        return f"{self.name}_for_{processor}".replace("-", "_")


@dataclass(frozen=True)
class Formula:
    """A formula as kernels see it: a pooling's module with options in place.  values: the parameter's values that ask for it."""

    name: str
    module: Any
    numbers: int = 0
    arrays: int = 0
    forward: tuple = ()
    backward: tuple = ()
    parameter: str = ""
    values: tuple[float | str, ...] = ()
    only_backward: bool = False

    @property
    def learns(self) -> bool:
        """Whether its backward pass makes the gradient of a parameter."""
        return hasattr(self.module, "param_slope")

    @property
    def plain_sum(self) -> bool:
        """Whether gradients need nothing of the elements."""
        return not getattr(self.module, "recompute", True)


@functools.cache
def module(pooling: str) -> Any:
    """The file of a pooling."""
    return publish.operations(pooling)[0].formula


def fold_name(pooling: str) -> str:
    """What a pooling's fold is called: that of a draw takes its place outside of training."""
    return pooling if module(pooling).family == "fold" else f"{pooling}_inference"


def folds(pooling: str) -> bool:
    """Whether a pooling has a fold."""
    return "fold" in (module(pooling).family, getattr(module(pooling), "inference", ""))


def formulas(pooling: str) -> list[Formula]:
    """The formulas of a fold: the general one, then those that options and certain values ask for."""
    formula = module(pooling)
    parameters = getattr(formula, "parameters", ())
    numbers = sum(p.kind in ("number", "positive") for p in parameters)
    arrays = sum(p.kind == "array" for p in parameters)
    found = [Formula(fold_name(pooling), formula, numbers, arrays)]
    for p in parameters:
        for choice, functions_in_place in p.choices.items():
            if functions_in_place:
                options = tuple(sorted(functions_in_place.items()))
                found.append(Formula(f"{pooling}_{choice}", formula, numbers, arrays, (), options, p.name, (choice,), True))
    if pooling in VALUES:
        name, value = VALUES[pooling]
        options = tuple(sorted(formula.variant({name: value}).items()))
        found.append(Formula(f"{pooling}_{name}_{value:g}", formula, numbers, arrays, options, options, name, (value,)))
        name, values, replaced = FEW[pooling]
        options = tuple((n, f"{n}_few") for n in sorted(replaced))
        found.append(Formula(f"{pooling}_few", formula, numbers, arrays, options, options, name, values))
    return found


def ignoring(pooling: str, divided: bool = False) -> Any:
    """The formula that takes a pooling's place where NaN is left out, or None; divided : by a number that is given."""
    find = getattr(module(pooling), "ignoring_nan", None)
    return find and find({"divisor_override": 1} if divided else {})


def name_of(formula: Any) -> str:
    """The name of a formula's file."""
    return formula.__name__.rpartition(".")[2]


@functools.cache
def ignoring_formulas() -> tuple[Any, ...]:
    """All of these, each once."""
    return tuple(dict.fromkeys(f for p in functions.poolings() for divided in (False, True) if (f := ignoring(p, divided))))


def ignoring_folds() -> list[Formula]:
    """The folds among them."""
    numbers = {f: sum(p.kind == "number" for p in getattr(f, "parameters", ())) for f in ignoring_formulas()}
    return [Formula(name_of(f), f, n) for f, n in numbers.items() if f.family == "fold"]


def fold(f: Formula, dtypes: tuple[str, ...]) -> Iterator[Entry]:
    """The kernels of a fold."""
    kind = f.numbers, f.arrays
    for dtype in dtypes:
        for backward in ((True,) if f.only_backward else (False, True)):
            options = f.backward if backward else f.forward
            arguments = (f.module, backward, dtype, *kind, options)

            def entry(loop: str, make: Callable[..., Any], *more: Any, plain: bool = False, arguments: tuple = arguments) -> Entry:
                return Entry(f.name, arguments[1], arguments[2], loop, lambda: make(*arguments, *more), plain, f.name in SELDOM)

            yield entry("GENERAL", kernels.fold_kernel, plain=True)
            if not hasattr(f.module, "common"):
                if f.name in SURVEYING and dtype == "float32":
                    yield entry("QUAD", kernels.direct_kernel, "quad", False)
                    yield entry("QUAD_CHANNELS", kernels.direct_kernel, "quad", True)
                continue
            yield entry("SWEEP", kernels.sweep_kernel)
            if dtype not in HALVES:  # whose sums are in an order of their own, so that results depend on this loop; of the others only the time does
                yield entry("PLANES", kernels.direct_kernel, "planes", False)
            if f.name in SELDOM or (f.only_backward and dtype != "float32"):
                continue
            if f.plain_sum and not backward and dtype not in HALVES:
                yield entry("SWEEP_STRAIGHT", kernels.sweep_kernel, True)
            yield entry("QUAD", kernels.direct_kernel, "quad", False)
            if dtype in HALVES:
                continue
            yield entry("QUAD_CHANNELS", kernels.direct_kernel, "quad", True)
            if dtype == "float32" or f.name in COMMON:
                yield entry("THREE_ROWS", kernels.direct_kernel, "three", False)
                yield entry("EIGHT", kernels.direct_kernel, "eight", False)
            if f.plain_sum:
                yield entry("NINE_CHANNELS", kernels.direct_kernel, "nine", True)


def select(pooling: str) -> Iterator[Entry]:
    """The kernels of a choice: fast ones for max and floating dtypes, and for 2x2 windows of images' uint8.

    Places of 64 bits serve every plane; those of 32 bits are faster.
    """
    formula = module(pooling)
    for dtype in CHOSEN:
        def entry(loop: str, make: Callable[..., Any], *arguments: Any, backward: bool = False, plain: bool = False, dtype: str = dtype) -> Entry:
            return Entry(pooling, backward, dtype, loop, lambda: make(*arguments), plain, loop == "PLACES_WIDE" and dtype in FLOATS)

        def direct(loop: str, shape: str, channel: bool, entry: Callable[..., Entry] = entry, dtype: str = dtype) -> Entry:
            return entry(loop, kernels.direct_kernel, formula, False, dtype, 0, 0, (), shape, channel)

        if dtype in FLOATS or dtype == "uint8":
            yield entry("PLACES", kernels.select_kernel, formula, dtype, True, False)
        yield entry("PLACES_WIDE", kernels.select_kernel, formula, dtype, True, True, plain=True)
        yield entry("GENERAL", kernels.select_kernel, formula, dtype, False, False, plain=True)
        if dtype in FLOATS:
            yield entry("PLACES", kernels.select_backward_kernel, formula, dtype, False, backward=True)
            yield entry("PLACES_WIDE", kernels.select_backward_kernel, formula, dtype, True, backward=True, plain=True)
            yield entry("PLACES_SEPARATE", kernels.select_backward_kernel, formula, dtype, False, "separate", backward=True)
        if dtype in FLOATS or dtype == "uint8":
            yield entry("SWEEP", kernels.choose_kernel, formula, dtype, False)
        if pooling == "min":
            continue
        if dtype in FLOATS:
            yield from (entry(f"PLACES_{s.upper()}", kernels.select_kernel, formula, dtype, True, False, s) for s in ("quad", "nine", "short"))
            yield entry("PLACES_OWN", kernels.select_backward_kernel, formula, dtype, False, "own", backward=True)
            yield entry("PLACES_WHOLE", kernels.select_kernel, formula, dtype, True, False, "whole")
            yield entry("PLACES_WHOLE", kernels.select_backward_kernel, formula, dtype, False, "whole", backward=True)
        if dtype in FLOATS or dtype == "uint8":
            yield direct("QUAD", "quad", False)
        if dtype in ("float32", "float64", "uint8"):
            yield direct("QUAD_CHANNELS", "quad", True)
            yield direct("PLANES", "planes", False)
        if dtype in ("float32", "float64"):
            yield entry("SWEEP_STRAIGHT", kernels.choose_kernel, formula, dtype, True)
            yield direct("THREE_ROWS", "three", False)
            yield direct("EIGHT", "eight", False)
            yield direct("NINE_CHANNELS", "nine", True)
            yield from (entry(f"PLACES_{s.upper()}", kernels.select_backward_kernel, formula, dtype, False, s, backward=True)
                        for s in ("quad", "nine", "short"))


def ignoring_select(formula: Any) -> Iterator[Entry]:
    """The kernels of a choice that leaves NaN out, which are seldom asked for: the newest processors take those of the ones before."""
    for dtype in WIDE:
        def entry(loop: str, backward: bool, make: Callable[..., Any], *arguments: Any, dtype: str = dtype) -> Entry:
            return Entry(name_of(formula), backward, dtype, loop, lambda: make(formula, dtype, *arguments), True, True)

        yield entry("GENERAL", False, kernels.select_kernel, False, False)
        yield entry("PLACES_WIDE", False, kernels.select_kernel, True, True)
        yield entry("PLACES_WIDE", True, kernels.select_backward_kernel, True)


def vote(pooling: str) -> Iterator[Entry]:
    """The kernels of a vote, which always tell places."""
    for dtype in (d for d in CHOSEN if d not in HALVES):
        for loop, few in (("VOTE_FEW", True), ("VOTE_SORTED", False)):
            yield Entry(pooling, False, dtype, loop, lambda dtype=dtype, few=few: kernels.vote_kernel(dtype, True, few), True, not few)


def draw(pooling: str) -> Iterator[Entry]:
    """The kernels of a draw, whose time is its random numbers': 2x2 windows have loops of their own, places of 64 bits serve all others."""
    formula = module(pooling)
    for dtype in FLOATS:
        for loop, backward, indexed in (("GENERAL", False, False), ("PLACES", False, True), ("PLACES", True, False)):
            def entry(name: str, *kind: bool, plain: bool = False, backward: bool = backward, indexed: bool = indexed, dtype: str = dtype) -> Entry:
                return Entry(pooling, backward, dtype, name, lambda: kernels.draw_kernel(formula, backward, dtype, indexed, *kind), plain)

            yield entry(f"{loop}_WIDE", True, False, False, plain=True)
            if dtype not in HALVES:
                quad = "QUAD" if loop == "GENERAL" else "PLACES_QUAD"
                yield entry(quad, False, True, False)
                yield entry(f"{quad}_CHANNELS", False, True, True)


def order(pooling: str) -> Iterator[Entry]:
    """The kernels of a pooling by rank."""
    for dtype in FLOATS:
        for backward in (False, True):  # which makes the gradient of the weights, too
            def entry(loop: str, make: Callable[..., Any], *kind: bool, plain: bool = False, backward: bool = backward,
                      dtype: str = dtype) -> Entry:
                return Entry(pooling, backward, dtype, loop, lambda: make(backward, dtype, *kind, backward), plain, loop == "LONG_ONES")

            for loop, few, short in (("FEW_SHORT", True, True), ("SHORT_ONES", False, True), ("LONG_ONES", False, False)):
                yield entry(loop, kernels.order_kernel, few, short, plain=True)
            if dtype not in HALVES:
                yield entry("QUAD", kernels.order_quad_kernel, False)
                yield entry("QUAD_CHANNELS", kernels.order_quad_kernel, True)


def indexed() -> Iterator[Entry]:
    """The kernels that follow indices, of no formula; integers are moved, so that those without signs serve the others."""
    for dtype in (d for d in DTYPES if d in FLOATS or d.startswith("uint")):
        if dtype in FLOATS:
            yield Entry("index", True, dtype, "SCATTER_ADD", lambda dtype=dtype: kernels.index_kernel("scatter_index", dtype, "add"), True, True)
            yield Entry("index", True, dtype, "SCATTER_OWN", lambda dtype=dtype: kernels.owned_kernel(dtype, "own"))
            yield Entry("index", True, dtype, "SCATTER_WHOLE", lambda dtype=dtype: kernels.owned_kernel(dtype, "whole"), spare=True)
        yield Entry("index", True, dtype, "SCATTER_REPLACE", lambda dtype=dtype: kernels.index_kernel("scatter_index", dtype, "replace"), True, True)
        yield Entry("index", False, dtype, "GATHER", lambda dtype=dtype: kernels.index_kernel("gather_index", dtype), True, True)
    yield Entry("index", False, "float32", "BUNDLE", kernels.bundle_kernel, True)  # which moves bits of all dtypes


def served(entry: Entry) -> list[str]:
    """The dtypes that a kernel serves."""
    signed = [entry.dtype.removeprefix("u")] if entry.formula == "index" and entry.dtype.startswith("uint") else []
    return [entry.dtype, *signed, *["bool"] * (entry.dtype == "uint8")]


def weighing() -> Iterator[Entry]:
    """The kernels of weighing sums, of no formula; half types are converted before."""
    for dtype in WIDE:
        for loop in ("weigh", "weigh_sums"):
            yield Entry("weigh", False, dtype, loop.upper(), lambda loop=loop, dtype=dtype: weigh.kernel(loop, dtype), True)


def detail() -> Iterator[Entry]:
    """The kernels of detail-preserving pooling, whose half types are converted before, too."""
    for dtype in WIDE:
        for backward in (False, True):
            yield Entry("detail", backward, dtype, "DETAIL", lambda dtype=dtype, backward=backward: kernels.detail_kernel(backward, dtype), True)


def own() -> list[str]:
    """The poolings that have kernels of their own."""
    return [p for p in functions.poolings() if p not in SAME and module(p).family != "composed"]


def entries() -> list[Entry]:
    """Every kernel of a full library."""
    found: list[Entry] = [*indexed(), *weighing(), *detail()]
    for part in PARTS:
        found += fold(*formulas(part), FLOATS)
    for pooling in own():
        for f in formulas(pooling) if folds(pooling) else ():
            found += fold(f, FLOATS)
        found += {"select": select, "draw": draw, "order": order, "vote": vote}.get(module(pooling).family, lambda pooling: ())(pooling)
    for f in ignoring_folds():
        found += fold(f, FLOATS)
    for formula in ignoring_formulas():
        found += ignoring_select(formula) if formula.family == "select" else ()
    return [e for e in found if e.dtype not in HALVES or e.loop in HALVED.get(e.formula, ())]


def few() -> list[Entry]:
    """The kernels of a library to test with: all of float32 and half types, and of other dtypes the general ones of some poolings.

    Of float64 those, too, whose order of summing Python's results have, for the parts of composed poolings.  Loops for windows side by side are there
    for one formula of a kind.
    """
    some = {*((f, "float64") for f in ("avg", "soft", "max", "mode", "index", "weigh", "detail", *PARTS)),
            *((f, d) for f in ("max", "index", "mode") for d in ("uint8", "int64")), ("index", "uint64")}
    sums = {*((f, "float64", loop) for f in COMMON for loop in ("SWEEP", "SWEEP_STRAIGHT", "PLANES")), ("max", "float64", "PLACES_SEPARATE")}
    return [e for e in entries() if (e.dtype in ("float32", *HALVES) and (e.loop not in SPECIAL or e.formula in KINDS))
            or (e.plain and (e.formula, e.dtype) in some) or (e.formula, e.dtype, e.loop) in sums]


@functools.cache
def formula_names() -> tuple[str, ...]:
    """Every formula, in the order of C's numbers for them."""
    found = ["index", "weigh", "detail", *PARTS]
    for pooling in own():
        if module(pooling).family != "fold":
            found.append(pooling)
        found += [f.name for f in formulas(pooling)] if folds(pooling) else []
    weighted = [p for p in SAME if hasattr(module(p), "portion")]  # which only devices ask by name
    return (*found, *weighted, *(name_of(f) for f in ignoring_formulas()))
