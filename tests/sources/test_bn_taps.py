"""Taps: fused equals hooks in values and gradients; what is tapped; networks stay as they were
(docs/methods/sources.md#invariant-2, #invariant-3)."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from methods.sources import _bn_taps, _tap_function
from methods.sources._bn_taps import TappedModel, bn_layers, frozen, hooked, tapped
from methods.sources._tap_function import Scope, tensor_stats
from tests.sources.toy import ToyNet, fingerprint, randomised


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 1.5 + 0.3


def loss_and_grad(model: TappedModel, x: torch.Tensor, parts: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Outputs, and the gradient of a loss over logits ("y"), means ("m") and variances ("v")."""
    leaf = x.clone().requires_grad_()
    logits, stats = model(leaf)
    assert stats is not None
    weights = torch.linspace(-1, 1, stats.mean.shape[-1])
    terms = {"y": logits.square().mean(), "m": (stats.mean * weights).sum(), "v": (stats.var * weights).sum()}
    (grad,) = torch.autograd.grad(sum(terms[p] for p in parts), leaf)
    return [logits.detach(), stats.mean.detach(), stats.var.detach()], grad


@pytest.mark.parametrize("scope", ["batch", "image"])
@pytest.mark.parametrize("parts", ["y", "m", "v", "ymv"])
def test_fused_taps_equal_hooks(scope: Scope, parts: str) -> None:
    net, x = randomised(ToyNet(channels=3)), draw(6, 3, 16, 16)
    got, grad = loss_and_grad(tapped(net, scope=scope), x, parts)
    with hooked(net, scope=scope) as reference:
        expected, expected_grad = loss_and_grad(reference, x, parts)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18", "densenet121", "mobilenetv3_small_050", "regnetx_002"])
def test_fused_taps_equal_hooks_on_timm(name: str) -> None:
    """BatchNormAct2d keeps its activation; concatenations and squeeze-excite see the same values."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = randomised(timm.create_model(name, num_classes=4))
    x = draw(2, 3, 64, 64)
    fused = tapped(net)
    got, grad = loss_and_grad(fused, x, "ymv")
    assert not any(isinstance(layer.tap, _bn_taps._HookTap) for layer in fused.layers)
    with hooked(net) as reference:
        expected, expected_grad = loss_and_grad(reference, x, "ymv")
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))
    # A ReLU whose input is within rounding of 0 may switch, so not pixel by pixel; 121 layers pass it on.
    assert float((grad - expected_grad).norm() / expected_grad.norm()) < 5e-3


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (7, 3), (2, 4, 1, 1), (3, 1, 6, 6)])
def test_statistics_of_any_layout(shape: tuple[int, ...], channels_last: bool) -> None:
    x = draw(*shape) + 20.0  # a large mean: a one-pass sum of squares would lose the variance
    if channels_last and len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    dims = [0, *range(2, len(shape))]
    mean, var = tensor_stats(x, "batch")
    torch.testing.assert_close(mean.double(), x.double().mean(dims), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(var.double(), x.double().var(dims, correction=0), rtol=1e-4, atol=1e-6)


def test_function_passes_gradcheck() -> None:
    x = draw(3, 2, 3, 3).double().requires_grad_()
    scale, shift = torch.tensor([0.7, -1.3]).double(), torch.tensor([0.1, 0.4]).double()
    for memory_format in (torch.contiguous_format, torch.channels_last):

        def function(t: torch.Tensor, fmt: torch.memory_format = memory_format) -> torch.Tensor:
            return _tap_function.TapFunction.apply(t.contiguous(memory_format=fmt), scale, shift, "batch")[0]

        assert torch.autograd.gradcheck(function, (x,))


def test_taps_are_the_tensors_that_enter_the_norms() -> None:
    net, x = randomised(ToyNet()), draw(4, 1, 16, 16)
    first = F.conv2d(x, net.conv1.weight, padding=1)
    second = net.conv2(torch.relu(net.bn1(first)))
    _, stats = tapped(net)(x)
    assert stats is not None
    expected = torch.cat([t.mean((0, 2, 3)) for t in (first, second)])
    torch.testing.assert_close(stats.mean, expected, rtol=1e-5, atol=1e-6)
    assert stats.counts.tolist() == [4 * 256, 4 * 64]


def test_running_variance_is_the_unbiased_one() -> None:
    net, x = ToyNet(), draw(4, 1, 16, 16)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 1.0
    _, stats = tapped(net)(x)
    assert stats is not None
    with torch.no_grad():
        net.train()(x)
    n = 4 * 16 * 16
    torch.testing.assert_close(net.bn1.running_var / stats.var[:8], torch.full((8,), n / (n - 1)), rtol=1e-4, atol=0)


def test_network_without_norms_after_depthwise_has_fewer_taps() -> None:
    pointwise = [nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12)]
    net = randomised(nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), *pointwise, nn.Flatten()))
    model = tapped(net)
    _, stats = model(draw(2, 1, 8, 8))
    assert stats is not None
    assert len(model.layers) == stats.layout.taps == 2


def test_norms_without_statistics_are_skipped_and_counted() -> None:
    net = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1, track_running_stats=False)).eval()
    model = tapped(net)
    _, stats = model(draw(2, 1, 4, 4))
    assert stats is not None
    assert (model.skipped, stats.layout.taps) == (1, 1)


def test_norm_used_twice_gives_two_taps_of_half_weight() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bn(self.bn(x) * 2)  # type: ignore[no-any-return]

    _, stats = tapped(randomised(Twice()))(draw(3, 2, 4, 4))
    assert stats is not None
    assert stats.layout.weight.tolist() == [0.5, 0.5]
    assert not torch.equal(stats.mean[:2], stats.mean[2:])


def test_unknown_subclass_keeps_its_forward() -> None:
    class Shifted(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 1.0

    net, x = randomised(nn.Sequential(Shifted(2))), draw(3, 2, 4, 4)
    logits, stats = tapped(net)(x)
    assert stats is not None
    torch.testing.assert_close(logits, net(x))
    torch.testing.assert_close(stats.mean, x.mean((0, 2, 3)))


def test_taps_leave_the_network_alone() -> None:
    net = ToyNet().train()
    net.fc.requires_grad_(False)
    before, flags = fingerprint(net), [p.requires_grad for p in net.parameters()]
    modules = [type(m) for m in net.modules()]
    tapped(net)(draw(2, 1, 16, 16))
    with hooked(net) as model:
        assert not net.training
        model(draw(2, 1, 16, 16))
    with pytest.raises(RuntimeError), hooked(net) as model:
        model(draw(2, 5, 16, 16))  # a channel count that does not fit
    assert fingerprint(net) == before
    assert [p.requires_grad for p in net.parameters()] == flags
    assert [type(m) for m in net.modules()] == modules
    assert all(m.training for m in net.modules())
    assert not any(m._forward_hooks for m in net.modules())


def test_frozen_restores_mixed_flags() -> None:
    net = ToyNet().train()
    net.bn1.eval()
    with frozen([net]):
        assert not any(p.requires_grad for p in net.parameters())
    assert (net.training, net.bn1.training, net.bn2.training) == (True, False, True)


def test_copy_has_no_trainable_parameter() -> None:
    model = tapped(copy.deepcopy(ToyNet()))
    assert len(bn_layers(model.module)) == 0
    assert not any(p.requires_grad for p in model.module.parameters())
