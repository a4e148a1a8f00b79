"""PACT: its clips are learned."""

from __future__ import annotations

import pytest

from methods.compressors.pact import METHOD
from tests.compressors.qat_toys import moved


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_activation_sizes_are_learned(optimiser: str) -> None:
    assert all(moved(METHOD, optimiser))
