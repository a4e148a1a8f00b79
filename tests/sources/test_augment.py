"""Views of the images: pixel space, roll, colour without clamping, data mixing (docs/methods/sources.md#invariant-6,
#invariant-10, #invariant-11)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from methods.sources._augment import Augment, MixBox, PixelSpace, mix_data, roll
from tests.sources.toy import COLOUR, GREY

SPACE, SPACE3 = PixelSpace.of(GREY), PixelSpace.of(COLOUR)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pixel_space_inverts_and_boxes() -> None:
    pixels = torch.rand(4, 3, 5, 5, generator=gen())
    x = SPACE3.normalise(pixels)
    torch.testing.assert_close(SPACE3.denormalise(x), pixels)
    low, high = SPACE3.box(x)
    assert bool(((x >= low) & (x <= high)).all())
    low, high = PixelSpace((0.0,), (1.0,)).box(torch.zeros(1, 1, 2, 2))
    assert (float(low), float(high)) == (0.0, 1.0)
    imagenet = PixelSpace((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    low, high = imagenet.box(torch.zeros(1, 3, 1, 1))
    torch.testing.assert_close(low.flatten(), torch.tensor([-2.118, -2.036, -1.804]), atol=1e-3, rtol=0)
    torch.testing.assert_close(high.flatten(), torch.tensor([2.249, 2.429, 2.640]), atol=1e-3, rtol=0)


def test_roll_keeps_values_and_is_undone_by_its_opposite() -> None:
    x = torch.randn(2, 1, 6, 7, generator=gen())
    moved = roll(x, 2, -3)
    assert torch.equal(roll(moved, -2, 3), x)
    assert torch.equal(moved.flatten(1).sort().values, x.flatten(1).sort().values)
    assert not torch.equal(moved, x)


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.7])
def test_colour_acts_on_pixels(factor: float) -> None:
    pixels = torch.rand(2, 3, 4, 4, generator=gen())
    x = SPACE3.normalise(pixels)
    luma = (pixels * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    level = luma.mean((2, 3), keepdim=True)
    expected = {
        "brightness": pixels * factor,
        "contrast": factor * pixels + (1 - factor) * level,
        "saturation": factor * pixels + (1 - factor) * luma,
    }
    for name, value in expected.items():
        got = SPACE3.denormalise(getattr(SPACE3, name)(x, factor))
        torch.testing.assert_close(got, value, rtol=1e-5, atol=1e-5)


def test_pixels_at_the_box_edge_keep_their_gradient() -> None:
    _, high = SPACE.box(torch.zeros(1, 1, 1, 1))
    x = high.expand(2, 1, 4, 4).clone().requires_grad_()
    SPACE.brightness(x, 1.2).sum().backward()
    assert x.grad is not None
    assert float(x.grad.min()) == pytest.approx(1.2)


def test_one_channel_has_no_saturation() -> None:
    assert Augment(SPACE, jitter=0.2).kinds() == ["brightness", "contrast"]
    assert Augment(SPACE3, roll=2, flip=True, jitter=0.2, cutout=True).kinds() == [
        "roll",
        "flip",
        "brightness",
        "contrast",
        "saturation",
        "cutout",
    ]


def test_augment_is_a_function_of_the_generator_and_leaves_its_input() -> None:
    x = torch.randn(4, 3, 16, 16, generator=gen())
    kept = x.clone()
    augment = Augment(SPACE3, roll=2, flip=True, jitter=0.2, cutout=True)
    first, second = augment(x, gen(3)), augment(x, gen(3))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(x, gen(4)))
    assert torch.equal(x, kept)
    assert Augment(SPACE3)(x, gen()) is x


def test_colours_and_crops_are_drawn_per_image() -> None:
    x = torch.full((64, 1, 8, 8), 0.5)
    bright = Augment(SPACE, jitter=0.2)(x, gen())[:, 0, 0, 0]
    assert len(bright.unique()) == 64
    pixels = SPACE.denormalise(Augment(SPACE, jitter=0.2)(SPACE.normalise(x), gen()))[:, 0, 0, 0]
    assert 0.4 <= float(pixels.min()) < 0.43 < 0.57 < float(pixels.max()) <= 0.6
    ramp = torch.arange(8.0).expand(64, 1, 8, 8).contiguous()
    untouched = sum(
        torch.equal(view, image) for view, image in zip(Augment(SPACE, crop=0.5)(ramp, gen()), ramp, strict=True)
    )
    assert 20 <= untouched <= 44  # each with probability one half


def test_roll_reach_shrinks_with_the_view() -> None:
    x = torch.arange(16.0).view(1, 1, 1, 16).expand(1, 1, 16, 16).contiguous()
    offsets = {int(Augment(SPACE, roll=4)(x, gen(seed), 2)[0, 0, 0, 0]) for seed in range(60)}
    assert offsets == {0, 1, 2, 14, 15}


def test_flip_per_image_flips_some() -> None:
    x = torch.arange(4.0).view(1, 1, 1, 4).expand(64, 1, 4, 4).contiguous()
    flipped = Augment(SPACE, flip=True, flip_per_image=True)(x, gen())[:, 0, 0, 0] == 3
    assert 10 < int(flipped.sum()) < 54


def test_cutout_zeroes_one_square() -> None:
    out = Augment(SPACE, cutout=True)(torch.ones(3, 1, 16, 16), gen())
    assert int((out[0] == 0).sum()) == 16
    assert torch.equal(out[0], out[2])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.sampled_from([16, 32, 33]), per_sample=st.booleans())
def test_mixing_keeps_the_host_outside_and_shows_the_guest_inside(seed: int, size: int, per_sample: bool) -> None:
    x = torch.randn(5, 2, size, size, generator=gen(seed))
    mixed = mix_data(x, gen(seed), per_sample=per_sample)
    assert len(mixed.boxes) == (5 if per_sample else 1)
    assert sorted(mixed.partner.tolist()) == list(range(5))
    assert all(p != i for i, p in enumerate(mixed.partner.tolist()))
    for i in range(5):
        box = mixed.boxes[i if per_sample else 0]
        inside = torch.zeros(size, size, dtype=torch.bool)
        inside[box.top : box.top + box.height, box.left : box.left + box.width] = True
        assert int(inside.sum()) == box.height * box.width
        assert float(mixed.beta[i]) * size * size == pytest.approx(box.height * box.width)
        assert max(2, round(0.1 * size)) <= box.height <= round(0.4 * size)
        assert torch.equal(mixed.images[i][:, ~inside], x[i][:, ~inside])
        guest = F.interpolate(x[mixed.partner[i]][None], (box.height, box.width), mode="bilinear")[0]
        torch.testing.assert_close(mixed.images[i][:, inside], guest.flatten(1), rtol=1e-5, atol=1e-5)


def test_gradients_of_host_and_guest() -> None:
    x = torch.randn(3, 1, 16, 16, generator=gen(), requires_grad=True)
    mixed = mix_data(x, gen(1), (0.4, 0.4))
    box = mixed.boxes[0]
    guest_of_first = int(mixed.partner[0])
    (grad,) = torch.autograd.grad(mixed.images[0].sum(), x)
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[box.top : box.top + box.height, box.left : box.left + box.width] = True
    assert bool((grad[0, 0][inside] == 0).all())
    assert bool((grad[0, 0][~inside] == 1).all())
    assert float(grad[guest_of_first].sum()) == pytest.approx(box.height * box.width, rel=1e-4)
    third = 3 - guest_of_first
    assert float(grad[third].abs().sum()) == 0


def test_antialias_reaches_every_guest_pixel() -> None:
    reach = {}
    for antialias in (False, True):
        x = torch.randn(2, 1, 32, 32, generator=gen(), requires_grad=True)
        mixed = mix_data(x, gen(), (0.1, 0.1), antialias=antialias)
        (grad,) = torch.autograd.grad(mixed.images[0].sum(), x)
        reach[antialias] = float((grad[1] != 0).float().mean())
    assert reach[False] < 0.1
    assert reach[True] == 1.0


def test_mixing_needs_two_images() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        mix_data(torch.zeros(1, 1, 8, 8), gen())


def test_boxes_are_two_pixels_or_more_and_inside() -> None:
    g = gen()
    for _ in range(50):
        box = MixBox.draw((8, 8), (0.1, 0.4), g)
        assert min(box.height, box.width) >= 2
        assert box.top + box.height <= 8
        assert box.left + box.width <= 8
