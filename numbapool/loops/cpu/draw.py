"""Draw: y is one element of the window, drawn with probability chance(x) / sum of chances, or by its rank.  Backward gives g to that element.

The choice is the first element with a positive chance whose running sum reaches u times the sum, u a uniform number
in [0, 1): given (the operand PARAM) or drawn from the generator at the output's position.  Legend: see rows.py; u lanes of
uniform numbers, drawn = (plane, first, end) what of the generator's they hold.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .order import BLOCK, above, arrange, collect, put_quads, quad_tops
from .rows import *  # noqa: F403


def samples_of(f, a, n, g, od, oh, o, m, u, drawn):
    """The uniform numbers of m windows: where among u they begin, and what u holds."""
    if a[PARAM] != 0:
        p, at, s = reals(a[PARAM]), spot(f, PARAM, n, g, od, oh, o), lane_step(f, PARAM)
        for j in range(m):
            u[j] = p[at + j * s]
        return 0, drawn
    q = (od * f[OH] + oh) * f[OW] + o
    if f[CHANNEL_LANES] == 1:
        plane, first = n * f[CHANNELS] + g * f[WIDTH], q - (q & 3)
        if drawn[0] != plane or drawn[1] != first:
            for j in range(0, m, BLOCK):
                draw_planes(np.uint64(a[SEED]), np.uint64(first >> 2), np.uint64(plane + j), shift(u, j))
        return (q & 3) * LANES, (plane, first, first + 4)
    plane, first = n * f[G] + g, drawn[1]
    if drawn[0] != plane or q < first or q + m > drawn[2]:
        first = q - (q & 3)
        end = min(f[OD] * f[OH] * f[OW], first + 4 * LANES)
        for j in range(first, end, 4 * BLOCK):
            draw_neighbours(np.uint64(a[SEED]), np.uint64(j >> 2), np.uint64(plane), shift(u, j - first))
        return q - first, (plane, first, end)
    return q - first, drawn


def draw_planes(seed, block, plane, u):
    """The uniform numbers of four neighbours, a row of lanes each, in BLOCK planes."""
    for j in range(BLOCK):
        w = philox(seed, block, plane + np.uint64(j))
        u[j], u[LANES + j], u[2 * LANES + j], u[3 * LANES + j] = fraction(w[0]), fraction(w[1]), fraction(w[2]), fraction(w[3])


def draw_neighbours(seed, block, plane, u):
    """The uniform numbers of 4 BLOCK neighbours."""
    for j in range(BLOCK):
        w = philox(seed, block + np.uint64(j), plane)
        u[4 * j], u[4 * j + 1], u[4 * j + 2], u[4 * j + 3] = fraction(w[0]), fraction(w[1]), fraction(w[2]), fraction(w[3])


def fraction(w):
    """A word's upper 24 bits as a number in [0, 1): exact in every dtype."""
    return real(np.int32((w & np.uint64(0xFFFFFFFF)) >> np.uint64(8))) * real(2.0 ** -24)


def draw(f, a, x, n, g, od, oh, k, at_work, u, drawn, best, where):
    """The drawn elements of unit k of a row, and how far their positions are from the windows' first elements; what u holds."""
    total, goal, pack, rows, even, odd, room = at_work
    o, m, step, box, share = unit_of(f, k, n, g, od, oh)
    table, lx = firsts(f, n, g, o), lane_step(f, X)
    few = (box[1] - box[0]) // box[2] * ((box[4] - box[3]) // box[5]) * ((box[7] - box[6]) // box[8]) <= MOST_TAPS
    if few:
        window_taps(f, x, n, g, m, step, table, box, rows, pack, even, odd)
    for j in range(m):
        total[j] = real(0)
    c = 0
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            for w in range(box[6], box[7], box[8]):
                v = shift(rows, c * LANES) if few else tap(f, x, spot(f, X, n, g, d, h, w), m, step, lx, table, pack)
                for j in range(m):
                    total[j] += chance(v[j])
                c += 1
    skip, drawn = samples_of(f, a, n, g, od, oh, o, m, u, drawn)
    own = shift(u, skip)
    for j in range(m):
        goal[j] = threshold(total[j], own[j])
    pick(f, x, n, g, m, step, box, table, lx, total, goal, best, where, pack, rows, few)
    return drawn


def draw_ranked(f, a, x, n, g, od, oh, k, at_work, u, drawn, best, where):
    """The same by rank, whose probabilities do not depend on the elements: counted among few elements, else found by sorting."""
    rank, goal, pack, rows, even, odd, room = at_work
    o, m, step, box, share = unit_of(f, k, n, g, od, oh)
    table, q = firsts(f, n, g, o), numbers(doubles(a[NUMBERS]))
    c = (box[1] - box[0]) // box[2] * ((box[4] - box[3]) // box[5]) * ((box[7] - box[6]) // box[8])
    skip, drawn = samples_of(f, a, n, g, od, oh, o, m, u, drawn)
    own = shift(u, skip)
    for j in range(m):
        goal[j] = real(drawn_rank(own[j], c, *q))
    if c <= MOST_TAPS:
        window_taps(f, x, n, g, m, step, table, box, rows, pack, even, odd)
        pick_ranked(f, m, box, c, rows, rank, goal, best, where)
    else:
        size = f[SORT_SIZE]
        values, taken = reals(room), integers(room + 8 * size)
        first = (box[0] * f[H] + box[3]) * f[W] + box[6]
        for j in range(m):
            collect(f, x, n, g, j, step, box, lane_step(f, X), table, values, taken)
            arrange(values, taken, reals(room + 16 * size), integers(room + 24 * size), c)
            i = np.int64(goal[j])
            if values[0] != values[0]:
                i = 0
                while i + 1 < c and values[i + 1] != values[i + 1]:
                    i += 1
            best[j], where[j] = values[i], place(taken[i] - first - distance(f, j, step, table) * (1 - f[CHANNEL_LANES]))
    return drawn


def pick_ranked(f, m, box, c, rows, rank, goal, best, where):
    """The elements of the ranks drawn among c taps of m windows; the last NaN wins."""
    i = 0
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            for w in range(box[6], box[7], box[8]):
                v, here = shift(rows, i * LANES), place(((d - box[0]) * f[H] + h - box[3]) * f[W] + w - box[6])
                for j in range(m):
                    rank[j] = real(0)
                for t in range(c):
                    other = shift(rows, t * LANES)
                    if t < i:
                        for j in range(m):
                            rank[j] += real(0) if above(v[j], other[j]) else real(1)
                    elif t > i:
                        for j in range(m):
                            rank[j] += real(1) if above(other[j], v[j]) else real(0)
                for j in range(m):
                    take = ((rank[j] == goal[j]) & (i == 0 or best[j] == best[j])) | (v[j] != v[j])
                    best[j] = v[j] if take or i == 0 else best[j]
                    where[j] = here if take or i == 0 else where[j]
                i += 1


def threshold(total, u):
    """What the running sum of the drawn element reaches: u times the sum, and above 0; an infinite sum is reached by the infinite element alone."""
    goal = total if total - total != real(0) else total * u
    return LEAST if goal < LEAST else goal


def pick(f, x, n, g, m, step, box, table, lx, total, goal, best, where, pack, rows, few):
    """The first element whose running sum reaches the goal; of an all-zero window the first; the last NaN wins."""
    v = tap(f, x, spot(f, X, n, g, box[0], box[3], box[6]), m, step, lx, table, pack)
    for j in range(m):
        best[j], where[j], total[j] = v[j], place(0), real(0)
    t = 0
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            for w in range(box[6], box[7], box[8]):
                v = shift(rows, t * LANES) if few else tap(f, x, spot(f, X, n, g, d, h, w), m, step, lx, table, pack)
                t += 1
                here = place(((d - box[0]) * f[H] + h - box[3]) * f[W] + w - box[6])
                for j in range(m):
                    c = chance(v[j])
                    before = total[j]
                    total[j] = before + c
                    take = ((before < goal[j]) & (before + c >= goal[j])) | (c != c)
                    best[j] = v[j] if take else best[j]
                    where[j] = here if take else where[j]


def draw_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y and of the index."""
    f, a = integers(plan), integers(data)
    x, y, index = elements(a[X]), elements(a[Y]), integers(a[INDEX])
    best, where, u, drawn = lanes(), places(), wide_lanes(), (-1, 0, 0)
    at_work = lanes(), lanes(), lanes(), tap_lanes(), wide_lanes(), wide_lanes(), a[WORK] + slot * f[WORK_SIZE] + f[SORT_AT]
    ly, li, across = lane_step(f, Y), lane_step(f, INDEX), 1 - f[CHANNEL_LANES]
    for r in range(lo, hi):
        n, g, od, oh = row_of(f, r)
        for k in range(f[UNITS]):
            drawn = draw(f, a, x, n, g, od, oh, k, at_work, u, drawn, best, where)
            o, m, step, box, share = unit_of(f, k, n, g, od, oh)
            put_lanes(shift(y, spot(f, Y, n, g, od, oh, o)), best, m, ly)
            if INDEXED:
                first = (box[0] * f[H] + box[3]) * f[W] + box[6]
                write_index(f, shift(index, spot(f, INDEX, n, g, od, oh, o)), m, li, first, step * across, across, firsts(f, n, g, o), where)


def draw_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of gx, with the elements drawn again: no index is stored."""
    f, a = integers(plan), integers(data)
    x, grad = elements(a[X]), elements(a[Y])
    best, where, u, drawn = lanes(), places(), wide_lanes(), (-1, 0, 0)
    at_work = lanes(), lanes(), lanes(), tap_lanes(), wide_lanes(), wide_lanes(), a[WORK] + slot * f[WORK_SIZE] + f[SORT_AT]
    ly, lt, each, sideways = lane_step(f, Y), lane_step(f, TARGET), f[RECORDS + RECORD * TARGET + 4], 1 - f[CHANNEL_LANES]
    for p in range(lo, hi):
        n, g = p // f[G], p % f[G]
        target, base = open_plane(f, a, GRAD_X, slot, 0, n, g), spot(f, TARGET, n, g, 0, 0, 0)
        for r in range(f[OD] * f[OH]):
            od, oh = r // f[OH], r % f[OH]
            for k in range(f[UNITS]):
                drawn = draw(f, a, x, n, g, od, oh, k, at_work, u, drawn, best, where)
                o, m, step, box, share = unit_of(f, k, n, g, od, oh)
                table, at, first = firsts(f, n, g, o), spot(f, Y, n, g, od, oh, o), (box[0] * f[H] + box[3]) * f[W] + box[6]
                for j in range(m):
                    i = first + where[j] + distance(f, j, step, table) * sideways
                    target[base + i * each + j * lt * f[CHANNEL_LANES]] += load(grad, at + j * ly)
        close_plane(f, a, GRAD_X, target, n, g)


# ---------------------------------------------------------------- 2x2 windows in one pass

def drawn_of_four(a, b, c, d, u, right, below, shares):
    """The drawn one of four elements, and its distance from the first."""
    s = chance(a)
    t = s + chance(b)
    v = t + chance(c)
    total = v + chance(d)
    goal = threshold(total, u)
    y, i = (d, below + right) if total >= goal else (a, place(0))
    y, i = (c, below) if v >= goal else (y, i)
    y, i = (b, right) if t >= goal else (y, i)
    y, i = (a, place(0)) if s >= goal else (y, i)
    last = below + right if d != d else below if c != c else right if b != b else place(0)
    return (y, i) if total == total else (total, last)


def no_shares():
    """Chances are the elements'."""
    return ()


def ranked_of_four(a, b, c, d, u, right, below, shares):
    """The same by rank; the last NaN wins."""
    ba, ca, da, cb, db, dc = above(b, a), above(c, a), above(d, a), above(c, b), above(d, b), above(d, c)
    goal = float64(u) * shares[3]
    s, t, v = shares[0] < goal, shares[1] < goal, shares[2] < goal
    y, i = (c, below) if same_rank(ca, cb, not dc, not s, not t, not v) else (d, below + right)
    y, i = (b, right) if same_rank(cb, db, not ba, s, t, v) else (y, i)
    y, i = (a, place(0)) if same_rank(ba, ca, da, s, t, v) else (y, i)
    y, i = (a, place(0)) if a != a else (y, i)
    y, i = (b, right) if b != b else (y, i)
    y, i = (c, below) if c != c else (y, i)
    return (d, below + right) if d != d else (y, i)


def same_rank(p, q, r, s, t, v):
    """Whether as many of p, q, r are true as of s, t, v."""
    odd, more = (p != q) != r, (s != t) != v
    return (odd == more) & (((p & q) | (r & (p | q))) == ((s & t) | (v & (s | t))))


def quad_drawn(p, q, side, u, right, below, y, where, shares):
    """y and the distances from the first elements of BLOCK windows."""
    p1, q1 = shift(p, side), shift(q, side)
    for j in range(BLOCK):
        a, b, c, d = load(p, STEP * j), load(p1, STEP * j), load(q, STEP * j), load(q1, STEP * j)
        v, i = one_of_four(a, b, c, d, u[j], right, below, shares)
        store(y, j, v)
        if INDEXED:
            where[j] = i


def draw_quad_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y and of the index: 2x2 windows, drawn in registers."""
    f, a = integers(plan), integers(data)
    x, y, index = elements(a[X]), elements(a[Y]), integers(a[INDEX])
    where, u, drawn, short, out = places(), wide_lanes(), (-1, 0, 0), raw_block(), raw_block()
    li, down, shares = lane_step(f, INDEX), f[RECORDS + RECORD * X + 3] * f[H_STEP], four_shares(*numbers(doubles(a[NUMBERS])))
    side, right, below = row_step(f, X) * f[W_STEP] if CHANNEL else 1, place(f[W_STEP]), place(f[H_STEP] * f[W])
    n, g, od, oh = row_of(f, lo)
    for _ in range(lo, hi):
        d, h = f[f[D_FIRST] + od], f[f[H_FIRST] + oh]
        for o in range(0, f[OW], 1 if CHANNEL else LANES):
            m = lanes_of(f, g) if CHANNEL else min(LANES, f[OW] - o)
            w = f[f[W_FIRST] + o]
            p, q, apart = quad_tops(f, x, spot(f, X, n, g, d, h, w), side, down, m, short)
            skip, drawn = samples_of(f, a, n, g, od, oh, o, m, u, drawn)
            own, to = shift(u, skip), shift(y, spot(f, Y, n, g, od, oh, o))
            for k in range(0, m, BLOCK):
                i = max(min(k, m - BLOCK), 0)
                quad_drawn(shift(p, STEP * i), shift(q, STEP * i), apart, shift(own, i), right, below, shift(to, i) if m >= BLOCK else out,
                           shift(where, i), shares)
            if m < BLOCK:
                for j in range(m):
                    to[j] = out[j]
            if INDEXED:
                write_index(f, shift(index, spot(f, INDEX, n, g, od, oh, o)), m, li, (d * f[H] + h) * f[W] + w, 2 if not CHANNEL else 0,
                            1 if not CHANNEL else 0, 0, where)
        n, g, od, oh = next_row(f, n, g, od, oh)


def quad_given(p, q, side, u, grad, top, down, across, shares):
    """g at the drawn elements of BLOCK windows and 0 at the others, in rows from `top` on."""
    p1, q1, bottom, top1, bottom1 = shift(p, side), shift(q, side), shift(top, down), shift(top, across), shift(top, down + across)
    for j in range(BLOCK):
        a, b, c, d, gy = load(p, STEP * j), load(p1, STEP * j), load(q, STEP * j), load(q1, STEP * j), load(grad, j)
        v, i = one_of_four(a, b, c, d, u[j], place(1), place(2), shares)
        store(top, STEP * j, gy if i == place(0) else real(0))
        store(top1, STEP * j, gy if i == place(1) else real(0))
        store(bottom, STEP * j, gy if i == place(2) else real(0))
        store(bottom1, STEP * j, gy if i == place(3) else real(0))


def draw_quad_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of gx: 2x2 windows side by side, whose elements are drawn again and written."""
    f, a = integers(plan), integers(data)
    x, grad, gx = elements(a[X]), elements(a[Y]), elements(a[GRAD_X])
    u, drawn, short, out, gl = wide_lanes(), (-1, 0, 0), raw_block(), raw_block(), raw_block()
    side, across, shares = row_step(f, X) if CHANNEL else 1, row_step(f, GRAD_X) if CHANNEL else 1, four_shares(*numbers(doubles(a[NUMBERS])))
    for plane in range(lo, hi):
        n, g = plane // f[G], plane % f[G]
        for od in range(f[OD]):
            for oh in range(f[OH]):
                for o in range(0, f[OW], 1 if CHANNEL else LANES):
                    m = lanes_of(f, g) if CHANNEL else min(LANES, f[OW] - o)
                    skip, drawn = samples_of(f, a, n, g, od, oh, o, m, u, drawn)
                    p, q, apart = quad_tops(f, x, spot(f, X, n, g, od, 2 * oh, 2 * o), side, f[RECORDS + RECORD * X + 3], m, short)
                    to, gy = shift(gx, spot(f, GRAD_X, n, g, od, 2 * oh, 2 * o)), shift(grad, spot(f, Y, n, g, od, oh, o))
                    if m < BLOCK:
                        for j in range(m):
                            gl[j] = gy[j]
                        gy = gl
                    give_quads(f, p, q, apart, shift(u, skip), gy, to, across, m, out, shares)
                clear_rest(f, gx, gx, n, g, od, oh, lanes_of(f, g))


def give_quads(f, p, q, side, u, gy, to, across, m, out, shares):
    """`quad_given` for m windows, BLOCK at a time; the last block lies over the one before."""
    down = f[RECORDS + RECORD * GRAD_X + 3]
    for k in range(0, m, BLOCK):
        i = max(min(k, m - BLOCK), 0)
        p2, q2, u2, gy2 = shift(p, STEP * i), shift(q, STEP * i), shift(u, i), shift(gy, i)
        if CHANNEL and m >= BLOCK:
            quad_given(p2, q2, side, u2, gy2, shift(to, i), down, across, shares)
        else:
            quad_given(p2, q2, side, u2, gy2, out, 2 * BLOCK, BLOCK if CHANNEL else 1, shares)
            put_quads(shift(to, STEP * i), down, across, min(m, BLOCK), out)


# ---------------------------------------------------------------- results

def write_index(f, index, m, li, first, step, across, table, where):
    """The positions of the chosen elements: that of the window's first one, and how far they are from it."""
    if (across == 0 or step != 0) and li == 1:
        for j in range(m):
            index[j] = first + j * step + where[j]
    elif across == 0 or step != 0:
        for j in range(m):
            index[j * li] = first + j * step + where[j]
    else:
        for j in range(m):
            index[j * li] = first + where[j] + f[table + j] - f[table]


def put_lanes(y, best, m, s):
    """Store m elements."""
    if s == 1:
        for j in range(m):
            store(y, j, best[j])
    else:
        for j in range(m):
            store(y, j * s, best[j])
