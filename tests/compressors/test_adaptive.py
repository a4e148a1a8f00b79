"""What all compressors share that make networks of several bit-widths (docs/methods/compressors.md#adaptive)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.errors import BenchError, NotApplicable
from bench.interfaces import Batch, Setting
from bench.spec.catalogue import ShippedCatalogue
from bench.spec.plan import make_plan
from bench.spec.suite import load_suite
from methods.compressors._adaptive import PRESETS, AdaptiveParams
from methods.compressors._adaptive_training import Course, Curves, Lesson, Recursive, _learn, groups, name
from methods.compressors._distillation import Losses
from methods.quant.switched import SwitchedActivation
from tests.compressors.adaptive_toys import FEW, METHODS, W8A8, adaptive, compress, digests, labelled
from tests.compressors.recon_toys import Counter, context, handle, image_set

ALL = pytest.mark.parametrize("name_of", METHODS)
SOME: Any = next(iter(METHODS.values()), None)
"""Stands for all where what is looked at is none of a method's business."""
KINDS = ("kl", "features")
ONE: dict[str, Any] = {"widths": (4,), "clips": "own", "alpha": "mse"}


def settings(made: Any) -> list[tuple[int, int]]:
    return [(v.setting.weight_bits, v.setting.act_bits) for v in made.variants]


def kl(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """tau^2 KL(teacher || student), written out."""
    p, q = torch.softmax(teacher.detach() / tau, 1), torch.softmax(student / tau, 1)
    return tau**2 * (p * (p.log() - q.log())).sum(1).mean()


@ALL
def test_a_plan_has_a_cell_for_each_width_of_one_job(name_of: str) -> None:
    """A suite asks for the widest, and gets the others along with it."""
    grid = {
        "grid.compressor": [{name_of: {"widths": [8, 4, 2], "zero_shot": [3]}}],
        "grid.bits": ["W8A8"],
        "grid.target": ["resnet18_w10"],
        "grid.source": ["real"],
        "seeds": [0],
        "claims": [],
    }
    plan = make_plan(load_suite("qat_real", grid), catalogue=ShippedCatalogue())
    assert [cell.setting_label for cell in plan.cells] == ["W8A8", "W4A4", "W2A2", "W3A3"]
    assert len({cell.job_id for cell in plan.cells}) == 1
    assert len({cell.row_id for cell in plan.cells}) == 4
    assert [cell.variant for cell in plan.cells][2] == "W2A2 of W8A8"


@ALL
def test_variants_say_what_they_are(name_of: str) -> None:
    made = compress(METHODS[name_of], widths=(8, 4), zero_shot=(5, 3))
    assert settings(made) == [(b, b) for b in (8, 4, 5, 3)]
    apart = "networks" in made.report
    trained = [["W8A8"], ["W4A4"]] if apart else [["W8A8", "W4A4"]] * 2
    for place, (variant, (bits, _)) in enumerate(zip(made.variants, settings(made), strict=True)):
        found = dict(variant.layer_bits)
        assert found["stem.0"] == found["head"] == (8, 8)
        assert {found[layer] for layer in ("conv1", "conv2", "depthwise", "pointwise")} == {(bits, bits)}
        assert variant.weight_levels["conv1"] <= 2**bits
        assert variant.activation_levels["conv1"] == 2**bits
        assert variant.protocol["weight_bits"] == variant.protocol["activation_bits"] == bits
        assert variant.protocol["zero_shot"] == variant.protocol["calibrated"] == (place >= 2)
        assert variant.protocol["widths"] == trained[place % 2]
        assert variant.protocol["weight_grid"] == "centred"
    plain = compress(METHODS[name_of], widths=(8, 4), zero_shot=(5, 3), calibrate=False)
    assert [v.protocol["calibrated"] for v in plain.variants] == [False] * 4
    assert digests(plain)[:2] == digests(made)[:2]  # calibrated or not, it is one training
    assert not set(digests(plain)[2:]) & set(digests(made)[2:])


@ALL
def test_with_one_width_all_are_the_individual_network(name_of: str) -> None:
    alone = digests(compress(SOME, **ONE))
    assert digests(compress(METHODS[name_of], **ONE)) == alone
    assert digests(compress(METHODS[name_of], Setting(4, 4), widths=(8, 4), clips="own", alpha="mse")) == alone


def test_with_equal_clips_all_joint_trainings_are_equal() -> None:
    """So switchable batch normalisation and clips of each width differ in their clips alone."""
    net, draws = adaptive((4,), started=False), torch.Generator()
    joint = [method for method in METHODS.values() if type(method.course(method.Params())(net, draws)) is Course]
    found = [compress(method, widths=(8, 4, 2), clips="shared", alpha="quantile") for method in joint]
    together = [digests(made) for made in found if "networks" not in made.report]
    assert all(one == together[0] for one in together)


@ALL
def test_passes_are_counted(name_of: str) -> None:
    """Each width's forward and backward, the teacher's forward; the first look, and one at each untrained width."""
    made = compress(METHODS[name_of], widths=(8, 2), zero_shot=(4, 3), steps=3)
    trainings = 2 if "networks" in made.report else 1
    assert made.forward_equivalents == trainings * (3 * 16 + 32) + 2 * (3 * 16 * 2) + 2 * 32


@ALL
def test_training_brings_the_narrowest_nearer_to_the_teacher(name_of: str) -> None:
    """The toy's normalisation has random statistics, so they stay.  Its wider answers are near from the start."""
    target = handle().module(image_set(seed=1).images)
    errors = []
    for steps in (0, 20):
        made = compress(METHODS[name_of], widths=(4, 2), steps=steps, bn_freeze=0.0, lr=0.003)
        with torch.no_grad():
            errors.append(float((made.variants[1].module(image_set(seed=1).images) - target).square().mean()))
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("weights", ["dorefa", "modified", "centred"])
@pytest.mark.parametrize("rescale", ["norm", "sat", "none"])
def test_every_grid_and_scale_of_the_weights_works(weights: str, rescale: str) -> None:
    made = compress(SOME, Setting(2, 2), weights=weights, rescale=rescale, steps=2)
    (variant,) = made.variants
    assert variant.protocol["weight_grid"] == weights
    assert variant.weight_levels["conv1"] <= 4
    with torch.no_grad():
        assert bool(torch.isfinite(variant.module(image_set(seed=1).images)).all())


@ALL
def test_labels_are_asked_for_only_where_there_are_some(name_of: str) -> None:
    foreign = dataclasses.replace(labelled(), label_kind="foreign")
    for given in (image_set(), foreign):
        with pytest.raises(NotApplicable, match="the recipe needs labels"):
            compress(METHODS[name_of], given=given, labels=1.0)


def test_labels_teach_besides_where_the_recipe_says_so() -> None:
    plain, both = (compress(SOME, given=labelled(), widths=(4, 2), labels=weight) for weight in (0.0, 1.0))
    assert digests(plain)[0] != digests(both)[0]
    assert digests(plain) == digests(compress(SOME, widths=(4, 2)))


def test_a_stream_is_trained_on_and_calibrated_with() -> None:
    stream: Any = Counter()
    given = dataclasses.replace(image_set(), images=torch.empty(0, 3, 8, 8), stream=stream)
    method = next(method for method in METHODS.values() if "stream" in method.deliveries)
    made = compress(method, given=given, widths=(4,), zero_shot=(3,), steps=3, bn_images=9)
    assert stream.made == 3 + 3  # the first batch chose the ranges and is trained on, too; then 9 images in fours
    assert made.report["delivery"] == "stream"
    assert made.report["calibration_images"] == 12


def test_a_loss_that_is_not_finite_is_an_error_with_its_width() -> None:
    broken = dataclasses.replace(image_set(), images=image_set().images.clone().fill_(float("nan")))
    with pytest.raises(BenchError, match="not finite in step 0") as error:
        compress(SOME, given=broken, widths=(4, 2))
    assert error.value.where == "W4A4"


class Hand(Course):
    """The widest teaches the narrowest."""

    inner = 0.5

    def lesson(self, width: int, heard: Any, batch: Batch) -> Lesson:
        return Lesson(0) if width == 2 else Lesson()


@pytest.mark.parametrize("course", [Course(), Recursive(0.7), Hand()], ids=["joint", "recursive", "one"])
def test_gradients_are_those_of_the_losses_as_written(course: Any) -> None:
    """Of the full-precision KL, the labels and the KL from a wider width, whose answer is taken as it is."""
    losses = Losses(2.0, kl=1.5, labels=0.3)
    images, labels = image_set().images, labelled().labels
    assert labels is not None
    nets = [adaptive(), adaptive()]
    for net in nets:
        net.student.train()
    target = nets[0].teacher(images)[0]
    answers = []
    for width in range(3):
        nets[0].switch(width)
        answers.append(nets[0].student(images)[0])
    total = torch.zeros(())
    for width, logits in enumerate(answers):
        lesson = course.lesson(width, [], Batch(images, labels))
        if lesson.own:
            picked = torch.log_softmax(logits, 1)[torch.arange(64), labels]
            total = total + 1.5 * kl(logits, target, 2.0) - 0.3 * picked.mean()
        if lesson.guide is not None:
            total = total + course.inner * kl(logits, answers[lesson.guide], 2.0)
    total.backward()
    curve = Curves()
    _learn(nets[1], nets[1].teacher, Batch(images, labels), losses, course, curve, 0)
    for ours, theirs in zip(nets[1].body.parameters(), nets[0].body.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)
    assert curve.kls["W2A2"][0] == pytest.approx(float(kl(answers[2].detach(), target, 2.0)), rel=1e-4)


def test_clips_learn_and_decay_by_their_own_settings() -> None:
    net = adaptive()
    found = groups(net, 0.1, 3.0, 0.2)
    assert [(group["weight_decay"], group["share"]) for group in found] == [(0.1, 1.0), (0.2, 3.0), (0.0, 1.0)]
    clips = {id(p) for part in net.body.modules() if isinstance(part, SwitchedActivation) for p in part.parameters()}
    assert {id(p) for p in found[1]["params"]} == clips
    assert all(p.dim() > 1 for p in found[0]["params"])
    placed = [id(p) for group in found for p in group["params"]]
    assert len(placed) == len(set(placed)) == len(list(net.body.parameters()))


def test_presets_are_valid_and_paper_is_the_published_one() -> None:
    for method in METHODS.values():
        for preset in method.presets.values():
            method.Params(**preset)
    paper = AdaptiveParams(**PRESETS["paper"])
    assert (paper.batch, paper.lr, paper.alpha, paper.alpha_lr, paper.alpha_decay) == (128, 0.1, 8, 1, 1e-4)
    epochs = [round(share * paper.steps / 390) for share in paper.drops]
    assert (paper.steps / 390, epochs) == (350, [150, 225, 270])
    assert (paper.labels, paper.kl, paper.features, paper.optimiser) == (1, 0, 0, "sgd")


def test_widths_are_checked_and_sorted() -> None:
    assert AdaptiveParams(widths=(2, 8, 4)).widths == (8, 4, 2)
    for wrong in ({"widths": ()}, {"widths": (4, 4)}, {"widths": (9,)}, {"zero_shot": (1,)}):
        with pytest.raises(ValueError, match=r"widths|zero_shot"):
            AdaptiveParams(**wrong)  # type: ignore[arg-type]
    assert name(Setting(4, 8)) == "W4A8"


@ALL
def test_progress_and_curves_are_reported(name_of: str) -> None:
    seen: list[tuple[str, int, int]] = []
    curves: dict[str, list[float]] = {}
    ctx = context(
        report=lambda *what: seen.append(what), log_scalar=lambda key, step, v: curves.setdefault(key, []).append(v)
    )
    method = METHODS[name_of]
    made = method.compress(handle(), image_set(), W8A8, method.Params(**FEW | {"widths": (4, 2)}), ctx)
    total = 8 if "networks" in made.report else 4
    assert seen == [("train", step, total) for step in range(1, total + 1)]
    assert {"kl W4A4", "kl W2A2", "features W4A4"} <= set(curves) <= {f"{k} W{b}A{b}" for k in KINDS for b in (4, 2)}
    assert all(len(values) == 4 and all(map(math.isfinite, values)) for values in curves.values())
