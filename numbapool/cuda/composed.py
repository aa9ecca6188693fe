"""Composed poolings on a GPU: kernels on arrays of the caller's library, one call after the other.  ../composed.py says what they are for.

Arrays have the axes (N, C, spatial...) or (N, C, D, H, W); small arrays of NumPy's go to the device with the tables of a launch.
"""
from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from .. import arrays
from ..call import Call
from ..loops.cuda import layout as at
from ..numeric import real_name
from ..prepared import Remembered, Source
from ..windows import fake_axis
from . import kernels, plan
from .plan import Header, Tables, Task, Work, slices_of
from .ranks import NONE
from .stamp import Kernel

Five = tuple[int, ...]
LAUNCHES = Remembered()  # with their tables on the device, so that what is known can be captured into a graph


def five_of(values: Sequence[int], fill: int) -> Five:
    """Sizes or distances of (N, C, spatial...) as those of (N, C, D, H, W)."""
    return (*values[:2], *(fill,) * (5 - len(values)), *values[2:])


class Launch:
    """A launch in the making: its operands, by slots, and what they are."""

    def __init__(self, call: Call, sizes: Five, axes: Any = None) -> None:
        self.call, self.dtype = call, real_name(call.dtype)
        self.tables = Tables()
        dims = *call.x.dims[:2], *(call.x.dims[2:] if axes else sizes)
        self.header = Header(dims, axes or [fake_axis(n) for n in sizes], call.lanes, self.tables)
        self.operands: dict[int, tuple[Source, Five]] = {}
        self.constants: dict[int, tuple[np.ndarray, Five]] = {}
        self.addresses: list[int] = []
        self.most = max(prod(sizes) * (call.x.dims[1] if call.lanes else 1), prod(call.x.dims[:2]))  # which decides about the width of places

    def operand(self, slot: int, array: Any) -> None:
        """An array; where it has a single element along an axis, that is all tasks'."""
        host = isinstance(array, np.ndarray)
        memory = np.ascontiguousarray(array, self.dtype) if host else array
        found = arrays.borrow(memory, "operand")
        dims = five_of(found.shape, 1)
        strides = tuple(0 if n == 1 else s for s, n in zip(five_of(found.strides, 0), dims, strict=True))
        self.most = max(self.most, sum(abs(s) * (n - 1) for s, n in zip(strides[1:], dims[1:], strict=True)))
        if host:
            self.constants[slot] = memory, strides
        else:
            self.memory(slot, found.address, strides)

    @property
    def wide(self) -> bool:
        """Whether places need more than 32 bits."""
        return self.most >= plan.REACH

    def memory(self, slot: int, address: int, strides: Five) -> None:
        """Memory that is no array."""
        self.operands[slot] = Source(len(self.addresses)), strides
        self.addresses.append(address)

    def task(self, kernel: Kernel, fields: dict[int, int] | None = None, tables: dict[int, tuple[np.ndarray, Any]] | None = None,
             items: int | None = None) -> Task:
        """The launch."""
        task = self.header.task(kernel, self.operands, "outputs", fields=fields, tables=tables, items=items)
        for slot, (values, strides) in self.constants.items():
            record = at.HEAD + at.RECORD * slot
            task.words[record] = self.tables.place(values, values.dtype)
            task.words[record + 1:record + at.RECORD] = strides
            task.tables.append(record)
        return task

    def run(self, loop: str, **more: Any) -> None:
        """Launch a loop over what is written."""
        self.go(self.task(kernels.composed_kernel(loop, self.dtype, self.call.lanes, self.wide), **more))

    def go(self, *tasks: Task) -> None:
        """Launch tasks one after the other."""
        busy = [t for t in tasks if t.words[at.ITEMS] > 0 and t.words[at.PLANES] > 0]
        data = self.tables.data.tobytes()
        key = self.call.library, data, *((t.kernel, t.words.tobytes(), tuple(t.tables), tuple(t.sources)) for t in busy)
        work: Any = LAUNCHES.get(key)
        if work is None:
            work = Work(self.call.library, lambda vectors: (busy, self.tables), 2 * len(data), None, False)
            LAUNCHES.keep(key, work)
        work.run(self.addresses)


def made(call: Call, shape: tuple[int, ...]) -> Any:
    """Memory of the caller's library, its axes in the order of x's."""
    order = (0, *range(2, len(shape)), 1) if call.memory_last else None
    return call.library.maker(shape, real_name(call.dtype), order)()[0]


def each(call: Call, loop: str, results: Sequence[Any], inputs: Sequence[Any]) -> Any:
    """Arithmetic on elements; returns the first result."""
    sizes = five_of(results[0].shape, 1)
    launch = Launch(call, sizes[2:])
    for slot, array in enumerate((*results, *inputs)):
        launch.operand(slot, array)
    launch.run(loop)
    return results[0]


def blend(call: Call, q: Any, one: Any, two: Any) -> Any:
    """q one + (1 - q) two."""
    return each(call, "each_blend", [made(call, tuple(one.shape))], [q, one, two])


def split(call: Call, q: Any, grad: Any) -> tuple[Any, Any]:
    """q grad and (1 - q) grad."""
    results = made(call, tuple(grad.shape)), made(call, tuple(grad.shape))
    each(call, "each_split", results, [q, grad])
    return results


def distance(call: Call, grad: Any, one: Any, two: Any) -> Any:
    """grad (one - two)."""
    return each(call, "each_distance", [made(call, tuple(grad.shape))], [grad, one, two])


def total(call: Call, one: Any, two: Any) -> Any:
    """one + two, in the memory of one."""
    return each(call, "each_sum", [one], [one, two])


def through_sigmoid(call: Call, grad: Any, q: Any) -> Any:
    """grad q (1 - q), in the memory of grad."""
    return each(call, "each_sigmoid", [grad], [q])


# ---------------------------------------------------------------- sums by weights: taps as weigh.py makes them, along (C, D, H, W)

def tables_of(taps: Sequence[Any], transposed: bool) -> dict[int, tuple[np.ndarray, Any]]:
    """For each result of an axis where its pairs (element, weight) begin; and the pairs."""
    found = {}
    for i, axis in enumerate(taps[1:]):
        sides, _ = axis.sides(transposed)
        found[at.D_COVER + i] = np.cumsum([0, *map(len, sides)]), np.int32
        found[at.D_LIST + i] = np.array([pair for side in sides for pair in side], np.int64).ravel(), np.int32
    return found


def weigh(call: Call, taps: Sequence[Any], x: Any, weights: Any, transposed: bool, gate: bool = False) -> Any:
    """y of x, (N, C, D, H, W), or, transposed, the gradient of x; weights : (C or 1, D, H, W) of NumPy or of the caller's library."""
    sizes = tuple(len(t.sides(transposed)[0]) for t in taps[1:])
    y, launch = made(call, (*x.shape[:2], *sizes)), Launch(call, sizes)
    launch.operand(at.X, x)
    launch.operand(at.Y, y)
    launch.operand(at.PARAM, weights[None])
    launch.run("weigh_windows", fields={at.GATE: int(gate)}, tables=tables_of(taps, transposed))
    return y


def weights_gradient(call: Call, taps: Sequence[Any], x: Any, grad: Any, weights: Any) -> Any:
    """The gradient of the weights, in their shape."""
    channels, *kernel = weights.shape
    count, planes, sizes = prod(kernel), prod(x.shape[:2]), tuple(grad.shape[2:])
    slices = slices_of(planes * count, prod(sizes))
    result, _ = call.library.maker(tuple(weights.shape), real_name(call.dtype))()
    (sums, first), (totals, second) = (call.library.maker((n * count,), "float64")() for n in (planes * slices, channels))
    fields = {at.SLICES: slices, at.RANKS: count, at.RANK_CHANNEL: int(channels > 1), at.ACROSS: kernel[2], at.ALONG: kernel[1]}
    launch = Launch(call, sizes)
    launch.operand(at.X, x)
    launch.operand(at.Y, grad)
    launch.memory(at.WORK, first, NONE)
    launch.memory(at.PARTS, second, NONE)
    launch.operand(at.GRAD_PARAM, result[None])
    one = launch.task(kernels.composed_kernel("weigh_sums", launch.dtype, False, launch.wide), fields, tables_of(taps, False), slices * count)
    few = {**fields, at.PLANES: 1, at.GROUPS: 1}
    two = launch.task(kernels.order_kernel("order_totals", launch.dtype, False, False), few, None, channels * count)
    three = launch.task(kernels.composed_kernel("weigh_learn", launch.dtype, False, False), few, None, channels * count)
    launch.go(one, two, three)
    del sums, totals  # which the stream reads no more once another launch gets their memory
    return result


# ---------------------------------------------------------------- details

def details(call: Call, x: Any, lam: Any, alpha: Any, symmetric: bool, middle: Any = None, grad: Any = None) -> list[Any]:
    """y; or grad_x, and what every window gives to lam, to alpha and to its middle.  lam, alpha : as they broadcast to y."""
    launch, shape = Launch(call, call.outputs, call.axes), (*x.shape[:2], *call.outputs[3 - call.ndim:])
    launch.operand(at.X, x)
    launch.operand(at.PARAM, lam)
    launch.operand(at.PARAM2, alpha)
    if middle is not None:
        launch.operand(at.LOGIT, middle)
    flags = {at.GIVEN: int(middle is not None), at.SYMMETRIC: int(symmetric)}
    if grad is None:
        results = [made(call, shape)]
        launch.operand(at.Y, results[0])
        launch.run("detail_forward", fields=flags)
        return results
    whole = made(call, tuple(x.shape))
    if any(n % 2 for n in x.shape[2:]):  # the last element of an odd axis has no window
        each(call, "each_zero", [whole], [])
    results = [whole, *(made(call, shape) for _ in range(2 if middle is None else 3))]
    for slot, array in zip((at.Y, at.GRAD_X, at.GRAD_PARAM, at.WORK, at.GRAD_LOGIT), (grad, *results), strict=False):
        launch.operand(slot, array)
    launch.run("detail_backward", fields=flags)
    return results
