"""The GPU's path without a GPU: every example of the registry by the thread bodies of loops/cuda on the emulator, against the CPU's results."""
from __future__ import annotations

import mock_cuda
import numpy as np
import pytest
from cases import ALL, Example, examples, whole
from emulator import Emulator
from test_capi import kind_of, orders
from test_forward import in_dtype, run

import numbapool
from numbapool.testing import TOLERANCE

pytestmark = [pytest.mark.jit, pytest.mark.skipif(not mock_cuda.available(), reason="there is no C compiler")]
full = pytest.mark.full
LOOPS = ("max", "avg", "soft", "lip", "sort", "mode", "stochastic", "fractional_max", "blur", "idw", "max_unpool")  # one of a kind
DTYPES = ["float32", *(pytest.param(d, marks=full) for d in ("float64", "float16", "bfloat16"))]
SOME = {"lp": 2, "gem": 2, "lse": 2, "auto": 2, "ada": 1, "mixed": 2, "gated": 1, "blur": 2, "max_blur": 1, "dpp": 2}  # of sets of kernels


@pytest.fixture
def gpu():
    with Emulator() as emulator:
        yield emulator


def close(got, expected, dtype: str, label: str, size: float = 1.0) -> None:
    """Within the dtype's rounding; size : of the numbers that the result is a difference of."""
    got = got.get()
    assert got.dtype == expected.dtype and got.shape == expected.shape, label
    rtol, atol = TOLERANCE[dtype]
    scale = max(size, np.abs(expected).astype(np.float64).max()) if expected.size else 1.0
    np.testing.assert_allclose(got.astype(np.float64), expected.astype(np.float64), rtol, atol * scale, err_msg=label)


def moved(gpu: Emulator, e: Example, x: np.ndarray) -> Example:
    """The example with its arrays on the GPU."""
    args = tuple(gpu.array(a) if isinstance(a, np.ndarray) and a.shape == x.shape else a for a in e.args)
    return Example(e.label, e.function, gpu.array(x), args, e.kwargs, e.reference, e.learns, e.indexed, e.integers)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "ndim"), [(n, d) if d == 2 and n in LOOPS else pytest.param(n, d, marks=full) for n, d in ALL])
def test_registry(request, gpu, name, ndim, dtype):
    rng = np.random.default_rng(ndim)
    for e in examples(name, ndim, few=dtype != "float32" or not whole(request))[:SOME.get(name)]:
        e = in_dtype(e, kind_of(dtype))
        for x in orders(e.x)[:2]:
            expected = run(e, x)
            there = moved(gpu, e, x)
            got = run(there, there.x)
            close(got[0], expected[0], dtype, e.label)
            if e.indexed:
                np.testing.assert_array_equal(got[1].get(), expected[1], e.label)
            grad = rng.standard_normal(expected[0].shape).astype(expected[0].dtype)
            wanted = e.backward(grad, x, *e.args, **e.kwargs)
            found = there.backward(gpu.array(grad), there.x, *there.args, **e.kwargs)
            for g, w in zip(found if isinstance(found, tuple) else [found], wanted if isinstance(wanted, tuple) else [wanted], strict=True):
                # a parameter's is a sum over all outputs; elements near the mean decide idw's, by the mean's last bit
                close(g, w, dtype, e.label, 64.0 if name == "idw" else 1.0 if w.shape == x.shape else 8.0)
            if e.indexed:
                close(there.backward(gpu.array(grad), there.x, *there.args, **e.kwargs, indices=got[1]),
                      wanted[0] if isinstance(wanted, tuple) else wanted, dtype, e.label)


@pytest.mark.parametrize(("shape", "window", "loops"), [
    ((1, 8, 6, 16), (2, 2, 0), ("strip_disjoint", "fold_disjoint")), ((1, 4, 7, 9), (2, 3, 1), ("fold_disjoint", "fold_disjoint")),
    ((1, 4, 10, 12), (3, 4, 0), ("fold_disjoint", "fold_disjoint")), ((1, 4, 6, 6), (3, 2, 1), ("fold_terms", "fold_terms")),
    ((1, 4, 30, 30), (2, 20, 0), ("fold_terms", "fold_terms"))])
def test_windows_that_share_no_element_hand_out_their_gradients_at_once(gpu, shape, window, loops):
    rng = np.random.default_rng(0)
    x, logit = rng.standard_normal((2, *shape)).astype(np.float32)
    x[0, 0, :3, :3] = 300  # out of the common reference's reach
    for loop, a, b in zip(loops, orders(x), orders(logit), strict=False):  # channels-first, channels-last
        y = numbapool.lip_pool2d(a, b, *window)
        grad = rng.standard_normal(y.shape).astype(np.float32)
        for backward, args in ((numbapool.soft_pool2d_backward, ()), (numbapool.lip_pool2d_backward, (b,))):
            wanted = backward(grad, a, *args, *window)
            seen = len(gpu.mock.launches())
            found = backward(gpu.array(grad), gpu.array(a), *map(gpu.array, args), *window)
            for g, w in zip(found if args else (found,), wanted if args else (wanted,), strict=True):
                close(g, w, "float32", f"{backward.__name__} {shape} {window}")
            names = [launch.name for launch in gpu.mock.launches()[seen:]]
            assert loop in names[0] and len(names) == (1 if "disjoint" in loop else 2)
