"""LSQ: learned steps, a network that cannot be traced, statistics that stay."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.compressors.lsq import METHOD
from tests.compressors.qat_toys import W2A4, compress, moved
from tests.compressors.recon_toys import context, digest, handle, image_set
from tests.quant.nets import TwoCalls, randomise


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_activation_sizes_are_learned(optimiser: str) -> None:
    assert all(moved(METHOD, optimiser))


class Untraceable(nn.Module):
    """The path through it depends on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.net = randomise(TwoCalls())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x if float(x.sum()) != 0.125 else -x)
        return out


def test_a_network_that_cannot_be_traced_trains_without_features() -> None:
    params = METHOD.Params(steps=3, batch=8)
    out = METHOD.compress(handle(Untraceable()), image_set(), W2A4, params, context())
    module: Any = out.variants[0].module
    assert out.variants[0].protocol["path"] == "modules"
    assert out.variants[0].protocol["batch_norm"] == "unfolded"
    assert out.report["features"] == []
    assert dict(out.variants[0].layer_bits) == {"net.stem": (8, 8), "net.conv": (2, 4), "net.fc": (8, 8)}
    assert len(torch.unique(module.net.conv.layer.weight)) <= 4
    assert out.variants[0].scales == 8 + 8 + 5 + 2


def test_noise_like_images_leave_the_statistics() -> None:
    """With bn_freeze 0 the folded biases follow from the statistics the target came with."""
    out = copy.deepcopy(compress(METHOD, bn_freeze=0.0, lr=0.0).variants[0].module)
    moved = compress(METHOD, bn_freeze=1.0, lr=0.0).variants[0].module
    still = compress(METHOD, steps=0).variants[0].module
    assert digest(out) == digest(still)
    assert digest(moved) != digest(still)
