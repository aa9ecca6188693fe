"""The families of formulas: which kernels a call runs, and on what.  Each has `forward(call, out, return_indices)` -> (y, indices)
and `backward(call, grad, indices)` -> grad_x, or a tuple of gradients."""
from __future__ import annotations

from typing import Any

import numpy as np

from . import arrays, kernels
from . import random as generator
from .call import Call, Five, View
from .loops import layout as at
from .numeric import real_name
from .parameters import Parameter
from .plan import dense

SHORT = 32  # up to so many elements, insertion is quicker than merging


# ---------------------------------------------------------------- parameters that vary with the output

def spread(call: Call, p: Parameter) -> tuple[np.ndarray, Five]:
    """An array parameter in the kernel's arithmetic, and its distances along the output's axes."""
    where = f"{call.where}: {p.name}"
    given = np.asarray(arrays.values(call.own[p.name], where))
    with np.errstate(over="ignore"):
        value = np.array(given, real_name(call.dtype), order="C")  # a copy: `out` may lie over the caller's
    channels, outputs = call.out_dims[1], call.out_dims[2:]
    spatial = outputs[3 - call.ndim:]
    shapes = {"number": ((), ()), "channel": ((channels,), (1, channels)), "position": (spatial, (1, 1, *spatial)),
              "channel_position": ((channels, *spatial), (1, channels, *spatial))}
    for name in p.shapes:
        plain, full = shapes[name]
        if given.shape == plain:
            full = full or (1, 1)
            break
    else:
        allowed = " or ".join(str(shapes[name][0]) if name != "number" else "a number" for name in p.shapes)
        raise ValueError(f"{where} must be {allowed}, got shape {given.shape}")
    if not np.isfinite(value).all():
        raise ValueError(f"{where} must be finite in {value.dtype.name}, got {given.min()} to {given.max()}")
    if not (value > p.above).all():
        raise ValueError(f"{where} must be above {p.above:g}, got {given.min()}")
    five = (*full[:2], *(1,) * (3 - call.ndim), *(full[2:] or (1,) * call.ndim))
    value = value.reshape(five)
    return value, tuple(0 if n == 1 else s // value.itemsize for s, n in zip(value.strides, five, strict=True))  # type: ignore[return-value]


def representable(call: Call, p: Parameter) -> float:
    """A number parameter, which must not vanish or overflow in the kernel's arithmetic."""
    value = call.own[p.name]
    with np.errstate(all="ignore"):
        there = np.dtype(real_name(call.dtype)).type(value)
    if not np.isfinite(there) or (there == 0) != (value == 0):
        raise ValueError(f"{call.where}: {p.name} must lie in the range of {real_name(call.dtype)}, got {value}")
    return value


def gathered(call: Call, contributions: np.ndarray, p: Parameter, value: np.ndarray) -> Any:
    """The gradient of an array parameter: the contributions of all outputs, summed where it was broadcast."""
    axes = tuple(i for i in range(5) if value.shape[i] == 1)
    shape = np.asarray(arrays.values(call.own[p.name], p.name)).shape
    total = contributions.sum(axis=axes, dtype=np.float64).reshape(shape)
    return call.library.from_numpy(total, real_name(call.dtype))


# ---------------------------------------------------------------- fold

class Fold:
    """y folds the window; its backward pass recomputes the fold."""

    @staticmethod
    def operands(call: Call, backward: bool) -> tuple[dict[int, Any], dict[int, int], list[Any], list[Any], tuple]:
        """Distances and addresses of what a fold reads, its numbers, array parameters and options."""
        distances: dict[int, Any] = {at.X: call.x}
        addresses = {at.X: call.x.array.address}
        numbers, parrays, options = [], [], []
        for p in call.formula.parameters if hasattr(call.formula, "parameters") else ():
            if p.name not in call.own:
                continue
            if p.kind in ("number", "positive"):
                numbers.append(representable(call, p))
            elif p.kind == "array":
                value, strides = spread(call, p)
                k = len(parrays)
                distances[at.PARAM + k], addresses[at.PARAM + k] = strides, value.ctypes.data
                parrays.append((p, value))
            elif p.kind == "logit":
                logit = call.given(call.own[p.name], p.name, call.x.dims, (call.dtype,))
                distances[at.LOGIT], addresses[at.LOGIT] = logit, logit.array.address
            elif p.kind == "option" and backward:
                options += sorted(p.choices[call.own[p.name]].items())
        if hasattr(call.formula, "variant"):
            options += sorted(call.formula.variant(call.own).items())
        keep = np.array(numbers + [0.0])
        addresses[at.NUMBERS] = keep.ctypes.data
        call.keep.append(keep)
        return distances, addresses, numbers, parrays, tuple(options)

    def forward(self, call: Call, out: Any, return_indices: bool) -> tuple[Any, Any]:
        """y."""
        distances, addresses, numbers, parrays, options = self.operands(call, False)
        y = call.output(out)
        kernel = kernels.fold_kernel(call.formula, False, call.dtype, len(numbers), len(parrays), options)
        call.launch(kernel, call.plan({**distances, at.Y: y}), False, {**addresses, at.Y: y.array.address})
        return call.give(y), None

    def backward(self, call: Call, grad: View, indices: Any) -> Any:
        """The gradients of x, of the logits, and of a learnable parameter."""
        distances, addresses, numbers, parrays, options = self.operands(call, True)
        results = [call.empty(call.x.dims, call.dtype) for _ in range(getattr(call.formula, "elements", 1))]
        targets = dict(zip((at.GRAD_X, at.GRAD_LOGIT), (r.array.address for r in results), strict=False))
        learns = [(p, value) for p, value in parrays if p.learnable]
        turned = np.zeros(call.out_dims if learns else 0, real_name(call.dtype))
        if learns:
            distances[at.GRAD_PARAM], targets[at.GRAD_PARAM] = dense(call.out_dims, False), turned.ctypes.data
        kernel = kernels.fold_kernel(call.formula, True, call.dtype, len(numbers), len(parrays), options)
        made = call.plan({**distances, at.Y: grad}, True, len(results))
        call.launch(kernel, made, True, {**addresses, **targets, at.Y: grad.array.address})
        gradients = [call.give(r) for r in results] + [gathered(call, turned, p, value) for p, value in learns]
        return gradients[0] if len(gradients) == 1 else tuple(gradients)


# ---------------------------------------------------------------- select and draw

class Select:
    """y is an element of the window; the backward pass follows the indices, given or found again."""

    def kernel(self, call: Call, indexed: bool) -> Any:
        """The forward kernel."""
        return kernels.select_kernel(call.formula, call.dtype, indexed)

    def reads(self, call: Call) -> tuple[dict[int, Any], dict[int, int]]:
        """Distances and addresses of what is read besides x."""
        return {}, {}

    def run(self, call: Call, out: Any, indexed: bool) -> tuple[View, View | None]:
        """The views of y and of the indices."""
        distances, addresses = self.reads(call)
        y, index = call.output(out), call.empty(call.out_dims, "int64") if indexed else None
        distances |= {at.X: call.x, at.Y: y} | ({at.INDEX: index} if index else {})
        addresses |= {at.X: call.x.array.address, at.Y: y.array.address} | ({at.INDEX: index.array.address} if index else {})
        call.launch(self.kernel(call, indexed), call.plan(distances), False, addresses)
        return y, index

    def forward(self, call: Call, out: Any, return_indices: bool) -> tuple[Any, Any]:
        """y and the indices."""
        y, index = self.run(call, out, return_indices)
        return call.give(y), call.give(index) if index else None

    def backward(self, call: Call, grad: View, indices: Any) -> Any:
        """grad_x: every g goes to the element its index names."""
        index = self.run(call, None, True)[1] if indices is None else call.indices(indices)
        assert index is not None
        return scatter(call, grad, index, "add")


def scatter(call: Call, values: View, index: View, merge: str, out: Any = None) -> Any:
    """A plane-shaped result that is 0 but where indices put values."""
    call.dtype = values.array.dtype
    result = call.empty(call.x.dims, call.dtype)
    given = None
    if out is not None:
        given = arrays.writable(out, result.array.shape, call.dtype, f"{call.where}: out", [a for a in call.keep if isinstance(a, arrays.Array)])
    made = call.plan({at.Y: values, at.INDEX: index}, True)
    call.launch(kernels.index_kernel("scatter_index", call.dtype, merge), made, True,
                {at.Y: values.array.address, at.INDEX: index.array.address, at.GRAD_X: result.array.address})
    if given is not None:  # its strides may be any, a plane's must be dense: copied
        arrays.view(given, writable=True)[...] = arrays.view(result.array)
    return call.give(result)


class Draw(Select):
    """y is an element of the window that is drawn by samples or a seed."""

    def kernel(self, call: Call, indexed: bool) -> Any:
        """The forward kernel."""
        return kernels.draw_kernel(call.formula, call.dtype, indexed)

    def backward(self, call: Call, grad: View, indices: Any) -> Any:
        """grad_x of the very draw of the forward pass."""
        if indices is None and call.own.get("samples") is None and call.own.get("seed") is None:
            raise ValueError(f"{call.where}: pass the indices, the samples or the seed of the forward pass")
        return super().backward(call, grad, indices)

    def reads(self, call: Call) -> tuple[dict[int, Any], dict[int, int]]:
        """The samples, or the seed and the position that each output counts as."""
        if call.own.get("samples") is None:
            seed = generator.key(call.own.get("seed"), call.where)
            return {at.POSITION: dense(call.out_dims, False)}, {at.SEED: seed}
        given = arrays.values(call.own["samples"], f"{call.where}: samples")
        if given.shape != call.shape(call.out_dims):
            raise ValueError(f"{call.where}: samples must have shape {call.shape(call.out_dims)}, got {given.shape}")
        if given.size and not ((given >= 0) & (given < 1)).all():
            raise ValueError(f"{call.where}: samples must lie in [0, 1)")
        samples = call.view(arrays.borrow(np.ascontiguousarray(given, real_name(call.dtype)), call.where), "samples")
        call.keep.append(samples.array)
        return {at.PARAM: samples}, {at.PARAM: samples.array.address}


# ---------------------------------------------------------------- order

class Order:
    """y weighs the elements by their rank; the formula is the weights for a number of elements."""

    @staticmethod
    def setup(call: Call) -> tuple[np.ndarray, np.ndarray, list[int], tuple, bool]:
        """The parameter, the weights (channel, row, rank), the counts that have rows, and the plan's fields."""
        given = call.formula.weights_of(call.own, call.where, call.out_dims[1])
        d, h, w = (np.unique(a.count) for a in call.axes)
        counts = sorted(set(np.multiply.outer(np.multiply.outer(d, h), w).ravel().tolist()))
        row = np.zeros(counts[-1] + 1, np.int64)
        row[counts] = np.arange(len(counts))
        tables = [call.formula.rank_weights(given, n) for n in counts]
        ranks = max(t.shape[1] for t in tables)
        weights = np.zeros((given.shape[0], len(counts), ranks), real_name(call.dtype))
        for i, t in enumerate(tables):
            weights[:, i, :t.shape[1]] = t
        extra = ((at.RANKS, ranks), (at.RANK_ROW, row), (at.RANK_CHANNEL, 0 if given.shape[0] == 1 else len(counts) * ranks))
        return given, weights, counts, extra, counts[-1] <= SHORT

    def forward(self, call: Call, out: Any, return_indices: bool) -> tuple[Any, Any]:
        """y."""
        _, weights, _, extra, short = self.setup(call)
        y = call.output(out)
        made = call.plan({at.X: call.x, at.Y: y}, sort=True, extra=extra)
        call.launch(kernels.order_kernel(False, call.dtype, short, False), made, False,
                    {at.X: call.x.array.address, at.Y: y.array.address, at.WEIGHTS: weights.ctypes.data})
        return call.give(y), None

    def backward(self, call: Call, grad: View, indices: Any) -> Any:
        """The gradients of x and of the weights."""
        given, weights, counts, extra, short = self.setup(call)
        result = call.empty(call.x.dims, call.dtype)
        learns = hasattr(call.formula, "rank_gradient")
        n, c = call.out_dims[:2]
        rows, ranks = weights.shape[1:]
        sums = np.zeros((n, c, rows, ranks) if learns else 0, np.float64)
        own = (c * rows * ranks, rows * ranks, 0, 0, 0)
        made = call.plan({at.X: call.x, at.Y: grad, at.GRAD_PARAM: own}, True, sort=True, extra=extra)
        call.launch(kernels.order_kernel(True, call.dtype, short, learns), made, True,
                    {at.X: call.x.array.address, at.Y: grad.array.address, at.GRAD_X: result.array.address,
                     at.WEIGHTS: weights.ctypes.data, at.GRAD_WEIGHTS: sums.ctypes.data})
        if not learns:
            return call.give(result)
        return call.give(result), self.weight_gradient(call, given, sums.sum(0), counts)

    @staticmethod
    def weight_gradient(call: Call, given: np.ndarray, sums: np.ndarray, counts: list[int]) -> Any:
        """The gradient of the weights from the sums of g times the element of each rank."""
        if given.shape[0] == 1:
            sums = sums.sum(0, keepdims=True)
        total = sum(call.formula.rank_gradient(given, n, sums[:, i]) for i, n in enumerate(counts))
        shape = np.asarray(arrays.values(call.own["weight"], call.where)).shape
        return call.library.from_numpy(np.reshape(total, shape), real_name(call.dtype))


FAMILIES = {"fold": Fold(), "select": Select(), "draw": Draw(), "order": Order()}
