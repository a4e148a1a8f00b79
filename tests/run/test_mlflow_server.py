"""MLflow for real, over HTTP: a server on loopback, and what a reader finds there after a run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import pick

from .conftest import Run

STARTS_WITHIN = 120.0  # seconds


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real `mlflow server` with a database and artifacts of its own; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    places = ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}", "--artifacts-destination"]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    log = (tmp_path / "server.log").open("wb")
    process = subprocess.Popen(
        [*command, *places, str(tmp_path / "artifacts")], cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
    )
    end = time.monotonic() + STARTS_WITHIN
    up = False
    while not up and process.poll() is None and time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=2) as answer:
            up = answer.status == 200
        time.sleep(0.2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    try:
        assert up, (tmp_path / "server.log").read_text()[-2000:]
        yield uri
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # the group we started: the server and its workers
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def found(uri: str) -> tuple[Any, list[Any], dict[str, Any]]:
    """Client, the suite's parent runs, and its cells' runs by cell id, as the server tells them."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("datafree-bench/tiny")
    runs = list(client.search_runs([experiment.experiment_id], max_results=100))
    parents = [r for r in runs if "bench_parent" in r.data.tags]
    return client, parents, {r.data.tags["bench_cell"]: r for r in runs if "bench_cell" in r.data.tags}


@pytest.mark.slow
def test_a_suite_is_an_experiment_and_its_cells_are_comparable_runs(run: Run, server: str) -> None:
    records = run(tracker="mlflow")
    client, parents, cells = found(server)
    (parent,) = parents
    assert parent.data.tags["suite"] == "tiny@1"
    assert parent.data.metrics["cells_ok"] == 4
    assert set(cells) == {r.cell_id for r in records}
    below = client.search_runs([parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    rows = {r.data.tags["bench_row"]: r.info.run_id for r in below if "bench_row" in r.data.tags}
    for record in records:
        child = cells[record.cell_id]
        assert child.data.tags["mlflow.parentRunId"] == rows[record.row_id]
        assert child.info.status == "FINISHED"
        assert child.data.metrics["top1"] == pytest.approx(record.metrics["top1"])
        assert child.data.metrics["compress_s"] == pytest.approx(record.costs["compress"].seconds)
        assert (child.data.params["source"], child.data.params["seed"]) == (record.source, str(record.seed))
    # comparable: all of them have the same parameters and metrics, and differ in what the grid varies
    own = "with.source."
    names = {frozenset(k for k in c.data.params if not k.startswith(own)) for c in cells.values()}
    assert len(names) == 1
    assert len({frozenset(c.data.metrics) for c in cells.values()}) == 1
    assert {c.data.params["source"] for c in cells.values()} == {pick.UPPER, pick.LOWER}
    query = f"params.source = '{pick.LOWER}' and metrics.top1 > 0 and params.seed != ''"
    one = client.search_runs([parent.info.experiment_id], query)
    assert {r.data.tags["bench_cell"] for r in one} == {r.cell_id for r in records if r.source == pick.LOWER}
    images = [r for r in below if "bench_images" in r.data.tags]
    assert len(images) == len({r.synth_id for r in records})
    assert all("grid.png" in {a.path for a in client.list_artifacts(r.info.run_id)} for r in images)

    assert run(tracker="mlflow") == records  # resumed: nothing is logged twice
    _, parents, again = found(server)
    assert [p.info.run_id for p in parents] == [parent.info.run_id]
    assert {k: r.info.run_id for k, r in again.items()} == {k: r.info.run_id for k, r in cells.items()}
    assert run(store="other", tracker="mlflow")[0].cell_id in again
    assert len(found(server)[1]) == 2  # another store's run stands beside it
