"""Times of contenders that take turns, so that whatever else the machine does hits all of them alike."""
from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

ROUND = 1e-3  # seconds that a turn lasts at least: shorter calls are repeated
FEWEST, MOST = 3, 31  # turns of a contender


class Times(NamedTuple):
    """Seconds a call: the median and the quartiles over so many turns."""

    median: float
    low: float
    high: float
    turns: int


def keep_freed_memory() -> bool:
    """Let glibc reuse freed memory of any size; whether it agreed.

    By default a result of more than 32 MB is mapped anew in each call and unmapped after it, and its page faults cost more than the
    kernel; smaller ones are reused or not as earlier calls had it. With no mmap and no trimming every contender, torch too, gets
    memory whose pages are there, as in a program that runs for a while.
    """
    trim, mmap = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    return bool(mallopt(mmap, 0) and mallopt(trim, 1 << 30))


class Contender(NamedTuple):
    """What is timed; prepare : what comes before each call, untimed, and makes its memory cold."""

    call: Callable[[], Any]
    prepare: Callable[[], None] | None = None


def turn(contender: Contender, repeats: int, rest: float = 0.0) -> float:
    """Seconds a call of one turn; where memory is warm, a call of no interest brings code and data back to the cache."""
    call, prepare = contender
    if rest:
        time.sleep(rest)
    if prepare is not None:
        prepare()
    elif repeats > 1 or rest:
        call()
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats


def turns_for(seconds: float, share: float) -> int:
    """How many turns of so many seconds fit a contender's share of the time."""
    return max(FEWEST, min(MOST, int(share / max(seconds, ROUND))))


def interleaved(contenders: dict[str, Contender], seconds: float = 1.0, rest: float = 0.0) -> dict[str, Times]:
    """The times of all contenders within about so many seconds; slow ones take fewer turns, spread over the same time.

    rest : seconds of sleep before each turn, for the threads of the contender before to stop waiting for work
    """
    first = {name: min(turn(c, 1), turn(c, 1)) for name, c in contenders.items()}
    repeats = {name: 1 if contenders[name].prepare else max(1, int(np.ceil(ROUND / max(t, 1e-7)))) for name, t in first.items()}
    turns = {name: turns_for(max(t, ROUND), seconds / len(contenders)) for name, t in first.items()}
    rounds, found = max(turns.values()), {name: [] for name in contenders}
    collects = gc.isenabled()
    gc.disable()
    try:
        for i in range(rounds):
            for name, contender in contenders.items():
                if i * turns[name] // rounds != (i - 1) * turns[name] // rounds:
                    found[name].append(turn(contender, repeats[name], rest))
    finally:
        if collects:
            gc.enable()
    return {name: summary(values) for name, values in found.items()}


def summary(values: list[float]) -> Times:
    """Median and quartiles."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return Times(float(median), float(low), float(high), len(values))
