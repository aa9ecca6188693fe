"""Order on a GPU: y = sum of weight[r] times the r-th largest element; the weights stand in a table, a row for each number of elements.

Weights that are learned are made on the device: `order_weights` fills the table from what is given for each rank (logits; a formula says what one
counts, `portion`, before all are divided by their sum).  Their gradient takes three kernels: `order_sums` adds up g times the element of each rank,
`order_totals` these sums over the batch, and `order_learn` goes back to the logits.

The rank of an element is counted: how many stand before it.  That takes the square of the window's elements in comparisons, of what lies in the
first cache, and no memory, whatever the window's size.  Ties go to the first element; a NaN counts as the largest, and makes y one.
Legend: see ground.py.
"""
from __future__ import annotations

from .ground import *  # noqa: F403
from .layout import *  # noqa: F403


def rank_of(f, x, at_x, box, value, a0, b0, t0):
    """How many elements of a window rank before the one at (a0, b0, t0)."""
    rank = 0
    for a in range(box[3]):
        for b in range(box[4]):
            at = spot(x, madd(ix(a), ix(f[D_STEP]), box[0]), madd(ix(b), ix(f[H_STEP]), box[1]), box[2])
            for t in range(box[5]):
                v = load(at_x, madd(madd(ix(t), ix(f[W_STEP]), ix(0)), ix(x[5]), at))
                earlier = a < a0 or (a == a0 and (b < b0 or (b == b0 and t < t0)))
                # `above(v, w)`: v ranks before w, which stands before it in the window
                if (earlier and not above(value, v)) or (not earlier and above(v, value)):
                    rank += 1
    return rank


def weights_row(f, c, count):
    """Where the weights of a window of so many elements begin."""
    return c * f[RANK_CHANNEL] + read_int(f[RANK_ROW], ix(count)) * f[RANKS]


def order_forward(f, o, i, z):
    """y of a task."""
    n, c, od, oh, ow = output_of(f, i, z)
    x, at_x, box = o[X], base(o[X], n, c, SIZE), window_of(f, n, c, od, oh, ow)
    row, y = weights_row(f, c, box[3] * box[4] * box[5]), real(0)
    for a in range(box[3]):
        for b in range(box[4]):
            at = spot(x, madd(ix(a), ix(f[D_STEP]), box[0]), madd(ix(b), ix(f[H_STEP]), box[1]), box[2])
            for t in range(box[5]):
                v = load(at_x, madd(madd(ix(t), ix(f[W_STEP]), ix(0)), ix(x[5]), at))
                rank = rank_of(f, x, at_x, box, v, a, b, t)
                weight = read_real(f[WEIGHTS], ix(row + rank)) if rank < f[RANKS] else real(0)
                if weight != real(0) or v != v:
                    y += weight * v
    store(base(o[Y], n, c, SIZE), spot(o[Y], od, oh, ow), y)


def order_gather(f, o, i, z):
    """The gradient of a task: g times the weight of its rank in each window that covers it."""
    n, c, d, h, w = input_of(f, i, z)
    x, at_x = o[X], base(o[X], n, c, SIZE)
    v, s = load(at_x, spot(x, d, h, w)), real(0)
    w_from, w_to = cover(f[W_COVER], w, f[W])
    for a in range(*cover(f[D_COVER], d, f[D])):
        od = ix(read_int(f[D_LIST], ix(a)))
        for b in range(*cover(f[H_COVER], h, f[H])):
            oh = ix(read_int(f[H_LIST], ix(b)))
            for t in range(w_from, w_to):
                ow = ix(read_int(f[W_LIST], ix(t)))
                box = window_of(f, n, c, od, oh, ow)
                rank = rank_of(f, x, at_x, box, v, quotient(ix(d - box[0]), ix(f[D_STEP])), quotient(ix(h - box[1]), ix(f[H_STEP])),
                               quotient(ix(w - box[2]), ix(f[W_STEP])))
                if rank < f[RANKS]:
                    weight = read_real(f[WEIGHTS], ix(weights_row(f, c, box[3] * box[4] * box[5]) + rank))
                    if weight != real(0):
                        s += load(base(o[Y], n, c, SIZE), spot(o[Y], od, oh, ow)) * weight
    store(base(o[GRAD_X], n, c, SIZE), spot(o[GRAD_X], d, h, w), s)


def order_sums(f, o, i, z):
    """The sum of g times the element of a rank, over a slice of the windows with one number of elements: item i is (slice, row, rank)."""
    n, c = plane_of(f, z)
    x, at_x, at_g = o[X], base(o[X], n, c, SIZE), base(o[Y], n, c, SIZE)
    rank, rest = i % f[RANKS], i // f[RANKS]
    wanted, part = rest % f[GROUPS], rest // f[GROUPS]
    total = 0.0
    for k in range(part, f[OD] * f[OH] * f[OW], f[SLICES]):
        line = k // f[OW]
        od, oh, ow = ix(line // f[OH]), ix(line % f[OH]), ix(k % f[OW])
        box = window_of(f, n, c, od, oh, ow)
        count = box[3] * box[4] * box[5]
        if read_int(f[RANK_ROW], ix(count)) == wanted and rank < count:
            total += np.float64(load(at_g, spot(o[Y], od, oh, ow))) * np.float64(ranked(f, x, at_x, box, rank))
    write_double(o[WORK][0], np.int64(z) * f[ITEMS] + i, total)


def ranked(f, x, at_x, box, rank):
    """The element of a rank."""
    found = real(0)
    for a in range(box[3]):
        for b in range(box[4]):
            at = spot(x, madd(ix(a), ix(f[D_STEP]), box[0]), madd(ix(b), ix(f[H_STEP]), box[1]), box[2])
            for t in range(box[5]):
                v = load(at_x, madd(madd(ix(t), ix(f[W_STEP]), ix(0)), ix(x[5]), at))
                if rank_of(f, x, at_x, box, v, a, b, t) == rank:
                    found = v
    return found


# ---------------------------------------------------------------- weights that are learned: row `line` of channel c, or of all channels

def logit_of(o, c, r):
    """What is given for a rank."""
    a = o[PARAM]
    return read_real(a[0] + c * a[2] * REAL_SIZE, ix(r * a[5]))


def top_logit(o, c, count):
    """The largest of the first logits."""
    top = logit_of(o, c, 0)
    for r in range(1, count):
        top = larger(top, logit_of(o, c, r))
    return top


def sum_of_portions(o, c, count, top):
    """The sum of what the first logits count."""
    total = real(0)
    for r in range(count):
        total += portion(logit_of(o, c, r), top)
    return total


def ranks_of(f, line):
    """How many ranks a row has."""
    return min(np.int64(read_int(f[RANK_COUNT], ix(line))), f[RANKS])


def order_weights(f, o, i, z):
    """A row of the table: item i is (channel, row)."""
    c = np.int64(i) // f[GROUPS]
    count, one = ranks_of(f, i - c * f[GROUPS]), lanes()
    top = top_logit(o, c, count)
    total = sum_of_portions(o, c, count, top)
    for r in range(f[RANKS]):
        one[0] = portion(logit_of(o, c, r), top) / total if r < count else real(0)
        give_reals(o[WORK][0], ix(i * f[RANKS] + r), one)


def order_totals(f, o, i, z):
    """The sums of a rank over the batch, over the slices, and over the channels that share their weights: item i is (channel, row, rank)."""
    block = f[GROUPS] * f[RANKS]
    own, total = np.int64(i) // block, 0.0
    first, last = (own, own + 1) if f[RANK_CHANNEL] else (np.int64(0), f[C])
    for n in range(f[N]):
        for c in range(first, last):
            for s in range(f[SLICES]):
                total += read_double(o[WORK][0], ((n * f[C] + c) * f[SLICES] + s) * block + i - own * block)
    write_double(o[PARTS][0], i, total)


def order_learn(f, o, i, z):
    """The gradient of a logit: item i is (channel, rank)."""
    c = np.int64(i) // f[RANK_RANGE]
    rank, total, one = i - c * f[RANK_RANGE], 0.0, lanes()
    for line in range(f[GROUPS]):
        count, sums = ranks_of(f, line), (c * f[GROUPS] + line) * f[RANKS]
        if rank < count:
            top = top_logit(o, c, count)
            every, mean = np.float64(sum_of_portions(o, c, count, top)), 0.0
            for r in range(count):
                mean += np.float64(portion(logit_of(o, c, r), top)) / every * read_double(o[PARTS][0], sums + r)
            slope = np.float64(portion_slope(portion(logit_of(o, c, rank), top)))
            total += slope * (read_double(o[PARTS][0], sums + rank) - mean) / every
    one[0] = real(total)
    a = o[GRAD_PARAM]
    give_reals(a[0] + c * a[2] * REAL_SIZE, ix(rank * a[5]), one)
