"""`python -m numbapool pool`: pool the pictures in files."""
from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

import numbapool

from . import pictures, recipes
from .pictures import PictureError


def pool(picture: np.ndarray, name: str, kernel: int, window: dict[str, Any]) -> np.ndarray:
    """A picture, (H, W) or (H, W, C), of its dtype.

    Poolings that select elements work on integers as they are.  Others work in float32 on [0, 1], where a softmax means what it means
    to a network, and are rounded back.  Alpha is a channel like the others.
    """
    planes = pictures.to_planes(picture)
    scale = 1 if picture.dtype.kind == "f" else np.iinfo(picture.dtype).max
    if not recipes.keeps_integers(name) and scale > 1:
        planes = planes.astype(np.float32) / np.float32(scale)
    try:
        x, arguments = recipes.recipe(name, planes, kernel, **window)
        y = getattr(numbapool, recipes.function_name(name))(x, **arguments)
    except (TypeError, ValueError) as error:  # the library's words on arguments that do not fit the picture
        raise PictureError(str(error)) from None
    if y.dtype != picture.dtype:
        y = np.rint(np.clip(y, 0, 1) * scale).astype(picture.dtype)
    return pictures.from_planes(y)


def targets(inputs: Sequence[pathlib.Path], output: pathlib.Path) -> list[pathlib.Path]:
    """Where each result goes: `output`, or a file of the input's name in it; never an input, never twice the same."""
    folder = len(inputs) > 1 or output.is_dir() or not output.suffix
    if folder and output.exists() and not output.is_dir():
        raise PictureError(f"{output} is a file; results need a folder")
    result = [output / path.name for path in inputs] if folder else [output]
    for number, target in enumerate(result):
        if target in result[:number]:
            raise PictureError(f"two of the pictures are named {target.name}")
        if any(target.exists() and path.exists() and target.samefile(path) for path in inputs):
            raise PictureError(f"{target} is an input and would be overwritten")
    return result


def run(inputs: Sequence[pathlib.Path], output: pathlib.Path, name: str, kernel: int, window: dict[str, Any]) -> None:
    """Pool every input into `output`; nothing is written before all are read and pooled."""
    places = targets(inputs, output)
    results = []
    for path in inputs:
        picture = pictures.read(path)
        try:
            results.append(pool(picture, name, kernel, window))
        except PictureError as error:
            raise PictureError(f"{path} ({picture.shape[1]} x {picture.shape[0]}): {error}") from None
    pictures.make_folder(places[0].parent)
    for place, result in zip(places, results, strict=True):
        pictures.write(place, result)
        print(f"{place}: {result.shape[1]} x {result.shape[0]}")
