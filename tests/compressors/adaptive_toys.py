"""Short trainings of networks of several bit-widths, for the tests of each adaptive compressor and of what they
share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bench.interfaces import Compressed, ImageSet, Setting
from methods.compressors._adaptive import AdaptiveCompressor
from methods.quant.adaptive import AdaptiveModel
from methods.quant.learned import PactActivation
from methods.quant.learned_weights import SquashedWeight
from methods.quant.training_parts import Makers
from methods.quant.widths import Widths, widths_of
from tests import pick
from tests.compressors.recon_toys import Residual, context, digest, handle, image_set
from tests.quant.nets import randomise

METHODS: dict[str, Any] = {
    name: method for name, method in pick.methods("compressors").items() if isinstance(method, AdaptiveCompressor)
}
W8A8 = Setting(8, 8)
FEW: dict[str, Any] = {"steps": 4, "batch": 16, "calibration": 32, "bn_images": 32, "zero_shot": ()}


def compress(method: Any, setting: Setting = W8A8, given: ImageSet | None = None, seed: int = 0, **params: Any) -> Any:
    """What a few steps make of the toy network."""
    made: Compressed = method.compress(
        handle(), given or image_set(), setting, method.Params(**FEW | params), context(seed)
    )
    return made


def digests(made: Compressed) -> list[str]:
    """Every network, bit for bit."""
    return [digest(variant.module) for variant in made.variants]


def labelled() -> ImageSet:
    """The toy images with labels."""
    return dataclasses.replace(image_set(), labels=torch.arange(64) % 5, label_kind="native")


def makers(grid: Any = "modified", scale: Any = "norm") -> Makers:
    """Quantisers of one width."""
    return Makers(
        lambda weight, bits: SquashedWeight(weight, bits, grid, scale),
        lambda bits, nonnegative: PactActivation(bits, nonnegative, 0.999, relative=True, start="mse"),
    )


def adaptive(
    trained: Sequence[int] = (8, 4, 2),
    zero_shot: Sequence[int] = (),
    *,
    asked: Setting = W8A8,
    net: nn.Module | None = None,
    tied: bool = False,
    started: bool = True,
) -> AdaptiveModel:
    """The toy network at several widths, ranges chosen, not trained."""
    widths: Widths = widths_of(asked, trained, zero_shot)
    images = image_set().images
    model = AdaptiveModel(randomise(net or toy()), images[:2], widths, makers(), tied=tied)
    if started:
        model.begin(images)
    return model


def toy() -> nn.Module:
    """The same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Residual()
