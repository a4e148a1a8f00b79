"""The outer edge of the command line: interrupts, errors a user can act on, a full disk, a terminal of any encoding."""

from __future__ import annotations

import errno
import io
import logging
import signal
import sys
from typing import Any

import typer
from rich.logging import RichHandler
from rich.text import Text
from typer.core import TyperGroup

from bench.cli_options import err
from bench.errors import BenchError
from bench.terminal import take_any_text


class Commands(TyperGroup):
    """Says what an interrupt means; left to itself, typer ends without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # another one could only cut this short
            resumes = "; the same command resumes" if ctx.invoked_subcommand == "run" else ""
            err.print(f"interrupted{resumes}", highlight=False)
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
        err.print(Text.assemble(("error:", "red"), f" {error}"))
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        err.print("interrupted; the same command resumes", highlight=False)
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or "what was to be shown"
        err.print(Text.assemble(("error:", "red"), f" {where} cannot be written: {error.strerror}"))
        sys.stdout = io.StringIO()  # what it still holds would fail once more
        raise SystemExit(2) from None
