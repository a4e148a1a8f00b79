"""MMD²: the U-statistic by brute force, unbiasedness, growth under a shift, coverage of the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.measure.mmd import KERNELS, feature_mmd, features, kid_kernel, mmd, mmd2, rbf_kernel


def _sample(n: int, shift: float = 0.0, seed: int = 0, width: int = 6) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kernel", [rbf_kernel(2.0), kid_kernel])
def test_equals_the_double_sum(kernel: object) -> None:
    a, b = _sample(7, seed=1), _sample(9, 0.5, seed=2)

    def k(x: Tensor, y: Tensor) -> float:
        return float(kernel(x[None], y[None]))  # type: ignore[operator]

    within = [np.mean([k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (a, b)]
    cross = np.mean([k(x, y) for x in a for y in b])
    assert mmd2(kernel, a, b) == pytest.approx(within[0] + within[1] - 2 * cross)  # type: ignore[arg-type]


def test_unbiased_and_not_clamped() -> None:
    values = [mmd2(rbf_kernel(3.0), _sample(20, seed=2 * s), _sample(20, seed=2 * s + 1)) for s in range(200)]
    assert min(values) < 0
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_grows_with_a_mean_shift() -> None:
    real = _sample(120, seed=5)
    found = [feature_mmd(_sample(120, shift, seed=6), real, _generator(), draws=50) for shift in (0.0, 0.3, 1.0)]
    for kernel in KERNELS:
        values = [f[kernel].value for f in found]
        assert values == sorted(values)
        assert found[2][kernel].low > found[2][kernel].floor
        assert found[2][kernel].low <= found[2][kernel].value <= found[2][kernel].high


def test_interval_of_two_halves_covers_zero() -> None:
    covered = dict.fromkeys(KERNELS, 0)
    trials = 60
    for seed in range(trials):
        whole = _sample(80, seed=100 + seed)
        for name, found in feature_mmd(whole[:40], whole[40:], _generator(seed), draws=200).items():
            covered[name] += found.low <= 0 <= found.high
    assert min(covered.values()) >= 0.9 * trials


def test_invariant_to_scale_and_dead_features() -> None:
    real, made = _sample(60, seed=7), _sample(50, 0.4, seed=8)
    plain = feature_mmd(made, real, _generator(), draws=20)
    stretch = torch.tensor([1.0, 10, 100, 0.1, 3, 7], dtype=torch.float64)
    scaled = feature_mmd(made * stretch + 5, real * stretch + 5, _generator(), draws=20)
    dead = torch.full((60, 1), 2.0, dtype=torch.float64)
    with_dead = feature_mmd(torch.cat([made, dead[:50]], 1), torch.cat([real, dead], 1), _generator(), draws=20)
    for kernel in KERNELS:
        assert scaled[kernel].value == pytest.approx(plain[kernel].value, rel=1e-6)
        assert with_dead[kernel].value == pytest.approx(plain[kernel].value, rel=1e-6)


def _net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))


def test_features_are_the_input_of_the_last_weighted_layer() -> None:
    net, images = _net(0), torch.randn(10, 1, 8, 8)
    found = features(net, images, batch=3)
    torch.testing.assert_close(found, net[:4](images).double(), rtol=1e-5, atol=1e-6)
    head = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 3, 1))  # a 1x1 classifier sees maps
    torch.testing.assert_close(features(head, images), head[:2](images).mean((2, 3)).double(), rtol=1e-5, atol=1e-6)
    assert not any(part._forward_pre_hooks for part in net.modules())
    with pytest.raises(ValueError, match="weighted"):
        features(nn.ReLU(), images)


def test_report_over_networks() -> None:
    generator = _generator(3)
    real = torch.randn(40, 1, 8, 8, generator=generator)
    made = torch.randn(30, 1, 8, 8, generator=generator) * 2
    models = {"a": _net(1), "b": _net(2)}
    found = mmd(models, made, real, generator=_generator(), draws=30)
    assert set(found.per_model) == {"a", "b"}
    for kernel in KERNELS:
        values = [found.per_model[name][kernel].value for name in models]
        assert found.mean[kernel] == pytest.approx(np.mean(values))
    assert (found.per_model["a"]["kid"].n, found.per_model["a"]["kid"].m) == (30, 40)
    again = mmd(models, made, real, generator=_generator(), draws=30)
    assert again == found
    with pytest.raises(ValueError, match="two held-out"):
        mmd({"a": models["a"]}, made, real, generator=_generator())
