"""One command line of two packages: the engine's commands stand without the user interface, and start light."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer

import bench.cli.app
import dashboard.cli

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "pandas", "plotly", "streamlit", "matplotlib"}


def names(app: typer.Typer) -> set[str]:
    return set(getattr(typer.main.get_command(app), "commands", {}))


def loaded(code: str) -> set[str]:
    """Top-level modules after ``code``, in an interpreter of its own."""
    ask = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split())


def test_the_script_gives_the_engines_commands_and_those_that_draw() -> None:
    assert names(dashboard.cli.app) - names(bench.cli.app.app) == {"report", "dashboard", "diagnose", "figure"}
    assert names(bench.cli.app.app) < names(dashboard.cli.app)


def test_the_installed_script_is_the_whole_command_line() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert set(scripts) == {"bench"}
    module, _, function = scripts["bench"].partition(":")
    assert getattr(import_module(module), function) is dashboard.cli.main


def test_the_engine_starts_without_its_user_interface() -> None:
    assert "dashboard" not in loaded("import bench.cli.app, bench.cli.board, bench.cli.info")


def test_nothing_heavy_is_loaded_before_a_command_runs() -> None:
    assert not loaded("import dashboard.cli") & HEAVY


def test_errors_of_the_added_commands_end_like_the_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench", "report", "--out", "r.pdf"])
    with pytest.raises(SystemExit) as ended:
        dashboard.cli.main()
    assert ended.value.code == 2
    assert "error: --out: a report is HTML" in capsys.readouterr().err
