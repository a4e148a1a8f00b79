"""Grids that came with the package, cut into their images and laid out anew, so that several show equally many."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

Bytes = npt.NDArray[np.uint8]

TILE, GAP = 64, 2
"""Pixels of an image and of the white between two, as they are laid out."""
MOST = 12
"""Images that a row is looked for at most."""
CONTRAST = 12.0
"""Grey levels that the white between images is brighter by, on average, than what lies beside it."""
ALIKE = 0.3
"""Part of the best contrast that the gaps of more images in a row must show."""
SHARE = 33.0
"""A gap is about this part of an image and its gap; of small images exactly."""


def relaid(grids: Sequence[bytes], most: int) -> tuple[list[bytes], int | None]:
    """The grids as PNG with the same number of images each, the first of every set and ``most`` at most, in the same
    rows of images of the same size, and that number; the grids as they are, and None, where one cannot be cut into its
    images."""
    cut = [tiles(grid) for grid in grids]
    if not cut or not all(cut):
        return list(grids), None
    count = min(most, *(len(found) for found in cut))
    return [_laid(found[:count]) for found in cut], count


def tiles(grid: bytes) -> list[Image.Image]:
    """The images of a square grid (PNG or JPEG), row by row; empty where no white lines part it.

    Rows are as long as there are: ``ceil(sqrt(n))`` images; white at the end is none.
    """
    picture: Image.Image = Image.open(io.BytesIO(grid))
    picture = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
    columns = _columns(np.asarray(picture.convert("L"), np.float64))
    if columns is None:
        return []
    gap = picture.width / columns / SHARE
    pitch = (picture.width + gap) / columns
    found = []
    for i in range(columns * max(1, round((picture.height + gap) / pitch))):
        left, top = pitch * (i % columns), pitch * (i // columns)
        box = (left, top, min(left + pitch - gap, picture.width), min(top + pitch - gap, picture.height))
        found.append(picture.resize((TILE, TILE), Image.Resampling.BILINEAR, box=box))
    edge = TILE // 8  # where JPEG lets the neighbours through
    while found and np.asarray(found[-1])[edge:-edge, edge:-edge].min() > 240:
        found.pop()
    return found


def _columns(grey: npt.NDArray[np.float64]) -> int | None:
    """Images in a row: the largest number whose gaps are all about as bright, beside what lies on both sides, as those
    of the number whose gaps show best."""
    profile = grey[: max(1, grey.shape[0] // 2)].mean(axis=0)  # the last row may end in white
    shown: dict[int, float] = {}
    for columns in range(2, MOST + 1):
        gap = grey.shape[1] / columns / SHARE
        pitch = (grey.shape[1] + gap) / columns
        if pitch >= 8:
            shown[columns] = min(_contrast(profile, pitch * j - gap / 2, pitch) for j in range(1, columns))
    best = max(shown.values(), default=0.0)
    return max(k for k, found in shown.items() if found >= ALIKE * best) if best > CONTRAST else None


def _contrast(profile: npt.NDArray[np.float64], at: float, pitch: float) -> float:
    """By how much a line at a place of the profile of columns is brighter than what lies beside it."""
    low, high = max(0, math.floor(at - 1)), math.ceil(at + 1)
    wide = max(3, round(pitch / 4))
    beside = np.concatenate([profile[max(0, low - wide) : low - 1], profile[high + 1 : high + wide]])
    return float(profile[low:high].max() - beside.mean()) if beside.size else 0.0


def _laid(images: Sequence[Image.Image]) -> bytes:
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    step = TILE + GAP
    sheet = Image.new(images[0].mode, (columns * step - GAP, rows * step - GAP), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (step * (i % columns), step * (i // columns)))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
