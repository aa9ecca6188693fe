"""Whole: chosen elements of windows that are whole planes, which lie in memory without gaps (global pooling, channels-first), and their gradient.

Such a window is one run of elements, chosen from VECTOR lanes wide; in a lane they stand in order, so that places need not be looked at.  The lanes
of a TILE of planes are then joined at once, as in planes.py.  Choosing twice does no harm, so the last lanes overlap those before.

Legend: see rows.py and select.py; a tile holds VECTOR cells of each plane.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .planes import SIZE, TILE, next_plane
from .rows import *  # noqa: F403
from .select import ahead


def first_lanes(x, last, v, p):
    """The first elements of a plane; of a shorter one the last again."""
    for j in range(VECTOR):
        i = min(j, last)
        v[j], p[j] = load(x, i), place(i)


def four_lanes(x, o, v, p):
    """The best of a plane's lanes and four times VECTOR elements from o on."""
    for j in range(VECTOR):
        u, i, w = v[j], p[j], load(x, o + j)
        i = narrow_add(place(o), place(j)) if better(w, u) else i
        u = w if better(w, u) else u
        w = load(x, o + VECTOR + j)
        i = narrow_add(place(o + VECTOR), place(j)) if better(w, u) else i
        u = w if better(w, u) else u
        w = load(x, o + 2 * VECTOR + j)
        i = narrow_add(place(o + 2 * VECTOR), place(j)) if better(w, u) else i
        u = w if better(w, u) else u
        w = load(x, o + 3 * VECTOR + j)
        v[j], p[j] = w if better(w, u) else u, narrow_add(place(o + 3 * VECTOR), place(j)) if better(w, u) else i


def more_lanes(x, o, v, p):
    """The best of a plane's lanes and VECTOR elements from o on."""
    for j in range(VECTOR):
        u, i, w = v[j], p[j], load(x, o + j)
        v[j], p[j] = w if better(w, u) else u, narrow_add(place(o), place(j)) if better(w, u) else i


def best_of_pairs(v, p, v1, p1, n):
    """The better ones of neighbouring cells."""
    for j in range(n):
        u, i, w, q = v1[2 * j], p1[2 * j], v1[2 * j + 1], p1[2 * j + 1]
        take = ahead(w, q, u, i)
        v[j], p[j] = w if take else u, q if take else i


def choose_planes(f, x, first, planes, v, p, v1, p1):
    """The chosen elements of a tile of planes, and their places, at its begin."""
    n, g, size = first // f[G], first % f[G], f[D] * f[H] * f[W]
    for i in range(planes):
        row, u, q = shift(x, spot(f, X, n, g, 0, 0, 0)), shift(v, i * VECTOR), shift(p, i * VECTOR)
        first_lanes(row, size - 1, u, q)
        fours = VECTOR + (max(size - VECTOR, 0) & -4 * VECTOR)
        for o in range(VECTOR, fours, 4 * VECTOR):
            ask_ahead(f, shift(row, o), 4 * VECTOR)
            four_lanes(row, o, u, q)
        for o in range(fours, size, VECTOR):
            ask_ahead(f, shift(row, o), VECTOR)
            more_lanes(row, min(o, size - VECTOR), u, q)
        n, g = next_plane(f, n, g)
    best_of_pairs(v1, p1, v, p, SIZE // 2)
    best_of_pairs(v, p, v1, p1, SIZE // 4)
    best_of_pairs(v1, p1, v, p, SIZE // 8)
    best_of_pairs(v, p, v1, p1, SIZE // 16)


def whole_forward(plan, data, slot, lo, hi):
    """Planes lo..hi of y, which has an element a plane, and of the index."""
    f, a = integers(plan), integers(data)
    x, y, index = elements(a[X]), elements(a[Y]), integers(a[INDEX])
    v, p, v1, p1 = tile_values(), tile_places(), tile_values(), tile_places()
    for first in range(lo, hi, TILE):
        planes, n, g = min(TILE, hi - first), first // f[G], first % f[G]
        choose_planes(f, x, first, planes, v, p, v1, p1)
        for i in range(planes):
            store(y, spot(f, Y, n, g, 0, 0, 0), v[i])
            write(index, spot(f, INDEX, n, g, 0, 0, 0), np.int64(p[i]))
            n, g = next_plane(f, n, g)


def whole_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of gx: 0 but for the g of its window at the chosen element."""
    f, a = integers(plan), integers(data)
    grad, gx, source, size = elements(a[Y]), elements(a[GRAD_X]), opened(a), f[D] * f[H] * f[W]
    v, p, v1, p1 = tile_values(), tile_places(), tile_values(), tile_places()
    for first in range(lo, hi, TILE):
        planes, n, g = min(TILE, hi - first), first // f[G], first % f[G]
        told_by(f, source, first, planes, v, p, v1, p1)
        for i in range(planes):
            row, at = shift(gx, spot(f, GRAD_X, n, g, 0, 0, 0)), np.int64(p[i])
            for j in range(size):
                store(row, j, real(0))
            if at >= 0 and at < size:
                store(row, at, load(grad, spot(f, Y, n, g, 0, 0, 0)))
            else:
                mark(a, first + i)
            n, g = next_plane(f, n, g)


def elements_of(a):
    """What tells the chosen ones: x."""
    return elements(a[X])


def indices_of(a):
    """What tells the chosen ones: the index."""
    return integers(a[INDEX])


def read_places(f, index, first, planes, v, p, v1, p1):
    """The places of a tile of planes that indices name."""
    n, g = first // f[G], first % f[G]
    for i in range(planes):
        p[i] = index[spot(f, INDEX, n, g, 0, 0, 0)]
        n, g = next_plane(f, n, g)
