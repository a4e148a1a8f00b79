"""`bench export` from a cell's id to the board's column."""

from __future__ import annotations

import json
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from bench.board.index.board_index import BoardIndex
from bench.cli.board import all_records
from bench.run import session
from bench.store.records import ResultRecord
from dashboard.cli import app
from tests import pick

SUITE = f"""
suite: tiny
version: 1
dataset: fashion_mnist
grid:
  source: [{pick.UPPER}]
  target: [resnet18_w10]
  compressor: [{pick.ROUND}]
  bits: [W8A8]
images: 20
seeds: [0]
test_subset: 100
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ResultRecord]:
    """A store with one cell, and its record; the suite's file lies beside it."""
    pick.need_small_runs()
    place = tmp_path_factory.mktemp("command")
    (place / "tiny.yaml").write_text(SUITE)
    options = session.Options(str(place / "tiny.yaml"), workers=0, tracker="none", store=place / "store")
    _, (record,) = session.run(options, Console(file=None, quiet=True))
    assert record.status == "ok", record.reason
    return place, record


def call(place: Path, *words: str) -> tuple[int, str]:
    torch.set_num_threads(1)
    given = ["export", *words, "--store", str(place / "store"), "--suite", str(place / "tiny.yaml")]
    done = CliRunner().invoke(app, given, catch_exceptions=True)
    return done.exit_code, done.stdout if done.exception is None else f"{done.stdout}{done.exception}"


def test_a_cell_is_exported_checked_and_on_the_board(ran: tuple[Path, ResultRecord], tmp_path: Path) -> None:
    place, record = ran
    file = tmp_path / "net.onnx"
    index = BoardIndex(place / "store", tmp_path / "cache", tmp_path)
    assert index.snapshot().table["integer_parity"].isna().all()
    code, said = call(place, record.cell_id[:8], "--onnx", str(file), "--json", "--runs", "3")
    assert code == 0, said
    found = json.loads(said)
    assert found["cell"] == record.cell_id
    assert found["bytes"] == file.stat().st_size
    assert found["claimed_bytes"] == record.metrics["size_bytes"]
    # the weights are the row's bytes: what is more is the graph, and a few numbers of single points
    assert abs(found["bytes"] - found["graph_bytes"] - found["claimed_bytes"]) < 0.02 * found["claimed_bytes"]
    parity = found["parity"]
    assert parity["images"] == record.test_count == 100
    assert parity["simulated_top1"] == pytest.approx(record.metrics["top1"])
    assert parity["agreement"] >= 98
    assert set(found["latency"]) == {"exported", "fp32"}
    assert all(row["agrees"] for row in found["layers"])
    assert len(found["drift"]) == len(record.report["layers"]) - 5  # those that read one tensor share its quantiser
    assert index.snapshot().table["integer_parity"].tolist() == [parity["agreement"]]
    board = {one.cell_id: one.metrics for one in all_records(place / "store")}
    assert board[record.cell_id]["integer_parity"] == parity["agreement"]

    model, layer = ir.load(file), record.report["layers"][3]["name"]
    held = model.graph.initializers[f"{layer}.weight.codes"]
    assert held.const_value is not None
    codes = held.const_value.numpy().copy()
    codes.reshape(-1)[0] ^= 1
    held.const_value = ir.Tensor(codes, dtype=held.dtype, name=held.name)
    ir.save(model, file)
    code, said = call(place, record.cell_id, "--onnx", str(file), "--check", "--images", "30", "--runs", "0")
    assert code == 1
    assert "holds another network" in said
    assert f"{layer}: 1 of " in said


def test_a_file_that_is_not_there_cannot_be_checked(ran: tuple[Path, ResultRecord], tmp_path: Path) -> None:
    place, record = ran
    assert "no such file" in call(place, record.cell_id, "--onnx", str(tmp_path / "x.onnx"), "--check")[1]
    assert list(tmp_path.iterdir()) == []
