"""The tables of windows.py against windows found by listing positions."""
from __future__ import annotations

import numpy as np
import oracle
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from numbapool import windows
from numbapool.forms import FORMS

often = settings(max_examples=500, deadline=None, derandomize=True, database=None)
sizes = st.integers(1, 40)
sliding = st.tuples(sizes, st.integers(1, 9), st.integers(1, 12), st.integers(0, 30), st.integers(0, 30), st.integers(1, 6), st.booleans())


def positions(axis, row=None):
    """The input indices of every window of a table."""
    first = axis.first if row is None else axis.first[row]
    return [[int(f) + axis.step * i for i in range(n)] for f, n in zip(first, axis.count, strict=True)]


def agree(axis, expected, shares, row=None):
    """The table lists the expected windows, and divides by the expected counts."""
    assert positions(axis, row) == [indices for indices, _ in expected]
    assert axis.share.tolist() == shares


@often
@given(sliding, st.sampled_from(["padded", "inside", "one"]))
@example((6, 3, 2, 1, 1, 1, True), "padded")  # ceil_mode hangs over the end
@example((5, 2, 3, 0, 0, 1, True), "inside")  # the last window would begin outside
@example((1, 3, 1, 2, 2, 2, False), "inside")  # dilation steps over the input
@example((3, 5, 3, 0, 0, 1, True), "padded")  # no window fits, one hangs over
def test_sliding(arguments, share):
    size, kernel, stride, before, after, dilation, ceil_mode = arguments
    before, after = (p % (dilation * (kernel - 1) + 1) for p in (before, after))
    expected = oracle.sliding(size, kernel, stride, before, after, dilation, ceil_mode)
    if not expected or not all(indices for indices, _ in expected):
        with pytest.raises(ValueError, match="does not fit into|has no element"):
            windows.sliding(size, kernel, stride, before, after, dilation, ceil_mode, share)
        return
    shares = {"padded": [n for _, n in expected], "inside": [len(i) for i, _ in expected], "one": [1] * len(expected)}
    agree(windows.sliding(size, kernel, stride, before, after, dilation, ceil_mode, share), expected, shares[share])


@often
@given(sizes, st.integers(1, 50))
def test_adaptive(size, outputs):
    expected = oracle.adaptive(size, outputs)
    agree(windows.adaptive(size, outputs), expected, [n for _, n in expected])
    agree(windows.adaptive(size, outputs, "one"), expected, [1] * outputs)


@often
@given(st.data(), st.integers(1, 60), st.sampled_from([np.float32, np.float64]))
def test_fractional_of_torch(data, size, dtype):
    kernel = data.draw(st.integers(1, size))
    outputs = data.draw(st.integers(1, size - kernel + 1))
    width = 32 if dtype is np.float32 else 64
    u = np.array(data.draw(st.lists(st.floats(0, 1, exclude_max=True, width=width), min_size=1, max_size=4)), dtype)
    axis = windows.fractional(size, kernel, outputs, u)
    for row, number in enumerate(u):
        expected = oracle.fractional_torch(size, kernel, outputs, number)
        agree(axis, expected, [kernel] * outputs, row)


@often
@given(st.sets(st.integers(1, 40), min_size=1), st.booleans())
def test_boundaries_of_tensorflow(inner, overlapping):
    sequence = np.array([0, *sorted(inner)])
    expected = oracle.boundaries(sequence, overlapping)
    agree(windows.spans(sequence, int(sequence[-1]), overlapping), expected, [n for _, n in expected])


@often
@given(sizes, st.integers(1, 9), st.integers(1, 12), st.integers(1, 6),
       st.sampled_from(["valid", "same", "same_lower"]) | st.integers(0, 9) | st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_padding(size, kernel, stride, dilation, padding):
    before, after = windows.padding_of(size, kernel, stride, dilation, padding)
    assert (before, after) == oracle.resolve_padding(size, kernel, stride, dilation, padding)
    if padding in ("same", "same_lower"):
        assert len(oracle.sliding(size, kernel, stride, before, after, dilation)) == -(-size // stride)
        assert 0 <= (after - before) * (1 if padding == "same" else -1) <= 1


@often
@given(sizes, st.integers(1, 9), st.integers(1, 12), st.booleans())
def test_the_form_refuses_more_padding_than_a_window_reaches(size, kernel, stride, ceil_mode):
    for dilation in (1, 2):
        with pytest.raises(ValueError, match=r"pool: padding must be at most dilation \* \(kernel_size - 1\)"):
            FORMS["sliding"].axes("pool", (size,), (kernel, stride, dilation * (kernel - 1) + 1, dilation, ceil_mode), "inside")


def test_an_axis_that_the_input_lacks():
    assert positions(windows.MISSING) == [[0]]
    assert windows.MISSING.share.tolist() == [1]
    assert windows.adaptive(6, 4).shared(7).share.tolist() == [7] * 4
