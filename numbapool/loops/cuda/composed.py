"""What composed poolings compute on a GPU beside the poolings that they are made of: arithmetic on elements, sums by weights, details.

A task is an element of what is written; it stands where the other loops have outputs, whatever its sizes are.  The loops `each_...` see their
operands in order; some broadcast, with distances of 0.  Numbers are float32 or float64: half types are widened before (`each_wide`), and narrowed
after.
The CPU's loops/cpu/weigh.py and detail.py say the same.
Legend: see ground.py; k an operand.
"""
from __future__ import annotations

from .ground import *  # noqa: F403
from .layout import *  # noqa: F403


def element(o, k, n, c, d, h, w):
    """An element of an operand."""
    return load(base(o[k], n, c, SIZE), spot(o[k], d, h, w))


def set_element(o, k, n, c, d, h, w, value):
    """Set an element of a result."""
    store(base(o[k], n, c, SIZE), spot(o[k], d, h, w), value)


# ---------------------------------------------------------------- element by element

def each_blend(f, o, i, z):
    """y = q one + (1 - q) two."""
    n, c, d, h, w = output_of(f, i, z)
    q = element(o, 1, n, c, d, h, w)
    set_element(o, 0, n, c, d, h, w, q * element(o, 2, n, c, d, h, w) + (real(1) - q) * element(o, 3, n, c, d, h, w))


def each_split(f, o, i, z):
    """q g and (1 - q) g."""
    n, c, d, h, w = output_of(f, i, z)
    q, g = element(o, 2, n, c, d, h, w), element(o, 3, n, c, d, h, w)
    set_element(o, 0, n, c, d, h, w, q * g)
    set_element(o, 1, n, c, d, h, w, (real(1) - q) * g)


def each_distance(f, o, i, z):
    """g (one - two)."""
    n, c, d, h, w = output_of(f, i, z)
    set_element(o, 0, n, c, d, h, w, element(o, 1, n, c, d, h, w) * (element(o, 2, n, c, d, h, w) - element(o, 3, n, c, d, h, w)))


def each_sum(f, o, i, z):
    """one + two, which may lie where the first one does."""
    n, c, d, h, w = output_of(f, i, z)
    set_element(o, 0, n, c, d, h, w, reload(base(o[1], n, c, SIZE), spot(o[1], d, h, w)) + element(o, 2, n, c, d, h, w))


def each_zero(f, o, i, z):
    """0."""
    n, c, d, h, w = output_of(f, i, z)
    set_element(o, 0, n, c, d, h, w, real(0))


def each_sigmoid(f, o, i, z):
    """g q (1 - q), in place of g."""
    n, c, d, h, w = output_of(f, i, z)
    g, q = reload(base(o[0], n, c, SIZE), spot(o[0], d, h, w)), element(o, 1, n, c, d, h, w)
    set_element(o, 0, n, c, d, h, w, g * q * (real(1) - q))


def each_wide(f, o, i, z):
    """A half type's element as float32."""
    n, c, d, h, w = output_of(f, i, z)
    one = lanes()
    one[0] = element(o, 1, n, c, d, h, w)
    give_reals(base(o[0], n, c, REAL_SIZE), spot(o[0], d, h, w), one)


def each_half(f, o, i, z):
    """And back."""
    n, c, d, h, w = output_of(f, i, z)
    set_element(o, 0, n, c, d, h, w, read_real(base(o[1], n, c, REAL_SIZE), spot(o[1], d, h, w)))


# ---------------------------------------------------------------- sums by weights

def pairs_of(table, i):
    """From where to where the pairs (element, weight) of a result stand in the list of an axis."""
    return read_int(table, i), read_int(table, ix(i + 1))


def weight_at(o, c, a, b, t):
    """A weight of a channel by its place along three axes."""
    v = o[PARAM]
    return read_real(v[0] + c * v[2] * REAL_SIZE, madd(ix(a), ix(v[3]), madd(ix(b), ix(v[4]), madd(ix(t), ix(v[5]), ix(0)))))


def weigh_windows(f, o, i, z):
    """The sum of a task's elements, each times its weight; with GATE its sigmoid."""
    n, c, d, h, w = output_of(f, i, z)
    x, total = base(o[X], n, c, SIZE), real(0)
    w_from, w_to = pairs_of(f[W_COVER], w)
    for a in range(*pairs_of(f[D_COVER], d)):
        at_d, own_d = read_int(f[D_LIST], ix(2 * a)), read_int(f[D_LIST], ix(2 * a + 1))
        for b in range(*pairs_of(f[H_COVER], h)):
            at_h, own_h = read_int(f[H_LIST], ix(2 * b)), read_int(f[H_LIST], ix(2 * b + 1))
            for t in range(w_from, w_to):
                v = load(x, spot(o[X], ix(at_d), ix(at_h), ix(read_int(f[W_LIST], ix(2 * t)))))
                total = muladd(weight_at(o, c, own_d, own_h, read_int(f[W_LIST], ix(2 * t + 1))), v, total)
    if f[GATE]:
        total = real(1) / (real(1) + exp(-total))
    set_element(o, Y, n, c, d, h, w, total)


def weigh_sums(f, o, i, z):
    """The sum of g times the element that a weight meets, over a slice of a plane's windows: item i is (slice, weight).

    ALONG, ACROSS : rows of the weights, and weights of a row.
    """
    n, c = plane_of(f, z)
    x, g = base(o[X], n, c, SIZE), base(o[Y], n, c, SIZE)
    own, part, total = i % f[RANKS], i // f[RANKS], 0.0
    line = own // f[ACROSS]
    own_d, own_h, own_w = line // f[ALONG], line % f[ALONG], own % f[ACROSS]
    for k in range(part, f[OD] * f[OH] * f[OW], f[SLICES]):
        row = k // f[OW]
        d, h, w = ix(row // f[OH]), ix(row % f[OH]), ix(k % f[OW])
        for a in range(*pairs_of(f[D_COVER], d)):
            for b in range(*pairs_of(f[H_COVER], h)):
                for t in range(*pairs_of(f[W_COVER], w)):
                    meets = (read_int(f[D_LIST], ix(2 * a + 1)) == own_d and read_int(f[H_LIST], ix(2 * b + 1)) == own_h
                             and read_int(f[W_LIST], ix(2 * t + 1)) == own_w)
                    if meets:
                        at = spot(o[X], ix(read_int(f[D_LIST], ix(2 * a))), ix(read_int(f[H_LIST], ix(2 * b))), ix(read_int(f[W_LIST], ix(2 * t))))
                        total += np.float64(load(x, at)) * np.float64(load(g, spot(o[Y], d, h, w)))
    write_double(o[WORK][0], np.int64(z) * f[ITEMS] + i, total)


def weigh_learn(f, o, i, z):
    """The gradient of a weight from its sum over the batch (order.py's order_totals): item i is (channel, weight)."""
    a, one = o[GRAD_PARAM], lanes()
    c = np.int64(i) // f[RANKS]
    own = np.int64(i) % f[RANKS]
    line = own // f[ACROSS]
    one[0] = real(read_double(o[PARTS][0], i))
    give_reals(a[0] + c * a[2] * REAL_SIZE, ix(line // f[ALONG] * a[3] + line % f[ALONG] * a[4] + own % f[ACROSS] * a[5]), one)


# ---------------------------------------------------------------- details: pools/dpp.py has the equation

def away_from(f, v, middle):
    """The distance of an element, 0 where it does not count; NaN stays NaN."""
    d = v - middle
    return d if f[SYMMETRIC] else d * (real(1) if v > middle else real(0))


def detail_of(f, o, n, c, od, oh, ow, box):
    """What a window is made of: its middle, the average of squared distances, power and base, the sum of the weights, y."""
    x, at_x, count = o[X], base(o[X], n, c, SIZE), real(box[3] * box[4] * box[5])
    middle = mean = y = real(0)
    power_of, base_of = exp(weight_at(o, c, 0, 0, 0)) * real(0.5), exp(read_real(base(o[PARAM2], n, c, REAL_SIZE), ix(0)))
    total = count * base_of
    if f[GIVEN]:
        middle = element(o, LOGIT, n, c, od, oh, ow)
    for turn in range(1 if f[GIVEN] else 0, 3):
        for a in range(box[3]):
            for b in range(box[4]):
                for t in range(box[5]):
                    v = load(at_x, spot(x, ix(box[0] + a), ix(box[1] + b), ix(box[2] + t)))
                    if turn == 0:
                        middle += v
                    else:
                        d = away_from(f, v, middle)
                        if turn == 1:
                            mean += d * d + real(LEAST)
                        else:
                            weight = power((d * d + real(LEAST)) / mean, power_of)
                            total += weight
                            y += (weight + base_of) * v
        if turn == 0:
            middle = middle / count
        elif turn == 1:
            mean = mean / count
    return middle, mean, power_of, base_of, total, y / total


def detail_forward(f, o, i, z):
    """y of a task."""
    n, c, od, oh, ow = output_of(f, i, z)
    set_element(o, Y, n, c, od, oh, ow, detail_of(f, o, n, c, od, oh, ow, window_of(f, n, c, od, oh, ow))[5])


def detail_backward(f, o, i, z):
    """The gradients of a task's window: of its elements, and of lam, of alpha and of its middle where they are wanted."""
    n, c, od, oh, ow = output_of(f, i, z)
    box, x, at_x = window_of(f, n, c, od, oh, ow), o[X], base(o[X], n, c, SIZE)
    middle, mean, power_of, base_of, total, y = detail_of(f, o, n, c, od, oh, ow, box)
    g, count = element(o, Y, n, c, od, oh, ow) / total, real(box[3] * box[4] * box[5])
    lam = alpha = shared = through = real(0)
    for turn in range(3):
        for a in range(box[3]):
            for b in range(box[4]):
                for t in range(box[5]):
                    at = ix(box[0] + a), ix(box[1] + b), ix(box[2] + t)
                    v = load(at_x, spot(x, at[0], at[1], at[2]))
                    d = away_from(f, v, middle)
                    ratio = (d * d + real(LEAST)) / mean
                    weight = power(ratio, power_of)
                    of_weight = g * (v - y)
                    of_power = of_weight * weight
                    if turn == 0:
                        alpha += of_weight
                        lam += of_power * log(ratio)
                        shared += of_power * power_of
                    else:
                        of_away = (of_power * power_of / ratio - shared) * real(2) * d / mean
                        if turn == 1:
                            through -= of_away
                        else:
                            more = real(0) if f[GIVEN] else through / count
                            set_element(o, GRAD_X, n, c, at[0], at[1], at[2], g * (weight + base_of) + of_away + more)
        if turn == 0:
            shared = shared / count
    one = lanes()
    if o[GRAD_PARAM][0] != 0:
        one[0] = lam * power_of
        give_reals(base(o[GRAD_PARAM], n, c, REAL_SIZE), spot(o[GRAD_PARAM], od, oh, ow), one)
    if o[WORK][0] != 0:
        one[0] = alpha * base_of
        give_reals(base(o[WORK], n, c, REAL_SIZE), spot(o[WORK], od, oh, ow), one)
    if o[GRAD_LOGIT][0] != 0:
        set_element(o, GRAD_LOGIT, n, c, od, oh, ow, through)
