"""`bench doctor`: the machine's facts, and which packs were measured on such a machine."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from bench import runtime
from bench.cli.doctor import packs_table, show_doctor
from bench.machine import machine_key
from tests.board.make import record


def _shown(what: object) -> str:
    console = Console(width=200, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_packs_are_told_by_the_machine_that_measured_them(tmp_path: Path) -> None:
    here = runtime.facts("cpu", 1)
    old = {name: here[name] for name in ("cpu", "torch", "threads", "device")}
    packs = {
        "same": {**here, "date": "2026-01-01", "cores": 64},
        "other": {**here, "aten": "ANOTHER"},
        "elsewhere": {**old, "cpu": "another"},
        "old": old,
    }
    for name, facts in packs.items():
        made = record(0.8, suite=name).model_copy(update={"provenance": facts})
        (tmp_path / f"{name}.json").write_text(json.dumps([made.model_dump(mode="json")]))
    shown = _shown(packs_table(here, tmp_path))
    lines = shown.splitlines()
    said = {name: next(line for line in lines if f"{name} (1)" in line) for name in packs}
    assert "this machine" in said["same"]
    assert machine_key(here) in said["same"]
    assert "another/1t/" in said["other"]
    assert all("│ another " in said[name] for name in ("other", "elsewhere"))
    assert "not known" in said["old"]
    assert "do not tell their instruction set" in " ".join(shown.split())


def test_a_mixed_pack_stands_under_each_machine(tmp_path: Path) -> None:
    here = runtime.facts("cpu", 1)
    made = [record(0.8, seed=k).model_copy(update={"provenance": {**here, "threads": 1 + k}}) for k in (0, 1)]
    (tmp_path / "s.json").write_text(json.dumps([r.model_dump(mode="json") for r in made]))
    assert _shown(packs_table(here, tmp_path)).count("s (1)") == 2
    assert "not known" not in _shown(packs_table(here, tmp_path))


def test_doctor_says_what_a_run_would_meet(tmp_path: Path) -> None:
    console = Console(width=200, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        assert show_doctor(tmp_path, console)
    said, here = capture.get(), runtime.facts("cpu", 1)
    for text in (here["cpu"], here["aten"], here["onednn"], here["blas"], here["torch"], machine_key(here)):
        assert text in said
    assert "ptq_w4a4 (" in said
