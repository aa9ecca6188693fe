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


# ---------------------------------------------------------------- compositions of torch's operations

def columns(x, k, s, ndim):
    """The windows' elements of an unpadded pooling as the last axis."""
    for axis in range(2, 2 + ndim):
        x = x.unfold(axis, k, s)
    return x.flatten(2 + ndim)


def in_order(v):
    return v.sort(-1, descending=True)[0]


WEIGHT = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
COMPOSED = {  # name: leading arguments, own parameters, y of the windows' elements v
    "lse": ((), {"r": 3.0}, lambda v: (torch.logsumexp(3 * v, -1) - torch.tensor(v.shape[-1], dtype=v.dtype).log()) / 3),
    "auto": ((), {"alpha": -1.5}, lambda v: ((-1.5 * v).softmax(-1) * v).sum(-1)),
    "median": ((), {}, lambda v: v.median(-1)[0]),
    "rank": ((), {"t": 3}, lambda v: v.topk(3, -1)[0].mean(-1)),
    "ordinal": ((WEIGHT,), {}, lambda v: in_order(v)[..., :4] @ WEIGHT / WEIGHT.sum()),
    "mixed": ((0.3,), {}, lambda v: 0.3 * v.amax(-1) + 0.7 * v.mean(-1)),
}


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("name", COMPOSED)
def test_compositions(name, ndim):
    leading, own, formula = COMPOSED[name]
    x = data(ndim, torch.float64)
    for kernel, stride in ((3, 2), (5, 1), (4, 5)):
        leaf = wide(x)
        if kernel**ndim < 4:
            continue
        y = formula(columns(leaf, kernel, stride, ndim))
        compare(getattr(numbapool, f"{name}_pool{ndim}d")(x, *leading, kernel, stride, **own), y, x.dtype)
        grad = torch.randn(y.shape, dtype=x.dtype)
        found = getattr(numbapool, f"{name}_pool{ndim}d_backward")(grad, x, *leading, kernel, stride, **own)
        compare(found[0] if isinstance(found, tuple) else found, gradient(y, grad, leaf), x.dtype)


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize(("mode", "filter_size", "stride"), [("reflect", 4, 2), ("replicate", 3, 1), ("constant", 5, 3)])
def test_blur_is_a_convolution_of_each_channel(mode, filter_size, stride, order):
    x = data(2, torch.float32, order)
    leaf, before = wide(x), (filter_size - 1) // 2
    row = torch.tensor({3: [1, 2, 1], 4: [1, 3, 3, 1], 5: [1, 4, 6, 4, 1]}[filter_size], dtype=torch.float64)
    kernel = (torch.outer(row, row) / row.sum() ** 2).expand(x.shape[1], 1, -1, -1)
    padded = F.pad(leaf, (before, filter_size // 2) * 2, mode=mode)
    y = F.conv2d(padded, kernel, stride=stride, groups=x.shape[1])
    got = numbapool.blur_pool2d(x, filter_size, stride, pad_mode=mode)
    compare(got, y, x.dtype)
    grad = torch.randn(y.shape)
    compare(numbapool.blur_pool2d_backward(grad, x, filter_size, stride, pad_mode=mode), gradient(y, grad, leaf), x.dtype)
    assert got.is_contiguous(memory_format=torch.channels_last if order == "last" else torch.contiguous_format)


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gated_by_a_convolution(dtype, order):
    x, omega = data(2, dtype, order), torch.randn(3, 3, dtype=torch.float64)
    leaf, weights = wide(x), omega.clone().requires_grad_()
    sums = F.conv2d(leaf, weights.expand(x.shape[1], 1, -1, -1), stride=2, padding=1, groups=x.shape[1])
    q, mean = sums.sigmoid(), F.avg_pool2d(leaf, 3, 2, 1, count_include_pad=False)
    y = q * F.max_pool2d(leaf, 3, 2, 1) + (1 - q) * mean
    got = numbapool.gated_pool2d(x, omega, 3, 2, 1)
    compare(got, y, dtype)
    assert got.is_contiguous(memory_format=torch.channels_last if order == "last" else torch.contiguous_format)
    grad = torch.randn(y.shape).to(dtype)
    grad_x, grad_omega = numbapool.gated_pool2d_backward(grad, x, omega, 3, 2, 1)
    expected = torch.autograd.grad(y, (leaf, weights), grad.double())
    compare(grad_x, expected[0], dtype)
    torch.testing.assert_close(grad_omega.double(), expected[1], rtol=1e-4, atol=1e-3 if dtype != torch.float64 else 1e-10)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_detail_preserving(symmetric, full):
    x = data(2, torch.float64)[..., :12, :16]
    lam, alpha, weight = torch.randn(5, dtype=x.dtype), torch.randn(5, dtype=x.dtype), torch.randn(5, 3, 3, dtype=x.dtype) / 9
    leaves = [wide(t) for t in (x, lam, alpha, weight)]
    smooth = F.conv2d(leaves[0], leaves[3][:, None], stride=2, padding=1, groups=5) if full else F.avg_pool2d(leaves[0], 2)
    away = leaves[0] - smooth.repeat_interleave(2, 2).repeat_interleave(2, 3)
    v = (away if symmetric else away.relu()) ** 2 + 1e-3
    ratio = v / F.avg_pool2d(v, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    lead = (None, slice(None), None, None)
    w = ratio ** (leaves[1].exp() / 2)[lead] + leaves[2].exp()[lead]
    y = F.avg_pool2d(w * leaves[0], 2) / F.avg_pool2d(w, 2)
    own = {"symmetric": symmetric} | ({"weight": weight} if full else {})
    compare(numbapool.dpp_pool2d(x, lam, alpha, **own), y, x.dtype)
    grad = torch.randn(y.shape, dtype=x.dtype)
    expected = torch.autograd.grad(y, leaves[:4 if full else 3], grad)
    for got, wanted in zip(numbapool.dpp_pool2d_backward(grad, x, lam, alpha, **own), expected, strict=True):
        compare(got, wanted, x.dtype)
