"""One public function of numbapool as torch sees it: on tensors, with seeds of torch's generator, under autocast."""
from __future__ import annotations

import functools

import torch

from ..pairs import Pair


class Pooling(Pair):
    """Forward and backward of one function on tensors."""

    def run_backward(self, grad: torch.Tensor, x: torch.Tensor, values: tuple, indices: torch.Tensor | None = None) -> tuple:
        """(grad_x, and one gradient for each that learns, in its dtype)."""
        result = super().run_backward(grad, x, values, indices)
        if not self.learns:
            return result
        given = [values[i] for i in self.places[:len(self.learns)]]
        return result[0], *(r.to(v.dtype) if isinstance(v, torch.Tensor) and v.dtype != r.dtype else r
                            for r, v in zip(result[1:], given, strict=True))

    # ---------------------------------------------------------------- draws

    def drawn(self, values: tuple, tensor: bool) -> tuple:
        """Values with a seed of torch's default generator, where one is needed; backward repeats the draw by it."""
        if not self.undecided(values):
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
