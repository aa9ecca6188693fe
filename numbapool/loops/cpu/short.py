"""Short: chosen elements of windows of at most three planes, rows and columns, which most are, with less work than select.py's loops.

Rows of input are joined along themselves once, kept while windows need them, and joined top to bottom: an order in which the first of
equals and the last NaN win without a look at places.  Of windows of several planes the rows of each are joined first, and kept, too.
So it is with channels as lanes where windows stand a position apart and a row of them has room; 2x2 windows side by side, and others where
the lanes are channels, are chosen in one pass.
Measured on float32 (8, 64, 112, 112), with indices, select.py's loops and these, in ms: 2x2/s2 2.9 and 1.3, 3x3/s2 3.4 and 2.9,
3x3/s1 7.0 and 5.2; with channels as lanes 1.9 and 1.2, 2.2 and 1.8, 6.4 and 5.7; 3x3x3/s1 of (2, 64, 16, 56, 56) 14.5 and 10.2.

Legend: see rows.py and select.py.  A row or a column that a window lacks is the one before it: choosing twice does no harm.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .lines import *  # noqa: F403
from .rows import *  # noqa: F403

SLOT = 1088  # cells of a kept row: half a row of cells, and some to the end of a vector


def vectors(n):
    """So many cells, to the end of a vector: what the last ones find is not looked at."""
    return (n + 15) & -16


def short_windows(f, n, g, chunk, each, s):
    """Forget the kept rows; set the positions and the padding of a chunk."""
    held, column, even, odd = s[10], s[8], s[13], shift(s[13], SLOT)
    for i in range(4):
        held[i] = -1
    for j in range(f[chunk + C_LANES] + 16):
        column[j] = place(j * f[W_STRIDE])
    for j in range(f[chunk + C_LENGTH] + 34):
        even[j], odd[j] = worst(), worst()


def part_row(x, across, even, odd, skip, n):
    """A row of elements by even and odd positions, `skip` positions on."""
    if skip & 1:
        odd[skip >> 1] = load(x, 0)
        x, skip, n = shift(x, across), skip + 1, n - 1
    even, odd = shift(even, skip >> 1), shift(odd, skip >> 1)
    if across == 1:
        for j in range(n >> 1):
            even[j], odd[j] = load(x, 2 * j), load(x, 2 * j + 1)
    else:
        for j in range(n >> 1):
            even[j], odd[j] = load(x, 2 * j * across), load(x, (2 * j + 1) * across)
    if n & 1:
        even[n >> 1] = load(x, (n - 1) * across)


def copy_elements(t, x, across, n):
    """A row of elements."""
    if across == 1:
        for j in range(n):
            t[j] = load(x, j)
    else:
        for j in range(n):
            t[j] = load(x, j * across)


def join_row(f, x, n, g, d, h, chunk, v, p, s):
    """The best elements of a row of input for all windows of a chunk."""
    row, skip, across, taps = (d * f[H] + h) * f[W], f[chunk + C_LO] - f[chunk + C_START], row_step(f, X), f[W_TAPS]
    column, even, odd, here = s[8], s[13], shift(s[13], SLOT), place(row + f[chunk + C_START])
    source, width, m = shift(x, spot(f, X, n, g, d, h, f[chunk + C_LO])), f[chunk + C_HI] - f[chunk + C_LO], f[chunk + C_LANES]
    ask_ahead(f, source, width)
    if f[W_STRIDE] == 2:
        part_row(source, across, even, odd, skip, width)
        b, c = odd if taps > 1 else even, shift(even, 1) if taps > 2 else odd if taps > 1 else even
    else:
        copy_elements(shift(even, skip), source, across, width)
        b, c = shift(even, min(taps - 1, 1)), shift(even, taps - 1)
    along(v, p, even, b, c, here, place(here + min(taps - 1, 1)), place(here + taps - 1), column, vectors(m))
    for j in range(min(skip, m)):
        p[j] = max(p[j], place(row))


def along(v, p, a, b, c, here_a, here_b, here_c, column, n):
    """The best of three cells side by side."""
    for j in range(n):
        u, i, w = a[j], here_a, b[j]
        i = here_b if better(w, u) else i
        u = w if better(w, u) else u
        w = c[j]
        v[j], p[j] = w if better(w, u) else u, narrow_add(here_c if better(w, u) else i, column[j])


def top_down(v, p, v1, p1, v2, p2, v3, p3, n):
    """The best ones of three rows of cells, top to bottom."""
    for j in range(n):
        u, i, w, q = v1[j], p1[j], v2[j], p2[j]
        i = q if better(w, u) else i
        u = w if better(w, u) else u
        w, q = v3[j], p3[j]
        v[j], p[j] = w if better(w, u) else u, q if better(w, u) else i


def choose_short(f, x, n, g, od, oh, chunk, each, s, best, where):
    """The chosen elements of the windows of a chunk, and their places."""
    d, planes = f[f[D_FIRST] + od], f[f[D_COUNT] + od]
    if f[RING_D] == 0:
        choose_rows_of(f, x, n, g, d, oh, chunk, each, s, best, where)
        return
    a, b = held_plane(f, x, n, g, d, oh, chunk, each, s), held_plane(f, x, n, g, d + min(planes - 1, 1), oh, chunk, each, s)
    c = held_plane(f, x, n, g, d + planes - 1, oh, chunk, each, s)
    top_down(best, where, shift(s[15], a), shift(s[16], a), shift(s[15], b), shift(s[16], b), shift(s[15], c), shift(s[16], c),
             vectors(f[chunk + C_LANES]))


def held_plane(f, x, n, g, d, oh, chunk, each, s):
    """Where the best elements of plane d for a row of windows are kept, from now on if not yet."""
    slot, name = (d & f[RING_D]) * f[OH] + oh, ((n * f[G] + g) * CHUNK * f[CHUNKS] + chunk - f[CHUNK_TABLE]) * f[D] + d
    at = slot * f[ROW_CELLS]
    if s[14][slot] != name:
        s[14][slot] = name
        choose_rows_of(f, x, n, g, d, oh, chunk, each, s, shift(s[15], at), shift(s[16], at))
    return at


def choose_rows_of(f, x, n, g, d, oh, chunk, each, s, best, where):
    """The chosen elements of the windows of a chunk in one plane, and their places."""
    h, count, m = f[f[H_FIRST] + oh], f[f[H_COUNT] + oh], f[chunk + C_LANES] * each
    for i in range(count):
        slot, name = (h + i) & 3, d * f[H] + h + i
        if s[10][slot] != name:
            s[10][slot] = name
            v, p = shift(s[11], slot * SLOT), shift(s[12], slot * SLOT)
            if f[CHANNEL_LANES]:
                join_lanes(f, x, n, g, d, h + i, chunk, each, v, p, s[8])
            else:
                join_row(f, x, n, g, d, h + i, chunk, v, p, s)
    a, b, c = (h & 3) * SLOT, (h + min(count - 1, 1) & 3) * SLOT, (h + count - 1 & 3) * SLOT
    top_down(best, where, shift(s[11], a), shift(s[12], a), shift(s[11], b), shift(s[12], b), shift(s[11], c), shift(s[12], c), vectors(m))


# ---------------------------------------------------------------- lanes are channels

def lined(f, chunk, each):
    """Whether rows of elements are joined along themselves: of windows a position apart, where neighbours follow one another and all have room."""
    return f[W_STRIDE] == 1 and each == row_step(f, X) and f[CHUNKS] == 1 and f[chunk + C_LANES] * each <= SLOT - 2 * VECTOR and each >= VECTOR


def nine_windows(f, n, g, chunk, each, s):
    """Forget the kept rows; set the positions of a chunk."""
    held, column = s[10], s[8]
    if lined(f, chunk, each):
        for i in range(4):
            held[i] = -1
        if held[4] != each:
            held[4] = each
            for i in range(f[chunk + C_LANES]):
                for j in range(i * each, (i + 1) * each):
                    column[j] = place(i)


def join_lanes(f, x, n, g, d, h, chunk, each, v, p, column):
    """The best elements of a row of input for all windows of a chunk, with channels as lanes."""
    source, row, i, m = shift(x, spot(f, X, n, g, d, h, 0)), (d * f[H] + h) * f[W], 0, f[chunk + C_LANES]
    starts, counts = shift(f, f[W_FIRST] + f[chunk + C_OUT]), shift(f, f[W_COUNT] + f[chunk + C_OUT])
    ask_ahead(f, source, f[W] * each)
    while i < m:
        count, run, here, at = counts[i], 1, row + starts[i], i * each
        while i + run < m and count == 3 and counts[i + run] == 3:
            run += 1
        right, end, a = min(count - 1, 1), count - 1, shift(source, starts[i] * each)
        along_lanes(shift(v, at), shift(p, at), a, shift(a, right * each), shift(a, end * each), place(here), place(here + right), place(here + end),
                    column, run * each)
        i += run


def along_lanes(v, p, a, b, c, here_a, here_b, here_c, column, n):
    """The best of three cells side by side, of input."""
    for k in range(0, n, VECTOR):
        o = min(k, n - VECTOR)
        for j in range(o, o + VECTOR):
            u, i, w = load(a, j), here_a, load(b, j)
            i = here_b if better(w, u) else i
            u = w if better(w, u) else u
            w = load(c, j)
            v[j], p[j] = w if better(w, u) else u, narrow_add(here_c if better(w, u) else i, column[j])


def nine_cells(v, p, a, b, c, side, far, here, below, last, right, end, n):
    """The best of three rows of three elements."""
    for j in range(n):
        u, i, w = load(a, j), here, load(a, j + side)
        i = narrow_add(here, right) if better(w, u) else i
        u = w if better(w, u) else u
        w = load(a, j + far)
        i = narrow_add(here, end) if better(w, u) else i
        u = w if better(w, u) else u
        w = load(b, j)
        i = below if better(w, u) else i
        u = w if better(w, u) else u
        w = load(b, j + side)
        i = narrow_add(below, right) if better(w, u) else i
        u = w if better(w, u) else u
        w = load(b, j + far)
        i = narrow_add(below, end) if better(w, u) else i
        u = w if better(w, u) else u
        w = load(c, j)
        i = last if better(w, u) else i
        u = w if better(w, u) else u
        w = load(c, j + side)
        i = narrow_add(last, right) if better(w, u) else i
        u = w if better(w, u) else u
        w = load(c, j + far)
        v[j], p[j] = w if better(w, u) else u, narrow_add(last, end) if better(w, u) else i


def nine(v, p, a, b, c, side, far, here, below, last, right, end, n):
    """The same, called."""
    nine_cells(v, p, a, b, c, side, far, here, below, last, right, end, n)


def nine_run(f, v, p, a, b, c, across, step, here, below, last, m, each):
    """The best ones of m windows of three columns, `step` positions apart: a call a window takes as long as choosing from 16 channels."""
    for i in range(m):
        at, on = i * step * across, place(i * step)
        ask_ahead(f, shift(b, at), step * across)
        ask_ahead(f, shift(c, at), step * across)
        for k in range(0, each, VECTOR):
            o = min(k, each - VECTOR)
            nine_cells(shift(v, i * each + o), shift(p, i * each + o), shift(a, at + o), shift(b, at + o), shift(c, at + o), across, 2 * across,
                       narrow_add(here, on), narrow_add(below, on), narrow_add(last, on), place(1), place(2), VECTOR)


def choose_nine(f, x, n, g, od, oh, chunk, each, s, best, where):
    """The chosen elements of the windows of a chunk, and their places."""
    if lined(f, chunk, each):
        choose_short(f, x, n, g, od, oh, chunk, each, s, best, where)
        return
    d, h, high, across, down = f[f[D_FIRST] + od], f[f[H_FIRST] + oh], f[f[H_COUNT] + oh], row_step(f, X), f[RECORDS + RECORD * X + 3]
    one, two_on, row, i, m = min(high - 1, 1), high - 1, (d * f[H] + h) * f[W], 0, f[chunk + C_LANES]
    starts, counts = shift(f, f[W_FIRST] + f[chunk + C_OUT]), shift(f, f[W_COUNT] + f[chunk + C_OUT])
    while i < m:
        w, wide, run = starts[i], counts[i], 1
        a, here = shift(x, spot(f, X, n, g, d, h, w)), row + w
        v, p, b, c = shift(best, i * each), shift(where, i * each), shift(a, one * down), shift(a, two_on * down)
        below, last = place(here + one * f[W]), place(here + two_on * f[W])
        if wide == 3 and each >= VECTOR:
            while i + run < m and counts[i + run] == 3:
                run += 1
            step = starts[min(i + 1, m - 1)] - w  # as regular windows have it
            nine_run(f, v, p, a, b, c, across, step, place(here), below, last, run, each)
        else:
            right, end = min(wide - 1, 1), wide - 1
            nine(v, p, a, b, c, right * across, end * across, place(here), below, last, place(right), place(end), each)
        i += run


# ---------------------------------------------------------------- windows of two columns, and of two rows or one, side by side

def quad_windows(f, n, g, chunk, each, s):
    """Set the positions of a chunk."""
    m = f[chunk + C_LANES]
    if f[CHANNEL_LANES]:
        for j in range(each):
            s[8][j] = place(0)
    elif m >= VECTOR:
        for j in range(m):
            s[8][j] = place(2 * j)
    elif s[10][0] != m:  # the same for all planes
        s[10][0] = m
        for i in range(CELLS // m):
            for j in range(m):
                s[8][i * m + j] = place(2 * (i * f[W] + j))


def four(v, p, a, b, c, d, step, here, below, column, n):
    """The best of four rows of elements."""
    next_here, next_below = place(here + 1), place(below + 1)
    for j in range(n):
        u, i, w = load(a, j * step), here, load(b, j * step)
        i = next_here if better(w, u) else i
        u = w if better(w, u) else u
        w = load(c, j * step)
        i = below if better(w, u) else i
        u = w if better(w, u) else u
        w = load(d, j * step)
        v[j], p[j] = w if better(w, u) else u, narrow_add(next_below if better(w, u) else i, column[j])


def choose_quads(f, x, n, g, od, oh, rows, chunk, each, s, best, where):
    """The chosen elements of some rows of windows, and their places; rows that are shorter than a vector are lined up and done together."""
    d, h, m = f[f[D_FIRST] + od], f[f[H_FIRST] + oh], f[chunk + C_LANES]
    if rows == 1 or m >= VECTOR or f[CHANNEL_LANES] or rows * m < VECTOR or f[f[H_COUNT] + oh] < 2:
        for i in range(rows):
            choose_quad(f, x, n, g, od, oh + i, chunk, each, s, shift(best, i * m * each), shift(where, i * m * each))
        return
    upper, lower, here = s[9], shift(s[9], CELLS), place((d * f[H] + h) * f[W] + f[chunk + C_START])
    line_up(f, X, x, n, g, d, oh, rows, upper, lower)
    for k in range(0, rows * m, VECTOR):
        o = min(k, rows * m - VECTOR)
        a, c = shift(upper, 2 * o), shift(lower, 2 * o)
        four(shift(best, o), shift(where, o), a, shift(a, 1), c, shift(c, 1), 2, here, place(here + f[W]), shift(s[8], o), VECTOR)


def choose_quad(f, x, n, g, od, oh, chunk, each, s, best, where):
    """The chosen elements of the windows of a chunk, and their places."""
    d, h, w, across = f[f[D_FIRST] + od], f[f[H_FIRST] + oh], f[chunk + C_START], row_step(f, X)
    a, here, more = shift(x, spot(f, X, n, g, d, h, w)), place((d * f[H] + h) * f[W] + w), f[f[H_COUNT] + oh] - 1
    c, below = shift(a, more * f[RECORDS + RECORD * X + 3]), place(here + more * f[W])  # of a window of one row that row, once more
    if f[CHANNEL_LANES] == 0:  # a last one of many channels is a single lane, and no row of windows
        m = f[chunk + C_LANES]
        ask_ahead(f, a, 2 * m)
        ask_ahead(f, c, 2 * m)
        for k in range(0, m, 16):
            if m < 16:
                four(best, where, a, shift(a, 1), c, shift(c, 1), 2, here, below, s[8], m)
            else:
                o = min(k, m - 16)
                four(shift(best, o), shift(where, o), shift(a, 2 * o), shift(a, 2 * o + 1), shift(c, 2 * o), shift(c, 2 * o + 1), 2, here, below,
                     shift(s[8], o), 16)
    else:
        for i in range(f[chunk + C_LANES]):
            p, q = shift(a, 2 * i * across), shift(c, 2 * i * across)
            ask_ahead(f, p, 2 * each)
            ask_ahead(f, q, 2 * each)
            four(shift(best, i * each), shift(where, i * each), p, shift(p, across), q, shift(q, across), 1, place(here + 2 * i),
                 place(below + 2 * i), s[8], each)
