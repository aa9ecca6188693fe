"""Select: y is one element of the window, chosen by `better(v, best)`; with INDEXED its flat position is written too.

Backward is formula-free: gx[index] += g.  The same loop, with `merge` = replace, is max_unpool.  Legend: see rows.py.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .rows import *  # noqa: F403


def select_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y, and of the index."""
    f, a = integers(plan), integers(data)
    x, y, index = elements(a[X]), elements(a[Y]), integers(a[INDEX])
    best, where, pack, even, odd = lanes(), places(), lanes(), wide_lanes(), wide_lanes()
    ly, li, sideways = lane_step(f, Y), lane_step(f, INDEX), 1 - f[CHANNEL_LANES]
    for r in range(lo, hi):
        n, g, od, oh = row_of(f, r)
        for k in range(f[UNITS]):
            o, m, step, box, share = unit_of(f, k, n, g, od, oh)
            table = firsts(f, n, g, o)
            choose(f, x, n, g, m, step, box, table, best, where, pack, even, odd)
            put_lanes(shift(y, spot(f, Y, n, g, od, oh, o)), best, m, ly)
            if INDEXED:
                first = (box[0] * f[H] + box[3]) * f[W] + box[6]
                write_index(f, shift(index, spot(f, INDEX, n, g, od, oh, o)), m, li, first, step * sideways, sideways, table, where)


def choose(f, x, n, g, m, step, box, table, best, where, pack, even, odd):
    """The chosen elements of the windows of a unit, and how far their positions are from those of the windows' first elements."""
    lane, rows = step * lane_step(f, X), (box[1] - box[0]) * (box[4] - box[3])
    taps, halved = (box[7] - box[6]) // box[8], f[CHANNEL_LANES] == 0 and step == 2 and row_step(f, X) == 1
    if m == 1 and taps < 4:
        choose_scalar(f, x, n, g, box, best, where)
    elif m == 1:
        choose_one(f, x, n, g, box, best, where, pack)
    elif taps == 2 and rows == 2 * box[2] * box[5] and box[1] - box[0] == box[2] and (lane == 1 or halved) and (box[8] == 1 or lane == 1):
        a = shift(x, spot(f, X, n, g, box[0], box[3], box[6]))
        down, side = f[RECORDS + RECORD * X + 3] * box[5], row_step(f, X) * box[8]
        choose_quad(a, shift(a, down), m, lane, side, place(box[8]), place(box[5] * f[W]), best, where)
    else:
        for d in range(box[0], box[1], box[2]):
            for h in range(box[3], box[4], box[5]):
                at, here = spot(f, X, n, g, d, h, box[6]), ((d - box[0]) * f[H] + h - box[3]) * f[W]
                fresh = d == box[0] and h == box[3]
                if f[CHANNEL_LANES] == 0 and step <= 2 and step > 0 and row_step(f, X) == 1 and lane * m + taps * box[8] < 4 * LANES - 16:
                    c = (m + 15) & -16  # to the end of a vector: what the last lanes find is not looked at
                    if lane == 2:
                        part_evens(shift(x, at), even, odd, 2 * (m - 1) + (taps - 1) * box[8] + 1)
                        p, q, r = even, odd, shift(even, 1)
                    else:
                        for j in range(m + (taps - 1) * box[8]):
                            even[j] = load(x, at + j)
                        p, q, r = even, shift(even, box[8]), shift(even, 2 * box[8])
                    if taps == 3 and (lane == 1 or box[8] == 1):
                        compare_three(p, q, r, best, where, place(here), place(box[8]), c, fresh)
                        continue
                    for t in range(taps):
                        w = t * box[8]
                        v = shift(even, w) if lane == 1 else shift(odd if w & 1 else even, w >> 1)
                        compare(v, best, where, place(here + w), c, fresh and t == 0)
                elif lane == 1 and taps == 3 and not HALF:
                    side = box[8] * row_step(f, X)
                    p = tap(f, x, at, m, step, lane_step(f, X), table, pack)
                    compare_three(p, shift(p, side), shift(p, 2 * side), best, where, place(here), place(box[8]), m, fresh)
                else:
                    for t in range(taps):
                        v = tap(f, x, at + t * box[8] * row_step(f, X), m, step, lane_step(f, X), table, pack)
                        compare(v, best, where, place(here + t * box[8]), m, fresh and t == 0)


def compare(v, best, where, here, m, fresh):
    """One tap of m windows against the best so far."""
    if fresh:
        for j in range(m):
            best[j], where[j] = v[j], here
    else:
        for j in range(m):
            w, b = v[j], best[j]
            where[j] = here if better(w, b) else where[j]
            best[j] = w if better(w, b) else b


def compare_three(p, q, r, best, where, here, apart, m, fresh):
    """Three taps of m windows against the best so far."""
    if fresh:
        for j in range(m):
            v, i, w = p[j], here, q[j]
            i = here + apart if better(w, v) else i
            v = w if better(w, v) else v
            w = r[j]
            where[j] = here + apart + apart if better(w, v) else i
            best[j] = w if better(w, v) else v
    else:
        for j in range(m):
            v, i, w = best[j], where[j], p[j]
            i = here if better(w, v) else i
            v = w if better(w, v) else v
            w = q[j]
            i = here + apart if better(w, v) else i
            v = w if better(w, v) else v
            w = r[j]
            where[j] = here + apart + apart if better(w, v) else i
            best[j] = w if better(w, v) else v


def choose_scalar(f, x, n, g, box, best, where):
    """`choose` for a single small window, as those that the padding cuts."""
    first = (box[0] * f[H] + box[3]) * f[W] + box[6]
    v, i, fresh, apart = real(0), 0, True, row_step(f, X)
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            at, here = spot(f, X, n, g, d, h, 0), (d * f[H] + h) * f[W] - first
            for w in range(box[6], box[7], box[8]):
                u = load(x, at + w * apart)
                if fresh or better(u, v):
                    v, i, fresh = u, here + w, False
    best[0], where[0] = v, place(i)


def choose_quad(a, b, m, lane, side, right, below, best, where):
    """`choose` for 2x2 windows, in one pass."""
    if lane == 1:
        choose_four(a, shift(a, side), b, shift(b, side), m, 1, right, below, best, where)
    else:
        choose_four(a, shift(a, 1), b, shift(b, 1), m, 2, right, below, best, where)


def choose_four(p, q, r, s, m, lane, right, below, best, where):
    """The best of four."""
    for j in range(m):
        v, w, i = load(p, j * lane), load(q, j * lane), place(0)
        i = right if better(w, v) else i
        v = w if better(w, v) else v
        w = load(r, j * lane)
        i = below if better(w, v) else i
        v = w if better(w, v) else v
        w = load(s, j * lane)
        i = below + right if better(w, v) else i
        best[j], where[j] = w if better(w, v) else v, i


def choose_one(f, x, n, g, box, best, where, pack):
    """`choose` for a single window with long rows, whose taps are lanes."""
    taps, apart, lx = (box[7] - box[6]) // box[8], box[8], row_step(f, X)
    most = min(taps, LANES)
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            for k in range(0, taps, LANES):
                v = tap(f, x, spot(f, X, n, g, d, h, box[6] + k * apart), min(taps - k, LANES), apart, lx, 0, pack)
                here, fresh = ((d - box[0]) * f[H] + h - box[3]) * f[W] + k * apart, d == box[0] and h == box[3] and k == 0
                for j in range(min(taps - k, LANES)):
                    if fresh or better(v[j], best[j]):
                        best[j], where[j] = v[j], place(here + j * apart)
    for j in range(1, most):
        later = where[j] > where[0]
        if better(best[j], best[0]) if later else not better(best[0], best[j]):
            best[0], where[0] = best[j], where[j]


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


def select_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of gx, with the elements chosen again: no index is stored."""
    f, a = integers(plan), integers(data)
    x, grad = elements(a[X]), elements(a[Y])
    best, where, pack, even, odd = lanes(), places(), lanes(), wide_lanes(), wide_lanes()
    ly, lt, each, sideways = lane_step(f, Y), lane_step(f, TARGET), f[RECORDS + RECORD * TARGET + 4], 1 - f[CHANNEL_LANES]
    for p in range(lo, hi):
        n, g = p // f[G], p % f[G]
        target, base = open_plane(f, a, GRAD_X, slot, 0, n, g), spot(f, TARGET, n, g, 0, 0, 0)
        for od in range(f[OD]):
            for oh in range(f[OH]):
                for k in range(f[UNITS]):
                    o, m, step, box, share = unit_of(f, k, n, g, od, oh)
                    table, at = firsts(f, n, g, o), spot(f, Y, n, g, od, oh, o)
                    choose(f, x, n, g, m, step, box, table, best, where, pack, even, odd)
                    first = (box[0] * f[H] + box[3]) * f[W] + box[6]
                    for j in range(m):
                        i = first + where[j] + distance(f, j, step, table) * sideways
                        target[base + i * each + j * lt * f[CHANNEL_LANES]] += load(grad, at + j * ly)
        close_plane(f, a, GRAD_X, target, n, g)


def scatter_index(plan, data, slot, lo, hi):
    """Planes lo..hi of gx: each g (or value) goes to the position in the plane that its index names."""
    f, a = integers(plan), integers(data)
    grad, index = elements(a[Y]), integers(a[INDEX])
    ly, li, lt = lane_step(f, Y), lane_step(f, INDEX), lane_step(f, TARGET)
    size, each = f[D] * f[H] * f[W], f[RECORDS + RECORD * TARGET + 4]
    for p in range(lo, hi):
        n, g = p // f[G], p % f[G]
        target, base = open_plane(f, a, GRAD_X, slot, 0, n, g), spot(f, TARGET, n, g, 0, 0, 0)
        m = min(f[WIDTH], f[CHANNELS] - g * f[WIDTH]) if f[CHANNEL_LANES] == 1 else f[OW]
        span = f[OW] if f[CHANNEL_LANES] == 1 else 1
        step = lt * f[CHANNEL_LANES]
        for od in range(f[OD]):
            for oh in range(f[OH]):
                for ow in range(span):
                    at, ia = spot(f, Y, n, g, od, oh, ow), spot(f, INDEX, n, g, od, oh, ow)
                    for j in range(m):
                        i = index[ia + j * li]
                        if i >= 0 and i < size:
                            c = base + i * each + j * step
                            target[c] = merge(target[c], load(grad, at + j * ly))
                        else:
                            integers(a[FAULT])[0] = 1
        close_plane(f, a, GRAD_X, target, n, g)


def add(old, new):
    """Gradients accumulate where windows overlap."""
    return old + new


def replace(old, new):
    """max_unpool: the last value written to a position stays."""
    return new


def gather_index(plan, data, slot, lo, hi):
    """Rows lo..hi of an output-shaped array: each takes the element of the plane that its index names."""
    f, a = integers(plan), integers(data)
    x, y, index = elements(a[X]), elements(a[Y]), integers(a[INDEX])
    ly, li = lane_step(f, Y), lane_step(f, INDEX)
    size, lx = f[D] * f[H] * f[W], lane_step(f, X) * f[CHANNEL_LANES]
    for r in range(lo, hi):
        n, g, od, oh = row_of(f, r)
        m = min(f[WIDTH], f[CHANNELS] - g * f[WIDTH]) if f[CHANNEL_LANES] == 1 else f[OW]
        for ow in range(f[OW] if f[CHANNEL_LANES] == 1 else 1):
            at, ia = spot(f, Y, n, g, od, oh, ow), spot(f, INDEX, n, g, od, oh, ow)
            for j in range(m):
                i = index[ia + j * li]
                if i >= 0 and i < size:
                    from_plane = spot(f, X, n, g, i // f[W] // f[H], i // f[W] % f[H], i % f[W])
                    store(y, at + j * ly, load(x, from_plane + j * lx))
                else:
                    integers(a[FAULT])[0] = 1
