"""Every kernel that calls on a GPU want becomes machine code for every kind of device, without a GPU: no spills, no stack, nothing unresolved."""
from __future__ import annotations

import re

import mock_cuda
import numpy as np
import pytest
from cases import ALL, CASES, COMMON, Example, examples, whole
from emulator import Emulator
from test_capi import kind_of
from test_cuda import SOME, moved
from test_forward import in_dtype, run

import numbapool
from numbapool.numeric import INTEGERS

intrinsics = pytest.importorskip("numbapool.cuda.intrinsics", reason="numba-cuda is not installed")
pytestmark = [pytest.mark.jit, pytest.mark.skipif(not mock_cuda.available(), reason="there is no C compiler")]
full = pytest.mark.full
CAPABILITIES = ((7, 5), (8, 0), (9, 0), (10, 0), (12, 0))
REGISTERS = 168  # of a thread: with more, fewer than three warps a scheduler are left
WIDE_LOAD = r"ld\.global\.nc\.(v4\.\w*32|v2\.\w*64)"  # of 16 bytes
WIDE_STORE = r"st\.global\.(v4\.\w*32|v2\.\w*64)"


def wider(e: Example) -> np.ndarray:
    """The example's x with eight channels, side by side in memory."""
    x = np.concatenate([e.x, e.x, e.x], 1)[:, :8]
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def check(kernel, text: str, capability: tuple[int, int]) -> None:
    """Assemble a kernel's PTX, and read what the assembler says of it."""
    code, log = intrinsics.machine_code(text, capability)
    assert code[:4] == b"\x7fELF"
    registers, stack, local = map(int, re.search(r"used (\d+) registers.*?(\d+) stack.*?(\d+) bytes lmem", log).groups())
    assert (stack, local) == (0, 0) and registers <= REGISTERS, f"{kernel.name} on {capability}: {registers} registers, {stack} bytes of stack"
    assert not re.search(r"[1-9]\d* bytes spill", log), kernel.name


def kernels_of(name: str, dtype: str) -> list:
    """The kernels that the examples of a pooling ask for, in both memory orders, with vectors and without."""
    with Emulator() as gpu:
        gpu.mock.hook(None)  # nothing runs
        for ndim in (n for p, n in ALL if p == name):
            for e in examples(name, ndim, few=True)[:SOME.get(name)]:
                e = in_dtype(e, kind_of(dtype)) if dtype not in INTEGERS else Example(**{**vars(e), "x": e.x.astype(dtype)})
                for x in (e.x, wider(e)):
                    if x is not e.x and any(isinstance(a, np.ndarray) and a.ndim for a in (*e.args, *e.kwargs.values())):
                        continue  # arguments with as many channels as the example's x
                    there = moved(gpu, e, x)
                    got = run(there, there.x)
                    if dtype not in INTEGERS:
                        there.backward(got[0], there.x, *there.args, **e.kwargs)
        return list(gpu.kernels.values())


@pytest.mark.parametrize("dtype", ["float32", "float16", *(pytest.param(d, marks=full) for d in ("bfloat16", "float64", "uint8", "int64", "bool"))])
@pytest.mark.parametrize("name", [n if n in COMMON else pytest.param(n, marks=full) for n in CASES])
def test_kernels_compile(name, dtype, request):
    if dtype in INTEGERS and not examples(name, 2, few=True)[0].integers:
        pytest.skip("integers become floats")
    if dtype == "float16" and name != "max" and not whole(request):
        pytest.skip("done by `make test-full`")
    found = kernels_of(name, dtype)
    assert found
    for kernel in found:
        text = kernel.ptx()
        assert ".extern" not in text and "call" not in re.sub(r"//.*", "", text), kernel.name
        if kernel.lanes > 1 and np.dtype(kind_of(dtype)).itemsize * kernel.lanes == 16:
            assert re.search(WIDE_LOAD, text), f"{kernel.name} has no wide loads"
        for capability in CAPABILITIES if whole(request) else ((7, 5), (12, 0)):
            check(kernel, text, capability)


@pytest.mark.parametrize("window", [(2, 2, 0), *(pytest.param(w, marks=full) for w in ((3, 2, 1), (3, 1, 1), (5, 3, 2)))])
@pytest.mark.parametrize("dtype", ["float32", *(pytest.param(d, marks=full) for d in ("float16", "bfloat16", "float64"))])
@pytest.mark.parametrize("function", ["avg", "max", "soft", *(pytest.param(n, marks=full) for n in ("lip", "lp", "gem", "min", "swap"))])
def test_channels_first_forward_reads_16_bytes_at_once(function, dtype, window):
    with Emulator() as gpu:
        gpu.mock.hook(None)
        x = gpu.array(np.zeros((1, 2, 8, 16), kind_of(dtype)))
        lead = {"lip": (x,), "lp": (2.0,)}.get(function, ())
        getattr(numbapool, f"{function}_pool2d")(x, *lead, *window)
        (kernel,) = gpu.kernels.values()
    text = kernel.ptx()
    few = function in ("lip", "lp", "gem") and x.dtype.itemsize == 2  # four lanes, of 8 bytes
    assert kernel.loop.startswith("strip") and kernel.lanes * x.dtype.itemsize == (8 if few else 16)
    assert few or re.search(WIDE_LOAD, text)
    for capability in CAPABILITIES:
        check(kernel, text, capability)


@pytest.mark.parametrize("dtype", ["float32", *(pytest.param(d, marks=full) for d in ("float16", "float64"))])
@pytest.mark.parametrize("function", ["soft", *(pytest.param(n, marks=full) for n in ("lip", "lp", "gem", "stochastic"))])
def test_channels_first_backward_of_pairs_moves_16_bytes_at_once(function, dtype):
    with Emulator() as gpu:
        gpu.mock.hook(None)
        x = gpu.array(np.zeros((1, 2, 8, 32), kind_of(dtype)))
        lead, more = {"lip": (x,), "lp": (2.0,)}.get(function, ()), {"stochastic": {"training": False}, "lip": {"padding": 0}}.get(function, {})
        getattr(numbapool, f"{function}_pool2d_backward")(gpu.array(np.zeros((1, 2, 4, 16), kind_of(dtype))), x, *lead, 2, **more)
        (kernel,) = gpu.kernels.values()
    text = kernel.ptx()
    few = x.dtype.itemsize == 2 and function != "soft"  # four lanes, of 8 bytes
    assert kernel.loop == "strip_disjoint" and kernel.lanes * x.dtype.itemsize == (8 if few else 16)
    assert few or (re.search(WIDE_LOAD, text) and re.search(WIDE_STORE, text))
    for capability in CAPABILITIES:
        check(kernel, text, capability)


def test_a_kernel_is_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBAPOOL_CACHE_DIR", str(tmp_path))
    kernel = kernels_of("avg", "float32")[0]
    code = kernel.image((9, 0))
    monkeypatch.setattr(intrinsics, "ptx", None)
    monkeypatch.setattr(intrinsics, "machine_code", None)
    assert kernel.image((9, 0)) == code
    damaged = next(tmp_path.rglob(f"{kernel.name}-*.nbp"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(TypeError):  # it is compiled again, which here it cannot be
        [kernel.ptx(), kernel.image((9, 0))]
