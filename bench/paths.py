"""Places outside the store: folders, and where runs are tracked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import StoreError

_SET = "Set BENCH_DATA to a folder that can be written."


def cache_folder() -> Path:
    """Where lies what can be had again (fetched data, brought weights, the board's index): $BENCH_DATA, else the
    user's cache folder.

    Raises:
        StoreError: neither is known.
    """
    named = os.environ.get("BENCH_DATA")
    if named:
        return Path(named)
    try:
        return Path.home() / ".cache" / "datafree-bench"
    except RuntimeError as error:
        raise StoreError("this user has no home folder to keep data in", got="no HOME", hint=_SET) from error


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Within, something is written below ``folder``, which lies in the cache folder unless the user named another.

    Raises:
        StoreError: it cannot be.
    """
    try:
        yield
    except OSError as error:
        raise StoreError("the folder cannot be written", where=str(folder), got=error, hint=_SET) from error


DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
CELL_TAG = "bench_cell"
"""Tag of an MLflow run that holds its cell's id."""


def tracking_uri() -> str:
    """$MLFLOW_TRACKING_URI, else a database in the working directory, where a plain ``mlflow ui`` finds it."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI


def ui_command(uri: str) -> str:
    """What shows the MLflow runs."""
    return "mlflow ui" if uri == DEFAULT_TRACKING_URI else f"mlflow ui --backend-store-uri {uri}"


def experiment_name(suite: str) -> str:
    """A suite's experiment in MLflow."""
    return f"datafree-bench/{suite}"
