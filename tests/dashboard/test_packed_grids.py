"""Grids of the package, cut and laid out anew: as many images as were packed, alike beside each other."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dashboard.packed_grids import relaid, tiles


def grid(count: int, size: int = 64, dark: bool = True) -> tuple[bytes, np.ndarray]:
    """A packed grid (rows of ceil(sqrt(count)), two pixels of white between) and the mean of each image."""
    rng = np.random.default_rng(count)
    means = rng.integers(10, 110, count) if dark else np.full(count, 255)
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    sheet = np.full((rows * (size + 2) - 2, columns * (size + 2) - 2), 255, np.uint8)
    for i, mean in enumerate(means):
        top, left = (i // columns) * (size + 2), (i % columns) * (size + 2)
        sheet[top : top + size, left : left + size] = mean
    return encoded(Image.fromarray(sheet)), means


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, quality=70)
    return buffer.getvalue()


@pytest.mark.parametrize("count", [5, 16, 32, 64])
@pytest.mark.parametrize("part", [1, 2, 4])
def test_a_grid_is_cut_into_its_images_at_any_packed_size(count: int, part: int) -> None:
    content, means = grid(count)
    if part > 1:
        image = Image.open(io.BytesIO(content))
        small = image.resize((image.width // part, image.height // part), Image.Resampling.LANCZOS)
        content = encoded(small, "JPEG")
    found = tiles(content)
    assert len(found) == count
    middles = [np.asarray(tile.convert("L"))[20:44, 20:44].mean() for tile in found]
    assert middles == pytest.approx(means, abs=6)


def test_sets_of_other_sizes_are_laid_out_alike() -> None:
    (few, means), (many, others) = grid(32), grid(64)
    (first, second), count = relaid([few, many], 64)
    assert count == 32
    one, two = (np.asarray(Image.open(io.BytesIO(content))) for content in (first, second))
    assert one.shape == two.shape
    assert one[30, 30] == pytest.approx(means[0], abs=2)
    assert two[30, 30] == pytest.approx(others[0], abs=2)
    assert relaid([few, many], 9)[1] == 9


def test_what_cannot_be_cut_is_shown_as_it_came() -> None:
    blank, (few, _) = grid(16, dark=False)[0], grid(32)
    assert tiles(blank) == []
    assert relaid([few, blank], 64) == ([few, blank], None)
    assert relaid([], 64) == ([], None)
