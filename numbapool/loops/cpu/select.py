"""Select: y is one element of the window, chosen by `better(v, best)`; with INDEXED its flat position is written too.

The rows of a window are joined column by column, and then the columns of each window: k + k steps where a loop over windows takes k * k.
A cell is a value and its place, the flat position in the plane.  Columns meet in any order, so `ahead` looks at places where values are
equal: that is what makes the first of equals, and the last NaN, win.  Choosing twice does no harm, so a long window is two overlapping
parts of 2^i columns, which neighbouring windows share.

Where windows along a row lie at any places, VECTOR joined rows are turned, so that columns are lanes, as in sweep.py.

Windows of at most three rows and columns are chosen by short.py, whose functions take the place of `windows` and `choose`.

Backward is formula-free: gx[index] += g.  The same loop, with `merge` = replace, is max_unpool.  Legend: see rows.py and sweep.py;
v, p a row of cells, values and places; column the position that a cell lies at.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .cells import lanes_to_rows, rows_to_lanes
from .rows import *  # noqa: F403
from .short import *  # noqa: F403
from .sweep import runs_of
from .tall import *  # noqa: F403

BAND = 512  # cells of output rows that are worked on together: many short rows are stored as a long one
CALLED = ("first_rows", "more_rows", "along", "along_lanes", "nine", "best_of_two", "best_of_three", "improve", "copy_cells",
          "nine_run", "lay_cells", "better_of_two", "rows_to_lanes", "lanes_to_rows", "best_lanes")

# ---------------------------------------------------------------- rows of cells

def ahead(w, q, v, p):
    """Whether w at place q is chosen, and not v at place p: whichever of them stands first."""
    forth, back = better(w, v), better(v, w)
    return forth != ((forth == back) & (q < p))


def first_rows(v, p, a, b, c, here_a, here_b, here_c, column, n):
    """The best of three rows of elements, top to bottom."""
    for j in range(n):
        u, i, w = load(a, j), here_a, load(b, j)
        i = here_b if better(w, u) else i
        u = w if better(w, u) else u
        w = load(c, j)
        v[j], p[j] = w if better(w, u) else u, narrow_add(here_c if better(w, u) else i, column[j])


def more_rows(v, p, a, b, here_a, here_b, column, n):
    """Two more rows of elements."""
    for j in range(n):
        u, i, w, k = v[j], p[j], load(a, j), column[j]  # read where it is not needed, too: by a mask it would take several times as long
        at_a, at_b = narrow_add(here_a, k), narrow_add(here_b, k)
        i = at_a if better(w, u) else i
        u = w if better(w, u) else u
        w = load(b, j)
        v[j], p[j] = w if better(w, u) else u, at_b if better(w, u) else i


def best_of_two(v, p, v1, p1, v2, p2, n):
    """The better ones of two rows of cells."""
    for j in range(n):
        u, i, w, q = v1[j], p1[j], v2[j], p2[j]
        take = ahead(w, q, u, i)
        v[j], p[j] = w if take else u, q if take else i


def improve(v, p, v1, p1, n):
    """The better ones of a row of cells and another, in its place: LLVM stores them under a mask, which many processors are slow at."""
    for j in range(n):
        u, i, w, q = v[j], p[j], v1[j], p1[j]
        take = ahead(w, q, u, i)
        v[j], p[j] = w if take else u, q if take else i


def best_of_three(v, p, v1, p1, v2, p2, v3, p3, n):
    """The best ones of three rows of cells."""
    for j in range(n):
        u, i, w, q = v1[j], p1[j], v2[j], p2[j]
        take = ahead(w, q, u, i)
        u, i = w if take else u, q if take else i
        w, q = v3[j], p3[j]
        take = ahead(w, q, u, i)
        v[j], p[j] = w if take else u, q if take else i


# ---------------------------------------------------------------- rows joined column by column

def join_rows(f, x, n, g, od, oh, begin, end, each, column, v, p, raw):
    """The rows of the windows of output row (od, oh) joined, at the positions from begin to end."""
    d0, h0 = f[f[D_FIRST] + (n * f[G] + g) * f[D_PLANE] + od], f[f[H_FIRST] + (n * f[G] + g) * f[H_PLANE] + oh]
    a, b, here_a, here_b, waiting, fresh, m = x, x, place(0), place(0), 0, True, (end - begin) * each
    old = f[f[H_FIRST] + (n * f[G] + g) * f[H_PLANE] + oh - 1] + (f[f[H_COUNT] + oh - 1] - 1) * f[H_STEP] if oh > 0 else -1
    for d in range(d0, d0 + f[f[D_COUNT] + od] * f[D_STEP], f[D_STEP]):
        for h in range(h0, h0 + f[f[H_COUNT] + oh] * f[H_STEP], f[H_STEP]):
            here = place((d * f[H] + h) * f[W] + begin)
            row = fetch_row(f, x, spot(f, X, n, g, d, h, begin), each, end - begin, shift(raw, waiting * CELLS))
            if h > old:  # a row that the windows before did not have
                ask_ahead(f, shift(x, spot(f, X, n, g, d, h, begin)), m)
            waiting += 1
            if waiting == 1:
                a, here_a = row, here
            elif waiting == 2 and fresh:
                b, here_b = row, here
            elif fresh:
                first_rows(v, p, a, b, row, here_a, here_b, here, column, m)
                waiting, fresh = 0, False
            else:
                more_rows(v, p, a, row, here_a, here, column, m)
                waiting = 0
    if fresh:
        b, here_b = (a, here_a) if waiting == 1 else (b, here_b)
        first_rows(v, p, a, b, b, here_a, here_b, here_b, column, m)
    elif waiting == 1:
        more_rows(v, p, a, a, here_a, here_a, column, m)


# ---------------------------------------------------------------- columns joined window by window

def doubled(v, p, v1, p1, n, power, apart):
    """Cells that stand for `power` columns, a power of two: the first one of them, and those that follow `apart`."""
    k = 1
    while k < power:
        n -= k * apart
        best_of_two(v1, p1, v, p, shift(v, k * apart), shift(p, k * apart), vectors(n))
        k *= 2
        if k == power:
            return v1, p1
        n -= k * apart
        best_of_two(v, p, v1, p1, shift(v1, k * apart), shift(p1, k * apart), vectors(n))
        k *= 2
    return v, p


def halved(v, p, taps, apart, each):
    """The best of a single window: the farther half of its columns joins the nearer one, and so on."""
    while taps > 1:
        half = (taps + 1) >> 1
        improve(v, p, shift(v, half * apart), shift(p, half * apart), (taps - half - 1) * apart + each)
        taps = half


def pick(v, p, v1, p1, at, n):
    """Cells at the positions of a table."""
    for j in range(n):
        v[j], p[j] = v1[at[j]], p1[at[j]]


def pick_between(v, p, v1, p1, near, far, reach, n):
    """Cells `reach` after a table's positions, but not after another's."""
    for j in range(n):
        at = min(near[j] + reach, far[j])
        v[j], p[j] = v1[at], p1[at]


def unweave(even, even_p, odd, odd_p, v, p, n):
    """The cells at even and at odd positions."""
    for j in range(n):
        even[j], odd[j] = v[2 * j], v[2 * j + 1]
    for j in range(n):
        even_p[j], odd_p[j] = p[2 * j], p[2 * j + 1]


def spread_window(v, p, v1, p1, spare, spare_places, n, taps, apart):
    """`taps` columns of one window of n lanes, two at a time."""
    if taps == 1:
        copy_cells(v, p, v1, p1, n)
        return
    a, a_places, b, b_places, t = v, p, spare, spare_places, 2 + (taps & 1)
    if (taps - t) & 2:  # so that the last ones go to their place
        a, a_places, b, b_places = b, b_places, a, a_places
    if t == 2:
        best_of_two(a, a_places, v1, p1, shift(v1, apart), shift(p1, apart), n)
    else:
        best_of_three(a, a_places, v1, p1, shift(v1, apart), shift(p1, apart), shift(v1, 2 * apart), shift(p1, 2 * apart), n)
    for i in range(t, taps, 2):
        one, two = i * apart, (i + 1) * apart
        best_of_three(b, b_places, a, a_places, shift(v1, one), shift(p1, one), shift(v1, two), shift(p1, two), n)
        a, a_places, b, b_places = b, b_places, a, a_places


def join_columns(f, chunk, each, s, best, where):
    """The columns of each window of a chunk joined."""
    v, p, v1, p1, v2, p2, near, far, spare, spare_places = s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[11], s[12]
    m, taps, apart, odd = f[chunk + C_LANES] * each, f[W_TAPS], f[W_STEP] * each, 0
    if f[W_STRIDE] != 1 and each > 1:
        for i in range(f[chunk + C_LANES]):
            o = f[chunk + C_OUT] + i
            at = (f[f[W_FIRST] + o] - f[chunk + C_START]) * each
            spread_window(shift(best, i * each), shift(where, i * each), shift(v, at), shift(p, at), spare, spare_places, each,
                          f[f[W_COUNT] + o], apart)
        return
    if f[W_STRIDE] == 2:
        unweave(v1, p1, v2, p2, v, p, vectors(m + (taps >> 1)))
        if taps == 1:
            copy_cells(best, where, v1, p1, m)
            return
        if taps == 2:
            best_of_two(best, where, v1, p1, v2, p2, vectors(m))
            return
        if taps == 3:
            best_of_three(best, where, v1, p1, v2, p2, shift(v1, 1), shift(p1, 1), vectors(m))
            return
        best_of_two(v, p, v1, p1, v2, p2, vectors(m + (taps >> 1)))
        odd, taps = taps & 1, taps >> 1
        copy_cells(v2, p2, shift(v1, taps), shift(p1, taps), m)
    power = f[W_POWER]
    length = f[chunk + C_LENGTH] * each if f[W_STRIDE] != 2 else m + taps
    a, b = doubled(v, p, v1, p1, length, power, apart)
    end, mid = (taps - power) * apart, power * apart
    if f[W_STRIDE] == 0:
        join_parts(f, best, where, a, b, v2, p2, spare, spare_places, near, far, power * apart, m)
    elif taps <= 2 * power and odd:
        best_of_three(best, where, a, b, shift(a, end), shift(b, end), v2, p2, vectors(m))
    elif taps <= 2 * power:
        best_of_two(best, where, a, b, shift(a, end), shift(b, end), vectors(m))
    elif odd:
        best_of_three(spare, spare_places, a, b, shift(a, mid), shift(b, mid), shift(a, end), shift(b, end), vectors(m))
        best_of_two(best, where, spare, spare_places, v2, p2, vectors(m))
    else:
        best_of_three(best, where, a, b, shift(a, mid), shift(b, mid), shift(a, end), shift(b, end), vectors(m))


def join_parts(f, best, where, a, b, v2, p2, spare, spare_places, near, far, part, m):
    """Windows at any places: their first and their last part, and those between joined."""
    if f[W_PARTS] == 1:
        pick(best, where, a, b, near, m)
        return
    pick(spare, spare_places, a, b, near, m)
    for i in range(1, f[W_PARTS] - 1):
        pick_between(v2, p2, a, b, near, far, i * part, m)
        best_of_two(best, where, spare, spare_places, v2, p2, vectors(m))
        copy_cells(spare, spare_places, best, where, m)
    pick(v2, p2, a, b, far, m)
    best_of_two(best, where, spare, spare_places, v2, p2, vectors(m))


# ---------------------------------------------------------------- windows

def windows(f, n, g, chunk, each, s):
    """Where the first and the last part of the windows of a chunk begin; the position of each cell; no row is held yet."""
    forget(f[JOIN_TALL], s[14])
    near, far, column, cells = s[6], s[7], s[8], min(f[chunk + C_LENGTH], CELLS // each)
    table, power = f[W_FIRST] + (n * f[G] + g) * f[W_PLANE] + f[chunk + C_OUT], f[W_POWER]
    for i in range(f[chunk + C_LANES] if each == 1 and not f[TURN] else 0):
        near[i] = place(f[table + i] - f[chunk + C_START])
        far[i] = place(f[table + i] - f[chunk + C_START] + (f[f[W_COUNT] + f[chunk + C_OUT] + i] - power) * f[W_STEP])
    if s[10][0] != each or s[10][1] < cells:
        s[10][0], s[10][1] = each, cells
        for i in range(cells):
            for l in range(each):
                column[i * each + l] = place(i)


def pads(f, n, g, od, oh, chunk, each, v, p):
    """Cells of padding on both sides of a row: as good as an element of the worst value, where a window begins or later."""
    d, h = f[f[D_FIRST] + (n * f[G] + g) * f[D_PLANE] + od], f[f[H_FIRST] + (n * f[G] + g) * f[H_PLANE] + oh]
    here, start = (d * f[H] + h) * f[W], f[chunk + C_START]
    for i in range(f[chunk + C_LO] - start):
        for l in range(each):
            v[i * each + l], p[i * each + l] = worst(), place(here + (start + i) % f[W_STEP])
    for i in range(f[chunk + C_HI] - start, f[chunk + C_LENGTH]):
        for l in range(each):
            v[i * each + l], p[i * each + l] = worst(), place(here + f[W] - 1)


def choose_rows(f, x, n, g, od, oh, rows, chunk, each, s, best, where):
    """The chosen elements of some rows of windows of a chunk, and their places."""
    if f[TURN]:
        choose_turned(f, x, n, g, od, oh, rows, chunk, s, best, where)
    else:
        choose_each(f, x, n, g, od, oh, rows, chunk, each, s, best, where)


def choose_each(f, x, n, g, od, oh, rows, chunk, each, s, best, where):
    """`choose_rows`, one after the other."""
    m = f[chunk + C_LANES] * each
    for i in range(rows):
        choose(f, x, n, g, od, oh + i, chunk, each, s, shift(best, i * m), shift(where, i * m))


def best_lanes(v, p, v1, p1, spare, spare_places, first, count, begin, n):
    """Windows of columns that are lanes: window i has count[i] of them, from first[i] - begin on."""
    for i in range(n):
        at, to, taps = (first[i] - begin) * VECTOR, i * VECTOR, count[i]
        a, a_places, b, b_places = shift(v1, at), shift(p1, at), shift(v, to), shift(p, to)
        if taps <= 2:  # the first column and the last one, which may be the same
            two_lanes(b, b_places, a, a_places, VECTOR * (taps - 1))
        elif taps <= 4:
            four_lanes(b, b_places, a, a_places, VECTOR, VECTOR * (taps - 2), VECTOR * (taps - 1))
        else:
            spread_window(b, b_places, a, a_places, spare, spare_places, VECTOR, taps, VECTOR)


def two_lanes(v, p, v1, p1, one):
    """The better one of two columns."""
    for l in range(VECTOR):
        u, i, w, q = v1[l], p1[l], v1[l + one], p1[l + one]
        take = ahead(w, q, u, i)
        v[l], p[l] = w if take else u, q if take else i


def four_lanes(v, p, v1, p1, one, two, three):
    """The best of four columns."""
    for l in range(VECTOR):
        u, i, w, q = v1[l], p1[l], v1[l + one], p1[l + one]
        take = ahead(w, q, u, i)
        u, i, w, q = w if take else u, q if take else i, v1[l + two], p1[l + two]
        take = ahead(w, q, u, i)
        u, i, w, q = w if take else u, q if take else i, v1[l + three], p1[l + three]
        take = ahead(w, q, u, i)
        v[l], p[l] = w if take else u, q if take else i


def choose_turned(f, x, n, g, od, oh, rows, chunk, s, best, where):
    """`choose_rows` of windows at any places: with columns as lanes, whose rows are turned together, a window costs a step a column."""
    v, p, v1, p1, v2, p2, length, m = s[0], s[1], s[2], s[3], s[4], s[5], f[chunk + C_LENGTH], f[chunk + C_LANES]
    begin, end, across = f[chunk + C_LO], f[chunk + C_HI], max(m, f[TURN])
    first, count = shift(f, f[W_FIRST] + (n * f[G] + g) * f[W_PLANE] + f[chunk + C_OUT]), shift(f, f[W_COUNT] + f[chunk + C_OUT])
    for i in range(rows):
        join_rows(f, x, n, g, od, oh + i, begin, end, 1, s[8], shift(v, i * length), shift(p, i * length), s[9])
    rows_to_lanes(v1, v, length, end - begin, TILE)
    rows_to_lanes(p1, p, length, end - begin, PLACES)
    best_lanes(v2, p2, v1, p1, s[11], s[12], first, count, begin, m)
    lanes_to_rows(best, across, v2, m, TILE)
    lanes_to_rows(where, across, p2, m, PLACES)


def order_of(f, each):
    """Chunks that are gone through one after the other, and chunks that take turns row by row.

    Rows of a channel are kept from row to row, so a chunk goes down the plane; with channels as lanes a row is many pages of memory,
    and is read from one end to the other.
    """
    return (f[CHUNKS], 1) if each == 1 else (1, f[CHUNKS])


def choose(f, x, n, g, od, oh, chunk, each, s, best, where):
    """The chosen elements of the windows of a chunk, and their places; of a single window in pieces that fit a row of cells."""
    if f[JOIN_TALL]:
        choose_tall(f, x, n, g, od, oh, chunk, each, s, best, where)
        return
    v, p, one, step, o = s[0], s[1], f[chunk + C_LANES] == 1, f[W_STEP], f[chunk + C_OUT]
    first, count, most = f[f[W_FIRST] + (n * f[G] + g) * f[W_PLANE] + o], f[f[W_COUNT] + o], (CELLS // each - 1) // step + 1
    for t in range(0, count if one else 1, most):
        taps, skip = min(most, count - t), 0 if one else (f[chunk + C_LO] - f[chunk + C_START]) * each
        begin = first + t * step if one else f[chunk + C_LO]
        end = begin + (taps - 1) * step + 1 if one else f[chunk + C_HI]
        join_rows(f, x, n, g, od, oh, begin, end, each, s[8], shift(v, skip), shift(p, skip), s[9])
        if not one:
            if f[W_STRIDE] != 0:
                pads(f, n, g, od, oh, chunk, each, v, p)
            join_columns(f, chunk, each, s, best, where)
        else:
            halved(v, p, taps, step * each, each)
            if t == 0:
                copy_cells(best, where, v, p, each)
            else:
                improve(best, where, v, p, each)


# ---------------------------------------------------------------- forward

def put_rows(f, operand, out, at, best, rows, positions, each, put, raw):
    """Store rows of an output: as a single one where they follow one another."""
    runs, run, apart, s = runs_of(f, operand, positions, each)
    step, m, across = f[RECORDS + RECORD * operand + 3], positions * each, max(positions * each, f[TURN])
    if runs == 1 and s == 1 and (rows == 1 or (step == m and across == m)):
        put(f, shift(out, at), best, rows * m, 1, raw)
    else:
        for b in range(rows):
            for i in range(runs):
                put(f, shift(out, at + b * step + i * apart), shift(best, b * across + i * run), run, s, raw)


def band_of(f, each):
    """How many rows of windows are worked on together: many short ones are stored as a long one."""
    if f[TURN]:
        return f[TURN]
    return max(1, BAND // (f[f[CHUNK_TABLE] + C_LANES] * each)) if f[CHUNKS] == 1 else 1


def put_values(f, y, best, n, s, raw):
    """Store values."""
    if s == 1:
        put_cells(y, best, n, f[PAST_CACHE] & 1, raw)
    else:
        for j in range(n):
            store(y, j * s, best[j])


def put_places(f, index, where, n, s, wide):
    """Store places."""
    if s == 1 and f[PAST_CACHE] & 2 and n & 7 == 0 and place_in_line(index) == 0:
        for j in range(n):
            wide[j] = where[j]
        for j in range(0, n, 8):
            put_line(shift(index, j), shift(wide, j))
    elif s == 1:
        for j in range(n):
            write(index, j, np.int64(where[j]))
    else:
        for j in range(n):
            write(index, j * s, np.int64(where[j]))


def select_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y, and of the index."""
    f, a = integers(plan), integers(data)
    x, y, index = elements(a[X]), elements(a[Y]), integers(a[INDEX])
    # three rows of cells, where the first and the last part of windows begin, positions, rows of elements, what is kept, kept rows, those of tall.py;
    # made here, since the stack of an inlined function ends with it
    s = (value_row(), place_row(), value_row(), place_row(), value_row(), place_row(), place_row(), place_row(), place_row(), raw_rows(), tags(),
         ring_values(), ring_places(), padded(), *held_cells(f, a, slot))
    s[10][0], s[10][4] = -1, -1
    best, where, wide, r, across = value_rows(), place_rows(), wide_places(), lo, interleaved(f, X)
    while r < hi:
        n, g, od, oh = row_across(f, r) if across else row_of(f, r)
        last, each = oh + 1 if across else min(f[OH], oh + hi - r), lanes_of(f, g)
        band = band_of(f, each)
        parts, turns = order_of(f, each)
        for part in range(parts):
            for i in range(oh, last, band):
                rows = min(band, last - i)
                for turn in range(turns):
                    chunk = f[CHUNK_TABLE] + CHUNK * (part + turn)
                    if i == oh or turns > 1:
                        windows(f, n, g, chunk, each, s)
                    choose_rows(f, x, n, g, od, i, rows, chunk, each, s, best, where)
                    put_rows(f, Y, y, spot(f, Y, n, g, od, i, f[chunk + C_OUT]), best, rows, f[chunk + C_LANES], each, put_values, s[9])
                    if INDEXED:
                        put_rows(f, INDEX, index, spot(f, INDEX, n, g, od, i, f[chunk + C_OUT]), where, rows, f[chunk + C_LANES], each,
                                 put_places, wide)
        r += last - oh
    if f[PAST_CACHE]:
        settle()


# ---------------------------------------------------------------- backward

def select_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of gx, with the elements chosen again: no index is stored."""
    f, a = integers(plan), integers(data)
    x, grad = elements(a[X]), elements(a[Y])
    # three rows of cells, where the first and the last part of windows begin, positions, rows of elements, what is kept, kept rows, those of tall.py;
    # made here, since the stack of an inlined function ends with it
    s = (value_row(), place_row(), value_row(), place_row(), value_row(), place_row(), place_row(), place_row(), place_row(), raw_rows(), tags(),
         ring_values(), ring_places(), padded(), *held_cells(f, a, slot))
    s[10][0], s[10][4] = -1, -1
    best, where, plane, target = value_rows(), place_rows(), lo, reals(a[GRAD_X])
    together = interleaved(f, X) and interleaved(f, TARGET) and not HALF and f[SCRATCH_PLANE] == 0
    while plane < hi:
        n, g = plane // f[G], plane % f[G]
        each, many = lanes_of(f, g), min(f[G] - g, hi - plane) if together else 1
        band = 1 if many > 1 else band_of(f, each)
        target, cleared = target_of(f, a, GRAD_X, slot, 0), 0  # interleaved planes share memory: row by row, all of them
        parts, turns = order_of(f, each)
        for part in range(parts):
            for od in range(f[OD]):
                for oh in range(0, f[OH], band):
                    rows = min(band, f[OH] - oh)
                    for b in range(rows):
                        cleared = clear_before(f, target, n, g, many, od, oh + b, cleared)
                    for turn in range(turns * many):
                        chunk, c = f[CHUNK_TABLE] + CHUNK * (part + turn // many), g + turn % many
                        m = f[chunk + C_LANES] * each
                        if od + oh == 0 or turns > 1 or many > 1:
                            windows(f, n, c, chunk, each, s)
                        choose_rows(f, x, n, c, od, oh, rows, chunk, each, s, best, where)
                        for b in range(rows):
                            add_row(f, target, spot(f, TARGET, n, c, 0, 0, 0), grad, spot(f, Y, n, c, od, oh + b, f[chunk + C_OUT]),
                                    shift(where, b * max(m, f[TURN])), f[chunk + C_LANES], each)
        clear_planes(f, target, n, g, many, cleared, f[D] * f[H] * f[W])
        close_plane(f, a, GRAD_X, target, n, g)
        plane += many
    if f[SCRATCH_PLANE]:
        settle()


def clear_before(f, target, n, g, many, od, oh, cleared):
    """Zero so many planes as far as row (od, oh) of their windows reaches, just before it adds to them: cleared long before, all would come twice."""
    for i in range(many):
        p = n * f[G] + g + i
        d = f[f[D_FIRST] + p * f[D_PLANE] + od] + (f[f[D_COUNT] + od] - 1) * f[D_STEP]
        h = f[f[H_FIRST] + p * f[H_PLANE] + oh] + (f[f[H_COUNT] + oh] - 1) * f[H_STEP]
        end = (d * f[H] + h + 1) * f[W]
        if end > cleared:
            clear_planes(f, target, n, g, many, cleared, end)
            cleared = end
    return cleared


def clear_planes(f, target, n, g, many, lo, hi):
    """Zero positions lo..hi of so many planes from (n, g) on, interleaved ones where there are several."""
    if many == 1:
        clear_positions(f, target, n, g, lo, hi)
        return
    for s in range(lo, hi):
        row = shift(target, spot(f, TARGET, n, g, 0, 0, s))
        for j in range(many):
            row[j] = real(0)


def add_row(f, target, base, grad, at, where, positions, each):
    """Add the gradients of a row of windows at the places of their elements."""
    across, down, far, near = row_step(f, Y), lane_step(f, Y), row_step(f, TARGET), lane_step(f, TARGET)
    if across == each:
        ask_for_run(f, shift(grad, at), positions * each)
    if each == 1:
        for j in range(positions):
            target[base + where[j] * far] += load(grad, at + j * across)
    else:
        for i in range(positions):
            for l in range(each):
                target[base + where[i * each + l] * far + l * near] += load(grad, at + i * across + l * down)


def scatter_index(plan, data, slot, lo, hi):
    """Planes lo..hi of gx: each g (or value) goes to the position in the plane that its index names."""
    f, a = integers(plan), integers(data)
    grad, index = elements(a[Y]), integers(a[INDEX])
    ly, li, lt = lane_step(f, Y), lane_step(f, INDEX), lane_step(f, TARGET)
    size, each, wrong, pack = f[D] * f[H] * f[W], f[RECORDS + RECORD * TARGET + 4], 0, lanes()
    beside = not HALF and f[CHANNEL_LANES] == 0 and ly == 1 and li == 1 and each == 1
    if not HALF:  # noqa: SIM102 (the compiler leaves out what a constant excludes)
        if a[MASK] == 0 and one_after_another(f, size):
            wrong, lo = scatter_small(f, reals(a[GRAD_X]), grad, index, lo, hi, size), hi
    after = lo // f[G], lo % f[G]
    for p in range(lo, hi):
        n, g = after
        after = next_plane(f, n, g)
        if a[MASK] != 0 and octets(a[MASK])[p] == 0:
            continue
        target, base = open_plane(f, a, GRAD_X, slot, 0, n, g), spot(f, TARGET, n, g, 0, 0, 0)
        m = min(f[WIDTH], f[CHANNELS] - g * f[WIDTH]) if f[CHANNEL_LANES] == 1 else f[OW]
        span = f[OW] if f[CHANNEL_LANES] == 1 else 1
        step = lt * f[CHANNEL_LANES]
        for od in range(f[OD]):
            for oh in range(f[OH]):
                for ow in range(span):
                    at, ia = spot(f, Y, n, g, od, oh, ow), spot(f, INDEX, n, g, od, oh, ow)
                    if beside:
                        ask_ahead(f, shift(grad, at), m)
                        ask_for_indices(f, shift(index, ia), m)
                        wrong |= scatter_row(shift(target, base), shift(grad, at), shift(index, ia), m, size)
                        continue
                    for o in range(0, m, LANES if HALF else max(m, 1)):
                        k = min(LANES, m - o) if HALF else m
                        if HALF:  # many are converted at once
                            gather(f, grad, at + o * ly, k, 1, ly, 0, pack)
                        for j in range(k):
                            i = index[ia + (o + j) * li]
                            if i >= 0 and i < size:
                                c = base + i * each + (o + j) * step
                                target[c] = merge(target[c], pack[j] if HALF else load(grad, at + j * ly))
                            else:
                                wrong = 1
        close_plane(f, a, GRAD_X, target, n, g)
    if f[SCRATCH_PLANE]:
        settle()
    if wrong != 0:
        integers(a[FAULT])[0] = 1


def one_after_another(f, size):
    """Whether planes are small, and lie without gaps: of the gradient in place, of values and indices in a row each."""
    if f[CHANNEL_LANES] == 1 or f[SCRATCH_PLANE] or size > 4 * CELLS or f[OD] * f[OH] != 1 or f[ROWS] != 1:
        return False
    y, i = RECORDS + RECORD * Y, RECORDS + RECORD * INDEX
    near = f[y + 4] == 1 and f[i + 4] == 1 and f[y + 1] == f[OW] and f[i + 1] == f[OW]
    return near and (f[N] == 1 or (f[y] == f[G] * f[OW] and f[i] == f[G] * f[OW]))


def scatter_small(f, target, grad, index, lo, hi, size):
    """Planes lo..hi of gx, of m values each: what a plane costs besides these would be most of its time.  Whether an index is out of range."""
    wrong, some, m = 0, max(1, 4 * CELLS // size), f[OW]
    for first in range(lo, hi, some):
        last = min(first + some, hi)
        for j in range(first * size, last * size):
            target[j] = real(0)
        for p in range(first, last):
            ask_ahead(f, shift(grad, p * m), m)
            ask_for_indices(f, shift(index, p * m), m)
            wrong |= scatter_row(shift(target, p * size), shift(grad, p * m), shift(index, p * m), m, size)
    return wrong


def scatter_row(target, grad, index, m, size):
    """m values to where their indices say.  Whether one is out of range."""
    wrong = 0
    for j in range(m):
        i = index[j]
        if i >= 0 and i < size:
            target[i] = merge(target[i], load(grad, j))
        else:
            wrong = 1
    return wrong


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
    ly, li, r0, wrong = lane_step(f, Y), lane_step(f, INDEX), RECORDS + RECORD * X, 0
    size, lx = f[D] * f[H] * f[W], lane_step(f, X) * f[CHANNEL_LANES]
    unit = f[r0 + 4] if f[W] > 1 else f[r0 + 3] if f[H] > 1 else f[r0 + 2]
    dense = (f[H] == 1 or f[r0 + 3] == f[W] * unit) and (f[D] == 1 or f[r0 + 2] == f[H] * f[W] * unit)
    after = row_of(f, lo)
    for _ in range(lo, hi):
        n, g, od, oh = after
        after = next_row(f, n, g, od, oh)
        m, plane = min(f[WIDTH], f[CHANNELS] - g * f[WIDTH]) if f[CHANNEL_LANES] == 1 else f[OW], spot(f, X, n, g, 0, 0, 0)
        for ow in range(f[OW] if f[CHANNEL_LANES] == 1 else 1):
            at, ia = spot(f, Y, n, g, od, oh, ow), spot(f, INDEX, n, g, od, oh, ow)
            if dense and unit == 1 and ly == 1 and li == 1 and lx == 0:
                row, to, here = shift(x, plane), shift(y, at), shift(index, ia)
                for j in range(m):
                    i = here[j]
                    if i < 0 or i >= size:  # by a branch: gathered in vectors, elements take twice the time
                        wrong = 1
                        break
                    store(to, j, load(row, i))
            elif dense:
                for j in range(m):
                    i = index[ia + j * li]
                    inside = i >= 0 and i < size
                    store(y, at + j * ly, load(x, plane + (i if inside else 0) * unit + j * lx))
                    wrong |= 0 if inside else 1
            else:
                for j in range(m):
                    i = index[ia + j * li]
                    inside = i >= 0 and i < size
                    i = i if inside else 0
                    store(y, at + j * ly, load(x, spot(f, X, n, g, i // f[W] // f[H], i // f[W] % f[H], i % f[W]) + j * lx))
                    wrong |= 0 if inside else 1
    if wrong != 0:
        integers(a[FAULT])[0] = 1
