"""Planes: windows that are whole planes, which lie in memory without gaps (global pooling, channels-first).

Such a window is one run of elements.  It is lifted and joined VECTOR lanes wide, so that a plane of 7 x 7 is three vectors and a rest.  The lanes
are then joined for a TILE of planes at once: by itself each plane would wait for its own few cells four times.
Measured on averages of float32 (32, 2048, 7, 7), one thread, in ns a plane: 84 in sweep.py's loops, which are made for rows of windows, 10 here;
backward 70 and 6.

Legend: see rows.py and direct.py; a tile holds VECTOR cells of each plane, its components SIZE cells apart.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .cells import pairs
from .rows import *  # noqa: F403

CALLED = ("give_past",)  # beside it, give_plane took 1.05 times as long where gradients do not go past the caches
TILE = 16  # planes
SIZE = 256  # cells: TILE * VECTOR
PART = 2048  # elements whose sum goes to a total of its own: float32 sums of large planes stay accurate
NEAR = 1 << 16  # elements of the planes that are read for their sums and then for their gradients: the second time from a cache
WAITING = 1024  # elements of a gradient that are written together past the caches


def lift_run(v, u, o, row, q):
    """Join VECTOR elements, from o on, to the cells of a plane."""
    for j in range(VECTOR):
        set_cell(row, j, SIZE, join_all(cell(row, j, SIZE), lift_at(v, u, o + j, REFERENCE, q)))


def lift_four(v, u, o, row, q):
    """Join four times VECTOR elements: the cells are read and written once."""
    for j in range(VECTOR):
        e = join_all(lift_at(v, u, o + j, REFERENCE, q), lift_at(v, u, o + VECTOR + j, REFERENCE, q))
        e1 = join_all(lift_at(v, u, o + 2 * VECTOR + j, REFERENCE, q), lift_at(v, u, o + 3 * VECTOR + j, REFERENCE, q))
        set_cell(row, j, SIZE, join_all(cell(row, j, SIZE), join_all(e, e1)))


def ask_for_both(f, v, u, o, n):
    """Ask for what follows n elements, and n logits, from o on."""
    ask_ahead(f, shift(v, o), n)
    if LOGITS:
        ask_ahead(f, shift(u, o), n)


def lift_part(f, v, u, n, row, q):
    """The cells of n elements, some of them in each lane."""
    clear(row)
    for o in range(0, n & -4 * VECTOR, 4 * VECTOR):
        ask_for_both(f, v, u, o, 4 * VECTOR)
        lift_four(v, u, o, row, q)
    for o in range(n & -4 * VECTOR, n & -VECTOR, VECTOR):
        ask_for_both(f, v, u, o, VECTOR)
        lift_run(v, u, o, row, q)
    o = n & -VECTOR
    for j in range(n & VECTOR - 1):
        set_cell(row, j, SIZE, join_all(cell(row, j, SIZE), lift_at(v, u, o + j, REFERENCE, q)))


def clear(row):
    """Cells that nothing has been joined to."""
    for k in range(ACCUMULATORS):
        for j in range(VECTOR):
            row[k * SIZE + j] = empty()


def lift_plane(f, v, u, n, row, part, q):
    """The cells of a plane of n elements."""
    lift_part(f, v, u, min(n, PART), row, q)
    for o in range(PART, n, PART):
        lift_part(f, shift(v, o), shift(u, o), min(n - o, PART), part, q)
        for k in range(ACCUMULATORS):
            for j in range(VECTOR):
                row[k * SIZE + j] = join(row[k * SIZE + j], part[k * SIZE + j])


def join_lanes(tile, other):
    """The cells of each plane of a tile, joined in pairs, pairs of pairs and so on: one after the other at the tile's begin."""
    for k in range(ACCUMULATORS):
        t, u = shift(tile, k * SIZE), shift(other, k * SIZE)
        pairs(u, t, SIZE // 2)
        pairs(t, u, SIZE // 4)
        pairs(u, t, SIZE // 8)
        pairs(t, u, SIZE // 16)


def finish_tile(tile, pack, share, par, numbers_):
    """y of a tile; whether the common reference suits all of it."""
    fine = True
    for j in range(TILE):
        acc, q = cell(tile, j, SIZE), numbers_ + lane_params(par, j)
        pack[j] = finish(acc, REFERENCE, share, *q)
        fine &= safe(acc, *q)
    return fine


def lift_tile(f, a, x, logit, n, g, planes, tile, part, par, numbers_):
    """The joined cells of the planes of a tile, from (n, g) on."""
    for i in range(planes if RECOMPUTE else 0):
        plane_parameters(f, a, n, g, shift(par, i))
        v, u = shift(x, spot(f, X, n, g, 0, 0, 0)), shift(logit, logit_spot(f, n, g, 0, 0, 0))
        lift_plane(f, v, u, f[D] * f[H] * f[W], shift(tile, i * VECTOR), part, numbers_ + lane_params(par, i))
        n, g = next_plane(f, n, g)
    join_lanes(tile, part)


def blank(f, a, lo, tile, par):
    """Cells and parameters for what is computed of a tile that is not full."""
    for j in range(ACCUMULATORS * SIZE):
        tile[j] = empty()
    for j in range(TILE):
        plane_parameters(f, a, lo // f[G], lo % f[G], shift(par, j))


def planes_forward(plan, data, slot, lo, hi):
    """Planes lo..hi of y, which has an element a plane."""
    f, a = integers(plan), integers(data)
    x, logit, y = elements(a[X]), elements(a[LOGIT]), elements(a[Y])
    tile, part, par, pack, numbers_ = tile_cells(), tile_cells(), row4(), lanes(), numbers(doubles(a[NUMBERS]))
    share = real(f[f[D_SHARE]] * f[f[H_SHARE]] * f[f[W_SHARE]])
    blank(f, a, lo, tile, par)
    for first in range(lo, hi, TILE):
        planes, n, g = min(TILE, hi - first), first // f[G], first % f[G]
        lift_tile(f, a, x, logit, n, g, planes, tile, part, par, numbers_)
        fine = finish_tile(tile, pack, share, par, numbers_)
        for i in range(planes):
            store(y, spot(f, Y, n, g, 0, 0, 0), pack[i])
            if not fine:  # noqa: SIM102 (by itself: which planes share a tile is the threads' affair)
                if not safe(cell(tile, i, SIZE), *(numbers_ + lane_params(par, i))):
                    mark(a, first + i)
            n, g = next_plane(f, n, g)


def planes_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of the gradient."""
    f, a = integers(plan), integers(data)
    x, logit, grad, gx, gl = elements(a[X]), elements(a[LOGIT]), elements(a[Y]), elements(a[GRAD_X]), elements(a[GRAD_LOGIT])
    tile, part, par, numbers_, raw, raw2 = tile_cells(), tile_cells(), row4(), numbers(doubles(a[NUMBERS])), raw1(), raw1()
    size, share = f[D] * f[H] * f[W], real(f[f[D_SHARE]] * f[f[H_SHARE]] * f[f[W_SHARE]])
    blank(f, a, lo, tile, par)
    at = spot(f, GRAD_X, lo // f[G], lo % f[G], 0, 0, 0)  # where the first of what waits in raw goes
    past, begun = goes_past(f, shift(gx, at), shift(gl, at), size), place_in_line(shift(gx, at))
    at, filled = at - begun, begun
    some = max(1, min(TILE, NEAR // size)) if RECOMPUTE else TILE
    for first in range(lo, hi, some):
        planes, n, g = min(some, hi - first), first // f[G], first % f[G]
        lift_tile(f, a, x, logit, n, g, planes, tile, part, par, numbers_)
        for i in range(planes):
            acc, q = cell(tile, i, SIZE), numbers_ + lane_params(par, i)
            gy = load(grad, spot(f, Y, n, g, 0, 0, 0))
            w = times(gy, terms(acc, REFERENCE, share, *q))
            to = spot(f, GRAD_X, n, g, 0, 0, 0)
            v, u = shift(x, spot(f, X, n, g, 0, 0, 0)), shift(logit, logit_spot(f, n, g, 0, 0, 0))
            if past:
                at, begun, filled = give_past(gx, gl, raw, raw2, v, u, size, w, q, at, begun, filled)
            else:
                give_plane(shift(gx, to), shift(gl, to), v, u, size, w, q)
            keep_slope(part, 0, gy, acc, REFERENCE, share, q)
            put_slopes(f, a, n, g, 0, 0, 0, part, 1, 1)
            if not safe(acc, *q):
                mark(a, first + i)
            n, g = next_plane(f, n, g)
    if past:
        leave(shift(gx, at), shift(gl, at), raw, raw2, begun, filled)
        settle()


def goes_past(f, gx, gl, size):
    """Whether gradients go past the caches: large ones, whose planes lie one behind the other, so that few lines of memory are not written whole."""
    r = RECORDS + RECORD * GRAD_X
    gapless = f[r + 1] == size and (f[N] == 1 or f[r] == size * f[G])
    return f[PAST_CACHE] != 0 and gapless and (not LOGITS or place_in_line(gx) == place_in_line(gl))


def give_past(gx, gl, raw, raw2, v, u, size, w, q, at, begun, filled):
    """The gradients of a plane, past the caches; returns where the first of what waits then goes, where it begins, and where it ends."""
    o = 0
    while o < size:
        m = min(size - o, WAITING - filled)
        give_plane(shift(raw, filled), shift(raw2, filled), shift(v, o), shift(u, o), m, w, q)
        o, filled = o + m, filled + m
        if filled == WAITING:
            leave(shift(gx, at), shift(gl, at), raw, raw2, begun, filled)
            at, begun, filled = at + WAITING, 0, 0
    return at, begun, filled


def leave(gx, gl, raw, raw2, begun, filled):
    """Write what waits."""
    put_all(gx, raw, begun, filled)
    if LOGITS:
        put_all(gl, raw2, begun, filled)


def put_all(out, cells, i, n):
    """Cells i .. n to a line of memory and what follows it: whole lines past the caches."""
    first, last = (i + LINE - 1) & -LINE, n & -LINE
    for j in range(i, min(first, n)):
        out[j] = cells[j]
    if first < last:
        put_lines(shift(out, first), shift(cells, first), last - first)
    for j in range(max(first, last), n):
        out[j] = cells[j]


def give_sum(gx, gl, v, u, n, w, q):
    """The gradients of a plane where they do not depend on the elements."""
    each = spread(real(0), (), w, REFERENCE, *q)
    for j in range(n):
        store(gx, j, each)


def give_one(gx, gl, v, u, n, w, q):
    """The gradients of a plane."""
    for j in range(n):
        store(gx, j, spread_at(v, u, j, lift_at(v, u, j, REFERENCE, q), w, REFERENCE, q)[0])


def give_two(gx, gl, v, u, n, w, q):
    """The gradients of a plane and of its logits."""
    for j in range(n):
        s = spread_at(v, u, j, lift_at(v, u, j, REFERENCE, q), w, REFERENCE, q)
        store(gx, j, s[0])
        store(gl, j, s[1])
