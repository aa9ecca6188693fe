"""What every CPU loop stands on: where things are, one tap of a unit, one plane of a gradient.

`stamp` binds the free names of these loops: a formula (start, step, ...) and a dtype (load, store, real, exp, ...).

Every loop works on units: up to LANES windows side by side with the same number of taps.  One tap of all the windows
of a unit is made a contiguous run of numbers (`tap`): the memory itself where it is one already, else a copy in
first-level cache.  So the arithmetic is one text for both memory orders, any stride, any kind of window and half
types, and its innermost loop always runs over unit-stride memory from zero, which LLVM vectorises.

Legend: f plan, a operand addresses (layout.py); n, g plane; d, h, w input position; od, oh, ow output position; o, m first
output and lane count of a unit; j lane; box = (d0, d1, ds, h0, h1, hs, w0, w1, ws), the ranges of the taps.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403


def spot(f, operand, n, g, d, h, w):
    """The element of an operand at a plane and a position."""
    r = RECORDS + RECORD * operand
    return n * f[r] + g * f[r + 1] + d * f[r + 2] + h * f[r + 3] + w * f[r + 4]


def lane_step(f, operand):
    """The distance between two neighbours along the lane axis."""
    return f[RECORDS + RECORD * operand + 5]


def row_step(f, operand):
    """The distance between two neighbours along the last spatial axis."""
    return f[RECORDS + RECORD * operand + 4]


def row_of(f, r):
    """Task r of a forward pass: the row (n, g, od, oh) of the output."""
    oh = r % f[OH]
    r //= f[OH]
    od = r % f[OD]
    r //= f[OD]
    return r // f[G], r % f[G], od, oh


def interleaved(f, operand):
    """Whether planes lie side by side position by position and are no lanes: each has windows of its own (fractional pooling, channels-last)."""
    r = RECORDS + RECORD * operand
    return f[CHANNEL_LANES] == 0 and f[G] > 1 and f[r + 1] < f[r + 4]


def row_across(f, r):
    """Task r of a forward pass over interleaved planes: row_of in another order, all planes of a row before the next, since they share memory."""
    g = r % f[G]
    r //= f[G]
    oh = r % f[OH]
    r //= f[OH]
    return r // f[OD], g, r % f[OD], oh


def next_row(f, n, g, od, oh):
    """The row after (n, g, od, oh): without row_of's divisions, which take as long as a short row."""
    if oh + 1 < f[OH]:
        return n, g, od, oh + 1
    if od + 1 < f[OD]:
        return n, g, od + 1, 0
    return (n, g + 1, 0, 0) if g + 1 < f[G] else (n + 1, 0, 0, 0)


def next_plane(f, n, g):
    """The plane after (n, g)."""
    return (n, g + 1) if g + 1 < f[G] else (n + 1, 0)


def lanes_of(f, g):
    """Cells a position."""
    return min(f[WIDTH], f[CHANNELS] - g * f[WIDTH]) if f[CHANNEL_LANES] == 1 else 1


def mark(a, task):
    """This task is to be done again by the exact loops."""
    octets(a[MASK])[task] = 1
    integers(a[FAULT])[1] = 1


def unit_of(f, k, n, g, od, oh):
    """Unit k of a row: first output, lanes, step, the box of its taps, and the divisor."""
    t = f[UNIT_TABLE] + UNIT * k
    o, m = f[t + U_FIRST], f[t + U_LANES]
    if f[CHANNEL_LANES] == 1:
        m = min(m, f[CHANNELS] - g * f[WIDTH])
    p = n * f[G] + g
    d0 = f[f[D_FIRST] + p * f[D_PLANE] + od]
    h0 = f[f[H_FIRST] + p * f[H_PLANE] + oh]
    w0 = f[f[W_FIRST] + p * f[W_PLANE] + o]
    box = (d0, d0 + f[f[D_COUNT] + od] * f[D_STEP], f[D_STEP],
           h0, h0 + f[f[H_COUNT] + oh] * f[H_STEP], f[H_STEP],
           w0, w0 + f[t + U_COUNT] * f[W_STEP], f[W_STEP])
    return o, m, f[t + U_STEP], box, f[f[D_SHARE] + od] * f[f[H_SHARE] + oh] * f[t + U_SHARE]


def firsts(f, n, g, o):
    """Where the table of first input indices of a unit without a constant step begins."""
    return f[W_FIRST] + (n * f[G] + g) * f[W_PLANE] + o



def distance(f, j, step, table):
    """How far window j of a unit is from its first, in steps of the lane axis."""
    if step != 0:
        return j * step
    return f[table + j] - f[table]


def shape_of(f, m, step, box):
    """How the windows of a unit lie in lanes: (across, lanes, taps to lay in lanes, step from lane to lane).

    Side by side where there are many; a single window of long rows has the taps of a row as lanes, which are folded in the end.
    """
    taps = (box[7] - box[6]) // box[8]
    if m == 1 and taps >= 4:
        return True, min(taps, LANES), taps, f[W_STEP]
    return False, m, 1, step


def step_of(f, operand, across):
    """The distance of an operand's elements that a step from lane to lane goes."""
    return row_step(f, operand) if across else lane_step(f, operand)


def part_of(m, across, runs, k, box):
    """The lanes and the box of the part of a unit that begins with tap k of each row."""
    w = box[6] + k * box[8]
    return (min(runs - k, LANES), (box[0], box[1], box[2], box[3], box[4], box[5], w, w + 1, 1)) if across else (m, box)


def gather(f, x, at, m, step, lane, table, pack):
    """One tap of m windows, copied to contiguous numbers."""
    if step != 0:
        s = step * lane
        for j in range(m):
            pack[j] = load(x, at + j * s)
    else:
        for j in range(m):
            pack[j] = load(x, at + (f[table + j] - f[table]) * lane)
    return pack


def gather_or_borrow(f, x, at, m, step, lane, table, pack):
    """One tap of m windows as contiguous numbers: the memory itself where it is that."""
    if step * lane == 1:
        return shift(x, at)
    return gather(f, x, at, m, step, lane, table, pack)


def part_evens(x, even, odd, n):
    """n elements, those at even and those at odd places."""
    for j in range(n >> 1):
        even[j], odd[j] = load(x, 2 * j), load(x, 2 * j + 1)
    if n & 1:
        even[n >> 1] = load(x, n - 1)


def window_taps(f, x, n, g, m, step, table, box, rows, pack, even, odd):
    """Every tap of m windows, a row of LANES each; returns how many."""
    taps, c = (box[7] - box[6]) // box[8], 0
    parted = step == 2 and row_step(f, X) == 1 and f[CHANNEL_LANES] == 0 and box[8] == 1 and 2 * m + taps < 8 * LANES
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            at = spot(f, X, n, g, d, h, box[6])
            if parted:
                part_evens(shift(x, at), even, odd, 2 * (m - 1) + taps)
            for t in range(taps):
                v = tap(f, x, at + t * box[8] * row_step(f, X), m, step, lane_step(f, X), table, pack) if not parted else \
                    shift(odd if t & 1 else even, t >> 1)
                row = shift(rows, c * LANES)
                for j in range(m):
                    row[j] = v[j]
                c += 1
    return c


def scatter(f, target, at, m, step, lane, table, pack):
    """Add m numbers to one tap of m windows."""
    if step * lane == 1:
        row = shift(target, at)
        for j in range(m):
            row[j] += pack[j]
    elif step != 0:
        s = step * lane
        for j in range(m):
            target[at + j * s] += pack[j]
    else:
        for j in range(m):
            target[at + (f[table + j] - f[table]) * lane] += pack[j]


def fetch(y, at, m, s, lanes):
    """m elements of an output-shaped operand, as numbers."""
    for j in range(m):
        lanes[j] = load(y, at + j * s)


def put_cells(out, row, n, past_cache, raw):
    """Store n numbers side by side; whole lines of memory past the caches, for results so large that they would push each other out of these."""
    if past_cache and n & (LINE - 1) == 0 and place_in_line(out) == 0:
        if HALF:
            for j in range(n):
                store(raw, j, row[j])
            put_lines(out, raw, n)
        else:
            put_lines(out, row, n)
    elif n < VECTOR:
        store_run(out, row, 0, n)
    else:
        for o in range(0, n, VECTOR):
            store_run(out, row, min(o, n - VECTOR), VECTOR)


def put_bits(out, row, n, past_cache):
    """`put_cells` of elements as they are stored."""
    if past_cache and n & (LINE - 1) == 0 and place_in_line(out) == 0:
        put_lines(out, row, n)
    elif n < VECTOR:
        for j in range(n):
            out[j] = row[j]
    else:
        for o in range(0, n, VECTOR):
            i = min(o, n - VECTOR)
            for j in range(i, i + VECTOR):
                out[j] = row[j]


def store_run(out, row, i, n):
    """Store cells i .. i + n."""
    for j in range(i, i + n):
        store(out, j, row[j])


def put_lines(out, cells, n):
    """Copy whole lines past the caches: what is overwritten need not be read first."""
    for j in range(0, n, LINE):
        put_line(shift(out, j), shift(cells, j))


def ask_for(x, n):
    """Prefetch n elements: what computes between its reads leaves memory idle, unless it asks in time."""
    for j in range(0, n, LINE):
        prefetch(shift(x, j))


def ask_ahead(f, x, n):
    """Prefetch the n elements that lie f[ASK] elements on."""
    if f[ASK]:
        ask_for(shift(x, f[ASK]), n)


def ask_for_run(f, x, n):
    """`ask_ahead` of what is read beside other operands: runs of fewer than four lines the processor itself fetches in time."""
    if n >= 4 * LINE:
        ask_ahead(f, x, n)


def ask_for_indices(f, index, n):
    """`ask_ahead` of indices."""
    if f[ASK]:
        for j in range(f[ASK], f[ASK] + n, 8):
            prefetch(shift(index, j))


def target_of(f, a, operand, slot, part):
    """Where contributions are added up: the gradient itself, or a plane of scratch: float32 for half types."""
    if HALF or f[SCRATCH_PLANE]:
        return reals(a[WORK] + slot * f[WORK_SIZE] + part * f[D] * f[H] * f[W] * SUM_BYTES * max(1, f[WIDTH]))
    return reals(a[operand])


def clear_positions(f, target, n, g, lo, hi):
    """Zero positions lo..hi of a plane that contributions are added to."""
    apart = f[RECORDS + RECORD * TARGET + 4]
    at, run, count = spot(f, TARGET, n, g, 0, 0, 0) + lo * apart, lanes_of(f, g), hi - lo
    if apart == run:  # without gaps
        run, count = run * count, 1
    for s in range(count):
        row = shift(target, at + s * apart)
        for j in range(run):
            row[j] = real(0)


def open_plane(f, a, operand, slot, part, n, g):
    """The cleared plane that contributions are added to."""
    target = target_of(f, a, operand, slot, part)
    clear_positions(f, target, n, g, 0, f[D] * f[H] * f[W])
    return target


def close_plane(f, a, operand, target, n, g):
    """Write a scratch plane to the gradient."""
    if HALF or f[SCRATCH_PLANE]:
        out, at, run = elements(a[operand]), spot(f, GRAD_X, n, g, 0, 0, 0), f[RUN]
        if f[CHANNEL_LANES] == 1:
            run = min(run, f[CHANNELS] - g * f[WIDTH])
        r = RECORDS + RECORD * TARGET
        for s in range(f[ROWS]):
            put_cells(shift(out, at + s * f[GAP]), shift(target, s * f[r + 4]), run, 0 if HALF else 1, out)


def times1(g, v):
    """g times the term."""
    return (g * v[0],)


def times2(g, v):
    """g times both terms."""
    return g * v[0], g * v[1]


def times3(g, v):
    """g times the three terms."""
    return g * v[0], g * v[1], g * v[2]


def fetch_row(f, x, at, each, positions, raw):
    """A row of elements at unit stride: the memory itself where it is that."""
    across, down = row_step(f, X), lane_step(f, X)
    if down == 1 and (across == each or positions == 1):
        return shift(x, at)
    if each == 1:
        for j in range(positions):
            raw[j] = x[at + j * across]
    elif down == 1:
        for i in range(positions):
            row, to = shift(x, at + i * across), shift(raw, i * each)
            for j in range(each):
                to[j] = row[j]
    else:
        for i in range(positions):
            for j in range(each):
                raw[i * each + j] = x[at + i * across + j * down]
    return raw
