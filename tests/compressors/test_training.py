"""The training loop that a teacher's students share, and the paper's augmentation
(docs/methods/compressors.md#training, #invariant-15)."""

from __future__ import annotations

import copy
import itertools
import logging
from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth
from torchvision.transforms.v2 import functional as VF

from bench.errors import BenchError
from bench.interfaces import Batch
from methods.compressors._augment import Views, gaussian_blur, turn_hue
from methods.compressors._distillation import Losses, distillation, feature_loss, label_loss
from methods.compressors._qat import DROPS
from methods.compressors._training import Optimiser, Schedule, draws, parameter_groups, set_modes, shuffled, train
from tests.compressors.recon_toys import Residual, context, digest, image_set
from tests.quant.nets import randomise


def pair() -> tuple[Any, Any]:
    """A student and a teacher with other weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = randomise(Residual()).requires_grad_(False)
        student = randomise(Residual(), seed=1)
    return student, teacher


def run(student: nn.Module, teacher: nn.Module, steps: int = 4, **more: Any) -> Any:
    schedule = Schedule(steps, 16, more.pop("lr", 0.01), bn_freeze=more.pop("bn_freeze", 1.0))
    batches = shuffled(image_set().images, 16, torch.Generator().manual_seed(0))
    optimiser, losses = more.pop("optimiser", Optimiser()), more.pop("losses", Losses())
    return train(student, teacher, batches, schedule, optimiser, losses, context(), **more)


def logits(seed: int) -> Tensor:
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def test_distillation_is_the_divergence_and_zero_for_equal_logits() -> None:
    ours, theirs = logits(0), logits(1).detach()
    p, q = torch.softmax(theirs / 3, 1), torch.softmax(ours / 3, 1)
    expected = (p * (p.log() - q.log())).sum(1).mean()
    torch.testing.assert_close(distillation(ours, theirs, Losses(3.0)), 9 * expected)
    torch.testing.assert_close(distillation(ours, theirs, Losses(3.0, squared=False)), expected)
    assert abs(float(distillation(ours, ours.detach(), Losses(3.0)).detach())) < 1e-6


def test_gradient_stays_finite_as_the_temperature_grows() -> None:
    """It tends to the centred difference of the logits over the classes."""
    ours, theirs = logits(0), logits(1).detach()
    distillation(ours, theirs, Losses(1000.0)).backward()
    gap = ours.detach() - theirs
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, (gap - gap.mean(1, keepdim=True)) / 5 / 6, rtol=0.02, atol=1e-3)


def test_labels_instead_of_a_teacher() -> None:
    """The loss is the cross-entropy alone; the teacher's answers move nothing."""
    found = []
    for seed in (1, 2):
        student, _ = pair()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            teacher = randomise(Residual(), seed=seed).requires_grad_(False)
        labels = torch.arange(16) % 5
        batches = shuffled(image_set().images[:16], 16, torch.Generator().manual_seed(0), labels)
        expected = F.cross_entropy(student.train()(image_set().images[:16]), labels)
        before = [p.detach().clone() for p in student.parameters()]
        wanted = torch.autograd.grad(expected, list(student.parameters()))
        schedule = Schedule(1, 16, 0.1, bn_freeze=1.0)
        rule = Optimiser(momentum=0.0, decay=0.0, clip=None)
        train(student, teacher, batches, schedule, rule, Losses(kl=0.0, labels=1.0), context())
        for parameter, old, gradient in zip(student.parameters(), before, wanted, strict=True):
            torch.testing.assert_close(parameter.detach(), old - 0.1 * gradient, rtol=1e-4, atol=1e-6)
        found.append([p.detach().clone() for p in student.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_soft_labels_go_before_labels() -> None:
    ours, soft = logits(0), torch.softmax(logits(1).detach(), 1)
    wrong = torch.zeros(6, dtype=torch.long)
    batch = Batch(torch.zeros(6, 1, 1, 1), wrong, soft)
    torch.testing.assert_close(label_loss(ours, batch), -(soft * torch.log_softmax(ours, 1)).sum(1).mean())
    with pytest.raises(ValueError, match="no labels"):
        label_loss(ours, Batch(batch.images, None, None))


def test_feature_loss() -> None:
    ours, theirs = [torch.zeros(2, 3), torch.ones(4)], [torch.ones(2, 3), torch.full((4,), 3.0)]
    assert float(feature_loss(ours, theirs, relative=False)) == (1 + 4) / 2
    torch.testing.assert_close(feature_loss(ours, theirs, relative=True), torch.tensor((1 + 4 / 9) / 2))
    assert float(feature_loss([], [], relative=False)) == 0


def test_rates_of_the_published_schedule() -> None:
    schedule = Schedule(44_000, 128, 0.04, drops=DROPS, bn_freeze=DROPS[1])
    rates = [schedule.rate(step) for step in (0, 3999, 4000, 9999, 10000, 19999, 20000, 43999)]
    assert rates == pytest.approx([0.04, 0.04, 4e-3, 4e-3, 4e-4, 4e-4, 4e-5, 4e-5])
    assert [schedule.frozen(step) for step in (0, 9999, 10000)] == [False, False, True]
    cosine = Schedule(100, 8, 0.1, "cosine")
    assert [cosine.rate(step) for step in (0, 50, 100)] == pytest.approx([0.1, 0.05, 0.0])


def test_statistics_stay_from_the_freeze_on_and_the_teacher_always() -> None:
    student, teacher = pair()
    before = digest(teacher)
    means: list[Tensor] = []

    def look(batch: Batch, step: int, total: int, loss: Any, generator: torch.Generator) -> Batch:
        means.append(student.bn1.running_mean.clone())
        loss(batch.images)
        assert torch.equal(means[-1], student.bn1.running_mean)
        student.train()  # a hook that forgets the mode must not thaw anything
        return batch

    scale = student.bn1.weight.detach().clone()
    run(student, teacher, 8, bn_freeze=0.5, hooks=(look,))
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(means[:5]))
    assert all(torch.equal(means[4], later) for later in means[5:])
    assert torch.equal(means[4], student.bn1.running_mean)
    assert not torch.equal(scale, student.bn1.weight)
    assert digest(teacher) == before
    assert not teacher.training
    assert not student.training


def test_nothing_is_learned_where_student_is_teacher() -> None:
    _, teacher = pair()
    student = copy.deepcopy(teacher).requires_grad_(True)
    curve = run(student, teacher, bn_freeze=0.0, optimiser=Optimiser(decay=0.0))
    assert max(curve.kl) < 1e-5
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(student.parameters(), teacher.parameters(), strict=True))


def test_student_approaches_teacher_and_the_passes_are_counted() -> None:
    student, teacher = pair()
    curve = run(student, teacher, 40, lr=0.05)
    report = curve.report()
    assert report["kl_last"] < 0.5 * report["kl_first"]
    assert curve.passes == 3 * 16 * 40
    assert (curve.steps, len(curve.kl)) == (40, 40)


def test_passes_of_a_hook_that_asks_for_the_loss_are_counted() -> None:
    def promote(batch: Batch, step: int, total: int, loss: Any, generator: torch.Generator) -> Batch:
        images = batch.images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(images), images)
        return Batch(torch.cat([batch.images, batch.images + 0.01 * gradient.sign()]))

    student, teacher = pair()
    # teacher, student and the student's backward, of 16 images for the hook and of 32 in the step
    assert run(student, teacher, 5, hooks=(promote,)).passes == 5 * (3 * 16 + 3 * 32)
    # a teacher of two and a half times the work
    assert run(student, teacher, 5, hooks=(promote,), look=2.5).passes == 5 * (4.5 * 16 + 4.5 * 32)


def test_decay_is_for_weights_and_what_is_named() -> None:
    student, _ = pair()
    named = student.bn1.bias
    decayed, rest = parameter_groups(student, 0.1, [named])
    assert {id(p) for p in decayed["params"]} == {id(p) for p in student.parameters() if p.dim() > 1} | {id(named)}
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(rest["params"]) == len(list(student.parameters()))


def test_the_gradient_is_clipped() -> None:
    student, teacher = pair()
    before = [p.detach().clone() for p in student.parameters()]
    curve = run(student, teacher, 1, lr=1.0, optimiser=Optimiser(momentum=0.0, decay=0.0, clip=1e-3))
    moved = torch.cat([(a - b).detach().flatten() for a, b in zip(student.parameters(), before, strict=True)])
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-3)
    assert curve.clipped == 1


def test_what_is_not_finite_fails_and_moves_nothing() -> None:
    student, teacher = pair()
    before = [p.detach().clone() for p in student.parameters()]

    def spoil(batch: Batch, step: int, total: int, loss: Any, generator: torch.Generator) -> Batch:
        return Batch(batch.images * float("nan"))

    with pytest.raises(BenchError, match="step 0"):
        run(student, teacher, hooks=(spoil,))
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), before, strict=True))


class Tapped(nn.Module):
    """Logits and one feature."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.net(x), (self.net.stem(x),)  # type: ignore[operator]


def test_heavy_feature_loss_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    student, teacher = pair()
    with caplog.at_level(logging.WARNING):
        curve = run(Tapped(student), Tapped(teacher), 6, lr=1e-4, losses=Losses(features=1e4))
    assert len(caplog.records) == 1
    assert curve.outweighed == 5
    assert len(curve.features) == 6


def test_feature_loss_alone_moves_the_feature() -> None:
    student, teacher = pair()
    curve = run(Tapped(student), Tapped(teacher), 30, lr=0.01, losses=Losses(features=100.0))
    assert curve.features[-1] < 0.5 * curve.features[0]


def test_batches_visit_every_image_once_per_epoch() -> None:
    images = torch.arange(10.0).view(10, 1, 1, 1)
    batches = shuffled(images, 5, torch.Generator().manual_seed(0), torch.arange(10))
    first = [next(batches) for _ in range(4)]
    for epoch in (first[:2], first[2:]):
        assert sorted(torch.cat([b.images.flatten() for b in epoch]).tolist()) == list(range(10))
    for batch in first:
        assert batch.labels is not None
        assert torch.equal(batch.images.flatten().long(), batch.labels)
    assert not torch.equal(first[0].images, first[2].images)
    assert len(next(shuffled(images, 64, torch.Generator())).images) == 10


def test_one_image_is_enough() -> None:
    student, teacher = pair()
    schedule = Schedule(2, 16, 0.01)
    one = shuffled(image_set(1).images, 16, torch.Generator())
    train(student, teacher, one, schedule, Optimiser(), Losses(), context())
    set_modes(student, frozen=True)
    assert student.training
    assert not student.bn1.training


def pixels(channels: int = 3, count: int = 64) -> Tensor:
    return torch.rand(count, channels, 9, 9, generator=torch.Generator().manual_seed(0))


PLAIN = ((0.0,) * 3, (1.0,) * 3)


def test_blur_is_a_gaussians() -> None:
    x = pixels(count=3)
    sigma = torch.tensor([0.4, 1.0, 1.7]).view(3, 1, 1, 1)
    ours = gaussian_blur(x, sigma, 3)
    for image, blurred, s in zip(x, ours, (0.4, 1.0, 1.7), strict=True):
        torch.testing.assert_close(blurred, VF.gaussian_blur(image, [7, 7], [s, s]), rtol=1e-5, atol=1e-5)


def test_hue_turns_and_keeps_brightness() -> None:
    x = pixels(count=2)
    turns = torch.tensor([0.25, -0.1]).view(2, 1, 1, 1)
    turned = turn_hue(x, turns)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close((turned * luma).sum(1), (x * luma).sum(1))
    torch.testing.assert_close(turn_hue(turned, -turns), x)
    torch.testing.assert_close(turn_hue(x, torch.ones(2, 1, 1, 1)), x)
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert int(turn_hue(red, torch.full((1, 1, 1, 1), 1 / 3)).argmax(1)) == 1


def test_jitter_agrees_with_torchvision_on_one_image() -> None:
    x = pixels(count=1)
    views = Views(*PLAIN, jitter=(0.2, 0.2, 0.2, 0.0), grey=0.0, blur=0.0, flip=0.0)
    generator = torch.Generator().manual_seed(5)
    draws = 0.8 + 0.4 * torch.stack([torch.rand((1, 1, 1, 1), generator=generator) for _ in range(3)]).flatten()
    expected = x * draws[0]  # uncut between the steps
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    mean = (expected * luma).sum(1, keepdim=True).mean()
    expected = VF.adjust_saturation((mean + (expected - mean) * draws[1]).clamp(0, 1), float(draws[2]))
    ours = views.view(x, torch.Generator().manual_seed(5))
    inside = (expected > 0.02) & (expected < 0.98)
    assert float((ours - expected)[inside].abs().max()) < 0.02


def test_shares_of_flips_and_greys() -> None:
    x = pixels(count=2000)
    views = Views(*PLAIN, jitter=(0, 0, 0, 0), blur=0.0)
    out = views.view(x, torch.Generator().manual_seed(0))
    grey = (out[:, 0] - out[:, 1]).abs().amax((1, 2)) < 1e-6
    assert float(grey.float().mean()) == pytest.approx(0.2, abs=0.03)
    coloured = out[~grey]
    flipped = (coloured - x[~grey].flip(3)).abs().amax((1, 2, 3)) < 1e-6
    same = (coloured - x[~grey]).abs().amax((1, 2, 3)) < 1e-6
    assert bool((flipped | same).all())
    assert float(flipped.float().mean()) == pytest.approx(0.5, abs=0.04)


def test_views_happen_in_pixel_space_and_repeat() -> None:
    mean, std = (0.2, 0.3, 0.4), (0.3, 0.2, 0.5)
    views, plain = Views(mean, std, sigma=(0.1, 0.5)), Views(*PLAIN, sigma=(0.1, 0.5))
    m, s = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
    x = pixels()
    before = x.clone()
    ours = views.view((x - m) / s, torch.Generator().manual_seed(3)) * s + m
    torch.testing.assert_close(ours, plain.view(x, torch.Generator().manual_seed(3)), rtol=1e-4, atol=1e-5)
    assert torch.equal(x, before)
    assert float(ours.min()) > -1e-5
    assert float(ours.max()) < 1 + 1e-5


def test_one_channel_has_no_colour_and_noise_is_not_cut() -> None:
    grey = Views((0.2,), (0.3,), jitter=(0, 0, 0.9, 0.4), grey=1.0, blur=0.0, flip=0.0)
    x = 5 * torch.randn(8, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(grey.view(x, torch.Generator()), x)
    bright = Views((0.2,), (0.3,), jitter=(0.2, 0.2, 0, 0), grey=0.0, blur=0.0, flip=0.0)
    changed = bright.view(x, torch.Generator().manual_seed(0))
    assert not torch.allclose(changed, x, atol=0.1)
    labels = torch.arange(8)
    batch = bright(Batch(x, labels), 0, 1, torch.sum, torch.Generator().manual_seed(0))
    assert batch.labels is labels
    assert torch.equal(batch.images, changed)
    assert F.mse_loss(batch.images, x) > 0


def test_what_draws_from_torch_s_global_generator() -> None:
    assert all(map(draws, (nn.Dropout(0.1), nn.Dropout2d(0.5), StochasticDepth(0.2, "row"), DropPath(0.1))))
    assert not any(map(draws, (nn.Dropout(0.0), DropPath(0.0), nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))))
