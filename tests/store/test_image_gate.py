"""The verdict on an image set from its batches' readings."""

from __future__ import annotations

from typing import Any

import pytest

from bench.store.image_gate import INVERSION, ImageGate, judged


def batch(*readings: dict[str, Any]) -> dict[str, Any]:
    return {INVERSION: [{"network": f"n{i}", "n": 10, **reading} for i, reading in enumerate(readings)]}


def gate(*batches: dict[str, Any]) -> ImageGate:
    found = judged(batches)
    assert found is not None
    return found


def test_readings_are_averaged_by_images_and_shares_network_by_network() -> None:
    few = {"n": 30, "labelled": 15, "top1": 100.0, "bn_loss": 10.0, "noise_bn_loss": 100.0}
    other = {"labelled": 5, "top1": 80.0, "bn_loss": 4.0, "noise_bn_loss": 8.0}
    found = gate(batch(few), batch(other))
    assert (found.top1, found.n) == (95.0, 40)
    assert found.bn_loss == pytest.approx((30 * 10 + 10 * 4) / 40)
    assert found.noise_bn_loss == pytest.approx((30 * 100 + 10 * 8) / 40)
    assert found.bn_share == pytest.approx((30 * 0.1 + 10 * 0.5) / 40)
    assert not found.flagged
    assert gate(batch(few, other)).n == 30  # two networks, the same images


@pytest.mark.parametrize(
    ("reading", "flagged"),
    [
        ({"labelled": 10, "top1": 90.0}, False),
        ({"labelled": 10, "top1": 89.9}, True),
        ({"bn_loss": 5.0, "noise_bn_loss": 10.0}, False),
        ({"bn_loss": 5.1, "noise_bn_loss": 10.0}, True),
        ({"labelled": 10, "top1": 100.0, "bn_loss": 9.0, "noise_bn_loss": 10.0}, True),
        ({"labelled": 10, "top1": 10.0, "bn_loss": 1.0, "noise_bn_loss": 10.0}, True),
        ({"labelled": 0, "top1": None, "bn_loss": None, "noise_bn_loss": None}, False),
    ],
)
def test_either_fault_flags_a_set_and_what_is_unknown_does_not(reading: dict[str, Any], flagged: bool) -> None:
    assert gate(batch(reading)).flagged is flagged


def test_what_no_network_read_has_no_verdict() -> None:
    assert judged([]) is None
    assert judged([{"models": []}, {}]) is None
