"""Nine: 3x3 windows of sums and of chosen elements with channels as lanes, whose columns are joined once for all windows that share them.

Joined columns are so few that they stay in the first cache: of 3x3/s1 windows of 3, 16, 64 and 512 channels a first-generation EPYC took 0.1, 0.5,
0.7 and 0.6 of the time of joining all nine elements of each.  Elements are joined column by column, as in sweep.py.
Legend: see rows.py and direct.py.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .rows import *  # noqa: F403

NINE, SOME = 600, 256  # cells of joined columns, and those between which others are asked for
SIDES = 3  # windows that give nothing at both ends of a row: as many as may cover a position there


def nine_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y: 3x3 windows of sums or of chosen elements, with channels as lanes."""
    f, a = integers(plan), integers(data)
    x, y = elements(a[X]), elements(a[Y])
    columns, gap, piece, down = row1(), row1(), nine_at_once(f), f[RECORDS + RECORD * X + 3] * f[H_STEP]
    for j in range(LANES):
        gap[j] = empty()
    n, g, od, oh = row_of(f, lo)
    for _ in range(lo, hi):
        first, share = spot(f, X, n, g, f[f[D_FIRST] + od], f[f[H_FIRST] + oh], 0), f[f[D_SHARE] + od] * f[f[H_SHARE] + oh]
        nine_row_of_lanes(f, shift(x, first), shift(y, spot(f, Y, n, g, od, oh, 0)), down, f[f[H_COUNT] + oh], lanes_of(f, g), share, piece, columns,
                          gap)
        n, g, od, oh = next_row(f, n, g, od, oh)


def nine_at_once(f):
    """How many 3x3 windows of a row share joined columns: of those that lie apart none, and others as many as NINE cells have."""
    apart = f[f[W_FIRST] + f[OW] - 1] - f[f[W_FIRST] + max(f[OW] - 2, 0)]
    positions = NINE // f[WIDTH] - 2 * f[W_STEP] - 1
    return max(positions // max(apart, 1) + 1, 1) if apart <= 3 * f[W_STEP] else 1


def nine_row_of_lanes(f, x, y, down, rows, m, share, piece, columns, gap):
    """A row of 3x3 windows with m channels as lanes, in pieces whose columns are joined before."""
    starts, counts, step = shift(f, f[W_FIRST]), shift(f, f[W_COUNT]), f[W_STEP]
    for o in range(0, f[OW], piece):
        end = min(o + piece, f[OW])
        first, last = starts[o], starts[end - 1] + (counts[end - 1] - 1) * step + 1
        nine_columns(f, columns, shift(x, first * f[RECORDS + RECORD * X + 4]), down, rows, last - first, m)
        nine_windows(f, y, columns, o, end, m, share, gap)


def nine_columns(f, columns, a, down, rows, positions, m):
    """The columns of 3x3 windows at so many positions, joined top to bottom."""
    across = f[RECORDS + RECORD * X + 4]
    if across == m:
        cells, i = positions * m, 0
        while i < cells:  # some lines of memory at a time, after which others are asked for
            each = SOME if cells - i >= 2 * SOME else cells - i
            join_rows(f, shift(columns, i), shift(a, i), down, rows, each)
            i += each
    else:
        for i in range(positions):
            join_rows(f, shift(columns, i * m), shift(a, i * across), down, rows, m)


def join_rows(f, t, a, down, rows, n):
    """Cells of one to three rows, joined."""
    b, c = shift(a, down), shift(a, 2 * down)
    if rows > 2:
        ask_ahead(f, b, n)
        ask_ahead(f, c, n)
        three_rows(t, a, b, c, n)
    elif rows > 1:
        two_rows(t, a, b, n)
    else:
        one_row(t, a, n)


def three_rows(t, a, b, c, n):
    """Cells of three rows, joined."""
    if n < VECTOR:
        for j in range(n):
            t[j] = join_three(load(a, j), load(b, j), load(c, j))
    for o in range(0, n if n >= VECTOR else 0, VECTOR):
        i = min(o, n - VECTOR)
        for j in range(i, i + VECTOR):
            t[j] = join_three(load(a, j), load(b, j), load(c, j))


def two_rows(t, a, b, n):
    """Cells of two rows, joined."""
    for j in range(n):
        t[j] = join(join(load(a, j), load(b, j)), empty())


def one_row(t, a, n):
    """The cells of a row."""
    for j in range(n):
        t[j] = join(load(a, j), empty())


def nine_windows(f, y, columns, o, end, m, share, gap):
    """Windows o .. end of a row, of their columns."""
    starts, counts, shares, step, side = shift(f, f[W_FIRST]), shift(f, f[W_COUNT]), shift(f, f[W_SHARE]), f[RECORDS + RECORD * Y + 4], f[W_STEP] * m
    first = starts[o]
    while o < end:
        a, count, run, number = shift(columns, (starts[o] - first) * m), counts[o], 1, real(share * shares[o])
        if count < 3:
            three_columns(shift(y, o * step), a, shift(a, side) if count > 1 else gap, gap, m, number)
        else:
            apart = starts[min(o + 1, end - 1)] - starts[o]
            while o + run < end and counts[o + run] == 3 and starts[o + run] - starts[o + run - 1] == apart and shares[o + run] == shares[o]:
                run += 1
            lanes_, times_ = m, run
            if step == m and apart == 1:  # windows one position apart are one with more lanes
                lanes_, times_ = run * m, 1
            for i in range(times_):
                b = shift(a, i * apart * m)
                three_columns(shift(y, (o + i) * step), b, shift(b, side), shift(b, 2 * side), lanes_, number)
        o += run


def three_columns(y, a, b, c, n, share):
    """Windows of so many lanes, of three columns each."""
    if n < VECTOR:
        for j in range(n):
            store(y, j, finish((join_three(a[j], b[j], c[j]),), REFERENCE, share))
    for o in range(0, n if n >= VECTOR else 0, VECTOR):
        i = min(o, n - VECTOR)
        for j in range(i, i + VECTOR):
            store(y, j, finish((join_three(a[j], b[j], c[j]),), REFERENCE, share))


# ---------------------------------------------------------------- backward

def nine_backward(plan, data, slot, lo, hi):
    """Rows lo..hi of the gradient of sums over 3x3 windows, with channels as lanes."""
    f, a = integers(plan), integers(data)
    grad, gx, q, cover = elements(a[Y]), elements(a[GRAD_X]), numbers(doubles(a[NUMBERS])), f[H_COVER]
    held, t, e, raw, tags = row4(), row1(), row1(), raw1(), tags4()
    h, d, plane = lo % f[H], lo // f[H] % f[D], lo // f[H] // f[D]
    n, g = plane // f[G], plane % f[G]
    zero_cells(t, SIDES * f[WIDTH])
    forget_terms(tags)
    for _ in range(lo, hi):
        m, first, count = lanes_of(f, g), f[cover + h], f[cover + h + 1] - f[cover + h]
        sums, cells = shift(t, SIDES * m), f[OW] * m
        for i in range(count):
            oh = f[cover + first + i]
            if tags[oh & 3] != oh:
                tags[oh & 3] = oh
                nine_terms(f, grad, n, g, d, oh, m, shift(held, (oh & 3) * CELLS), q)
        if count:
            one, two, three_ = f[cover + first], f[cover + first + min(1, count - 1)], f[cover + first + count - 1]
            sum_rows(sums, shift(held, (one & 3) * CELLS), shift(held, (two & 3) * CELLS), shift(held, (three_ & 3) * CELLS), count, cells)
        else:
            zero_cells(sums, cells)
        zero_cells(shift(sums, cells), SIDES * m)
        give_columns(f, e, t, m, q)
        put_cells(shift(gx, spot(f, GRAD_X, n, g, d, h, 0)), e, f[W] * m, f[PAST_CACHE], raw)
        h += 1
        if h == f[H]:
            h, d = 0, d + 1
            forget_terms(tags)
            if d == f[D]:
                d = 0
                n, g = next_plane(f, n, g)
    if f[PAST_CACHE]:
        settle()


def forget_terms(tags):
    """Nothing is kept of any row of windows."""
    for i in range(4):
        tags[i] = -1


def zero_cells(t, n):
    """Cells of nothing."""
    for j in range(n):
        t[j] = real(0)


def nine_terms(f, grad, n, g, d, oh, m, t, q):
    """What a row of windows hands out."""
    shares, share, step, o = shift(f, f[W_SHARE]), f[f[D_SHARE] + d] * f[f[H_SHARE] + oh], row_step(f, Y), 0
    row = shift(grad, spot(f, Y, n, g, d, oh, 0))
    ask_for_run(f, row, f[OW] * step)
    while o < f[OW]:
        run = 1
        while step == m and o + run < f[OW] and shares[o + run] == shares[o]:
            run += 1
        scale_cells(shift(t, o * m), shift(row, o * step), terms((real(0),), REFERENCE, real(share * shares[o]), *q), run * m)
        o += run


def scale_cells(t, grad, w, n):
    """g times what windows hand out."""
    if n < VECTOR:
        for j in range(n):
            t[j] = times(load(grad, j), w)[0]
    for o in range(0, n if n >= VECTOR else 0, VECTOR):
        i = min(o, n - VECTOR)
        for j in range(i, i + VECTOR):
            t[j] = times(load(grad, j), w)[0]


def sum_rows(t, a, b, c, count, n):
    """The sum of one to three rows; n cells, to the end of a vector."""
    for o in range(0, n, VECTOR):
        if count > 2:
            for j in range(o, o + VECTOR):
                t[j] = a[j] + b[j] + c[j]
        elif count > 1:
            for j in range(o, o + VECTOR):
                t[j] = a[j] + b[j]
        else:
            for j in range(o, o + VECTOR):
                t[j] = a[j]


def give_columns(f, e, t, m, q):
    """The gradients of a row, of the windows' sums over rows, on either side of which SIDES windows stand that give nothing."""
    stride, column, at = f[W_STRIDE], f[W_LEAD] % f[W_STRIDE], (SIDES + f[W_LEAD] // f[W_STRIDE]) * m
    if stride == 1:
        p = shift(t, at - 2 * m)
        give_nine(e, p, shift(p, m), shift(p, 2 * m), 3, f[W] * m, q)
        return
    for w in range(f[W]):
        count = 0 if column > 2 else 1 if column + stride > 2 else 2
        p = shift(t, at - m if count == 2 else at)
        give_nine(shift(e, w * m), p, shift(p, m), p, count, m, q)
        column += 1
        if column == stride:
            at, column = at + m, 0


def give_nine(e, a, b, c, count, n, q):
    """The gradients of cells that so many windows cover; n of them, to the end of a vector."""
    for o in range(0, n, VECTOR):
        if count > 2:
            for j in range(o, o + VECTOR):
                e[j] = spread(real(0), (), (a[j] + b[j] + c[j],), REFERENCE, *q)
        elif count > 1:
            for j in range(o, o + VECTOR):
                e[j] = spread(real(0), (), (a[j] + b[j],), REFERENCE, *q)
        elif count > 0:
            for j in range(o, o + VECTOR):
                e[j] = spread(real(0), (), (a[j],), REFERENCE, *q)
        else:
            for j in range(o, o + VECTOR):
                e[j] = real(0)
