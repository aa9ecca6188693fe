"""Second derivatives: what autograd does with a backward pass that is differentiated again.

Backward passes of averages and choices are linear in the gradient, and their derivative is a forward pass.  For the smooth poolings
the composition of averages and softmax-weighted means that defines them is differentiated twice; for the latter (LIP) the
directional derivative is one of such means again: y' = L(x') + L(l' x) - L(x) L(l') with L the mean by the logits' weights.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from . import functional
from .pooling import Pooling

Given = dict[str, Any]


def derivatives(pooling: Pooling, cotangents: tuple, grad: torch.Tensor, x: torch.Tensor, given: Given, indices: torch.Tensor | None) -> tuple:
    """The gradients of grad, x, and all that learns; None where they are 0."""
    formula = pooling.operation.formula
    name = formula.__name__.rpartition(".")[2]
    learned = tuple(given[n] for n in pooling.learns)
    if pooling.indexed and given.get("training", True):
        return chosen(pooling, cotangents[0], x, given, indices), None, *(None for _ in learned)
    if name in ("avg", "sum", "fractional_avg", "max_unpool", "blur"):
        return linear(pooling, cotangents[0], x, given), None, *(None for _ in learned)
    if name == "lip":
        return of_lip(pooling, cotangents, grad, x, given)
    # a parameter that is a number takes part as a tensor, along which nobody moves
    learned = tuple(v if isinstance(v, torch.Tensor) else x.new_tensor(v) for v in learned)
    given_for = zip(cotangents[1:], learned, strict=True)
    cotangents = (cotangents[0], *(torch.zeros_like(v) if c is None or c.shape != v.shape else c for c, v in given_for))
    if name == "lse":
        return of_lse(pooling, cotangents, grad, x, *learned, given)
    if name not in COMPOSED or given.get("gradient", "exact") != "exact" or given.get("ignore_nan"):
        raise NotImplementedError(f"{pooling.name} has no second derivatives" + (" of this gradient" if name in COMPOSED else ""))

    def first(grad: torch.Tensor, *inputs: torch.Tensor) -> tuple:
        return torch.func.vjp(lambda *inputs: COMPOSED[name](pooling, given, *inputs), *inputs)[1](grad)
    return torch.func.vjp(first, grad, x, *learned)[1](tuple(cotangents))


def linear(pooling: Pooling, v: torch.Tensor, x: torch.Tensor, given: Given) -> torch.Tensor:
    """The pooling of v; where NaN is left out, of its elements where x is none."""
    if not given.get("ignore_nan"):
        return functional.operator(pooling.name)(v, *given.values())
    y = functional.operator(pooling.name)(torch.where(x.isnan(), x, v), *given.values())
    return torch.where(y.isnan(), torch.zeros_like(y), y)  # of a window of NaNs


def chosen(pooling: Pooling, v: torch.Tensor, x: torch.Tensor, given: Given, indices: torch.Tensor | None) -> torch.Tensor:
    """The elements of v where y's elements come from."""
    if indices is None:
        _, indices = functional.operator(pooling.name, indexed=True)(x, *given.values())
    if given["channels_last"]:
        v, indices = v.movedim(-1, -1 - pooling.ndim), indices.movedim(-1, -1 - pooling.ndim)
    found = v.flatten(-pooling.ndim).gather(-1, indices.flatten(-pooling.ndim)).view(indices.shape)
    return found.movedim(-1 - pooling.ndim, -1) if given["channels_last"] else found


def over_windows(pooling: Pooling, given: Given, other: str, x: torch.Tensor, *leading: torch.Tensor, **own: Any) -> torch.Tensor:
    """Another pooling over the same windows."""
    sibling = functional.operator(f"{pooling.operation.form.prefix}{other}_pool{pooling.ndim}d")
    own |= dict(zip(sibling.pooling.names, leading, strict=False))
    shared = {*pooling.operation.window, "channels_last"}
    return sibling(x, *(own[a.name] if a.name in own else given[a.name] if a.name in shared else a.default for a in sibling.pooling.arguments))


def of_lip(pooling: Pooling, cotangents: tuple, grad: torch.Tensor, x: torch.Tensor, given: Given) -> tuple:
    """LIP's, from its directional derivative along the cotangents."""
    vx, vl = cotangents

    def along(x: torch.Tensor, logit: torch.Tensor) -> torch.Tensor:
        def mean(t: torch.Tensor) -> torch.Tensor:
            return over_windows(pooling, given, "lip", t, logit)
        return mean(vx) + mean(vl * x) - mean(x) * mean(vl)
    value, pull = torch.func.vjp(along, x, given["logit"])
    return value, *pull(grad)


def of_lse(pooling: Pooling, cotangents: tuple, grad: torch.Tensor, x: torch.Tensor, r: torch.Tensor, given: Given) -> tuple:
    """Log-sum-exp's, likewise: with L the mean by the weights softmax(r x), y' = L(x') + r' (L(x) - y) / r."""
    vx, vr = cotangents

    def along(x: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        wide = per_output(pooling, given, x, r)

        def mean(t: torch.Tensor) -> torch.Tensor:
            return over_windows(pooling, given, "lip", t, wide * x)
        y = functional.operator(pooling.name)(x, *({**given, "r": r}).values())
        return mean(vx) + per_output(pooling, given, x, vr) * (mean(x) - y) / wide
    value, pull = torch.func.vjp(along, x, r)
    return value, *pull(grad)


# ---------------------------------------------------------------- what defines the smooth poolings

def average(pooling: Pooling, given: Given, x: torch.Tensor) -> torch.Tensor:
    """The mean of the elements inside the input."""
    return over_windows(pooling, given, "avg", x, count_include_pad=False)


def soft(pooling: Pooling, given: Given, x: torch.Tensor) -> torch.Tensor:
    """The mean of x by the weights softmax(x / T)."""
    return over_windows(pooling, given, "lip", x, x / given.get("temperature", 1.0))


def lp(pooling: Pooling, given: Given, x: torch.Tensor) -> torch.Tensor:
    """By the mean of powers; of x by its largest element, so that these are in range."""
    p, scale = given["norm_type"], x.detach().abs().amax().clamp_min(torch.finfo(x.dtype).tiny)
    there = x != 0
    mean = average(pooling, given, torch.where(there, (x / scale).abs(), 1.0) ** p * there)
    if given["norm"] == "sum":
        mean = mean * over_windows(pooling, given, "lp", torch.ones_like(x), norm_type=1.0, norm="sum")
    return scale * torch.where(mean == 0, 0.0, torch.where(mean == 0, 1.0, mean) ** (1 / p))


def gem(pooling: Pooling, given: Given, x: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """By the mean of powers."""
    wide = per_output(pooling, given, x, p)
    return average(pooling, given, x.clamp_min(given["eps"]) ** wide) ** (1 / wide)


def per_output(pooling: Pooling, given: Given, x: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """A parameter as it broadcasts over (N, C, ...) or (N, ..., C)."""
    p = p.to(x.dtype)
    if p.dim() == 0:
        return p
    if p.dim() == 1:
        return p if given["channels_last"] else p.reshape(-1, *(1,) * pooling.ndim)
    return p.movedim(0, -1) if given["channels_last"] else p


def auto(pooling: Pooling, given: Given, x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The mean of x by the weights softmax(alpha x)."""
    return over_windows(pooling, given, "lip", x, per_output(pooling, given, x, alpha) * x)


def std(pooling: Pooling, given: Given, x: torch.Tensor) -> torch.Tensor:
    """By the means of x and of its squares, about the mean of all."""
    z = x - x.detach().mean()
    count = over_windows(pooling, given, "sum", torch.ones_like(x.detach()))
    squares = (average(pooling, given, z * z) - average(pooling, given, z) ** 2) * (count / (count - given["correction"]))
    return torch.where(squares == 0, 0.0, torch.where(squares == 0, 1.0, squares).sqrt())


def mixed(pooling: Pooling, given: Given, x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """Between maximum and mean."""
    a = per_output(pooling, given, x, a)
    return a * over_windows(pooling, given, "max", x) + (1 - a) * average(pooling, given, x)


def stochastic(pooling: Pooling, given: Given, x: torch.Tensor) -> torch.Tensor:
    """Outside training: the mean of x by itself."""
    a = x.clamp_min(0)
    sums, squares = average(pooling, given, a), average(pooling, given, a * a)
    return torch.where(sums == 0, 0.0, squares / torch.where(sums == 0, 1.0, sums))


COMPOSED: dict[str, Callable[..., torch.Tensor]] = {"soft": soft, "swap": soft, "lp": lp, "gem": gem, "auto": auto, "mixed": mixed, "std": std,
                                                   "stochastic": stochastic}
