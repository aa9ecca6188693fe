"""Makes the public functions: for each pooling, each of its kinds of windows, 1d, 2d and 3d, a function and its backward.

A function is a few lines of text with the true signature, so that help(), inspect.signature and type checkers see what a
reader would write by hand; all it does is pass its arguments on to an Operation.
"""
from __future__ import annotations

import functools
import importlib
import re
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .forms import FORMS
from .operation import Operation
from .parameters import REQUIRED, Parameter


@dataclass(frozen=True)
class Argument:
    """One argument of a public function."""

    name: str
    hint: str
    default: Any = REQUIRED
    keyword: bool = False
    doc: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.hint}" + ("" if self.default is REQUIRED else f" = {self.default!r}")


@dataclass(frozen=True)
class Function:
    """A public function: what it is called, what it takes, and the Operation behind it."""

    name: str
    operation: Operation
    backward: bool
    arguments: tuple[Argument, ...]

    @property
    def signature(self) -> str:
        """The text between the parentheses."""
        positional = [str(a) for a in self.arguments if not a.keyword]
        return ", ".join([*positional, "*", *(str(a) for a in self.arguments if a.keyword)])

    @property
    def body(self) -> str:
        """The call of the Operation."""
        way = self.operation.ways[self.backward]
        passed = [f"({', '.join(way.names)},)", f"({', '.join(f'type({n})' for n in way.names)},)"]
        passed += [f"others=({', '.join(way.arrays)},)"] * bool(way.arrays)
        passed += ["seed=seed"] * way.seeded
        passed += ["indices=indices"] * (self.backward and "indices" in {a.name for a in self.arguments} - {*way.names, *way.arrays})
        passed += ["out=out"] * (not self.backward)
        return f"_call({'grad, x' if self.backward else 'x'}, {', '.join(passed)})"

    def make(self, module: str) -> Callable[..., Any]:
        """The function itself."""
        call = self.operation.backward if self.backward else self.operation.forward
        scope = dict(_call=call, Any=Any, Sequence=Sequence, __name__=module)
        text = f"def {self.name}({self.signature}) -> Any:\n    return {self.body}\n"
        exec(compile(text, f"<{self.name}>", "exec", dont_inherit=True), scope)  # noqa: S102
        function = scope[self.name]
        from .document import docstring  # which reads what stands here
        function.__doc__ = docstring(self)
        return function


def arguments_of(operation: Operation, backward: bool) -> tuple[Argument, ...]:
    """The arguments of forward or backward, in order."""
    formula, form = operation.formula, operation.form
    positional, keyword = form.arguments(getattr(formula, "defaults", {}))
    own = [p for p in operation.parameters.values() if p.direction in ("both", "backward" if backward else "forward")]
    indexed = operation.indexed and getattr(form, "extras", None) != "return_indices"

    def of(p: Parameter) -> Argument:
        return Argument(p.name, p.hint, p.default, not p.leading, p.doc)

    result = [Argument("grad", "Any")] if backward else []
    result += [Argument("x", "Any")] + [of(p) for p in own if p.leading]
    result += [Argument(n, h, d) for n, h, d in positional]
    result += [Argument(n, h, d, True) for n, h, d in keyword]
    result += [of(p) for p in own if not p.leading]
    if backward:
        result += [Argument("indices", "Any", None, True)] if indexed else []
        return (*result, Argument("channels_last", "bool", False, True))
    result += [Argument(form.extras, "bool", False, True)] if getattr(form, "extras", None) else []
    result += [Argument("return_indices", "bool", False, True)] if indexed else []
    return (*result, Argument("channels_last", "bool", False, True), Argument("out", "Any", None, True))


def operations(name: str) -> list[Operation]:
    """Every Operation of a pooling."""
    formula: types.ModuleType = importlib.import_module(f"{__package__}.pools.{name}")
    kind = getattr(formula, "operation", Operation)
    forms = [FORMS[f] if isinstance(f, str) else f for f in formula.forms]
    return [kind(name, formula, form, ndim) for form in forms for ndim in (1, 2, 3)]


@functools.cache
def functions(name: str) -> list[Function]:
    """Every public function of a pooling."""
    return [Function(o.where + "_backward" * backward, o, backward, arguments_of(o, backward))
            for o in operations(name) for backward in (False, True)]


def names(poolings: Sequence[str]) -> list[str]:
    """The names of all public functions."""
    return [f.name for pooling in poolings for f in functions(pooling)]


def find(name: str, poolings: Sequence[str]) -> Callable[..., Any]:
    """The public function of a name."""
    parts = re.fullmatch(r"(?:adaptive_|global_)?(\w+?)(?:_pool)?[123]d(?:_backward)?", name)
    if parts and parts[1] in poolings:
        for f in functions(parts[1]):
            if f.name == name:
                return f.make(__package__)
    raise AttributeError(f"module {__package__!r} has no attribute {name!r}")
