"""ZeroQ: start, schedule, and that it optimises."""

from __future__ import annotations

import pytest

from bench.interfaces import ModelHandle
from methods.sources.zeroq import METHOD
from tests.sources.toy import context, halves_bn_loss, request


def test_zeroq_variants(zoo: tuple[ModelHandle, ...]) -> None:
    start = METHOD.prepare(request(METHOD, zoo, init="code", batch=64), context()).init
    assert float(start.std()) == pytest.approx(0.0136, rel=0.02)
    recon = METHOD.prepare(request(METHOD, zoo, recon=True), context()).settings
    assert (recon.lr, recon.stop_below) == (0.1, 15.0)
    assert METHOD.settings(METHOD.Params()).patience == 100


def test_it_halves_the_bn_loss(zoo: tuple[ModelHandle, ...]) -> None:
    halves_bn_loss(METHOD, zoo[:1])


def test_mini_is_what_the_specification_asks_for() -> None:
    assert (METHOD.access, METHOD.presets["mini"]["iterations"]) == ("T2a", 200)
