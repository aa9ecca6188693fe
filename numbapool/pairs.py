"""One public function and its backward as one thing: their arguments as one tuple, for libraries that differentiate (torch/, jax.py)."""
from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

from . import POOLINGS, publish
from .operation import Way
from .publish import Argument, Function

GIVEN = ("samples", "sequences", "indices")  # arguments that take the place of a draw


@functools.cache
def functions() -> dict[str, tuple[Function, Function]]:
    """Forward and backward of every pooling, by the forward's name."""
    found = {}
    for name in POOLINGS:
        both = publish.functions(name)
        found |= {f.name: (f, b) for f, b in zip(both[::2], both[1::2], strict=True)}
    return found


def fetch(names: Sequence[str], wanted: Sequence[str]) -> Callable[[tuple], tuple]:
    """What picks the wanted ones, in their order, out of a tuple of values by names."""
    places = [names.index(n) for n in wanted]
    return operator.itemgetter(*places) if len(places) > 1 else lambda values: tuple(values[i] for i in places)


def when_asked(scope: dict[str, Any], make: Callable[[str], Any]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """__getattr__ and __dir__ of a module that makes its functions when they are first asked for (PEP 562); scope : its globals()."""
    def get(name: str) -> Any:
        if name == "__all__":
            return list(functions())
        if name not in functions():
            raise AttributeError(f"module {scope['__name__']!r} has no attribute {name!r}")
        scope[name] = value = make(name)
        return value
    return get, lambda: sorted({*scope, *functions()})


class Pair:
    """Forward and backward of one function.

    names : of all arguments after x, those of backward among them, in the order in which `values` travel; tensors : of those that
    may be tensors with a gradient of their own; planes : arrays of x's or y's shape; seed : where the seed is, if there may be one;
    instead : where what takes its place is.
    """

    def __init__(self, forward: Function, backward: Function) -> None:
        self.forward, self.operation = forward, forward.operation
        self.name, self.ndim = forward.name, self.operation.ndim
        late = [a for a in backward.arguments if a.name not in {b.name for b in forward.arguments} | {"grad", "indices"}]
        self.arguments: list[Argument] = [a for a in (*forward.arguments, *late) if a.name not in ("x", "out") and not a.name.startswith("return_")]
        self.returns = [a for a in forward.arguments if a.name.startswith("return_")]
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

    @property
    def signature(self) -> str:
        """The text between the parentheses of a function of both directions' arguments."""
        arguments = [*self.forward.arguments[:1], *self.arguments, *self.returns]
        return ", ".join([*(str(a) for a in arguments if not a.keyword), "*", *(str(a) for a in arguments if a.keyword)])

    def run(self, x: Any, values: tuple, indexed: bool = False, drawn: bool = False) -> Any:
        """y; a tuple with the indices, and with the windows that were drawn, where they are asked for."""
        settings, others, seeded = self._forward
        values = self.seeded(values)
        chosen = settings(values)
        if self.extras or self.indexed:
            chosen = (*chosen[:-1], *(drawn,) * bool(self.extras), *(indexed,) * self.indexed, chosen[-1])
        return self.operation.forward(x, chosen, tuple(map(type, chosen)), others(values), values[self.seed] if seeded else None)

    def run_backward(self, grad: Any, x: Any, values: tuple, indices: Any = None) -> tuple:
        """(grad_x, and one gradient for each that learns, None for what is None)."""
        settings, others, seeded = self._backward
        values = self.seeded(values)
        chosen = settings(values)
        result = self.operation.backward(grad, x, chosen, tuple(map(type, chosen)), others(values), values[self.seed] if seeded else None, indices)
        if not self.learns:
            return (result,)
        more = iter(result[1:])
        return result[0], *(None if values[i] is None else next(more) for i in self.places[:len(self.learns)])

    def seeded(self, values: tuple) -> tuple:
        """Values whose seed is a number."""
        return values

    def undecided(self, values: tuple) -> bool:
        """Whether values leave open what is drawn."""
        if self.seed is None or values[self.seed] is not None or any(values[i] is not None for i in self.instead):
            return False
        return "training" not in self.names or values[self.names.index("training")] is not False
