"""One public function of numbapool as torch sees it: its arguments as one tuple, its forward and backward on tensors with memory."""
from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..operation import Way
from ..publish import Argument, Function

GIVEN = ("samples", "sequences", "indices")  # arguments that take the place of a draw


def fetch(names: Sequence[str], wanted: Sequence[str]) -> Callable[[tuple], tuple]:
    """What picks the wanted ones, in their order, out of a tuple of values by names."""
    places = [names.index(n) for n in wanted]
    return operator.itemgetter(*places) if len(places) > 1 else lambda values: tuple(values[i] for i in places)


class Pooling:
    """Forward and backward of one function on tensors.

    names : of all arguments after x, those of backward among them, in the order in which `values` travel; tensors : of those that
    may be tensors with a gradient of their own; draws : whether a seed may be needed; planes : arrays of x's or y's shape.
    """

    def __init__(self, forward: Function, backward: Function) -> None:
        self.forward, self.operation = forward, forward.operation
        self.name, self.ndim = forward.name, self.operation.ndim
        late = [a for a in backward.arguments if a.name not in {b.name for b in forward.arguments} | {"grad", "indices"}]
        self.arguments: list[Argument] = [a for a in (*forward.arguments, *late) if a.name not in ("x", "out") and not a.name.startswith("return_")]
        self.names = tuple(a.name for a in self.arguments)
        declared = self.operation.parameters
        self.learns = tuple(n for n in self.names if n in declared and declared[n].learnable)
        self.fixed = tuple(n for n in self.names if n in declared and declared[n].kind == "indices")  # of unpooling
        self.tensors = self.learns + self.fixed
        self.planes = tuple(n for n in self.tensors if declared[n].kind in ("logit", "indices"))
        self.extras = getattr(self.operation.form, "extras", None)
        self.indexed = self.operation.indexed and self.extras != "return_indices"
        self.seed = self.names.index("seed") if "seed" in self.names else None
        self.instead = [self.names.index(n) for n in GIVEN if n in self.names and n not in self.fixed]
        self.places = [self.names.index(n) for n in self.tensors]
        self._forward, self._backward = (self._picks(way) for way in self.operation.ways)

    def _picks(self, way: Way) -> tuple[Callable[[tuple], tuple], Callable[[tuple], tuple], bool]:
        settings = [n for n in way.names if not n.startswith("return_")]  # `run` puts these flags before the last one, channels_last
        return fetch(self.names, settings), fetch(self.names, way.arrays), way.seeded

    # ---------------------------------------------------------------- on memory

    def run(self, x: torch.Tensor, values: tuple, indexed: bool = False) -> Any:
        """y, or (y, indices)."""
        settings, others, seeded = self._forward
        values = self.seeded(values)
        chosen = settings(values)
        if self.extras or self.indexed:
            chosen = (*chosen[:-1], *(False,) * bool(self.extras), *(indexed,) * self.indexed, chosen[-1])
        return self.operation.forward(x, chosen, tuple(map(type, chosen)), others(values), values[self.seed] if seeded else None)

    def run_backward(self, grad: torch.Tensor, x: torch.Tensor, values: tuple, indices: torch.Tensor | None = None) -> tuple:
        """(grad_x, and one gradient for each that learns)."""
        settings, others, seeded = self._backward
        values = self.seeded(values)
        chosen = settings(values)
        result = self.operation.backward(grad, x, chosen, tuple(map(type, chosen)), others(values), values[self.seed] if seeded else None, indices)
        if not self.learns:
            return (result,)
        (grad_x, *more), given = result, [values[i] for i in self.places[:len(self.learns)]]
        more = iter(more)
        of = [None if v is None else next(more) for v in given]
        return grad_x, *(r.to(v.dtype) if isinstance(v, torch.Tensor) and v.dtype != r.dtype else r for r, v in zip(of, given, strict=True))

    # ---------------------------------------------------------------- draws

    def drawn(self, values: tuple, tensor: bool) -> tuple:
        """Values with a seed of torch's default generator, where one is needed; backward repeats the draw by it."""
        if self.seed is None or values[self.seed] is not None or any(values[i] is not None for i in self.instead):
            return values
        if "training" in self.names and values[self.names.index("training")] is False:
            return values
        seed = torch.randint(1 << 62, (), dtype=torch.int64, device="cpu")
        return (*values[:self.seed], seed if tensor else int(seed), *values[self.seed + 1:])

    def seeded(self, values: tuple) -> tuple:
        """Values whose seed is a number: traced calls have it as a tensor."""
        if self.seed is None or not isinstance(values[self.seed], torch.Tensor):
            return values
        return (*values[:self.seed], int(values[self.seed]), *values[self.seed + 1:])

    # ---------------------------------------------------------------- mixed dtypes

    def promoted(self, x: torch.Tensor, values: tuple) -> tuple[torch.Tensor, tuple]:
        """Under autocast: tensors that must share x's dtype, and x, in the widest of their dtypes."""
        places = [self.names.index(n) for n in self.planes if n in self.learns]
        if not places or not x.is_floating_point():
            return x, values
        wide = functools.reduce(torch.promote_types, (values[i].dtype for i in places), x.dtype)
        return x.to(wide), tuple(v.to(wide) if i in places else v for i, v in enumerate(values))
