"""The first call: with nothing in the disk cache, and with the kernel found there. Each is measured in a process of its own."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import numbapool

from .problem import Problem
from .rows import TINY, Row

ROOT = Path(__file__).parents[1]
POOLINGS = "max", "avg", "soft", "sort"
# One line of JSON: seconds until the function is there (numba is imported for it), and of the first and the second call
CHILD = """
import json, sys, time
import numpy as np
given = dict(np.load(sys.argv[2], allow_pickle=True)["arguments"].item())
begin = time.perf_counter()
import numbapool
function = getattr(numbapool, sys.argv[1])
times = [time.perf_counter()]
for _ in range(2):
    function(**given)
    times.append(time.perf_counter())
print(json.dumps([b - a for a, b in zip([begin, *times], times)]))
"""


def rows(poolings: tuple[str, ...] = POOLINGS) -> list[Row]:
    """The kernels whose first calls are measured."""
    return [Row(name, direction, "2x2/s2", TINY) for name in poolings for direction in ("forward", "backward")]


def first_call(function: str, arguments: Path, cache: str) -> list[float]:
    """Seconds of import, first and second call in a fresh process."""
    env = {**os.environ, "NUMBAPOOL_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
    child = subprocess.run([sys.executable, "-c", CHILD, function, str(arguments)], env=env, capture_output=True, text=True, check=True)
    return json.loads(child.stdout)


def measure(row: Row) -> Iterator[dict[str, Any]]:
    """The cold and the cached first call of a row's function."""
    problem = Problem(row)
    name = problem.function(numbapool, problem.backward).__name__
    given = {**({"grad": problem.grad} if problem.backward else {}), "x": problem.x, **problem.own, **problem.window.arguments}
    with tempfile.TemporaryDirectory() as folder:
        arguments = Path(folder) / "arguments.npz"
        np.savez(arguments, arguments=np.array(given, object))
        for state in ("cold", "cached"):
            imports, first, second = first_call(name, arguments, str(Path(folder) / "cache"))
            yield {"label": f"first call {row.pool} {row.direction} {row.dtype} {state}", "pool": row.pool, "direction": row.direction,
                   "dtype": row.dtype, "state": state, "import_ms": round(imports * 1e3, 3), "first_ms": round(first * 1e3, 3),
                   "second_ms": round(second * 1e3, 4)}
