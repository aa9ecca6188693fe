"""Start-up and the disk: importing is light, a second process compiles nothing, and no state of the disk makes a call fail."""
from __future__ import annotations

import os
import subprocess
import sys

import children
import numba
import numpy as np
import pytest
from children import ROOT, child

import numbapool as nbp

HEAVY = ("torch", "jax", "cupy", "scipy", "matplotlib", "pandas", "ml_dtypes")
X = "import numpy as np, numbapool as nbp; x = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8)"
CHECK = "assert (nbp.max_pool2d(x, 2) == x[:, :, 1::2, 1::2]).all(); from numbapool import cache; s = cache.stats()"

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")


def test_import_loads_nothing_heavy():
    child(f"import sys, numbapool; assert not {{'numba', 'llvmlite', *{HEAVY!r}}} & set(sys.modules), sorted(sys.modules)")


def test_calls_on_numpy_load_no_other_library():
    child(f"{X}; {CHECK}")  # fills the cache
    heavy = {"scipy.linalg", *HEAVY} - {"scipy"}  # Numba itself looks for scipy's version
    child(f"{X}; {CHECK}; import sys; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)")


def test_naming_every_function_compiles_nothing():
    """No kernel, no entry looked up, and none of this library's dispatchers has a signature."""
    child("""
    import gc, numbapool as nbp
    functions = [getattr(nbp, name) for name in nbp.__all__]
    assert len(functions) > 100
    from numba.core.dispatcher import Dispatcher
    from numbapool import cache, kernels, threads
    assert cache.stats() == {"hits": 0, "misses": 0, "saved": 0, "trouble": ""}
    ours = [d for d in gc.get_objects() if isinstance(d, Dispatcher) and d.py_func.__module__.startswith("numbapool")]
    assert not [d for d in ours if d.signatures]
    assert not threads._addresses and threads._driver is None""")


def test_a_second_process_loads_what_the_first_compiled(tmp_path):
    """The kernel, and the threads' driver; that of the backward pass is another one."""
    code = f"""
    {X}
    big = np.ones((4, 8, 128, 128), np.float32)
    for f in (lambda: nbp.max_pool2d(x, 2), lambda: nbp.max_pool2d(big, 2), lambda: nbp.max_pool2d_backward(nbp.max_pool2d(x, 2), x, 2)):
        f()
    from numbapool import cache, threads
    s = cache.stats()
    print(s["hits"], s["misses"], s["saved"], threads.usable())"""
    first = child(code, NUMBAPOOL_CACHE_DIR=str(tmp_path)).split()
    assert int(first[0]) == 0
    assert int(first[1]) == int(first[2]) == (3 if int(first[3]) > 1 else 2)
    second = child(code, NUMBAPOOL_CACHE_DIR=str(tmp_path)).split()
    assert second[:3] == [first[1], "0", "0"]


def test_no_home(tmp_path):
    """$HOME unset, or a folder that is not there."""
    unset = dict.fromkeys(("NUMBAPOOL_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"))
    child(f"{X}; {CHECK}", **unset, HOME=None)
    nowhere = tmp_path / "file"
    nowhere.write_text("")
    child(f"{X}; {CHECK}; assert s['saved'] == 0 and s['misses'] == 1", **unset, HOME=str(nowhere / "home"))


def test_cache_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "cache")
    child(f"{X}; {CHECK}; assert s['saved'] == 0 and s['misses'] == 1 and s['trouble']", NUMBAPOOL_CACHE_DIR=place)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="folders do not keep the administrator from writing")
def test_read_only_cache(tmp_path):
    (tmp_path / "cache").mkdir(mode=0o555)
    child(f"{X}; {CHECK}; assert s['saved'] == 0", NUMBAPOOL_CACHE_DIR=str(tmp_path / "cache"))


@pytest.mark.parametrize("harm", [lambda b: b"", lambda b: b[:40], lambda b: b[:len(b) // 2], lambda b: b[:-1],
                                  lambda b: b[:-100] + bytes([b[-100] ^ 255]) + b[-99:], lambda b: b"\0" * len(b)])
def test_damaged_entries_are_compiled_anew(tmp_path, harm):
    """And heal: the next process loads them."""
    child(f"{X}; {CHECK}; assert s['saved'] == 1", NUMBAPOOL_CACHE_DIR=str(tmp_path))
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files
    for p in files:
        p.write_bytes(harm(p.read_bytes()))
    child(f"{X}; {CHECK}; assert s['hits'] == 0 and s['saved'] == 1", NUMBAPOOL_CACHE_DIR=str(tmp_path))
    child(f"{X}; {CHECK}; assert s['hits'] == 1 and s['saved'] == 0", NUMBAPOOL_CACHE_DIR=str(tmp_path))


def test_read_only_install(tmp_path):
    """Kernels are cached elsewhere, and nothing is left in the package's folder."""
    code = f"import sys; sys.dont_write_bytecode = True; {X}; {CHECK}"
    folder = tmp_path / "site"
    folder.mkdir()
    for source in (ROOT / "numbapool").rglob("*.py"):
        copy = folder / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
        copy.chmod(0o444)
    places = [p for p in (folder, *folder.rglob("*")) if p.is_dir()]
    for place in places:
        place.chmod(0o555)
    try:
        env = {**os.environ, "PYTHONPATH": str(folder), "NUMBAPOOL_CACHE_DIR": str(tmp_path / "cache")}
        code += "; print(nbp.__file__, s['saved'])"
        done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    finally:
        for place in places:
            place.chmod(0o755)
    assert done.stdout == f"{folder / 'numbapool' / '__init__.py'} 1\n", done.stderr
    assert not [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".py"]


def test_two_processes_compile_at_once(tmp_path):
    """Both give results, and leave entries that a third one loads."""
    both = [children.start(f"{X}; {CHECK}; assert s['misses'] == 1", NUMBAPOOL_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=children.LIMIT)
        assert (process.returncode, out) == (0, "done\n"), err
    child(f"{X}; {CHECK}; assert s['hits'] == 1 and s['misses'] == 0", NUMBAPOOL_CACHE_DIR=str(tmp_path))


def test_many_lengths_do_not_fill_the_memory():
    """Windows' tables of long axes are not all kept: 12 MB each, seen to grow without end."""
    child("""
    import resource, numpy as np, numbapool as nbp
    x = np.zeros((1, 1, 1_000_000), np.uint8)
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for n in range(10):
        nbp.max_pool1d(x[..., n:], 2)
    before = peak()
    for n in range(10, 60):
        nbp.max_pool1d(x[..., n:], 2)
    assert peak() - before < 200_000, (before, peak())""")


def test_remembered_windows_tell_equal_arguments_apart():
    """True == 1 and 2.0 == 2, as keys too: a wrong type is refused also after the right one was remembered."""
    x = np.zeros((1, 1, 9, 9), np.float32)
    for right, wrong in ((2, 2.0), (1, True), ((1, 1), (1, True)), ((2, 2), (2, 2.0)), (((0, 0), (0, 0)), ((0, 0), (0, False)))):
        index = 3 if right == ((0, 0), (0, 0)) else 1
        arguments = [x, 2, 1, 0]
        arguments[index] = right
        nbp.max_pool2d(*arguments)
        arguments[index] = wrong
        with pytest.raises(TypeError):
            nbp.max_pool2d(*arguments)
