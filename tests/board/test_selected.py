"""``--only`` on records means what it means on the grid."""

from __future__ import annotations

import pytest

from bench.board.index.selected import select
from bench.errors import SuiteError
from bench.spec.plan import only_axes

from .make import record

RECORDS = [
    record(0.5, source=source, target=target, seed=seed, setting_label=bits)
    for source in ("plain", "plain(mix=2)", "other")
    for target in ("resnet18_w10", "resnet50_w8", "vgg_w8")
    for bits in ("W4A4", "W2A4")
    for seed in (0, 1)
]


def chosen(only: str) -> set[tuple[str, str, str]]:
    ids = select(RECORDS, only).shown
    return {(r.source, r.target, r.setting_label) for r in RECORDS if r.row_id in ids}


def test_comma_is_and_bar_is_or_and_patterns_match() -> None:
    assert {key[0] for key in chosen("source=other")} == {"other"}
    assert {key[1] for key in chosen("target=resnet*")} == {"resnet18_w10", "resnet50_w8"}
    both = chosen("source=other|plain(mix=2),target=vgg*,bits=W2A4")
    assert both == {("other", "vgg_w8", "W2A4"), ("plain(mix=2)", "vgg_w8", "W2A4")}


def test_a_rows_own_label_means_that_row_alone() -> None:
    assert {key[0] for key in chosen("source=plain")} == {"plain"}


def test_every_axis_of_the_grid_can_be_asked() -> None:
    for axis in only_axes():
        assert select(RECORDS, f"{axis}=*").shown == select(RECORDS, None).shown


def test_seeds_choose_records_and_everything_else_chooses_rows() -> None:
    found = select(RECORDS, "seed=1,source=other")
    assert {r.seed for r in found.records} == {1}
    assert {r.source for r in found.records} == {r.source for r in RECORDS}
    assert found.measured_on == select(RECORDS, None).measured_on  # beside the chosen lines stand those they rank with
    narrowed = select(RECORDS, "target=vgg_w8,source=other")
    assert {r.source for r in RECORDS if r.row_id in narrowed.measured_on} == {r.source for r in RECORDS}
    assert {r.target for r in RECORDS if r.row_id in narrowed.measured_on} == {"vgg_w8"}


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ("sauce=other", "did you mean: source"),
        ("target=resnet19_w10", "did you mean: resnet18_w10"),
        ("source", "is no AXIS=VALUE"),
        ("target=vgg_w8,membership=none,seed=7", "matches no seed"),
    ],
)
def test_what_selects_nothing_is_said(only: str, said: str) -> None:
    with pytest.raises(SuiteError, match=said.replace("?", ".")):
        select(RECORDS, only)
