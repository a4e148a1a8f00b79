"""Bits that depend on the image, from an installed compressor to the record, the board, the page and the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import streamlit as st
import torch
from rich.console import Console
from scipy.stats import spearmanr
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from bench.board.index.board_index import STORE_VARIABLE
from bench.data.datasets import get_dataset
from bench.measure.accuracy import to_input
from bench.measure.complexity import bitops, count
from bench.run import session
from bench.run.session import Options
from bench.store.image_bits import unpack_floats
from bench.store.record_store import RecordStore
from bench.store.records import ResultRecord
from bench.zoo import targets
from dashboard.cli import app
from tests import pick

from .packages import install

PACKAGE = '''
    import torch
    from torch import nn

    from bench.interfaces import Compressed, LayerBits, MethodParams, Setting, Variant
    from bench.measure.complexity import bitops, count
    from methods.quant.model import quantize_model


    class PickyParams(MethodParams):
        above: float = 0.0
        lie: str = ""


    class Either(nn.Module):
        """Bright images go through the network of more bits."""

        def __init__(self, cheap, dear, above):
            super().__init__()
            self.cheap, self.dear, self.above = cheap, dear, above

        def picked(self, images):
            return images.flatten(1).mean(dim=1) > self.above

        def forward(self, images):
            return torch.where(self.picked(images)[:, None], self.dear(images), self.cheap(images))


    class Picky:
        """4 bits for the inputs of layers, or 6, as the image's brightness says."""

        version = 1
        summary = paper = "bits by brightness"
        needs = offers = frozenset()
        accepts = frozenset({"bits"})
        deliveries, makes_zeros, keeps_zeros = frozenset({"cached"}), False, True
        Params = PickyParams
        presets = {"mini": {}}

        def variants(self, params, setting):
            return (setting,)

        def check(self, params, model): ...

        def compress(self, model, images, setting, params, ctx):
            nets = []
            for act in (4, 6):
                net = quantize_model(model.module, images.images[:2], Setting(4, act))
                net.calibrate(images.images)
                nets.append(net)
            low, high = (dict(net.layer_bits()) for net in nets)
            module = Either(*nets, params.above).eval()
            counts = count(model.module, tuple(images.images.shape[1:]))
            ends = [float(bitops(counts, bits)) for bits in (low, high)]

            def taken(given):
                found = torch.where(module.picked(given), ends[1], ends[0]).double()
                return found * float("nan") if params.lie == "nan" else found

            for step in range(5):
                ctx.log_scalar("bits", step, 4.0 + step / 10)
            moving = {name: (LayerBits(*low[name]), LayerBits(*high[name])) for name in low if low[name] != high[name]}
            protocol = {**nets[0].protocol(), "dynamic": [4, 6]}
            made = Variant(setting, module, nets[0].layer_bits(), protocol=protocol, image_bitops=taken,
                           bits_between=moving)
            return Compressed((made,))


    PICKY = Picky()
'''

SUITE = f"""
    suite: moving
    version: 1
    dataset: fashion_mnist
    grid:
      source: [{pick.UPPER}]
      target: [resnet18_w10]
      compressor: [picky, {pick.ROUND}, {{picky: {{lie: nan}}}}]
      bits: [W4A4, W4A6]
    images: 40
    seeds: [0]
    test_subset: 200
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with the suite's records: one run for all tests, since a compression runs in a process of its own."""
    pick.need_small_runs()
    place = tmp_path_factory.mktemp("moving")
    (place / "moving.yaml").write_text(dedent(SUITE))
    with pytest.MonkeyPatch.context() as patch:
        install(place / "site", "picky", PACKAGE, {"compressors": {"picky": "picky:PICKY"}}, patch)
        options = Options(
            suite=str(place / "moving.yaml"),
            workers=0,
            tracker="none",
            store=place / "store",
            only="compressor=picky,bits=W4A4",
        )
        session.run(options, Console(quiet=True))
        for only in (f"compressor={pick.ROUND}", "compressor=picky(lie=nan),bits=W4A4"):
            session.run(
                Options(suite=str(place / "moving.yaml"), workers=0, tracker="none", store=place / "store", only=only),
                Console(quiet=True),
            )
        yield place


@pytest.fixture(scope="module")
def records(folder: Path) -> dict[str, ResultRecord]:
    """The records by compressor and setting."""
    return {f"{r.compressor} {r.setting_label}": r for r in RecordStore(folder / "store").all("moving")}


def test_the_record_holds_what_each_image_takes(records: dict[str, ResultRecord]) -> None:
    found = records["picky W4A4"]
    assert found.status == "ok", found.reason
    assert found.image_bits is not None
    target = targets.load("fashion_mnist/resnet18_w10")
    pairs = list(get_dataset("fashion_mnist").test_batches(200))
    images = torch.cat([to_input(batch, torch.device("cpu"), target.mean, target.std) for batch, _ in pairs])
    dear = images.flatten(1).mean(dim=1) > 0
    assert 0 < int(dear.sum()) < 200
    layers = {row["name"]: (row["weight_bits"], row["activation_bits"]) for row in found.report["layers"]}
    more = {name: (w, 6 if a == 4 else a) for name, (w, a) in layers.items()}
    counts = count(target.module, tuple(images.shape[1:]))  # type: ignore[arg-type]
    expected = np.where(dear.numpy(), bitops(counts, more), bitops(counts, layers)) / 1e9
    values = unpack_floats(found.image_bits.bitops_g, 200)
    assert values == pytest.approx(expected, rel=1e-6)
    assert found.metrics["bitops_g"] == pytest.approx(expected.mean(), rel=1e-6)
    assert found.metrics["image_bits"] == pytest.approx(4 + 2 * dear.double().mean().item(), rel=1e-5)
    assert found.image_bits.between == pytest.approx((4, 6), rel=1e-5)
    logs = target.module(images).log_softmax(dim=1).detach().double()
    hard = -(logs.exp() * logs).sum(dim=1)
    assert unpack_floats(found.image_bits.difficulty, 200) == pytest.approx(hard.numpy(), abs=1e-4)
    related = found.metrics["bits_difficulty"]
    assert related == pytest.approx(spearmanr(values, hard.numpy()).statistic, abs=0.02)


def test_static_rows_hold_none(records: dict[str, ResultRecord]) -> None:
    for setting in ("W4A4", "W4A6"):
        found = records[f"{pick.ROUND} {setting}"]
        assert (found.status, found.image_bits) == ("ok", None)
        assert {"image_bits", "bits_difficulty"}.isdisjoint(found.metrics)


def test_what_cannot_be_fails_the_cell_and_names_the_compressor(records: dict[str, ResultRecord]) -> None:
    found = records["picky(lie=nan) W4A4"]
    assert found.status == "failed"
    assert "picky(lie=nan): an image's bit operations are no finite number" in str(found.reason)


def test_the_board_and_the_report_say_it(folder: Path, records: dict[str, ResultRecord]) -> None:
    options = ["--store", str(folder / "store")]
    done = CliRunner().invoke(app, ["board", str(folder / "moving.yaml"), "--format", "json", *options])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    (row,) = answer["dynamic"]["rows"]
    assert row["bits_mean"] == pytest.approx(records["picky W4A4"].metrics["image_bits"])
    (equal,) = answer["dynamic"]["against_static"]
    assert equal["between"] == f"{pick.ROUND} W4A4 | {pick.ROUND} W4A6"
    assert {line["compressor"]: line["image_bits"] for line in answer["rows"] if line["setting_label"] == "W4A4"}[
        "picky"
    ] == pytest.approx(row["bits_mean"])
    page = folder / "report.html"
    done = CliRunner().invoke(app, ["report", str(folder / "moving.yaml"), "--out", str(page), *options])
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "<h3>Bits per image</h3>" in text
    assert "dynamic against static at equal mean bit operations" in text
    assert "bits of an image" in text


def test_the_page_draws_it(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv(STORE_VARIABLE, str(folder / "store"))
    monkeypatch.setattr("bench.board.index.board_index.measured_folder", lambda: tmp_path / "none")
    st.cache_resource.clear()
    st.cache_data.clear()
    page = AppTest.from_string("from dashboard.views import bits\nbits.show()", default_timeout=120)
    page.query_params["row"] = f"{pick.UPPER} · picky · W4A4 · 40 images"
    page.run()
    st.cache_resource.clear()
    st.cache_data.clear()
    assert not page.exception
    assert "Bits per image" in [element.value for element in page.header]
    charts = [json.loads(element.proto.spec) for element in page.get("plotly_chart")]
    titles = [chart["layout"].get("xaxis", {}).get("title", {}).get("text", "") for chart in charts]
    assert "bits of an image" in titles
    assert any(title.startswith("difficulty") for title in titles)
    assert "step" in titles  # the training's curve
    tables = "".join(element.proto.body for element in page.get("html"))
    assert "with difficulty" in tables
    assert f"{pick.ROUND} W4A4 | {pick.ROUND} W4A6" in tables
