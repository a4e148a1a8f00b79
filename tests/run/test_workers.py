"""Workers that are killed, stopped or hang: the run goes on, says so, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import bench.run.executors.processes as module
from bench.run.executors.processes import ProcessExecutor
from bench.run.executors.serve import BEAT
from bench.run.tasks import Done, Event, Failed, Settings, Silent, Started

from .jobs_that_misbehave import Deadly, Misbehaving

FINE = Misbehaving("nothing")
LONG = 120.0
"""Seconds a test waits at most; a worker loads torch, and the machine may be busy."""


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[ProcessExecutor]:
    found = ProcessExecutor(Settings(str(tmp_path / "store")), 1)
    yield found
    found.close()


def until(executor: ProcessExecutor, kind: type[Event] | tuple[type[Event], ...]) -> list[Event]:
    """Events up to the first of this kind."""
    seen: list[Event] = []
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        seen += executor.poll(0.1)
        if any(isinstance(event, kind) for event in seen):
            return seen
    pytest.fail(f"no {kind}: {seen}")


def child() -> psutil.Process:
    """The one worker of this process."""
    (found,) = [c for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline())]
    return found


def gone(pids: list[int], within: float = 60.0) -> bool:
    """Whether these processes end in time."""

    def alive(pid: int) -> bool:
        return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE

    end = time.monotonic() + within
    while time.monotonic() < end and any(alive(pid) for pid in pids):
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def wait_for(check: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not check():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_worker_killed_while_idle_or_not_yet_at_work_costs_no_job(
    executor: ProcessExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    executor.submit(FINE)
    child().kill()  # on its way: it has not begun
    assert isinstance(until(executor, (Done, Failed))[-1], Done)
    idle = child()
    idle.kill()
    wait_for(lambda: idle.status() == psutil.STATUS_ZOMBIE)
    executor.submit(FINE)
    assert isinstance(until(executor, (Done, Failed))[-1], Done)
    assert [m for m in caplog.messages if "before it began" in m] == 2 * [
        "a worker died before it began a job (killed by signal 9); another takes its place"
    ]


def test_a_job_that_no_worker_survives_has_failed_after_two(executor: ProcessExecutor) -> None:
    executor.submit(Deadly("death"))
    (failed,) = until(executor, Failed)
    assert isinstance(failed, Failed)
    assert failed.reason == "the worker process died (exit code 7)"
    assert executor.free() == 1


def test_a_job_that_cannot_be_handed_over_has_failed(executor: ProcessExecutor) -> None:
    executor.submit(Misbehaving(lambda: None))  # type: ignore[arg-type]
    (failed,) = executor.poll(0.0)
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("cannot be handed to a worker: ")
    assert executor.free() == 1


def test_a_job_beyond_its_time_is_ended_with_all_it_started(tmp_path: Path) -> None:
    executor, note = ProcessExecutor(Settings(str(tmp_path / "store")), 1, job_timeout=0.5), tmp_path / "pids"
    try:
        executor.submit(Misbehaving("sleep", note))
        failed = until(executor, Failed)[-1]
        assert isinstance(failed, Failed)
        assert failed.reason == "took longer than --job-timeout 0.5 seconds; its worker was killed"
        assert gone([int(pid) for pid in note.read_text().split()])
    finally:
        executor.close()


def test_a_stopped_worker_is_told_once_and_then_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNHEARD", 2 * BEAT)
    executor = ProcessExecutor(Settings(str(tmp_path / "store")), 1, job_timeout=4 * BEAT)
    try:
        executor.submit(FINE)  # loads what takes long
        until(executor, Done)
        executor.submit(Misbehaving("stop"))
        stopped = child().pid
        seen = [event for event in until(executor, Failed) if not isinstance(event, Started)]
        assert [type(event) for event in seen] == [Silent, Failed]
        assert isinstance(seen[0], Silent)
        assert not seen[0].alive
        assert seen[0].seconds > 2 * BEAT
        assert gone([stopped])
    finally:
        executor.close()


def test_a_job_without_progress_is_told_though_its_worker_lives(
    executor: ProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor.submit(Misbehaving("sleep", tmp_path / "pids"))
    until(executor, Started)
    monkeypatch.setattr(module, "STALLED", 2 * BEAT)
    (silent,) = until(executor, Silent)
    assert isinstance(silent, Silent)
    assert silent.alive
    time.sleep(BEAT)
    assert executor.poll(0.1) == []  # told once
    executor.close()
    assert gone([int(pid) for pid in (tmp_path / "pids").read_text().split()])


def test_time_in_which_nobody_polls_counts_against_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AWAY", 0.5)
    executor = ProcessExecutor(Settings(str(tmp_path / "store")), 1, job_timeout=1.0)
    try:
        executor.submit(Misbehaving("sleep"))
        until(executor, Started)
        time.sleep(1.5)  # as after Ctrl-Z
        assert executor.poll(0.0) == []
        assert isinstance(until(executor, Failed)[-1], Failed)
    finally:
        executor.close()


PARENT = """
import sys, time
from pathlib import Path
from bench.run.executors.processes import ProcessExecutor
from bench.run.tasks import Settings
from tests.run.jobs_that_misbehave import Misbehaving
if __name__ == "__main__":
    executor = ProcessExecutor(Settings(sys.argv[1]), 1)
    executor.submit(Misbehaving("sleep", Path(sys.argv[2])))
    while True:
        executor.poll(0.1)
"""


def test_a_worker_with_a_silent_job_ends_with_its_parent(tmp_path: Path) -> None:
    note, script = tmp_path / "pids", tmp_path / "parent.py"
    script.write_text(PARENT)
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "store"), str(note)], env={**os.environ, "PYTHONPATH": root}
    )
    wait_for(lambda: note.exists() and len(note.read_text().split()) == 2)
    worker, grandchild = (int(pid) for pid in note.read_text().split())
    parent.kill()
    parent.wait()
    try:
        assert gone([worker], within=3 * BEAT + 30)
    finally:
        os.kill(grandchild, signal.SIGKILL)  # what a job starts by itself is its own
