"""Calls of detail-preserving pooling's kernels on a CPU (loops/cpu/detail.py): its operands as rows.  capi/src/dpp.c says the same in C."""
from __future__ import annotations

import functools
from math import prod
from typing import Any

import numpy as np

from . import kernels, threads
from .libraries import address_of
from .loops.cpu import detail as at
from .weigh import like, order_of

WORK = 16  # elements read that a window's element is worth


@functools.lru_cache(256)
def plan(sizes: tuple[int, ...], steps: tuple[tuple[int, ...] | None, ...], places: tuple[tuple[int, ...], tuple[int, ...]], given: bool,
         symmetric: bool) -> np.ndarray:
    """The integers of a call; sizes : of y, last that of the lanes; steps : of every operand; places : of a window's elements in x and grad_x."""
    made = np.zeros(at.SIZE, np.int64)
    made[at.SIZES:at.SIZES + 5] = sizes
    made[[at.ELEMENTS, at.GIVEN, at.SYMMETRIC]] = len(places[0]), given, symmetric
    for i, own in enumerate(steps):
        made[at.STEPS + 5 * i:at.STEPS + 5 * (i + 1)] = own or 0
    for first, own in zip((at.FROM, at.TO), places, strict=True):
        made[first:first + len(own)] = own
    return made


def elements_of(x: np.ndarray, windows: tuple[int, ...], ndim: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """The first elements of all windows, and how far from the first the others are; windows : how many along the last three axes."""
    halved = tuple(slice(0, 2 * n, 2) if i >= 3 - ndim else slice(None) for i, n in enumerate(windows))
    offsets = (0,)
    for s in x.strides[5 - ndim:]:
        offsets = tuple(o + k * s // x.itemsize for o in offsets for k in (0, 1))
    return x[(slice(None), slice(None), *halved)], offsets


def run(x: np.ndarray, ndim: int, windows: tuple[int, ...], symmetric: bool, power: np.ndarray, base: np.ndarray, middle: np.ndarray | None,
        grad: np.ndarray | None = None) -> list[np.ndarray]:
    """y, or where its gradient is given, the gradients of x, of every window's lam and alpha, and of the middle, if that is given.

    All are (N, C, D, H, W), power and base broadcast to y; windows : how many along the last three axes.
    """
    shape, order = (*x.shape[:2], *windows), (0, *order_of(x))
    first, places = elements_of(x, windows, ndim)
    operands: list[Any] = [None] * at.OPERANDS
    operands[at.OF_X], operands[at.OF_MIDDLE], operands[at.OF_GRAD], to = first, middle, grad, places
    operands[at.OF_POWER], operands[at.OF_BASE] = (np.broadcast_to(p, shape) for p in (power, base))
    if grad is None:
        results = operands[at.OF_Y:at.OF_Y + 1] = [like(x, shape)]
    else:
        whole = like(x, x.shape)
        if any(n % 2 for n in x.shape[5 - ndim:]):
            whole[...] = 0  # the last element of an odd axis has no window
        operands[at.OF_GRAD_X], to = elements_of(whole, windows, ndim)
        results = [whole, *(like(x, shape) for _ in range(2 if middle is None else 3))]
        operands[at.OF_LAM:at.OF_LAM + len(results) - 1] = results[1:]
    steps = tuple(a if a is None else tuple(a.strides[k] // a.itemsize for k in order) for a in operands)
    sizes = tuple(shape[k] for k in order)
    integers = plan(sizes, steps, (places, to), middle is not None, symmetric)
    data = np.array([0 if a is None else address_of(a) for a in operands], np.int64)
    tasks = prod(sizes[:4])
    work = tasks * sizes[4] * len(places) * WORK
    if work:
        kernel = kernels.detail_kernel(grad is not None, x.dtype.name)
        threads.run(kernel, address_of(integers), address_of(data), tasks, work, threads.slots_for(tasks, work))
    return results
