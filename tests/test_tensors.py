"""torch tensors that are more than memory with strides: autograd, lazy conjugation and negation, expansion, subclasses, modes."""
from __future__ import annotations

import numpy as np
import pytest

import numbapool as nbp

torch = pytest.importorskip("torch", reason="torch is an optional extra")


def normal(*shape: int):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


X = normal(2, 3, 9, 11)
TWINS = {  # a tensor of another kind, and the plain one with its values
    "negative bit": lambda: (torch.complex(X, X).conj().imag, -X),
    "real part of a conjugate": lambda: (torch.complex(X, -X).conj().real, X),
    "expanded": lambda: (X[:1, :, :1].expand(2, 3, 9, 11), X[:1, :, :1].repeat(2, 1, 9, 1)),
    "transposed": lambda: (X.transpose(2, 3).contiguous().transpose(2, 3), X),
    "channels_last": lambda: (X.contiguous(memory_format=torch.channels_last), X),
    "steps": lambda: (X.repeat_interleave(3, -1)[..., ::3], X),
    "offset": lambda: (torch.cat([X, X])[2:], X),
    "parameter without gradient": lambda: (torch.nn.Parameter(X, requires_grad=False), X),
    "detached": lambda: (X.clone().requires_grad_().detach(), X),
    "made in inference mode": lambda: (inference(), X),
}
CALLS = {
    "max": lambda x: nbp.max_pool2d(x, 3, 2, 1),
    "indices": lambda x: nbp.max_pool2d(x, 3, 2, 1, return_indices=True)[1],
    "soft": lambda x: nbp.soft_pool2d(x, 2),
    "max backward": lambda x: nbp.max_pool2d_backward(nbp.max_pool2d(x, 2), x, 2),
    "lip backward": lambda x: nbp.lip_pool2d_backward(nbp.lip_pool2d(x, x), x, x)[1],
}


def inference():
    with torch.inference_mode():
        return X.clone()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("twin", TWINS)
def test_kinds_of_tensors(twin, call):
    x, plain = TWINS[twin]()
    before, version = x.clone(), 0 if x.is_inference() else x._version
    result, expected = CALLS[call](x), CALLS[call](plain.contiguous())
    assert type(result) is torch.Tensor
    assert result.dtype == expected.dtype
    assert not result.requires_grad
    torch.testing.assert_close(result, expected, rtol=2e-6, atol=2e-6)
    assert torch.equal(x, before)
    assert x.is_inference() or x._version == version


def test_results_take_the_memory_order_of_x():
    for order in (torch.contiguous_format, torch.channels_last):
        x = X.contiguous(memory_format=order)
        for call in CALLS.values():
            result = call(x)
            assert result.is_contiguous(memory_format=order)
            assert result.is_contiguous() == (order == torch.contiguous_format)


@pytest.mark.parametrize("call", CALLS)
def test_requires_grad(call):
    """Refused where autograd would be cut without a word; fine where nobody differentiates."""
    x = X.clone().requires_grad_()
    with pytest.raises(BufferError, match=r"^\w+: \w+ requires grad"):
        CALLS[call](x)
    with torch.no_grad():
        assert torch.equal(CALLS[call](x), CALLS[call](X))
    with torch.inference_mode():
        assert torch.equal(CALLS[call](x), CALLS[call](X))
        assert torch.equal(CALLS[call](X.clone()), CALLS[call](X))


@pytest.mark.parametrize("argument", ["grad", "logit", "weight", "indices of the wrong kind"])
def test_requires_grad_of_other_arguments(argument):
    leaf = X.clone().requires_grad_()
    weight = torch.zeros(2, requires_grad=True)
    call = {
        "grad": lambda: nbp.max_pool2d_backward(nbp.max_pool2d(X, 1).requires_grad_(), X, 1),
        "logit": lambda: nbp.lip_pool2d(X, leaf),
        "weight": lambda: nbp.sort_pool2d(X, weight),
        "indices of the wrong kind": lambda: nbp.max_pool2d_backward(X, X, 1, indices=leaf),
    }[argument]
    name = argument.split()[0]
    with pytest.raises(BufferError, match=rf"^\w+: {name} requires grad"):
        call()


def test_a_number_may_be_a_tensor():
    """And is read when the call is made."""
    assert torch.equal(nbp.soft_pool2d(X, 2, temperature=torch.tensor(0.5)), nbp.soft_pool2d(X, 2, temperature=0.5))


@pytest.mark.parametrize("make", [
    lambda: torch.complex(X, X), lambda: X.to_sparse(), lambda: X.to("meta"), lambda: X.to(torch.float8_e4m3fn),
    lambda: torch.quantize_per_tensor(X, 1, 0, torch.qint8), lambda: torch.nested.nested_tensor([X[0], X[1]]),
])
@pytest.mark.filterwarnings("ignore")
def test_refused_tensors(make):
    with pytest.raises((TypeError, BufferError), match=r"^max_pool2d: x "):
        nbp.max_pool2d(make(), 2)


# ---------------------------------------------------------------- out=

def test_out():
    """Written in place, returned, and noticed by autograd."""
    expected = nbp.max_pool2d(X, 2)
    last = torch.empty(2, 3, 4, 5, memory_format=torch.channels_last)
    for out in (torch.empty(2, 3, 4, 5), last, torch.empty(2, 3, 4, 10)[..., ::2]):
        version = out._version
        assert nbp.max_pool2d(X, 2, out=out) is out
        assert torch.equal(out, expected)
        assert out._version > version


def test_out_saved_for_a_gradient():
    """torch's own in-place rule: what a gradient needs must not change."""
    leaf, out = torch.ones(2, 3, 4, 5, requires_grad=True), torch.ones(2, 3, 4, 5)
    product = (leaf * out).sum()
    nbp.max_pool2d(X, 2, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_out_of_another_library():
    """Between NumPy and torch, also for max_unpool, which copies."""
    y, index = nbp.max_pool2d(X, 2, return_indices=True)
    out = np.empty(y.shape, np.float32)
    assert nbp.max_pool2d(X, 2, out=out) is out
    np.testing.assert_array_equal(out, y.numpy())
    out = torch.empty(y.shape)
    assert nbp.max_pool2d(X.numpy(), 2, out=out) is out
    assert torch.equal(out, y)
    plane = nbp.max_unpool2d(y, index, 2, output_size=X.shape)
    for x, i, out in ((y, index, np.empty(plane.shape, np.float32)), (y.numpy(), index.numpy(), torch.empty(plane.shape))):
        assert nbp.max_unpool2d(x, i, 2, output_size=X.shape, out=out) is out
        np.testing.assert_array_equal(np.asarray(out), plane.numpy())


@pytest.mark.parametrize(("out", "kind", "message"), [
    (lambda: torch.empty(2, 3, 4, 5, requires_grad=True), BufferError, "out requires grad"),
    (lambda: torch.empty(2, 3, 4, 6), ValueError, "out must have shape"),
    (lambda: torch.empty(2, 3, 4, 5, dtype=torch.float64), TypeError, "out must have dtype"),
    (lambda: torch.empty(1, 3, 4, 5).expand(2, 3, 4, 5), ValueError, "out must not overlap itself"),
    (lambda: torch.empty(2, 3, 4, 5, device="meta"), BufferError, "out is on device meta"),
    (lambda: X[..., :4, :5], ValueError, "out overlaps the memory of an input"),
    (lambda: torch.complex(X, X).conj().imag[..., :4, :5], ValueError, "out must be aligned, .* no negative bit"),
])
def test_refused_out(out, kind, message):
    before = X.clone()
    with pytest.raises(kind, match=f"^max_pool2d: {message}"):
        nbp.max_pool2d(X, 2, out=out())
    assert torch.equal(X, before)


def test_out_in_inference_mode():
    with torch.inference_mode():
        out = torch.empty(2, 3, 4, 5)
        assert torch.equal(nbp.max_pool2d(X, 2, out=out), nbp.max_pool2d(X, 2))


def test_other_default_device_and_dtype():
    """Results go where x is, whatever torch's defaults are."""
    expected = nbp.max_pool2d(X, 2)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert torch.equal(nbp.max_pool2d(X, 2), expected)
            assert nbp.lip_pool2d_backward(nbp.lip_pool2d(X, X), X, X)[0].device.type == "cpu"
            assert nbp.sort_pool2d_backward(nbp.sort_pool2d(X, np.zeros(2)), X, np.zeros(2))[1].device.type == "cpu"
    finally:
        torch.set_default_dtype(torch.float32)
