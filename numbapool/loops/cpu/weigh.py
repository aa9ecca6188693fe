"""Weigh: each element of y is a sum of elements of x times weights by their position in the window; its transpose is the same loop.

Both have four axes besides the batch, the one whose elements lie side by side last.  Along an axis an element of y has pairs (of x, of
weights): places in memory, of which x's and the weights' are the sums over the axes.  Along the last one elements of y that differ by their
places alone, or whose weights lie one behind the other, are a run, whose elements are lanes.  Nothing here knows of padding: a border that is
mirrored is more pairs.
Legend: f plan, a operand addresses; p1..p4 a pair along an axis; t a run.
"""
from __future__ import annotations

# plan: sizes of y along the batch and three axes, then distances of x, of y, of weights' gradients along the batch, then for each of three axes the
# distance in y, where its elements' pairs begin (as many starts as elements, and one) and the pairs; last the runs
BATCH, S1, S2, S3, X_BATCH, Y_BATCH, SUMS = range(7)
Y_STEP, STARTS, PAIRS = 7, 10, 13  # three each
RUNS, RUN_TABLE, RUN_PAIRS = 16, 17, 18
GATE = 19  # whether y is the sigmoid of the sums
HEAD = 20
RUN_SIZE = 7
R_AT, R_STEP, R_LANES, R_TAKE, R_TURN, R_FROM, R_TO = range(RUN_SIZE)  # place in y, distance there, lanes, distance in x, of weights, its pairs
OF_X, OF_Y, OF_WEIGHTS = range(3)  # addresses


def pairs_of(f, axis, i):
    """From where to where the pairs of an element along an axis stand."""
    s = f[STARTS + axis] + i
    return f[PAIRS + axis] + 2 * f[s], f[PAIRS + axis] + 2 * f[s + 1]


def add_taps(f, x, weights, at, spot, t, o, m, acc):
    """Add what the pairs of a run give to its lanes from o on."""
    s, turn = f[t + R_TAKE], f[t + R_TURN]
    for p in range(f[RUN_PAIRS] + 2 * f[t + R_FROM], f[RUN_PAIRS] + 2 * f[t + R_TO], 2):
        row, own = shift(x, at + f[p] + o * s), shift(weights, spot + f[p + 1] + o * turn)
        w = own[0]
        if turn == 1 and s == 1:
            for j in range(m):
                acc[j] = muladd(own[j], load(row, j), acc[j])
        elif turn != 0:
            for j in range(m):
                acc[j] = muladd(own[j * turn], load(row, j * s), acc[j])
        elif s == 1:
            for j in range(m):
                acc[j] = muladd(w, load(row, j), acc[j])
        elif s == 2:
            for j in range(m):
                acc[j] = muladd(w, load(row, 2 * j), acc[j])
        else:
            for j in range(m):
                acc[j] = muladd(w, load(row, j * s), acc[j])


def weigh(plan, data, slot, lo, hi):
    """Rows lo..hi of y."""
    f, a = integers(plan), integers(data)
    x, y, weights, acc = elements(a[OF_X]), elements(a[OF_Y]), reals(a[OF_WEIGHTS]), lanes()
    for r in range(lo, hi):
        i3, rest = r % f[S3], r // f[S3]
        i2, rest = rest % f[S2], rest // f[S2]
        i1, n = rest % f[S1], rest // f[S1]
        to = n * f[Y_BATCH] + i1 * f[Y_STEP] + i2 * f[Y_STEP + 1] + i3 * f[Y_STEP + 2]
        (a1, b1), (a2, b2), (a3, b3) = pairs_of(f, 0, i1), pairs_of(f, 1, i2), pairs_of(f, 2, i3)
        for k in range(f[RUNS]):
            t = f[RUN_TABLE] + RUN_SIZE * k
            for o in range(0, f[t + R_LANES], LANES):
                m = min(LANES, f[t + R_LANES] - o)
                for j in range(m):
                    acc[j] = real(0)
                for p1 in range(a1, b1, 2):
                    for p2 in range(a2, b2, 2):
                        for p3 in range(a3, b3, 2):
                            at = n * f[X_BATCH] + f[p1] + f[p2] + f[p3]
                            add_taps(f, x, weights, at, f[p1 + 1] + f[p2 + 1] + f[p3 + 1], t, o, m, acc)
                if f[GATE] != 0:
                    for j in range(m):
                        acc[j] = real(1) / (real(1) + exp(-acc[j]))
                s, row = f[t + R_STEP], shift(y, to + f[t + R_AT] + o * f[t + R_STEP])
                for j in range(m):
                    store(row, j * s, acc[j])


def weigh_sums(plan, data, slot, lo, hi):
    """The sums of x times y by weight, each of (n, i1) for itself: what the gradient of the weights is made of, y being g."""
    f, a = integers(plan), integers(data)
    x, y, sums = elements(a[OF_X]), elements(a[OF_Y]), doubles(a[OF_WEIGHTS])
    for r in range(lo, hi):
        i1, n = r % f[S1], r // f[S1]
        a1, b1 = pairs_of(f, 0, i1)
        for k in range(f[SUMS]):
            sums[r * f[SUMS] + k] = 0.0
        for i in range(f[S2] * f[S3]):
            i2, i3 = i // f[S3], i % f[S3]
            (a2, b2), (a3, b3) = pairs_of(f, 1, i2), pairs_of(f, 2, i3)
            to = n * f[Y_BATCH] + i1 * f[Y_STEP] + i2 * f[Y_STEP + 1] + i3 * f[Y_STEP + 2]
            for p1 in range(a1, b1, 2):
                for p2 in range(a2, b2, 2):
                    for p3 in range(a3, b3, 2):
                        at = n * f[X_BATCH] + f[p1] + f[p2] + f[p3]
                        sum_runs(f, x, y, sums, at, to, r * f[SUMS] + f[p1 + 1] + f[p2 + 1] + f[p3 + 1])


def sum_runs(f, x, y, sums, at, to, spot):
    """Add the products of the last axis."""
    for k in range(f[RUNS]):
        t = f[RUN_TABLE] + RUN_SIZE * k
        g, s, s_x, turn = shift(y, to + f[t + R_AT]), f[t + R_STEP], f[t + R_TAKE], f[t + R_TURN]
        for p in range(f[RUN_PAIRS] + 2 * f[t + R_FROM], f[RUN_PAIRS] + 2 * f[t + R_TO], 2):
            row, total = shift(x, at + f[p]), 0.0
            if turn != 0:  # each lane adds to its own weight's
                own = shift(sums, spot + f[p + 1])
                for j in range(f[t + R_LANES]):
                    own[j * turn] += float64(load(g, j * s)) * float64(load(row, j * s_x))
                continue
            for j in range(f[t + R_LANES]):
                total += float64(load(g, j * s)) * float64(load(row, j * s_x))
            sums[spot + f[p + 1]] += total
