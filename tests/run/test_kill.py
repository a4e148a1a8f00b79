"""Killed workers and killed runs: a reason in the record, nothing half-written, and the same results after a resume."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.store.record_store import RecordStore

from .conftest import Run, assert_same

COMMAND = [sys.executable, "-c", "from bench.cli.app import main; main()"]


def _start(suite: Path, store: Path, workers: int) -> subprocess.Popen[str]:
    options = ["--store", str(store), "--tracker", "none", "--workers", str(workers)]
    return subprocess.Popen(
        [*COMMAND, "run", str(suite), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _wait_for(what: str, check, process: subprocess.Popen[str]):  # type: ignore[no-untyped-def]
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        if process.poll() is not None:
            pytest.fail(f"ended before {what}: {process.communicate()[0]}")
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"no {what} within two minutes")


def _workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        children = psutil.Process(process.pid).children()
        return [c for c in children if "spawn_main" in " ".join(c.cmdline())]
    except psutil.Error:
        return []


def test_a_killed_worker_is_a_failed_cell_and_the_next_run_makes_it_good(run: Run, suite: Path, tmp_path: Path) -> None:
    reference = run("reference")
    store = tmp_path / "killed"
    process = _start(suite, store, workers=1)
    batches = store / "artifacts"
    _wait_for("a batch", lambda: list(batches.rglob("*.safetensors")), process)
    os.kill(_wait_for("a worker", lambda: _workers(process), process)[0].pid, signal.SIGKILL)
    said = process.communicate(timeout=240)[0]
    records = RecordStore(store).all("tiny")
    failed = [r for r in records if r.status == "failed"]
    assert len(records) == 4
    if "died before it began a job" in said:  # it was between two jobs; what was meant for it is another's
        assert (process.returncode, failed) == (0, []), said
    else:
        assert process.returncode == 1, said
        assert failed
        assert all("killed by signal 9" in (r.reason or "") for r in failed)
        assert len(failed) < 4  # the replaced worker did the rest
    again = run("killed")
    assert_same(again, reference)


def test_a_killed_run_resumes(run: Run, suite: Path, tmp_path: Path) -> None:
    reference = run("reference")
    store = tmp_path / "killed"
    process = _start(suite, store, workers=2)
    _wait_for("a record", lambda: list((store / "records").rglob("*.json")), process)
    children = _workers(process)
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive  # workers do not outlive their parent
    again = run("killed")
    assert_same(again, reference)
    assert not list(store.rglob("*.tmp-*"))
