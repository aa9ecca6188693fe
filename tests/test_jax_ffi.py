"""numbapool.jax on the C library: compiled programs that call it without Python in between."""
from __future__ import annotations

import threading
from pathlib import Path

import cases
import numpy as np
import pytest
from test_capi import kind_of, orders  # noqa: F401 - kind_of is what in_dtype takes
from test_forward import in_dtype

import numbapool as nbp
from capi import functions
from numbapool.testing import TOLERANCE

jax = pytest.importorskip("jax")
jnp = jax.numpy
nbj = pytest.importorskip("numbapool.jax")
from test_jax_functions import bound  # noqa: E402

from numbapool import xla  # noqa: E402

pytestmark = pytest.mark.jit
ALL = [(n, d) if d == 2 else pytest.param(n, d, marks=pytest.mark.full) for n in functions.poolings() for d in (1, 2, 3)]
X = np.random.default_rng(0).standard_normal((2, 3, 9, 12)).astype(np.float32)


@pytest.fixture(autouse=True)
def handler(request, library, monkeypatch):
    """The handler of the library under test; 64 bits where a test's name does not say narrow."""
    if not (Path(library) / "lib" / xla.FILE).exists():
        pytest.skip("the library was built without the handler: there is no C++ compiler")
    monkeypatch.setenv("NUMBAPOOL_CAPI", str(library))
    monkeypatch.delenv("NUMBAPOOL_JAX_FFI", raising=False)
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", "narrow" not in request.node.name)
    xla.library.cache_clear()
    jax.clear_caches()
    assert xla.library() is not None
    yield
    xla.library.cache_clear()
    jax.clear_caches()
    jax.config.update("jax_enable_x64", before)


def calls_of(f, *inputs) -> tuple[int, int]:
    """How often a compiled function calls the library, and how often Python."""
    text = jax.jit(f).lower(*inputs).as_text()
    return text.count("@numbapool("), text.count("callback")


def close(got, wanted, label=""):
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    assert got.shape == wanted.shape
    rtol, atol = TOLERANCE["float32"]
    np.testing.assert_allclose(got, wanted, rtol, atol * max(1.0, np.abs(wanted).max(initial=0)), err_msg=label)


def narrow(value):
    """An argument in float32, but for a number."""
    return jnp.asarray(value, np.float32 if np.ndim(value) else np.float64)


@pytest.mark.parametrize(("name", "ndim"), ALL)
def test_registry(name, ndim):
    """Values and gradients are those of the public functions, by calls of the library alone but where windows are given as arrays."""
    seen = 0
    for e in cases.examples(name, ndim, few=True):
        e = in_dtype(e, np.dtype("float32"))
        f, inputs = bound(e, narrow)
        y = e.forward(e.x, *e.args, **e.kwargs)
        grad = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)

        def both(grad, *inputs, f=f):
            y, pull = jax.vjp(f, *inputs)
            return y, *pull(grad)
        library, python = calls_of(both, grad, *inputs)
        given = e.kwargs.get("sequences") is not None or (name == "s3" and e.kwargs.get("indices") is not None)
        assert (library, python) == ((0, python) if given else (2, 0)), e.label
        seen += library
        got = jax.jit(both)(grad, *inputs)
        wanted = e.backward(grad, e.x, *e.args, **e.kwargs)
        close(got[0], y, e.label)
        for g, w in zip(got[1:], wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            close(g, w, e.label)
    assert seen or name == "fractional_avg"


@pytest.mark.parametrize("width", ["narrow", "wide"])
def test_indices(width):
    """Of 32 bits without jax_enable_x64, and their gradients."""
    y, index = jax.jit(lambda x: nbj.max_pool2d(x, 3, 2, 1, return_indices=True))(X)
    wanted = nbp.max_pool2d(X, 3, 2, 1, return_indices=True)
    np.testing.assert_array_equal(y, wanted[0])
    np.testing.assert_array_equal(index, wanted[1])
    assert index.dtype == (np.int32 if width == "narrow" else np.int64)
    grad = jax.jit(jax.grad(lambda x: (nbj.max_pool2d(x, 3, 2, 1, return_indices=True)[0] ** 2).sum()))(X)
    close(grad, nbp.max_pool2d_backward(2 * wanted[0], X, 3, 2, 1, indices=wanted[1]))


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8"])
@pytest.mark.parametrize("name", ["avg", "soft", "max"])
def test_dtypes(name, dtype):
    """Those beside float32 that every library under test has kernels for; integers become floats where a pooling computes."""
    x, f = (X * 50).astype(np.int64).astype(dtype), getattr(nbj, f"{name}_pool2d")
    y = getattr(nbp, f"{name}_pool2d")(x if dtype != "uint8" or name == "max" else x.astype(np.float32), 3, 2, 1)
    got = jax.jit(lambda x: f(x, 3, 2, 1))(x)
    assert calls_of(lambda x: f(x, 3, 2, 1), x) == (1, 0)
    assert got.dtype == y.dtype
    rtol, atol = TOLERANCE.get(dtype, TOLERANCE["float32"])
    np.testing.assert_allclose(np.asarray(got, np.float64), np.asarray(y, np.float64), rtol, atol)
    if dtype != "uint8":
        grad = jax.jit(lambda x, g: jax.vjp(lambda x: f(x, 3, 2, 1), x)[1](g)[0])(x, y)
        wanted = getattr(nbp, f"{name}_pool2d_backward")(y, x, 3, 2, 1)
        scale = np.abs(np.asarray(wanted, np.float64)).max()
        np.testing.assert_allclose(np.asarray(grad, np.float64) / scale, np.asarray(wanted, np.float64) / scale, rtol, atol)


def test_shapes():
    """Without a batch, and with an empty one, of which XLA passes no memory."""
    def f(x):
        return jax.vjp(lambda x: nbj.max_pool2d(x, 2, return_indices=True)[0], x)
    for x in (X[0], X[:0]):
        y, pull = jax.jit(f)(x)
        np.testing.assert_array_equal(y, nbp.max_pool2d(x, 2))
        np.testing.assert_array_equal(pull(y)[0], nbp.max_pool2d_backward(np.asarray(y), x, 2))
        assert calls_of(f, x) == (1, 0)


@pytest.mark.parametrize(("function", "args", "own"), [
    ("stochastic_pool2d", (2,), {}), ("s3_pool2d", (2,), {}), ("fractional_max_pool2d", (2,), {"output_size": 4}),
    ("fractional_avg_pool2d", (), {"pooling_ratio": 1.6})])
def test_seeds(function, args, own):
    """A seed that is traced, of any width, draws what the number draws; and backward repeats the draw."""
    x = np.abs(X)
    f = getattr(nbj, function)
    for seed in (5, -1, 1 << 40):
        y = getattr(nbp, function)(x, *args, seed=seed, **own)
        np.testing.assert_array_equal(jax.jit(lambda x, seed=seed: f(x, *args, seed=seed, **own))(x), y)
        np.testing.assert_array_equal(jax.jit(lambda x, s: f(x, *args, seed=s, **own))(x, jnp.asarray(seed)), y)
        assert calls_of(lambda x, s: f(x, *args, seed=s, **own), x, jnp.asarray(seed)) == (1, 0)
        found = jax.jit(jax.grad(lambda x, s: f(x, *args, seed=s, **own).sum()))(x, jnp.asarray(seed))
        close(found, getattr(nbp, f"{function}_backward")(np.ones_like(y), x, *args, seed=seed, **own))


@pytest.mark.parametrize("p", [3.5, np.array([1.5, 2.0, 4.0], np.float32)])
def test_a_parameter_that_is_traced(p):
    """One number, of either width, or one a channel, and its gradient."""
    x = np.abs(X)
    for value in (jnp.asarray(p), jnp.asarray(p, jnp.float32)):
        y, pull = jax.vjp(jax.jit(lambda x, p: nbj.gem_pool2d(x, 2, p=p)), x, value)
        close(y, nbp.gem_pool2d(x, 2, p=np.asarray(p)))
        for g, w in zip(pull(jnp.ones_like(y)), nbp.gem_pool2d_backward(np.ones(y.shape, np.float32), x, 2, p=np.asarray(p)), strict=True):
            close(g, w)
    assert calls_of(lambda x, p: nbj.gem_pool2d(x, 2, p=p), x, jnp.asarray(p)) == (1, 0)


def test_channels_last_and_vmap():
    x = np.ascontiguousarray(np.moveaxis(X, 1, -1))
    y = jax.jit(lambda x: nbj.avg_pool2d(x, 3, 2, ((1, 0), (1, 2)), channels_last=True))(x)
    close(y, nbp.avg_pool2d(x, 3, 2, ((1, 0), (1, 2)), channels_last=True))
    many = jax.jit(jax.vmap(lambda x: nbj.soft_pool2d(x, 2, temperature=0.5)))(np.stack([X, 2 * X]))
    close(many, np.stack([nbp.soft_pool2d(v, 2, temperature=0.5) for v in (X, 2 * X)]))


def test_subnormal_numbers_count():
    """XLA's threads take them for zeros; a sample of 0 draws the first element that has a chance."""
    x = np.array([[[0, 1e-40, 0, 0]]], np.float32)
    samples = np.zeros((1, 1, 1), np.float32)
    y = jax.jit(lambda x: nbj.stochastic_pool1d(x, 4, samples=samples))(x)
    assert np.asarray(y)[0, 0, 0] == np.float32(1e-40)  # to JAX's own == they are equal zeros


def test_what_the_library_says_is_raised():
    weight = jnp.array([1.0, np.inf])
    with pytest.raises(Exception, match="numbapool_sort_pool: weight must be finite"):
        jax.jit(lambda x, w: nbj.sort_pool2d(x, w))(X, weight).block_until_ready()
    indices = np.full((2, 3, 4, 6), 400)
    with pytest.raises(Exception, match="indices must lie between 0 and"):
        jax.jit(lambda x: nbj.max_unpool2d(x, indices, 2))(nbp.max_pool2d(X, 2)).block_until_ready()


def test_what_the_library_lacks_goes_by_python():
    for f in (lambda x: nbj.median_pool2d(x, 2, even="mean"), lambda x: nbj.avg_pool2d(x, 2, ignore_nan=True),
              lambda x: nbj.blur_pool2d(x.astype("float16"))):
        assert calls_of(f, X) == (1, 0)
    library, python = calls_of(lambda x: nbj.s3_pool2d(x, 2, indices=(np.arange(0, 8, 2), np.arange(0, 12, 2))), X)
    assert library == 0 and python > 0


def test_a_list_where_an_array_belongs_is_refused_as_by_python():
    """The library would compute with the default."""
    with pytest.raises(jax.errors.JaxRuntimeError, match="gem_pool2d: p must be a number or an array, got tuple"):
        jax.jit(lambda x: nbj.gem_pool2d(x, 2, p=[1.0, 2.0, 3.0]))(X).block_until_ready()


def test_it_can_be_left_unused(monkeypatch):
    monkeypatch.setenv("NUMBAPOOL_JAX_FFI", "0")
    xla.library.cache_clear()
    library, python = calls_of(lambda x: nbj.max_pool2d(x, 2), X)
    assert library == 0 and python > 0


def test_a_library_of_another_version_is_left_alone(monkeypatch):
    monkeypatch.setattr(xla, "__version__", "9.9.9")
    xla.library.cache_clear()
    assert xla.library() is None


def test_a_library_for_another_xla_is_left_alone(monkeypatch):
    def refuse(*arguments, **more):
        raise jax.errors.JaxRuntimeError("the handler's API version is incompatible with the framework's")
    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    xla.library.cache_clear()
    library, python = calls_of(lambda x: nbj.max_pool2d(x, 2), X)
    assert library == 0 and python > 0


def test_threads():
    """Calls of several threads at once, each large enough for the library's own threads."""
    x = np.random.default_rng(2).standard_normal((8, 16, 64, 64)).astype(np.float32)
    f = jax.jit(lambda x: nbj.soft_pool2d(nbj.max_pool2d(x, 3, 1, 1), 2))
    wanted, wrong = np.asarray(f(x)), []

    def work():
        for _ in range(20):
            if not np.array_equal(f(x), wanted):
                wrong.append(1)
    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not wrong and not any(t.is_alive() for t in threads)
