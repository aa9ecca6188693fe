"""Direct: the commonest small windows in one pass over memory, with nothing written in between.

2x2 windows side by side, of any fold, forward and backward; 2x2x2 windows are in eight.py, 3x3 ones with channels as lanes in nine.py.
A pass that goes through rows in the cache, as sweep.py's, waits for memory while it reads and computes while memory waits; measured on
float32 (8, 64, 112, 112), 2x2: 1.7 times a copy's time in three passes, 1.0 in one.

What a formula joins is a tuple here (`join_all`).  Elements are joined in the order of the loops whose place these take: column by column as in
sweep.py, and where there is a first pass in turn, as in fold.py.  So which loop a window gets is a question of time, never of the last bit.
Legend: see rows.py and sweep.py; a, b, c rows of the input; la, lb rows of logits.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .lines import *  # noqa: F403
from .rows import *  # noqa: F403

CALLED = ("quad_back_across",)  # from two places: LLVM made one loop of both, which it could not vectorise
BAND = 4  # rows of windows whose gradients are made before they are stored: what has just been written cannot yet be read as other vectors


def plane_parameters(f, a, n, g, par):
    """The parameters of a plane, one set a lane."""
    for k in range(PARAMETERS):
        p = reals(a[PARAM + k])
        at, s = spot(f, PARAM + k, n, g, 0, 0, 0), lane_step(f, PARAM + k)
        for j in range(f[WIDTH] if f[CHANNEL_LANES] == 1 else 1):
            par[k * CELLS + j] = p[at + j * s]


def by_columns(e, e1, e2, e3):
    """The components of a 2x2 window, of the columns' ones."""
    return join_all(join_all(e, e2), join_all(e1, e3))


def in_turn(e, e1, e2, e3):
    """The components of a 2x2 window, element after element."""
    return join_all(join_all(join_all(e, e1), e2), e3)


# ---------------------------------------------------------------- the lanes are windows (channels-first)

def quad_run(y, a, b, la, lb, at, n, share, q):
    """2x2 windows at .. at + n of a row, side by side; whether the common reference suits all of them."""
    fine = True
    for j in range(at, at + n):
        ref = refer(a, shift(a, 1), b, shift(b, 1), 2 * j, share, q)
        v = join_four(lift_at(a, la, 2 * j, ref, q), lift_at(a, la, 2 * j + 1, ref, q),
                      lift_at(b, lb, 2 * j, ref, q), lift_at(b, lb, 2 * j + 1, ref, q))
        store(y, j, finish(v, ref, share, *q))
        fine &= safe(v, *q)
    return fine


def quad_across(y, a, b, la, lb, n, share, q):
    """A row of n windows."""
    if n < VECTOR:
        return quad_run(y, a, b, la, lb, 0, n, share, q)
    fine = True
    for o in range(0, n, VECTOR):
        fine &= quad_run(y, a, b, la, lb, min(o, n - VECTOR), VECTOR, share, q)
    return fine


def quad_short_forward(f, a, x, logit, y, task, n, g, od, oh, rows, lines, q):
    """Some rows of 2x2 windows that are shorter than a vector."""
    upper, lower, upper2, lower2 = lines
    line_up(f, X, x, n, g, f[f[D_FIRST] + od], oh, rows, upper, lower)
    if LOGITS:
        line_up(f, LOGIT, logit, n, g, f[f[D_FIRST] + od], oh, rows, upper2, lower2)
    share, to, m = real(f[f[D_SHARE] + od] * f[f[H_SHARE] + oh] * f[f[W_SHARE]]), shift(y, spot(f, Y, n, g, od, oh, 0)), f[OW]
    if quad_across(to, upper, lower, upper2, lower2, rows * m, share, q):
        return
    for i in range(rows):  # one by one: which rows are done together is the threads' affair
        k = 2 * i * m
        if not quad_across(shift(to, i * m), shift(upper, k), shift(lower, k), shift(upper2, k), shift(lower2, k), m, share, q):
            mark(a, task + i)


def quad_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y: 2x2 windows."""
    f, a = integers(plan), integers(data)
    x, logit, y = elements(a[X]), elements(a[LOGIT]), elements(a[Y])
    par, q, plane, lines, done = row4(), numbers(doubles(a[NUMBERS])), -1, (raw1(), raw1(), raw1(), raw1()), lo
    n, g, od, oh = row_of(f, lo)
    for r in range(lo, hi):
        if not CHANNEL:  # noqa: SIM102 (the compiler leaves out what a constant excludes)
            if r < done:
                continue
        if PARAMETERS > 0 and n * f[G] + g != plane:
            plane = n * f[G] + g
            plane_parameters(f, a, n, g, par)
        if not CHANNEL:
            rows = min(f[OH] - oh, hi - r, rows_at_once(f, 2 * f[OW]))
            if rows > 1:
                quad_short_forward(f, a, x, logit, y, r, n, g, od, oh, rows, lines, q + lane_params(par, 0))
                done = r + rows
                n, g, od, oh = next_row(f, n, g, od, oh + rows - 1)
                continue
        d, h, w = f[f[D_FIRST] + od], f[f[H_FIRST] + oh], f[f[W_FIRST]]
        share = real(f[f[D_SHARE] + od] * f[f[H_SHARE] + oh] * f[f[W_SHARE]])
        at, down = spot(f, X, n, g, d, h, w), f[RECORDS + RECORD * X + 3] * f[H_STEP]
        bt, down2 = logit_spot(f, n, g, d, h, w), f[RECORDS + RECORD * LOGIT + 3] * f[H_STEP]
        to = spot(f, Y, n, g, od, oh, 0)
        if CHANNEL:
            fine = quad_row_of_lanes(f, x, logit, y, at, bt, down, down2, to, lanes_of(f, g), share, par, q)
        else:
            ask_two(f, shift(x, at), shift(logit, bt), down, down2, 2 * f[OW])
            fine = quad_across(shift(y, to), shift(x, at), shift(x, at + down), shift(logit, bt), shift(logit, bt + down2), f[OW], share,
                               q + lane_params(par, 0))
        if not fine:
            mark(a, r)
        n, g, od, oh = next_row(f, n, g, od, oh)


def ask_two(f, x, logit, down, down2, n):
    """Ask for what follows the two rows of a row of windows."""
    ask_ahead(f, x, n)
    ask_ahead(f, shift(x, down), n)
    if LOGITS:
        ask_ahead(f, logit, n)
        ask_ahead(f, shift(logit, down2), n)


def logit_at(f, n, g, d, h, w):
    """Where a logit lies."""
    return spot(f, LOGIT, n, g, d, h, w)


def nowhere(f, n, g, d, h, w):
    """There is no second operand."""
    return 0


# ---------------------------------------------------------------- the lanes are channels

def quad_lanes_run(y, a, b, la, lb, side, side2, at, n, share, par, q):
    """A 2x2 window of channels at .. at + n; whether the common reference suits them."""
    fine = True
    a1, b1, la1, lb1 = shift(a, side), shift(b, side), shift(la, side2), shift(lb, side2)
    for j in range(at, at + n):
        p = q + lane_params(par, j)
        ref = refer(a, a1, b, b1, j, share, p)
        v = join_four(lift_at(a, la, j, ref, p), lift_at(a1, la1, j, ref, p), lift_at(b, lb, j, ref, p), lift_at(b1, lb1, j, ref, p))
        store(y, j, finish(v, ref, share, *p))
        fine &= safe(v, *p)
    return fine


def quad_row_of_lanes(f, x, logit, y, at, bt, down, down2, to, m, share, par, q):
    """A row of 2x2 windows with m channels as lanes."""
    across, across2, step = f[RECORDS + RECORD * X + 4], f[RECORDS + RECORD * LOGIT + 4], f[RECORDS + RECORD * Y + 4]
    side, side2 = across * f[W_STEP], across2 * f[W_STEP]
    fine = True
    for o in range(f[OW]):
        w = f[f[W_FIRST] + o] - f[f[W_FIRST]]
        a, b = shift(x, at + w * across), shift(x, at + down + w * across)
        la, lb = shift(logit, bt + w * across2), shift(logit, bt + down2 + w * across2)
        u = shift(y, to + o * step)
        ask_two(f, a, la, down, down2, 2 * m)
        if m < VECTOR:
            fine &= quad_lanes_run(u, a, b, la, lb, side, side2, 0, m, share, par, q)
        else:
            for i in range(0, m, VECTOR):
                fine &= quad_lanes_run(u, a, b, la, lb, side, side2, min(i, m - VECTOR), VECTOR, share, par, q)
    return fine


# ---------------------------------------------------------------- backward

def quad_back_run(gy, a, b, la, lb, at, n, share, out, slopes, q):
    """The gradients of 2x2 windows at .. at + n of a row, in the rows of `out`; whether the common reference suits them."""
    fine = True
    for j in range(at, at + n):
        ref = refer(a, shift(a, 1), b, shift(b, 1), 2 * j, share, q)
        e, e1 = lift_at(a, la, 2 * j, ref, q), lift_at(a, la, 2 * j + 1, ref, q)
        e2, e3 = lift_at(b, lb, 2 * j, ref, q), lift_at(b, lb, 2 * j + 1, ref, q)
        v = join_four(e, e1, e2, e3)
        w = times(gy[j], terms(v, ref, share, *q))
        put_gradient(out, 0, 2 * j, spread_at(a, la, 2 * j, e, w, ref, q))
        put_gradient(out, 0, 2 * j + 1, spread_at(a, la, 2 * j + 1, e1, w, ref, q))
        put_gradient(out, CELLS, 2 * j, spread_at(b, lb, 2 * j, e2, w, ref, q))
        put_gradient(out, CELLS, 2 * j + 1, spread_at(b, lb, 2 * j + 1, e3, w, ref, q))
        keep_slope(slopes, j, gy[j], v, ref, share, q)
        fine &= safe(v, *q)
    return fine


def quad_back_plain(grad, n, share, out, gy, q):
    """The gradients of n 2x2 windows side by side where they do not depend on the elements: the same in both rows, in one row of `out`."""
    w = terms((real(0),), REFERENCE, share, *q)
    if n < VECTOR:
        quad_plain_run(grad, n, w, out, q)
    else:
        for o in range(0, n, VECTOR):
            i = min(o, n - VECTOR)
            quad_plain_run(shift(grad, i), VECTOR, w, shift(out, 2 * i), q)


def quad_plain_run(grad, n, w, out, q):
    """The gradients of n windows."""
    for j in range(n):
        e = spread(real(0), (), times(load(grad, j), w), REFERENCE, *q)
        out[2 * j], out[2 * j + 1] = e, e


def quad_back_across(f, grad, a, b, la, lb, n, share, out, slopes, gy, q):
    """The gradients of n 2x2 windows side by side; whether the common reference suits them."""
    ask_for_run(f, grad, n)
    if not RECOMPUTE:
        quad_back_plain(grad, n, share, out, gy, q)
        return True
    fetch(grad, 0, n, 1, gy)
    if n < VECTOR:
        return quad_back_run(gy, a, b, la, lb, 0, n, share, out, slopes, q)
    fine = True
    for o in range(0, n, VECTOR):
        fine &= quad_back_run(gy, a, b, la, lb, min(o, n - VECTOR), VECTOR, share, out, slopes, q)
    return fine


def quad_back_lanes_run(gy, a, b, la, lb, side, side2, at, n, share, out, slopes, par, q):
    """The gradients of a 2x2 window of channels at .. at + n, in the rows of `out`; whether the common reference suits them."""
    fine = True
    a1, b1, la1, lb1 = shift(a, side), shift(b, side), shift(la, side2), shift(lb, side2)
    for j in range(at, at + n):
        p = q + lane_params(par, j)
        ref = refer(a, a1, b, b1, j, share, p)
        e, e1, e2, e3 = lift_at(a, la, j, ref, p), lift_at(a1, la1, j, ref, p), lift_at(b, lb, j, ref, p), lift_at(b1, lb1, j, ref, p)
        v = join_four(e, e1, e2, e3)
        w = times(gy[j], terms(v, ref, share, *p))
        put_gradient(out, 0, j, spread_at(a, la, j, e, w, ref, p))
        put_gradient(out, 0, LANES + j, spread_at(a1, la1, j, e1, w, ref, p))
        put_gradient(out, CELLS, j, spread_at(b, lb, j, e2, w, ref, p))
        put_gradient(out, CELLS, LANES + j, spread_at(b1, lb1, j, e3, w, ref, p))
        keep_slope(slopes, j, gy[j], v, ref, share, p)
        fine &= safe(v, *p)
    return fine


def quad_back_lanes(grad, a, b, la, lb, side, side2, n, share, out, slopes, gy, par, q):
    """The same for n channels."""
    fetch(grad, 0, n, 1, gy)
    if n < VECTOR:
        return quad_back_lanes_run(gy, a, b, la, lb, side, side2, 0, n, share, out, slopes, par, q)
    fine = True
    for o in range(0, n, VECTOR):
        fine &= quad_back_lanes_run(gy, a, b, la, lb, side, side2, min(o, n - VECTOR), VECTOR, share, out, slopes, par, q)
    return fine


def quad_backward(plan, data, slot, lo, hi):
    """Rows lo..hi of output, whose 2x2 windows write their elements of the gradient."""
    f, a = integers(plan), integers(data)
    x, logit, grad, gx, gl = elements(a[X]), elements(a[LOGIT]), elements(a[Y]), elements(a[GRAD_X]), elements(a[GRAD_LOGIT])
    par, q, plane, out, raw = row4(), numbers(doubles(a[NUMBERS])), -1, row4(), raw1()
    pack, slopes, r, whole, lines = row1(), row1(), lo, row4(), (raw1(), raw1(), raw1(), raw1())
    n, g, od, oh = row_of(f, r)
    while r < hi:
        if PARAMETERS > 0 and n * f[G] + g != plane:
            plane = n * f[G] + g
            plane_parameters(f, a, n, g, par)
        m, rows = lanes_of(f, g), 1 if CHANNEL else min(BAND, min(f[OH] - oh, hi - r))
        if not CHANNEL:
            together = min(f[OH] - oh, hi - r, rows_at_once(f, 2 * f[W]))
            if together > 1:
                if not quad_back_short(f, a, x, logit, grad, gx, gl, n, g, od, oh, together, out, slopes, pack, raw, whole, lines,
                                       q + lane_params(par, 0)):
                    mark(a, n * f[G] + g)
                r += together
                n, g, od, oh = next_row(f, n, g, od, oh + together - 1)
                continue
        if CHANNEL:
            fine = quad_back_row_of_lanes(f, a, x, logit, grad, gx, gl, n, g, od, oh, m, par, out, slopes, pack, raw, q)
        else:
            fine = quad_back_band(f, a, x, logit, grad, gx, gl, n, g, od, oh, rows, out, slopes, pack, raw, q + lane_params(par, 0))
        for i in range(oh, oh + rows):
            clear_rest(f, gx, gl, n, g, od, i, m)
        if not fine:
            mark(a, n * f[G] + g)
        r += rows
        n, g, od, oh = next_row(f, n, g, od, oh + rows - 1)
    if f[PAST_CACHE]:
        settle()


def quad_back_band(f, a, x, logit, grad, gx, gl, n, g, od, oh, rows, out, slopes, gy, raw, q):
    """The gradients of some rows of 2x2 windows, all of them made before the first is stored; whether the common reference suits them."""
    down, down2, below = f[RECORDS + RECORD * X + 3], f[RECORDS + RECORD * LOGIT + 3], f[RECORDS + RECORD * GRAD_X + 3]
    fine = True
    for o in range(0, f[OW], PIECE):
        cells = min(PIECE, f[OW] - o)
        for i in range(rows):
            h = 2 * (oh + i)
            p, la = shift(x, spot(f, X, n, g, od, h, 2 * o)), shift(logit, logit_spot(f, n, g, od, h, 2 * o))
            share, row = real(f[f[D_SHARE] + od] * f[f[H_SHARE] + oh + i] * f[f[W_SHARE]]), shift(grad, spot(f, Y, n, g, od, oh + i, o))
            to, turned = shift(out, i * PITCH), shift(slopes, i * PITCH)
            if RECOMPUTE:
                ask_two(f, p, la, down, down2, 2 * cells)
            fine &= quad_back_across(f, row, p, shift(p, down), la, shift(la, down2), cells, share, to, turned, gy, q)
        for i in range(rows):
            to = spot(f, GRAD_X, n, g, od, 2 * (oh + i), 2 * o)
            put_row(f, gx, gl, to, out, i * PITCH, 2 * cells, raw)
            put_row(f, gx, gl, to + below, out, i * PITCH + (CELLS if RECOMPUTE else 0), 2 * cells, raw)
            put_slopes(f, a, n, g, od, oh + i, o, shift(slopes, i * PITCH), cells, row_step(f, GRAD_PARAM))
    return fine


def quad_back_short(f, a, x, logit, grad, gx, gl, n, g, od, oh, rows, out, slopes, gy, raw, whole, lines, q):
    """The gradients of some rows of 2x2 windows that are shorter than a vector, which are stored as one; whether the common reference suits them."""
    m, under, (upper, lower, upper2, lower2) = f[OW], CELLS if RECOMPUTE else 0, lines
    if RECOMPUTE:
        line_up(f, X, x, n, g, od, oh, rows, upper, lower)
        if LOGITS:
            line_up(f, LOGIT, logit, n, g, od, oh, rows, upper2, lower2)
    share, row = real(f[f[D_SHARE] + od] * f[f[H_SHARE] + oh] * f[f[W_SHARE]]), shift(grad, spot(f, Y, n, g, od, oh, 0))
    fine = quad_back_across(f, row, upper, lower, upper2, lower2, rows * m, share, out, slopes, gy, q)
    size = f[W] * (2 * rows if oh + rows < f[OH] else f[H] - 2 * oh)  # and what no window covers
    for k in range(2 if LOGITS else 1):
        made = shift(out, 2 * k * CELLS)
        lay_rows(f, shift(whole, 2 * k * CELLS), made, shift(made, under), rows, size)
    put_row(f, gx, gl, spot(f, GRAD_X, n, g, od, 2 * oh, 0), whole, 0, size, raw)
    for i in range(rows):
        put_slopes(f, a, n, g, od, oh + i, 0, shift(slopes, i * m), m, row_step(f, GRAD_PARAM))
    return fine


def quad_back_row_of_lanes(f, a, x, logit, grad, gx, gl, n, g, od, oh, m, par, out, slopes, gy, raw, q):
    """The gradients of a row of 2x2 windows with m channels as lanes; whether the common reference suits them."""
    down, down2, below = f[RECORDS + RECORD * X + 3], f[RECORDS + RECORD * LOGIT + 3], f[RECORDS + RECORD * GRAD_X + 3]
    side, side2, beside = f[RECORDS + RECORD * X + 4], f[RECORDS + RECORD * LOGIT + 4], f[RECORDS + RECORD * GRAD_X + 4]
    share, h, fine = real(f[f[D_SHARE] + od] * f[f[H_SHARE] + oh] * f[f[W_SHARE]]), 2 * oh, True
    for o in range(f[OW]):
        p, la = shift(x, spot(f, X, n, g, od, h, 2 * o)), shift(logit, logit_spot(f, n, g, od, h, 2 * o))
        row, to = shift(grad, spot(f, Y, n, g, od, oh, o)), spot(f, GRAD_X, n, g, od, h, 2 * o)
        ask_for_run(f, row, m)
        if RECOMPUTE:
            ask_two(f, p, la, down, down2, 2 * m)
        fine &= quad_back_lanes(row, p, shift(p, down), la, shift(la, down2), side, side2, m, share, out, slopes, gy, par, q)
        for i in range(4):
            put_row(f, gx, gl, to + (i >> 1) * below + (i & 1) * beside, out, (i >> 1) * CELLS + (i & 1) * LANES, m, raw)
        put_slopes(f, a, n, g, od, oh, o, slopes, m, lane_step(f, GRAD_PARAM))
    return fine


def clear_rest(f, gx, gl, n, g, d, oh, m, tall=2):
    """Zero what no window of `tall` rows and two columns covers: a last column, and after the last row of windows a last row."""
    for i in range(tall):
        for w in range(2 * f[OW], f[W]):
            zero(gx, gl, spot(f, GRAD_X, n, g, d, tall * oh + i, w), m, lane_step(f, GRAD_X))
    if oh == f[OH] - 1:
        for h in range(tall * f[OH], f[H]):
            for w in range(f[W]):
                zero(gx, gl, spot(f, GRAD_X, n, g, d, h, w), m, lane_step(f, GRAD_X))


def zero_one(gx, gl, at, m, s):
    """Cells of the gradient that no window covers."""
    for j in range(m):
        store(gx, at + j * s, real(0))


def zero_two(gx, gl, at, m, s):
    """Cells of both gradients that no window covers."""
    for j in range(m):
        store(gx, at + j * s, real(0))
        store(gl, at + j * s, real(0))


# ---------------------------------------------------------------- the shapes of a formula

def the_common(a, a1, b, b1, j, share, q):
    """The reference of all windows."""
    return REFERENCE


def first_pass(a, a1, b, b1, j, share, q):
    """The reference of a 2x2 window: what the first pass over its elements finds."""
    ref = first_step(first_step(first_start(), load(a, j), *q), load(a1, j), *q)
    return first_stop(first_step(first_step(ref, load(b, j), *q), load(b1, j), *q), share)


def lift_x(a, la, j, ref, q):
    """The components of an element."""
    return lift(load(a, j), *q)


def lift_from(a, la, j, ref, q):
    """The components of an element about its window's own reference."""
    return step(start(), load(a, j), ref, *q)


def lift_x_and_logit(a, la, j, ref, q):
    """The components of an element and its logit."""
    return lift(load(a, j), load(la, j), *q)


def spread_x(a, la, j, e, w, ref, q):
    """The gradient of an element."""
    return (spread(load(a, j), e, w, ref, *q),)


def spread_x_and_logit(a, la, j, e, w, ref, q):
    """The gradients of an element and of its logit."""
    return spread(load(a, j), load(la, j), e, w, ref, *q)


def put_gradient1(out, row, j, v):
    """Keep the gradient of an element."""
    out[row + j] = v[0]


def put_gradient2(out, row, j, v):
    """Keep the gradients of an element and of its logit."""
    out[row + j], out[2 * CELLS + row + j] = v


def put_row1(f, gx, gl, at, out, skip, n, raw):
    """Store a row of the gradient."""
    put_cells(shift(gx, at), shift(out, skip), n, f[PAST_CACHE], raw)


def put_row2(f, gx, gl, at, out, skip, n, raw):
    """Store a row of both gradients."""
    put_row1(f, gx, gl, at, out, skip, n, raw)
    put_row1(f, gl, gx, at, out, 2 * CELLS + skip, n, raw)


def slope(out, j, g, v, ref, share, q):
    """Keep g dy/dparameter of a window."""
    out[j] = g * param_slope(v, ref, share, *q)


def put_all_slopes(f, a, n, g, od, oh, o, slopes, m, step):
    """g dy/dparameter of m windows or channels, each to its place in an output-shaped array."""
    p = shift(reals(a[GRAD_PARAM]), spot(f, GRAD_PARAM, n, g, od, oh, o))
    for j in range(m):
        p[j * step] = slopes[j]


def no_slope(out, j, g, v, ref, share, q):
    """There is no learnable parameter."""


def put_no_slopes(f, a, n, g, od, oh, o, slopes, m, step):
    """There is no learnable parameter."""


def in_pairs(a, b, c):
    """Three components, joined in turn."""
    return join(join(a, b), c)


def all_in_turn(a, b, c):
    """All components of three, joined in turn."""
    return join_all(join_all(a, b), c)


def picked_among(a, b, c):
    """Of three chosen elements that one which is chosen in turn."""
    return (join_three(a[0], b[0], c[0]),)


def picked_by_columns(e, e1, e2, e3):
    """The chosen element of a 2x2 window, in the order of `by_columns`."""
    return (join(join_three(e[0], e2[0], e1[0]), e3[0]),)


def picked_all(a, b):
    """Chosen elements join by choosing; a stands before b."""
    return (b[0] if better(b[0], a[0]) else a[0],)
