"""The table of data sets: constants of each, and one way to its training and test images."""

from __future__ import annotations

import os
from pathlib import Path

ENV_CACHE = "BENCH_DATA"


def cache_dir() -> Path:
    """Where fetched data lie: $BENCH_DATA, else ~/.cache/datafree-bench; not created here."""
    named = os.environ.get(ENV_CACHE)
    return Path(named) if named else Path.home() / ".cache" / "datafree-bench"
