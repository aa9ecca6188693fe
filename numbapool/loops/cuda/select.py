"""Select, vote and draw on a GPU: y is an element of the window, and its place is its index.

Forward keeps the best element of a window, or the most frequent one, or draws one.  Backward writes the places to work memory, unless it is given
the indices, and then `index_gather` adds, for each input, the g of the windows that cover it and name it: no atomics, one order of summation.  Where
the windows are not known (`index_scatter`: unpooling, drawn windows), a plane is cut into slices, and a task follows all indices of the plane into
its own.
Legend: see ground.py.
"""
from __future__ import annotations

from .ground import *  # noqa: F403
from .layout import *  # noqa: F403


def choose(f, x, n, c, box, first, down, across, rows, best, where, v):
    """Better elements of a box, every `across`-th of every `down`-th row from part `first` on, and their places."""
    at_x = base(x, n, c, SIZE)
    s, r0 = first % across, first // across
    for r in range(r0, rows, down):
        a = quotient(ix(r), ix(box[4]))
        d, h = madd(a, ix(f[D_STEP]), box[0]), madd(ix(ix(r) - madd(a, ix(box[4]), ix(0))), ix(f[H_STEP]), box[1])
        at, here = spot(x, d, h, box[2]), madd(madd(d, ix(f[H]), h), ix(f[W]), box[2])
        for t in range(s, box[5], across):
            w = madd(ix(t), ix(f[W_STEP]), ix(0))
            take(at_x, madd(w, ix(x[5]), at), v)
            for j in range(LANES):
                if better(v[j], best[j]):
                    best[j], where[j] = v[j], ix(here + w)


def place(f, box):
    """The place of the first element of a box."""
    return madd(madd(box[0], ix(f[H]), box[1]), ix(f[W]), box[2])


def select_forward(f, o, i, z):
    """y of a task, or the places of its elements, or both."""
    n, c, od, oh, ow = output_of(f, i, z)
    best, where, v = lanes(), places(), lanes()
    box = window_of(f, n, c, od, oh, ow)
    for j in range(LANES):
        best[j], where[j] = worst(), place(f, box)
    if CUT:
        join(f, o, n, c, od, oh, ow, best, where, v)
    else:
        x, at_x = o[X], base(o[X], n, c, SIZE)
        for a in range(box[3]):
            d = madd(ix(a), ix(f[D_STEP]), box[0])
            for b in range(box[4]):
                h = madd(ix(b), ix(f[H_STEP]), box[1])
                at, here = spot(x, d, h, box[2]), madd(madd(d, ix(f[H]), h), ix(f[W]), box[2])
                for t in range(box[5]):
                    w = madd(ix(t), ix(f[W_STEP]), ix(0))
                    take(at_x, madd(w, ix(x[5]), at), v)
                    for j in range(LANES):
                        if better(v[j], best[j]):
                            best[j], where[j] = v[j], ix(here + w)
    if VALUES:
        give(base(o[Y], n, c, SIZE), spot(o[Y], od, oh, ow), best)
    if INDEXED:
        put_places(base(o[INDEX], n, c, INDEX_SIZE), spot(o[INDEX], od, oh, ow), ix(o[INDEX][2]), where)


def strip_select(f, o, i, z):
    """The same for LANES outputs side by side along the last axis, whose windows share what is read in vectors."""
    n, c, od, oh, ow = output_of(f, i, z)
    best, where, v, cells = lanes(), places(), lanes(), span()
    x, box, w0 = o[X], window_of(f, n, c, od, oh, ow), madd(ow, ix(STRIDE), ix(-LEFT))
    at_x, top = base(x, n, c, SIZE), madd(box[0], ix(f[H]), box[1])
    for j in range(LANES):
        w = ix(w0 + ix(j * STRIDE))
        best[j], where[j] = worst(), madd(top, ix(f[W]), w if w > 0 else ix(0))
    for a in range(box[3]):
        d = madd(ix(a), ix(f[D_STEP]), box[0])
        for b in range(box[4]):
            h = madd(ix(b), ix(f[H_STEP]), box[1])
            take_span(f, at_x, spot(x, d, h, ix(0)), w0, v, cells, worst())
            here = madd(madd(d, ix(f[H]), h), ix(f[W]), w0)
            for k in range(SPAN):
                for j in range(LANES):
                    if j * STRIDE <= k and k < j * STRIDE + KERNEL and better(cells[k], best[j]):
                        best[j], where[j] = cells[k], ix(here + ix(k))
    if VALUES:
        give_strip(f, base(o[Y], n, c, SIZE), spot(o[Y], od, oh, ow), ow, best)
    if INDEXED:
        address, at = base(o[INDEX], n, c, INDEX_SIZE), spot(o[INDEX], od, oh, ow)
        for j in range(LANES):
            if WHOLE or ix(ow + ix(j)) < ix(f[OW]):
                write_index(address, ix(at + ix(j)), where[j])


def put_places(address, at, step, where):
    """Store the places of a task."""
    for j in range(LANES):
        write_index(address, madd(ix(j), step, at), where[j])


def select_parts(f, o, i, z):
    """The best element of a part of the windows of a task, and its place."""
    t, s = part_of(f, i)
    n, c, od, oh, ow = output_of(f, t, z)
    best, where, v = lanes(), places(), lanes()
    box = window_of(f, n, c, od, oh, ow)
    for j in range(LANES):
        best[j], where[j] = worst(), ix(-1)
    choose(f, o[X], n, c, box, s, f[ALONG], f[ACROSS], ix(box[3] * box[4]), best, where, v)
    at = spot(o[PARTS], od, oh, ow)
    give_reals(base(o[PARTS], n, c, REAL_SIZE) + s * f[OUTPUTS] * REAL_SIZE, at, best)
    address = base(o[WORK], n, c, PLACE_SIZE) + s * f[OUTPUTS] * PLACE_SIZE
    for j in range(LANES):
        write_place(address, madd(ix(j), ix(o[WORK][2]), spot(o[WORK], od, oh, ow)), where[j])


def join(f, o, n, c, od, oh, ow, best, where, v):
    """The best of the parts: of equal ones the first in the plane, of NaN the last."""
    at, to = spot(o[PARTS], od, oh, ow), spot(o[WORK], od, oh, ow)
    for s in range(f[SEGMENTS]):
        take_reals(base(o[PARTS], n, c, REAL_SIZE) + s * f[OUTPUTS] * REAL_SIZE, at, v)
        address = base(o[WORK], n, c, PLACE_SIZE) + s * f[OUTPUTS] * PLACE_SIZE
        for j in range(LANES):
            here = read_place(address, madd(ix(j), ix(o[WORK][2]), to))
            if here >= 0 and before(v[j], here, best[j], where[j]):
                best[j], where[j] = v[j], here


def before(v, here, best, where):
    """Whether an element of one part is chosen over that of another."""
    if v != v:
        return best == best or here > where
    return better(v, best) or (v == best and here < where)


def index_gather(f, o, i, z):
    """The gradient of a task: g of the windows that name its element."""
    n, c, d, h, w = input_of(f, i, z)
    g, out = lanes(), lanes()
    here = madd(madd(d, ix(f[H]), h), ix(f[W]), w)
    for j in range(LANES):
        out[j] = real(0)
    w_from, w_to = cover(f[W_COVER], w, f[W])
    grad, index, step = base(o[Y], n, c, SIZE), base(o[INDEX], n, c, INDEX_SIZE), ix(o[INDEX][2])
    for a in range(*cover(f[D_COVER], d, f[D])):
        od = ix(read_int(f[D_LIST], ix(a)))
        for b in range(*cover(f[H_COVER], h, f[H])):
            oh = ix(read_int(f[H_LIST], ix(b)))
            for t in range(w_from, w_to):
                ow = ix(read_int(f[W_LIST], ix(t)))
                take(grad, spot(o[Y], od, oh, ow), g)
                at = spot(o[INDEX], od, oh, ow)
                for j in range(LANES):
                    if read_index(index, madd(ix(j), step, at)) == here:
                        out[j] += g[j]
    give(base(o[GRAD_X], n, c, SIZE), spot(o[GRAD_X], d, h, w), out)


def index_scatter(f, o, i, z):
    """A slice of a plane that is 0 but where indices put values: item i is the slice."""
    n, c = plane_of(f, z)
    size = f[D] * f[H] * f[W]
    lo, hi = i * size // f[SLICES], (np.int64(i) + 1) * size // f[SLICES]
    target, values, index = base(o[GRAD_X], n, c, SIZE), base(o[Y], n, c, SIZE), base(o[INDEX], n, c, INDEX_SIZE)
    for k in range(lo, hi):
        store(target, slot(f, o, k), real(0))
    for od in range(f[OD]):
        for oh in range(f[OH]):
            for ow in range(f[OW]):
                k = np.int64(read_index(index, spot(o[INDEX], ix(od), ix(oh), ix(ow))))
                if lo <= k < hi:
                    v, at = load(values, spot(o[Y], ix(od), ix(oh), ix(ow))), slot(f, o, k)
                    store(target, at, reload(target, at) + v if ADDING else v)


def slot(f, o, k):
    """Where element k of a plane lies, counted in row-major order."""
    row = quotient(ix(k), ix(f[W]))
    d = quotient(row, ix(f[H]))
    return spot(o[GRAD_X], d, ix(row - madd(d, ix(f[H]), ix(0))), ix(ix(k) - madd(row, ix(f[W]), ix(0))))


def index_read(f, o, i, z):
    """y of a task: the elements of x that indices name; 0 for an index that is no place of the plane."""
    n, c, od, oh, ow = output_of(f, i, z)
    k = np.int64(read_index(base(o[INDEX], n, c, INDEX_SIZE), spot(o[INDEX], od, oh, ow)))
    v = real(0)
    if 0 <= k < f[D] * f[H] * f[W]:
        row = quotient(ix(k), ix(f[W]))
        d = quotient(row, ix(f[H]))
        at = spot(o[X], d, ix(row - madd(d, ix(f[H]), ix(0))), ix(ix(k) - madd(row, ix(f[W]), ix(0))))
        v = load(base(o[X], n, c, SIZE), at)
    store(base(o[Y], n, c, SIZE), spot(o[Y], od, oh, ow), v)


# ---------------------------------------------------------------- vote

def votes_for(f, x, at_x, box, value):
    """How many elements of a window equal one."""
    votes = 0
    for a in range(box[3]):
        for b in range(box[4]):
            at = spot(x, madd(ix(a), ix(f[D_STEP]), box[0]), madd(ix(b), ix(f[H_STEP]), box[1]), box[2])
            for t in range(box[5]):
                if load(at_x, madd(madd(ix(t), ix(f[W_STEP]), ix(0)), ix(x[5]), at)) == value:
                    votes += 1
    return votes


def vote_forward(f, o, i, z):
    """y of a task, or the place of its element, or both: the most frequent, of equally frequent ones the least, of equal ones the first."""
    n, c, od, oh, ow = output_of(f, i, z)
    x, at_x, box = o[X], base(o[X], n, c, SIZE), window_of(f, n, c, od, oh, ow)
    best, where, most = load(at_x, spot(x, box[0], box[1], box[2])), place(f, box), 0
    for a in range(box[3]):
        d = madd(ix(a), ix(f[D_STEP]), box[0])
        for b in range(box[4]):
            h = madd(ix(b), ix(f[H_STEP]), box[1])
            at, here = spot(x, d, h, box[2]), madd(madd(d, ix(f[H]), h), ix(f[W]), box[2])
            for t in range(box[5]):
                w = madd(ix(t), ix(f[W_STEP]), ix(0))
                v = load(at_x, madd(w, ix(x[5]), at))
                votes = votes_for(f, x, at_x, box, v)
                if v != v or (best == best and (votes > most or (votes == most and v < best))):
                    best, where, most = v, ix(here + w), votes
    if VALUES:
        store(base(o[Y], n, c, SIZE), spot(o[Y], od, oh, ow), best)
    if INDEXED:
        write_index(base(o[INDEX], n, c, INDEX_SIZE), spot(o[INDEX], od, oh, ow), where)


# ---------------------------------------------------------------- draw

def uniform(f, o, n, c, od, oh, ow):
    """The uniform number of an output: given, or the generator's at its plane and position."""
    if SAMPLED:
        return read_real(base(o[PARAM], n, c, REAL_SIZE), spot(o[PARAM], od, oh, ow))
    q = (np.int64(od) * f[OH] + oh) * f[OW] + ow
    words = philox(np.uint64(f[SEED]), np.uint64(q >> 2), np.uint64(n * f[C] + c))
    k = q & 3
    return fraction(words[0] if k == 0 else words[1] if k == 1 else words[2] if k == 2 else words[3])


def draw_forward(f, o, i, z):
    """y of a task, or the place of its element, or both: the first whose running sum of chances reaches u times their sum."""
    n, c, od, oh, ow = output_of(f, i, z)
    x, at_x, box = o[X], base(o[X], n, c, SIZE), window_of(f, n, c, od, oh, ow)
    total = goal = real(0)
    best, where = load(at_x, spot(x, box[0], box[1], box[2])), place(f, box)
    for turn in range(2):
        if turn == 1:
            goal = threshold(total, uniform(f, o, n, c, od, oh, ow))
            total = real(0)
        for a in range(box[3]):
            d = madd(ix(a), ix(f[D_STEP]), box[0])
            for b in range(box[4]):
                h = madd(ix(b), ix(f[H_STEP]), box[1])
                at, here = spot(x, d, h, box[2]), madd(madd(d, ix(f[H]), h), ix(f[W]), box[2])
                for t in range(box[5]):
                    w = madd(ix(t), ix(f[W_STEP]), ix(0))
                    v = load(at_x, madd(w, ix(x[5]), at))
                    s = chance(v)
                    if turn == 1 and ((total < goal and total + s >= goal) or s != s):
                        best, where = v, ix(here + w)
                    total += s
    if VALUES:
        store(base(o[Y], n, c, SIZE), spot(o[Y], od, oh, ow), best)
    if INDEXED:
        write_index(base(o[INDEX], n, c, INDEX_SIZE), spot(o[INDEX], od, oh, ow), where)


def draw_ranked(f, o, i, z):
    """The same for an element drawn by its rank; the last NaN wins."""
    n, c, od, oh, ow = output_of(f, i, z)
    x, at_x, box = o[X], base(o[X], n, c, SIZE), window_of(f, n, c, od, oh, ow)
    goal = drawn_rank(uniform(f, o, n, c, od, oh, ow), box[3] * box[4] * box[5], *numbers(f))
    best, where = load(at_x, spot(x, box[0], box[1], box[2])), place(f, box)
    for a in range(box[3]):
        d = madd(ix(a), ix(f[D_STEP]), box[0])
        for b in range(box[4]):
            h = madd(ix(b), ix(f[H_STEP]), box[1])
            at, here = spot(x, d, h, box[2]), madd(madd(d, ix(f[H]), h), ix(f[W]), box[2])
            for t in range(box[5]):
                w = madd(ix(t), ix(f[W_STEP]), ix(0))
                v = load(at_x, madd(w, ix(x[5]), at))
                if v != v or (best == best and rank_of(f, x, at_x, box, v, a, b, t) == goal):
                    best, where = v, ix(here + w)
    if VALUES:
        store(base(o[Y], n, c, SIZE), spot(o[Y], od, oh, ow), best)
    if INDEXED:
        write_index(base(o[INDEX], n, c, INDEX_SIZE), spot(o[INDEX], od, oh, ow), where)
