"""Tall: chosen elements of windows that stand a row of input or a few apart and reach over many, with a few steps a row however tall they are.

Rows of input are joined along themselves once, and then down the plane in blocks, as `slide_down` in cells.py joins rows of a sweep: a window is
the end of a block of rows and the beginning of the next.  Cells meet in the order of memory, so that `better` alone makes the first of equals
and the last NaN win.
Measured on float32 (8, 64, 112, 112), 11x11/s1, with indices, one thread, a first-generation EPYC: 72 ms in select.py's loop, 27 here.

Legend: see rows.py and select.py.  Held: rows of cells, row i of the input at i % tall, the end from row i of a block on at i % tall + 1, and two
that the beginning is in by turns; state: see slide_down, and, fifth, the first row that is not yet joined along itself.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .cells import forget  # noqa: F401 (select.py calls it)
from .rows import *  # noqa: F403
from .short import top_down, vectors


def held_cells(f, a, slot):
    """The state, and the rows that are held: values and places."""
    at = a[WORK] + slot * f[WORK_SIZE] + f[JOIN_AT]
    state, values = integers(at), at + f[TAGS_AT]
    for i in range(f[TAGS_AT] // 8):  # of planes that short.py keeps, too: none is there yet
        state[i] = -1
    return state, reals(values), places(values + f[HELD_CELLS] * SUM_BYTES)


def lay_cells(v, p, a, here, column, n):
    """Cells of a row of elements."""
    for j in range(n):
        v[j], p[j] = load(a, j), narrow_add(here, column[j])


def better_of_two(v, p, v1, p1, v2, p2, n):
    """The better ones of two rows of cells, the first of which stand before the second."""
    for j in range(n):
        u, i, w, q = v1[j], p1[j], v2[j], p2[j]
        v[j], p[j] = w if better(w, u) else u, q if better(w, u) else i


def copy_cells(v, p, v1, p1, n):
    """The same cells."""
    for j in range(n):
        v[j], p[j] = v1[j], p1[j]


def along_row(v, p, v1, p1, v2, p2, n, taps, power, apart):
    """`taps` columns that follow one another joined; v1 and v2 are worked in."""
    k, length = 1, n + (taps - 1) * apart
    a, a_places, b, b_places = v1, p1, v2, p2
    while k < power:
        length -= k * apart
        better_of_two(b, b_places, a, a_places, shift(a, k * apart), shift(a_places, k * apart), vectors(length))
        a, a_places, b, b_places = b, b_places, a, a_places
        k *= 2
    end, middle = (taps - power) * apart, power * apart
    if taps <= 2 * power:
        better_of_two(v, p, a, a_places, shift(a, end), shift(a_places, end), vectors(n))
    else:
        top_down(v, p, a, a_places, shift(a, middle), shift(a_places, middle), shift(a, end), shift(a_places, end), vectors(n))


def along_input(f, x, n, g, d, h, chunk, each, s, v, p):
    """Row (d, h) of the input, joined along itself for the windows of a chunk; what lies beside it is as good as an element of the worst value."""
    lo, hi, start, row = f[chunk + C_LO], f[chunk + C_HI], f[chunk + C_START], (d * f[H] + h) * f[W]
    skip, cells = (lo - start) * each, (hi - lo) * each
    source = fetch_row(f, x, spot(f, X, n, g, d, h, lo), each, hi - lo, s[9])
    ask_ahead(f, source, cells)
    lay_cells(shift(s[0], skip), shift(s[1], skip), source, place(row + lo), s[8], cells)
    for i in range(lo - start):
        for j in range(i * each, (i + 1) * each):
            s[0][j], s[1][j] = worst(), place(row + (start + i) % f[W_STEP])
    for j in range(skip + cells, f[chunk + C_LENGTH] * each):
        s[0][j], s[1][j] = worst(), place(row + f[W] - 1)
    along_row(v, p, s[0], s[1], s[2], s[3], f[chunk + C_LANES] * each, f[W_TAPS], f[W_POWER], f[W_STEP] * each)


def choose_tall(f, x, n, g, od, oh, chunk, each, s, best, where):
    """The chosen elements of the windows of a chunk, and their places."""
    d, lo, tall, size, m = f[f[D_FIRST] + od], f[f[H_FIRST] + oh], f[JOIN_TALL], f[ROW_CELLS], f[chunk + C_LANES] * each
    state, v, p, hi = s[14], s[15], s[16], lo + f[f[H_COUNT] + oh]
    begin = lo // tall * tall
    end, cells = min(begin + tall, f[H]), vectors(m)
    middle, start = end if hi >= end else begin, (tall + 1) * size
    for i in range(max(lo, state[4]), hi):
        at = i % tall * size
        along_input(f, x, n, g, d, i, chunk, each, s, shift(v, at), shift(p, at))
    state[4] = hi
    if hi >= end and state[0] != begin:  # the ends go a row further down than their rows: a row that is read and stored would be stored under a mask
        last = (end - 1 - begin) * size
        copy_cells(shift(v, last + size), shift(p, last + size), shift(v, last), shift(p, last), cells)
        for at in range(last - size, (lo - begin) * size - 1, -size):
            to, behind = at + size, at + 2 * size
            better_of_two(shift(v, to), shift(p, to), shift(v, at), shift(p, at), shift(v, behind), shift(p, behind), cells)
        state[0] = begin
    if hi > middle:
        if state[2] != middle:
            state[2], state[3] = middle, middle
        for i in range(state[3], hi):
            at, to, old = i % tall * size, start + (i & 1) * size, start + (~i & 1) * size
            if i == middle:
                copy_cells(shift(v, to), shift(p, to), shift(v, at), shift(p, at), cells)
            else:
                better_of_two(shift(v, to), shift(p, to), shift(v, old), shift(p, old), shift(v, at), shift(p, at), cells)
        state[3] = hi
    first = start + (hi - 1 & 1) * size
    ends = (lo - begin + 1) * size if hi >= end else first
    first = first if hi > middle else ends
    better_of_two(best, where, shift(v, ends), shift(p, ends), shift(v, first), shift(p, first), cells)
