"""The families of formulas on a GPU: which kernels a call runs, and on what.  Their interface is that of ../families.py.

What a kernel hands to the next one lies in memory of the caller's library, which orders its reuse on the caller's stream.
"""
from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .. import families
from ..call import Call, View
from ..kernels import lifts
from ..loops.cuda import layout as at
from ..numeric import real_name
from ..plan import dense
from ..prepared import Held, Source
from . import kernels
from .operands import Varying, add, header, known, lanes_of, located, places_name, space, strip_of, varying
from .plan import LARGE, Tables, Task, slices_of
from .ranks import Order

MOST_TILE = 64  # elements from a window to the next of which one task writes all gradients, where none overlap; for more, all threads are to work


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


PAIRS = kernels.Strip(2, 2, 0, True)  # windows of which a task writes the gradients of several: in longer ones, elements would lie in memory
STRIPS = {"fold_forward": "strip_forward", "fold_disjoint": "strip_disjoint"}  # what a task does for several outputs side by side


class Fold:
    """y folds the window; its backward pass recomputes the folds, and gathers."""

    @staticmethod
    def setup(call: Call, backward: bool) -> tuple[dict[int, Any], list[float], list[Varying], tuple]:
        """The logits, the numbers, the arrays, the options."""
        second, numbers, parrays, options = {}, [], [], []
        for p in getattr(call.formula, "parameters", ()):
            if p.kind == "logit":
                second[at.LOGIT] = call.argument(1, p.name, call.x.dims, (call.dtype,))
            elif p.name not in call.own:
                continue
            elif p.kind in ("number", "positive"):
                numbers.append(families.representable(call, p))
            elif p.kind == "array":
                parrays.append(varying(call, p))
            elif p.kind == "option" and backward:
                options += sorted(p.choices[call.own[p.name]].items())
        if hasattr(call.formula, "variant"):
            options += sorted(call.formula.variant(known(call.own)).items())
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
        learns = [v for v in parrays if v.parameter.learnable]
        work, slope = {}, {}
        if getattr(call.formula, "recompute", True) and not disjoint(call):
            terms = lifts(call.formula, True, len(numbers), len(parrays))[1]
            work[at.WORK] = space(call, terms + 1, real_name(call.dtype))
        if learns:
            order = (0, 2, 3, 4, 1) if call.lanes else None
            slope[at.GRAD_PARAM] = call.made_by(call.library.maker(call.out_dims, real_name(call.dtype), order)), dense(call.out_dims, call.lanes)
        reads = {at.X: call.x, **second, at.Y: grad}
        self.run(call, True, reads, {**reads, **found}, work, slope, numbers, parrays, options)
        return results + [self.gathered(call, slope[at.GRAD_PARAM][0], v) for v in learns]

    @staticmethod
    def run(call: Call, backward: bool, reads: dict[int, View], operands: dict[int, View], work: dict[int, Any], slope: dict[int, Any],
            numbers: list[float], parrays: list[Varying], options: tuple) -> None:
        """The kernels of a pass: of parts of large windows; of windows; and of inputs."""
        plain, arity = not getattr(call.formula, "recompute", True), (len(numbers), len(parrays))
        tiled = backward and not plain and disjoint(call)
        # each window by the exact loops: array parameters differ from output to output, or there is no common reference
        apart = any(any(v.strides[2:]) for v in parrays) or not (plain or hasattr(call.formula, "common"))
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
                for k, v in enumerate(parrays):
                    v.put(task, tables, at.PARAM + k)
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
    def gathered(call: Call, contributions: Source, v: Varying) -> Callable[[list[Any]], Any]:
        """The gradient of an array parameter: the contributions of all outputs, summed where it was broadcast."""
        axes = tuple(i for i in range(5) if v.dims[i] == 1)
        library, dtype, find = call.library, real_name(call.dtype), call.memory(contributions)
        return lambda made: library.total(find(made), axes, v.shape, dtype)  # type: ignore[attr-defined]


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
        slices = slices_of(prod(call.x.dims[:2]), prod(call.x.dims[2:]))
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

    @staticmethod
    def samples(call: Call) -> Varying | None:
        """The samples, if they are given."""
        p, given = next(p for p in call.formula.parameters if p.kind == "samples"), call.own.get("samples")
        if isinstance(given, Held):
            if given.shape != call.shape(call.out_dims):
                raise ValueError(f"{call.where}: samples must have shape {call.shape(call.out_dims)}, got {given.shape}")
            view = call.view(Source(given.number), given.shape, given.strides, p.name)
            return Varying(p, view.source, view.dims, view.strides, given.shape)
        found = families.Draw.samples(call)
        return found and Varying(p, found[0], found[0].shape, found[1], found[0].shape)

    def choose(self, call: Call, results: dict[int, Any], values: bool, indexed: bool, long_index: bool, wide: bool | None = None) -> None:
        """The kernel of the forward pass."""
        samples = self.samples(call)
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
                samples.put(task, tables, at.PARAM)
            return [task], tables
        add(call, build)


FAMILIES = {"fold": Fold(), "select": Select(), "vote": Vote(), "draw": Draw(), "order": Order()}
