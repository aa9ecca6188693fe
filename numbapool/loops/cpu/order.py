"""Order: y = sum of weight[r] times the r-th largest element; the weights depend on the number of elements and the channel.

The weights are made on the host, one row for each number of elements that occurs (RANK_ROW); a formula of this family is
just its weights.  Ties go to the first element; a NaN counts as the largest.  Backward adds g weight[r] to the element of
rank r, and sums g times the element of rank r for the gradient of the weights.  Legend: see rows.py.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .rows import *  # noqa: F403
from .short import vectors

MOST_TAPS = 9  # up to so many elements windows are sorted side by side
BLOCK = 16  # windows of a constant count, which LLVM makes one or two vectors of
INSERTION = 32  # up to so many one by one by insertion, more by merging


def collect(f, x, n, g, j, step, box, lx, table, values, places):
    """The elements of window j of a unit and their positions in the plane, largest first; returns their number."""
    away = distance(f, j, step, table)
    sideways = away * (1 - f[CHANNEL_LANES])
    c = 0
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            for w in range(box[6], box[7], box[8]):
                v, i = load(x, spot(f, X, n, g, d, h, w) + away * lx), c
                if SHORT:
                    while i > 0 and above(v, values[i - 1]):
                        values[i], places[i] = values[i - 1], places[i - 1]
                        i -= 1
                values[i], places[i] = v, (d * f[H] + h) * f[W] + w + sideways
                c += 1
    return c


def above(v, w):
    """v ranks before w, which stands before it in the window."""
    return (not w >= v) & (w == w)


def arrange(values, places, more, others, c):
    """Stable merge sort, largest first, for windows too large for insertion."""
    width = 1
    while width < c:
        for lo in range(0, c, 2 * width):
            i, mid, hi = lo, min(lo + width, c), min(lo + 2 * width, c)
            k = mid
            for t in range(lo, hi):
                if i < mid and (k >= hi or not above(values[k], values[i])):
                    more[t], others[t] = values[i], places[i]
                    i += 1
                else:
                    more[t], others[t] = values[k], places[k]
                    k += 1
        for t in range(c):
            values[t], places[t] = more[t], others[t]
        width *= 2


def ranked(f, x, n, g, j, step, box, lx, table, work):
    """Window j of a unit in order: its values, their positions, their number."""
    size = f[SORT_SIZE]
    values, places = reals(work), integers(work + 8 * size)
    c = collect(f, x, n, g, j, step, box, lx, table, values, places)
    if not SHORT:
        arrange(values, places, reals(work + 16 * size), integers(work + 24 * size), c)
    return values, places, c


def order_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y."""
    f, a = integers(plan), integers(data)
    x, y, weights = elements(a[X]), elements(a[Y]), reals(a[WEIGHTS])
    lx, ly, work = lane_step(f, X), lane_step(f, Y), a[WORK] + slot * f[WORK_SIZE] + f[SORT_AT]
    rows, pack, even, odd = tap_lanes(), lanes(), wide_lanes(), wide_lanes()
    for r in range(lo, hi):
        n, g, od, oh = row_of(f, r)
        for k in range(f[UNITS]):
            o, m, step, box, share = unit_of(f, k, n, g, od, oh)
            at = spot(f, Y, n, g, od, oh, o)
            if FEW:
                c = window_taps(f, x, n, g, m, step, firsts(f, n, g, o), box, rows, pack, even, odd)
                sort_taps(rows, c, m, pack)
                weigh_taps(f, weights, rows, c, m, g, pack)
                to = shift(y, at)
                for j in range(m):
                    store(to, j * ly, pack[j])
                continue
            for j in range(m):
                values, places, c = ranked(f, x, n, g, j, step, box, lx, firsts(f, n, g, o), work)
                row, s = weight_row(f, g, j, c), real(0)
                for i in range(min(c, f[RANKS])):
                    if weights[row + i] != real(0):
                        s += weights[row + i] * values[i]
                store(y, at + j * ly, s if values[0] == values[0] else values[0])


def in_order(v, w):
    """The larger one of two first: two instructions; where one is NaN they stay."""
    return w if w > v else v, v if w > v else w


def sort_taps(rows, c, m, out):
    """Sort the taps of m windows, largest first: a network, whose every step is a loop over windows; out is NaN where one of them is, else 0."""
    if c == MOST_TAPS:
        sort_nine(rows, out, m)
        return
    for j in range(m):
        out[j] = real(0)
    for i in range(c):
        row = shift(rows, i * LANES)
        for j in range(m):
            out[j] += either(row[j] == row[j], real(0), row[j])
    for i in range(1, c):
        for k in range(i, 0, -1):
            upper, lower = shift(rows, (k - 1) * LANES), shift(rows, k * LANES)
            for j in range(m):
                upper[j], lower[j] = in_order(upper[j], lower[j])


def sort_nine(rows, out, m):
    """`sort_taps` of nine taps, in registers: 25 exchanges, which are as few as can be (Codish, Cruz-Filipe, Frank and Schneider-Kamp 2014)."""
    r1, r2, r3, r4 = shift(rows, LANES), shift(rows, 2 * LANES), shift(rows, 3 * LANES), shift(rows, 4 * LANES)
    r5, r6, r7, r8 = shift(rows, 5 * LANES), shift(rows, 6 * LANES), shift(rows, 7 * LANES), shift(rows, 8 * LANES)
    for j in range(m):
        a, b, c, d, e, f, g, h, i = rows[j], r1[j], r2[j], r3[j], r4[j], r5[j], r6[j], r7[j], r8[j]
        fine = (a == a) & (b == b) & (c == c) & (d == d) & (e == e) & (f == f) & (g == g) & (h == h) & (i == i)
        out[j] = either(fine, real(0), real(a + b + c + d + e + f + g + h + i))
        (a, d), (b, h), (c, f), (e, i) = in_order(a, d), in_order(b, h), in_order(c, f), in_order(e, i)
        (a, h), (c, e), (d, i), (f, g) = in_order(a, h), in_order(c, e), in_order(d, i), in_order(f, g)
        (a, c), (b, d), (e, f), (h, i) = in_order(a, c), in_order(b, d), in_order(e, f), in_order(h, i)
        (b, e), (d, g), (f, h) = in_order(b, e), in_order(d, g), in_order(f, h)
        (a, b), (c, e), (d, f), (g, i) = in_order(a, b), in_order(c, e), in_order(d, f), in_order(g, i)
        (c, d), (e, f), (g, h) = in_order(c, d), in_order(e, f), in_order(g, h)
        (b, c), (d, e), (f, g) = in_order(b, c), in_order(d, e), in_order(f, g)
        rows[j], r1[j], r2[j], r3[j], r4[j], r5[j], r6[j], r7[j], r8[j] = a, b, c, d, e, f, g, h, i


def weigh_taps(f, weights, rows, c, m, g, out):
    """Add the weighted sums of sorted taps to out; a weight of 0 takes no part."""
    for i in range(min(c, f[RANKS])):
        row = shift(rows, i * LANES)
        if f[CHANNEL_LANES] == 1 and f[RANK_CHANNEL] != 0:
            for j in range(m):
                w = weights[weight_row(f, g, j, c) + i]
                out[j] += w * row[j] if w != real(0) else real(0)
        else:
            w = weights[weight_row(f, g, 0, c) + i]
            if w != real(0):
                for j in range(m):
                    out[j] += w * row[j]


def rank_taps(rows, ranks, c, m):
    """How many taps rank before each tap of m windows; of equal ones the first ranks first."""
    for i in range(c):
        for j in range(m):
            ranks[i * LANES + j] = real(0)
    for i in range(c):
        for k in range(i + 1, c):
            first, later = shift(ranks, i * LANES), shift(ranks, k * LANES)
            v, w = shift(rows, i * LANES), shift(rows, k * LANES)
            for j in range(m):
                swap = above(w[j], v[j])
                first[j] += real(1) if swap else real(0)
                later[j] += real(0) if swap else real(1)


def weights_of_taps(f, weights, rank, c, m, g, gy, out):
    """g times the weight of one tap of m windows."""
    for j in range(vectors(m)):
        out[j] = real(0)
    for i in range(min(c, f[RANKS])):
        r = real(i)
        if f[CHANNEL_LANES] == 1 and f[RANK_CHANNEL] != 0:
            for j in range(m):
                w = weights[weight_row(f, g, j, c) + i]
                out[j] += either(rank[j] == r, gy[j] * w, real(0))  # of one rank; a store where it is that would be one under a mask
        else:
            w = weights[weight_row(f, g, 0, c) + i]
            for j in range(vectors(m) if w != real(0) else 0):
                out[j] += either(rank[j] == r, gy[j] * w, real(0))


def sum_ranks(f, rows, ranks, c, m, gy, sums, pack):
    """Add g times the element of each rank to the sums of the windows' lanes."""
    for i in range(min(c, f[RANKS])):
        r, own = real(i), shift(sums, i * LANES)
        for j in range(m):
            pack[j] = real(0)
        for t in range(c):
            v, rank = shift(rows, t * LANES), shift(ranks, t * LANES)
            for j in range(m):
                pack[j] += either(rank[j] == r, v[j], real(0))
        for j in range(m):
            own[j] += float64(gy[j]) * float64(pack[j])


def flush_sums(f, sums, to, n, g, c, m):
    """Add the lanes' sums to those of the channel (or, where lanes are channels, of each) and clear them."""
    for i in range(min(c, f[RANKS])):
        for j in range(m):
            lane = j * f[CHANNEL_LANES]
            own = spot(f, GRAD_PARAM, n, g, 0, 0, 0) + lane * lane_step(f, GRAD_PARAM) + f[f[RANK_ROW] + c] * f[RANKS]
            to[own + i] += sums[i * LANES + j]
            sums[i * LANES + j] = 0.0


def weight_row(f, g, j, c):
    """Where the weights of a window of c elements begin."""
    channel = g * f[WIDTH] + j if f[CHANNEL_LANES] == 1 else g
    return channel * f[RANK_CHANNEL] + f[f[RANK_ROW] + c] * f[RANKS]


def order_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of gx, and of the sums that the gradient of the weights is made of."""
    f, a = integers(plan), integers(data)
    x, grad, weights, sums = elements(a[X]), elements(a[Y]), reals(a[WEIGHTS]), doubles(a[GRAD_WEIGHTS])
    lx, ly, lt, each = lane_step(f, X), lane_step(f, Y), lane_step(f, TARGET), f[RECORDS + RECORD * TARGET + 4]
    work = a[WORK] + slot * f[WORK_SIZE] + f[SORT_AT]
    rows, ranks, pack, even, odd, gl, own_sums = tap_lanes(), tap_lanes(), lanes(), wide_lanes(), wide_lanes(), lanes(), sum_lanes()
    before = 0
    for i in range(MOST_TAPS * LANES):
        own_sums[i] = 0.0
    for p in range(lo, hi):
        n, g = p // f[G], p % f[G]
        target, base = open_plane(f, a, GRAD_X, slot, 0, n, g), spot(f, TARGET, n, g, 0, 0, 0)
        for od in range(f[OD]):
            for oh in range(f[OH]):
                for k in range(f[UNITS]):
                    o, m, step, box, share = unit_of(f, k, n, g, od, oh)
                    at = spot(f, Y, n, g, od, oh, o)
                    if FEW:
                        c = window_taps(f, x, n, g, m, step, firsts(f, n, g, o), box, rows, pack, even, odd)
                        fetch(grad, at, m, ly, gl)
                        rank_taps(rows, ranks, c, vectors(m))
                        if LEARNS:
                            if c != before and before > 0:
                                flush_sums(f, own_sums, sums, n, g, before, LANES if f[CHANNEL_LANES] == 0 else m)
                            before = c
                            sum_ranks(f, rows, ranks, c, m, gl, own_sums, pack)
                        scatter_taps(f, weights, target, ranks, n, g, c, m, step, lt, firsts(f, n, g, o), box, gl, pack)
                        continue
                    for j in range(m):
                        values, places, c = ranked(f, x, n, g, j, step, box, lx, firsts(f, n, g, o), work)
                        row, gy = weight_row(f, g, j, c), load(grad, at + j * ly)
                        lane = base + j * lt * f[CHANNEL_LANES]
                        for i in range(min(c, f[RANKS])):
                            target[lane + places[i] * each] += gy * weights[row + i]
                        if LEARNS:
                            own = spot(f, GRAD_PARAM, n, g, 0, 0, 0) + j * f[CHANNEL_LANES] * lane_step(f, GRAD_PARAM)
                            own += f[f[RANK_ROW] + c] * f[RANKS]
                            for i in range(min(c, f[RANKS])):
                                sums[own + i] += float64(gy) * float64(values[i])
        if LEARNS and before > 0:
            flush_sums(f, own_sums, sums, n, g, before, LANES if f[CHANNEL_LANES] == 0 else min(f[WIDTH], f[CHANNELS] - g * f[WIDTH]))
            before = 0
        close_plane(f, a, GRAD_X, target, n, g)


def scatter_taps(f, weights, target, ranks, n, g, c, m, step, lt, table, box, gy, pack):
    """Add g times its weight to every tap of m windows."""
    t = 0
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            for w in range(box[6], box[7], box[8]):
                weights_of_taps(f, weights, shift(ranks, t * LANES), c, m, g, gy, pack)
                scatter(f, target, spot(f, TARGET, n, g, d, h, w), m, step, lt, table, pack)
                t += 1


# ---------------------------------------------------------------- 2x2 windows in one pass

def quad_tops(f, x, at, side, down, m, short):
    """Where the first elements of the two rows of m windows lie, and how far the second ones are; rows below BLOCK are laid into `short`."""
    ask_ahead(f, shift(x, at), 2 * m)
    ask_ahead(f, shift(x, at + down), 2 * m)
    if m >= BLOCK:
        return shift(x, at), shift(x, at + down), side
    apart = BLOCK if CHANNEL else 1
    for i in range(2):
        for k in range(2 if CHANNEL else 1):
            a, b = shift(x, at + i * down + k * side), shift(short, i * 2 * BLOCK + k * BLOCK)
            for j in range(m if CHANNEL else 2 * m):
                b[j] = a[j]
    return short, shift(short, 2 * BLOCK), apart


def lay_weights(f, weights, g, m, lay):
    """The weights of ranks 0 to 3 as lanes: of windows of one channel alike, else of each channel."""
    for i in range(4):
        for j in range(max(m, BLOCK) if CHANNEL else BLOCK):
            there = i < f[RANKS] and (j < m or not CHANNEL)
            lay[i * LANES + j] = weights[weight_row(f, g, j if CHANNEL else 0, 4) + i] if there else real(0)


def sort_four(a, b, c, d):
    """Four numbers, largest first; a NaN stays one, at any place."""
    a, b = (a, b) if a > b else (b, a)
    c, d = (c, d) if c > d else (d, c)
    a, c = (a, c) if a > c else (c, a)
    b, d = (b, d) if b > d else (d, b)
    b, c = (b, c) if b > c else (c, b)
    return a, b, c, d


def broken(a, b, c, d):
    """Whether one of four numbers is NaN."""
    return (a != a or b != b) or (c != c or d != d)


def part(w, v):
    """A weighted element; a weight of 0 takes no part."""
    return w * v if w != real(0) else real(0)


def quad_sorted(p, q, side, lay, y):
    """y of BLOCK windows."""
    p1, q1 = shift(p, side), shift(q, side)
    for j in range(BLOCK):
        a, b, c, d = load(p, STEP * j), load(p1, STEP * j), load(q, STEP * j), load(q1, STEP * j)
        s, t, u, v = sort_four(a, b, c, d)
        w = part(lay[j], s) + part(lay[LANES + j], t) + part(lay[2 * LANES + j], u) + part(lay[3 * LANES + j], v)
        store(y, j, real(math.nan) if broken(a, b, c, d) else w)


def quad_sorted_row(f, x, y, at, to, m, lay, short, out):
    """y of m windows side by side, BLOCK at a time; the last block lies over the one before."""
    p, q, side = quad_tops(f, x, at, row_step(f, X) * f[W_STEP] if CHANNEL else 1, f[RECORDS + RECORD * X + 3] * f[H_STEP], m, short)
    for k in range(0, m, BLOCK):
        o = max(min(k, m - BLOCK), 0)
        quad_sorted(shift(p, STEP * o), shift(q, STEP * o), side, shift(lay, o) if CHANNEL else lay, shift(y, to + o) if m >= BLOCK else out)
    if m < BLOCK:
        for j in range(m):
            y[to + j] = out[j]


def order_quad_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y: 2x2 windows, sorted in registers."""
    f, a = integers(plan), integers(data)
    x, y, weights = elements(a[X]), elements(a[Y]), reals(a[WEIGHTS])
    lay, short, out, plane = tap_lanes(), raw_block(), raw_block(), -1
    n, g, od, oh = row_of(f, lo)
    for _ in range(lo, hi):
        m = lanes_of(f, g) if CHANNEL else f[OW]
        if n * f[G] + g != plane:
            plane = n * f[G] + g
            lay_weights(f, weights, g, m, lay)
        d, h = f[f[D_FIRST] + od], f[f[H_FIRST] + oh]
        for o in range(f[OW] if CHANNEL else 1):
            quad_sorted_row(f, x, y, spot(f, X, n, g, d, h, f[f[W_FIRST] + o]), spot(f, Y, n, g, od, oh, o), m, lay, short, out)
        n, g, od, oh = next_row(f, n, g, od, oh)


def of_rank(s, t, u, w):
    """The weight of the element before which as many rank as of s, t, u are true."""
    odd = s != t
    many, odd = u if odd else s, odd != u
    few, more = w[1] if odd else w[0], w[3] if odd else w[2]
    return more if many else few


def quad_ranked(p, q, side, grad, lay, top, down, across, found):
    """g times the weight of each element of BLOCK windows, in rows from `top` on; for the weights the sorted elements, and g."""
    p1, q1, bottom, top1, bottom1 = shift(p, side), shift(q, side), shift(top, down), shift(top, across), shift(top, down + across)
    for j in range(BLOCK):
        a, b, c, d, gy = load(p, STEP * j), load(p1, STEP * j), load(q, STEP * j), load(q1, STEP * j), load(grad, j)
        w = lay[j], lay[LANES + j], lay[2 * LANES + j], lay[3 * LANES + j]
        back = w[3], w[2], w[1], w[0]
        ba, ca, da, cb, db, dc = above(b, a), above(c, a), above(d, a), above(c, b), above(d, b), above(d, c)
        store(top, STEP * j, gy * of_rank(ba, ca, da, w))
        store(top1, STEP * j, gy * of_rank(cb, db, not ba, w))
        store(bottom, STEP * j, gy * of_rank(ca, cb, not dc, back))
        store(bottom1, STEP * j, gy * of_rank(da, db, dc, back))
        if LEARNS:
            s, t, u, v = sort_four(a, b, c, d)
            found[j] = real(math.nan) if broken(a, b, c, d) else s
            found[BLOCK + j], found[2 * BLOCK + j], found[3 * BLOCK + j], found[4 * BLOCK + j] = t, u, v, gy


def sum_found(found, done, end, sums):
    """Add g times the element of each rank to the sums of the lanes from `done` to `end`."""
    for j in range(BLOCK):
        g, inside = float64(found[4 * BLOCK + j]), (j >= done) & (j < end)
        sums[j] += g * float64(found[j]) if inside else 0.0
        sums[LANES + j] += g * float64(found[BLOCK + j]) if inside else 0.0
        sums[2 * LANES + j] += g * float64(found[2 * BLOCK + j]) if inside else 0.0
        sums[3 * LANES + j] += g * float64(found[3 * BLOCK + j]) if inside else 0.0


def order_quad_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of gx and of the sums that the gradient of the weights is made of: 2x2 windows side by side."""
    f, a = integers(plan), integers(data)
    x, grad, gx, weights, sums = elements(a[X]), elements(a[Y]), elements(a[GRAD_X]), reals(a[WEIGHTS]), doubles(a[GRAD_WEIGHTS])
    lay, short, own, out, found, gl = tap_lanes(), raw_block(), sum_lanes(), raw_block(), lanes(), raw_block()
    for i in range(4 * LANES):
        own[i] = 0.0
    for plane in range(lo, hi):
        n, g = plane // f[G], plane % f[G]
        m = lanes_of(f, g) if CHANNEL else f[OW]
        lay_weights(f, weights, g, m, lay)
        for od in range(f[OD]):
            for oh in range(f[OH]):
                for o in range(f[OW] if CHANNEL else 1):
                    quad_ranked_row(f, x, grad, gx, n, g, od, oh, o, m, lay, short, gl, out, found, own)
                clear_rest(f, gx, gx, n, g, od, oh, lanes_of(f, g))
        if LEARNS:
            flush_sums(f, own, sums, n, g, 4, m if CHANNEL else BLOCK)


def quad_ranked_row(f, x, grad, gx, n, g, od, oh, o, m, lay, short, gl, out, found, sums):
    """The gradient of m windows side by side, BLOCK at a time; the last block lies over the one before."""
    down, across = f[RECORDS + RECORD * GRAD_X + 3], row_step(f, GRAD_X) if CHANNEL else 1
    p, q, side = quad_tops(f, x, spot(f, X, n, g, od, 2 * oh, 2 * o), row_step(f, X) if CHANNEL else 1, f[RECORDS + RECORD * X + 3], m, short)
    to, gy = shift(gx, spot(f, GRAD_X, n, g, od, 2 * oh, 2 * o)), shift(grad, spot(f, Y, n, g, od, oh, o))
    if m < BLOCK:
        for j in range(m):
            gl[j] = gy[j]
        gy = gl
    for k in range(0, m, BLOCK):
        i = max(min(k, m - BLOCK), 0)
        p2, q2, gy2, lay2 = shift(p, STEP * i), shift(q, STEP * i), shift(gy, i), shift(lay, i) if CHANNEL else lay
        if CHANNEL and m >= BLOCK:
            quad_ranked(p2, q2, side, gy2, lay2, shift(to, i), down, across, found)
        else:  # rows of pairs vectorise where LLVM knows that they do not overlap
            quad_ranked(p2, q2, side, gy2, lay2, out, 2 * BLOCK, BLOCK if CHANNEL else 1, found)
            put_quads(shift(to, STEP * i), down, across, min(m, BLOCK), out)
        if LEARNS:
            sum_found(found, k - i, m, shift(sums, i) if CHANNEL else sums)


def put_quads(gx, down, across, n, out):
    """The gradient of n windows: rows of the two elements side by side, or of either one."""
    for i in range(2):
        for k in range(2 if CHANNEL else 1):
            row, to = shift(out, (2 * i + k) * BLOCK), shift(gx, i * down + k * across)
            for j in range(STEP * n):
                write(to, j, row[j])
