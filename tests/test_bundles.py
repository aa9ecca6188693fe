"""Bundles of small planes: what pools many planes side by side computes what pools each batch entry, which has too few planes for a bundle."""
from __future__ import annotations

import numba
import numpy as np
import pytest

import numbapool
from numbapool import bundles, numeric, testing
from numbapool.prepared import CALLS

N, C = 5, 7  # 35 planes: two bundles and a third that has planes of the second, too
SHAPES = {1: (11,), 2: (9, 7), 3: (5, 6, 7)}
WINDOWS = {"3/s2": dict(kernel_size=3, stride=2, padding=1), "3/s1": dict(kernel_size=3, stride=1, padding=1), "4/s3": dict(kernel_size=4, stride=3),
           "2/s2": dict(kernel_size=2, stride=2)}
POOLINGS = {
    "max": {}, "min": {}, "avg": {}, "sum": {}, "soft": {"temperature": 0.5}, "swap": {}, "lip": {}, "lp": {"norm_type": 2.0}, "gem": {},
    "std": {}, "idw": {}, "median": {}, "mode": {}, "stochastic": {"training": False},
}
EXACT = {"std", "idw"}  # whose loops for any windows add up side by side in another order


@pytest.fixture
def used(monkeypatch):
    """A list that has an entry for each bundled stage that was prepared; nothing is remembered from before."""
    found, build = [], bundles.Bundled.bundles
    monkeypatch.setattr(bundles.Bundled, "bundles", lambda *args: (found.append(1), build(*args))[1])
    CALLS.young.clear()
    CALLS.old.clear()
    return found


def given(name, ndim, rng, dtype="float32", shape=None):
    """The arrays of a call, x first."""
    shape = shape or (N, C, *SHAPES[ndim])
    x = rng.standard_normal(shape)
    x = np.round(x) if name == "mode" else x
    return [v.astype(dtype) for v in ((x, rng.standard_normal(shape)) if name == "lip" else (x,))]


def by_entries(function, arrays, *more, **kwargs):
    """The results of batch entries one by one."""
    parts = [function(*(a[i:i + 1] for a in arrays), *more, **kwargs) for i in range(len(arrays[0]))]
    parts = [p if isinstance(p, tuple) else (p,) for p in parts]
    return [np.concatenate(p) for p in zip(*parts, strict=True) if p[0].ndim]  # but for the gradients of parameters


def same(name, got, expected, parameters=0):
    """Bit for bit; loops that add up in another order within rounding, as do the gradients of parameters, which are sums of all entries."""
    got = got if isinstance(got, tuple) else (got,)
    for a, b in zip(got[:len(got) - parameters], expected, strict=False):
        if name in EXACT:
            testing.close(a, b, 4.0)
        else:
            np.testing.assert_array_equal(a, b)


@pytest.mark.jit
@pytest.mark.parametrize("ndim", SHAPES)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", POOLINGS)
def test_bundles_compute_the_same(name, window, ndim, used):
    rng, own = np.random.default_rng(ndim), {**WINDOWS[window], **POOLINGS[name]}
    arrays = given(name, ndim, rng)
    pool, back = getattr(numbapool, f"{name}_pool{ndim}d"), getattr(numbapool, f"{name}_pool{ndim}d_backward")
    expected = by_entries(pool, arrays, **own)
    assert not used
    y = pool(*arrays, **own)
    assert used or (name == "median" and WINDOWS[window]["kernel_size"] ** ndim > 9)
    same(name, y, expected)
    g = rng.standard_normal(y.shape).astype(y.dtype)
    seeded = [g, *arrays]
    got = back(*seeded, **own)
    parameters = len(got) - len(arrays) if isinstance(got, tuple) else 0
    same(name, got, by_entries(back, seeded, **own), parameters)
    if parameters:
        total = sum(back(*(a[i:i + 1] for a in seeded), **own)[-1].astype(np.float64) for i in range(N))
        np.testing.assert_allclose(got[-1], total, rtol=1e-4)


ALIKE = ("int8", "int16", "int32", "uint32", "uint64")  # each as wide as another dtype, of which bundles know the width alone


@pytest.mark.jit
@pytest.mark.parametrize("dtype", [pytest.param(d, marks=pytest.mark.full) if d in ALIKE else d for d in numeric.DTYPES])
@pytest.mark.parametrize("window", WINDOWS)
def test_all_dtypes_with_indices(window, dtype, used):
    if dtype in ("bool", "bfloat16"):
        pytest.skip("numpy has none, or nothing to tell apart")
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((N, C, 9, 7)) * 40).clip(0 if dtype.startswith("u") else -100, 100).astype(dtype)
    names = ("max", "min") if dtype == "float32" else ("max",)
    for name in names:
        pool = getattr(numbapool, f"{name}_pool2d")
        same(name, pool(x, **WINDOWS[window], return_indices=True), by_entries(pool, [x], **WINDOWS[window], return_indices=True))
        same(name, pool(x, **WINDOWS[window]), by_entries(pool, [x], **WINDOWS[window]))
    assert len(used) == 2 * len(names)
    if dtype.startswith("float"):
        for name in ("avg", "soft"):
            pool = getattr(numbapool, f"{name}_pool2d")
            same(name, pool(x, **WINDOWS[window]), by_entries(pool, [x], **WINDOWS[window]))
        y = numbapool.max_pool2d(x, **WINDOWS[window])
        g = rng.standard_normal(y.shape).astype(dtype)
        back = numbapool.max_pool2d_backward
        same("max", back(g, x, **WINDOWS[window]), by_entries(back, [g, x], **WINDOWS[window]))


@pytest.mark.jit
@pytest.mark.parametrize("name", ["max", "soft", "lip", "median"])
def test_any_strides(name, used):
    """Planes with gaps, at unequal distances, turned round, and one plane for all."""
    rng = np.random.default_rng(4)
    pool, back = getattr(numbapool, f"{name}_pool2d"), getattr(numbapool, f"{name}_pool2d_backward")
    window = WINDOWS["3/s2"]
    wide = given(name, 2, rng, shape=(2 * N, C + 1, 12, 14))
    cuts = {
        "entries": np.s_[::2, :, :9, :7], "channels": np.s_[:N, 1:], "rows": np.s_[:N, :, ::2], "columns": np.s_[:N, :, :, ::2],
        "turned": np.s_[N - 1::-1, ::-1, ::-1, ::-1], "all": np.s_[:],
    }
    for cut in cuts.values():
        arrays = [a[cut] for a in wide]
        y = pool(*arrays, **window)
        same(name, y, [pool(*map(np.ascontiguousarray, arrays), **window)])
        same(name, y, by_entries(pool, arrays, **window))
        g = rng.standard_normal((2, *y.shape)).astype(y.dtype)[0]
        got = back(g, *arrays, **window)
        same(name, got, by_entries(back, [g, *arrays], **window))
        one = np.broadcast_to(np.float32(0.5), y.shape)  # as the gradient of a sum
        same(name, back(one, *arrays, **window), by_entries(back, [np.ascontiguousarray(one), *arrays], **window))
        out = np.full((*y.shape[:3], 2 * y.shape[3]), 7, y.dtype)
        pool(*arrays, **window, out=out[..., ::2])
        same(name, out[..., ::2], [y])
        assert (out[..., 1::2] == 7).all()
    shared = [np.broadcast_to(a[0, 0, :9, :7], (N, C, 9, 7)) for a in wide]
    same(name, pool(*shared, **window), by_entries(pool, [np.ascontiguousarray(a) for a in shared], **window))
    assert used


@pytest.mark.jit
@pytest.mark.parametrize("name", ["soft", "swap", "lip", "lp", "gem"])
def test_what_is_out_of_reach_is_done_again(name, used):
    """Planes with windows far from the common reference, and with specials: the exact loops do them again, and those alone."""
    rng = np.random.default_rng(5)
    own = {**WINDOWS["3/s1"], **POOLINGS[name]}
    pool, back = getattr(numbapool, f"{name}_pool2d"), getattr(numbapool, f"{name}_pool2d_backward")
    for place in range(N * C):
        arrays = given(name, 2, np.random.default_rng(place), shape=(N * C, 1, 9, 7))
        arrays[0][place] *= 1e15 if name in ("lp", "gem") else 1e4
        arrays[0][(place + 9) % (N * C), 0, 2, 3] = [np.nan, np.inf, -np.inf][place % 3]
        with np.errstate(all="ignore"):
            y = pool(*arrays, **own)
            same(name, y, by_entries(pool, arrays, **own))
            g = rng.standard_normal(y.shape).astype(np.float32)
            got = back(g, *arrays, **own)
            same(name, got, by_entries(back, [g, *arrays], **own), isinstance(got, tuple) and len(got) - len(arrays))
    assert used


@pytest.mark.jit
def test_every_number_of_planes_and_size(used):
    rng = np.random.default_rng(6)
    for planes in (15, 16, 17, 31, 32, 33, 47, 48):
        for size in ((1, 1), (1, 16), (3, 5), (4, 4), (15, 1), (17, 1), (5, 7), (16, 16), (13, 29)):
            for dtype in ("float32", "float64", "float16"):
                x = rng.standard_normal((planes, 1, *size)).astype(dtype)
                window = dict(kernel_size=3, stride=2, padding=1)
                y, i = numbapool.max_pool2d(x, **window, return_indices=True)
                expected = by_entries(numbapool.max_pool2d, [x], **window, return_indices=True)
                same("max", (y, i), expected)
                same("avg", numbapool.avg_pool2d(x, **window), by_entries(numbapool.avg_pool2d, [x], **window))
                same("avg", numbapool.avg_pool2d_backward(y, x, **window), by_entries(numbapool.avg_pool2d_backward, [y, x], **window))
    assert used


@pytest.mark.jit
def test_asking_ahead_changes_nothing(used, monkeypatch):
    """Bundles of large inputs ask for the next one's planes, at last beyond the input."""
    arrays = given("lip", 2, np.random.default_rng(8), shape=(N, C, 13, 11))
    expected = by_entries(numbapool.lip_pool2d, arrays, **WINDOWS["3/s2"])
    monkeypatch.setattr(bundles, "ASK_FROM", 0)
    same("lip", numbapool.lip_pool2d(*arrays, **WINDOWS["3/s2"]), expected)
    assert used


@pytest.mark.jit
def test_a_parameter_a_channel(used):
    """Values of channels go into lanes, too, and gradients out of them."""
    rng = np.random.default_rng(7)
    x = np.abs(rng.standard_normal((N, C, 9, 7))).astype(np.float32)
    p = rng.uniform(1, 4, C)
    window = WINDOWS["3/s2"]
    y = numbapool.gem_pool2d(x, p=p, **window)
    g = rng.standard_normal(y.shape).astype(np.float32)
    gx, gp = numbapool.gem_pool2d_backward(g, x, p=p, **window)
    assert len(used) == 2
    for c in range(C):
        one = np.s_[:, c:c + 1]
        np.testing.assert_allclose(y[one], numbapool.gem_pool2d(x[one], p=p[c], **window), rtol=2e-6)
        ex, ep = numbapool.gem_pool2d_backward(np.ascontiguousarray(g[one]), x[one], p=p[c], **window)
        np.testing.assert_allclose(gx[one], ex, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(gp[c], ep, rtol=1e-4)


@pytest.mark.jit
@pytest.mark.parametrize("name", ["max", "soft", "std", "median"])
def test_threads_share_bundles(name, used):
    x = given(name, 2, np.random.default_rng(9), shape=(33, 65, 14, 14))[0]
    x[7, 3] *= 1e4  # which is done again
    pool, back, found = getattr(numbapool, f"{name}_pool2d"), getattr(numbapool, f"{name}_pool2d_backward"), []
    threads = numba.get_num_threads()
    try:
        for count in (1, threads):
            numba.set_num_threads(count)
            y = pool(x, **WINDOWS["3/s1"])
            found.append((y, back(np.cos(y), x, **WINDOWS["3/s1"])))
    finally:
        numba.set_num_threads(threads)
    same("max", *found)
    assert used


@pytest.mark.jit
def test_wide_planes_are_left_alone(used):
    numbapool.soft_pool2d(np.ones((N, C, 9, 400), np.float32), 3, 2)
    numbapool.soft_pool2d(np.ones((1, 15, 9, 7), np.float32), 3, 2)
    numbapool.soft_pool2d(np.ones((N, 9, 7, C), np.float32), 3, 2, channels_last=True)
    assert not used


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
def test_tiles_are_turned(itemsize):
    """In plain Python and compiled: planes into lanes and back, whatever their size."""
    from numba import config, njit

    from numbapool import memory
    n, dtype = memory.tile_of(itemsize), np.dtype(f"uint{8 * itemsize}")
    pointer, turn = memory.pointer(dtype), memory.turn_tile

    def turned(to, to_pitch, source, pitch):
        turn(pointer(to), to_pitch, pointer(source), pitch)
    turned = turned if config.DISABLE_JIT else njit(turned)
    source = np.arange(n * (n + 5), dtype=dtype).reshape(n, n + 5)
    to = np.full((n, n + 3), 9, dtype)
    turned(to.ctypes.data, n + 3, source.ctypes.data + 2 * itemsize, n + 5)
    np.testing.assert_array_equal(to[:, :n], source[:, 2:n + 2].T)
    assert (to[:, n:] == 9).all()


@pytest.mark.jit
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_results_past_the_caches(dtype, used, monkeypatch):
    """What is so large that it goes past the caches is what small results are, wherever in a line of memory they begin."""
    rng = np.random.default_rng(5)
    for size in ((9, 7), (5, 13), (4, 4)):
        x = rng.standard_normal((N, C, *size)).astype(dtype)
        parts = by_entries(numbapool.max_pool2d, [x], **WINDOWS["3/s1"], return_indices=True)
        g = rng.standard_normal(x.shape).astype(dtype)
        back = {name: getattr(numbapool, f"{name}_pool2d_backward") for name in ("max", "avg", "soft")}
        gradients = {name: by_entries(f, [g, x], **WINDOWS["3/s1"]) for name, f in back.items()}
        with monkeypatch.context() as m:
            m.setattr("numbapool.memory.cache_size", lambda: 64)
            used.clear()
            for skip in range(3):
                y = np.full(x.size + 8, 77, dtype)
                out = y[skip:skip + x.size].reshape(x.shape)
                same("max", numbapool.max_pool2d(x, **WINDOWS["3/s1"], out=out), parts[:1])
                assert (y[:skip] == 77).all() and (y[skip + x.size:] == 77).all()
            same("max", numbapool.max_pool2d(x, **WINDOWS["3/s1"], return_indices=True), parts)
            for name, f in back.items():
                same(name, f(g, x, **WINDOWS["3/s1"]), gradients[name])
            assert len(used) >= 5
        CALLS.young.clear()
        CALLS.old.clear()
