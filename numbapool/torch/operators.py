"""Forward and backward of a pooling as torch's machinery takes them: how they run, what they keep, their derivatives, their vmap.

Inputs are (x, *values), or (grad, x, *values) and, for choices, the indices; values are a function's arguments in Pooling.names' order.
Who calls decides the way: tensors that nobody watches run the kernels at once (autograd by `Eager`); within torch.func `Transformed` does
the same level by level; for whatever else replaces tensors (torch.compile, export, fake tensors, modes) there are the operators of library.py.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

import torch

from . import batches, library, shapes, twice
from .pooling import Pooling

OWN = torch.Tensor, torch.nn.Parameter  # classes whose memory is their own
_modes = getattr(torch._C, "_len_torch_dispatch_stack", None)
_transforms = getattr(torch._C, "_are_functorch_transforms_active", None)
_tracing = getattr(torch._C, "_get_tracing_state", None)
_wrapped = getattr(getattr(torch._C, "_functorch", None), "is_functorch_wrapped_tensor", None)
KNOWN = None not in (_modes, _transforms, _tracing, _wrapped)  # where torch calls them otherwise, all goes by the operators


def plain(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether tensors have memory, and nobody watches what is done with them."""
    if not KNOWN or _modes() or _transforms() or _tracing() is not None:
        return False
    return all([type(t) in OWN and not (t.is_meta or _wrapped(t)) for t in tensors])


class Operator:
    """What forward and backward share."""

    names: tuple[str, ...]  # of the inputs
    learns: tuple[int, ...]  # the places of those with gradients
    lean = False  # whether `Lean` does where x is the only tensor

    def __init__(self, pooling: Pooling, name: str) -> None:
        self.pooling, self.name = pooling, name

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Where inputs may be tensors, but for the lists of them that lay windows."""
        return tuple(i for i, n in enumerate(self.names) if n in ("grad", "x", *self.pooling.tensors, "samples", "seed", "chosen"))

    def __call__(self, *inputs: Any) -> Any:
        """The results, with autograd."""
        there = [i for i in self.places if isinstance(inputs[i], torch.Tensor)]
        tensors = [inputs[i] for i in there]
        if plain(tensors):
            if torch.is_grad_enabled() and any([t.requires_grad for t in tensors]):
                if self.lean and len(there) == 1:
                    return Lean.apply(self, inputs[0], inputs[1:])
                return Eager.apply(self, inputs, there, *tensors)
            return self.run(*inputs)
        if KNOWN and (_transforms() or any(map(_wrapped, tensors))):  # or when one is over
            return Transformed.apply(self, *inputs)
        return self.registered(*inputs)

    def run(self, *inputs: Any) -> Any:
        """On memory."""
        raise NotImplementedError

    def registered(self, *inputs: Any) -> Any:
        """By the operator of library.py."""
        return self.overload(*library.pack(self, inputs))

    @cached_property
    def overload(self) -> Any:
        """That operator."""
        return library.overload(self)

    def own(self, ctx: Any, output: Any) -> tuple:
        """What backward needs of the results."""
        return ()

    def save(self, ctx: Any, inputs: Sequence[Any], output: Any) -> None:
        """Keep tensors where autograd wants them, and all else as it is."""
        more = self.own(ctx, output)
        ctx.lists = [len(v) if isinstance(v, list | tuple) and v and isinstance(v[0], torch.Tensor) else isinstance(v, torch.Tensor) for v in inputs]
        ctx.save_for_backward(*(t for v, there in zip(inputs, ctx.lists, strict=True) if there for t in (v if there is not True else (v,))), *more)
        ctx.rest = [None if there else v for v, there in zip(inputs, ctx.lists, strict=True)]

    @staticmethod
    def kept(ctx: Any) -> tuple[list[Any], tuple]:
        """The inputs, and the other tensors."""
        saved = iter(ctx.saved_tensors)
        inputs = [next(saved) if there is True else tuple(next(saved) for _ in range(there)) if there else v
                  for v, there in zip(ctx.rest, ctx.lists, strict=True)]
        return inputs, tuple(saved)

    def derivatives(self, grads: Sequence[Any], inputs: Sequence[Any], more: Sequence[torch.Tensor]) -> dict[int, Any]:
        """Gradients by the places of their inputs."""
        raise NotImplementedError

    def gradients(self, ctx: Any, *grads: Any) -> tuple:
        """Those of all inputs, after `save`."""
        inputs, more = self.kept(ctx)
        found = self.derivatives(grads, inputs, more)
        return tuple(found.get(i) if isinstance(v, torch.Tensor) else None for i, v in enumerate(inputs))


class Forward(Operator):
    """The forward pass; `indexed`: with indices."""

    def __init__(self, pooling: Pooling, indexed: bool) -> None:
        super().__init__(pooling, pooling.name + "_with_indices" * indexed)
        self.indexed, self.names, self.lean = indexed, ("x", *pooling.names), not indexed
        self.planes, self.joins = ("x", *pooling.planes, "samples"), True
        self.learns = tuple(self.names.index(n) for n in ("x", *pooling.learns))
        self.results = "(Tensor, Tensor)" if indexed else "Tensor"

    @cached_property
    def back(self) -> Backward:
        """The backward pass."""
        return backward_of(self.pooling)

    def run(self, x: torch.Tensor, *values: Any) -> Any:
        """y, or (y, indices)."""
        return self.pooling.run(x, values, self.indexed)

    def fake(self, x: torch.Tensor, *values: Any) -> Any:
        """The same of tensors without memory."""
        p, given = self.pooling, dict(zip(self.pooling.names, values, strict=True))
        sizes = shapes.outputs(p.operation.form.name, shapes.spatial_of(x.shape, p.ndim, given["channels_last"]), given)
        dtype = getattr(torch, p.operation.result(str(x.dtype).removeprefix("torch.")))
        y, *more = (shapes.empty(x, sizes, p.ndim, given["channels_last"], p.name, d) for d in (dtype, *(torch.int64,) * self.indexed))
        return (y, *more) if more else y

    def own(self, ctx: Any, output: Any) -> tuple:
        """The indices, where they were asked for."""
        if not self.indexed:
            return ()
        ctx.mark_non_differentiable(output[1])
        return output[1:]

    def derivatives(self, grads: Sequence[Any], inputs: Sequence[Any], more: Sequence[torch.Tensor]) -> dict[int, Any]:
        """By the backward pass; at once by its kernels where nobody differentiates or watches it."""
        if not torch.is_grad_enabled() and plain((grads[0], inputs[0])):
            result = self.pooling.run_backward(grads[0], inputs[0], tuple(inputs[1:]), more[0] if more else None)
        else:
            indices = (more[0] if more else None,) if self.pooling.indexed else ()
            result = self.back(grads[0], *inputs, *indices)
            result = result if isinstance(result, tuple) else (result,)
        return dict(zip(self.learns, result, strict=True))


class Backward(Operator):
    """The backward pass."""

    def __init__(self, pooling: Pooling) -> None:
        super().__init__(pooling, pooling.name + "_backward")
        self.names = ("grad", "x", *pooling.names, *("chosen",) * pooling.indexed)
        self.planes = ("grad", "x", *pooling.planes, "samples", "chosen")
        self.learns = tuple(self.names.index(n) for n in ("grad", "x", *pooling.learns))
        self.joins = set(pooling.learns) <= set(pooling.planes)  # the others' gradients are sums over the batch
        count = 1 + len(pooling.learns)
        self.results = f"({', '.join(['Tensor'] * count)})" if count > 1 else "Tensor"

    def parted(self, values: Sequence[Any]) -> tuple[tuple, Any]:
        """Forward's arguments, and the indices."""
        return (tuple(values[:-1]), values[-1]) if self.pooling.indexed else (tuple(values), None)

    def run(self, grad: torch.Tensor, x: torch.Tensor, *values: Any) -> Any:
        """grad_x; a tuple with the gradients of what learns, empty for what is None, as schemas know no other absence."""
        result = self.pooling.run_backward(grad, x, *self.parted(values))
        return tuple(x.new_empty(0) if r is None else r for r in result) if len(result) > 1 else result[0]

    def fake(self, grad: torch.Tensor, x: torch.Tensor, *values: Any) -> Any:
        """The same of tensors without memory."""
        p, given = self.pooling, dict(zip(self.pooling.names, values, strict=False))
        sizes = shapes.spatial_of(x.shape, p.ndim, given["channels_last"])
        result = tuple(shapes.empty(x, sizes, p.ndim, given["channels_last"], p.name, grad.dtype) if n == "x" or n in p.planes
                       else x.new_empty(0) if given[n] is None else torch.empty(given[n].shape, dtype=given[n].dtype, device=x.device)
                       for n in ("x", *p.learns))
        return result if len(result) > 1 else result[0]

    def derivatives(self, grads: Sequence[Any], inputs: Sequence[Any], more: Sequence[torch.Tensor]) -> dict[int, Any]:
        """Second derivatives, of what has them."""
        values, indices = self.parted(inputs[2:])
        given = dict(zip(self.pooling.names, values, strict=True))
        return dict(zip(self.learns, twice.derivatives(self.pooling, tuple(grads), *inputs[:2], given, indices), strict=True))


@cache
def backward_of(pooling: Pooling) -> Backward:
    """The backward pass of a pooling, with and without indices."""
    return Backward(pooling)


class Eager(torch.autograd.Function):
    """Autograd where nothing else is on: half the cost of an operator's."""

    @staticmethod
    def forward(ctx: Any, operator: Operator, inputs: tuple, places: list[int], *tensors: torch.Tensor) -> Any:
        """The results of inputs, which hold the tensors at their places."""
        result = operator.run(*inputs)
        more = operator.own(ctx, result)
        ctx.save_for_backward(*tensors, *more)
        rest = list(inputs)
        for i in places:
            rest[i] = None
        ctx.call = operator, rest, places
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple:
        """The gradients of the tensors."""
        (operator, rest, places), saved = ctx.call, ctx.saved_tensors
        inputs = rest.copy()
        for i, tensor in zip(places, saved, strict=False):
            inputs[i] = tensor
        found = operator.derivatives(grads, inputs, saved[len(places):])
        return None, None, None, *[found.get(i) for i in places]


class Lean(torch.autograd.Function):
    """`Eager` for the usual forward pass, whose only tensor is x: 5 us less in a step."""

    @staticmethod
    def forward(ctx: Any, operator: Forward, x: torch.Tensor, values: tuple) -> torch.Tensor:
        """y."""
        ctx.save_for_backward(x)
        ctx.call = operator, values
        return operator.pooling.run(x, values)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple:
        """The gradient of x."""
        (operator, values), (x,) = ctx.call, ctx.saved_tensors
        if not torch.is_grad_enabled() and plain((grad, x)):
            return None, operator.pooling.run_backward(grad, x, values)[0], None
        return None, operator.derivatives((grad,), (x, *values), ())[0], None


class Transformed(torch.autograd.Function):
    """Autograd and vmap within torch.func."""

    @staticmethod
    def forward(operator: Operator, *inputs: Any) -> Any:
        """The results."""
        return operator.run(*inputs) if plain([inputs[i] for i in operator.places if isinstance(inputs[i], torch.Tensor)]) \
            else operator.registered(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        """Keep what backward needs."""
        ctx.operator = inputs[0]
        ctx.operator.save(ctx, inputs[1:], output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple:
        """The gradients."""
        return None, *ctx.operator.gradients(ctx, *grads)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, operator: Operator, *inputs: Any) -> tuple[Any, Any]:
        """The results of a batch of calls."""
        return batches.vmap(operator, info.batch_size, in_dims[1:], inputs)
