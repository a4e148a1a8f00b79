"""DSG: slack bands, layerwise enhancement, reduction to ZeroQ (docs/methods/sources.md#invariant-5)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.interfaces import ModelHandle
from methods.sources._bn_taps import Stats
from methods.sources._dsg_slack import SlackObjective, enhancement, noise_statistics
from methods.sources._losses import Slack, image_gaps, slack_bands, sq_std_image, sq_std_slack
from methods.sources._objectives import Network
from methods.sources.dsg import METHOD
from tests.sources.test_losses import layout_of
from tests.sources.toy import GREY, Curves, context, fingerprint, request

SMALL: dict[str, Any] = {"batch": 8, "iterations": 4, "noise_images": 64}


def bands(width: float, taps: int = 2) -> Slack:
    return Slack(torch.full((taps,), width), torch.full((taps,), width))


def per_image(seed: int = 0) -> Stats:
    g = torch.Generator().manual_seed(seed)
    layout = layout_of([3, 5], torch.randn(8, generator=g), torch.rand(8, generator=g) + 0.2)
    counts = torch.tensor([64.0, 1.0])
    return Stats(torch.randn(6, 8, generator=g), torch.rand(6, 8, generator=g) + 0.2, counts, layout)


def test_no_slack_is_zeroq_and_more_slack_never_costs_more() -> None:
    stats = per_image()
    torch.testing.assert_close(sq_std_slack(stats, bands(0.0)), sq_std_image(stats))
    losses = [float(sq_std_slack(stats, bands(w))) for w in (0.0, 0.1, 0.5, 1.0, 9.0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[2] > losses[-1] == 0


def test_inside_the_bands_loss_and_gradient_are_zero_and_outside_they_are_not() -> None:
    s = per_image()
    mean = (s.layout.target_mean + torch.tensor([0.29, -0.29]).repeat(4)).repeat(2, 1).requires_grad_()
    var = s.layout.target_var.repeat(2, 1) * 63 / 64
    inside = sq_std_slack(Stats(mean, var, s.counts, s.layout), bands(0.3))
    (gradient,) = torch.autograd.grad(inside, mean)
    assert inside.item() == 0
    assert int(gradient.count_nonzero()) == 0
    outside = sq_std_slack(Stats(mean, var, s.counts, s.layout), bands(0.2))
    (gradient,) = torch.autograd.grad(outside, mean)
    assert outside.item() == pytest.approx(8 * 0.09**2, rel=1e-4)
    torch.testing.assert_close(gradient[0, :2], torch.tensor([0.09, -0.09]), rtol=1e-4, atol=1e-6)


def test_enhancement_rows_and_columns() -> None:
    weights = enhancement(12, 4)
    assert weights.sum(1).tolist() == [5.0] * 12
    assert weights.sum(0).tolist() == [15.0] * 4
    together = torch.cat([enhancement(6, 4, start) for start in (0, 6)])
    assert torch.equal(together, weights)


def test_weighted_loss_is_the_sum_of_layers_plus_each_images_own() -> None:
    s = per_image()
    weights = enhancement(6, 2)
    expected = torch.zeros(())
    for b in range(6):
        rows = Stats(s.mean[b : b + 1], s.var[b : b + 1], s.counts, s.layout)
        layers = [sq_std_slack(rows, bands(0.1), torch.eye(2)[j : j + 1]) for j in range(2)]
        expected = expected + sum(layers) + layers[b % 2]
    torch.testing.assert_close(sq_std_slack(s, bands(0.1), weights), expected / 6)


def test_bands_are_quantiles_of_the_distance_of_noise(zoo: tuple[ModelHandle, ...]) -> None:
    """Against a forward by hand; the bands differ from 0 and shrink with the quantile."""
    net = zoo[0].module
    network = Network(zoo[0], GREY, context(), "image")
    mean, var, layout = noise_statistics(network, GREY.shape, 200, torch.Generator().manual_seed(3))
    found = slack_bands(mean, var, layout, 0.9)
    g = torch.Generator().manual_seed(3)
    noise = torch.cat([torch.randn(n, *GREY.shape, generator=g) for n in (128, 72)])
    seen: list[Tensor] = []
    hook = net.bn1.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].clone()))  # type: ignore[union-attr]
    with torch.no_grad():
        net(noise)
    hook.remove()
    x, norm = seen[0], net.bn1
    delta = (x.mean((0, 2, 3)) - norm.running_mean).abs().quantile(0.9)  # type: ignore[union-attr,operator]
    sd = x.var((0, 2, 3), correction=0).sqrt()
    gamma = (sd - norm.running_var.sqrt()).abs().quantile(0.9)  # type: ignore[union-attr,operator]
    assert float(found.mean[0]) == pytest.approx(float(delta), rel=1e-3)
    assert float(found.deviation[0]) == pytest.approx(float(gamma), rel=1e-3)
    narrow = slack_bands(mean, var, layout, 0.1)
    assert bool((narrow.mean < found.mean).all())
    smallest = slack_bands(mean, var, layout, 0.0)
    assert float(smallest.mean.min()) > 0  # a 0-quantile is the smallest gap, not "no slack"


def test_without_slack_and_enhancement_it_is_zeroq_without_its_input_term(zoo: tuple[ModelHandle, ...]) -> None:
    plain = METHOD.synthesize_batch(request(METHOD, zoo[:1], slack=False, enhance=False, **SMALL), context(2))
    source = pytest.importorskip("methods.sources.zeroq").METHOD
    other = source.synthesize_batch(
        request(source, zoo[:1], input_term=False, iterations=4, batch=8, patience=9), context(2)
    )
    torch.testing.assert_close(plain.images, other.images, rtol=1e-4, atol=1e-4)


def test_batches_share_bands_and_differ_in_layers_and_images(zoo: tuple[ModelHandle, ...]) -> None:
    before = fingerprint(zoo[0].module)
    made = [METHOD.prepare(request(METHOD, zoo[:1], k, **{**SMALL, "batch": 7}), context(k)).objective for k in (0, 1)]
    first, second = made
    assert isinstance(first, SlackObjective)
    assert isinstance(second, SlackObjective)
    assert torch.equal(first.slack.mean, second.slack.mean)
    assert first.weights is not None
    assert second.weights is not None
    assert torch.equal(torch.cat([first.weights, second.weights]), enhancement(14, 2))
    runs = [METHOD.synthesize_batch(request(METHOD, zoo[:1], **SMALL), context(5)) for _ in range(2)]
    assert torch.equal(runs[0].images, runs[1].images)
    assert runs[0].labels is None
    assert runs[0].forward_equivalents == 8 * (2 * 4 + 1) + 64
    assert [len(runs[0].info[k]) for k in ("delta", "gamma")] == [2, 2]
    assert fingerprint(zoo[0].module) == before


@torch.no_grad()
def share_inside(objective: SlackObjective, images: Tensor) -> float:
    """Part of the gaps of mean and deviation, over images and channels, that lie within their layer's band."""
    stats = objective.network(images)[1]
    assert stats is not None
    slack, layer = objective.slack, stats.layout.segment
    pairs = zip(image_gaps(stats), (slack.mean, slack.deviation), strict=True)
    return float(torch.cat([(gap.abs() <= 1.02 * band[layer]).float() for gap, band in pairs]).mean())


def test_loss_falls_and_bands_are_reached(zoo: tuple[ModelHandle, ...]) -> None:
    curves = Curves()
    source = request(METHOD, zoo[:1], iterations=60, batch=16, quantile=0.2, noise_images=128)
    batch = METHOD.synthesize_batch(source, context(curves=curves))
    bn = [value for _, value in curves.points["bn"]]
    assert bn[-1] * 5 < bn[0]
    objective = METHOD.prepare(source, context()).objective
    assert isinstance(objective, SlackObjective)
    inside = [share_inside(objective, images) for images in (METHOD.prepare(source, context()).init, batch.images)]
    assert inside[0] < 0.5
    assert inside[1] > 0.8


def test_journal_adds_class_term_and_priors_but_hands_no_labels_on(zoo: tuple[ModelHandle, ...]) -> None:
    made = METHOD.synthesize_batch(request(METHOD, zoo[:1], journal=True, **SMALL), context())
    assert {"ce", "prior", "bn"} <= set(made.info["losses"])
    assert made.labels is None
    start = METHOD.prepare(request(METHOD, zoo[:1], journal=True, **SMALL), context()).init
    assert 0 <= float(start.min()) < float(start.max()) < 1
