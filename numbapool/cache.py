"""The disk cache of compiled kernels: one sealed file a kernel, and no error ever reaches the caller.

Numba's own cache (`cache=True`) keys an entry by the source file and the bytecode alone: options, globals and helpers in other files do not
count, a truncated file raises on every call, and flipped bytes abort the process in LLVM. Here the caller's `salt` stands for every source and
option, an entry is used only if its seal fits, and whatever goes wrong means "compile". All of Numba's private cache interface is in this file.

A file is a header line that names the key, the sha256 of header and payload, the payload. The seal finds damage, not malice: payloads are
unpickled and run, so folders and files that somebody else could have written are left alone.
"""

import contextlib
import hashlib
import itertools
import os
import pathlib
import pickle
import sys
import types
import uuid

import llvmlite
import numba
from llvmlite import binding as llvm
from numba.core import config, sigutils
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

MAX_FILES, MAX_BYTES = 2000, 500 << 20  # on disk, of all versions together; a kernel takes 20 to 100 KB
_SETTINGS = "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT"  # NUMBA_* variables that change machine code
_stats = {"hits": 0, "misses": 0, "saved": 0, "trouble": ""}


def stats() -> dict:
    """Hits, misses and saved entries of this process, and the last error that was swallowed ('' if none)."""
    return dict(_stats)


def folder() -> pathlib.Path | None:
    """The folder in use, created on demand; None if there is none, or none to be trusted. A read-only one still serves what it holds.

    The first variable that is set decides: $NUMBAPOOL_CACHE_DIR, $NUMBA_CACHE_DIR, $XDG_CACHE_HOME; without any it is ~/.cache.
    """
    try:
        path = _root() / f"{getattr(sys.modules[__package__], '__version__', '0')}-numba{numba.__version__}"
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        return path if _trusted(path.stat()) else None
    except (OSError, RuntimeError):  # a read-only disk, a file in the way; no HOME
        return None


def attach(dispatcher, salt: str):
    """Give `dispatcher` the disk cache and return it; `salt` is a digest of every source, global and option that takes part.

    A plain function (NUMBA_DISABLE_JIT=1) comes back as it is; so does a closure, whose cells no salt covers.
    """
    if hasattr(dispatcher, "_cache") and not dispatcher.py_func.__closure__:
        dispatcher._cache = _SealedCache(dispatcher, salt)
    return dispatcher


def kept(name: str, key: str) -> bytes | None:
    """What `keep` has kept; None if there is nothing, or nothing to be trusted."""
    try:
        found = _unsealed(*_place(name, key))
    except Exception as error:
        _stats["trouble"], found = f"{type(error).__name__}: {error}", None
    _stats["misses" if found is None else "hits"] += 1
    return found


def keep(name: str, key: str, payload: bytes) -> None:
    """Keep code that is no Numba dispatcher's under a key that tells all that it depends on; no error reaches the caller."""
    try:
        _seal(*_place(name, key), payload)
    except Exception as error:
        _stats["trouble"] = f"{type(error).__name__}: {error}"


def _place(name, key):
    """The path and the header of an entry's file."""
    place = folder()
    if place is None:
        raise FileNotFoundError("no cache folder")
    key = hashlib.sha256(key.encode()).hexdigest()
    return place / f"{name}-{key[:32]}.nbp", f"numbapool kernel {name} {key}\n".encode()


def _unsealed(path, header):
    """The payload of a file; None where there is none."""
    if not path.exists():
        return None
    with open(path, "rb") as file:
        if not _trusted(os.fstat(file.fileno())):
            raise PermissionError(f"others may have written {path}")
        blob = file.read()
    seal, payload = blob[len(header) : len(header) + 32], blob[len(header) + 32 :]
    if not blob.startswith(header) or seal != hashlib.sha256(header + payload).digest():
        raise ValueError(f"damaged entry {path}")
    with contextlib.suppress(OSError):
        os.utime(path)  # for _trim
    return payload


def _seal(path, header, payload):
    """Write a file."""
    _write(path, header + hashlib.sha256(header + payload).digest() + payload)
    _stats["saved"] += 1
    _trim(path.parent.parent)


def _root():
    if os.environ.get("NUMBAPOOL_CACHE_DIR"):
        return pathlib.Path(os.environ["NUMBAPOOL_CACHE_DIR"]).absolute()
    if config.CACHE_DIR:
        return pathlib.Path(config.CACHE_DIR).absolute() / "numbapool"
    xdg = os.environ.get("XDG_CACHE_HOME", "")  # the XDG specification says to ignore a relative one
    return (pathlib.Path(xdg) if os.path.isabs(xdg) else pathlib.Path.home() / ".cache") / "numbapool"


def _trusted(status):
    """Owned by this user or root, and not writable for everybody (the sticky bit of /tmp makes up for it: every file's owner is looked at too)."""
    if not hasattr(os, "geteuid"):  # Windows: access lists, which stat does not show, guard the profile
        return True
    return status.st_uid in (os.geteuid(), 0) and status.st_mode & 0o1002 != 0o0002


def _text(value):
    """repr without addresses, file names, line numbers and the order of sets: equal in every process."""
    if isinstance(value, types.CodeType):
        value = value.co_code, value.co_names, value.co_varnames, value.co_consts
    if isinstance(value, (set, frozenset, dict)):
        return "{" + ", ".join(sorted(map(_text, value.items() if isinstance(value, dict) else value))) + "}"
    return "(" + ", ".join(map(_text, value)) + ")" if isinstance(value, (tuple, list)) else repr(value)


def _register(symbols, context):
    """Make known to LLVM what an entry links with, and no more; a symbol left open would be a jump to address 0.

    Numba refreshes its context before every load: a quarter of a second of imports (scipy.linalg among them) that only compiling needs.
    A serial kernel needs nothing, a parallel one the allocator (0.03 s).
    """
    for step in (lambda: None, lambda: rtsys.initialize(context), context.refresh):
        step()
        missing = [name for name in symbols if not llvm.address_of_symbol(name)]
        if not missing:
            return
    raise LookupError(f"symbols that this process lacks: {missing}")


def _write(path, blob):
    """All or nothing: of two processes at once each writes a whole file, and the last one stays."""
    temporary = f"{path}.{uuid.uuid4().hex}"
    try:
        # 0o644: _trusted refuses what everybody may write, whatever the umask
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o644)) as file:
            file.write(blob)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _trim(root):
    """Every edit of a source leaves its old entries behind: drop those unused the longest (and what a killed process left half written)."""
    files = sorted(((s.st_mtime, s.st_size, path) for path in root.glob("*/*.nbp*") for s in [path.stat()]), reverse=True)
    totals = itertools.accumulate(size for _, size, _ in files)
    for number, (total, (_, _, path)) in enumerate(zip(totals, files, strict=True)):
        if number >= MAX_FILES or total > MAX_BYTES:
            path.unlink(missing_ok=True)


class _SealedCache(NullCache):
    """What a Numba dispatcher expects as its `_cache`; NullCache supplies the methods that do nothing here."""

    def __init__(self, dispatcher, salt):
        f = dispatcher.py_func
        f.__module__ = f.__module__ or __name__  # a function over a bare dictionary has none, and such entries are written but not read back
        versions = numba.__version__, llvmlite.__version__, sys.implementation.cache_tag, getattr(sys, "abiflags", "")
        settings = [str(getattr(config, name, None)) for name in _SETTINGS]
        parts = salt, f.__module__, f.__name__, f.__code__, dispatcher.targetoptions, dispatcher.locals, versions, settings
        self._digest = hashlib.sha256(_text(parts).encode()).hexdigest()
        self._name = "".join(c if c.isalnum() else "_" for c in f.__name__)[:80]
        # LLVM's symbols are made of the qualified name and a number counted from 1 in each process: entries of one name that two processes wrote
        # can define the same symbol, and a kernel that calls both then gets one of them twice (seen: 2002 for 2101).
        if not f.__qualname__.endswith(self._digest[:16]):
            f.__qualname__ += "_" + self._digest[:16]

    @property
    def cache_path(self):
        return str(folder() or "") or None

    def load_overload(self, sig, target_context):
        result = self._guarded(self._load, sig, target_context)
        _stats["hits" if result else "misses"] += 1
        return result

    def save_overload(self, sig, data):
        self._guarded(self._save, sig, data)

    def _guarded(self, action, *arguments):
        try:
            return action(*arguments)
        except Exception as error:
            _stats["trouble"] = f"{type(error).__name__}: {error}"
            return None

    def _entry(self, sig, context):
        """The path and the header of a signature's file for this CPU."""
        key = f"{self._digest} {sigutils.normalize_signature(sig)} {context.codegen().magic_tuple()}"
        if " at 0x" in key:
            raise TypeError(f"a type named by its address: {sig}")
        return _place(self._name, key)

    def _load(self, sig, context):
        payload = _unsealed(*self._entry(sig, context))
        if payload is None:
            return None
        initialisers, symbols, reduced = pickle.loads(payload)
        for initialise in initialisers:  # a parallel kernel starts Numba's threads, which registers their symbols
            initialise()
        _register(symbols, context)
        return CompileResult._rebuild(context, *reduced)

    def _save(self, sig, result):
        path, header = self._entry(sig, result.target_context)
        module = result.library._final_module
        symbols = [v.name for v in itertools.chain(module.functions, module.global_variables) if v.is_declaration]
        symbols = [name for name in symbols if not name.startswith("llvm.")]
        foreign = [name for name in symbols if not llvm.address_of_symbol(name)]
        if foreign or result.lifted or result.library.has_dynamic_globals:
            raise TypeError(f"{self._name} is bound to this process: {foreign or 'lifted loops or addresses'}")
        _seal(path, header, dumps((tuple(result.reload_init), symbols, result._reduce())))
