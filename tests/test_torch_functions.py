"""numbapool.torch.functional: autograd, operators, torch.func, tracing and autocast, over the registry."""
from __future__ import annotations

import inspect

import cases
import numpy as np
import pytest
import torch

from numbapool.torch import functional, library

pytestmark = pytest.mark.jit
SMOOTH = ("avg", "sum", "std", "lp", "gem", "lse", "soft", "swap", "lip", "auto", "mixed", "blur", "fractional_avg")
CHOICES = ("max", "min", "rank_stochastic", "fractional_max", "stochastic", "max_unpool")
FEW = [(name, ndim, example) for name, ndim in cases.ALL for example in cases.examples(name, ndim, few=True)[:None if ndim == 2 else 2]]
EACH = [(name, ndim, cases.examples(name, ndim, few=True)[0]) for name, ndim in cases.ALL]
ONE = [e if e[1] == 2 else pytest.param(*e, marks=pytest.mark.full) for e in EACH]
TWICE = [f for f in FEW if f[0] in SMOOTH or (f[0] == "stochastic" and "training" in f[2].kwargs)]
IDS = {"few": [str(e) for *_, e in FEW], "one": [str(e) for *_, e in EACH]}


def tensors(example, dtype=torch.float64, own=None):
    """x, arguments and keywords as tensors where they are arrays."""
    def of(v):
        if isinstance(v, np.ndarray):
            t = torch.from_numpy(v.copy())
            return t.to(dtype) if t.is_floating_point() else t
        return [of(e) for e in v] if isinstance(v, list) and v and isinstance(v[0], np.ndarray) else v
    kwargs = {k: of(v) for k, v in example.kwargs.items()}
    return of(example.x), tuple(map(of, example.args)), kwargs


def learned(example, args, kwargs):
    """Arguments with a gradient as leaves, and those leaves."""
    args, kwargs, leaves = list(args), dict(kwargs), []
    for place in example.learns:
        leaf = torch.tensor(example.argument(place)).requires_grad_()
        leaves.append(leaf)
        if isinstance(place, int):
            args[place] = leaf
        else:
            kwargs[place] = leaf
    return args, kwargs, leaves


def function_of(example):
    return getattr(functional, example.function)


def bound(example):
    """The function of x and of what learns, and these."""
    x, args, kwargs = tensors(example)
    args, kwargs, leaves = learned(example, args, kwargs)

    def f(x, *values):
        a, k = list(args), dict(kwargs)
        for place, v in zip(example.learns, values, strict=True):
            if isinstance(place, int):
                a[place] = v
            else:
                k[place] = v
        return function_of(example)(x, *a, **k)
    return f, (x.requires_grad_(), *leaves)


def packed(example):
    """The operator of an example, and its arguments."""
    x, args, kwargs = tensors(example)
    args, kwargs, _ = learned(example, args, kwargs)
    operator = functional.operator(example.function)
    given = inspect.signature(function_of(example)).bind(x, *args, **kwargs)
    given.apply_defaults()
    return operator, library.pack(operator, [x.requires_grad_(), *(given.arguments[n] for n in operator.pooling.names)])


@pytest.mark.parametrize(("name", "ndim", "example"), FEW, ids=IDS["few"])
def test_values_and_gradients(name, ndim, example):
    """Those of numbapool's own functions, bit by bit."""
    x, args, kwargs = tensors(example)
    expected = example.forward(x, *args, **kwargs)
    args_, kwargs_, leaves = learned(example, args, kwargs)
    leaf = x.clone().requires_grad_()
    y = function_of(example)(leaf, *args_, **kwargs_)
    assert torch.equal(y, expected)
    grad = torch.randn_like(y)
    more = {} if "training" not in kwargs or kwargs["training"] else {"training": False}
    with torch.no_grad():
        gradients = example.backward(grad, x, *(a.detach() if isinstance(a, torch.Tensor) else a for a in args_),
                                     **{k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in kwargs_.items()} | more)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    found = torch.autograd.grad(y, (leaf, *leaves), grad)
    for got, wanted in zip(found, gradients, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize(("name", "ndim", "example"), ONE, ids=IDS["one"])
def test_operator(name, ndim, example):
    """torch's own checks: schema, autograd, shapes and strides without memory, tracing with symbols."""
    operator, arguments = packed(example)
    torch.library.opcheck(operator.overload, arguments)


@pytest.mark.parametrize(("name", "ndim", "example"), ONE, ids=IDS["one"])
def test_backward_operator(name, ndim, example):
    operator, arguments = packed(example)
    y = operator.overload(*arguments)
    back = operator.back
    torch.library.opcheck(back.overload, [torch.randn_like(y), *arguments, *[None] * operator.pooling.indexed],
                          test_utils=("test_schema", "test_faketensor", "test_autograd_registration"))


@pytest.mark.parametrize(("name", "ndim", "example"), [o for o in EACH if o[1] == 2 and functional.operator(o[2].function).pooling.indexed], ids=str)
def test_operator_with_indices(name, ndim, example):
    _, arguments = packed(example)
    torch.library.opcheck(functional.operator(example.function, indexed=True).overload, arguments)


@pytest.mark.parametrize(("name", "ndim", "example"), TWICE, ids=str)
def test_gradgradcheck(name, ndim, example):
    f, inputs = bound(example)
    assert torch.autograd.gradcheck(f, inputs, fast_mode=True)
    if name == "stochastic" or (name == "lp" and example.args[0] < 2):  # their second derivatives jump, or are infinite, at 0
        inputs = (inputs[0].detach().abs().add(0.1).requires_grad_(), *inputs[1:])
    assert torch.autograd.gradgradcheck(f, inputs, fast_mode=True)


@pytest.mark.parametrize(("name", "leading", "own"), [("gem", (), {}), ("gem", (), {"p": 2.5}), ("lse", (), {"r": 0.5}), ("auto", (), {"alpha": 0.7}),
                                                      ("mixed", (0.4,), {})])
def test_second_derivatives_where_a_parameter_is_a_number(name, leading, own):
    x = torch.rand(2, 2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    f = getattr(functional, f"{name}_pool2d")
    assert torch.autograd.gradgradcheck(lambda x: f(x, *leading, 2, **own), (x.requires_grad_(),))


@pytest.mark.parametrize(("name", "ndim", "example"), [f for f in FEW if f[0] in CHOICES and f[2].kwargs.get("training", True)], ids=str)
def test_second_derivatives_of_choices(name, ndim, example):
    """The backward pass is linear in the gradient."""
    f, inputs = bound(example)
    assert torch.autograd.gradgradcheck(f, inputs[:1], fast_mode=True)


# ---------------------------------------------------------------- torch.func

def total(f):
    return lambda *inputs: (f(*inputs) * torch.linspace(0.5, 2, f(*inputs).numel(), dtype=torch.float64).view_as(f(*inputs))).sum()


@pytest.mark.parametrize(("name", "ndim", "example"), ONE, ids=IDS["one"])
def test_func_grad(name, ndim, example):
    """torch.func.grad is autograd's."""
    f, inputs = bound(example)
    expected = torch.autograd.grad(total(f)(*inputs), inputs)
    inputs = tuple(i.detach() for i in inputs)
    for got, wanted in zip(torch.func.grad(total(f), argnums=tuple(range(len(inputs))))(*inputs), expected, strict=True):
        assert torch.allclose(got, wanted, rtol=1e-12)


@pytest.mark.parametrize("out_dim", [0, 1])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(("name", "ndim", "example"), ONE, ids=IDS["one"])
def test_vmap(name, ndim, example, batched, out_dim):
    """A mapped call is its calls one by one; so are gradients an example."""
    f, inputs = bound(example)
    inputs = tuple(i.detach() for i in inputs)
    if not batched:
        if name == "max_unpool" or "samples" in example.kwargs:
            pytest.skip("an argument has a batch of its own")
        inputs = tuple(i[0] if i.shape == inputs[0].shape else i for i in inputs)
    many = tuple(torch.stack([i, i.flip(-1) if i.dim() else i * 0.9, i * 0.5], out_dim if i.dim() else 0) for i in inputs)
    dims = tuple(out_dim if i.dim() else 0 for i in inputs)
    for g in (f, torch.func.grad(total(f), argnums=tuple(range(len(inputs))))):
        got = torch.vmap(g, in_dims=dims)(*many)
        one_by_one = [g(*(m.select(d, k) for m, d in zip(many, dims, strict=True))) for k in range(3)]
        for k, wanted in enumerate(one_by_one):
            for a, b in zip(*((v,) if isinstance(v, torch.Tensor) else v for v in (got, wanted)), strict=True):
                assert torch.allclose(a[k], b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["max", "avg", "soft", "lip", "gem", "sort"])
def test_jacobians(name):
    """Reverse mode over a batch of gradients."""
    f, inputs = bound(next(e for n, d, e in EACH if n == name and d == 1))
    inputs = tuple(i.detach() for i in inputs)
    everything = tuple(range(len(inputs)))
    for got, wanted in zip(torch.func.jacrev(f, everything)(*inputs), torch.autograd.functional.jacobian(f, inputs), strict=True):
        assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-14)


def test_mapped_draws():
    """vmap's randomness decides whether examples share a draw."""
    x = torch.rand(1, 2, 9, 9).expand(4, 1, 2, 9, 9)
    def f(x):
        return functional.stochastic_pool2d(x, 3)
    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(f)(x)
    different = torch.vmap(f, randomness="different")(x)
    assert any(not torch.equal(different[0], d) for d in different[1:])


# ---------------------------------------------------------------- tracing

@pytest.mark.parametrize(("name", "ndim", "example"), [o for o in EACH if o[1] == 2], ids=str)
def test_compile(name, ndim, example):
    """One graph, forward and backward, with the values of eager calls."""
    f, inputs = bound(example)
    expected = torch.autograd.grad(total(f)(*inputs), inputs)
    torch._dynamo.reset()
    compiled = torch.compile(lambda *inputs: f(*inputs) * 1.0, fullgraph=True, backend="aot_eager")
    for got, wanted in zip(torch.autograd.grad(total(compiled)(*inputs), inputs), expected, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("padding", [1, "same", ((1, 0), (0, 1))])
def test_compile_of_any_size(padding):
    """Sizes are symbols: another size does not compile again."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda x: functional.soft_pool2d(x * 2, 3, 2, padding, ceil_mode=True), fullgraph=True, dynamic=True, backend=counter)
    for size in (17, 22, 31, 40):
        x = torch.randn(2, 3, size, size + 1)
        assert torch.equal(compiled(x), functional.soft_pool2d(x * 2, 3, 2, padding, ceil_mode=True))
    assert counter.frame_count <= 2  # "same" pads even and odd sizes differently


def test_compile_draws_anew():
    """A compiled draw follows torch's generator, and its backward pass repeats it."""
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: functional.stochastic_pool2d(x, 3), fullgraph=True, backend="aot_eager")
    x = torch.rand(2, 3, 9, 9, requires_grad=True)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        y = compiled(x)
        draws.append(y.detach())
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert set(grad.unique().tolist()) == {0.0, 1.0}
        assert torch.equal((grad * x).sum((2, 3)), y.sum((2, 3))) or torch.allclose((grad * x).sum((2, 3)), y.sum((2, 3)))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_export():
    """The exported graph names the operator, and its sizes may be free."""
    class Model(torch.nn.Module):
        def forward(self, x):
            return functional.soft_pool2d(x, 2)
    n = torch.export.Dim("n", min=2, max=100)
    program = torch.export.export(Model(), (torch.randn(3, 4, 8, 8),), dynamic_shapes={"x": {0: n}})
    assert "torch.ops.numbapool.soft_pool2d.default" in program.graph_module.code
    x = torch.randn(7, 4, 8, 8)
    assert torch.equal(program.module()(x), functional.soft_pool2d(x, 2))


def test_fake_tensors_and_modes():
    """Whoever watches tensors sees the operators."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        seen: list[str] = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.seen.append(str(func))
            return func(*args, **(kwargs or {}))
    with FakeTensorMode():
        x = torch.empty(2, 8, 6, 6).to(memory_format=torch.channels_last)
        y = functional.max_pool2d(x, 2)
        assert (y.shape, y.stride()) == ((2, 8, 3, 3), (72, 1, 24, 8))
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    with Watch() as watch:
        functional.max_pool2d(x, 2).sum().backward()
    assert {"numbapool.max_pool2d.default", "numbapool.max_pool2d_backward.default"} <= set(watch.seen)
    meta = functional.avg_pool2d(torch.empty(2, 3, 9, 9, device="meta"), 2, ceil_mode=True)
    assert meta.shape == (2, 3, 5, 5)


# ---------------------------------------------------------------- draws, dtypes, errors

@pytest.mark.parametrize("call", [lambda x: functional.stochastic_pool2d(x, 2), lambda x: functional.s3_pool2d(x, 2),
                                  lambda x: functional.fractional_max_pool2d(x, 2, output_size=5),
                                  lambda x: functional.fractional_avg_pool2d(x, pooling_ratio=1.5)])
def test_draws(call):
    """By torch's generator; the backward pass is that of the same draw."""
    x = torch.rand(2, 3, 11, 11, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    first, second = call(x), call(x)
    torch.manual_seed(3)
    assert torch.equal(call(x), first)
    assert not torch.equal(first, second)
    (grad,) = torch.autograd.grad(second.sum(), x)
    assert torch.isclose((grad * x).sum(), second.sum())  # all four are linear in the elements that they draw


def test_drawn_windows_are_returned():
    x = torch.rand(2, 3, 11, 12, requires_grad=True)
    y, windows = functional.s3_pool2d(x, 2, return_indices=True)
    assert torch.equal(functional.s3_pool2d(x, 2, indices=windows), y)
    y, indices, sequences = functional.fractional_max_pool2d(x, pooling_ratio=1.5, return_indices=True, return_sequences=True)
    again, same = functional.fractional_max_pool2d(x, sequences=sequences, return_indices=True)
    assert torch.equal(again, y)
    assert torch.equal(same, indices)
    assert torch.equal(x.flatten(2).gather(2, indices.flatten(2)).view_as(y), y)
    assert y.requires_grad
    assert not indices.requires_grad
    with pytest.raises(ValueError, match="does not go with kernel_size"):
        functional.fractional_max_pool2d(x, 2, output_size=3, return_sequences=True)
    with pytest.raises(ValueError, match="outside training"):
        functional.s3_pool2d(x, 2, training=False, return_indices=True)


def test_indices_are_kept_for_the_backward_pass():
    """With return_indices the gradient goes to these, whatever became of x."""
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    y, indices = functional.max_pool2d(x, 2, return_indices=True)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad.flatten(2).nonzero()[:, 2].view_as(indices.flatten(2)).sort(-1)[0], indices.flatten(2).sort(-1)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_learned_parameters_keep_their_dtype(dtype):
    x, p = torch.rand(2, 3, 8, 8).to(dtype).requires_grad_(), torch.full((3,), 2.0, dtype=torch.float64, requires_grad=True)
    y = functional.gem_pool2d(x, 2, p=p)
    assert y.dtype == dtype
    y.sum().backward()
    assert (x.grad.dtype, p.grad.dtype) == (dtype, torch.float64)


def test_autocast():
    """Poolings compute in the dtype that they get; two that must agree meet in the wider one."""
    x, logit = torch.randn(1, 2, 6, 6, dtype=torch.bfloat16, requires_grad=True), torch.randn(1, 2, 6, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert functional.soft_pool2d(x, 2).dtype == torch.bfloat16
        y = functional.lip_pool2d(x, logit)
        assert y.dtype == torch.float32
        compiled = torch.compile(lambda x, logit: functional.lip_pool2d(x, logit), fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x, logit), y)
    y.sum().backward()
    assert (x.grad.dtype, logit.grad.dtype) == (torch.bfloat16, torch.float32)
    with pytest.raises(TypeError, match="logit must have dtype bfloat16"):
        functional.lip_pool2d(x, logit)


def test_memory_order_is_kept():
    x = torch.randn(2, 8, 9, 9).to(memory_format=torch.channels_last).requires_grad_()
    y = functional.soft_pool2d(x, 3, 2, 1)
    assert y.is_contiguous(memory_format=torch.channels_last)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad.is_contiguous(memory_format=torch.channels_last)
    last = x.detach().permute(0, 2, 3, 1)
    assert torch.equal(functional.soft_pool2d(last, 3, 2, 1, channels_last=True), y.permute(0, 2, 3, 1))


def test_errors():
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    with pytest.raises(ValueError, match="soft_pool2d: kernel_size must be positive"):
        functional.soft_pool2d(x, 0)
    with pytest.raises(TypeError, match="x must be a torch tensor, got ndarray; numbapool.soft_pool2d"):
        functional.soft_pool2d(x.detach().numpy(), 2)
    with pytest.raises(ValueError, match="kernel_size must be positive"):
        functional.soft_pool2d(x.to("meta"), 0)
    with pytest.raises(NotImplementedError, match="sort_pool2d has no second derivatives"):
        (g,) = torch.autograd.grad(functional.sort_pool2d(x, torch.zeros(2)).sum(), x, create_graph=True)
        g.sum().backward()
    with pytest.raises(AttributeError, match="no attribute 'sofa_pool2d'"):
        functional.sofa_pool2d  # noqa: B018


class Tape(torch.autograd.graph.saved_tensors_hooks):
    """Notes what is kept for the backward pass."""

    def __init__(self):
        self.kept = []
        super().__init__(self.pack, lambda t: t)

    def pack(self, t):
        self.kept.append(t)
        return t


@pytest.mark.parametrize(("name", "ndim", "example"), ONE, ids=IDS["one"])
def test_what_is_kept(name, ndim, example):
    """x and the other arguments, as they are: no copy of them and nothing else of their size."""
    f, inputs = bound(example)
    tape = Tape()
    with tape:
        f(*inputs)
    known = {i.data_ptr() for i in inputs}
    more = [t for t in tape.kept if t.data_ptr() not in known]
    assert len(tape.kept) - len(more) == len(inputs)
    assert not more or name in ("max_unpool", "stochastic", "rank_stochastic", "s3",
                                "fractional_max", "fractional_avg")  # the caller's indices, samples, windows
