"""Vote: y is the most frequent element of the window, of equally frequent ones the least; its index is that of the first element equal to it.

The votes for an element are counted by comparing it with all others, side by side for many windows; windows of more than MOST_TAPS elements
are sorted instead, where equal ones stand side by side.  A NaN makes y one, the last of them.  Legend: see rows.py.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .draw import put_lanes
from .order import above, arrange, collect  # noqa: F401 - above is what arrange calls
from .rows import *  # noqa: F403

MOST_TAPS = 100  # their votes fit into 8 bits, and they need a tenth of the time of sorting


def vote(rows, c, m, best, votes, most, chosen):
    """The element with the most votes among the c taps of each of m windows, and which tap it is; they are where the lanes begin that are returned.

    What is found so far goes to other lanes and back, tap by tap: in its place LLVM would store it under masks.
    """
    for j in range(m):
        most[j] = real(0)
    for i in range(c):
        v, old, new = shift(rows, i * LANES), (i & 1) * LANES, (~i & 1) * LANES
        best0, best1, most0, most1 = shift(best, old), shift(best, new), shift(most, old), shift(most, new)
        chosen0, chosen1 = shift(chosen, old), shift(chosen, new)
        for j in range(m):
            votes[j] = real(0)
        for k in range(c):
            w = shift(rows, k * LANES)
            for j in range(m):
                votes[j] += real(1) if w[j] == v[j] else real(0)
        for j in range(m):
            take = (votes[j] > most0[j]) | ((votes[j] == most0[j]) & (v[j] < best0[j])) | (v[j] != v[j])
            more = either(v[j] == v[j], votes[j], real(MOST_TAPS + 1))
            best1[j], chosen1[j] = either(take, v[j], best0[j]), either(take, real(i), chosen0[j])
            most1[j] = either(take, more, most0[j])
    return (c & 1) * LANES


def tap_places(f, box, places):
    """How far the taps of a window are from its first element, in places of the plane."""
    c = 0
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            for w in range(box[6], box[7], box[8]):
                places[c] = ((d - box[0]) * f[H] + h - box[3]) * f[W] + w - box[6]
                c += 1


def longest_run(values, c):
    """The most frequent one of c elements, largest first, and where it stands: of equally frequent ones the last in this order."""
    best, most, first = 0, 0, 0
    for i in range(1, c + 1):
        if i == c or values[i] != values[first]:
            if i - first >= most:
                best, most = first, i - first
            first = i
    if values[0] != values[0]:
        best = 0
        while best + 1 < c and values[best + 1] != values[best + 1]:
            best += 1
    return best


def vote_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y and of the index."""
    f, a = integers(plan), integers(data)
    x, y, index = elements(a[X]), elements(a[Y]), integers(a[INDEX])
    lx, ly, li, across = lane_step(f, X), lane_step(f, Y), lane_step(f, INDEX), 1 - f[CHANNEL_LANES]
    rows, pack, even, odd, votes = tap_rows(), lanes(), wide_lanes(), wide_lanes(), lanes()
    best, most, chosen = wide_lanes(), wide_lanes(), wide_lanes()
    away, work = index_lanes(), a[WORK] + slot * f[WORK_SIZE] + f[SORT_AT]
    for r in range(lo, hi):
        n, g, od, oh = row_of(f, r)
        for k in range(f[UNITS]):
            o, m, step, box, share = unit_of(f, k, n, g, od, oh)
            table, at = firsts(f, n, g, o), spot(f, Y, n, g, od, oh, o)
            to = shift(index, spot(f, INDEX, n, g, od, oh, o)) if INDEXED else index
            if FEW:
                c = window_taps(f, x, n, g, m, step, table, box, rows, pack, even, odd)
                found = vote(rows, c, m, best, votes, most, chosen)
                put_lanes(shift(y, at), shift(best, found), m, ly)
                if INDEXED:
                    tap_places(f, box, away)
                    first = (box[0] * f[H] + box[3]) * f[W] + box[6]
                    for j in range(m):
                        to[j * li] = first + away[np.int64(chosen[found + j])] + distance(f, j, step, table) * across
                continue
            size = f[SORT_SIZE]
            values, places = reals(work), integers(work + 8 * size)
            for j in range(m):
                c = collect(f, x, n, g, j, step, box, lx, table, values, places)
                arrange(values, places, reals(work + 16 * size), integers(work + 24 * size), c)
                i = longest_run(values, c)
                store(y, at + j * ly, values[i])
                if INDEXED:
                    to[j * li] = places[i]
