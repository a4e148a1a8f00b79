"""Every command in a terminal that is not UTF-8: what its encoding lacks is spelled out and ends nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import typer

from bench.terminal import plain
from dashboard.cli import app
from tests import pick

from .test_bad_input import GOOD

SIGNS = "π → ∞ ± ½ × … é ─│ 中"

# All commands in one process, which imports torch once.
DRIVER = """
import json, os, sys
from dashboard.cli import main

for words in json.loads(sys.argv[1]):
    sys.argv = ["bench", *(os.fsdecode(word.encode()) for word in words)]  # as they come from the system
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    print("=", code, flush=True)
"""

MINE = ("mine.yaml", "--store", "store")
RUN = ("run", *MINE, "--tracker", "none")
COMMANDS: list[tuple[tuple[str, ...], int]] = [
    ((*RUN, "--workers", "1"), 0),
    ((*RUN, "--set", "title=→"), 0),
    (("plan", *MINE), 0),
    (("check", "mine.yaml"), 0),
    (("check", "mine.yaml", "--set", "grid.target=[→]"), 2),
    (("ls", "sources"), 0),
    (("ls", "suites"), 0),
    (("ls", "targets", "--units", "resnet18_w10"), 0),
    (("board", *MINE), 0),
    (("board", *MINE, "--format", "md"), 0),
    (("board", "ptq_w4a4", "--published", "--store", "store"), 0),
    (("diff", "FIRST", "SECOND", "--store", "store"), 0),
    (("repro", "FIRST", "--store", "store"), 0),
    (("doctor", "--store", "store"), 0),
    (("new", "source", "→"), 2),
    (("diagnose", "FIRST", "--store", "store", "--suite", "mine.yaml", "--images", "10", "--html", "→.html"), 0),
    (("export", "→", "--onnx", "→.onnx", "--store", "store"), 2),
    (("advise", "→", "--bits", "W4A4", "--store", "store"), 2),
    (("choose", "--network", "→", "--store", "store"), 2),
    (("history", *MINE), 0),
    (("figure", *MINE, "--kind", "ranks", "--out", "→.svg"), 0),
    (("figure", *MINE, "--out", "→.jpg"), 2),
    (("calibrate-cost", "--network", "→", "--store", "store"), 2),
    (("policy", "solve", f"{SIGNS}.csv"), 2),
    (("policy", "show", f"{SIGNS}.json", "--target", "resnet18_w10"), 2),
    (("policy", "ranks", *MINE), 2),
    (("measured", "add", *MINE, "--to", "packed→"), 0),
    (("submit", *MINE, "--out", "→.json.xz"), 0),
    (("verify", "→.json.xz", "--sample", "1", "--seed", "0", "--workers", "0", "--to", "→", "--store", "none"), 0),
    (("verify", "mine.yaml"), 2),
    (("badge", "→.json.xz", "--out", "→.svg"), 0),
    (("publish", "→.json.xz", "--to", "→"), 0),
    (("mlflow", "sync", *MINE), 0),
    (("data", "fetch", "→"), 2),
    (("data", "sample", "→.tar", "sample→"), 2),
    (("data", "frames", "→", "frames→"), 2),
    (("data", "clips", "mine.yaml"), 2),
    (("zoo", "train", "fashion_mnist", "--only", "→"), 2),
    (("zoo", "verify", "→"), 2),
    (("zoo", "add", "timm:→", "→.safetensors"), 2),
    (("report", "mine.yaml", "--store", "store", "--out", "→.html"), 0),
    (("dashboard", "--store", "store", "--build-only"), 0),
]
ENCODINGS = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of the commands that have none below them."""
    inner = getattr(command, "commands", {})
    if not inner:
        yield path
    for name, below in inner.items():
        yield from leaves(below, (*path, name))


def test_no_command_is_left_out() -> None:
    known = set(leaves(typer.main.get_command(app)))
    tried = {path for path in known for words, _ in COMMANDS if words[: len(path)] == path}
    assert tried == known


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_command_ends_as_in_any_terminal(name: str, tmp_path: Path, packs_known: Callable[[Path], None]) -> None:
    pick.need_small_runs()
    packs_known(tmp_path / "cache")
    (tmp_path / "mine.yaml").write_text(f"{GOOD}title: {SIGNS}\n", encoding="utf-8")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "BENCH_DATA": str(tmp_path / "cache"), **ENCODINGS[name]}
    env["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path / 'mlflow.db'}"
    ids = _cells(tmp_path, env)
    words = [[ids.get(word, word) for word in command] for command, _ in COMMANDS]
    # help is typer's and rich's, whose signs one encoding tries as well as two
    helps = [[*path, "--help"] for path in leaves(typer.main.get_command(app))] if name == "cp1252" else []
    done = _call(tmp_path, env, [*words, *helps])
    said = done.stdout.decode("utf-8" if name == "C" else "cp1252", errors="strict")
    codes = [int(code) for code in re.findall(r"^= (\d+)$", said, re.MULTILINE)]
    assert "Traceback" not in said + done.stderr.decode(errors="replace")
    assert codes == [code for _, code in COMMANDS] + [0] * len(helps), said


def _cells(place: Path, env: dict[str, str]) -> dict[str, str]:
    done = _call(place, env, [["plan", "mine.yaml", "--json"]])
    text = done.stdout.decode(errors="replace")
    cells = json.loads(text[text.index("{") : text.rindex("}") + 1])["cells"]
    return {"FIRST": cells[0]["cell_id"], "SECOND": cells[1]["cell_id"]}


def _call(place: Path, env: dict[str, str], commands: list[list[str]]) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-c", DRIVER, json.dumps(commands)]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(words, cwd=place, env={**env, "PYTHONPATH": root}, capture_output=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def test_signs_are_spelled_out() -> None:
    assert plain("17 → 26 ± 0.5 × 2²") == "17 -> 26 +- 0.5 x 22"
    assert plain("┏━┓│ é ⠋ ▇ 中") == "+-+| e * # ?"
    assert plain(b"a\xff".decode("utf-8", errors="surrogateescape")) == "a\\xff"
