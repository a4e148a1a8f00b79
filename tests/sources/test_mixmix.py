"""MixMix: mixed labels, feature mixing, learned loss weights (docs/methods/sources.md#invariant-6, #invariant-7,
#invariant-8)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.errors import NotApplicable
from bench.interfaces import ModelHandle
from methods.sources._augment import Augment, Mixed, PixelSpace
from methods.sources._losses import image_prior, l2norm
from methods.sources._mixing import LossWeights, Targets
from methods.sources._mixmix_objective import MixMixObjective
from methods.sources._objectives import Network
from methods.sources.mixmix import METHOD, MixMixParams
from tests.sources.toy import GREY, ToyNet, context, halves_bn_loss, handle, randomised, request

PLAIN = {"flip": False, "jitter": 0.0, "data_mixing": False, "tv": 0.0, "l2": 0.0}


def objective(models: tuple[ModelHandle, ...], **params: object) -> MixMixObjective:
    ctx = context(5)
    networks = [Network(h, GREY, ctx) for h in models]
    values = MixMixParams.model_validate({"batch": 8, **params})
    augment = Augment(PixelSpace.of(GREY), flip=values.flip, jitter=values.jitter)
    return MixMixObjective(networks, torch.arange(8) % 4, values, augment, ctx.generator)


def gradient(made: MixMixObjective, x: Tensor) -> tuple[Tensor, float]:
    leaf = x.clone().requires_grad_()
    loss = made.backward(leaf, 1, False)["loss"]
    assert leaf.grad is not None
    return leaf.grad, float(loss)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_mixed_cross_entropy() -> None:
    g = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(4, 5, generator=g), torch.tensor([0, 1, 2, 3])
    partner = torch.tensor([1, 2, 3, 0])

    def loss(labels: Tensor, beta: float) -> float:
        mixed = Mixed(torch.zeros(4), partner, torch.full((4,), beta), ())
        return float(Targets.of(labels, mixed).loss(logits))

    host, guest = F.cross_entropy(logits, labels), F.cross_entropy(logits, labels[partner])
    assert loss(labels, 0.1) == pytest.approx(float(0.9 * host + 0.1 * guest), rel=1e-5)
    assert loss(labels, 0.0) == pytest.approx(float(host), rel=1e-6)
    same = torch.full((4,), 2)
    assert loss(same, 0.3) == pytest.approx(float(F.cross_entropy(logits, same)), rel=1e-6)
    assert float(Targets.of(labels, None).loss(logits)) == pytest.approx(float(host))


def test_one_network_is_the_plain_objective(zoo: tuple[ModelHandle, ...], x: Tensor) -> None:
    grad, loss = gradient(objective(zoo[:1], mix=1, weights="fixed", bn_weight=0.3, ce_weight=2.0, **PLAIN), x)
    leaf = x.clone().requires_grad_()
    logits, stats = Network(zoo[0], GREY, context())(leaf)
    assert stats is not None
    expected = 2.0 * F.cross_entropy(logits, torch.arange(8) % 4) + 0.3 * l2norm(stats)
    expected.backward()
    assert loss == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(grad, leaf.grad)


@pytest.mark.parametrize("weights", ["fixed", "learned"])
def test_order_of_networks_does_not_matter(zoo: tuple[ModelHandle, ...], x: Tensor, weights: str) -> None:
    made = [gradient(objective(m, weights=weights, **PLAIN), x) for m in (zoo, zoo[::-1])]
    torch.testing.assert_close(made[0][0], made[1][0], rtol=1e-4, atol=1e-7)
    assert made[0][1] == pytest.approx(made[1][1], rel=1e-5)


def test_identical_networks_equal_one(zoo: tuple[ModelHandle, ...], x: Tensor) -> None:
    three, _ = gradient(objective((zoo[0],) * 3, weights="fixed", **PLAIN), x)
    one, _ = gradient(objective(zoo[:1], mix=1, weights="fixed", **PLAIN), x)
    torch.testing.assert_close(three, one, rtol=1e-4, atol=1e-7)


def test_accumulated_gradient_is_the_joint_one(zoo: tuple[ModelHandle, ...], x: Tensor) -> None:
    """One network in memory at a time, with mixing, colour and prior, gives the gradient of the whole sum."""
    made = objective(zoo, weights="fixed", bn_weight=0.2, tv=0.01)
    grad, loss = gradient(made, x)
    joint = objective(zoo, weights="fixed", bn_weight=0.2, tv=0.01)
    leaf = x.clone().requires_grad_()
    mixed = joint._mixed(joint.augment(leaf, joint.generator, 1))
    assert mixed is not None
    targets, total = Targets.of(joint.labels, mixed), image_prior(leaf, joint.prior)
    for network in joint.networks:
        logits, stats = network(mixed.images)
        assert stats is not None
        total = total + (targets.loss(logits) + 0.2 * l2norm(stats)) / 3
    total.backward()
    assert loss == pytest.approx(float(total), rel=1e-5)
    torch.testing.assert_close(grad, leaf.grad, rtol=1e-5, atol=1e-7)


def test_subset_is_distinct_drawn_per_batch_and_recorded() -> None:
    models = tuple(handle(randomised(ToyNet(4), s), f"n{s}") for s in range(6))
    seen = set()
    for seed in range(12):
        prepared = METHOD.prepare(request(METHOD, models, batch=4, mix=3), context(seed))
        names = tuple(n.name for n in prepared.networks)
        assert len(set(names)) == 3
        seen.update(names)
    assert len(seen) == 6
    batch = METHOD.synthesize_batch(request(METHOD, models, batch=4, mix=2, iterations=2), context())
    assert len(batch.info["models"]) == 2
    for key in ("alphas", "clean_bn", "top1"):
        assert set(batch.info[key]) == set(batch.info["models"])


def test_too_small_a_zoo_is_not_applicable(zoo: tuple[ModelHandle, ...]) -> None:
    with pytest.raises(NotApplicable, match="mix=4 networks per batch, but the zoo has 3"):
        METHOD.check(MixMixParams(mix=4), zoo)


def test_first_iteration_of_learned_weights(zoo: tuple[ModelHandle, ...], x: Tensor) -> None:
    made = objective(zoo, **PLAIN)
    _, loss = gradient(made, x)
    assert loss == pytest.approx(2 * 6 / 3, rel=1e-5)  # every term 1/1 + 1, averaged over three networks
    assert made.weights is not None
    assert made.weights.alpha.grad is not None
    assert float(made.weights.alpha.grad.abs().max()) < 1e-5


def test_constant_term_drives_its_weight_to_the_fourth_root() -> None:
    weights = LossWeights(1, 1e-3, torch.device("cpu"))
    weights(0, torch.tensor(1.0))
    for _ in range(3000):
        weights(0, torch.tensor(0.07)).backward()
        weights.step()
    assert float(weights.alpha) == pytest.approx(0.5144, abs=2e-3)


def test_scale_of_a_raw_term_changes_nothing() -> None:
    values = {}
    for scale in (1.0, 1000.0):
        weights = LossWeights(1, 0.01, torch.device("cpu"))
        for step in range(20):
            value = weights(0, torch.tensor(scale / (step + 1)))
            value.backward()
            weights.step()
        values[scale] = (float(value.detach()), float(weights.alpha))
    assert values[1.0] == pytest.approx(values[1000.0], rel=1e-5)


def test_weights_stay_above_their_floor_and_reset() -> None:
    weights = LossWeights(2, 0.5, torch.device("cpu"))
    weights(0, torch.tensor(1.0))
    for _ in range(10):
        weights(0, torch.tensor(1e-6)).backward()
        weights.step()
    assert float(weights.alpha[0]) == pytest.approx(0.05)
    weights.reset()
    assert weights.alpha.tolist() == [1.0, 1.0]
    assert weights.first == {}


def test_switches_reach_the_record(zoo: tuple[ModelHandle, ...]) -> None:
    def made(**params: object) -> dict[str, object]:
        r = request(METHOD, zoo, batch=4, iterations=3, **params)
        return dict(METHOD.synthesize_batch(r, context()).info)

    ce_only = made(bn=False)
    assert "bn" not in ce_only["losses"]  # type: ignore[operator]
    assert all(set(a) == {"ce"} for a in ce_only["alphas"].values())  # type: ignore[attr-defined]
    assert made(weights="fixed")["alphas"] == {}
    assert "prior" in made(learn_prior=True)["alphas"]  # type: ignore[operator]
    assert "prior" not in made(tv=0.0, l2=0.0)["losses"]  # type: ignore[operator]


@pytest.mark.parametrize("params", [{"per_sample": True}, {"antialias": True}, {"roll": 2}, {"tv_norm": "rms"}])
def test_switches_change_the_images(zoo: tuple[ModelHandle, ...], params: dict[str, object]) -> None:
    images = [
        METHOD.synthesize_batch(request(METHOD, zoo, batch=4, iterations=3, **p), context()).images
        for p in ({}, params)
    ]
    assert not torch.equal(*images)


@pytest.mark.parametrize(
    "bad", [{"box": (0.5, 0.2)}, {"box": (0.0, 0.4)}, {"batch": 1}, {"learn_prior": True, "weights": "fixed"}]
)
def test_impossible_parameters_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        MixMixParams.model_validate(bad)


def test_it_halves_the_bn_loss_of_all_and_hits_its_labels(zoo: tuple[ModelHandle, ...]) -> None:
    halves_bn_loss(METHOD, zoo)


def test_mini_is_what_the_specification_asks_for() -> None:
    mini = MixMixParams(**METHOD.presets["mini"])
    assert METHOD.access == "T2b"
    assert (mini.iterations, mini.batch, mini.mix) == (400, 32, 3)
    assert mini.resolved_alpha_lr() == pytest.approx(1e-3 / (400 / 5000))


def test_labels_are_sampled_by_default_or_balanced_over_batches(zoo: tuple[ModelHandle, ...]) -> None:
    """Balanced ones run on from batch to batch, so a set of few images is compared with other sources' equally."""

    def labels(index: int, **params: object) -> Tensor:
        wanted = request(METHOD, zoo, index, batch=6, iterations=1, **params)  # type: ignore[arg-type]
        found = METHOD.prepare(wanted, context(index)).labels
        assert found is not None
        return found

    assert METHOD.Params().labels == "uniform"  # type: ignore[attr-defined]
    run = torch.cat([labels(k, labels="balanced") for k in (0, 1)])
    assert torch.bincount(run, minlength=4).tolist() == [3, 3, 3, 3]
    assert torch.equal(run, torch.arange(12) % 4)
    drawn = torch.cat([labels(k) for k in range(4)])
    assert len(set(torch.bincount(drawn, minlength=4).tolist())) > 1
    assert torch.equal(drawn[:6], labels(0))
