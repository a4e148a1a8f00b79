"""What a run tells the store while it works: what is done, what runs, how long it takes, what failed, how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bench.run.live as module
from bench.run import session
from bench.run.live import LiveObserver
from bench.run.observers import RunStart
from bench.run.progress import Eta, Work
from bench.run.tasks import Progress
from bench.spec.graph import BatchJob, CompressionJob, Job
from bench.store.live import MISSED, SILENT, LiveState, live_path, read_live, write_live

from ..board.make import record
from .conftest import Run

COMMAND = [sys.executable, "-c", "from bench.cli.app import main; main()"]


def state(**changes: Any) -> LiveState:
    facts = {"pid": os.getpid(), "suite": "s", "suite_version": 1, "preset": "mini", "workers": 2, "tasks": 4}
    return LiveState.model_validate({**facts, "started": 1000.0, "beat": 1010.0, **changes})


@pytest.fixture
def tasks(suite: Path) -> tuple[Any, list[Job]]:
    """The tiny suite's plan and its tasks: a batch and a cell for each of two sources and two seeds."""
    plan = session.plan_of(session.Options(str(suite)))
    return plan, list(plan.graph())


@pytest.fixture
def live(tasks: tuple[Any, list[Job]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An observer of that plan, writing at once."""
    monkeypatch.setattr(module, "SHORTEST", 0.01)
    observer = LiveObserver(tmp_path, 2)
    session.open_records(tmp_path)  # makes it a store
    observer.run_started(RunStart(tasks[0], tmp_path, {}, tasks[1]))
    yield observer
    observer.close()


def told(store: Path, check: Any) -> LiveState:
    """The state on disk, as soon as it satisfies ``check``."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = read_live(store)
        if found is not None and check(found):
            return found
        time.sleep(0.01)
    pytest.fail(f"not told: {read_live(store)}")


def test_a_run_tells_its_end(run: Run, tmp_path: Path) -> None:
    records = run()
    found = read_live(tmp_path / "store")
    assert found is not None
    assert (found.phase(), found.suite, found.preset, found.pid) == ("finished", "tiny", "mini", os.getpid())
    assert found.done == found.tasks > len(records)  # batches and cells
    assert found.running == ()
    assert {r.cell_id: r.top1 for r in found.records} == {r.cell_id: r.metrics["top1"] for r in records}
    assert found.curve[-1][1] == found.tasks
    run()
    again = read_live(tmp_path / "store")
    assert again is not None
    assert (again.tasks, again.standing, again.phase()) == (0, 4, "finished")
    assert not any(thread.name == "live" for thread in threading.enumerate())


def test_what_runs_is_shown_with_stage_and_step(live: LiveObserver, tasks: Any, tmp_path: Path) -> None:
    first, second, third = tasks[1][:3]
    live.job_started(first, 0)
    live.progress(Progress(second, "optimise", 3, 10))  # an executor in this process tells of the start later
    live.job_started(second, 0)
    found = told(tmp_path, lambda s: len(s.running) == 2 and s.running[1].step)
    assert [(r.worker, r.title, r.kind) for r in found.running] == [
        (1, first.title, "image batch"),
        (2, second.title, "image batch"),
    ]
    assert (found.running[1].stage, found.running[1].step, found.running[1].total) == ("optimise", 3, 10)
    assert found.seconds_left is None
    live.job_done(first, 8.0)
    live.job_started(third, 1)  # takes the free line
    found = told(tmp_path, lambda s: s.done == 1)
    assert [(r.worker, r.title) for r in found.running] == [(1, third.title), (2, second.title)]
    assert found.seconds_left == pytest.approx((len(tasks[1]) - 1) * 8.0 / 2)


def test_failures_are_told_with_their_reason_and_their_cells_count_as_done(
    live: LiveObserver, tasks: Any, tmp_path: Path
) -> None:
    plan, todo = tasks
    batch = next(job for job in todo if isinstance(job, BatchJob))
    cell = next(c for c in plan.cells if c.synth_id == batch.images.synth_id)
    live.job_started(batch, 0)
    live.job_done(batch, 0.0)
    live.record(
        record(
            None,
            cell_id=cell.cell_id,
            job_id=cell.job_id,
            synth_id=cell.synth_id,
            reason="synthesis, batch 0: <b>no</b>",
        )
    )
    found = told(tmp_path, lambda s: s.failed == 1)
    assert found.failures[0].reason == "synthesis, batch 0: <b>no</b>"
    assert found.done == batch.images.batches + 1  # its other batches will never run
    assert found.seconds_left is None  # a failure in no time says nothing of the others


def test_leaving_before_the_end_is_an_interruption(live: LiveObserver, tasks: Any, tmp_path: Path) -> None:
    live.job_started(tasks[1][0], 0)
    live.close()
    found = read_live(tmp_path)
    assert found is not None
    assert (found.phase(), found.running) == ("interrupted", ())


def test_a_run_without_news_is_still_heard_from(live: LiveObserver, tmp_path: Path) -> None:
    first = told(tmp_path, lambda s: True)
    assert told(tmp_path, lambda s: s.beat > first.beat + 1).phase() == "running"


def test_a_store_that_cannot_be_written_fails_no_run(
    live: LiveObserver, tasks: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live_path(tmp_path).unlink(missing_ok=True)
    live_path(tmp_path).mkdir()
    live.job_started(tasks[1][0], 0)
    end = time.monotonic() + 10
    while not caplog.messages and time.monotonic() < end:
        time.sleep(0.01)
    live_path(tmp_path).rmdir()
    told(tmp_path, lambda state: len(state.running) == 1)  # as soon as it can be written again
    live_path(tmp_path).unlink()
    live_path(tmp_path).mkdir()
    live.run_ended([])
    assert len([m for m in caplog.messages if "is not shown" in m]) == 1


def test_the_run_that_began_last_is_shown(live: LiveObserver, tasks: Any, tmp_path: Path) -> None:
    other = state(pid=os.getppid(), started=time.time() + 5, beat=time.time() + 5)
    write_live(tmp_path, other)
    live.job_started(tasks[1][0], 0)
    time.sleep(0.3)
    assert read_live(tmp_path) == other
    write_live(tmp_path, other.model_copy(update={"ended": "finished"}))
    live.job_done(tasks[1][0], 1.0)
    assert told(tmp_path, lambda s: s.pid == os.getpid()).done == 1


def test_how_a_run_is_told_dead() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here, now = state(), 1010.0
    assert here.phase(now + MISSED) == "running"
    assert here.phase(now + SILENT) == "running"  # its process is there, a slow disk perhaps
    assert here.phase(now + SILENT + 1) == "silent"
    dead = state(pid=gone.pid)
    assert dead.phase(now + MISSED) == "running"
    assert dead.phase(now + MISSED + 0.1) == "died"
    assert state(pid=gone.pid, ended="finished").phase(now + 1e6) == "finished"


@pytest.mark.slow
def test_a_killed_run_is_told_dead(suite: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    options = ["--store", str(store), "--tracker", "none", "--workers", "1"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*COMMAND, "run", str(suite), *options], stdout=subprocess.DEVNULL, env=env)
    end = time.monotonic() + 120
    while not live_path(store).exists() and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    found = read_live(store)
    assert found is not None
    assert (found.pid, found.ended) == (process.pid, None)
    assert found.phase(found.beat + 1) == "running"
    assert found.phase(found.beat + MISSED + 1) == "died"


def test_time_left_is_that_of_the_jobs_most_alike() -> None:
    kw, mixed = ("batch", "kw", "a"), ("batch", "mixmix", "a+b")
    near, far = ("cell", "kd", "", "x"), ("cell", "kd", "", "y")
    eta = Eta([kw] * 4 + [mixed] * 3 + [near] * 5 + [far] * 2, workers=2)
    assert eta.seconds() is None
    eta.ended(kw, 6.0)
    assert eta.seconds() == pytest.approx((3 * 6 + 3 * 6 + 7 * 6) / 2)  # all borrow the one mean there is
    eta.ended(near, 1.0)
    assert eta.seconds() == pytest.approx((3 * 6 + 3 * 6 + 4 * 1 + 2 * 1) / 2)
    eta.ended(mixed, 30.0)
    assert eta.seconds() == pytest.approx((3 * 6 + 2 * 30 + 4 * 1 + 2 * 1) / 2)
    eta.ended(far, 9.0)
    eta.dropped(kw)
    assert eta.seconds() == pytest.approx((2 * 6 + 2 * 30 + 4 * 1 + 1 * 9) / 2)


def test_a_streamed_generator_makes_a_cell_another_kind(tasks: Any) -> None:
    cell = next(job for job in tasks[1] if isinstance(job, CompressionJob))
    stream = replace(cell, cells=(replace(cell.first, delivery="stream"),))
    assert stream.like[:2] == cell.like[:2]
    assert stream.like[2] != cell.like[2] == ""


def test_a_task_is_counted_once(tasks: Any) -> None:
    work = Work(tasks[1], 1)
    cell = next(job for job in tasks[1] if isinstance(job, CompressionJob))
    work.ended(cell, 2.0)
    work.ended(cell, 2.0)
    work.recorded(record(0.5, cell_id=cell.key, job_id=cell.key, synth_id=cell.images.synth_id))
    assert (work.done, work.total) == (1, len(tasks[1]))
