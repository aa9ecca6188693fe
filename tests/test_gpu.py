"""On a real device: the whole registry in torch's and CuPy's arrays against the CPU's results, streams, graphs, devices, large tensors, errors.

Nothing here runs without a CUDA device; `make test-gpu` is for machines that have one.
"""
from __future__ import annotations

import contextlib
import gc
import itertools
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import ALL, CASES, Example, examples
from test_forward import INTEGERS, in_dtype, run

import numbapool as nbp
from numbapool.cuda import plan
from numbapool.cuda.driver import CudaError
from numbapool.prepared import CALLS
from numbapool.testing import TOLERANCE

pytestmark = pytest.mark.gpu
FLOATS = ("float32", "float64", "float16", "bfloat16")
CHOICES = [n for n in CASES if examples(n, 2, few=True)[0].integers or n == "s3"]
RNG = np.random.default_rng


# ---------------------------------------------------------------- the two libraries

class Torch:
    """torch's tensors: `array` brings NumPy's arrays to the device in their memory order, `host` brings results back."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def array(self, values: np.ndarray, device: str = "cuda") -> Any:
        memory, back = dense(values)
        if memory.dtype.name == "bfloat16":
            return self.torch.from_numpy(memory.view(np.int16)).to(device).view(self.torch.bfloat16).permute(back)
        return self.torch.from_numpy(memory).to(device).permute(back)

    def host(self, array: Any) -> np.ndarray:
        assert array.is_cuda and not array.requires_grad
        if array.dtype == self.torch.bfloat16:
            return array.view(self.torch.int16).cpu().numpy().view(kind_of("bfloat16"))
        return array.cpu().numpy()

    @contextlib.contextmanager
    def no_waiting(self) -> Any:
        """An error where the host waits for the device."""
        self.torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            self.torch.cuda.set_sync_debug_mode("default")

    def poison(self) -> None:
        """Leave NaN in the memory that the next calls get."""
        kept = [self.torch.full((n,), float("nan"), device="cuda") for n in (1 << 8, 1 << 12, 1 << 16, 1 << 18) for _ in range(4)]
        del kept


class Cupy:
    """The same for CuPy."""

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy

    def array(self, values: np.ndarray) -> Any:
        memory, back = dense(values)
        return self.cupy.asarray(memory).transpose(back)

    @staticmethod
    def host(array: Any) -> np.ndarray:
        return array.get()

    def poison(self) -> None:
        kept = [self.cupy.asarray(np.full(n, np.nan, np.float32)) for n in (1 << 8, 1 << 12, 1 << 16, 1 << 18) for _ in range(4)]
        del kept


def dense(values: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """An array without gaps with its axes from the slowest to the fastest, and the order that brings them back."""
    axes = sorted(range(values.ndim), key=lambda a: -abs(values.strides[a]))
    return np.array(values.transpose(axes), order="C"), tuple(int(a) for a in np.argsort(axes))


def kind_of(dtype: str) -> np.dtype:
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)


@pytest.fixture(scope="session")
def torch():
    module = pytest.importorskip("torch", reason="torch is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a build for CUDA on a machine without a driver
        if not module.cuda.is_available():
            pytest.skip("torch sees no CUDA device")
    module.backends.cuda.matmul.allow_tf32 = False
    return module


@pytest.fixture(scope="session")
def tensors(torch):
    return Torch(torch)


@pytest.fixture(scope="session")
def cupies():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"CuPy sees no CUDA device: {error}")
    if not count:
        pytest.skip("CuPy sees no CUDA device")
    return Cupy(cupy)


def forget() -> None:
    """Prepare every call anew."""
    CALLS.young, CALLS.old, CALLS.size = {}, {}, 0


# ---------------------------------------------------------------- agreement with the CPU

def close(got: np.ndarray, expected: np.ndarray, dtype: str, label: str) -> None:
    """Within the dtype's rounding."""
    assert got.dtype == expected.dtype and got.shape == expected.shape, label
    if dtype not in TOLERANCE:
        np.testing.assert_array_equal(got, expected, label)
        return
    rtol, atol = TOLERANCE[dtype]
    a, b = got.astype(np.float64), expected.astype(np.float64)
    scale = max(1.0, np.abs(np.nan_to_num(b, posinf=0, neginf=0)).max(initial=0))
    np.testing.assert_allclose(a, b, rtol, atol * scale, err_msg=label)


def listed(results: Any) -> list[Any]:
    return list(results) if isinstance(results, tuple) else [results]


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def moved(library: Any, e: Example, x: np.ndarray) -> Example:
    """The example with x, and what has x's axes, on the device."""
    args = tuple(library.array(a) if isinstance(a, np.ndarray) and a.shape == x.shape else a for a in e.args)
    return Example(e.label, e.function, library.array(x), args, e.kwargs, e.reference, e.learns, e.indexed, e.integers)


def both_ways(library: Any, e: Example, x: np.ndarray, grad: np.ndarray | None = None) -> None:
    """y, indices and all gradients are the CPU's, also with the indices handed over."""
    dtype = x.dtype.name
    expected, there = run(e, x), moved(library, e, x)
    library.poison()
    got = run(there, there.x)
    close(library.host(got[0]), expected[0], dtype, e.label)
    if e.indexed:
        np.testing.assert_array_equal(library.host(got[1]), expected[1], e.label)
    if grad is None:
        grad = RNG(7).standard_normal(expected[0].shape).astype(expected[0].dtype)
    grad_there = library.array(grad)
    wanted = listed(e.backward(grad, x, *e.args, **e.kwargs))
    library.poison()
    found = listed(there.backward(grad_there, there.x, *there.args, **e.kwargs))
    for g, w in zip(found, wanted, strict=True):
        close(library.host(g), w, grad.dtype.name, e.label)
    if e.indexed:
        found = listed(there.backward(grad_there, there.x, *there.args, **e.kwargs, indices=got[1]))
        close(library.host(found[0]), wanted[0], grad.dtype.name, e.label)


def registry(library: Any, name: str, ndim: int, dtype: str, few: bool = False) -> None:
    for e in examples(name, ndim, few):
        e = in_dtype(e, kind_of(dtype))
        for x in (e.x, channels_last(e.x)):
            both_ways(library, e, x)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("name", "ndim"), ALL)
def test_registry(tensors, name, ndim, dtype):
    registry(tensors, name, ndim, dtype, few=dtype != "float32")


@pytest.mark.parametrize(("name", "ndim"), ALL)
def test_registry_of_cupy(cupies, name, ndim):
    registry(cupies, name, ndim, "float32")


def integers(library: Any, name: str, dtype: str) -> None:
    e = examples(name, 2, few=True)[0]
    limits = (0, 2) if dtype == "bool" else (max(np.iinfo(dtype).min, -100), min(np.iinfo(dtype).max, 100))
    x = RNG(1).integers(*limits, e.x.shape).astype(dtype)
    y = run(e, x)[0]
    grad = RNG(2).integers(*limits, y.shape).astype(dtype) if name == "max_unpool" else RNG(2).standard_normal(y.shape, np.float32)
    for one in (x, channels_last(x)):
        both_ways(library, e, one, grad)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", CHOICES)
def test_integers(tensors, name, dtype):
    integers(tensors, name, dtype)


def test_integers_become_floats_where_sums_are_made(tensors):
    x = RNG(0).integers(-9, 9, (2, 3, 8, 8))
    for name in ("avg", "soft", "lp"):
        args = (2, 2) if name == "lp" else (2,)
        function = getattr(nbp, f"{name}_pool2d")
        for values, dtype in ((x, "float64"), (x.astype(np.int16), "float32")):
            close(tensors.host(function(tensors.array(values), *args)), function(values, *args), dtype, name)


def test_wide_integers_are_exact(tensors):
    x = np.array([[[2**62 + 1, 2**62, -2**63, 2**63 - 1]]])
    np.testing.assert_array_equal(tensors.host(nbp.max_pool1d(tensors.array(x), 2)), [[[2**62 + 1, 2**63 - 1]]])


def random_poolings(library: Any, ndim: int) -> None:
    x = RNG(ndim).random((3, 5, *(23, 29, 17)[:ndim])).astype(np.float32)
    there = library.array(x)
    for seed, (name, args, kwargs) in itertools.product((0, 5, -1, 1 << 40), (
            ("stochastic", (2,), {"return_indices": True}), ("s3", (2, 4), {}), ("fractional_max", (2,), {"output_size": 5, "return_indices": True}),
            ("fractional_max", (), {"pooling_ratio": 1.7, "pseudo_random": True, "return_sequences": True}),
            ("fractional_avg", (), {"pooling_ratio": 1.4, "overlapping": True}))):
        function = getattr(nbp, f"{name}_pool{ndim}d")
        for got, expected in zip(flat(function(there, *args, **kwargs, seed=seed)), flat(function(x, *args, **kwargs, seed=seed)), strict=True):
            if name == "fractional_avg":
                close(library.host(got), expected, "float32", f"{name} {seed}")
            else:
                np.testing.assert_array_equal(library.host(got), expected, f"{name} {seed}")


def flat(results: Any) -> list[Any]:
    """Results and what is in tuples among them."""
    return [one for result in results for one in flat(result)] if isinstance(results, tuple) else [results]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_same_seed_draws_the_same(tensors, ndim):
    random_poolings(tensors, ndim)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_same_seed_draws_the_same_in_cupy(cupies, ndim):
    random_poolings(cupies, ndim)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_infinity(tensors, dtype):
    x = RNG(0).standard_normal((2, 16, 9, 9)).astype(kind_of(dtype))
    x.reshape(-1)[::37], x.reshape(-1)[::41], x.reshape(-1)[::53] = np.nan, np.inf, -np.inf
    for name, values in itertools.product(("max", "min", "avg", "soft"), (x, channels_last(x))):
        function = getattr(nbp, f"{name}_pool2d")
        close(tensors.host(function(tensors.array(values), 3, 2, 1)), function(values, 3, 2, 1), dtype, name)


OWN = {  # parameters that are arrays, of windows of 2x2 elements in x of shape (2, 3, 8, 8)
    "stochastic": {"samples": RNG(1).random((2, 3, 4, 4)).astype(np.float32)}, "gem": {"p": np.array([0.7, 2.0, 3.5], np.float32)},
    "sort": {"weight": np.array([1.0, 0.5, -1.0])}, "ordinal": {"weight": np.array([[0.5, 0.25, 0.1], [1.0, 1.0, 1.0], [0.2, 0.3, 0.5]])},
    "mixed": {"a": np.array([0.25, 0.5, 0.75], np.float32)}, "ada": {"beta": np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)},
    "gated": {"omega": np.array([[0.5, -0.5], [1.0, 0.25]], np.float32)},
    "dpp": {"lam": np.array([0.25, 0.5, -0.5], np.float32), "alpha": np.zeros(3, np.float32)},
}


@pytest.mark.parametrize("name", OWN)
def test_parameters_on_the_device(tensors, name):
    """They stay there, as do their gradients: once a call is known, nothing waits for the device (torch tells of what does)."""
    x, own = RNG(0).random((2, 3, 8, 8)).astype(np.float32), OWN[name]
    window = {} if name == "dpp" else {"kernel_size": 2}
    forward, backward = getattr(nbp, f"{name}_pool2d"), getattr(nbp, f"{name}_pool2d_backward")
    y = forward(x, **own, **window)
    there, grad, given = {k: tensors.array(v) for k, v in own.items()}, tensors.array(y), tensors.array(x)

    def calls() -> list:
        found = backward(grad, given, **there, **window)
        return [forward(given, **there, **window), *(found if isinstance(found, tuple) else (found,))]
    calls()
    with tensors.no_waiting():
        found = calls()
    wanted = backward(y, x, **own, **window)
    for got, expected in zip(found, (y, *(wanted if isinstance(wanted, tuple) else (wanted,))), strict=True):
        np.testing.assert_allclose(tensors.host(got), expected, 1e-4, 1e-4, err_msg=name)


# ---------------------------------------------------------------- agreement with torch

@pytest.mark.parametrize("order", ["contiguous_format", "channels_last"])
def test_max_is_torchs(torch, order):
    """Also of ties and NaN."""
    F = torch.nn.functional
    x = torch.randint(-3, 4, (2, 16, 37, 41), device="cuda").float()
    x[torch.rand_like(x) < 0.01] = float("nan")
    x = x.to(memory_format=getattr(torch, order))
    for args, dilation, ceil in (((2,), 1, False), ((3, 2, 1), 1, False), ((3, 2, 1), 2, True), ((5, 3, 2), 1, True), ((3, 1, 1), 1, False)):
        y, index = nbp.max_pool2d(x, *args, dilation=dilation, ceil_mode=ceil, return_indices=True)
        expected = F.max_pool2d(x, *args, dilation=dilation, ceil_mode=ceil, return_indices=True)
        torch.testing.assert_close(y, expected[0], rtol=0, atol=0, equal_nan=True)
        assert torch.equal(index, expected[1]) and y.stride() == expected[0].stride()
    y, index = nbp.adaptive_max_pool2d(x, (7, 5), return_indices=True)
    expected = F.adaptive_max_pool2d(x, (7, 5), return_indices=True)
    torch.testing.assert_close(y, expected[0], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(index, expected[1])


@pytest.mark.parametrize("order", ["contiguous_format", "channels_last"])
def test_averages_are_torchs(torch, order):
    """Bit for bit where no sum is rounded; else within rounding."""
    F = torch.nn.functional
    whole = torch.randint(-8, 9, (2, 16, 32, 32), device="cuda").float().to(memory_format=getattr(torch, order))
    for args in ((2,), (4, 2), (2, 2, 1)):
        assert torch.equal(nbp.avg_pool2d(whole, *args), F.avg_pool2d(whole, *args))
    for size in (8, (16, 4), 1):
        assert torch.equal(nbp.adaptive_avg_pool2d(whole, size), F.adaptive_avg_pool2d(whole, size))
    x = torch.randn_like(whole)
    for args in ((3, 2, 1), (5, 3, 2)):
        for pad in (True, False):
            torch.testing.assert_close(nbp.avg_pool2d(x, *args, count_include_pad=pad), F.avg_pool2d(x, *args, count_include_pad=pad))
    torch.testing.assert_close(nbp.adaptive_avg_pool2d(x, (7, 5)), F.adaptive_avg_pool2d(x, (7, 5)))
    torch.testing.assert_close(nbp.lp_pool2d(x, 2, 3, 2), F.lp_pool2d(x, 2, 3, 2))


def test_gradients_are_torchs(torch):
    F = torch.nn.functional
    x = torch.randn(2, 16, 37, 41, device="cuda", requires_grad=True)
    for ours, theirs in ((lambda g, x: nbp.max_pool2d_backward(g, x, 3, 2, 1), lambda x: F.max_pool2d(x, 3, 2, 1)),
                         (lambda g, x: nbp.avg_pool2d_backward(g, x, 3, 2, 1), lambda x: F.avg_pool2d(x, 3, 2, 1)),
                         (lambda g, x: nbp.adaptive_avg_pool2d_backward(g, x, 5), lambda x: F.adaptive_avg_pool2d(x, 5)),
                         (lambda g, x: nbp.soft_pool2d_backward(g, x, 2),
                          lambda x: F.avg_pool2d(x.exp() * x, 2) / F.avg_pool2d(x.exp(), 2))):
        y = theirs(x)
        g = torch.randn_like(y)
        torch.testing.assert_close(ours(g, x.detach()), torch.autograd.grad(y, x, g)[0], rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- streams, graphs, threads, devices

CALLED: dict[str, Callable[[Any, Any], Any]] = {
    # (x, g) -> results, of x (4, 8, 32, 32) and g (4, 8, 16, 16)
    "max": lambda x, g: (*nbp.max_pool2d(x, 2, return_indices=True), nbp.max_pool2d_backward(g, x, 2)),
    "avg": lambda x, g: (nbp.avg_pool2d(x, 3, 2, 1), nbp.avg_pool2d_backward(g, x, 3, 2, 1)),
    "soft": lambda x, g: (nbp.soft_pool2d(x, 3, 2, 1), nbp.soft_pool2d_backward(g, x, 3, 2, 1)),
    "lp": lambda x, g: (nbp.lp_pool2d(x, 2, 2), nbp.lp_pool2d_backward(g, x, 2, 2)),
    "gem": lambda x, g: (nbp.gem_pool2d(x, 2), *nbp.gem_pool2d_backward(g, x, 2)),
    "lip": lambda x, g: (nbp.lip_pool2d(x, x), *nbp.lip_pool2d_backward(g, x, x)),
    "stochastic": lambda x, g: (nbp.stochastic_pool2d(x, 2, seed=16), nbp.stochastic_pool2d_backward(g, x, 2, seed=16)),
    "adaptive avg": lambda x, g: (nbp.adaptive_avg_pool2d(x, 16), nbp.adaptive_avg_pool2d_backward(g, x, 16)),
    "global max": lambda x, g: (nbp.global_max_pool2d(x),),
}
WAITING = {  # windows that are drawn anew, and sums that are finished on the host
    "fractional_max": lambda x, g: (nbp.fractional_max_pool2d(x, 2, output_size=16, seed=1),
                                    nbp.fractional_max_pool2d_backward(g, x, 2, output_size=16, seed=1)),
    "s3": lambda x, g: (nbp.s3_pool2d(x, 2, seed=1), nbp.s3_pool2d_backward(g, x, 2, seed=1)),
    "sort": lambda x, g: (nbp.sort_pool2d(x, np.array([1.0, 0.5])), *nbp.sort_pool2d_backward(g, x, np.array([1.0, 0.5]))),
}
EVERY = CALLED | WAITING


def pair(torch: Any, seed: int = 0, device: str = "cuda", channels_last: bool = False) -> tuple[Any, Any]:
    generator = torch.Generator(device).manual_seed(seed)
    found = [torch.randn(4, 8, n, n, device=device, generator=generator) for n in (32, 16)]
    return tuple(t.to(memory_format=torch.channels_last) for t in found) if channels_last else tuple(found)


def same(torch: Any, got: Any, expected: Any) -> None:
    """Equal bits."""
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", EVERY)
def test_ten_runs_give_the_same_bits(torch, name):
    for last in (False, True):
        x, g = pair(torch, channels_last=last)
        first = EVERY[name](x, g)
        for _ in range(9):
            same(torch, EVERY[name](x, g), first)


def busy(torch: Any, seconds: float = 0.1) -> None:
    """Keep the current stream at work for at least so long."""
    torch.cuda._sleep(int(seconds * 3e9))  # cycles


@pytest.mark.parametrize("name", EVERY)
def test_work_goes_to_the_current_stream(torch, name):
    """The input is NaN until just before the call, on the same stream: work on another one would see that."""
    values, g = pair(torch)
    expected = EVERY[name](values, g)
    x, stream = torch.full_like(values, float("nan")), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        busy(torch)
        x.copy_(values)
        got = EVERY[name](x, g)
        x.fill_(float("nan"))  # and nothing reads it later
    stream.synchronize()
    same(torch, got, expected)


def test_work_goes_to_cupys_current_stream(cupies):
    cupy = cupies.cupy
    values = RNG(0).standard_normal((4, 8, 32, 32)).astype(np.float32)
    expected = nbp.soft_pool2d(values, 3, 2, 1)
    x, there, load = cupies.array(np.full_like(values, np.nan)), cupies.array(values), cupy.zeros(1 << 27, np.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        for _ in range(50):
            load += 1
        x[...] = there
        y = nbp.soft_pool2d(x, 3, 2, 1)
        x[...] = np.nan
    stream.synchronize()
    close(cupies.host(y), expected, "float32", "soft")


@pytest.mark.parametrize("name", [
    *CALLED,
    *(pytest.param(n, marks=pytest.mark.xfail(reason="a table of its own in each call, or a sum that the host finishes")) for n in WAITING),
])
def test_a_prepared_call_waits_for_nothing(torch, name):
    x, g = pair(torch)
    for _ in range(3):
        EVERY[name](x, g)
    torch.cuda.synchronize()
    busy(torch, 0.5)
    begin = time.perf_counter()
    EVERY[name](x, g)
    took, done = time.perf_counter() - begin, torch.cuda.current_stream().query()
    torch.cuda.synchronize()
    assert not done, f"the call took {took:.3f} s and came back after the device"


def captured(torch: Any, call: Callable[[], Any]) -> tuple[Any, Any]:
    """A graph of a call that was made before, on a side stream as torch's manual says, and the results it writes."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    return graph, results


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", CALLED)
def test_a_captured_call_is_replayed(torch, name, last):
    x, g = pair(torch, channels_last=last)
    graph, results = captured(torch, lambda: CALLED[name](x, g))
    for seed in range(1, 4):
        new_x, new_g = pair(torch, seed, channels_last=last)
        x.copy_(new_x)
        g.copy_(new_g)
        graph.replay()
        same(torch, results, CALLED[name](new_x, new_g))


def test_a_graph_outlives_the_prepared_call(torch):
    """Its tables stay, whatever is forgotten."""
    x, g = pair(torch)
    graph, results = captured(torch, lambda: CALLED["soft"](x, g))
    expected = [r.clone() for r in CALLED["soft"](x, g)]
    forget()
    gc.collect()
    kept = [nbp.max_pool2d(torch.randn(1, 1, 32 + i, 32, device="cuda"), 2) for i in range(64)]  # tables in what was freed
    graph.replay()
    same(torch, results, expected)
    assert len(kept) == 64


def test_a_call_with_another_seed_is_captured(torch):
    """A seed is data, not a kind of call."""
    x, _ = pair(torch)
    for seed in (1, 2):
        nbp.stochastic_pool2d(x, 2, seed=seed)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = nbp.stochastic_pool2d(x, 2, seed=32)
    graph.replay()
    assert torch.equal(y, nbp.stochastic_pool2d(x, 2, seed=32))


def test_capture_of_a_new_call_is_refused(torch):
    """A clear error, after which torch, the same call and its capture work."""
    forget()
    x = torch.randn(2, 3, 19, 23, device="cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch tells of the empty graph
        with pytest.raises(CudaError, match="captured"), torch.cuda.graph(torch.cuda.CUDAGraph()):
            nbp.soft_pool2d(x, 3, 2, 1)
    torch.cuda.synchronize()
    assert torch.ones(8, device="cuda").sum().item() == 8
    graph, y = captured(torch, lambda: nbp.soft_pool2d(x, 3, 2, 1))
    graph.replay()
    assert torch.equal(y, nbp.soft_pool2d(x, 3, 2, 1))


def test_threads_with_streams_of_their_own(torch):
    inputs = [pair(torch, seed) for seed in range(8)]
    expected = [[f(*one) for f in CALLED.values()] for one in inputs]
    torch.cuda.synchronize()
    forget()  # so that the threads prepare the calls, too

    def work(i: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(20):
                for f, wanted in zip(CALLED.values(), expected[i], strict=True):
                    same(torch, f(*inputs[i]), wanted)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_two_devices(torch):
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one CUDA device")
    pairs = [pair(torch, device=f"cuda:{i}") for i in (0, 1)]
    expected = [[f(*one) for f in CALLED.values()] for one in pairs]
    assert torch.cuda.current_device() == 0
    for i, one in enumerate(pairs):
        for f, wanted in zip(CALLED.values(), expected[i], strict=True):
            got = f(*one)
            assert all(r.device == one[0].device for r in got)
            same(torch, got, wanted)
            with torch.cuda.device(1 - i):  # the arrays' device counts, not the current one
                same(torch, f(*one), wanted)
    for f in CALLED.values():
        for a, b in zip(f(*(t.cpu().to("cuda:0") for t in pairs[1])), f(*pairs[1]), strict=True):
            assert torch.equal(a.cpu(), b.cpu())
    with pytest.raises(BufferError, match="one device"):
        nbp.max_pool2d_backward(pairs[0][1], pairs[1][0], 2)


# ---------------------------------------------------------------- places of 64 bits

@pytest.fixture
def forced(monkeypatch):
    """All places take 64 bits."""
    forget()
    monkeypatch.setattr(plan, "REACH", 1)
    yield
    forget()


@pytest.mark.parametrize(("name", "ndim"), ALL)
def test_wide_places(forced, tensors, name, ndim):
    registry(tensors, name, ndim, "float32", few=True)


@pytest.fixture
def room(torch):
    """Skips where the device has not so many bytes left; its cache is empty before and after."""
    def need(size: float) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        free = torch.cuda.mem_get_info()[0]
        if free < size:
            pytest.skip(f"needs {size / 1e9:.1f} GB of device memory, {free / 1e9:.1f} GB are free")
    yield need
    gc.collect()
    torch.cuda.empty_cache()


def test_more_than_2_to_31_elements(torch, room):
    """In planes that are small: only where a plane begins takes 64 bits."""
    room(1.4e10)
    x = torch.empty(2, 1040, 1024, 1024, dtype=torch.float16, device="cuda")
    assert x.numel() > 1 << 31
    for plane in x.view(-1, 1024, 1024).split(64):
        plane.normal_()
    tail = x[-1:, -3:].clone()
    y, index = nbp.max_pool2d(x, 2, return_indices=True)
    expected = nbp.max_pool2d(tail, 2, return_indices=True)
    assert torch.equal(y[-1:, -3:], expected[0]) and torch.equal(index[-1:, -3:], expected[1])
    del y, index
    y = nbp.soft_pool2d(x, 3, 2, 1)
    assert torch.equal(y[-1:, -3:], nbp.soft_pool2d(tail, 3, 2, 1))
    grad = nbp.soft_pool2d_backward(y, x, 3, 2, 1)
    assert torch.equal(grad[-1:, -3:], nbp.soft_pool2d_backward(y[-1:, -3:].clone(), tail, 3, 2, 1))


def test_a_plane_of_more_than_2_to_31_elements(torch, room):
    room(1.2e10)
    h, w = 1 << 16, (1 << 15) + 2
    x = torch.empty(1, 1, h, w, dtype=torch.uint8, device="cuda").random_(0, 256)
    assert x.numel() > 1 << 31
    y, index = nbp.max_pool2d(x, 2, return_indices=True)
    for start in (0, h // 2, h - 8):
        expected = nbp.max_pool2d(x[:, :, start:start + 8].clone(), 2, return_indices=True)
        rows = slice(start // 2, start // 2 + 4)
        assert torch.equal(y[:, :, rows], expected[0]) and torch.equal(index[:, :, rows], expected[1] + start * w)


def test_channels_side_by_side_beyond_2_to_31(torch, room):
    room(1.6e10)
    x = torch.empty(1, 16400, 16400, 8, dtype=torch.float16, device="cuda")
    assert x.numel() > 1 << 31
    for row in x.split(512, 1):
        row.normal_()
    x = x.permute(0, 3, 1, 2)
    y = nbp.soft_pool2d(x, 2)
    grad = nbp.avg_pool2d_backward(y, x, 2)
    for start in (0, 8200, 16392):
        rows = x[:, :, start:start + 8].clone(memory_format=torch.channels_last)
        half = slice(start // 2, start // 2 + 4)
        torch.testing.assert_close(y[:, :, half], nbp.soft_pool2d(rows, 2))
        torch.testing.assert_close(grad[:, :, start:start + 8], nbp.avg_pool2d_backward(y[:, :, half].contiguous(), rows, 2))


def test_many_parts_of_many_windows(torch, room):
    """A window that is cut has an item for each of its parts: more than 2^31 of them in a plane."""
    room(3e10)
    x = torch.randn(1, 1, 10000, 10000, device="cuda")
    y = nbp.avg_pool2d(x, 23, 1)
    tail = x[:, :, -40:].contiguous()
    torch.testing.assert_close(y[:, :, -18:], nbp.avg_pool2d(tail, 23, 1), rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- where elements lie

VIEWS: dict[str, Callable[[Any], Any]] = {
    "from the second column on": lambda a: a[..., 1:],
    "without the last column": lambda a: a[..., :-1],
    "every second row": lambda a: a[:, :, ::2],
    "every second column": lambda a: a[..., ::2],
    "every second channel": lambda a: a[:, ::2],
    "from the second channel on": lambda a: a[:, 1:],
    "the second image": lambda a: a[1:],
    "no batch": lambda a: a[0],
    "an empty batch": lambda a: a[:0],
}


def views(library: Any, order: Callable[[np.ndarray], np.ndarray]) -> None:
    """Every view gives what its copy on the CPU gives."""
    x = order(RNG(0).standard_normal((3, 9, 21, 18)).astype(np.float32))
    there = library.array(x)
    for (label, view), name in itertools.product(VIEWS.items(), ("max", "avg", "soft")):
        forward, backward = getattr(nbp, f"{name}_pool2d"), getattr(nbp, f"{name}_pool2d_backward")
        a, b = view(x), view(there)
        y = forward(a, 3, 2, 1)
        close(library.host(forward(b, 3, 2, 1)), y, "float32", f"{name}, {label}")
        g = RNG(1).standard_normal(y.shape).astype(np.float32)
        close(library.host(backward(library.array(g), b, 3, 2, 1)), backward(g, a, 3, 2, 1), "float32", f"{name}, {label}")


@pytest.mark.parametrize("order", [np.asarray, channels_last])
def test_views(tensors, order):
    views(tensors, order)


@pytest.mark.parametrize("order", [np.asarray, channels_last])
def test_views_of_cupy(cupies, order):
    views(cupies, order)


@pytest.mark.parametrize("dtype", FLOATS)
def test_memory_that_begins_anywhere(torch, dtype):
    """Vectors of channels are read only where they begin at a multiple of their size."""
    kind = getattr(torch, dtype)
    whole = torch.randn(2 * 9 * 9 * 16 + 16, device="cuda").to(kind)
    for offset in range(9):
        x = whole[offset:offset + 2 * 9 * 9 * 16].view(2, 9, 9, 16).permute(0, 3, 1, 2)
        for name in ("max", "soft"):
            function, backward = getattr(nbp, f"{name}_pool2d"), getattr(nbp, f"{name}_pool2d_backward")
            copy = x.clone(memory_format=torch.preserve_format)
            y = function(x, 3, 2, 1)
            torch.testing.assert_close(y, function(copy, 3, 2, 1))
            torch.testing.assert_close(backward(y, x, 3, 2, 1), backward(y, copy, 3, 2, 1))


def side_by_side(library: Any, dtype: str, kernels: Any = range(1, 6)) -> None:
    """Rows of whole vectors, of which a task takes several windows: every kernel, stride and padding that it may."""
    whole = np.issubdtype(kind_of(dtype), np.integer)
    x = (RNG(0).standard_normal((2, 3, 6, 16)) * (50 if whole else 1)).astype(kind_of(dtype))
    there = library.array(x)
    for kernel, stride, name in itertools.product(kernels, (1, 2, 3), ("max",) if whole else ("max", "avg", "soft")):
        function = getattr(nbp, f"{name}_pool2d")
        more = {"return_indices": True} if name == "max" else {}
        for padding in {0, kernel // 2, kernel - 1}:
            expected = listed(function(x, kernel, stride, padding, **more))
            library.poison()
            for got, wanted in zip(listed(function(there, kernel, stride, padding, **more)), expected, strict=True):
                close(library.host(got), wanted, wanted.dtype.name, f"{name} {dtype} k{kernel} s{stride} p{padding}")


@pytest.mark.parametrize("dtype", [*FLOATS, "uint8", "int64"])
def test_outputs_side_by_side(tensors, dtype):
    side_by_side(tensors, dtype)


def test_repeated_and_transposed_memory(torch):
    x = torch.randn(2, 6, 1, 17, device="cuda").expand(2, 6, 15, 17)
    y = torch.randn(2, 6, 17, 15, device="cuda").transpose(2, 3)
    for a in (x, y):
        assert torch.equal(nbp.soft_pool2d(a, 3, 2, 1), nbp.soft_pool2d(a.contiguous(), 3, 2, 1))


def test_the_last_axis_as_channels(torch):
    x = torch.randn(2, 15, 17, 8, device="cuda")
    y = nbp.soft_pool2d(x, 3, 2, 1, channels_last=True)
    assert y.is_contiguous() and torch.equal(y.movedim(-1, 1), nbp.soft_pool2d(x.movedim(-1, 1), 3, 2, 1))


def test_results_lie_as_the_input_does(torch):
    x = torch.randn(2, 8, 15, 17, device="cuda")
    for order in (torch.contiguous_format, torch.channels_last):
        one = x.to(memory_format=order)
        y = nbp.max_pool2d(one, 2)
        assert y.is_contiguous(memory_format=order) and nbp.max_pool2d_backward(y, one, 2).is_contiguous(memory_format=order)


def test_out(torch):
    x = torch.randn(2, 8, 16, 16, device="cuda")
    expected = nbp.soft_pool2d(x, 2)
    nan = torch.full((2, 8, 8, 8), float("nan"), device="cuda")
    gaps = torch.full((2, 8, 8, 16), float("nan"), device="cuda")
    for out in (nan, nan.clone().to(memory_format=torch.channels_last), gaps[..., ::2], nan.clone().transpose(2, 3)):
        version = out._version
        assert nbp.soft_pool2d(x, 2, out=out) is out
        torch.testing.assert_close(out, expected)
        assert out._version > version
    assert gaps[..., 1::2].isnan().all()


def test_out_of_cupy(cupies):
    x = cupies.array(RNG(0).standard_normal((2, 8, 16, 16)).astype(np.float32))
    out = cupies.array(np.full((2, 8, 8, 8), np.nan, np.float32))
    assert nbp.soft_pool2d(x, 2, out=out) is out
    np.testing.assert_array_equal(cupies.host(out), cupies.host(nbp.soft_pool2d(x, 2)))


def test_other_objects_through_cupy(cupies, torch):
    class Interface:
        def __init__(self, tensor: Any) -> None:
            self.tensor, self.__cuda_array_interface__ = tensor, tensor.__cuda_array_interface__
    x = torch.randn(2, 3, 8, 8, device="cuda")
    torch.cuda.synchronize()
    y = nbp.max_pool2d(Interface(x), 2)
    assert isinstance(y, cupies.cupy.ndarray)
    np.testing.assert_array_equal(cupies.host(y), nbp.max_pool2d(x, 2).cpu().numpy())


# ---------------------------------------------------------------- errors

def test_errors(torch):
    x = torch.randn(2, 3, 8, 8, device="cuda")
    g = nbp.max_pool2d(x, 2)
    with pytest.raises(BufferError, match="one device"):
        nbp.max_pool2d_backward(g.cpu(), x, 2)
    with pytest.raises(BufferError, match="one device"):
        nbp.max_pool2d(x, 2, out=torch.empty(2, 3, 4, 4))
    with pytest.raises(TypeError, match="float32"):
        nbp.max_pool2d_backward(g.double(), x, 2)
    with pytest.raises(TypeError, match="float32"):
        nbp.max_pool2d(x, 2, out=g.double())
    with pytest.raises(TypeError, match="complex"):
        nbp.max_pool2d(x.to(torch.complex64), 2)
    with pytest.raises(ValueError, match="shape"):
        nbp.max_pool2d(x, 2, out=g[..., :3])
    with pytest.raises(ValueError, match="overlaps"):
        nbp.max_pool2d(x, 2, out=x[..., :4, :4])
    with pytest.raises(BufferError, match="requires grad"):
        nbp.max_pool2d(x.clone().requires_grad_(), 2)
    with pytest.raises(ValueError, match="kernel_size"):
        nbp.max_pool2d(x, 0)
    assert torch.equal(nbp.max_pool2d(x, 2), g)


def test_out_of_memory(torch):
    huge = torch.zeros(1, 1, 1, 1, device="cuda").expand(64, 1024, 8192, 8192)
    with pytest.raises(torch.OutOfMemoryError):
        nbp.max_pool2d(huge, 2)
    x, g = pair(torch)
    assert len(CALLED["soft"](x, g)) == 2


def test_info_names_the_device(torch):
    name = torch.cuda.get_device_name(0)
    shown = subprocess.run([sys.executable, "-m", "numbapool", "info"], capture_output=True, text=True, check=True).stdout
    assert name in shown


# ---------------------------------------------------------------- compute-sanitizer

MEMCHECK = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
import torch
from test_gpu import Torch, registry, views, channels_last
library = Torch(torch)
for name in ("max", "soft", "lip", "sort", "stochastic", "fractional_max", "max_unpool"):
    registry(library, name, 2, "float16" if name in ("max", "soft") else "float32", few=True)
views(library, channels_last)
print("done")
"""


@pytest.mark.parametrize("tool", ["memcheck", "initcheck"])
def test_compute_sanitizer(torch, tool):
    """Every tensor is an allocation of its own, so that what lies beside it is out of bounds."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        pytest.skip("compute-sanitizer is not on the PATH")
    tests = Path(__file__).parent
    code = MEMCHECK.format(tests=str(tests), root=str(tests.parent))
    command = [program, "--tool", tool, "--report-api-errors", "no", "--error-exitcode", "9", sys.executable, "-c", code]
    child = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
    assert child.returncode == 0 and "done\n" in child.stdout, (child.stdout + child.stderr)[-4000:]
