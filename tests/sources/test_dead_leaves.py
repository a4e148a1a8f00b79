"""Dead leaves: the law of the radii, occlusion, shapes, and the statistics that make them look like images."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from methods.sources._augment import PixelSpace
from methods.sources.dead_leaves import METHOD, DeadLeavesParams, _topmost, paint, radii
from tests.sources.toy import COLOUR, GREY, context, request


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(seed: int = 0, **params: object) -> Tensor:
    return METHOD.synthesize_batch(request(METHOD, (), **params), context(seed)).images  # type: ignore[arg-type]


def test_it_reads_nothing_and_belongs_to_nobody() -> None:
    assert (METHOD.access, METHOD.control, METHOD.models, METHOD.label_kind) == ("T1", "none", "none", "none")


def test_radii_follow_the_power_law() -> None:
    """P(r > x) of p(r) ~ r^-3 between 1 and 10: (x^-2 - 10^-2) / (1 - 10^-2)."""
    found = radii((200_000,), 1.0, 10.0, rng())
    assert 1 <= float(found.min()) < 1.001
    assert 9 < float(found.max()) <= 10
    for x in (1.5, 2.0, 4.0):
        share = (x**-2 - 0.01) / 0.99
        assert float((found > x).float().mean()) == pytest.approx(share, abs=4 * math.sqrt(share / 200_000))


@pytest.mark.parametrize(("sides", "area"), [(3, 3 * math.sqrt(3) / 4), (4, 2.0), (64, math.pi)])
def test_a_leaf_has_the_area_of_its_polygon(sides: int, area: float) -> None:
    """Of a circle of radius 20, in the middle of 100 x 100 pixels, however it is turned."""
    one = torch.ones(1, 1)
    for turn in (0.0, 1.0):
        top = _topmost(20 * one, torch.full((1, 1, 2), 50.0), sides * one, turn * one, (100, 100))
        assert float((top == 1).sum()) == pytest.approx(area * 400, rel=0.03)
        rows, columns = torch.nonzero(top[0], as_tuple=True)
        assert float(rows.float().mean() + 0.5) == pytest.approx(50, abs=0.2)
        assert float(columns.float().mean() + 0.5) == pytest.approx(50, abs=0.2)


def test_the_later_leaf_hides_the_earlier_whatever_its_size() -> None:
    """Two discs around one middle: the small one is seen where it fell last; leaves beyond the edge are cut off."""
    sides = torch.full((2, 2), 64.0)
    sizes, places = torch.tensor([[30.0, 5.0], [5.0, 30.0]]), torch.full((2, 2, 2), 20.0)
    top = _topmost(sizes, places, sides, torch.zeros(2, 2), (40, 50))
    assert top.shape == (2, 40, 50)
    assert top[:, 20, 20].tolist() == [2, 2]
    assert int((top[0] == 2).sum()) == pytest.approx(25 * math.pi, rel=0.1)
    assert int((top[1] == 1).sum()) == 0
    assert int((top[0] == 0).sum()) > 0  # a corner that nothing reaches


def test_images_are_pixels_of_one_grey_or_three_colours() -> None:
    for dataset in (GREY, COLOUR):
        batch = METHOD.synthesize_batch(request(METHOD, (), dataset=dataset, batch=16), context())
        pixels = PixelSpace.of(dataset).denormalise(batch.images)
        assert batch.images.shape == (16, *dataset.shape)
        assert -1e-5 < float(pixels.min()) < 0.05
        assert 0.95 < float(pixels.max()) < 1 + 1e-5
        assert float(pixels.std()) > 0.15
        assert batch.labels is None
        assert batch.forward_equivalents == 0
    colours = pixels - pixels.mean(1, keepdim=True)
    assert float(colours.abs().mean()) > 0.05


def test_neighbours_are_alike_as_in_images_and_unlike_noise() -> None:
    made = paint(64, (1, 32, 32), DeadLeavesParams(), rng())[:, 0]
    centred = made - made.mean()
    near, far = (float((centred[:, :, :-k] * centred[:, :, k:]).mean() / made.var()) for k in (1, 16))
    assert near > 0.6
    assert abs(far) < 0.2
    flat = paint(8, (1, 32, 32), DeadLeavesParams(texture=0.0, leaves=20), rng())
    rough = paint(8, (1, 32, 32), DeadLeavesParams(texture=1.0, leaves=20), rng())
    changes = [float((x.diff(dim=3).abs() > 0.01).float().mean()) for x in (flat, rough)]
    assert changes[0] < 0.5 * changes[1]


def test_a_batch_depends_on_its_generator_alone() -> None:
    assert torch.equal(images(3, batch=8), images(3, batch=8))
    assert not torch.equal(images(3, batch=8), images(4, batch=8))
    assert len({image.numpy().tobytes() for image in images(batch=32)}) == 32


def test_a_large_batch_is_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("methods.sources.dead_leaves._AT_ONCE", 4 * 16 * 16 * 3)
    assert images(batch=8).shape == (8, 1, 16, 16)


def test_a_range_of_radii_is_needed() -> None:
    with pytest.raises(ValueError, match="range above 0"):
        DeadLeavesParams(radius=(0.5, 0.1))
