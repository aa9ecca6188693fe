"""The C library within programs that JAX compiles: no Python runs between their operations.

`make capi` builds libnumbapool_jax.so beside libnumbapool where JAX is installed (capi/src/jax.cc), and numbapool.jax finds it where
get_library_dirs() points.  The environment variable NUMBAPOOL_JAX_FFI=0 leaves it unused.  Calls of poolings, dtypes and options that the library
lacks go back to Python; what only the kernels of a library built in part lack (capi.build --only) is an error of the compiled program.
"""
from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from . import __version__, config, fields
from .forms import listed
from .numeric import FLOATS, INTEGERS
from .pairs import Pair

TARGET, FILE = "numbapool", "libnumbapool_jax.so"
RESULTS = 100  # from this number on the handler's tensors are results


@functools.cache
def library() -> ctypes.CDLL | None:
    """The handler, registered; None where there is none, or one for another version of numbapool or of XLA's interface."""
    if os.environ.get("NUMBAPOOL_JAX_FFI") == "0":
        return None
    try:
        found = ctypes.CDLL(str(Path(config.get_library_dirs()[0]) / FILE))
    except OSError:  # FileNotFoundError is one
        return None
    found.numbapool_jax_arguments.restype = found.numbapool_jax_version.restype = ctypes.c_char_p
    if found.numbapool_jax_version().decode() != __version__:
        return None
    try:
        jax.devices("cpu")  # before there are any, a handler is put off, and one that XLA then refuses takes the CPU with it
        jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(found.numbapool_jax), platform="cpu")
    except RuntimeError:
        return None
    return found


def attributes(p: Pair, values: dict[str, Any], names: Sequence[str], operands: Sequence[Any], learned: Sequence[str], *,
               indexed: bool, drawn: bool) -> dict[str, Any] | None:
    """What the handler is told of a call, or None where the library cannot do it.

    values : the arguments by name, None for those that are operands; names : of the operands; operands : their shapes and dtypes; learned : those
    with a gradient; indexed, drawn : what forward returns beside y.
    """
    handler, backward = library(), names[0] == "grad"
    if handler is None or drawn or not suits(p, values, names, operands):
        return None
    formula = p.operation.formula
    function = f"numbapool_{getattr(formula, 'function', p.operation.name + '_pool')}{'_backward' * backward}"
    arguments = handler.numbapool_jax_arguments(function.encode())
    if arguments is None:
        return None
    found: dict[str, Any] = {"function": function, "seed_at": np.int64(-1), "value_at": np.int64(-1)}
    places = {{"chosen": "indices"}.get(n, n): i for i, n in enumerate(names)}
    if "seed" in places:
        found["seed_at"] = np.int64(places.pop("seed"))
    for n in [n for n in places if n in learned and operands[places[n]].shape == ()]:  # one number
        found |= {"value_of": n, "value_at": np.int64(places.pop(n))}
    results = ["grad_x", *(f"grad_{n}" for n in learned)] if backward else ["y", *["indices"] * indexed]
    places |= {n: RESULTS + i for i, n in enumerate(results)}
    tensors = arguments.decode().split()
    if formula.family == "unpool" and backward:
        del places["x"]  # of which only the shape counts, that of the indices
    if not set(places) <= set(tensors):
        return None
    found["tensors"] = np.array([places.get(n, -1) for n in tensors], np.int64)
    declared = p.operation.parameters
    settings = {n: v for n, v in values.items() if n not in declared or declared[n].in_c}
    for name, value in fields.of(p.operation, settings).items():
        kind = handler.numbapool_jax_field(name.encode())
        if not kind:
            return None
        found[name] = np.atleast_1d(np.asarray(value, np.float64 if kind == 2 else np.int64))
    return found


def suits(p: Pair, values: dict[str, Any], names: Sequence[str], operands: Sequence[Any]) -> bool:
    """Whether dtypes and options are ones of the library."""
    by_name = dict(zip(names, operands, strict=True))
    x = by_name["x"].dtype.name if "x" in by_name else by_name["grad"].dtype.name
    if x not in FLOATS and not (p.operation.integers and x in INTEGERS and names[0] != "grad"):
        return False
    others = [by_name[n].dtype.name for n in by_name if n not in ("x", "grad", "chosen", "indices", "logit", "seed")]
    if not set(others) <= {"float32", "float64"}:
        return False
    if any(not q.in_c and values.get(n) not in (None, q.default) for n, q in p.operation.parameters.items()):
        return False
    return not any(listed(v) and n not in (*fields.AXES, "padding") for n, v in values.items())  # windows; or lists, which Python refuses
