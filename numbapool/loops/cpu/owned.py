"""Owned: the gradient of chosen elements where windows of 2x2x2, 2x2 or 1x2 lie side by side and own their elements, each of which is written once.

The elements are chosen again, or indices name them; a plane with an index that lies outside of its window is left to select.py's loop, which puts
gradients anywhere.  Nothing is cleared before or added up; gradients move as they are stored, halves as their bits.
Measured on float32 with indices, one thread: (8, 64, 112, 112) in 2x2 windows 2.1 ms in select.py's loop and 1.2 here.

Legend: see rows.py and select.py; tall: the rows of a window, two or one; p, q what tells the chosen one of a row of windows: their two rows of
elements, or twice their indices.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .direct import clear_rest
from .lines import *  # noqa: F403
from .rows import *  # noqa: F403
from .sweep import flat

CALLED = ("own_across", "own_pairs", "own_lanes", "own_eights", "own_eight_lanes", "give_short", "give_eights")


def rest(n):
    """Where the last vector of n cells begins, 0 where whole ones or none are all, and how many cells stand in whole ones, or n."""
    return (n - VECTOR, n & -VECTOR) if n > VECTOR and n & VECTOR - 1 else (0, n)


def rows_of_gradient(f, positions, each):
    """How the cells of a row of the gradient lie in memory: runs, and cells a run."""
    return (1, positions * each) if flat(f, GRAD_X, each) else (positions, each)


def grads_of(f, grad, at, i, m, each, raw):
    """How many gradients a row of windows has, or with channels as lanes its i-th one, and these side by side."""
    run, row, s = each if f[CHANNEL_LANES] else m, shift(grad, at + i * row_step(f, Y)), lane_step(f, Y)
    if s != 1:
        for j in range(run):
            raw[j] = row[j * s]
        row = raw
    return run, row


def give_rows(f, gx, grad, source, n, g, od, oh, chunk, each, top, bottom, raw, wide):
    """The gradient's rows of a chunk of windows; 0 where each gives its own elements all that it has."""
    m, at, wrong = f[chunk + C_LANES], spot(f, Y, n, g, od, oh, f[chunk + C_OUT]), 0
    tall, down = f[f[H_COUNT] + oh], f[RECORDS + RECORD * GRAD_X + 3]
    here, below = (od * f[H] + tall * oh) * f[W] + f[chunk + C_START], f[W] if tall > 1 else 1 << 62
    to, (runs, cells), lanes = spot(f, GRAD_X, n, g, od, tall * oh, f[chunk + C_START]), rows_of_gradient(f, 2 * m, each), f[CHANNEL_LANES]
    at_once = runs == 1 and not f[PAST_CACHE]
    together = f[PAST_CACHE] and tall > 1 and runs == 1 and down == cells and cells & (LINE - 1) != 0  # one may not end at a line where two do
    if at_once:
        top, bottom = shift(gx, to), shift(gx, to + down)
    elif together:
        bottom = shift(top, cells)
    for i in range(m if lanes else 1):
        run, row = grads_of(f, grad, at, i, m, each, raw)
        p, q = told_by(f, source, n, g, od, oh, chunk, i, row, run, wide)
        o, k = rest(m)  # whole vectors, and the last one again where there is a rest, which would be done one by one
        if lanes:
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
    put_two(f, gx, n, g, od, tall * oh, f[chunk + C_START], 0 if at_once else runs, cells, tall, together, top, bottom)
    return wrong


def put_two(f, gx, n, g, d, h, w, runs, cells, tall, together, top, bottom):
    """Store two rows of the gradient, or the first of them."""
    for i in range(runs):
        to = spot(f, GRAD_X, n, g, d, h, w + i)
        put_bits(shift(gx, to), shift(top, i * cells), 2 * cells if together else cells, f[PAST_CACHE])
        if tall > 1 and not together:
            put_bits(shift(gx, to + f[RECORDS + RECORD * GRAD_X + 3]), shift(bottom, i * cells), cells, f[PAST_CACHE])


def give_eights(f, gx, grad, source, n, g, od, oh, chunk, each, top, bottom, top2, bottom2, raw, wide):
    """`give_rows` for windows of two planes, whose gradients are four rows."""
    m, at, wrong = f[chunk + C_LANES], spot(f, Y, n, g, od, oh, f[chunk + C_OUT]), 0
    here, below, behind = (2 * od * f[H] + 2 * oh) * f[W] + f[chunk + C_START], f[W], f[H] * f[W]
    (runs, cells), lanes = rows_of_gradient(f, 2 * m, each), f[CHANNEL_LANES]
    together = f[PAST_CACHE] and runs == 1 and f[RECORDS + RECORD * GRAD_X + 3] == cells
    if together:
        bottom, bottom2 = shift(top, cells), shift(top2, cells)
    for i in range(m if lanes else 1):
        run, row = grads_of(f, grad, at, i, m, each, raw)
        p, q = told_by(f, source, n, g, od, oh, chunk, i, row, run, wide)
        p2, q2 = behind_of(f, p), behind_of(f, q)
        if lanes:
            k = 2 * i * each
            wrong |= own_eight_lanes(shift(top, k), shift(bottom, k), shift(top2, k), shift(bottom2, k), row, p, q, p2, q2, row_step(f, X),
                                     here + 2 * i, below, behind, each)
            continue
        o, k = rest(m)
        wrong |= own_eights(top, bottom, top2, bottom2, row, p, q, p2, q2, here, below, behind, k)
        if o > 0:
            wrong |= own_eights(shift(top, 2 * o), shift(bottom, 2 * o), shift(top2, 2 * o), shift(bottom2, 2 * o), shift(row, o), shift(p, STEP * o),
                                shift(q, STEP * o), shift(p2, STEP * o), shift(q2, STEP * o), here + 2 * o, below, behind, VECTOR)
    put_two(f, gx, n, g, 2 * od, 2 * oh, f[chunk + C_START], runs, cells, 2, together, top, bottom)
    put_two(f, gx, n, g, 2 * od + 1, 2 * oh, f[chunk + C_START], runs, cells, 2, together, top2, bottom2)
    return wrong


def rows_together(f, deep):
    """How many rows of 2x2 windows are done together at most: more than one where they are shorter than a vector."""
    return rows_at_once(f, 2 * f[W]) if f[CHANNEL_LANES] == 0 and deep == 1 and f[f[H_COUNT]] == 2 and lane_step(f, Y) == 1 else 1


def give_short(f, gx, grad, source, n, g, od, oh, rows, top, bottom, whole, wide, lines):
    """Some rows of windows together, as `quad_back_short` in direct.py."""
    m, row, here = f[OW], shift(grad, spot(f, Y, n, g, od, oh, 0)), (od * f[H] + 2 * oh) * f[W]
    p, q = lined(f, source, n, g, od, oh, rows, wide, lines)
    o, k = rest(rows * m)
    wrong = own_across(top, bottom, row, p, q, here, f[W], k)
    if o > 0:
        wrong |= own_across(shift(top, 2 * o), shift(bottom, 2 * o), shift(row, o), shift(p, STEP * o), shift(q, STEP * o), here + 2 * o, f[W],
                            VECTOR)
    size = f[W] * (2 * rows if oh + rows < f[OH] else f[H] - 2 * oh)
    lay_rows(f, whole, top, bottom, rows, size)
    put_bits(shift(gx, spot(f, GRAD_X, n, g, od, 2 * oh, 0)), whole, size, f[PAST_CACHE])
    return wrong


def clear_planes_after(f, gx, n, g, d, each):
    """Zero the planes from d on, which no window covers."""
    for i in range(d, f[D]):
        for h in range(f[H]):
            for w in range(f[W]):
                zero(gx, gx, spot(f, GRAD_X, n, g, i, h, w), each, lane_step(f, GRAD_X))


def owned_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of gx: each g (or value) goes to the chosen element of its window."""
    f, a = integers(plan), integers(data)
    grad, gx, source = elements(a[Y]), elements(a[GRAD_X]), opened(a)
    lines, raw, wide, top, bottom, top2, bottom2 = raw_rows(), raw_rows(), wide_places(), bit_rows(), bit_rows(), bit_rows(), bit_rows()
    for plane in range(lo, hi):
        n, g = plane // f[G], plane % f[G]
        each, wrong = lanes_of(f, g), 0
        for od in range(f[OD]):
            deep = f[f[D_COUNT] + od]
            oh, short = 0, rows_together(f, deep)
            while oh < f[OH]:
                rows = min(short, f[OH] - oh)
                if rows > 1:
                    wrong |= give_short(f, gx, grad, source, n, g, od, oh, rows, top, bottom, top2, wide, lines)
                    oh += rows
                    continue
                for c in range(f[CHUNKS]):
                    chunk = f[CHUNK_TABLE] + CHUNK * c
                    if deep > 1:
                        wrong |= give_eights(f, gx, grad, source, n, g, od, oh, chunk, each, top, bottom, top2, bottom2, raw, wide)
                    else:
                        wrong |= give_rows(f, gx, grad, source, n, g, od, oh, chunk, each, top, bottom, raw, wide)
                for i in range(deep):
                    clear_rest(f, gx, gx, n, g, deep * od + i, oh, each, f[f[H_COUNT] + oh])
                oh += 1
        clear_planes_after(f, gx, n, g, f[f[D_FIRST] + f[OD] - 1] + f[f[D_COUNT] + f[OD] - 1], each)
        if wrong != 0:
            mark(a, plane)
    if f[PAST_CACHE]:
        settle()


# ---------------------------------------------------------------- the elements are chosen again

def elements_of(a):
    """What tells the chosen ones: x."""
    return elements(a[X])


def rows_of(f, x, n, g, od, oh, chunk, i, grad, run, wide):
    """The rows of elements of a row of windows, or of its i-th one; of one row that, twice."""
    p = shift(x, spot(f, X, n, g, f[f[D_FIRST] + od], f[f[H_FIRST] + oh], f[chunk + C_START] + 2 * i))
    q = shift(p, (f[f[H_COUNT] + oh] - 1) * f[RECORDS + RECORD * X + 3])
    ask_ahead(f, p, 2 * run)
    ask_ahead(f, q, 2 * run)
    ask_for_run(f, grad, run)
    return p, q


def line_elements(f, x, n, g, od, oh, rows, wide, lines):
    """The rows of elements of some rows of windows, one behind the other."""
    line_up(f, X, x, n, g, f[f[D_FIRST] + od], oh, rows, lines, shift(lines, CELLS))
    return lines, shift(lines, CELLS)


def chosen_across(top, bottom, grad, p, q, here, below, n):
    """Two rows of the gradient: g where the chosen element is, else 0."""
    for j in range(n):
        g, u, v, w, z = grad[j], load(p, 2 * j), load(p, 2 * j + 1), load(q, 2 * j), load(q, 2 * j + 1)
        right = better(v, u)
        u = v if right else u
        low = better(w, u)
        corner = better(z, w if low else u)
        top[2 * j] = BLANK if right | low | corner else g
        top[2 * j + 1] = BLANK if (not right) | low | corner else g
        bottom[2 * j] = BLANK if (not low) | corner else g
        bottom[2 * j + 1] = g if corner else BLANK
    return 0


def plane_behind(f, p):
    """The elements a plane behind."""
    return shift(p, f[RECORDS + RECORD * X + 2])


def first_of_eight(a, b, c, d, e, u, v, w):
    """Which of eight elements is chosen, as eight flags."""
    on1 = better(b, a)
    best = b if on1 else a
    on2 = better(c, best)
    best = c if on2 else best
    on3 = better(d, best)
    best = d if on3 else best
    on4 = better(e, best)
    best = e if on4 else best
    on5 = better(u, best)
    best = u if on5 else best
    on6 = better(v, best)
    on7 = better(w, v if on6 else best)
    late6 = on7 | on6
    late5 = late6 | on5
    late4 = late5 | on4
    late3 = late4 | on3
    late2 = late3 | on2
    return late2 | on1, on1 & (not late2), on2 & (not late3), on3 & (not late4), on4 & (not late5), on5 & (not late6), on6 & (not on7), on7


def chosen_eights(top, bottom, top2, bottom2, grad, p, q, p2, q2, here, below, behind, n):
    """Four rows of the gradient, two of each of two planes: g where the chosen element is, else 0."""
    for j in range(n):
        g = grad[j]
        c = first_of_eight(load(p, 2 * j), load(p, 2 * j + 1), load(q, 2 * j), load(q, 2 * j + 1),
                           load(p2, 2 * j), load(p2, 2 * j + 1), load(q2, 2 * j), load(q2, 2 * j + 1))
        top[2 * j], top[2 * j + 1] = BLANK if c[0] else g, g if c[1] else BLANK
        bottom[2 * j], bottom[2 * j + 1] = g if c[2] else BLANK, g if c[3] else BLANK
        top2[2 * j], top2[2 * j + 1] = g if c[4] else BLANK, g if c[5] else BLANK
        bottom2[2 * j], bottom2[2 * j + 1] = g if c[6] else BLANK, g if c[7] else BLANK
    return 0


def chosen_eight_lanes(top, bottom, top2, bottom2, grad, p, q, p2, q2, side, here, below, behind, n):
    """The same for one window of n lanes, whose elements follow one another by n in the rows of the gradient."""
    for j in range(n):
        g = grad[j]
        c = first_of_eight(load(p, j), load(p, side + j), load(q, j), load(q, side + j), load(p2, j), load(p2, side + j), load(q2, j),
                           load(q2, side + j))
        top[j], top[n + j] = BLANK if c[0] else g, g if c[1] else BLANK
        bottom[j], bottom[n + j] = g if c[2] else BLANK, g if c[3] else BLANK
        top2[j], top2[n + j] = g if c[4] else BLANK, g if c[5] else BLANK
        bottom2[j], bottom2[n + j] = g if c[6] else BLANK, g if c[7] else BLANK
    return 0


def chosen_pairs(top, grad, p, here, n):
    """A row of the gradient, of windows that have one."""
    for j in range(n):
        g, right = grad[j], better(load(p, 2 * j + 1), load(p, 2 * j))
        top[2 * j] = BLANK if right else g
        top[2 * j + 1] = g if right else BLANK
    return 0


def chosen_lanes(top, bottom, grad, p, q, side, here, below, tall, n):
    """One window of n lanes, whose elements follow one another by n in the rows of the gradient."""
    if tall == 1:
        for j in range(n):
            g, right = grad[j], better(load(p, side + j), load(p, j))
            top[j] = BLANK if right else g
            top[n + j] = g if right else BLANK
        return 0
    for j in range(n):
        g, u, v, w, z = grad[j], load(p, j), load(p, side + j), load(q, j), load(q, side + j)
        right = better(v, u)
        u = v if right else u
        low = better(w, u)
        corner = better(z, w if low else u)
        top[j] = BLANK if right | low | corner else g
        top[n + j] = BLANK if (not right) | low | corner else g
        bottom[j] = BLANK if (not low) | corner else g
        bottom[n + j] = g if corner else BLANK
    return 0


# ---------------------------------------------------------------- indices name the elements

def indices_of(a):
    """What tells the chosen ones: the index."""
    return integers(a[INDEX])


def index_row(f, index, n, g, od, oh, chunk, i, grad, run, wide):
    """The indices of a row of windows, or of its i-th one."""
    row, s = shift(index, spot(f, INDEX, n, g, od, oh, f[chunk + C_OUT] + i)), lane_step(f, INDEX)
    if s != 1:
        for j in range(run):
            wide[j] = row[j * s]
        row = wide
    if run > LANES:
        ask_for_run(f, grad, run)
        ask_for_indices(f, row, run)
    return row, row


def line_indices(f, index, n, g, od, oh, rows, wide, lines):
    """The indices of some rows of windows, one behind the other, as if these windows lay in one row."""
    m, s = f[OW], lane_step(f, INDEX)
    for i in range(rows):
        row, to, back = shift(index, spot(f, INDEX, n, g, od, oh + i, 0)), shift(wide, i * m), 2 * i * (f[W] - m)
        for j in range(m):
            to[j] = row[j * s] - back
    return wide, wide


def named_across(top, bottom, grad, p, q, here, below, n):
    """Two rows of the gradient: g where an index says, else 0; not 0 where one names none of its window's four, the first of which is here + 2 j."""
    wrong = 0
    for j in range(n):
        g, k = grad[j], p[j] - here - 2 * j
        wrong |= (k - below if k >= below else k) >> 1
        top[2 * j] = g if k == 0 else BLANK
        top[2 * j + 1] = g if k == 1 else BLANK
        bottom[2 * j] = g if k == below else BLANK
        bottom[2 * j + 1] = g if k == below + 1 else BLANK
    return wrong


def same_indices(f, p):
    """The indices of a row of windows: those of all planes."""
    return p


def far_from(k, below, behind):
    """0 where one of a window's eight elements is named, whose first is at 0."""
    k = k - behind if k >= behind else k
    return (k - below if k >= below else k) >> 1


def named_eights(top, bottom, top2, bottom2, grad, p, q, p2, q2, here, below, behind, n):
    """Four rows of the gradient, two of each of two planes: g where an index says, else 0."""
    wrong = 0
    for j in range(n):
        g, k = grad[j], p[j] - here - 2 * j
        wrong |= far_from(k, below, behind)
        top[2 * j], top[2 * j + 1] = g if k == 0 else BLANK, g if k == 1 else BLANK
        bottom[2 * j], bottom[2 * j + 1] = g if k == below else BLANK, g if k == below + 1 else BLANK
        top2[2 * j], top2[2 * j + 1] = g if k == behind else BLANK, g if k == behind + 1 else BLANK
        bottom2[2 * j], bottom2[2 * j + 1] = g if k == behind + below else BLANK, g if k == behind + below + 1 else BLANK
    return wrong


def named_eight_lanes(top, bottom, top2, bottom2, grad, p, q, p2, q2, side, here, below, behind, n):
    """The same for one window of n lanes."""
    wrong = 0
    for j in range(n):
        g, k = grad[j], p[j] - here
        wrong |= far_from(k, below, behind)
        top[j], top[n + j] = g if k == 0 else BLANK, g if k == 1 else BLANK
        bottom[j], bottom[n + j] = g if k == below else BLANK, g if k == below + 1 else BLANK
        top2[j], top2[n + j] = g if k == behind else BLANK, g if k == behind + 1 else BLANK
        bottom2[j], bottom2[n + j] = g if k == behind + below else BLANK, g if k == behind + below + 1 else BLANK
    return wrong


def named_pairs(top, grad, p, here, n):
    """The same of windows that have one row."""
    wrong = 0
    for j in range(n):
        g, k = grad[j], p[j] - here - 2 * j
        wrong |= k >> 1
        top[2 * j] = g if k == 0 else BLANK
        top[2 * j + 1] = g if k == 1 else BLANK
    return wrong


def named_lanes(top, bottom, grad, p, q, side, here, below, tall, n):
    """The same for one window of n lanes, whose elements follow one another by n in the rows of the gradient."""
    wrong = 0
    for j in range(n):
        g, k = grad[j], p[j] - here
        wrong |= (k - below if k >= below else k) >> 1
        top[j] = g if k == 0 else BLANK
        top[n + j] = g if k == 1 else BLANK
        if tall > 1:
            bottom[j] = g if k == below else BLANK
            bottom[n + j] = g if k == below + 1 else BLANK
    return wrong
