"""Kernels for a GPU: the right loop with what a formula gives it; each is made once a process.  What a formula is stands in ../kernels.py."""
from __future__ import annotations

import functools
import types
from typing import NamedTuple

import numpy as np

from .. import numeric
from ..kernels import _arities, _names
from ..loops.cpu import detail, sweep
from ..loops.cpu import draw as cpu_draw
from ..loops.cpu import fold as cpu_fold
from ..loops.cpu import order as cpu_order
from ..loops.cuda import composed, fold, ground, layout, order, select
from .stamp import Kernel, recast

_from_bits = recast("int64", "float64")


def numbers0(f):
    """No number parameter."""
    return ()


def numbers1(f):
    """One."""
    return (real(from_bits64(f[NUMBER_1])),)


def numbers2(f):
    """Two."""
    return real(from_bits64(f[NUMBER_1])), real(from_bits64(f[NUMBER_2]))


real, from_bits64, NUMBER_1, NUMBER_2 = np.float64, _from_bits, layout.NUMBER_1, layout.NUMBER_2  # until `stamp` binds the dtype's


class Strip(NamedTuple):
    """Windows along the last axis of which a task takes several: kernel and stride, padding in front, whether outputs are a multiple of the lanes."""

    kernel: int
    stride: int
    left: int
    whole: bool


def bound_span(strip: Strip | None, lanes: int) -> int:
    """Elements of a row that the windows of a task cover, those that its vectors bring along included."""
    return max((lanes - 1) * strip.stride + strip.kernel, strip.left + lanes * strip.stride) if strip else 1


def _strip(strip: Strip | None, lanes: int) -> dict[str, object]:
    return {} if strip is None else dict(KERNEL=strip.kernel, STRIDE=strip.stride, LEFT=strip.left, WHOLE=strip.whole, SPAN=bound_span(strip, lanes))


@functools.cache
def fold_kernel(loop: str, formula: types.ModuleType, backward: bool, dtype: str, numbers: int, arrays: int, options: tuple[tuple[str, str], ...],
                lanes: int, channel: bool, wide: bool, *, uniform: bool = False, apart: bool = False, cut: bool = False,
                long: bool = False, strip: Strip | None = None) -> Kernel:
    """fold_forward, strip_forward, fold_terms, fold_gather or fold_parts of a formula.

    numbers, arrays : its parameters; options : (role, name of the function in its place); uniform : all windows have one divisor; apart : every
    window by the exact loops, array parameters may differ from output to output; cut : the folds come in parts; long : windows are summed row by row.
    """
    names = _names(formula, backward, options)
    accumulators, terms = _arities(names, numbers + arrays)
    two, recompute = names.get("elements", 1) == 2, names.get("recompute", True)
    f, kind = vars(cpu_fold), "two" if two else "one"
    lift = names.get("lift", sweep.as_it_is if not recompute else sweep.lift_both if two else sweep.lift_from_start)
    work = np.dtype(numeric.real_name(dtype)).type
    defaults = dict(first_start=cpu_fold.no_first_start, first_step=cpu_fold.no_first_step, first_stop=cpu_fold.same,
                    param_slope=cpu_fold.no_first_step, safe=sweep.always, near_spread=names["spread"])
    names = {**defaults, **names}
    used = ("start", "step", "stop", "terms", "spread", "near_spread", "param_slope", "safe", "first_start", "first_step", "first_stop")
    bound = {k: names[k] for k in (*used, *(role for role, _ in options))} | dict(
        lift=lift, empty=nothing[accumulators], REFERENCE=work(names.get("common", 0)), FIRST="first_step" in _names(formula, backward, options),
        RECOMPUTE=recompute, PLAIN=not recompute, LEARNS="param_slope" in _names(formula, backward, options), APART=apart, CUT=cut, ROWS=long,
        UNIFORM=uniform, PER_PLANE=False, PARAMETERS=arrays, TERMS=terms, ACCUMULATORS=accumulators,
        get=f[f"get{accumulators}"], put=f[f"put{accumulators}"], plus=f[f"plus{accumulators}"], held=f[f"get{terms}"], hold=f[f"put{terms}"],
        numbers=globals()[f"numbers{numbers}"], lane_params=f[f"get{arrays}"],
        lifted=getattr(fold, f"lifted_{kind}"), surveyed=getattr(fold, f"surveyed_{kind}"), stepped=getattr(fold, f"stepped_{kind}"),
        spread_one=fold.spread_one_two if two else fold.spread_one_x, spread_all=fold.spread_all_two if two else fold.spread_all_x,
        own_parameters=getattr(ground, f"parameters{arrays}"), load2=ground.load if two else ground.no_load,
        take_span2=ground.take_span if two else ground.no_span,
        take2=ground.take if two else ground.nothing, give2=ground.give if two else ground.nothing)
    sizes = dict(accumulators=accumulators, term_lanes=terms, parameter_lanes=arrays)
    return Kernel(loop, (fold, formula), dtype, bound | _strip(strip, lanes), lanes, channel, wide, sizes=sizes, span=bound_span(strip, lanes))


def empty1():
    """An empty sum of one number."""
    return (real(0),)


def empty2():
    """Of two."""
    return real(0), real(0)


def empty3():
    """Of three."""
    return real(0), real(0), real(0)


def empty4():
    """Of four."""
    return real(0), real(0), real(0), real(0)


nothing = {1: empty1, 2: empty2, 3: empty3, 4: empty4}


@functools.cache
def select_kernel(loop: str, formula: types.ModuleType, dtype: str, lanes: int, channel: bool, wide: bool, *, values: bool, indexed: bool,
                  long_index: bool = True, per_plane: bool = False, cut: bool = False, strip: Strip | None = None) -> Kernel:
    """select_forward, strip_select or select_parts; values, indexed : what is wanted; per_plane : windows differ from plane to plane."""
    bound = dict(better=formula.better, worst=formula.worst, VALUES=values, INDEXED=indexed, PER_PLANE=per_plane, CUT=cut)
    return Kernel(loop, (select, formula), dtype, bound | _strip(strip, lanes), lanes, channel, wide, long_index, span=bound_span(strip, lanes))


@functools.cache
def index_kernel(loop: str, dtype: str, lanes: int, channel: bool, wide: bool, *, long_index: bool, adding: bool = True) -> Kernel:
    """index_gather, index_scatter (adding: contributions to one element add up, else the last stays) or index_read."""
    return Kernel(loop, (select,), dtype, dict(ADDING=adding, PER_PLANE=False), lanes, channel, wide, long_index)


@functools.cache
def vote_kernel(dtype: str, channel: bool, wide: bool, *, values: bool, indexed: bool, long_index: bool) -> Kernel:
    """vote_forward."""
    bound = dict(VALUES=values, INDEXED=indexed, PER_PLANE=False)
    return Kernel("vote_forward", (select,), dtype, bound, 1, channel, wide, long_index)


@functools.cache
def draw_kernel(formula: types.ModuleType, dtype: str, channel: bool, wide: bool, *, values: bool, indexed: bool, long_index: bool,
                sampled: bool) -> Kernel:
    """draw_forward, or draw_ranked."""
    work = np.dtype(numeric.real_name(dtype)).type
    bound = dict(fraction=cpu_draw.fraction, VALUES=values, INDEXED=indexed, SAMPLED=sampled, PER_PLANE=False)
    if getattr(formula, "by_rank", False):
        bound |= dict(drawn_rank=formula.drawn_rank, above=cpu_order.above, rank_of=order.rank_of, numbers=numbers1)
        return Kernel("draw_ranked", (select, formula), dtype, bound, 1, channel, wide, long_index)
    bound |= dict(chance=formula.chance, threshold=cpu_draw.threshold, LEAST=np.nextafter(work(0), work(1)))
    return Kernel("draw_forward", (select, formula), dtype, bound, 1, channel, wide, long_index)


@functools.cache
def order_kernel(loop: str, dtype: str, channel: bool, wide: bool) -> Kernel:
    """order_forward, order_gather, order_sums or order_totals."""
    return Kernel(loop, (order,), dtype, dict(above=cpu_order.above, PER_PLANE=False), 1, channel, wide)


@functools.cache
def rank_kernel(loop: str, formula: types.ModuleType, dtype: str) -> Kernel:
    """order_weights or order_learn."""
    return Kernel(loop, (order, formula), dtype, dict(portion=formula.portion, portion_slope=formula.portion_slope, PER_PLANE=False))


@functools.cache
def composed_kernel(loop: str, dtype: str, channel: bool, wide: bool) -> Kernel:
    """A loop of composed poolings."""
    return Kernel(loop, (composed,), dtype, dict(LEAST=detail.LEAST, PER_PLANE=False), 1, channel, wide)
