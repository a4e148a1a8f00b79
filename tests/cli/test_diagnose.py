"""`bench diagnose` on a real cell with one layer planted at two bits: the table, the JSON, the page, the refusals."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from bench.cli.diagnose import _closed
from bench.cli.progress import Pace, reported
from bench.data.table import spec_of
from bench.errors import BenchError
from bench.interfaces import BitPolicy, LayerBits, Setting, Variant
from bench.interfaces.inventory import probe_images, take_inventory
from bench.run import session
from bench.zoo.targets import load
from dashboard.cli import app
from tests import pick

PLANTED = "layer3.0.conv2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pick.need_small_runs()
    place = tmp_path_factory.mktemp("planted")
    module = load("fashion_mnist/resnet18_w10").module
    names = take_inventory(module, probe_images(torch.empty(1, *spec_of("fashion_mnist").shape), 1)).layers
    bits = {name: [2, 2] if name == PLANTED else [8, 8] for name in names}
    (place / "planted.json").write_text(json.dumps(bits))
    (place / "mine.yaml").write_text(
        f"suite: mine\nversion: 1\ndataset: fashion_mnist\ngrid:\n  source: [{pick.UPPER}]\n  target: [resnet18_w10]\n"
        f"  compressor: [{pick.ROUND}]\n  policy: [{{file: {place}/planted.json}}]\n  bits: [W8A8]\n"
        "images: 20\nseeds: [0]\ntest_subset: 40\n"
    )
    made = session.Options(suite=str(place / "mine.yaml"), store=place / "store", workers=0, tracker="none")
    (record,) = session.run(made, Console(quiet=True))[1]
    (place / "cell").write_text(record.cell_id)
    assert record.status == "ok", record.reason
    return place


def test_the_planted_layer_is_named_first(folder: Path) -> None:
    cell = (folder / "cell").read_text()
    words = ["diagnose", cell[:8], "--suite", str(folder / "mine.yaml"), "--store", str(folder / "store")]
    done = CliRunner().invoke(app, [*words, "--html", str(folder / "why.html"), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["cell"] == cell
    assert answer["worst"] == PLANTED
    assert answer["images"] == 40
    assert answer["top1"] == pytest.approx(answer["recorded_top1"])
    assert sum(answer["predictions"]["labels"]) == 40
    page = (folder / "why.html").read_text()
    assert PLANTED in page
    assert page.count('class="figure"') == 4
    assert 'src="http' not in page
    shown = CliRunner().invoke(app, [*words, "--images", "15"], catch_exceptions=False, env={"COLUMNS": "160"})
    assert f"first: {PLANTED}" in shown.stdout
    assert "on 10 test images" in shown.stdout  # equally many of each class


def test_a_network_trained_quantised_is_opened_up(folder: Path, tmp_path: Path) -> None:
    trains = pick.name("compressors", accepts="bits", offers="teacher", params=("steps", "kl", "relative"))
    row = pick.values("compressors", trains, steps=2, batch=16, calibration=16)
    text = (folder / "mine.yaml").read_text().replace("suite: mine", "suite: trained").replace("W8A8", "W4A4")
    (tmp_path / "trained.yaml").write_text(text.replace(f"[{pick.ROUND}]", f"[{row}]"))
    options = session.Options(suite=str(tmp_path / "trained.yaml"), store=folder / "store", workers=0, tracker="none")
    (record,) = session.run(options, Console(quiet=True))[1]
    assert record.status == "ok", record.reason
    words = ["diagnose", record.cell_id, "--suite", options.suite, "--store", str(folder / "store"), "--images", "20"]
    done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    answer = json.loads(done.stdout)
    assert answer["worst"] in {layer["name"] for layer in answer["layers"]}
    planted = next(layer for layer in answer["layers"] if layer["name"] == PLANTED)
    others = [layer["weight_db"] for layer in answer["layers"] if layer["name"] != PLANTED]
    assert (planted["weight_bits"], planted["weight_db"] < min(others)) == (2, True)
    assert "before they are rounded" in answer["baseline"]
    assert 0 <= answer["baseline_top1"] <= 100
    assert all(block["drift_db"] is not None for block in answer["blocks"])


def test_why_a_network_is_closed_and_what_to_do() -> None:
    module = torch.nn.Identity()
    free = _closed(Variant(Setting(), module, BitPolicy.of({"a": (32, 32)})))
    assert "no layer of it is quantised" in free
    ends = (LayerBits(3, 3), LayerBits(5, 5))
    assert "fixed bits" in _closed(
        Variant(Setting(4, 4), module, BitPolicy.of({"a": (4, 4)}), bits_between={"a": ends})
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--images", "9"), "one of a class"),
        (("--html", "why.pdf"), "the page is HTML"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, more: tuple[str, ...], said: str) -> None:
    cell = (folder / "cell").read_text()
    words = ["diagnose", cell, "--suite", str(folder / "mine.yaml"), "--store", str(folder / "store"), *more]
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, BenchError)
    assert said in str(refused.exception)


def test_an_unknown_cell_is_refused(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["diagnose", "no such cell", "--store", str(tmp_path)])
    assert isinstance(refused.exception, BenchError)
    assert "no cell begins so" in str(refused.exception)


def test_the_time_left_is_that_of_the_stage() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    assert pace.left("first", 0, 10) is None
    now[0] = 6.0
    assert pace.left("first", 2, 10) == 24.0  # 3 seconds a step
    now[0] = 100.0
    assert pace.left("second", 50, 100) is None  # where it begins
    now[0] = 101.0
    assert pace.left("second", 60, 100) == 4.0


def test_where_there_is_no_terminal_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    said = StringIO()
    now = iter([0.0, 0.0, 0.0, 20.0, 20.0, 20.0, 21.0, 21.0, 21.0])
    monkeypatch.setattr("bench.cli.progress.time.monotonic", lambda: next(now, 22.0))
    with reported(Console(file=said), "a cell") as report:
        for step in range(3):
            report("signals", step, 4)
    assert 1 <= said.getvalue().count("a cell: signals") < 3
