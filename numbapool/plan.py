"""Plans: axes and memory distances become the one integer buffer that a kernel reads (its layout: loops/layout.py)."""
from __future__ import annotations

import functools
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .loops import layout as at
from .memory import ASK_FROM, ASK_LEAST, ASK_MOST, LANES
from .windows import Axis, fake_axis, remembered

SHORT_ROW = 64  # outputs of a row that is worth a loop of its own

Strides = tuple[int, ...]  # distances in elements along (n, c, d, h, w)


@dataclass(frozen=True)
class Plan:
    """What a kernel reads, and what its caller must know: the number of tasks, scratch a slot, taps in all, tasks left to another kernel."""

    integers: np.ndarray
    address: int
    rows: int
    planes: int
    work: int
    taps: int
    left: int = 0  # at most; 0: as many as its own

def units_across(axis: Axis) -> np.ndarray:
    """The windows along the last axis in runs of at most LANES with one count, one divisor and, if they can, one distance."""
    first = axis.first if axis.first.ndim == 1 else axis.first[0]
    change = np.flatnonzero((np.diff(axis.count) != 0) | (np.diff(axis.share) != 0)) + 1
    edges = [0, *change.tolist(), axis.count.size]
    rows = []
    for lo, hi in zip(edges[:-1], edges[1:], strict=True):
        for o in range(lo, hi, LANES):
            m = min(LANES, hi - o)
            gaps = np.diff(first[o:o + m])
            step = 1 if m == 1 else int(gaps[0]) if axis.first.ndim == 1 and (gaps == gaps[0]).all() else 0
            if 4 * m <= axis.count[o]:  # few long windows: each on its own, with its taps as lanes
                rows += [(i, 1, 1, axis.count[o], axis.share[o]) for i in range(o, o + m)]
            else:
                rows.append((o, m, step, axis.count[o], axis.share[o]))
    return np.array(rows, np.int64).reshape(-1, at.UNIT)


def units_of_channels(axis: Axis, width: int) -> np.ndarray:
    """Every window along the last axis on its own, with channels as lanes."""
    n = axis.count.size
    return np.column_stack([np.arange(n), np.full(n, width), np.ones(n, np.int64), axis.count, axis.share]).astype(np.int64)


def dense(dims: tuple[int, ...], channels_last: bool) -> Strides:
    """The distances of memory that holds (N, C, D, H, W) without gaps in channels-first or channels-last order."""
    _, c, d, h, w = dims
    if channels_last:
        return d * h * w * c, 1, h * w * c, w * c, c
    return c * d * h * w, d * h * w, h * w, w, 1


def _record(strides: Strides, channel_lanes: bool, width: int) -> list[int]:
    n, c, d, h, w = strides
    return [n, c * width, d, h, w, c] if channel_lanes else [n, c, d, h, w, w]


class Buffer:
    """The integers of a plan as they grow: the header, then one table after the other."""

    def __init__(self, dims: tuple[int, ...], axes: tuple[Axis, Axis, Axis], channel_lanes: bool, width: int) -> None:
        self.head = np.zeros(at.RECORDS + at.RECORD * at.OPERANDS, np.int64)
        self.tables, self.end = [self.head], self.head.size
        batch, channels, *size = dims
        self.width, self.channel_lanes = min(width, channels) if channel_lanes else 0, channel_lanes
        groups = -(-channels // self.width) if self.width else channels
        outputs = [a.count.size for a in axes]
        self.head[:at.OW + 1] = batch, groups, self.width, channels, *size, *outputs
        self.head[at.CHANNEL_LANES] = channel_lanes
        for i, axis in enumerate(axes):
            self.head[at.D_STEP + i] = axis.step
            self.place(at.D_FIRST + i, axis.first)
            self.head[at.D_PLANE + i] = axis.count.size if axis.first.ndim == 2 else 0
        for i in range(2):
            self.place(at.D_COUNT + i, axes[i].count)
            self.place(at.D_SHARE + i, axes[i].share)
        self.planes = batch * groups
        self.taps = batch * channels * prod(int(a.count.sum()) for a in axes)

    def place(self, field: int, table: np.ndarray) -> None:
        """Append a table, and write where it begins."""
        self.head[field] = self.end
        self.tables.append(np.ravel(table))
        self.end += table.size

    def plan(self, records: dict[int, Any], work: int, rows: int, planes: int) -> Plan:
        """The plan, with the distances of every operand."""
        self.head[at.WORK_SIZE] = work
        for operand, strides in records.items():
            r = at.RECORDS + at.RECORD * operand
            self.head[r:r + at.RECORD] = _record(strides, self.channel_lanes, max(self.width, 1)) if len(strides) == 5 else strides
        two_rows, size = 2 * self.head[at.RECORDS + at.RECORD * at.X + 3], prod(self.head[[at.N, at.CHANNELS, at.D, at.H, at.W]].tolist())
        self.head[at.ASK] = 0 if size < ASK_FROM else two_rows if ASK_LEAST < two_rows <= ASK_MOST else ASK_LEAST
        integers = np.concatenate(self.tables)
        return Plan(integers, integers.ctypes.data, rows, planes, work, self.taps)


def build(dims: tuple[int, ...], axes: tuple[Axis, Axis, Axis], operands: tuple[tuple[int, Strides], ...], channel_lanes: bool,
          width: int = LANES, grad_channels_last: bool | None = None, scratch_planes: int = 0, itemsize: int = 4, sort: bool = False,
          extra: tuple[tuple[int, Any], ...] = ()) -> Plan:
    """The plan of one call.

    dims : (N, C, D, H, W) of the input; axes : its windows; operands : distances of each operand, by its number in layout.py.
    channel_lanes : whether lanes are channels; width : how many at most.
    grad_channels_last : the order of the gradient's memory (None: there is none); scratch_planes : how many planes a slot
    holds, of numbers of itemsize bytes, that are summed before they go to the gradient (0: summed there); sort : whether a slot
    holds a window's elements for sorting.
    extra : further header fields, a number or a table each.
    """
    buffer = Buffer(dims, axes, channel_lanes, width)
    head, width, size = buffer.head, buffer.width, dims[2:]
    units = units_of_channels(axes[2], width) if channel_lanes else units_across(axes[2])
    buffer.place(at.UNIT_TABLE, units)
    head[at.UNITS] = len(units)
    records = dict(operands)
    work = 0
    if grad_channels_last is not None:
        work = gradient(head, records, dims, grad_channels_last, channel_lanes, width, scratch_planes, itemsize)
    head[at.SORT_AT] = work
    if sort:
        head[at.SORT_SIZE] = prod(int(a.count.max()) for a in axes)
        work += 32 * int(head[at.SORT_SIZE])
    for field, value in extra:
        if isinstance(value, np.ndarray):
            buffer.place(field, value)
        else:
            head[field] = value
    rows = buffer.planes * axes[0].count.size * axes[1].count.size
    return buffer.plan(records, -(-work // 64) * 64, rows if prod(size) else 0, buffer.planes)


cached = remembered(build)


Operands = tuple[tuple[int, Strides], ...]


@functools.lru_cache(256)
def in_a_row(axes: tuple[Axis, Axis, Axis], operands: Operands, channel_lanes: bool) -> tuple[Any, Operands]:
    """The outputs of small planes without gaps as one row, for loops that follow indices and look at no windows; any others as they are."""
    d, h, w = (a.count.size for a in axes)
    moved = tuple((k, s if k == at.X else (*s[:2], 0, 0, 1)) for k, s in operands)
    gaps = any(k != at.X and (s[4] != 1 or (h > 1 and s[3] != w) or (d > 1 and s[2] != h * w)) for k, s in operands)
    small = w < SHORT_ROW and d * h * w <= SHORT_ROW ** 2
    return ((fake_axis(1), fake_axis(1), fake_axis(d * h * w)), moved) if small and not gaps and not channel_lanes else (axes, operands)


def gradient(head: np.ndarray, records: dict, dims: tuple[int, ...], channels_last: bool, channel_lanes: bool, width: int,
             scratch_planes: int, itemsize: int) -> int:
    """The fields of a gradient's plane and of the memory that contributions are added to; returns scratch bytes a slot."""
    _, channels, d, h, w = dims
    records[at.GRAD_X] = dense(dims, channels_last)
    across = channels_last and not channel_lanes  # planes lie interleaved: a run of one element each
    head[at.ROWS] = d * h * w if channels_last else 1
    head[at.RUN] = 1 if across else width if channel_lanes else d * h * w
    head[at.GAP] = channels if channels_last else 0
    head[at.SCRATCH_PLANE] = scratch_planes > 0
    if not scratch_planes:
        records[at.TARGET] = records[at.GRAD_X]
        return 0
    each = width if channel_lanes else 1
    records[at.TARGET] = (0, 0, h * w * each, w * each, each, 1)
    return scratch_planes * d * h * w * each * itemsize
