"""Bits by the image, trained: equal to static training with one candidate, the mean held, what is reported
(docs/methods/compressors.md#dynamic)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from bench.errors import NotApplicable
from bench.interfaces import Batch, Setting
from bench.measure.complexity import bitops, count
from methods.compressors._dynamic_training import BitLoss, look_at, settle
from methods.quant.choosing import PerImage, choosers
from tests import pick
from tests.compressors.dynamic_toys import FEW, W4A4, compress, dynamic, force, labelled, scatter
from tests.compressors.recon_toys import context, digest, handle, image_set

METHODS = pick.methods("compressors")
DDPQ, DQNET = METHODS["ddpq_dynamic"], METHODS["dqnet"]
PARTS = list(image_set().images.split(16))


@pytest.mark.parametrize("method", [DDPQ, DQNET], ids=["ddpq_dynamic", "dqnet"])
@pytest.mark.parametrize("quantiser", ["lsq", "pact"])
def test_one_candidate_is_the_static_training_bit_for_bit(method: Any, quantiser: str) -> None:
    """Same seed, images and hyper-parameters as the static compressor of those quantisers: the same network."""
    same = {"steps": 5, "batch": 16, "bn_freeze": 0.5, "labels": 0.0, "calibration": 32}
    static = METHODS[quantiser]
    plain = static.compress(handle(), image_set(), W4A4, static.Params(**same), context()).variants[0]
    (one,) = compress(method, candidates=(4,), quantiser=quantiser, **same).variants
    assert digest(one.module) == digest(plain.module)
    assert one.layer_bits == plain.layer_bits
    assert one.image_bitops is None
    assert not one.bits_between


@pytest.mark.parametrize("weights", ["fixed", "follow"])
def test_every_image_keeps_to_the_closed_form(weights: str) -> None:
    (variant,) = compress(DDPQ, weights=weights, candidates=(2, 4, 6)).variants
    assert variant.setting == W4A4
    assert variant.bitops is None
    assert variant.protocol["dynamic"] == [2, 4, 6]
    assert variant.image_bitops is not None
    taken = variant.image_bitops(image_set(20, seed=4).images)
    net = count(handle().module, (3, 8, 8))
    low, high = (
        bitops(net, {**variant.layer_bits, **{layer: pair[end] for layer, pair in variant.bits_between.items()}})
        for end in (0, 1)
    )
    assert bool(((taken >= low) & (taken <= high)).all())
    assert all(variant.layer_bits[layer] == (4, 4) for layer in variant.bits_between)


def test_a_great_weight_drives_bits_to_the_fewest() -> None:
    report = compress(DDPQ, pull="fixed", bit_weight=1e4, selector_lr=0.05, steps=25).report
    assert report["mean_bits"] == 3.0
    assert report["tilt"] == 0.0
    assert all(shares == [1.0, 0.0, 0.0] for shares in report["usage"].values())
    assert len(report["collapsed"]) == len(report["usage"])


def test_without_weight_bits_start_at_the_most() -> None:
    report = compress(DDPQ, pull="fixed", bit_weight=0.0, steps=0).report
    assert report["mean_bits"] == 5.0


def test_the_mean_is_what_was_asked_for() -> None:
    """Within 2 %, on the images that it is settled on, by whatever the training left."""
    report = compress(DDPQ, steps=30, selector_lr=0.01, bits_images=64).report
    assert report["asked_bits"] == 4
    assert abs(report["mean_bits"] - 4) <= 0.08
    assert report["bits_images"] == 64


def test_settling_moves_the_mean_either_way_and_keeps_the_nearest() -> None:
    for target in (3.3, 4.0, 4.7):
        model = dynamic()
        scatter(choosers(model.body))
        before = look_at(model, PARTS).mean
        amount, passes = settle(model, PARTS, target)
        after = look_at(model, PARTS).mean
        assert abs(after - target) <= abs(before - target)
        assert abs(after - target) < 0.25  # four tensors, 64 images: steps of the mean
        assert (amount > 0) == (target > before) or amount == 0
        assert passes <= 13
    model = dynamic()
    force(choosers(model.body), 1)
    assert settle(model, PARTS, 4.0) == (0.0, 1)


def test_usage_and_entropy_are_counts_of_what_images_choose() -> None:
    model = dynamic()
    scatter(choosers(model.body))
    seen = look_at(model, PARTS)
    report = seen.report((3, 4, 5))
    module = model.export()
    assert isinstance(module, PerImage)
    bits = module.bits(image_set().images)
    for name, shares in report["usage"].items():
        counts = [int((bits[name] == width).sum()) for width in (3, 4, 5)]
        assert sum(counts) == 64
        assert shares == [number / 64 for number in counts]
        entropy = sum(-number / 64 * math.log(number / 64) for number in counts if number)
        assert report["usage_entropy"][name] == pytest.approx(entropy)
        assert (name in report["collapsed"]) == (max(counts) == 64)
    macs = count(handle().module, (3, 8, 8)).layers
    reads = {"conv1": "stem_2", "conv2": "relu", "depthwise": "relu_1", "pointwise": "depthwise"}
    assert set(bits) == set(reads.values())
    whole = sum(macs[layer].macs for layer in reads)
    mean = sum(macs[layer].macs * bits[tensor].mean() for layer, tensor in reads.items()) / whole
    assert report["mean_bits"] == pytest.approx(float(mean), rel=1e-6)


def test_bit_loss() -> None:
    bits = torch.tensor([3.0, 5.0, 5.0, 5.0], requires_grad=True)
    fixed = BitLoss("fixed", 0.1, 4, 3, 5)
    loss = fixed(bits, 100)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.1 * 4.5 / 5)
    assert bits.grad is not None
    torch.testing.assert_close(bits.grad, torch.full((4,), 0.1 / 5 / 4))
    assert fixed.weight == 0.1
    hinge = BitLoss("hinge", 0.05, 4, 3, 5)
    assert float(hinge(bits, 100).detach()) == pytest.approx(0.05 * 0.5)
    assert float(hinge(torch.tensor([3.0, 4.0]), 100)) == 0
    adapted = BitLoss("average", 0.1, 4, 3, 5)
    adapted(bits, 100)
    first = adapted.weight
    assert first > 0.1
    for _ in range(100):
        adapted(torch.tensor([3.0]), 100)
    assert adapted.weight < 0 < first  # too few bits are paid for


def test_labels_count_where_there_are_some() -> None:
    with_labels, without = compress(DDPQ, given=labelled()), compress(DDPQ)
    assert with_labels.report["labels"] == 1
    assert without.report["labels"] == 0
    assert digest(with_labels.variants[0].module) != digest(without.variants[0].module)
    foreign = dataclasses.replace(labelled(), label_kind="foreign")
    assert digest(compress(DDPQ, given=foreign).variants[0].module) == digest(without.variants[0].module)


def test_the_sources_hook_is_used_where_it_is_asked_for() -> None:
    steps: list[int] = []

    def hook(batch: Batch, step: int, total: int, loss: Any, generator: torch.Generator) -> Batch:
        steps.append(step)
        assert loss.teacher(batch.images).shape == (16, 5)
        return batch

    given = dataclasses.replace(image_set(), hook=hook)
    compress(DDPQ, given=given)
    assert not steps
    compress(DDPQ, given=given, source_hook=True)
    assert steps == list(range(6))


def test_what_cannot_be_chosen_is_said() -> None:
    with pytest.raises(NotApplicable, match="no mean"):
        compress(DDPQ, candidates=(5, 6))
    with pytest.raises(NotApplicable, match="floating point"):
        compress(DDPQ, Setting(4, 32))
    params = DDPQ.Params(**FEW)
    assert [params.candidates_for(Setting(4, bits)) for bits in (2, 4, 8)] == [(2, 3), (3, 4, 5), (7, 8)]
    assert DDPQ.Params(candidates=(6, 2)).candidates == (2, 6)
    assert DDPQ.Params(weights="follow").weights_for(Setting(3, 5), (3, 5, 7)) == (2, 3, 5)
    with pytest.raises(ValueError, match="twice"):
        DDPQ.Params(candidates=(4, 4))


def test_curves_are_told() -> None:
    told: dict[str, list[float]] = {}
    ctx = context(log_scalar=lambda name, step, value: told.setdefault(name, []).append(value))
    params = DDPQ.Params(**FEW)
    DDPQ.compress(handle(), labelled(), W4A4, params, ctx)
    assert told.keys() == {"kl", "labels", "features", "bits", "bit loss", "bit weight"}
    assert all(len(values) == 6 for values in told.values())
    assert told["bit loss"] == [bits / 5 for bits in told["bits"]]
