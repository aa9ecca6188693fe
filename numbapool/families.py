"""The families of formulas: which kernels a call runs, and on what.

Each has `forward(call, indexed)` and `backward(call, grad, index)`, which prepare a call: they add its memory and its stages,
and return its results, each a view or a function of the list of all that a call makes.
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from . import arrays, bundles, kernels
from .bundles import WIDEST
from .call import Call, Five, View, order_of
from .libraries import from_numpy_array
from .loops import layout as at
from .loops.cpu import vote
from .loops.cpu.order import INSERTION, MOST_TAPS
from .numeric import FLOATS, real_name
from .parameters import Parameter
from .plan import Plan, dense
from .prepared import Source, Stage
from .sweeps import Axes
from .windows import fake_axis

# ---------------------------------------------------------------- parameters that vary with the output

def spread(call: Call, p: Parameter) -> tuple[np.ndarray, Five]:
    """An array parameter in the kernel's arithmetic, and its distances along the output's axes."""
    where = f"{call.where}: {p.name}"
    given = np.asarray(arrays.values(call.own[p.name], where))
    with np.errstate(over="ignore"):
        value = np.array(given, real_name(call.dtype), order="C")  # a copy: `out` may lie over the caller's
    axes = axes_of(call, p, given.shape)
    if not np.isfinite(value).all():
        raise ValueError(f"{where} must be finite in {value.dtype.name}, got {given.min()} to {given.max()}")
    if not (value > p.above).all():
        raise ValueError(f"{where} must be above {p.above:g}, got {given.min()}")
    value = value.reshape(five_of(axes, given.shape, 1))
    return value, tuple(0 if n == 1 else s // value.itemsize for s, n in zip(value.strides, value.shape, strict=True))  # type: ignore[return-value]


def axes_of(call: Call, p: Parameter, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Which of the output's five axes those of an array parameter are."""
    outputs = call.out_dims
    spatial = tuple(range(5 - call.ndim, 5))
    known = {"number": (), "channel": (1,), "position": spatial, "channel_position": (1, *spatial)}
    for axes in (known[n] for n in p.shapes):
        if shape == tuple(outputs[a] for a in axes):
            return axes
    allowed = " or ".join(str(tuple(outputs[a] for a in known[n])) if n != "number" else "a number" for n in p.shapes)
    raise ValueError(f"{call.where}: {p.name} must be {allowed}, got shape {shape}")


def five_of(axes: tuple[int, ...], values: tuple[int, ...], other: int) -> Five:
    """Values of some axes as those of five, where all others have `other`."""
    found = [other] * 5
    for a, v in zip(axes, values, strict=True):
        found[a] = v
    return tuple(found)  # type: ignore[return-value]


def representable(call: Call, p: Parameter) -> float:
    """A number parameter, which must not vanish or overflow in the kernel's arithmetic."""
    value = call.own[p.name]
    with np.errstate(all="ignore"):
        there = np.dtype(real_name(call.dtype)).type(value)
    if not np.isfinite(there) or (there == 0) != (value == 0):
        raise ValueError(f"{call.where}: {p.name} must lie in the range of {real_name(call.dtype)}, got {value}")
    return value


def gathered(call: Call, contributions: Source, p: Parameter, value: np.ndarray) -> Callable[[list[Any]], Any]:
    """The gradient of an array parameter: the contributions of all outputs, summed where it was broadcast."""
    axes = tuple(i for i in range(5) if value.shape[i] == 1)
    shape = np.asarray(arrays.values(call.own[p.name], p.name)).shape
    library, dtype, find = call.library, real_name(call.dtype), call.memory(contributions)

    def total(made: list[Any]) -> Any:
        with np.errstate(invalid="ignore"):  # of outputs with infinite contributions
            return library.from_numpy(find(made).sum(axis=axes, dtype=np.float64).reshape(shape), dtype)
    return total


# ---------------------------------------------------------------- fold

def several_planes(call: Call) -> bool:
    """Whether windows reach over planes."""
    return bool(call.axes[0].count.max(initial=0) > 1)


def in_turn(call: Call, shape: str | None) -> bool:
    """Whether three.py joins planes in turn."""
    return shape == "three" and several_planes(call)


class Fold:
    """y folds the window; its backward pass recomputes the fold."""

    @staticmethod
    def operands(call: Call, backward: bool) -> tuple[dict[int, Any], dict[int, Any], list[Any], list[Any], tuple]:
        """Distances and addresses of what a fold reads, its numbers, array parameters and options."""
        distances: dict[int, Any] = {at.X: call.x}
        addresses: dict[int, Any] = {at.X: call.x}
        numbers, parrays, options = [], [], []
        for p in call.formula.parameters if hasattr(call.formula, "parameters") else ():
            if p.kind == "logit":
                distances[at.LOGIT] = addresses[at.LOGIT] = call.argument(1, p.name, call.x.dims, (call.dtype,))
            elif p.name not in call.own:
                continue
            elif p.kind in ("number", "positive"):
                numbers.append(representable(call, p))
            elif p.kind == "array":
                value, strides = spread(call, p)
                k = len(parrays)
                distances[at.PARAM + k], addresses[at.PARAM + k] = strides, call.constant(value)
                parrays.append((p, value))
            elif p.kind == "option" and backward:
                options += sorted(p.choices[call.own[p.name]].items())
        if hasattr(call.formula, "variant"):
            options += sorted(call.formula.variant(call.own).items())
        addresses[at.NUMBERS] = call.constant(np.array(numbers + [0.0]))
        return distances, addresses, numbers, parrays, tuple(options)

    def forward(self, call: Call, indexed: bool) -> list[Any]:
        """y."""
        distances, addresses, numbers, parrays, options = self.operands(call, False)
        distances[at.Y] = addresses[at.Y] = y = call.output()
        self.launch(call, False, distances, addresses, (call.dtype, len(numbers), len(parrays)), options)
        return [y]

    def backward(self, call: Call, grad: View, index: View | None) -> list[Any]:
        """The gradients of x, of the logits, and of a learnable parameter."""
        distances, addresses, numbers, parrays, options = self.operands(call, True)
        results = [call.empty(call.x.dims, call.dtype) for _ in range(getattr(call.formula, "elements", 1))]
        addresses |= dict(zip((at.GRAD_X, at.GRAD_LOGIT), results, strict=False))
        learns = [(p, value) for p, value in parrays if p.learnable]
        if learns:
            distances[at.GRAD_PARAM], addresses[at.GRAD_PARAM] = dense(call.out_dims, False), call.zeros(call.out_dims, real_name(call.dtype))
        distances[at.Y] = addresses[at.Y] = grad
        self.launch(call, True, distances, addresses, (call.dtype, len(numbers), len(parrays)), options, len(results))
        return results + [gathered(call, addresses[at.GRAD_PARAM], p, value) for p, value in learns]

    @staticmethod
    def widest(shape: str | None, near: bool, backward: bool, plain: bool) -> int:
        """Below which width planes are bundled, by the loop for small windows that would take them else."""
        if shape in ("quad", "planes"):
            return WIDEST["QUAD"] if shape == "quad" else 0
        if not near:
            return WIDEST["EXACT"]
        if shape in ("three", "eight"):
            return 0 if plain else WIDEST["LIFTED_THREE"]
        return WIDEST["SWEEP_BACK" if backward else "SWEEP"]

    def launch(self, call: Call, backward: bool, distances: dict[int, Any], addresses: dict[int, Any], kind: tuple, options: tuple,
               planes: int = 1) -> None:
        """The kernel of one pass, where one suits the windows, and for what that leaves, or for all, the general one."""
        signature = (call.formula, backward, *kind)
        plain_sum = not getattr(call.formula, "recompute", True)

        def general(call: Call = call) -> Stage:
            made = call.plan(distances, backward, planes)
            return call.stage(kernels.fold_kernel(*signature, options), made, backward, addresses)

        near, lifts = hasattr(call.formula, "common"), kernels.lifts(*signature[:2], *kind[1:])
        shape, made = call.small(distances, backward, lifts, plain_sum)
        bundle = bundles.of(call, distances, self.widest(shape, near, backward, plain_sum and not in_turn(call, shape)), backward)
        if bundle is not call:
            call, (shape, made) = bundle, bundle.small(distances, backward, lifts, plain_sum)
        if shape == "quad" or (near and (shape in ("planes", "three", "eight") or (shape == "nine" and plain_sum))):
            kernel = kernels.direct_kernel(*signature, options, shape, call.lanes)
        elif not near:
            made = None
        else:
            made, borrowed = call.sweep(distances, lifts, backward, borrow=plain_sum)
            kernel = kernels.sweep_kernel(*signature, options, borrowed) if made else None
        call.stages.append(general(call) if made is None else call.stage(kernel, made, backward, addresses, general))


# ---------------------------------------------------------------- select and draw

class Select:
    """y is an element of the window; the backward pass follows the indices, given or found again."""

    def general(self, call: Call, indexed: bool, distances: dict[int, Any]) -> tuple[Any, Plan]:
        """The forward kernel for any windows, and its plan."""
        shape, made = call.choices(distances)
        return kernels.select_kernel(call.formula, call.dtype, indexed, self.wide(call), shape), made

    @staticmethod
    def wide(call: Call) -> bool:
        """Whether positions in a plane need more than 32 bits."""
        return prod(call.x.dims[2:]) >= 1 << 31

    def launch(self, call: Call, indexed: bool) -> list[View]:
        """The views of y and, if they are wanted, of the indices."""
        results = {at.Y: call.output()} | ({at.INDEX: call.empty(call.out_dims, "int64")} if indexed else {})
        operands = {at.X: call.x, **results}
        bundle = bundles.of(call, operands, self.widest(call, operands, indexed))
        kernel, made = self.direct(bundle, operands) if not indexed else (None, None)
        if made is None:
            kernel, made = self.general(bundle, indexed, operands)
        bundle.launch(kernel, made, False, operands)
        return list(results.values())

    @staticmethod
    def widest(call: Call, operands: dict[int, Any], indexed: bool) -> int:
        """Below which width planes are bundled, by the loop that would take them else."""
        if not indexed:
            shape = call.small(operands, plain=True)[0]
            if in_turn(call, shape):
                return WIDEST["LIFTED_THREE"]
            return 0 if shape in ("planes", "three", "eight") else WIDEST["QUAD" if shape == "quad" else "SWEEP"]
        shape, made = call.choices(operands)
        return places_widest(shape, made.integers[at.W_STRIDE] == 1, several_planes(call))

    @staticmethod
    def direct(call: Call, distances: dict[int, Any]) -> tuple[Any, Any]:
        """The kernel of one pass and its plan, where one suits the windows."""
        shape, made = call.small(distances, plain=True)
        if shape:
            return kernels.direct_kernel(call.formula, False, call.dtype, 0, 0, (), shape, call.lanes), made
        made, borrowed = call.sweep(distances, (1, 0), borrow=True)
        return kernels.choose_kernel(call.formula, call.dtype, borrowed), made

    def forward(self, call: Call, indexed: bool) -> list[Any]:
        """y and the indices."""
        return self.launch(call, indexed)

    def backward(self, call: Call, grad: View, index: View | None) -> list[Any]:
        """grad_x: every g goes to the element its index names."""
        return [self.again(call, grad) if index is None else scatter(call, grad, index, "add", call.axes)]

    def again(self, call: Call, grad: View) -> View:
        """grad_x, with the elements chosen again; of integers, whose gradient is of another dtype, by their indices."""
        if call.given[grad.source.number].dtype != call.dtype:
            return scatter(call, grad, self.launch(call, True)[1], "add")
        result = call.empty(call.x.dims, call.dtype)
        operands = {at.X: call.x, at.Y: grad}
        shape, made = call.choices(operands, True)
        bundle = bundles.of(call, operands, places_widest(shape, False, several_planes(call)), True)
        if bundle is not call:
            shape, made = bundle.choices(operands, True)
        bundle.launch(kernels.select_backward_kernel(call.formula, call.dtype, self.wide(call), shape), made, True,
                    {**operands, at.GRAD_X: result})
        return result


def places_widest(shape: str | None, beside: bool, several: bool) -> int:
    """Below which width planes are bundled whose elements are chosen with their places, by the loop that would take them else.

    beside : forward, at stride 1; several : windows of several planes, which take longer one by one.
    """
    if shape in ("quad", "own"):
        return WIDEST["PLACES_QUAD"]
    if shape == "short" and not several:
        return WIDEST["PLACES_SHORT_BESIDE" if beside else "PLACES_SHORT"]
    if shape == "separate":
        return WIDEST["PLACES_SEPARATE"]
    return 0 if shape == "whole" else WIDEST["PLACES"]


def scatter(call: Call, values: View, index: View, merge: str, axes: Axes | None = None) -> View:
    """A plane-shaped result that is 0 but where indices put values; axes : of the windows in which they most likely lie."""
    call.dtype = call.given[values.source.number].dtype
    if any(a.first.ndim == 2 for a in call.axes):  # indices are those of any windows, so that channels may be lanes
        call.axes, axes = tuple(fake_axis(n) for n in call.outputs), None  # type: ignore[assignment]
        call.lanes, _ = order_of(call.x.dims, call.x.strides)
    result = call.empty(call.x.dims, call.dtype)
    operands = {at.Y: values, at.INDEX: index}
    addresses = {**operands, at.GRAD_X: result}

    def general() -> Stage:
        made = call.plan(operands, True, indexed=True)
        return call.stage(kernels.index_kernel("scatter_index", call.dtype, merge), made, True, addresses, indexed=True)

    whole = {at.X: dense(call.x.dims, call.memory_last), **operands}
    shape, made = call.choices(whole, True, axes) if call.dtype in FLOATS and axes else (None, None)
    if shape == "whole" or (shape == "own" and (call.lanes or call.x.dims[4] >= WIDEST["SCATTER_OWN"])):
        call.stages.append(call.stage(kernels.owned_kernel(call.dtype, shape), made, True, addresses, general))
    else:
        call.stages.append(general())
    return result


def read_at(call: Call, source: View, index: View) -> View:
    """The elements of planes that indices name."""
    result = call.empty(call.out_dims, call.dtype)
    operands = {at.X: source, at.Y: result, at.INDEX: index}
    call.launch(kernels.index_kernel("gather_index", call.dtype), call.plan(operands, indexed=True), False, operands, indexed=True)
    return result


class Vote(Select):
    """y is the most frequent element of the window."""

    def launch(self, call: Call, indexed: bool) -> list[View]:
        """The views of y and, if they are wanted, of the indices."""
        results = {at.Y: call.output()} | ({at.INDEX: call.empty(call.out_dims, "int64")} if indexed else {})
        operands = {at.X: call.x, **results}
        few = prod(int(a.count.max()) for a in call.axes) <= vote.MOST_TAPS
        call = bundles.of(call, operands, WIDEST["VOTE"])
        call.launch(kernels.vote_kernel(call.dtype, indexed, few), call.plan(operands, sort=not few), False, operands)
        return list(results.values())

    def again(self, call: Call, grad: View) -> View:
        """grad_x, by the indices of a forward pass."""
        return scatter(call, grad, self.launch(call, True)[1], "add")


class Draw(Select):
    """y is an element of the window that is drawn by samples or a seed."""

    def forward(self, call: Call, indexed: bool) -> list[Any]:
        """y and the indices."""
        distances, addresses = self.reads(call)
        results = {at.Y: call.output()} | ({at.INDEX: call.empty(call.out_dims, "int64")} if indexed else {})
        self.run(call, False, indexed, {at.X: call.x, **results}, distances, addresses)
        return list(results.values())

    def backward(self, call: Call, grad: View, index: View | None) -> list[Any]:
        """grad_x of the very draw of the forward pass."""
        self.repeats(call, index)
        return super().backward(call, grad, index)

    @staticmethod
    def repeats(call: Call, index: View | None) -> None:
        """Refuse a backward pass that would draw anew."""
        if index is None and call.own.get("samples") is None and call.own.get("seed") is None:
            raise ValueError(f"{call.where}: pass the indices, the samples or the seed of the forward pass")

    def again(self, call: Call, grad: View) -> View:
        """grad_x, with the elements drawn again."""
        distances, addresses = self.reads(call)
        result = call.empty(call.x.dims, call.dtype)
        self.run(call, True, False, {at.X: call.x, at.Y: grad}, distances, {**addresses, at.GRAD_X: result})
        return result

    def run(self, call: Call, backward: bool, indexed: bool, operands: dict[int, Any], distances: dict[int, Any], addresses: dict[int, Any]) -> None:
        """The kernel that suits the windows."""
        ranked = getattr(call.formula, "by_rank", False)
        quad = call.quad(operands, backward)
        kernel = kernels.draw_kernel(call.formula, backward, call.dtype, indexed, self.wide(call), quad, call.lanes and quad)
        if ranked:
            numbers = [representable(call, p) for p in call.formula.parameters if p.kind == "number"]
            addresses = {**addresses, at.NUMBERS: call.constant(np.array(numbers))}
        sort = {"sort": True} if ranked and prod(int(a.count.max()) for a in call.axes) > MOST_TAPS else {}
        call.launch(kernel, call.plan({**distances, **operands}, backward, **sort), backward, {**addresses, **operands})

    def reads(self, call: Call) -> tuple[dict[int, Any], dict[int, Any]]:
        """The samples, or the seed."""
        given = self.samples(call)
        if given is None:
            return {}, {at.SEED: call.draws()}
        return {at.PARAM: given[1]}, {at.PARAM: call.constant(given[0])}

    @staticmethod
    def samples(call: Call) -> tuple[np.ndarray, Five] | None:
        """The samples in the kernel's arithmetic and their distances, if they are given."""
        if call.own.get("samples") is None:
            return None
        given = arrays.values(call.own["samples"], f"{call.where}: samples")
        if given.shape != call.shape(call.out_dims):
            raise ValueError(f"{call.where}: samples must have shape {call.shape(call.out_dims)}, got {given.shape}")
        if given.size and not (given.min() >= 0 and given.max() < 1):
            raise ValueError(f"{call.where}: samples must lie in [0, 1)")
        samples = np.array(given, real_name(call.dtype), order="C")
        strides = from_numpy_array(samples, call.where).strides
        return samples, call.view(Source(-1), samples.shape, strides, "samples").strides


# ---------------------------------------------------------------- order

class Order:
    """y weighs the elements by their rank; the formula is the weights for a number of elements."""

    @staticmethod
    def counts(call: Call) -> tuple[list[int], np.ndarray]:
        """How many elements windows have, each number once, and by such a number its place among them."""
        d, h, w = (np.unique(a.count) for a in call.axes)
        counts = sorted(set(np.multiply.outer(np.multiply.outer(d, h), w).ravel().tolist()))
        row = np.zeros(counts[-1] + 1, np.int64)
        row[counts] = np.arange(len(counts))
        return counts, row

    @staticmethod
    def setup(call: Call) -> tuple[np.ndarray, np.ndarray, list[int], tuple, tuple[bool, bool]]:
        """The parameter, the weights (channel, row, rank), the counts that have rows, the plan's fields, whether windows are small."""
        given = call.formula.weights_of(call.own, call.where, call.out_dims[1]).copy()  # kept for other calls: the caller may change his
        counts, row = Order.counts(call)
        try:
            tables = [call.formula.rank_weights(given, n) for n in counts]
        except ValueError as error:  # where windows of so many elements have no weights
            raise ValueError(f"{call.where}: {error}") from None
        ranks = max(t.shape[1] for t in tables)
        weights = np.zeros((given.shape[0], len(counts), ranks), real_name(call.dtype))
        for i, t in enumerate(tables):
            weights[:, i, :t.shape[1]] = t
        extra = ((at.RANKS, ranks), (at.RANK_ROW, row), (at.RANK_CHANNEL, 0 if given.shape[0] == 1 else len(counts) * ranks))
        return given, weights, counts, extra, (counts[-1] <= MOST_TAPS, counts[-1] <= INSERTION)

    def forward(self, call: Call, indexed: bool) -> list[Any]:
        """y."""
        _, weights, _, extra, size = self.setup(call)
        y = call.output()
        operands = {at.X: call.x, at.Y: y}
        addresses = {**operands, at.WEIGHTS: call.constant(weights)}
        quad = call.quad(operands)
        if len(weights) == 1 and size[0]:  # of sorting, windows one by one are most of the time
            bundle = bundles.of(call, operands, WIDEST["RANK_QUAD" if quad else "RANK"])
            call, quad = bundle, bundle.quad(operands)
        kernel = kernels.order_quad_kernel(False, call.dtype, call.lanes, False) if quad else kernels.order_kernel(False, call.dtype, *size, False)
        call.launch(kernel, call.plan(operands, sort=True, extra=extra), False, addresses)
        return [y]

    def backward(self, call: Call, grad: View, index: View | None) -> list[Any]:
        """The gradients of x and of the weights."""
        given, weights, counts, extra, size = self.setup(call)
        result = call.empty(call.x.dims, call.dtype)
        learns = hasattr(call.formula, "rank_gradient")
        n, c = call.out_dims[:2]
        rows, ranks = weights.shape[1:]
        sums = call.zeros((n, c, rows, ranks) if learns else (0,), "float64")
        own = (c * rows * ranks, rows * ranks, 0, 0, 0)
        operands = {at.X: call.x, at.Y: grad, at.GRAD_PARAM: own}
        quad = call.quad(operands, True)
        kernel = kernels.order_quad_kernel(True, call.dtype, call.lanes, learns) if quad else kernels.order_kernel(True, call.dtype, *size, learns)
        call.launch(kernel, call.plan(operands, True, sort=True, extra=extra), True,
                    {at.X: call.x, at.Y: grad, at.GRAD_X: result, at.WEIGHTS: call.constant(weights), at.GRAD_WEIGHTS: sums})
        return [result, self.weight_gradient(call, given, call.memory(sums), counts)] if learns else [result]

    @staticmethod
    def weight_gradient(call: Call, given: np.ndarray, find: Callable[[list[Any]], np.ndarray], counts: list[int]) -> Callable[[list[Any]], Any]:
        """The gradient of the weights from the sums of g times the element of each rank."""
        shape = np.asarray(arrays.values(call.own["weight"], call.where)).shape
        formula, library, dtype = call.formula, call.library, real_name(call.dtype)

        def gradient(made: list[Any]) -> Any:
            total = find(made).sum(0)
            if given.shape[0] == 1:
                total = total.sum(0, keepdims=True)
            parts = sum(formula.rank_gradient(given, n, total[:, i]) for i, n in enumerate(counts))
            return library.from_numpy(np.reshape(parts, shape), dtype)
        return gradient


FAMILIES = {"fold": Fold(), "select": Select(), "vote": Vote(), "draw": Draw(), "order": Order()}


def of(call: Call) -> Any:
    """What holds the families for where a call's arrays lie: this module, or cuda/families.py."""
    if call.library.index is None:
        return sys.modules[__name__]
    from .cuda import families
    return families
