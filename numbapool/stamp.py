"""Stamping binds a formula and a dtype into a loop: C's `#define STEP ... / #include "loop.h"`, in Python.

Numba finds no closure over jitted functions in its disk cache again (its issue 6264) and does not see an edit in another
file.  So the loops and formulas are copied with one common dictionary of globals, in which their free names are bound, and
the kernel's name carries a digest of every source that takes part: same sources, cache hit; any edit, a new name.
"""
from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from . import cache, inlined, memory, numeric, random
from .inlined import Called, Inlined, Kernel
from .loops import layout
from .loops.cpu import rows

# NaN and infinity are part of the contract: of LLVM's liberties only that -0 may become 0.  a*b + c is fused where a source says `muladd` and
# nowhere else, so that each loop over a formula, in Python and in C, rounds alike.
OPTIONS = dict(nogil=True, error_model="numpy", fastmath={"nsz"}, _nrt=False)
GROUND = [module.__file__ for module in (inlined, layout, memory, numeric, random, rows)]  # sources of every kernel
INLINED = dict(forceinline=True, no_cfunc_wrapper=True, no_cpython_wrapper=True, pipeline_class=Inlined)


@functools.cache
def _source(file: str) -> bytes:
    return Path(file).read_bytes()


def digest_of(files: Iterable[str], *details: object) -> str:
    """A digest of source files, of Numba's version and options, and of what else takes part in a kernel."""
    text = repr((numba.__version__, sorted((k, str(sorted(v)) if isinstance(v, set) else str(v)) for k, v in OPTIONS.items()), details))
    return hashlib.sha256(b"\0".join([*map(_source, sorted(set(files))), text.encode()])).hexdigest()[:20]


def _digest(functions: dict[str, Any], bound: dict[str, Any], dtype: str) -> str:
    files = [*GROUND, __file__]
    files += [f.__code__.co_filename for f in functions.values() if isinstance(f, types.FunctionType)]
    named = sorted((k, v.__qualname__ if isinstance(v, types.FunctionType) else repr(v)) for k, v in bound.items())
    return digest_of(files, dtype, named)


def plain(module: types.ModuleType) -> dict[str, Any]:
    """The functions and constants of a module that a kernel may use: all but classes and modules."""
    return {k: v for k, v in vars(module).items() if not k.startswith("__") and not isinstance(v, type | types.ModuleType)}


def _token(value: Any) -> object:
    """What tells two values that a function may read apart."""
    if isinstance(value, types.FunctionType):
        return value.__code__
    if isinstance(value, bool | int | float | str | tuple | np.generic | type):
        return repr(value)  # in which 1, True and 1.0 differ, and 0.0 and -0.0
    return value if isinstance(value, Hashable) else id(value)  # a table of a formula's, which lives as long as its module


_made: dict[tuple, Any] = {}


def _key(k: str, f: types.FunctionType, everything: dict[str, Any]) -> tuple:
    """A function with all that it and what it calls may read."""
    return k, f.__code__, f.__defaults__, tuple((n, _token(everything[n])) for n in sorted(_reads(f, everything)) if n in everything)


def _jitted(names: dict[str, Any], common: dict[str, Any], digest: str) -> None:
    """Put jitted copies of the functions among `names` into `common`, which is also where they look up what they call.

    One that reads what its copy in another kernel reads is that copy: a kernel more of a formula is compiled in three quarters of the time.
    """
    everything, made = dict(common), {}
    for k, f in names.items():
        if isinstance(f, types.FunctionType) and f.__module__ != memory.__name__:  # which in plain Python has functions, too
            called = k in names.get("CALLED", ())
            key = () if numba.config.DISABLE_JIT else (called, *_key(k, f, everything))
            if key in _made:
                common[k] = _made[key]
                continue
            copy = types.FunctionType(f.__code__, common, f.__name__, f.__defaults__)
            copy.__qualname__ = f"{k}_{digest}"  # machine code is linked by it: one name, one code
            how = dict(INLINED, forceinline=False, pipeline_class=Called) if called else INLINED
            common[k] = copy if numba.config.DISABLE_JIT else made.setdefault(key, numba.njit(**how, **OPTIONS)(copy))
    _made.update(made)  # all at once: a process that is forked meanwhile, or another thread, gets none that looks up what is not there yet


@functools.cache
def _ground(dtype: str) -> dict[str, Any]:
    """What every kernel of a dtype stands on, jitted once a process: the arithmetic, the generator, and loops/cpu/rows.py."""
    names = {k: v for k, v in plain(random).items() if k not in ("uniforms", "key")} | plain(rows) | numeric.namespace(dtype)
    names["tap"] = rows.gather if names["HALF"] else rows.gather_or_borrow
    common = dict(names, __builtins__=__builtins__)
    _jitted(names, common, digest_of(GROUND, dtype))
    return common


def _reads(function: types.FunctionType, functions: dict[str, Any]) -> set[str]:
    """Every global name that a function or what it calls among `functions` may read."""
    found: set[str] = set()
    waiting = [function]
    while waiting:
        for name in waiting.pop().__code__.co_names:
            if name not in found:
                found.add(name)
                if isinstance(functions.get(name), types.FunctionType):
                    waiting.append(functions[name])
    return found


@functools.cache
def _layer(module: types.ModuleType, dtype: str) -> dict[str, Any]:
    """The functions of a loop's module, jitted once a process for all formulas: of use are those that read no name of a formula."""
    ground = _ground(dtype)
    names = {k: v for k, v in plain(module).items() if k not in ground}
    common = {**names, **ground}
    _jitted(names, common, digest_of([*GROUND, module.__file__], dtype, "layer"))
    return common


def stamp(loop: str, modules: list[types.ModuleType], dtype: str, bound: dict[str, Any]) -> Callable[..., None]:
    """The kernel `loop` with the names of `modules`, of the dtype, and `bound` (which wins), jitted and cached on disk."""
    ground = _ground(dtype)
    names: dict[str, Any] = {}
    for module in modules:
        names |= {k: v for k, v in plain(module).items() if k not in ground}
    # a formula's own names are as free as what is bound
    free = frozenset(bound) | frozenset(k for module in modules[1:] for k in plain(module) if k not in ground)
    layer = {k: _layer(modules[0], dtype)[k] for k, f in names.items()
             if k != loop and k not in free and isinstance(f, types.FunctionType) and not _reads(f, {**names, **ground}) & free}
    names |= bound
    digest = _digest(names, bound, dtype)
    jitted = {f: ground[k] for k, f in plain(rows).items() if isinstance(f, types.FunctionType)}
    shared = {k: jitted[v] for k, v in bound.items() if isinstance(v, types.FunctionType) and v in jitted}
    common = {**names, **ground, **bound, **shared, **layer}
    _jitted({k: v for k, v in names.items() if k != loop and k not in shared and k not in layer}, common, digest)
    kernel = types.FunctionType(names[loop].__code__, common, f"{modules[-1].__name__.rpartition('.')[2]}_{loop}_{dtype}_{digest}")
    kernel.__qualname__ = kernel.__name__
    if numba.config.DISABLE_JIT:
        return np.errstate(all="ignore")(kernel)  # as compiled code, which overflows without a word and tells by its results
    return cache.attach(numba.njit(**OPTIONS, pipeline_class=Kernel, no_cfunc_wrapper=True)(kernel), digest)
