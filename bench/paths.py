"""Folders outside the store."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where lies what can be had again (fetched data, brought weights, the board's index): $BENCH_DATA, else the
    user's cache folder."""
    named = os.environ.get("BENCH_DATA")
    return Path(named) if named else Path.home() / ".cache" / "datafree-bench"
