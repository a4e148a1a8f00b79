"""The row option ``teacher``: which network teaches, whose ids hold it, and what is refused before any compute."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from bench.errors import SuiteError, WeightsError
from bench.interfaces import NetworkInfo
from bench.spec import axes
from bench.spec.catalogue import ShippedCatalogue
from bench.spec.jobs import CellJob
from bench.spec.plan import Plan, make_plan
from bench.spec.registry import Registry
from bench.spec.suite import load_suite
from tests import pick

TAUGHT = pick.first("compressors", accepts="bits", offers="teacher")
SUITE = f"""
    suite: taught
    version: 1
    dataset: DATASET
    grid:
      source: [{pick.LOWER}]
      target: [resnet18_w10, mobilenetv2_w035]
      compressor: COMPRESSORS
      bits: [W3A3]
    images: 40
    seeds: [0, 1]
"""
pytestmark = pytest.mark.skipif(not (TAUGHT and pick.LOWER), reason="no installed compressor takes a teacher")


@dataclass(frozen=True)
class Changed(ShippedCatalogue):
    """The real networks, of which some are said to be other than they are."""

    networks_as: dict[str, dict[str, Any]] = field(default_factory=dict)

    def info(self, name: str) -> NetworkInfo:
        known = self.networks_as.get(name.partition("/")[2], {})
        if known.get("missing"):
            raise WeightsError("no weights for this network", where=name)
        return dataclasses.replace(super().info(name), **known)


def plan(
    folder: Path, compressors: Sequence[Any], dataset: str = "fashion_mnist", only: str | None = None, **changed: Any
) -> Plan:
    """The plan of the suite with these compressors; ``changed`` says what differs of which network."""
    file = folder / "taught.yaml"
    written = dedent(SUITE).replace("COMPRESSORS", json.dumps(list(compressors))).replace("DATASET", dataset)
    file.write_text(written)
    return make_plan(load_suite(file), catalogue=Changed(networks_as=changed), only=only)


def rows(made: Plan) -> dict[tuple[str, str, int], CellJob]:
    return {(cell.compressor, cell.target, cell.seed): cell for cell in made.cells}


def by(teacher: str, **more: Any) -> dict[str, Any]:
    return {TAUGHT: {"teacher": teacher, **more}}


def test_the_row_names_its_teacher_and_knows_it_by_its_full_name(tmp_path: Path) -> None:
    made = plan(tmp_path, [TAUGHT, by("resnet34_w8"), by("resnet34_w8", steps=7), by("resnet50_w8", label="mine")])
    labels = list(dict.fromkeys(cell.compressor for cell in made.cells))
    plain = f"{TAUGHT}(teacher=resnet34_w8)"
    assert labels == [TAUGHT, plain, f"{TAUGHT}(steps=7, teacher=resnet34_w8)", "mine"]
    one = rows(made)[plain, "resnet18_w10", 0].compressor_resolved
    assert one is not None
    assert one.teacher == "fashion_mnist/resnet34_w8"
    assert one.teacher_digest == ShippedCatalogue().info("fashion_mnist/resnet34_w8").digest
    assert dict(one.changes) == {"teacher": "resnet34_w8"}
    assert "teacher" not in one.params_json
    assert len({cell.cell_id for cell in made.cells}) == len(made.cells)
    chosen = plan(tmp_path, [TAUGHT, by("resnet34_w8")], only=f"compressor={plain},seed=0")
    assert {cell.compressor for cell in chosen.cells} == {plain}


def test_short_and_full_names_are_one_teacher_also_of_a_tuning_set(tmp_path: Path) -> None:
    short, full = (
        plan(tmp_path, [by(name)], dataset).cells[0]
        for dataset, name in (
            ("fashion_mnist", "resnet34_w8"),
            ("fashion_mnist", "fashion_mnist/resnet34_w8"),
        )
    )
    assert (short.cell_id, short.row_id, short.compressor) == (full.cell_id, full.row_id, full.compressor)
    held_out = plan(tmp_path, [by("resnet34_w8")], "fashion_mnist+held_out").cells[0]
    assert held_out.compressor_resolved is not None
    assert held_out.compressor_resolved.teacher == "fashion_mnist/resnet34_w8"


def test_ids_hold_the_teachers_weights_and_nothing_where_there_is_none(tmp_path: Path) -> None:
    alone = rows(plan(tmp_path, [TAUGHT]))
    beside = rows(plan(tmp_path, [TAUGHT, by("resnet34_w8"), by("resnet50_w8", label="other")]))
    other = rows(plan(tmp_path, [by("resnet34_w8")], resnet34_w8={"digest": "f" * 64}))
    taught = f"{TAUGHT}(teacher=resnet34_w8)"
    for (_, target, seed), cell in alone.items():
        found = [beside[name, target, seed] for name in (TAUGHT, taught, "other")]
        assert (cell.cell_id, cell.row_id, cell.job_id) == (found[0].cell_id, found[0].row_id, found[0].job_id)
        new = other[taught, target, seed]
        for name in ("cell_id", "row_id", "job_id"):
            assert len({getattr(one, name) for one in (*found, new)}) == 4
        # the same draws and the same images: rows differ by who teaches
        assert {one.generator_seed for one in found} == {cell.generator_seed}
        assert {one.synth_id for one in found} == {cell.synth_id}


def test_the_id_of_a_row_without_a_teacher_is_what_it_was_before_there_were_any(tmp_path: Path) -> None:
    """Hashed by hand: no key speaks of a teacher."""
    cell = plan(tmp_path, [TAUGHT]).cells[0]
    resolved, setting = cell.compressor_resolved, cell.setting
    assert resolved is not None
    assert setting is not None
    known = {
        "scheme": 1,
        "kind": "cell",
        "synth": cell.synth_id,
        "count": 40,
        "policy": None,
        "compressor": TAUGHT,
        "version": resolved.version,
        "params": resolved.params_json,
        "setting": axes.identity(setting),
        "target": cell.target_digest,
        "test": cell.test_digest,
        "seed": 0,
        "measures": [],
    }
    text = json.dumps(known, sort_keys=True, separators=(",", ":"))
    assert cell.cell_id == hashlib.sha256(text.encode()).hexdigest()[:16]
    taught = plan(tmp_path, [by("resnet34_w8")]).cells[0]
    digest = ShippedCatalogue().info("fashion_mnist/resnet34_w8").digest
    text = json.dumps({**known, "teacher": digest}, sort_keys=True, separators=(",", ":"))
    assert taught.cell_id == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_target_is_not_its_own_teacher(tmp_path: Path) -> None:
    made = plan(tmp_path, [by("resnet18_w10")])
    reasons = {cell.target: cell.not_applicable for cell in made.cells}
    assert "resnet18_w10 is the target itself" in str(reasons["resnet18_w10"])
    assert reasons["mobilenetv2_w035"] is None


def refused(folder: Path, compressor: Any, **changed: Any) -> SuiteError:
    with pytest.raises(SuiteError) as caught:
        plan(folder, [compressor], **changed)
    return caught.value


def test_an_unknown_teacher(tmp_path: Path) -> None:
    error = refused(tmp_path, by("resnet34_w9"))
    assert "no such network" in error.what
    assert error.nearest == "resnet34_w8"
    assert f"grid.compressor[0].{TAUGHT}.teacher" in str(error.where)


def test_a_compressor_that_takes_none_says_which_do(tmp_path: Path) -> None:
    registry = Registry("compressors")
    able = [name for name in registry.names() if "teacher" in registry.get(name).offers]
    unable = next(name for name in registry.names() if name not in able and registry.get(name).accepts == {"bits"})
    error = refused(tmp_path, {unable: {"teacher": "resnet34_w8"}})
    assert f"{unable} takes no teacher" in error.what
    assert all(name in str(error.hint) for name in able)
    assert f"{unable}.teacher" in str(error.where)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"classes": 100}, "100 classes"),
        ({"shape": (1, 28, 28)}, "1×28×28"),
        ({"shape": (3, 32, 32)}, "3×32×32"),
        ({"fp_top1": None}, "fashion_mnist/resnet34_w8"),
    ],
)
def test_a_teacher_that_does_not_serve(tmp_path: Path, known: dict[str, Any], said: str) -> None:
    error = refused(tmp_path, by("resnet34_w8"), resnet34_w8=known)
    assert said in str(error.got)
    assert f"{TAUGHT}.teacher" in str(error.where)


def test_a_teacher_without_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights"):
        plan(tmp_path, [by("resnet34_w8")], resnet34_w8={"missing": True})


@pytest.mark.parametrize("given", [3, ["resnet34_w8"], ""])
def test_a_teacher_is_one_name(tmp_path: Path, given: Any) -> None:
    error = refused(tmp_path, {TAUGHT: {"teacher": given}})
    assert error.what in ("wrong type", "is empty")
    assert f"{TAUGHT}.teacher" in str(error.where)


@pytest.mark.parametrize("whole", [True, False])
def test_a_chain_takes_no_teacher(tmp_path: Path, whole: bool) -> None:
    step = TAUGHT if whole else by("resnet34_w8")
    chain: dict[str, Any] = {"steps": [pick.ROUND, step], **({"teacher": "resnet34_w8"} if whole else {})}
    error = refused(tmp_path, chain)
    assert "a chain of steps takes no teacher" in error.what
    assert "teacher" in str(error.where)
