"""A call that is being prepared: x seen as (N, C, D, H, W), its windows, its checked parameters; what it makes, which kernels run."""
from __future__ import annotations

import functools
import operator
import types
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from . import arrays, choices, memory, plan, sweeps
from .arrays import Array
from .forms import Axes
from .libraries import Library, address_of, dense
from .loops import layout as at
from .memory import LANES
from .numeric import HALVES, real_name, storage_name
from .prepared import Maker, Prepared, Source, Stage

INDEX_BYTES = 16  # an index's 8 counted twice: it is not read before the backward pass, unlike y
SCRATCH_BYTES = 1 << 18  # of a plane that is summed in scratch memory: a quarter of a second-level cache
SCRATCH = 1 << 20  # elements of a half type's scratch plane that a group of channels aims at
NAMES = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}
Five = tuple[int, int, int, int, int]


class View(NamedTuple):
    """An array of a call as (N, C, D, H, W), whatever its order, rank and batch."""

    source: Source
    dims: Five
    strides: Five


def view_of(source: Source, shape: tuple[int, ...], strides: tuple[int, ...], ndim: int, channels_last: bool, where: str) -> View:
    """See an array with the axes (N, C, ...), (C, ...), (N, ..., C) or (..., C) as (N, C, D, H, W)."""
    if len(shape) not in (ndim + 1, ndim + 2):
        axes = ", ".join((*NAMES[ndim], "C") if channels_last else ("C", *NAMES[ndim]))
        raise ValueError(f"{where} must have the axes ({axes}) or (N, {axes}), got shape {shape}")
    if len(shape) == ndim + 1:
        shape, strides = (1, *shape), (0, *strides)
    if channels_last:
        shape, strides = (shape[0], shape[-1], *shape[1:-1]), (strides[0], strides[-1], *strides[1:-1])
    fill = 3 - ndim
    return View(source, (*shape[:2], *(1,) * fill, *shape[2:]), (*strides[:2], *(0,) * fill, *strides[2:]))  # type: ignore[arg-type]


@lru_cache(1024)
def order_of(dims: Five, strides: Five) -> tuple[bool, bool]:
    """Whether lanes should be channels, and whether results lie in channels-last order: read from where x's elements lie."""
    steps = [abs(s) for s, n in zip(strides[2:], dims[2:], strict=True) if n > 1]
    lanes = dims[1] > 1 and strides[1] != 0 and all(abs(strides[1]) <= s for s in steps)
    return lanes, lanes and bool(steps)


@lru_cache(1024)
def axis_order(ndim: int, batched: bool, channels_last: bool, memory_last: bool) -> tuple[int, ...] | None:
    """The axes of a result from slowest to fastest; None where they lie in the order of its shape."""
    if channels_last == memory_last:
        return None
    lead = (0,) if batched else ()
    first = len(lead)
    if memory_last:  # the shape is (N, C, ...), the memory (N, ..., C)
        return (*lead, *range(first + 1, first + 1 + ndim), first)
    return (*lead, first + ndim, *range(first, first + ndim))


class Call:
    """What forward and backward of every family prepare; they add results, constants and stages to it, `prepared` closes it.

    where : begins messages; given : the layouts of the arrays, x first; x : the input; axes : its windows; own : the checked
    parameters; extras : what the form drew; target : the layout of `out`.
    """

    def __init__(self, where: str, formula: types.ModuleType, given: Sequence[Array], x: View, axes: Axes, own: dict[str, Any], *, ndim: int,
                 channels_last: bool, extras: Any = None, target: Array | None = None) -> None:
        self.where, self.formula, self.given, self.x, self.axes, self.own, self.extras = where, formula, given, x, axes, own, extras
        self.ndim, self.batched, self.channels_last, self.target = ndim, len(given[0].shape) == ndim + 2, channels_last, target
        self.dtype, self.library = given[0].dtype, given[0].library
        if any(a.library.index != self.library.index for a in (*given, *([target] if target else []))):
            places = ["the CPU" if a.library.index is None else f"CUDA device {a.library.index}" for a in (*given, *([target] if target else []))]
            raise BufferError(f"{where}: all arrays must be on one device, got {', '.join(dict.fromkeys(places))}")
        self.outputs = tuple(a.count.size for a in axes)
        self.out_dims: Five = (*x.dims[:2], *self.outputs)  # type: ignore[assignment]
        self.lanes, self.memory_last = order_of(x.dims, x.strides)
        if any(a.first.ndim == 2 for a in axes):  # windows that differ from channel to channel: no two channels side by side
            self.lanes = False
        self.seed: Source | None = None
        self.made: list[Maker | None] = []  # None: `out`
        self.stages: list[Stage] = []
        self.keep: list[np.ndarray] = []

    def shape(self, dims: Five) -> tuple[int, ...]:
        """The shape of a result, in the axes of x."""
        lead, spatial = (dims[0],) if self.batched else (), dims[5 - self.ndim:]
        return (*lead, *spatial, dims[1]) if self.channels_last else (*lead, dims[1], *spatial)

    def argument(self, number: int, name: str, dims: Five, dtypes: tuple[str, ...]) -> View:
        """An array argument, whose shape and dtype are known, by its place among those given."""
        array = self.given[number]
        if array.shape != self.shape(dims):
            raise ValueError(f"{self.where}: {name} must have shape {self.shape(dims)}, got {array.shape}")
        if array.dtype not in dtypes:
            raise TypeError(f"{self.where}: {name} must have dtype {' or '.join(dtypes)}, got {array.dtype}")
        return self.view(Source(number), array.shape, array.strides, name)

    def view(self, source: Source, shape: tuple[int, ...], strides: tuple[int, ...], name: str) -> View:
        """An array with the axes of x."""
        return view_of(source, shape, strides, self.ndim, self.channels_last, f"{self.where}: {name}")

    def draws(self) -> Source:
        """A seed that each call has anew; it comes before all memory that is made."""
        assert not self.made
        self.seed = Source(len(self.given))
        return self.seed

    def made_by(self, maker: Maker | None) -> Source:
        """Memory that each call makes."""
        self.made.append(maker)
        return Source(len(self.given) + (self.seed is not None) + len(self.made) - 1)

    def empty(self, dims: Five, dtype: str) -> View:
        """Memory of the caller's library for a result, in the memory order of x."""
        shape, order = self.shape(dims), axis_order(self.ndim, self.batched, self.channels_last, self.memory_last)
        return self.view(self.made_by(self.library.maker(shape, dtype, order)), shape, dense(shape, order), "result")

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Source:
        """NumPy memory to add to."""
        def make() -> tuple[np.ndarray, int]:
            memory = np.zeros(shape, dtype)
            return memory, address_of(memory)
        return self.made_by(make)

    def constant(self, table: np.ndarray) -> int:
        """The address of a table that lives as long as the prepared call."""
        self.keep.append(table)
        return address_of(table)

    def output(self, dims: Five | None = None) -> View:
        """Memory for y: fresh, or the caller's; the first of what is made."""
        assert not self.made
        dims = dims or self.out_dims
        if self.target is None:
            return self.empty(dims, self.dtype)
        arrays.check_kind(self.target, self.shape(dims), self.dtype, f"{self.where}: out")
        return self.view(self.made_by(None), self.target.shape, self.target.strides, "out")

    def plan(self, operands: dict[int, Any], gradient: bool = False, planes: int = 1, indexed: bool = False, **more: Any) -> plan.Plan:
        """The plan for operands that are views or bare distances; with `planes` gradients; indexed: for a loop that follows indices."""
        arguments = self.arguments(operands, gradient, planes, gradient and indexed)
        if indexed:
            arguments = (arguments[0], *plan.in_a_row(self.axes, arguments[2], self.lanes), *arguments[3:])
        if self.extras is not None or more:
            return plan.build(*arguments, **more)
        return plan.cached(max(*self.x.dims[2:], *self.outputs), *arguments)

    def choices(self, operands: dict[int, Any], gradient: bool = False, axes: Any = None) -> tuple[str | None, plan.Plan]:
        """How select.py's loops choose, and their plan; axes : of windows that are not the call's."""
        indexed = at.INDEX in operands and not gradient
        past = self.past_cache(gradient) + (2 * memory.past_cache(INDEX_BYTES * prod(self.out_dims)) if indexed else 0)
        dims, own, *others = self.arguments(operands, gradient, 1, gradient)
        arguments = (dims, axes or own, *others, past)
        return choices.build(*arguments) if self.extras is not None else choices.cached(max(*self.x.dims[2:], *self.outputs), *arguments)

    def records(self, operands: dict[int, Any]) -> tuple[tuple[int, Any], ...]:
        """The distances of operands that are views or bare distances."""
        return tuple((k, v.strides if isinstance(v, View) else v) for k, v in operands.items())

    def arguments(self, operands: dict[int, Any], gradient: bool, planes: int, scatter: bool) -> tuple:
        """What all plans are made of."""
        records = self.records(operands)
        half = gradient and self.dtype in HALVES
        width = min(LANES, max(16, SCRATCH // max(prod(self.x.dims[2:]), 1))) if half else LANES
        itemsize = np.dtype(real_name(self.dtype)).itemsize
        # results past the caches in one go: adding up there would read all of it first
        plane = prod(self.x.dims[2:]) * itemsize * (min(width, self.x.dims[1]) if self.lanes else 1)
        apart = scatter and self.past_cache(True) and self.memory_last == self.lanes and plane <= SCRATCH_BYTES
        last = self.memory_last if gradient else None
        return self.x.dims, self.axes, records, self.lanes, width, last, planes if half or apart else 0, itemsize

    def small(self, operands: dict[int, Any], gradient: bool = False, lifts: tuple[int, int] = (1, 1), plain: bool = False) -> tuple[str | None, Any]:
        """Which loop for small windows can do the call (None: none), and its plan.

        lifts : as those of `sweep`; plain : whether elements are their own lift, which is in reach of all windows.
        """
        what = (self.x.dims, self.axes, self.records(operands))
        arguments = (*(sweeps.cut(*what) if plain and not self.lanes else what), self.lanes)
        shape = None if gradient and self.memory_last != self.lanes else sweeps.small(*arguments, gradient)
        if shape is None:
            return None, None
        if shape == "three":
            sizes = lifts[0], lifts[1] if gradient else 0, np.dtype(real_name(self.dtype)).itemsize
            return shape, sweeps.cached_three(max(*self.x.dims[2:], *self.outputs), *arguments[:3], *sizes, self.past_cache(gradient))
        return shape, sweeps.cached_small(max(*self.x.dims[2:], *self.outputs), *arguments, self.memory_last if gradient else None,
                                           self.past_cache(gradient))

    def past_cache(self, gradient: bool) -> bool:
        """Whether the result, a gradient of x or y, is written past the caches."""
        return memory.past_cache(prod(self.x.dims if gradient else self.out_dims) * np.dtype(storage_name(self.dtype)).itemsize)

    def sweep(self, operands: dict[int, Any], lifts: tuple[int, int], gradient: bool = False, borrow: bool = False) -> tuple[Any, bool]:
        """The plan of a sweep, or None; and whether x lies as its rows do. lifts : components of a lifted row, and of a row of terms."""
        what, lanes, last = (self.x.dims, self.axes, self.records(operands)), self.lanes, self.memory_last
        seen = sweeps.as_channels(*what, gradient) if borrow and lanes and last else None
        if seen:
            what, lanes, last = seen, False, False
        as_rows = borrow and sweeps.straight(what[0], dict(what[2])[at.X], lanes) and self.dtype not in HALVES
        arguments = (*what, lanes, 0 if as_rows else lifts[0], lifts[1] if gradient else 0,
                     np.dtype(real_name(self.dtype)).itemsize, last if gradient else None, self.past_cache(gradient))
        build = sweeps.build if self.extras is not None else functools.partial(sweeps.cached, max(*self.x.dims[2:], *self.outputs))
        return build(*arguments), as_rows

    def quad(self, operands: dict[int, Any], gradient: bool = False) -> bool:
        """Whether the windows are 2x2 ones that lie as loops in registers want them; for a gradient side by side."""
        suits = not gradient or self.memory_last == self.lanes
        return suits and sweeps.small(self.x.dims, self.axes, self.records(operands), self.lanes, gradient) == "quad"

    def stage(self, kernel: Any, made: plan.Plan, backward: bool, addresses: dict[int, Any], again: Callable[[], Stage] | None = None,
              indexed: bool = False) -> Stage:
        """A kernel over all tasks of its plan.

        addresses : of its operands (views, sources or constants) by their slots; again : makes the stage for the tasks that this
        one leaves undone; indexed : whether it follows the caller's indices.
        """
        return Stage(kernel, made, made.planes if backward else made.rows, self.sources(addresses), self.fault(indexed), again)

    @staticmethod
    def sources(addresses: dict[int, Any]) -> dict[int, Any]:
        """Where the addresses of operands are found, or the constant ones."""
        return {slot: a.source if isinstance(a, View) else a for slot, a in addresses.items()}

    def fault(self, indexed: bool) -> str | None:
        """The message on an index out of range."""
        return f"{self.where}: indices must lie between 0 and {prod(self.x.dims[2:]) - 1}, the positions of a plane" if indexed else None

    def launch(self, *args: Any, **more: Any) -> None:
        """Add a stage."""
        self.stages.append(self.stage(*args, **more))

    def prepared(self, results: Sequence[View | Callable[[list[Any]], Any]]) -> Prepared:
        """The call, for any arrays of these layouts; results : what the caller gets, views or functions of all that was made."""
        makers = [m for m in self.made if m is not None]
        return Prepared(makers, [s for s in self.stages if s.tasks], self.finish(results), self.seed is not None, f"{self.where}: out", self.keep)

    def drawn(self, made: list[Any]) -> tuple:
        """What the form drew, as a result."""
        return tuple(self.library.from_numpy(e, "int64") for e in self.extras)

    def memory(self, source: Source) -> Callable[[list[Any]], Any]:
        """What finds memory among all that a call has made."""
        return operator.itemgetter(source.number - len(self.given) - (self.seed is not None))

    def finish(self, results: Sequence[Any]) -> Callable[[list[Any]], Any]:
        """What turns all that was made into the results."""
        first = len(self.given) + (self.seed is not None)
        places = [r.source.number - first if isinstance(r, View) else r for r in results]
        if all(isinstance(p, int) for p in places) and type(self.library).hand_over is Library.hand_over:
            return operator.itemgetter(*places)
        given = 0 if self.target is not None else None  # the caller's own, which is nobody's to hand over
        getters = [p if callable(p) else operator.itemgetter(p) if p == given else functools.partial(_handed, self.library, p) for p in places]
        return getters[0] if len(getters) == 1 else lambda made: tuple(get(made) for get in getters)


def _handed(library: Library, place: int, made: list[Any]) -> Any:
    return library.hand_over(made[place])
