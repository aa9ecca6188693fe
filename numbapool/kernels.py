"""Kernels: the right loop stamped with a formula for a dtype; each is made once a process.

What a formula is (its file in pools/ holds these plain functions; `p` are its parameters, numbers before arrays):

fold    start() -> acc (a tuple of 1-4 numbers), step(acc, x, ref, *p) -> acc, stop(acc, ref, n, *p) -> y;
        the accumulators are sums: those of two parts of a window add up to those of the whole;
        optionally a first pass over the window, first_start() -> ref, first_step(ref, x, *p), first_stop(ref), and
        first_join(ref, ref) of two parts of a window (default: the larger);
        backward: keep(acc, ref, n, *p) -> what slope needs (default: y), slope(x, kept, ref, n, *p) -> dy/dx;
        with a learnable parameter param_slope(acc, ref, n, *p) -> dy/dp, and start_backward/step_backward where that needs
        more accumulators.  With `elements = 2` x is followed by the element's logit, and slope returns two numbers.
        `recompute = False`: slope needs nothing of the window.
select  better(v, best) -> bool
draw    chance(v) -> the weight of an element
order   weights on the host, see loops/cpu/order.py
"""
from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from . import numeric
from .loops.cpu import draw, fold, order, rows, select
from .numeric import HALVES
from .stamp import plain, stamp


def _arities(names: dict[str, Any], parameters: int) -> tuple[int, int]:
    """How many accumulators a fold has, and how many numbers its slope needs: seen by running it once in plain Python."""
    one, p = np.float64(1), [np.float64(2)] * parameters
    elements = [one] * names.get("elements", 1)
    with np.errstate(all="ignore"):
        acc = names["step"](names["start"](), *elements, one, *p)
        kept = names["keep"](acc, one, one, *p) if "keep" in names else (one,)
    return len(acc), len(kept)


def _keep_y(acc, ref, n, *p):
    """What a slope needs by default: the window's y."""
    return (stop(acc, ref, n, *p),)  # noqa: F821


@functools.cache
def fold_kernel(formula: types.ModuleType, backward: bool, dtype: str, numbers: int, arrays: int,
                options: tuple[tuple[str, str], ...] = ()) -> Callable[..., None]:
    """Forward or backward of a fold with so many number and array parameters; options name functions to put in place."""
    names = plain(formula)
    names |= {role: names[function] for role, function in options}
    if backward and "start_backward" in names:
        names |= dict(start=names["start_backward"], step=names["step_backward"])
    accumulators, kept = _arities(names, numbers + arrays)
    two = names.get("elements", 1) == 2
    f = vars(fold)
    bound = dict(
        FIRST="first_step" in names, RECOMPUTE=names.get("recompute", True), LEARNS="param_slope" in names, PARAMETERS=arrays,
        get=f[f"get{accumulators}"], put=f[f"put{accumulators}"], plus=f[f"plus{accumulators}"],
        held=f[f"get{kept}"], hold=f[f"put{kept}"],
        numbers=f[f"numbers{numbers}"], lane_params=f[f"get{arrays}"], set_params=f[f"put{arrays}"],
        call_first=fold.first_two if two else fold.first_one, call_step=fold.step_two if two else fold.step_one,
        call_slope=fold.slope_two if two else fold.slope_one,
        tap2=_tap(dtype) if two else fold.no_tap, scatter2=rows.scatter if two else fold.no_scatter,
        open_plane2=rows.open_plane if two else fold.no_open, close_plane2=rows.close_plane if two else fold.no_close)
    defaults = dict(first_start=fold.no_first_start, first_step=fold.no_first_step, first_stop=fold.same, first_join=numeric.larger, keep=_keep_y,
                    param_slope=fold.no_first_step)
    names = {**defaults, **names}
    used = ("start", "step", "stop", "keep", "slope", "param_slope", "first_start", "first_step", "first_stop", "first_join")
    return stamp("fold_backward" if backward else "fold_forward", [fold, formula], dtype,
                 bound | {k: names[k] for k in (*used, *(role for role, _ in options))})


def _tap(dtype: str) -> Callable[..., Any]:
    return rows.gather if dtype in HALVES else rows.gather_or_borrow


@functools.cache
def select_kernel(formula: types.ModuleType, dtype: str, indexed: bool) -> Callable[..., None]:
    """Forward of a selecting pooling, with or without the indices."""
    return stamp("select_forward", [select, formula], dtype, dict(INDEXED=indexed))


@functools.cache
def index_kernel(loop: str, dtype: str, merge: str = "add") -> Callable[..., None]:
    """scatter_index (merge: "add" or "replace") or gather_index: shared by every pooling with indices."""
    return stamp(loop, [select], dtype, dict(merge=vars(select)[merge]))


@functools.cache
def draw_kernel(formula: types.ModuleType, dtype: str, indexed: bool) -> Callable[..., None]:
    """Forward of a drawing pooling, with or without the indices."""
    return stamp("draw_forward", [draw, formula], dtype, dict(INDEXED=indexed))


@functools.cache
def order_kernel(backward: bool, dtype: str, short: bool, learns: bool) -> Callable[..., None]:
    """Forward or backward of a pooling by rank; short: windows are small enough for insertion."""
    return stamp("order_backward" if backward else "order_forward", [order], dtype,
                 dict(SHORT=short, LEARNS=learns))
