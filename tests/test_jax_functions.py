"""numbapool.jax: values, gradients, jit, vmap, seeds and errors, over the registry."""
from __future__ import annotations

import threading

import cases
import numpy as np
import oracle
import pytest

jax = pytest.importorskip("jax")
jnp = jax.numpy
nbj = pytest.importorskip("numbapool.jax")
from numbapool import subnormals  # noqa: E402

pytestmark = pytest.mark.jit
FEW = [(name, ndim, example) for name, ndim in cases.ALL for example in cases.examples(name, ndim, few=True)]
ONE = [(name, ndim, cases.examples(name, ndim, few=True)[0]) for name, ndim in cases.ALL]


@pytest.fixture(autouse=True)
def wide(request):
    """64 bits, unless a test does without; jax.enable_x64 would not reach JAX's threads."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", "narrow" not in request.node.name)
    yield
    jax.config.update("jax_enable_x64", before)


def bound(example, cast=jnp.asarray):
    """The function of x and of what learns as JAX arrays, and these; all else as it is.  cast : makes an array of an argument that learns."""
    f = getattr(nbj, example.function)

    def of(x, *values):
        args, kwargs = list(example.args), dict(example.kwargs)
        for place, v in zip(example.learns, values, strict=True):
            if isinstance(place, int):
                args[place] = v
            else:
                kwargs[place] = v
        return f(x, *args, **kwargs)
    return of, (jnp.asarray(example.x), *(cast(example.argument(place)) for place in example.learns))


def total(f):
    """A scalar of f."""
    def of(*inputs):
        y = f(*inputs)
        return (y * jnp.linspace(0.5, 2, y.size, dtype=y.dtype).reshape(y.shape)).sum()
    return of


def equal(found, wanted):
    found, wanted = (v if isinstance(v, tuple) else (v,) for v in (found, wanted))
    for a, b in zip(found, wanted, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("name", "ndim", "example"), FEW, ids=[str(e) for *_, e in FEW])
def test_values_and_gradients(name, ndim, example):
    """Those of numbapool's own functions, bit by bit; within jit too."""
    f, inputs = bound(example)
    y, pull = jax.vjp(f, *inputs)
    equal(y, example.forward(example.x, *example.args, **example.kwargs))
    grad = np.random.default_rng(0).standard_normal(y.shape)
    found = pull(jnp.asarray(grad))
    equal(found, example.backward(grad, example.x, *example.args, **example.kwargs))
    equal(jax.jit(lambda inputs, grad: (lambda y, pull: (y, *pull(grad)))(*jax.vjp(f, *inputs)))(inputs, grad), (y, *found))


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(("name", "ndim", "example"), [o for o in ONE if o[1] == 2], ids=str)
def test_vmap(name, ndim, example, batched):
    """A mapped call is its calls one by one; so are gradients an example."""
    f, inputs = bound(example)
    if not batched:
        if name == "max_unpool" or "samples" in example.kwargs:
            pytest.skip("an argument has a batch of its own")
        inputs = tuple(i[0] if i.shape == inputs[0].shape else i for i in inputs)
    many = tuple(jnp.stack([i, jnp.flip(i, -1) if i.ndim else i * 0.9, i * 0.5], 1 if i.ndim else 0) for i in inputs)
    dims = tuple(1 if i.ndim else 0 for i in inputs)
    for g in (f, jax.grad(total(f), tuple(range(len(inputs))))):
        wanted = [g(*(jnp.take(m, k, d) for m, d in zip(many, dims, strict=True))) for k in range(3)]
        found = jax.vmap(g, dims)(*many)
        jax.tree.map(lambda found, *wanted: np.testing.assert_allclose(found, np.stack(wanted), 1e-12, 1e-14), found, *wanted)
        fixed = jax.vmap(lambda x, g=g: g(x, *inputs[1:]), 1)(many[0])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b[0], 1e-12, 1e-14), fixed, found)


def test_vmap_is_one_call():
    """Where arrays have a batch, a batch of calls makes it longer; nested, too."""
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 3, 4, 5, 6, 7)))
    def f(x):
        return nbj.max_pool2d(x, 2, return_indices=True)
    jaxpr = str(jax.make_jaxpr(jax.vmap(jax.vmap(f)))(x))
    assert jaxpr.count("numbapool[") == 1
    assert "scan" not in jaxpr
    equal(jax.vmap(jax.vmap(f, 1), 0)(x), tuple(np.stack([np.stack([np.asarray(f(x[i, :, j])[k]) for j in range(4)]) for i in range(2)])
                                                for k in range(2)))
    many = jax.vmap(lambda x, logit: nbj.lip_pool2d(x, logit), (0, None))(x[0], x[0, 0])
    equal(many, np.stack([nbj.lip_pool2d(v, x[0, 0]) for v in x[0]]))


# ---------------------------------------------------------------- what JAX lacks

@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_gradient_of_dilated_max(ndim):
    """Against differences of the float64 reference."""
    window = (3, 2, 2), {"dilation": 2, "ceil_mode": True}
    x = np.random.default_rng(ndim).permutation(2 * 3 * 7 * 6 ** (ndim - 1)).reshape(2, 3, 7, *(6,) * (ndim - 1)).astype(float)
    axes = oracle.sliding_axes(x.shape[2:], 3, 2, 2, 2, True)
    f = getattr(nbj, f"max_pool{ndim}d")
    y = f(x, *window[0], **window[1])
    grad = np.random.default_rng(0).standard_normal(y.shape)
    found = np.asarray(jax.jit(jax.grad(lambda x: (f(x, *window[0], **window[1]) * grad).sum()))(jnp.asarray(x)))
    along, step = np.random.default_rng(1).standard_normal(x.shape), 1e-3  # elements are 1 apart: no other one is chosen
    up, down = (oracle.pool(oracle.maximum, x + s * along, axes, return_indices=True)[0] for s in (step, -step))
    np.testing.assert_allclose((found * along).sum(), (grad * (up - down)).sum() / (2 * step), rtol=1e-8)
    if ndim == 2:
        with pytest.raises(Exception, match="dilation"):
            jax.grad(lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 3, 3), (1, 1, 2, 2), ((0, 0),) * 4,
                                                     window_dilation=(1, 1, 2, 2)).sum())(jnp.asarray(x))


def test_indices():
    """They are kept for the backward pass, and have no gradient."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 8, 9)))
    (y, indices), pull = jax.vjp(lambda x: nbj.max_pool2d(x, 2, return_indices=True), x)
    equal(y, nbj.max_pool2d(x, 2))
    assert indices.dtype == jnp.int64
    equal(np.take_along_axis(np.asarray(x).reshape(2, 3, -1), np.asarray(indices).reshape(2, 3, -1), 2).reshape(y.shape), y)
    (grad,) = pull((jnp.ones_like(y), np.zeros(indices.shape, jax.dtypes.float0)))
    equal(grad, jax.grad(lambda x: nbj.max_pool2d(x, 2).sum())(x))
    equal(nbj.max_unpool2d(y, indices, 2, output_size=(8, 9)), x * (grad == 1))
    equal(jax.vmap(lambda y, i: nbj.max_unpool2d(y, i, 2, output_size=(8, 9)))(y, indices), x * (grad == 1))


# ---------------------------------------------------------------- draws

DRAWS = [("stochastic_pool2d", (3, 2), {}), ("global_stochastic_pool2d", (), {}), ("s3_pool2d", (2,), {}),
         ("fractional_avg_pool2d", (), {"pooling_ratio": 1.5}),
         ("fractional_max_pool2d", (2,), {"output_ratio": 0.5}), ("fractional_max_pool2d", (), {"pooling_ratio": 1.5, "pseudo_random": True})]


@pytest.mark.parametrize(("name", "args", "own"), DRAWS)
def test_seeds(name, args, own):
    """As numbapool's, given as ints, arrays or tracers; the backward pass is that of the same draw."""
    import numbapool
    x, f = np.random.default_rng(0).random((2, 3, 11, 12)), getattr(nbj, name)
    for seed in (7, -3, 1 << 45, np.int64(9)):
        equal(f(x, *args, seed=seed, **own), getattr(numbapool, name)(x, *args, seed=int(seed), **own))
    for seed in (jnp.int32(-5), jax.random.bits(jax.random.key(0)), jnp.int64(1 << 45)):
        wanted = getattr(numbapool, name)(x, *args, seed=int(seed), **own)
        (y, pull) = jax.jit(lambda x, seed: jax.vjp(lambda x: f(x, *args, seed=seed, **own), x))(jnp.asarray(x), seed)
        equal(y, wanted)
        equal(pull(y), (getattr(numbapool, f"{name}_backward")(wanted, x, *args, seed=int(seed), **own),))
    seeds = jnp.arange(3)
    many = jax.vmap(lambda seed: f(x, *args, seed=seed, **own))(seeds)
    equal(many, np.stack([f(x, *args, seed=s, **own) for s in seeds]))
    equal(jax.vmap(lambda x: f(x, *args, seed=1, **own))(jnp.asarray(x)), np.stack([f(v, *args, seed=1, **own) for v in x]))
    with pytest.raises(ValueError, match=rf"{name}: pass seed or .*jax.random.bits"):
        f(x, *args, **own)
    with pytest.raises(TypeError, match="seed must be an int or an array of one integer, got float64"):
        f(x, *args, seed=jnp.asarray(1.0), **own)
    with pytest.raises(TypeError, match="seed must be an int or None, got str"):
        f(x, *args, seed="1", **own)


def test_drawn_windows_are_returned():
    x = jnp.asarray(np.random.default_rng(0).random((2, 3, 11, 12)))
    y, windows = jax.jit(lambda x, seed: nbj.s3_pool2d(x, 2, seed=seed, return_indices=True))(x, 3)
    equal(nbj.s3_pool2d(x, 2, indices=windows), y)
    both = jax.jit(lambda x, seed: nbj.fractional_max_pool2d(x, pooling_ratio=1.5, seed=seed, return_indices=True, return_sequences=True))
    y, indices, sequences = both(x, 3)
    equal(jax.jit(lambda x: nbj.fractional_max_pool2d(x, sequences=sequences, return_indices=True))(x), (y, indices))
    many = jax.vmap(lambda seed: both(x, seed)[2])(jnp.arange(3))
    equal(tuple(m[2] for m in many), both(x, 2)[2])
    with pytest.raises(ValueError, match="does not go with kernel_size"):
        nbj.fractional_max_pool2d(x, 2, output_size=3, seed=1, return_sequences=True)
    with pytest.raises(ValueError, match="outside training"):
        nbj.s3_pool2d(x, 2, training=False, return_indices=True)
    with pytest.raises(ValueError, match="no indices with training=False"):
        nbj.stochastic_pool2d(x, 2, training=False, return_indices=True)


# ---------------------------------------------------------------- dtypes, orders, threads, errors

@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_narrow_dtypes(dtype):
    """Without 64-bit types: halves, and what learns in a dtype of its own."""
    import numbapool
    x, p = jnp.asarray(np.random.default_rng(0).random((2, 3, 8, 9)), dtype), jnp.asarray([2.0, 3.0, 1.5])
    f = jax.jit(lambda x, p: nbj.gem_pool2d(x, 3, 2, 1, p=p))
    y, pull = jax.vjp(f, x, p)
    equal(y, numbapool.gem_pool2d(np.asarray(x), 3, 2, 1, p=np.asarray(p)))
    equal(pull(y), numbapool.gem_pool2d_backward(np.asarray(y), np.asarray(x), 3, 2, 1, p=np.asarray(p)))
    y, indices = jax.jit(lambda x: nbj.max_pool2d(x, 2, return_indices=True))(x)
    assert (y.dtype, indices.dtype) == (x.dtype, jnp.int32)
    assert jax.grad(lambda p: nbj.gem_pool2d(x, 2, p=p).sum().astype(jnp.float32))(p.astype(dtype)).dtype == dtype
    assert jax.vmap(f, (0, None))(jnp.stack([x, x]), p).dtype == dtype


def test_integers():
    """Choices keep them; the rest become floats."""
    x = jnp.arange(48, dtype=jnp.int32).reshape(1, 3, 4, 4)
    assert nbj.max_pool2d(x, 2).dtype == jnp.int32
    assert jax.jit(lambda x: nbj.soft_pool2d(x, 2))(x).dtype == jnp.float32
    assert nbj.avg_pool2d(x.astype(jnp.int64), 2).dtype == jnp.float64
    grad = jax.grad(lambda x: nbj.max_pool2d(x, 2).sum().astype(float), allow_int=True)(x)
    assert grad.dtype == jax.dtypes.float0


def test_channels_last():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 8, 3)))
    def f(x):
        return jax.jit(lambda x: nbj.soft_pool2d(x, 3, 2, 1, channels_last=True))(x)
    equal(f(x), jnp.moveaxis(nbj.soft_pool2d(jnp.moveaxis(x, 3, 1), 3, 2, 1), 1, 3))
    equal(jax.vmap(f)(jnp.stack([x, 2 * x]))[1], f(2 * x))
    equal(jax.grad(lambda x: f(x).sum())(x), jnp.moveaxis(jax.grad(lambda x: nbj.soft_pool2d(x, 3, 2, 1).sum())(jnp.moveaxis(x, 3, 1)), 1, 3))


def test_threads_do_not_wait_for_each_other():
    """Call backs with large arrays on all threads of JAX's pool."""
    x = jnp.ones((2, 8, 128, 128), jnp.float32)
    f = jax.jit(jax.value_and_grad(lambda x: nbj.soft_pool2d(nbj.max_pool2d(x * 2, 3, 1, 1) + 1, 2).sum()))
    f(x)
    found = []
    workers = [threading.Thread(target=lambda: found.extend(float(f(x + i)[0]) for i in range(10)), daemon=True) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(60)
    assert len(found) == 40


def test_subnormal_numbers():
    """XLA's threads take them for zeros, its call backs do not."""
    x = jnp.asarray(np.full((1, 1, 4, 4), 3e-310))
    equal(jax.jit(lambda x: nbj.avg_pool2d(x, 2))(x), np.full((1, 1, 2, 2), 3e-310))
    with subnormals.kept():
        assert float(np.float64(3e-310) * np.float64(0.5)) > 0


def test_equal_calls_are_one_to_jax():
    """A list is the tuple that it lists, an array its values."""
    x = jnp.ones((1, 1, 8, 8))
    cuts = [[kind([0, 4, 8]), kind([0, 8])] for kind in (np.array, jnp.asarray)]
    for calls in ([lambda x, k=k: nbj.soft_pool2d(x, k) for k in ([8, 4], (8, 4))],
                  [lambda x, s=s: nbj.fractional_max_pool2d(x, sequences=s) for s in cuts]):
        one, two = (jax.make_jaxpr(f)(x).eqns[0].params["call_jaxpr"].eqns[0].params["work"] for f in calls)
        assert one == two
        assert hash(one) == hash(two)


def test_errors():
    x = jnp.ones((1, 1, 4, 4))
    with pytest.raises(ValueError, match="soft_pool2d: kernel_size must be positive"):
        jax.jit(lambda x: nbj.soft_pool2d(x, 0))(x)
    with pytest.raises(TypeError, match="x must be a JAX array, got list; numbapool.soft_pool2d"):
        nbj.soft_pool2d([[1.0]], 2)
    with pytest.raises(TypeError, match="dtype complex64"):
        nbj.soft_pool2d(x.astype(jnp.complex64), 2)
    with pytest.raises(ValueError, match="p must be above 0"):
        nbj.gem_pool2d(x, 2, p=jnp.asarray(-1.0))
    with pytest.raises(jax.errors.JaxRuntimeError, match="p must be above 0"):
        jax.jit(lambda x, p: nbj.gem_pool2d(x, 2, p=p))(x, -1.0)
    with pytest.raises(TypeError, match="s3_pool2d: indices must be known when JAX traces"):
        jax.jit(lambda x, i: nbj.s3_pool2d(x, 2, indices=[i, i]))(x, jnp.arange(2))
    with pytest.raises(TypeError, match="temperature must be known"):
        jax.grad(lambda t: nbj.soft_pool2d(x, 2, temperature=t).sum())(1.0)
    with pytest.raises(NotImplementedError, match="soft_pool2d has no second derivatives"):
        jax.grad(lambda x: jax.grad(lambda x: nbj.soft_pool2d(x, 2).sum())(x).sum())(x)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: nbj.soft_pool2d(x, 2), (x,), (x,))
    with pytest.raises(AttributeError, match="no attribute 'sofa_pool2d'"):
        nbj.sofa_pool2d  # noqa: B018


def test_documents():
    """Every function has its own words and signature, with what backward alone takes in numbapool."""
    import inspect

    import numbapool
    assert set(nbj.__all__) == {n for n in numbapool.__all__ if not n.endswith("_backward")}
    assert set(nbj.__all__) <= set(dir(nbj))
    for name in nbj.__all__:
        f = getattr(nbj, name)
        mine, theirs = (inspect.signature(g).parameters for g in (f, getattr(numbapool, name)))
        assert set(theirs) - {"out"} <= set(mine)
        assert all(mine[n].default == theirs[n].default and mine[n].kind == theirs[n].kind for n in set(theirs) - {"out"})
        assert all(f"{n} : " in f.__doc__ for n in mine)
        assert "fresh entropy" not in f.__doc__
    assert "gradient" in inspect.signature(nbj.soft_pool2d).parameters
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 1, 4, 4)))
    exact, constant = (jax.grad(lambda x, g=g: nbj.soft_pool2d(x, 2, gradient=g).sum())(x) for g in ("exact", "constant"))
    assert not np.allclose(exact, constant)
    equal(constant, numbapool.soft_pool2d_backward(np.ones((1, 1, 2, 2)), np.asarray(x), 2, gradient="constant"))
