"""What rows were asked, read off the axes' columns: the heading's name, levels, groups that share a table."""

from __future__ import annotations

import pytest

from bench.board.index.frame import frame
from bench.board.tables.means import setting_groups
from bench.board.tables.settings import Level, levels, setting_name

from .make import record


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (["W4A4", "W3A3", ""], "Bits"),
        (["S50", "S12.5"], "Sparsity"),
        (["resnet18_w10"], "Student"),
        (["S20 W4A4"], "Setting"),
        (["S20", "W4A4"], "Setting"),
        ([""], "Setting"),
    ],
)
def test_a_setting_is_called_what_it_is(settings: list[str], name: str) -> None:
    assert setting_name(frame([record(0.5, setting_label=label) for label in settings])) == name


def test_levels_lie_where_their_numbers_are() -> None:
    table = frame([record(0.5, setting_label=label) for label in ("W2A4", "S50 W4A4", "net")])
    assert set(levels(table, "bits")) == {Level("W2A4", 2.0), Level("W4A4", 4.0), Level("")}
    assert set(levels(table, "sparsity")) == {Level("S50", 0.5), Level("")}
    assert set(levels(table, "student")) == {Level("net"), Level("")}
    assert str(Level("W2A4", 2.0)) == "W2A4"


def test_settings_that_differ_in_the_activations_share_a_table_where_targets_do_not_meet() -> None:
    asked = [("a", "W4A4"), ("b", "W4A4"), ("c", "W4A8"), ("a", "W2A8"), ("a", "S20 W4A4"), ("c", "S20 W4A8")]
    table = frame([record(0.5, target=t, target_digest=t, setting_label=label) for t, label in asked])
    groups = sorted(map(sorted, setting_groups(table).values()))
    assert groups == [["S20 W4A4", "S20 W4A8"], ["W2A8"], ["W4A4", "W4A8"]]
    meet = frame([record(0.5, setting_label=label) for label in ("W4A4", "W4A8")])
    assert sorted(setting_groups(meet).values()) == [["W4A4"], ["W4A8"]]
