"""A user whom the machine gives no home folder: the answer names the variable to set, and with it all works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = ["unshare", "--user", "--map-user=54321"]  # a number the machine knows no user by


def bench(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """``bench`` for a user without a name and a home; returns exit code and what it says."""
    env = {key: value for key, value in os.environ.items() if key not in ("HOME", "BENCH_DATA")}
    env |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT), **variables}
    words = [*NOBODY, sys.executable, "-c", "from dashboard.cli import main; main()", *arguments]
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    try:
        done = subprocess.run([*NOBODY, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if done.returncode:
        pytest.skip("this machine allows no user namespaces")


def test_without_a_home_the_variable_is_named(tmp_path: Path) -> None:
    code, said = bench(tmp_path, "data", "fetch", "fashion_mnist")
    assert code == 2
    assert "this user has no home folder" in said
    assert "Set BENCH_DATA" in said
    assert "Traceback" not in said


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = bench(tmp_path, "data", "fetch", "fashion_mnist", BENCH_DATA=str(tmp_path / "file"))
    assert code == 2
    assert str(tmp_path / "file") in said
    assert "Set BENCH_DATA" in said
    assert "Traceback" not in said


def test_with_the_variable_a_suite_is_planned(tmp_path: Path) -> None:
    code, said = bench(tmp_path, "plan", "quickstart", BENCH_DATA=str(tmp_path / "cache"))
    assert code == 0, said
