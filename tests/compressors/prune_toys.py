"""Channels taken out in a few steps, for the tests of what that is made of."""

from __future__ import annotations

from typing import Any

from torch import nn

from bench.interfaces import ImageSet, ModelHandle, Setting
from tests import pick
from tests.compressors.recon_toys import context

FIFTH = Setting(sparsity=0.2)
FEW = {"mask_iterations": 2, "weight_iterations": 2, "latency_runs": 0}


def compress(model: ModelHandle, images: ImageSet, setting: Setting = FIFTH, *, seed: int = 0, **params: Any) -> Any:
    """The network without so many of its channels."""
    method = pick.methods("compressors", params=("mode", *FEW))[pick.name("compressors", params=("mode", *FEW))]
    return method.compress(model, images, setting, method.Params(**{**FEW, **params}), context(seed))


def layers(net: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Weighted layers by name."""
    return {name: part for name, part in net.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
