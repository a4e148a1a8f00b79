"""DoReFa: its activation sizes are fixed."""

from __future__ import annotations

import pytest

from methods.compressors.dorefa import METHOD
from tests.compressors.qat_toys import moved


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_activation_sizes_are_fixed(optimiser: str) -> None:
    assert not any(moved(METHOD, optimiser))
