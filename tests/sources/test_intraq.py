"""IntraQ: soft targets, distance band, groups (docs/methods/sources.md#invariant-14, #invariant-16)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.interfaces import ImageBatch, ModelHandle
from methods.sources._intraq_objective import Centres, Features, IntraqObjective, soft_targets
from methods.sources._losses import mse_var
from methods.sources._objectives import Network
from methods.sources.intraq import METHOD, IntraqParams
from tests.sources.toy import CLASSES, GREY, Curves, context, fingerprint, request

SMALL: dict[str, Any] = {"batch": 4, "groups": 2, "iterations": 4}


def made(zoo: tuple[ModelHandle, ...], index: int = 0, seed: int = 0, **params: Any) -> ImageBatch:
    return METHOD.synthesize_batch(request(METHOD, zoo[:1], index, **{**SMALL, **params}), context(seed))


def test_soft_targets_lie_in_their_range_and_half_are_one() -> None:
    t = soft_targets(4000, 0.6, torch.Generator().manual_seed(0))
    assert float(t.min()) >= 0.6
    assert float(t.max()) == 1
    assert abs(float((t == 1).float().mean()) - 0.5) < 0.03
    assert abs(float(t[t < 1].mean()) - 0.8) < 0.01
    assert bool((soft_targets(100, 1.0, torch.Generator().manual_seed(0)) == 1).all())


def test_without_centres_distances_cost_nothing() -> None:
    features = torch.randn(4, 3, requires_grad=True)
    labels = torch.arange(4)
    empty = Centres(CLASSES, torch.device("cpu"))
    assert [float(h) for h in empty.hinges(features, labels, (0.5, 0.6))] == [0, 0]
    empty.add(torch.randn(2, 3), torch.tensor([0, 0]))
    others = features[1:], labels[1:]
    assert [float(h) for h in empty.hinges(*others, (0.5, 0.6))] == [0, 0]


def test_hinges_average_over_images_whose_class_has_a_centre() -> None:
    centres = Centres(CLASSES, torch.device("cpu"))
    centres.add(torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 0, 1]))  # (1, 0) and (0, 5)
    features = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0], [-1.0, 0.0]])
    near, far = centres.hinges(features, torch.tensor([0, 0, 2, 1]), (0.25, 0.75))
    # distances 0, 1 and 1; the third image's class has no centre
    assert float(near) == pytest.approx(0.25 / 3)
    assert float(far) == pytest.approx((0.25 + 0.25) / 3)


def test_widest_band_never_costs() -> None:
    g = torch.Generator().manual_seed(0)
    centres = Centres(CLASSES, torch.device("cpu"))
    centres.add(torch.randn(8, 5, generator=g), torch.arange(8) % CLASSES)
    features = torch.randn(64, 5, generator=g)
    features = torch.cat([features, centres.sum, -centres.sum])  # type: ignore[operator,list-item]
    labels = torch.arange(len(features)) % CLASSES
    assert [float(h) for h in centres.hinges(features, labels, (0.0, 2.0))] == [0, 0]


def test_features_are_the_input_of_the_classifier(zoo: tuple[ModelHandle, ...]) -> None:
    network = Network(zoo[0], GREY, context())
    features = Features(network.taps.module)
    x = torch.randn(3, *GREY.shape, generator=torch.Generator().manual_seed(0))
    logits, _ = network(x)
    torch.testing.assert_close(zoo[0].module.fc(features.take()), logits)  # type: ignore[operator]


def test_objective_is_the_sum_of_its_terms(zoo: tuple[ModelHandle, ...]) -> None:
    source = request(METHOD, zoo[:1], batch=4, groups=2, crop=0.0, band=(0.4, 0.5))
    ctx = context()
    whole = METHOD.prepare(source, ctx)
    part = METHOD.group(whole, 1, source.params, ctx)
    assert isinstance(part.objective, IntraqObjective)
    assert part.labels is not None
    assert part.labels.tolist() == [0, 1, 2, 3]
    assert torch.equal(part.init, whole.init[4:])
    reference = Network(zoo[0], GREY, context())
    seen = Features(reference.taps.module)
    logits, stats = reference(part.init)
    mine = seen.take()
    assert stats is not None
    centres = Centres(CLASSES, torch.device("cpu"))
    centres.add(mine.flip(0), part.labels)
    part.objective.measure(Features(whole.networks[0].taps.module), centres)
    x = part.init.clone().requires_grad_()
    loss = part.objective.backward(x, 1, False)["loss"]
    p = logits.softmax(1)[torch.arange(4), part.labels]
    d = 1 - torch.nn.functional.cosine_similarity(mine, mine.flip(0))
    hinges = (0.4 - d).relu().mean() + (d - 0.5).relu().mean()
    assert float(hinges) > 0
    expected = mse_var(stats) + (p - part.objective.targets).square().mean() + hinges
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert all(param.grad is None for param in whole.networks[0].taps.module.parameters())


def test_groups_make_one_stored_batch_and_later_ones_see_earlier_ones(zoo: tuple[ModelHandle, ...]) -> None:
    curves, before = Curves(), fingerprint(zoo[0].module)
    tight = {"iterations": 30, "batch": 8, "band": (0.0, 0.0)}
    source = request(METHOD, zoo[:1], groups=3, **tight)
    assert METHOD.batch_size(source.params) == 24
    batch = METHOD.synthesize_batch(source, context(curves=curves))
    assert batch.images.shape == (24, *GREY.shape)
    assert batch.labels is not None
    assert torch.bincount(batch.labels).tolist() == [6] * CLASSES
    far = dict(curves.points["far"])
    assert sorted(far) == list(range(90))
    assert {far[step] for step in range(30)} == {0.0}
    assert far[30] > 0
    assert far[89] < far[60]  # the band of width 0 pulls features to their centres
    assert curves.reports[-1] == ("invert", 90, 90)
    assert len(batch.info["groups"]) == 3
    assert batch.forward_equivalents == 24 * (2 * 30 + 3)
    assert fingerprint(zoo[0].module) == before


def test_first_group_does_not_depend_on_how_many_follow(zoo: tuple[ModelHandle, ...]) -> None:
    """Start images are drawn for the whole stored batch, so the same first group needs the same stored size."""
    assert torch.equal(made(zoo).images, made(zoo).images)
    wide, narrow = (made(zoo, band=band).images for band in ((0.0, 2.0), (0.0, 0.0)))
    assert torch.equal(wide[:4], narrow[:4])
    assert not torch.equal(wide[4:], narrow[4:])
    assert not torch.equal(made(zoo).images, made(zoo, index=1, seed=1).images)


def test_statistics_fall_and_labels_are_hit(zoo: tuple[ModelHandle, ...]) -> None:
    curves = Curves()
    source = request(METHOD, zoo[:1], iterations=100, batch=16, groups=2)
    batch = METHOD.synthesize_batch(source, context(curves=curves))
    bn, target = ([value for _, value in curves.points[name]][:20] for name in ("bn", "target"))
    assert bn[-1] * 2 < bn[0]
    assert target[-1] * 2 < target[0]
    assert batch.labels is not None
    assert min(batch.info["top1"].values()) >= 85


@pytest.mark.parametrize(
    ("given", "waits"),
    [({"iterations": 400}, 50), ({"iterations": 2000}, 100), ({"iterations": 400, "patience": 7}, 7)],
)
def test_the_plateau_waits_for_the_noise_of_crops(given: dict[str, Any], waits: int) -> None:
    assert METHOD.settings(IntraqParams(**given)).patience == waits


@pytest.mark.parametrize("band", [(0.5, 0.2), (-0.1, 1.0), (0.0, 2.5)])
def test_impossible_bands_are_refused(band: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="band"):
        IntraqParams(band=band)


def test_crops_are_differentiable_per_image_and_keep_the_size() -> None:
    from methods.sources._augment import resized_crops

    g = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 1, 16).repeat(16, 1).expand(64, 1, 16, 16).clone().requires_grad_()
    out = resized_crops(ramp, 0.5, g)
    assert out.shape == ramp.shape
    slopes: Tensor = (out[:, 0, 8, 12] - out[:, 0, 8, 4]).detach() / (8 / 15)  # share of the width that is seen
    assert 0.6 < float(slopes.min()) < 0.75
    assert 0.95 < float(slopes.max()) <= 1.001
    assert 0.65 < float(slopes.square().mean()) < 0.8  # 0.75, less what sides longer than the image lose
    out.sum().backward()
    assert ramp.grad is not None
    same = resized_crops(ramp.detach(), 1.0, torch.Generator().manual_seed(1))
    assert bool(torch.isfinite(same).all())
