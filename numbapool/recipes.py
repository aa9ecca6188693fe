"""How to call each pooling on a picture: what it needs besides the window.

A pooling without a recipe is called with what the example of its docstring gives it, so a new one takes part from its first day.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

import numbapool

from . import publish

Arguments = dict[str, Any]


def contrast(x: np.ndarray) -> np.ndarray:
    """LIP's logits without a network: how far a place of (N, C, H, W) is from the mean of its 5x5 neighbours, in all channels."""
    mean = numbapool.avg_pool2d(x, 5, 1, "same", count_include_pad=False)
    return np.repeat(12 * np.abs(x - mean).mean(1, keepdims=True), x.shape[1], 1).astype(x.dtype)


def _fractional(x: np.ndarray, kernel: int) -> Arguments:
    """Graham's windows; 1.8 in place of 2, since at a whole ratio nothing would be random."""
    return {"pooling_ratio": max(0.9 * kernel, 1.0), "pseudo_random": True}


RECIPES: dict[str, Callable[[np.ndarray, int], Arguments]] = {
    "lp": lambda x, kernel: {"norm_type": 2.0, "norm": "mean"},  # the sum would leave [0, 1]
    "lip": lambda x, kernel: {"logit": contrast(x), "stride": None, "padding": 0},
    "sort": lambda x, kernel: {"weight": np.linspace(1.0, -1.0, kernel * kernel)},
    "ordinal": lambda x, kernel: {"weight": np.linspace(1.0, 0.0, kernel * kernel + 1)[:-1]},
    "rank": lambda x, kernel: {"t": (kernel * kernel + 1) // 2},
    "lse": lambda x, kernel: {"r": 10.0},
    "auto": lambda x, kernel: {"alpha": -4.0},
    "blur": lambda x, kernel: {"filter_size": 2 * kernel, "stride": kernel},
    "max_blur": lambda x, kernel: {"kernel_size": kernel, "filter_size": 2 * kernel, "stride": kernel},
    "gated": lambda x, kernel: {"omega": np.full((kernel, kernel), 1 / kernel**2)},
    "fractional_max": _fractional,
    "fractional_avg": _fractional,
}
NOTES = {  # what a reader should know besides the kernel's size
    "lp": "p = 2, mean", "gem": "p = 3", "lse": "r = 10", "soft": "T = 1", "swap": "forward as soft", "auto": "α = −4", "lip": "by contrast",
    "sort": "by rank", "ordinal": "falling weights", "rank": "largest half", "mixed": "a = 0.5", "gated": "ω = 1 / n", "ada": "β = 0.5",
    "dpp": "lite", "stochastic": "drawn", "s3": "drawn",
    "fractional_max": "÷ 1.8", "fractional_avg": "÷ 1.8", "max_unpool": "of max",
}


def function_name(name: str) -> str:
    """A pooling's function in 2d."""
    return f"{name}_pool2d" if hasattr(numbapool, f"{name}_pool2d") else f"{name}2d"


def keeps_integers(name: str) -> bool:
    """Whether integers stay what they are."""
    return publish.operations(name)[0].integers


def recipe(name: str, x: np.ndarray, kernel: int, **window: Any) -> tuple[np.ndarray, Arguments]:
    """What is pooled and, by name, every other argument; `window` (stride, padding, seed) goes before the recipe's own.

    x : (N, C, H, W), in [0, 1] where it is floating.  Only max unpooling pools something else: the maxima of x.
    """
    unknown = [a for a in window if a not in _signature(name)]
    if unknown:
        raise ValueError(f"{function_name(name)} takes no {unknown[0]}")
    if name == "max_unpool":
        maxima, indices = numbapool.max_pool2d(x, kernel, return_indices=True, **window)
        return maxima, {"kernel_size": kernel, "indices": indices, "output_size": x.shape[2:], **window}
    own = RECIPES[name](x, kernel) if name in RECIPES else _example(name, x)
    if "kernel_size" in _signature(name) and "pooling_ratio" not in own:
        own["kernel_size"] = kernel
    if "seed" in _signature(name):
        own["seed"] = 0
    return x, own | window


def _signature(name: str) -> Any:
    return inspect.signature(getattr(numbapool, function_name(name))).parameters


def _example(name: str, x: np.ndarray) -> Arguments:
    """The arguments in the example of a docstring, of those that have no default."""
    texts: dict[str, str] = getattr(publish.operations(name)[0].formula, "example", {})
    needed = [a for a, p in _signature(name).items() if p.default is p.empty and a in texts]
    return {a: eval(texts[a], {"np": np, "x": x}) for a in needed}  # noqa: S307 - this library's own text
