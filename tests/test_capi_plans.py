"""The C library's planners against numbapool's own: windows, and every integer of every plan."""
from __future__ import annotations

import ctypes
import shutil
import subprocess
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_double, c_int, c_int64, c_size_t
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capi import header, layout
from numbapool import choices, plan, sweeps, weigh, windows
from numbapool.fields import PAD_MODES
from numbapool.loops import layout as at
from numbapool.memory import CELLS, LANES
from numbapool.pools.blur import MODES
from numbapool.windows import MISSING, fake_axis

CAPI = Path(layout.__file__).parent
SOURCES = [CAPI / "src" / f"{name}.c" for name in ("windows", "plan", "sweeps", "choices", "weigh", "memory")] + [CAPI / "tests" / "plans.c"]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion"]
SHAPES = [None, "planes", "quad", "nine", "three", "short", "own", "whole", "eight", "separate"]  # internal.h's enum
RULES = ["padded", "inside", "one"]
VALUE_ERROR = 1
PARTS = "rows", "planes", "work", "taps", "left"  # of a plan, what its caller must know
Words = POINTER(c_int64)


# ---------------------------------------------------------------- internal.h's structures

class CAxis(Structure):
    _fields_ = [("outputs", c_int64), ("planes", c_int64), ("first", Words), ("count", Words), ("share", Words), ("step", c_int64),
                ("regular", c_bool), ("origin", c_int64), ("stride", c_int64), ("kernel", c_int64)]


class CGeometry(Structure):
    _fields_ = [("dims", c_int64 * 5), ("axes", CAxis * 3), ("has", c_bool * at.OPERANDS), ("strides", c_int64 * 5 * at.OPERANDS),
                ("channel_lanes", c_bool)]


class CPlan(Structure):
    _fields_ = [("integers", Words), ("size", c_int64), ("rows", c_int64), ("planes", c_int64), ("work", c_int64), ("taps", c_int64),
                ("left", c_int64)]


class CExtra(Structure):
    _fields_ = [("field", c_int), ("number", c_int64), ("table", Words), ("size", c_int64)]


class CWeighing(Structure):
    _fields_ = [("integers", Words), ("size", c_int64), ("work", c_int64)]


def words(table):
    return table.ctypes.data_as(Words)


def table_of(pointer, size):
    return np.array(pointer[:size], np.int64)


def c_axis(axis):
    """A structure whose pointers lead to the tables of an axis, which must outlive it."""
    grid = axis.grid or (0, 0, 0)
    planes = axis.first.shape[0] if axis.first.ndim == 2 else 0
    return CAxis(axis.count.size, planes, words(axis.first), words(axis.count), words(axis.share), axis.step, axis.grid is not None, *grid)


def c_geometry(dims, axes, operands, lanes):
    g = CGeometry((c_int64 * 5)(*dims), (CAxis * 3)(*map(c_axis, axes)), channel_lanes=lanes)
    for k, strides in operands:
        g.has[k] = True
        g.strides[k][:] = strides
    return g


def same_axis(found, axis):
    """The tables of a structure are those of an axis."""
    planes = axis.first.shape[0] if axis.first.ndim == 2 else 0
    assert (found.outputs, found.planes, found.step, found.regular) == (axis.count.size, planes, axis.step, axis.grid is not None)
    assert axis.grid is None or (found.origin, found.stride, found.kernel) == axis.grid
    for mine, table in ((found.first, axis.first), (found.count, axis.count), (found.share, axis.share)):
        assert np.array_equal(table_of(mine, table.size), table.ravel())


def same_plan(found, expected):
    """Every integer, and what the caller must know."""
    assert [getattr(found, n) for n in PARTS] == [getattr(expected, n) for n in PARTS]
    integers = table_of(found.integers, found.size)
    assert integers.size == expected.integers.size
    differ = np.flatnonzero(integers != expected.integers)
    assert not differ.size, [(int(i), int(integers[i]), int(expected.integers[i])) for i in differ[:9]]


@pytest.fixture(scope="session")
def c(tmp_path_factory):
    """The planners, compiled."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("plans")
    (folder / "layout.h").write_text(layout.header())
    (folder / "numbapool.h").write_text(header.text())
    made = folder / "plans.so"
    subprocess.run([compiler, "-std=c11", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", *WARNINGS, f"-I{folder}", f"-I{CAPI / 'src'}", "-o", made,
                    *SOURCES], check=True)
    library = ctypes.CDLL(str(made))
    library.size_of.restype = c_size_t
    library.numbapool_error_message.restype = c_char_p
    assert [library.size_of(i) for i in range(4)] == [ctypes.sizeof(s) for s in (CAxis, CGeometry, CPlan, CExtra)]
    numbers = {"missing": 0, "sliding": 8, "adaptive": 3, "shared": 1}
    for name, n in numbers.items():
        getattr(library, f"axis_{name}").argtypes = [POINTER(CAxis), *[c_int64] * n]
    library.axis_sliding.argtypes = [POINTER(CAxis), *[c_int64] * 6, c_int, c_int]
    library.axis_adaptive.argtypes = [POINTER(CAxis), c_int64, c_int64, c_int]
    library.axis_spans.argtypes = [POINTER(CAxis), Words, c_int64, c_int64, c_int]
    library.axis_at.argtypes = [POINTER(CAxis), Words, *[c_int64] * 3]
    library.axis_fractional.argtypes = [POINTER(CAxis), *[c_int64] * 3, POINTER(c_double), c_int64, c_int]
    library.padding.argtypes = [*[c_int64] * 4, c_int, Words]
    library.plan_of_general.argtypes = [POINTER(CPlan), POINTER(CGeometry), c_int64, *[c_int] * 4, POINTER(CExtra), c_int]
    library.plan_of_choices.argtypes = [POINTER(CPlan), POINTER(c_int), POINTER(CGeometry), c_int64, *[c_int] * 4]
    library.plan_of_weighing.argtypes = [POINTER(CWeighing), POINTER(CAxis), Words, POINTER(c_int), *[c_int] * 2, c_int64, *[Words] * 3, c_int64]
    return library


# ---------------------------------------------------------------- windows

often = settings(max_examples=300, deadline=None, derandomize=True, database=None)
sizes = st.integers(1, 40) | st.sampled_from([129, 1000, 2003])
SLIDING = st.tuples(sizes, st.integers(1, 9), st.integers(1, 12), st.integers(0, 30), st.integers(0, 30), st.integers(1, 6), st.booleans(),
                    st.sampled_from(RULES))


def check_sliding(c, *arguments):
    found, (*numbers, rule) = CAxis(), arguments
    status = c.axis_sliding(byref(found), *numbers, RULES.index(rule))
    try:
        expected = windows.sliding(*arguments)
    except ValueError as error:
        assert (status, c.numbapool_error_message().decode()) == (VALUE_ERROR, f"plans: {error}")
    else:
        assert status == 0
        same_axis(found, expected)


@often
@given(arguments=SLIDING)
def test_sliding(c, arguments):
    check_sliding(c, *arguments)


@pytest.mark.parametrize("arguments", [
    (0, 3, 1, 1, 1, 1, False), (0, 1, 1, 0, 0, 1, False),  # nothing to pool
    (3, 5, 3, 0, 0, 1, True), (5, 2, 3, 0, 0, 1, True), (6, 3, 2, 1, 1, 1, True),  # windows that hang over the end
    (1, 3, 1, 2, 2, 2, False),  # dilation steps over the input
    (3, 2, 1, 9, 9, 1, False), (4, 2, 3, 1, 40, 1, True), (2, 7, 1, 18, 18, 3, False),  # windows outside of the input
    (7, 2**31 - 1, 2**31 - 1, 2**31 - 8, 0, 1, False), (9, 2**31 - 1, 1, 0, 0, 2**31 - 1, True),  # numbers near the limit
    (1, 2**31 - 1, 2**31 - 1, 2**31 - 2, 2**31 - 1, 1, True), (2**41, 1, 1, 0, 0, 1, False), (5000, 3000, 7, 1, 1, 1, False),
], ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_sliding_at_the_edge(c, arguments, rule):
    check_sliding(c, *arguments, rule)


@often
@given(size=sizes, outputs=st.integers(1, 50), rule=st.sampled_from(RULES))
def test_adaptive(c, size, outputs, rule):
    found = CAxis()
    assert c.axis_adaptive(byref(found), size, outputs, RULES.index(rule)) == 0
    same_axis(found, windows.adaptive(size, outputs, rule))


def test_adaptive_of_long_axes(c):
    found = CAxis()
    for size, outputs in ((2**31 - 1, 77), (2**31 - 1, 10007), (10007, 2**17), (5040, 2520)):
        assert c.axis_adaptive(byref(found), size, outputs, 1) == 0
        same_axis(found, windows.adaptive(size, outputs))


@often
@given(size=sizes, data=st.data(), overlapping=st.booleans())
def test_spans(c, size, data, overlapping):
    sequence = np.array(sorted(data.draw(st.sets(st.integers(0, size), max_size=9)) | {0, size}))
    found = CAxis()
    assert c.axis_spans(byref(found), words(sequence), sequence.size - 1, size, overlapping) == 0
    same_axis(found, windows.spans(sequence, size, overlapping))


@often
@given(data=st.data(), size=sizes, kind=st.sampled_from([np.float32, np.float64]), planes=st.integers(0, 5), seed=st.integers(0, 2**32 - 1))
def test_fractional(c, data, size, kind, planes, seed):
    kernel = data.draw(st.integers(1, size))
    outputs = data.draw(st.integers(1, size - kernel + 1))
    u = np.random.default_rng(seed).random(planes)
    found = CAxis()
    assert c.axis_fractional(byref(found), size, kernel, outputs, u.ctypes.data_as(POINTER(c_double)), planes, kind is np.float32) == 0
    same_axis(found, windows.fractional(size, kernel, outputs, u.astype(kind)))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_fractional_of_long_axes(c, kind):
    """Beyond 2**24, where a float no longer holds every integer."""
    u, found = np.random.default_rng(1).random(2), CAxis()
    assert c.axis_fractional(byref(found), 2**25 + 7, 3, 2**18 + 1, u.ctypes.data_as(POINTER(c_double)), 2, kind is np.float32) == 0
    same_axis(found, windows.fractional(2**25 + 7, 3, 2**18 + 1, u.astype(kind)))


def test_windows_at(c):
    found = CAxis()
    for first in (np.array([4, 0, 2]), np.arange(6).reshape(2, 3)):
        planes = first.shape[0] if first.ndim == 2 else 0
        assert c.axis_at(byref(found), words(first), planes, 3, 5) == 0
        same_axis(found, windows.at(first, 5))


def test_missing(c):
    found = CAxis()
    assert c.axis_missing(byref(found)) == 0
    same_axis(found, MISSING)


def test_shared(c):
    axis = windows.sliding(9, 3, 2, 1, 1, 1, False, "padded")
    found = c_axis(axis)
    assert c.axis_shared(byref(found), -7) == 0
    same_axis(found, axis.shared(-7))
    assert axis.share.tolist() == [3] * 5  # the old table is as it was


@often
@given(size=st.integers(0, 50), kernel=st.integers(1, 9), stride=st.integers(1, 9), dilation=st.integers(1, 4))
def test_padding(c, size, kernel, stride, dilation):
    both = (c_int64 * 2)()
    for mode, name in ((1, "same"), (2, "same_lower")):
        c.padding(size, kernel, stride, dilation, mode, both)
        assert tuple(both) == windows.padding_of(size, kernel, stride, dilation, name)
    both[:] = 3, 4
    c.padding(size, kernel, stride, dilation, 0, both)
    assert tuple(both) == (3, 4)


# ---------------------------------------------------------------- calls

def sliding_or_spans(size, *arguments):
    """Sliding windows where they suit the size, else equal spans."""
    try:
        return windows.sliding(size, *arguments)
    except ValueError:
        return windows.adaptive(size, min(size, 3))


NEAR = st.sampled_from([(2, 2, 0, 0), (2, 2, 1, 1), (3, 1, 1, 1), (3, 2, 1, 1), (3, 2, 0, 0), (3, 3, 0, 0), (1, 1, 0, 0), (2, 1, 0, 1), (1, 2, 0, 0)])


KINDS = ["near", "sliding", "sliding", "adaptive", "adaptive", "same", "global", "spans", "at", "fractional"]


@st.composite
def axes_over(draw, size, planes, kinds):
    """Windows over `size` elements."""
    kind = draw(st.sampled_from(kinds))
    rule = draw(st.sampled_from(RULES))
    if kind == "near":
        return sliding_or_spans(size, *draw(NEAR), draw(st.sampled_from([1, 1, 1, 2])), draw(st.booleans()), rule)
    if kind == "sliding":
        kernel, stride, step = draw(st.integers(1, 9) | st.sampled_from([size, size // 2 + 1])), draw(st.integers(1, 9)), draw(st.integers(1, 3))
        before, after = (draw(st.integers(0, step * (kernel - 1))) for _ in range(2))
        return sliding_or_spans(size, kernel, stride, before, after, step, draw(st.booleans()), rule)
    if kind == "adaptive":
        return windows.adaptive(size, draw(st.integers(1, min(size + 2, 40)) | st.just(size // 2 + 1)), rule)
    if kind in ("same", "global"):
        return windows.adaptive(size, size if kind == "same" else 1, rule)
    kernel = draw(st.integers(1, min(size, 17)))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    if kind == "spans":
        inner = random.choice(np.arange(1, size + 1), draw(st.integers(0, min(size, 30))), replace=False).tolist()
        return windows.spans(np.array(sorted({0, size, *inner})), size, draw(st.booleans()))
    if kind == "at" or not planes:
        return windows.at(random.integers(size - kernel + 1, size=draw(st.integers(1, 9))), kernel)
    return windows.fractional(size, kernel, draw(st.integers(1, min(size - kernel + 1, 30))), random.random(planes))


def distances(draw, dims, last):
    """Strides of dense memory, or of any; those of size 1 are free."""
    strides = plan.dense(dims, last)
    how = draw(st.sampled_from(["dense"] * 5 + ["free", "wide", "single"]))
    if how == "single":
        return tuple(0 if n == 1 else s for n, s in zip(dims, strides, strict=True))
    if how == "wide":
        return tuple(2 * s for s in strides)
    return strides if how == "dense" else tuple(draw(st.lists(st.integers(-9, 99), min_size=5, max_size=5)))


def broadcast(draw, dims):
    """The distances of a parameter: one number, one a channel, one a position, or one each."""
    channel, position = draw(st.booleans()), draw(st.sampled_from([False, False, True]))
    _, c, *size = dims
    full = plan.dense((1, c if channel else 1, *(size if position else (1, 1, 1))), False)
    return (0, full[1] if channel else 0, *(full[2:] if position else (0, 0, 0)))


LENGTHS = {1: st.integers(1, 200), 2: st.integers(1, 60), 3: st.integers(1, 12)}
LONG = st.sampled_from([511, 1872, 1873, 2000, 2003, 4096, 5000])
OPERANDS = [(at.X, at.Y), (at.X, at.Y), (at.X, at.LOGIT, at.Y), (at.X, at.Y, at.INDEX), (at.X, at.Y, at.PARAM), (at.X, at.Y, at.PARAM, at.PARAM2),
            (at.X, at.Y, at.GRAD_PARAM)]


@st.composite
def calls(draw, kinds):
    """(dims, axes, operands, lanes), as planners take them."""
    rank = draw(st.integers(1, 3))
    n, channels = draw(st.sampled_from([1, 2, 3, 1, 2, 3, 1, 2, 3, 0])), draw(st.sampled_from([1, 2, 3, 5, 17, 40, 130, 200]))
    long = draw(st.sampled_from([False, False, False, True]))
    spatial = [draw(LONG if long and i == rank - 1 else LENGTHS[rank]) for i in range(rank)]
    axes = (MISSING,) * (3 - rank) + tuple(draw(axes_over(size, n * channels, kinds)) for size in spatial)
    if draw(st.sampled_from([False, False, False, True])):
        axes = (axes[0].shared(draw(st.sampled_from([1, 5, -3]))), axes[1].shared(1), axes[2].shared(1))
    dims = (n, channels, *(1,) * (3 - rank), *spatial)
    out = (n, channels, *(a.count.size for a in axes))
    lanes = draw(st.booleans()) and not any(a.first.ndim == 2 for a in axes)
    operands = tuple((k, broadcast(draw, out) if k in (at.PARAM, at.PARAM2) else distances(draw, dims if k in (at.X, at.LOGIT) else out, lanes))
                     for k in draw(st.sampled_from(OPERANDS)))
    return dims, axes, operands, lanes


def check_general(c, call, width=LANES, last=None, scratch=0, itemsize=4, ranks=0):
    """plan.build; ranks: with the fields of order's kernels."""
    row = np.arange(ranks + 1)
    extra = ((at.RANKS, ranks), (at.RANK_ROW, row), (at.RANK_CHANNEL, 7 * ranks)) if ranks else ()
    extras = (CExtra * 3)(*(CExtra(f, 0, words(v), v.size) if f == at.RANK_ROW else CExtra(f, v, None, 0) for f, v in extra))
    made, gradient = CPlan(), -1 if last is None else int(last)
    assert c.plan_of_general(byref(made), byref(c_geometry(*call)), width, gradient, scratch, itemsize, bool(ranks), extras, len(extra)) == 0
    same_plan(made, plan.build(*call, width, last, scratch, itemsize, bool(ranks), extra))


def check_small(c, call, backward, lifts=1, terms=1, itemsize=4, last=False, past=False):
    """sweeps.small, and the plan of what it names; returns that."""
    g = c_geometry(*call)
    shape = sweeps.small(*call, backward)
    assert SHAPES[c.shape_of_small(byref(g), backward)] == shape
    made = CPlan()
    if shape == "three":
        terms = terms if backward else 0
        assert c.plan_of_three(byref(made), byref(g), lifts, terms, itemsize, past) == 0
        same_plan(made, sweeps.build_three(*call[:3], lifts, terms, itemsize, past))
    elif shape:
        assert c.plan_of_small(byref(made), byref(g), int(last) if backward else -1, past) == 0
        same_plan(made, sweeps.build_small(*call, last if backward else None, past))
    return shape


def check_cut(c, call):
    """sweeps.cut; returns the call that it makes."""
    g = c_geometry(*call)
    assert c.geometry_cut(byref(g)) == 0
    return same_geometry(g, *sweeps.cut(*call[:3]), call[3])


def check_as_channels(c, call, gradient):
    """sweeps.as_channels; returns the call that it makes, or None."""
    g, lanes = c_geometry(*call), call[3]
    assert c.geometry_as_channels(byref(g), gradient) == 0
    seen = sweeps.as_channels(*call[:3], gradient) if lanes else None
    made = same_geometry(g, *(seen or call[:3]), lanes and seen is None)
    assert bool(g.channel_lanes) == made[3]
    return made if seen else None


def same_geometry(g, dims, axes, operands, lanes):
    """What a geometry has become; returns the call that it is."""
    assert tuple(g.dims) == dims
    assert [k for k in range(at.OPERANDS) if g.has[k]] == sorted(k for k, _ in operands)
    assert all(tuple(g.strides[k]) == strides for k, strides in operands)
    for found, axis in zip(g.axes, axes, strict=True):
        same_axis(found, axis)
    return dims, axes, operands, lanes


def check_straight(c, call):
    g = c_geometry(*call)
    for _, strides in call[2]:
        assert bool(c.is_straight(byref(g), (c_int64 * 5)(*strides))) == sweeps.straight(call[0], strides, call[3])


def check_sweep(c, call, lifts, terms, itemsize=4, last=None, past=False):
    """sweeps.build; returns whether there is a plan."""
    made = CPlan()
    assert c.plan_of_sweep(byref(made), byref(c_geometry(*call)), lifts, terms, itemsize, -1 if last is None else int(last), past) == 0
    expected = sweeps.build(*call, lifts, terms, itemsize, last, past)
    assert (made.size > 0) == (expected is not None)
    if expected:
        same_plan(made, expected)
    return expected is not None


def check_choices(c, call, width=LANES, last=None, scratch=0, itemsize=4, past=False):
    """choices.build; returns the shape."""
    made, how = CPlan(), c_int()
    gradient = -1 if last is None else int(last)
    assert c.plan_of_choices(byref(made), byref(how), byref(c_geometry(*call)), width, gradient, scratch, itemsize, past) == 0
    shape, expected = choices.build(*call, width, last, scratch, itemsize, past)
    assert SHAPES[how.value] == shape
    same_plan(made, expected)
    return shape


ORDERS = st.sampled_from([None, False, True])
ITEMS = st.sampled_from([4, 8])
WIDTHS = st.sampled_from([LANES, LANES, 16, 33])
SCRATCH = st.sampled_from([0, 0, 1, 2])


def check_all(c, call, data):
    """Every planner on one call."""
    width, last, scratch, itemsize, past = (data.draw(s) for s in (WIDTHS, ORDERS, SCRATCH, ITEMS, st.booleans()))
    lifts, terms = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 2))
    check_straight(c, call)
    check_general(c, call, width, last, scratch, itemsize, data.draw(st.sampled_from([0, 5])))
    check_small(c, call, last is not None, max(lifts, 1), terms, itemsize, bool(last), past)
    check_small(c, check_cut(c, call), False, 1, 0, itemsize, False, past)
    check_sweep(c, call, lifts, 0 if last is None else terms, itemsize, last, past)
    seen = check_as_channels(c, call, last is not None)
    if seen:
        check_sweep(c, seen, lifts, 0 if last is None else terms, itemsize, False, past)
    if not (prod(call[0]) == 0 and any(a.first.ndim == 2 for a in call[1])):
        check_choices(c, call, width, last, scratch, itemsize, past)


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(call=calls(KINDS) | calls(["near", "near", "same"]) | calls(["global", "same"]), data=st.data())
def test_plans(c, call, data):
    check_all(c, call, data)


@pytest.mark.full
@settings(max_examples=20000, deadline=None, database=None)
@given(call=calls(KINDS) | calls(["near", "near", "same"]) | calls(["global", "same"]), data=st.data())
def test_many_plans(c, call, data):
    check_all(c, call, data)


# ---------------------------------------------------------------- calls that hypothesis seldom draws

def call_of(dims, *axes, last=False, lanes=False, more=()):
    """A call over dense memory."""
    axes = (MISSING,) * (3 - len(axes)) + axes
    out = (*dims[:2], *(a.count.size for a in axes))
    return dims, axes, ((at.X, plan.dense(dims, last)), (at.Y, plan.dense(out, last)), *more), lanes


def window(size, kernel, stride, before=0, step=1, ceil_mode=False, rule="padded"):
    return windows.sliding(size, kernel, stride, before, before, step, ceil_mode, rule)


LISTED = {
    "2x2": call_of((2, 3, 1, 14, 18), window(14, 2, 2), window(18, 2, 2)),
    "2x2 lanes": call_of((2, 64, 1, 14, 18), window(14, 2, 2), window(18, 2, 2), last=True, lanes=True),
    "2x2 of odd size": call_of((2, 3, 1, 15, 19), window(15, 2, 2), window(19, 2, 2)),
    "2x2 side by side at 1": call_of((2, 64, 1, 9, 9), window(9, 2, 1), window(9, 2, 1), last=True, lanes=True),
    "2x2 planes of 3d": call_of((1, 3, 4, 8, 8), window(4, 1, 1), window(8, 2, 2), window(8, 2, 2)),
    "2x2 every second plane": call_of((1, 3, 5, 8, 8), window(5, 1, 2), window(8, 2, 2), window(8, 2, 2)),
    "3x3 at 1": call_of((2, 3, 1, 20, 40), window(20, 3, 1, 1), window(40, 3, 1, 1)),
    "3x3 at 2": call_of((2, 3, 1, 21, 41), window(21, 3, 2, 1), window(41, 3, 2, 1, rule="inside")),
    "3x3 dilated rows": call_of((2, 3, 1, 30, 41), window(30, 3, 3, 1, 4), window(41, 3, 2, 1)),
    "3x3 lanes": call_of((2, 48, 1, 20, 40), window(20, 3, 1, 1), window(40, 3, 2, 1), last=True, lanes=True),
    "3x3 many lanes": call_of((2, 64, 1, 20, 112), window(20, 3, 1, 1), window(112, 3, 1, 1), last=True, lanes=True),
    "3x3 long rows": call_of((2, 3, 1, 9, 9000), window(9, 3, 1, 1), window(9000, 3, 1, 1)),
    "3x3 few lanes": call_of((2, 16, 1, 14, 14), window(14, 3, 2, 1), window(14, 3, 2, 1), last=True, lanes=True),
    "3x3 few columns": call_of((2, 3, 1, 9, 9), window(9, 3, 1, 1), window(9, 3, 1, 1)),
    "global": call_of((2, 3, 1, 7, 7), windows.adaptive(7, 1), windows.adaptive(7, 1)),
    "global lanes": call_of((2, 300, 1, 7, 7), windows.adaptive(7, 1), windows.adaptive(7, 1), last=True, lanes=True),
    "global many lanes": call_of((2, 2050, 1, 5, 7), windows.adaptive(5, 1), windows.adaptive(7, 1), last=True, lanes=True),
    "global many lanes, many planes": call_of((20, 2050, 1, 5, 7), windows.adaptive(5, 1), windows.adaptive(7, 1), last=True, lanes=True),
    "global many lanes, one plane": call_of((1, 1536, 1, 5, 7), windows.adaptive(5, 1), windows.adaptive(7, 1), last=True, lanes=True),
    "global lanes of a prime number": call_of((2, 2003, 1, 5, 7), windows.adaptive(5, 1), windows.adaptive(7, 1), last=True, lanes=True),
    "global 3d": call_of((1, 2, 6, 10, 90), *(windows.adaptive(n, 1) for n in (6, 10, 90))),
    "global of prime size": call_of((1, 2, 1, 2003, 1), windows.adaptive(2003, 1), windows.adaptive(1, 1)),
    "global long row": call_of((1, 2, 1, 1, 5000), windows.adaptive(5000, 1)),
    "long row cut": call_of((2, 3, 1, 1, 6000), window(6000, 2, 2)),
    "long row not cut": call_of((2, 3, 1, 1, 2 * 3001), window(6002, 2, 2)),
    "long row dilated": call_of((2, 3, 1, 1, 5000), window(5000, 2, 4, 0, 2)),
    "long row of 3": call_of((2, 3, 1, 1, 6000), window(6000, 3, 2, 1)),
    "long windows": call_of((1, 2, 1, 1, 5000), window(5000, 3000, 700)),
    "long windows of lanes": call_of((1, 130, 1, 1, 300), window(300, 250, 7), last=True, lanes=True),
    "gaps between windows": call_of((1, 2, 1, 12, 5000), window(12, 2, 5), window(5000, 2, 900)),
    "slices that no window covers": call_of((1, 130, 1, 4, 100), window(4, 2, 2), window(100, 2, 40), last=True, lanes=True),
    "slices of one input": call_of((1, 130, 1, 4, 20), window(4, 2, 2), window(20, 8, 1), last=True, lanes=True),
    "wide kernel": call_of((1, 2, 1, 40, 50), window(40, 31, 1, 15), window(50, 31, 1, 15)),
    "tall": call_of((2, 3, 1, 20, 40), window(20, 5, 1, 2), window(40, 5, 1, 2)),
    "tall few lanes": call_of((2, 16, 1, 13, 13), window(13, 9, 1, 4), window(13, 9, 1, 4), last=True, lanes=True),
    "tall many lanes": call_of((2, 64, 1, 40, 50), window(40, 7, 1, 3), window(50, 7, 1, 3), last=True, lanes=True),
    "tall three rows apart": call_of((2, 3, 1, 40, 2500), window(40, 13, 3), window(2500, 4, 1)),
    "tall and too wide": call_of((1, 2, 1, 20, 5000), window(20, 7, 1), window(5000, 2100, 1)),
    "2x2x2": call_of((1, 3, 5, 8, 33), window(5, 2, 2), window(8, 2, 2), window(33, 2, 2)),
    "2x2x2 apart": call_of((1, 3, 9, 8, 34), window(9, 2, 3), window(8, 2, 1, 0, 2), window(34, 2, 2, 1)),
    "2x2x2 beyond the edge": call_of((1, 3, 5, 8, 33), window(5, 2, 2, 1), window(8, 2, 2), window(33, 2, 2)),
    "3d": call_of((2, 3, 8, 9, 10), window(8, 3, 2, 1), window(9, 3, 2, 1), window(10, 3, 2, 1)),
    "3d at 1": call_of((2, 3, 8, 9, 20), window(8, 3, 1, 1), window(9, 3, 1, 1), window(20, 3, 1, 1)),
    "3d at 1, of two planes": call_of((2, 3, 8, 9, 20), window(8, 2, 2), window(9, 2, 2), window(20, 2, 1)),
    "3d at 1, dilated": call_of((2, 3, 8, 9, 20), window(8, 3, 1, 1, 2), window(9, 3, 1, 1), window(20, 3, 1, 1)),
    "3d at 1, too large to be kept": call_of((1, 1, 4, 100, 300), *(window(n, 3, 1, 1) for n in (4, 100, 300))),
    "3d at 1, whose gradient lies otherwise": call_of((2, 3, 8, 8, 20), window(8, 2, 2), window(8, 2, 2), window(20, 2, 2), last=True),
    "3d deep": call_of((1, 1, 40, 40, 40), window(40, 17, 1), window(40, 17, 1), window(40, 3, 1)),
    "3d terms too many": call_of((1, 1, 256, 256, 40), window(256, 129, 1), window(256, 129, 1), window(40, 3, 1)),
    "planes kept": call_of((1, 2, 6, 30, 50), window(6, 3, 1, 1), window(30, 2, 2), window(50, 4, 2)),
    "planes kept for gradients": call_of((1, 2, 6, 30, 50), window(6, 2, 2), window(30, 4, 1), window(50, 4, 1)),
    "planes too large to be kept": call_of((1, 2, 6, 600, 200), window(6, 3, 1, 1), window(600, 3, 1, 1), window(200, 4, 1)),
    "uneven": call_of((2, 3, 1, 13, 640), windows.adaptive(13, 5), windows.adaptive(640, 101)),
    "uneven long": call_of((1, 1, 1, 7, 4999), windows.adaptive(7, 3), windows.adaptive(4999, 1201)),
    "uneven rows turned": call_of((2, 3, 1, 112, 112), windows.adaptive(112, 50), windows.adaptive(112, 50)),
    "rows turned and cut": call_of((1, 2, 1, 40, 400), window(40, 9, 1, 4), window(400, 5, 3, 1)),
    "planes turned": call_of((1, 2, 6, 30, 70), windows.adaptive(6, 4), window(30, 7, 7), window(70, 7, 7)),
    "side by side and turned": call_of((2, 3, 1, 30, 90), window(30, 2, 1), window(90, 3, 4)),
    "windows within others": call_of((1, 2, 1, 9, 40), window(9, 1, 1), windows.spans(np.array([0, 1, 9]), 40, True)),
    "places in any order, turned": call_of((1, 2, 1, 9, 60), window(9, 2, 2), windows.at(np.array([30, 7, 15, 8]), 20)),
    "planes that take turns": call_of((2, 3, 1, 30, 90), windows.adaptive(30, 9), windows.adaptive(90, 40), last=True),
    "more outputs than inputs": call_of((1, 2, 1, 5, 30), windows.adaptive(5, 9), windows.adaptive(30, 77)),
    "places in any order": call_of((1, 2, 1, 9, 3000), windows.at(np.array([5, 0, 3]), 4), windows.at(np.array([2900, 7, 1500, 8]), 20)),
    "one divisor differs": call_of((1, 2, 1, 6, 4), window(6, 3, 3, 1), windows.sliding(4, 3, 3, 1, 0, 1, True, "padded")),
    "long row, three times": call_of((1, 2, 1, 1, 5000), windows.adaptive(1, 3), window(5000, 2, 2)),
    "2x2 of every second column": ((2, 3, 1, 8, 40), (MISSING, window(8, 2, 2), window(40, 2, 2)), ((at.X, (1920, 640, 0, 80, 2)), (at.Y, (0,) * 5)),
                                   False),
    "3x3 every second plane": call_of((1, 3, 5, 8, 40), window(5, 1, 2), window(8, 3, 1, 1), window(40, 3, 1, 1)),
    "parameter of rows": call_of((1, 3, 1, 8, 40), window(8, 2, 2), window(40, 2, 2), more=((at.PARAM, (0, 0, 0, 1, 0)),)),
    "parameter of planes": call_of((1, 3, 8, 8, 40), *(window(n, 2, 2) for n in (8, 8, 40)), more=((at.PARAM2, (0, 0, 1, 0, 0)),)),
    "spans": call_of((1, 2, 1, 9, 200), windows.spans(np.array([0, 2, 3, 9]), 9, True), windows.spans(np.array([0, 90, 93, 200]), 200, True)),
    "empty batch": call_of((0, 3, 1, 8, 8), window(8, 2, 2), window(8, 2, 2)),
    "empty lanes": call_of((0, 64, 1, 8, 8), window(8, 3, 2), window(8, 3, 2), last=True, lanes=True),
    "one element": call_of((1, 1, 1, 1, 1), window(1, 1, 1)),
    "huge stride": call_of((1, 2, 1, 8, 8), window(8, 1, 2**31 - 1), window(8, 2, 2**31 - 1)),
    "per plane": call_of((2, 3, 1, 30, 3000), windows.fractional(30, 3, 9, np.linspace(0, 0.99, 6)),
                         windows.fractional(3000, 2, 1400, np.linspace(0.99, 0, 6))),
}


@pytest.mark.parametrize("call", LISTED.values(), ids=LISTED)
def test_listed(c, call):
    check_straight(c, call)
    for cutted in (call, check_cut(c, call)):
        for backward, lifts, last in ((False, 1, False), (True, 1, False), (True, 2, True)):
            check_small(c, cutted, backward, lifts, lifts, 4 * lifts, last, backward)
    for gradient in (False, True):
        seen = check_as_channels(c, call, gradient)
        for lifts in range(2 if seen else 0):
            assert check_sweep(c, seen, lifts, int(gradient), 4, False, gradient)
    for last in (None, False, True):
        for scratch in (0, 1, 2):
            check_general(c, call, 16 if scratch else LANES, last, scratch, 8, 3 * scratch)
            check_choices(c, call, 16 if scratch else LANES, last, scratch, 8, scratch > 0)
        for lifts in range(3):
            for terms in (0,) if last is None else (1, 2):
                check_sweep(c, call, lifts, terms, 8, last, lifts > 0)


def test_of_indices(c):
    """Loops that follow indices have outputs without windows; an axis may lack any."""
    for outputs in ((1, 5, 300), (2, 1, 1), (1, 0, 4), (1, 3, 0)):
        axes = tuple(map(fake_axis, outputs))
        for lanes in (False, True):
            operands = ((at.Y, plan.dense((2, 5, *outputs), lanes)), (at.INDEX, plan.dense((2, 5, *outputs), False)))
            for dims in ((2, 5, 1, 6, 400), (2, 5, 1, 0, 7)):
                for last in (None, False, True):
                    check_general(c, (dims, axes, operands, lanes), LANES, last, 1 if last else 0)


@pytest.mark.parametrize("lanes", [False, True])
def test_outputs_in_a_row(c, lanes):
    """Rows of small planes become one, where nothing lies between them."""
    rows = []
    for outputs in ((1, 5, 7), (2, 3, 4), (1, 1, 63), (1, 1, 64), (1, 65, 63), (66, 9, 7), (1, 0, 4)):
        axes, dense = tuple(map(fake_axis, outputs)), plan.dense((2, 5, *outputs), False)
        other = plan.dense((2, 5, *outputs), True)
        for gaps in (dense, (*dense[:3], dense[3] + 1, 1), (*dense[:2], dense[2] + 1, *dense[3:]), (*dense[:4], 2), other):
            operands = ((at.X, (9, 9, 9, 9, 9)), (at.Y, dense), (at.INDEX, gaps))
            g = c_geometry((2, 5, 1, 6, 40), axes, operands, lanes)
            assert c.geometry_in_a_row(byref(g)) == 0
            made = same_geometry(g, (2, 5, 1, 6, 40), *plan.in_a_row(axes, operands, lanes), lanes)
            rows.append(made[1] is not axes)
    assert any(rows) != lanes and not all(rows)


def test_loops_for_small_windows(c):
    """The listed calls reach every one of them."""
    assert {check_small(c, call, False) for call in LISTED.values()} == {None, "planes", "quad", "nine", "three", "eight"}
    assert {check_small(c, call, True) for call in LISTED.values()} == {None, "planes", "quad", "nine", "three", "eight"}
    assert {check_choices(c, call, LANES, last) for call in LISTED.values() for last in (None, False)} == \
        {None, "quad", "nine", "short", "own", "whole", "separate"}
    assert {check_sweep(c, call, 1, 1) for call in LISTED.values()} == {False, True}
    assert check_cut(c, LISTED["long row cut"])[0] != LISTED["long row cut"][0]
    assert check_as_channels(c, LISTED["global many lanes"], False) and not check_as_channels(c, LISTED["global lanes of a prime number"], False)


def test_memory_of_a_small_plan(c):
    """It fits the block that a call takes when it has no workspace."""
    c.bytes_used.restype = c_size_t
    check_choices(c, LISTED["2x2"])
    assert c.bytes_used() < 1 << 13 < CELLS * 8


# ---------------------------------------------------------------- weighing sums

def check_weighing(c, axes, pad_mode, transposed, batch, x, y, w, sums):
    """axes : in the kernel's order, each an axis and its size, or the size and whether its elements have weights of their own."""
    ones = [0 if isinstance(a, windows.Axis) else 1 + own for a, own in axes]
    sizes = np.array([n if isinstance(a, windows.Axis) else a for a, n in axes])
    border = None if pad_mode == "constant" else MODES[pad_mode]
    taps = tuple(weigh.of_windows(a, n, border) if isinstance(a, windows.Axis) else weigh.single(a, n) for a, n in axes)
    expected, work = weigh.plan(taps, transposed, batch, x, y, w, sums)
    found = CWeighing()
    given = [c_axis(a if isinstance(a, windows.Axis) else MISSING) for a, _ in axes]
    distances = [np.array(d) for d in (x, y, w)]
    assert c.plan_of_weighing(byref(found), (CAxis * 4)(*given), words(sizes), (c_int * 4)(*ones), PAD_MODES.index(pad_mode), transposed, batch,
                              *map(words, distances), sums) == 0
    assert found.work == work
    np.testing.assert_array_equal(table_of(found.integers, found.size), expected)


@st.composite
def weighings(draw):
    """Filters over borders, sliding windows with dilation, and channels, as any of the four axes."""
    axes = []
    for channel in draw(st.permutations([True, False, False, False])):
        size = draw(st.integers(1, 24))
        if channel:
            axes.append((size, draw(st.booleans())))
            continue
        kernel, stride, dilation = draw(st.integers(1, 9)), draw(st.integers(1, 7)), draw(st.integers(1, 3))
        before, after = (kernel - 1) // 2 * dilation, kernel // 2 * dilation
        axes.append((windows.sliding(size, kernel, stride, before, after, dilation, draw(st.booleans()), "inside"), size))
    distances = [tuple(draw(st.lists(st.integers(-50, 50), min_size=n, max_size=n))) for n in (5, 5, 4)]
    return axes, draw(st.sampled_from(PAD_MODES)), draw(st.booleans()), draw(st.integers(0, 3)), *distances, draw(st.integers(0, 9))


@often
@given(weighings())
def test_weighing_sums(c, call):
    check_weighing(c, *call)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("pad_mode", PAD_MODES)
def test_weighing_sums_of_long_rows(c, pad_mode, transposed):
    """Runs in the middle, borders at the ends; of one element; of none."""
    for size in (1, 2, 1000):
        for kernel, stride in ((4, 2), (3, 1), (7, 3)):
            row = windows.sliding(size, kernel, stride, (kernel - 1) // 2, kernel // 2, 1, False, "inside")
            for first in ((5, True), (5, False), (0, True)):
                check_weighing(c, [first, (MISSING, 1), (MISSING, 1), (row, size)], pad_mode, transposed, 2, (9, 8, 7, 6, 1), (5, 4, 3, 2, 1),
                               (4, 3, 2, 1), 0)
