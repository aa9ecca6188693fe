"""Detail: detail-preserving pooling (pools/dpp.py has the equation), forward and backward, windows of 2 elements an axis side by side.

A row of windows is computed in pieces of LANES, one step for all of a piece before the next one: every loop is over lanes.
Legend: f plan, a operand addresses; o, m first window and lane count of a piece; e element of a window, j lane.
"""
from __future__ import annotations

# plan: sizes of four axes of rows and of the lanes, elements of a window, whether I is given, whether elements below I count; then for every operand
# its distances along these axes; last, from the first element of a window, where its elements are in x and in grad_x
SIZES, ELEMENTS, GIVEN, SYMMETRIC, STEPS = 0, 5, 6, 7, 8
OF_Y, OF_X, OF_POWER, OF_BASE, OF_MIDDLE, OF_GRAD, OF_GRAD_X, OF_LAM, OF_ALPHA, OF_THROUGH, OPERANDS = range(11)  # addresses, too
FROM = STEPS + 5 * OPERANDS
TO = FROM + 8
SIZE = TO + 8
LEAST = 1e-3  # what is added to squares


def place_of(f, operand, r):
    """Where row r of an operand begins."""
    at, rest = 0, r
    for i in range(3, -1, -1):
        at += rest % f[SIZES + i] * f[STEPS + 5 * operand + i]
        rest //= f[SIZES + i]
    return at


def step_along(f, operand):
    """The distance of an operand's elements along the lanes."""
    return f[STEPS + 5 * operand + 4]


def fetch_lanes(f, p, operand, r, o, m, lanes):
    """m elements of an operand, of which there may be one for all lanes."""
    s = step_along(f, operand)
    row = shift(p, place_of(f, operand, r) + o * s)
    if s == 0:
        v = load(row, 0)
        for j in range(m):
            lanes[j] = v
    else:
        fetch(row, 0, m, s, lanes)


def store_lanes(f, address, operand, r, o, m, lanes):
    """m elements of an operand that is a result, if there is one."""
    if address != 0:
        s, out = step_along(f, operand), elements(address)
        row = shift(out, place_of(f, operand, r) + o * s)
        if s == 1:
            for j in range(m):
                store(row, j, lanes[j])
        else:
            for j in range(m):
                store(row, j * s, lanes[j])


def fetch_windows(f, x, r, o, m, rows):
    """The elements of m windows, a row of LANES each."""
    s = step_along(f, OF_X)
    at = place_of(f, OF_X, r) + o * s
    for e in range(f[ELEMENTS]):
        source, row = shift(x, at + f[FROM + e]), shift(rows, e * LANES)
        if s == 2:
            for j in range(m):
                row[j] = load(source, 2 * j)
        else:
            fetch(source, 0, m, s, row)


def store_windows(f, out, r, o, m, rows):
    """The gradients of m windows' elements."""
    s = step_along(f, OF_GRAD_X)
    at = place_of(f, OF_GRAD_X, r) + o * s
    for e in range(0, f[ELEMENTS], 2):
        first, second, one, two = shift(out, at + f[TO + e]), shift(out, at + f[TO + e + 1]), shift(rows, e * LANES), shift(rows, (e + 1) * LANES)
        if s == 2 and f[TO + e + 1] - f[TO + e] == 1:
            for j in range(m):
                store(first, 2 * j, one[j])
                store(first, 2 * j + 1, two[j])
        else:
            for j in range(m):
                store(first, j * s, one[j])
                store(second, j * s, two[j])


def clear(lanes, m):
    """Zeros."""
    for j in range(m):
        lanes[j] = real(0)


def look(f, m, rows, each):
    """What a piece of windows is made of: distances from `middle` (made here where it is not given; 0 where they do not count), v over its average,
    that average, powers, the sums of the weights, y."""
    (x, away, ratio, powers), (power_of, base, middle, mean, total, y) = rows, each
    n = f[ELEMENTS]
    if f[GIVEN] == 0:
        clear(middle, m)
        for e in range(n):
            row = shift(x, e * LANES)
            for j in range(m):
                middle[j] += row[j]
        for j in range(m):
            middle[j] = middle[j] / real(n)
    clear(mean, m)
    for e in range(n):
        row, distance, v = shift(x, e * LANES), shift(away, e * LANES), shift(ratio, e * LANES)
        for j in range(m):
            d = row[j] - middle[j]
            d = d if f[SYMMETRIC] != 0 else d * (real(1) if row[j] > middle[j] else real(0))  # NaN stays NaN
            distance[j] = d
            v[j] = d * d + real(LEAST)
            mean[j] += v[j]
    for j in range(m):
        mean[j], total[j], y[j] = mean[j] / real(n), real(n) * base[j], real(0)
    for e in range(n):
        row, v, w = shift(x, e * LANES), shift(ratio, e * LANES), shift(powers, e * LANES)
        for j in range(m):
            v[j] = v[j] / mean[j]
            w[j] = power(v[j], power_of[j])
            total[j] += w[j]
            y[j] += (w[j] + base[j]) * row[j]
    for j in range(m):
        y[j] = y[j] / total[j]


def pull(f, m, rows, each, g, given):
    """What windows give to their elements, in their place, and `given` of them to lam, alpha, and what was smoothed."""
    (x, away, ratio, powers), (power_of, base, _, mean, total, y), (lam, alpha, through, shared) = rows, each, given
    n = f[ELEMENTS]
    for j in range(m):
        g[j] = g[j] / total[j]
        lam[j] = alpha[j] = through[j] = shared[j] = real(0)
    for e in range(n):
        row, v, w = shift(x, e * LANES), shift(ratio, e * LANES), shift(powers, e * LANES)
        for j in range(m):
            of_weight = g[j] * (row[j] - y[j])
            of_power = of_weight * w[j]
            alpha[j] += of_weight
            lam[j] += of_power * log(v[j])
            shared[j] += of_power * power_of[j]
            row[j] = of_power * power_of[j] / v[j]  # the gradient of v over its average
    for j in range(m):
        lam[j], alpha[j], shared[j] = lam[j] * power_of[j], alpha[j] * base[j], shared[j] / real(n)
    for e in range(n):
        row, d = shift(x, e * LANES), shift(away, e * LANES)
        for j in range(m):
            d[j] = (row[j] - shared[j]) * real(2) * d[j] / mean[j]
            through[j] -= d[j]
    for e in range(n):
        row, d, w = shift(x, e * LANES), shift(away, e * LANES), shift(powers, e * LANES)
        for j in range(m):
            row[j] = g[j] * (w[j] + base[j]) + d[j] + (through[j] / real(n) if f[GIVEN] == 0 else real(0))


def open_piece(f, a, r, o, m, rows, each):
    """Everything that is known of a piece before its gradient."""
    fetch_lanes(f, elements(a[OF_POWER]), OF_POWER, r, o, m, each[0])
    fetch_lanes(f, elements(a[OF_BASE]), OF_BASE, r, o, m, each[1])
    if f[GIVEN] != 0:
        fetch_lanes(f, elements(a[OF_MIDDLE]), OF_MIDDLE, r, o, m, each[2])
    fetch_windows(f, elements(a[OF_X]), r, o, m, rows[0])
    look(f, m, rows, each)


def detail_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y."""
    f, a = integers(plan), integers(data)
    rows, each = (eights(), eights(), eights(), eights()), (lanes(), lanes(), lanes(), lanes(), lanes(), lanes())
    for r in range(lo, hi):
        for o in range(0, f[SIZES + 4], LANES):
            m = min(LANES, f[SIZES + 4] - o)
            open_piece(f, a, r, o, m, rows, each)
            store_lanes(f, a[OF_Y], OF_Y, r, o, m, each[5])


def detail_backward(plan, data, slot, lo, hi):
    """The gradients of rows lo..hi of windows."""
    f, a = integers(plan), integers(data)
    rows, each = (eights(), eights(), eights(), eights()), (lanes(), lanes(), lanes(), lanes(), lanes(), lanes())
    g, given = lanes(), (lanes(), lanes(), lanes(), lanes())
    for r in range(lo, hi):
        for o in range(0, f[SIZES + 4], LANES):
            m = min(LANES, f[SIZES + 4] - o)
            open_piece(f, a, r, o, m, rows, each)
            fetch_lanes(f, elements(a[OF_GRAD]), OF_GRAD, r, o, m, g)
            pull(f, m, rows, each, g, given)
            store_windows(f, elements(a[OF_GRAD_X]), r, o, m, rows[0])
            store_lanes(f, a[OF_LAM], OF_LAM, r, o, m, given[0])
            store_lanes(f, a[OF_ALPHA], OF_ALPHA, r, o, m, given[1])
            store_lanes(f, a[OF_THROUGH], OF_THROUGH, r, o, m, given[2])
