"""The poolings among torch's operators: torch.ops.numbapool.<function>, <function>_with_indices and <function>_backward.

An operator takes what its function takes, in the few types that torch's schemas know: windows as one int an axis, padding as
(before, after) an axis, numbers that may be learned and seeds as tensors.  `pack` makes these of a caller's arguments, `unpack` turns
them back.  An operator is registered when it is first used, with shapes, autograd and vmap.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .. import forms, windows
from ..publish import Argument
from . import batches, shapes
from .pooling import Pooling

if TYPE_CHECKING:
    from .operators import Operator

LIBRARY = torch.library.Library("numbapool", "DEF")
DEFINED: dict[str, Any] = {}
LOCK = threading.Lock()  # torch takes a name once


class Packing(NamedTuple):
    """How an argument travels: its type in a schema; from the caller's value (pooling, value, where); and back."""

    schema: str
    pack: Callable[[Pooling, Any, str], Any]
    unpack: Callable[[Any], Any] = lambda value: value


def _axis_ints(pooling: Pooling, value: Any, where: str) -> Any:
    return None if value is None else list(forms.per_axis(value, pooling.ndim, where))


def _axis_floats(pooling: Pooling, value: Any, where: str) -> Any:
    return None if value is None else list(map(float, value)) if forms.listed(value) else [float(value)] * pooling.ndim


def _tensor(pooling: Pooling, value: Any, where: str) -> Any:
    return value if value is None or isinstance(value, torch.Tensor) else torch.as_tensor(value, device="cpu")


def _number(pooling: Pooling, value: Any, where: str) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value, dtype=torch.float64, device="cpu")


def _tensors(pooling: Pooling, value: Any, where: str) -> Any:
    return None if value is None else [torch.as_tensor(v) for v in value]


def _tuple(value: Any) -> Any:
    return None if value is None else tuple(value)


def _as_it_is(pooling: Pooling, value: Any, where: str) -> Any:
    return value


PAIRS = Packing("SymInt[{pairs}]", _as_it_is, lambda value: tuple(zip(value[::2], value[1::2], strict=True)))
PACKINGS = {
    "int | Sequence[int]": Packing("int[{n}]", _axis_ints, tuple),
    "int | Sequence[int] | None": Packing("int[{n}]?", _axis_ints, _tuple),
    "int | Sequence[int] | Sequence[Sequence[int]] | str": PAIRS,
    "int | Sequence[int | None]": Packing("SymInt[{n}]", _as_it_is, tuple),
    "Sequence[int] | None": Packing("SymInt[]?", _as_it_is, _tuple),
    "float | Sequence[float] | None": Packing("float[]?", _axis_floats, _tuple),
    "float | Any": Packing("Tensor", _number),
    "Any": Packing("Tensor", _tensor),
    "int | None": Packing("int?", _as_it_is),
    "bool": Packing("bool", _as_it_is),
    "float | None": Packing("float?", lambda pooling, value, where: value if value is None else float(value)),
    "float": Packing("float", lambda pooling, value, where: float(value)),
    "str": Packing("str", _as_it_is),
}
OPTIONAL, LIST = Packing("Tensor?", _tensor), Packing("Tensor[]?", _tensors, _tuple)
UNPADDED = Packing("int[{n}]", lambda pooling, value, where: list(forms.per_axis(value, pooling.ndim, where, 0)), tuple)


def packing(pooling: Pooling, a: Argument) -> Packing:
    """How an argument of a pooling travels."""
    if a.name == "seed":
        return OPTIONAL
    if a.name == "padding" and pooling.operation.form.name == "unpooled":
        return UNPADDED
    if a.hint == "Any" and a.default is None:
        return LIST if a.name in ("indices", "sequences") else OPTIONAL
    return PACKINGS[a.hint]


def packed_values(pooling: Pooling, x: torch.Tensor, values: Sequence[Any]) -> list[Any]:
    """A function's arguments as its operator takes them."""
    where, given = pooling.name, dict(zip(pooling.names, values, strict=True))
    spatial, form = shapes.spatial_of(x.shape, pooling.ndim, given["channels_last"]), pooling.operation.form.name
    packed = {a.name: packing(pooling, a).pack(pooling, given[a.name], f"{where}: {a.name}") for a in pooling.arguments}
    if form == "sliding":
        pads = forms.paddings(packed["padding"], pooling.ndim, f"{where}: padding")
        axes = zip(spatial, packed["kernel_size"], packed["stride"] or packed["kernel_size"], packed["dilation"], pads, strict=True)
        packed["padding"] = [n for axis in axes for n in windows.padding_of(*axis)]
    elif form == "adaptive":
        size = packed["output_size"]
        size = size if forms.listed(size) else [size] * pooling.ndim
        packed["output_size"] = [n if s is None else s for s, n in zip(size, spatial, strict=True)]
    elif form == "unpooled":
        window = tuple(packed[n] for n in ("kernel_size", "stride", "padding", "output_size"))
        lead = x.shape[:x.dim() - pooling.ndim - 1]
        lead = (*lead, x.shape[-1] if packed["channels_last"] else x.shape[len(lead)])
        packed["output_size"] = list(pooling.operation.form.size(tuple(spatial), lead, packed["channels_last"], window, where))
    return list(packed.values())


def pack(operator: Operator, inputs: Sequence[Any]) -> list[Any]:
    """The arguments of an operator."""
    first = operator.names.index("x") + 1
    last = first + len(operator.pooling.names)
    return [*inputs[:first], *packed_values(operator.pooling, inputs[first - 1], inputs[first:last]), *inputs[last:]]


def unpack(operator: Operator, packed: Sequence[Any]) -> list[Any]:
    """The inputs that these are."""
    first, arguments = operator.names.index("x") + 1, operator.pooling.arguments
    last = first + len(arguments)
    values = [packing(operator.pooling, a).unpack(p) for a, p in zip(arguments, packed[first:last], strict=True)]
    return [*packed[:first], *values, *packed[last:]]


def schema(operator: Operator) -> str:
    """Name, arguments, results.  There are no defaults: torch leaves out arguments that equal them, here and there."""
    p, first = operator.pooling, operator.names.index("x") + 1
    types = [f"Tensor {n}" for n in operator.names[:first]]
    types += [f"{packing(p, a).schema.format(n=p.ndim, pairs=2 * p.ndim)} {a.name}" for a in p.arguments]
    types += [f"Tensor? {n}" for n in operator.names[first + len(p.names):]]
    return f"{operator.name}({', '.join(types)}) -> {operator.results}"


def overload(operator: Operator) -> Any:
    """torch's operator, which is registered now if it is not yet."""
    with LOCK:
        if operator.name not in DEFINED:
            DEFINED[operator.name] = define(operator)
        return DEFINED[operator.name]


def define(operator: Operator) -> Any:
    """Register an operator with all that torch asks of one."""
    qualified = f"numbapool::{operator.name}"
    LIBRARY.define(schema(operator), tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(operator.name, lambda *packed: operator.run(*unpack(operator, packed)), "CompositeExplicitAutograd")
    torch.library.register_fake(qualified, operator.fake, lib=LIBRARY)

    def save(ctx: Any, inputs: tuple, output: Any) -> None:
        operator.save(ctx, unpack(operator, inputs), output)

    def gradients(ctx: Any, *grads: Any) -> tuple:  # a list has a list of gradients
        return tuple([None] * n if n and n is not True else g for g, n in zip(operator.gradients(ctx, *grads), ctx.lists, strict=True))

    def vmap(info: Any, in_dims: tuple, *packed: Any) -> tuple[Any, Any]:
        return batches.vmap(operator, info.batch_size, in_dims, unpack(operator, packed))
    torch.library.register_autograd(qualified, gradients, setup_context=save, lib=LIBRARY)
    torch.library.register_vmap(qualified, vmap, lib=LIBRARY)
    return getattr(torch.ops.numbapool, operator.name).default
