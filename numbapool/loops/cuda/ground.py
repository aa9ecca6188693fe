"""What every GPU loop stands on: where a task is, what its window holds, lanes.

`stamp` binds the free names: a formula (start, step, ...), a dtype (load, store, real, exp, ...), and the device (read_int, madd, quotient, ...):
CUDA's intrinsics, or the same in plain Numba for tests without a GPU.  LANES is how many elements a task has side by side: channels in
channels-last memory, else one.  Places inside a plane are of type `ix`, 32 bits wide but for planes of 2^31 elements.

Legend: f header, o operands (layout.py); i item, z plane; n, c, d, h, w an element; od, oh, ow an output; v, u the lanes of x and of the logits;
box = (d, h, w, count of d, of h, of w) a window's first element and its elements inside the input.
"""
from __future__ import annotations

from .layout import *  # noqa: F403


def place_of(f, i, z, across, down):
    """(n, c, d, h, w) of the first element of item i of plane z, in a plane with rows of `across` elements and `down` rows."""
    groups = ix(f[GROUPS])
    line = quotient(i, groups)
    lane = madd(ix(i - madd(line, groups, ix(0))), ix(LANES), ix(0))
    if CHANNEL:
        n, c, row = z, np.int64(lane), quotient(line, across)
        w = ix(line - madd(row, across, ix(0)))
    else:
        n, c = plane_of(f, z)
        row, w = line, lane
    d = quotient(row, down)
    return n, c, d, ix(row - madd(d, down, ix(0))), w


def plane_of(f, z):
    """(n, c) of a plane."""
    n = np.int64(quotient(ix(z), ix(f[C])))
    return n, z - n * f[C]


def output_of(f, i, z):
    """The output of a task."""
    return place_of(f, i, z, ix(f[OW]), ix(f[OH]))


def input_of(f, i, z):
    """The input element of a task."""
    return place_of(f, i, z, ix(f[W]), ix(f[H]))


def base(a, n, c, size):
    """The address of the first element of a plane of an operand with elements of `size` bytes."""
    return a[0] + (n * a[1] + c * a[2]) * size


def spot(a, d, h, w):
    """How far an element is from the first of its plane."""
    return madd(d, ix(a[3]), madd(h, ix(a[4]), madd(w, ix(a[5]), ix(0))))


def window_of(f, n, c, od, oh, ow):
    """The box of a window."""
    p = n * f[C] + c if PER_PLANE else 0
    return (ix(read_int(f[D_FIRST] + p * f[D_PLANE], od)), ix(read_int(f[H_FIRST] + p * f[H_PLANE], oh)),
            ix(read_int(f[W_FIRST] + p * f[W_PLANE], ow)),
            read_int(f[D_COUNT], od), read_int(f[H_COUNT], oh), read_int(f[W_COUNT], ow))


def share_of(f, od, oh, ow):
    """The divisor of a window."""
    if UNIFORM:
        return real(f[SHARE])
    return real(np.int64(read_int(f[D_SHARE], od)) * np.int64(read_int(f[H_SHARE], oh)) * np.int64(read_int(f[W_SHARE], ow)))


def read_parameters(o, n, c, d, h, w, p):
    """The array parameters of the lanes of an output."""
    for k in range(PARAMETERS):
        a = o[PARAM] if k == 0 else o[PARAM2]
        first, at = base(a, n, c, REAL_SIZE), spot(a, d, h, w)
        for j in range(LANES):
            p[k * LANES + j] = read_real(first, ix(at + ix(j) * ix(a[2])))


def parameters0(o, n, c, d, h, w):
    """No array parameter."""
    return ()


def parameters1(o, n, c, d, h, w):
    """The array parameter of one output."""
    return (read_real(base(o[PARAM], n, c, REAL_SIZE), spot(o[PARAM], d, h, w)),)


def parameters2(o, n, c, d, h, w):
    """Two of them."""
    return read_real(base(o[PARAM], n, c, REAL_SIZE), spot(o[PARAM], d, h, w)), read_real(base(o[PARAM2], n, c, REAL_SIZE), spot(o[PARAM2], d, h, w))


def cover(table, i, size):
    """From where to where the outputs that cover input i of `size` stand in their list."""
    return read_int(table, i), read_int(table + size * 4, i)


def part_of(f, i):
    """The task, and the part of its windows, of item i of a kernel whose windows are cut."""
    segments = ix(f[SEGMENTS])
    if CHANNEL:  # neighbouring items are neighbouring channels
        line = quotient(i, ix(f[GROUPS]))
        output = quotient(line, segments)
        return madd(output, ix(f[GROUPS]), ix(i - madd(line, ix(f[GROUPS]), ix(0)))), np.int64(ix(line - madd(output, segments, ix(0))))
    output = quotient(i, segments)  # neighbouring items read neighbouring elements
    return output, np.int64(ix(i - madd(output, segments, ix(0))))


def load(address, i):
    """An element, as a number."""
    return unpacked(read(address, i))


def reload(address, i):
    """An element of a result that this task has written."""
    return unpacked(read_again(address, i))


def store(address, i, value):
    """Set an element of a result."""
    write(address, i, packed(value))


def take(address, i, v):
    """LANES elements side by side."""
    raw = raw_lanes()
    read_vector(address, i, raw)
    for j in range(LANES):
        v[j] = unpacked(raw[j])


def give(address, i, v):
    """Store LANES elements side by side."""
    raw = raw_lanes()
    for j in range(LANES):
        raw[j] = packed(v[j])
    write_vector(address, i, raw)


def take_span(f, address, at, w0, v, cells, missing):
    """The SPAN elements of a row from w0 on; those from w0 + LEFT on in vectors, which begin at multiples of LANES."""
    for k in range(LEFT):
        w = ix(w0 + ix(k))
        cells[k] = load(address, ix(at + w)) if 0 <= w < ix(f[W]) else missing
    for s in range(STRIDE):
        w = ix(w0 + ix(LEFT + s * LANES))
        if w < ix(f[W]):
            take(address, ix(at + w), v)
        else:
            for j in range(LANES):
                v[j] = missing
        for j in range(LANES):
            cells[LEFT + s * LANES + j] = v[j]
    for k in range(LEFT + STRIDE * LANES, SPAN):
        w = ix(w0 + ix(k))
        cells[k] = load(address, ix(at + w)) if w < ix(f[W]) else missing


def give_strip(f, address, at, ow, v):
    """Store those of LANES outputs that there are."""
    if WHOLE:
        give(address, at, v)
    else:
        for j in range(LANES):
            if ix(ow + ix(j)) < ix(f[OW]):
                store(address, ix(at + ix(j)), v[j])


def nothing(address, i, v):
    """There is no second operand or result."""


def no_span(f, address, at, w0, v, cells, missing):
    """There is no second operand."""


def no_load(address, i):
    """There is no second operand."""
    return real(0)


def unpacked_bfloat(bits):
    """A bfloat16 is the upper half of a float32."""
    return from_bits32(np.int32(np.uint32(bits) << np.uint32(16)))
