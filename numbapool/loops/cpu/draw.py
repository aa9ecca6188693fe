"""Draw: y is one element of the window, drawn with probability chance(x) / sum of chances.  Backward is select's.

The choice is the first element with a positive chance whose running sum reaches u times the sum, u a uniform number
in [0, 1): given (the operand PARAM) or drawn from the generator at the output's position.  Legend: see rows.py.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .rows import *  # noqa: F403
from .select import write_index


def samples_of(f, a, n, g, od, oh, o, m, lanes):
    """The uniform numbers of m windows."""
    if a[PARAM] != 0:
        p = reals(a[PARAM])
        fetch_reals(p, spot(f, PARAM, n, g, od, oh, o), m, lane_step(f, PARAM), lanes)
    else:
        at, s, seed = spot(f, POSITION, n, g, od, oh, o), lane_step(f, POSITION), a[SEED]
        for j in range(m):
            lanes[j] = real(uniform(seed, at + j * s))


def fetch_reals(p, at, m, s, lanes):
    """m numbers of an output-shaped parameter."""
    for j in range(m):
        lanes[j] = p[at + j * s]


def draw_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y and of the index."""
    f, a = integers(plan), integers(data)
    x, y, index = elements(a[X]), elements(a[Y]), integers(a[INDEX])
    total, best, where, pack = lanes(), lanes(), index_lanes(), lanes()
    run, open_, rows, even, odd = lanes(), lanes(), tap_lanes(), wide_lanes(), wide_lanes()
    lx, ly, li, across = lane_step(f, X), lane_step(f, Y), lane_step(f, INDEX), 1 - f[CHANNEL_LANES]
    for r in range(lo, hi):
        n, g, od, oh = row_of(f, r)
        for k in range(f[UNITS]):
            o, m, step, box, share = unit_of(f, k, n, g, od, oh)
            table = firsts(f, n, g, o)
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
            samples_of(f, a, n, g, od, oh, o, m, run)
            thresholds(m, total, run)
            pick(f, x, n, g, m, step, box, table, lx, total, run, open_, best, where, pack, rows, few)
            at = spot(f, Y, n, g, od, oh, o)
            for j in range(m):
                store(y, at + j * ly, best[j])
            if INDEXED:
                write_index(f, shift(index, spot(f, INDEX, n, g, od, oh, o)), m, li, 0, step * across, across, table, where)


def thresholds(m, total, u):
    """u times the sum of chances; an infinite sum is reached by the infinite element alone."""
    for j in range(m):
        u[j] = total[j] if total[j] - total[j] != real(0) else total[j] * u[j]


def pick(f, x, n, g, m, step, box, table, lx, total, goal, open_, best, where, pack, rows, few):
    """The first element whose running sum reaches the goal; of an all-zero window the first; the last NaN wins."""
    v = tap(f, x, spot(f, X, n, g, box[0], box[3], box[6]), m, step, lx, table, pack)
    here = (box[0] * f[H] + box[3]) * f[W] + box[6]
    for j in range(m):
        best[j], where[j] = v[j], here
        open_[j] = real(1)
        total[j] = real(0)
    t = 0
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            for w in range(box[6], box[7], box[8]):
                v = shift(rows, t * LANES) if few else tap(f, x, spot(f, X, n, g, d, h, w), m, step, lx, table, pack)
                t += 1
                here = (d * f[H] + h) * f[W] + w
                for j in range(m):
                    c = chance(v[j])
                    total[j] += c
                    take = (open_[j] != real(0) and c > real(0) and total[j] >= goal[j]) or c != c
                    best[j] = v[j] if take else best[j]
                    where[j] = here if take else where[j]
                    open_[j] = real(0) if take else open_[j]
