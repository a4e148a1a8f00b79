"""Distillation: a student with random weights learns the teacher's function from its answers alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.interfaces import Batch, Compressed, ImageSet, ModelHandle, RunContext, Setting
from methods.compressors._feed import feed
from methods.compressors.kd import METHOD, KdParams, Shifted
from tests.compressors.recon_toys import Counter, Residual, context, digest, handle, image_set


def student(name: str) -> nn.Module:
    """Two convolutions and a head, whatever the name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(name))
        first = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        body = nn.Sequential(first, nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return body.append(nn.Linear(16, 5))


def teacher() -> ModelHandle:
    """The toy network with a sharper head: its answers depend on the image."""
    found = handle()
    assert isinstance(found.module, Residual)
    with torch.no_grad():
        logits = found.module(image_set(256).images)
        factor = 3 / float(logits.std(0).mean())
        found.module.head.weight.mul_(factor)
        found.module.head.bias.sub_(logits.mean(0)).mul_(factor)
    return found


def with_student(seed: int = 0) -> RunContext:
    return dataclasses.replace(context(seed), untrained=student)


def distil(
    images: ImageSet | None = None, seed: int = 0, given: ModelHandle | None = None, **params: Any
) -> Compressed:
    chosen = KdParams(**{"steps": 120, "batch": 32, "shift": 0, "flip": False, **params})
    return METHOD.compress(
        given or teacher(), images or image_set(256), Setting(student="toy/pupil"), chosen, with_student(seed)
    )


def divergence(answers: Tensor, images: Tensor) -> float:
    """Mean KL of the teacher's softmax to that of ``answers`` [n,K], computed from probabilities."""
    with torch.no_grad():
        wanted = teacher().module(images).softmax(1)
    return float((wanted * (wanted.log() - answers.softmax(1).log())).sum(1).mean())


def test_the_student_learns_the_teacher_s_answers() -> None:
    made = distil()
    fresh = image_set(256, seed=5).images
    with torch.no_grad():
        learned = divergence(made.variants[0].module(fresh), fresh)
        best_constant = teacher().module(fresh).softmax(1).mean(0).log().expand(256, 5)
    assert learned < 0.5 * divergence(best_constant, fresh)  # it follows the image, not only the mean answer
    assert made.report["kl_last"] < 0.5 * made.report["kl_first"]
    assert made.variants[0].network is made.variants[0].module
    assert str(made.variants[0].setting.student).endswith("pupil")
    assert not made.variants[0].module.training


def test_it_is_reproducible_and_leaves_teacher_and_images_alone() -> None:
    images, given = image_set(256), teacher()
    before, weights = images.images.clone(), digest(teacher().module)
    first, second, other = distil(images, given=given), distil(images), distil(images, seed=1)
    assert digest(first.variants[0].module) == digest(second.variants[0].module)
    assert digest(first.variants[0].module) != digest(other.variants[0].module)
    assert torch.equal(images.images, before)
    assert digest(given.module) == weights


def test_every_setting_of_the_optimiser_has_an_effect() -> None:
    plain = digest(distil(steps=4).variants[0].module)
    for other in ({"momentum": 0.0}, {"decay": 0.1}, {"clip": 0.1}, {"lr": 0.05}, {"temperature": 1.0}):
        assert digest(distil(steps=4, **other).variants[0].module) != plain


def test_dropout_draws_from_the_context_and_leaves_torch_alone() -> None:
    def dropping(name: str) -> nn.Module:
        made = student(name)
        return nn.Sequential(made[:-1], nn.Dropout(0.5), made[-1])  # type: ignore[index]

    def again(seed: int) -> str:
        ctx = dataclasses.replace(context(seed), untrained=dropping)
        params = KdParams(steps=3, batch=16, flip=False, shift=0)
        return digest(METHOD.compress(teacher(), image_set(), Setting(student="x"), params, ctx).variants[0].module)

    before = torch.get_rng_state()
    first = again(0)
    torch.rand(5)
    assert again(0) == first
    torch.set_rng_state(before)
    again(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_student_must_be_named() -> None:
    with pytest.raises(BenchError, match="needs a student"):
        METHOD.compress(teacher(), image_set(), Setting(), KdParams(steps=1), with_student())


def test_students_are_not_ranked_beside_each_other() -> None:
    one = distil(steps=1)
    other = METHOD.compress(teacher(), image_set(), Setting(student="toy/x"), KdParams(steps=1), with_student())
    assert one.variants[0].protocol != other.variants[0].protocol


def test_shifts_move_whole_images_and_flips_mirror_them() -> None:
    images = torch.arange(2 * 3 * 5 * 4, dtype=torch.float32).view(2, 3, 5, 4).repeat(40, 1, 1, 1)
    labels = torch.arange(80)
    hook = Shifted(2, True)
    made = hook(Batch(images, labels), 0, 1, torch.sum, torch.Generator().manual_seed(0))
    assert made.labels is not None
    assert torch.equal(made.labels, labels)
    seen = set()
    for got, image in zip(made.images, images, strict=True):
        found = None
        for mirrored in (False, True):
            source = image.flip(2) if mirrored else image
            for down in range(-2, 3):
                for right in range(-2, 3):
                    rows = (torch.arange(5) + down).clamp(0, 4)
                    columns = (torch.arange(4) + right).clamp(0, 3)
                    if torch.equal(source[:, rows][:, :, columns], got):
                        found = (mirrored, down, right)
        assert found is not None
        seen.add(found)
    assert len({mirrored for mirrored, _, _ in seen}) == 2
    assert len({down for _, down, _ in seen}) == len({right for _, _, right in seen}) == 5
    plain = Shifted(0, False)(Batch(images), 0, 1, torch.sum, torch.Generator())
    assert torch.equal(plain.images, images)


def test_a_stream_is_trained_on_batch_by_batch_the_first_included() -> None:
    stream = Counter()
    images = ImageSet(torch.empty(0, 3, 8, 8), None, None, "assigned", "", "", {}, stream)  # type: ignore[arg-type]
    first, batches = feed(images, 99, context())
    assert float(first.mean()) == 1.0
    assert [float(next(batches).images.mean()) for _ in range(3)] == [1.0, 2.0, 3.0]
    assert stream.made == 3
    made = distil(dataclasses.replace(images, stream=Counter()), steps=5)  # type: ignore[arg-type]
    assert made.report["delivery"] == "stream"
    assert made.forward_equivalents == 3 * 4 * 5
