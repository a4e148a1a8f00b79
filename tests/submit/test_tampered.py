"""A submission that was changed is refused, with the place, what was got and what is allowed, also where its digest was
made anew."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.identity import digest
from bench.spec.plugins import KEY
from bench.store.bitmaps import pack_bits, unpack_bits
from bench.store.measured import xz
from bench.store.seals import sealed
from bench.submit.package import Submission, parse_submission, read_submission
from bench.submit.validate import Refused, differences

from .conftest import resealed

Raw = dict[str, Any]


def first(raw: Raw) -> Raw:
    """The first record."""
    record: Raw = raw["records"][0]
    return record


def set_to(key: str, value: Any) -> Callable[[Raw], None]:
    """Change a field of the first record; a dot leads into it."""

    def change(raw: Raw) -> None:
        *path, last = key.split(".")
        here = first(raw)
        for name in path:
            here = here[name]
        assert here.get(last) != value
        here[last] = value

    return change


def one_more_right(raw: Raw) -> None:
    """The bitmap alone."""
    bits = unpack_bits(first(raw)["correct"], first(raw)["test_count"])
    bits[np.flatnonzero(~bits)[0]] = True
    first(raw)["correct"] = pack_bits(bits)


def fewer_images(raw: Raw) -> None:
    first(raw)["test_count"] -= 8


def a_layer_less(raw: Raw) -> None:
    del first(raw)["report"]["layers"][3]


def cheaper_layer(raw: Raw) -> None:
    first(raw)["report"]["layers"][3]["weight_bits"] = 2


def no_bitmap(raw: Raw) -> None:
    first(raw)["correct"] = None


def twice(raw: Raw) -> None:
    raw["records"].append(copy.deepcopy(first(raw)))
    raw["counts"]["ok"] += 1


def one_less(raw: Raw) -> None:
    raw["records"].pop()


def skipped(raw: Raw) -> None:
    """A cell that was measured and shall look as if it had not been."""
    first(raw).update(status="skipped")
    raw["counts"] = {"ok": 3, "skipped": 1}


def not_even_why(raw: Raw) -> None:
    skipped(raw)
    first(raw).update(metrics={}, correct=None, test_count=0)


def protocol(raw: Raw) -> None:
    """The protocol with an id that fits it: another test set than the record's."""
    first(raw)["protocol"]["test_set"] = "0" * 16
    first(raw)["protocol_id"] = digest(first(raw)["protocol"])[:16]


def suite(raw: Raw) -> None:
    first(raw)["suite"] = "another"


ALONE: dict[str, tuple[Callable[[Raw], None], str]] = {
    "top-1": (set_to("metrics.top1", 99.5), "top-1 99.5, its bitmap says"),
    "bitmap": (one_more_right, "its bitmap says"),
    "no bitmap": (no_bitmap, "records[0].correct"),
    "test count": (fewer_images, "records[0]: the record is damaged"),
    "target's top-1": (set_to("metrics.fp_top1", 91.23456), "records[0].metrics.fp_top1"),
    "no such share": (set_to("metrics.fp_top1", 120.0), "records[0].metrics.fp_top1"),
    "bit operations": (set_to("metrics.bitops_g", 0.001), "records[0].metrics.bitops_g"),
    "MACs": (set_to("metrics.macs", 1000.0), "records[0].metrics.macs"),
    "a layer's bits": (cheaper_layer, "records[0].metrics.bitops_g"),
    "a layer": (a_layer_less, "records[0].metrics.macs"),
    "protocol": (set_to("protocol.weight_bits", 8), "records[0].protocol_id"),
    "protocol's id": (set_to("protocol_id", "0" * 16), "records[0].protocol_id"),
    "protocol's test set": (protocol, "records[0].protocol.test_set"),
    "cell": (set_to("cell_id", "0" * 16), "records[0].cell_id"),
    "job": (set_to("job_id", "0" * 16), "records[0].job_id"),
    "row": (set_to("row_id", "0" * 16), "records[0].row_id"),
    "image set": (set_to("synth_id", "0" * 16), "records[0].cell_id"),
    "seed": (set_to("seed", 7), "records[0].cell_id"),
    "images": (set_to("n", 4000), "records[0].cell_id"),
    "bits": (set_to("setting.weight_bits", 2), "records[0].cell_id"),
    "weights": (set_to("target_digest", "0" * 64), "records[0].cell_id"),
    "test set": (set_to("test_digest", "0" * 64), "records[0]."),
    "compressor": (set_to("compressor_method", "best"), "records[0].cell_id"),
    "compressor's version": (set_to("compressor_version", 99), "records[0].cell_id"),
    "compressor's parameters": (set_to("compressor_params.calibrated", True), "records[0].cell_id"),
    "source": (set_to("source_method", "best"), "records[0].row_id"),
    "source's version": (set_to("source_version", 99), "records[0].row_id"),
    "source's parameters": (set_to("source_params.found", 1), "records[0].row_id"),
    "networks": (set_to("model_digests", ["0" * 64]), "records[0].row_id"),
    "delivery": (set_to("delivery", "stream"), "records[0].row_id"),
    "status": (skipped, "records[0]."),
    "status without a reason": (not_even_why, "records[0].reason"),
    "reason": (set_to("reason", "none"), "records[0].reason"),
    "suite": (suite, "records[0].suite"),
    "twice": (twice, "records[4].cell_id"),
    "one less": (one_less, "counts"),
    "schema": (set_to("schema_version", 99), "schema_version 99"),
    "form": (set_to("n", "many"), "records[0]"),
    "unknown field": (set_to("bonus", 1), "bonus"),
}
HEADER: dict[str, tuple[str, Any]] = {
    "counts": ("counts", {"ok": 5}),
    "format": ("format", "another"),
    "version": ("schema_version", 2),
    "suite's version": ("suite_version", 2),
    "suite's name": ("suite", "other"),
    "escape codes": ("submitter", "\x1b[31m"),
    "unknown": ("bonus", 1),
    "seeds": ("asked", {"text": "", "seeds": 0}),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_change_is_refused_although_the_digest_fits(name: str, raw: Raw, tmp_path: Path) -> None:
    change, place = ALONE[name]
    change(raw)
    with pytest.raises(Refused) as caught:
        read_submission(resealed(raw, tmp_path / "mine.json.xz"))
    said = str(caught.value)
    assert place in said
    assert str(tmp_path) in said


@pytest.mark.parametrize("name", HEADER)
def test_a_changed_header(name: str, raw: Raw) -> None:
    key, value = HEADER[name]
    raw[key] = value
    with pytest.raises(Refused) as caught:
        parse_submission(raw, "sent")
    assert "sent" in str(caught.value)
    assert "got:" in str(caught.value)


@pytest.mark.parametrize("change", [set_to("provenance.threads", 8), set_to("costs.compress.seconds", 0.0)])
def test_what_no_arithmetic_tells_breaks_the_digest(
    change: Callable[[Raw], None], raw: Raw, made: tuple[Path, Submission], tmp_path: Path
) -> None:
    change(raw)
    (tmp_path / "mine.json.xz").write_bytes(xz(json.dumps(raw | {"digest": made[1].digest}).encode()))
    with pytest.raises(Refused, match="digest") as caught:
        read_submission(tmp_path / "mine.json.xz")
    assert made[1].digest in str(caught.value)


def test_without_a_digest(raw: Raw, tmp_path: Path) -> None:
    (tmp_path / "mine.json.xz").write_bytes(xz(json.dumps(raw).encode()))
    with pytest.raises(Refused, match="digest"):
        read_submission(tmp_path / "mine.json.xz")


def test_another_layout_is_the_same_content(made: tuple[Path, Submission], raw: Raw, tmp_path: Path) -> None:
    (tmp_path / "mine.json.xz").write_bytes(xz(json.dumps(json.loads(sealed(raw))).encode()))
    assert read_submission(tmp_path / "mine.json.xz") == made[1]


PLANNED = {
    "source": "a better source",
    "compressor": "a better compressor",
    "access": "T0",
    "control": "none",
    "membership": "same checkpoint",
    "preset": "paper",
    "synth_id": "0" * 16,
    "source_changes": {"steps": 1},
    "dataset": "digits",
}
"""What a record does not tell of itself, and the suite's plan does."""


@pytest.mark.parametrize("name", PLANNED)
def test_the_plan_contradicts(name: str, made: tuple[Path, Submission]) -> None:
    submission = made[1]
    upper = submission.records[0]
    assert getattr(upper, name) != PLANNED[name]
    changed = (upper.model_copy(update={name: PLANNED[name]}), *submission.records[1:])
    with pytest.raises(Refused) as caught:
        differences(changed, submission.header.asked.plan("sent"), "sent")
    assert "records[0]" in str(caught.value)


def test_another_version_is_no_forgery_and_cannot_be_run_here(made: tuple[Path, Submission]) -> None:
    submission = made[1]
    plan = submission.header.asked.plan("sent")
    for name, value in {"compressor_version": 99, "target_digest": "0" * 64}.items():
        older = submission.records[0].model_copy(update={name: value, "cell_id": "0" * 16})
        found = differences((older, *submission.records[1:]), plan, "sent")
        assert found == {"0" * 16: f"another {name.replace('_', ' ')}"}
    upper = submission.records[0]
    brought = upper.model_copy(update={"source_params": {**upper.source_params, KEY: "1" * 16}, "cell_id": "0" * 16})
    found = differences((brought, *submission.records[1:]), plan, "sent")
    assert found == {"0" * 16: "another file of the source"}


def test_shipped_records_are_sound() -> None:
    """The arithmetic holds for what was really measured, of schemas before and after digests."""
    from bench.store.measured import read_measured
    from bench.submit.validate import faults

    few = {"number": 0}

    def every_ninth(raw: object) -> bool:
        few["number"] += 1
        return few["number"] % 60 == 0

    records = read_measured(wanted=every_ninth)
    assert len(records) > 20
    assert [(r.suite, r.cell_id, fault) for r in records for fault in faults(r)] == []
