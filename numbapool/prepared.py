"""Prepared calls: what shapes, strides, dtypes and parameters decide is worked out once, and each call that is alike runs it.

A call of a small array is a borrowed address, one look into a dictionary, the memory of the result, two addresses filled
into the integers that the kernel reads, and the kernel: 3 us besides the kernel's own time, where working it all out takes 40 us or more.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import arrays, threads
from .arrays import Array
from .libraries import address_of
from .loops import layout as at
from .plan import Plan

FAULTS = 2  # words behind the data: whether an index was out of range, whether a task was left to another kernel
MOST, ROOM = 1024, 1 << 25  # prepared calls of a generation, and bytes of their tables; two generations are kept
SPARE = 1 << 12  # bytes of a mask up to which a buffer is kept
SMALL = 1 << 10  # bytes of an array parameter up to which it is part of the key
Maker = Callable[[], tuple[Any, int]]  # makes memory -> (the object that owns it, its address)


class Source(NamedTuple):
    """Memory that each call has anew: where its address stands among those of a call."""

    number: int


class Stage:
    """One kernel over all its tasks, and the integers that it reads, in which the addresses of a call are still missing.

    fault : the message on an index out of range, None where there are no indices; again : makes the stage that does what this
    kernel's tasks leave undone (they mark it in a mask), None where they leave nothing.  A stage is shared by threads: each
    takes a buffer of its own, and puts it back among the spare ones (0.4 us sooner than a new one).
    """

    __slots__ = ("again", "fault", "kernel", "mask", "plan", "sources", "spare", "tasks", "template", "watched", "work")

    def __init__(self, kernel: Callable[..., None], plan: Plan, tasks: int, addresses: dict[int, Any], fault: str | None = None,
                 again: Callable[[], Stage] | None = None) -> None:
        self.kernel, self.plan, self.tasks, self.fault, self.again, self.work = kernel, plan, tasks, fault, again, plan.work
        self.sources = tuple((slot, a.number) for slot, a in addresses.items() if isinstance(a, Source))
        self.template = {slot: a for slot, a in addresses.items() if not isinstance(a, Source)}
        self.mask = (plan.left or max(plan.rows, plan.planes)) if again else 0
        self.watched = at.DATA if fault else at.DATA + 1 if again else 0
        self.spare: list[tuple[np.ndarray, int, np.ndarray]] = []

    @property
    def size(self) -> int:
        """Bytes that it keeps: the tables of a plan are made from windows' tables, which `again` keeps, so twice their size."""
        return 2 * self.plan.integers.nbytes + min(self.mask, SPARE)

    def buffer(self) -> tuple[np.ndarray, int, np.ndarray]:
        """The integers with the addresses that stay, the address of these, and a mask."""
        data, mask = np.zeros(at.DATA + FAULTS, np.int64), np.zeros(self.mask, np.uint8)
        where = address_of(data)
        for slot, address in self.template.items():
            data[slot] = address
        data[at.FAULT] = where + 8 * at.DATA
        if self.mask:
            data[at.MASK] = address_of(mask)
        return data, where, mask

    def run(self, addresses: list[int], left: np.ndarray | None = None) -> None:
        """Run the kernel over all tasks, or over those that another one has left."""
        try:
            buffer = self.spare.pop()
        except IndexError:
            buffer = self.buffer()
        data, where, mask = buffer
        for slot, number in self.sources:
            data[slot] = addresses[number]
        if left is not None:
            data[at.MASK] = address_of(left)
        taps = self.plan.taps
        slots = 1 if taps < threads.SMALL else threads.slots_for(self.tasks, taps)
        if self.work:
            scratch = np.empty(self.work * slots + 64, np.uint8)
            data[at.WORK] = address_of(scratch) + 63 & -64
        threads.run(self.kernel, self.plan.address, where, self.tasks, taps, slots)
        if self.watched and data[self.watched]:
            if self.fault:
                raise ValueError(self.fault)
            self.again().run(addresses, mask)  # type: ignore[misc]
        elif self.mask <= SPARE:
            self.spare.append(buffer)


class Prepared:
    """A call without its arrays: shared by all calls that are alike, and so never written.

    makers : of results and memory in between; stages : the kernels; finish : turns what was made into what the caller gets;
    draws : whether a seed is read; out : begins the messages on `out`; keep : what the stages' constants point to.
    """

    __slots__ = ("draws", "finish", "keep", "makers", "out", "size", "stages")

    def __init__(self, makers: Sequence[Maker], stages: Sequence[Stage], finish: Callable[[list[Any]], Any], draws: bool, out: str,
                 keep: Sequence[np.ndarray]) -> None:
        self.makers, self.stages, self.finish, self.draws, self.out, self.keep = makers, tuple(stages), finish, draws, out, keep
        self.size = 2048 + sum(s.size for s in stages) + sum(a.nbytes for a in keep)

    def run(self, given: list[Array], seed: int | None = None, out: Array | None = None) -> Any:
        """The call's results for arrays that are alike in all but their memory."""
        addresses, memories = [a[0] for a in given], []
        if self.draws:
            addresses.append(seed)  # type: ignore[arg-type]
        if out is not None:
            arrays.check_place(out, self.out, given)
            addresses.append(out.address)
            memories.append(out.owner)
        for make in self.makers:
            memory, address = make()
            memories.append(memory)
            addresses.append(address)
        for stage in self.stages:
            stage.run(addresses)
        return self.finish(memories)


# ---------------------------------------------------------------- what is kept

class Snapshot(NamedTuple):
    """A small array parameter as a key, which later changes of the caller's array leave as it is."""

    dtype: np.dtype
    shape: tuple[int, ...]
    data: bytes

    @property
    def array(self) -> np.ndarray:
        """The values."""
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)


class Held(NamedTuple):
    """An array parameter that lies where x does, on a device: which of the call's arrays it is, and its layout.  Nobody looks at its values."""

    number: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_PLAIN = frozenset((int, bool, str, float, type(None), Snapshot, Held))


def exact(kinds: tuple, settings: tuple) -> tuple:
    """Settings, whose types are `kinds`, in which 1 and True differ within tuples, too; TypeError where one may change, or cannot be told.

    Equal floats of one type are alike here, as parameters.number gives -0.0 and 0.0 one meaning.
    """
    if _PLAIN.issuperset(kinds):
        return settings
    return tuple([value if kind in _PLAIN else _exact(value) for kind, value in zip(kinds, settings, strict=True)])


def _exact(value: Any) -> tuple:
    kind = type(value)
    if kind is tuple or kind is list:
        return kind, *map(type, value), *[v if type(v) in _PLAIN else _exact(v) for v in value]
    if kind is np.ndarray and value.dtype.kind in "iufb" and value.nbytes <= SMALL:
        return kind, value.dtype, value.shape, value.tobytes()
    if issubclass(kind, np.generic):
        return kind, value
    raise TypeError


class Remembered:
    """Prepared calls by their keys, in two generations: when the younger one is full, the older one goes.

    That keeps what is used, needs no lock (which a fork would copy locked), and is bounded in number and in bytes.
    """

    def __init__(self, most: int = MOST, room: int = ROOM) -> None:
        self.most, self.room, self.size = most, room, 0
        self.young: dict[tuple, Prepared] = {}
        self.old: dict[tuple, Prepared] = {}

    def get(self, key: tuple) -> Prepared | None:
        """The call of a key, if it is kept."""
        found = self.young.get(key)
        if found is None:
            found = self.old.get(key)
            if found is not None:
                self.keep(key, found)
        return found

    def keep(self, key: tuple, call: Prepared) -> None:
        """Keep a call, unless it is as large as all that is kept."""
        if call.size > self.room:
            return
        if len(self.young) >= self.most or self.size + call.size > self.room:
            self.old, self.young, self.size = self.young, {}, 0
        self.young[key] = call
        self.size += call.size


CALLS = Remembered()
