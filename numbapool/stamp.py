"""Stamping binds a formula and a dtype into a loop: C's `#define STEP ... / #include "loop.h"`, in Python.

Numba finds no closure over jitted functions in its disk cache again (its issue 6264) and does not see an edit in another
file.  So the loops and formulas are copied with one common dictionary of globals, in which their free names are bound, and
the kernel's name carries a digest of every source that takes part: same sources, cache hit; any edit, a new name.
"""
from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numba

from . import cache, memory, numeric, random
from .inlined import Inlined
from .loops.cpu import rows

# NaN and infinity are part of the contract, so only the flags that keep them: a*b + c may fuse, -0 may become 0
OPTIONS = dict(nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
INLINED = dict(forceinline=True, no_cfunc_wrapper=True, no_cpython_wrapper=True, pipeline_class=Inlined)


@functools.cache
def _source(file: str) -> bytes:
    return Path(file).read_bytes()


def digest_of(files: Iterable[str], *details: object) -> str:
    """A digest of source files, of Numba's version and options, and of what else takes part in a kernel."""
    text = repr((numba.__version__, sorted((k, str(sorted(v)) if isinstance(v, set) else str(v)) for k, v in OPTIONS.items()), details))
    return hashlib.sha256(b"\0".join([*map(_source, sorted(set(files))), text.encode()])).hexdigest()[:20]


def _digest(functions: dict[str, Any], bound: dict[str, Any], dtype: str) -> str:
    files = [memory.__file__, numeric.__file__, random.__file__, rows.__file__, __file__]
    files += [f.__code__.co_filename for f in functions.values() if isinstance(f, types.FunctionType)]
    named = sorted((k, v.__qualname__ if isinstance(v, types.FunctionType) else repr(v)) for k, v in bound.items())
    return digest_of(files, dtype, named)


def plain(module: types.ModuleType) -> dict[str, Any]:
    """The functions and constants of a module that a kernel may use: all but classes and modules."""
    return {k: v for k, v in vars(module).items() if not k.startswith("__") and not isinstance(v, type | types.ModuleType)}


def _jitted(names: dict[str, Any], common: dict[str, Any], digest: str) -> None:
    """Put jitted copies of the functions among `names` into `common`, which is also where they look up what they call."""
    for k, f in names.items():
        if isinstance(f, types.FunctionType) and f.__module__ != memory.__name__:  # which in plain Python has functions, too
            copy = types.FunctionType(f.__code__, common, f.__name__, f.__defaults__)
            copy.__qualname__ = f"{k}_{digest}"  # machine code is linked by it: one name, one code
            common[k] = copy if numba.config.DISABLE_JIT else numba.njit(**INLINED, **OPTIONS)(copy)


@functools.cache
def _ground(dtype: str) -> dict[str, Any]:
    """What every kernel of a dtype stands on, jitted once a process: the arithmetic, the generator, and loops/cpu/rows.py."""
    names = {k: v for k, v in plain(random).items() if k not in ("uniforms", "key")} | plain(rows) | numeric.namespace(dtype)
    names["tap"] = rows.gather if names["HALF"] else rows.gather_or_borrow
    common = dict(names, __builtins__=__builtins__)
    _jitted(names, common, digest_of([memory.__file__, numeric.__file__, random.__file__, rows.__file__], dtype))
    return common


def stamp(loop: str, modules: list[types.ModuleType], dtype: str, bound: dict[str, Any]) -> Callable[..., None]:
    """The kernel `loop` with the names of `modules`, of the dtype, and `bound` (which wins), jitted and cached on disk."""
    ground = _ground(dtype)
    names: dict[str, Any] = {}
    for module in modules:
        names |= {k: v for k, v in plain(module).items() if k not in ground}
    names |= bound
    digest = _digest(names, bound, dtype)
    jitted = {f: ground[k] for k, f in plain(rows).items() if isinstance(f, types.FunctionType)}
    shared = {k: jitted[v] for k, v in bound.items() if isinstance(v, types.FunctionType) and v in jitted}
    common = {**names, **ground, **bound, **shared}
    _jitted({k: v for k, v in names.items() if k != loop and k not in shared}, common, digest)
    kernel = types.FunctionType(names[loop].__code__, common, f"{modules[-1].__name__.rpartition('.')[2]}_{loop}_{dtype}_{digest}")
    kernel.__qualname__ = kernel.__name__
    if numba.config.DISABLE_JIT:
        return kernel
    return cache.attach(numba.njit(**OPTIONS)(kernel), digest)
