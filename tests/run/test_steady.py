"""What stands in the way of a run: stores that cannot be written, watchers that fail, interrupts, damage in between."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from bench.errors import BenchError, StoreError
from bench.interfaces import ImageSet
from bench.run import session
from bench.run.executors.inline import InlineExecutor
from bench.run.live import LiveObserver
from bench.run.observers import Observer, Observers
from bench.run.runner import Runner
from bench.run.tasks import Settings
from bench.spec.graph import Job
from bench.spec.plan import SynthJob
from bench.store.artifacts import ArtifactStore
from bench.store.live import read_live
from bench.store.record_store import RecordReader, RecordStore
from bench.store.records import ResultRecord
from tests import pick
from tests.disk import small_disk

from .conftest import Run, assert_same

COMMAND = [sys.executable, "-c", "from bench.cli.app import main; main()"]
NOBODY = 65534


@pytest.fixture(autouse=True)
def accuracy_known(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The network's own accuracy on all test images is measured once for the tests here; the rest takes less time."""
    shared = tmp_path_factory.getbasetemp() / "fp"
    shared.mkdir(exist_ok=True)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "fp").symlink_to(shared)


def runner(suite: Path, store: Path, watchers: Sequence[Observer]) -> tuple[Runner, Observers]:
    """A run in this process with these watchers."""
    plan = session.plan_of(session.Options(str(suite)))
    observers = Observers(watchers)
    executor = InlineExecutor(Settings(str(store)))
    return Runner(plan, ArtifactStore(store), session.open_records(store), executor, observers), observers


class Watcher(Observer):
    """Keeps what it is told, and calls what a test wants to happen then."""

    def __init__(self, on_start: Callable[[Job], None] | None = None) -> None:
        self.on_start = on_start
        self.records: list[ResultRecord] = []
        self.reads: list[Callable[[], ImageSet]] = []
        self.closed = 0

    def job_started(self, job: Job, worker: int) -> None:
        if self.on_start is not None:
            self.on_start(job)

    def image_set(self, job: SynthJob, read: Callable[[], ImageSet]) -> None:
        self.reads.append(read)

    def record(self, record: ResultRecord) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.closed += 1


class Broken(Watcher):
    """Fails whatever it is asked."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(f"no {name}")


# --- watchers ---


def test_no_watcher_can_stop_a_run_and_each_is_closed(
    suite: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher()
    made, observers = runner(suite, tmp_path / "store", [Broken(), watcher])
    with observers:
        records = made.run()
    assert [r.status for r in records] == ["ok"] * 4
    assert len(watcher.records) == 4
    assert watcher.closed == 1
    assert [m for m in caplog.messages if m.startswith("Broken")] == [
        "Broken is out after an error: no run_started",
        "Broken could not be closed: no close",
    ]


def test_a_state_that_cannot_be_written_costs_one_warning(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "store" / "live.json").mkdir()
    assert [r.status for r in run()] == ["ok"] * 4
    assert len([m for m in caplog.messages if "the run's state is not shown" in m]) == 1


def test_a_run_whose_watcher_was_out_says_it_was_left(suite: Path, tmp_path: Path) -> None:
    def interrupt(job: Job) -> None:
        raise KeyboardInterrupt

    store = tmp_path / "store"
    made, observers = runner(suite, store, [LiveObserver(store, 1), Watcher(interrupt)])
    with pytest.raises(KeyboardInterrupt), observers:
        made.run()
    state = read_live(store)
    assert state is not None
    assert state.phase() == "interrupted"


# --- images ---


def test_images_damaged_while_a_run_is_on_are_made_again(run: Run, suite: Path, tmp_path: Path) -> None:
    store, damaged = tmp_path / "store", []

    def damage(job: Job) -> None:
        if job.cells and not damaged:  # its images are made, and not read yet
            damaged.extend((store / "artifacts").rglob("*.safetensors"))
            for path in damaged:
                path.write_bytes(b"\xff" * 64)

    plan = session.plan_of(session.Options(str(suite)))
    watcher = Watcher()
    early = Early(Settings(str(store)), damage)
    records = Runner(plan, ArtifactStore(store), RecordStore(store), early, Observers([watcher])).run()
    assert damaged
    assert_same(records, run("reference"))


def test_images_lost_once_a_cell_stands_cost_the_watcher_its_view_only(suite: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"

    class Late(Watcher):
        def image_set(self, job: SynthJob, read: Callable[[], ImageSet]) -> None:
            for path in (store / "artifacts").rglob("*.safetensors"):
                path.write_bytes(b"no images")
            with pytest.raises(StoreError):
                read()
            raise RuntimeError("cannot show what is damaged")

    made, observers = runner(suite, store, [Late()])
    with observers:
        records = made.run()
    assert [r.status for r in records] == ["ok"] * 4
    assert {r.cell_id for r in RecordReader(store).all()} == {r.cell_id for r in records}


class Early(InlineExecutor):
    """Calls ``before`` as a job is handed over."""

    def __init__(self, settings: Settings, before: Callable[[Job], None]) -> None:
        super().__init__(settings)
        self._before = before

    def submit(self, job: Job) -> None:
        self._before(job)
        super().submit(job)


# --- stores that cannot be written ---


def test_a_full_disk_is_what_the_user_is_told(suite: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        store, watcher, plan = disk / "store", Watcher(), session.plan_of(session.Options(str(suite)))

        def fill(job: Job) -> None:
            with (disk / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
                while job.cells:
                    file.write(b"x" * 4096)

        observers = Observers([watcher, LiveObserver(store, 1)])
        made = Runner(plan, ArtifactStore(store), RecordStore(store), Early(Settings(str(store)), fill), observers)
        with pytest.raises(StoreError, match="No space left on device") as caught, observers:
            made.run()
        assert "Free some space; the same command resumes." in str(caught.value)
        assert watcher.records == []  # what is not written is not shown
        assert not list(store.rglob("records/*/.*"))
        (disk / "filler").unlink()
        again, _ = runner(suite, store, [])
        assert [r.status for r in again.run()] == ["ok"] * 4


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, which a test's own is not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
def read_only(open_folder: Path) -> Iterator[Callable[[Path], None]]:
    """Makes a folder read-only for this process; root, whom no permission stops, becomes nobody for the while."""
    changed: list[Path] = []

    def forbid(folder: Path) -> None:
        changed.extend((folder, *folder.rglob("*")))
        for path in changed:
            path.chmod(0o555 if path.is_dir() else 0o444)
        if os.geteuid() == 0:
            os.seteuid(NOBODY)

    yield forbid
    if os.getuid() == 0:
        os.seteuid(0)
    for path in changed:
        path.chmod(0o755)


def test_a_store_that_can_only_be_read_serves_all_who_read(
    run: Run,
    suite: Path,
    tmp_path: Path,
    open_folder: Path,
    read_only: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bench.cli.board import BoardRequest, show_board
    from bench.cli.plan import show_plan
    from dashboard.cli_report import write_report

    records = run()
    (tmp_path / "store" / "index.json").unlink(missing_ok=True)
    store = (tmp_path / "store").rename(open_folder / "store")
    copy, out = open_folder / "tiny.yaml", open_folder / "report.html"
    copy.write_text(suite.read_text())
    monkeypatch.setenv("BENCH_DATA", str(open_folder / "cache"))
    before = sorted(store.rglob("*"))
    read_only(store)
    show_board(BoardRequest(str(copy), "csv", store), Console(quiet=True))
    assert capsys.readouterr().out.count("resnet18_w10") >= 2
    shown = Console(record=True, width=200, file=io.StringIO())
    show_plan(session.Options(str(copy), store=store), shown, as_json=False)
    assert "0 of 4 cells to do" in shown.export_text()
    write_report((str(copy),), out, store)
    assert "resnet18_w10" in out.read_text()
    with pytest.raises(StoreError, match="cannot be written") as caught:
        session.run(session.Options(str(copy), store=store, workers=0, tracker="none"), Console(quiet=True))
    assert "Permission denied" in str(caught.value)
    assert "--store DIR" in str(caught.value)
    assert sorted(store.rglob("*")) == before
    assert len(RecordReader(store).all()) == len(records)


def test_planning_writes_nothing(run: Run, suite: Path, tmp_path: Path) -> None:
    from bench.cli.plan import show_plan

    empty, full = tmp_path / "empty", tmp_path / "store"
    empty.mkdir()
    run()
    (full / "index.json").unlink(missing_ok=True)
    for store in (empty, full, tmp_path / "none"):
        before = {path: path.stat().st_mtime_ns for path in (store, *store.rglob("*")) if path.exists()}
        show_plan(session.Options(str(suite), store=store), Console(quiet=True), as_json=False)
        assert {path: path.stat().st_mtime_ns for path in (store, *store.rglob("*")) if path.exists()} == before


# --- what does not apply ---


def test_a_reason_that_stands_is_not_written_again(suite: Path, run: Run, tmp_path: Path) -> None:
    prunes = pick.name("compressors", accepts="sparsity")
    suite.write_text(suite.read_text().replace(f"[{pick.ROUND}]", f"[{pick.ROUND}, {prunes}]"))
    first = run()
    refused = [r for r in first if r.status == "not_applicable"]
    assert len(refused) == 4
    store = RecordStore(tmp_path / "store")
    paths = {r.cell_id: tmp_path / "store" / "records" / "tiny@1" / f"{r.cell_id}.json" for r in first}
    inodes = {key: path.stat().st_ino for key, path in paths.items()}
    assert run() == first
    assert {key: path.stat().st_ino for key, path in paths.items()} == inodes
    store.write(refused[0].model_copy(update={"reason": "another reason, of older code"}))
    assert run() == first
    assert store.get("tiny", 1, refused[0].cell_id) == refused[0]


# --- interrupts ---


def start(suite: Path, store: Path, *more: str) -> subprocess.Popen[str]:
    """`bench run` in a process group of its own, as a terminal makes one."""
    return subprocess.Popen(
        [*COMMAND, "run", str(suite), "--store", str(store), "--tracker", "none", *(more or ("--workers", "1"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("times", [1, 3])
def test_an_interrupt_says_what_it_means_and_leaves_no_worker(suite: Path, tmp_path: Path, times: int) -> None:
    process = start(suite, tmp_path / "store")
    end = time.monotonic() + 120
    workers: list[psutil.Process] = []
    while not workers and time.monotonic() < end:
        time.sleep(0.05)
        workers = [c for c in psutil.Process(process.pid).children() if "spawn_main" in " ".join(c.cmdline())]
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: to the workers, too
        time.sleep(0.05)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 130, said
    assert said.count("interrupted; the same command resumes") == 1
    assert not re.search("Traceback|KeyboardInterrupt", said)
    assert not psutil.wait_procs(workers, timeout=30)[1]
    state = read_live(tmp_path / "store")
    assert state is not None
    assert state.phase() == "interrupted"


def test_workers_that_compressed_and_are_killed_leave_nothing_to_warn_of(suite: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    process = start(suite, store, "--workers", "2", "--seeds", "60")
    end = time.monotonic() + 240
    while process.poll() is None and not [*store.glob("records/*/*.json")] and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 130, said
    assert "resource_tracker" not in said


def test_a_limit_that_cannot_be_kept_is_refused(run: Run) -> None:
    for options, what in (({"workers": 0, "job_timeout": 5.0}, "cannot be ended"), ({"job_timeout": -1.0}, "duration")):
        with pytest.raises(BenchError, match=what):
            run(**options)
