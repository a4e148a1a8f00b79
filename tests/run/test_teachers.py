"""A cell that another network than its target teaches, run for real: what the compressor gets, and what the record and
the board say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from bench.board.index.frame import frame
from bench.interfaces import ModelHandle
from bench.run import session
from bench.spec.registry import Registry
from bench.store.records import ResultRecord
from bench.zoo import targets
from tests import pick

TAUGHT = pick.first("compressors", accepts="bits", offers="teacher", params=("steps", "batch", "kl", "features"))
TARGET, TEACHER = "resnet18_w10", "resnet34_w8"
STEPS, BATCH, IMAGES = 2, 8, 16
FEW = {"steps": STEPS, "batch": BATCH, "calibration": IMAGES}
SUITE = f"""
suite: taught
version: 1
dataset: fashion_mnist
rank_within: protocol
grid:
  source: [SOURCE]
  target: [{TARGET}]
  compressor: COMPRESSORS
  bits: [W4A4]
images: {IMAGES}
seeds: SEEDS
test_subset: 50
"""
pytestmark = pytest.mark.skipif(not TAUGHT, reason="no installed compressor takes a teacher")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests, so that the target's own accuracy is measured once."""
    return tmp_path_factory.mktemp("taught")


def run(store: Path, source: str, *rows: dict[str, Any], seeds: str = "[0]") -> list[ResultRecord]:
    pick.need_small_runs()
    written = SUITE.replace("SOURCE", source).replace("SEEDS", seeds)
    file = store / "taught.yaml"
    file.write_text(written.replace("COMPRESSORS", json.dumps([{TAUGHT: {**FEW, **row}} for row in rows])))
    options = session.Options(suite=str(file), workers=0, tracker="none", store=store / "store")
    return session.run(options, Console(quiet=True))[1]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[ModelHandle | None]:
    """The teachers that the compressor was given, one for each compression."""
    found: list[ModelHandle | None] = []
    method = Registry("compressors").get(TAUGHT)
    plain = method.compress

    def compress(model: Any, images: Any, setting: Any, params: Any, ctx: Any) -> Any:
        found.append(ctx.teacher)
        return plain(model, images, setting, params, ctx)

    monkeypatch.setattr(method, "compress", compress, raising=False)
    return found


def test_who_teaches_is_given_counted_and_told(store: Path, given: list[ModelHandle | None]) -> None:
    by: dict[str, Any] = {"teacher": TEACHER}
    plain, taught, bare, idle = run(store, pick.UPPER, {}, by, {**by, "features": 0.0}, {**by, "kl": 0.0})
    assert [r.status for r in (plain, taught, bare, idle)] == ["ok", "ok", "ok", "not_applicable"], taught.reason
    assert "asks its teacher nothing" in str(idle.reason)

    own, teacher = (targets.load(f"fashion_mnist/{name}") for name in (TARGET, TEACHER))
    assert given[0] is None
    for handle in given[1:]:
        assert handle is not None
        assert (handle.name, handle.digest, handle.macs) == (teacher.name, teacher.digest, teacher.macs)
        assert not any(part.training for part in handle.module.modules())
        assert not any(p.requires_grad for p in handle.module.parameters())
        kept = teacher.module.state_dict()
        assert all(torch.equal(value, kept[name]) for name, value in handle.module.state_dict().items())

    seen, ratio = STEPS * BATCH, teacher.macs / own.macs
    for record, look in ((plain, 1.0), (taught, ratio + 1), (bare, ratio)):
        assert record.costs["compress"].forward_equivalents == pytest.approx(seen * (2 + look) + IMAGES)

    assert taught.compressor.endswith(f"teacher={TEACHER})")
    assert "teacher" not in {*plain.protocol, *plain.report, *plain.compressor_params, *plain.compressor_changes}
    assert taught.protocol == {**plain.protocol, "teacher": teacher.name}
    assert taught.report["teacher"]["network"] == teacher.name
    assert taught.report["teacher"]["digest"] == teacher.digest
    assert taught.compressor_params["teacher"] == taught.compressor_changes["teacher"] == TEACHER
    # who teaches was trained on the data; the images come from where they came from
    assert (taught.access, taught.audit) == (plain.access, plain.audit)
    assert taught.image_digest == plain.image_digest
    assert taught.report["kl_first"] != plain.report["kl_first"]
    assert taught.report["features_first"] == pytest.approx(plain.report["features_first"], rel=1e-3)


def test_rows_with_a_teacher_are_ranked_apart(store: Path) -> None:
    """Also where the suite ranks compressors against each other: two plain rows share a group, the taught one has its
    own."""
    source = pick.name("sources", control="none", models="none")  # controls are not ranked
    records = run(store, source, {}, {"temperature": 2.0}, {"teacher": TEACHER}, seeds="[0, 1]")
    assert {r.status for r in records} == {"ok"}, [r.reason for r in records]
    table = frame(records, ranked={"taught": "protocol"})
    groups = {str(row.compressor): row.protocol_id for row in table.itertuples()}
    alone = [name for name in groups if "teacher=" in name]
    assert len(groups) == 3
    assert len(alone) == 1
    others = {groups[name] for name in groups if name not in alone}
    assert len(others) == 1
    assert groups[alone[0]] not in others
    ranks = {str(row.compressor): (row.rank_low, row.rank_high) for row in table.itertuples()}
    assert ranks[alone[0]] == (1, 1)


def test_a_teacher_that_is_not_sound_closes_the_gate(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = targets.load

    def broken(name: str) -> ModelHandle:
        found = load(name)
        if name.endswith(TEACHER):
            next(found.module.parameters()).data.view(-1)[0] = float("nan")
        return found

    monkeypatch.setattr(targets, "load", broken)
    plain, taught = run(store, pick.LOWER, {}, {"teacher": TEACHER})
    assert (plain.status, taught.status) == ("ok", "skipped")
    assert "fp_gate" in str(taught.reason)
    assert TEACHER in str(taught.reason)
