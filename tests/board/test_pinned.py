"""One small board, pinned: what it showed of a pack of schema 1 before records had structure, it shows now.

``pinned/kd.json.xz`` is the pack of the suite ``kd`` as it was measured, ``pinned/kd.csv`` its board as the code of
schema 1 made it (the column ``bits`` of then is ``setting_label``).  One seed had ranks, ties and verdicts then and has
none now, and its intervals were over the test images only; everything else is what it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.board.claims.judging import judge
from bench.board.index.frame import frame
from bench.store.measured import read_measured
from bench.store.records import ResultRecord

FOLDER = Path(__file__).parent / "pinned"

VERSIONS = {
    ("sources", "real"): 2, ("sources", "noise"): 2, ("sources", "mixmix"): 2, ("sources", "deepinversion"): 2,
    ("sources", "dafl"): 3, ("sources", "dafl_mixmix"): 3, ("compressors", "kd"): 1,
}  # fmt: skip
"""Of the code that measured them, so that nothing becomes stale when a method moves on."""

CLAIMS: list[dict[str, Any]] = [
    {
        "says": "a generator trained with mixed networks teaches better than DeepInversion's images",
        "better": {"source": ["dafl_mixmix"]},
        "worse": {"source": ["deepinversion"]},
        "by": ["target", "student"],
    },
    {
        "says": "mixing helps the generator",
        "better": {"source": ["dafl_mixmix"]},
        "worse": {"source": ["dafl"], "over": "best"},
        "by": ["target", "student"],
    },
]


OF_SEVERAL_SEEDS = {"rank", "rank_low", "rank_high", "letters"}
CHANGED = {"top1_low", "top1_high", "recovered_low", "recovered_high", "recovered", "tied", "best", "mde"}


@pytest.fixture(scope="module")
def records() -> tuple[ResultRecord, ...]:
    return read_measured(FOLDER)


def test_the_board_is_what_it_was(records: tuple[ResultRecord, ...]) -> None:
    expected = pd.read_csv(FOLDER / "kd.csv", keep_default_na=False, dtype=str)
    table = frame(records, versions=VERSIONS)
    assert len(table) == len(expected) == 24
    names = ["source", "target", "setting_label"]
    table, expected = table.sort_values(names), expected.sort_values(names)
    assert table[list(OF_SEVERAL_SEEDS)].isna().all(axis=None)
    assert (
        table["top1_high"] - table["top1_low"]
        > expected["top1_high"].astype(float).to_numpy() - expected["top1_low"].astype(float).to_numpy()
    ).all()
    for name in set(expected) - OF_SEVERAL_SEEDS - CHANGED:
        found = ["" if pd.isna(value) else str(value) for value in table[name]]
        if name.startswith(("top1", "fp", "recovered")):
            numbers = [(float(a), float(b)) for a, b in zip(found, expected[name], strict=True) if a or b]
            assert all(a == pytest.approx(b, abs=1e-9) for a, b in numbers), name
        else:
            assert found == list(expected[name]), name


DIFFERENCES = [27.856666666666662, 26.979999999999993]


def test_the_differences_are_what_they_were(records: tuple[ResultRecord, ...]) -> None:
    for verdict, difference in zip(judge(CLAIMS, records, versions=VERSIONS), DIFFERENCES, strict=True):
        assert (verdict.verdict, verdict.pairs) == ("one seed", 3)
        assert verdict.difference == pytest.approx(difference, rel=1e-9)
