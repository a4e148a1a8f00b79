"""The outer edge of the command line: interrupts, errors a user can act on, a full disk, a terminal of any encoding."""

from __future__ import annotations

import errno
import io
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.logging import RichHandler
from rich.text import Text
from typer.core import TyperGroup

from bench.cli.options import err
from bench.errors import BenchError
from bench.terminal import take_any_text


class Resumable(KeyboardInterrupt):
    """An interrupt of work that the same command goes on with."""


@contextmanager
def resumable() -> Iterator[None]:
    """Within (or in a command that this decorates) finished parts stay: who interrupts it is told that the same command
    resumes."""
    try:
        yield
    except KeyboardInterrupt:
        raise Resumable from None


def all_resumable(commands: typer.Typer) -> typer.Typer:
    """``commands``, each of them :func:`resumable`."""
    for command in commands.registered_commands:
        if command.callback is not None:
            command.callback = resumable()(command.callback)
    return commands


def _say_interrupted(stop: KeyboardInterrupt) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # another one could only cut this short
    said = "interrupted; the same command resumes" if isinstance(stop, Resumable) else "interrupted"
    err.print(said, highlight=False)


class Commands(TyperGroup):
    """Says what an interrupt means; left to itself, typer ends without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            _say_interrupted(stop)
            raise typer.Exit(130) from None


def command_line(text: str) -> typer.Typer:
    """A command line without commands; ``text`` is its help."""
    return typer.Typer(
        help=text,
        cls=Commands,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )


def at_the_edge(commands: typer.Typer) -> None:
    """Run ``commands``; errors a user can act on are printed without a traceback and exit with 2."""
    take_any_text()
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=err, show_path=False)]
    )
    try:
        commands()
    except BenchError as error:
        said = Text.assemble(("error:", "red"), f" {error}")
        err.print(said, soft_wrap=True)  # commands in it are to be copied whole
        raise SystemExit(2) from None
    except KeyboardInterrupt as stop:  # before a command began
        _say_interrupted(stop)
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or "what was to be shown"
        err.print(Text.assemble(("error:", "red"), f" {where} cannot be written: {error.strerror}"))
        sys.stdout = io.StringIO()  # what it still holds would fail once more
        raise SystemExit(2) from None
