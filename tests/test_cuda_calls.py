"""Calls on the emulated GPU beyond the registry: vectors, alignment, wide places, large windows, streams, errors."""
from __future__ import annotations

import mock_cuda
import numpy as np
import pytest
from cases import whole
from emulator import Emulator
from test_cuda import close, full

import numbapool as nbp
from numbapool.cuda import plan
from numbapool.testing import TOLERANCE

pytestmark = [pytest.mark.jit, pytest.mark.skipif(not mock_cuda.available(), reason="there is no C compiler")]
CALLS = {  # function: arguments, keyword arguments
    "soft_pool2d": ((3, 2, 1), {}), "avg_pool2d": ((3, 2, 1), {}), "max_pool2d": ((3, 2, 1), {}), "lip_pool2d": ((3, 2, 1), {}),
    "gem_pool2d": ((2,), {}), "stochastic_pool2d": ((2,), {"seed": 3}), "sort_pool2d": ((), {"weight": np.array([0.5, -1.0, 0.25])}),
    "fractional_max_pool2d": ((2,), {"output_size": 3, "seed": 5}),
}


@pytest.fixture
def gpu():
    with Emulator() as emulator:
        yield emulator


def last(x: np.ndarray) -> np.ndarray:
    """The same array in channels-last memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def both(gpu: Emulator, function: str, x: np.ndarray, there=None, dtype: str = "float32", window=None):
    """Forward and backward agree with the CPU's; returns the kernels that ran."""
    args, kwargs = CALLS.get(function, ((), {}))
    args = args if window is None else window
    there = gpu.array(x) if there is None else there
    lead = ((np.random.default_rng(2).standard_normal(x.shape).astype(x.dtype),) if "lip" in function else ())
    gpu.mock.clear()
    y = getattr(nbp, function)(x, *lead, *args, **kwargs)
    got = getattr(nbp, function)(there, *map(gpu.array, lead), *args, **kwargs)
    close(got, y, dtype, function)
    grad = np.random.default_rng(1).standard_normal(y.shape).astype(x.dtype)
    grad = last(grad) if x.strides[1] == x.itemsize else grad
    wanted = getattr(nbp, f"{function}_backward")(grad, x, *lead, *args, **kwargs)
    found = getattr(nbp, f"{function}_backward")(gpu.array(grad), there, *map(gpu.array, lead), *args, **kwargs)
    for g, w in zip(found if isinstance(found, tuple) else [found], wanted if isinstance(wanted, tuple) else [wanted], strict=True):
        close(g, w, dtype, function)
    return [gpu.kernels[launch.name] for launch in gpu.mock.launches()]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("function", ["soft_pool2d", "avg_pool2d", "max_pool2d", "gem_pool2d"])
def test_channels_side_by_side_are_taken_in_vectors(gpu, function, dtype):
    x = last(np.random.default_rng(0).standard_normal((2, 16, 7, 9))).astype(dtype)
    kernels = both(gpu, function, x, dtype=dtype)
    assert {k.lanes for k in kernels} == {4 if function == "gem_pool2d" else 16 // x.itemsize} and all(k.channel for k in kernels)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=full), pytest.param("uint8", marks=full)])
@pytest.mark.parametrize("function", ["soft_pool2d", "max_pool2d", *(pytest.param(f"{n}_pool2d", marks=full) for n in ("avg", "lip", "gem"))])
@pytest.mark.parametrize("window", [(2,), (3, 2, 1), *(pytest.param(w, marks=full) for w in (
    (3, 1, 1), ((1, 5), (1, 1), (0, 2)), ((2, 3), 3), (2, 1, 0, 2)))])
def test_outputs_side_by_side_are_taken_in_vectors(gpu, function, window, dtype):
    rng = np.random.default_rng(0)
    if dtype == "uint8" and function != "max_pool2d":
        pytest.skip("integers become floats")
    shape = 2, 3, 7, 24
    x = (rng.integers(0, 255, shape) if dtype == "uint8" else rng.standard_normal(shape)).astype(dtype)
    if function == "soft_pool2d":
        x[0, 1, 2:5] = 100 * x[0, 1, 2:5]  # beyond the reach of the common reference
    if function == "max_pool2d" and dtype != "uint8":
        x[0, 0, 3, [0, 7, 23]] = np.nan
    args, more = window[:3], {"dilation": (window[3], 1)} if len(window) > 3 else {}
    lead = (rng.standard_normal(x.shape).astype(dtype),) if function == "lip_pool2d" else ()
    more |= {"return_indices": True} if function == "max_pool2d" else {}
    y, got = (getattr(nbp, function)(*map(m, (x, *lead)), *args, **more) for m in (np.asarray, gpu.array))
    for a, b in zip(y if isinstance(y, tuple) else [y], got if isinstance(got, tuple) else [got], strict=True):
        close(b, a, "float64" if a.dtype.kind in "iu" else dtype, function)
    kernel = gpu.kernels[gpu.mock.launches()[-1].name]
    assert kernel.loop.startswith("strip") and kernel.lanes == min(16 // x.itemsize, 4 if function in ("gem_pool2d", "lip_pool2d") else 8)


def test_memory_that_begins_anywhere_is_read_one_by_one(gpu):
    x = np.random.default_rng(0).standard_normal((2, 9, 5, 8)).astype(np.float32)
    whole = gpu.array(last(x))
    kernels = both(gpu, "soft_pool2d", x[:, 1:], there=whole[:, 1:])  # four bytes past a multiple of sixteen, rows of nine
    assert {k.lanes for k in kernels} == {1}
    x = np.random.default_rng(0).standard_normal((2, 8, 5, 9)).astype(np.float32)
    flat = gpu.empty((x.size + 1,), np.float32)
    shifted = flat[1:]
    shifted.memory[...] = last(x).transpose(0, 2, 3, 1).ravel()
    there = type(flat)(gpu, shifted.memory.reshape(2, 5, 9, 8).transpose(0, 3, 1, 2), flat)
    kernels = both(gpu, "max_pool2d", x, there=there)  # in rows of eight, but misaligned
    assert {k.lanes for k in kernels if "gather" not in k.loop} == {1}


@pytest.mark.parametrize("function", list(CALLS))
def test_places_of_64_bits(function):
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 9)).astype(np.float32)
    with Emulator(wide=True) as gpu:
        few = "order_weights", "order_totals", "order_learn"  # which see no plane
        assert all(k.wide for k in both(gpu, function, x) if k.loop not in few)


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("function", ["global_soft_pool2d", "global_avg_pool2d", "global_max_pool2d", "adaptive_lip_pool2d"])
def test_large_windows_are_cut(gpu, function, order):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((2, 4, 61, 47)) + 3).astype(np.float32)
    x = last(x) if order == "last" else x
    kernels = both(gpu, function, x, window=(2,) if function.startswith("adaptive") else ())
    assert any(k.loop.endswith("_parts") for k in kernels)


def test_large_windows_stay_accurate(gpu):
    x = np.random.default_rng(0).random((1, 1, 512, 512)).astype(np.float32)
    for function in ("global_avg_pool2d", "global_soft_pool2d"):
        exact = getattr(nbp, function)(x.astype(np.float64))
        np.testing.assert_allclose(getattr(nbp, function)(gpu.array(x)).get(), exact, 1e-6)
    got = nbp.global_soft_pool2d(gpu.array(200 * x)).get()  # beyond the reach of the common reference: the exact loops
    np.testing.assert_allclose(got, nbp.global_soft_pool2d(200 * x.astype(np.float64)), 2e-6)


def test_the_best_of_parts_is_the_first_and_a_nan_the_last(gpu):
    x = np.zeros((1, 2, 40, 50), np.float32)
    x[0, 0, [3, 3, 20, 39], [7, 30, 2, 49]] = 5
    x[0, 1, [1, 30], [4, 3]] = np.nan
    y, index = nbp.global_max_pool2d(gpu.array(x), return_indices=True)
    expected, places = nbp.global_max_pool2d(x, return_indices=True)
    np.testing.assert_array_equal(y.get(), expected)
    np.testing.assert_array_equal(index.get(), places)
    assert places.ravel().tolist() == [157, 1503]


@pytest.mark.parametrize("function", ["soft_pool2d", "max_pool2d", "lip_pool2d", "avg_pool2d", "lp_pool2d"])
def test_nan_and_infinity(gpu, function):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 4, 9, 11)).astype(np.float32)
    for value in (np.nan, np.inf, -np.inf):
        x.flat[rng.integers(0, x.size, 12)] = value
    args = (2.0, 3, 2) if function == "lp_pool2d" else (3, 2)
    lead = (np.zeros_like(x),) if function == "lip_pool2d" else ()
    y = getattr(nbp, function)(x, *lead, *args)
    got = getattr(nbp, function)(gpu.array(x), *map(gpu.array, lead), *args).get()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(y))
    close(gpu.array(np.nan_to_num(got, nan=0, posinf=9, neginf=-9)), np.nan_to_num(y, nan=0, posinf=9, neginf=-9), "float32", function)


@pytest.mark.parametrize("name", ["max", *(pytest.param(n, marks=full) for n in ("avg", "min", "sum", "std"))])
def test_nan_is_left_out(request, gpu, name):
    """In both memory orders, of windows that share vectors and of windows that are cut; gradients, and places of a window without a number, too."""
    rng = np.random.default_rng(5)
    for shape, function, args in (((2, 4, 8, 12), f"{name}_pool2d", (2,)), ((2, 4, 8, 12), f"{name}_pool2d", (3, 2, 1)),
                                  ((1, 4, 61, 47), f"global_{name}_pool2d", ())):
        x = rng.standard_normal(shape).astype(np.float32)
        x[rng.random(shape) < 0.5] = np.nan
        x[0, 0, :4, :4] = np.nan
        if not args:
            x[0, 1], x[0, 2, :40] = np.nan, np.nan  # of one plane nothing is known, of another one no number of the first parts
        forward, back = getattr(nbp, function), getattr(nbp, f"{function}_backward")
        for memory in (x, last(x))[:2 if whole(request) or args == (2,) else 1]:
            y = forward(memory, *args, ignore_nan=True)
            np.testing.assert_allclose(forward(gpu.array(memory), *args, ignore_nan=True).get(), y, 4e-6, 4e-6)
            if name in ("max", "min"):
                index = forward(memory, *args, ignore_nan=True, return_indices=True)[1]
                np.testing.assert_array_equal(forward(gpu.array(memory), *args, ignore_nan=True, return_indices=True)[1].get(), index)
            grad = np.nan_to_num(y)
            got = back(gpu.array(grad), gpu.array(memory), *args, ignore_nan=True).get()
            np.testing.assert_allclose(got, back(grad, memory, *args, ignore_nan=True), 4e-6, 4e-6)


def test_integers(gpu):
    x = np.random.default_rng(0).integers(0, 255, (2, 16, 6, 7)).astype(np.uint8)
    y, index = nbp.max_pool2d(gpu.array(last(x)), 2, return_indices=True)
    expected, places = nbp.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(y.get(), expected)
    np.testing.assert_array_equal(index.get(), places)
    np.testing.assert_allclose(nbp.avg_pool2d(gpu.array(x), 2).get(), nbp.avg_pool2d(x, 2), 1e-6)
    grad = np.ones(expected.shape, np.float32)
    np.testing.assert_array_equal(nbp.max_pool2d_backward(gpu.array(grad), gpu.array(x), 2).get(), nbp.max_pool2d_backward(grad, x, 2))
    got = nbp.max_pool2d_backward(gpu.array(grad), gpu.array(x), 2, indices=gpu.array(places.astype(np.int32)))
    np.testing.assert_array_equal(got.get(), nbp.max_pool2d_backward(grad, x, 2))


def test_out(gpu):
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    out = gpu.empty((2, 3, 4, 8), np.float32)
    strided = out[..., ::2]
    assert nbp.soft_pool2d(gpu.array(x), 2, out=strided) is strided
    close(strided, nbp.soft_pool2d(x, 2), "float32", "out")
    assert np.isnan(out.get()[..., 1::2]).all()
    y, index = nbp.max_pool2d(x, 2, return_indices=True)
    out = gpu.empty((2, 3, 8, 8), np.float32)
    assert nbp.max_unpool2d(gpu.array(y), gpu.array(index), 2, out=out) is out
    np.testing.assert_array_equal(out.get(), nbp.max_unpool2d(y, index, 2))


def test_indices_that_name_nothing_are_not_followed(gpu):
    """They cannot be refused, which would take waiting for the device."""
    y = np.arange(1, 5, dtype=np.float32).reshape(1, 1, 2, 2)
    index = np.array([[[[0, -1], [16, 15]]]])
    got = nbp.max_unpool2d(gpu.array(y), gpu.array(index), 2).get()
    assert got[0, 0, 0, 0] == 1 and got[0, 0, 3, 3] == 4 and got.sum() == 5
    grad = np.ones((1, 1, 4, 4), np.float32)
    got = nbp.max_unpool2d_backward(gpu.array(grad), gpu.array(y), gpu.array(index), 2).get()
    assert got.ravel().tolist() == [1, 0, 0, 1]


def test_nothing_is_launched_for_nothing(gpu):
    for shape in ((0, 3, 6, 6), (2, 0, 6, 6)):
        y = nbp.soft_pool2d(gpu.array(np.zeros(shape, np.float32)), 2)
        assert y.shape == (*shape[:2], 3, 3)
    assert not gpu.mock.launches()


def test_work_goes_to_the_current_stream(gpu):
    x = gpu.array(np.ones((1, 4, 6, 6), np.float32))
    gpu.current = gpu.mock.stream()
    nbp.soft_pool2d_backward(nbp.soft_pool2d(x, 3, 1), x, 3, 1)  # windows that overlap: two kernels
    assert {launch.stream for launch in gpu.mock.launches()} == {gpu.current} and len(gpu.mock.launches()) == 3
    assert gpu.mock.depth() == 0


def test_a_call_that_is_known_can_be_captured(gpu):
    x = gpu.array(np.ones((1, 4, 6, 6), np.float32))
    gpu.current = gpu.mock.stream()
    nbp.soft_pool2d(x, 2)
    before = len(plan._pinned)
    gpu.mock.clear()
    gpu.mock.capture(gpu.current)
    nbp.soft_pool2d(x, 2)
    assert [launch.captured for launch in gpu.mock.launches()] == [True]
    assert len(plan._pinned) == before + 1  # the graph reads these tables at any later time
    with pytest.raises(RuntimeError, match="captur"):
        nbp.soft_pool2d(x, 3)
    gpu.mock.capture(gpu.current, 0)
    np.testing.assert_allclose(nbp.soft_pool2d(x, 3).get(), 1)


def test_arrays_on_two_devices_are_refused(gpu):
    x = np.ones((1, 1, 4, 4), np.float32)
    with pytest.raises(BufferError, match=r"soft_pool2d_backward: all arrays must be on one device, got CUDA device 0, the CPU"):
        nbp.soft_pool2d_backward(np.ones((1, 1, 2, 2), np.float32), gpu.array(x), 2)


def test_out_of_memory_is_a_memory_error(gpu):
    gpu.mock.fail("cuMemAlloc_v2", 2)
    with pytest.raises(MemoryError, match="out of memory"):
        nbp.soft_pool2d(gpu.array(np.ones((1, 1, 4, 4), np.float32)), 2)


def test_without_a_compiler_the_message_says_what_to_install(gpu, monkeypatch):
    def missing(kernel, capability):
        raise ModuleNotFoundError("No module named 'numba.cuda'")
    monkeypatch.setattr(plan.Kernel, "image", missing)
    with pytest.raises(ImportError, match=r"pip install 'numbapool\[cuda13\]'"):
        nbp.soft_pool2d(gpu.array(np.ones((1, 1, 4, 4), np.float32)), 2)


def test_without_a_driver_the_message_says_so(gpu, monkeypatch, tmp_path):
    from numbapool.cuda import driver
    x = gpu.array(np.ones((1, 1, 4, 4), np.float32))
    monkeypatch.setenv(mock_cuda.VARIABLE, str(tmp_path / "none.so"))
    driver.forget()
    with pytest.raises(driver.CudaError, match="no CUDA driver"):
        nbp.soft_pool2d(x, 2)


def test_tensors_of_torch(gpu, monkeypatch):
    """The adapter for CUDA tensors, on CPU tensors in the mock's memory that say that they are such."""
    torch = pytest.importorskip("torch")

    class Cuda(torch.Tensor):
        is_cpu, is_cuda = property(lambda t: False), property(lambda t: True)

        def get_device(self):
            return 0

    kept = []

    def on_device(values):
        kept.append(gpu.array(values))
        return torch.from_numpy(kept[-1].memory).as_subclass(Cuda)

    def empty_strided(shape, strides, *, dtype, device):
        assert device == torch.device("cuda", 0)
        order = sorted(range(len(shape)), key=lambda a: -strides[a])
        made = gpu.empty(tuple(shape[a] for a in order), str(dtype).removeprefix("torch."))
        kept.append(made)
        return torch.from_numpy(made.memory).permute(*np.argsort(order).tolist()).as_subclass(Cuda)
    monkeypatch.setattr(torch, "empty_strided", empty_strided)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: type("Stream", (), {"cuda_stream": gpu.current}))
    x = np.random.default_rng(0).standard_normal((2, 8, 6, 7)).astype(np.float32)
    for values in (x, last(x)):
        t = on_device(values)
        y = nbp.soft_pool2d(t, 2)
        assert isinstance(y, torch.Tensor) and y.stride()[1] == (1 if values is not x else 9)
        np.testing.assert_allclose(np.asarray(y.as_subclass(torch.Tensor)), nbp.soft_pool2d(x, 2), *TOLERANCE["float32"])
        grads = nbp.gem_pool2d_backward(y, t, 2)
        wanted = nbp.gem_pool2d_backward(nbp.soft_pool2d(x, 2), x, 2)
        for g, w in zip(grads, wanted, strict=True):
            np.testing.assert_allclose(np.asarray(g.as_subclass(torch.Tensor)), w, 1e-4, 1e-5)


def test_windows_that_begin_behind_a_row(gpu):
    """The elements in front of the vectors may lie beyond the row's end, too."""
    x = np.random.default_rng(0).integers(-99, 99, (2, 2, 8, 8))
    got = nbp.max_pool2d(gpu.array(x), 5, 1, 4, return_indices=True)
    for g, w in zip(got, nbp.max_pool2d(x, 5, 1, 4, return_indices=True), strict=True):
        np.testing.assert_array_equal(g.get(), w)
    assert gpu.kernels[gpu.mock.launches()[-1].name].loop == "strip_select"


def test_a_seed_is_no_address(gpu):
    """Whatever its last bits are, memory is read in vectors, and a call that is known can be captured."""
    x = last(np.random.default_rng(0).standard_normal((1, 8, 6, 6))).astype(np.float32)
    there, y = gpu.array(x), gpu.array(last(np.ones((1, 8, 3, 3), np.float32)))
    gpu.current = gpu.mock.stream()
    nbp.stochastic_pool2d_backward(y, there, 2, seed=1)
    gpu.mock.clear()
    gpu.mock.capture(gpu.current)
    nbp.stochastic_pool2d_backward(y, there, 2, seed=32)
    gpu.mock.capture(gpu.current, 0)
    assert gpu.kernels[gpu.mock.launches()[-1].name].lanes == 4


def test_drawn_windows_take_no_memory_of_the_drivers_own(gpu):
    """Its release would wait for the device."""
    x = gpu.array(np.random.default_rng(0).standard_normal((2, 3, 9, 9)).astype(np.float32))
    before = gpu.mock.calls("cuMemAlloc_v2")
    for _ in range(3):
        nbp.fractional_max_pool2d(x, pooling_ratio=1.5)
    assert gpu.mock.calls("cuMemAlloc_v2") == before
    gpu.current = gpu.mock.stream()
    gpu.mock.capture(gpu.current)
    with pytest.raises(RuntimeError, match="drawn anew cannot be captured"):
        nbp.fractional_max_pool2d(x, pooling_ratio=1.5)
    gpu.mock.capture(gpu.current, 0)


def test_long_windows_of_many_outputs_are_not_cut(gpu, monkeypatch):
    monkeypatch.setattr(plan, "MOST_PARTS", 1)
    x = np.random.default_rng(0).random((1, 2, 40, 41)).astype(np.float32)
    for function in ("avg_pool2d", "soft_pool2d"):
        kernels = both(gpu, function, x, window=(23, 9))
        assert not any(k.loop.endswith("_parts") for k in kernels) and any(k.bound["ROWS"] for k in kernels)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (3, 1), (2, 3)])
def test_covers(stride, dilation):
    """Every output that covers an input stands in its list, once and in order."""
    axis = nbp.windows.sliding(29, 4, stride, 3, 2, dilation, False, "inside")
    bounds, listed = plan.cover(axis, 29)
    for i in range(29):
        wanted = [o for o in range(axis.count.size) if i in axis.first[o] + axis.step * np.arange(axis.count[o])]
        assert listed[bounds[i]:bounds[29 + i]].tolist() == wanted


PARAMETERS = {  # function: its window, a parameter, whether its gradient comes second
    "gem_pool2d": ({"kernel_size": 2}, "p", np.array([2.0, 3.0, 4.5]), True),
    "lse_pool2d": ({"kernel_size": 3, "stride": 2, "padding": 1}, "r", np.array(1.5), True),
    "sort_pool2d": ({}, "weight", np.array([[0.5, -1.0, 0.25], [0.1, 0.2, 0.3], [2.0, 0.0, -2.0]]), True),
    "ordinal_pool2d": ({"kernel_size": 3, "stride": 2, "padding": 1}, "weight", np.array([0.5, 0.2, 0.25, 0.7, 0.1]), True),
    "stochastic_pool2d": ({"kernel_size": 2}, "samples", np.random.default_rng(5).random((2, 3, 4, 3)), False),
    "mixed_pool2d": ({"kernel_size": 2}, "a", np.array([0.25, 0.5, 0.9]), True),
    "ada_pool2d": ({"kernel_size": 2}, "beta", np.linspace(0.1, 0.9, 12).reshape(4, 3), True),
    "gated_pool2d": ({"kernel_size": 2}, "omega", np.array([[0.5, -0.5], [1.0, 0.25]]), True),
    "dpp_pool2d": ({"lam": np.full(3, 0.5)}, "alpha", np.array([0.25, 0.5, -0.5]), True),
}


@pytest.mark.parametrize("function", PARAMETERS)
def test_parameters_on_the_device_stay_there(gpu, monkeypatch, function):
    """Nothing of them comes to the host, so that calls do not wait; what is prepared serves other values, too, and can be captured."""
    from numbapool.cuda.libraries import CupyDevice
    window, name, value, learned = PARAMETERS[function]
    forward, backward = getattr(nbp, function), getattr(nbp, f"{function}_backward")
    x = np.random.default_rng(0).random((2, 3, 8, 7)).astype(np.float32)
    y = forward(x, **{name: value}, **window)
    grad = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    values = [value.astype(np.float32), value[..., ::-1].copy() if value.ndim else value + 1]  # as the kernels take them, and not
    expected = [(forward(x, **{name: v}, **window), backward(grad, x, **{name: v}, **window)) for v in values]
    monkeypatch.delattr(CupyDevice, "to_numpy")
    monkeypatch.delattr(gpu.array(x).__class__, "get")
    there, g = gpu.array(x), gpu.array(grad)
    gpu.current = gpu.mock.stream()
    for v, (y, wanted) in zip((*values, values[0]), (*expected, expected[0]), strict=True):
        own = gpu.array(v)
        got, found = forward(there, **{name: own}, **window), backward(g, there, **{name: own}, **window)
        gpu.mock.settle()
        for one, other in zip((got, *found) if learned else (got, found), (y, *wanted) if learned else (y, wanted), strict=True):
            assert one.shape == other.shape and one.dtype == np.float32
            np.testing.assert_allclose(one.memory, other, 1e-4, 1e-4, err_msg=function)
    gpu.mock.capture(gpu.current)
    forward(there, **{name: own}, **window)
    gpu.mock.capture(gpu.current, 0)


@pytest.mark.parametrize(("function", "given", "message"), [
    ("gem_pool2d", {"p": np.ones(2)}, r"gem_pool2d: p must be a number or \(3,\), got shape \(2,\)"),
    ("gem_pool2d", {"p": np.ones(3, bool)}, "gem_pool2d: p must hold numbers, got dtype bool"),
    ("sort_pool2d", {"weight": np.ones((2, 4))}, r"sort_pool2d: weight must have shape \(pool_range,\) or \(3, pool_range\), got \(2, 4\)"),
    ("stochastic_pool2d", {"samples": np.ones((2, 3, 4))}, r"stochastic_pool2d: samples must have shape \(2, 3, 4, 4\), got \(2, 3, 4\)")])
def test_parameters_on_the_device_have_their_shapes(gpu, function, given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        getattr(nbp, function)(gpu.array(np.ones((2, 3, 8, 8), np.float32)), kernel_size=2, **{n: gpu.array(v) for n, v in given.items()})


def test_arrays_with_dlpack_are_borrowed_by_cupy(gpu, monkeypatch):
    """By DLPack rather than by their interface, for the sake of streams; results are CuPy's."""
    import sys

    class Other:
        __cuda_array_interface__ = None

        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **how):
            return None

        def __dlpack_device__(self):
            return 2, 0

    monkeypatch.setattr(sys.modules["cupy"], "from_dlpack", lambda x: x.array, raising=False)
    x = np.random.default_rng(0).standard_normal((1, 2, 6, 6)).astype(np.float32)
    got = nbp.soft_pool2d(Other(gpu.array(x)), 2)
    assert isinstance(got, sys.modules["cupy"].ndarray)
    close(got, nbp.soft_pool2d(x, 2), "float32", "soft")
