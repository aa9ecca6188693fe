"""Fold on a GPU: y = stop(step(step(start, x1), x2), ...).

Forward: one pass with the formula's common reference; where a window is not `safe` with it, the formula's two passes.
Backward: `fold_terms` writes what each window hands out, times its g, to work memory: the terms, and the reference of the windows that are not
safe (NaN: the common one).  `fold_gather` adds up, for each input, those of the windows that cover it: one step of the formula an element, however
much windows overlap, no atomics, one order of summation.  A formula that does not read x in its backward pass (PLAIN) needs no work memory.
Where no two windows share an element, `fold_disjoint` does all in one: a task writes the gradients of its window, and the zeros up to the next one.
Large windows are CUT: `fold_parts` folds parts of them, which are joined in the next kernel; sums stay short, which keeps float32 accurate.
Legend: see ground.py; q numbers among the parameters, p those that vary, acc the fold, ref the reference.
"""
from __future__ import annotations

from .ground import *  # noqa: F403
from .layout import *  # noqa: F403


def near(f, x, l, x_at, l_at, box, p, q, acc, v, u):
    """Add a box to the folds with the common reference; long windows row by row, which keeps float32 accurate."""
    row = accumulators() if ROWS else acc
    for a in range(box[3]):
        d = madd(ix(a), ix(f[D_STEP]), box[0])
        for b in range(box[4]):
            h = madd(ix(b), ix(f[H_STEP]), box[1])
            at, at2 = spot(x, d, h, box[2]), spot(l, d, h, box[2])
            if ROWS:
                for j in range(LANES):
                    put(row, j, empty())
            for t in range(box[5]):
                w = madd(ix(t), ix(f[W_STEP]), ix(0))
                take(x_at, madd(w, ix(x[5]), at), v)
                take2(l_at, madd(w, ix(l[5]), at2), u)
                for j in range(LANES):
                    put(row, j, plus(get(row, j), lifted(v[j], u[j], q + lane_params(p, j))))
            if ROWS:
                for j in range(LANES):
                    put(acc, j, plus(get(acc, j), get(row, j)))


def exact(f, x, l, x_at, l_at, box, q):
    """The reference and the fold of a window in the formula's two passes; every row is summed on its own first."""
    m, total = first_start(), empty()
    for turn in range(0 if FIRST else 1, 2):
        for a in range(box[3]):
            d = madd(ix(a), ix(f[D_STEP]), box[0])
            for b in range(box[4]):
                h = madd(ix(b), ix(f[H_STEP]), box[1])
                at, at2, row = spot(x, d, h, box[2]), spot(l, d, h, box[2]), start()
                for t in range(box[5]):
                    w = madd(ix(t), ix(f[W_STEP]), ix(0))
                    v, u = load(x_at, madd(w, ix(x[5]), at)), load2(l_at, madd(w, ix(l[5]), at2))
                    if turn == 0:
                        m = surveyed(m, v, u, q)
                    else:
                        row = stepped(row, v, u, m, q)
                if turn == 1:
                    total = plus(total, row)
        if turn == 0:
            m = first_stop(m, real(box[3] * box[4] * box[5]))
    return m, total


def exact_lanes(f, x, l, x_at, l_at, box, p, q, acc, ref, v, u):
    """The references and the folds of the lanes, which have one window, in the same two passes."""
    row = accumulators()
    for j in range(LANES):
        put(acc, j, empty())
        ref[j] = first_start()
    for turn in range(0 if FIRST else 1, 2):
        for a in range(box[3]):
            d = madd(ix(a), ix(f[D_STEP]), box[0])
            for b in range(box[4]):
                h = madd(ix(b), ix(f[H_STEP]), box[1])
                at, at2 = spot(x, d, h, box[2]), spot(l, d, h, box[2])
                for j in range(LANES):
                    put(row, j, start())
                for t in range(box[5]):
                    w = madd(ix(t), ix(f[W_STEP]), ix(0))
                    take(x_at, madd(w, ix(x[5]), at), v)
                    take2(l_at, madd(w, ix(l[5]), at2), u)
                    for j in range(LANES):
                        own = q + lane_params(p, j)
                        if turn == 0:
                            ref[j] = surveyed(ref[j], v[j], u[j], own)
                        else:
                            put(row, j, stepped(get(row, j), v[j], u[j], ref[j], own))
                if turn == 1:
                    for j in range(LANES):
                        put(acc, j, plus(get(acc, j), get(row, j)))
        if turn == 0:
            for j in range(LANES):
                ref[j] = first_stop(ref[j], real(box[3] * box[4] * box[5]))


def repair(f, o, n, c, od, oh, ow, todo, acc, ref):
    """The folds of the lanes whose bits are set in `todo`, exactly: one copy of the loops, and lanes at known places, which stay in registers."""
    x, l = o[X], o[LOGIT]
    for j in range(LANES):
        if (todo >> j) & 1:
            channel, column = (c + j, ow) if CHANNEL else (c, ix(ow + ix(j)))
            m, total = exact(f, x, l, base(x, n, channel, SIZE), base(l, n, channel, SIZE), window_of(f, n, channel, od, oh, column),
                             numbers(f) + own_parameters(o, n, channel, od, oh, column))
            for k in range(LANES):
                if k == j:
                    ref[k] = m
                    put(acc, k, total)


def joined(f, work, at, acc, v):
    """The folds of a window from those of its parts."""
    for s in range(f[SEGMENTS]):
        for k in range(ACCUMULATORS):
            take_reals(work + (k * f[SEGMENTS] + s) * f[OUTPUTS] * REAL_SIZE, at, v)
            for j in range(LANES):
                acc[k * LANES + j] += v[j]


def fold_window(f, o, n, c, od, oh, ow, p, q, acc, ref, v, u):
    """The folds of a task; those that are not with the common reference, as bits."""
    x, l = o[X], o[LOGIT]
    if APART:
        exact_lanes(f, x, l, base(x, n, c, SIZE), base(l, n, c, SIZE), window_of(f, n, c, od, oh, ow), p, q, acc, ref, v, u)
        todo = (1 << LANES) - 1
    else:
        for j in range(LANES):
            put(acc, j, empty())
            ref[j] = REFERENCE
        if CUT:
            joined(f, base(o[PARTS], n, c, REAL_SIZE), spot(o[PARTS], od, oh, ow), acc, v)
        else:
            near(f, x, l, base(x, n, c, SIZE), base(l, n, c, SIZE), window_of(f, n, c, od, oh, ow), p, q, acc, v, u)
        todo = 0
        for j in range(LANES):
            if not safe(get(acc, j), *(q + lane_params(p, j))):
                todo |= 1 << j
        if todo:
            repair(f, o, n, c, od, oh, ow, todo, acc, ref)
    return todo


def fold_parts(f, o, i, z):
    """A part of the windows of a task: every ACROSS-th element of every ALONG-th row."""
    t, s = part_of(f, i)
    n, c, od, oh, ow = output_of(f, t, z)
    acc, p, v, u = accumulators(), parameter_lanes(), lanes(), lanes()
    q, x, l, box = numbers(f), o[X], o[LOGIT], window_of(f, n, c, od, oh, ow)
    read_parameters(o, n, c, od, oh, ow, p)
    for j in range(LANES):
        put(acc, j, empty())
    rows, first, down = ix(box[3] * box[4]), s % f[ACROSS], s // f[ACROSS]
    x_at, l_at = base(x, n, c, SIZE), base(l, n, c, SIZE)
    for r in range(down, rows, f[ALONG]):
        a = quotient(ix(r), ix(box[4]))
        b = ix(ix(r) - madd(a, ix(box[4]), ix(0)))
        d, h = madd(a, ix(f[D_STEP]), box[0]), madd(b, ix(f[H_STEP]), box[1])
        at, at2 = spot(x, d, h, box[2]), spot(l, d, h, box[2])
        for t in range(first, box[5], f[ACROSS]):
            w = madd(ix(t), ix(f[W_STEP]), ix(0))
            take(x_at, madd(w, ix(x[5]), at), v)
            take2(l_at, madd(w, ix(l[5]), at2), u)
            for j in range(LANES):
                put(acc, j, plus(get(acc, j), lifted(v[j], u[j], q + lane_params(p, j))))
    work, at = base(o[PARTS], n, c, REAL_SIZE), spot(o[PARTS], od, oh, ow)
    for k in range(ACCUMULATORS):
        for j in range(LANES):
            v[j] = acc[k * LANES + j]
        give_reals(work + (k * f[SEGMENTS] + s) * f[OUTPUTS] * REAL_SIZE, at, v)


def fold_forward(f, o, i, z):
    """y of a task."""
    n, c, od, oh, ow = output_of(f, i, z)
    acc, ref, p, v, u = accumulators(), lanes(), parameter_lanes(), lanes(), lanes()
    q = numbers(f)
    read_parameters(o, n, c, od, oh, ow, p)
    fold_window(f, o, n, c, od, oh, ow, p, q, acc, ref, v, u)
    share = share_of(f, od, oh, ow)
    for j in range(LANES):
        v[j] = stop(get(acc, j), ref[j], share, *(q + lane_params(p, j)))
    give(base(o[Y], n, c, SIZE), spot(o[Y], od, oh, ow), v)


def strip_forward(f, o, i, z):
    """y of LANES outputs side by side along the last axis: what their windows share is read, in vectors, and lifted once a row."""
    n, c, od, oh, ow = output_of(f, i, z)
    acc, ref, p, v, u, cells, cells2 = accumulators(), lanes(), parameter_lanes(), lanes(), lanes(), span(), span()
    read_parameters(o, n, c, od, oh, ix(0), p)
    own = numbers(f) + lane_params(p, 0)
    fold_strip(f, o, n, c, od, oh, ow, own, acc, ref, v, u, cells, cells2)
    for j in range(LANES):
        w = ix(ow + ix(j))
        v[j] = stop(get(acc, j), ref[j], share_of(f, od, oh, w if w < ix(f[OW]) else ow), *own)
    give_strip(f, base(o[Y], n, c, SIZE), spot(o[Y], od, oh, ow), ow, v)


def fold_strip(f, o, n, c, od, oh, ow, own, acc, ref, v, u, cells, cells2):
    """The folds of outputs side by side; those that are not with the common reference, as bits."""
    x, l, box = o[X], o[LOGIT], window_of(f, n, c, od, oh, ow)
    x_at, l_at, w0 = base(x, n, c, SIZE), base(l, n, c, SIZE), madd(ow, ix(STRIDE), ix(-LEFT))
    for j in range(LANES):
        put(acc, j, empty())
        ref[j] = REFERENCE
    for a in range(box[3]):
        d = madd(ix(a), ix(f[D_STEP]), box[0])
        for b in range(box[4]):
            h = madd(ix(b), ix(f[H_STEP]), box[1])
            take_span(f, x_at, spot(x, d, h, ix(0)), w0, v, cells, real(0))
            take_span2(f, l_at, spot(l, d, h, ix(0)), w0, u, cells2, real(0))
            for k in range(SPAN):
                w = ix(w0 + ix(k))
                e = lifted(cells[k], cells2[k], own) if 0 <= w < ix(f[W]) else empty()
                for j in range(LANES):
                    if j * STRIDE <= k and k < j * STRIDE + KERNEL:
                        put(acc, j, plus(get(acc, j), e))
    todo = 0
    for j in range(LANES):
        if ix(ow + ix(j)) < ix(f[OW]) and not safe(get(acc, j), *own):
            todo |= 1 << j
    if todo:
        repair(f, o, n, c, od, oh, ow, todo, acc, ref)
    return todo


def fold_terms(f, o, i, z):
    """What the windows of a task hand out, times g: the terms and the reference, and the slope of a parameter."""
    n, c, od, oh, ow = output_of(f, i, z)
    acc, ref, p, v, u, g = accumulators(), lanes(), parameter_lanes(), lanes(), lanes(), lanes()
    kept = term_lanes()
    q = numbers(f)
    read_parameters(o, n, c, od, oh, ow, p)
    todo = fold_window(f, o, n, c, od, oh, ow, p, q, acc, ref, v, u)
    handed(f, o, n, c, od, oh, ow, q, p, acc, ref, v, g, kept)
    work, at = base(o[WORK], n, c, REAL_SIZE), spot(o[WORK], od, oh, ow)
    for k in range(TERMS):
        for j in range(LANES):
            v[j] = kept[k * LANES + j]
        give_reals(work + k * f[OUTPUTS] * REAL_SIZE, at, v)
    for j in range(LANES):
        v[j] = ref[j] if (todo >> j) & 1 else NONE
    give_reals(work + TERMS * f[OUTPUTS] * REAL_SIZE, at, v)


def handed(f, o, n, c, od, oh, ow, q, p, acc, ref, v, g, kept):
    """What the windows of a task hand out, times g, and the slope of a parameter; windows side by side along the last axis, or of channels."""
    take(base(o[Y], n, c, SIZE), spot(o[Y], od, oh, ow), g)
    for j in range(LANES):
        own, share = q + lane_params(p, j if CHANNEL else 0), share_of(f, od, oh, ow if CHANNEL else ix(ow + ix(j)))
        if LEARNS:
            v[j] = g[j] * param_slope(get(acc, j), ref[j], share, *own)
        hold(kept, j, terms(get(acc, j), ref[j], share, *own))
        for k in range(TERMS):
            kept[k * LANES + j] *= g[j]
    if LEARNS:
        give_reals(base(o[GRAD_PARAM], n, c, REAL_SIZE), spot(o[GRAD_PARAM], od, oh, ow), v)


def fold_disjoint(f, o, i, z):
    """The gradients of the elements of a task's windows, of which no two share one, and of those between them and the next."""
    n, c, od, oh, ow = output_of(f, i, z)
    acc, ref, p, v, u, g, out, out2 = accumulators(), lanes(), parameter_lanes(), lanes(), lanes(), lanes(), lanes(), lanes()
    q, x, l, kept, box = numbers(f), o[X], o[LOGIT], term_lanes(), window_of(f, n, c, od, oh, ow)
    read_parameters(o, n, c, od, oh, ow, p)
    todo = fold_window(f, o, n, c, od, oh, ow, p, q, acc, ref, v, u)
    handed(f, o, n, c, od, oh, ow, q, p, acc, ref, v, g, kept)
    x_at, l_at = base(x, n, c, SIZE), base(l, n, c, SIZE)
    w_from, w_to = cover(f[W_COVER], ow, f[OW])
    for d in range(*cover(f[D_COVER], od, f[OD])):
        for h in range(*cover(f[H_COVER], oh, f[OH])):
            for w in range(w_from, w_to):
                inside = 0 <= d - box[0] < box[3] and 0 <= h - box[1] < box[4] and 0 <= w - box[2] < box[5]
                if inside:
                    take(x_at, spot(x, ix(d), ix(h), ix(w)), v)
                    take2(l_at, spot(l, ix(d), ix(h), ix(w)), u)
                for j in range(LANES):
                    out[j] = out2[j] = real(0)
                    if inside:
                        spread_own(v[j], u[j], j, kept, ref[j], (todo >> j) & 1, q + lane_params(p, j), out, out2)
                give(base(o[GRAD_X], n, c, SIZE), spot(o[GRAD_X], ix(d), ix(h), ix(w)), out)
                give2(base(o[GRAD_LOGIT], n, c, SIZE), spot(o[GRAD_LOGIT], ix(d), ix(h), ix(w)), out2)


def strip_disjoint(f, o, i, z):
    """The same of LANES outputs side by side along the last axis, of windows that begin STRIDE elements apart, at the first one."""
    n, c, od, oh, ow = output_of(f, i, z)
    acc, ref, p, v, u, g, kept = accumulators(), lanes(), parameter_lanes(), lanes(), lanes(), lanes(), term_lanes()
    one, two, out, out2, cells, cells2 = lanes(), lanes(), lanes(), lanes(), span(), span()
    q, x, l, box = numbers(f), o[X], o[LOGIT], window_of(f, n, c, od, oh, ow)
    read_parameters(o, n, c, od, oh, ix(0), p)
    own, w0 = q + lane_params(p, 0), madd(ow, ix(STRIDE), ix(0))
    todo = fold_strip(f, o, n, c, od, oh, ow, own, acc, ref, v, u, cells, cells2)
    handed(f, o, n, c, od, oh, ow, q, p, acc, ref, v, g, kept)
    x_at, l_at = base(x, n, c, SIZE), base(l, n, c, SIZE)
    for d in range(*cover(f[D_COVER], od, f[OD])):
        for h in range(*cover(f[H_COVER], oh, f[OH])):
            inside = 0 <= d - box[0] < box[3] and 0 <= h - box[1] < box[4]
            if inside:
                take_span(f, x_at, spot(x, ix(d), ix(h), ix(0)), w0, v, cells, real(0))
                take_span2(f, l_at, spot(l, ix(d), ix(h), ix(0)), w0, u, cells2, real(0))
            for s in range(STRIDE):
                for m in range(LANES):
                    j, k = (s * LANES + m) // STRIDE, s * LANES + m
                    one[j] = two[j] = real(0)
                    if inside and k - j * STRIDE < KERNEL:
                        spread_own(cells[k], cells2[k], j, kept, ref[j], (todo >> j) & 1, own, one, two)
                    out[m], out2[m] = one[j], two[j]
                w = ix(w0 + ix(s * LANES))
                give(base(o[GRAD_X], n, c, SIZE), spot(o[GRAD_X], ix(d), ix(h), w), out)
                give2(base(o[GRAD_LOGIT], n, c, SIZE), spot(o[GRAD_LOGIT], ix(d), ix(h), w), out2)


def spread_own(x, logit, j, kept, ref, exactly, q, out, out2):
    """Add the gradient by the window of lane j, which has the common reference or, exactly, its own."""
    if APART or exactly:
        spread_one(x, logit, j, kept, ref, q, out, out2)
    else:
        spread_all(x, logit, j, kept, q, out, out2)


def fold_gather(f, o, i, z):
    """The gradients of the inputs of a task."""
    n, c, d, h, w = input_of(f, i, z)
    sums, kept, out, out2, v, u, g, ref, p = term_lanes(), term_lanes(), lanes(), lanes(), lanes(), lanes(), lanes(), lanes(), parameter_lanes()
    q = numbers(f)
    if RECOMPUTE:
        take(base(o[X], n, c, SIZE), spot(o[X], d, h, w), v)
        take2(base(o[LOGIT], n, c, SIZE), spot(o[LOGIT], d, h, w), u)
    read_parameters(o, n, c, ix(0), ix(0), ix(0), p)
    for j in range(LANES):
        out[j] = out2[j] = real(0)
        for k in range(TERMS):
            sums[k * LANES + j] = real(0)
    w_from, w_to = cover(f[W_COVER], w, f[W])
    for a in range(*cover(f[D_COVER], d, f[D])):
        od = ix(read_int(f[D_LIST], ix(a)))
        for b in range(*cover(f[H_COVER], h, f[H])):
            oh = ix(read_int(f[H_LIST], ix(b)))
            for t in range(w_from, w_to):
                ow = ix(read_int(f[W_LIST], ix(t)))
                window_terms(f, o, n, c, od, oh, ow, kept, ref, g)
                if APART:
                    read_parameters(o, n, c, od, oh, ow, p)
                for j in range(LANES):
                    if ref[j] == ref[j] and RECOMPUTE:
                        spread_one(v[j], u[j], j, kept, ref[j], q + lane_params(p, j), out, out2)
                    else:
                        for k in range(TERMS):
                            sums[k * LANES + j] += kept[k * LANES + j]
    for j in range(LANES):
        if not APART:
            spread_all(v[j], u[j], j, sums, q + lane_params(p, j), out, out2)
    give(base(o[GRAD_X], n, c, SIZE), spot(o[GRAD_X], d, h, w), out)
    give2(base(o[GRAD_LOGIT], n, c, SIZE), spot(o[GRAD_LOGIT], d, h, w), out2)


def window_terms(f, o, n, c, od, oh, ow, kept, ref, g):
    """The terms of the windows of an output, times g, and their reference."""
    if PLAIN:
        take(base(o[Y], n, c, SIZE), spot(o[Y], od, oh, ow), g)
        share = share_of(f, od, oh, ow)
        for j in range(LANES):
            kept[j] = g[j] * terms(start(), REFERENCE, share)[0]
    else:
        work, at = base(o[WORK], n, c, REAL_SIZE), spot(o[WORK], od, oh, ow)
        take_reals(work + TERMS * f[OUTPUTS] * REAL_SIZE, at, ref)
        for k in range(TERMS):
            take_reals(work + k * f[OUTPUTS] * REAL_SIZE, at, g)
            for j in range(LANES):
                kept[k * LANES + j] = g[j]


# the shapes of a formula: x alone, or x and its logit

def lifted_one(x, logit, q):
    """What an element adds to a fold with the common reference."""
    return lift(x, *q)


def lifted_two(x, logit, q):
    """The same with its logit."""
    return lift(x, logit, *q)


def surveyed_one(ref, x, logit, q):
    """The first pass on x."""
    return first_step(ref, x, *q)


def surveyed_two(ref, x, logit, q):
    """The first pass on x and its logit."""
    return first_step(ref, x, logit, *q)


def stepped_one(acc, x, logit, ref, q):
    """One step on x."""
    return step(acc, x, ref, *q)


def stepped_two(acc, x, logit, ref, q):
    """One step on x and its logit."""
    return step(acc, x, logit, ref, *q)


def spread_one_x(x, logit, j, kept, ref, q, out, out2):
    """Add the gradient by one window with a reference of its own."""
    out[j] += spread(x, step(start(), x, ref, *q), held(kept, j), ref, *q)


def spread_one_two(x, logit, j, kept, ref, q, out, out2):
    """Add the gradients of x and its logit by one window."""
    s, t = spread(x, logit, step(start(), x, logit, ref, *q), held(kept, j), ref, *q)
    out[j] += s
    out2[j] += t


def spread_all_x(x, logit, j, sums, q, out, out2):
    """Add the gradient by all windows with the common reference."""
    out[j] += near_spread(x, lift(x, *q), held(sums, j), REFERENCE, *q)


def spread_all_two(x, logit, j, sums, q, out, out2):
    """Add the gradients of x and its logit by these."""
    s, t = near_spread(x, logit, lift(x, logit, *q), held(sums, j), REFERENCE, *q)
    out[j] += s
    out2[j] += t
