"""Hazards: each in a process of its own with a time limit, because what goes wrong here hangs, aborts or kills."""
from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time

import children
import numba
import numpy as np
import pytest

import numbapool as nbp

SHAPE = (5, 8, 67, 101)  # 270 680 elements: enough for threads
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="threads and caches are of compiled kernels")


start, child = (functools.partial(f, module="test_robustness") for f in (children.start, children.child))


@pytest.fixture(scope="session")
def threaded():
    """Skips where Numba has no layer that is safe for threads."""
    if "True" not in child("print(threads().usable() > 1)"):
        pytest.skip("neither libgomp nor tbb")


# ---------------------------------------------------------------- child: calls, and what they should give

def threads():
    """The module, imported late: a test of that is below."""
    from numbapool import threads
    return threads


def watch() -> list[int]:
    """A list to which every launch of a kernel will add its number of threads."""
    seen, run = [], threads().run
    threads().run = lambda *args: (seen.append(args[-1]), run(*args))[1]
    return seen


def calls() -> list:
    """Forward and backward of every family of loops, on input that takes threads."""
    x = np.random.default_rng(0).random(SHAPE, np.float32) - np.float32(0.25)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    draw, weight = dict(kernel_size=3, stride=2, seed=5), np.array([2.0, 1.0, -1.0])
    return [
        lambda: nbp.max_pool2d(x, 3, 2, 1, return_indices=True),
        lambda: nbp.max_pool2d_backward(nbp.max_pool2d(x, 3, 2, 1), x, 3, 2, 1),
        lambda: nbp.soft_pool2d(last, 2, channels_last=True),
        lambda: nbp.soft_pool2d_backward(nbp.soft_pool2d(last, 2, channels_last=True), last, 2, channels_last=True),
        lambda: nbp.lip_pool2d_backward(nbp.lip_pool2d(x, x), x, x),
        lambda: nbp.sort_pool2d_backward(nbp.sort_pool2d(x, weight), x, weight),
        lambda: nbp.stochastic_pool2d_backward(nbp.stochastic_pool2d(x, **draw), x, **draw),
        lambda: nbp.avg_pool2d_backward(nbp.avg_pool2d(x.astype(np.float16), 2), x.astype(np.float16), 2),
    ]


def flat(results: list) -> list[bytes]:
    """The bytes of all results."""
    return [a.tobytes() for r in results for a in (r if isinstance(r, tuple) else (r,))]


def work(jobs: int | None = None) -> list[bytes]:
    """The results of the first jobs, or of all."""
    return flat([f() for f in calls()[:jobs]])


def serial(jobs: int | None = None) -> list[bytes]:
    """The same by one thread."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    seen = watch()
    result = work(jobs)
    assert set(seen) == {1}
    numba.set_num_threads(before)
    return result


def one_more(_: object = None) -> tuple[list[bytes], set[int]]:
    """All results, and the numbers of threads, of a worker process."""
    seen = watch()
    return work(), set(seen)


def in_fork(action) -> None:
    """Run action in a fork, which has to end well and soon."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(100)
        try:
            action()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the child failed, hung or was killed"


def used() -> list[bytes]:
    """The results by threads, which have run when this returns."""
    seen = watch()
    result = work()
    assert 2 in seen, f"no threads: {seen}"
    return result


def check_child(expected: list[bytes]) -> None:
    """A fork computes the same, with one thread."""
    got, seen = one_more()
    assert got == expected
    assert seen == {1}


# ---------------------------------------------------------------- Python threads

def several_threads(first: bool, count: int = 8) -> None:
    """Every thread begins with another call; first: nothing is compiled or loaded yet."""
    jobs = 3 if first else len(calls())  # compiling takes seconds each
    expected, results, barrier = None if first else serial(jobs), {}, threading.Barrier(count)

    def job(t: int) -> None:
        mine = calls()
        barrier.wait()
        results[t] = {(i + t) % jobs: mine[(i + t) % jobs]() for i in range(jobs)}

    team = [threading.Thread(target=job, args=(t,)) for t in range(count)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    expected = expected or serial(jobs)
    for t in range(count):
        assert flat([results[t][i] for i in range(jobs)]) == expected


@pytest.mark.parametrize("first", [False, True])
def test_python_threads(threaded, first, tmp_path):
    """With an empty cache all threads compile at once."""
    folder = str(tmp_path) if first else os.environ.get("NUMBAPOOL_CACHE_DIR")
    assert "[1, 2]" in child(f"seen = watch(); several_threads({first}); print(sorted(set(seen)))", NUMBAPOOL_CACHE_DIR=folder)


def test_layer_workqueue_is_never_entered():
    """Two Python threads in it abort the process."""
    assert "[1]" in child("seen = watch(); several_threads(False, 4); print(sorted(set(seen)))", NUMBA_THREADING_LAYER="workqueue")


@pytest.mark.parametrize("env", [{"NUMBA_NUM_THREADS": "1"}, {"NUMBA_THREADING_LAYER": "nonsense"}, {"NUMBA_THREADING_LAYER": "workqueue"}])
def test_serial_where_there_are_no_threads(env):
    assert "[1]" in child("seen = watch(); work(); print(sorted(set(seen)))", **env)


def test_results_do_not_depend_on_the_number_of_threads(threaded):
    """Of any family, bit by bit; three threads do not divide the tasks evenly."""
    code = """
    expected, seen = serial(), watch()
    for n in (2, 3, 4):
        numba.set_num_threads(n)
        assert work() == expected
        assert n in seen"""
    child(code, NUMBA_NUM_THREADS="4")


def test_layer_omp(threaded):
    child("assert used() == serial(); assert threads().layer() == 'omp'", NUMBA_THREADING_LAYER="omp")


# ---------------------------------------------------------------- processes

@posix
def test_fork_after_threads(threaded):
    child("expected = used(); in_fork(lambda: check_child(expected)); assert used() == expected")


@posix
def test_grandchild(threaded):
    child("expected = used(); in_fork(lambda: in_fork(lambda: check_child(expected)))")


@posix
def test_fork_under_load(threaded):
    """Forks while another thread is inside the kernels."""
    child("""
    expected, stop = used(), []
    other = threading.Thread(target=lambda: [work() for _ in iter(lambda: bool(stop), True)])
    other.start()
    for _ in range(5):
        in_fork(lambda: check_child(expected))
    stop.append(1)
    other.join()""")


@posix
def test_fork_while_another_thread_compiles(tmp_path):
    """A child forked with the compiler's lock taken would wait for it for ever."""
    child("""
    import numbapool.kernels
    from numba.core.compiler_lock import global_compiler_lock
    lock = global_compiler_lock._lock
    x = np.ones((2, 3, 9, 9), np.float32)
    other = threading.Thread(target=lambda: nbp.soft_pool2d(x, 3))
    other.start()
    while lock.acquire(blocking=False):
        lock.release()
        time.sleep(0.001)
    in_fork(lambda: nbp.avg_pool2d(x, 3))
    other.join()""", NUMBAPOOL_CACHE_DIR=str(tmp_path))


@posix
@pytest.mark.parametrize("imported", ["nbp", "nbp.max_pool2d"])
def test_fork_after_threads_of_torch(threaded, imported):
    """libgomp hangs in a fork of a process that used it, also where that was not this library (a DataLoader's parent)."""
    pytest.importorskip("torch")
    child(f"{imported}; torch_works(2); in_fork(lambda: check_child(serial()))")


def in_pool(kind: str, start_method: str) -> None:
    """Two worker processes give the parent's results."""
    expected, context = used(), multiprocessing.get_context(start_method)
    if kind == "Pool":
        with context.Pool(2) as pool:
            results = pool.map(one_more, range(4))
    else:
        with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
            results = list(pool.map(one_more, range(4)))
    for got, seen in results:
        assert got == expected
        assert seen <= ({1} if start_method == "fork" else {1, 2})


@pytest.mark.parametrize(("kind", "start_method"), [("Pool", "fork"), ("ProcessPoolExecutor", "fork"), ("Pool", "spawn")])
def test_process_pools(threaded, kind, start_method):
    if start_method not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork on this system")
    child(f"in_pool({kind!r}, {start_method!r})")


def thread_pool(_: object = None) -> list[list[bytes]]:
    """Three threads of a pool that call the library."""
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        return list(pool.map(lambda _: work(), range(3)))


@posix
def test_thread_pool_in_a_process_pool(threaded):
    child("""
    expected = used()
    assert thread_pool() == [expected] * 3
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(thread_pool, range(2)) == [[expected] * 3] * 2""")


# ---------------------------------------------------------------- torch

def torch_works(count: int) -> None:
    """Use torch's own threads, and see that it has as many as it should."""
    import torch
    torch.set_num_threads(count)
    (torch.ones(900, 900) @ torch.ones(900, 900)).sum()
    torch.nn.functional.max_pool2d(torch.ones(8, 16, 64, 64), 3)
    assert torch.get_num_threads() == count


@pytest.mark.parametrize("count", [1, 3])
def test_torch_keeps_its_number_of_threads(threaded, count):
    """Numba's omp layer sets OpenMP's, which is torch's: seen 3 become 2."""
    pytest.importorskip("torch")
    child(f"torch_works({count}); import torch; expected = used(); assert torch.get_num_threads() == {count}; "
          f"torch_works({count}); assert used() == expected; assert torch.get_num_threads() == {count}")


def torch_comes_later() -> None:
    """The library first."""
    expected = used()
    torch_works(2)
    assert used() == expected


def test_torch_after_the_library(threaded):
    pytest.importorskip("torch")
    child("torch_comes_later()")


class Items:
    """A dataset whose items are pooled in the worker."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int):
        import torch
        torch.nn.functional.max_pool2d(torch.ones(8, 16, 64, 64), 3)
        return nbp.max_pool2d(torch.full(SHAPE, float(i)), 2), os.getpid()


@posix
@pytest.mark.parametrize("before", ["torch_works(2)", "used()"])
def test_data_loader(threaded, before):
    pytest.importorskip("torch")
    child(f"""
    import torch
    {before}
    loader = torch.utils.data.DataLoader(Items(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=100)
    items = list(loader)
    assert all((y == i).all() and pid != os.getpid() for i, (y, pid) in enumerate(items))
    assert len({{pid for _, pid in items}}) == 2""")


# ---------------------------------------------------------------- Ctrl-C

LONG = {  # minutes each
    "many calls": lambda x, k: [nbp.max_pool2d(x, 3) for _ in range(4 if len(x) == 1 else 1 << 20)],
    "lp": lambda x, k: nbp.lp_pool2d(x * np.float32(1e20), 2.5, k, 1),  # beyond the shared reference: each window by itself
    "sort": lambda x, k: nbp.sort_pool2d(x, np.zeros(8), k, 1),
    "lp backward": lambda x, k: nbp.lp_pool2d_backward(np.ones((*x.shape[:2], 129 - k, 129 - k), np.float32), x * np.float32(1e20), 2.5, k, 1),
}


def until_interrupted(name: str) -> None:
    """A call that is compiled and then takes minutes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
    x = np.random.default_rng(0).random((64, 32, 128, 128), np.float32)
    LONG[name](x[:1, :2], 65)
    print("ready", flush=True)
    LONG[name](x, 65)


@posix
@pytest.mark.parametrize("name", LONG)
def test_ctrl_c(name):
    """KeyboardInterrupt between two chunks of a call: a traceback and the status of the signal, soon."""
    process = start(f"until_interrupted({name!r})")
    try:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode in (-signal.SIGINT, 130), err
    assert out == ""
    assert err.rstrip().endswith("KeyboardInterrupt")
