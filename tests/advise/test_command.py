"""The command on a user's tiny network, with the real engine: rounds, answer, resuming, the saved suite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from bench.advise.rounds import LEVELS
from bench.advise.search import Search
from bench.cli.app import app
from bench.errors import BenchError
from bench.spec.registry import Registry
from tests import pick

from .conftest import registered

STORE = ("--store", "store", "--workers", "0")


def told(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["advise", "own_tiny:net", *words, *STORE])
    if isinstance(done.exception, BenchError):
        return 2, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def few(compressors: int = 2) -> str:
    """Cheap candidates: the sources that invert nothing, the simplest compressors."""
    sources = [name for name, m in pick.methods("sources", control="none", models="none").items() if m.access != "T4"]
    names = [
        name for name in pick.methods("compressors", accepts=pick.Exactly(frozenset({"bits"}))) if _calibrates(name)
    ]
    return f"source={'|'.join(sources[:2])},compressor={'|'.join(names[:compressors])}"


def _calibrates(name: str) -> bool:
    method = Registry("compressors").get(name)
    return bool(method.deliveries == {"cached"} and not method.offers)


def records() -> dict[str, float]:
    return {str(path): path.stat().st_mtime_ns for path in Path("store/records").rglob("*.json")}


def test_an_answer_that_resumes_and_a_suite_that_repeats_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after two parts: what was measured stands, and the same command ends as if nothing had been."""
    pick.need_small_runs()
    registered(place / "data")
    calls, whole = [], Search._engine

    def interrupted(self: Search, *given: Any, **more: Any) -> Any:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, *given, **more)

    words = ("--bits", "W4A4", "--minutes", "30", "--only", few(1), "--json", "a.json")
    monkeypatch.setattr(Search, "_engine", interrupted)
    code, _ = told(*words)
    assert code == 130
    monkeypatch.setattr(Search, "_engine", whole)
    stood = records()
    assert stood
    assert [path.suffix for path in Path("store/advise/own_tiny_net").iterdir() if path.is_file()] == [".json"]
    code, said = told(*words)
    assert code == 0, said
    assert {path: time for path, time in records().items() if path in stood} == stood
    found: dict[str, Any] = json.loads(Path("a.json").read_text())
    assert (found["kind"], found["effort"]) == ("accuracy", 1)
    assert found["pick"]["seeds"] >= 2
    assert found["rounds"][0]["calibration_images"] == LEVELS[0].images
    assert len(found["rounds"][0]["candidates"]) == 2
    assert {line["source"] for line in found["lines"] if line["reference"]} == {pick.UPPER, pick.LOWER}
    suite = yaml.safe_load(Path("advise_own_tiny_net.yaml").read_text())
    assert suite["dataset"] == f"imagefolder:{place / 'data'}@16"
    before = records()
    run = ["run", "advise_own_tiny_net.yaml", "--store", "store", "--workers", "0", "--tracker", "none"]
    done = CliRunner().invoke(app, run)
    assert done.exit_code == 0, done.output
    assert {path: time for path, time in records().items() if path in before} == before  # the finalists stand


def test_blind_within_a_size(place: Path) -> None:
    """Agreement, said not to be accuracy, at the widest bits that fit."""
    pick.need_small_runs()
    registered(place / "data")
    _, said = told("--bits", "W2A4,W8A8", "--size", "1", "--blind", "--only", few(1))
    assert "no bits fit into 1 bytes" in said
    words = ("--bits", "W2A4,W8A8", "--size", "100000", "--blind", "--only", few(1), "--json", "a.json")
    code, said = told(*words)
    assert code == 0, said
    assert "This is not accuracy" in " ".join(said.split())
    found = json.loads(Path("a.json").read_text())
    assert (found["kind"], found["fp_top1"]) == ("agreement", None)
    assert found["pick"]["bits"] == "W8A8"
    assert any(one["name"] == "W2A4" and "narrower than needed" in one["why"] for one in found["left_out"])
    assert not any(line["source"] == pick.UPPER for line in found["lines"])


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "neither bits nor a size"),
        (("--bits", "W4"), "--bits"),
        (("--bits", "W4A4", "--minutes", "0"), "is no duration"),
        (("--bits", "W4A4", "--minutes", "nan"), "is no duration"),
        (("--bits", "W4A4", "--only", "bits=W4A4"), "no such axis"),
        (("--bits", "W4A4", "--test", "data", "--blind"), "labels are given"),
    ],
)
def test_bad_input_is_said(place: Path, words: tuple[str, ...], what: str) -> None:
    registered(place / "data")
    code, said = told(*words)
    assert code == 2
    assert what in said
