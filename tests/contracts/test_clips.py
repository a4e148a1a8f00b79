"""Every registered method works on clips (docs/architecture.md#clips); a new file is under it without a line here."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.interfaces import DatasetSpec, ImageSet, ModelHandle
from bench.interfaces.clips import Clips
from bench.measure.complexity import complexity, count
from bench.spec.registry import Registry
from tests.compressors.recon_toys import Residual
from tests.contracts import kit, toys
from tests.contracts.compressors import CompressorCase
from tests.contracts.policies import Search
from tests.contracts.sources import MODELS, Source
from tests.quant.nets import randomise
from tests.sources.toy import COLOUR, ToyNet, ToyTransformer, randomised

FRAMES = 3


def clips_of(frame: DatasetSpec) -> DatasetSpec:
    """A data set of clips of such frames."""
    shape = (FRAMES * frame.shape[0], *frame.shape[1:])
    return replace(frame, shape=shape, mean=frame.mean * FRAMES, std=frame.std * FRAMES, frames=FRAMES)


SPEC = clips_of(toys.SPEC)


def teacher() -> ModelHandle:
    return kit.frozen(Clips(randomise(kit.built(Residual, 0)), FRAMES), "toy/clips", SPEC)


def images(count: int = 16, seed: int = 0) -> ImageSet:
    made = torch.randn(count, *SPEC.shape, generator=torch.Generator().manual_seed(seed))
    return replace(toys.images(1), images=made)


def student(seed: int) -> nn.Module:
    return Clips(kit.built(lambda: Residual(4), seed), FRAMES).train()


def shuffled(x: Tensor) -> Tensor:
    """The same frames in another order."""
    return x.unflatten(1, (FRAMES, -1))[:, torch.randperm(FRAMES, generator=torch.Generator().manual_seed(1))].flatten(
        1, 2
    )


@pytest.mark.parametrize("name", kit.installed("sources"))
def test_source(name: str) -> None:
    case, dataset = Source(name, Registry("sources").get(name)), clips_of(COLOUR)
    kind: Any = ToyTransformer if "attention" in case.method.needs else ToyNet
    nets = (Clips(kit.built(lambda i=i: kind(6 + 2 * i, 3), i), FRAMES) for i in range(MODELS[case.method.models]))  # type: ignore[misc]
    models = tuple(kit.frozen(randomised(net, i), f"toy{i}", dataset) for i, net in enumerate(nets))
    request = case.request(dataset=dataset, models=models)
    batch = case.make(request).batch
    assert batch.images.shape == (request.batch_size, *dataset.shape)
    assert bool(torch.isfinite(batch.images).all())
    if batch.labels is not None:
        assert batch.labels.shape == (request.batch_size,)


@torch.no_grad()
@pytest.mark.parametrize("name", kit.installed("compressors"))
def test_compressor(name: str) -> None:
    case, model = CompressorCase(name, Registry("compressors").get(name)), teacher()
    with torch.enable_grad(), tempfile.TemporaryDirectory() as scratch:
        ctx = replace(toys.context(3, scratch), untrained=lambda _: student(5))
        made = case.run(ctx, model, images()).compressed
    data = images(5, seed=9).images
    for variant in made.variants:
        logits = variant.module(data)
        assert logits.shape == (5, SPEC.classes)
        assert bool(torch.isfinite(logits).all())
        # neither the order of the frames nor what else is in the batch matters
        assert torch.allclose(variant.module(shuffled(data)), logits, atol=1e-4)
        assert torch.allclose(torch.cat([variant.module(clip[None]) for clip in data]), logits, atol=1e-4)
        assert complexity(model.module, SPEC.shape, variant)["macs"] > 0


def test_what_is_counted_of_a_clip_is_that_of_its_frames() -> None:
    net = randomise(kit.built(Residual, 0))
    one, clip = count(net, toys.SPEC.shape), count(Clips(net, FRAMES), SPEC.shape)
    assert clip.macs == FRAMES * one.macs
    assert clip.parameters == one.parameters
    assert {f"net.{name}": FRAMES * layer.macs for name, layer in one.layers.items()} == {
        name: layer.macs for name, layer in clip.layers.items()
    }


@pytest.mark.parametrize("name", kit.installed("policies"))
def test_search(name: str) -> None:
    case, model = Search(name, Registry("policies").get(name)), teacher()
    weighted = {name for name, part in model.module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    found = case.make(model, images()).policy
    assert set(found) <= weighted
