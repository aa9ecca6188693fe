"""Rows of cells: joined with each other, slid along themselves, taken apart and woven together.

All of it runs over unit stride from zero.  What joins two cells is bound: sums add, chosen elements are picked.
Legend: t, a, b, c rows of cells; n how many; s distance of the cells that are taken.
"""
from __future__ import annotations

STATE = 64  # bytes of `slide_down`'s state


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


def merge_both(t, p, a, b, n):
    """Join b to p; t = a and p joined."""
    for j in range(n):
        p[j] = join(p[j], b[j])
        t[j] = join(a[j], p[j])


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


def slide_by_powers(t, a, n, taps, apart, cut):
    """`slide` of more than five taps: rows of pairs, of fours and so on, up to 32, and of each of these what the binary digits of `taps` say."""
    one, two, level, power, done, found = a, a, a, 1, 0, 0
    for l in range(6):
        last = l == 5 or 2 * power > taps
        for _ in range((taps - done) // power if last else taps >> l & 1):
            piece = shift(level, done * apart)
            done += power
            found += 1
            if found == 1:
                one = piece
            elif found == 2:
                two = piece
            elif found == 3:
                merge_three(t, one, two, piece, n)
            else:
                merge_one(t, piece, n)
        if last:
            break
        above = shift(cut, l * CELLS)
        merge_two(above, level, shift(level, power * apart), n + (taps - 2 * power) * apart)
        level, power = above, 2 * power
    if found == 1:
        copy_row(t, one, n)
    elif found == 2:
        merge_two(t, one, two, n)


def forget(used, state):
    """Nothing is held yet of what `slide_down` holds."""
    for i in range(5 if used else 0):
        state[i] = -1


def slide_down(t, pitch, rows, mask, down, parts, size, cells, lo, hi, last, tall, state, held):
    """Rows lo..hi joined, of windows of at most `tall` rows that follow one another down the rows: three steps a row, however tall they are.

    Rows are taken in blocks of `tall`: a window is the end of a block and the beginning of the next.  Ends are joined from the last row up, once
    a block; what the beginning of a block gives grows with the windows (van Herk 1992, Gil and Werman 1993; for sums, too, which only add).

    Row i begins at (i & mask) * down of `rows`, row `last` is none; each has `parts` components, `size` cells apart there, `pitch` in t.
    state : the block whose ends are held, the first of them; the block whose beginning is held, how far; -1 before the first call.
    held : a beginning and `tall` ends.  Whether it suits the windows: if not, nothing is done.
    """
    begin = lo // tall * tall
    end, row, both = min(begin + tall, last), parts * size, False
    middle, ends = end if hi >= end else begin, shift(held, (lo - begin + 1) * row)
    if hi < end and lo > begin:
        return False
    if hi >= end and (state[0] != begin or state[1] > lo):
        for i in range(end - 1, lo - 1, -1):
            to, source = shift(held, (i - begin + 1) * row), shift(rows, (i & mask) * down)
            for k in range(0, row, size):
                if i == end - 1:
                    copy_row(shift(to, k), shift(source, k), cells)
                else:
                    merge_two(shift(to, k), shift(source, k), shift(to, row + k), cells)
        state[0], state[1] = begin, lo
    if hi > middle:
        if state[2] != middle or state[3] > hi:
            for k in range(0, row, size):
                copy_row(shift(held, k), shift(rows, (middle & mask) * down + k), cells)
            state[2], state[3] = middle, middle + 1
        both = middle == end and hi > state[3]
        for i in range(state[3], hi - 1 if both else hi):
            for k in range(0, row, size):
                merge_one(shift(held, k), shift(rows, (i & mask) * down + k), cells)
        state[3] = hi
    for k in range(parts):
        to, a, p = shift(t, k * pitch), shift(ends, k * size), shift(held, k * size)
        if both:
            merge_both(to, p, a, shift(rows, ((hi - 1) & mask) * down + k * size), cells)
        elif middle == begin:
            copy_row(to, p, cells)
        elif hi == middle:
            copy_row(to, a, cells)
        else:
            merge_two(to, a, p, cells)
    return True


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


def rows_to_lanes(to, t, pitch, n, tile):
    """n columns of VECTOR rows, as lanes."""
    for c in range(0, n, tile):
        i = max(min(c, n - tile), 0)
        for r in range(0, VECTOR, tile):
            turn_tile(shift(to, i * VECTOR + r), VECTOR, shift(t, r * pitch + i), pitch)


def lanes_to_rows(u, pitch, a, n, tile):
    """Back again; fewer than a tile's columns are followed by others that mean nothing."""
    for c in range(0, n, tile):
        i = max(min(c, n - tile), 0)
        for r in range(0, VECTOR, tile):
            turn_tile(shift(u, r * pitch + i), pitch, shift(a, i * VECTOR + r), VECTOR)


def join_lanes(to, a, first, count, begin, n):
    """Windows of columns that are lanes joined: window i has count[i] of them, from first[i] - begin on."""
    for i in range(n):
        t, c, taps = shift(to, i * VECTOR), shift(a, (first[i] - begin) * VECTOR), count[i]
        if taps == 2:
            for l in range(VECTOR):
                t[l] = join(c[l], c[VECTOR + l])
        elif taps > 2:
            for l in range(VECTOR):
                t[l] = join(join(c[l], c[VECTOR + l]), c[2 * VECTOR + l])
            for w in range(3, taps):
                more = shift(c, w * VECTOR)
                for l in range(VECTOR):
                    t[l] = join(t[l], more[l])
        else:
            for l in range(VECTOR):
                t[l] = c[l] if taps else empty()


def turn_and_join(u, across, t, pitch, length, first, count, begin, n, cut):
    """n windows of the columns of VECTOR rows: as lanes a window costs a step a column, wherever it lies, and each step does all rows."""
    done = shift(cut, 2 * CELLS)
    rows_to_lanes(cut, t, pitch, length, TILE)
    join_lanes(done, cut, first, count, begin, n)
    lanes_to_rows(u, across, done, n, TILE)


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
