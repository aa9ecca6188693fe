"""The experiments: their data, nets, statistics, and that the README shows the committed results."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.training import cost, data, fit, fractional, report, sort, swap

pytestmark = pytest.mark.jit
ROOT = Path(__file__).parents[1]
EXPERIMENTS = {"swap": swap, "sort": sort, "fractional": fractional}


def test_split():
    """Every digit is either for training or for the test; seeds differ."""
    (images, labels), (held, truth) = data.split(0)
    assert (len(images), len(held)) == (1297, 500)
    everything = np.concatenate([images, held]).reshape(1797, 64)
    assert np.array_equal(np.unique(everything, axis=0), np.unique(data.digits()[0].reshape(1797, 64), axis=0))
    assert not np.array_equal(data.split(1)[1][1], truth)
    assert set(labels) == set(range(10))


def test_clutter():
    """The whole digit stands somewhere on the canvas, and other pieces elsewhere."""
    images = data.digits()[0][:20]
    canvas = data.cluttered(images, np.random.default_rng(0))
    for picture, image in zip(canvas, images, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(picture, image.shape)
        assert (windows == image).all((2, 3)).any()
    assert (np.count_nonzero(canvas, axis=(1, 2)) > np.count_nonzero(images, axis=(1, 2))).mean() > 0.8


@pytest.mark.parametrize(("name", "label"), [(n, label) for n, e in EXPERIMENTS.items() for label in e.CONDITIONS])
def test_nets(name, label):
    """Each condition's net takes its pictures and learns in every parameter."""
    experiment, side = EXPERIMENTS[name], 8 if name == "swap" else data.CANVAS
    assert experiment.base(label) in experiment.CONDITIONS
    made = []
    real = fit.fit
    try:
        fit.fit = lambda make, *args, **kwargs: made.append(make()) or [{}]
        experiment.run(label, 0, 1)
    finally:
        fit.fit = real
    net = made[0]
    net(torch.rand(4, 1, side, side)).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_training():
    """An epoch is better than none, and the same seed gives the same numbers."""
    none, first, again = (swap.run("swap (true gradient)", 3, epochs)[0] for epochs in (0, 1, 1))
    assert first["loss"] < none["loss"]
    assert first == again
    assert first["gradients"] == sorted(first["gradients"])


def test_intervals():
    values = [0.9, 0.95, 0.93, 0.97, 0.92]
    mean, half = fit.interval(values)
    low, high = fit.stats.t.interval(0.95, 4, np.mean(values), fit.stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert fit.difference(values, [v + 0.01 for v in values]) == pytest.approx((0.01, 0))


def test_memory_of_a_step():
    """Beside x, a pooling leaves y alone; torch's max keeps indices, its composed soft pooling copies of x."""
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    y = x.nbytes // 4
    assert {name: cost.memory(steps["numbapool"], x, 2) for name, steps in cost.STEPS.items()} == dict.fromkeys(cost.STEPS, y)
    assert cost.memory(cost.STEPS["max"]["torch"], x, 2) == 3 * y
    assert cost.memory(cost.STEPS["soft"]["torch"], x, 2) >= 2 * x.nbytes


def test_the_readme_shows_the_results(tmp_path):
    results = ROOT / "benchmarks/results"
    for name, experiment in EXPERIMENTS.items():
        result = json.loads((results / f"training-{name}.json").read_text())
        assert list(result["runs"]) == [label + more for label in experiment.CONDITIONS for more in experiment.parts(label)]
        assert all(len(runs) == result["seeds"] >= 5 for runs in result["runs"].values())
        assert (ROOT / f"docs/training-{name}.png").exists()
    copy = tmp_path / "README.md"
    copy.write_text((ROOT / "README.md").read_text())
    report.write(copy, results)
    assert copy.read_text() == (ROOT / "README.md").read_text()
