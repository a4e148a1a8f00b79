"""LSQ: learned steps, a network that cannot be traced, statistics that stay."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from methods.compressors.lsq import METHOD
from methods.quant.learned import AffineQuant, AffineStepActivation, StepActivation
from tests.compressors.qat_toys import W2A4, compress, moved
from tests.compressors.recon_toys import context, digest, handle, image_set
from tests.quant.nets import Untraceable


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_activation_sizes_are_learned(optimiser: str) -> None:
    assert all(moved(METHOD, optimiser))


def test_affine_activations_have_lsq_pluses_gradients() -> None:
    """Equations 4 and 5 of LSQ+: the zero point's gradient is -s outside the range and 0 inside."""
    scale, zero = torch.tensor(0.5, requires_grad=True), torch.tensor(2.3, requires_grad=True)
    x = torch.tensor([-3.0, -1.0, -0.6, 0.1, 1.9, 6.5, 9.0], requires_grad=True)  # range -1 .. 6.5 for z = 2, p = 15
    up = torch.arange(1.0, 8.0)
    out = AffineQuant.apply(x, scale, zero, 15, 0.25)
    assert out.tolist() == [-1.0, -1.0, -0.5, 0.0, 2.0, 6.5, 6.5]
    (out * up).sum().backward()
    assert x.grad is not None
    assert zero.grad is not None
    assert scale.grad is not None
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0]
    assert float(zero.grad) == pytest.approx(-0.5 * (1 + 7) * 0.25)
    v = x.detach() / 0.5
    steps = torch.tensor([-2.0, -2.0, *(v[2:5].round() - v[2:5]).tolist(), 13.0, 13.0])
    assert float(scale.grad) == pytest.approx(float((steps * up).sum()) * 0.25)


def test_affine_activations_keep_a_silus_negative_side_and_train() -> None:
    x = F.silu(2 * torch.randn(64, 8, 4, 4, generator=torch.Generator().manual_seed(0)))
    errors = {}
    for kind in (StepActivation, AffineStepActivation):
        quant = kind(4, False, "mse")
        quant.observing = True
        quant(x)
        errors[kind] = float((quant(x).detach() - x).square().mean())
    assert errors[AffineStepActivation] < 0.5 * errors[StepActivation]
    assert len(quant(x).unique()) <= 16
    assert 0.0 in quant(x)
    assert all(moved(METHOD, "adam", activation_grid="affine"))


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
