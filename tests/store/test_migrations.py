"""Schema 1 → 2: the shipped packs are read as they are, and every record finds its row, its setting and its cell."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import pytest

from bench.board.index.rows import make_rows
from bench.board.index.versions import versions
from bench.errors import StoreError
from bench.spec import axes
from bench.spec.plan import make_plan
from bench.spec.suite import load_suite, suite_names
from bench.store.measured import measured_folder, read_measured, read_pack
from bench.store.records import SCHEMA_VERSION, parse_record
from tests import pick

SETTINGS = {
    "W2A4": {"weight_bits": 2, "act_bits": 4, "first_last_bits": 8},
    "S50": {"sparsity": 0.5},
    "S12.5 W4A8": {"sparsity": 0.125, "weight_bits": 4, "act_bits": 8, "first_last_bits": 8},
    "resnet18_w10": {"student": "d/resnet18_w10"},
    "timm:resnet18 W4A4": {"student": "timm:resnet18", "weight_bits": 4, "act_bits": 4, "first_last_bits": 8},
    "": {},
}


def old(**changes: Any) -> dict[str, Any]:
    """A record of schema 1."""
    raw = {
        "schema_version": 1, "cell_id": "a" * 16, "synth_id": "b" * 16, "suite": "s", "suite_version": 1,
        "dataset": "d", "source": "kw(iterations=3)", "source_method": "kw", "model": "net", "target": "net",
        "compressor": "rtn", "compressor_method": "rtn", "bits": "W4A4", "n": 64, "seed": 0, "preset": "mini",
        "control": "none", "membership": "same checkpoint", "status": "ok", "metrics": {"top1": 50.0},
        "source_version": 2, "compressor_version": 1, "source_params": {"iterations": 3},
        "compressor_params": {"calibration": 64}, "target_digest": "t" * 64, "model_digests": ["t" * 64],
        "test_digest": "e" * 64, "report": {},
    }  # fmt: skip
    return {**raw, **changes}


@pytest.mark.parametrize(("label", "setting"), SETTINGS.items())
def test_a_label_becomes_a_setting(label: str, setting: dict[str, Any]) -> None:
    found = parse_record(old(bits=label), "x")
    assert (found.setting, found.setting_label, found.schema_version) == (setting, label, SCHEMA_VERSION)
    assert (found.selection, found.seed_scheme, found.job_id) == ("last", 1, found.cell_id)


def test_a_row_is_the_cell_without_its_seed() -> None:
    row = parse_record(old(), "x").row_id
    assert (
        parse_record(old(seed=7, cell_id="f" * 16, synth_id="c" * 16, suite="other", preset="thorough"), "x").row_id
        == row
    )
    changes: list[dict[str, Any]] = [
        {"n": 65}, {"bits": "W4A8"}, {"source_params": {"iterations": 4}}, {"source_version": 3},
        {"compressor_params": {"calibration": 65}}, {"compressor_version": 2}, {"target_digest": "u" * 64},
        {"model_digests": ["u" * 64]}, {"test_digest": "f" * 64}, {"dataset": "other"}, {"report": {"stream": {}}},
    ]  # fmt: skip
    assert len({row, *(parse_record(old(**change), "x").row_id for change in changes)}) == 1 + len(changes)


def test_a_row_without_versions_is_told_by_its_labels() -> None:
    """A cell that never applied was written without versions and parameters."""
    bare = {"source_version": 0, "compressor_version": 0, "source_params": {}, "compressor_params": {}}
    rows = {parse_record(old(**bare, source=source), "x").row_id for source in ("kw", "kw(iterations=3)")}
    assert len(rows) == 2


@pytest.mark.parametrize("change", [{"n": "many"}, {"report": 3}, {"bits": ["W4A4"], "dataset": None, "n": {}}])
def test_a_damaged_record_of_schema_1_is_named(change: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="damaged"):
        parse_record(old(**change), "somewhere")


def test_shipped_packs_stay_as_they_are_and_their_cells_are_the_plans() -> None:
    """Every packed record of a shipped suite is a cell of its plan, of the same row and setting; one of an older suite
    or by an older method stays as the past."""
    raw = [item for pack in measured_folder().iterdir() if ".json" in pack.name for item in read_pack(pack)]
    before = copy.deepcopy(raw)
    records = [parse_record(item, "pack") for item in raw]
    assert raw == before
    assert [item["schema_version"] == 1 for item in raw] == [record.seed_scheme == 1 for record in records]
    assert len(records) == len(read_measured()) > 1000
    cells: dict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
    for name in suite_names():
        if not pick.complete(name):  # another test tells of it
            records = [record for record in records if record.suite != name]
            continue
        plan = make_plan(load_suite(name))
        cells[plan.suite.suite, plan.suite.version] = {cell.cell_id: cell for cell in plan.cells}
    known = versions()
    for record in records:
        if (record.suite, record.suite_version) not in cells or make_rows([record], versions=known)[0].stale:
            continue
        cell = cells[record.suite, record.suite_version][record.cell_id]
        assert record.row_id == cell.row_id, record.cell_id
        assert record.setting_label == (axes.label(cell.setting) if cell.setting else "")
        assert record.setting == dict(cell.axes()["setting"])
        assert (record.delivery, record.job_id) == (cell.delivery, cell.job_id)


@pytest.mark.parametrize(
    ("label", "params", "changes"),
    [
        ("kw", {"iterations": 3}, {}),
        ("kw(iterations=3)", {"iterations": 3, "clip": True}, {"iterations": 3}),
        ("kw(stages=[1, 2], clip=true)", {"stages": [1, 2], "clip": True}, {"stages": [1, 2], "clip": True}),
        ("kw(stream)", {}, {}),
        ("kw(clip=true, stream)", {"clip": True}, {"clip": True}),
        ("kw+zoo:mobile", {}, {}),
        ("kw(my own words)", {"clip": True}, {"label": "kw(my own words)"}),
        ("tiny", {"clip": True}, {"label": "tiny"}),
    ],
)
def test_what_a_label_says_of_parameters(label: str, params: dict[str, Any], changes: dict[str, Any]) -> None:
    assert parse_record(old(source=label, source_params=params), "x").source_changes == changes


def test_schema_2_knew_no_reading_by_the_images_own_networks() -> None:
    """Nothing but the new fields is added, and they say that nobody knows."""
    before = parse_record(old(costs={"synthesis": {"seconds": 2.0, "forward_equivalents": 8.0}}), "x")
    raw = before.model_dump(mode="json", exclude={"image_gate"})
    del raw["costs"]["synthesis"]["macs"]
    assert parse_record({**raw, "schema_version": 2}, "x") == before
    assert (before.image_gate, before.costs["synthesis"].macs) == (None, None)
