"""Cells run again: honest ones are inside and pass, forged ones that contradict nothing are outside and do not."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.board.index.frame import frame
from bench.board.index.ladder import rung_of_submission
from bench.board.stats.rerun import run_spreads
from bench.cli import app as cli
from bench.errors import BenchError, StoreError
from bench.run.session import Options
from bench.store.bitmaps import pack_bits, unpack_bits
from bench.store.record_store import RecordReader
from bench.store.seals import sealed
from bench.store.verifications import (
    Verification,
    answers_of,
    outcomes,
    outcomes_of_folders,
    read_verification,
    verification_files,
    write_verification,
)
from bench.submit.package import Submission, read_submission
from bench.submit.reports import reports_of
from bench.submit.verify import draw, fresh_seed, spreads_of, verify

from .conftest import quiet, resealed

Made = tuple[Path, Submission]


def forge(raw: dict[str, Any]) -> None:
    """All answers the other way round, in every cell, with the top-1 that follows: no arithmetic tells."""
    for record in raw["records"]:
        bits = ~unpack_bits(record["correct"], record["test_count"])
        record["correct"] = pack_bits(bits)
        record["metrics"]["top1"] = 100 * float(np.mean(bits))


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line in this process; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def verified(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Verification:
    """Two cells of the honest submission, run again by somebody without records of his own."""
    own = tmp_path_factory.mktemp("verifier") / "store"
    options = Options("", workers=0, store=own)
    report = verify(made[1], options, quiet, sample=2, seed=5, where="sent").report
    assert not own.exists()  # nothing is written into the verifier's store
    return report


def test_an_honest_submission_is_inside(verified: Verification, made: Made) -> None:
    assert verified.passed
    assert not verified.contradicts
    assert (verified.cells, verified.seed, len(verified.checked)) == (4, 5, 2)
    assert verified.submission == made[1].digest
    submitted = {record.cell_id: record for record in made[1].records}
    for cell in verified.checked:
        assert cell.submitted == submitted[cell.cell_id].metrics["top1"]
        assert cell.answers == answers_of(submitted[cell.cell_id])
        # the same machine and threads: equal to the bit (docs/trust.md#what-is-equal-and-what-is-not)
        assert cell.equal
        assert cell.agreement == 1.0
        assert cell.machine == verified.machine


def test_the_draw_is_told_and_can_be_repeated(verified: Verification, made: Made) -> None:
    cells = [record.cell_id for record in made[1].records]
    assert {cell.cell_id for cell in verified.checked} == set(draw(cells, 2, verified.seed))
    assert len({fresh_seed() for _ in range(9)}) == 9


def test_every_cell_is_drawn_as_often() -> None:
    cells = [f"c{i}" for i in range(10)]
    counts = dict.fromkeys(cells, 0)
    for seed in range(3000):
        found = draw(cells, 3, seed)
        assert len(set(found)) == 3
        for cell in found:
            counts[cell] += 1
    assert all(abs(count - 900) < 5 * (3000 * 0.3 * 0.7) ** 0.5 for count in counts.values())
    assert set(draw(cells[::-1], 3, 8)) == set(draw(cells, 3, 8))
    assert draw(cells, 99, 0) == tuple(cells)


def test_the_interval_is_the_board_statistics(verified: Verification, made: Made) -> None:
    """The verifier knows no row of this kind, so the submission's own speak, and the report says so."""
    able = list(made[1].records)
    spreads = dict(zip((r.cell_id for r in able), run_spreads(able, able), strict=True))
    for cell in verified.checked:
        assert cell.half_width == pytest.approx(spreads[cell.cell_id].half_width(2))
    (kind,) = verified.kinds
    assert kind.cells == 4
    assert "the submission's own rows" in kind.basis
    forgeries = [spread.smallest_forgery(2) for spread in spreads.values()]
    assert kind.smallest_forgery == pytest.approx(np.median(forgeries))
    assert kind.widest == pytest.approx(max(forgeries))
    assert kind.widest > max(cell.half_width for cell in verified.checked)


def test_the_verifiers_own_rows_come_before_the_submissions(made: Made, ran: Options) -> None:
    """Who submits cannot widen the interval by seeds that differ wildly."""
    able = list(made[1].records)
    wild = [r.model_copy(update={"metrics": {**r.metrics, "top1": 90.0 * r.seed}, "correct": None}) for r in able]
    with_own = spreads_of(able, wild, ran.store)
    without = spreads_of(able, wild, ran.store / "none")
    assert all(basis.startswith("rows measured before") for _, basis in with_own)
    assert all(basis.startswith("the submission's own rows") for _, basis in without)
    for (mine, _), (theirs, _) in zip(with_own, without, strict=True):
        assert mine.half_width() < theirs.half_width() / 3


def test_a_forgery_that_contradicts_nothing_is_outside(
    raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forge(raw)
    path = resealed(raw, tmp_path / "mine.json.xz")
    read_submission(path)  # sound by all arithmetic
    monkeypatch.setenv("COLUMNS", "200")
    words = ("--sample", "1", "--seed", "3", "--workers", "0", "--store", str(tmp_path / "none"))
    assert call(monkeypatch, "verify", str(path), *words) == 1
    said = capsys.readouterr().out
    (report,) = map(read_verification, verification_files(tmp_path))
    (cell,) = report.checked
    assert not cell.inside
    assert abs((cell.again or 0) - cell.submitted) > cell.half_width
    assert not cell.equal
    assert report.contradicts
    for part in (
        "outside",
        "seed of the draw: 3",
        "smallest forgery",
        f"{cell.half_width:.2f}",
        "1-(1-f)^1",
        "10%: 10%",
    ):
        assert part in " ".join(said.split()), said


def test_a_tampered_one_ends_before_any_compute(
    raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw["records"][0]["metrics"]["top1"] = 100.0
    path = resealed(raw, tmp_path / "mine.json.xz")
    assert call(monkeypatch, "verify", str(path)) == 2
    assert "records[0]" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.json.xz"]


def test_nothing_to_run_again(made: Made, tmp_path: Path) -> None:
    submission = made[1]
    older = tuple(r.model_copy(update={"compressor_version": 99}) for r in submission.records)
    with pytest.raises(BenchError, match="another compressor version"):
        verify(replace(submission, records=older), Options("", workers=0), quiet, sample=2, seed=0, where="sent")


# --- the report, and the ladder ---


def elsewhere(report: Verification, **facts: Any) -> Verification:
    """The same found on another machine."""
    return report.model_copy(update={"facts": {**report.facts, "cpu_model": "another", **facts}})


def outside(report: Verification) -> Verification:
    cells = [cell.model_copy(update={"again": 0.0, "inside": False, "equal": False}) for cell in report.checked]
    return report.model_copy(update={"checked": tuple(cells)})


def test_a_report_is_read_as_it_was_written(verified: Verification, tmp_path: Path) -> None:
    path = write_verification(verified, tmp_path / "mine.json.xz")
    assert path.name.startswith("mine.")
    assert read_verification(path) == verified


@pytest.mark.parametrize(
    ("key", "value"), [("inside", False), ("submitted", 1.0), ("half_width", -1.0), ("again", 300.0), ("more", 1)]
)
def test_a_report_that_contradicts_itself(key: str, value: Any, verified: Verification, tmp_path: Path) -> None:
    raw = verified.model_dump(mode="json")
    raw["checked"][0][key] = value
    path = tmp_path / "x.1.verification"
    path.write_bytes(sealed(raw))
    with pytest.raises(StoreError, match="verification"):
        read_verification(path)
    assert outcomes_of_folders(tmp_path) == {}


def test_a_report_that_was_changed(verified: Verification, tmp_path: Path) -> None:
    path = write_verification(verified, tmp_path / "mine.json.xz")
    path.write_text(path.read_text().replace('"seed": 5', '"seed": 6'))
    with pytest.raises(StoreError, match="not what was written"):
        read_verification(path)


def test_the_ladder_counts_other_machines(verified: Verification, made: Made) -> None:
    digest = made[1].digest
    one, two = elsewhere(verified), elsewhere(verified, threads=4)

    def rung(*reports: Verification) -> str:
        return str(rung_of_submission(digest, reports))

    assert rung() == "self_reported"
    assert rung(verified) == "self_reported"  # on the machine it was measured on: equal by construction
    assert rung(one) == rung(one, one, verified) == "reproduced ×1"
    assert rung(one, two) == "reproduced ×2"
    assert rung(one, outside(two)) == "reproduced ×1, outside ×1"
    assert rung(one, outside(one)) == "self_reported, outside ×1"
    assert rung(one.model_copy(update={"submission": "0" * 64})) == "self_reported"
    failed = [c.model_copy(update={"again": None, "inside": False, "reason": "no memory"}) for c in two.checked]
    assert rung(one, two.model_copy(update={"checked": tuple(failed)})) == "reproduced ×1"


def test_the_boards_column(verified: Verification, made: Made, ran: Options) -> None:
    """A row is reproduced where one of its own cells was, and only with these answers."""
    records = RecordReader(ran.store).all()
    again = {cell.row_id for cell in verified.checked}
    plain = frame(records)
    assert set(plain["ladder"]) == {"self_reported"}
    found = frame(records, rerun=outcomes([elsewhere(verified), verified]))
    told = dict(zip(found["row_id"], found["ladder"], strict=True))
    assert {row for row, rung in told.items() if rung == "reproduced ×1"} == again
    other = [r.model_copy(update={"correct": None}) for r in records]
    assert set(frame(other, rerun=outcomes([elsewhere(verified)]))["ladder"]) == {"self_reported"}
    broken: dict[str, Any] = {"status": "failed", "reason": "x", "metrics": {}, "correct": None}
    assert set(frame([r.model_copy(update=broken) for r in records])["ladder"]) == {""}


def test_reports_of_this_submission(verified: Verification, made: Made, tmp_path: Path) -> None:
    path = tmp_path / made[0].name
    path.write_bytes(made[0].read_bytes())
    write_verification(verified, path)
    write_verification(elsewhere(verified), path)
    write_verification(verified, tmp_path / "another.json.xz")
    write_verification(verified.model_copy(update={"submission": "1" * 64}), path)
    (tmp_path / "mine.damaged.verification").write_text(json.dumps({"format": "?"}))
    found, errors = reports_of(path, made[1].digest)
    assert len(found) == 2
    assert [str(error.where) for error in errors] == [str(tmp_path / "mine.damaged.verification")]
