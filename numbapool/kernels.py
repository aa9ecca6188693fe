"""Kernels: the right loop stamped with a formula for a dtype; each is made once a process.

What a formula is (its file in pools/ holds these plain functions; `p` are its parameters, numbers before arrays):

fold    start() -> acc (a tuple of 1-4 numbers), step(acc, x, ref, *p) -> acc, stop(acc, ref, n, *p) -> y;
        the accumulators are sums: those of two parts of a window add up to those of the whole;
        optionally a first pass over the window, first_start() -> ref, first_step(ref, x, *p), first_stop(ref, n), and
        first_join(ref, ref) of two parts of a window (default: the larger);
        backward: dy/dx is a product of what a window hands out, terms(acc, ref, n, *p) -> one or two numbers, and what an element
        makes of them, spread(x, step(start(), x, ref, *p), terms, ref, *p) -> dy/dx, linear in the terms: those of all windows over x are
        summed (times their g) before;
        with a learnable parameter param_slope(acc, ref, n, *p) -> dy/dp, and start_backward/step_backward where that needs
        more accumulators.  With `elements = 2` x is followed by the element's logit, and spread returns two numbers.
        `recompute = False`: terms and spread need nothing of the elements.
        `common` (without it every window takes the exact loops): a reference for all windows in place of a first pass, for windows of
        which safe(acc, *p) says that it suits them (default: always); lift(x, *p) (backward with start_backward: lift_backward) in place of
        step(start(), x, common, *p) where an element may be out of its reach: there it is what makes no sum safe; near_spread in place of
        spread for elements in its reach.
select  better(v, best) -> bool, and worst(): what every element is better than, or as good; optionally best_between(a, b) and best_among(a, b, c),
        the chosen one of two, or of three in turn, where that takes less than asking `better`
vote    nothing: the most frequent element, see loops/cpu/vote.py
draw    chance(v) -> the weight of an element; or `by_rank = True` and drawn_rank(u, n, p) -> the rank drawn by u among n elements,
        and, for 2x2 windows, four_shares(p) -> four numbers: the rank is how many of the first three are below u times the last
order   weights on the host, weights_of(own, where, channels) and rank_weights(given, n), see loops/cpu/order.py; where they are learned
        rank_gradient(given, n, sums), and for devices portion(v, top) -> what is given for a rank counts before all are divided by their
        sum, top being the largest, and portion_slope(portion) -> its derivative, from itself
"""
from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from . import memory, numeric
from .loops.cpu import bundle, detail, direct, draw, eight, fold, nine, order, owned, planes, rows, select, separate, sweep, three, vote, whole
from .memory import CELLS, LANES
from .numeric import HALVES
from .stamp import plain, stamp

_stack = functools.cache(memory.stack)  # one for all kernels, so that what reads it is one, too


def _arities(names: dict[str, Any], parameters: int) -> tuple[int, int]:
    """How many accumulators a fold has, and how many terms its gradient: seen by running it once in plain Python."""
    one, p = np.float64(1), [np.float64(2)] * parameters
    elements = [one] * names.get("elements", 1)
    with np.errstate(all="ignore"):
        acc = names["step"](names["start"](), *elements, one, *p)
        whole = names["step_backward"](names["start_backward"](), *elements, one, *p) if "start_backward" in names else acc
        return len(acc), len(names["terms"](whole, one, one, *p))


NO_FIRST_PASS = dict(first_start=fold.no_first_start, first_step=fold.no_first_step, first_stop=fold.same)  # what a fold may leave out


@functools.cache
def fold_kernel(formula: types.ModuleType, backward: bool, dtype: str, numbers: int, arrays: int,
                options: tuple[tuple[str, str], ...] = ()) -> Callable[..., None]:
    """Forward or backward of a fold with so many number and array parameters; options name functions to put in place."""
    names = _names(formula, backward, options)
    accumulators, kept = _arities(names, numbers + arrays)
    two = names.get("elements", 1) == 2
    f = vars(fold)
    bound = dict(
        FIRST="first_step" in names, RECOMPUTE=names.get("recompute", True), LEARNS="param_slope" in names, PARAMETERS=arrays,
        get=f[f"get{accumulators}"], put=f[f"put{accumulators}"], plus=f[f"plus{accumulators}"],
        held=f[f"get{kept}"], hold=f[f"put{kept}"],
        numbers=f[f"numbers{numbers}"], lane_params=f[f"get{arrays}"], set_params=f[f"put{arrays}"],
        call_first=fold.first_two if two else fold.first_one, call_step=fold.step_two if two else fold.step_one,
        call_spread=fold.spread_two if two else fold.spread_one, times=vars(rows)[f"times{kept}"],
        tap2=_tap(dtype) if two else fold.no_tap, scatter2=rows.scatter if two else fold.no_scatter,
        open_plane2=rows.open_plane if two else fold.no_open, close_plane2=rows.close_plane if two else fold.no_close)
    names = {**NO_FIRST_PASS, **dict(first_join=numeric.larger, param_slope=fold.no_first_step), **names}
    used = ("start", "step", "stop", "terms", "spread", "param_slope", "first_start", "first_step", "first_stop", "first_join")
    return stamp("fold_backward" if backward else "fold_forward", [fold, formula], dtype,
                 bound | {k: names[k] for k in (*used, *(role for role, _ in options))})


def _names(formula: types.ModuleType, backward: bool, options: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """The functions of a fold's formula for a direction, with its options in place."""
    names = plain(formula)
    names |= {role: names[function] for role, function in options}
    if backward and "start_backward" in names:
        names |= dict(start=names["start_backward"], step=names["step_backward"])
        names |= dict(lift=names["lift_backward"]) if "lift_backward" in names else {}
    return names


def lifts(formula: types.ModuleType, backward: bool, numbers: int, arrays: int) -> tuple[int, int]:
    """How many components the rows of a fold's sweep have, and how many its rows of terms."""
    return _arities(_names(formula, backward, ()), numbers + arrays)


@functools.cache
def sweep_kernel(formula: types.ModuleType, backward: bool, dtype: str, numbers: int, arrays: int,
                 options: tuple[tuple[str, str], ...] = (), straight: bool = False) -> Callable[..., None]:
    """Forward or backward of a fold, in rows that windows share; straight: x lies in memory as rows of cells do."""
    names = _names(formula, backward, options)
    accumulators, terms = _arities(names, numbers + arrays)
    two, recompute = names.get("elements", 1) == 2, names.get("recompute", True)
    s, f = vars(sweep), vars(fold)
    plain_sum = not recompute
    lift = names.get("lift", sweep.as_it_is if plain_sum else sweep.lift_both if two else sweep.lift_from_start)
    bound = dict(
        ACCUMULATORS=accumulators, TERMS=terms, PARAMETERS=arrays, RECOMPUTE=recompute, LEARNS="param_slope" in names, BLOCKED=True,
        BORROW=plain_sum and straight and dtype not in HALVES, REFERENCE=np.dtype(numeric.real_name(dtype)).type(names["common"]),
        empty=sweep.nothing, safe=names.get("safe", sweep.always), finish=names["stop"], lift=lift,
        get_cell=s[f"cell{accumulators}"], lifted_cell=s[f"stored{accumulators}"], set_cell=s[f"set_cell{accumulators}"],
        sum_cell=s[f"cell{terms}"], scale_cell=s[f"scale_cell{terms}"],
        numbers=f[f"numbers{numbers}"], lane_params=s[f"cell{arrays}"], param_slope=names.get("param_slope", fold.no_first_step),
        lift_run=sweep.lift_two if two else sweep.lift_one, fetch_logit=sweep.fetch_second if two else sweep.no_logit,
        flat_logits=sweep.flat_second if two else sweep.no_logits,
        give_run=sweep.give_sums if plain_sum else sweep.give_two if two else sweep.give_one,
        open_second=sweep.open_logits if two else sweep.open_none, store_second=sweep.put_row if two else sweep.store_none)
    return stamp("sweep_backward" if backward else "sweep_forward", [sweep, formula], dtype,
                 bound | _near(names, options))


def _near(names: dict[str, Any], options: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """The functions of a fold's formula where elements stand in the reach of the common reference."""
    return {k: names[k] for k in ("start", "step", "terms", *(role for role, _ in options))} | {"spread": names.get("near_spread", names["spread"])}


def _tap(dtype: str) -> Callable[..., Any]:
    return rows.gather if dtype in HALVES else rows.gather_or_borrow


@functools.cache
def select_kernel(formula: types.ModuleType, dtype: str, indexed: bool, wide: bool, shape: str | None = None) -> Callable[..., None]:
    """Forward of a selecting pooling, with or without the indices; shape: "whole" with them, "quad", "nine", "short" or none."""
    if shape == "whole" and indexed:
        return stamp("whole_forward", [whole, formula], dtype, _tiles(dtype, "int64" if wide else "int32"))
    return stamp("select_forward", [select, formula], dtype, dict(INDEXED=indexed, **_cells(dtype, wide), **_choosing(shape)))


@functools.cache
def select_backward_kernel(formula: types.ModuleType, dtype: str, wide: bool, shape: str | None = None) -> Callable[..., None]:
    """Backward of a selecting pooling that finds the elements again; shape: also "own" (of "quad": windows write what they own), "separate"."""
    if shape == "whole":
        told = dict(opened=whole.elements_of, told_by=whole.choose_planes)
        return stamp("whole_backward", [whole, formula], dtype, _tiles(dtype, "int64" if wide else "int32") | told)
    if shape == "own":
        told = dict(opened=owned.elements_of, told_by=owned.rows_of, own_across=owned.chosen_across, own_pairs=owned.chosen_pairs,
                    own_lanes=owned.chosen_lanes, own_eights=owned.chosen_eights, own_eight_lanes=owned.chosen_eight_lanes,
                    behind_of=owned.plane_behind, lined=owned.line_elements, STEP=2)
        return stamp("owned_backward", [owned, formula], dtype, _owning(dtype) | told)
    if shape == "separate":
        return stamp("separate_backward", [separate, formula], dtype,
                     dict(place=np.int32, places=memory.pointer("int32"), flat_logits=sweep.no_logits))
    return stamp("select_backward", [select, formula], dtype, _cells(dtype, wide) | _choosing(shape))


def _owning(dtype: str) -> dict[str, Any]:
    """How the rows of a gradient are made whose elements belong to one window."""
    stored = numeric.storage_name(dtype)
    return dict(zero=direct.zero_one, BLANK=np.dtype(stored).type(0), bit_rows=_stack(stored, 2 * CELLS), raw_rows=_stack(stored, 3 * CELLS),
                wide_places=_stack("int64", 2 * CELLS))


def _tiles(dtype: str, place: str) -> dict[str, Any]:
    """The cells of a tile of planes."""
    return dict(place=np.dtype(place).type, tile_values=_stack(numeric.real_name(dtype), planes.SIZE), tile_places=_stack(place, planes.SIZE))


def _choosing(shape: str | None) -> dict[str, Any]:
    """How the elements of a row of windows are chosen."""
    found = vars(select)
    together = select.choose_quads if shape == "quad" else select.choose_each
    return {} if shape in (None, "whole") else dict(windows=found[f"{shape}_windows"], choose=found[f"choose_{shape}"], choose_rows=together)


def _cells(dtype: str, wide: bool) -> dict[str, Any]:
    """Rows of values and of places; places are of 32 bits but for planes of 2^31 elements, at twice the speed."""
    value, place = numeric.real_name(dtype), "int64" if wide else "int32"
    room = CELLS + 64  # to the end of a vector, of which loops look at twice as many where they part even and odd positions
    return dict(place=np.dtype(place).type, value_row=_stack(value, room), place_row=_stack(place, room),
                value_rows=_stack(value, 2 * CELLS), place_rows=_stack(place, 2 * CELLS),
                raw_rows=_stack(numeric.storage_name(dtype), 3 * CELLS), padded=_stack(value, 2 * select.SLOT),
                ring_values=_stack(value, 4 * select.SLOT), ring_places=_stack(place, 4 * select.SLOT), tags=_stack("int64", 5),
                wide_places=_stack("int64", 2 * CELLS), places=memory.pointer(place), PLACES=memory.tile_of(np.dtype(place).itemsize))


@functools.cache
def direct_kernel(formula: types.ModuleType, backward: bool, dtype: str, numbers: int, arrays: int, options: tuple[tuple[str, str], ...],
                  shape: str, channel: bool) -> Callable[..., None]:
    """Forward or backward of some windows; shape: "planes", "quad", "nine", "eight" or "three"; channel: the lanes are channels."""
    names, two = plain(formula), getattr(formula, "elements", 1) == 2
    s, t, f = vars(sweep), vars(direct), vars(fold)
    bound = dict(LOGITS=two, PITCH=CELLS // direct.BAND & -16, PIECE=CELLS // direct.BAND // 2 & -16, PARAMETERS=arrays, CHANNEL=channel,
                 numbers=f[f"numbers{numbers}"], lane_params=s[f"cell{arrays}"], logit_spot=direct.logit_at if two else direct.nowhere,
                 refer=direct.the_common, lift_at=direct.lift_x_and_logit if two else direct.lift_x, join_four=direct.by_columns)
    accumulators = terms = 1
    if formula.family == "select":
        bound |= dict(REFERENCE=np.dtype(numeric.real_name(dtype)).type(0), join=sweep.picked, join_all=direct.picked_all, empty=names["worst"],
                      join_three=names.get("best_among", direct.in_pairs), all_three=direct.picked_among,
                      join_four=direct.picked_by_columns,
                      lift=sweep.as_it_is, finish=sweep.only, safe=sweep.always)
    else:
        names = _names(formula, backward, options)
        accumulators, terms = _arities(names, numbers + arrays)
        lift = sweep.as_it_is if not names.get("recompute", True) else sweep.lift_both if two else sweep.lift_from_start
        bound |= dict(
            RECOMPUTE=names.get("recompute", True), REFERENCE=np.dtype(numeric.real_name(dtype)).type(names.get("common", 0)), join=sweep.join,
            join_all=f[f"plus{accumulators}"], join_three=direct.in_pairs, all_three=direct.all_in_turn,
            empty=sweep.nothing, lift=names.get("lift", lift), finish=names["stop"], safe=names.get("safe", sweep.always),
            times=t[f"times{terms}"], zero=direct.zero_two if two else direct.zero_one, put_row=t[f"put_row{2 if two else 1}"],
            spread_at=direct.spread_x_and_logit if two else direct.spread_x, put_gradient=t[f"put_gradient{2 if two else 1}"])
        learns = "param_slope" in names
        bound |= dict(keep_slope=direct.slope if learns else direct.no_slope, put_slopes=direct.put_all_slopes if learns else direct.put_no_slopes)
        bound |= dict(param_slope=names["param_slope"]) if learns else {}
        bound |= _near(names, options)
        if "common" not in names:
            bound |= dict(refer=direct.first_pass, lift_at=direct.lift_from, join_four=direct.in_turn)
            bound |= {k: names.get(k, f) for k, f in NO_FIRST_PASS.items()}
    bound |= dict(tags4=_stack("int64", 4)) if shape == "nine" and backward else {}
    if shape == "three":
        bound |= dict(
            ACCUMULATORS=accumulators, TERMS=terms * backward, COMPONENTS=max(accumulators, terms * backward),
            joined_row=three.joined_from_lifted if formula.family == "fold" and names.get("recompute", True) else three.joined_from_input,
            ITEM=np.dtype(numeric.real_name(dtype)).itemsize, plane_parameters=direct.plane_parameters, put_row1=direct.put_row1,
            cell=s[f"stored{accumulators}"],
            set_cell=s[f"set_cell{accumulators}"], scale_cell=s[f"scale_cell{terms}"], sums_of=vars(three)[f"sums{terms}"])
    if shape == "planes":
        recompute = names.get("recompute", True)
        bound |= dict(
            ACCUMULATORS=accumulators, RECOMPUTE=not backward or recompute, plane_parameters=direct.plane_parameters,
            tile_cells=_stack(numeric.real_name(dtype), accumulators * planes.SIZE),
            give_plane=planes.give_two if two else planes.give_one if recompute else planes.give_sum,
            cell=s[f"stored{accumulators}"], set_cell=s[f"set_cell{accumulators}"])
    loops = {"three": three, "planes": planes, "eight": eight, "nine": nine}.get(shape, direct)
    return stamp(f"{shape}_{'backward' if backward else 'forward'}", [loops, formula], dtype, bound)


@functools.cache
def choose_kernel(formula: types.ModuleType, dtype: str, straight: bool) -> Callable[..., None]:
    """Forward of a selecting pooling without indices, in rows that windows share."""
    bound = dict(
        ACCUMULATORS=1, PARAMETERS=0, BLOCKED=False, BORROW=straight and dtype not in HALVES, REFERENCE=np.dtype(numeric.real_name(dtype)).type(0),
        join=vars(formula).get("best_between", sweep.picked), empty=vars(formula)["worst"], safe=sweep.always, finish=sweep.only,
        lift=sweep.as_it_is, get_cell=sweep.cell1, set_cell=sweep.set_cell1, numbers=fold.numbers0, lane_params=sweep.cell0,
        lift_run=sweep.lift_one, fetch_logit=sweep.no_logit, flat_logits=sweep.no_logits)
    return stamp("sweep_forward", [sweep, formula], dtype, bound)


@functools.cache
def index_kernel(loop: str, dtype: str, merge: str = "add") -> Callable[..., None]:
    """scatter_index (merge: "add" or "replace") or gather_index: shared by every pooling with indices."""
    return stamp(loop, [select], dtype, dict(merge=vars(select)[merge]))


@functools.cache
def bundle_kernel() -> Callable[..., None]:
    """What brings small planes side by side for any other kernel: it moves bits of elements of 1, 2, 4 and 8 bytes."""
    bound = dict(words=memory.pointer("uint32"), long_words=memory.pointer("uint64"), half_words=memory.pointer("uint16"),
                 turn_tile=memory.turn_tile, call_kernel=memory.call_kernel)
    return stamp("bundle_planes", [bundle], "float32", bound)


@functools.cache
def owned_kernel(dtype: str, shape: str) -> Callable[..., None]:
    """scatter_index for windows side by side ("own") or whole planes ("whole") that indices name elements of; what names others is left undone."""
    if shape == "whole":
        return stamp("whole_backward", [whole], dtype, dict(opened=whole.indices_of, told_by=whole.read_places, **_tiles(dtype, "int64")))
    told = dict(opened=owned.indices_of, told_by=owned.index_row, own_across=owned.named_across, own_pairs=owned.named_pairs,
                own_lanes=owned.named_lanes, own_eights=owned.named_eights, own_eight_lanes=owned.named_eight_lanes,
                behind_of=owned.same_indices, lined=owned.line_indices, STEP=1)
    return stamp("owned_backward", [owned], dtype, _owning(dtype) | told)


@functools.cache
def vote_kernel(dtype: str, indexed: bool, few: bool) -> Callable[..., None]:
    """Forward of mode pooling, with or without the indices; few: the votes are counted, not sorted."""
    bound = dict(INDEXED=indexed, FEW=few, SHORT=False, tap_rows=_stack(numeric.real_name(dtype), vote.MOST_TAPS * LANES if few else 1))
    return stamp("vote_forward", [vote], dtype, bound)


@functools.cache
def draw_kernel(formula: types.ModuleType, backward: bool, dtype: str, indexed: bool, wide: bool, quad: bool, channel: bool) -> Callable[..., None]:
    """Forward of a drawing pooling, with or without the indices, or backward; quad: for 2x2 windows in one pass; channel: the lanes are channels."""
    work = numeric.real_name(dtype)
    bound = dict(INDEXED=indexed, LEAST=np.nextafter(np.dtype(work).type(0), np.dtype(work).type(1)), place=np.int64 if wide else np.int32,
                 places=_stack("int64" if wide else "int32", LANES))
    if quad:
        bound |= dict(one_of_four=draw.drawn_of_four, four_shares=draw.no_shares, numbers=fold.numbers0, **_quads(dtype, channel))
    else:
        bound |= dict(MOST_TAPS=order.MOST_TAPS, tap_lanes=_stack(work, order.MOST_TAPS * LANES))
    if getattr(formula, "by_rank", False):
        bound |= dict(draw=draw.draw_ranked, SHORT=False, numbers=fold.numbers1)
        bound |= dict(one_of_four=draw.ranked_of_four, four_shares=formula.four_shares) if quad else {}
    return stamp(f"draw_{'quad_' if quad else ''}{'backward' if backward else 'forward'}", [draw, formula], dtype, bound)


def _quads(dtype: str, channel: bool) -> dict[str, Any]:
    """What the loops over 2x2 windows in registers stand on."""
    return dict(CHANNEL=channel, STEP=1 if channel else 2, clear_rest=direct.clear_rest, zero=direct.zero_one,
                raw_block=_stack(numeric.storage_name(dtype), 4 * order.BLOCK))


@functools.cache
def order_kernel(backward: bool, dtype: str, few: bool, short: bool, learns: bool) -> Callable[..., None]:
    """Forward or backward of a pooling by rank; few: windows are sorted side by side; short: small enough for insertion."""
    bound = dict(SHORT=short, FEW=few, LEARNS=learns, tap_lanes=_stack(numeric.real_name(dtype), order.MOST_TAPS * LANES),
                 sum_lanes=_stack("float64", order.MOST_TAPS * LANES))
    return stamp("order_backward" if backward else "order_forward", [order], dtype, bound)


@functools.cache
def order_quad_kernel(backward: bool, dtype: str, channel: bool, learns: bool) -> Callable[..., None]:
    """Forward or backward of a pooling by rank for 2x2 windows in one pass; channel: the lanes are channels."""
    bound = dict(LEARNS=learns, tap_lanes=_stack(numeric.real_name(dtype), 4 * LANES), sum_lanes=_stack("float64", 4 * LANES),
                 **_quads(dtype, channel))
    return stamp("order_quad_backward" if backward else "order_quad_forward", [order], dtype, bound)


@functools.cache
def detail_kernel(backward: bool, dtype: str) -> Callable[..., None]:
    """Forward or backward of detail-preserving pooling; half types are converted before."""
    return stamp("detail_backward" if backward else "detail_forward", [detail], dtype, dict(eights=_stack(dtype, 8 * LANES)))
