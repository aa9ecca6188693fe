"""Whole calls on the arrays of every library: results belong to it, and are those of NumPy."""
from __future__ import annotations

import numpy as np
import pytest

import numbapool


class OnlyDlpack:
    """An array that offers nothing but DLPack."""

    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **kwargs):
        return self.x.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


class OnlyInterface:
    """An array that offers nothing but `__array_interface__`."""

    def __init__(self, x):
        self.x = x
        self.__array_interface__ = x.__array_interface__


def torch_tensor(x):
    return pytest.importorskip("torch").from_numpy(x)


def jax_array(x):
    return pytest.importorskip("jax").numpy.asarray(x)


MAKERS = {"dlpack": OnlyDlpack, "interface": OnlyInterface, "torch": torch_tensor, "jax": jax_array}


def kind(maker: str):
    """The type of a result."""
    if maker == "torch":
        return pytest.importorskip("torch").Tensor
    return pytest.importorskip("jax").Array if maker == "jax" else np.ndarray


@pytest.mark.parametrize("maker", list(MAKERS))
def test_every_family(maker):
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 8)).astype(np.float32)
    make, expect = MAKERS[maker], kind(maker)
    for name, args, own in (("max", (3, 2, 1), {}), ("soft", (2,), {"temperature": 0.5}), ("sort", (np.zeros(3), 2), {}),
                            ("stochastic", (2,), {"seed": 3}), ("gem", (2,), {}), ("s3", (2,), {"seed": 1})):
        forward, backward = getattr(numbapool, f"{name}_pool2d"), getattr(numbapool, f"{name}_pool2d_backward")
        y, got = forward(x, *args, **own), forward(make(x), *args, **own)
        assert isinstance(got, expect)
        np.testing.assert_array_equal(np.asarray(got), y)
        wanted, results = backward(y, x, *args, **own), backward(make(y), make(x), *args, **own)
        for w, r in zip(*(v if isinstance(v, tuple) else (v,) for v in (wanted, results)), strict=True):
            assert isinstance(r, expect)
            np.testing.assert_array_equal(np.asarray(r), w)


@pytest.mark.parametrize("maker", list(MAKERS))
def test_indices_and_sequences_come_back_in_the_library(maker):
    x = np.random.default_rng(1).standard_normal((1, 2, 11)).astype(np.float32)
    make, expect = MAKERS[maker], kind(maker)
    y, indices = numbapool.max_pool1d(make(x), 2, return_indices=True)
    assert isinstance(indices, expect)
    np.testing.assert_array_equal(np.asarray(indices), numbapool.max_pool1d(x, 2, return_indices=True)[1])
    back = numbapool.max_pool1d_backward(y, make(x), 2, indices=indices)
    np.testing.assert_array_equal(np.asarray(back).sum(), np.asarray(y).sum())
    y, sequences = numbapool.fractional_avg_pool1d(make(x), pooling_ratio=1.6, seed=2, return_sequences=True)
    assert isinstance(sequences[0], expect)
    np.testing.assert_array_equal(np.asarray(numbapool.fractional_avg_pool1d(make(x), sequences=sequences)), np.asarray(y))


def test_out_of_torch():
    torch = pytest.importorskip("torch")
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    for out in (torch.full((2, 3, 4, 4), torch.nan), torch.full((2, 4, 4, 3), torch.nan).permute(0, 3, 1, 2)):
        assert numbapool.soft_pool2d(x, 2, out=out) is out
        torch.testing.assert_close(out, numbapool.soft_pool2d(x, 2))


def test_bfloat16_of_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.linspace(-1, 1, 24).reshape(1, 2, 12).astype(ml_dtypes.bfloat16)
    y = numbapool.avg_pool1d(x, 3)
    assert y.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(y, x.astype(np.float32).reshape(1, 2, 4, 3).mean(-1).astype(ml_dtypes.bfloat16))


def test_a_seed_is_the_same_draw_everywhere():
    """Memory order, dtype, library and batch position do not change what a seed draws."""
    x = np.random.default_rng(2).integers(1, 9, (2, 5, 12, 10)).astype(np.float64)  # exact sums in every dtype
    first = numbapool.stochastic_pool2d(x, 2, seed=11, return_indices=True)[1]
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    drawn = numbapool.stochastic_pool2d(last, 2, seed=11, channels_last=True, return_indices=True)[1]
    np.testing.assert_array_equal(np.moveaxis(drawn, -1, 1), first)
    for dtype in (np.float32, np.float16):
        np.testing.assert_array_equal(numbapool.stochastic_pool2d(x.astype(dtype), 2, seed=11, return_indices=True)[1], first)
    assert (numbapool.stochastic_pool2d(x, 2, seed=12, return_indices=True)[1] != first).any()
    assert (numbapool.stochastic_pool2d(x, 2, return_indices=True)[1] != numbapool.stochastic_pool2d(x, 2, return_indices=True)[1]).any()
    np.testing.assert_array_equal(numbapool.stochastic_pool2d(x[:1], 2, seed=11, return_indices=True)[1], first[:1])


def test_the_generator_is_philox():
    """Random123's known answers of Philox4x32-10; a block's words are those of four neighbours in a plane."""
    from numbapool.random import philox, uniforms
    for key, block, plane, expected in (
            (0, 0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
            (0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
            (0x299F31D0A4093822, 0x85A308D3243F6A88, 0x0370734413198A2E, "d16cfe09 94fdcceb 5001e420 24126ea1")):
        words = philox(np.uint64(key), np.uint64(block), np.uint64(plane))
        assert " ".join(f"{int(w) & 0xFFFFFFFF:08x}" for w in words) == expected
    u = uniforms(0, 3, 7)
    assert u[0, 2] == (0xBC57AC4C >> 8) / 2**24
    np.testing.assert_array_equal(uniforms(0, 5, 9)[:3, :7], u)
    u = uniforms(5, 10, 10_000)
    assert 0 <= u.min() < 1e-3
    assert 1 - 1e-3 < u.max() < 1
    np.testing.assert_allclose([u.mean(), u.var()], [1 / 2, 1 / 12], 0.01)


PARAMETERS = {  # array parameters of composed poolings, one a channel or one an element of the window
    "mixed": {"a": np.array([0.25, 0.5, 0.75], np.float32)}, "gated": {"omega": np.array([[0.5, -0.5], [1.0, 0.25]], np.float32)},
    "dpp": {"lam": np.array([0.25, 0.5, -0.5], np.float32), "alpha": np.zeros(3, np.float32)},
}


@pytest.mark.parametrize("maker", list(MAKERS))
@pytest.mark.parametrize("name", list(PARAMETERS))
def test_parameters_of_composed_poolings(name, maker):
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    forward, backward = getattr(numbapool, f"{name}_pool2d"), getattr(numbapool, f"{name}_pool2d_backward")
    own, there = PARAMETERS[name], {k: MAKERS[maker](v) for k, v in PARAMETERS[name].items()}
    window = {} if name == "dpp" else {"kernel_size": 2}
    y = forward(x, **own, **window)
    np.testing.assert_array_equal(forward(x, **there, **window), y)
    for got, wanted in zip(backward(y, x, **there, **window), backward(y, x, **own, **window), strict=True):
        np.testing.assert_array_equal(got, wanted)
