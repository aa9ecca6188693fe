"""Owned: the gradient of chosen elements where 2x2 windows lie side by side and so own their elements, each of which is written once.

The elements are chosen again, or indices name them; a plane with an index that lies outside of its window is left to select.py's loop, which puts
gradients anywhere.  Nothing is cleared before or added up.
Measured on float32 (8, 64, 112, 112) with indices, one thread: 3.1 ms in select.py's loop, MEASURED here.

Legend: see rows.py and select.py.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .direct import clear_rest
from .rows import *  # noqa: F403
from .short import *  # noqa: F403
from .sweep import runs_of

CALLED = ("own_across", "own_lanes", "places_across", "places_of_lanes")


def own_across(top, bottom, grad, where, column, here, right, below, corner, n):
    """Two rows of the gradient: g where the chosen element is, else 0."""
    for j in range(n):
        g, q, c = load(grad, j), where[j], column[j]
        top[2 * j] = g if q == narrow_add(here, c) else real(0)
        top[2 * j + 1] = g if q == narrow_add(right, c) else real(0)
        bottom[2 * j] = g if q == narrow_add(below, c) else real(0)
        bottom[2 * j + 1] = g if q == narrow_add(corner, c) else real(0)


def own_lanes(top, bottom, grad, where, here, right, below, corner, n):
    """The same for one window of n lanes: its elements follow one another by n."""
    for j in range(n):
        g, q = load(grad, j), where[j]
        top[j] = g if q == here else real(0)
        top[n + j] = g if q == right else real(0)
        bottom[j] = g if q == below else real(0)
        bottom[n + j] = g if q == corner else real(0)


def give_quads(f, gx, grad, n, g, od, oh, chunk, each, column, where, top, bottom, raw):
    """The gradient's rows of a chunk of 2x2 windows."""
    m, at, s = f[chunk + C_LANES], spot(f, Y, n, g, od, oh, f[chunk + C_OUT]), lane_step(f, Y)
    here = (od * f[H] + 2 * oh) * f[W] + f[chunk + C_START]
    for i in range(m if each > 1 else 1):
        run, row = each if each > 1 else m, shift(grad, at + i * row_step(f, Y))
        if s != 1:
            for j in range(run):
                raw[j] = row[j * s]
            row = raw
        a, b = place(here + 2 * i), place(here + 2 * i + f[W])
        if each == 1:
            own_across(top, bottom, row, where, column, a, place(a + 1), b, place(b + 1), m)
        else:
            own_lanes(shift(top, 2 * i * each), shift(bottom, 2 * i * each), row, shift(where, i * each), a, place(a + 1), b, place(b + 1), each)
    runs, run, apart, s = runs_of(f, GRAD_X, 2 * m, each)
    for i in range(runs):
        to = spot(f, GRAD_X, n, g, od, 2 * oh, f[chunk + C_START] + i)
        put_cells(shift(gx, to), shift(top, i * run), run, f[PAST_CACHE], raw)
        put_cells(shift(gx, to + f[RECORDS + RECORD * GRAD_X + 3]), shift(bottom, i * run), run, f[PAST_CACHE], raw)


def quad_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of gx for 2x2 windows side by side, which own their elements: each is written once."""
    f, a = integers(plan), integers(data)
    x, grad, gx, raw = elements(a[X]), elements(a[Y]), elements(a[GRAD_X]), raw_rows()
    s = (value_row(), place_row(), value_row(), place_row(), value_row(), place_row(), place_row(), place_row(), place_row())
    best, where, top, bottom = value_rows(), place_rows(), value_rows(), value_rows()
    for plane in range(lo, hi):
        n, g = plane // f[G], plane % f[G]
        each = lanes_of(f, g)
        for r in range(f[OD] * f[OH]):
            od, oh = r // f[OH], r % f[OH]
            for c in range(f[CHUNKS]):
                chunk = f[CHUNK_TABLE] + CHUNK * c
                if r == 0 or f[CHUNKS] > 1:
                    windows(f, n, g, chunk, each, s)
                choose(f, x, n, g, od, oh, chunk, each, s, best, where)
                give_quads(f, gx, grad, n, g, od, oh, chunk, each, s[8], where, top, bottom, raw)
            clear_rest(f, gx, gx, n, g, od, oh, each)
    if f[PAST_CACHE]:
        settle()


# ---------------------------------------------------------------- by indices

def places_across(where, index, first, below, n):
    """The places that the indices of n windows side by side name; whether each is one of its window's four, the first of which is first + 2 j."""
    fine = True
    for j in range(n):
        i = index[j]
        k = i - first - 2 * j
        k = k - below if k >= below else k
        fine &= (k >> 1) == 0
        where[j] = place(i)
    return fine


def places_of_lanes(where, index, first, below, n):
    """The same for n lanes of one window."""
    fine = True
    for j in range(n):
        i = index[j]
        k = i - first
        k = k - below if k >= below else k
        fine &= (k >> 1) == 0
        where[j] = place(i)
    return fine


def read_places(f, index, n, g, od, oh, chunk, each, where, wide):
    """The places of a chunk of windows; whether each lies in its window."""
    m, at, s, fine = f[chunk + C_LANES], spot(f, INDEX, n, g, od, oh, f[chunk + C_OUT]), lane_step(f, INDEX), True
    here = (od * f[H] + 2 * oh) * f[W] + f[chunk + C_START]
    for i in range(m if each > 1 else 1):
        run, row = each if each > 1 else m, shift(index, at + i * row_step(f, INDEX))
        if s != 1:
            for j in range(run):
                wide[j] = row[j * s]
            row = wide
        if each == 1:
            fine &= places_across(where, row, here, f[W], m)
        else:
            fine &= places_of_lanes(shift(where, i * each), row, here + 2 * i, f[W], each)
    return fine


def scatter_quads(plan, data, slot, lo, hi):
    """Planes lo..hi of gx: each g (or value) goes to the position in the plane that its index names, as all do in 2x2 windows side by side."""
    f, a = integers(plan), integers(data)
    grad, gx, index, raw, wide = elements(a[Y]), elements(a[GRAD_X]), integers(a[INDEX]), raw_rows(), wide_places()
    s = (value_row(), place_row(), value_row(), place_row(), value_row(), place_row(), place_row(), place_row(), place_row())
    where, top, bottom = place_rows(), value_rows(), value_rows()
    for plane in range(lo, hi):
        n, g = plane // f[G], plane % f[G]
        each, fine = lanes_of(f, g), True
        for r in range(f[OD] * f[OH]):
            od, oh = r // f[OH], r % f[OH]
            for c in range(f[CHUNKS]):
                chunk = f[CHUNK_TABLE] + CHUNK * c
                if r == 0 or f[CHUNKS] > 1:
                    quad_windows(f, n, g, chunk, each, s)
                fine &= read_places(f, index, n, g, od, oh, chunk, each, where, wide)
                give_quads(f, gx, grad, n, g, od, oh, chunk, each, s[8], where, top, bottom, raw)
            clear_rest(f, gx, gx, n, g, od, oh, each)
        if not fine:
            mark(a, plane)
    if f[PAST_CACHE]:
        settle()
