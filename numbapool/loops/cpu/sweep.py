"""Sweep: poolings whose windows share their work, because what they gather joins: sums, and the larger of two.

Each row of the input is lifted once (to e^x and x e^x, say; a sum's and a maximum's rows are taken as they are), the rows
of a window are joined column by column, and then the columns of each window: k + k steps and one lift where a loop over
windows takes k * k of each.  All of it runs over unit-stride rows, in both memory orders.  Padding is cells that hold `start`.
Where windows along a row lie at any places, or more than two apart, VECTOR joined rows are turned, so that columns are lanes, and turned back.

Backward gathers.  A formula here has a gradient that is a product: what a window hands out (`terms`, times g) by what an
element makes of the sum over its windows (`spread`).  So rows of terms are joined along the inverse tables, and every
element of the gradient is written once.

A fold's lifts refer to a constant (`common`) and not to the window's maximum.  Where a window lies too far from it (`safe`
says so) its row is marked, and the loops of fold.py, which have no such limits, do it again.

Legend: see rows.py; t, u rows of cells, a cell is one lane at one position, `each` lanes a position; k component of a lift.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .cells import *  # noqa: F403
from .rows import *  # noqa: F403

BLOCK = 15  # rows that are summed before they go to a total: float32 sums of tall windows stay accurate
# the loops over cells: called, since a copy at each of their places would take many times as long to compile
CALLED = ("merge_two", "merge_three", "merge_one", "merge_more", "merge_both", "slide_by_powers", "slide_down", "copy_row", "fill_row",
          "strided_copy", "strided_two", "strided_one", "pairs", "pairs_and_even", "unweave", "weave_pairs", "weave_lanes", "halve", "turn_and_join",
          "lift_cells", "finish_cells", "terms_cells", "give")
BAND = 512  # cells of output rows that are worked on together: many short rows make one loop, whose end is slow, over all
MANY = 6  # windows of so many columns a position apart are joined by powers of two
LONG = 32  # a window of so many columns is summed by halves

# ---------------------------------------------------------------- forward

def runs_of(f, operand, positions, each):
    """How the cells of a row lie in memory: runs, cells a run, distance of runs, distance of cells."""
    across, down = row_step(f, operand), lane_step(f, operand)
    if each == 1:
        return 1, positions, 0, across
    if down == 1 and across == each:
        return 1, positions * each, 0, 1
    return positions, each, across, down


def flat(f, operand, each):
    """Whether the positions of a row of an operand follow one another."""
    return lane_step(f, operand) == 1 and row_step(f, operand) == each


def step_in(f, operand, each):
    """From cell to cell within a run."""
    return row_step(f, operand) if each == 1 else lane_step(f, operand)


def runs_of_all(f, positions, each, operand):
    """Runs and cells a run such that x, the logits, and another operand all go through them at their own steps."""
    if each == 1:
        return 1, positions
    if flat(f, X, each) and flat(f, operand, each) and flat_logits(f, each):
        return 1, positions * each
    return positions, each


def no_logits(f, each):
    """There is no second operand."""
    return True


def flat_second(f, each):
    """Whether the positions of a row of logits follow one another."""
    return flat(f, LOGIT, each)


def fetch_run(x, at, n, s, raw):
    """A run of stored elements at unit stride: the memory itself where it is that."""
    if s == 1:
        return shift(x, at)
    for j in range(n):
        raw[j] = x[at + j * s]
    return raw


def lift_row(f, x, logit, n, g, d, h, chunk, each, row, par, raw, raw2, q):
    """The components of every element of a row of the chunk."""
    runs, run = runs_of_all(f, f[chunk + C_HI] - f[chunk + C_LO], each, X)
    at, size, s = spot(f, X, n, g, d, h, f[chunk + C_LO]), f[ROW_CELLS], step_in(f, X, each)
    for i in range(runs):
        v = fetch_run(x, at + i * row_step(f, X), run, s, raw)
        u = fetch_logit(f, logit, n, g, d, h, f[chunk + C_LO] + i, run, each, raw2)
        if s == 1:
            ask_ahead(f, v, run)
        lift_cells(row, i * run, size, v, u, run, par, q)


def lift_cells(row, at, size, v, u, n, par, q):
    """The components of a row of elements."""
    if n < VECTOR:
        lift_run(row, at, size, v, u, 0, n, par, q)
    else:
        for o in range(0, n, VECTOR):
            lift_run(row, at, size, v, u, min(o, n - VECTOR), VECTOR, par, q)


def lift_one(row, at, size, v, u, i, n, par, q):
    """The components of elements i .. i + n."""
    r = shift(row, at)
    for j in range(i, i + n):
        set_cell(r, j, size, lift(load(v, j), *(q + lane_params(par, at + j))))


def lift_two(row, at, size, v, u, i, n, par, q):
    """The components of elements i .. i + n and their logits."""
    r = shift(row, at)
    for j in range(i, i + n):
        set_cell(r, j, size, lift(load(v, j), load(u, j), *(q + lane_params(par, at + j))))


def no_logit(f, logit, n, g, d, h, w, run, each, raw):
    """There is no second operand."""
    return raw


def fetch_second(f, logit, n, g, d, h, w, run, each, raw):
    """A run of logits."""
    return fetch_run(logit, spot(f, LOGIT, n, g, d, h, w), run, step_in(f, LOGIT, each), raw)


def place_of(f, n, g, chunk, each):
    """Where the rows of a chunk lie, read once for many rows: what `lifted` and `join_rows` need of the plan."""
    r = RECORDS + RECORD * X
    return (spot(f, X, n, g, 0, 0, f[chunk + C_LO]), f[r + 2], f[r + 3], f[RING_D], f[RING_H], f[ROW_CELLS],
            (f[chunk + C_LO] - f[chunk + C_START]) * each, (f[chunk + C_HI] - f[chunk + C_LO]) * each, f[H])


def lifted(f, x, logit, ring, tags, n, g, d, h, chunk, each, par, raw, raw2, q, place):
    """Where the components of a row lie: in memory, in the ring of recent rows, or there from now on."""
    if BORROW:  # x lies in runs that are rows of cells already
        return shift(x, place[0] + d * place[1] + h * place[2])
    slot = (d & place[3]) * (place[4] + 1) + (h & place[4])
    row = shift(ring, slot * ACCUMULATORS * place[5])
    if tags[slot] != d * place[8] + h:
        tags[slot] = d * place[8] + h
        lift_row(f, x, logit, n, g, d, h, chunk, each, row, par, raw, raw2, q)
    return row


def forget_rows(tags, n):
    """Keep none of the rows that were."""
    for i in range(n):
        tags[i] = -1


def join_tall(f, x, logit, ring, tags, t, n, g, d, first, high, chunk, each, par, raw, raw2, q, place, state, held):
    """`join_rows` of windows that overlap much; whether it suits them."""
    size, cells, last = place[5], place[7], first + high
    for h in range(max(first, state[4]), last):  # the rows that no window had before
        p = lifted(f, x, logit, ring, tags, n, g, d, h, chunk, each, par, raw, raw2, q, place)
        if BORROW:
            ask_ahead(f, p, cells)
    state[4] = last
    if BORROW:
        rows, mask, down = shift(x, place[0] + d * place[1]), -1, place[2]
    else:
        rows, mask, down = shift(ring, (d & place[3]) * (place[4] + 1) * ACCUMULATORS * size), place[4], ACCUMULATORS * size
    return slide_down(t, CELLS, rows, mask, down, ACCUMULATORS, size, cells, first, last, f[H], f[JOIN_TALL], state, held)


def join_rows(f, x, logit, ring, tags, t, total, n, g, od, oh, chunk, each, par, raw, raw2, q, place, state, held):
    """The rows of the windows of output row (od, oh), joined column by column into t, which has padding on both sides."""
    firsts, high = f[H_FIRST] + (n * f[G] + g) * f[H_PLANE], f[f[H_COUNT] + oh]
    d, first = f[f[D_FIRST] + (n * f[G] + g) * f[D_PLANE] + od], f[firsts + oh]
    rows, down, deep = f[f[D_COUNT] + od] * high, f[H_STEP], f[D_STEP]
    size, skip, cells = place[5], place[6], place[7]
    if f[JOIN_TALL] and join_tall(f, x, logit, ring, tags, shift(t, skip), n, g, d, first, high, chunk, each, par, raw, raw2, q, place, state, held):
        return
    h, last = first, first + high * down
    p = lifted(f, x, logit, ring, tags, n, g, d, h, chunk, each, par, raw, raw2, q, place)
    if BORROW:  # noqa: SIM102 (the compiler leaves out what a constant excludes)
        if f[OH] == 1 and rows == high and down * place[2] == cells:
            join_stream(shift(t, skip), total, p, rows, cells)
            return
        moved = first - f[firsts + max(oh - 1, 0)]
        for i in range(max(high - moved, 0), high):  # the rows that no window had before
            ask_ahead(f, shift(p, i * down * place[2]), cells)
    one, two, block, blocks = p, p, 1, 0
    for i in range(1, rows):
        h += down
        if h == last:
            d, h = d + deep, first
        p = lifted(f, x, logit, ring, tags, n, g, d, h, chunk, each, par, raw, raw2, q, place)
        block += 1
        if block == 1:
            one = p
        elif block == 2:
            two = p
        elif block == 3:
            for k in range(ACCUMULATORS):
                merge_three(shift(t, k * CELLS + skip), shift(one, k * size), shift(two, k * size), shift(p, k * size), cells)
        elif block & 1 == 0:
            one = p
        else:
            for k in range(ACCUMULATORS):
                merge_more(shift(t, k * CELLS + skip), shift(one, k * size), shift(p, k * size), cells)
        if BLOCKED and block == BLOCK and i + 1 < rows:
            for k in range(ACCUMULATORS):
                add_up(shift(total, k * CELLS + skip), shift(t, k * CELLS + skip), cells, blocks)
            block, blocks = 0, 1
    for k in range(ACCUMULATORS):
        c = k * CELLS + skip
        if block == 1:
            copy_row(shift(t, c), shift(one, k * size), cells)
        elif block == 2:
            merge_two(shift(t, c), shift(one, k * size), shift(two, k * size), cells)
        elif block & 1 == 0:
            merge_one(shift(t, c), shift(one, k * size), cells)
        if blocks:
            merge_one(shift(t, c), shift(total, c), cells)


def join_stream(t, total, p, rows, n):
    """Rows that lie one behind the other, joined in the order of memory: one stream, which processors fetch ahead."""
    for b in range(0, rows, BLOCK):
        copy_row(t, shift(p, b * n), n)
        for i in range(b + 1, min(b + BLOCK, rows)):
            merge_one(t, shift(p, i * n), n)
        if b + BLOCK < rows:
            add_up(total, t, n, b)
    if rows > BLOCK:
        merge_one(t, total, n)


def add_up(total, t, n, again):
    """Move a block's sums to the total."""
    if again:
        merge_one(total, t, n)
    else:
        copy_row(total, t, n)


def join_columns(f, t, u, chunk, table, each, pack, odd, cut, m):
    """The columns of each window of the chunk, joined."""
    s, taps, apart = f[W_STRIDE], f[W_TAPS], f[W_STEP] * each
    if s == 0 or (each == 1 and taps >= LONG and s > 1):
        for i in range(m):
            at, count = (f[table + i] - f[chunk + C_START]) * each, f[f[W_COUNT] + f[chunk + C_OUT] + i]
            if each > 1:
                slide(shift(u, i * each), shift(t, at), each, count, apart)
            elif count >= LONG:
                u[i] = halve(pack, shift(t, at), count, apart)
            else:
                v = t[at]
                for w in range(1, count):
                    v = join(v, t[at + w * apart])
                u[i] = v
    elif s == 1 and taps >= MANY:
        slide_by_powers(u, t, m * each, taps, apart, cut)
    elif s == 1 or m == 1:
        slide(u, t, m * each, taps, apart)
    elif each > 1:
        for i in range(m):
            slide(shift(u, i * each), shift(t, i * s * each), each, taps, apart)
    elif s == 2:
        slide_pairs(u, t, m, taps, apart, pack, odd)
    else:
        slide_strided(u, t, m, s, taps, apart)


def pads(f, t, chunk, each):
    """Cells of padding on both sides of a row."""
    skip, end = (f[chunk + C_LO] - f[chunk + C_START]) * each, (f[chunk + C_HI] - f[chunk + C_START]) * each
    length = f[chunk + C_LENGTH] * each
    for k in range(ACCUMULATORS):
        fill_row(shift(t, k * CELLS), skip, empty())
        fill_row(shift(t, k * CELLS + end), length - end, empty())


def parameters_of(f, a, n, g, each, positions, par):
    """The parameters of the cells of a row: one a lane."""
    for k in range(PARAMETERS):
        p = reals(a[PARAM + k])
        at, s = spot(f, PARAM + k, n, g, 0, 0, 0), lane_step(f, PARAM + k) if f[CHANNEL_LANES] == 1 else 0
        for i in range(positions):
            for j in range(each):
                par[k * CELLS + i * each + j] = p[at + j * s]


def shares(f, chunk, each, number):
    """The divisors of a chunk's windows, as far as the last axis makes them."""
    table = shift(f, f[W_SHARE] + f[chunk + C_OUT])
    if each == 1:
        for i in range(f[chunk + C_LANES]):
            number[i] = real(table[i])
    else:
        for i in range(f[chunk + C_LANES]):
            for l in range(each):
                number[i * each + l] = real(table[i])


def finish_cells(y, u, at, n, share, number, par, q):
    """y of a row of windows; whether the common reference suits them."""
    if n < VECTOR:
        return finish_run(y, u, at, 0, n, share, number, par, q)
    fine = True
    for o in range(0, n, VECTOR):
        fine &= finish_run(y, u, at, min(o, n - VECTOR), VECTOR, share, number, par, q)
    return fine


def finish_run(y, u, at, i, n, share, number, par, q):
    """y of windows i .. i + n."""
    fine = True
    for j in range(i, i + n):
        v = get_cell(u, at + j)
        y[j] = finish(v, REFERENCE, share * number[at + j], *(q + lane_params(par, at + j)))
        fine &= safe(v, *(q + lane_params(par, at + j)))
    return fine


def finish_row(f, y, at, u, skip, each, share, number, par, pack, raw, q, runs, run, apart, s):
    """Store y of the windows of a chunk; whether the common reference suits them."""
    if not HALF:  # noqa: SIM102 (the compiler leaves out what a constant excludes)
        if runs == 1 and s == 1 and f[PAST_CACHE] == 0:
            return finish_cells(shift(y, at), u, skip, run, share, number, par, q)
    fine = True
    for i in range(runs):
        fine &= finish_cells(pack, u, skip + i * run, run, share, number, par, q)
        put_row(f, y, at + i * apart, pack, run, s, raw)
    return fine


def put_row(f, y, at, pack, n, s, raw):
    """Store a run of numbers."""
    row = shift(y, at)
    if s == 1:
        put_cells(row, pack, n, f[PAST_CACHE], raw)
    else:
        for j in range(n):
            store(row, j * s, pack[j])


def band_of(f, chunk, each):
    """How many output rows are worked on together, their pitch in t and in u: many short rows make one loop over all."""
    s, length = f[W_STRIDE], f[chunk + C_LENGTH] * each
    if f[TURN]:
        return f[TURN], length, max(f[chunk + C_LANES], f[TURN])
    if each > 1 or s == 0 or f[CHUNKS] > 1 or (s > 1 and f[W_TAPS] >= LONG):
        return 1, length, f[chunk + C_LANES] * each
    across = (length + s - 1) // s
    return max(1, BAND // (across * s)), across * s, across


def sweep_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y."""
    f, a = integers(plan), integers(data)
    x, logit, y = elements(a[X]), elements(a[LOGIT]), elements(a[Y])
    t, u, total, par, number, pack, odd, raw, raw2 = row4(), row4(), row4(), row4(), row1(), row1(), row1(), raw1(), raw1()
    cut = row5()
    base = a[WORK] + slot * f[WORK_SIZE]
    ring, tags, state, ends = reals(base), integers(base + f[TAGS_AT]), integers(base + f[JOIN_AT]), reals(base + f[JOIN_AT] + STATE)
    q = numbers(doubles(a[NUMBERS]))
    r, set_for, set_each = lo, 0, 0
    while r < hi:
        n, g, od, oh = row_of(f, r)
        last, each = min(f[OH], oh + hi - r), lanes_of(f, g)
        for c in range(f[CHUNKS]):
            chunk = f[CHUNK_TABLE] + CHUNK * c
            band, pitch, across = band_of(f, chunk, each)
            m = f[chunk + C_LANES] * each
            if chunk != set_for or each != set_each:
                set_for, set_each = chunk, each
                for b in range(band):
                    pads(f, shift(t, b * pitch), chunk, each)
                    shares(f, chunk, each, shift(number, b * across))
            band = min(band, last - oh)
            parameters_of(f, a, n, g, each, max(band * max(pitch, across) // each, f[chunk + C_LANES]), par)
            if r == lo or od == 0 or f[CHUNKS] > 1:  # else rows of the plane before may serve
                forget_rows(tags, (f[RING_D] + 1) * (f[RING_H] + 1))
            forget(f[JOIN_TALL], state)
            place, step = place_of(f, n, g, chunk, each), f[RECORDS + RECORD * Y + 3]
            runs, run, apart, s = runs_of(f, Y, f[chunk + C_LANES], each)
            at, deep = spot(f, Y, n, g, od, oh, f[chunk + C_OUT]), f[f[D_SHARE] + od]
            for i in range(0, last - oh, band):
                rows = min(band, last - oh - i)
                for b in range(rows):
                    join_rows(f, x, logit, ring, tags, shift(t, b * pitch), total, n, g, od, oh + i + b, chunk, each, par, raw, raw2, q, place,
                              state, ends)
                join_columns_of(f, t, u, n, g, chunk, each, pack, odd, cut, pitch, across,
                                (rows - 1) * across + m if rows > 1 else f[chunk + C_LANES])
                together = across == m and step == m * s and runs == 1
                for b in range(1, rows):
                    together = together and f[f[H_SHARE] + oh + i + b] == f[f[H_SHARE] + oh + i]
                for b in range(1 if together else rows):
                    share = real(deep * f[f[H_SHARE] + oh + i + b])
                    if not finish_row(f, y, at + (i + b) * step, u, b * across, each, share, number, par, pack, raw, q, runs,
                                      run * rows if together else run, apart, s):
                        for k in range(b, rows if together else b + 1):
                            mark(a, r + i + k)
        r += last - oh
    if f[PAST_CACHE]:
        settle()


def join_columns_of(f, t, u, n, g, chunk, each, pack, odd, cut, pitch, across, m):
    """The columns of each window, for every component."""
    o, table = f[chunk + C_OUT], f[W_FIRST] + (n * f[G] + g) * f[W_PLANE] + f[chunk + C_OUT]
    for k in range(ACCUMULATORS):
        if f[TURN]:
            turn_and_join(shift(u, k * CELLS), across, shift(t, k * CELLS), pitch, f[chunk + C_LENGTH], shift(f, table), shift(f, f[W_COUNT] + o),
                          f[chunk + C_START], f[chunk + C_LANES], cut)
        else:
            join_columns(f, shift(t, k * CELLS), shift(u, k * CELLS), chunk, table, each, pack, odd, cut, m)


# ---------------------------------------------------------------- backward

def terms_cells(held, size, u, n, gy, share, number, par, q):
    """What a row of windows hands out, times g; whether the common reference suits them."""
    if n < VECTOR:
        return terms_run(held, size, u, 0, n, gy, share, number, par, q)
    fine = True
    for o in range(0, n, VECTOR):
        fine &= terms_run(held, size, u, min(o, n - VECTOR), VECTOR, gy, share, number, par, q)
    return fine


def terms_run(held, size, u, i, n, gy, share, number, par, q):
    """What windows i .. i + n hand out."""
    fine = True
    for j in range(i, i + n):
        v = get_cell(u, j)
        w = terms(v, REFERENCE, share * number[j], *(q + lane_params(par, j)))
        scale_cell(held, j, size, gy[j], w)
        fine &= safe(v, *(q + lane_params(par, j)))
    return fine


def grad_row(f, grad, n, g, od, oh, chunk, each, gy):
    """The upstream gradient of the windows of a chunk, as numbers."""
    runs, run, apart, s = runs_of(f, Y, f[chunk + C_LANES], each)
    at = spot(f, Y, n, g, od, oh, f[chunk + C_OUT])
    for i in range(runs):
        row, out = shift(grad, at + i * apart), shift(gy, i * run)
        if s == 1:
            ask_for_run(f, row, run)
        for j in range(run):
            out[j] = load(row, j * s)


def slope_row(f, a, n, g, od, oh, u, chunk, each, gy, share, number, par, pack, q):
    """g dy/dparameter of the windows of a chunk, each to its place in an output-shaped array."""
    p, at = reals(a[GRAD_PARAM]), spot(f, GRAD_PARAM, n, g, od, oh, f[chunk + C_OUT])
    across, s = row_step(f, GRAD_PARAM), lane_step(f, GRAD_PARAM)
    slope_run(pack, u, f[chunk + C_LANES] * each, gy, share, number, par, q)
    for i in range(f[chunk + C_LANES]):
        for l in range(each):
            p[at + i * across + l * s] = pack[i * each + l]


def slope_run(out, u, n, gy, share, number, par, q):
    """g dy/dparameter of a run of windows."""
    for j in range(n):
        out[j] = gy[j] * param_slope(get_cell(u, j), REFERENCE, share * number[j], *(q + lane_params(par, j)))


def cover_tall(f, held, w, cells, d, h, state, ends):
    """`cover_rows` where windows overlap much; whether it suits them."""
    size, begin, end, planes = f[HELD_CELLS], f[f[H_COVER] + h], f[f[H_COVER] + h + 1], f[D_COVER] + d
    if begin == end or f[planes] == f[planes + 1]:
        return False
    rows = shift(held, held_slot(f, f[f[D_COVER] + f[planes]], 0) * TERMS * size)
    return slide_down(w, CELLS, rows, f[HELD_H], TERMS * size, TERMS, size, cells, f[f[H_COVER] + begin], f[f[H_COVER] + end - 1] + 1, f[OH],
                      f[COVER_TALL], state, ends)


def cover_rows(f, held, w, n, chunk, each, d, h, lead, state, ends):
    """Join what all rows of windows hand out that cover row (d, h) of the input."""
    cells, size, count, one, two = f[chunk + C_LANES] * each, f[HELD_CELLS], 0, held, held
    if f[COVER_TALL] and cover_tall(f, held, shift(w, lead), cells, d, h, state, ends):
        return
    for i in range(f[f[D_COVER] + d], f[f[D_COVER] + d + 1]):
        for j in range(f[f[H_COVER] + h], f[f[H_COVER] + h + 1]):
            row = shift(held, held_slot(f, f[f[D_COVER] + i], f[f[H_COVER] + j]) * TERMS * size)
            count += 1
            if count == 1:
                one = row
            elif count == 2:
                two = row
            else:
                for k in range(TERMS):
                    to = shift(w, k * CELLS + lead)
                    if count == 3:
                        merge_three(to, shift(one, k * size), shift(two, k * size), shift(row, k * size), cells)
                    else:
                        merge_one(to, shift(row, k * size), cells)
    for k in range(TERMS if count < 3 else 0):
        some_rows(shift(w, k * CELLS + lead), shift(one, k * size), shift(two, k * size), count, cells)


def some_rows(t, a, b, count, n):
    """t = none, one or two rows joined."""
    if count == 0:
        fill_row(t, n, real(0))
    elif count == 1:
        copy_row(t, a, n)
    else:
        merge_two(t, a, b, n)


def held_slot(f, od, oh):
    """Where the terms of an output row are kept."""
    return (od & f[HELD_D]) * (f[HELD_H] + 1) + (oh & f[HELD_H])


def cover_columns(f, w, e, chunk, each, lead, odd, even, cut, across):
    """Every position's sum over the windows that cover it, from the sums over rows."""
    first, n, taps = f[chunk + C_FROM] - f[chunk + C_START], f[chunk + C_TO] - f[chunk + C_FROM], f[W_TAPS]
    if f[TURN]:
        at = f[chunk + C_FROM]
        turn_and_join(e, across, w, f[chunk + C_LANES], f[chunk + C_LANES], shift(f, f[COVER_FIRST] + at), shift(f, f[COVER_COUNT] + at),
                      f[chunk + C_OUT], n, cut)
    elif f[W_SPREAD] == 1:
        apart = f[W_STEP] * each
        if taps >= MANY:
            slide_by_powers(e, shift(w, lead - (taps - 1) * apart + first * each), n * each, taps, apart, cut)
        else:
            slide(e, shift(w, lead - (taps - 1) * apart + first * each), n * each, taps, apart)
    elif f[W_SPREAD] == 2:
        twos, ones = (taps + 1) >> 1, taps >> 1
        j0, half = first >> 1, ((first + n + 1) >> 1) - (first >> 1)
        slide(even, shift(w, lead + (j0 - twos + 1) * each), half * each, twos, each)
        if ones == 0:
            fill_row(odd, half * each, real(0))
        else:
            slide(odd, shift(w, lead + (j0 - ones + 1) * each), half * each, ones, each)
        if each > 1:
            weave_lanes(e, even, odd, n, each, first & 1)
        elif first & 1:
            e[0] = odd[0]
            weave(shift(e, 1), shift(even, 1), shift(odd, 1), n - 1)
        else:
            weave(e, even, odd, n)
    else:
        gather_columns(f, w, e, chunk, each, lead)


def gather_columns(f, w, e, chunk, each, lead):
    """`cover_columns` for windows at any places."""
    for i in range(f[chunk + C_TO] - f[chunk + C_FROM]):
        at = f[W_COVER] + f[chunk + C_FROM] + i
        lo, hi = f[at], f[at + 1]
        if each > 1:
            row, begin = shift(e, i * each), shift(w, lead - f[chunk + C_OUT] * each)
            first, second = shift(begin, f[f[W_COVER] + lo] * each), shift(begin, f[f[W_COVER] + min(lo + 1, hi - 1)] * each)
            if hi - lo < 3:
                some_rows(row, first, second, hi - lo, each)
            else:
                merge_three(row, first, second, shift(begin, f[f[W_COVER] + lo + 2] * each), each)
            for o in range(lo + 3, hi):
                merge_one(row, shift(begin, f[f[W_COVER] + o] * each), each)
        else:
            v = real(0)
            for o in range(lo, hi):
                v += w[lead + f[f[W_COVER] + o] - f[chunk + C_OUT]]
            e[i] = v


def give(out, out2, v, u, row, size, e, at, skip, n, par, q):
    """The gradients of a row of elements."""
    if n < VECTOR:
        give_run(out, out2, v, u, row, size, e, at, skip, 0, n, par, q)
    else:
        for o in range(0, n, VECTOR):
            give_run(out, out2, v, u, row, size, e, at, skip, min(o, n - VECTOR), VECTOR, par, q)


def give_one(out, out2, v, u, row, size, e, at, skip, i, n, par, q):
    """The gradients of elements i .. i + n."""
    r, sums = shift(row, skip), shift(e, at)
    for j in range(i, i + n):
        out[j] = spread(load(v, j), lifted_cell(r, j, size), sum_cell(sums, j), REFERENCE, *(q + lane_params(par, skip + j)))


def give_two(out, out2, v, u, row, size, e, at, skip, i, n, par, q):
    """The gradients of elements i .. i + n and of their logits."""
    r, sums = shift(row, skip), shift(e, at)
    for j in range(i, i + n):
        out[j], out2[j] = spread(load(v, j), load(u, j), lifted_cell(r, j, size), sum_cell(sums, j), REFERENCE, *(q + lane_params(par, skip + j)))


def give_sums(out, out2, v, u, row, size, e, at, skip, i, n, par, q):
    """The gradients where they do not depend on the element."""
    sums = shift(e, at)
    for j in range(i, i + n):
        out[j] = spread(real(0), (), sum_cell(sums, j), REFERENCE, *q)


def alike(f, h, last, begins):
    """Rows from h on, below `last`, in groups that the same windows cover: how many groups, one or f[TURN]; where each begins, and the next one."""
    groups, end = 0, h
    while groups < max(f[TURN], 1) and end < last:
        begins[groups] = end
        groups, end = groups + 1, end + 1
        while end < last and f[f[H_SAME] + end] != 0:
            end += 1
    begins[groups] = end
    return groups


def unseen(f, tags, todo, many, d, h):
    """Append the rows of windows (od, oh) over row (d, h) of the input whose terms are not held yet to `todo`; returns how many are there."""
    begin, end = f[f[H_COVER] + h], f[f[H_COVER] + h + 1]
    for j in range(f[f[D_COVER] + d], f[f[D_COVER] + d + 1]):
        od, l = f[f[D_COVER] + j], begin
        if f[D] == 1:  # those above one that is held are, too
            l = end
            while l > begin and tags[held_slot(f, od, f[f[H_COVER] + l - 1])] != od * f[OH] + f[f[H_COVER] + l - 1]:
                l -= 1
        for k in range(l, end):
            oh = f[f[H_COVER] + k]
            s, row = held_slot(f, od, oh), od * f[OH] + oh
            if tags[s] != row:
                tags[s] = row
                todo[2 * many], todo[2 * many + 1] = od, oh
                many += 1
    return many


def give_row(f, a, x, logit, row, n, g, d, h, many, chunk, each, e, par, pack, pack2, raw, raw2, q):
    """Store the gradient of the elements of a row that belong to the chunk; of so many rows that are alike."""
    skip, width = (f[chunk + C_FROM] - f[chunk + C_LO]) * each, f[chunk + C_TO] - f[chunk + C_FROM]
    runs, run = runs_of_all(f, width, each, GRAD_X)
    at, from_x = spot(f, GRAD_X, n, g, d, h, f[chunk + C_FROM]), spot(f, X, n, g, d, h, f[chunk + C_FROM])
    gx, gl, s, apart, down = elements(a[GRAD_X]), open_second(a), step_in(f, GRAD_X, each), row_step(f, GRAD_X), f[RECORDS + RECORD * GRAD_X + 3]
    for i in range(runs):
        v, u = raw, raw2
        if RECOMPUTE:
            v = fetch_run(x, from_x + i * row_step(f, X), run, step_in(f, X, each), raw)
            u = fetch_logit(f, logit, n, g, d, h, f[chunk + C_FROM] + i, run, each, raw2)
        if not HALF:  # noqa: SIM102
            if s == 1 and f[PAST_CACHE] == 0:
                for k in range(many):
                    to = at + i * apart + k * down
                    give(shift(gx, to), shift(gl, to), v, u, row, f[ROW_CELLS], e, i * run, skip + i * run, run, par, q)
                continue
        give(pack, pack2, v, u, row, f[ROW_CELLS], e, i * run, skip + i * run, run, par, q)
        for k in range(many):
            put_row(f, gx, at + i * apart + k * down, pack, run, s, raw)
        store_second(f, gl, at + i * apart, pack2, run, s, raw)


def open_logits(a):
    """The gradient of the logits."""
    return elements(a[GRAD_LOGIT])


def open_none(a):
    """There is no second gradient."""
    return elements(a[GRAD_X])


def store_none(f, gl, at, pack, n, s, raw):
    """There is no second gradient."""


def sweep_backward(plan, data, slot, lo, hi):
    """Rows lo..hi of the gradient with respect to x (and the logits, and the parameters)."""
    f, a = integers(plan), integers(data)
    x, logit, grad = elements(a[X]), elements(a[LOGIT]), elements(a[Y])
    t, u, total, w, e, par = row4(), row4(), row4(), row4(), row4(), row4()
    number, pack, pack2, gy, raw, raw2 = row1(), row1(), row1(), row1(), raw1(), raw1()
    base, cut = a[WORK] + slot * f[WORK_SIZE], row5()
    ring, tags, held, held_tags = reals(base), integers(base + f[TAGS_AT]), reals(base + f[HELD_AT]), integers(base + f[HELD_TAGS_AT])
    state, ends, state2, ends2 = (integers(base + f[JOIN_AT]), reals(base + f[JOIN_AT] + STATE), integers(base + f[COVER_AT]),
                                  reals(base + f[COVER_AT] + STATE))
    todo, begins = integers(base + f[TODO_AT]), index_lanes()
    q = numbers(doubles(a[NUMBERS]))
    r = lo
    while r < hi:
        h, d = r % f[H], r // f[H] % f[D]
        p = r // f[H] // f[D]
        n, g = p // f[G], p % f[G]
        last, each = min(f[H], h + hi - r), lanes_of(f, g)
        for c in range(f[SLICES]):
            chunk = f[SLICE_TABLE] + CHUNK * c
            lead, band, pitch, across = f[W_LEAD] * each, max(f[TURN], 1), f[chunk + C_LENGTH] * each, max(f[chunk + C_LANES] * each, f[TURN])
            apart = max(f[chunk + C_TO] - f[chunk + C_FROM], f[TURN])
            for b in range(band):
                pads(f, shift(t, b * pitch), chunk, each)
            parameters_of(f, a, n, g, each, max(f[chunk + C_LENGTH], f[chunk + C_LANES]), par)
            shares(f, chunk, each, number)
            if r == lo or d == 0 or f[SLICES] > 1:  # else rows of the plane before may serve
                forget_rows(tags, (f[RING_D] + 1) * (f[RING_H] + 1))
                forget_rows(held_tags, (f[HELD_D] + 1) * (f[HELD_H] + 1))
            forget(f[JOIN_TALL], state)
            forget(f[COVER_TALL], state2)
            for k in range(TERMS):
                fill_row(shift(w, k * CELLS), lead, real(0))
                fill_row(shift(w, k * CELLS + lead + f[chunk + C_LANES] * each), lead, real(0))
            place = place_of(f, n, g, chunk, each)
            begins[0] = h
            while begins[0] < last:
                groups = alike(f, begins[0], last, begins)
                fresh = 0
                for b in range(groups):
                    fresh = unseen(f, held_tags, todo, fresh, d, begins[b])
                for first in range(0, fresh, band):
                    some, rows = min(band, fresh - first), shift(todo, 2 * first)
                    if RECOMPUTE:
                        for b in range(some):
                            join_rows(f, x, logit, ring, tags, shift(t, b * pitch), total, n, g, rows[2 * b], rows[2 * b + 1], chunk, each, par,
                                      raw, raw2, q, place, state, ends)
                        join_columns_of(f, t, u, n, g, chunk, each, pack, pack2, cut, pitch, across, f[chunk + C_LANES])
                    for b in range(some):
                        od, oh = rows[2 * b], rows[2 * b + 1]
                        grad_row(f, grad, n, g, od, oh, chunk, each, gy)
                        sums, share = shift(u, b * across), real(f[f[D_SHARE] + od] * f[f[H_SHARE] + oh])
                        if LEARNS:
                            slope_row(f, a, n, g, od, oh, sums, chunk, each, gy, share, number, par, pack, q)
                        to = shift(held, held_slot(f, od, oh) * TERMS * f[HELD_CELLS])
                        if not terms_cells(to, f[HELD_CELLS], sums, f[chunk + C_LANES] * each, gy, share, number, par, q):
                            mark(a, p)
                for b in range(groups):
                    cover_rows(f, held, shift(w, b * f[chunk + C_LANES]), n, chunk, each, d, begins[b], lead, state2, ends2)
                for k in range(TERMS):
                    cover_columns(f, shift(w, k * CELLS), shift(e, k * CELLS), chunk, each, lead, pack, pack2, cut, apart)
                for b in range(groups):
                    many = 1 if RECOMPUTE else begins[b + 1] - begins[b]
                    for i in range(begins[b], begins[b + 1], many):
                        row = held
                        if RECOMPUTE:
                            row = lifted(f, x, logit, ring, tags, n, g, d, i, chunk, each, par, raw, raw2, q, place)
                        give_row(f, a, x, logit, row, n, g, d, i, many, chunk, each, shift(e, b * apart), par, pack, pack2, raw, raw2, q)
                begins[0] = begins[groups]
        r += last - h
    if f[PAST_CACHE]:
        settle()


# ---------------------------------------------------------------- the shapes of a formula

def picked(a, b):
    """Chosen elements join by choosing; a stands before b."""
    return b if better(b, a) else a


def nothing():
    """An empty sum."""
    return real(0)


def as_it_is(x):
    """An element is its own lift."""
    return (x,)


def lift_from_start(x, *q):
    """What one element adds to an empty sum."""
    return step(start(), x, REFERENCE, *q)


def lift_both(x, logit, *q):
    """What one element and its logit add to an empty sum."""
    return step(start(), x, logit, REFERENCE, *q)


def only(acc, ref, n):
    """The chosen element."""
    return acc[0]


def always(acc, *q):
    """The common reference is never too far away."""
    return True


def cell0(p, j):
    """No number a cell."""
    return ()


def cell1(p, j):
    """The component of cell j."""
    return (p[j],)


def cell2(p, j):
    """The two components of cell j."""
    return p[j], p[CELLS + j]


def cell3(p, j):
    """The three components of cell j."""
    return p[j], p[CELLS + j], p[2 * CELLS + j]


def stored1(p, j, size):
    """The component of cell j of a row in the ring."""
    return (p[j],)


def stored2(p, j, size):
    """The two components of cell j of a row in the ring."""
    return p[j], p[size + j]


def stored3(p, j, size):
    """The three components of cell j of a row in the ring."""
    return p[j], p[size + j], p[2 * size + j]


def set_cell1(p, j, size, v):
    """Set the component of cell j of a row in the ring."""
    p[j] = v[0]


def set_cell2(p, j, size, v):
    """Set the two components of cell j of a row in the ring."""
    p[j], p[size + j] = v


def set_cell3(p, j, size, v):
    """Set the three components of cell j of a row in the ring."""
    p[j], p[size + j], p[2 * size + j] = v


def scale_cell1(p, j, size, g, v):
    """Set cell j to g times the component."""
    p[j] = g * v[0]


def scale_cell2(p, j, size, g, v):
    """Set cell j to g times the two components."""
    p[j], p[size + j] = g * v[0], g * v[1]
