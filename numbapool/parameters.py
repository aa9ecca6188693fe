"""The parameters of a pooling's own: what a file in pools/ declares, and how a value that a caller gives is checked."""
from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

REQUIRED = object()
SLIDING, ADAPTIVE, GLOBAL = "sliding", "adaptive", "global"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a pooling.

    kind : "flag" (a bool), "whole" (an int), "divisor" (an int but 0, or None), "number" or "positive" (a float for the whole call),
        "array" (a number, or an array that broadcasts to the output's shape; one dimension means one per channel),
        "option" (one of `choices`, each of which names functions to put in place of others), "logit" (an array of x's shape),
        "weights" (a vector of weights by rank, or one a channel), "kernel" (an array of the kernel's shape), "filters" (one a channel, or None),
        "samples" (uniforms of the output's shape) or "seed".
    default : where it is None, a "whole" or a "number" may be None.
    forms : the kinds of windows that have it; None: all.
    leading : whether it stands between x and the window's arguments.
    learnable : whether the backward pass returns its gradient.
    in_c : whether the C library has it.
    above, most : bounds of a number's values, or (above alone) of an array's: above them, and at most so much.
    shapes : of an "array", which shapes it may have: "number", "channel" (C,), "position" (the output's spatial shape),
        "channel_position" (C, and that).
    """

    name: str
    default: Any
    kind: str
    doc: str
    leading: bool = False
    learnable: bool = False
    in_c: bool = True
    above: float = -math.inf
    most: float = math.inf
    shapes: tuple[str, ...] = ("number", "channel")
    forms: tuple[str, ...] | None = None
    direction: str = "both"
    choices: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def hint(self) -> str:
        """The type hint of the public functions."""
        kinds = {"flag": "bool", "whole": "int", "divisor": "int", "number": "float", "positive": "float", "array": "float | Any",
                "option": "str", "logit": "Any", "weights": "Any", "kernel": "Any", "filters": "Any", "samples": "Any", "seed": "int",
                "indices": "Any"}
        return kinds[self.kind] + " | None" * (self.default is None and kinds[self.kind] != "Any")


IGNORE_NAN = Parameter("ignore_nan", False, "flag", "leave NaN out of windows, as numpy's nan functions do; y of a window that has nothing else is "
                       "NaN, a sum's 0")


def flag(value: Any, where: str) -> bool:
    """True or False, nothing else."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{where} must be True or False, got {value!r}")
    return bool(value)


def whole(value: Any, where: str) -> int:
    """An int; a bool or a float is a mistake."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{where} must be an int, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{where} must be an int, got {type(value).__name__}") from None


def divisor(value: Any, where: str) -> int | None:
    """A whole number but 0, or None."""
    if value is None:
        return None
    value = whole(value, where)
    if value == 0 or abs(value) >= 1 << 62:
        raise ValueError(f"{where} must be a whole number but 0 below 2**62, got {value}")
    return value


def number(value: Any, where: str, positive: bool = False) -> float:
    """A finite float, given as a number or a 0-d array."""
    if isinstance(value, bool | np.bool_ | str | bytes) or value is None:
        raise TypeError(f"{where} must be a number, got {value!r}")
    try:
        value = float(value) + 0.0  # -0.0 counts as 0.0: equal numbers are one remembered call
    except OverflowError:
        value = math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{where} must be a number, got {type(value).__name__}") from None
    if not math.isfinite(value) or (positive and value <= 0):
        raise ValueError(f"{where} must be {'positive and ' if positive else ''}finite, got {value}")
    return value


def option(value: Any, choices: Any, where: str) -> str:
    """One of the names in `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{where} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check(p: Parameter, value: Any, where: str) -> Any:
    """A value of a parameter, as far as it can be checked without the output's shape."""
    if value is None and p.default is None:
        return None
    if p.kind == "flag":
        return flag(value, where)
    if p.kind == "whole":
        return whole(value, where)
    if p.kind == "divisor":
        return divisor(value, where)
    if p.kind in ("number", "positive"):
        value = number(value, where, p.kind == "positive")
        if not p.above < value <= p.most:
            raise ValueError(f"{where} must be above {p.above:g} and at most {p.most:g}, got {value}")
        return value
    if p.kind == "option":
        return option(value, p.choices, where)
    return value
