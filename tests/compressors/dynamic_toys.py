"""Short trainings of networks whose bits each image decides, for the tests of each dynamic compressor and of what they
share."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from bench.interfaces import Compressed, ImageSet, Setting
from methods.quant.choosing import DynamicActivation, PerImage, choosers
from methods.quant.dynamic import DynamicModel
from methods.quant.dynamic_tensors import Choices
from methods.quant.learned import StepActivation
from methods.quant.learned_weights import LsqWeight
from methods.quant.training_parts import Makers
from tests.compressors.recon_toys import Residual, context, handle, image_set
from tests.quant.nets import randomise

W4A4 = Setting(4, 4)
FEW: dict[str, Any] = {"steps": 6, "batch": 16, "calibration": 32, "bits_images": 32}


def compress(method: Any, setting: Setting = W4A4, given: ImageSet | None = None, seed: int = 0, **params: Any) -> Any:
    """What a few steps make of the toy network."""
    made: Compressed = method.compress(
        handle(), given or image_set(), setting, method.Params(**FEW | params), context(seed)
    )
    return made


def labelled() -> ImageSet:
    """The toy images with labels."""
    return dataclasses.replace(image_set(), labels=torch.arange(64) % 5, label_kind="native")


def toy() -> nn.Module:
    """The same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomise(Residual())


def dynamic(
    candidates: tuple[int, ...] = (3, 4, 5), *, setting: Setting = W4A4, net: nn.Module | None = None, **choices: Any
) -> DynamicModel:
    """The toy network with images that choose, ranges chosen, not trained."""
    images = image_set().images
    makers = Makers(
        lambda weight, bits: LsqWeight(weight, bits, "mse"),
        lambda bits, nonnegative: StepActivation(bits, nonnegative, "mse"),
    )
    generator = torch.Generator().manual_seed(0)
    model = DynamicModel(net or toy(), images[:2], setting, makers, Choices(candidates, **choices), generator)
    model.begin(images)
    return model


@torch.no_grad()
def force(quants: list[DynamicActivation], place: int) -> None:
    """Make every image choose the candidate of this place, by a huge bias."""
    for quant in quants:
        selector: Any = quant.selector
        linear = selector.linear if hasattr(selector, "linear") else selector._held[0].last
        bias = linear.bias.view(-1, len(quant.parts))
        bias.fill_(-1e6)
        bias[:, place] = 1e6


@torch.no_grad()
def scatter(quants: list[DynamicActivation], seed: int = 1) -> None:
    """Draw the selectors' weights, so that images choose differently."""
    generator = torch.Generator().manual_seed(seed)
    for quant in quants:
        for parameter in quant.selector.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


def exported(model: DynamicModel) -> PerImage:
    """The finished network."""
    module = model.export()
    assert isinstance(module, PerImage)
    assert choosers(module)
    return module
