"""scikit-learn's handwritten digits, as they are and among clutter."""
from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits

TEST, CANVAS, SIDE = 500, 16, 8
Batch = tuple[torch.Tensor, torch.Tensor]


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """(1797, 8, 8) float32 from 0 to 1, and their labels."""
    found = load_digits()
    return (found.images / 16).astype(np.float32), found.target.astype(np.int64)


def split(seed: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training and test digits of a seed: another 500 for the test each time."""
    images, labels = digits()
    order = np.random.default_rng(seed).permutation(len(images))
    return (images[order[TEST:]], labels[order[TEST:]]), (images[order[:TEST]], labels[order[:TEST]])


def tensors(images: np.ndarray, labels: np.ndarray) -> Batch:
    """(N, 1, H, W) and (N,)."""
    return torch.from_numpy(images[:, None].copy()), torch.from_numpy(labels)


def cluttered(images: np.ndarray, rng: np.random.Generator, pieces: int = 3) -> np.ndarray:
    """Each digit at a random place of a 16x16 canvas, among three 4x4 pieces of other digits (after the articles' cluttered digits)."""
    n = len(images)
    canvas = np.zeros((n, CANVAS, CANVAS), np.float32)
    places, sources = rng.integers(0, CANVAS - 3, (n, pieces, 2)), rng.integers(0, n, (n, pieces))
    cuts, spots = rng.integers(0, SIDE - 3, (n, pieces, 2)), rng.integers(0, CANVAS - SIDE + 1, (n, 2))
    for i in range(n):
        for (y, x), source, (v, u) in zip(places[i], sources[i], cuts[i], strict=True):
            canvas[i, y:y + 4, x:x + 4] = np.maximum(canvas[i, y:y + 4, x:x + 4], images[source, v:v + 4, u:u + 4])
        y, x = spots[i]
        canvas[i, y:y + SIDE, x:x + SIDE] = images[i]
    return canvas


def batches(images: np.ndarray, labels: np.ndarray, size: int, rng: np.random.Generator, clutter: bool) -> Iterator[Batch]:
    """An epoch in random order; with clutter every digit stands elsewhere in each one."""
    order = rng.permutation(len(images))
    images, labels = images[order], labels[order]
    if clutter:
        images = cluttered(images, rng)
    for start in range(0, len(images) - size + 1, size):
        yield tensors(images[start:start + size], labels[start:start + size])
