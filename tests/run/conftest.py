"""A small real suite for the runner's tests: the two controls, one network, the simplest quantiser, 200 test images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from bench.run import session
from bench.store.records import ResultRecord
from tests import pick

SUITE = f"""
suite: tiny
version: 1
dataset: fashion_mnist
grid:
  source: [{pick.UPPER}, {pick.LOWER}]
  target: [resnet18_w10]
  compressor: [{pick.ROUND}]
  bits: [W4A4]
images: 40
seeds: [0, 1]
test_subset: 200
"""


def inverting_suite(row: str) -> str:
    """A suite of noise and of the images of ``row``, a source that inverts a network."""
    return f"""
suite: tiny
version: 1
dataset: fashion_mnist
grid:
  source: [{pick.LOWER}, {row}]
  target: [resnet18_w10]
  compressor: [{pick.ROUND}]
  bits: [W8A8]
images: 32
seeds: [0]
test_subset: 50
"""


Run = Callable[..., list[ResultRecord]]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    pick.need_small_runs()
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def run(suite: Path, tmp_path: Path) -> Run:
    """Run the suite in this process (or in workers) into a store of this test."""

    def start(store: str = "store", **options: object) -> list[ResultRecord]:
        given = {"workers": 0, "tracker": "none", **options}
        made = session.Options(suite=str(suite), store=tmp_path / store, **given)  # type: ignore[arg-type]
        return session.run(made, Console(quiet=True))[1]

    return start


def essence(record: ResultRecord) -> dict[str, object]:
    """What must be equal wherever a cell is measured; seconds, dates and machine are not in it."""
    found = record.model_dump(exclude={"costs", "provenance"})
    report = found["report"]
    found["report"] = {k: v for k, v in report.items() if "second" not in k}
    return found


def assert_same(found: list[ResultRecord], expected: list[ResultRecord]) -> None:
    """Equal in all that must be; says which fields of which cell are not."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        left, right = essence(a), essence(b)
        wrong = {k: (left[k], right[k]) for k in left if left[k] != right[k]}
        assert not wrong, f"{a.source} seed {a.seed}: {wrong}"
