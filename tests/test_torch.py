"""torch as a second oracle, where it has the operation: on torch tensors, forward, indices and gradients."""
from __future__ import annotations

import pytest

import numbapool

torch = pytest.importorskip("torch", reason="torch is an optional extra")
F = torch.nn.functional

SHAPES = {1: (2, 3, 37), 2: (2, 5, 13, 17), 3: (2, 3, 7, 6, 11)}
WINDOWS = [(2, None, 0, 1, False), (3, 2, 1, 1, False), (3, 2, 1, 1, True), (3, 1, 1, 2, False), (2, 3, 0, 1, True)]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
CLOSE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def data(ndim: int, dtype, order: str = "first"):
    """A tensor of standard normal numbers."""
    x = torch.randn(SHAPES[ndim], generator=torch.Generator().manual_seed(ndim)).to(dtype)
    if order == "last" and ndim > 1:
        return x.contiguous(memory_format=torch.channels_last if ndim == 2 else torch.channels_last_3d)
    return x


def wide(x):
    """The same values as a float64 leaf."""
    return x.detach().to(torch.float64).contiguous().clone().requires_grad_()


def compare(got, expected, dtype) -> None:
    assert isinstance(got, torch.Tensor)
    assert got.dtype == dtype
    assert got.shape == expected.shape
    torch.testing.assert_close(got.double(), expected.detach().double(), rtol=CLOSE[dtype], atol=CLOSE[dtype])


def gradient(y, grad, leaf):
    """torch's own gradient."""
    return torch.autograd.grad(y, leaf, grad.double())[0]


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_max(ndim, dtype, order):
    x = data(ndim, dtype, order)
    for k, s, p, d, c in WINDOWS:
        leaf = wide(x)
        y, index = getattr(F, f"max_pool{ndim}d")(leaf, k, s, p, d, c, return_indices=True)
        got, found = getattr(numbapool, f"max_pool{ndim}d")(x, k, s, p, dilation=d, ceil_mode=c, return_indices=True)
        compare(got, y, dtype)
        assert torch.equal(found, index)
        grad = torch.randn(y.shape).to(dtype)
        compare(getattr(numbapool, f"max_pool{ndim}d_backward")(grad, x, k, s, p, dilation=d, ceil_mode=c), gradient(y, grad, leaf), dtype)


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_avg(ndim, dtype, order):
    x = data(ndim, dtype, order)
    for (k, s, p, d, c), include in [(w, i) for w in WINDOWS for i in (True, False) if w[3] == 1]:
        for override in (None, 5) if ndim > 1 else (None,):
            leaf = wide(x)
            more = {"divisor_override": override} if ndim > 1 else {}
            y = getattr(F, f"avg_pool{ndim}d")(leaf, k, s, p, c, include, **more)
            own = dict(ceil_mode=c, count_include_pad=include, divisor_override=override)
            compare(getattr(numbapool, f"avg_pool{ndim}d")(x, k, s, p, **own), y, dtype)
            grad = torch.randn(y.shape).to(dtype)
            compare(getattr(numbapool, f"avg_pool{ndim}d_backward")(grad, x, k, s, p, **own), gradient(y, grad, leaf), dtype)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, 2.5])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_lp_of_positive_numbers(ndim, norm_type):
    x = data(ndim, torch.float64).abs() + 0.01
    leaf = wide(x)
    y = getattr(F, f"lp_pool{ndim}d")(leaf, norm_type, 3, 2)
    compare(getattr(numbapool, f"lp_pool{ndim}d")(x, norm_type, 3, 2), y, x.dtype)
    grad = torch.randn(y.shape, dtype=x.dtype)
    compare(getattr(numbapool, f"lp_pool{ndim}d_backward")(grad, x, norm_type, 3, 2), gradient(y, grad, leaf), x.dtype)


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_adaptive(ndim, order):
    x = data(ndim, torch.float32, order)
    for size in (1, 4, (None, 3, 5)[-ndim:] if ndim > 1 else 6):
        leaf = wide(x)
        y, index = getattr(F, f"adaptive_max_pool{ndim}d")(leaf, size, return_indices=True)
        got, found = getattr(numbapool, f"adaptive_max_pool{ndim}d")(x, size, return_indices=True)
        compare(got, y, x.dtype)
        assert torch.equal(found, index)
        mean = getattr(F, f"adaptive_avg_pool{ndim}d")(leaf, size)
        compare(getattr(numbapool, f"adaptive_avg_pool{ndim}d")(x, size), mean, x.dtype)
        grad = torch.randn(y.shape)
        compare(getattr(numbapool, f"adaptive_max_pool{ndim}d_backward")(grad, x, size), gradient(y, grad, leaf), x.dtype)
        compare(getattr(numbapool, f"adaptive_avg_pool{ndim}d_backward")(grad, x, size), gradient(mean, grad, leaf), x.dtype)


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("ndim", [2, 3])
def test_fractional(ndim, dtype, order):
    """The same samples give torch's very windows."""
    x = data(ndim, dtype, order)
    for kernel, size in ((2, 4), ((1, 2, 3)[-ndim:], (3, 3, 5)[-ndim:])):
        samples = torch.rand(*x.shape[:2], ndim, dtype=dtype)
        leaf = x.detach().clone().requires_grad_()
        y, index = getattr(F, f"fractional_max_pool{ndim}d")(leaf, kernel, size, _random_samples=samples, return_indices=True)
        own = dict(output_size=size, samples=samples)
        got, found = getattr(numbapool, f"fractional_max_pool{ndim}d")(x, kernel, **own, return_indices=True)
        compare(got, y, dtype)
        assert torch.equal(found, index)
        grad = torch.randn(y.shape, dtype=dtype)
        expected = torch.autograd.grad(y, leaf, grad)[0]
        compare(getattr(numbapool, f"fractional_max_pool{ndim}d_backward")(grad, x, kernel, **own, indices=found), expected, dtype)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_unpool(ndim):
    x = data(ndim, torch.float32)
    pooled, index = getattr(numbapool, f"max_pool{ndim}d")(x, 2, return_indices=True)
    size = x.shape[2:]
    leaf = wide(pooled)
    y = getattr(F, f"max_unpool{ndim}d")(leaf, index, 2, output_size=size)
    compare(getattr(numbapool, f"max_unpool{ndim}d")(pooled, index, 2, output_size=size), y, x.dtype)
    compare(getattr(numbapool, f"max_unpool{ndim}d")(pooled, index, 2, output_size=tuple(x.shape)), y, x.dtype)
    grad = torch.randn(y.shape)
    compare(getattr(numbapool, f"max_unpool{ndim}d_backward")(grad, pooled, index, 2, output_size=size), gradient(y, grad, leaf), x.dtype)


@pytest.mark.parametrize("ndim", [2, 3])
def test_memory_order_is_kept(ndim):
    """channels_last in, channels_last out, forward and backward; contiguous in, contiguous out."""
    kind = torch.channels_last if ndim == 2 else torch.channels_last_3d
    for name, args in (("max", (3, 2)), ("soft", (2,)), ("sort", (torch.zeros(2), 2))):
        f, b = getattr(numbapool, f"{name}_pool{ndim}d"), getattr(numbapool, f"{name}_pool{ndim}d_backward")
        for order, memory in (("first", torch.contiguous_format), ("last", kind)):
            x = data(ndim, torch.float32, order)
            y = f(x, *args)
            assert y.is_contiguous(memory_format=memory)
            gradient = b(torch.ones_like(y), x, *args)
            assert (gradient[0] if isinstance(gradient, tuple) else gradient).is_contiguous(memory_format=memory)


def test_learnable_parameters_come_back_as_tensors():
    x = data(2, torch.float32)
    y = numbapool.gem_pool2d(x, 2)
    _, grad_p = numbapool.gem_pool2d_backward(torch.ones_like(y), x, 2)
    assert isinstance(grad_p, torch.Tensor)
    assert grad_p.shape == ()
    _, grad_p = numbapool.gem_pool2d_backward(torch.ones_like(y), x, 2, p=torch.full((5,), 2.0))
    assert grad_p.shape == (5,)
