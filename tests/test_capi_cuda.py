"""The C library on CUDA devices behind the mock driver: the launches are Python's, word for word; numbers, errors, threads, forks."""
from __future__ import annotations

import mock_cuda
import numpy as np
import pytest
from capi_cuda import ALL, Device, World, compiled, grad_of, loaded, run, there, variants

import numbapool
from capi import cuda
from numbapool.testing import TOLERANCE

pytestmark = [pytest.mark.jit, pytest.mark.skipif(not mock_cuda.available(), reason="there is no C compiler")]
full = pytest.mark.full
FIRST = ("float32", "float16")  # dtypes of the launches that are compared


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The emulated device; Python's launches of all examples have been seen."""
    with World(tmp_path_factory.mktemp("cuda")) as world:
        with world.recorder:
            world.python = {(name, ndim, dtype, i): python_launches(world, e) for dtype in FIRST for name, ndim in ALL
                            for i, e in enumerate(variants(name, ndim, dtype))}
        world.library = world.build([e for e in cuda.entries() if e.dtype == "float32"])
        yield world


@pytest.fixture(scope="module")
def capi(world, tmp_path_factory):
    """Calls of the C library."""
    return Device(loaded(world.library, tmp_path_factory.mktemp("copy") / "libnumbapool.so"), world.gpu)


def python_launches(world, e):
    """Of the forward pass, of the backward pass, of the backward pass by indices; the result's shape."""
    device, found = there(world.gpu, e), []
    found.append(world.launched(lambda: found.append(run(device, device.x))))
    results, forward = found
    grad = world.gpu.array(grad_of(e, results[0].shape))
    backward = world.launched(lambda: device.backward(grad, device.x, *device.args, **e.kwargs))
    by_index = world.launched(lambda: device.backward(grad, device.x, *device.args, **e.kwargs, indices=results[1])) if e.indexed else None
    return results[0].shape, forward, backward, by_index


def same_launches(world, found, expected, label):
    """Kernels, grids, blocks and words."""
    expected = [launch for launch in expected if "order_sums" not in launch[0]]
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


@pytest.mark.parametrize("dtype", FIRST)
@pytest.mark.parametrize(("name", "ndim"), ALL)
def test_launches_are_those_of_python(world, capi, name, ndim, dtype):
    if name == "swap":
        pytest.skip("the C library takes soft pooling's kernels for it")
    world.only_looked_at()
    compared = 0
    for i, e in enumerate(variants(name, ndim, dtype)):
        shape, forward, backward, by_index = world.python[name, ndim, dtype, i]
        grad = grad_of(e, shape)
        found = world.launched(lambda: capi.forward(e.function, e.x, *e.args, indexed=e.indexed, **e.kwargs))
        compared += same_launches(world, found, forward, f"{e.label} forward")
        learns = ["logit"] if name == "lip" else []
        found = world.launched(lambda: capi.backward(e.function, grad, e.x, *e.args, learns=learns, like=e.x, **e.kwargs))
        compared += same_launches(world, found, backward, f"{e.label} backward")
        if by_index is not None:
            index = np.zeros(shape, np.int64)
            found = world.launched(lambda: capi.backward(e.function, grad, e.x, *e.args, indices=index, like=e.x, **e.kwargs))
            same_launches(world, found, by_index, f"{e.label} backward by indices")
    assert compared
