"""A submission holds what was measured, travels as one file, and is read as it was written."""

from __future__ import annotations

import hashlib
import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError, StoreError
from bench.run.session import Options, plan_of
from bench.store.record_store import RecordReader, RecordStore
from bench.submit.package import Submission, make_submission, read_submission
from bench.submit.validate import Refused, differences

from .conftest import SUITE


def test_what_is_read_is_what_was_measured(made: tuple[Path, Submission], ran: Options) -> None:
    path, submission = made
    found = read_submission(path)
    assert found == submission
    stored = {r.cell_id: r for r in RecordReader(ran.store).all()}
    assert {r.cell_id for r in found.records} == set(stored)
    for record in found.records:
        own = stored[record.cell_id]
        for name in ("metrics", "correct", "test_count", "protocol", "provenance", "costs", "report", "image_digest"):
            assert getattr(record, name) == getattr(own, name), name
    assert found.header.asked.text == SUITE
    assert found.header.asked.overrides == ("images=20",)
    assert found.header.counts == {"ok": 4}
    assert found.header.submitter == "A. Lovelace"


def test_the_digest_is_that_of_the_content_without_it(made: tuple[Path, Submission]) -> None:
    """Computed by other means: the JSON text without its digest's line."""
    text = lzma.decompress(made[0].read_bytes()).decode()
    lines = [line for line in text.split("\n") if not line.startswith(' "digest": ')]
    assert len(lines) == text.count("\n")
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == made[1].digest == json.loads(text)["digest"]


def test_the_suite_plans_the_same_cells_where_its_file_is_not(made: tuple[Path, Submission]) -> None:
    found = read_submission(made[0])
    plan = found.header.asked.plan("sent")
    assert [cell.cell_id for cell in plan.cells] == [record.cell_id for record in found.records]
    assert differences(found.records, plan, "sent") == {}


def test_cells_that_lack_are_counted(ran: Options) -> None:
    more = make_submission(replace(ran, seeds=3))
    assert more.header.counts == {"missing": 2, "ok": 4}
    part = make_submission(replace(ran, only="seed=1"))
    assert part.header.counts == {"ok": 2}


def test_a_failed_cell_is_not_left_out(ran: Options, tmp_path: Path) -> None:
    """It would hide that a method fails."""
    copy = RecordStore(tmp_path / "store")
    first, *rest = RecordReader(ran.store).all()
    broken: dict[str, Any] = {
        "status": "failed",
        "reason": "out of memory",
        "metrics": {},
        "correct": None,
        "test_count": 0,
    }
    empty: dict[str, Any] = {"protocol": {}, "protocol_id": None, "report": {}}
    for record in (first.model_copy(update=broken | empty), *rest):
        copy.write(record)
    found = make_submission(replace(ran, store=tmp_path / "store"))
    assert found.header.counts == {"failed": 1, "ok": 3}
    assert len(found.measured) == 3


def test_what_came_with_the_package_is_nobodys_to_submit(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nothing of this suite[\s\S]*--fresh"):
        make_submission(Options("quickstart", store=tmp_path / "empty"))
    assert not (tmp_path / "empty").exists()


def test_a_name_that_would_steer_a_terminal(ran: Options) -> None:
    with pytest.raises(StoreError, match="name of a submitter"):
        make_submission(ran, "\x1b[31m")


def test_no_submission_at_all(tmp_path: Path) -> None:
    for name, content in {
        "text": b"hello",
        "list": lzma.compress(b"[]"),
        "cut": lzma.compress(b"{}" * 99)[:-9],
        "empty": lzma.compress(b"{}"),
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(Refused) as caught:
            read_submission(path)
        assert str(path) in str(caught.value)
    with pytest.raises(BenchError, match="cannot be read"):
        read_submission(tmp_path / "none")


def test_options_that_were_not_given_plan_other_cells(ran: Options) -> None:
    """Without its override the suite asks for other image counts: nothing of that was measured."""
    assert {cell.n for cell in plan_of(replace(ran, overrides=())).cells} == {40}
    with pytest.raises(StoreError, match="nothing of this suite"):
        make_submission(replace(ran, overrides=()))
