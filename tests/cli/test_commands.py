"""The informing commands, on a real store that one small run made."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pick

from .test_bad_input import GOOD

BENCH = [sys.executable, "-c", "from bench.cli.app import main; main()"]


def bench(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run ``bench`` in ``folder`` as a user does; returns what it prints."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run([*BENCH, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    pick.need_small_runs()
    place = tmp_path_factory.mktemp("user")
    (place / "mine.yaml").write_text(GOOD)
    said = bench(place, "run", "mine.yaml", "--tracker", "none", "--workers", "0")
    assert "2 ok" in said
    return place


def test_a_second_run_does_nothing(folder: Path) -> None:
    said = bench(folder, "run", "mine.yaml", "--tracker", "none")
    assert "0 cells to do" in said


def test_the_board_in_every_format(folder: Path) -> None:
    table = list(csv.DictReader(io.StringIO(bench(folder, "board", "mine.yaml", "--format", "csv"))))
    assert {row["source"] for row in table} == {pick.UPPER, pick.LOWER}
    need = {
        "suite",
        "dataset",
        "source",
        "model",
        "target",
        "compressor",
        "setting_label",
        "n",
        "top1_mean",
        "top1_low",
    }
    assert need | {"top1_high", "fp_top1"} <= set(table[0])
    assert any(name.endswith("_s") for name in table[0])
    for row in table:
        assert float(row["top1_low"]) <= float(row["top1_mean"]) <= float(row["top1_high"])
    answer = json.loads(bench(folder, "board", "mine.yaml", "--format", "json"))
    assert len(answer["rows"]) == 2
    assert f"| {pick.UPPER}" in bench(folder, "board", "mine.yaml", "--format", "md")
    assert "tabular" in bench(folder, "board", "mine.yaml", "--format", "latex")
    assert pick.UPPER in bench(folder, "board", "mine.yaml")


def test_plan_says_what_stands(folder: Path) -> None:
    assert "0 of 2 cells to do" in bench(folder, "plan", "mine.yaml")
    plan = json.loads(bench(folder, "run", "mine.yaml", "--dry-run", "--json"))
    assert len(plan["cells"]) == 2


def test_diff_and_repro(folder: Path) -> None:
    ids = [c["cell_id"] for c in json.loads(bench(folder, "plan", "mine.yaml", "--json"))["cells"]]
    said = bench(folder, "diff", *ids)
    assert "source" in said
    assert "metrics.top1" in said
    command = shlex.split(bench(folder, "repro", ids[0]))
    assert command[:2] == ["bench", "run"]
    assert f"source={pick.UPPER}" in command[command.index("--only") + 1]


@pytest.mark.parametrize("kind", ["sources", "compressors", "targets", "datasets", "suites"])
def test_lists(folder: Path, kind: str) -> None:
    rows = json.loads(bench(folder, "ls", kind, "--json"))
    assert rows
    assert all(row["name"] for row in rows)


def test_units_of_a_network(folder: Path) -> None:
    units = json.loads(bench(folder, "ls", "targets", "--units", "resnet18_w10", "--json"))
    of_one = units[0]["compressors"]  # those that see the network alike
    assert of_one
    units = [unit for unit in units if unit["compressors"] == of_one]
    assert len(units) == 10  # stem, eight blocks, classifier
    layers = [name for unit in units for name in unit["layers"]]
    assert len(layers) == len(set(layers)) == 22  # the wide stem gives the first block a shortcut convolution too


def test_every_shipped_suite_is_valid(folder: Path) -> None:
    names = [row["name"] for row in json.loads(bench(folder, "ls", "suites", "--json"))]
    for name in filter(pick.complete, names):  # what lacks a method, another test tells
        assert "ok" in bench(folder, "check", name)


def test_doctor_and_help(folder: Path) -> None:
    assert "digests as registered" in bench(folder, "doctor")
    assert "Examples" in bench(folder, "run", "--help")


def test_measured_records_travel(folder: Path) -> None:
    bench(folder, "measured", "add", "mine.yaml", "--to", "packed")
    assert (folder / "packed" / "mine.json.xz").stat().st_size < 2_000_000
    grids = list((folder / "packed" / "mine").iterdir())
    assert len(grids) == 2
    assert all(grid.stat().st_size <= 100_000 for grid in grids)
