"""What each test image costs a network whose bits depend on the image, as a record holds it.  No torch."""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from bench.reading import LIMIT, unzip

Floats = npt.NDArray[np.float64]

MEANING = (
    "mean bits of the inputs of the layers whose bits an image decides, by MACs x weight bits; effective bits, "
    "sqrt(bit operations / MACs), where the weights' bits depend on the image, too"
)
"""What the bits of an image are."""

SAME = 1e-6
"""How far a value may lie from what it must be, relative to it: a list is of 32-bit floats."""

_WIDTH = 4  # bytes of a value


def pack_floats(values: npt.NDArray[np.floating]) -> str:
    """Pack values [N] into base64 of zlib of their 32-bit floats (little endian), all first bytes first: the bytes of
    one place are alike, which is what zlib shortens.

    Raises:
        ValueError: not one axis, or a value that is no finite 32-bit float.
    """
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(values, dtype="<f4")
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError("no list of finite numbers")
    planes = found.view(np.uint8).reshape(-1, _WIDTH).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode("ascii")


def unpack_floats(text: str, count: int) -> Floats:
    """Inverse of :func:`pack_floats`, [count], exact to 32-bit floats.

    Raises:
        ValueError: no list of so many finite numbers.
    """
    size = _WIDTH * count
    raw = unzip(binascii.a2b_base64(text), min(size, LIMIT)) if count >= 0 else b""
    if len(raw) != size:
        raise ValueError(f"the list is of {len(raw) // _WIDTH} images, {count} are recorded")
    planes = np.frombuffer(raw, dtype=np.uint8).reshape(_WIDTH, -1).T
    found = np.ascontiguousarray(planes).view("<f4").reshape(-1).astype(np.float64)
    if not np.isfinite(found).all():
        raise ValueError("the list holds a number that is not finite")
    return found


class ImageBits(BaseModel):
    """Bit operations and difficulty of each test image, packed (:func:`pack_floats`), in the order of the bitmap.

    ``bitops_g``: 1e9 bit operations; ``difficulty``: entropy in nats of the uncompressed target's prediction.
    ``least_g`` and ``most_g`` are what an image takes at the fewest and the most bits (closed form).  Of an image's
    operations ``fixed_g`` are the same for all images, and the rest over ``unit_g`` are its bits (:data:`MEANING`), or
    their square where ``squared``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bitops_g: str
    difficulty: str
    least_g: float = Field(ge=0)
    most_g: float = Field(ge=0)
    fixed_g: float = Field(ge=0)
    unit_g: float = Field(gt=0)
    squared: bool

    def bits_of(self, bitops_g: Floats) -> Floats:
        """Bits of images that take so many 1e9 bit operations."""
        found: Floats = np.maximum(bitops_g - self.fixed_g, 0.0) / self.unit_g
        return np.sqrt(found) if self.squared else found

    @property
    def between(self) -> tuple[float, float]:
        """The fewest and the most bits an image can have."""
        low, high = self.bits_of(np.array([self.least_g, self.most_g]))
        return float(low), float(high)

    @property
    def constant(self) -> bool:
        """No image differs from another: there is one choice."""
        return self.most_g - self.least_g <= SAME * self.most_g


def check_image_bits(found: ImageBits, mean_g: float | None, count: int) -> None:
    """Check the lists against the mean bit operations that are recorded (1e9) and the ``count`` of test images.

    Raises:
        ValueError: a list of another length, a value outside the closed-form bounds, another mean.
    """
    values = unpack_floats(found.bitops_g, count)
    unpack_floats(found.difficulty, count)
    if wrong := outside(values, found.least_g, found.most_g):
        raise ValueError(wrong)
    mean = float(values.mean()) if count else 0.0
    if mean_g is None or not abs(mean_g - mean) <= SAME * max(mean, 1e-9):
        raise ValueError(f"bitops_g {mean_g}, its images say {mean}")


def outside(values: Floats, least: float, most: float) -> str:
    """Which value lies outside the bounds, in words; empty where none does."""
    slack = SAME * max(most, 1e-9)
    wrong = np.flatnonzero(~((values >= least - slack) & (values <= most + slack)))
    if not len(wrong):
        return ""
    first = int(wrong[0])
    return f"image {first}: {values[first]:.9g}, not within {least:.9g} and {most:.9g} ({len(wrong)} such images)"
