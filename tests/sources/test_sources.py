"""What sources have in common beyond their contract: one permutation of data, labels, images inverted by one loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.errors import NotApplicable
from bench.interfaces import ImageBatch, ModelHandle
from methods.sources._augment import PixelSpace
from methods.sources._objectives import Network, draw_labels
from tests import pick
from tests.sources.toy import COLOUR, GREY, NoNorm, ToyNet, context, handle, randomised, request, transformer

SOURCES = pick.methods("sources")
DATA = {name: source for name, source in SOURCES.items() if source.access >= "T3"}
INVERSIONS = {name: source for name, source in SOURCES.items() if hasattr(source, "prepare")}
ITERATED = {name: source for name, source in SOURCES.items() if "iterations" in source.Params.model_fields}
CLIPPED = {name: source for name, source in ITERATED.items() if getattr(source.Params(), "clip", False)}
HALVED = {name: source for name, source in INVERSIONS.items() if "half_iterations" in source.Params.model_fields}


NORMED = {name: source for name, source in SOURCES.items() if "bn" in source.needs}


def serving(source: Any, models: tuple[ModelHandle, ...]) -> tuple[ModelHandle, ...]:
    """``models``, or a transformer where the source needs one."""
    return (handle(transformer(), "vit"),) if "attention" in source.needs else models


def batch_of(name: str, models: tuple[ModelHandle, ...], index: int = 0, seed: int = 0, **params: Any) -> ImageBatch:
    source = SOURCES[name]
    short = {"batch": 8, **({"iterations": 4} if name in ITERATED else {})}
    asked = request(source, serving(source, models), index, **{**short, **params})
    made: ImageBatch = source.synthesize_batch(asked, context(seed))
    return made


@pytest.mark.parametrize("name", DATA)
def test_data_batches_partition_one_permutation(name: str) -> None:
    batches = [batch_of(name, (), index, seed=index) for index in range(3)]
    together = torch.cat([b.images for b in batches])
    assert len(torch.unique(together.flatten(1), dim=0)) == 24
    larger = batch_of(name, (), 0, batch=24)
    assert torch.equal(larger.images, together)


def test_labels_are_balanced_over_batches_or_uniform() -> None:
    g = torch.Generator().manual_seed(0)
    run = torch.cat([draw_labels("balanced", 6, 4, k, g) for k in range(4)])
    assert torch.bincount(run).tolist() == [6, 6, 6, 6]
    assert run[:8].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    drawn = draw_labels("uniform", 4000, 4, 0, g)
    assert float(torch.bincount(drawn).float().std()) < 100
    assert not torch.equal(drawn, draw_labels("uniform", 4000, 4, 0, g))


@pytest.mark.parametrize("name", INVERSIONS)
def test_gradient_goes_to_the_pixels_only(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    source = INVERSIONS[name]
    prepared = source.prepare(request(source, serving(source, zoo), batch=8, iterations=4), context())
    x = prepared.init.clone().requires_grad_()
    prepared.objective.backward(x, 1, True)
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert float(x.grad.abs().sum()) > 0
    assert all(p.grad is None for n in prepared.networks for p in n.taps.module.parameters())


@pytest.mark.parametrize("name", CLIPPED)
def test_images_lie_in_the_box(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    images = batch_of(name, zoo, lr=2.0, iterations=6).images
    low, high = PixelSpace.of(GREY).box(images)
    assert bool(((images >= low) & (images <= high)).all())


@pytest.mark.parametrize("name", HALVED)
def test_three_channels_and_half_size(name: str) -> None:
    """A step at half size costs a quarter; the rest costs what it does without such steps."""
    source, made = HALVED[name], {}
    models = tuple(handle(randomised(ToyNet(channels=3), s), f"n{s}", COLOUR) for s in range(3))
    if "attention" in source.needs:
        models = (handle(transformer(3), "vit", COLOUR),)
    for half in (0, 2):
        wanted = request(source, models, dataset=COLOUR, batch=8, iterations=4, half_iterations=half)
        made[half] = source.synthesize_batch(wanted, context())
    batch = made[2]
    assert batch.images.shape[1:] == COLOUR.shape
    assert batch.info["iterations"] == {"1/2": 2, "1/1": 2}
    networks = 3 if source.models == "zoo" else 1
    saved = len(batch.images) * networks * 2 * 2 * (1 - 1 / 4)
    assert made[0].forward_equivalents - batch.forward_equivalents == saved


@pytest.mark.parametrize("name", NORMED)
def test_network_without_batch_norm_is_named(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    source, bare = NORMED[name], handle(NoNorm().eval(), "plain")
    with pytest.raises(NotApplicable, match="plain has no batch norm"):
        source.check(source.Params(), (bare, bare, bare))
    source.check(source.Params(), zoo)
    with pytest.raises(NotApplicable, match="no network"):
        source.check(source.Params(), ())


def test_network_with_other_constants_is_fed_renormalised_images() -> None:
    net = randomised(ToyNet())
    other = ModelHandle("other", net, "x", "toy", "toy", 1, "toy", (0.1,), (0.5,))
    pixels = torch.rand(3, 1, 16, 16)
    logits, _ = Network(other, GREY, context())(PixelSpace.of(GREY).normalise(pixels))
    torch.testing.assert_close(logits, net(PixelSpace((0.1,), (0.5,)).normalise(pixels)), rtol=1e-4, atol=1e-4)
