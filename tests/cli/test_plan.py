"""``bench plan``: what stands, where it stands, what the rest costs; and that it writes nothing anywhere."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import options as cli_options
from bench.cli.app import app
from bench.cost import calibration
from bench.store.packs import PackedRecords
from tests import pick

OPEN = f"""
suite: open
version: 1
dataset: fashion_mnist
grid: {{source: [{pick.LOWER}], target: [resnet18_w10], compressor: [{pick.ROUND}], bits: [W8A8]}}
images: 32
test_subset: 110
seeds: [0]
"""
"""A suite that no shipped record answers: nothing else tests on so few images."""


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_options.out, "width", 200)  # read once, at the import, from whatever ran the tests


def plan(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["plan", *words])
    said = done.output + (str(done.exception) if done.exception and not isinstance(done.exception, SystemExit) else "")
    return done.exit_code, said


def tree(*places: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for place in places for path in (place, *place.rglob("*")) if path.exists()}


@pytest.fixture(scope="module")
def noted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that knows what the shipped records are: to read all of them takes seconds."""
    folder = tmp_path_factory.mktemp("noted")
    PackedRecords(cache=folder)
    return folder / "packs"


@pytest.fixture
def place(tmp_path: Path, noted: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder and home, and a cache with the notes on shipped records."""
    for name in ("work", "home", "cache"):
        (tmp_path / name).mkdir()
    shutil.copytree(noted, tmp_path / "cache" / "packs")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    return tmp_path


def gpu(path: Path, scale: float = 1.0, device: str = "cuda") -> Path:
    """A calibration of another machine, each step ``scale`` times as long as on the reference."""
    found = calibration.reference()
    timed = tuple(
        one.model_copy(update={"seconds": one.cpu_seconds * scale, "cpu_seconds": one.cpu_seconds * scale})
        for one in found.timed
    )
    made = found.model_copy(update={"device": device, "machine": "far", "facts": {"gpu": "G"}, "timed": timed})
    path.write_text(made.model_dump_json())
    return path


def test_nothing_is_written_anywhere(place: Path) -> None:
    suite = place / "open.yaml"
    suite.write_text(OPEN)
    shutil.rmtree(place / "cache" / "packs")  # what any other command would note there
    before = tree(place)
    code, said = plan(str(suite))
    assert (code, "1 of 1 cells to do" in said) == (0, True)
    assert tree(place) == before
    PackedRecords()
    assert tree(place) != before  # who looks the same way without promising that notes what it found
    before = tree(place)
    assert plan("quickstart", "--json", "--store", str(place / "home" / "none"))[0] == 0
    assert tree(place) == before


def test_shipped_records_and_the_store_are_told_apart(place: Path) -> None:
    pick.need_small_runs()
    suite = place / "open.yaml"
    suite.write_text(OPEN)
    words = ["run", str(suite), "--workers", "0", "--tracker", "none"]
    assert CliRunner().invoke(app, words).exit_code == 0
    _, said = plan(str(suite))
    assert "0 of 1 cells to do (1 by the store)" in said
    assert "CPU-minutes" not in said
    _, said = plan("quickstart")
    counted = re.search(r"0 of (\d+) cells to do \((\d+) answered by shipped records\)", said)
    assert counted is not None
    cells = int(counted[1])
    assert cells == int(counted[2]) > 0
    assert "--fresh measures it here" in said
    done = CliRunner().invoke(app, ["run", "quickstart", "--dry-run", "--fresh"])
    assert f"{cells} of {cells} cells to do" in done.output
    assert "minutes here: not known" not in plan(str(suite), "--set", "test_subset=120")[1]  # its own record tells


def costs(*words: str) -> Sequence[dict[str, object]]:
    code, said = plan(*words, "--json")
    assert code == 0, said
    found: list[dict[str, object]] = json.loads(said)["cost"]
    return found


def test_without_records_or_calibration_minutes_are_unknown_and_said_to_be(place: Path) -> None:
    suite = place / "open.yaml"
    suite.write_text(OPEN)
    said = " ".join(plan(str(suite))[1].split())
    assert "on the machine of the shipped records" in said
    assert "minutes here: not known" in said
    assert "GPU-hours: not known, no GPU is calibrated" in said
    (cost,) = costs(str(suite))
    assert (cost["known"], cost["machine"]) == (False, None)


def test_a_calibration_of_this_machine_makes_them_known(place: Path) -> None:
    suite = place / "open.yaml"
    suite.write_text(OPEN)
    words = ["calibrate-cost", "--network", "fashion_mnist/resnet18_w10", "--seconds", "0.01"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    said = " ".join(plan(str(suite), "--workers", "1")[1].split())
    assert "minutes here: not known" not in said
    assert "with 1 worker" in said
    (cost,) = costs(str(suite))
    assert cost["known"] is True
    assert set(cost["kinds"]) == {"image batch", "compression"}  # type: ignore[call-overload]


def test_a_plan_for_a_machine_that_is_not_here(place: Path) -> None:
    suite = place / "open.yaml"
    suite.write_text(OPEN)
    (slow,), (fast,) = (costs(str(suite), "--cost", str(gpu(place / "gpu.json", scale))) for scale in (2.0, 1.0))
    assert slow["device"] == "cuda"
    assert slow["seconds"] == pytest.approx(2 * float(str(fast["seconds"])), rel=0.05)
    both = costs(str(suite), "--cost", str(place / "gpu.json"), "--cost", str(gpu(place / "cpu.json", 1.0, "cpu")))
    assert [cost["device"] for cost in both] == ["cuda", "cpu"]
    assert "GPU-hours: image batch" in " ".join(plan(str(suite), "--cost", str(place / "gpu.json"))[1].split())


def test_two_calibrations_of_one_device_are_refused(place: Path) -> None:
    path = str(gpu(place / "gpu.json"))
    suite = place / "open.yaml"
    suite.write_text(OPEN)
    code, said = plan(str(suite), "--cost", path, "--cost", path)
    assert code != 0
    assert "two calibrations of cuda" in said


def test_an_unknown_device_is_refused() -> None:
    done = CliRunner().invoke(app, ["calibrate-cost", "--device", "tpu"])
    assert done.exit_code != 0
    assert "unknown device" in str(done.exception)
