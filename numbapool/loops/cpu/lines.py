"""Lines: rows of 2x2 windows that are shorter than a vector, lined up so that many of them are done together.

The upper rows of their elements are copied one behind the other, as are the lower ones; the loops for a long row then do them all, and rows of a
gradient are laid back into the order of memory.  Measured on float32 (512, 64, 14, 14), one thread: averages and maxima took 4.5 ms row by row, and
take 1.2.
Legend: see rows.py.
"""
from __future__ import annotations

from ..layout import *  # noqa: F403
from .rows import *  # noqa: F403


def rows_at_once(f, cells):
    """How many rows of windows of so many cells are done together at most: one unless they are shorter than a vector and follow one another in y."""
    dense = f[RECORDS + RECORD * Y + 3] == f[OW]
    return (CELLS - 2 * VECTOR) // cells - 1 if f[OW] < VECTOR and dense else 1


def line_up(f, operand, x, n, g, d, oh, rows, upper, lower):
    """Copy the upper and the lower rows of elements of some rows of windows, one behind the other."""
    cells, down = 2 * f[OW], f[RECORDS + RECORD * operand + 3] * f[H_STEP]
    last = spot(f, operand, n, g, d, f[H] - 1, f[W] - 1)
    for i in range(rows):
        at = spot(f, operand, n, g, d, f[f[H_FIRST] + oh + i], f[f[W_FIRST]])
        ask_ahead(f, shift(x, at), cells)
        ask_ahead(f, shift(x, at + down), cells)
        copy_short(shift(upper, i * cells), shift(x, at), cells, down > 0 and at + 2 * VECTOR <= last)
        copy_short(shift(lower, i * cells), shift(x, at + down), cells, down > 0 and at + down + 2 * VECTOR <= last)


def copy_short(to, x, n, more):
    """Copy fewer elements than two vectors have; more : whether what follows them may be read, and is overwritten later."""
    if more:
        copy_two(to, x)
    else:
        for j in range(n):
            to[j] = x[j]


def copy_two(to, x):
    """Copy two vectors of elements."""
    for j in range(2 * VECTOR):
        to[j] = x[j]


def lay_rows(f, to, upper, lower, rows, size):
    """The upper and the lower rows of a gradient in the order of memory, and zeros up to its size."""
    m = f[OW]
    for i in range(rows):
        lay_row(shift(to, 2 * i * f[W]), shift(upper, 2 * i * m), 2 * m, f[W])
        lay_row(shift(to, (2 * i + 1) * f[W]), shift(lower, 2 * i * m), 2 * m, f[W])
    for j in range(2 * rows * f[W], size):
        to[j] = real(0)


def lay_row(to, made, n, width):
    """A row of fewer than two vectors, and zeros up to its width; what follows is overwritten later."""
    for j in range(2 * VECTOR):
        to[j] = made[j]
    for j in range(n, width):
        to[j] = real(0)
