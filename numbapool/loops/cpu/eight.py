"""Eight: 2x2x2 windows in one pass over memory, as direct.py takes 2x2 ones; the lanes are windows.

A window's elements are joined column by column, of four rows each: two of a plane and two of the next.  Measured on float32 (2, 64, 16, 56, 56), by
sweep.py and by this, in ms: averages 1.97 and 0.95, their gradient 3.1 and 0.97, soft pooling 3.4 and 1.6, its gradient 10.6 and 3.3.
Legend: see rows.py and sweep.py.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .direct import *  # noqa: F403
from .rows import *  # noqa: F403

CALLED = ("eight_back_across",)  # whose rows of results are then known not to overlap

# ---------------------------------------------------------------- forward

def eight_run(y, rows, logits, at, n, share, q):
    """2x2x2 windows at .. at + n of a row, side by side; whether the common reference suits all of them."""
    fine = True
    for j in range(at, at + n):
        v = join_all(column_of_four(rows, logits, 2 * j, q), column_of_four(rows, logits, 2 * j + 1, q))
        store(y, j, finish(v, REFERENCE, share, *q))
        fine &= safe(v, *q)
    return fine


def column_of_four(rows, logits, i, q):
    """The components of a column of four rows."""
    (a, b, c, d), (la, lb, lc, ld) = rows, logits
    v = join_all(lift_at(a, la, i, REFERENCE, q), lift_at(b, lb, i, REFERENCE, q))
    return join_all(join_all(v, lift_at(c, lc, i, REFERENCE, q)), lift_at(d, ld, i, REFERENCE, q))


def four_rows(f, x, at, operand):
    """The rows of a 2x2x2 window, two of a plane and two of the next, which are asked for."""
    r = RECORDS + RECORD * operand
    down, behind, ahead = f[r + 3] * f[H_STEP], f[r + 2] * f[D_STEP], 2 * f[OW]
    rows = shift(x, at), shift(x, at + down), shift(x, at + behind), shift(x, at + behind + down)
    ask_ahead(f, rows[0], ahead)
    ask_ahead(f, rows[1], ahead)
    ask_ahead(f, rows[2], ahead)
    ask_ahead(f, rows[3], ahead)
    return rows


def eight_forward(plan, data, slot, lo, hi):
    """Rows lo..hi of y: 2x2x2 windows, of which a row has VECTOR at least."""
    f, a = integers(plan), integers(data)
    x, logit, y = elements(a[X]), elements(a[LOGIT]), elements(a[Y])
    par, q, plane = row4(), numbers(doubles(a[NUMBERS])), -1
    n, g, od, oh = row_of(f, lo)
    for r in range(lo, hi):
        if PARAMETERS > 0 and n * f[G] + g != plane:
            plane = n * f[G] + g
            plane_parameters(f, a, n, g, par)
        d, h, w = f[f[D_FIRST] + od], f[f[H_FIRST] + oh], f[f[W_FIRST]]
        share = real(f[f[D_SHARE] + od] * f[f[H_SHARE] + oh] * f[f[W_SHARE]])
        rows = four_rows(f, x, spot(f, X, n, g, d, h, w), X)
        logits = four_rows(f, logit, logit_spot(f, n, g, d, h, w), LOGIT) if LOGITS else rows
        to, fine = shift(y, spot(f, Y, n, g, od, oh, 0)), True
        for o in range(0, f[OW], VECTOR):
            fine &= eight_run(to, rows, logits, min(o, f[OW] - VECTOR), VECTOR, share, q + lane_params(par, 0))
        if not fine:
            mark(a, r)
        n, g, od, oh = next_row(f, n, g, od, oh)


# ---------------------------------------------------------------- backward

def eight_back_run(gy, rows, logits, at, n, share, out, slopes, q):
    """The gradients of 2x2x2 windows at .. at + n of a row, in the rows of `out`; whether the common reference suits them."""
    fine = True
    (a, b, c, d), (la, lb, lc, ld), (to_a, to_b, to_c, to_d) = rows, logits, out
    for j in range(at, at + n):
        i, k = 2 * j, 2 * j + 1
        a0, b0 = lift_at(a, la, i, REFERENCE, q), lift_at(b, lb, i, REFERENCE, q)
        c0, d0 = lift_at(c, lc, i, REFERENCE, q), lift_at(d, ld, i, REFERENCE, q)
        a1, b1 = lift_at(a, la, k, REFERENCE, q), lift_at(b, lb, k, REFERENCE, q)
        c1, d1 = lift_at(c, lc, k, REFERENCE, q), lift_at(d, ld, k, REFERENCE, q)
        v = join_all(join_all(join_all(join_all(a0, b0), c0), d0), join_all(join_all(join_all(a1, b1), c1), d1))
        w = times(gy[j], terms(v, REFERENCE, share, *q))
        put_gradient(to_a, 0, i, spread_at(a, la, i, a0, w, REFERENCE, q))
        put_gradient(to_a, 0, k, spread_at(a, la, k, a1, w, REFERENCE, q))
        put_gradient(to_b, 0, i, spread_at(b, lb, i, b0, w, REFERENCE, q))
        put_gradient(to_b, 0, k, spread_at(b, lb, k, b1, w, REFERENCE, q))
        put_gradient(to_c, 0, i, spread_at(c, lc, i, c0, w, REFERENCE, q))
        put_gradient(to_c, 0, k, spread_at(c, lc, k, c1, w, REFERENCE, q))
        put_gradient(to_d, 0, i, spread_at(d, ld, i, d0, w, REFERENCE, q))
        put_gradient(to_d, 0, k, spread_at(d, ld, k, d1, w, REFERENCE, q))
        keep_slope(slopes, j, gy[j], v, REFERENCE, share, q)
        fine &= safe(v, *q)
    return fine


def eight_back_piece(f, grad, x, logit, at, bt, n, near, share, out, slopes, gy, q):
    """The gradients of n windows, two rows of each of two planes, of which the second is `near` cells behind the first."""
    ask_for_run(f, grad, n)
    if not RECOMPUTE:
        quad_back_plain(grad, n, share, out, gy, q)
        for j in range(2 * n):
            out[near + j] = out[j]
        return True
    a, b, c, d = four_rows(f, x, at, X)
    la, lb, lc, ld = four_rows(f, logit, bt, LOGIT) if LOGITS else (a, b, c, d)
    return eight_back_across(grad, a, b, c, d, la, lb, lc, ld, out, shift(out, near), shift(out, 2 * PITCH), shift(out, 2 * PITCH + near), n, share,
                             slopes, gy, q)


def eight_back_across(grad, a, b, c, d, la, lb, lc, ld, to_a, to_b, to_c, to_d, n, share, slopes, gy, q):
    """The gradients of n windows of these rows."""
    fetch(grad, 0, n, 1, gy)
    if n < VECTOR:
        return eight_back_run(gy, (a, b, c, d), (la, lb, lc, ld), 0, n, share, (to_a, to_b, to_c, to_d), slopes, q)
    fine = True
    for o in range(0, n, VECTOR):
        fine &= eight_back_run(gy, (a, b, c, d), (la, lb, lc, ld), min(o, n - VECTOR), VECTOR, share, (to_a, to_b, to_c, to_d), slopes, q)
    return fine


def eight_backward(plan, data, slot, lo, hi):
    """Rows lo..hi of output, whose 2x2x2 windows write their elements of the gradient: two rows of each of two planes."""
    f, a = integers(plan), integers(data)
    x, logit, grad, gx, gl = elements(a[X]), elements(a[LOGIT]), elements(a[Y]), elements(a[GRAD_X]), elements(a[GRAD_LOGIT])
    par, q, plane, out, raw, pack, slopes = row4(), numbers(doubles(a[NUMBERS])), -1, row4(), raw1(), row1(), row1()
    n, g, od, oh = row_of(f, lo)
    together = f[W] == 2 * f[OW] and f[OW] <= PIECE  # both rows of a plane are stored as one
    behind = 2 * PITCH if RECOMPUTE else 0
    for _ in range(lo, hi):
        if PARAMETERS > 0 and n * f[G] + g != plane:
            plane = n * f[G] + g
            plane_parameters(f, a, n, g, par)
        share, fine = real(f[f[D_SHARE] + od] * f[f[H_SHARE] + oh] * f[f[W_SHARE]]), True
        for o in range(0, f[OW], PIECE):
            m = min(PIECE, f[OW] - o)
            near, row = 2 * m if together else PITCH, shift(grad, spot(f, Y, n, g, od, oh, o))
            fine &= eight_back_piece(f, row, x, logit, spot(f, X, n, g, 2 * od, 2 * oh, 2 * o), logit_spot(f, n, g, 2 * od, 2 * oh, 2 * o), m, near,
                                     share, out, slopes, pack, q + lane_params(par, 0))
            for i in range(2):
                to = spot(f, GRAD_X, n, g, 2 * od + i, 2 * oh, 2 * o)
                if together:
                    put_row(f, gx, gl, to, out, i * behind, 4 * m, raw)
                else:
                    put_row(f, gx, gl, to, out, i * behind, 2 * m, raw)
                    put_row(f, gx, gl, to + f[RECORDS + RECORD * GRAD_X + 3], out, i * behind + near, 2 * m, raw)
            put_slopes(f, a, n, g, od, oh, o, slopes, m, row_step(f, GRAD_PARAM))
        clear_rest(f, gx, gl, n, g, 2 * od, oh, 1)
        clear_rest(f, gx, gl, n, g, 2 * od + 1, oh, 1)
        if od == f[OD] - 1 and oh == f[OH] - 1 and 2 * f[OD] < f[D]:
            zero(gx, gl, spot(f, GRAD_X, n, g, 2 * f[OD], 0, 0), f[H] * f[W], 1)
        if not fine:
            mark(a, n * f[G] + g)
        n, g, od, oh = next_row(f, n, g, od, oh)
    if f[PAST_CACHE]:
        settle()
