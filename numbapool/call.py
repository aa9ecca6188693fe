"""One call in progress: x seen as (N, C, D, H, W), its windows, its checked parameters; memory for results; the launch."""
from __future__ import annotations

import types
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from . import arrays, plan, threads
from .arrays import Array
from .forms import Axes
from .loops import layout as at
from .memory import LANES
from .numeric import HALVES
from .windows import Axis

SCRATCH = 1 << 20  # elements of a half type's scratch plane that a group of channels aims at
NAMES = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}
Five = tuple[int, int, int, int, int]


class View(NamedTuple):
    """An array as (N, C, D, H, W), whatever its order, rank and batch."""

    array: Array
    dims: Five
    strides: Five


def view_of(array: Array, ndim: int, channels_last: bool, where: str) -> View:
    """See an array with the axes (N, C, ...), (C, ...), (N, ..., C) or (..., C) as (N, C, D, H, W)."""
    shape, strides = array.shape, array.strides
    if len(shape) not in (ndim + 1, ndim + 2):
        axes = ", ".join((*NAMES[ndim], "C") if channels_last else ("C", *NAMES[ndim]))
        raise ValueError(f"{where} must have the axes ({axes}) or (N, {axes}), got shape {shape}")
    if len(shape) == ndim + 1:
        shape, strides = (1, *shape), (0, *strides)
    if channels_last:
        shape, strides = (shape[0], shape[-1], *shape[1:-1]), (strides[0], strides[-1], *strides[1:-1])
    fill = 3 - ndim
    return View(array, (*shape[:2], *(1,) * fill, *shape[2:]), (*strides[:2], *(0,) * fill, *strides[2:]))  # type: ignore[arg-type]


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
    """What forward and backward of every family work on.

    where : begins messages; x : the input; axes : its windows; own : the checked parameters; extras : what the form drew.
    """

    def __init__(self, where: str, formula: types.ModuleType, x: View, axes: Axes, own: dict[str, Any], *, ndim: int, batched: bool,
                 channels_last: bool, extras: Any = None) -> None:
        self.where, self.formula, self.x, self.axes, self.own, self.extras = where, formula, x, axes, own, extras
        self.ndim, self.batched, self.channels_last = ndim, batched, channels_last
        self.dtype, self.library = x.array.dtype, x.array.library
        self.outputs = tuple(a.count.size for a in axes)
        self.out_dims: Five = (*x.dims[:2], *self.outputs)  # type: ignore[assignment]
        self.lanes, self.memory_last = order_of(x.dims, x.strides)
        if any(a.first.ndim == 2 for a in axes):  # windows that differ from channel to channel: no two channels side by side
            self.lanes = False
        self.keep: list[Any] = [x.array]

    def shape(self, dims: Five) -> tuple[int, ...]:
        """The shape of a result, in the axes of x."""
        lead, spatial = (dims[0],) if self.batched else (), dims[5 - self.ndim:]
        return (*lead, *spatial, dims[1]) if self.channels_last else (*lead, dims[1], *spatial)

    def view(self, array: Array, argument: str) -> View:
        """An argument with the axes of x."""
        return view_of(array, self.ndim, self.channels_last, f"{self.where}: {argument}")

    def empty(self, dims: Five, dtype: str) -> View:
        """Memory of the caller's library for a result, in the memory order of x."""
        order = axis_order(self.ndim, self.batched, self.channels_last, self.memory_last)
        return self.view(self.library.empty(self.shape(dims), dtype, order), "result")

    def output(self, out: Any, dtype: str | None = None) -> View:
        """Memory for y: fresh, or the caller's."""
        if out is None:
            return self.empty(self.out_dims, dtype or self.dtype)
        inputs = [a for a in self.keep if isinstance(a, Array)]
        return self.view(arrays.writable(out, self.shape(self.out_dims), dtype or self.dtype, f"{self.where}: out", inputs), "out")

    def given(self, value: Any, argument: str, dims: Five, dtypes: tuple[str, ...]) -> View:
        """An array argument of a shape and dtype that are known."""
        array = arrays.borrow(value, f"{self.where}: {argument}")
        if array.shape != self.shape(dims):
            raise ValueError(f"{self.where}: {argument} must have shape {self.shape(dims)}, got {array.shape}")
        if array.dtype not in dtypes:
            raise TypeError(f"{self.where}: {argument} must have dtype {' or '.join(dtypes)}, got {array.dtype}")
        self.keep.append(array)
        return self.view(array, argument)

    def indices(self, value: Any) -> View:
        """Indices of the output's shape, as int64."""
        indices = self.given(value, "indices", self.out_dims, ("int64", "int32"))
        if indices.array.dtype == "int32":  # JAX without 64-bit types
            return self.given(arrays.view(indices.array).astype(np.int64), "indices", self.out_dims, ("int64",))
        return indices

    def plan(self, operands: dict[int, Any], gradient: bool = False, planes: int = 1, **more: Any) -> plan.Plan:
        """The plan for operands that are views or bare distances; with `planes` gradients."""
        records = tuple((k, v.strides if isinstance(v, View) else v) for k, v in operands.items())
        half = gradient and self.dtype in HALVES
        width = min(LANES, max(16, SCRATCH // max(prod(self.x.dims[2:]), 1))) if half else LANES
        arguments = (self.x.dims, self.axes, records, self.lanes, width, self.memory_last if gradient else None, planes if half else 0)
        if self.extras is not None or more:
            return plan.build(*arguments, **more)
        return plan.cached(max(*self.x.dims[2:], *self.outputs), *arguments)

    def launch(self, kernel: Any, made: plan.Plan, backward: bool, addresses: dict[int, int]) -> None:
        """Run a kernel over all its tasks."""
        tasks = made.planes if backward else made.rows
        if tasks == 0:
            return
        slots = threads.slots_for(tasks, made.taps)
        data = np.zeros(at.DATA, np.int64)
        for operand, address in addresses.items():
            data[operand] = address
        if made.work:
            scratch = np.empty(made.work * slots + 64, np.uint8)
            data[at.WORK] = -(-scratch.ctypes.data // 64) * 64
        fault = np.zeros(1, np.int64)
        data[at.FAULT] = fault.ctypes.data
        threads.run(kernel, made.address, data.ctypes.data, tasks, made.taps, slots)
        if fault[0]:
            raise ValueError(f"{self.where}: indices must lie between 0 and {prod(self.x.dims[2:]) - 1}, the positions of a plane")

    def give(self, view: View) -> Any:
        """A result, as an array of the caller's library."""
        return self.library.give(view.array)


def fake_axis(outputs: int) -> Axis:
    """Outputs without windows: for loops that follow indices."""
    ones = np.ones(outputs, np.int64)
    return Axis(np.zeros(outputs, np.int64), ones, 1, ones)
