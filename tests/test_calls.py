"""Repeated calls: what was worked out for a call serves only those that are alike, and shares nothing with them."""
from __future__ import annotations

import threading
from typing import Any

import numba
import numpy as np
import pytest

import numbapool as nbp
from numbapool import prepared
from numbapool.prepared import CALLS, Remembered

RNG = np.random.default_rng(0)
X = RNG.random((1, 2, 8, 8), np.float32)


@pytest.fixture
def preparations(monkeypatch):
    """The calls that are prepared, of an empty store."""
    seen: list[Any] = []
    make = prepared.Prepared.__init__
    monkeypatch.setattr(prepared.Prepared, "__init__", lambda self, *args: (seen.append(args[4].removesuffix(": out")), make(self, *args))[1])
    monkeypatch.setattr(CALLS, "young", {})
    monkeypatch.setattr(CALLS, "old", {})
    return seen


# ---------------------------------------------------------------- what is alike

ALIKE = [  # function, keywords: the second call is not prepared anew
    ("max_pool2d", {"kernel_size": 2}), ("max_pool2d", {"kernel_size": (2, 2), "padding": ((0, 1), (1, 0))}), ("max_pool2d", {"kernel_size": [2, 2]}),
    ("max_pool2d", {"kernel_size": np.int64(2)}), ("max_pool2d", {"kernel_size": 2, "return_indices": True}),
    ("soft_pool2d", {"kernel_size": 2, "temperature": 0.5}), ("lp_pool2d", {"norm_type": 3, "kernel_size": 2, "norm": "mean"}),
    ("gem_pool2d", {"kernel_size": 2, "p": np.array([1.0, 2.0])}), ("sort_pool2d", {"weight": np.arange(3.0)}), ("lip_pool2d", {"logit": X}),
    ("stochastic_pool2d", {"kernel_size": 2}), ("stochastic_pool2d", {"kernel_size": 2, "seed": 3}),
    ("adaptive_avg_pool2d", {"output_size": (3, None)}),
    ("max_unpool2d", {"indices": np.zeros(X.shape, np.int64), "kernel_size": 2}),
]


@pytest.mark.parametrize(("name", "arguments"), ALIKE, ids=[f"{n}-{i}" for i, (n, _) in enumerate(ALIKE)])
def test_alike_is_prepared_once(preparations, name, arguments):
    first = getattr(nbp, name)(X, **arguments)
    second = getattr(nbp, name)(X.copy(), **arguments)
    assert preparations == [name]
    if name != "stochastic_pool2d" or "seed" in arguments:
        np.testing.assert_array_equal(first, second)


def test_backward_is_prepared_once(preparations):
    y, index = nbp.max_pool2d(X, 2, return_indices=True)
    for _ in range(2):
        a, b = nbp.max_pool2d_backward(y, X, 2), nbp.max_pool2d_backward(y, X, 2, indices=index)
        np.testing.assert_array_equal(a, b)
    assert preparations == ["max_pool2d", "max_pool2d_backward", "max_pool2d_backward"]


# ---------------------------------------------------------------- what only looks alike

WRONG = [  # an argument, what is right, and equal ones that are not
    ("kernel_size", 1, (True, 1.0, np.True_, np.float64(1))), ("kernel_size", (1, 1), ((True, 1), (1, 1.0), (1, np.True_), ["1", 1])),
    ("kernel_size", [1, 1], ([True, 1], [1.0, 1])), ("padding", 0, (False, 0.0, -0.0)),
    ("padding", ((0, 0), (0, 0)), (((0, 0), (0, False)), ((0, 0), (0.0, 0)))),
    ("dilation", 1, (True, 1.0)),
    ("ceil_mode", False, (0, 0.0, None)), ("channels_last", False, (0, 0.0)), ("return_indices", True, (1, 1.0)),
]


@pytest.mark.parametrize(("name", "right", "wrong"), WRONG, ids=[f"{n}-{r}" for n, r, _ in WRONG])
def test_equal_arguments_of_wrong_types(name, right, wrong):
    good = {"kernel_size": 1, "stride": 1}
    for value in wrong:
        nbp.max_pool2d(X, **good | {name: right})
        with pytest.raises(TypeError, match=rf"max_pool2d: {name}"):
            nbp.max_pool2d(X, **good | {name: value})
        nbp.max_pool2d(X, **good | {name: right})


def test_numbers_that_look_alike():
    expected = nbp.max_pool2d(X, 2)
    for size in (2, (2, 2), [2, 2], np.int64(2), np.int8(2), np.array(2), np.array([2, 2]), (np.int32(2), 2)) * 2:
        np.testing.assert_array_equal(nbp.max_pool2d(X, size), expected)
    assert nbp.max_pool2d(X, (2, 4)).shape == (1, 2, 4, 2)
    assert nbp.max_pool2d(X, [4, 2]).shape == (1, 2, 2, 4)
    for exponent in (2, 2.0, np.float32(2), np.array(2)) * 2:
        np.testing.assert_array_equal(nbp.lp_pool2d(X, exponent, 2), nbp.lp_pool2d(X, 2.0, 2))
    for wrong in (True, 0.0, -0.0, "2"):
        with pytest.raises((TypeError, ValueError), match="norm_type"):
            nbp.lp_pool2d(X, wrong, 2)


def test_objects_that_may_change():
    """What stands for an int may stand for another one next time: never remembered."""
    class Size:
        value = 2

        def __index__(self) -> int:
            return self.value

    size = Size()
    assert nbp.max_pool2d(X, size).shape[-1] == 4
    size.value = 4
    assert nbp.max_pool2d(X, size).shape[-1] == 2
    sizes = [2, 2]
    assert nbp.max_pool2d(X, sizes).shape[-1] == 4
    sizes[1] = 4
    assert nbp.max_pool2d(X, sizes).shape[-1] == 2


@pytest.mark.parametrize("count", [2, 300])  # 300 float64 are more than a key holds
def test_array_parameters_are_read_at_each_call(count):
    x = RNG.random((1, count, 4, 4), np.float32)
    p, weight = np.full(count, 2.0), np.zeros((count, 4))
    first = nbp.gem_pool2d(x, 2, p=p), nbp.sort_pool2d(x, weight)
    p[1], weight[1, 0] = 5.0, 9.0
    second = nbp.gem_pool2d(x, 2, p=p), nbp.sort_pool2d(x, weight)
    p[1], weight[1, 0] = 2.0, 0.0
    third = nbp.gem_pool2d(x, 2, p=p), nbp.sort_pool2d(x, weight)
    for a, b, c in zip(first, second, third, strict=True):
        assert (a[:, 1] != b[:, 1]).any()
        np.testing.assert_array_equal(a, c)
    gradients = [nbp.sort_pool2d_backward(first[1], x, weight)[1] for _ in range(2)]
    weight[:] = 3.0  # what a prepared call keeps is its own
    weight[:] = 0.0
    np.testing.assert_array_equal(gradients[0], gradients[1])
    np.testing.assert_array_equal(nbp.sort_pool2d_backward(first[1], x, weight)[1], gradients[0])


def test_dtypes_and_layouts_apart():
    big = RNG.integers(0, 100, (4, 4, 16, 16)).astype(np.int32)
    for dtype in ("float32", "int32", "uint32", "float64", "int64", "float16", "uint8", "bool") * 2:
        x = big.astype(dtype)
        for view in (x, x[::-1, :, ::-1, ::-1], x[:, :, ::2], x.transpose(0, 1, 3, 2), np.broadcast_to(x[:1, :1], x.shape), x[1:3, :, 3:, 5:], x[:0]):
            y = nbp.max_pool2d(view, 2)
            n, c, h, w = (*view.shape[:2], view.shape[2] // 2, view.shape[3] // 2)
            expected = view[:, :, :2 * h, :2 * w].reshape(n, c, h, 2, w, 2).max((3, 5))
            np.testing.assert_array_equal(y, expected, strict=True)


def test_same_layout_at_other_addresses():
    """Views of one shape and strides, forwards and backwards, misaligned ones too; and of a buffer that is gone."""
    buffer = RNG.random((6, 10, 24), np.float32)
    for step in (1, -1):
        for d in range(4):
            for w in range(8):
                x = buffer[d:d + 3, ::step, w:w + 16]
                expected = x.reshape(3, 5, 2, 8, 2).max((2, 4))
                np.testing.assert_array_equal(nbp.max_pool2d(x, 2), expected)
    odd = np.empty(4 * 64 + 1, np.uint8)[1:].view(np.float32).reshape(1, 8, 8)
    odd[...] = RNG.random((1, 8, 8))
    assert not odd.flags.aligned
    for _ in range(3):
        np.testing.assert_array_equal(nbp.max_pool2d(odd, 2), odd.reshape(1, 4, 2, 4, 2).max((2, 4)))


# ---------------------------------------------------------------- what is not shared

def test_results_do_not_share_memory():
    for function in (nbp.max_pool2d, nbp.avg_pool2d, nbp.soft_pool2d):
        results = [function(X + i, 2) for i in range(4)]
        kept = [r.copy() for r in results]
        assert not any(np.shares_memory(a, b) for i, a in enumerate(results) for b in results[:i])
        results[0][...] = np.nan
        function(X, 2)
        for a, b in zip(results[1:], kept[1:], strict=True):
            np.testing.assert_array_equal(a, b)
    y, index = nbp.max_pool2d(X, 2, return_indices=True)
    a, b = (nbp.max_pool2d_backward(y, X, 2, indices=index) for _ in range(2))
    assert not np.shares_memory(a, b)


def test_out_is_checked_at_each_call():
    out = np.empty((1, 2, 4, 4), np.float32)
    for _ in range(2):
        assert nbp.max_pool2d(X, 2, out=out) is out
        np.testing.assert_array_equal(out, nbp.max_pool2d(X, 2))
        with pytest.raises(ValueError, match="out overlaps"):
            nbp.max_pool2d(X, 2, out=X.reshape(-1)[:32].reshape(1, 2, 4, 4))
        frozen = out.copy()
        frozen.flags.writeable = False
        with pytest.raises(ValueError, match="out is read-only"):
            nbp.max_pool2d(X, 2, out=frozen)
    other = X.copy()
    nbp.max_pool2d(X, 2, out=other[..., ::2, ::2])
    np.testing.assert_array_equal(other[..., ::2, ::2], nbp.max_pool2d(X, 2))


def test_tensors_are_checked_at_each_call():
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(X.copy())
    expected = nbp.max_pool2d(x, 2)
    x.requires_grad_()
    with pytest.raises(BufferError, match="max_pool2d: x requires grad"):
        nbp.max_pool2d(x, 2)
    with torch.no_grad():
        assert (nbp.max_pool2d(x, 2) == expected).all()
    with pytest.raises(BufferError, match="grad requires grad"):
        nbp.max_pool2d_backward(torch.ones_like(expected, requires_grad=True), x.detach(), 2)
    with pytest.raises(BufferError, match="p requires grad"):
        nbp.gem_pool2d(x.detach(), 2, p=torch.full((2,), 3.0, requires_grad=True))
    from torch._subclasses.fake_tensor import FakeTensorMode
    with FakeTensorMode(), pytest.raises(BufferError, match="FakeTensor"):
        nbp.max_pool2d(torch.zeros(X.shape), 2)
    plain = x.detach()
    with FakeTensorMode(), pytest.raises(BufferError, match="FakeTensor"):
        nbp.max_pool2d(plain, 2)  # the result would be one
    assert (nbp.max_pool2d(plain, 2) == expected).all()


def test_a_bad_index_after_good_ones():
    y, index = nbp.max_pool2d(X, 2, return_indices=True)
    expected = nbp.max_pool2d_backward(y, X, 2, indices=index)
    bad = index.copy()
    bad[0, 1, 2, 3] = 64
    for _ in range(3):
        with pytest.raises(ValueError, match="indices must lie between 0 and 63"):
            nbp.max_pool2d_backward(y, X, 2, indices=bad)
        np.testing.assert_array_equal(nbp.max_pool2d_backward(y, X, 2, indices=index), expected)


def test_extremes_after_ordinary_values():
    """Windows that the kernel of one pass leaves to the other one, and then none."""
    wide = X.copy()
    wide[0, 0, :2, :2], wide[0, 1, 4:6, 4:6] = 3e38, -3e38
    for x in (X, wide, X, wide, X):
        with np.errstate(all="ignore"):  # plain Python warns of infinities
            y = nbp.soft_pool2d(x, 2)
        windows = x.reshape(1, 2, 4, 2, 4, 2).transpose(0, 1, 2, 4, 3, 5).reshape(1, 2, 4, 4, 4).astype(np.float64)
        weights = np.exp(windows - windows.max(-1, keepdims=True))
        np.testing.assert_allclose(y, (windows * weights / weights.sum(-1, keepdims=True)).sum(-1), 1e-5)


def jobs() -> list[Any]:
    """Calls of many shapes and families; one that needs scratch, one that fails."""
    result: list[Any] = []
    for n in range(2, 6 if numba.config.DISABLE_JIT else 12):
        x = np.random.default_rng(n).standard_normal((1 + n % 3, n, 9 + n, 31 - n)).astype(np.float32)
        grad = nbp.soft_pool2d(x, 3, 2, 1)
        result += [lambda x=x: nbp.max_pool2d(x, 2), lambda x=x: nbp.avg_pool2d(x, (3, 2), 2, 1), lambda x=x: nbp.soft_pool2d(x, 3, 2, 1),
                   lambda x=x, g=grad: nbp.soft_pool2d_backward(g, x, 3, 2, 1), lambda x=x: nbp.sort_pool2d(x, np.arange(4.0)),
                   lambda x=x: nbp.stochastic_pool2d(x, 2, seed=7), lambda x=x: nbp.max_pool2d(x, 2, return_indices=True)[1],
                   lambda x=x: nbp.soft_pool2d(x * np.float32(1e37), 2)]
    return result


def test_threads_share_prepared_calls(monkeypatch):
    """Eight at once, over one small store: the results of one alone."""
    todo = jobs()
    with np.errstate(all="ignore"):
        expected = [job().tobytes() for job in todo]
    monkeypatch.setattr(CALLS, "most", 20)  # so that generations come and go
    wrong: list[Any] = []
    barrier = threading.Barrier(8)

    def work(seed: int) -> None:
        barrier.wait()
        np.seterr(all="ignore")  # of this thread
        try:
            for i in np.random.default_rng(seed).integers(0, len(todo), 10 if numba.config.DISABLE_JIT else 400).tolist():
                if todo[i]().tobytes() != expected[i]:
                    wrong.append(i)
        except Exception as error:
            wrong.append(error)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


# ---------------------------------------------------------------- what is kept

def test_what_is_kept_is_bounded(preparations):
    x = np.zeros((1, 1, 3000), np.float32)
    for n in range(2, 2500):
        nbp.max_pool1d(x[..., :n], 2, n)
    assert len(preparations) == 2498
    assert len(CALLS.young) + len(CALLS.old) <= 2 * prepared.MOST
    nbp.max_pool1d(x[..., :2499], 2, 2499)
    assert len(preparations) == 2498
    nbp.max_pool1d(x[..., :2], 2, 2)
    assert len(preparations) == 2499


def test_nothing_of_the_caller_is_kept():
    import gc
    import weakref
    for function in (nbp.max_pool2d, nbp.soft_pool2d):  # soft may have to be computed in two ways
        x = X.copy()
        y = function(x, 2)
        gone = weakref.ref(x), weakref.ref(y)
        del x, y
        gc.collect()
        assert [g() for g in gone] == [None, None]


class Sized:
    """Stands for a prepared call."""

    def __init__(self, size: int) -> None:
        self.size = size


def test_generations():
    """By number and by bytes; what is used stays, what is larger than everything together is not kept."""
    store: Any = Remembered(most=4, room=100)
    for i in range(9):
        store.keep((i,), Sized(1))
        assert store.get((0,)) is not None  # used each time
        assert len(store.young) <= 4
    assert store.get((1,)) is None
    store.keep((9,), Sized(101))
    assert store.get((9,)) is None
    for i in range(10, 20):
        store.keep((i,), Sized(60))
        assert sum(c.size for c in store.young.values()) <= 100
    assert store.get((10,)) is None
    assert store.get((19,)) is not None
