"""Clips for who looks at them: a clip's frames side by side, as one image.  No torch."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Values = TypeVar("Values", bound=np.generic)

FRAMES = "frames"
"""Key of a batch's ``info``: frames of a clip, where its images are clips."""


def strips(images: NDArray[Values], frames: int) -> NDArray[Values]:
    """Clips [N, frames·C, H, W] as images [N, C, H, frames·W]; images themselves, of which ``frames`` is 1."""
    if frames < 2 or images.shape[1] % frames:
        return images
    number, channels, height, width = images.shape
    each = images.reshape(number, frames, channels // frames, height, width)
    return each.transpose(0, 2, 3, 1, 4).reshape(number, channels // frames, height, frames * width)
