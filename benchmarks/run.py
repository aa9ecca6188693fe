"""Measures rows: the library, its other revision if there is one, its peers and the floor take turns on the same arrays."""
from __future__ import annotations

import tracemalloc
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numba

import numbapool

from . import floor, peers, timing
from .problem import Problem
from .rows import Row

OURS, BASE = "numbapool", "base"
CACHE = 4 << 20  # bytes: larger rows are measured with their memory out of the caches, smaller ones with it in them
REST = 0.004  # seconds: OpenMP's threads wait for work that long before they sleep, on a core that the next contender needs


@dataclass
class Setting:
    """What takes part, and for how long: seconds a row; base is another revision of the library."""

    peers: dict[str, Callable[[Problem], Any]] = field(default_factory=dict)
    seconds: float = 0.5
    base: types.ModuleType | None = None


def extra_memory(call: Callable[[], Any]) -> int:
    """The most bytes that a call held beyond its result, by tracemalloc, which NumPy tells what it allocates."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    results = result if isinstance(result, tuple) else (result,)
    return max(0, peak - before - sum(r.nbytes for r in results))


def opponents(problem: Problem, setting: Setting, ours: Any) -> tuple[dict[str, Callable[[], Any]], dict[str, bool | str]]:
    """The calls of base and peers whose results agree with ours, and whether each agreed, or the error that kept it out."""
    makers = dict(setting.peers)
    if setting.base is not None:
        makers = {BASE: lambda p: p.call(setting.base), **makers}
    calls, agreed = {}, {}
    for name, make in makers.items():
        try:
            call = make(problem)
            if call is None:
                continue
            agreed[name] = peers.agree(ours, call(), problem.row.dtype)
        except Exception as error:  # whatever a library raises: it has no such dtype, window or function
            agreed[name] = type(error).__name__
            continue
        if agreed[name]:
            calls[name] = call
    return calls, agreed


def measure(row: Row, setting: Setting) -> dict[str, Any]:
    """One row's result."""
    numba.set_num_threads(min(row.threads, numba.config.NUMBA_NUM_THREADS))
    problem = Problem(row)
    call = problem.call(numbapool)
    calls, agreed = opponents(problem, setting, call())
    read, write = problem.bytes()
    cold = read + write > CACHE  # a peer that works on a copy of its own finds it cold as well: the others' memory has gone through the caches
    prepare = (lambda: floor.evict(problem.memory(), row.threads)) if cold else None
    contenders = {name: timing.Contender(c, prepare) for name, c in {OURS: call, **calls}.items()}
    contenders |= floor.contenders(read, write, row.threads, cold)
    times = timing.interleaved(contenders, setting.seconds, REST if row.threads > 1 else 0.0)
    return described(row, read, write, times, agreed) | {"cold": cold, "extra_bytes": extra_memory(call)}


def described(row: Row, read: int, write: int, times: dict[str, timing.Times], agreed: dict[str, bool | str]) -> dict[str, Any]:
    """A row as it stands in the result file."""
    bottom = min((times.pop(kind) for kind in floor.KINDS), key=lambda t: t.median)
    ours = times[OURS].median

    def milliseconds(t: timing.Times) -> dict[str, Any]:
        return {"ms": round(t.median * 1e3, 6), "low": round(t.low * 1e3, 6), "high": round(t.high * 1e3, 6), "turns": t.turns}
    result = {"label": str(row), **asdict(row), "read_bytes": read, "write_bytes": write, "gb_s": round((read + write) / ours / 1e9, 3),
              "times": {name: milliseconds(t) for name, t in {**times, "floor": bottom}.items()}, "agrees": agreed,
              "to_floor": round(ours / bottom.median, 3)}
    ratios = {f"to_{name}": round(ours / times[name].median, 4) for name in ("torch", BASE) if name in times}
    return result | ratios


def measured(rows: Iterable[Row], setting: Setting) -> Iterator[dict[str, Any]]:
    """The results of all rows, one after the other; a row that fails gives its error instead, and the others go on."""
    timing.keep_freed_memory()
    for row in rows:
        try:
            yield measure(row, setting)
        except Exception as error:
            yield {"label": str(row), "error": f"{type(error).__name__}: {error}"}
