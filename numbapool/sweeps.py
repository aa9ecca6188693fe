"""Plans of sweeps (loops/cpu/sweep.py): which calls can take one, its chunks of columns, its rings of rows, its inverse tables."""
from __future__ import annotations

import functools
from math import prod

import numpy as np

from .loops import layout as at
from .loops.cpu import cells as rows_of_cells
from .loops.cpu import nine, three
from .loops.cpu.sweep import LONG
from .memory import CELLS, LANES, VECTOR
from .plan import Buffer, Plan, Strides, dense
from .windows import Axis, remembered

RING = 1 << 19  # bytes of lifted rows that are kept for the next windows: half a second-level cache
SHORT = 256  # cells of the rows that a window over whole planes is cut into, where they are lifted: those of a few rows stay in the first cache
THREE = CELLS - 8 * VECTOR  # positions of a row that three.py takes
PLANE = 2048  # elements of a plane whose gradients by places whole.py makes
TALL = 32  # rows of a window that slide_down joins, at most: its sums are of that many, one after the other
LEAST = 6  # and the least, where windows stand a row apart
PLANES = 1 << 14  # windows' rows by elements a row of a plane, at most, whose rows three.py keeps: 64 KB of float32 for a number of each
TASKS = 16  # whole planes of many channels: into so many parts they are cut, if they are not as many
HELD = 1 << 23  # bytes of rows of terms, at most
TURN = 4  # rows of windows of a plane, at least, that are turned: a tile has the work of all its rows

Axes = tuple[Axis, Axis, Axis]


def reach(axis: Axis) -> np.ndarray:
    """One past the last element of each window."""
    return axis.first + (axis.count - 1) * axis.step + 1


def merged(dims: tuple[int, ...], axes: Axes, operands: tuple[tuple[int, Strides], ...], full: tuple[int, ...],
           cells: int, channel_lanes: bool) -> tuple[tuple[int, ...], Axes, tuple[tuple[int, Strides], ...]]:
    """One window over whole planes without gaps, seen as one of fewer and longer rows; any other call as it is.

    full : the operands that have the input's size; cells : positions of a row at most; 1: every position is a row.
    """
    _, _, d, h, w = dims
    steps = whole_planes(dims, axes, operands, full, dims[1] if channel_lanes else 1)
    if steps is None or (d * h == 1 and (cells > 1 or w == 1)):
        return dims, axes, operands
    row = 1 if cells == 1 else w * max(t for t in range(1, d * h + 1) if d * h % t == 0 and (t == 1 or t * w <= cells))
    shape = (1, d * h * w // row, row)
    tables = tuple(Axis(np.zeros(1, np.int64), np.array([n]), 1, np.array([prod(int(a.share[0]) for a in axes) if i == 2 else 1]), (0, n, n))
                   for i, n in enumerate(shape))
    moved = tuple((k, (*s[:2], 0, steps[k] * row, steps[k]) if k in full else s) for k, s in operands)
    return (*dims[:2], *shape), tables, moved  # type: ignore[return-value]


def whole_planes(dims: tuple[int, ...], axes: Axes, operands: tuple[tuple[int, Strides], ...], full: tuple[int, ...],
                 apart: int) -> dict[int, int] | None:
    """The distances of neighbours in the operands of the input's size, where the window of each plane is all of it and lies `apart` without gaps."""
    _, _, d, h, w = dims
    whole = all(a.count.size == 1 and a.count[0] == n and a.step == 1 for a, n in zip(axes, dims[2:], strict=True))
    steps = {k: s[4] if w > 1 else s[3] if h > 1 else s[2] for k, s in operands if k in full}
    gapless = all((h == 1 or s[3] == w * steps[k]) and (d == 1 or s[2] == h * w * steps[k]) for k, s in operands if k in full)
    return steps if whole and gapless and all(step == apart for step in steps.values()) else None


def in_planes(dims: tuple[int, ...], axes: Axes, operands: tuple[tuple[int, Strides], ...], full: tuple[int, ...]) -> bool:
    """Whether windows are whole planes, channels-first, that planes.py or whole.py takes."""
    return prod(dims) > 0 and all(a.first.ndim == 1 for a in axes) and bool(whole_planes(dims, axes, operands, full, 1))


@functools.lru_cache(256)
def cut(dims: tuple[int, ...], axes: Axes,
        operands: tuple[tuple[int, Strides], ...]) -> tuple[tuple[int, ...], Axes, tuple[tuple[int, Strides], ...]]:
    """One long row, whose windows lie side by side and all alike, seen as many rows that three.py takes; any other call as it is.

    Only for formulas whose windows are all in reach: tasks are other rows than those of the general loops.
    """
    w, (_, _, d, h, n) = axes[2], dims
    if d * h > 1 or n <= THREE or w.grid is None or any(a.count.size > 1 for a in axes[:2]):
        return dims, axes, operands
    origin, stride, kernel = w.grid
    outputs, like = w.count.size, w.count.min() == kernel and w.share.min() == w.share.max()
    each = max((m for m in range(VECTOR, THREE // stride + 1) if outputs % m == 0), default=0)
    if origin or (kernel - 1) * w.step >= stride or outputs * stride != n or not like or not each:
        return dims, axes, operands
    rows = outputs // each
    table, ones = np.arange(rows, dtype=np.int64), np.ones(rows, np.int64)
    parts = Axis(table, ones, 1, ones * axes[1].share[0], (0, 1, 1)), Axis(w.first[:each], w.count[:each], w.step, w.share[:each], w.grid)
    moved = tuple((k, (*s[:3], (each if k == at.Y else each * stride) * s[4], s[4])) for k, s in operands)
    return (*dims[:2], 1, rows, each * stride), (axes[0], *parts), moved


def many_channels(dims: tuple[int, ...], axes: Axes, operands: tuple[tuple[int, Strides], ...]) -> int:
    """How many channels as lanes to take at once of windows that are whole planes: LANES or more, which divide all; 0 for any others.

    So many that tasks are enough for threads: TASKS, where these are not fewer than LANES each.
    """
    batch, channels = dims[:2]
    if channels <= LANES or prod(dims) == 0 or any(a.first.ndim == 2 for a in axes) or not whole_planes(dims, axes, operands, (at.X,), channels):
        return 0
    parts = [m for m in range(1, channels // LANES + 1) if channels % m == 0 and channels // m <= CELLS]
    return channels // next((m for m in parts if batch * m >= TASKS), parts[-1]) if parts else 0


@functools.lru_cache(256)
def as_channels(dims: tuple[int, ...], axes: Axes, operands: tuple[tuple[int, Strides], ...],
                gradient: bool) -> tuple[tuple[int, ...], Axes, tuple[tuple[int, Strides], ...]] | None:
    """Windows that are whole planes of many channels as lanes, seen as rows of channels, one below the other, that join; None for any others.

    Lanes alone would be a part of each row, whose memory lies far from that of the next.  Only for formulas whose windows are all in reach, as `cut`.
    """
    batch, channels, *size = dims
    each = many_channels(dims, axes, operands)
    if not each:
        return None
    rows, parts = prod(size), channels // each
    full = {at.X, at.GRAD_X} if gradient else {at.X}
    operands = (*operands, (at.GRAD_X, dense(dims, True))) if gradient else operands
    moved = tuple((k, (s[0], each * s[1], 0, channels if k in full else 0, s[1])) for k, s in operands)
    ones, places = np.ones(each, np.int64), np.arange(each, dtype=np.int64)
    down = Axis(np.zeros(1, np.int64), np.array([rows]), 1, np.array([prod(int(a.share[0]) for a in axes)]), (0, rows, rows))
    return (batch, parts, 1, rows, each), (Axis(ones[:1] - 1, ones[:1], 1, ones[:1], (0, 1, 1)), down, Axis(places, ones, 1, ones, (0, 1, 1))), moved


def span(axis: Axis, lo: int, hi: int) -> tuple[int, int]:
    """The first element of windows [lo, hi), and one past their last."""
    first = axis.first[..., lo:hi]
    return int(first.min()), int((first + (axis.count[lo:hi] - 1) * axis.step).max()) + 1


def longest(axis: Axis) -> int:
    """Positions from the first to the last element of the longest window, of all planes."""
    if axis.grid:
        return (axis.grid[2] - 1) * axis.step + 1
    first = axis.first.reshape(-1, axis.count.size)
    return int((first.max(0) - first.min(0) + (axis.count - 1) * axis.step).max(initial=0)) + 1


def chunk(axis: Axis, size: int, lo: int, hi: int, inputs: tuple[int, int] | None = None) -> list[int]:
    """The record of windows [lo, hi); inputs : the positions whose gradient they make."""
    if axis.grid:
        origin, stride, kernel = axis.grid
        start, stop = origin + lo * stride, origin + (hi - 1) * stride + (kernel - 1) * axis.step + 1
    else:
        start, stop = span(axis, lo, hi) if hi > lo else inputs or (0, 0)
        start = min(start, inputs[0]) if inputs else start
    first, last = inputs or (0, 0)
    stop = max(stop, last)
    return [lo, hi - lo, start, stop - start, max(start, 0), min(stop, size), first, last]


def chunks(axis: Axis, size: int, positions: int) -> np.ndarray | None:
    """The windows in as few chunks of at most so many positions as can be, of like size; None where one window has more."""
    outputs = axis.count.size
    parts = 1 if longest(axis) <= positions else outputs + 1
    while parts <= outputs:
        edges = [outputs * i // parts for i in range(parts + 1)]
        found = [chunk(axis, size, lo, hi) for lo, hi in zip(edges[:-1], edges[1:], strict=True)]
        if max(max(c[at.C_LENGTH], c[at.C_LANES]) for c in found) <= positions:
            return np.array(found, np.int64)
        parts = max(parts + 1, min(2 * parts, outputs)) if parts < outputs else outputs + 1
    return None


def slices(axis: Axis, size: int, positions: int, cover: np.ndarray) -> np.ndarray | None:
    """The inputs in parts, each with the windows that cover it; None where that takes more positions."""
    starts = cover[:size + 1] - (size + 1)
    listed = cover[size + 1:]
    for parts in (1 << i for i in range(size.bit_length() + 1)):
        edges = sorted({size * i // parts for i in range(parts + 1)})
        found = []
        for lo, hi in zip(edges[:-1], edges[1:], strict=True):
            over = listed[starts[lo]:starts[hi]]
            first, last = (int(over.min()), int(over.max()) + 1) if over.size else (0, 0)
            if axis.grid and over.size == 0:
                first = max(0, min((lo - axis.grid[0]) // axis.grid[1], axis.count.size - 1))
                last = first + 1
            elif axis.grid and axis.grid[0] + first * axis.grid[1] > lo:
                first -= 1
            found.append(chunk(axis, size, first, last, (lo, hi)))
        if max(max(c[at.C_LENGTH], c[at.C_LANES], c[at.C_HI] - c[at.C_LO]) for c in found) <= positions:
            return np.array(found, np.int64)
    return None


def covering(axis: Axis, size: int) -> np.ndarray:
    """The inverse table: size + 1 places where the lists begin, then for each input the outputs that cover it, ascending."""
    outputs = np.repeat(np.arange(axis.count.size), axis.count)
    tap = np.arange(outputs.size) - np.repeat(np.cumsum(axis.count) - axis.count, axis.count)
    inputs = axis.first[outputs] + tap * axis.step
    order = np.argsort(inputs, kind="stable")
    starts = np.searchsorted(inputs[order], np.arange(size + 1)) + size + 1
    return np.concatenate([starts, outputs[order]]).astype(np.int64)


def repeats(cover: np.ndarray, size: int) -> np.ndarray:
    """Whether an input's list is that of the one before."""
    lists = [cover[cover[i]:cover[i + 1]].tobytes() for i in range(size)]
    return np.array([0, *(a == b for a, b in zip(lists[:-1], lists[1:], strict=True))], np.int64)


def runs_over(cover: np.ndarray, size: int, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of the outputs that cover an input, and how many they are; where none does, the first of its slice."""
    starts = cover[:size + 1]
    first, count = cover[np.minimum(starts[:-1], cover.size - 1)], np.diff(starts)
    for part in parts:
        inputs = slice(part[at.C_FROM], part[at.C_TO])
        first[inputs] = np.where(count[inputs] > 0, first[inputs], part[at.C_OUT])
    return first, count


def power_of_two(n: int) -> int:
    """The smallest one that is at least n."""
    return 1 << max(n - 1, 0).bit_length()


def ring(axes: Axes, row: int, backward: bool, together: int = 0, lines: int = 0) -> tuple[int, int]:
    """How many planes and rows of lifted elements are kept, of `row` bytes each: those of a window where the next needs some of them, too, and
    `together` ones; where planes are needed again, and that fits, all `lines` of theirs.
    """
    sizes, least, again = [], [], []
    for axis, more in zip(axes[:2], (0, together), strict=True):
        span = int(((axis.count - 1) * axis.step + 1).max()) + more
        least.append(min(power_of_two(span), power_of_two(2 * axis.step + 1)))  # three rows of a window side by side
        again.append(backward or (axis.first[..., 1:] < reach(axis)[..., :-1]).any())
        sizes.append(power_of_two(span) if again[-1] else least[-1])
    whole = max(sizes[1], power_of_two(lines))
    if lines and again[0] and sizes[0] * whole * row <= RING:
        return sizes[0], whole
    return (sizes[0], sizes[1]) if prod(sizes) * row <= RING else (least[0], least[1])


def held_rows(cover: np.ndarray, size: int, together: int) -> int:
    """The most outputs from the first to the last that cover so many inputs side by side, those that the same ones cover counting once."""
    starts, same, most = cover[:size + 1], repeats(cover, size), 1
    begins = np.append(np.flatnonzero(same == 0), size)
    for a, b in zip(begins[:-1], begins[np.minimum(np.arange(begins.size - 1) + together, begins.size - 1)], strict=True):
        if starts[b] > starts[a]:
            most = max(most, int(cover[starts[b] - 1] - cover[starts[a]]) + 1)
    return most


def held(covers: list[np.ndarray], dims: tuple[int, ...], outputs: tuple[int, ...], row: int, together: int) -> tuple[int, int]:
    """How many planes and rows of terms are kept, of `row` bytes each: those over one input, or so many; in 3d whole planes, where they fit."""
    sizes = [power_of_two(held_rows(*given)) for given in zip(covers[:2], dims[2:4], (1, max(together, 1)), strict=True)]
    whole = power_of_two(outputs[1])
    if dims[2] > 1 and sizes[0] * whole * row <= RING:
        sizes[1] = whole
    return sizes[0], sizes[1]


def tall(axes: Axes, over: int | None = None, least: int = LEAST) -> int:
    """Rows of the tallest window, or `over`, how many windows cover a row, if slide_down (loops/cpu/cells.py) joins them in fewer steps; else 0.

    least : from how many rows on it pays where windows are a row apart; for each row more that they are apart two more.
    """
    d, h, _ = axes
    if h.grid is None or h.step > 1 or d.count.max() > 1:
        return 0
    most, apart = (int(h.count.max()), h.grid[1]) if over is None else (over, 1)
    return most if least + 2 * (apart - 1) <= most <= TALL else 0


def turned(axes: Axes, channel_lanes: bool) -> int:
    """How many rows are turned together to join columns as lanes do: where windows along the last axis lie at any places, or more than two apart."""
    _, h, w = axes
    apart = not channel_lanes and (w.grid is None or w.grid[1] > 2) and w.step == 1
    return VECTOR if apart and w.count.size > 1 and w.count.max() < LONG and h.count.size >= TURN else 0


def interleaved(dims: tuple[int, ...], operands: tuple[tuple[int, Strides], ...]) -> bool:
    """Whether the input's planes lie side by side position by position: rows of all of them then take turns, if they are no lanes."""
    strides = dict(operands)[at.X]
    return dims[1] > 1 and strides[1] < strides[4]


def ordered(axis: Axis) -> bool:
    """Whether no window begins or ends before the one in front of it: those over an input are then neighbours, and new ones come last."""
    return bool((np.diff(axis.first) >= 0).all() and (np.diff(reach(axis)) >= 0).all())


def columns(axis: Axis, positions: int, table: np.ndarray) -> tuple[int, int]:
    """How the columns of terms spread over the inputs (layout.py, W_SPREAD), and the padding that this needs."""
    if axis.grid is None or axis.count.size == 1:
        return 0, 0
    _, stride, kernel = axis.grid
    how = 1 if stride == 1 else 2 if stride == 2 and axis.step == 1 else 0
    lead = (kernel - 1) * axis.step + 1
    room = int(table[:, at.C_LANES].max()) + 2 * lead <= positions
    return (how, lead) if how and room else (0, 0)


def straight(dims: tuple[int, ...], strides: Strides, channel_lanes: bool) -> bool:
    """Whether the rows of an operand are rows of cells as they lie in memory."""
    if channel_lanes:
        return strides[1] == 1 and (strides[4] == dims[1] or dims[4] == 1) and dims[1] <= LANES
    return strides[4] == 1 or dims[4] == 1


def small(dims: tuple[int, ...], axes: Axes, operands: tuple[tuple[int, Strides], ...], channel_lanes: bool, backward: bool) -> str | None:
    """Which loop for some windows can do a call: "quad" of direct.py, or "planes", "nine", "eight", "three" of the files of these names."""
    if prod(dims) == 0 or any(a.first.ndim == 2 for a in axes) or any(k in (at.PARAM, at.PARAM2) and any(s[2:]) for k, s in operands):
        return None
    if not channel_lanes and in_planes(dims, axes, operands, (at.X, at.LOGIT)):
        return "planes"
    if any(s[1 if channel_lanes else 4] != 1 for k, s in operands if k in (at.X, at.LOGIT, at.Y)):
        return None
    d, h, w = axes
    if d.count.max() > 1:
        pairs = all(a.grid and a.grid[2] == 2 and a.count.min() == 2 for a in axes) and w.grid[1] == 2 and w.step == 1  # type: ignore[index]
        beside = not backward or all(a.grid == (0, 2, 2) and a.step == 1 for a in axes)
        if pairs and beside and not channel_lanes and w.count.size >= VECTOR:
            return "eight"
    if not h.grid or not w.grid or (not channel_lanes and w.step > 1):
        return None
    kernel, strides = (h.grid[2], w.grid[2]), (h.grid[1], w.grid[1])
    whole = all(int(a.count.min()) == a.grid[2] for a in (h, w) if a.grid)
    single = d.count.max() == 1
    if kernel == (2, 2) and whole and single and (channel_lanes or w.grid[1] == 2):
        beside = strides == (2, 2) and h.grid[0] == w.grid[0] == 0 and h.step == w.step == 1 and d.count.size == dims[2]
        return "quad" if beside or not backward else None
    if kernel == (3, 3) and channel_lanes and single and (not backward or kept_rows(dims, axes)):
        return "nine"
    narrow = w.step <= (4 if strides[1] == 1 else 1) and h.step <= 4 and dims[4] <= THREE
    wide = min(w.count.size, dims[4] // strides[1]) >= VECTOR
    every = (not backward or d.count.size == dims[2]) if single else kept_planes(dims, axes) > 0
    return "three" if max(kernel) <= 3 and strides[1] <= 2 and not channel_lanes and narrow and wide and every else None


def kept_planes(dims: tuple[int, ...], axes: Axes) -> int:
    """How many planes of rows three.py keeps for windows of several, a plane apart; farther apart they share too little; 0: not for these."""
    d, h, _ = axes
    most = int(d.count.max())
    suits = 1 < most <= 3 and d.grid is not None and d.grid[1] == 1 and d.step == 1 and h.count.size * dims[4] <= PLANES
    return power_of_two(most) if suits else 0


def kept_rows(dims: tuple[int, ...], axes: Axes) -> bool:
    """Whether rows of what 3x3 windows of channels hand out have room in nine.py, and those at both ends that give nothing."""
    d, h, w = axes
    beyond = (dims[4] - 1 - w.grid[0]) // w.grid[1] - w.count.size + 1  # type: ignore[index]
    fits = max(dims[4], w.count.size + 2 * nine.SIDES) * dims[1] <= CELLS - VECTOR and dims[1] <= LANES and beyond <= nine.SIDES
    return fits and d.count.size == dims[2] and h.step == w.step == 1


def build_small(dims: tuple[int, ...], axes: Axes, operands: tuple[tuple[int, Strides], ...], channel_lanes: bool,
                grad_channels_last: bool | None = None, past_cache: bool = False) -> Plan:
    """The plan of a call that `small` has named; past_cache : whether the result is written past the caches."""
    if grad_channels_last is not None:
        operands = (*operands, *((k, dense(dims, grad_channels_last)) for k in (at.GRAD_X, at.GRAD_LOGIT)))
    buffer = Buffer(dims, axes, channel_lanes, LANES)
    buffer.head[at.PAST_CACHE] = past_cache
    buffer.place(at.W_COUNT, axes[2].count)
    buffer.place(at.W_SHARE, axes[2].share)
    rows = buffer.planes * prod(a.count.size for a in axes[:2])
    if grad_channels_last is None or not channel_lanes or axes[2].grid is None or axes[2].grid[2] != 3:
        return buffer.plan(dict(operands), 0, rows, rows)
    buffer.head[at.W_LEAD], buffer.head[at.W_STRIDE] = -axes[2].grid[0], axes[2].grid[1]
    buffer.place(at.H_COVER, covering(axes[1], dims[3]))
    return buffer.plan(dict(operands), 0, rows, buffer.planes * dims[2] * dims[3])


cached_small = remembered(build_small)


def build_three(dims: tuple[int, ...], axes: Axes, operands: tuple[tuple[int, Strides], ...], lifts: int, terms: int, itemsize: int,
                past_cache: bool = False) -> Plan:
    """The plan of a call that `small` has named "three"; arguments as those of `build`."""
    backward = terms > 0
    if backward:
        operands = (*operands, *((k, dense(dims, False)) for k in (at.GRAD_X, at.GRAD_LOGIT)))
    buffer, (_, h, w) = Buffer(dims, axes, False, LANES), axes
    head, (origin, stride, kernel) = buffer.head, w.grid or (0, 1, 1)
    head[at.PAST_CACHE], head[at.W_LEAD], head[at.W_STRIDE], head[at.W_TAPS] = past_cache, -origin, stride, kernel
    buffer.place(at.W_SHARE, w.share)
    row, held = (-(-n // VECTOR) * VECTOR for n in (stride * (-(-dims[4] // stride) + 3 * VECTOR), w.count.size + 4 * VECTOR))
    spans = 2 * h.step + 1 + ((three.BAND + 2) * (h.grid[1] if h.grid else 1) if backward else 0)
    ring, planes = min(power_of_two(spans), 64), max(kept_planes(dims, axes), 1)
    head[at.ROW_CELLS], head[at.RING_D], head[at.RING_H], head[at.HELD_CELLS] = row, planes - 1, ring - 1, held
    rows = (planes * ring + three.BAND) * lifts + 2 * three.BAND * terms + max(lifts, terms)
    work = _memory(head, at.TAGS_AT, planes * ring, 0, itemsize * (rows * row + three.BAND * terms * held + w.count.size))
    if planes > 1:
        head[at.HELD_AT], kept = -(-work // 64) * 64, planes * h.count.size
        work = _memory(head, at.HELD_TAGS_AT, 2 * kept, 0, int(head[at.HELD_AT]) + itemsize * kept * (lifts + terms) * row)
        if backward:
            buffer.place(at.D_COVER, covering(axes[0], dims[2]))
    if backward:
        buffer.place(at.H_COVER, covering(h, dims[3]))
    return buffer.plan(dict(operands), work, buffer.planes * prod(a.count.size for a in axes[:2]), buffer.planes * dims[2] * dims[3])


cached_three = remembered(build_three)


def build(dims: tuple[int, ...], axes: Axes, operands: tuple[tuple[int, Strides], ...], channel_lanes: bool, lifts: int, terms: int,
          itemsize: int, grad_channels_last: bool | None = None, past_cache: bool = False) -> Plan | None:
    """The plan of a sweep, or None where the windows or the memory do not suit one.

    lifts : components of a lifted row, 0 where rows are taken as they are; terms : rows of terms (backward), else 0;
    itemsize : bytes of a cell; grad_channels_last : the order of the gradient's memory; past_cache : as in `build_small`.
    """
    backward = terms > 0
    if prod(dims) == 0 or any(k in (at.PARAM, at.PARAM2) and any(s[2:]) for k, s in operands):
        return None
    if any(a.first.ndim == 2 for a in axes) and (backward or interleaved(dims, operands)):
        return None
    if backward and not all(ordered(a) for a in axes):
        return None
    if backward:
        given = dict(operands)
        operands = (*operands, *((k, dense(dims, bool(grad_channels_last))) for k in (at.GRAD_X, at.GRAD_LOGIT) if k not in given))
    width = min(LANES, dims[1]) if channel_lanes else 1
    positions = CELLS // width
    dims, axes, operands = merged(dims, axes, operands, (at.X, at.LOGIT, at.GRAD_X, at.GRAD_LOGIT),
                                   max(1, SHORT // width) if lifts else positions, channel_lanes)
    cover = [covering(a, n) for a, n in zip(axes, dims[2:], strict=True)] if backward else []
    for turn in dict.fromkeys((turned(axes, channel_lanes), 0)):
        room = positions // max(turn, 1)
        forward = chunks(axes[2], dims[4], room)
        parts = slices(axes[2], dims[4], room, cover[2]) if backward else forward
        if forward is not None and parts is not None:
            break
    else:
        return None
    buffer = Buffer(dims, axes, channel_lanes, LANES)
    head = buffer.head
    head[at.PAST_CACHE] = past_cache
    buffer.place(at.CHUNK_TABLE, forward)
    buffer.place(at.SLICE_TABLE, parts)
    head[at.CHUNKS], head[at.SLICES] = len(forward), len(parts)
    head[at.TURN] = turn
    if backward:
        head[at.W_SPREAD], head[at.W_LEAD] = columns(axes[2], positions, parts)
        for field, table in zip((at.COVER_FIRST, at.COVER_COUNT), runs_over(cover[2], dims[4], parts) if turn else (), strict=False):
            buffer.place(field, table)
    if axes[2].grid and axes[2].count.size > 1:
        head[at.W_STRIDE], head[at.W_TAPS] = axes[2].grid[1:]
    buffer.place(at.W_COUNT, axes[2].count)
    buffer.place(at.W_SHARE, axes[2].share)
    cells = -(-int((parts[:, at.C_HI] - parts[:, at.C_LO]).max()) * width // 16) * 16
    lines = dims[3] if dims[2] > 1 and len(parts) == 1 else 0
    rows = ring(axes, lifts * cells * itemsize, backward, turn if backward else 0, lines) if lifts else (1, 1)
    head[at.ROW_CELLS], head[at.RING_D], head[at.RING_H] = cells, rows[0] - 1, rows[1] - 1
    work = _memory(head, at.TAGS_AT, prod(rows), lifts * cells * itemsize, 0)
    if backward:
        across = -(-int(parts[:, at.C_LANES].max()) * width // 16) * 16
        kept = held(cover, dims, tuple(a.count.size for a in axes), terms * across * itemsize, turn)
        if prod(kept) * terms * across * itemsize > HELD:
            return None
        head[at.HELD_CELLS], head[at.HELD_D], head[at.HELD_H], head[at.HELD_AT] = across, kept[0] - 1, kept[1] - 1, work
        head[at.TODO_AT] = _memory(head, at.HELD_TAGS_AT, prod(kept), terms * across * itemsize, work)
        work = int(head[at.TODO_AT]) + -(-16 * prod(kept) // 64) * 64
        for field, table in zip((at.D_COVER, at.H_COVER, at.W_COVER), cover, strict=True):
            buffer.place(field, table)
        buffer.place(at.H_SAME, repeats(cover[1], dims[3]))
        head[at.COVER_TALL] = tall(axes, int(np.diff(cover[1][:dims[3] + 1]).max()))
        work = _ends(head, at.COVER_TALL, terms * across * itemsize, work)
    most = tall(axes)
    head[at.JOIN_TALL] = most if not lifts or rows[1] >= most + (turn if backward else 0) else 0
    work = _ends(head, at.JOIN_TALL, max(lifts, 1) * cells * itemsize, work)
    tasks = buffer.planes * dims[2] * dims[3]
    return buffer.plan(dict(operands), work, buffer.planes * axes[0].count.size * axes[1].count.size, tasks)


def _memory(head: np.ndarray, tags: int, rows: int, row: int, begin: int) -> int:
    """Lay out so many rows and their tags from `begin` on; returns where the memory ends."""
    head[tags] = begin + -(-rows * row // 64) * 64
    return int(head[tags]) + -(-8 * rows // 64) * 64


def _ends(head: np.ndarray, field: int, row: int, begin: int) -> int:
    """Lay out what slide_down holds, if it is for these windows, from `begin` on, rows of so many bytes; returns where the memory ends."""
    head[field + 1] = begin
    return begin + (rows_of_cells.STATE + -(-(int(head[field]) + 1) * row // 64) * 64 if head[field] else 0)


cached = remembered(build)
