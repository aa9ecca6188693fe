"""Separate: gradients of chosen elements of windows of at most three rows and three columns, a column apart, one axis after the other.

The chosen element of a window is the best one of a row of three, and that row the best one of three rows.  So what a row of windows gives
first goes down to the rows of input that the elements are in, and then along each row to the columns: both add whole rows, each cell where its
element was chosen, and nothing is scattered.  Bands of rows lie one behind the other in a cache, where what is done along rows is one loop.

Measured on float32, 3x3 windows, one thread, an Ice Lake: (8, 64, 112, 112) 0.85 to 1.0 of the time of select.py's loops, which add one g after the
other, (32, 512, 14, 14) in bundles 0.65 to 0.8; with the 64 channels as lanes, a Zen 5, 0.78.  Of windows two columns apart there are too few: these
loops took 1.3 times as long.
Rows that are no whole vectors gain nothing (133 windows: 1.0 to 1.1), but so planes of one width sum in one order, in bundles and one by one.

Legend: see rows.py; a row has a pitch of so many positions, padding included, and windows stand at their first column; of a band of rows:
v the best elements of three columns, c which column each is in, t the sums of what windows give to a row.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .cells import copy_row, fill_row
from .rows import *  # noqa: F403
from .short import copy_elements, vectors
from .sweep import flat, put_row, runs_of, runs_of_all, step_in  # noqa: F401 (runs_of_all calls flat)

CALLED = ("best_along", "down_three", "down_two", "down_one", "along_three", "along_two", "copy_row", "fill_row")
LEAST = 4  # rows of a band, at least
ROOM = 1 << 17  # bytes of so many, at most: five such bands are worked on, in a second-level cache if need be
NEAR = 2000  # cells of a band, where this is enough for so many rows
MARGIN = 256  # and before them, at most


def best_along(v, c, a, b, e, second, third, n):
    """The best of three cells side by side, and which it is; n cells, here and below, are whole vectors."""
    for i in range(0, n, VECTOR):
        for j in range(i, i + VECTOR):
            u, k, w = a[j], place(0), b[j]
            k = second if better(w, u) else k
            u = w if better(w, u) else u
            w = e[j]
            v[j], c[j] = w if better(w, u) else u, third if better(w, u) else k


def down_three(t, t1, t2, g, v, v1, v2, n):
    """Each g to the best one of three rows."""
    for i in range(0, n, VECTOR):
        for j in range(i, i + VECTOR):
            u, w, w2, given, sum0, sum1, sum2, none = v[j], v1[j], v2[j], g[j], t[j], t1[j], t2[j], real(0)
            second = better(w, u)
            third = better(w2, w if second else u)
            t[j], t2[j] = sum0 + (none if second | third else given), sum2 + (given if third else none)
            t1[j] = sum1 + (given if second > third else none)


def down_two(t, t1, g, v, v1, n):
    """Each g to the better one of two rows."""
    for i in range(0, n, VECTOR):
        for j in range(i, i + VECTOR):
            given, sum0, sum1, second, none = g[j], t[j], t1[j], better(v1[j], v[j]), real(0)
            t[j], t1[j] = sum0 + (none if second else given), sum1 + (given if second else none)


def down_one(t, g, n):
    """Each g to a row."""
    for i in range(0, n, VECTOR):
        for j in range(i, i + VECTOR):
            t[j] += g[j]


def along_three(e, c, c1, c2, t, t1, t2, n):
    """What cells get from three windows, of which they are the last, the second, and the first column."""
    for i in range(0, n, VECTOR):
        for j in range(i, i + VECTOR):
            a, b, d, none = t[j], t1[j], t2[j], real(0)
            e[j] = either(c[j] == place(2), a, none) + either(c1[j] == place(1), b, none) + either(c2[j] == place(0), d, none)


def along_two(e, c, c1, t, t1, n):
    """What cells get from two windows."""
    for i in range(0, n, VECTOR):
        for j in range(i, i + VECTOR):
            a, b, none = t[j], t1[j], real(0)
            e[j] = either(c[j] == place(1), a, none) + either(c1[j] == place(0), b, none)


# ---------------------------------------------------------------- rows of input

def lay_rows(f, x, n, g, d, h, rows, each, pitch, line):
    """Rows of elements one behind the other; what is around them is set already."""
    across = row_step(f, X)
    for i in range(rows):
        source, row = shift(x, spot(f, X, n, g, d, h + i, 0)), shift(line, (i * pitch + f[W_LEAD]) * each)
        ask_ahead(f, source, f[W] * across)
        if each == across or each == 1:
            copy_elements(row, source, across if each == 1 else 1, f[W] * each)
        else:
            for w in range(f[W]):
                copy_elements(shift(row, w * each), shift(source, w * across), 1, each)


def open_rows(f, x, n, g, d, h, rows, each, pitch, v, c, t, line):
    """The best elements of rows of input along themselves; nothing is given to them yet."""
    taps, size = f[W_TAPS], rows * pitch * each
    lay_rows(f, x, n, g, d, h, rows, each, pitch, line)
    second, third = min(taps - 1, 1), taps - 1
    best_along(v, c, line, shift(line, second * each), shift(line, third * each), place(second), place(third), vectors(size))
    fill_row(t, vectors(size), real(0))
    for i in range(rows if f[W_LEAD] else 0):  # where all are as bad as padding, the first element stands for them
        for j in range(min(f[W_LEAD], f[OW])):
            row, first = shift(c, (i * pitch + j) * each), place(f[W_LEAD] - j)
            for l in range(each):
                row[l] = max(row[l], first)


# ---------------------------------------------------------------- gradients

def give_down(f, grad, n, g, od, oh, each, first, v, t, given, cells):
    """What a row of windows gives to the rows of input that it covers, `first` of which begins the band."""
    m, at, base = f[OW] * each, (f[f[H_FIRST] + oh] - first) * cells, spot(f, Y, n, g, od, oh, 0)
    runs, run, apart, s = runs_of(f, Y, f[OW], each)
    v, t, whole = shift(v, at), shift(t, at), vectors(m)
    ask_for_run(f, shift(grad, base), m)
    if not HALF:  # noqa: SIM102 (the compiler leaves out what a constant excludes)
        if runs == 1 and s == 1 and m == whole:
            down(f[f[H_COUNT] + oh], v, t, shift(grad, base), cells, whole)
            return
    for i in range(runs):
        copy_elements(shift(given, i * run), shift(grad, base + i * apart), s, run)
    for j in range(m, whole):
        given[j] = real(0)
    down(f[f[H_COUNT] + oh], v, t, given, cells, whole)


def down(rows, v, t, g, cells, n):
    """Each g to the best of so many rows."""
    if rows == 3:
        down_three(t, shift(t, cells), shift(t, 2 * cells), g, v, shift(v, cells), shift(v, 2 * cells), n)
    elif rows == 2:
        down_two(t, shift(t, cells), g, v, shift(v, cells), n)
    else:
        down_one(t, g, n)


def give_along(f, n, each, c, t, e):
    """The gradients of n positions in rows one behind the other, from the sums of what windows give to each row; c and t begin two before."""
    one, two, size = each, 2 * each, vectors(n * each)
    if f[W_TAPS] == 3:
        along_three(e, c, shift(c, one), shift(c, two), t, shift(t, one), shift(t, two), size)
    elif f[W_TAPS] == 2:
        along_two(e, shift(c, one), shift(c, two), shift(t, one), shift(t, two), size)
    else:
        copy_row(e, shift(t, two), size)


def put_gradients(f, gx, n, g, d, h, rows, each, pitch, e, raw):
    """Write rows of a plane of the gradient, which lie one behind the other."""
    runs, run = runs_of_all(f, f[W], each, GRAD_X)
    s, apart = step_in(f, GRAD_X, each), row_step(f, GRAD_X)
    for r in range(rows):
        at, row = spot(f, GRAD_X, n, g, d, h + r, 0), shift(e, (r * pitch + f[W_LEAD]) * each)
        for i in range(runs):
            put_row(f, gx, at + i * apart, shift(row, i * run), run, s, raw)


def bands(f, a, slot):
    """What is worked on: bands of values, of columns, of sums, of rows of the input and of the gradient; a row that is given, and one to store."""
    base, room, row = a[WORK] + slot * f[WORK_SIZE] + f[JOIN_AT], f[HELD_CELLS], f[ROW_CELLS] + 2 * VECTOR
    values, columns = reals(base), base + (4 * room + row) * SUM_BYTES
    raw = elements(columns + 4 * room)
    return values, places(columns), shift(values, room), shift(values, 2 * room), shift(values, 3 * room), shift(values, 4 * room), raw


def separate_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of gx, with the elements chosen again."""
    f, a = integers(plan), integers(data)
    x, grad, gx = elements(a[X]), elements(a[Y]), elements(a[GRAD_X])
    values, columns, sums, line, e, given, raw = bands(f, a, slot)
    for p in range(lo, hi):
        n, g = p // f[G], p % f[G]
        each, cells = lanes_of(f, g), f[ROW_CELLS]
        pitch, most, margin = cells // each, max(LEAST, NEAR // cells), 2 * each
        v, c, t = shift(values, margin), shift(columns, margin), shift(sums, margin)
        if p == lo:  # around the elements of a band, which never change
            fill_row(line, f[HELD_CELLS], worst())
            fill_row(columns, margin, place(0))  # so that nothing is given from what stands in front of sums
        for d in range(f[D]):
            first, open_, oh, cover = 0, 0, 0, f[D_COVER] + d
            covered = f[cover] < f[cover + 1]
            od = f[f[D_COVER] + f[cover]] if covered else 0
            while first < f[H]:
                last = min(f[H], first + most)
                if covered:
                    at = (open_ - first) * cells
                    open_rows(f, x, n, g, d, open_, last - open_, each, pitch, shift(v, at), shift(c, at), shift(t, at), line)
                    while oh < f[OH] and f[f[H_FIRST] + oh] + f[f[H_COUNT] + oh] <= last:
                        give_down(f, grad, n, g, od, oh, each, first, v, t, given, cells)
                        oh += 1
                    done = min(f[f[H_FIRST] + oh], last) if oh < f[OH] else last
                    give_along(f, (done - first) * pitch, each, columns, sums, e)
                else:
                    done = last
                    fill_row(e, (done - first) * cells, real(0))
                put_gradients(f, gx, n, g, d, first, done - first, each, pitch, e, raw)
                kept, at = (last - done) * cells if covered else 0, (done - first) * cells
                if kept:
                    copy_row(v, shift(v, at), kept)
                    copy_row(c, shift(c, at), kept)
                    copy_row(t, shift(t, at), kept)
                first, open_ = done, last
    if f[PAST_CACHE]:
        settle()
