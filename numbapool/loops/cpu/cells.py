"""Rows of cells: joined with each other, slid along themselves, taken apart and woven together.

All of it runs over unit stride from zero.  What joins two cells is bound: sums add, chosen elements are picked.
Legend: t, a, b, c rows of cells; n how many; s distance of the cells that are taken.
"""
from __future__ import annotations


def join(a, b):
    """Sums join by adding; chosen elements by `picked`."""
    return a + b


def merge_two(t, a, b, n):
    """t = a and b joined."""
    for j in range(n):
        t[j] = join(a[j], b[j])


def merge_one(t, a, n):
    """Join a to t."""
    for j in range(n):
        t[j] = join(t[j], a[j])


def merge_three(t, a, b, c, n):
    """t = a, b and c joined."""
    for j in range(n):
        t[j] = join(join(a[j], b[j]), c[j])


def merge_more(t, a, b, n):
    """Join a and b to t."""
    for j in range(n):
        t[j] = join(join(t[j], a[j]), b[j])


def copy_row(t, a, n):
    """t = a."""
    for j in range(n):
        t[j] = a[j]


def fill_row(t, n, value):
    """Every cell the same."""
    for j in range(n):
        t[j] = value


def strided_copy(t, a, n, s):
    """t = every s-th cell of a."""
    for j in range(n):
        t[j] = a[j * s]


def strided_two(t, a, n, s, apart):
    """t = every s-th cell of a, and those `apart` from them, joined."""
    for j in range(n):
        t[j] = join(a[j * s], a[j * s + apart])


def strided_one(t, a, n, s):
    """Join every s-th cell of a to t."""
    for j in range(n):
        t[j] = join(t[j], a[j * s])


def slide(t, a, n, taps, apart):
    """t = a, and what lies 1, 2, ... times `apart` from it, joined."""
    if taps == 1:
        copy_row(t, a, n)
    elif taps == 2:
        merge_two(t, a, shift(a, apart), n)
    else:
        merge_three(t, a, shift(a, apart), shift(a, 2 * apart), n)
        for i in range(3, taps - 1, 2):
            merge_more(t, shift(a, i * apart), shift(a, (i + 1) * apart), n)
        if taps & 1 == 0:
            merge_one(t, shift(a, (taps - 1) * apart), n)


def slide_strided(t, a, n, s, taps, apart):
    """`slide` for every s-th cell."""
    if taps == 1:
        strided_copy(t, a, n, s)
    else:
        strided_two(t, a, n, s, apart)
    for i in range(2, taps):
        strided_one(t, shift(a, i * apart), n, s)


def pairs(t, a, n):
    """t = the pairs of neighbours in a, joined."""
    for j in range(n):
        t[j] = join(a[2 * j], a[2 * j + 1])


def unweave(even, odd, a, n):
    """The cells of a at even and at odd places."""
    for j in range(n):
        even[j], odd[j] = a[2 * j], a[2 * j + 1]


def pairs_and_even(t, even, a, n):
    """`pairs`, and the cells at even places."""
    for j in range(n):
        t[j], even[j] = join(a[2 * j], a[2 * j + 1]), a[2 * j]


def slide_pairs(t, a, n, taps, apart, even, odd):
    """`slide` for every second cell: pairs of neighbours load at full width, a single strided cell does not."""
    if taps == 2 and apart == 1:
        pairs(t, a, n)
    elif taps == 3 and apart == 1:
        pairs_and_even(t, even, a, n)
        even[n] = a[2 * n]
        merge_one(t, shift(even, 1), n)
    else:
        unweave(even, odd, a, n + (((taps - 1) * apart + 1) >> 1))
        copy_row(t, even, n)
        for i in range(1, taps):
            p = i * apart
            merge_one(t, shift(odd if p & 1 else even, p >> 1), n)


def halve(pack, a, n, apart):
    """n cells joined in pairs, pairs of pairs, ..."""
    for j in range(n):
        pack[j] = a[j * apart]
    while n > 1:
        half = (n + 1) >> 1
        merge_one(pack, shift(pack, half), n - half)
        n = half
    return pack[0]


def join_pieces(f, u, t, n, table, terms, levels, start, m, cut):
    """m runs of neighbours in t (of n cells), joined: rows of pairs, of fours and of eights, then for each run the few of these that make it up."""
    copy_row(cut, t, n)
    for l in range(1, levels):
        below = shift(cut, (l - 1) * CELLS)
        merge_two(shift(cut, l * CELLS), below, shift(below, 1 << (l - 1)), n + 1 - (1 << l))
    fill_row(shift(cut, levels * CELLS), n + 1, empty())
    if terms == 1:
        one_piece(u, cut, table, start, m)
    elif terms == 2:
        two_pieces(u, cut, table, start, m)
    else:
        more_pieces(u, cut, table, terms, start, m)


def one_piece(u, cut, table, start, n):
    """Runs that are a piece each."""
    for j in range(n):
        u[j] = cut[table[j] - start]


def two_pieces(u, cut, table, start, n):
    """Runs of at most two pieces."""
    for j in range(n):
        u[j] = join(cut[table[2 * j] - start], cut[table[2 * j + 1] - start])


def more_pieces(u, cut, table, terms, start, n):
    """Runs of three or four pieces."""
    for j in range(n):
        v = cut[table[terms * j] - start]
        for k in range(1, terms):
            v = join(v, cut[table[terms * j + k] - start])
        u[j] = v


def weave(e, even, odd, n):
    """e = even[0], odd[0], even[1], odd[1], ..., n cells."""
    weave_pairs(e, even, odd, n >> 1)
    if n & 1:
        e[n - 1] = even[n >> 1]


def weave_pairs(e, even, odd, n):
    """n pairs."""
    for j in range(n):
        e[2 * j], e[2 * j + 1] = even[j], odd[j]


def weave_lanes(e, even, odd, n, each, begun):
    """`weave` for n positions of `each` cells, from the second on where one has begun."""
    for i in range(begun, begun + n):
        row, cells = shift(odd if i & 1 else even, (i >> 1) * each), shift(e, (i - begun) * each)
        for l in range(each):
            cells[l] = row[l]
