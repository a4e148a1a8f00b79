"""Objectives and priors: exact zeros, closed forms, gradients (docs/methods/sources.md#invariant-1, #invariant-4,
#invariant-11)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from methods.sources import _losses as losses
from methods.sources._bn_taps import Layout, Stats, pooled, tapped
from methods.sources._settings import Prior
from tests.sources.toy import ToyNet


def layout_of(sizes: list[int], mean: Tensor, var: Tensor) -> Layout:
    count = len(sizes)
    return Layout(
        target_mean=mean,
        target_var=var,
        segment=torch.repeat_interleave(torch.arange(count), torch.tensor(sizes)),
        sizes=torch.tensor(sizes, dtype=torch.float32),
        weight=torch.ones(count),
        first=torch.tensor([1.0] + [0.0] * (count - 1)),
    )


def random_stats(seed: int, sizes: list[int] | None = None) -> Stats:
    sizes = sizes or [3, 5]
    g, k = torch.Generator().manual_seed(seed), sum(sizes)
    layout = layout_of(sizes, torch.randn(k, generator=g), torch.rand(k, generator=g) + 0.2)
    counts = torch.full((len(sizes),), 64.0)
    return Stats(torch.randn(k, generator=g), torch.rand(k, generator=g) + 0.2, counts, layout)


def matched(net: ToyNet, x: Tensor, *, unbiased: bool) -> None:
    """Set each layer's running statistics to those of its input, one layer after the other."""
    for norm, name in ((net.bn1, "bn1"), (net.bn2, "bn2")):
        seen: list[Tensor] = []
        hook = norm.register_forward_hook(lambda _, inputs, __, seen=seen: seen.append(inputs[0].clone()))
        with torch.no_grad():
            net.eval()(x)
        hook.remove()
        assert norm.running_mean is not None, name
        assert norm.running_var is not None, name
        norm.running_mean.copy_(seen[0].mean((0, 2, 3)))
        norm.running_var.copy_(seen[0].var((0, 2, 3), correction=int(unbiased)))


@pytest.mark.parametrize("name", losses.BN_OBJECTIVES)
def test_objective_is_zero_on_matching_statistics(name: str) -> None:
    net = ToyNet()
    objective = losses.BN_OBJECTIVES[name]
    batch = 1 if objective.scope == "image" else 6
    x = torch.randn(batch, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    matched(net, x, unbiased=name.startswith("sq_std"))
    model = tapped(net, scope=objective.scope)
    _, stats = model(x)
    assert stats is not None
    assert float(objective.loss(stats, 1.0)) < 1e-5
    _, other = model(x * 1.5)
    assert other is not None
    assert float(objective.loss(other, 1.0)) > 1e-3


def test_l2norm_is_the_sum_of_unsquared_norms() -> None:
    s = random_stats(0)
    dm, dv = (s.mean - s.layout.target_mean).split([3, 5]), (s.var - s.layout.target_var).split([3, 5])
    parts = [m.norm() + v.norm() for m, v in zip(dm, dv, strict=True)]
    torch.testing.assert_close(losses.l2norm(s), parts[0] + parts[1])
    torch.testing.assert_close(losses.l2norm(s, 10.0), 10 * parts[0] + parts[1])


def test_l2norm_has_gradient_zero_at_zero() -> None:
    s = random_stats(0)
    mean = s.layout.target_mean.clone().requires_grad_()
    losses.l2norm(Stats(mean, s.var, s.counts, s.layout)).backward()
    assert mean.grad is not None
    assert mean.grad.abs().max() == 0


def test_mse_var_and_gaussian_forms() -> None:
    s = random_stats(2)
    dm = (s.mean - s.layout.target_mean).square().split([3, 5])
    dv = (s.var - s.layout.target_var).square().split([3, 5])
    torch.testing.assert_close(losses.mse_var(s), sum(a.mean() + b.mean() for a, b in zip(dm, dv, strict=True)) / 2)
    sd = (s.var + 1e-6).sqrt() - (s.layout.target_var + 1e-6).sqrt()
    ds = sd.square().split([3, 5])
    torch.testing.assert_close(losses.mse_gauss(s), sum(a.mean() + b.mean() for a, b in zip(dm, ds, strict=True)))


def test_sq_std_image_in_both_conventions() -> None:
    base = random_stats(3, [2])
    mean, var = torch.tensor([[0.0, 1.0], [2.0, 0.5]]), torch.tensor([[1.0, 0.3], [0.2, 2.0]])
    s = Stats(mean, var, torch.tensor([16.0]), base.layout)
    sd = (var * 16 / 15 + 1e-6).sqrt() - (base.layout.target_var + 1e-6).sqrt()
    table = (mean - base.layout.target_mean).square() + sd.square()
    torch.testing.assert_close(losses.sq_std_image(s), table.sum() / 2)
    torch.testing.assert_close(losses.sq_std_image(s, per_channel=True), table.sum() / 2)
    wide = random_stats(3, [4])
    s4 = Stats(mean.repeat(1, 2), var.repeat(1, 2), torch.tensor([16.0]), wide.layout)
    assert float(losses.sq_std_image(s4, per_channel=True) / losses.sq_std_image(s4)) == pytest.approx(2 / 4)


def test_one_pixel_maps_are_matched_in_the_mean_only() -> None:
    base = random_stats(4, [2])
    mean = base.layout.target_mean.repeat(3, 1).requires_grad_()
    var = torch.zeros(3, 2, requires_grad=True)
    loss = losses.sq_std_image(Stats(mean, var, torch.tensor([1.0]), base.layout))
    loss.backward()
    assert loss.item() == 0
    assert var.grad is not None
    assert torch.isfinite(var.grad).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_kl_equals_torch_distributions_and_is_not_symmetric(seed: int) -> None:
    s = random_stats(seed, [6])
    eps = losses.EPS
    stored = Normal(s.layout.target_mean, (s.layout.target_var + eps).sqrt())
    measured = Normal(s.mean, (s.var + eps).sqrt())
    forward, backward = kl_divergence(stored, measured).mean(), kl_divergence(measured, stored).mean()
    torch.testing.assert_close(losses.kl(s), forward, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.kl_reverse(s), backward, rtol=1e-4, atol=1e-5)
    assert float(losses.kl(s)) >= 0
    assert abs(float(forward - backward)) > 1e-6


def test_kl_survives_dead_channels() -> None:
    s = random_stats(1)
    var = torch.zeros_like(s.var, requires_grad=True)
    stored = s.layout.target_var * 100
    dead = Stats(s.mean, var, s.counts, Layout(**{**s.layout.__dict__, "target_var": stored}))
    loss = losses.kl(dead)
    loss.backward()
    assert math.isfinite(float(loss))
    assert var.grad is not None
    assert torch.isfinite(var.grad).all()
    big = Stats(s.mean, var, s.counts, Layout(**{**s.layout.__dict__, "target_var": stored * 1e6}))
    assert float(losses.dead_channels(big)) == 8
    assert float(losses.dead_channels(s)) == 0


def test_pooled_image_statistics_equal_batch_statistics() -> None:
    net, x = ToyNet().eval(), torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    _, image = tapped(net, scope="image")(x)
    _, batch = tapped(net)(x)
    assert image is not None
    assert batch is not None
    torch.testing.assert_close(pooled(image).mean, batch.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pooled(image).var, batch.var, rtol=1e-5, atol=1e-6)


def test_input_statistics_vanish_on_standardised_images() -> None:
    x = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    x = (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True)
    assert float(losses.input_statistics(x)) < 1e-9
    assert float(losses.input_statistics(2 * x)) == pytest.approx(2.0, rel=1e-3)


def test_priors_on_simple_images() -> None:
    zero, constant = torch.zeros(2, 1, 8, 8), torch.full((2, 3, 8, 8), 0.7)
    assert float(losses.tv_l2(zero) + losses.l2(zero) + losses.tv_l1(zero)) == 0
    assert float(losses.tv_l2(constant) + losses.tv_l1(constant)) == 0
    assert float(losses.blur(constant)) < 1e-12
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(losses.tv_l2(torch.cat([x, x])), math.sqrt(2) * losses.tv_l2(x))
    torch.testing.assert_close(losses.tv_l2(torch.cat([x, x]), "rms"), losses.tv_l2(x, "rms"))
    assert float(losses.blur(x)) > 0.1
    torch.testing.assert_close(losses.l2(x), (x[0].norm() + x[1].norm()) / 2)


def test_tv_magnitude_of_noise_is_the_published_one() -> None:
    x = torch.randn(256, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert float(losses.tv_l2(x)) == pytest.approx(4.9e3, rel=0.02)


def test_prior_sums_weighted_terms_only() -> None:
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    prior = Prior(tv_l2=0.5, l2=2.0, blur=3.0, tv_l1=4.0)
    terms = 0.5 * losses.tv_l2(x) + 2 * losses.l2(x) + 3 * losses.blur(x) + 4 * losses.tv_l1(x)
    torch.testing.assert_close(losses.image_prior(x, prior), terms)
    assert float(losses.image_prior(x, Prior())) == 0


def test_jensen_shannon_bounds_symmetry_and_gradient() -> None:
    g = torch.Generator().manual_seed(0)
    p, q = torch.randn(4, 10, generator=g), torch.randn(4, 10, generator=g)
    torch.testing.assert_close(losses.jensen_shannon(p, q), losses.jensen_shannon(q, p))
    assert float(losses.jensen_shannon(p, p)) == pytest.approx(0, abs=1e-6)
    far = torch.tensor([[200.0, 0.0]])
    assert float(losses.jensen_shannon(far, far.flip(1))) == pytest.approx(1, abs=1e-5)
    flat = (0.01 * torch.randn(2, 1000, generator=g)).requires_grad_()
    losses.jensen_shannon(flat, torch.zeros(2, 1000)).backward()
    assert flat.grad is not None
    assert flat.grad.abs().max() > 0
    clamped = flat.detach().clone().requires_grad_()
    losses.jensen_shannon_code(clamped, torch.zeros(2, 1000)).backward()
    assert clamped.grad is not None
    assert clamped.grad.abs().max() == 0  # the reason why the true divergence is the default


def test_gaussian_kernel_is_normalised_and_symmetric() -> None:
    kernel = losses._gaussian(3, 3, 1.0)
    assert kernel.shape == (3, 1, 3, 3)
    torch.testing.assert_close(kernel.sum((1, 2, 3)), torch.ones(3))
    torch.testing.assert_close(kernel, kernel.flip(2).transpose(2, 3))
