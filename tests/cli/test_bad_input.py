"""What a user gets wrong: exit code 2, the place, what was got, what is allowed, the nearest name; nothing is left."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.cli import app as cli
from tests import pick

GOOD = f"""suite: mine
version: 1
dataset: fashion_mnist
grid:
  source: [{pick.UPPER}, {pick.LOWER}]
  target: [resnet18_w10]
  compressor: [{pick.ROUND}]
  bits: [W4A4]
images: 40
seeds: [0]
test_subset: 200
"""

SHORT = pick.LOWER[:-1]
FIELD = next(iter(pick.methods("sources")[pick.LOWER].Params.model_fields)) if pick.LOWER else ""
CASES = {
    "method": (f"{pick.LOWER}]", f"{SHORT}]", ["mine.yaml:5", SHORT, f"{pick.LOWER}?"]),
    "target": ("resnet18_w10", "resnet18_w11", ["mine.yaml:6", "resnet18_w11", "resnet18_w10?"]),
    "key": ("images: 40", "imges: 40", ["mine.yaml:9", "imges", "images?"]),
    "type": ("images: 40", "images: many", ["mine.yaml:9: images", "many"]),
    "empty grid": ("bits: [W4A4]", "bits: []", ["mine.yaml:8: grid.bits"]),
    "duplicate": (f"{pick.LOWER}]", f"{pick.UPPER}]", ["mine.yaml:5", pick.UPPER]),
    "W0": ("W4A4", "W0A4", ["mine.yaml:8", "W0A4"]),
    "W33": ("W4A4", "W33A4", ["mine.yaml:8", "W33A4"]),
    "few images": ("images: 40", "images: 5", ["mine.yaml:9: images", "at least 10"]),
    "data set": ("dataset: fashion_mnist", "dataset: fashion_mnst", ["fashion_mnst", "fashion_mnist?"]),
    "parameter": (f"{pick.LOWER}]", f"{{{pick.LOWER}: {{{FIELD}s: 1}}}}]", ["mine.yaml:5", f"{FIELD}s", f"{FIELD}?"]),
    "yaml": ("grid:", "grid: [", ["mine.yaml"]),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the good suite."""
    pick.need_small_runs()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(GOOD)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line in this process; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_suite(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, expected = CASES[case]
    assert old in GOOD
    (tmp_path / "mine.yaml").write_text(GOOD.replace(old, new, 1))
    code = call(monkeypatch, "run", "mine.yaml", "--tracker", "none", "--workers", "0")
    said = "".join(capsys.readouterr().err.split("\n"))
    assert code == 2, said
    for part in expected:
        assert part in said, said
    assert "Traceback" not in said
    assert not (tmp_path / ".bench").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "quickstrat"], ["quickstrat", "quickstart?"]),
        (["run", "mine.yaml", "--only", f"source={SHORT}"], [SHORT, f"{pick.LOWER}?"]),
        (["run", "mine.yaml", "--set", "grid.sorce=[x]"], ["sorce", "source?"]),
        (["run", "mine.yaml", "--preset", "minii"], ["minii", "mini?"]),
        (["ls", "source"], ["source", "sources?"]),
        (["board", "--format", "tabel"], ["tabel", "table?"]),
        (["repro", "zzzz"], ["zzzz"]),
        (["data", "fetch", "fashion"], ["fashion", "fashion_mnist?"]),
    ],
)
def test_a_wrong_word(
    arguments: list[str],
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = call(monkeypatch, *arguments)
    said = "".join(capsys.readouterr().err.split("\n"))
    assert code == 2, said
    for part in expected:
        assert part in said, said
    assert not (tmp_path / ".bench").exists()


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    code = call(monkeypatch, "run", "mine.yaml", "--store", "file/store", "--tracker", "none")
    assert code == 2
    assert "cannot be written" in capsys.readouterr().err


def test_less_disk_than_the_plan_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10))  # type: ignore[attr-defined]
    code = call(monkeypatch, "run", "mine.yaml", "--tracker", "none")
    assert code == 2
    assert "less disk is free" in capsys.readouterr().err
