"""``bench new``: a method's file and its test to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import out
from bench.errors import BenchError, StoreError


def new(
    kind: Annotated[str, typer.Argument(help="source | compressor | policy")],
    name: Annotated[str, typer.Argument(help="The method's name, and its file's.")],
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where to write.")] = Path(),
) -> None:
    """Write NAME.py and test_NAME.py: a working method, made from the shortest one of its kind, to be changed into
    yours.

    Examples: `bench new source my_source` · `bench new compressor my_rounding --dir mine` ·
    `bench new policy my_search`
    """
    from bench.spec.starters import starter

    made = starter(kind, name)
    files = {folder / f"{name}.py": made.text, folder / f"test_{name}.py": made.test}
    _write(files)
    first, test = files
    out.print(f"{first}, {test}: made from {made.example}", highlight=False)
    out.print(f"try it: pytest {test}   use it: bench run SUITE --plugin {first}", highlight=False)


def _write(files: dict[Path, str]) -> None:
    """All of them, or none.

    Raises:
        BenchError: one exists, or cannot be written.
    """
    from bench.store.files import write_atomic

    for path in files:
        if path.exists():
            raise BenchError("the file exists", where="bench new", got=str(path), hint="Choose another name or --dir.")
    written: list[Path] = []
    try:
        for path, text in files.items():
            write_atomic(path, text.encode())
            written.append(path)
    except StoreError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise BenchError(
            "cannot be written", where=str(error.where), got=error.got, hint="Choose another --dir."
        ) from None
