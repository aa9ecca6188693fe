"""Plans of selecting loops (loops/cpu/select.py): chunks of columns, and the parts that windows are made of."""
from __future__ import annotations

from math import prod

import numpy as np

from .loops import layout as at
from .loops.cpu import separate
from .loops.cpu.cells import STATE
from .memory import CELLS, LANES, VECTOR
from .plan import Buffer, Plan, Strides, gradient
from .sweeps import PLANE, RING, Axes, chunk, chunks, covering, in_planes, interleaved, many_channels, merged, power_of_two, reach, tall, turned
from .windows import Axis, remembered

PLACE = 8  # bytes of a place, at most
LEAST = 4  # rows of windows that stand a row apart, from which on tall.py chooses faster

def chunks_of(axis: Axis, size: int, positions: int) -> np.ndarray:
    """The chunks of a row of windows; where one has more positions than fit, one a window."""
    found = chunks(axis, size, positions)
    return np.array([chunk(axis, size, o, o + 1) for o in range(axis.count.size)], np.int64) if found is None else found


def width_of(axis: Axis, channels: int, width: int) -> int:
    """How many channels are lanes: so many that a row of cells holds twice the longest window, but 16 at least."""
    span = int((reach(axis) - axis.first).max())
    while width > 16 and CELLS // max(1, min(width, channels)) < 2 * span:
        width //= 2
    return width


def parts_of(axis: Axis, channel_lanes: bool) -> tuple[int, int, int, int]:
    """W_STRIDE (1 or 2: windows at that distance, side by side; 0: at any places), W_TAPS, W_POWER and W_PARTS."""
    stride, taps = axis.grid[1:] if axis.grid else (0, 0)
    stride = stride if stride == 1 or (stride == 2 and axis.step == 1 and not channel_lanes) else 0
    power = 1
    if stride:
        while 3 * power < (taps >> 1 if stride == 2 else taps):
            power *= 2
        return stride, taps, power, 0
    while 2 * power <= axis.count.min():
        power *= 2
    return stride, taps, power, -(-int(axis.count.max()) // power)


def shape_of(dims: tuple[int, ...], axes: Axes, strides: Strides, channel_lanes: bool, table: np.ndarray, deep: bool = False) -> str | None:
    """Which of the loops of short.py suits the windows: "quad", "nine", "short" or none; "pair": "quad" of a gradient, for one row of two columns."""
    d, h, w = axes
    if any(a.first.ndim == 2 for a in axes) or not h.grid or not w.grid or h.step > 1 or w.step > 1:
        return None
    if max(h.grid[2], w.grid[2]) > 3 or (w.grid[1] > 2 and not channel_lanes) or (table[:, at.C_LANES] == 1).any():
        return None
    whole = h.count.min() == w.count.min() == 2 and h.grid[1:] == w.grid[1:] == (2, 2)
    pair = h.grid == (0, 1, 1) and w.count.min() == 2 and w.grid[1:] == (2, 2)
    unit, several = strides[1 if channel_lanes else 4] == 1, d.count.max() > 1
    if (whole and unit and (deep or not several)) or (pair and unit and not several):
        return "quad" if whole else "pair"
    if several:  # of windows two columns apart there are too few
        return "short" if held_planes(axes) and w.grid[1] == 1 and not channel_lanes else None
    return "short" if not channel_lanes else "nine" if unit else None  # which reads channels side by side


def row_of(table: np.ndarray, width: int = 1) -> int:
    """Cells of a row of the windows of any of these chunks, to the end of a vector."""
    return -(-int(table[:, at.C_LANES].max()) * width // VECTOR) * VECTOR


def held_planes(axes: Axes) -> int:
    """How many planes of joined rows short.py keeps for windows of several; 0 for windows that it does not take."""
    d, most = axes[0], int(axes[0].count.max(initial=0))
    return power_of_two(most) if 1 < most <= 3 and d.first.ndim == 1 and d.step == 1 else 0


def separable(dims: tuple[int, ...], axes: Axes, lanes: int, itemsize: int) -> int:
    """Cells of a row for separate.py, with so many lanes a position: all that windows reach and all there are, and whole vectors of windows.

    0: it does not suit the windows, or rows are too long for a band of four, or planes have more than one of windows.
    """
    if prod(dims) == 0 or axes[2].grid is None or axes[0].count.max() > 1 or (np.diff(axes[0].first) <= 0).any():
        return 0
    (origin, stride, kernel), outputs = axes[2].grid, axes[2].count.size
    pitch = max(outputs + kernel - 1, dims[4] - origin, -(-(-(-outputs * lanes // VECTOR) * VECTOR) // lanes))
    suits = stride == 1 and 2 * lanes <= separate.MARGIN and separate.LEAST * pitch * lanes * itemsize <= separate.ROOM
    return pitch * lanes if suits else 0


def build(dims: tuple[int, ...], axes: Axes, operands: tuple[tuple[int, Strides], ...], channel_lanes: bool, width: int = LANES,
          grad_channels_last: bool | None = None, scratch_planes: int = 0, itemsize: int = 4,
          past_cache: int = 0) -> tuple[str | None, Plan]:
    """How to choose, and the plan of a call; the arguments are those of plan.build.  "whole", "separate": by whole.py, separate.py."""
    size, whole, many = dims, dims, many_channels(dims, axes, operands) if channel_lanes and width == LANES else 0
    planes = not channel_lanes and not grad_channels_last and in_planes(dims, axes, operands, (at.X,))
    planes = planes and (grad_channels_last is None or prod(dims[2:]) <= PLANE)
    if prod(dims) and all(a.first.ndim == 1 for a in axes):
        beside = not channel_lanes or dims[1] <= width  # else the lanes of neighbours lie apart: rows of them would have to be copied
        whole, axes, operands = merged(dims, axes, operands, (at.X,), CELLS // (dims[1] if channel_lanes else 1) if beside else 1, channel_lanes)
    width = many or (min(width_of(axes[2], dims[1], width), dims[1]) if channel_lanes else 1)
    records, work = dict(operands), 0
    table = chunks_of(axes[2], whole[4], CELLS // max(width, 1))
    deep = grad_channels_last is not None and axes[0].grid == (0, 2, 2) and axes[0].count.min() == 2 and axes[0].step == 1
    shape = shape_of(whole, axes, records[at.X], channel_lanes, table, deep)
    shape = None if deep and shape == "quad" and grad_channels_last != channel_lanes else shape
    every_plane = deep or (axes[0].count.size == whole[2] and axes[0].grid == (0, 1, 1))
    if shape in ("quad", "pair") and grad_channels_last == channel_lanes and every_plane:
        shape = "own"
    elif shape == "pair":
        shape = "nine" if channel_lanes else "short"
    kept = held_planes(axes) if shape == "short" else 0
    if shape == "short":
        narrow = chunks_of(axes[2], whole[4], CELLS // 2)
        room = RING // (itemsize + PLACE) // max(kept * axes[1].count.size, 1)
        shape, table = ("short", narrow) if not kept or row_of(narrow) <= room else (None, table)
    buffer = Buffer(whole, axes, channel_lanes, width)
    head = buffer.head
    turn = shape is None and turned(axes, channel_lanes) and not interleaved(dims, operands)
    narrow = chunks(axes[2], whole[4], CELLS // VECTOR) if turn else None
    if narrow is not None:
        table, head[at.TURN] = narrow, VECTOR
    buffer.place(at.CHUNK_TABLE, table)
    together = grad_channels_last == channel_lanes and (not channel_lanes or width == dims[1])
    cells = separable(whole, axes, width, itemsize) if shape in ("short", "nine") and together else 0
    if cells:
        shape, head[at.ROW_CELLS] = "separate", cells
        buffer.place(at.D_COVER, covering(axes[0], whole[2]))
        head[at.W_LEAD] = -axes[2].grid[0]  # type: ignore[index]
    buffer.place(at.W_COUNT, axes[2].count)
    head[at.CHUNKS], head[at.PAST_CACHE] = len(table), past_cache
    head[[at.W_STRIDE, at.W_TAPS, at.W_POWER, at.W_PARTS]] = parts_of(axes[2], channel_lanes)
    if grad_channels_last is not None:
        work = gradient(head, records, size, grad_channels_last, channel_lanes, buffer.width, scratch_planes, itemsize)
    work = -(-work // 64) * 64
    fits = (not channel_lanes or len(table) == 1) and int(table[:, at.C_LENGTH].max()) * width <= CELLS
    if shape is None and head[at.W_STRIDE] == 1 and fits:
        head[at.JOIN_TALL] = tall(axes, least=LEAST)
    if head[at.JOIN_TALL]:
        work = _held(head, work, STATE, row_of(table, width), int(head[at.JOIN_TALL]) + 3, itemsize)
    elif shape == "short" and kept:
        head[at.RING_D], lines = kept - 1, kept * axes[1].count.size
        work = _held(head, work, -(-8 * lines // 64) * 64, row_of(table), lines, itemsize)
    if cells:
        room = min(max(separate.LEAST, separate.NEAR // cells), whole[3]) * cells + 2 * width + VECTOR
        head[at.JOIN_AT], head[at.HELD_CELLS] = work, room
        work += -(-(4 * room + 2 * (cells + 2 * VECTOR)) * itemsize // 64) * 64 + 4 * room
    rows = buffer.planes * axes[0].count.size * axes[1].count.size
    return "whole" if planes else shape, buffer.plan(records, work, rows if prod(dims[2:]) else 0, buffer.planes)


def _held(head: np.ndarray, begin: int, state: int, row: int, rows: int, itemsize: int) -> int:
    """Lay out rows of cells that are held, from `begin` on, behind so many bytes of state; returns where the memory ends."""
    head[[at.JOIN_AT, at.TAGS_AT, at.ROW_CELLS, at.HELD_CELLS]] = begin, state, row, rows * row
    return begin + state + -(-rows * row * (itemsize + PLACE) // 64) * 64


cached = remembered(build)
