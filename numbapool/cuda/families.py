"""The families of formulas on a GPU: which kernels a call runs, and on what.  Their interface is that of ../families.py.

What a kernel hands to the next one lies in memory of the caller's library, which orders its reuse on the caller's stream.
"""
from __future__ import annotations

import functools
import types
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .. import arrays, families
from ..call import Call, View
from ..kernels import lifts
from ..loops.cuda import layout as at
from ..numeric import real_name, storage_name
from ..plan import dense
from ..prepared import Source
from . import kernels
from .plan import LARGE, Header, Tables, Task, Work
from .stamp import Kernel

MOST_LANES, FEW_LANES, VECTOR_BYTES = 8, 4, 16
MOST_TILE = 64  # elements from a window to the next of which one task writes all gradients, where none overlap; for more, all threads are to work
MOST_STRIDE, MOST_KERNEL = 3, 5  # of windows that a task takes side by side: more would take too many registers
SCATTERERS, MOST_SLICES = 1 << 16, 1 << 10  # threads that are aimed at where slices of planes are written; slices of a plane at most


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


def disjoint(call: Call) -> bool:
    """Whether no two windows share an element, none is empty, and they and the gaps behind them are small."""
    def apart(a: Any) -> bool:
        if a.first.ndim == 2 or not a.count.size or a.count.min() == 0 or (a.step > 1 and a.count.max() > 1):
            return False
        return bool((a.first[1:] >= a.first[:-1] + a.count[:-1]).all())
    return all(map(apart, call.axes)) and prod(int(np.diff(tiles(a, n).reshape(2, -1), axis=0).max())
                                               for a, n in zip(call.axes, call.x.dims[2:], strict=True)) <= MOST_TILE


def tiles(axis: Any, size: int) -> np.ndarray:
    """Where the elements begin that belong to each of disjoint windows, with those up to the next one; and where they end."""
    bounds = np.concatenate([[0], axis.first[1:], [size]])
    return np.concatenate([bounds[:-1], bounds[1:]])


def space(call: Call, rows: int, dtype: str) -> tuple[Source, tuple[int, ...]]:
    """Work memory for so many numbers an output, and their distances, in the order of the lanes."""
    source = call.made_by(call.library.maker((rows * prod(call.out_dims),), dtype))
    return source, dense(call.out_dims, call.lanes)


def places_name(wide: bool) -> str:
    """The dtype of places."""
    return "int64" if wide else "int32"


def add(call: Call, build: Callable[[bool], tuple[list[Task], Tables]]) -> None:
    """Add the launches of a call as its stage."""
    def busy(vectors: bool) -> tuple[list[Task], Tables]:
        tasks, tables = build(vectors)
        return [t for t in tasks if t.clear or (t.words[at.ITEMS] > 0 and t.words[at.PLANES] > 0)], tables
    size = 2 * 16 * (sum(call.x.dims[2:]) + sum(call.outputs))  # of tables of 4 bytes, with vectors and without
    call.stages.append(Work(call.library, busy, size, call.seed.number if call.seed else None, call.extras is not None))  # type: ignore[arg-type]


PAIRS = kernels.Strip(2, 2, 0, True)  # windows of which a task writes the gradients of several: in longer ones, elements would lie in memory
STRIPS = {"fold_forward": "strip_forward", "fold_disjoint": "strip_disjoint"}  # what a task does for several outputs side by side


class Fold:
    """y folds the window; its backward pass recomputes the folds, and gathers."""

    @staticmethod
    def setup(call: Call, backward: bool) -> tuple[dict[int, Any], list[float], list[tuple[Any, np.ndarray, tuple]], tuple]:
        """The logits, the numbers, the arrays with their distances, the options."""
        second, numbers, parrays, options = {}, [], [], []
        for p in getattr(call.formula, "parameters", ()):
            if p.kind == "logit":
                second[at.LOGIT] = call.argument(1, p.name, call.x.dims, (call.dtype,))
            elif p.name not in call.own:
                continue
            elif p.kind in ("number", "positive"):
                numbers.append(families.representable(call, p))
            elif p.kind == "array":
                parrays.append((p, *families.spread(call, p)))
            elif p.kind == "option" and backward:
                options += sorted(p.choices[call.own[p.name]].items())
        if hasattr(call.formula, "variant"):
            options += sorted(call.formula.variant(call.own).items())
        return second, numbers, parrays, tuple(options)

    def forward(self, call: Call, indexed: bool) -> list[Any]:
        """y."""
        second, numbers, parrays, options = self.setup(call, False)
        y = call.output()
        operands = {at.X: call.x, **second, at.Y: y}
        self.run(call, False, operands, operands, {}, {}, numbers, parrays, options)
        return [y]

    def backward(self, call: Call, grad: View, index: View | None) -> list[Any]:
        """The gradients of x, of the logits, and of a learnable parameter."""
        second, numbers, parrays, options = self.setup(call, True)
        results = [call.empty(call.x.dims, call.dtype) for _ in range(getattr(call.formula, "elements", 1))]
        found = dict(zip((at.GRAD_X, at.GRAD_LOGIT), results, strict=False))
        learns = [(p, value) for p, value, _ in parrays if p.learnable]
        work, slope = {}, {}
        if getattr(call.formula, "recompute", True) and not disjoint(call):
            terms = lifts(call.formula, True, len(numbers), len(parrays))[1]
            work[at.WORK] = space(call, terms + 1, real_name(call.dtype))
        if learns:
            order = (0, 2, 3, 4, 1) if call.lanes else None
            slope[at.GRAD_PARAM] = call.made_by(call.library.maker(call.out_dims, real_name(call.dtype), order)), dense(call.out_dims, call.lanes)
        reads = {at.X: call.x, **second, at.Y: grad}
        self.run(call, True, reads, {**reads, **found}, work, slope, numbers, parrays, options)
        return results + [self.gathered(call, slope[at.GRAD_PARAM][0], p, value) for p, value in learns]

    @staticmethod
    def run(call: Call, backward: bool, reads: dict[int, View], operands: dict[int, View], work: dict[int, Any], slope: dict[int, Any],
            numbers: list[float], parrays: list[tuple[Any, np.ndarray, tuple]], options: tuple) -> None:
        """The kernels of a pass: of parts of large windows; of windows; and of inputs."""
        plain, arity = not getattr(call.formula, "recompute", True), (len(numbers), len(parrays))
        tiled = backward and not plain and disjoint(call)
        # each window by the exact loops: array parameters differ from output to output, or there is no common reference
        apart = any(any(strides[2:]) for _, _, strides in parrays) or not (plain or hasattr(call.formula, "common"))
        segments, cut = (1, 1), {}
        long = header(call).taps >= LARGE
        if header(call).cuts and not apart and not (backward and plain) and not tiled:
            segments = header(call).segments()
            cut[at.PARTS] = space(call, prod(segments) * lifts(call.formula, backward, *arity)[0], real_name(call.dtype))

        borders = [tiles(a, n) for a, n in zip(call.axes, call.x.dims[2:], strict=True)] if tiled else []

        def build(vectors: bool) -> tuple[list[Task], Tables]:
            tables = Tables()
            head = header(call, tables)
            lanes = lanes_of(call, vectors, call.dtype, *operands.values())
            wide = head.wide({k: v.strides for k, v in operands.items()})
            strips = strip_of(call, vectors, call.dtype, [v for k, v in operands.items() if k != at.Y], [operands[at.Y]])
            if tiled and (strips[1] != PAIRS or call.x.dims[4] != 2 * call.outputs[2]):
                strips = 1, None

            def launch(loop: str, over: str, seen: dict[int, Any], cut_windows: bool = False) -> Task:
                many, strip = strips if loop in STRIPS and not cut_windows and not apart else (lanes, None)
                many, loop = (many, STRIPS[loop]) if strip else (lanes, loop)
                kernel = kernels.fold_kernel(loop, call.formula, backward, call.dtype, *arity, options, many, call.lanes, wide,
                                             uniform=head.share is not None, apart=apart, cut=cut_windows,
                                             long=long and not cut_windows and over == "outputs" and loop != "fold_parts", strip=strip)
                owned = {at.D_COVER + i: (bounds, np.int32) for i, bounds in enumerate(borders)}
                task = head.task(kernel, located(seen), over, numbers, loop == "fold_gather", segments, tables=owned)
                for k, (_, value, strides) in enumerate(parrays):
                    record = at.HEAD + at.RECORD * (at.PARAM + k)
                    task.words[record] = tables.place(value, real_name(call.dtype))
                    task.words[record + 1:record + at.RECORD] = strides
                    task.tables.append(record)
                return task
            tasks = [launch("fold_parts", "outputs", {**reads, **cut})] if cut else []
            if not backward:
                tasks.append(launch("fold_forward", "outputs", {**operands, **cut}, bool(cut)))
            elif tiled:
                tasks.append(launch("fold_disjoint", "outputs", {**operands, **slope}))
            else:
                if not plain:
                    tasks.append(launch("fold_terms", "outputs", {**reads, **work, **slope, **cut}, bool(cut)))
                tasks.append(launch("fold_gather", "inputs", {**operands, **work}))
            return tasks, tables
        add(call, build)

    @staticmethod
    def gathered(call: Call, contributions: Source, p: Any, value: np.ndarray) -> Callable[[list[Any]], Any]:
        """The gradient of an array parameter: the contributions of all outputs, summed where it was broadcast."""
        axes = tuple(i for i in range(5) if value.shape[i] == 1)
        shape = np.asarray(arrays.values(call.own[p.name], p.name)).shape
        library, dtype, find = call.library, real_name(call.dtype), call.memory(contributions)
        return lambda made: library.total(find(made), axes, shape, dtype)  # type: ignore[attr-defined]


def located(operands: dict[int, Any]) -> dict[int, tuple[Source, tuple[int, ...]]]:
    """Sources and distances of operands, of which some are views."""
    return {k: (v.source, v.strides) if isinstance(v, View) else v for k, v in operands.items()}


class Select:
    """y is an element of the window; the backward pass asks every window that covers an input which one it chose."""

    def forward(self, call: Call, indexed: bool) -> list[Any]:
        """y and the indices."""
        results = {at.Y: call.output()} | ({at.INDEX: call.empty(call.out_dims, "int64")} if indexed else {})
        self.choose(call, results, True, indexed, True)
        return list(results.values())

    def choose(self, call: Call, results: dict[int, Any], values: bool, indexed: bool, long_index: bool, wide: bool | None = None) -> None:
        """The kernels of the forward pass."""
        segments, cut = (1, 1), {}
        dtype = call.dtype
        seen = {at.X: call.x.strides, **{k: v.strides for k, v in results.items() if isinstance(v, View)}}
        broad = header(call).wide(seen) if wide is None else wide
        if header(call).cuts:
            segments = header(call).segments()
            cut = {at.PARTS: space(call, prod(segments), real_name(dtype)), at.WORK: space(call, prod(segments), places_name(broad))}

        def build(vectors: bool) -> tuple[list[Task], Tables]:
            tables = Tables()
            head = header(call, tables)
            views = [call.x, *(v for k, v in results.items() if isinstance(v, View) and k == at.Y)]
            lanes = lanes_of(call, vectors, dtype, *views)
            kind = (call.formula, dtype, lanes, call.lanes, broad)
            given = dict(values=values, indexed=indexed, long_index=long_index, per_plane=head.per_plane)
            tasks = []
            if cut:
                kernel = kernels.select_kernel("select_parts", *kind, **given)
                tasks.append(head.task(kernel, located({at.X: call.x, **cut}), "outputs", segments=segments))
            many, strip = strip_of(call, vectors, dtype, [call.x], [v for v in results.values() if isinstance(v, View)]) if not cut else (lanes, None)
            if strip and not head.per_plane:
                kernel = kernels.select_kernel("strip_select", call.formula, dtype, many, False, broad, **given, strip=strip)
            else:
                kernel = kernels.select_kernel("select_forward", *kind, **given, cut=bool(cut))
            tasks.append(head.task(kernel, located({at.X: call.x, **results, **cut}), "outputs", segments=segments))
            return tasks, tables
        add(call, build)

    def backward(self, call: Call, grad: View, index: View | None) -> list[Any]:
        """grad_x."""
        dtype = call.given[grad.source.number].dtype
        if index is not None:
            if call.extras is not None:  # windows that were drawn for the forward pass: only the indices tell of them
                return [scatter(call, grad, index, "add")]
            return [gather(call, grad, index, dtype, True, False)]
        wide = header(call).wide({at.X: call.x.strides, at.Y: grad.strides})
        places: Any = space(call, 1, places_name(wide))
        self.choose(call, {at.INDEX: places}, False, True, False, wide)
        if any(a.first.ndim == 2 for a in call.axes):
            return [scatter(call, grad, places, "add", long_index=False, wide=wide)]
        return [gather(call, grad, places, dtype, False, wide)]


def gather(call: Call, grad: View, index: Any, dtype: str, long_index: bool, wide: bool) -> View:
    """grad_x from the places that the windows over each input have chosen."""
    result = call.empty(call.x.dims, dtype)

    def build(vectors: bool) -> tuple[list[Task], Tables]:
        tables = Tables()
        head = header(call, tables)
        lanes = lanes_of(call, vectors, dtype, grad, result)
        broad = head.wide({at.Y: grad.strides, at.GRAD_X: result.strides, at.INDEX: index.strides}) if long_index else wide
        kernel = kernels.index_kernel("index_gather", dtype, lanes, call.lanes, broad, long_index=long_index)
        return [head.task(kernel, located({at.Y: grad, at.INDEX: index, at.GRAD_X: result}), "inputs", covers=True)], tables
    add(call, build)
    return result


def scatter(call: Call, values: View, index: Any, merge: str, long_index: bool = True, wide: bool = False, target: View | None = None) -> View:
    """A plane-shaped result that is 0 but where indices put values: slices of planes, in which the order of the values is kept."""
    dtype = call.given[values.source.number].dtype
    result = target or call.empty(call.x.dims, dtype)

    def build(vectors: bool) -> tuple[list[Task], Tables]:
        tables = Tables()
        head = header(call, tables, False)
        broad = head.wide({at.Y: values.strides, at.GRAD_X: result.strides, at.INDEX: index.strides}) if long_index else wide
        kernel = kernels.index_kernel("index_scatter", dtype, 1, False, broad, long_index=long_index, adding=merge == "add")
        planes = prod(call.x.dims[:2])
        slices = min(max(-(-SCATTERERS // max(planes, 1)), 1), MOST_SLICES, max(prod(call.x.dims[2:]), 1))
        operands = located({at.Y: values, at.INDEX: index, at.GRAD_X: result})
        return [head.task(kernel, operands, "inputs", items=slices, fields={at.SLICES: slices})], tables
    add(call, build)
    return result


def read_at(call: Call, source: View, index: View) -> View:
    """The elements of planes that indices name."""
    result = call.empty(call.out_dims, call.dtype)

    def build(vectors: bool) -> tuple[list[Task], Tables]:
        tables = Tables()
        head = header(call, tables)
        wide = head.wide({at.X: source.strides, at.Y: result.strides, at.INDEX: index.strides})
        kernel = kernels.index_kernel("index_read", call.dtype, 1, call.lanes, wide, long_index=True)
        return [head.task(kernel, located({at.X: source, at.INDEX: index, at.Y: result}), "outputs")], tables
    add(call, build)
    return result


class Vote(Select):
    """y is the most frequent element of the window; votes are counted by comparing it with all others."""

    def choose(self, call: Call, results: dict[int, Any], values: bool, indexed: bool, long_index: bool, wide: bool | None = None) -> None:
        """The kernel of the forward pass."""
        def build(vectors: bool) -> tuple[list[Task], Tables]:
            head = header(call, Tables())
            views = {at.X: call.x, **results}
            broad = head.wide({k: v.strides for k, v in views.items() if isinstance(v, View)}) if wide is None else wide
            kernel = kernels.vote_kernel(call.dtype, call.lanes, broad, values=values, indexed=indexed, long_index=long_index)
            return [head.task(kernel, located(views), "outputs")], head.tables
        add(call, build)


class Draw(Select):
    """y is an element of the window that is drawn by samples or a seed."""

    def forward(self, call: Call, indexed: bool) -> list[Any]:
        """y and the indices."""
        self.seeded(call)
        return super().forward(call, indexed)

    @staticmethod
    def seeded(call: Call) -> None:
        """Let the call have a seed, unless samples are given: before any memory, among whose numbers it stands."""
        if call.own.get("samples") is None:
            call.draws()

    def backward(self, call: Call, grad: View, index: View | None) -> list[Any]:
        """grad_x of the very draw of the forward pass."""
        families.Draw.repeats(call, index)
        if index is None:
            self.seeded(call)
        return super().backward(call, grad, index)

    def choose(self, call: Call, results: dict[int, Any], values: bool, indexed: bool, long_index: bool, wide: bool | None = None) -> None:
        """The kernel of the forward pass."""
        samples = families.Draw.samples(call)
        seed = {} if samples else {at.SEED: call.seed}

        def build(vectors: bool) -> tuple[list[Task], Tables]:
            tables = Tables()
            head = header(call, tables)
            views = {at.X: call.x, **results}
            broad = head.wide({k: v.strides for k, v in views.items() if isinstance(v, View)}) if wide is None else wide
            kernel = kernels.draw_kernel(call.formula, call.dtype, call.lanes, broad, values=values, indexed=indexed, long_index=long_index,
                                         sampled=bool(samples))
            numbers = [families.representable(call, p) for p in call.formula.parameters if p.kind == "number"]
            task = head.task(kernel, located(views), "outputs", numbers, sources=seed)
            if samples:
                record = at.HEAD + at.RECORD * at.PARAM
                task.words[record] = tables.place(samples[0], real_name(call.dtype))
                task.words[record + 1:record + at.RECORD] = samples[1]
                task.tables.append(record)
            return [task], tables
        add(call, build)


class Order:
    """y weighs the elements by their rank."""

    @staticmethod
    def launch(head: Header, call: Call, loop: str, operands: dict[int, Any], over: str, extra: tuple, weights: np.ndarray, **more: Any) -> Task:
        """A task with the table of the weights."""
        wide = head.wide({k: v.strides for k, v in operands.items() if isinstance(v, View)})
        kernel: Kernel = kernels.order_kernel(loop, call.dtype, call.lanes, wide)
        ranks, row, channel = (value for _, value in extra)
        fields = {at.RANKS: ranks, at.RANK_CHANNEL: channel, **more.pop("fields", {})}
        return head.task(kernel, located(operands), over, fields=fields,
                         tables={at.WEIGHTS: (weights, weights.dtype), at.RANK_ROW: (row, np.int32)}, **more)

    def forward(self, call: Call, indexed: bool) -> list[Any]:
        """y."""
        _, weights, _, extra, _ = families.Order.setup(call)
        y = call.output()

        def build(vectors: bool) -> tuple[list[Task], Tables]:
            head = header(call, Tables())
            return [self.launch(head, call, "order_forward", {at.X: call.x, at.Y: y}, "outputs", extra, weights)], head.tables
        add(call, build)
        return [y]

    def backward(self, call: Call, grad: View, index: View | None) -> list[Any]:
        """The gradients of x and of the weights."""
        given, weights, counts, extra, _ = families.Order.setup(call)
        result = call.empty(call.x.dims, call.dtype)
        learns = hasattr(call.formula, "rank_gradient")
        rows, ranks = weights.shape[1:]
        slices = max(min(-(-SCATTERERS // max(prod(call.out_dims[:2]) * rows * ranks, 1)), MOST_SLICES, prod(call.outputs)), 1)
        sums = call.made_by(call.library.maker((*call.out_dims[:2], slices, rows, ranks), "float64")) if learns else None

        def build(vectors: bool) -> tuple[list[Task], Tables]:
            head = header(call, Tables())
            tasks = [self.launch(head, call, "order_gather", {at.X: call.x, at.Y: grad, at.GRAD_X: result}, "inputs", extra, weights, covers=True)]
            if learns:
                flat = header(call, head.tables, False)
                operands = {at.X: call.x, at.Y: grad, at.GRAD_PARAM: (sums, (0,) * 5)}
                tasks.append(self.launch(flat, call, "order_sums", operands, "outputs", extra, weights, items=slices * rows * ranks,
                                         fields={at.SLICES: slices, at.GROUPS: rows}))
            return tasks, head.tables
        add(call, build)
        if not learns:
            return [result]
        find, library = call.memory(sums), call.library  # type: ignore[arg-type]
        shape = call.out_dims[1], rows, ranks

        def host(made: list[Any]) -> np.ndarray:  # waits for the device: the rest is a few numbers
            return library.to_numpy(library.total(find(made), (0, 2), shape, "float64"))[None]  # type: ignore[attr-defined]
        return [result, families.Order.weight_gradient(call, given, host, counts)]


FAMILIES = {"fold": Fold(), "select": Select(), "vote": Vote(), "draw": Draw(), "order": Order()}
