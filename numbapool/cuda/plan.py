"""Plans of GPU calls: axes and distances become the words that a kernel is given, and tables in device memory (layout: loops/cuda/layout.py)."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..libraries import Library
from ..loops.cuda import layout as at
from ..prepared import Source
from ..windows import Axis
from . import driver
from .stamp import Kernel

BLOCK = 128  # threads of a block
MOST_BLOCKS = 65535  # along y
LARGE = 512  # elements of a window from which on it is cut into parts,
MOST_PARTS = 1 << 22  # if these are not too many: with many outputs, all threads have work anyway
PART = 128  # elements of a part that are aimed at
SCATTERERS, MOST_SLICES = 1 << 16, 1 << 10  # threads that are aimed at where slices of planes are made; slices of a plane at most
REACH = 1 << 31  # from here on places take 64 bits; tests set it to 1
Strides = tuple[int, ...]


def cover(axis: Axis, size: int) -> tuple[np.ndarray, np.ndarray]:
    """For each input from where, and to where, outputs that cover it stand in a list; and the list."""
    last = axis.first + (axis.count - 1) * axis.step
    if axis.step == 1 and (np.diff(axis.first) >= 0).all() and (np.diff(last) >= 0).all():  # they are neighbours: no list but of all outputs
        inputs = np.arange(size)
        bounds = np.searchsorted(last, inputs, "left"), np.searchsorted(axis.first, inputs, "right")
        return np.concatenate(bounds), np.arange(axis.count.size)
    if axis.count.sum() >= 1 << 31:
        raise ValueError(f"{axis.count.sum()} elements of all windows along one axis are too many for a backward pass on a GPU")
    outputs = np.repeat(np.arange(axis.count.size), axis.count)
    place = np.arange(outputs.size) - np.repeat(np.cumsum(axis.count) - axis.count, axis.count)
    inputs = axis.first[outputs] + place * axis.step
    starts = np.zeros(size + 1, np.int64)
    np.cumsum(np.bincount(inputs, minlength=size), out=starts[1:])
    return np.concatenate([starts[:-1], starts[1:]]), outputs[np.argsort(inputs, kind="stable")]


def slices_of(threads: int, cells: int) -> int:
    """Into how many slices planes of so many cells are cut, where each slice is the work of so many threads."""
    return max(min(-(-SCATTERERS // max(threads, 1)), MOST_SLICES, cells), 1)


class Tables:
    """Arrays that kernels read, which become one piece of device memory."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.end = 0
        self.known: dict[int, tuple[int, np.ndarray]] = {}  # by identity, which the array that is kept along keeps its own

    def place(self, table: np.ndarray, dtype: Any = np.int32) -> int:
        """Where, in bytes, an array will begin."""
        if id(table) not in self.known:
            stored = np.ascontiguousarray(table, dtype).reshape(-1).view(np.uint8)
            self.known[id(table)] = self.end, table
            self.parts += [stored, np.zeros(-stored.size % 16, np.uint8)]
            self.end += stored.size + self.parts[-1].size
        return self.known[id(table)][0]

    @property
    def data(self) -> np.ndarray:
        """All of it."""
        return np.concatenate(self.parts) if self.parts else np.zeros(0, np.uint8)


@dataclass
class Task:
    """One launch: a kernel, its words but for addresses, and where these go.

    tables : words that hold places in the tables; sources : words that a call fills in, from its addresses.
    """

    kernel: Kernel
    words: np.ndarray
    grid: tuple[int, int] = (1, 1)
    tables: list[int] = field(default_factory=list)
    sources: list[tuple[int, int]] = field(default_factory=list)


class Header:
    """What the tasks of a call share: sizes and windows."""

    def __init__(self, dims: Strides, axes: Sequence[Axis], channel: bool, tables: Tables) -> None:
        self.dims, self.axes, self.channel, self.tables = dims, axes, channel, tables
        self.outputs = tuple(a.count.size for a in axes)
        if max(*dims[2:], *self.outputs) >= 1 << 31:  # tables hold 32 bits
            raise ValueError("x must have spatial sizes below 2^31 on a CUDA device")
        self.per_plane = any(a.first.ndim == 2 for a in axes)
        shares = [np.unique(a.share) for a in axes]
        self.share = int(prod(int(s[0]) for s in shares)) if all(s.size == 1 for s in shares) else None
        self.taps = prod(int(a.count.max()) for a in axes)
        self.covers_of: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def wide(self, operands: dict[int, Strides]) -> bool:
        """Whether places in a plane, distances of elements or the number of planes need more than 32 bits."""
        reach = [sum(abs(s) * max(n - 1, 0) for s, n in zip(strides[1:], (self.dims[1] if self.channel else 1, *sizes), strict=True))
                 for strides in operands.values() for sizes in (self.dims[2:], self.outputs)]
        most = max(prod(self.dims[2:]) * (self.dims[1] if self.channel else 1), prod(self.outputs) * (self.dims[1] if self.channel else 1),
                   prod(self.dims[:2]))
        return max(*reach, most) >= REACH

    def task(self, kernel: Kernel, operands: dict[int, tuple[Any, Strides]], over: str, numbers: Sequence[float] = (), covers: bool = False,
             segments: tuple[int, int] = (1, 1), fields: dict[int, int] | None = None, sources: dict[int, Source] | None = None,
             tables: dict[int, tuple[np.ndarray, Any]] | None = None, items: int | None = None) -> Task:
        """A launch.

        operands : (source, distances) by their slots; over : "outputs" or "inputs", of which tasks are made; covers : whether it looks for the
        outputs of an input; segments : (across, along) of windows that are cut; fields, sources, tables : further words; items : of a plane, where
        tasks are something else.
        """
        n, c, *size = self.dims
        words = np.zeros(at.WORDS, np.int64)
        task = Task(kernel, words)
        across = size[2] if over == "inputs" else self.outputs[2]
        rows = prod(size[:2]) if over == "inputs" else prod(self.outputs[:2])
        groups = -(-(c if self.channel else across) // kernel.lanes)
        words[at.PLANES] = n if self.channel and items is None else n * c
        words[at.GROUPS] = groups
        parts = prod(segments)
        lines = rows * across if self.channel else rows
        words[at.ITEMS] = groups * lines * (parts if kernel.loop.endswith("_parts") else 1) if items is None else items
        words[at.N:at.OW + 1] = n, c, *size, *self.outputs
        words[at.OUTPUTS] = n * c * prod(self.outputs)
        words[at.SHARE] = self.share or 0
        words[at.ACROSS], words[at.ALONG], words[at.SEGMENTS] = *segments, parts
        for i, axis in enumerate(self.axes):
            words[at.D_STEP + i] = axis.step
            words[at.D_PLANE + i] = 4 * axis.count.size if axis.first.ndim == 2 else 0
            listed = {at.D_FIRST + i: axis.first, at.D_COUNT + i: axis.count, at.D_SHARE + i: axis.share}
            if covers:
                listed |= dict(zip((at.D_COVER + i, at.D_LIST + i), self.covers(i), strict=True))
            for word, table in listed.items():
                words[word] = self.tables.place(table)
                task.tables.append(word)
        for k, value in enumerate(numbers):
            words[at.NUMBER_1 + k] = np.float64(value).view(np.int64)
        for word, value in (fields or {}).items():
            words[word] = value
        for word, (table, dtype) in (tables or {}).items():
            words[word] = self.tables.place(table, dtype)
            task.tables.append(word)
        for slot, (source, strides) in operands.items():
            record = at.HEAD + at.RECORD * slot
            words[record + 1:record + at.RECORD] = strides
            task.sources.append((record, source.number))
        task.sources += [(word, source.number) for word, source in (sources or {}).items()]
        words[at.ITEM_BITS] = bits = min((int(words[at.ITEMS]) - 1).bit_length(), BLOCK.bit_length() - 1)
        deep = BLOCK >> bits
        task.grid = (-(-int(words[at.ITEMS]) >> bits), max(min(-(-int(words[at.PLANES]) // deep), MOST_BLOCKS), 1))
        return task

    def covers(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """The cover of an axis, made once."""
        if i not in self.covers_of:
            self.covers_of[i] = cover(self.axes[i], self.dims[2 + i])
        return self.covers_of[i]

    @property
    def cuts(self) -> bool:
        """Whether windows are cut."""
        return self.taps >= LARGE and self.dims[0] * self.dims[1] * prod(self.outputs) * prod(self.segments()) <= MOST_PARTS

    def segments(self) -> tuple[int, int]:
        """How a large window is cut: parts of a row (neighbouring elements belong to neighbouring parts), and of the rows."""
        d, h, w = (int(a.count.max()) for a in self.axes)
        across = 1 if self.channel else min(32, w)
        return across, max(min(d * h, -(-self.taps // (PART * across))), 1)


class Work:
    """All launches of a call, as a stage of it (prepared.py): what memory it uses is filled in, and they go to the caller's stream.

    build : makes the tasks and their tables, with vectors of elements or without; without they are made where an array does not begin at a
    multiple of a vector.  size : bytes of the tables, about; seed : which of the addresses is a seed; once : for calls that are not kept, since they
    draw windows: their tables lie in memory of the caller's library.  Tables are pinned once a launch of them was captured into a graph, which
    would read them at any later time.
    """

    mask = 0
    tasks = 1

    def __init__(self, library: Library, build: Callable[[bool], tuple[list[Task], Tables]], size: int, seed: int | None, once: bool) -> None:
        self.library, self.build, self.seed, self.once = library, build, seed, once
        self.ready: dict[bool, list[Ready]] = {}
        self.size = size

    def run(self, addresses: list[int]) -> None:
        """Launch everything."""
        d, device = driver.driver(), self.library.index  # type: ignore[attr-defined]
        stream = self.library.stream()  # type: ignore[attr-defined]
        every = 0
        for address in addresses if self.seed is None else addresses[:self.seed] + addresses[self.seed + 1:]:
            every |= address
        vectors = every & 15 == 0
        with d.on(device):
            ready = self.ready.get(vectors)
            if ready is None:
                ready = self.ready[vectors] = self.prepared(d, device, stream, vectors)
            for one in ready:
                one.run(d, addresses, stream)
            if ready and not ready[0].pinned and ready[0].table is not None and d.capturing(stream):
                for one in ready:
                    one.pinned = True
                _pinned.append(ready[0].table)

    def prepared(self, d: Any, device: int, stream: int, vectors: bool) -> list[Ready]:
        """The launches with their kernels loaded and their tables in place."""
        tasks, tables = self.build(vectors)
        functions = [function_of(t.kernel, device) for t in tasks]
        data = tables.data
        if self.once and data.size:
            memory, address = self.library.maker(data.shape, "uint8")()
            d.copy(address, data, stream)
            table = Borrowed(address, memory)
        else:
            table = d.table(data, device, stream) if data.size else None
        return [Ready(d, t, function, table) for t, function in zip(tasks, functions, strict=True)]


class Borrowed(NamedTuple):
    """Tables in memory of the caller's library."""

    address: int
    memory: Any


_pinned: list[Any] = []  # tables that graphs read
_functions: dict[tuple[Any, int, Kernel], int] = {}


def function_of(kernel: Kernel, device: int) -> int:
    """A kernel on a device."""
    d = driver.driver()
    key = d, device, kernel
    found = _functions.get(key)
    if found is None:
        try:
            image = kernel.image(d.capability(device))
        except ImportError as error:
            raise ImportError(f"GPU kernels are compiled by numba-cuda with the CUDA toolkit's compilers ({error}): "
                              "pip install 'numbapool[cuda13]', or 'numbapool[cuda12]' for a driver before 580") from error
        found = _functions[key] = d.load(image, kernel.name, device)
    return found


class Ready:
    """A launch that waits for addresses.  A `Launch` belongs to one thread at a time: each takes one, and puts it back."""

    def __init__(self, d: Any, task: Task, function: int, table: Any) -> None:
        self.function, self.grid, self.sources, self.table, self.pinned = function, task.grid, task.sources, table, False
        self.words = task.words.copy()
        for word in task.tables:
            self.words[word] += table.address
        self.spare: list[Any] = []

    def run(self, d: Any, addresses: list[int], stream: int) -> None:
        """Launch."""
        try:
            launch = self.spare.pop()
        except IndexError:
            launch = driver.Launch(d, at.WORDS)
            launch.words[:] = self.words
        for word, number in self.sources:
            launch.words[word] = addresses[number]
        launch.go(self.function, *self.grid, 1, BLOCK, stream)
        self.spare.append(launch)
