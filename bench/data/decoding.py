"""From a file to an array of bytes: every mode of an image converted as what it is, nothing clipped in silence.  No
torch."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data.splits import Bytes
from bench.errors import DataError

READER = 2
"""Version of how a file becomes an array; digests recorded under another do not count."""

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "JPEG2000", "PPM")
"""What a file may hold whatever its ending, which is often wrong; none of them runs another program (EPS would)."""

LONGEST = 64
"""An image is refused whose long side is more than so many times its short one: scaled to the short side, it would
fill the memory for a crop that shows none of it."""

_BROKEN = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    LookupError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow's decoders raise over a file that is damaged, cut, empty, a bomb or no image; they promise no kind."""

_NO_RANGE = "which values are black and white is written nowhere, and a guess would clip them"


def decode(path: Path, size: int) -> Bytes:
    """The image as uint8 [3,size,size]: scaled on the shorter side (224: to 256), cropped in the centre.

    Raises:
        DataError: the file is missing, or no image that can be read (:func:`read_rgb`).
    """
    image = read_rgb(path)
    if image.size != (size, size):
        short = size * 256 // 224 if size >= 128 else size
        scale = short / min(image.size)
        wide, high = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
        left, top = (wide - size) // 2, (high - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)


def read_rgb(path: Path) -> Image.Image:
    """The image in mode RGB and its own size.

    16 bits are scaled to 8, what is transparent lies on white, CMYK and others are converted by Pillow; a photograph's
    orientation tag is left alone, as by torchvision.

    Raises:
        DataError: the file is missing, or cannot be decoded; it holds several pictures, numbers without a range (float,
            32-bit integers), or is a line rather than an image.
    """
    try:
        with Image.open(path, formats=FORMATS) as found:
            reason = _refused(found)
            image = None if reason else _to_rgb(found)
    except _BROKEN as error:
        raise DataError("cannot read the image", where=str(path), got=_said(error)) from error
    if image is None:
        raise DataError(f"cannot use the image: {reason}", where=str(path), hint="Convert it, or take it away.")
    return image


def _refused(image: Image.Image) -> str | None:
    """Why an opened file cannot be used; None when it can."""
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):  # of PNG: sixteen bits
        kind = "floating-point values" if image.mode == "F" else "32-bit integers"
        return f"it holds {kind}; {_NO_RANGE}"
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1 and image.format != "MPO":  # a camera's second view lies beside the photograph
        return f"it holds {pictures} pictures"
    if max(image.size) > LONGEST * min(image.size):
        return f"{image.width}×{image.height} pixels are a line"
    return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # "I;16" and its byte orders; convert() would cut at 255
        grey = np.asarray(image).astype(np.float64) * (255 / 65535)
        image = Image.fromarray(np.rint(grey).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
