"""vmap: a batch of calls as one call with a longer batch, or, where calls differ in more than their arrays, one after the other."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .operators import Operator


def vmap(operator: Operator, size: int, in_dims: Sequence[Any], inputs: Sequence[Any]) -> tuple[Any, Any]:
    """The results of a batch of calls, which is their first axis, and the number of that axis for each."""
    dims = [dim if isinstance(dim, int) else None for dim in in_dims]  # lists of tensors, which lay windows, are the same for all
    moved = {name for name, dim in zip(operator.names, dims, strict=True) if dim is not None}
    result = (joined if operator.joins and moved <= set(operator.planes) else one_by_one)(operator, size, dims, inputs)
    return result, tuple(0 for _ in result) if isinstance(result, tuple) else 0


def joined(operator: Operator, size: int, dims: Sequence[int | None], inputs: Sequence[Any]) -> Any:
    """One call of size * N inputs."""
    x, dim = inputs[operator.names.index("x")], dims[operator.names.index("x")]
    batched = x.dim() - (dim is not None) == operator.pooling.ndim + 2
    n = x.shape[0] if dim is None else x.movedim(dim, 0).shape[1]

    def flat(name: str, v: Any, dim: int | None) -> Any:
        if name not in operator.planes or not isinstance(v, torch.Tensor):
            return v
        v = v.unsqueeze(0).expand(size, *v.shape) if dim is None else v.movedim(dim, 0)
        return v.flatten(0, 1) if batched else v

    def parted(y: torch.Tensor) -> torch.Tensor:
        return y.unflatten(0, (size, n)) if batched else y
    result = operator(*map(flat, operator.names, inputs, dims))
    return tuple(map(parted, result)) if isinstance(result, tuple) else parted(result)


def one_by_one(operator: Operator, size: int, dims: Sequence[int | None], inputs: Sequence[Any]) -> Any:
    """`size` calls."""
    results = [operator(*(v if dim is None else v.select(dim, i) for v, dim in zip(inputs, dims, strict=True))) for i in range(size)]
    if isinstance(results[0], tuple):
        return tuple(torch.stack(part) for part in zip(*results, strict=True))
    return torch.stack(results)
