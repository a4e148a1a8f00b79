"""Every source: contract, isolation, determinism, and that it optimises (spec 5.2, 5.3, 5.9, 5.16, 5.17)."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
import torch

from bench.errors import NotApplicable
from bench.interfaces import ImageBatch, ModelHandle
from methods.sources._augment import PixelSpace
from methods.sources._bn_taps import tapped
from methods.sources._losses import l2norm
from methods.sources._objectives import draw_labels
from tests.sources.toy import (
    CLASSES,
    COLOUR,
    GREY,
    Curves,
    NoNorm,
    ToyData,
    ToyNet,
    context,
    fingerprint,
    handle,
    randomised,
    request,
)

NAMES = ("real", "noise", "ood", "deepdream", "zeroq", "kw", "deepinversion", "mixmix")
INVERSIONS = NAMES[3:]
TIERS = {"real": "T5", "noise": "T1", "ood": "T3", "mixmix": "T2b"}


def method(name: str) -> Any:
    return importlib.import_module(f"methods.sources.{name}").METHOD


def short(name: str) -> dict[str, Any]:
    """Parameters for a run of a few iterations."""
    return {"batch": 8, **({"iterations": 4} if name in INVERSIONS else {})}


def batch_of(name: str, models: tuple[ModelHandle, ...], index: int = 0, seed: int = 0, **params: Any) -> ImageBatch:
    source = method(name)
    made: ImageBatch = source.synthesize_batch(
        request(source, models, index, **{**short(name), **params}), context(seed)
    )
    return made


@pytest.mark.parametrize("name", NAMES)
def test_declares_what_the_suite_needs(name: str) -> None:
    source = method(name)
    assert source.version == 2
    assert source.summary
    assert source.paper
    assert source.access == TIERS.get(name, "T2a")
    assert source.control == {"real": "upper", "noise": "lower"}.get(name, "none")
    assert source.models == ("none" if name in NAMES[:3] else "zoo" if name == "mixmix" else "one")
    for preset in ("mini", "thorough", "paper"):
        values = source.Params.model_validate_json(json.dumps(source.presets[preset]), strict=True)
        assert source.batch_size(values) >= 1
    with pytest.raises(ValueError, match="extra"):
        source.Params(no_such_switch=1)
    with pytest.raises(ValueError, match="greater"):
        source.Params(batch=0)


def test_mini_is_what_the_issue_asks_for() -> None:
    wanted = {"zeroq": 200, "kw": 400, "deepinversion": 400, "deepdream": 200, "mixmix": 400}
    minis = {name: method(name).Params(**method(name).presets["mini"]) for name in wanted}
    assert {name: p.iterations for name, p in minis.items()} == wanted
    assert (minis["mixmix"].batch, minis["mixmix"].mix) == (32, 3)
    assert minis["mixmix"].resolved_alpha_lr() == pytest.approx(1e-3 / (400 / 5000))


@pytest.mark.parametrize("name", NAMES)
def test_batch_is_sound_and_networks_stay_as_they_were(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    before = [fingerprint(h.module) for h in zoo]
    flags = [[p.requires_grad for p in h.module.parameters()] for h in zoo]
    batch = batch_of(name, zoo)
    assert batch.images.shape == (8, *GREY.shape)
    assert batch.images.dtype == torch.float32
    assert bool(torch.isfinite(batch.images).all())
    json.dumps(dict(batch.info), allow_nan=False)
    if method(name).label_kind in ("native", "assigned"):
        assert batch.labels is not None
        assert batch.labels.dtype == torch.int64
        assert batch.labels.shape == (8,)
    else:
        assert batch.labels is None
    assert [fingerprint(h.module) for h in zoo] == before
    assert [[p.requires_grad for p in h.module.parameters()] for h in zoo] == flags
    assert all(p.grad is None for h in zoo for p in h.module.parameters())
    assert not any(m._forward_hooks or m.training for h in zoo for m in h.module.modules())


@pytest.mark.parametrize("name", NAMES)
def test_same_request_same_bits_and_other_seed_other_images(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    first, again = batch_of(name, zoo, seed=3), batch_of(name, zoo, seed=3)
    assert torch.equal(first.images, again.images)
    assert dict(first.info) == dict(again.info)
    if name not in ("real", "ood"):  # those follow the set's seed, not the batch's
        assert not torch.equal(first.images, batch_of(name, zoo, seed=4).images)


@pytest.mark.parametrize("name", ["real", "ood"])
def test_data_batches_partition_one_permutation(name: str) -> None:
    batches = [batch_of(name, (), index, seed=index) for index in range(3)]
    together = torch.cat([b.images for b in batches])
    assert len(torch.unique(together.flatten(1), dim=0)) == 24
    larger = batch_of(name, (), 0, batch=24)
    assert torch.equal(larger.images, together)


def test_real_is_balanced_at_every_multiple_of_the_classes() -> None:
    labels = batch_of("real", (), 1).labels
    assert labels is not None
    for start in range(0, 8, CLASSES):
        assert sorted(labels[start : start + CLASSES].tolist()) == list(range(CLASSES))


@pytest.mark.parametrize("name", NAMES)
def test_only_data_sources_read_data(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    source, data = method(name), ToyData()
    source.synthesize_batch(request(source, zoo, **short(name)), context(data=data))
    assert data.reads == {"real": ["train"], "ood": ["unrelated"]}.get(name, [])


def test_noise_has_the_moments_it_claims() -> None:
    images = batch_of("noise", (), batch=512).images
    n = images.numel()
    assert abs(float(images.mean())) < 5 / n**0.5
    assert abs(float(images.std()) - 1) < 5 / (2 * n) ** 0.5
    space = PixelSpace.of(GREY)
    pixels = space.denormalise(batch_of("noise", (), batch=64, law="uniform_pixel").images)
    assert 0 <= float(pixels.min()) < 0.01 < 0.99 < float(pixels.max()) <= 1
    low, high = space.box(images)
    clipped = batch_of("noise", (), batch=64, clip=True).images
    assert bool(((clipped >= low) & (clipped <= high)).all())


@pytest.mark.parametrize("name", ["zeroq", "kw", "deepinversion", "mixmix"])
def test_network_without_batch_norm_is_not_applicable(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    source = method(name)
    bare = handle(NoNorm().eval(), "plain")
    with pytest.raises(NotApplicable, match="plain has no batch norm"):
        source.check(source.Params(), (bare, *zoo))
    source.check(source.Params(), zoo)
    with pytest.raises(NotApplicable, match="no network"):
        source.check(source.Params(), ())


def test_deepdream_needs_no_batch_norm() -> None:
    bare = handle(NoNorm().eval(), "plain")
    method("deepdream").check(method("deepdream").Params(), (bare,))
    batch = batch_of("deepdream", (bare,), iterations=10)
    assert batch.info["clean_bn"] == {}


def test_labels_are_balanced_over_batches_or_uniform() -> None:
    g = torch.Generator().manual_seed(0)
    run = torch.cat([draw_labels("balanced", 6, 4, k, g) for k in range(4)])
    assert torch.bincount(run).tolist() == [6, 6, 6, 6]
    assert run[:8].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    drawn = draw_labels("uniform", 4000, 4, 0, g)
    assert float(torch.bincount(drawn).float().std()) < 100
    assert not torch.equal(drawn, draw_labels("uniform", 4000, 4, 0, g))


@pytest.mark.parametrize("name", [*INVERSIONS, "dsg"])
def test_gradient_goes_to_the_pixels_only(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    source = method(name)
    prepared = source.prepare(request(source, zoo, **short(name)), context())
    x = prepared.init.clone().requires_grad_()
    prepared.objective.backward(x, 1, True)
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert float(x.grad.abs().sum()) > 0
    assert all(p.grad is None for n in prepared.networks for p in n.taps.module.parameters())


@pytest.mark.parametrize("name", [n for n in INVERSIONS if n != "zeroq"])
def test_images_lie_in_the_box(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    images = batch_of(name, zoo, lr=2.0, iterations=6).images
    low, high = PixelSpace.of(GREY).box(images)
    assert bool(((images >= low) & (images <= high)).all())


@pytest.mark.parametrize("name", INVERSIONS)
def test_three_channels_and_half_size(name: str) -> None:
    models = tuple(handle(randomised(ToyNet(channels=3), s), f"n{s}", COLOUR) for s in range(3))
    source = method(name)
    params = {**short(name), "half_iterations": 2}
    batch = source.synthesize_batch(request(source, models, dataset=COLOUR, **params), context())
    assert batch.images.shape == (8, *COLOUR.shape)
    assert batch.info["iterations"] == {"1/2": 2, "1/1": 2}
    networks = 3 if name == "mixmix" else 1
    assert batch.forward_equivalents == 8 * networks * (2 * 2 / 4 + 2 * 2 + 1)


def test_network_of_fixed_size_sees_enlarged_half_views() -> None:
    net = ToyNet()
    net.fc = torch.nn.Linear(16 * 4, CLASSES)
    flat = torch.nn.Sequential(net.conv1, net.bn1, torch.nn.Flatten(), torch.nn.Linear(8 * 256, CLASSES)).eval()
    batch = batch_of("kw", (handle(flat, "flat"),), half_iterations=2)
    assert batch.info["enlarged_half_views"] == ["flat"]
    assert batch.forward_equivalents == 8 * (2 * 4 + 1)


def test_network_with_other_constants_is_fed_renormalised_images() -> None:
    from methods.sources._objectives import Network

    net = randomised(ToyNet())
    other = ModelHandle("other", net, "x", "toy", "toy", 1, "toy", (0.1,), (0.5,))
    pixels = torch.rand(3, 1, 16, 16)
    logits, _ = Network(other, GREY, context())(PixelSpace.of(GREY).normalise(pixels))
    torch.testing.assert_close(logits, net(PixelSpace((0.1,), (0.5,)).normalise(pixels)), rtol=1e-4, atol=1e-4)


def test_zeroq_variants(zoo: tuple[ModelHandle, ...]) -> None:
    source = method("zeroq")
    start = source.prepare(request(source, zoo, init="code", batch=64), context()).init
    assert float(start.std()) == pytest.approx(0.0136, rel=0.02)
    recon = source.prepare(request(source, zoo, recon=True), context()).settings
    assert (recon.lr, recon.stop_below) == (0.1, 15.0)
    assert source.settings(source.Params()).patience == 100


def test_adaptive_inversion_uses_the_student(zoo: tuple[ModelHandle, ...]) -> None:
    source = method("deepinversion")
    plain = request(source, zoo[:1], adaptive=0.5, **short("deepinversion"))
    rival = type(plain)(**{**plain.__dict__, "student": zoo[1]})
    alone, against = (source.synthesize_batch(r, context()) for r in (plain, rival))
    assert (alone.info["student"], against.info["student"]) == (None, "toy8")
    assert not torch.equal(alone.images, against.images)
    assert 0 < against.info["losses"]["competition"] <= 0.5
    assert against.forward_equivalents == alone.forward_equivalents + 8 * 2 * 4


def noise_and_result(models: tuple[ModelHandle, ...], batch: ImageBatch) -> tuple[float, float]:
    """Sum over the networks of the BN loss of N(0,1) images and of the batch."""
    noise = torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(9))
    totals = []
    for images in (noise, batch.images):
        stats = [tapped(h.module)(images)[1] for h in models]
        totals.append(sum(float(l2norm(s)) for s in stats if s is not None))
    return totals[0], totals[1]


@pytest.mark.parametrize("name", ["zeroq", "kw", "deepinversion", "mixmix"])
def test_inversion_halves_the_bn_loss_and_hits_its_labels(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    source, curves = method(name), Curves()
    models = zoo if name == "mixmix" else zoo[:1]
    params = request(source, models, iterations=100, batch=32, **({"lr": 0.1} if name == "deepinversion" else {}))
    batch = source.synthesize_batch(params, context(curves=curves))
    before, after = noise_and_result(models, batch)
    assert after * 2 <= before
    bn = [value for _, value in curves.points["bn"]]
    assert bn[-1] < bn[0]
    if batch.labels is not None:
        assert min(batch.info["top1"].values()) >= 90
