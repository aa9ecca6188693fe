"""Every pooling with autograd on torch tensors: the functions of numbapool, with its names and arguments.

numbapool.torch.functional.soft_pool2d(x, 2) is numbapool.soft_pool2d(x, 2) that autograd, torch.compile, torch.func and autocast see.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .. import arrays, pairs
from ..call import view_of
from ..prepared import Source
from .operators import Forward, plain
from .pooling import Pooling


def names() -> list[str]:
    """The names of all functions."""
    return list(pairs.functions())


@functools.cache
def pooling(name: str) -> Pooling:
    """What stands behind a function."""
    return Pooling(*pairs.functions()[name])


@functools.cache
def _operator(name: str, indexed: bool) -> Forward:
    return Forward(pooling(name), indexed)


def operator(name: str, indexed: bool = False) -> Forward:
    """Its operator, which has the arguments of both directions by place; with indices."""
    return _operator(name, indexed)


def call(p: Pooling, x: torch.Tensor, values: tuple, indexed: bool = False) -> Any:
    """What a function does with its arguments."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{p.name}: x must be a torch tensor, got {type(x).__name__}; numbapool.{p.name} takes other arrays")
    if p.planes and x.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(x.device.type):
        x, values = p.promoted(x, values)
    if p.seed is not None:
        values = p.drawn(values, tensor=not plain((x,)))
    return operator(p.name, indexed)(x, *values)


def make(name: str) -> Callable[..., Any]:
    """The function of a name."""
    p = pooling(name)
    values = f"({', '.join(p.names)},)"
    if p.extras:
        body = f"return _drawn(x, {values}, {p.extras}, {'return_indices' if p.indexed else False})"
    else:
        body = f"return _call(x, {values}{', return_indices' if p.indexed else ''})"
    scope = dict(_call=functools.partial(call, p), _drawn=functools.partial(with_windows, p), Any=Any, Sequence=Sequence, __name__=__name__)
    exec(compile(f"def {name}({p.signature}) -> Any:\n    {body}\n", f"<{__name__}.{name}>", "exec", dont_inherit=True), scope)  # noqa: S102
    function = scope[name]
    from .words import docstring
    function.__doc__ = docstring(p)
    return torch.compiler.allow_in_graph(function)


def with_windows(p: Pooling, x: torch.Tensor, values: tuple, wanted: bool, indexed: bool) -> Any:
    """A pooling of drawn windows, which are drawn first where they are wanted."""
    if not wanted:
        return call(p, x, values, indexed)
    given = dict(zip(p.names, p.drawn(values, False), strict=True))
    if not plain((x,)):
        raise NotImplementedError(f"{p.name}: {p.extras} needs numbers, and this tensor is traced or transformed; draw the windows outside")
    if given.get("training") is False:
        raise ValueError(f"{p.name}: there are no drawn positions outside training")
    view = view_of(Source(0), tuple(x.shape), x.stride(), p.ndim, given["channels_last"], f"{p.name}: x")
    _, drawn = p.operation.form.arrange(view, arrays.borrow(x.detach(), p.name), tuple(given[n] for n in p.operation.window), p.name, p.ndim)
    if not drawn:
        raise ValueError(f"{p.name}: {p.extras} does not go with kernel_size")
    windows = tuple(map(torch.from_numpy, drawn))
    given |= {p.extras.removeprefix("return_"): windows, "seed": None}
    result = call(p, x, tuple(given.values()), indexed)
    return (*(result if indexed else (result,)), windows)


__getattr__, __dir__ = pairs.when_asked(globals(), make)
