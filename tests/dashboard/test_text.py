"""Words and numbers of the pages."""

from __future__ import annotations

import pytest

from dashboard.text import setting_name


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (["W4A4", "W3MPA3MP", ""], "Bits"),
        (["S50", "S12.5"], "Sparsity"),
        (["S20 W4A4"], "Setting"),
        (["S20", "W4A4"], "Setting"),
        (["resnet18_w10"], "Setting"),
        ([""], "Setting"),
    ],
)
def test_a_setting_is_called_what_it_is(settings: list[str], name: str) -> None:
    assert setting_name(settings) == name
