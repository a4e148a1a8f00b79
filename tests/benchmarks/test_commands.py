"""CPU seconds of the commands that compute nothing: interpreter, imports and all, one thread.

Budgets: plan, check and ls 1 s, board 3 s (``extra_info`` holds the seconds; the benchmark's own clock is the wall's).
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
BUDGETS = {
    "plan ptq_w4a4": 1.0,
    "check ptq_w4a4": 1.0,
    "check sources_all": 1.0,
    "ls sources": 1.0,
    "ls compressors": 1.0,
    "ls targets": 1.0,
    "ls datasets": 1.0,
    "ls suites": 1.0,
    "board ptq_w4a4": 3.0,
}

pytestmark = pytest.mark.skipif("--benchmark-only" not in sys.argv, reason="timed; `make benchmarks`")


def cpu_seconds(words: str) -> float:
    """User and system seconds of ``bench WORDS`` in a process of its own."""
    code = "from bench.cli.app import main; main()"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", code, *words.split()],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("words", BUDGETS)
def test_command(benchmark: Any, words: str) -> None:
    cpu_seconds(words)  # compiles what is new
    found: list[float] = []
    benchmark.pedantic(lambda: found.append(cpu_seconds(words)), rounds=3)
    benchmark.extra_info["cpu_seconds"] = sorted(found)[1]
    assert min(found) <= BUDGETS[words]
