"""TensorFlow's fractional pooling: its recorded sequences give its recorded results."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import numbapool

RECORD = json.loads((Path(__file__).parent / "data" / "tensorflow_fractional.json").read_text())


@pytest.mark.parametrize("case", RECORD["cases"], ids=lambda c: f"{c['op']}-overlapping={c['overlapping']}-pseudo_random={c['pseudo_random']}")
def test_recorded_sequences(case):
    x = np.array(RECORD["x"], np.float32).reshape(RECORD["shape"])
    given = dict(sequences=(np.array(case["rows"]), np.array(case["cols"])), overlapping=case["overlapping"], channels_last=True)
    y = getattr(numbapool, f"fractional_{case['op']}_pool2d")(x, **given)
    np.testing.assert_array_equal(y.ravel(), np.array(case["y"], np.float32))
    grad = np.arange(1, y.size + 1, dtype=np.float32).reshape(y.shape)
    got = getattr(numbapool, f"fractional_{case['op']}_pool2d_backward")(grad, x, **given)
    np.testing.assert_allclose(got.ravel(), case["grad_x"], 1e-6)


@pytest.mark.parametrize("pseudo_random", [False, True])
def test_drawn_sequences_are_of_tensorflow_s_kind(pseudo_random):
    """The right number of outputs, steps of floor(alpha) or one more (pseudo-random: at most two more), from 0 to the end."""
    for size, ratio in ((9, 1.7), (7, 1.44), (100, 1.01), (64, 2.0), (10, 3.7)):
        for seed in range(20):
            x = np.zeros((1, 1, size), np.float32)
            own = dict(pooling_ratio=ratio, pseudo_random=pseudo_random, seed=seed)
            y, (cuts,) = numbapool.fractional_max_pool1d(x, **own, return_sequences=True)
            outputs = int(np.floor(np.float32(size) / np.float32(ratio)))
            steps = np.diff(cuts)
            assert y.shape[2] == steps.size == outputs
            assert (cuts[0], cuts[-1]) == (0, size)
            assert steps.min() >= 1
            assert steps.max() <= size // outputs + (2 if pseudo_random else 1)
            np.testing.assert_array_equal(numbapool.fractional_max_pool1d(x, **own, return_sequences=True)[1][0], cuts)
