"""Owned: the gradient of chosen elements where windows of 2x2 or 1x2 lie side by side and so own their elements, each of which is written once.

The elements are chosen again, or indices name them; a plane with an index that lies outside of its window is left to select.py's loop, which puts
gradients anywhere.  Nothing is cleared before or added up.
Measured on float32 with indices, one thread: (8, 64, 112, 112) in 2x2 windows 2.1 ms in select.py's loop and 1.2 here.

Legend: see rows.py and select.py; tall: the rows of a window, two or one; p, q what tells the chosen one of a row of windows: their two rows of
elements, or twice their indices.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .direct import clear_rest
from .rows import *  # noqa: F403
from .sweep import runs_of

CALLED = ("own_across", "own_pairs", "own_lanes")


def rest(n):
    """Where the last vector of n cells begins, 0 where whole ones or none are all, and how many cells stand in whole ones, or n."""
    return (n - VECTOR, n & -VECTOR) if n > VECTOR and n & VECTOR - 1 else (0, n)


def give_rows(f, gx, grad, source, n, g, od, oh, chunk, each, top, bottom, raw, wide):
    """The gradient's rows of a chunk of windows; 0 where each gives its own elements all that it has."""
    m, at, s, wrong = f[chunk + C_LANES], spot(f, Y, n, g, od, oh, f[chunk + C_OUT]), lane_step(f, Y), 0
    tall, down = f[f[H_COUNT] + oh], f[RECORDS + RECORD * GRAD_X + 3]
    here, below = (od * f[H] + tall * oh) * f[W] + f[chunk + C_START], f[W] if tall > 1 else 1 << 62
    to, (runs, cells, _, _) = spot(f, GRAD_X, n, g, od, tall * oh, f[chunk + C_START]), runs_of(f, GRAD_X, 2 * m, each)
    at_once = not HALF and runs == 1 and not f[PAST_CACHE]
    if at_once:
        top, bottom = row_at(gx, to, top), row_at(gx, to + down, bottom)
    for i in range(m if each > 1 else 1):
        run, row = each if each > 1 else m, shift(grad, at + i * row_step(f, Y))
        if s != 1:
            for j in range(run):
                raw[j] = row[j * s]
            row = raw
        p, q = told_by(f, source, n, g, od, oh, chunk, i, run, wide)
        o, k = rest(m)  # whole vectors, and the last one again where there is a rest, which would be done one by one
        if each > 1:
            wrong |= own_lanes(shift(top, 2 * i * each), shift(bottom, 2 * i * each), row, p, q, row_step(f, X), here + 2 * i, below, tall, each)
        elif tall == 1:
            wrong |= own_pairs(top, row, p, here, k)
            if o > 0:
                wrong |= own_pairs(shift(top, 2 * o), shift(row, o), shift(p, STEP * o), here + 2 * o, VECTOR)
        else:
            wrong |= own_across(top, bottom, row, p, q, here, below, k)
            if o > 0:
                wrong |= own_across(shift(top, 2 * o), shift(bottom, 2 * o), shift(row, o), shift(p, STEP * o), shift(q, STEP * o), here + 2 * o,
                                    below, VECTOR)
    for i in range(0 if at_once else runs):
        to = spot(f, GRAD_X, n, g, od, tall * oh, f[chunk + C_START] + i)
        put_cells(shift(gx, to), shift(top, i * cells), cells, f[PAST_CACHE], raw)
        if tall > 1:
            put_cells(shift(gx, to + down), shift(bottom, i * cells), cells, f[PAST_CACHE], raw)
    return wrong


def memory_at(gx, at, row):
    """Where a row of the gradient is made: in its place."""
    return shift(gx, at)


def itself(gx, at, row):
    """Where a row of the gradient of a half type is made: apart."""
    return row


def owned_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of gx: each g (or value) goes to the chosen element of its window."""
    f, a = integers(plan), integers(data)
    grad, gx, source = elements(a[Y]), elements(a[GRAD_X]), opened(a)
    raw, wide, top, bottom = raw_rows(), wide_places(), value_rows(), value_rows()
    for plane in range(lo, hi):
        n, g = plane // f[G], plane % f[G]
        each, wrong = lanes_of(f, g), 0
        for od in range(f[OD]):
            for oh in range(f[OH]):
                for c in range(f[CHUNKS]):
                    wrong |= give_rows(f, gx, grad, source, n, g, od, oh, f[CHUNK_TABLE] + CHUNK * c, each, top, bottom, raw, wide)
                clear_rest(f, gx, gx, n, g, od, oh, each, f[f[H_COUNT] + oh])
        if wrong != 0:
            mark(a, plane)
    if f[PAST_CACHE]:
        settle()


# ---------------------------------------------------------------- the elements are chosen again

def elements_of(a):
    """What tells the chosen ones: x."""
    return elements(a[X])


def rows_of(f, x, n, g, od, oh, chunk, i, run, wide):
    """The rows of elements of a row of windows, or of its i-th one; of one row that, twice."""
    p = shift(x, spot(f, X, n, g, f[f[D_FIRST] + od], f[f[H_FIRST] + oh], f[chunk + C_START] + 2 * i))
    q = shift(p, (f[f[H_COUNT] + oh] - 1) * f[RECORDS + RECORD * X + 3])
    ask_ahead(f, p, 2 * run)
    ask_ahead(f, q, 2 * run)
    return p, q


def chosen_across(top, bottom, grad, p, q, here, below, n):
    """Two rows of the gradient: g where the chosen element is, else 0."""
    for j in range(n):
        g, u, v, w, z = load(grad, j), load(p, 2 * j), load(p, 2 * j + 1), load(q, 2 * j), load(q, 2 * j + 1)
        right = better(v, u)
        u = v if right else u
        low = better(w, u)
        corner = better(z, w if low else u)
        top[2 * j] = real(0) if right | low | corner else g
        top[2 * j + 1] = real(0) if (not right) | low | corner else g
        bottom[2 * j] = real(0) if (not low) | corner else g
        bottom[2 * j + 1] = g if corner else real(0)
    return 0


def chosen_pairs(top, grad, p, here, n):
    """A row of the gradient, of windows that have one."""
    for j in range(n):
        g, right = load(grad, j), better(load(p, 2 * j + 1), load(p, 2 * j))
        top[2 * j] = real(0) if right else g
        top[2 * j + 1] = g if right else real(0)
    return 0


def chosen_lanes(top, bottom, grad, p, q, side, here, below, tall, n):
    """One window of n lanes, whose elements follow one another by n in the rows of the gradient."""
    if tall == 1:
        for j in range(n):
            g, right = load(grad, j), better(load(p, side + j), load(p, j))
            top[j] = real(0) if right else g
            top[n + j] = g if right else real(0)
        return 0
    for j in range(n):
        g, u, v, w, z = load(grad, j), load(p, j), load(p, side + j), load(q, j), load(q, side + j)
        right = better(v, u)
        u = v if right else u
        low = better(w, u)
        corner = better(z, w if low else u)
        top[j] = real(0) if right | low | corner else g
        top[n + j] = real(0) if (not right) | low | corner else g
        bottom[j] = real(0) if (not low) | corner else g
        bottom[n + j] = g if corner else real(0)
    return 0


# ---------------------------------------------------------------- indices name the elements

def indices_of(a):
    """What tells the chosen ones: the index."""
    return integers(a[INDEX])


def index_row(f, index, n, g, od, oh, chunk, i, run, wide):
    """The indices of a row of windows, or of its i-th one."""
    row, s = shift(index, spot(f, INDEX, n, g, od, oh, f[chunk + C_OUT] + i)), lane_step(f, INDEX)
    if s != 1:
        for j in range(run):
            wide[j] = row[j * s]
        row = wide
    return row, row


def named_across(top, bottom, grad, p, q, here, below, n):
    """Two rows of the gradient: g where an index says, else 0; not 0 where one names none of its window's four, the first of which is here + 2 j."""
    wrong = 0
    for j in range(n):
        g, k = load(grad, j), p[j] - here - 2 * j
        wrong |= (k - below if k >= below else k) >> 1
        top[2 * j] = g if k == 0 else real(0)
        top[2 * j + 1] = g if k == 1 else real(0)
        bottom[2 * j] = g if k == below else real(0)
        bottom[2 * j + 1] = g if k == below + 1 else real(0)
    return wrong


def named_pairs(top, grad, p, here, n):
    """The same of windows that have one row."""
    wrong = 0
    for j in range(n):
        g, k = load(grad, j), p[j] - here - 2 * j
        wrong |= k >> 1
        top[2 * j] = g if k == 0 else real(0)
        top[2 * j + 1] = g if k == 1 else real(0)
    return wrong


def named_lanes(top, bottom, grad, p, q, side, here, below, tall, n):
    """The same for one window of n lanes, whose elements follow one another by n in the rows of the gradient."""
    wrong = 0
    for j in range(n):
        g, k = load(grad, j), p[j] - here
        wrong |= (k - below if k >= below else k) >> 1
        top[j] = g if k == 0 else real(0)
        top[n + j] = g if k == 1 else real(0)
        if tall > 1:
            bottom[j] = g if k == below else real(0)
            bottom[n + j] = g if k == below + 1 else real(0)
    return wrong
