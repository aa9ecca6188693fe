"""The demo's picture: one photo under every pooling, tile by tile, and how much of its detail survived.

A tile shows the face under 4x4 pooling and two details under 2x2, every pooled element a square of 4x4 pixels.
"""
from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import pictures, recipes

if TYPE_CHECKING:
    from .demo import Outcome

COLUMNS, TILE, MARGIN, GAP, INNER = 5, 296, 32, 14, 8  # the last four in pixels
HEAD, LABEL = 126, 90  # heights of the title and of a tile's words
INK, GREY, PAPER = (22, 27, 34), (101, 109, 118), (255, 255, 255)
FULL = 512, 600  # what the regions below count in: the photo's width and height


class Region(NamedTuple):
    """Part of the photo, in pixels of its full size, and how often it is enlarged."""

    left: int
    top: int
    width: int
    height: int
    scale: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in the picture."""
        return self.width * self.scale, self.height * self.scale

    def of(self, planes: np.ndarray) -> Any:
        """That part of (1, C, H, W), which may be a smaller copy of the photo, as a Pillow image."""
        (across, down), (height, width) = FULL, planes.shape[2:]
        rows = slice(self.top * height // down, -(-(self.top + self.height) * height // down))
        columns = slice(self.left * width // across, -(-(self.left + self.width) * width // across))
        picture = pictures.from_planes(np.rint(255 * np.clip(planes[:, :, rows, columns], 0, 1)).astype(np.uint8))
        image = pictures.pillow()
        return image.fromarray(picture).resize(self.size, image.Resampling.NEAREST)


FACE = Region(108, 16, 296, 272, 1)
EYE, RIBBONS = Region(174, 168, 72, 44, 2), Region(384, 488, 72, 44, 2)
ROW = FACE.size[1] + INNER + EYE.size[1] + LABEL


def fonts() -> Callable[[int, bool], Any]:
    """DejaVu Sans by size and weight, from matplotlib's files: the picture is the same on every machine."""
    from matplotlib import get_data_path
    folder = pathlib.Path(get_data_path(), "fonts", "ttf")
    load = pictures.pillow("ImageFont").truetype
    return lambda size, bold: load(folder / f"DejaVuSans{'-Bold' * bold}.ttf", size)


def words(pen: Any, place: tuple[int, int], parts: list[tuple[str, Any, tuple[int, int, int]]]) -> None:
    """Texts (words, font, colour) one after another, on a common base line."""
    x, y = place
    for text, font, colour in parts:
        pen.text((x, y), text, colour, font, anchor="ls")
        x += pen.textlength(text, font)


def tile(canvas: Any, place: tuple[int, int], weak: np.ndarray, strong: np.ndarray) -> None:
    """The face of `strong`, and under it the details of `weak`."""
    x, y = place
    canvas.paste(FACE.of(strong), (x, y))
    below = y + FACE.size[1] + INNER
    canvas.paste(EYE.of(weak), (x, below))
    canvas.paste(RIBBONS.of(weak), (x + TILE - RIBBONS.size[0], below))


def draw(photo: np.ndarray, outcomes: list[Outcome]) -> Any:
    """The picture, a Pillow image: the photo, (1, C, H, W) in [0, 1], and the demo's outcomes."""
    rows, font = -(-(1 + len(outcomes)) // COLUMNS), fonts()
    size = 2 * MARGIN + COLUMNS * TILE + (COLUMNS - 1) * GAP, HEAD + rows * ROW
    canvas = pictures.pillow().new("RGB", size, PAPER)
    pen = pictures.pillow("ImageDraw").Draw(canvas)
    words(pen, (MARGIN, 58), [("One photo under every pooling", font(38, True), INK)])
    legend = "faces: 4 × 4 windows  ·  details: 2 × 2  ·  PSNR and SSIM: the 2 × 2 result, enlarged to the photo's size, against the photo"
    words(pen, (MARGIN, 97), [(legend, font(20, False), GREY)])
    cells = [("photo", "", f"{photo.shape[3]} × {photo.shape[2]} pixels", photo, photo)]
    cells += [(o.name, recipes.NOTES.get(o.name, ""), f"{o.psnr:.1f} dB   SSIM {o.ssim:.3f}", o.weak, o.strong) for o in outcomes]
    for i, (name, note, figures, weak, strong) in enumerate(cells):
        x, y = MARGIN + i % COLUMNS * (TILE + GAP), HEAD + i // COLUMNS * ROW
        tile(canvas, (x, y), weak, strong)
        words(pen, (x, y + ROW - LABEL + 30), [(name, font(24, True), INK), (f"  {note}", font(18, False), GREY)])
        words(pen, (x, y + ROW - LABEL + 58), [(figures, font(20, False), GREY)])
    return canvas
