"""What an interrupt is said to mean: that the same command resumes, where finished parts stay, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.cli.edge import command_line, resumable
from bench.run import session

RESUMES = "the same command resumes"


def interrupted(*arguments: str, commands: object = app) -> str:
    done = CliRunner().invoke(commands, list(arguments))  # type: ignore[arg-type]
    assert done.exit_code == 130, done.output
    assert done.output.count("interrupted") == 1
    return done.output


@pytest.mark.parametrize("stays", [True, False])
def test_only_what_stays_is_said_to_resume(stays: bool) -> None:
    commands = command_line("help")

    @commands.command()
    def other() -> None:
        """Another one, so that commands have names."""

    @commands.command()
    def work() -> None:
        """Long work."""
        raise KeyboardInterrupt

    inner = command_line("inner")

    @inner.command()
    @resumable()
    def long(words: str) -> None:
        """Long work whose parts stay."""
        raise KeyboardInterrupt(words)

    @inner.command()
    def short() -> None:
        """Another one."""

    commands.add_typer(inner, name="inner")
    said = interrupted(*(["inner", "long", "x"] if stays else ["work"]), commands=commands)
    assert (RESUMES in said) is stays


def test_a_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "run", stopped)
    assert RESUMES in interrupted("run", "quickstart", "--store", str(tmp_path))


def test_an_advice_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.advise.ask.ask", stopped)
    assert RESUMES in interrupted("advise", "resnet18_w10", "--bits", "W4A4", "--store", str(tmp_path))


def test_a_board_does_not_speak_of_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "plan_of", stopped)
    assert RESUMES not in interrupted("board", "quickstart", "--store", str(tmp_path))
