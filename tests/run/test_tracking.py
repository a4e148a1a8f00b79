"""MLflow for real: a sqlite store, nested runs keyed by cell, no duplicates; a dead server costs a warning only."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from bench.cli.info import sync_mlflow
from bench.errors import BenchError
from bench.run import session, tracked
from bench.run.observers import RunStart
from bench.run.tracking import MlflowObserver, ui_command
from tests import pick

from .conftest import Run


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    found = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found)
    monkeypatch.chdir(tmp_path)
    return found


def test_runs_nest_and_are_not_logged_twice(run: Run, uri: str) -> None:
    records = run(tracker="mlflow")
    run(tracker="mlflow")
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("datafree-bench/tiny")
    runs = list(client.search_runs([experiment.experiment_id], max_results=100))
    children = {r.data.tags["bench_cell"]: r for r in runs if "bench_cell" in r.data.tags}
    parents = [r for r in runs if "bench_parent" in r.data.tags]
    rows = {r.data.tags["bench_row"]: r for r in runs if "bench_row" in r.data.tags}
    images = {r.data.tags["bench_images"]: r for r in runs if "bench_images" in r.data.tags}
    assert len(parents) == 1
    assert set(rows) == {r.row_id for r in records}
    assert set(images) == {r.synth_id for r in records}
    assert len(runs) == 1 + len(rows) + len(images) + len(records)
    assert {r.data.tags["mlflow.parentRunId"] for r in (*rows.values(), *images.values())} == {parents[0].info.run_id}
    assert set(children) == {r.cell_id for r in records}
    for record in records:
        child = children[record.cell_id]
        assert child.data.tags["mlflow.parentRunId"] == rows[record.row_id].info.run_id
        assert child.data.metrics["top1"] == pytest.approx(record.metrics["top1"])
        assert child.data.params["source"] == record.source
        assert (child.data.params["bits"], child.data.params["with.weight_bits"]) == ("W4A4", "4")
        assert images[str(record.synth_id)].info.run_id in child.data.tags["mlflow.note.content"]
        took = (child.info.end_time - child.info.start_time) / 1000
        assert took == pytest.approx(record.costs["compress"].seconds + record.costs["measure"].seconds, abs=0.002)
        assert child.info.end_time == int((record.finished or 0.0) * 1000)
        assert child.inputs.dataset_inputs[0].dataset.digest == record.image_digest[:32]  # type: ignore[index]
        assert child.info.status == "FINISHED"
    (shown,) = [run for run in images.values() if run.info.run_name == f"images: {pick.UPPER} seed 0"]
    assert shown.data.params["source"] == pick.UPPER
    assert {item.path for item in client.list_artifacts(shown.info.run_id)} == {"grid.png", "curves.json"}
    assert parents[0].data.metrics["cells_ok"] == 4
    tags = {"mlflow.user", "mlflow.source.name", "mlflow.source.type"}
    assert all(tags <= set(run.data.tags) for run in runs)
    described = client.get_experiment(experiment.experiment_id).tags
    assert described["mlflow.experimentKind"] == "custom_model_development"
    assert "tiny" in described["mlflow.note.content"]


def test_runs_left_open_are_ended(run: Run, suite: Path, uri: str, tmp_path: Path) -> None:
    import mlflow

    records = run(tracker="mlflow")
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("datafree-bench/tiny").experiment_id

    def all_runs() -> tuple[Any, dict[str, Any]]:
        runs = list(client.search_runs([experiment], max_results=100))
        (parent,) = [r for r in runs if "bench_parent" in r.data.tags]
        cells = {r.data.tags["bench_cell"]: r for r in runs if "bench_cell" in r.data.tags}
        assert len(cells) == len(records)
        assert len({r.data.tags["bench_row"] for r in runs if "bench_row" in r.data.tags}) == len(
            [r for r in runs if "bench_row" in r.data.tags]
        )
        return parent, cells

    parent, children = all_runs()
    key = parent.info.run_id
    killed, begun = list(children)[:2]  # what kill -9 leaves: one not yet ended, one of which nothing is logged yet
    client.update_run(key, status="RUNNING")
    client.update_run(children[killed].info.run_id, status="RUNNING")
    client.delete_run(children[begun].info.run_id)
    client.create_run(experiment, tags={"mlflow.parentRunId": key, "bench_cell": begun})
    sync_mlflow(str(suite), tmp_path / "store")
    parent, again = all_runs()
    assert {r.info.status for r in (parent, *again.values())} == {"FINISHED"}
    assert again[begun].data.params == children[begun].data.params
    assert again[begun].data.metrics == children[begun].data.metrics

    observer = MlflowObserver(uri)  # a run that is left before its end
    observer.run_started(RunStart(session.plan_of(session.Options(str(suite))), tmp_path / "store", {}, ()))
    observer.close()
    assert all_runs()[0].info.status == "KILLED"
    observer = MlflowObserver(uri)
    observer.run_started(RunStart(session.plan_of(session.Options(str(suite))), tmp_path / "store", {}, ()))
    observer.run_ended([records[0], records[1].model_copy(update={"status": "failed"})])
    observer.close()
    assert all_runs()[0].info.status == "FAILED"


def test_a_server_that_cannot_be_written_ends_a_sync_with_a_sentence(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(BenchError, match="MLflow cannot be written"):
        sync_mlflow(str(suite), tmp_path / "store")


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_dead_server_costs_a_warning_never_a_result(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused_port()}")
    records = run(tracker="mlflow")
    assert {r.status for r in records} == {"ok"}
    assert any("MlflowObserver is out" in message for message in caplog.messages)


def test_the_line_that_shows_the_runs() -> None:
    assert ui_command("sqlite:///mlflow.db") == "mlflow ui"
    assert ui_command("sqlite:////x/y.db") == "mlflow ui --backend-store-uri sqlite:////x/y.db"


def test_the_compare_view_opens_on_bits_source_and_accuracy(run: Run) -> None:
    """It takes the first three names of parameters in which runs differ, and the first metric."""
    records = run()
    told = [tracked.params(record) for record in records]
    differ = {name for name in set().union(*told) if len({str(params.get(name)) for params in told}) > 1}
    assert "source" in sorted(differ)[:3]
    changed = {"setting_label": "W2A4", "setting": {**records[0].setting, "weight_bits": 2}, "source": "another"}
    other = tracked.params(records[0].model_copy(update=changed))
    assert sorted(name for name in other if other[name] != told[0].get(name))[:2] == ["bits", "source"]
    assert next(iter(tracked.metrics(records[0]))) == tracked.FIRST


def test_rows_have_their_mean_and_interval_and_the_suite_its_board(
    run: Run, uri: str, suite: Path, tmp_path: Path
) -> None:
    import mlflow

    records = run()
    assert sync_mlflow(str(suite), tmp_path / "store").startswith(f"{len(records)} records")
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("datafree-bench/tiny").experiment_id
    runs = list(client.search_runs([experiment], max_results=100))
    (parent,) = [r for r in runs if "bench_parent" in r.data.tags]
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} >= {"board.md", "board.csv"}
    for row in (r for r in runs if "bench_row" in r.data.tags):
        own = [r.metrics["top1"] or 0.0 for r in records if r.row_id == row.data.tags["bench_row"]]
        assert row.data.metrics["top1"] == pytest.approx(sum(own) / len(own))
        assert row.data.metrics["top1_low"] <= row.data.metrics["top1"] <= row.data.metrics["top1_high"]
        assert row.info.status == "FINISHED"


def test_cells_of_an_older_version_move_below_their_row(run: Run, uri: str, suite: Path, tmp_path: Path) -> None:
    import mlflow

    run(tracker="mlflow")
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("datafree-bench/tiny").experiment_id

    def cells() -> dict[str, str]:
        runs = client.search_runs([experiment], max_results=100)
        return {r.info.run_id: r.data.tags["mlflow.parentRunId"] for r in runs if "bench_cell" in r.data.tags}

    before = cells()
    (parent,) = [r for r in client.search_runs([experiment], max_results=100) if "bench_parent" in r.data.tags]
    for one in before:  # as they were: right below the suite
        client.set_tag(one, "mlflow.parentRunId", parent.info.run_id)
        client.delete_tag(one, "bench_within")
    sync_mlflow(str(suite), tmp_path / "store")
    assert cells() == before
