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
    best, where, pack = lanes(), index_lanes(), lanes()
    ly, li, sideways = lane_step(f, Y), lane_step(f, INDEX), 1 - f[CHANNEL_LANES]
    for r in range(lo, hi):
        n, g, od, oh = row_of(f, r)
        for k in range(f[UNITS]):
            o, m, step, box, share = unit_of(f, k, n, g, od, oh)
            table = firsts(f, n, g, o)
            choose(f, x, n, g, m, step, box, table, best, where, pack)
            at = spot(f, Y, n, g, od, oh, o)
            for j in range(m):
                store(y, at + j * ly, best[j])
            if INDEXED:
                write_index(f, index, spot(f, INDEX, n, g, od, oh, o), m, li, step * sideways, sideways, table, where)


def choose(f, x, n, g, m, step, box, table, best, where, pack):
    """The chosen elements of the windows of a unit, and their positions (in the unit's first window)."""
    across, most, runs, stride = shape_of(f, m, step, box)
    lx, apart = step_of(f, X, across), f[W_STEP] if across else 0
    v = tap(f, x, spot(f, X, n, g, box[0], box[3], box[6]), most, stride, lx, table, pack)
    here = (box[0] * f[H] + box[3]) * f[W] + box[6]
    for j in range(most):
        best[j], where[j] = v[j], here + j * apart
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            for k in range(0, runs, LANES):
                c, part = part_of(m, across, runs, k, box)
                for w in range(part[6], part[7], part[8]):
                    v = tap(f, x, spot(f, X, n, g, d, h, w), c, stride, lx, table, pack)
                    if INDEXED or across:
                        here = (d * f[H] + h) * f[W] + w
                        for j in range(c):
                            where[j] = here + j * apart if better(v[j], best[j]) else where[j]
                    for j in range(c):
                        best[j] = v[j] if better(v[j], best[j]) else best[j]
    if across:
        for j in range(1, most):
            later = where[j] > where[0]
            if better(best[j], best[0]) if later else not better(best[0], best[j]):
                best[0], where[0] = best[j], where[j]


def write_index(f, index, at, m, li, step, across, table, where):
    """The positions of the chosen elements: that of the tap in the first window, and how far the lane's window is from it."""
    if across == 0 or step != 0:
        for j in range(m):
            index[at + j * li] = where[j] + j * step
    else:
        for j in range(m):
            index[at + j * li] = where[j] + f[table + j] - f[table]


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
