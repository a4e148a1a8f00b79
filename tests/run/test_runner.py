"""The loop: results, resume, reuse across suites, failures as records, equal results in one process and in workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import BenchError, StoreError, WeightsError
from bench.run import session
from bench.run.batch import make_batch
from bench.run.tasks import Settings
from bench.run.worker import Bench
from bench.store.artifacts import ArtifactStore
from bench.store.bitmaps import unpack_bits
from bench.store.meta import CLASS_NAMES
from bench.store.record_store import RecordStore
from bench.zoo import checkpoints, targets
from tests import pick

from .conftest import Run, assert_same


def test_every_cell_is_measured_and_the_bitmap_is_the_accuracy(run: Run) -> None:
    records = run()
    assert [r.status for r in records] == ["ok"] * 4
    for record in records:
        assert record.correct is not None
        bits = unpack_bits(record.correct, record.test_count)
        assert len(bits) == 200
        assert 100 * bits.mean() == pytest.approx(record.metrics["top1"])
        assert record.protocol_id
        assert record.image_digest
        assert abs(record.metrics["top1"] - record.metrics["fp_top1"]) < 5  # type: ignore[operator]
        layers = record.report["layers"]
        assert (layers[0]["name"], layers[-1]["name"]) == ("conv1", "fc")
        assert sum(row["macs"] for row in layers) == record.metrics["macs"]
        ends = record.protocol["first_last_weight_bits"]
        assert [row["weight_bits"] for row in layers] == [ends, *[4] * (len(layers) - 2), ends]
        total = sum(row["macs"] * row["weight_bits"] * row["activation_bits"] for row in layers)
        assert total / 1e9 == pytest.approx(record.metrics["bitops_g"])


def test_seeds_differ_and_only_the_upper_control_reads_data(run: Run) -> None:
    records = run()
    assert len({r.image_digest for r in records}) == 4
    for record in records:
        reads = [entry for entry in record.audit if not entry["denied"]]
        assert bool(reads) == (record.source == pick.UPPER)


def test_a_second_run_measures_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run()
    monkeypatch.setattr("bench.run.executors.base.execute", lambda *_: pytest.fail("a job ran again"))
    second = run()
    assert second == first


def test_a_deleted_record_is_the_only_one_measured_again(run: Run, tmp_path: Path) -> None:
    first = run()
    path = tmp_path / "store" / "records" / "tiny@1" / f"{first[2].cell_id}.json"
    path.unlink()
    second = run()
    assert_same(second, first)
    dates = [a.provenance["finished"] == b.provenance["finished"] for a, b in zip(first, second, strict=True)]
    assert dates == [True, True, False, True]


def test_workers_give_what_one_process_gives(run: Run) -> None:
    inline = run("a")
    one = run("b", workers=1)
    two = run("c", workers=2)
    assert_same(one, inline)
    assert_same(two, inline)


def test_another_suite_takes_over_the_same_cells(run: Run, suite: Path, tmp_path: Path) -> None:
    first = run()
    other = tmp_path / "other.yaml"
    other.write_text(suite.read_text().replace("suite: tiny", "suite: other"))
    options = session.Options(str(other), workers=0, tracker="none", store=tmp_path / "store")
    from rich.console import Console

    records = session.run(options, Console(quiet=True))[1]
    assert {r.suite for r in records} == {"other"}
    assert [r.correct for r in records] == [r.correct for r in first]
    assert [r.provenance for r in records] == [r.provenance for r in first]
    assert {r.suite for r in run()} == {"tiny"}  # and each keeps its own name for them


def test_damaged_images_are_made_again(run: Run, tmp_path: Path) -> None:
    first = run()
    for path in (tmp_path / "store" / "artifacts").rglob("*.safetensors"):
        raw = bytearray(path.read_bytes())
        raw[-5] ^= 0xFF
        path.write_bytes(raw)
    second = run(fresh=True)
    assert_same(second, first)


def test_a_failing_job_is_a_record_with_its_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import bench.run.compression as cell

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no accuracy today")

    with monkeypatch.context() as patch:
        patch.setattr(cell, "evaluate", broken)
        records = run()
    assert {r.status for r in records} == {"failed"}
    assert all("no accuracy today" in (r.reason or "") and r.traceback for r in records)
    assert {r.status for r in run()} == {"ok"}  # failed cells are tried again


def test_the_gate_skips_a_network_that_is_not_the_registered_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    load = targets.load

    def another(name: str):  # type: ignore[no-untyped-def]
        import dataclasses

        return dataclasses.replace(load(name), fp_top1=12.0)

    monkeypatch.setattr(targets, "load", another)
    records = run()
    assert {r.status for r in records} == {"skipped"}
    assert all((r.reason or "").startswith("fp_gate") for r in records)


def test_a_count_reads_a_prefix(suite: Path, tmp_path: Path) -> None:
    def batch(count: int, store: str):  # type: ignore[no-untyped-def]
        plan = session.plan_of(session.Options(str(suite), overrides=(f"images={count}",)))
        job = plan.synths[0]
        settings = Settings(str(tmp_path / store))
        make_batch(Bench(settings), job, 0, lambda *_: None)
        return job.synth_id, ArtifactStore(tmp_path / store).read(job.synth_id, 20, "native")

    (id_a, a), (id_b, b) = batch(20, "a"), batch(60, "b")
    assert id_a == id_b
    assert a.digest == b.digest
    assert a.info["batches"][0][CLASS_NAMES][8] == "Bag"  # for who looks at the images


def test_bad_input_is_found_before_any_compute(run: Run, suite: Path, tmp_path: Path) -> None:
    for options, kind in (
        ({"tracker": "mlfow"}, BenchError),
        ({"device": "tpu"}, BenchError),
        ({"only": "source=nobody"}, BenchError),
        ({"overrides": ("grid.target=[resnet18_w9]",)}, BenchError),
    ):
        with pytest.raises(kind):
            run(**options)
    assert not (tmp_path / "store" / "artifacts").exists()


def test_damaged_weights_are_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = checkpoints.weights_folder("fashion_mnist")
    copy = tmp_path / "weights"
    copy.mkdir()
    for ending in ("json", "safetensors"):
        raw = bytearray((shipped / f"resnet18_w10.{ending}").read_bytes())
        if ending == "safetensors":
            raw[-1] ^= 1
        (copy / f"resnet18_w10.{ending}").write_bytes(raw)
    monkeypatch.setattr(checkpoints, "weights_folder", lambda _: copy)
    with pytest.raises(WeightsError, match="damaged"):
        run()


def test_a_store_of_a_newer_version_is_refused(run: Run, tmp_path: Path) -> None:
    run()
    (tmp_path / "store" / "store.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(StoreError, match="newer"):
        run()


def test_records_of_the_store_can_be_read_back(run: Run, tmp_path: Path) -> None:
    records = run()
    assert sorted(RecordStore(tmp_path / "store").all("tiny"), key=lambda r: r.cell_id) == sorted(
        records, key=lambda r: r.cell_id
    )
