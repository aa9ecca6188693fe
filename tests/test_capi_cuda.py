"""The C library on CUDA devices behind the mock driver: the launches are Python's, word for word; numbers, errors, threads, forks."""
from __future__ import annotations

import inspect

import mock_cuda
import numpy as np
import pytest
from capi_cuda import ALL, COMPOSED, Device, World, compiled, grad_of, loaded, run, there, variants
from cases import whole

import numbapool
from capi import cuda
from capi.calls import poisoned
from numbapool.prepared import CALLS
from numbapool.testing import TOLERANCE

pytestmark = [pytest.mark.jit, pytest.mark.skipif(not mock_cuda.available(), reason="there is no C compiler")]
full = pytest.mark.full
WEIGHTED = ("sort", "ordinal")


@pytest.fixture(scope="module", params=[pytest.param(False, id="narrow"), pytest.param(True, id="wide", marks=full)])
def world(request, tmp_path_factory):
    """The emulated device, with places of 32 bits or of 64; Python's launches of all examples have been seen."""
    dtypes = ("float32", "float16", "float64") if whole(request) else ("float32",)
    with World(tmp_path_factory.mktemp("cuda"), request.param) as world:
        with world.recorder:
            world.python = {(name, ndim, dtype, i): python_launches(world, e) for dtype in dtypes for name, ndim in ALL
                            for i, e in enumerate(variants(name, ndim, dtype))}
        CALLS.young, CALLS.old, CALLS.size = {}, {}, 0  # and the tables of these calls go
        world.library = world.build([e for e in cuda.entries() if e.dtype in ("float32", "float64", "uint8") or e.loop in cuda.CONVERTED])
        yield world


@pytest.fixture(scope="module")
def capi(world, tmp_path_factory):
    """Calls of the C library."""
    return Device(loaded(world.library, tmp_path_factory.mktemp("copy") / "libnumbapool.so"), world.gpu)


def python_launches(world, e):
    """Of the forward pass, of the backward pass, of the backward pass by indices; the result's shape."""
    device, found = there(world.gpu, e), []
    forward = world.launched(lambda: found.extend(run(device, device.x)))
    grad = world.gpu.array(grad_of(e, found[0].shape))
    backward = world.launched(device.backward, grad, device.x, *device.args, **e.kwargs)
    by_index = world.launched(device.backward, grad, device.x, *device.args, **e.kwargs, indices=found[1]) if e.indexed else None
    return found[0].shape, forward, backward, by_index


def same_launches(world, found, expected, label):
    """Kernels, grids, blocks and words."""
    entries = [world.recorder.entries[launch[0]] for launch in expected]
    if None in entries:
        return False
    assert [launch[0] for launch in found] == [e.made().name for e in entries], label
    for mine, theirs in zip(found, expected, strict=True):
        assert mine[1:4] == theirs[1:4], label
        differ = [(i, a, b) for i, (a, b) in enumerate(zip(mine[4], theirs[4], strict=True)) if a != b]
        assert not differ, (label, mine[0], differ)
        assert mine[5] == theirs[5], label
    return True


@pytest.mark.parametrize("dtype", ["float32", *(pytest.param(d, marks=full) for d in ("float16", "float64"))])
@pytest.mark.parametrize(("name", "ndim"), ALL)
def test_launches_are_those_of_python(world, capi, name, ndim, dtype):
    if name == "swap":
        pytest.skip("the C library takes soft pooling's kernels for it")
    world.only_looked_at()
    compared = 0
    for i, e in enumerate(variants(name, ndim, dtype)):
        shape, forward, backward, by_index = world.python[name, ndim, dtype, i]
        grad = grad_of(e, shape)
        found = world.launched(capi.forward, e.function, e.x, *e.args, indexed=e.indexed, **e.kwargs)
        compared += same_launches(world, found, forward, f"{e.label} forward")
        learns = ["logit"] if name == "lip" else ["weight"] if name in WEIGHTED else []
        found = world.launched(capi.backward, e.function, grad, e.x, *e.args, learns=learns, like=e.x, **e.kwargs)
        compared += same_launches(world, found, backward, f"{e.label} backward")
        if by_index is not None:
            index = poisoned(shape, np.int64, order=np.argsort([-abs(s) for s in e.x.strides], kind="stable"))
            found = world.launched(capi.backward, e.function, grad, e.x, *e.args, indices=index, like=e.x, **e.kwargs)
            same_launches(world, found, by_index, f"{e.label} backward by indices")
    assert compared


# ---------------------------------------------------------------- numbers

def close(got, expected, label):
    """Within float32's rounding."""
    assert got.dtype == expected.dtype and got.shape == expected.shape, label
    rtol, atol = TOLERANCE["float32"]
    scale = max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(got, expected, rtol, atol * scale, err_msg=label)


NUMBERS = *(n for n, ndim in ALL if ndim == 2), *COMPOSED


@pytest.mark.parametrize("name", [n if n in ("max", "gated") else pytest.param(n, marks=full) for n in NUMBERS])
def test_numbers(world, capi, name, request):
    """The emulator runs what C launches, on C's addresses and tables: results are those of the CPU."""
    world.executed()
    for e in variants(name, 2, "float32")[:3 if whole(request) else 1]:
        expected = run(e, e.x)
        got = capi.forward(e.function, e.x, *e.args, indexed=e.indexed, **e.kwargs)
        close(got[0], expected[0], e.label)
        if e.indexed:
            np.testing.assert_array_equal(got[1], expected[1], e.label)
        grad = grad_of(e, expected[0].shape)
        wanted = e.backward(grad, e.x, *e.args, **e.kwargs)
        wanted = list(wanted) if isinstance(wanted, tuple) else [wanted]
        names = list(inspect.signature(e.forward).parameters)[1:]
        learns = [n if isinstance(n, str) else names[n] for n in e.learns]
        got = capi.backward(e.function, grad, e.x, *e.args, learns=learns, like=e.x, **e.kwargs)
        for g, w in zip(got, wanted[:len(got)], strict=True):
            close(g.astype(np.float32), np.asarray(w, np.float32), e.label)
        if e.indexed:
            close(capi.backward(e.function, grad, e.x, *e.args, indices=expected[1], like=e.x, **e.kwargs)[0], wanted[0], e.label)


def test_composed_poolings_of_half_types(world, capi):
    """They are widened on the device, and rounded once in the end."""
    world.executed()
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 7)).astype(np.float16)
    a = np.array([0.25, 0.5, 0.75], np.float32)
    y = numbapool.mixed_pool2d(x, a, 2)
    np.testing.assert_allclose(capi.forward("mixed_pool2d", x, a, 2)[0].astype(np.float32), y.astype(np.float32), *TOLERANCE["float16"])
    wanted = numbapool.mixed_pool2d_backward(y, x, a, 2)
    got = capi.backward("mixed_pool2d", y, x, a, 2, learns=["a"], like=x)
    assert got[0].dtype == np.float16 and got[1].dtype == np.float32
    np.testing.assert_allclose(got[0].astype(np.float32), wanted[0].astype(np.float32), *TOLERANCE["float16"])
    np.testing.assert_allclose(got[1], wanted[1], 1e-3)


@full
def test_a_parameter_of_positions_learns(world, capi):
    world.executed()
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 8)).astype(np.float32)
    beta = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    for order in ((0, 1, 2, 3), (0, 3, 1, 2)):
        given = np.ascontiguousarray(x.transpose(np.argsort(order))).transpose(order)
        y = numbapool.ada_pool2d(given, beta, 2)
        for g, w in zip(capi.backward("ada_pool2d", y, given, beta, 2, learns=["beta"], like=given),
                        numbapool.ada_pool2d_backward(y, given, beta, 2), strict=True):
            close(g, w, "ada")


@pytest.mark.parametrize("function", ["global_avg_pool2d", *(pytest.param(f"global_{n}_pool2d", marks=full) for n in ("max", "soft"))])
def test_large_windows_are_cut(world, capi, function):
    world.executed()
    x = np.random.default_rng(0).standard_normal((2, 3, 41, 37)).astype(np.float32)
    y = getattr(numbapool, function)(x)
    grad = np.ones_like(y)
    launched = world.gpu.mock.launches()
    close(capi.forward(function, x)[0], y, function)
    close(capi.backward(function, grad, x, like=x)[0], getattr(numbapool, f"{function}_backward")(grad, x), function)
    names = [launch.name for launch in world.gpu.mock.launches()[len(launched):]]
    assert world.wide or any("_parts_" in n for n in names)


@full
def test_integers(world, capi):
    world.executed()
    x = np.random.default_rng(0).integers(0, 255, (2, 3, 6, 7)).astype(np.uint8)
    expected = numbapool.max_pool2d(x, 2, return_indices=True)
    for got, wanted in zip(capi.forward("max_pool2d", x, 2, indexed=True), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    grad = np.ones(expected[0].shape, np.float32)
    np.testing.assert_array_equal(capi.backward("max_pool2d", grad, x, 2)[0], numbapool.max_pool2d_backward(grad, x, 2))


def test_power_of_each_channel(world, capi, request):
    """The parameter is a tensor on the device, and so is its gradient: summed there, in both memory orders."""
    world.executed()
    rng = np.random.default_rng(0)
    for shape, order in (((2, 3, 6, 7), (0, 1, 2, 3)), ((2, 6, 7, 3), (0, 3, 1, 2)))[:2 if whole(request) else 1]:
        x, p = rng.random(shape).astype(np.float32).transpose(order), np.array([2.0, 3.0, 4.5], np.float32)
        y = numbapool.gem_pool2d(x, 2, p=p)
        close(capi.forward("gem_pool2d", x, 2, p=p)[0], y, "gem")
        grad = rng.standard_normal(y.shape).astype(np.float32)
        for got, wanted in zip(capi.backward("gem_pool2d", grad, x, 2, p=p, learns=["p"], like=x),
                               numbapool.gem_pool2d_backward(grad, x, 2, p=p), strict=True):
            close(got, np.asarray(wanted, np.float32), "gem backward")


@full
@pytest.mark.parametrize("name", ["avg", "max"])
def test_general_kernels_take_every_call(world, tmp_path, name):
    """A library of the few: channels side by side, vectors, one divisor and large windows are done by the kernels that there are."""
    entries = [e for e in cuda.few() if not e.uniform and e.lanes == 1]
    for e in entries:
        world.gpu.kernels.setdefault(e.made().name, e.made())
    capi = Device(loaded(compiled(entries, tmp_path / "few"), tmp_path / "libnumbapool.so"), world.gpu)
    world.executed()
    for e in variants(name, 2, "float32"):
        y = run(e, e.x)[0]
        close(capi.forward(e.function, e.x, *e.args, **e.kwargs)[0], y, e.label)
        grad = grad_of(e, y.shape)
        wanted = e.backward(grad, e.x, *e.args, **e.kwargs)
        close(capi.backward(e.function, grad, e.x, *e.args, like=e.x, **e.kwargs)[0], wanted, e.label)
    x = np.random.default_rng(0).standard_normal((1, 2, 41, 37)).astype(np.float32)
    close(capi.forward(f"global_{name}_pool2d", x)[0], getattr(numbapool, f"global_{name}_pool2d")(x), name)
    with pytest.raises(NotImplementedError, match="this build of the library has no CUDA kernel for it"):
        capi.forward("soft_pool2d", x, 2)
