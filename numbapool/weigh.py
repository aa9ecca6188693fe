"""Sums of a window's elements times weights by their position: which elements of x belong to which of y along each axis, and the calls.

Such a sum is linear, and along each axis a list: which elements window o has, and which weight each of them meets.  Elements outside are not in
it, and a border that is mirrored is a list with other elements.  The transpose, which the backward pass needs, is the same list seen from x.
capi/src/weigh.c says the same in C.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from . import stamp, threads
from .call import Call
from .libraries import address_of
from .loops.cpu import weigh as at
from .windows import Axis

Pairs = list[list[tuple[int, int]]]
Four = tuple["Taps", "Taps", "Taps", "Taps"]  # along (C, D, H, W)


class Taps:
    """The windows along one axis; hashed by identity, so that plans can be kept by their axes.

    windows : for each of them the pairs (element, weight); size : of the input; stride : of the windows, where they have one.
    """

    def __init__(self, windows: Pairs, size: int, stride: int = 1) -> None:
        self.windows, self.stride = windows, stride
        self.covers: Pairs = [[] for _ in range(size)]
        for o, row in enumerate(windows):
            for i, k in row:
                self.covers[i].append((o, k))

    def sides(self, transposed: bool) -> tuple[Pairs, int]:
        """What each result is made of, and the distance of results that may be a run."""
        return (self.covers, self.stride) if transposed else (self.windows, 1)


@functools.lru_cache(256)
def single(size: int, own: bool = False) -> Taps:
    """An axis along which nothing is summed; own : whether each of its elements has weights of its own."""
    return Taps([[(i, i * own)] for i in range(size)], size)


@functools.lru_cache(256)
def of_table(table: bytes, weights: int, size: int, stride: int) -> Taps:
    """The taps of a table of int64, (windows, weights)."""
    rows = np.frombuffer(table, np.int64).reshape(-1, weights)
    return Taps([[(i, k) for k, i in enumerate(row) if 0 <= i < size] for row in rows.tolist()], size, stride)


def of_taps(table: np.ndarray, size: int, stride: int) -> Taps:
    """The taps of a table of elements, (windows, weights), of which some may lie outside."""
    return of_table(np.ascontiguousarray(table, np.int64).tobytes(), table.shape[1], size, stride)


def of_windows(axis: Axis, size: int, border: Callable[[np.ndarray, int], np.ndarray] | None = None) -> Taps:
    """The taps of sliding windows; border : which element of an axis of that size stands at places before and behind it, else there is none."""
    origin, stride, kernel = axis.grid  # type: ignore[misc]
    table = origin + stride * np.arange(axis.count.size)[:, None] + axis.step * np.arange(kernel)
    return of_taps(border(table, size) if border else table, size, stride)


def runs(sides: Pairs, step: int, turns: tuple[int, ...] = (0,)) -> list[tuple[int, int, int, int, list[tuple[int, int]]]]:
    """(first, number, distance of their elements, of their weights, pairs of the first) of results `step` apart that differ by their places alone.

    turns : the distances of weights that a run may have.
    """
    found = []
    for phase in range(min(step, len(sides))):
        o = phase
        while o < len(sides):
            n, away, turn = 1, 1, 0
            while o + n * step < len(sides):
                one, other = sides[o + (n - 1) * step], sides[o + n * step]
                gaps = {(b[0] - a[0], b[1] - a[1]) for a, b in zip(one, other, strict=False)} or {(away, turn)}
                if len(one) != len(other) or len(gaps) != 1 or (n > 1 and one and gaps != {(away, turn)}):
                    break
                gap = gaps.pop()
                if gap[1] not in turns:
                    break
                away, turn = gap
                n += 1
            found.append((o, n, away, turn, sides[o]))
            o += n * step
    return found


@functools.lru_cache(256)
def plan(taps: tuple[Taps, ...], transposed: bool, batch: int, x: tuple[int, ...], y: tuple[int, ...], w: tuple[int, ...],
         sums: int, gate: bool = False) -> tuple[np.ndarray, int]:
    """The integers of a call, and how many taps it has; x, y, w : distances, of x and y along the batch and four axes, of weights along four."""
    head = np.zeros(at.HEAD, np.int64)
    tables: list[Any] = [head]

    def place(table: Any) -> int:
        tables.append(np.array(table, np.int64).ravel())
        return sum(t.size for t in tables[:-1])
    work = batch
    head[[at.BATCH, at.X_BATCH, at.Y_BATCH, at.SUMS, at.GATE]] = batch, x[0], y[0], sums, gate
    for i, axis in enumerate(taps):
        sides, step = axis.sides(transposed)
        work *= sum(map(len, sides))
        if i < 3:
            head[at.S1 + i], head[at.Y_STEP + i] = len(sides), y[1 + i]
            head[at.STARTS + i] = place(np.cumsum([0, *map(len, sides)]))
            head[at.PAIRS + i] = place([(j * x[1 + i], k * w[i]) for side in sides for j, k in side])
        else:
            rows, pairs = [], []
            for o, n, away, turn, side in runs(sides, step, (0, 1)):
                rows.append((o * y[4], step * y[4], n, away * x[4], turn * w[3], len(pairs), len(pairs) + len(side)))
                pairs += [(j * x[4], k * w[3]) for j, k in side]
            head[[at.RUNS, at.RUN_TABLE, at.RUN_PAIRS]] = len(rows), place(rows), place(pairs)
    return np.concatenate(tables), work


@functools.cache
def kernel(loop: str, dtype: str) -> Any:
    """weigh or weigh_sums."""
    return stamp.stamp(loop, [at], dtype, {})


def order_of(x: np.ndarray) -> tuple[int, ...]:
    """The axes but the batch of x's planes, (N, C, D, H, W), with the one last whose elements lie side by side."""
    steps = [abs(s) for s, n in zip(x.strides[2:], x.shape[2:], strict=True) if n > 1]
    return (2, 3, 4, 1) if x.shape[1] > 1 and steps and abs(x.strides[1]) <= min(steps) else (1, 2, 3, 4)


def like(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Memory of a shape (N, C, D, H, W), its axes in the order of x's."""
    order = (0, *order_of(x))
    return np.empty([shape[k] for k in order], x.dtype).transpose(np.argsort(order))


def run(loop: str, taps: Four, x: np.ndarray, y: np.ndarray, weights: np.ndarray, order: tuple[int, ...], steps: tuple[int, ...],
        transposed: bool = False, gate: bool = False) -> None:
    """One kernel over all of y: its rows, or for `weigh_sums` its planes; steps : distances of weights along the axes."""
    axes, size = tuple(taps[k - 1] for k in order), x.itemsize
    of_x, of_y = (tuple(a.strides[k] // size for k in (0, *order)) for a in (x, y))
    sums = weights.shape[-1] if loop == "weigh_sums" else 0
    integers, work = plan(axes, transposed, x.shape[0], of_x, of_y, tuple(steps[k - 1] for k in order), sums, gate)
    data = np.array([address_of(a) for a in (x, y, weights)], np.int64)
    sizes = integers[[at.BATCH, at.S1, at.S2, at.S3]].tolist()
    tasks = prod(sizes) if loop == "weigh" else sizes[0] * sizes[1]
    if tasks:
        threads.run(kernel(loop, x.dtype.name), address_of(integers), address_of(data), tasks, work, threads.slots_for(tasks, work))


def laid(weights: np.ndarray, dtype: Any, order: tuple[int, ...]) -> np.ndarray:
    """Weights whose axis that belongs to the lanes lies last in memory; only that of the channels can be one."""
    last = int(order[-1] == 1)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(weights, 0, -last), dtype), -last, 0)


def on_host(taps: Four, x: np.ndarray, weights: np.ndarray, transposed: bool, gate: bool = False) -> np.ndarray:
    """`weigh` for NumPy's arrays."""
    order = order_of(x)
    weights = laid(weights, x.dtype, order)
    shape = (x.shape[0], *(len(t.sides(transposed)[0]) for t in taps))
    y = like(x, shape)
    run("weigh", taps, x, y, weights, order, steps_of(weights), transposed, gate)
    return y


def in_turn(call: Call, passes: Sequence[tuple[int, Taps, np.ndarray]], x: Any, transposed: bool) -> Any:
    """Sums by a filter that is an outer product of rows; passes : an axis of (C, D, H, W), the taps along it, their weights.

    One axis comes after the other, but where the lanes of a CPU are channels: there one pass is faster.
    """
    if len(passes) < 2 or (call.library.index is None and order_of(x)[-1] == 1):
        taps, weights = [single(n) for n in x.shape[1:]], np.ones((1, 1, 1, 1))
        for i, own, row in passes:
            taps[i], weights = own, weights * row
        return weigh(call, tuple(taps), x, weights, transposed)  # type: ignore[arg-type]
    for i, own, row in passes:
        taps = [single(n) for n in x.shape[1:]]
        taps[i] = own
        x = weigh(call, tuple(taps), x, row, transposed)  # type: ignore[arg-type]
    return x


def steps_of(weights: np.ndarray) -> tuple[int, ...]:
    """Distances, in elements, of weights along (C or 1, D, H, W)."""
    return tuple(s // weights.itemsize for s in weights.strides)


def steps(call: Call) -> Any:
    """What does the same on a device."""
    from .cuda import composed
    return composed


def weigh(call: Call, taps: Four, x: Any, weights: Any, transposed: bool = False) -> Any:
    """y of x, (N, C, D, H, W), or, transposed, the gradient of x from y's; weights : (C or 1, D, H, W), finite numbers of x's dtype;
    on a device NumPy's or arrays of the caller's library."""
    if call.library.index is None:
        return on_host(taps, x, weights, transposed)
    return steps(call).weigh(call, taps, x, weights, transposed)


def gated(call: Call, taps: Four, x: Any, weights: Any) -> Any:
    """The sigmoid of `weigh`; NaN where that is."""
    if call.library.index is None:
        return on_host(taps, x, weights, False, True)
    return steps(call).weigh(call, taps, x, weights, False, True)


def gradient(call: Call, taps: Four, x: Any, grad: Any, weights: Any) -> Any:
    """The gradient of the weights, in their shape: float64, or on a device the kernel's arithmetic."""
    if call.library.index is not None:
        return steps(call).weights_gradient(call, taps, x, grad, weights)
    order = order_of(x)
    sums = np.empty((x.shape[0], len(taps[order[0] - 1].windows), weights.size))
    like_sums = laid(weights, np.float64, order)
    run("weigh_sums", taps, x, grad, sums, order, steps_of(like_sums))
    return np.lib.stride_tricks.as_strided(sums.sum((0, 1)), weights.shape, like_sums.strides)
