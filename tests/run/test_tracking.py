"""MLflow for real: a sqlite store, nested runs keyed by cell, no duplicates; a dead server costs a warning only."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bench.run.tracking import ui_command
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


def test_a_dead_server_costs_a_warning_never_a_result(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    records = run(tracker="mlflow")
    assert {r.status for r in records} == {"ok"}
    assert any("MlflowObserver is out" in message for message in caplog.messages)


def test_the_line_that_shows_the_runs() -> None:
    assert ui_command("sqlite:///mlflow.db") == "mlflow ui"
    assert ui_command("sqlite:////x/y.db") == "mlflow ui --backend-store-uri sqlite:////x/y.db"
