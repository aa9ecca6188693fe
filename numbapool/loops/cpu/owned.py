"""Owned: the gradient of chosen elements where windows of 2x2 or 1x2 lie side by side and so own their elements, each of which is written once.

The elements are chosen again, or indices name them; a plane with an index that lies outside of its window is left to select.py's loop, which puts
gradients anywhere.  Nothing is cleared before or added up.
Measured on float32 (8, 64, 112, 112) with indices, one thread: 2.1 ms in select.py's loop, 1.2 here.

Legend: see rows.py and select.py; tall: the rows of a window, two or one.
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


def own_pairs(top, grad, where, column, here, right, n):
    """A row of the gradient, of windows that have one."""
    for j in range(n):
        g, q, c = load(grad, j), where[j], column[j]
        top[2 * j] = g if q == narrow_add(here, c) else real(0)
        top[2 * j + 1] = g if q == narrow_add(right, c) else real(0)


def own_lanes(top, bottom, grad, where, here, right, below, corner, n):
    """The same for one window of n lanes: its elements follow one another by n."""
    for j in range(n):
        g, q = load(grad, j), where[j]
        top[j] = g if q == here else real(0)
        top[n + j] = g if q == right else real(0)
        if below != here:
            bottom[j] = g if q == below else real(0)
            bottom[n + j] = g if q == corner else real(0)


def rest(n):
    """Where the last vector of n cells begins, 0 where whole ones or none are all, and how many cells stand in whole ones, or n."""
    return (n - VECTOR, n & -VECTOR) if n > VECTOR and n & VECTOR - 1 else (0, n)


def give_quads(f, gx, grad, n, g, od, oh, chunk, each, column, where, top, bottom, raw):
    """The gradient's rows of a chunk of 2x2 windows."""
    m, at, s = f[chunk + C_LANES], spot(f, Y, n, g, od, oh, f[chunk + C_OUT]), lane_step(f, Y)
    tall, below = f[f[H_COUNT] + oh], f[RECORDS + RECORD * GRAD_X + 3]
    here, (runs, cells, _, _) = (od * f[H] + tall * oh) * f[W] + f[chunk + C_START], runs_of(f, GRAD_X, 2 * m, each)
    to, at_once = spot(f, GRAD_X, n, g, od, tall * oh, f[chunk + C_START]), not HALF and runs == 1 and not f[PAST_CACHE]
    if at_once:
        top, bottom = row_at(gx, to, top), row_at(gx, to + below, bottom)
    for i in range(m if each > 1 else 1):
        run, row = each if each > 1 else m, shift(grad, at + i * row_step(f, Y))
        if s != 1:
            for j in range(run):
                raw[j] = row[j * s]
            row = raw
        a, b = place(here + 2 * i), place(here + 2 * i + (tall - 1) * f[W])
        o, k = rest(m)  # whole vectors, and the last one again where there is a rest, which would be done one by one
        if each == 1 and tall == 1:
            own_pairs(top, row, where, column, a, place(a + 1), k)
            if o > 0:
                own_pairs(shift(top, 2 * o), shift(row, o), shift(where, o), shift(column, o), a, place(a + 1), VECTOR)
        elif each == 1:
            own_across(top, bottom, row, where, column, a, place(a + 1), b, place(b + 1), k)
            if o > 0:
                own_across(shift(top, 2 * o), shift(bottom, 2 * o), shift(row, o), shift(where, o), shift(column, o), a, place(a + 1), b,
                           place(b + 1), VECTOR)
        else:
            own_lanes(shift(top, 2 * i * each), shift(bottom, 2 * i * each), row, shift(where, i * each), a, place(a + 1), b, place(b + 1), each)
    for i in range(0 if at_once else runs):
        to = spot(f, GRAD_X, n, g, od, tall * oh, f[chunk + C_START] + i)
        put_cells(shift(gx, to), shift(top, i * cells), cells, f[PAST_CACHE], raw)
        if tall > 1:
            put_cells(shift(gx, to + below), shift(bottom, i * cells), cells, f[PAST_CACHE], raw)


def memory_at(gx, at, row):
    """Where a row of the gradient is made: in its place."""
    return shift(gx, at)


def itself(gx, at, row):
    """Where a row of the gradient of a half type is made: apart."""
    return row


def quad_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of gx, with the elements chosen again."""
    f, a = integers(plan), integers(data)
    x, grad, gx, raw = elements(a[X]), elements(a[Y]), elements(a[GRAD_X]), raw_rows()
    s = (value_row(), place_row(), value_row(), place_row(), value_row(), place_row(), place_row(), place_row(), place_row())
    best, where, top, bottom = value_rows(), place_rows(), value_rows(), value_rows()
    for plane in range(lo, hi):
        n, g = plane // f[G], plane % f[G]
        each = lanes_of(f, g)
        for od in range(f[OD]):
            for oh in range(f[OH]):
                for c in range(f[CHUNKS]):
                    chunk = f[CHUNK_TABLE] + CHUNK * c
                    if od + oh == 0 or f[CHUNKS] > 1:
                        windows(f, n, g, chunk, each, s)
                    choose(f, x, n, g, od, oh, chunk, each, s, best, where)
                    give_quads(f, gx, grad, n, g, od, oh, chunk, each, s[8], where, top, bottom, raw)
                clear_rest(f, gx, gx, n, g, od, oh, each, f[f[H_COUNT] + oh])
    if f[PAST_CACHE]:
        settle()


# ---------------------------------------------------------------- by indices

def places_across(where, index, first, below, n):
    """The places that the indices of n windows side by side name; whether each is one of its window's four, the first of which is first + 2 j."""
    wrong = 0
    for j in range(n):
        i = index[j]
        k = i - first - 2 * j
        wrong |= (k - below if k >= below else k) >> 1
        where[j] = place(i)
    return wrong == 0


def places_of_lanes(where, index, first, below, n):
    """The same for n lanes of one window."""
    wrong = 0
    for j in range(n):
        i = index[j]
        k = i - first
        wrong |= (k - below if k >= below else k) >> 1
        where[j] = place(i)
    return wrong == 0


def read_places(f, index, n, g, od, oh, chunk, each, where, wide):
    """The places of a chunk of windows; whether each lies in its window."""
    m, at, s, fine = f[chunk + C_LANES], spot(f, INDEX, n, g, od, oh, f[chunk + C_OUT]), lane_step(f, INDEX), True
    tall = f[f[H_COUNT] + oh]
    here, below = (od * f[H] + tall * oh) * f[W] + f[chunk + C_START], f[W] if tall > 1 else 1 << 62
    for i in range(m if each > 1 else 1):
        run, row = each if each > 1 else m, shift(index, at + i * row_step(f, INDEX))
        if s != 1:
            for j in range(run):
                wide[j] = row[j * s]
            row = wide
        if each == 1:
            o, k = rest(m)
            fine &= places_across(where, row, here, below, k)
            if o > 0:
                fine &= places_across(shift(where, o), shift(row, o), here + 2 * o, below, VECTOR)
        else:
            fine &= places_of_lanes(shift(where, i * each), row, here + 2 * i, below, each)
    return fine


def scatter_quads(plan, data, slot, lo, hi):
    """Planes lo..hi of gx: each g (or value) goes to the position in the plane that its index names."""
    f, a = integers(plan), integers(data)
    grad, gx, index, raw, wide = elements(a[Y]), elements(a[GRAD_X]), integers(a[INDEX]), raw_rows(), wide_places()
    s = (value_row(), place_row(), value_row(), place_row(), value_row(), place_row(), place_row(), place_row(), place_row())
    where, top, bottom = place_rows(), value_rows(), value_rows()
    for plane in range(lo, hi):
        n, g = plane // f[G], plane % f[G]
        each, fine = lanes_of(f, g), True
        for od in range(f[OD]):
            for oh in range(f[OH]):
                for c in range(f[CHUNKS]):
                    chunk = f[CHUNK_TABLE] + CHUNK * c
                    if od + oh == 0 or f[CHUNKS] > 1:
                        quad_windows(f, n, g, chunk, each, s)
                    fine &= read_places(f, index, n, g, od, oh, chunk, each, where, wide)
                    give_quads(f, gx, grad, n, g, od, oh, chunk, each, s[8], where, top, bottom, raw)
                clear_rest(f, gx, gx, n, g, od, oh, each, f[f[H_COUNT] + oh])
        if not fine:
            mark(a, plane)
    if f[PAST_CACHE]:
        settle()
