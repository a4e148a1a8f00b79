"""An image set as one picture, for people who would rather look than read."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.interfaces import DatasetSpec
from bench.store.strips import strips

MAX_BYTES = 100_000


def grid_png(images: NDArray[np.float32], dataset: DatasetSpec, count: int = 64, scale: int = 2) -> bytes:
    """The first ``count`` of ``images`` (float32 [N,C,H,W], normalised by the constants of ``dataset``) as a PNG of at
    most 100 kB, a gap of 2 pixels between them, the frames of a clip side by side; ``scale`` repeats pixels. Fewer
    images or a smaller scale when it would be larger."""
    while True:
        content = _grid(images[:count], dataset, scale)
        if len(content) <= MAX_BYTES or (scale == 1 and count <= 4):
            return content
        scale, count = (1, count) if scale > 1 else (1, count // 2)


def _grid(images: NDArray[np.float32], dataset: DatasetSpec, scale: int) -> bytes:
    constants = (np.asarray(v, dtype=np.float32).reshape(1, -1, 1, 1) for v in (dataset.std, dataset.mean))
    factor, offset = constants
    pixels = (np.clip(images * factor + offset, 0, 1) * 255).round().astype(np.uint8)
    pixels = strips(pixels, dataset.frames)
    pixels = pixels.repeat(scale, axis=2).repeat(scale, axis=3)
    number, channels, height, width = pixels.shape
    columns = max(1, math.ceil(math.sqrt(number / dataset.frames)))
    rows = math.ceil(number / columns)
    sheet = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2, channels), 255, np.uint8)
    for k in range(number):
        top, left = (k // columns) * (height + 2), (k % columns) * (width + 2)
        sheet[top : top + height, left : left + width] = pixels[k].transpose(1, 2, 0)
    out = io.BytesIO()
    Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet).save(out, "PNG", optimize=True)
    return out.getvalue()
