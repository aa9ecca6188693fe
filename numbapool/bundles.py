"""Bundles: calls of small planes, which a kernel takes side by side as channels (loops/cpu/bundle.py)."""
from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from . import kernels, memory, threads
from .call import Call, View
from .loops import layout as at
from .memory import ASK_FROM
from .numeric import real_name, storage_name
from .plan import Plan, Strides, dense
from .prepared import FAULTS, Stage

LANES = 16  # planes of a bundle: a register of float32
ROOM = 1 << 20  # bytes of a bundle's planes, at most: a second-level cache
WIDEST = {  # rows from so many positions on are not bundled, by the loop that takes planes one by one: from there on it is as fast
    "QUAD": 12, "LIFTED_THREE": 40, "SWEEP": 57, "SWEEP_BACK": 48, "EXACT": 48,  # of folds, and of choices without places
    "PLACES_QUAD": 16, "PLACES_SHORT": 48, "PLACES_SHORT_BESIDE": 28, "PLACES": 57,  # of choices with places; BESIDE: forward at stride 1
    "PLACES_SEPARATE": 48,  # of gradients of choices
    "VOTE": 57, "RANK_QUAD": 32, "RANK": 28,
    "SCATTER_OWN": 60,  # the same for windows side by side whose rows indices are given for: narrower ones are scattered one by one
}
RESULTS = (at.GRAD_X, at.GRAD_LOGIT, at.GRAD_PARAM)  # of backward passes


class Bundled(Call):
    """A call as kernels see it that take LANES of its planes for all there are; what is left undone, those of the call itself do."""

    def __init__(self, call: Call, operands: dict[int, Any]) -> None:
        vars(self).update(vars(call))
        self.whole = call
        self.bare = {k: v for k, v in operands.items() if not isinstance(v, View)}
        self.x = View(call.x.source, (1, LANES, *call.x.dims[2:]), self.inside(at.X, call.x.strides)[0])
        self.out_dims = (1, LANES, *call.out_dims[2:])
        self.lanes = self.memory_last = True

    def inside(self, slot: int, strides: Strides) -> tuple[Strides, tuple[int, int, int] | None]:
        """An operand's distances as lanes, and its positions; None: planes share it, and it stays where it is."""
        if not any(strides[:2]):
            return strides, None
        dims = self.whole.x.dims if slot in (at.X, at.LOGIT, at.GRAD_X, at.GRAD_LOGIT) else self.whole.out_dims
        d, h, w = (n if s else 1 for n, s in zip(dims[2:], strides[2:], strict=True))
        steps = (h * w * LANES, w * LANES, LANES)
        return (0, 1, *(own if s else 0 for own, s in zip(steps, strides[2:], strict=True))), (d, h, w)

    def records(self, operands: dict[int, Any]) -> tuple[tuple[int, Strides], ...]:
        """The distances of operands as the kernel sees them."""
        return tuple((k, self.inside(k, s)[0]) for k, s in super().records(operands))

    def item(self, slot: int) -> int:
        """Bytes of an operand's element."""
        if slot == at.INDEX:
            return 8
        return np.dtype((real_name if slot in (at.PARAM, at.PARAM2, at.GRAD_PARAM) else storage_name)(self.dtype)).itemsize

    def stage(self, kernel: Any, made: Plan, backward: bool, addresses: dict[int, Any], again: Callable[[], Stage] | None = None,
              indexed: bool = False) -> Stage:
        """The stage that brings planes into lanes, and calls the kernel."""
        call, sources = self.whole, self.sources(addresses)
        given = {k: v.strides for k, v in addresses.items() if isinstance(v, View)} | self.bare
        given |= {k: dense(call.x.dims, False) for k in (at.GRAD_X, at.GRAD_LOGIT) if k in addresses}
        if backward and not getattr(call.formula, "recompute", True):
            del given[at.X]  # which is not read
        made = self.bundles(made, backward, given, again is not None)
        sources[at.KERNEL] = threads.address(kernel)
        return Stage(kernels.bundle_kernel(), made, made.rows, sources, self.fault(indexed), again)

    def bundles(self, inner: Plan, backward: bool, given: dict[int, Strides], leaves: bool) -> Plan:
        """The plan of the stage."""
        batch, channels = self.whole.x.dims[:2]
        results = RESULTS if backward else (at.Y, at.INDEX)
        records, end = [], 0
        tasks = inner.planes if backward else inner.rows
        head = np.zeros(at.B_RECORDS, np.int64)
        head[at.B_MASK] = end = 8 * (at.DATA + FAULTS)
        head[at.B_SCRATCH] = end = _rounded(end + tasks)
        end += inner.work
        for slot in sorted(given, key=lambda k: (k in results, k)):
            strides, size = given[slot], self.inside(slot, given[slot])[1]
            if size is None:
                continue
            record = np.zeros(at.B_RECORD, np.int64)
            record[[at.B_SLOT, at.B_ITEM, at.B_AT]] = slot, self.item(slot), end
            record[at.B_PITCH] = _pitch(strides, size, batch, channels)
            record[at.B_SIZE:at.B_STEP + 5] = *size, *strides
            records.append(record)
            head[at.B_INPUTS] += slot not in results
            held = self.item(slot) * LANES * prod(size)
            end = _rounded(end + held)
            if slot in results and record[at.B_PITCH] == prod(size) and memory.past_cache(self.item(slot) * batch * channels * prod(size)):
                record[at.B_PAST], end = end, _rounded(end + held)
        planes = batch * channels
        head[[at.B_PLANES, at.B_CHANNELS, at.B_LANES, at.B_TASKS]] = planes, channels, LANES, tasks
        head[at.B_MARKS] = 1 if backward else prod(self.out_dims[2:4])
        head[at.B_PLAN], head[at.B_WORK] = at.B_RECORDS + at.B_RECORD * len(records), end
        head[at.B_OPERANDS], head[at.B_ASK] = len(records), prod(self.whole.x.dims) >= ASK_FROM
        integers, count = np.concatenate([head, *records, inner.integers]), -(-planes // LANES)
        return Plan(integers, integers.ctypes.data, count, count, end, count * inner.taps, planes * int(head[at.B_MARKS]) if leaves else 0)


def _rounded(size: int) -> int:
    return -(-size // 64) * 64


def _pitch(strides: Strides, size: tuple[int, int, int], batch: int, channels: int) -> int:
    """The distance of planes that have no gaps and lie at equal distances; else 0."""
    (_, h, w), (n, c, *steps) = size, strides
    gapless = all(count == 1 or step == own for count, step, own in zip(size, steps, (h * w, w, 1), strict=True))
    if channels == 1:
        return n if gapless else 0
    return c if gapless and (batch == 1 or n == c * channels) else 0


def of(call: Call, operands: dict[int, Any], widest: int, backward: bool = False) -> Call:
    """The call in bundles where the rows of its planes are narrower than so many positions, else itself.

    operands : views or bare distances; widest : 0 for never; backward : whether there is a gradient of x.
    """
    (batch, channels, *size), outputs = call.x.dims, call.outputs
    if size[2] >= widest or batch * channels < LANES or call.lanes or call.memory_last or any(a.first.ndim == 2 for a in call.axes):
        return call
    elements = (1 + backward) * prod(size) + prod(outputs)
    return Bundled(call, operands) if prod(size) and LANES * elements * np.dtype(real_name(call.dtype)).itemsize <= ROOM else call
