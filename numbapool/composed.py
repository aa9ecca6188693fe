"""Operations made of other ones' results, as arrays: for what is a few operations and a few numbers a window.

Inside, arrays have the axes (N, C, spatial...), whatever the caller's have, and half types are float32, rounded once in the end.  On a CPU they are
NumPy's views of the caller's memory; on a CUDA device they are the caller's own.  The C library does the same (capi/src/composed.c), in the same
order of operations.
"""
from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from . import arrays, families
from .arrays import Array
from .call import Call
from .numeric import HALVES, real_name
from .operation import Operation, Way
from .parameters import Parameter

PART = 1 << 21  # bytes of x that are computed at a time


class Composed(Operation):
    """An operation whose `forward_of` and `backward_of` compute with arrays; window : the arguments of its windows."""

    def forward_of(self, call: Call, window: tuple, x: Any) -> Any:
        """y."""
        raise NotImplementedError

    def backward_of(self, call: Call, window: tuple, x: Any, grad: Any) -> list[Any]:
        """grad_x, then the gradients of what else is learnable, the latter as the caller gets them."""
        raise NotImplementedError

    def run(self, way: Way, given: list[Array], settings: tuple, kinds: tuple, seed: int | None = None, out: Array | None = None) -> Any:
        """Check a call as every operation does, and compute it."""
        given[0] = arrays.as_float(given[0])
        values = dict(zip(way.names, settings, strict=True))
        window, own = tuple(values[n] for n in self.window), {n: values[n] for n in self.parameters if n in values}
        call = self.begin(given, window, own, values["channels_last"], way.where, out)
        if way.backward:
            call.argument(1, "grad", call.out_dims, (call.dtype,))
        elif out is not None:
            call.output()
            arrays.check_place(out, way.out, given)
        axes = order_of(call)
        operands = [turned(working(a), call, axes) for a in given]
        with np.errstate(all="ignore"):
            y, *others = self.in_parts(call, way, window, operands)
            y = permuted(y if call.batched else y[0], tuple(np.argsort(axes)))
            if out is not None:
                call.library.fill(out.owner, y)
                return out.owner
            y = call.library.adopt(y, call.dtype)
        return (y, *others) if others else y

    def in_parts(self, call: Call, way: Way, window: tuple, operands: list[Any]) -> list[Any]:
        """The results; on a CPU some entries of the batch at a time, so that what lies between the steps stays in its caches.

        Gradients of parameters are sums over the batch.
        """
        batch = operands[0].shape[0]
        each = max(1, PART // max(1, prod(call.x.dims[1:]) * 4)) if call.library.index is None else max(1, batch)

        def compute(first: int) -> list[Any]:
            some = [a[first:first + each] for a in operands] if each < batch else operands
            return self.backward_of(call, window, *some) if way.backward else [self.forward_of(call, window, *some)]
        y, *others = compute(0)
        if each >= batch:
            return [y, *others]
        whole = np.empty_like(y, shape=(batch, *y.shape[1:]))
        whole[:each] = y
        for first in range(each, batch, each):
            whole[first:first + each], *more = compute(first)
            others = [a + b for a, b in zip(others, more, strict=True)]
        return [whole, *others]

    @staticmethod
    def held(call: Call, p: Parameter) -> Any:
        """A parameter that lies where a device's x does, in the kernel's arithmetic: an array of the caller's library; else None."""
        if call.library.index is None:
            return None
        found = arrays.beside(call.own[p.name], call.given[0], real_name(call.dtype), f"{call.where}: {p.name}")
        return found and found.owner

    @staticmethod
    def broadcasts(call: Call, p: Parameter) -> tuple[int, ...]:
        """The shape in which an array parameter broadcasts to y."""
        shape = arrays.shape_of(call.own[p.name], p.name)
        five = families.five_of(families.axes_of(call, p, shape), shape, 1)
        return (*five[:2], *five[5 - call.ndim:])

    @staticmethod
    def over_outputs(call: Call, p: Parameter) -> Any:
        """An array parameter, in the kernel's arithmetic and as it broadcasts to y."""
        held = Composed.held(call, p)
        return (families.spread(call, p)[0] if held is None else held).reshape(Composed.broadcasts(call, p))

    @staticmethod
    def handed_over(call: Call, value: Any) -> Any:
        """The gradient of a parameter as the caller gets it."""
        return call.library.from_numpy(value, real_name(call.dtype)) if call.library.index is None else value

    @staticmethod
    def gathered(call: Call, contributions: Any, p: Parameter) -> Any:
        """The gradient of an array parameter: the contributions of all outputs, summed where it was broadcast."""
        axes = tuple(i for i, n in enumerate(Composed.broadcasts(call, p)) if n == 1)
        shape, dtype = arrays.shape_of(call.own[p.name], p.name), real_name(call.dtype)
        if call.library.index is not None:
            return call.library.total(contributions, axes, shape, dtype)  # type: ignore[attr-defined]
        return call.library.from_numpy(contributions.sum(axis=axes, dtype=np.float64).reshape(shape), dtype)


class OnHost:
    """What Blend does with NumPy's arrays; cuda/composed.py does it on a device.  q : a share; grad : the gradient of y."""

    @staticmethod
    def blend(call: Call, q: Any, one: Any, two: Any) -> Any:
        """Of two results one."""
        return q * one + (1 - q) * two

    @staticmethod
    def split(call: Call, q: Any, grad: Any) -> tuple[Any, Any]:
        """Their gradients."""
        return q * grad, (1 - q) * grad

    @staticmethod
    def distance(call: Call, grad: Any, one: Any, two: Any) -> Any:
        """The gradient of q."""
        return grad * (one - two)

    @staticmethod
    def total(call: Call, one: Any, two: Any) -> Any:
        """The sum of two gradients."""
        return one + two

    @staticmethod
    def through_sigmoid(call: Call, grad: Any, q: Any) -> Any:
        """The gradient of what q is the sigmoid of, from q's."""
        return grad * q * (1 - q)


def steps(call: Call) -> Any:
    """What computes with the arrays of a call."""
    if call.library.index is None:
        return OnHost
    from .cuda import composed
    return composed


class Blend(Composed):
    """y = q y1 + (1 - q) y2 of two poolings; q is an array parameter, or what `portion` makes of x.

    A formula names the two (`parts`, a name and a file in pools/ each).
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.parts = [Part(name, formula, self.form, self.ndim, self.where) for name, formula in self.formula.parts]

    def portion(self, call: Call, window: tuple, x: Any) -> Any:
        """q."""
        return self.over_outputs(call, *self.parameters.values())

    def forward_of(self, call: Call, window: tuple, x: Any) -> Any:
        """y."""
        return steps(call).blend(call, self.portion(call, window, x), *(p.pool(window, x) for p in self.parts))

    def backward_of(self, call: Call, window: tuple, x: Any, grad: Any) -> list[Any]:
        """grad_x and what q gives."""
        q, (one, two), do = self.portion(call, window, x), self.parts, steps(call)
        first, second = do.split(call, q, grad)
        grad_x = do.total(call, one.pull(window, x, first), two.pull(window, x, second))
        return self.through_portion(call, window, x, q, do.distance(call, grad, one.pool(window, x), two.pool(window, x)), grad_x)

    def through_portion(self, call: Call, window: tuple, x: Any, q: Any, grad_q: Any, grad_x: Any) -> list[Any]:
        """All gradients, with the gradient of q for every output."""
        return [grad_x, self.gathered(call, grad_q, *self.parameters.values())]


class Part(Operation):
    """A pooling that is part of another one; averages divide by the elements inside the input."""

    def over(self, window: tuple, backward: bool) -> tuple[tuple, tuple]:
        """The settings of a call, and their types."""
        return self.settings(backward, **dict(zip(self.window, window, strict=True)), count_include_pad=False)

    def pool(self, window: tuple, x: Any) -> Any:
        """y."""
        return self.forward(x, *self.over(window, False))

    def pull(self, window: tuple, x: Any, grad: Any) -> Any:
        """grad_x."""
        return self.backward(grad, x, *self.over(window, True))


def working(array: Array) -> Any:
    """An array to compute with: half types as float32."""
    if array.library.index is None:
        return arrays.numbers(array)
    return (array.library.converted(array, "float32") if array.dtype in HALVES else array).owner  # type: ignore[attr-defined]


def order_of(call: Call) -> tuple[int, ...]:
    """The caller's axes in the order (N, C, spatial...)."""
    rank = call.batched + 1 + call.ndim
    lead = (0,) * call.batched
    return (*lead, rank - 1, *range(len(lead), rank - 1)) if call.channels_last else tuple(range(rank))


def permuted(array: Any, axes: tuple[int, ...]) -> Any:
    """The same memory with its axes in another order, as every library calls it."""
    return array.permute(axes) if hasattr(array, "permute") else array.transpose(axes)


def turned(array: Any, call: Call, axes: tuple[int, ...]) -> Any:
    """An array with the axes (N, C, spatial...)."""
    array = permuted(array, axes)
    return array if call.batched else array[None]


def five(x: Any) -> Any:
    """An array (N, C, spatial...) as (N, C, D, H, W)."""
    return x[(slice(None), slice(None), *(None,) * (5 - len(x.shape)))]


def spatial_of(x: Any, ndim: int) -> Any:
    """The same back."""
    return x[(slice(None), slice(None), *(0,) * (3 - ndim))]
