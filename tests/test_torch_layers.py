"""numbapool.torch: a layer for every function, and replace_pooling."""
from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import numbapool.torch
from numbapool.torch import functional, layers, replace_pooling

pytestmark = pytest.mark.jit
OWN = {"lp": {"norm_type": 2.0}, "rank": {"t": 2}, "dpp": {"channels": 4, "full": True}, "fractional_max": {"pooling_ratio": 1.5},
       "fractional_avg": {"pooling_ratio": 1.5}}


def pooling_of(function):
    return functional.pooling(function).operation.formula.__name__.rpartition(".")[2]


def arguments(layer, function):
    """What a layer needs, and nothing else."""
    given = {"kernel_size": 2, "output_size": 3} | OWN.get(pooling_of(function), {})
    needed = {n for n, p in layer.__signature__.parameters.items() if p.default is p.empty}
    return {n: v for n, v in given.items() if n in needed | set(OWN.get(pooling_of(function), {}))}


def inputs(layer, function):
    ndim = int(function[-2])
    x = torch.rand(2, 4, *(9, 8, 7)[:ndim])
    if "unpool" in function:
        return getattr(functional, f"max_pool{ndim}d")(torch.rand(2, 4, *(8, 6, 4)[:ndim]), 2, return_indices=True)
    return (x, torch.rand_like(x)) if pooling_of(function) == "lip" else (x,)


@pytest.mark.parametrize("name", layers.classes())
def test_layer(name):
    """It computes its function, trains, is copied, pickled, saved and shown."""
    function = layers.classes()[name]
    kind = getattr(numbapool.torch, name)
    layer = kind(**arguments(kind, function))
    given = inputs(layer, function)
    x = given[0].requires_grad_()
    torch.manual_seed(0)
    y = layer(x, *given[1:])
    torch.manual_seed(0)
    p = functional.pooling(function)
    own = {n: getattr(layer, n) for n in p.learns if n in dict(layer.named_parameters())}
    named = dict(zip(p.planes, given[1:], strict=False))
    assert torch.equal(y, getattr(functional, function)(x, **named, **layer.settings, **own))
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert all(q.grad is not None and q.grad.shape == q.shape for q in layer.parameters())
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.manual_seed(0)
        assert torch.equal(other(x, *given[1:]), y)
        assert repr(other) == repr(layer)
    assert type(layer).__doc__.startswith(name.removesuffix(name[-2:])[0]) or type(layer).__doc__
    with pytest.raises(TypeError):
        kind(**arguments(kind, function), kernel=2)


def test_there_is_a_layer_for_every_function():
    assert set(layers.classes().values()) == set(functional.names())
    assert {"SoftPool2d", "GeMPool1d", "AdaptiveMaxPool3d", "GlobalLPPool2d", "LIPPool2d", "SWAPPool2d", "S3Pool1d", "MaxUnpool2d",
            "FractionalMaxPool2d"} <= set(layers.classes())
    assert set(layers.classes()) <= set(dir(numbapool.torch))
    with pytest.raises(AttributeError, match="no attribute 'SofaPool2d'"):
        numbapool.torch.SofaPool2d  # noqa: B018


@pytest.mark.parametrize("name", ["MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_layers_that_torch_has(name, ndim):
    """The same constructor arguments by name give the same results."""
    own = {"output_size": 3} if "Adaptive" in name else {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    x = torch.randn(2, 3, *(11, 10, 9)[:ndim])
    mine, theirs = (getattr(m, f"{name}{ndim}d")(**own) for m in (numbapool.torch, nn))
    assert torch.allclose(mine(x), theirs(x), atol=1e-6)


@pytest.mark.parametrize("p", [3.0, torch.tensor([1.0, 2.0, 3.0, 4.0])])
def test_gem_learns_p(p):
    layer = numbapool.torch.GeMPool2d(2, p=p)
    assert layer.p.shape == torch.as_tensor(p).shape
    x, before = torch.rand(2, 4, 8, 8), layer.p.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), 1.0)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (layer(x) - functional.max_pool2d(x, 2)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert (layer.p > before).all()  # towards the maximum


def test_sort_weights():
    """A pool range, one vector a channel, or given weights; state_dict carries them."""
    assert numbapool.torch.SortPool2d(3).weight.shape == (9,)
    assert numbapool.torch.SortPool3d((1, 2, 3)).weight.shape == (6,)
    assert numbapool.torch.SortPool2d(pool_range=3, channels=5).weight.shape == (5, 3)
    layer, x = numbapool.torch.SortPool2d(2, weight=torch.tensor([50.0, 0, 0, 0])), torch.randn(1, 2, 6, 6)
    assert torch.allclose(layer(x), functional.max_pool2d(x, 2))
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    other = numbapool.torch.SortPool2d(2)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer))
    assert torch.equal(other(x), layer(x))
    with pytest.raises(ValueError, match="weight goes without"):
        numbapool.torch.SortPool2d(2, weight=torch.zeros(4), channels=3)


def test_lip_logits():
    """The paper's module begins as the average; a module of one's own; logits with the call."""
    x = torch.randn(2, 4, 9, 9)
    layer = numbapool.torch.LIPPool2d(channels=4)
    assert torch.allclose(layer(x), functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False), atol=1e-6)
    layer(x).square().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    assert layer.logit[0].weight.grad.abs().sum() > 0
    own = numbapool.torch.LIPPool2d(2, 2, 0, logit=nn.Identity())
    assert torch.allclose(own(x), functional.soft_pool2d(x, 2), atol=1e-6)
    assert torch.equal(numbapool.torch.LIPPool2d()(x, x), functional.lip_pool2d(x, x))
    with pytest.raises(ValueError, match="not both"):
        numbapool.torch.LIPPool2d(channels=4, logit=nn.Identity())


@pytest.mark.parametrize("kind", ["StochasticPool2d", "S3Pool2d"])
def test_training_and_evaluation(kind):
    layer, x = getattr(numbapool.torch, kind)(2), torch.rand(2, 3, 8, 8)
    assert any(not torch.equal(layer(x), layer(x)) for _ in range(5))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_dtype_and_device_moves():
    layer = numbapool.torch.GeMPool2d(2).to(torch.float64)
    assert layer.p.dtype == torch.float64
    assert layer(torch.rand(1, 1, 4, 4, dtype=torch.float64)).dtype == torch.float64
    assert layer.to("meta")(torch.empty(1, 1, 4, 4, device="meta")).device.type == "meta"


def model():
    shared = nn.MaxPool2d(2)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, 2, padding=1), shared, nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), shared),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(("to", "own"), [("soft", {"temperature": 0.5}), ("gem", {}), ("lp", {"norm_type": 2.0}), ("swap", {}), ("avg", {})])
def test_replace_pooling(to, own):
    net = model()
    x = torch.randn(2, 3, 40, 40)
    shape = net(x).shape
    changed = replace_pooling(net, to, **own)
    assert [name for name, *_ in changed] == ["1", "2", "4", "3.0", "3.1"]
    assert changed[1][2] is changed[4][2]  # one layer at two places stays one layer
    assert not [m for m in net.modules() if isinstance(m, layers.TORCH)]
    assert net(x).shape == shape
    net(x).sum().backward()


def test_replace_some_pooling():
    net = model().eval()
    changed = replace_pooling(net, "soft", only=nn.AvgPool2d)
    assert [name for name, *_ in changed] == ["3.0"]
    assert not net[3][0].training
    changed = replace_pooling(net, lambda old: nn.Identity(), only=nn.AdaptiveAvgPool2d)
    assert [(name, type(new)) for name, _, new in changed] == [("4", nn.Identity)]
    with pytest.raises(ValueError, match="no adaptive_sort_pool2d"):
        replace_pooling(model(), "sort", weight=torch.zeros(4))
    with pytest.raises(ValueError, match="returns indices"):
        replace_pooling(nn.Sequential(nn.MaxPool2d(2, return_indices=True)), "soft")


def test_a_compiled_model_trains():
    torch._dynamo.reset()
    torch.manual_seed(0)
    mine = numbapool.torch
    net = nn.Sequential(nn.Conv2d(1, 4, 3), mine.SoftPool2d(2), nn.ReLU(), mine.GlobalGeMPool2d(), nn.Flatten(), nn.Linear(4, 2))
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    x, labels = torch.randn(8, 1, 10, 10), torch.arange(8) % 2
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(compiled(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_what_further_layers_learn():
    """Their first values are those of their sources, or simple poolings."""
    x, mine = torch.rand(2, 4, 8, 8), numbapool.torch
    half = (functional.max_pool2d(x, 2) + functional.avg_pool2d(x, 2)) / 2
    for layer in (mine.MixedPool2d(2), mine.GatedPool2d(2)):
        assert torch.allclose(layer(x), half, atol=1e-6)
    for layer in (mine.AutoPool2d(2), mine.OrdinalPool2d(2)):
        assert torch.allclose(layer(x), functional.avg_pool2d(x, 2), atol=1e-6)
    lite, full = mine.DPPPool2d(channels=4), mine.DPPPool2d(channels=4, full=True, symmetric=False)
    assert [n for n, _ in lite.named_parameters()] == ["lam", "alpha"]
    assert full.weight.shape == (4, 3, 3)
    assert lite.lam.abs().max() <= 0.5
    with pytest.raises(ValueError, match="give channels"):
        mine.DPPPool2d()
