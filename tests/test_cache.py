"""The disk cache: it hits when it may, misses when it must, and is never the reason why a call fails."""

import ctypes
import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import types

import numba
import numpy as np
import pytest
from llvmlite import ir
from numba import njit
from numba.core import types as nb
from numba.extending import intrinsic

from numbapool import cache

SIG = "void(int64,int64,int64,int64,int64)"
ROOT = pathlib.Path(cache.__file__).parents[1]

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")


@intrinsic
def poke(typingctx, address, i, value):
    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        builder.store(args[2], builder.gep(pointer, [args[1]]))
        return context.get_dummy_value()

    return nb.void(nb.int64, nb.int64, nb.int64), codegen


def loop(address, lo, hi, k, unused):
    for i in range(lo, hi):
        poke(address, i, step(i, k))  # noqa: F821  bound by stamp


def parallel_loop(address, lo, hi, k, unused):
    for t in numba.prange(k):
        for i in range(lo, hi):
            poke(address, t * (hi - lo) + i, step(i, t))  # noqa: F821


def times(i, k):
    return i * k


def plus(i, k):
    return i + k


def stamp(formula=times, salt="salt", name="loop_c0ffee", text=loop, **options):
    """A kernel as the library makes it: a copy of a loop over its own globals, with a formula bound to `step`."""
    names = {"poke": poke, "numba": numba, "step": njit(forceinline=True)(formula)}
    kernel = types.FunctionType(text.__code__, names)
    kernel.__name__ = kernel.__qualname__ = name
    return cache.attach(njit(**{"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}, **options})(kernel), salt)


def call(kernel, k=3, n=4, size=4):
    out = np.full(size, -99)
    kernel.compile(SIG)
    kernel(out.ctypes.data, 0, n, k, 0)
    return out.tolist()


TIMES, PLUS = [0, 3, 6, 9], [3, 4, 5, 6]


def entries(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def counts():
    return tuple(cache.stats()[name] for name in ("hits", "misses", "saved"))


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty cache folder, and counters at zero."""
    monkeypatch.setenv("NUMBAPOOL_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.setattr(cache, "_stats", {"hits": 0, "misses": 0, "saved": 0, "trouble": ""})
    return tmp_path / "store"


def start(code, **env):
    """Run `code` in a new process; a None in `env` removes the variable."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    env = {k: v for k, v in {**os.environ, "PYTHONPATH": path, **env}.items() if v is not None}
    code += "\nimport json; print(json.dumps([result, *[cache.stats()[k] for k in ('hits', 'misses', 'saved')]]))"
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    return json.loads(out.splitlines()[-1])


def child(code, **env):
    return finish(start("from test_cache import *\n" + code, **env))


# hits


def test_second_process_loads_and_imports_no_compiler_parts(store):
    assert child("result = call(stamp())") == [TIMES, 0, 1, 1]
    light = "; assert 'numba.np.linalg' not in sys.modules"
    assert child("result = call(stamp())" + light) == [TIMES, 1, 0, 0]


def test_a_load_does_not_spoil_later_compiles(store):
    call(stamp())
    code = "a = call(stamp()); k = njit(lambda v: np.linalg.norm(v) + np.sort(v)[0]); result = [a, k(np.array([3.0, 4.0]))]"
    assert child(code) == [[TIMES, 8.0], 1, 0, 0]


def test_the_address_of_a_loaded_kernel(store):
    """A driver calls kernels by address, in Numba's convention: int32 f(void **ret, void **exc, arguments...)."""
    call(stamp())
    code = """
kernel = stamp()
kernel.compile(SIG)
(loaded,) = kernel.overloads.values()
address = loaded.library.get_pointer_to_function(loaded.fndesc.llvm_func_name)
out, ret, exc = np.zeros(4, np.int64), ctypes.c_void_p(), ctypes.c_void_p()
words = [ctypes.c_int64(v) for v in (out.ctypes.data, 0, 4, 3, 0)]
assert ctypes.CFUNCTYPE(ctypes.c_int32)(address)(ctypes.byref(ret), ctypes.byref(exc), *words) == 0
result = out.tolist()"""
    assert child(code) == [TIMES, 1, 0, 0]


def test_parallel_kernel_with_an_intrinsic(store):
    code = "result = call(stamp(text=parallel_loop, parallel=True), k=3, n=2, size=6)"
    expected = [0, 0, 0, 1, 0, 2]
    assert child(code, NUMBA_NUM_THREADS="2") == [expected, 0, 1, 1]
    assert child(code, NUMBA_NUM_THREADS="2") == [expected, 1, 0, 0]


def test_kernel_over_arrays(store):
    code = """
def scale(x, k):
    for i in range(x.size):
        x[i] *= k
kernel = cache.attach(njit(scale), 'salt')
kernel.compile('void(float64[::1], float64)')
x = np.arange(3.0)
kernel(x, 2.0)
result = x.tolist()"""
    assert child(code) == [[0.0, 2.0, 4.0], 0, 1, 1]
    assert child(code) == [[0.0, 2.0, 4.0], 1, 0, 0]


def test_neither_place_nor_mtime_nor_line_counts(store, tmp_path):
    source = "def square(x):\n    return x * x\n"
    code = """import sys; sys.path.insert(0, {!r})
import numba, one
from numbapool import cache
kernel = cache.attach(numba.njit(one.square), 'salt')
kernel.compile('int64(int64)')
result = kernel(7)"""
    for name, text in ("a", source), ("b", "\n\n" + source):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.py").write_text(text)
    assert finish(start(code.format(str(tmp_path / "a")))) == [49, 0, 1, 1]
    os.utime(tmp_path / "a" / "one.py", (10**9, 10**9))
    assert finish(start(code.format(str(tmp_path / "a")))) == [49, 1, 0, 0]
    assert finish(start(code.format(str(tmp_path / "b")))) == [49, 1, 0, 0]


def test_a_signature_may_be_a_string_or_types(store):
    call(stamp())
    kernel = stamp()
    kernel.compile(nb.void(*[nb.int64] * 5))
    assert counts() == (1, 1, 1)


def test_a_folder_that_cannot_be_written_still_serves(store, monkeypatch):
    call(stamp())

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EROFS, "read-only")

    for name in "utime", "open", "replace":
        monkeypatch.setattr(os, name, refuse)
    assert call(stamp()) == TIMES
    assert counts() == (1, 1, 1)


# misses


def test_what_the_salt_says_counts(store):
    assert call(stamp(times, salt="times")) == TIMES
    assert call(stamp(plus, salt="plus")) == PLUS
    assert counts() == (0, 2, 2)
    assert call(stamp(times, salt="times")) == TIMES
    assert call(stamp(plus, salt="plus")) == PLUS
    assert counts() == (2, 2, 2)


@pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPerformanceWarning")
@pytest.mark.parametrize("options", [{"fastmath": False}, {"error_model": "python"}, {"parallel": True}, {"boundscheck": True}], ids=str)
def test_options_count(store, options):
    call(stamp())
    assert call(stamp(**options)) == TIMES
    assert counts() == (0, 2, 2)


def test_lambdas_of_one_name_and_salt(store):
    for _ in range(2):
        results = []
        for f in lambda x: x + 1, lambda x: x + 100, lambda x: x - 1, lambda x: x in {1, 2}, lambda x: x in {1, 3}:
            kernel = cache.attach(njit(f), "salt")
            kernel.compile("int64(int64)")
            results.append(kernel(3))
        assert results == [4, 103, 2, 0, 1]
    assert counts() == (5, 5, 5)


def test_closures_are_not_cached(store):
    for k in 1, 100:
        kernel = cache.attach(njit(lambda x: x + k), "salt")  # noqa: B023
        kernel.compile("int64(int64)")
        assert kernel(3) == 3 + k
    assert counts() == (0, 0, 0) and not store.exists()


@pytest.mark.parametrize("what", ["signature", "cpu", "numba", "llvmlite", "setting"])
def test_signature_target_version_and_settings_count(store, monkeypatch, what):
    def identity(x):
        return x

    cache.attach(njit(identity), "salt").compile("int64(int64)")
    if what == "cpu":
        codegen = type(njit(identity).targetctx.codegen())
        monkeypatch.setattr(codegen, "magic_tuple", lambda self: ("x86_64", "another", ""))
    elif what == "numba":
        monkeypatch.setattr(numba, "__version__", "0.0.0")
    elif what == "llvmlite":
        monkeypatch.setattr(cache.llvmlite, "__version__", "0.0.0")
    elif what == "setting":
        monkeypatch.setattr(numba.config, "BOUNDSCHECK", 1)
    cache.attach(njit(identity), "salt").compile("int32(int32)" if what == "signature" else "int64(int64)")
    assert counts() == (0, 2, 2)


def test_kernels_of_one_name_from_two_processes_do_not_share_symbols(store):
    """Both entries would define `one$v1` for LLVM; a kernel that calls both once got one of them twice."""
    make = "def make(f):\n    f.__name__ = f.__qualname__ = 'one'; k = cache.attach(njit(f), 's'); k.compile('int64(int64)'); return k\n"
    make += "a, b = lambda x: x + 1, lambda x: x + 100\n"
    for f in "ab":
        assert child(make + f"result = make({f})(1)")[1:] == [0, 1, 1]
    both = "a, b = make(a), make(b); result = njit(lambda x: a(x) * 1000 + b(x))(1)"
    assert child(make + both) == [2101, 2, 0, 0]


def test_a_type_named_by_its_address(store):
    """A function as an argument: its address may be another function's in the next process."""
    inner = njit(times)
    kernel = cache.attach(njit(lambda f, x: f(x, x)), "salt")
    assert kernel(inner, 3) == 9
    assert counts() == (0, 1, 0) and "0x" in cache.stats()["trouble"]


# damage


def miss_then_heal(path):
    """The kernel still works, is compiled again and written again."""
    hits, misses, saved = counts()
    assert call(stamp()) == TIMES
    assert counts() == (hits, misses + 1, saved + 1)
    assert path.is_file() and call(stamp()) == TIMES
    assert counts() == (hits + 1, misses + 1, saved + 1)


@pytest.mark.parametrize("keep", [0, 1, 20, 100, 0.5, -1])
def test_truncated_entry(store, keep):
    call(stamp())
    (path,) = entries(store)
    blob = path.read_bytes()
    path.write_bytes(blob[: int(keep * len(blob)) if 0 < keep < 1 else keep])
    miss_then_heal(path)


def test_flipped_bytes(store):
    call(stamp())
    (path,) = entries(store)
    blob = path.read_bytes()
    kernel = stamp()
    for at in [*range(0, 160, 7), *range(160, len(blob), len(blob) // 60), len(blob) - 1]:
        path.write_bytes(blob[:at] + bytes([blob[at] ^ 0x10]) + blob[at + 1 :])
        assert kernel._cache.load_overload(SIG, kernel.targetctx) is None, at
    path.write_bytes(blob + b"\0")
    miss_then_heal(path)


def test_entry_of_another_kernel_under_this_name(store):
    call(stamp())
    (path,) = entries(store)
    call(stamp(plus, salt="plus"))
    (other,) = set(entries(store)) - {path}
    shutil.copy(other, path)
    miss_then_heal(path)


@pytest.mark.parametrize("payload", [b"", b"no pickle", b"\x80\x04N.", b"\x80\x04)."], ids=["empty", "text", "None", "tuple"])
def test_sealed_rubbish(store, payload):
    """As another layout of entries would look: whole, but not what is expected."""
    call(stamp())
    (path,) = entries(store)
    header = path.read_bytes().partition(b"\n")[0] + b"\n"
    path.write_bytes(header + cache.hashlib.sha256(header + payload).digest() + payload)
    miss_then_heal(path)


def test_symbols_that_this_process_lacks(store, monkeypatch):
    real = cache.llvm.address_of_symbol
    call(stamp())
    monkeypatch.setattr(cache.llvm, "address_of_symbol", lambda name: real(name) if name != "PyErr_Occurred" else None)
    assert call(stamp()) == TIMES
    assert counts() == (0, 2, 1) and "PyErr_Occurred" in cache.stats()["trouble"]


def test_directory_in_the_place_of_an_entry(store):
    call(stamp())
    (path,) = entries(store)
    path.unlink()
    path.mkdir()
    assert call(stamp()) == TIMES
    assert counts() == (0, 2, 1) and entries(store) == []


# no folder, no space


def works_without_a_cache():
    assert cache.folder() is None
    assert call(stamp()) == TIMES
    assert counts() == (0, 1, 0) and cache.stats()["trouble"]


def test_folder_below_a_file(store, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBAPOOL_CACHE_DIR", str(tmp_path / "file" / "cache"))
    works_without_a_cache()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a file system that nobody can write")
def test_folder_on_a_read_only_file_system(store, monkeypatch):
    monkeypatch.setenv("NUMBAPOOL_CACHE_DIR", "/proc/cache")
    works_without_a_cache()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
def test_folder_that_everybody_may_write(store):
    folder = cache.folder()
    folder.chmod(0o777)
    works_without_a_cache()
    folder.chmod(0o1777)
    assert call(stamp()) == TIMES and call(stamp()) == TIMES
    (path,) = entries(store)
    assert counts() == (1, 2, 1)
    path.chmod(0o666)
    miss_then_heal(path)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
@pytest.mark.parametrize("uid, mode, good", [
    (7, 0o755, True), (0, 0o755, True), (8, 0o755, False), (7, 0o775, True), (7, 0o757, False), (7, 0o1777, True), (8, 0o1777, False),
])  # fmt: skip
def test_trust(monkeypatch, uid, mode, good):
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    assert cache._trusted(types.SimpleNamespace(st_uid=uid, st_mode=0o40000 | mode)) is good


def test_no_home(tmp_path):
    code = "import pwd\ndef nobody(uid): raise KeyError(uid)\npwd.getpwuid = nobody\nassert cache.folder() is None; result = call(stamp())"
    assert child(code, HOME=None, XDG_CACHE_HOME=None, NUMBAPOOL_CACHE_DIR=None, NUMBA_CACHE_DIR=None) == [TIMES, 0, 1, 0]


def test_import_creates_nothing(store):
    assert child("result = cache.stats()['trouble']; stamp()") == ["", 0, 0, 0]
    assert not store.exists()


@pytest.mark.parametrize("variables, expected", [
    ("NUMBAPOOL_CACHE_DIR NUMBA_CACHE_DIR XDG_CACHE_HOME", "NUMBAPOOL_CACHE_DIR"),
    ("NUMBA_CACHE_DIR XDG_CACHE_HOME", "NUMBA_CACHE_DIR/numbapool"),
    ("XDG_CACHE_HOME", "XDG_CACHE_HOME/numbapool"),
    ("", "home/.cache/numbapool"),
])  # fmt: skip
def test_which_folder(tmp_path, monkeypatch, variables, expected):
    for name in "NUMBAPOOL_CACHE_DIR", "XDG_CACHE_HOME":
        monkeypatch.setenv(name, str(tmp_path / name) if name in variables.split() else "")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "NUMBA_CACHE_DIR") if "NUMBA_CACHE_DIR" in variables.split() else "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.folder().parent == tmp_path / expected
    if expected.startswith("home"):
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        assert cache.folder().parent == tmp_path / expected


def test_full_disk(store, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert call(stamp()) == TIMES
    assert counts() == (0, 1, 0) and "No space" in cache.stats()["trouble"] and entries(store) == []


def test_result_that_cannot_be_pickled(store, monkeypatch):
    def refuse(result):
        raise cache.pickle.PicklingError("no")

    monkeypatch.setattr(cache, "dumps", refuse)
    assert call(stamp()) == TIMES
    assert counts() == (0, 1, 0) and entries(store) == []


def test_kernel_bound_to_this_process(store):
    """An address baked into the code must not reach another process."""
    names = {"negate": ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: -x)}
    kernel = cache.attach(njit(types.FunctionType((lambda x: negate(x)).__code__, names)), "salt")  # noqa: F821
    kernel.compile("float64(float64)")
    assert kernel(2.0) == -2.0
    assert counts() == (0, 1, 0) and entries(store) == []


# many at once


def test_two_processes_race_on_one_key(store, tmp_path):
    code = """from test_cache import *
kernel = stamp()
pathlib.Path({!r}, str(os.getpid())).touch()
while len(os.listdir({!r})) < 2:
    time.sleep(0.001)
result = call(kernel)"""
    (tmp_path / "ready").mkdir()
    code = code.replace("{!r}", repr(str(tmp_path / "ready")))
    for result, hits, misses, saved in map(finish, [start(code), start(code)]):
        assert result == TIMES and hits + misses == 1 and misses == saved
    (path,) = entries(store)
    assert call(stamp()) == TIMES and counts() == (1, 0, 0)


def test_a_reader_sees_whole_files_only(tmp_path):
    path, blobs = tmp_path / "one.nbp", [bytes([c]) * 300_000 for c in b"ab"]
    cache._write(path, blobs[0])
    writers = [threading.Thread(target=lambda b=b: [cache._write(path, b) for _ in range(100)]) for b in blobs]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(path.read_bytes())
    assert seen <= set(blobs) and entries(tmp_path) == [path]


@pytest.mark.parametrize("files, more, kept", [(3, 10**9, ["e1", "e2"]), (99, 2500, ["e1", "e2"]), (99, 10**9, ["e0", "e1", "e2", "half", "old"])])
def test_old_entries_go(store, monkeypatch, files, more, kept):
    call(stamp())
    (path,) = entries(store)
    size = path.stat().st_size
    path.unlink()
    elsewhere = store / "0-numba0"
    elsewhere.mkdir()
    others = [elsewhere / "old.nbp", path.with_name("half.nbp.123"), *(path.with_name(f"e{i}.nbp") for i in range(3))]
    for age, other in enumerate(reversed(others), 1):
        other.write_bytes(bytes(1000))
        os.utime(other, (time.time() - 60 * age,) * 2)
    bystander = store / "keep.txt"
    bystander.touch()
    monkeypatch.setattr(cache, "MAX_FILES", files)
    monkeypatch.setattr(cache, "MAX_BYTES", size + more)
    call(stamp())
    assert sorted(other.name.partition(".")[0] for other in others if other.exists()) == kept
    assert path.exists() and bystander.exists() and cache.stats()["trouble"] == ""


def test_a_hit_makes_an_entry_young(store):
    call(stamp())
    (path,) = entries(store)
    os.utime(path, (10**9, 10**9))
    call(stamp())
    assert counts()[0] == 1 and path.stat().st_mtime > time.time() - 3600


def test_without_a_compiler(store):
    code = "import numba\nfrom numbapool import cache\nresult = cache.attach(numba.njit(lambda x: 2 * x), 'salt')(3)"
    assert finish(start(code, NUMBA_DISABLE_JIT="1")) == [6, 0, 0, 0]
    assert not store.exists()
