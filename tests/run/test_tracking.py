"""MLflow for real: a sqlite store, nested runs keyed by cell, no duplicates; a dead server costs a warning only."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from bench.cli_info import sync_mlflow
from bench.errors import BenchError
from bench.run import session
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
    assert len(runs) == 5
    assert len(parents) == 1
    assert set(children) == {r.cell_id for r in records}
    for record in records:
        child = children[record.cell_id]
        assert child.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert child.data.metrics["top1"] == pytest.approx(record.metrics["top1"])
        assert child.data.params["source"] == record.source
        assert child.data.params["weight_bits"] == "4"
        assert child.inputs.dataset_inputs[0].dataset.digest == record.image_digest[:32]  # type: ignore[index]
        assert child.info.status == "FINISHED"
    names = {item.path for item in client.list_artifacts(parents[0].info.run_id, "image_sets")}
    assert f"image_sets/{pick.UPPER}-none-seed0.png" in names
    assert parents[0].data.metrics["cells_ok"] == 4


def test_runs_left_open_are_ended(run: Run, suite: Path, uri: str, tmp_path: Path) -> None:
    import mlflow

    records = run(tracker="mlflow")
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("datafree-bench/tiny").experiment_id

    def all_runs() -> tuple[Any, dict[str, Any]]:
        runs = list(client.search_runs([experiment], max_results=100))
        (parent,) = [r for r in runs if "bench_parent" in r.data.tags]
        assert len(runs) == 1 + len(records)
        return parent, {r.data.tags["bench_cell"]: r for r in runs if "bench_cell" in r.data.tags}

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
