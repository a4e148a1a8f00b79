"""Places outside the store: folders, and where runs are tracked."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where lies what can be had again (fetched data, brought weights, the board's index): $BENCH_DATA, else the
    user's cache folder."""
    named = os.environ.get("BENCH_DATA")
    return Path(named) if named else Path.home() / ".cache" / "datafree-bench"


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
