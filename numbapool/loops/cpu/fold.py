"""Fold: y = stop(step(step(start, x1), x2), ...), after a first pass over the window where the formula asks for one.

Backward recomputes the fold of each window and adds g dy/dx to its taps: nothing needs to be kept from the forward pass.
Legend: see rows.py; q the numbers among the parameters, par those that vary with the output, ref the first pass's result.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .rows import *  # noqa: F403

BLOCK = 256  # taps

def params(f, a, n, g, od, oh, o, m, lanes):
    """The parameters of m windows, each broadcast to the output's shape by its distances."""
    for k in range(PARAMETERS):
        p = reals(a[PARAM + k])
        at, s = spot(f, PARAM + k, n, g, od, oh, o), lane_step(f, PARAM + k)
        for j in range(m):
            lanes[k * LANES + j] = p[at + j * s]


def survey(f, x, logit, n, g, m, step, lx, ll, table, box, ref, par, pack, pack2, q):
    """The first pass over m windows."""
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            for w in range(box[6], box[7], box[8]):
                v = tap(f, x, spot(f, X, n, g, d, h, w), m, step, lx, table, pack)
                u = tap2(f, logit, spot(f, LOGIT, n, g, d, h, w), m, step, ll, table, pack2)
                for j in range(m):
                    ref[j] = call_first(ref[j], v, u, j, q + lane_params(par, j))


def accumulate(f, x, logit, n, g, m, step, lx, ll, table, box, ref, acc, total, par, pack, pack2, q):
    """The fold over m windows; every BLOCK taps go to a total of their own, which keeps float32 sums of large windows accurate."""
    taps, blocks = 0, 0
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            for w in range(box[6], box[7], box[8]):
                v = tap(f, x, spot(f, X, n, g, d, h, w), m, step, lx, table, pack)
                u = tap2(f, logit, spot(f, LOGIT, n, g, d, h, w), m, step, ll, table, pack2)
                for j in range(m):
                    put(acc, j, call_step(get(acc, j), v, u, j, ref[j], q + lane_params(par, j)))
                taps += 1
                if taps == BLOCK:
                    for j in range(m):
                        put(total, j, plus(get(total, j), get(acc, j)) if blocks else get(acc, j))
                        put(acc, j, start())
                    taps, blocks = 0, 1
    if blocks:
        for j in range(m):
            put(acc, j, plus(get(total, j), get(acc, j)))


def fold_unit(f, x, logit, n, g, o, m, step, box, count, ref, acc, total, par, pack, pack2, q):
    """Both passes over the windows of a unit; the results lie in the first m lanes."""
    table = firsts(f, n, g, o)
    across, most, runs, stride = shape_of(f, m, step, box)
    lx, ll = step_of(f, X, across), step_of(f, LOGIT, across)
    for j in range(most):
        ref[j] = first_start()
        put(acc, j, start())
        set_params(par, j, lane_params(par, 0 if across else j))
    if FIRST:
        for k in range(0, runs, LANES):
            c, part = part_of(m, across, runs, k, box)
            survey(f, x, logit, n, g, c, stride, lx, ll, table, part, ref, par, pack, pack2, q)
        if across:
            for j in range(1, most):
                ref[0] = first_join(ref[0], ref[j])
        for j in range(most):
            ref[j] = first_stop(ref[j], count) if not across or j == 0 else ref[0]
    for k in range(0, runs, LANES):
        c, part = part_of(m, across, runs, k, box)
        accumulate(f, x, logit, n, g, c, stride, lx, ll, table, part, ref, acc, total, par, pack, pack2, q)
    if across:
        for j in range(1, most):
            put(acc, 0, plus(get(acc, 0), get(acc, j)))


def fold_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y."""
    f, a = integers(plan), integers(data)
    x, logit, y = elements(a[X]), elements(a[LOGIT]), elements(a[Y])
    ref, acc, par, pack, pack2 = lanes(), wide_lanes(), wide_lanes(), lanes(), lanes()
    total = wide_lanes()
    q = numbers(doubles(a[NUMBERS]))
    ly = lane_step(f, Y)
    for r in range(lo, hi):
        if a[MASK] != 0 and octets(a[MASK])[r] == 0:
            continue
        n, g, od, oh = row_of(f, r)
        for k in range(f[UNITS]):
            o, m, step, box, share = unit_of(f, k, n, g, od, oh)
            params(f, a, n, g, od, oh, o, m, par)
            count, at = real(share), spot(f, Y, n, g, od, oh, o)
            fold_unit(f, x, logit, n, g, o, m, step, box, count, ref, acc, total, par, pack, pack2, q)
            for j in range(m):
                pack[j] = stop(get(acc, j), ref[j], count, *(q + lane_params(par, j)))
            for j in range(m):
                store(y, at + j * ly, pack[j])


def fold_backward(plan, data, slot, lo, hi):
    """Planes lo..hi of the gradient with respect to x (and the logits, and the parameters)."""
    f, a = integers(plan), integers(data)
    x, logit, grad = elements(a[X]), elements(a[LOGIT]), elements(a[Y])
    ref, acc, par, pack, pack2, gy, out, out2 = lanes(), wide_lanes(), wide_lanes(), lanes(), lanes(), lanes(), lanes(), lanes()
    total = wide_lanes()
    q = numbers(doubles(a[NUMBERS]))
    for p in range(lo, hi):
        if a[MASK] != 0 and octets(a[MASK])[p] == 0:
            continue
        n, g = p // f[G], p % f[G]
        target = open_plane(f, a, GRAD_X, slot, 0, n, g)
        target2 = open_plane2(f, a, GRAD_LOGIT, slot, 1, n, g)
        for od in range(f[OD]):
            for oh in range(f[OH]):
                for k in range(f[UNITS]):
                    o, m, step, box, share = unit_of(f, k, n, g, od, oh)
                    count = real(share)
                    fetch(grad, spot(f, Y, n, g, od, oh, o), m, lane_step(f, Y), gy)
                    params(f, a, n, g, od, oh, o, m, par)
                    if RECOMPUTE:
                        fold_unit(f, x, logit, n, g, o, m, step, box, count, ref, acc, total, par, pack, pack2, q)
                    if LEARNS:
                        turn(f, a, n, g, od, oh, o, m, count, gy, ref, acc, par, q)
                    for j in range(m):
                        hold(acc, j, times(gy[j], terms(get(acc, j), ref[j], count, *(q + lane_params(par, j)))))
                    scatter_unit(f, x, logit, target, target2, n, g, o, m, step, box, ref, acc, par, pack, pack2, out, out2, q)
        close_plane(f, a, GRAD_X, target, n, g)
        close_plane2(f, a, GRAD_LOGIT, target2, n, g)


def scatter_taps(f, x, logit, target, target2, n, g, m, step, lx, ll, lt, table, box, ref, kept, par, pack, pack2, out, out2, q):
    """Add g dy/dx of m windows to every tap."""
    for d in range(box[0], box[1], box[2]):
        for h in range(box[3], box[4], box[5]):
            for w in range(box[6], box[7], box[8]):
                v, u = pack, pack2
                if RECOMPUTE:
                    v = tap(f, x, spot(f, X, n, g, d, h, w), m, step, lx, table, pack)
                    u = tap2(f, logit, spot(f, LOGIT, n, g, d, h, w), m, step, ll, table, pack2)
                for j in range(m):
                    call_spread(out, out2, v, u, j, held(kept, j), ref[j], q + lane_params(par, j))
                at = spot(f, TARGET, n, g, d, h, w)
                scatter(f, target, at, m, step, lt, table, out)
                scatter2(f, target2, at, m, step, lt, table, out2)


def scatter_unit(f, x, logit, target, target2, n, g, o, m, step, box, ref, kept, par, pack, pack2, out, out2, q):
    """Add g dy/dx of the windows of a unit to every tap."""
    table = firsts(f, n, g, o)
    across, most, runs, stride = shape_of(f, m, step, box)
    lx, ll, lt = step_of(f, X, across), step_of(f, LOGIT, across), step_of(f, TARGET, across)
    if across:
        for j in range(1, most):
            ref[j] = ref[0]
            hold(kept, j, held(kept, 0))
            set_params(par, j, lane_params(par, 0))
    for k in range(0, runs, LANES):
        c, part = part_of(m, across, runs, k, box)
        scatter_taps(f, x, logit, target, target2, n, g, c, stride, lx, ll, lt, table, part, ref, kept, par, pack, pack2, out, out2, q)


def turn(f, a, n, g, od, oh, o, m, count, gy, ref, acc, par, q):
    """g dy/dparameter of every window of a unit, each to its place in an output-shaped array."""
    p = reals(a[GRAD_PARAM])
    at, s = spot(f, GRAD_PARAM, n, g, od, oh, o), lane_step(f, GRAD_PARAM)
    for j in range(m):
        p[at + j * s] = gy[j] * param_slope(get(acc, j), ref[j], count, *(q + lane_params(par, j)))


# the shapes of a formula: one or two numbers an element (x, or x and its logit), one to four accumulators, some parameters

def first_one(ref, v, u, j, q):
    """The first pass on x."""
    return first_step(ref, v[j], *q)


def first_two(ref, v, u, j, q):
    """The first pass on x and its logit."""
    return first_step(ref, v[j], u[j], *q)


def step_one(acc, v, u, j, ref, q):
    """One step on x."""
    return step(acc, v[j], ref, *q)


def step_two(acc, v, u, j, ref, q):
    """One step on x and its logit."""
    return step(acc, v[j], u[j], ref, *q)


def spread_one(out, out2, v, u, j, kept, ref, q):
    """g dy/dx, where g terms are kept."""
    out[j] = spread(v[j], step(start(), v[j], ref, *q), kept, ref, *q)


def spread_two(out, out2, v, u, j, kept, ref, q):
    """g dy/dx and g dy/dlogit."""
    out[j], out2[j] = spread(v[j], u[j], step(start(), v[j], u[j], ref, *q), kept, ref, *q)


def no_tap(f, x, at, m, step, lane, table, pack):
    """There is no second operand."""
    return pack


def no_scatter(f, target, at, m, step, lane, table, pack):
    """There is no second gradient."""


def no_open(f, a, operand, slot, part, n, g):
    """There is no second plane."""
    return reals(a[operand])


def no_close(f, a, operand, target, n, g):
    """There is no second plane."""


def no_first_start():
    """No first pass."""
    return real(0)


def no_first_step(ref, *_):
    """No first pass."""
    return ref


def same(ref, n):
    """The first pass's result as it is."""
    return ref


def get0(p, j):
    """No number a lane."""
    return ()


def get1(p, j):
    """The number of lane j."""
    return (p[j],)


def get2(p, j):
    """The two numbers of lane j."""
    return p[j], p[LANES + j]


def get3(p, j):
    """The three numbers of lane j."""
    return p[j], p[LANES + j], p[2 * LANES + j]


def get4(p, j):
    """The four numbers of lane j."""
    return p[j], p[LANES + j], p[2 * LANES + j], p[3 * LANES + j]


def put0(p, j, v):
    """Keep nothing."""


def put1(p, j, v):
    """Set the number of lane j."""
    p[j] = v[0]


def put2(p, j, v):
    """Set the two numbers of lane j."""
    p[j], p[LANES + j] = v


def put3(p, j, v):
    """Set the three numbers of lane j."""
    p[j], p[LANES + j], p[2 * LANES + j] = v


def put4(p, j, v):
    """Set the four numbers of lane j."""
    p[j], p[LANES + j], p[2 * LANES + j], p[3 * LANES + j] = v


def plus1(a, b):
    """The sum of two partial folds."""
    return (a[0] + b[0],)


def plus2(a, b):
    """The sum of two partial folds."""
    return a[0] + b[0], a[1] + b[1]


def plus3(a, b):
    """The sum of two partial folds."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def plus4(a, b):
    """The sum of two partial folds."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


def numbers0(p):
    """A formula without number parameters."""
    return ()


def numbers1(p):
    """One number parameter."""
    return (real(p[0]),)


def numbers2(p):
    """Two number parameters."""
    return real(p[0]), real(p[1])
