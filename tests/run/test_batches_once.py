"""Each batch is made once, whoever asks: two runs on one store, a killed maker, damage found in the middle of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.store import objects
from bench.store.artifacts import ArtifactStore
from bench.store.record_store import RecordStore
from tests import pick

from .conftest import SUITE, Run, assert_same
from .packages import install

COMMAND = [sys.executable, "-c", "from bench.cli.app import main; main()"]

COUNTED = """
    import os, time
    from pathlib import Path
    from bench.spec.registry import Registry

    class Counted(type(Registry("sources").get("LOWER"))):
        def synthesize_batch(self, request, ctx):
            folder = Path(os.environ["COUNTED"])
            with (folder / "made").open("a") as file:
                file.write(f"{request.set_seed} {request.batch_index}\\n")
            while (folder / "hold").exists():
                time.sleep(0.02)
            time.sleep(0.2)  # long enough for the other run to ask for the same batch
            return super().synthesize_batch(request, ctx)

    METHOD = Counted()
"""

WAITS = "waiting for another run"

Made = Callable[[], list[str]]


@pytest.fixture
def made(suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The suite asks for a source of an installed package; it tells which batches it was asked for ("seed index")."""
    text = COUNTED.replace("LOWER", pick.LOWER)
    points = {"sources": {"counted": "counted_source"}}
    package = install(tmp_path / "package", "counted_source", text, points, monkeypatch)
    suite.write_text(
        SUITE.replace(f"[{pick.UPPER}, {pick.LOWER}]", "[{counted: {batch: 20}}]")
    )  # two batches of two sets
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("COUNTED", str(tmp_path))
    log = tmp_path / "made"
    return lambda: sorted(log.read_text().splitlines()) if log.exists() else []


class BenchRun:
    """``bench run`` on the suite, in a process of its own; ``said`` is what it printed so far."""

    def __init__(self, suite: Path, store: Path, workers: int, out: Path) -> None:
        options = ["--store", str(store), "--tracker", "none", "--workers", str(workers)]
        self._out = out
        with out.open("w") as file:
            self.process = subprocess.Popen([*COMMAND, "run", str(suite), *options], stdout=file, stderr=file)

    @property
    def said(self) -> str:
        return self._out.read_text()

    def until(self, check: Callable[[], object]) -> None:
        """Wait until something holds; the run must not end before."""
        end = time.monotonic() + 240
        while not check():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.02)

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(240)


Start = Callable[..., BenchRun]


@pytest.fixture
def start(suite: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts runs on one store; those still there after the test are killed."""
    runs: list[BenchRun] = []

    def begin(workers: int) -> BenchRun:
        runs.append(BenchRun(suite, tmp_path / "both", workers, tmp_path / f"said-{len(runs)}"))
        return runs[-1]

    yield begin
    for one in runs:
        one.process.kill()
        one.process.wait(30)


def test_two_runs_on_one_store_make_no_batch_twice(run: Run, start: Start, tmp_path: Path, made: Made) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    one, other = start(0), start(0)
    for each in (one, other):
        each.until(lambda: WAITS in one.said + other.said or len(made()) > 1)  # both want the first batch
    hold.unlink()
    assert (one.ended(), other.ended()) == (0, 0), one.said + other.said
    batches = made()
    assert len(batches) == 4
    assert len(set(batches)) == 4
    (tmp_path / "made").unlink()
    reference = run("alone")
    assert made() == batches
    assert_same(RecordStore(tmp_path / "both").all("tiny"), sorted(reference, key=lambda r: r.cell_id))


def test_who_waits_takes_over_from_a_killed_run(start: Start, tmp_path: Path, made: Made) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    first = start(0)
    first.until(made)
    (begun,) = made()
    second = start(0)
    second.until(lambda: WAITS in second.said or len(made()) > 1)
    assert made() == [begun]
    first.process.send_signal(signal.SIGKILL)
    assert first.ended() == -signal.SIGKILL
    hold.unlink()
    assert second.ended() == 0, second.said
    batches = made()
    assert batches.count(begun) == 2  # the killed one and the one in its place
    assert len(batches) == 5
    assert len(set(batches)) == 4


def test_a_damaged_batch_is_made_again_in_the_same_run(run: Run, tmp_path: Path, made: Made) -> None:
    first = run()
    (tmp_path / "made").unlink()
    path = sorted((tmp_path / "store").rglob("00001.safetensors"))[0]
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    second = run(fresh=True)
    assert_same(second, first)
    (again,) = made()
    assert again.endswith(" 1")
    assert path.with_name(f"{path.name}.damaged").read_bytes() != good
    store = ArtifactStore(tmp_path / "store")
    assert {store.read(r.synth_id, 40, "none").digest for r in second if r.synth_id} == {r.image_digest for r in first}


def test_a_batch_deleted_while_its_cells_wait_is_made_again(
    run: Run, tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run()
    (tmp_path / "made").unlink()
    listed = ArtifactStore.missing

    def then_deleted(self: ArtifactStore, synth_id: str, batches: int) -> list[int]:
        found = listed(self, synth_id, batches)
        self.objects.path(synth_id, "00001.safetensors").unlink()
        return found

    monkeypatch.setattr(ArtifactStore, "missing", then_deleted)
    assert_same(run(fresh=True), first)
    assert [line.split()[1] for line in made()] == ["1", "1"]


def test_a_disk_that_keeps_nothing_gives_no_number(
    run: Run, tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = objects.write_atomic

    def rotten(path: Path, content: bytes) -> None:
        write(path, content[:-1] + bytes([content[-1] ^ 1]))

    with monkeypatch.context() as patch:
        patch.setattr(objects, "write_atomic", rotten)
        records = run()
    assert {r.status for r in records} == {"failed"}
    assert all("damaged" in (r.reason or "") and not r.metrics for r in records)
    assert {r.status for r in run()} == {"ok"}  # the next run mends it
