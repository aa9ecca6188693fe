"""Pictures: files to arrays and back, how to show a pooled one at the size it had, and how much of its detail survived.

A picture is an array (H, W) or (H, W, C) of uint8, uint16 or float32, as Pillow gives it; planes are (1, C, H, W).  Pillow is
imported where it is needed: the library itself does without.
"""
from __future__ import annotations

import importlib
import io
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

DIRECT = "L", "RGB", "RGBA"  # Pillow's modes that are taken as they are; others become one of them, or more than 8 bits
PATCH, SIGMA = 11, 1.5  # of SSIM's Gaussian


class PictureError(ValueError):
    """What a user can mend: a file that is no picture, a missing Pillow."""


def pillow(module: str = "Image") -> Any:
    """A module of Pillow, or what to do without it."""
    try:
        return importlib.import_module(f"PIL.{module}")
    except ImportError:
        raise PictureError("pictures need Pillow: pip install 'numbapool[demo]'") from None


def read(path: pathlib.Path) -> np.ndarray:
    """A file as a picture, upright: grey, RGB and RGBA keep their channels, 16-bit grey its 16 bits; of an animation the first frame."""
    image_module, operations = pillow(), pillow("ImageOps")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", image_module.DecompressionBombWarning)
            with image_module.open(path) as file:
                return _array(operations.exif_transpose(file))
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise PictureError(f"{path} is a folder, not a picture") from None
    except image_module.UnidentifiedImageError:
        raise PictureError(f"{path} is not a picture that Pillow can read") from None
    except (image_module.DecompressionBombError, image_module.DecompressionBombWarning) as error:
        raise PictureError(f"{path} is too large: {error}") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise for damaged files
        raise PictureError(f"{path} cannot be read: {error}") from None


def _array(image: Any) -> np.ndarray:
    if image.mode.startswith("I"):  # "I;16", or "I", in which some formats hold 16 bits
        return np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
    if image.mode == "F":
        return np.asarray(image).astype(np.float32)
    if image.mode not in DIRECT:
        alpha = "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBa")
        image = image.convert("RGBA" if alpha else "L" if image.mode == "1" else "RGB")
    return np.array(image)


def write(path: pathlib.Path, picture: np.ndarray) -> None:
    """A picture as a file of the format that its name ends with; encoded in memory first, an error leaves no half file."""
    image_module = pillow()
    formats = image_module.registered_extensions()
    if path.suffix.lower() not in formats:
        raise PictureError(f"{path}: a picture's name ends with .png, .jpg, .tif, ..., not with {path.suffix or 'nothing'!r}")
    memory = io.BytesIO()
    try:
        image_module.fromarray(picture).save(memory, formats[path.suffix.lower()])
        path.write_bytes(memory.getvalue())
    except (OSError, ValueError, KeyError) as error:
        raise PictureError(f"{path} cannot be written: {error}") from None


def make_folder(path: pathlib.Path) -> None:
    """A folder, unless it is there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PictureError(f"no folder can be made: {error}") from None


def to_planes(picture: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) as (1, C, H, W), without a copy."""
    return np.moveaxis(np.atleast_3d(picture), -1, 0)[None]


def from_planes(planes: np.ndarray) -> np.ndarray:
    """(1, C, H, W) as (H, W, C), of one channel as (H, W)."""
    picture = np.ascontiguousarray(np.moveaxis(planes[0], 0, -1))
    return picture[..., 0] if picture.shape[-1] == 1 else picture


def enlarge(planes: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """(N, C, H, W) at another spatial size, each position taking the element that lies nearest."""
    rows, columns = (np.minimum(((np.arange(to) + 0.5) * n / to).astype(int), n - 1) for n, to in zip(planes.shape[2:], size, strict=True))
    return planes[:, :, rows[:, None], columns]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two arrays whose peak is 1."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return float("inf") if error == 0 else -10 * np.log10(error)


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two (N, C, H, W) whose peak is 1: the mean over all windows that lie inside, 1 for equal ones.

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE
    Transactions on Image Processing 13 (2004), eq. 13, with its Gaussian of 11x11 and sigma 1.5, K1 = 0.01, K2 = 0.03.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = _blurred(a), _blurred(b)
    variances = _blurred(a * a) - mean_a**2 + _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))
    return float(similarity.mean())


def _blurred(x: np.ndarray) -> np.ndarray:
    """(..., H, W) under SSIM's Gaussian, (..., H - 10, W - 10): along W, then along H."""
    weights = np.exp(-0.5 * ((np.arange(PATCH) - PATCH // 2) / SIGMA) ** 2)
    for axis in (-1, -2):
        x = sliding_window_view(x, PATCH, axis) @ (weights / weights.sum())
    return x
