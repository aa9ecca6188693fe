"""Three: windows of at most three planes, rows and columns, side by side at every or every second place, where the lanes are windows.

Sums and chosen elements, forward and backward, as in sweep.py, whose general rows take two to four times as long here: for short rows
finding out what to do costs more than doing it.

The rows of the input are lifted once (for a stride of 2 their even and odd columns apart, so that every step after it runs over unit stride),
joined row by row, then column by column.  Backward makes of each window its terms, times g, spreads them over the columns, and sums
these rows for each row of the input.  Each step is done for a BAND of rows before the next: what is read at another place than it was
written at would wait for the store to reach the cache.

Of windows of several planes, the joined rows of each plane of elements are kept, and the spread terms of each plane of windows, and joined in turn:
a plane more is a step more, however many rows and columns it has.  Measured on float32 (2, 64, 16, 56, 56), 3x3x3/s1, one thread, by sweep.py and by
this, in ms: maxima 7.9 and 4.9, averages 8.2 and 5.0, their gradients 10.3 and 7.0, soft pooling 12.1 and 7.9, its gradients 27 and 20.

Legend: see rows.py; a row is a run of f[ROW_CELLS] cells for each component, with MARGIN cells of padding at both ends and between the even
and the odd columns; p, q, r the same row as the three columns of a window see it; e lifted element;
kept what is kept of planes of elements, more of planes of windows.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .rows import *  # noqa: F403

MARGIN = 16  # cells
BAND = 4  # rows of windows
# the loops over cells: called, with rows that the compiler is told not to overlap
CALLED = ("lift_cells", "lift_pairs", "join_run", "join_input", "join_pairs", "take_input", "take_pairs", "finish_cells", "terms_cells",
          "spread_run", "give_cells", "give_pairs")


def odd_at(f):
    """Where the odd columns of a row begin, in cells from the even ones."""
    return f[ROW_CELLS] >> 1


def reach_of(f):
    """From the first cell of a row to one past its last one."""
    return f[W] if f[W_STRIDE] == 1 else odd_at(f) + (f[W] >> 1)


def column(f, i):
    """Where the i-th column of the windows begins in a row."""
    c = i * f[W_STEP] - f[W_LEAD]
    if f[W_STRIDE] == 1:
        return MARGIN + c
    return MARGIN + (c >> 1) + (odd_at(f) if c & 1 else 0)


def rooms(f, a, slot):
    """The rows of lifted elements, of joined rows, of terms and of spread terms, and one of padding; the divisors; the tags."""
    base = a[WORK] + slot * f[WORK_SIZE]
    row, held = f[ROW_CELLS], f[HELD_CELLS]
    ring = reals(base)
    joined = shift(ring, (f[RING_D] + 1) * (f[RING_H] + 1) * ACCUMULATORS * row)
    terms_ = shift(joined, BAND * ACCUMULATORS * row)
    spread_ = shift(terms_, BAND * TERMS * held)
    gap = shift(spread_, 2 * BAND * TERMS * row)
    number = shift(gap, COMPONENTS * row)
    for j in range(f[TAGS_AT] // ITEM):
        ring[j] = empty()
    for j in range(f[OW]):
        number[j] = real(f[f[W_SHARE] + j])
    tags = integers(base + f[TAGS_AT])
    return ring, joined, terms_, spread_, gap, number, tags


def kept_planes(f, a, slot):
    """The joined rows of planes of elements, the spread terms of planes of windows, and their tags; none is there yet."""
    base, rows = a[WORK] + slot * f[WORK_SIZE], (f[RING_D] + 1) * f[OH]
    kept, tags = reals(base + f[HELD_AT]), integers(base + f[HELD_TAGS_AT])
    for i in range(2 * rows if f[RING_D] else 0):
        tags[i] = -1
    for j in range(rows * ACCUMULATORS * f[ROW_CELLS] if f[RING_D] and f[W_STRIDE] == 2 else 0):  # padding lies between even and odd columns
        kept[j] = empty()
    return kept, shift(kept, rows * ACCUMULATORS * f[ROW_CELLS]), tags, shift(tags, rows)


def kept_row(f, d, oh):
    """Which of the rows that are kept is that of row oh of windows in plane d."""
    return (d & f[RING_D]) * f[OH] + oh


def forget(f, tags):
    """No row is lifted yet."""
    for i in range((f[RING_D] + 1) * (f[RING_H] + 1)):
        tags[i] = -1


# ---------------------------------------------------------------- rows

def lift_run(row, size, v, u, i, n, q):
    """The components of elements i .. i + n."""
    for j in range(i, i + n):
        set_cell(row, j, size, lift_at(v, u, j, REFERENCE, q))


def lift_pairs_run(even, odd, size, v, u, i, n, q):
    """The components of pairs i .. i + n of elements."""
    for j in range(i, i + n):
        set_cell(even, j, size, lift_at(v, u, 2 * j, REFERENCE, q))
        set_cell(odd, j, size, lift_at(v, u, 2 * j + 1, REFERENCE, q))


def lift_cells(row, size, v, u, n, q):
    """The components of n elements."""
    for o in range(0, n, VECTOR):
        lift_run(row, size, v, u, min(o, n - VECTOR), VECTOR, q)


def lift_pairs(even, odd, size, v, u, n, q):
    """The components of n pairs of elements."""
    for o in range(0, n, VECTOR):
        lift_pairs_run(even, odd, size, v, u, min(o, n - VECTOR), VECTOR, q)


def lifted(f, x, logit, ring, tags, n, g, d, h, q):
    """The lifted row (d, h) of the input."""
    i, size, name = (d & f[RING_D]) * (f[RING_H] + 1) + (h & f[RING_H]), f[ROW_CELLS], d * f[H] + h
    row = shift(ring, i * ACCUMULATORS * size)
    if tags[i] != name:
        tags[i] = name
        v, u, cells = shift(x, spot(f, X, n, g, d, h, 0)), shift(logit, logit_spot(f, n, g, d, h, 0)), shift(row, MARGIN)
        if f[W_STRIDE] == 1:
            lift_cells(cells, size, v, u, f[W], q)
        else:
            half = f[W] >> 1
            lift_pairs(cells, shift(cells, odd_at(f)), size, v, u, half, q)
            if f[W] & 1:
                set_cell(cells, half, size, lift_at(v, u, 2 * half, REFERENCE, q))
    return row


def join_run(t, a, b, c, n):
    """t = a, b and c joined."""
    for j in range(n):
        t[j] = join_three(a[j], b[j], c[j])


def join_input(t, a, b, c, n):
    """`join_run` from rows of the input, whose elements are their own lift."""
    for o in range(0, n, VECTOR):
        join_input_run(t, a, b, c, min(o, n - VECTOR), VECTOR)


def join_input_run(t, a, b, c, i, n):
    """Elements i .. i + n of three rows of the input, joined."""
    for j in range(i, i + n):
        t[j] = join_three(load(a, j), load(b, j), load(c, j))


def join_pairs(even, odd, a, b, c, n):
    """`join_input` for n pairs of elements."""
    for o in range(0, n, VECTOR):
        join_pairs_run(even, odd, a, b, c, min(o, n - VECTOR), VECTOR)


def join_pairs_run(even, odd, a, b, c, i, n):
    """Pairs i .. i + n of three rows of the input, joined."""
    for j in range(i, i + n):
        even[j] = join_three(load(a, 2 * j), load(b, 2 * j), load(c, 2 * j))
        odd[j] = join_three(load(a, 2 * j + 1), load(b, 2 * j + 1), load(c, 2 * j + 1))


def take_input(t, a, n):
    """`join_input` of one row."""
    for o in range(0, n, VECTOR):
        take_run(t, a, min(o, n - VECTOR), VECTOR)


def take_run(t, a, i, n):
    """Elements i .. i + n of a row of the input."""
    for j in range(i, i + n):
        t[j] = load(a, j)


def take_pairs(even, odd, a, n):
    """`join_pairs` of one row."""
    for o in range(0, n, VECTOR):
        take_pairs_run(even, odd, a, min(o, n - VECTOR), VECTOR)


def take_pairs_run(even, odd, a, i, n):
    """Pairs i .. i + n of a row of the input."""
    for j in range(i, i + n):
        even[j], odd[j] = load(a, 2 * j), load(a, 2 * j + 1)


def joined_from_input(f, x, logit, ring, tags, gap, blank, t, n, g, d, oh, q):
    """The rows of the windows of an output row, joined, where elements are their own lift."""
    rows, down = f[f[H_COUNT] + oh], f[RECORDS + RECORD * X + 3] * f[H_STEP]
    a, cells = shift(x, spot(f, X, n, g, d, f[f[H_FIRST] + oh], 0)), shift(t, MARGIN)
    b, c = shift(a, down) if rows > 1 else blank, shift(a, 2 * down) if rows > 2 else blank
    if rows == 1 and f[W_STRIDE] == 1:
        take_input(cells, a, f[W])
    elif rows == 1:
        take_pairs(cells, shift(cells, odd_at(f)), a, f[W] >> 1)
        if f[W] & 1:
            cells[f[W] >> 1] = load(a, f[W] - 1)
    elif f[W_STRIDE] == 1:
        join_input(cells, a, b, c, f[W])
    else:
        half = f[W] >> 1
        join_pairs(cells, shift(cells, odd_at(f)), a, b, c, half)
        if f[W] & 1:
            cells[half] = join_three(load(a, 2 * half), load(b, 2 * half), load(c, 2 * half))


def joined_from_lifted(f, x, logit, ring, tags, gap, blank, t, n, g, d, oh, q):
    """The rows of the windows of an output row, joined."""
    h, rows, size = f[f[H_FIRST] + oh], f[f[H_COUNT] + oh], f[ROW_CELLS]
    a = lifted(f, x, logit, ring, tags, n, g, d, h, q)
    b = lifted(f, x, logit, ring, tags, n, g, d, h + f[H_STEP], q) if rows > 1 else gap
    c = lifted(f, x, logit, ring, tags, n, g, d, h + 2 * f[H_STEP], q) if rows > 2 else gap
    reach = reach_of(f)
    for k in range(ACCUMULATORS):
        s = k * size + MARGIN
        join_run(shift(t, s), shift(a, s), shift(b, s), shift(c, s), reach)


def join_planes(f, x, logit, ring, tags, gap, blank, kept, kept_tags, t, n, g, od, oh, q):
    """The rows of the windows of an output row, joined, in one plane or several."""
    first, planes, size = f[f[D_FIRST] + od], f[f[D_COUNT] + od], f[ROW_CELLS]
    for d in range(first, first + planes):
        i, name, to = kept_row(f, d, oh), (n * f[G] + g) * f[D] + d, t
        if f[RING_D]:
            to = shift(kept, i * ACCUMULATORS * size)
        if f[RING_D] == 0 or kept_tags[i] != name:
            joined_row(f, x, logit, ring, tags, gap, blank, to, n, g, d, oh, q)
            if f[RING_D]:
                kept_tags[i] = name
    if f[RING_D]:
        a = shift(kept, kept_row(f, first, oh) * ACCUMULATORS * size)
        b = shift(kept, kept_row(f, first + 1, oh) * ACCUMULATORS * size) if planes > 1 else gap
        c = shift(kept, kept_row(f, first + 2, oh) * ACCUMULATORS * size) if planes > 2 else gap
        for k in range(ACCUMULATORS):
            s = k * size + MARGIN
            join_run(shift(t, s), shift(a, s), shift(b, s), shift(c, s), reach_of(f))


def finish_run(y, p, q, r, size, share, number, i, n, params):
    """y of windows i .. i + n; whether the common reference suits them."""
    fine = True
    for j in range(i, i + n):
        v = all_three(cell(p, j, size), cell(q, j, size), cell(r, j, size))
        store(y, j, finish(v, REFERENCE, share * number[j], *params))
        fine &= safe(v, *params)
    return fine


def finish_cells(y, p, q, r, size, share, number, n, params):
    """y of n windows."""
    fine = True
    for o in range(0, n, VECTOR):
        fine &= finish_run(y, p, q, r, size, share, number, min(o, n - VECTOR), VECTOR, params)
    return fine


def ask_fresh(f, x, n, g, d, oh):
    """Ask for what follows the rows that no output row before had."""
    h, rows = f[f[H_FIRST] + oh], f[f[H_COUNT] + oh]
    for i in range(max(rows - h + f[f[H_FIRST] + max(oh - 1, 0)], 0), rows):
        ask_ahead(f, shift(x, spot(f, X, n, g, d, h + i * f[H_STEP], 0)), f[W])


def ask_for_next(f, x, n, g, d, oh):
    """Prefetch what the band after output row oh reads first, while this one's columns are worked on: sooner, where as much is written as is read."""
    h = f[f[H_FIRST] + oh] + (f[f[H_COUNT] + oh] - 1) * f[H_STEP] + 1  # below the last row of a plane lies the next one
    ask_for(shift(x, spot(f, X, n, g, d, h, 0)), BAND * f[W])


def three_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y."""
    f, a = integers(plan), integers(data)
    x, logit, y = elements(a[X]), elements(a[LOGIT]), elements(a[Y])
    ring, joined, _, _, gap, number, tags = rooms(f, a, slot)
    kept, _, kept_tags, _ = kept_planes(f, a, slot)
    par, numbers_, size, blank = row4(), numbers(doubles(a[NUMBERS])), f[ROW_CELLS], raw1()
    for j in range(f[W]):
        blank[j] = packed(empty())
    pitch, down = ACCUMULATORS * size, f[RECORDS + RECORD * Y + 3]
    first, second = column(f, 1), column(f, 2)
    task = lo
    while task < hi:
        n, g, d, oh = row_of(f, task)
        last = min(f[OH], oh + hi - task)
        plane_parameters(f, a, n, g, par)
        params = numbers_ + lane_params(par, 0)
        forget(f, tags)
        at, deep, newest = spot(f, Y, n, g, d, 0, 0), f[f[D_SHARE] + d], f[f[D_FIRST] + d] + f[f[D_COUNT] + d] - 1
        for band in range(oh, last, BAND):
            end = min(band + BAND, last)
            for i in range(band, end):
                if f[W_STRIDE] == 2 or f[RING_D]:
                    ask_fresh(f, x, n, g, newest, i)
                join_planes(f, x, logit, ring, tags, gap, blank, kept, kept_tags, shift(joined, (i - band) * pitch), n, g, d, i, params)
            if f[ASK] and f[W_STRIDE] == 1 and f[RING_D] == 0:
                ask_for_next(f, x, n, g, newest, end - 1)
            for i in range(band, end):
                t = shift(joined, (i - band) * pitch)
                p, q, r = shift(t, column(f, 0)), shift(t, first) if f[W_TAPS] > 1 else gap, shift(t, second) if f[W_TAPS] > 2 else gap
                if not finish_cells(shift(y, at + i * down), p, q, r, size, real(deep * f[f[H_SHARE] + i]), number, f[OW], params):
                    mark(a, task + i - oh)
        task += last - oh


# ---------------------------------------------------------------- backward

def terms_run(m, held, grad, p, q, r, size, share, number, slopes, i, n, params):
    """What windows i .. i + n hand out, times g; whether the common reference suits them."""
    fine = True
    for j in range(i, i + n):
        v = all_three(cell(p, j, size), cell(q, j, size), cell(r, j, size))
        scale_cell(m, j, held, load(grad, j), terms(v, REFERENCE, share * number[j], *params))
        keep_slope(slopes, j, load(grad, j), v, REFERENCE, share * number[j], params)
        fine &= safe(v, *params)
    return fine


def terms_cells(m, held, grad, p, q, r, size, share, number, slopes, n, params):
    """What n windows hand out."""
    fine = True
    for o in range(0, n, VECTOR):
        fine &= terms_run(m, held, grad, p, q, r, size, share, number, slopes, min(o, n - VECTOR), VECTOR, params)
    return fine


def spread_run(s, p, q, r, n):
    """s = p, q and r summed."""
    for j in range(n):
        s[j] = p[j] + q[j] + r[j]


def seen_from(f, m, gap, k, i, parity):
    """Component k of a row of terms as the input's columns see their i-th window (of those of a parity, where the stride is 2)."""
    at = k * f[HELD_CELLS] + MARGIN
    if f[W_STRIDE] == 1:
        return shift(m, at + f[W_LEAD] - i * f[W_STEP]) if i < f[W_TAPS] else gap
    tap = 2 * i + ((f[W_LEAD] + parity) & 1)
    return shift(m, at + ((f[W_LEAD] + parity - tap) >> 1)) if tap < f[W_TAPS] else gap


def spread_row(f, s, m, gap):
    """The terms of a row of windows, spread over the columns of the input."""
    for k in range(TERMS):
        to = shift(s, k * f[ROW_CELLS] + MARGIN)
        if f[W_STRIDE] == 1:
            spread_run(to, seen_from(f, m, gap, k, 0, 0), seen_from(f, m, gap, k, 1, 0), seen_from(f, m, gap, k, 2, 0), f[W])
        else:
            spread_run(to, seen_from(f, m, gap, k, 0, 0), seen_from(f, m, gap, k, 1, 0), gap, (f[W] + 1) >> 1)
            spread_run(shift(to, odd_at(f)), seen_from(f, m, gap, k, 0, 1), seen_from(f, m, gap, k, 1, 1), gap, f[W] >> 1)


def give_run(out, v, u, row, p, q, r, size, i, n, params):
    """The gradients of elements i .. i + n."""
    for j in range(i, i + n):
        put_gradient(out, 0, j, spread_at(v, u, j, cell(row, j, size), sums_of(p, q, r, j, size), REFERENCE, params))


def give_pairs_run(out, v, u, even, odd, p, q, r, apart, size, i, n, params):
    """The gradients of pairs i .. i + n of elements."""
    p1, q1, r1 = shift(p, apart), shift(q, apart), shift(r, apart)
    for j in range(i, i + n):
        put_gradient(out, 0, 2 * j, spread_at(v, u, 2 * j, cell(even, j, size), sums_of(p, q, r, j, size), REFERENCE, params))
        put_gradient(out, 0, 2 * j + 1, spread_at(v, u, 2 * j + 1, cell(odd, j, size), sums_of(p1, q1, r1, j, size), REFERENCE, params))


def give_cells(out, v, u, row, p, q, r, size, n, params):
    """The gradients of n elements."""
    for o in range(0, n, VECTOR):
        give_run(out, v, u, row, p, q, r, size, min(o, n - VECTOR), VECTOR, params)


def give_pairs(out, v, u, even, odd, p, q, r, apart, size, n, params):
    """The gradients of n pairs of elements."""
    for o in range(0, n, VECTOR):
        give_pairs_run(out, v, u, even, odd, p, q, r, apart, size, min(o, n - VECTOR), VECTOR, params)


def covering_row(f, spread_, gap, h, i):
    """The terms of the i-th output row that covers row h of the input, as its columns see them."""
    at = f[f[H_COVER] + h] + i
    if at >= f[f[H_COVER] + h + 1]:
        return shift(gap, MARGIN)
    return shift(spread_, (f[f[H_COVER] + at] & (2 * BAND - 1)) * TERMS * f[ROW_CELLS] + MARGIN)


def give_row(f, x, logit, gx, gl, row, spread_, gap, out, raw, n, g, d, h, params):
    """The gradient of row h of the input."""
    size = f[ROW_CELLS]
    v, u, cells = shift(x, spot(f, X, n, g, d, h, 0)), shift(logit, logit_spot(f, n, g, d, h, 0)), shift(row, MARGIN)
    p, q, r = covering_row(f, spread_, gap, h, 0), covering_row(f, spread_, gap, h, 1), covering_row(f, spread_, gap, h, 2)
    if f[W_STRIDE] == 1:
        give_cells(out, v, u, cells, p, q, r, size, f[W], params)
    else:
        half, apart = f[W] >> 1, odd_at(f)
        give_pairs(out, v, u, cells, shift(cells, apart), p, q, r, apart, size, half, params)
        if f[W] & 1:
            put_gradient(out, 0, 2 * half, spread_at(v, u, 2 * half, cell(cells, half, size), sums_of(p, q, r, half, size), REFERENCE, params))
    put_row(f, gx, gl, spot(f, GRAD_X, n, g, d, h, 0), out, 0, f[W], raw)


def band_of_terms(f, a, x, logit, grad, ring, joined, terms_, spread_, gap, number, tags, slopes, kept, kept_tags, n, g, d, band, end, params):
    """The spread terms of output rows band .. end of a plane; whether the common reference suits their windows."""
    size, fine, newest = f[ROW_CELLS], True, f[f[D_FIRST] + d] + f[f[D_COUNT] + d] - 1
    if RECOMPUTE:
        for i in range(band, end):
            ask_fresh(f, x, n, g, newest, i)
            join_planes(f, x, logit, ring, tags, gap, gap, kept, kept_tags, shift(joined, (i - band) * ACCUMULATORS * size), n, g, d, i, params)
    for i in range(band, end):
        t, m = shift(joined, (i - band) * ACCUMULATORS * size), shift(terms_, (i - band) * TERMS * f[HELD_CELLS] + MARGIN)
        p = shift(t, column(f, 0))
        q, r = shift(t, column(f, 1)) if f[W_TAPS] > 1 else gap, shift(t, column(f, 2)) if f[W_TAPS] > 2 else gap
        share, row = real(f[f[D_SHARE] + d] * f[f[H_SHARE] + i]), shift(grad, spot(f, Y, n, g, d, i, 0))
        if f[RING_D]:
            ask_ahead(f, row, f[OW])
        else:
            ask_for_run(f, row, f[OW])
        fine &= terms_cells(m, f[HELD_CELLS], row, p, q, r, size, share, number, slopes, f[OW], params)
        put_slopes(f, a, n, g, d, i, 0, slopes, f[OW], row_step(f, GRAD_PARAM))
    for i in range(band, end):
        to = kept_row(f, d, i) if f[RING_D] else i & (2 * BAND - 1)
        spread_row(f, shift(spread_, to * TERMS * size), shift(terms_, (i - band) * TERMS * f[HELD_CELLS]), gap)
    return fine


def terms_over(f, a, x, logit, grad, ring, joined, terms_, spread_, gap, number, tags, slopes, kept, more, kept_tags, tags2, n, g, d, band, end,
               params):
    """The spread terms of output rows band .. end of all planes of windows over plane d, summed; whether the common reference suits them."""
    fine, planes, begin = True, 1, 0
    if f[RING_D]:
        begin = f[f[D_COVER] + d]
        planes = f[f[D_COVER] + d + 1] - begin
    for k in range(planes):
        od, lo, hi, to = d, band, end, spread_
        if f[RING_D]:  # those that are not kept yet
            od, to = f[f[D_COVER] + begin + k], more
            name = (n * f[G] + g) * f[OD] + od
            while lo < hi and tags2[kept_row(f, od, lo)] == name:
                lo += 1
            while lo < hi and tags2[kept_row(f, od, hi - 1)] == name:
                hi -= 1
            for i in range(lo, hi):
                tags2[kept_row(f, od, i)] = name
        if lo < hi:
            fine &= band_of_terms(f, a, x, logit, grad, ring, joined, terms_, to, gap, number, tags, slopes, kept, kept_tags, n, g, od, lo, hi,
                                  params)
    if f[RING_D]:
        sum_planes(f, spread_, more, gap, begin, planes, band, end)
    return fine


def sum_planes(f, to, more, gap, begin, planes, band, end):
    """The spread terms of output rows band .. end of so many planes of windows, summed."""
    od, size = f[f[D_COVER] + begin], TERMS * f[ROW_CELLS]
    for i in range(band, end):
        row = shift(to, (i & (2 * BAND - 1)) * size)
        a = shift(more, kept_row(f, od, i) * size) if planes > 0 else gap
        b = shift(more, kept_row(f, od + 1, i) * size) if planes > 1 else gap
        c = shift(more, kept_row(f, od + 2, i) * size) if planes > 2 else gap
        for k in range(TERMS):
            s = k * f[ROW_CELLS] + MARGIN
            spread_run(shift(row, s), shift(a, s), shift(b, s), shift(c, s), reach_of(f))


def three_backward(plan, data, slot, lo, hi):
    """Rows lo..hi of the gradient."""
    f, a = integers(plan), integers(data)
    x, logit, grad, gx, gl = elements(a[X]), elements(a[LOGIT]), elements(a[Y]), elements(a[GRAD_X]), elements(a[GRAD_LOGIT])
    ring, joined, terms_, spread_, gap, number, tags = rooms(f, a, slot)
    kept, more, kept_tags, tags2 = kept_planes(f, a, slot)
    par, numbers_, out, raw, slopes = row4(), numbers(doubles(a[NUMBERS])), row4(), raw1(), row1()
    cover, task = f[H_COVER], lo
    while task < hi:
        h, d = task % f[H], task // f[H] % f[D]
        plane = task // f[H] // f[D]
        n, g, last = plane // f[G], plane % f[G], min(f[H], h + hi - task)
        plane_parameters(f, a, n, g, par)
        params = numbers_ + lane_params(par, 0)
        forget(f, tags)
        task += last - h
        band, stop = f[OH], 0
        if f[cover + h] < f[cover + last]:
            band, stop = f[cover + f[cover + h]], f[cover + f[cover + last] - 1] + 1
        while h < last:
            if band < stop:
                end = min(band + BAND, stop)
                if not terms_over(f, a, x, logit, grad, ring, joined, terms_, spread_, gap, number, tags, slopes, kept, more, kept_tags, tags2, n, g,
                                  d, band, end, params):
                    mark(a, plane)
                band = end
            while h < last and (f[cover + h] == f[cover + h + 1] or f[cover + f[cover + h + 1] - 1] < band):
                row = lifted(f, x, logit, ring, tags, n, g, d, h, params) if RECOMPUTE else ring
                give_row(f, x, logit, gx, gl, row, spread_, gap, out, raw, n, g, d, h, params)
                h += 1
    if f[PAST_CACHE]:
        settle()


# ---------------------------------------------------------------- the shapes of a formula

def sums1(p, q, r, j, size):
    """The term of column j, summed over rows."""
    return (p[j] + q[j] + r[j],)


def sums2(p, q, r, j, size):
    """The two terms of column j, summed over rows."""
    return p[j] + q[j] + r[j], p[size + j] + q[size + j] + r[size + j]
