"""What a call on a GPU reads and writes, and how many elements a task of it takes side by side."""
from __future__ import annotations

import functools
import types
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .. import arrays, families
from ..call import Call, View
from ..kernels import lifts
from ..loops.cuda import layout as at
from ..numeric import storage_name
from ..parameters import Parameter
from ..plan import dense
from ..prepared import Held, Source
from . import kernels
from .plan import Header, Tables, Task, Work

MOST_LANES, FEW_LANES, VECTOR_BYTES = 8, 4, 16
MOST_STRIDE, MOST_KERNEL = 3, 5  # of windows that a task takes side by side: more would take too many registers


@functools.cache
def most_lanes(formula: types.ModuleType) -> int:
    """How many elements a task of a formula has side by side at most.

    With powers, two inputs, more than two sums, or elements that take a whole step, they are FEW: the compiler does not unroll loops over more
    of them, whose lanes would then lie in memory.
    """
    if not hasattr(formula, "step"):
        return MOST_LANES
    parameters = sum(p.kind in ("number", "positive", "array") for p in getattr(formula, "parameters", ()))
    steps = getattr(formula, "recompute", True) and hasattr(formula, "common") and not hasattr(formula, "lift")
    crowded = hasattr(formula, "variant") or steps or getattr(formula, "elements", 1) == 2 or lifts(formula, True, parameters, 0)[0] > 2
    return FEW_LANES if crowded else MOST_LANES


def header(call: Call, tables: Tables | None = None, channel: bool | None = None) -> Header:
    """The header of a call's tasks."""
    return Header(call.x.dims, call.axes, call.lanes if channel is None else channel, tables or Tables())


def lanes_of(call: Call, vectors: bool, dtype: str, *operands: View) -> int:
    """How many channels a task takes at once: as many as one access reads, if they lie side by side in all operands."""
    lanes = min(most_lanes(call.formula), VECTOR_BYTES // np.dtype(storage_name(dtype)).itemsize) if vectors and call.lanes else 1

    def suits(v: View) -> bool:
        others = [s for s, n in zip((v.strides[0], *v.strides[2:]), (v.dims[0], *v.dims[2:]), strict=True) if n > 1]
        return v.strides[1] == 1 and not any(s % lanes for s in others)
    while lanes > 1 and (call.x.dims[1] % lanes or not all(map(suits, operands))):
        lanes //= 2
    return lanes


def strip_of(call: Call, vectors: bool, dtype: str, reads: list[View], writes: list[View]) -> tuple[int, kernels.Strip | None]:
    """How many outputs side by side a task takes at once in channels-first memory, and their windows; None where these or the memory do not suit."""
    axis, lanes = call.axes[2], VECTOR_BYTES // np.dtype(storage_name(dtype)).itemsize
    if not vectors or call.lanes or axis.grid is None or axis.step != 1 or axis.first.ndim == 2 or lanes == 1:
        return 1, None
    origin, stride, kernel = axis.grid
    lanes = min(lanes, most_lanes(call.formula))
    lies = all(v.strides[4] == 1 and not any(s % lanes for s, n in zip(v.strides[:4], v.dims[:4], strict=True) if n > 1) for v in reads)
    if stride > MOST_STRIDE or kernel > MOST_KERNEL or not lies or call.x.dims[4] % lanes or any(v.strides[4] != 1 for v in writes):
        return 1, None
    whole = call.outputs[2] % lanes == 0 and not any(s % lanes for v in writes for s, n in zip(v.strides[:4], v.dims[:4], strict=True) if n > 1)
    return lanes, kernels.Strip(kernel, stride, -origin, whole)


def space(call: Call, rows: int, dtype: str) -> tuple[Source, tuple[int, ...]]:
    """Work memory for so many numbers an output, and their distances, in the order of the lanes."""
    source = call.made_by(call.library.maker((rows * prod(call.out_dims),), dtype))
    return source, dense(call.out_dims, call.lanes)


class Varying(NamedTuple):
    """An array parameter: its values as a table or, where they lie on the device, as one of the call's arrays; sizes and distances along the
    outputs' axes; the shape of its gradient."""

    parameter: Parameter
    values: np.ndarray | Source
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    shape: tuple[int, ...]

    def put(self, task: Task, tables: Tables, slot: int) -> None:
        """Let a launch read it."""
        record = at.HEAD + at.RECORD * slot
        task.words[record + 1:record + at.RECORD] = self.strides
        if isinstance(self.values, Source):
            task.sources.append((record, self.values.number))
        else:
            task.words[record] = tables.place(self.values, self.values.dtype)
            task.tables.append(record)


def varying(call: Call, p: Parameter) -> Varying:
    """An array parameter of a call."""
    given = call.own[p.name]
    if isinstance(given, Held):
        axes = families.axes_of(call, p, given.shape)
        dims = families.five_of(axes, given.shape, 1)
        strides = families.five_of(axes, given.strides, 0)
        return Varying(p, Source(given.number), dims, tuple(0 if n == 1 else s for s, n in zip(strides, dims, strict=True)), given.shape)
    values, strides = families.spread(call, p)
    return Varying(p, values, values.shape, strides, np.shape(arrays.values(given, p.name)))


def known(own: dict[str, Any]) -> dict[str, Any]:
    """Parameters with NaN in place of what nobody knows here."""
    return {n: np.full(v.shape, np.nan) if isinstance(v, Held) else v for n, v in own.items()}


def places_name(wide: bool) -> str:
    """The dtype of places."""
    return "int64" if wide else "int32"


def located(operands: dict[int, Any]) -> dict[int, tuple[Source, tuple[int, ...]]]:
    """Sources and distances of operands, of which some are views."""
    return {k: (v.source, v.strides) if isinstance(v, View) else v for k, v in operands.items()}


def add(call: Call, build: Callable[[bool], tuple[list[Task], Tables]]) -> None:
    """Add the launches of a call as its stage."""
    def busy(vectors: bool) -> tuple[list[Task], Tables]:
        tasks, tables = build(vectors)
        return [t for t in tasks if t.words[at.ITEMS] > 0 and t.words[at.PLANES] > 0], tables
    size = 2 * 16 * (sum(call.x.dims[2:]) + sum(call.outputs))  # of tables of 4 bytes, with vectors and without
    call.stages.append(Work(call.library, busy, size, call.seed.number if call.seed else None, call.extras is not None))  # type: ignore[arg-type]
