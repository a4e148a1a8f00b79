"""A network other than the target teaches quantisation-aware training (docs/methods/compressors.md#teacher)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.interfaces import Compressed, ModelHandle, RunContext
from methods.compressors._qat import QatCompressor
from tests import pick
from tests.compressors.qat_toys import W2A4
from tests.compressors.recon_toys import context, digest, handle, image_set

METHODS = {name: method for name, method in pick.methods("compressors").items() if isinstance(method, QatCompressor)}
CLASSES, IMAGES = 5, 64
MEAN, STD = (0.3, -0.2, 0.1), (0.5, 2.0, 1.5)
"""The oracle's constants; the toy network's are 0 and 1."""

Logits = npt.NDArray[np.float64]


class Oracle(nn.Module):
    """Logits that anybody can compute: a fixed matrix times the channels' means of an image."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) @ self.matrix.T


def oracle(seed: int = 0, macs: int = 3) -> ModelHandle:
    """As the engine hands a teacher over, with constants that are not the target's."""
    matrix = 3 * torch.randn(CLASSES, 3, generator=torch.Generator().manual_seed(seed))
    made = handle(Oracle(matrix), "oracle")
    return dataclasses.replace(made, name="toy/oracle", macs=macs, mean=MEAN, std=STD)


def said(teacher: ModelHandle) -> Logits:
    """The oracle's logits of the toy images by hand: un-normalised, normalised with its own constants, averaged."""
    pixels = image_set(IMAGES).images.double().numpy()  # in the target's constants, 0 and 1: pixels
    own = (pixels - np.reshape(MEAN, (1, 3, 1, 1))) / np.reshape(STD, (1, 3, 1, 1))
    matrix = teacher.module.get_parameter("matrix").double().numpy()
    return np.asarray(own.mean((2, 3)) @ matrix.T)


def divergence(wanted: Logits, logits: Tensor, tau: float) -> float:
    """Mean over the images of KL(softmax(wanted / tau) || softmax(logits / tau))."""
    p, q = (np.exp(v / tau - (v / tau).max(1, keepdims=True)) for v in (wanted, logits.double().numpy()))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    return float((p * np.log(p / q)).sum(1).mean())


def compress(name: str, teacher: ModelHandle | None, seed: int = 0, **params: Any) -> Compressed:
    """A short training on all images at once, as they are, with the statistics as they are."""
    given = {"steps": 1, "batch": IMAGES, "augment": "none", "bn_freeze": 0.0, "features": 0.0, **params}
    ctx: RunContext = dataclasses.replace(context(seed), teacher=teacher)
    method: Any = METHODS[name]
    made: Compressed = method.compress(handle(), image_set(IMAGES), W2A4, method.Params(**given), ctx)
    return made


def answers(made: Compressed) -> Tensor:
    with torch.no_grad():
        logits: Tensor = made.variants[0].module(image_set(IMAGES).images)
    return logits


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("name", METHODS)
def test_the_loss_is_the_divergence_from_what_the_teacher_says(name: str, squared: bool) -> None:
    """Before its first step the student is what no step makes of it; its logits and the oracle's give the KL."""
    teacher, tau = oracle(), 2.0
    start = answers(compress(name, teacher, steps=0))
    expected = divergence(said(teacher), start, tau) * (tau**2 if squared else 1.0)
    found = compress(name, teacher, temperature=tau, squared=squared).report["kl_first"]
    assert found == pytest.approx(expected, rel=1e-3)
    own = compress(name, None, temperature=tau, squared=squared).report["kl_first"]
    target = handle().module(image_set(IMAGES).images).double().numpy()
    assert own == pytest.approx(divergence(target, start, tau) * (tau**2 if squared else 1.0), rel=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_the_student_learns_what_its_teacher_says(name: str) -> None:
    teacher = oracle()
    plan: dict[str, Any] = {"steps": 25, "optimiser": "adam", "lr": 0.02, "temperature": 1.0}
    start = divergence(said(teacher), answers(compress(name, teacher, steps=0)), 1.0)
    taught = divergence(said(teacher), answers(compress(name, teacher, **plan)), 1.0)
    plain = divergence(said(teacher), answers(compress(name, None, **plan)), 1.0)
    assert taught < 0.6 * start
    assert taught < 0.6 * plain


@pytest.mark.parametrize("name", METHODS)
def test_features_are_compared_with_the_targets_whoever_teaches(name: str) -> None:
    found = [compress(name, who, features=1.0).report["features_first"] for who in (None, oracle(0), oracle(1))]
    assert found[0] > 0
    assert found[0] == pytest.approx(found[1], rel=1e-6) == pytest.approx(found[2], rel=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_its_passes_count_by_its_multiply_accumulates(name: str) -> None:
    """Per image a student's forward and backward, the teacher by its ratio, and the target where features are taken."""
    for macs, features in ((7, 0.0), (7, 1.0), (1, 0.0)):
        made = compress(name, oracle(macs=macs), steps=3, batch=16, features=features, calibration=20)
        assert made.forward_equivalents == 3 * 16 * (2 + macs + bool(features)) + 20
    assert compress(name, None, steps=3, batch=16, calibration=20).forward_equivalents == 3 * 16 * 3 + 20


@pytest.mark.parametrize("name", METHODS)
def test_the_target_as_its_own_teacher_is_no_teacher(name: str) -> None:
    plain, same = compress(name, None, steps=5, batch=16), compress(name, handle(), steps=5, batch=16)
    assert digest(plain.variants[0].module) == digest(same.variants[0].module)


@pytest.mark.parametrize("name", METHODS)
def test_a_teacher_stays_as_it_was_and_one_that_is_not_asked_is_refused(name: str) -> None:
    teacher = oracle()
    before = digest(teacher.module)
    compress(name, teacher, steps=3, features=1.0)
    assert digest(teacher.module) == before
    assert not teacher.module.training
    assert not any(p.requires_grad for p in teacher.module.parameters())
    with pytest.raises(NotApplicable, match="asks its teacher nothing"):
        compress(name, teacher, kl=0.0)
