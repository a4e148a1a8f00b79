"""The setting's bits in every layer."""

from __future__ import annotations

import pytest

from bench.interfaces import Setting
from tests.policies.asking import ask
from tests.policies.test_space import Block, space


def test_every_open_layer_has_the_settings_bits() -> None:
    found = ask("uniform", Block(), setting=Setting(2, 4))
    assert {name: tuple(pair) for name, pair in found.policy.items()} == dict.fromkeys(
        ("one", "two", "point", "down"), (2, 4)
    )
    assert found.report["effective_bits"] ** 2 == pytest.approx(8)
    places = {place.name: place.macs for place in space(Block()).places}
    ends = (places.pop("stem") + places.pop("head")) * 64
    assert found.report["bitops"] == ends + 8 * sum(places.values())
    assert found.forward_equivalents == 0
