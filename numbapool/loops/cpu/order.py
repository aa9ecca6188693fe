"""Order: y = sum of weight[r] times the r-th largest element; the weights depend on the number of elements and the channel.

The weights are made on the host, one row for each number of elements that occurs (RANK_ROW); a formula of this family is
just its weights.  Ties go to the first element; a NaN counts as the largest.  Backward adds g weight[r] to the element of
rank r, and sums g times the element of rank r for the gradient of the weights.  Legend: see rows.py.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .rows import *  # noqa: F403


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
    return v > w or (v != v and w == w)


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
    for r in range(lo, hi):
        n, g, od, oh = row_of(f, r)
        for k in range(f[UNITS]):
            o, m, step, box, share = unit_of(f, k, n, g, od, oh)
            at = spot(f, Y, n, g, od, oh, o)
            for j in range(m):
                values, places, c = ranked(f, x, n, g, j, step, box, lx, firsts(f, n, g, o), work)
                row, s = weight_row(f, g, j, c), real(0)
                for i in range(min(c, f[RANKS])):
                    if weights[row + i] != real(0):
                        s += weights[row + i] * values[i]
                store(y, at + j * ly, s if values[0] == values[0] else values[0])


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
    for p in range(lo, hi):
        n, g = p // f[G], p % f[G]
        target, base = open_plane(f, a, GRAD_X, slot, 0, n, g), spot(f, TARGET, n, g, 0, 0, 0)
        for od in range(f[OD]):
            for oh in range(f[OH]):
                for k in range(f[UNITS]):
                    o, m, step, box, share = unit_of(f, k, n, g, od, oh)
                    at = spot(f, Y, n, g, od, oh, o)
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
        close_plane(f, a, GRAD_X, target, n, g)
