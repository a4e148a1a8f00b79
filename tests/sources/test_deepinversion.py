"""DeepInversion: the student's part, and that it optimises."""

from __future__ import annotations

import torch

from bench.interfaces import ModelHandle
from methods.sources.deepinversion import METHOD
from tests.sources.toy import context, halves_bn_loss, request


def test_adaptive_inversion_uses_the_student(zoo: tuple[ModelHandle, ...]) -> None:
    plain = request(METHOD, zoo[:1], adaptive=0.5, batch=8, iterations=4)
    rival = type(plain)(**{**plain.__dict__, "student": zoo[1]})
    alone, against = (METHOD.synthesize_batch(r, context()) for r in (plain, rival))
    assert (alone.info["student"], against.info["student"]) == (None, "toy8")
    assert not torch.equal(alone.images, against.images)
    assert 0 < against.info["losses"]["competition"] <= 0.5
    assert against.forward_equivalents == alone.forward_equivalents + 8 * 2 * 4


def test_it_halves_the_bn_loss_and_hits_its_labels(zoo: tuple[ModelHandle, ...]) -> None:
    halves_bn_loss(METHOD, zoo[:1], lr=0.1)


def test_mini_is_what_the_specification_asks_for() -> None:
    assert (METHOD.access, METHOD.presets["mini"]["iterations"]) == ("T2a", 400)
