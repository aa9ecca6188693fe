"""Bundles: small planes are brought side by side, and a kernel whose lanes are channels pools them all at once.

A plane of 7x7 positions has rows of 7, which fill no vector, and a row costs what it costs: its windows' bounds, its calls.  As lanes, some planes
share the cost of each window.  Tiles of them are turned in registers (`turn_tile`), into scratch memory that the caches hold, and results are turned
back: a tenth of a nanosecond an element.  One kernel serves all poolings and dtypes: it moves bits, and calls the other one by its address.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403

CALLED = ("into_lanes", "out_of_lanes", "one_by_one", "fill_lanes")


def bundle_planes(plan, data, slot, lo, hi):
    """Bundles lo..hi: inputs into lanes, the kernel, results out of lanes."""
    f, a = integers(plan), integers(data)
    base = a[WORK] + slot * f[B_WORK]
    own, tasks, lanes_ = integers(base), f[B_TASKS], f[B_LANES]
    mask = octets(base + f[B_MASK])
    for i in range(DATA):
        own[i] = a[i]
    own[FAULT], own[MASK], own[WORK] = base + 8 * DATA, base + f[B_MASK] if a[MASK] != 0 else 0, base + f[B_SCRATCH]
    for k in range(f[B_OPERANDS]):
        r = B_RECORDS + B_RECORD * k
        own[f[r + B_SLOT]] = base + f[r + B_AT]
    own[DATA], own[DATA + 1] = 0, 0
    unmark(mask, tasks)
    for b in range(lo, hi):
        first = min(b * lanes_, f[B_PLANES] - lanes_)  # the last bundle has some of the planes before, too
        for k in range(f[B_INPUTS]):
            turn_in(shift(f, B_RECORDS + B_RECORD * k), f, a, own, first)
        call_kernel(a[KERNEL], plan + 8 * f[B_PLAN], base, 0, 0, tasks)
        for k in range(f[B_INPUTS], f[B_OPERANDS]):
            turn_out(shift(f, B_RECORDS + B_RECORD * k), f, a, own, base, first, b * lanes_ - first)
        if own[DATA + 1] != 0:
            for j in range(b * lanes_ - first, lanes_):
                one_by_one(plan, f, a, base, first, j)
            unmark(mask, tasks)
            own[DATA + 1] = 0
    if own[DATA] != 0:
        integers(a[FAULT])[0] = 1
    settle()


def one_by_one(plan, f, a, base, first, j):
    """Mark what of plane first + j is to be done again: what the kernel leaves where it is in all lanes, whatever planes share its bundle."""
    own, tasks, mask = integers(base), f[B_TASKS], octets(base + f[B_MASK])
    unmark(mask, tasks)
    for k in range(f[B_INPUTS]):
        r = shift(f, B_RECORDS + B_RECORD * k)
        turn_in(r, f, a, own, first)
        lane_in_all(r, f, own[r[B_SLOT]], j)
    call_kernel(a[KERNEL], plan + 8 * f[B_PLAN], base, 0, 0, tasks)
    for t in range(f[B_MARKS]):
        if mask[t] != 0:
            mark(a, (first + j) * f[B_MARKS] + t)


def lane_in_all(r, f, lanes_, j):
    """An input's plane j in all lanes."""
    if r[B_ITEM] == 4:
        fill_lanes(r, f, words(lanes_), j)
    elif r[B_ITEM] == 8:
        fill_lanes(r, f, long_words(lanes_), j)
    elif r[B_ITEM] == 2:
        fill_lanes(r, f, half_words(lanes_), j)
    else:
        fill_lanes(r, f, octets(lanes_), j)


def fill_lanes(r, f, lanes_, j):
    """Lane j at all positions."""
    n = f[B_LANES]
    for p in range(r[B_SIZE] * r[B_SIZE + 1] * r[B_SIZE + 2]):
        row, value = shift(lanes_, p * n), lanes_[p * n + j]
        for i in range(n):
            row[i] = value


def unmark(mask, n):
    """No task is left."""
    for i in range(n):
        mask[i] = 0


def turn_in(r, f, a, own, first):
    """An input's planes from `first` on, as lanes."""
    source, to = a[r[B_SLOT]], own[r[B_SLOT]]
    if r[B_ITEM] == 4:
        into_lanes(r, f, words(source), words(to), first, 16)
    elif r[B_ITEM] == 8:
        into_lanes(r, f, long_words(source), long_words(to), first, 8)
    elif r[B_ITEM] == 2:
        into_lanes(r, f, half_words(source), half_words(to), first, 16)
    else:
        into_lanes(r, f, octets(source), octets(to), first, 16)


def turn_out(r, f, a, own, base, first, old):
    """Planes from `first` on of a result, but for the first `old` ones, from lanes."""
    source, to, room = own[r[B_SLOT]], a[r[B_SLOT]], base + r[B_PAST]
    if r[B_ITEM] == 4:
        out_of_lanes(r, f, words(source), words(to), words(room), first, old, 16)
    elif r[B_ITEM] == 8:
        out_of_lanes(r, f, long_words(source), long_words(to), long_words(room), first, old, 8)
    elif r[B_ITEM] == 2:
        out_of_lanes(r, f, half_words(source), half_words(to), half_words(room), first, old, 16)
    else:
        out_of_lanes(r, f, octets(source), octets(to), octets(room), first, old, 16)


def plane_at(r, f, p):
    """Where plane p of an operand begins."""
    return p // f[B_CHANNELS] * r[B_STEP] + p % f[B_CHANNELS] * r[B_STEP + 1]


def into_lanes(r, f, x, to, first, tile):
    """Planes from `first` on as lanes, a tile at a time where they have no gaps."""
    n, pitch = f[B_LANES], r[B_PITCH]
    size = r[B_SIZE] * r[B_SIZE + 1] * r[B_SIZE + 2]
    if pitch != 0 and size >= tile:
        for j in range(0, n, tile):
            x_j = shift(x, (first + j) * pitch)
            for p in range(0, size, tile):
                q = min(p, size - tile)
                turn_tile(shift(to, q * n + j), n, shift(x_j, q), pitch)
                if f[B_ASK]:
                    for i in range(tile):
                        prefetch(shift(x_j, (n + i) * pitch + q))
        return
    for j in range(n):
        x_j, c = shift(x, plane_at(r, f, first + j)), j
        for d in range(r[B_SIZE]):
            for h in range(r[B_SIZE + 1]):
                at = d * r[B_STEP + 2] + h * r[B_STEP + 3]
                for w in range(r[B_SIZE + 2]):
                    to[c] = x_j[at + w * r[B_STEP + 4]]
                    c += n


def out_of_lanes(r, f, lanes_, y, room, first, old, tile):
    """Lanes as planes from `first` on, but for the first `old` ones."""
    n, pitch = f[B_LANES], r[B_PITCH]
    size = r[B_SIZE] * r[B_SIZE + 1] * r[B_SIZE + 2]
    if pitch != 0 and size >= tile and old == 0:
        y = shift(y, first * pitch)
        to = room if r[B_PAST] else y
        for j in range(0, n, tile):
            for p in range(0, size, tile):
                q = min(p, size - tile)
                turn_tile(shift(to, j * pitch + q), pitch, shift(lanes_, q * n + j), n)
        if r[B_PAST]:
            put_past(y, room, n * size, LINE * 4 // r[B_ITEM])
        return
    for j in range(old, n):
        y_j, c = shift(y, plane_at(r, f, first + j)), j
        for d in range(r[B_SIZE]):
            for h in range(r[B_SIZE + 1]):
                at = d * r[B_STEP + 2] + h * r[B_STEP + 3]
                for w in range(r[B_SIZE + 2]):
                    y_j[at + w * r[B_STEP + 4]] = lanes_[c]
                    c += n


def put_past(y, cells, n, line):
    """Copy n cells, whole lines of memory past the caches."""
    first = min(-place_in_line(y) & line - 1, n)
    last = first + (n - first & -line)
    for i in range(first):
        y[i] = cells[i]
    for i in range(first, last, line):
        put_line(shift(y, i), shift(cells, i))
    for i in range(last, n):
        y[i] = cells[i]
