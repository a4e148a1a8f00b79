"""Run some cells of a submission again, in a fresh store, and say of each whether it is inside what runs spread.

What "inside" means is :mod:`stats.rerun`'s.  The spread of a kind of cell is taken from rows that the verifier
already has (those that came with the package, and his own store's), so that who submits cannot widen it; only a kind of
which he has no row of several seeds takes it from the submission, and the report says so.
"""

from __future__ import annotations

import math
import random
import secrets
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import __version__
from bench.board.stats.paired import LEVEL
from bench.board.stats.rerun import RunSpread, enough, kinds, run_spreads
from bench.errors import BenchError
from bench.machine import KEYED, machine_key
from bench.run import session
from bench.run.session import Options
from bench.spec.jobs import title_of
from bench.spec.plan import Plan
from bench.store.bitmaps import unpack_bits
from bench.store.measured import read_measured
from bench.store.record_store import RecordReader
from bench.store.records import ResultRecord
from bench.store.verifications import Checked, KindChecked, Verification, answers_of, is_inside
from bench.submit.package import Submission
from bench.submit.validate import NEAR, differences

if TYPE_CHECKING:
    from rich.console import Console

HERE = "rows measured before"
THEIRS = "the submission's own rows"
ALL = "all shipped rows"

_OF_A_KIND = ("target", "compressor", "target_digest", "test_digest")
"""Fields of a record, in every schema, without which it is of no kind that is asked for."""

_FACTS = (*KEYED, "kernels", "python", "torchvision", "cores")


@dataclass(frozen=True)
class Verified:
    """The report, and why some cells could not have been drawn: cell_id → reason."""

    report: Verification
    elsewhere: Mapping[str, str]


@dataclass(frozen=True)
class Drawn:
    """Records whose cells can be run again, the cells that were drawn of them, and why others cannot: cell_id →
    reason."""

    able: tuple[ResultRecord, ...]
    chosen: tuple[str, ...]
    elsewhere: Mapping[str, str]


def fresh_seed() -> int:
    """A seed that nobody can foresee, so that no submission is made for it."""
    return secrets.randbelow(2**31)


def draw(cells: Sequence[str], sample: int, seed: int) -> tuple[str, ...]:
    """``sample`` of the cells (all, where there are fewer), each as likely, in the order of their ids' list.

    The same cells, in whatever order they come, and seed draw the same sample.
    """
    chosen = set(random.Random(seed).sample(sorted(cells), min(sample, len(cells))))
    return tuple(cell for cell in cells if cell in chosen)


def verify(
    submission: Submission, options: Options, console: Console, *, sample: int, seed: int, where: str
) -> Verified:
    """Check a submission against the plan of its suite here, and run a sample of its cells again.

    Args:
        options: how the run is to work (workers, threads, device, kernels, data root); ``store``: where the verifier's
            own records lie, which tell how runs spread.  Nothing is written there.
        sample: how many cells, at least one.
        seed: of the draw.

    Raises:
        Refused: the plan contradicts the submission.
        BenchError: the suite cannot be planned here, or none of its cells can be run again; an installed method changed
            the engine's code.
    """
    drawn: list[Drawn] = []

    def planned(given: Options) -> Plan:
        # within the run, which looks after each plan whether a method's import changed the engine
        plan = submission.header.asked.plan(f"{where}: suite", given.data_root, given.plugins)
        drawn.append(_drawn(submission, plan, sample, seed, where))
        return _part(plan, drawn[0].chosen)

    with tempfile.TemporaryDirectory(prefix="bench-verify-") as folder:
        given = replace(options, store=Path(folder), fresh=True, tracker="none")
        _, records = session.run(given, console, planned)
    (found,) = drawn
    able, chosen, again = found.able, found.chosen, {record.cell_id: record for record in records}
    # a cell's re-run says where on the line between accuracy and variance it lies: the submitted one may be made up
    sound = {key: record for key, record in again.items() if record.metrics.get("top1") is not None}
    spreads = spreads_of([sound.get(r.cell_id, r) for r in able], submission.measured, options.store)
    by_cell = dict(zip((r.cell_id for r in able), spreads, strict=True))
    submitted = {record.cell_id: record for record in able}
    checked = tuple(_checked(submitted[key], again.get(key), by_cell[key][0], len(chosen)) for key in chosen)
    report = Verification(
        submission=submission.digest,
        suite=submission.header.suite,
        suite_version=submission.header.suite_version,
        benchmark=__version__,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        facts=_facts(again.values()),
        cells=len(able),
        elsewhere=sum(record.cell_id in found.elsewhere for record in submission.measured),
        seed=seed,
        level=LEVEL,
        checked=checked,
        kinds=_kinds(able, by_cell, len(chosen)),
    )
    return Verified(report, found.elsewhere)


def _drawn(submission: Submission, plan: Plan, sample: int, seed: int, where: str) -> Drawn:
    """Which cells are run again.

    Raises:
        Refused: the plan contradicts the submission.
        BenchError: none can be run again.
    """
    elsewhere = differences(submission.records, plan, where)
    able = tuple(r for r in submission.measured if r.cell_id not in elsewhere and r.metrics.get("top1") is not None)
    if not able or sample < 1:
        got = "; ".join(sorted(set(elsewhere.values()))) or f"{len(submission.measured)} measured cells"
        raise BenchError("no cell of the submission can be run again here", where=where, got=got)
    return Drawn(able, draw([record.cell_id for record in able], sample, seed), elsewhere)


def _part(plan: Plan, chosen: Sequence[str]) -> Plan:
    """The plan of these cells, with the image sets and searches they need."""
    cells = tuple(cell for cell in plan.cells if cell.cell_id in set(chosen))
    policies = {cell.policy_id for cell in cells}
    searches = tuple(job for job in plan.searches if job.policy_id in policies)
    needed = {cell.synth_id for cell in cells} | {job.images.synth_id for job in searches}
    synths = tuple(job for job in plan.synths if job.synth_id in needed)
    return replace(plan, cells=cells, searches=searches, synths=synths, idle=())


def spreads_of(cells: Sequence[ResultRecord], own: Sequence[ResultRecord], store: Path) -> list[tuple[RunSpread, str]]:
    """How far runs of each cell spread, and what that is taken from.

    Args:
        cells: measured records, the verifier's own where he has run the cell again.
        own: the submission's rows, which speak only for kinds the verifier knows nothing of.
        store: the verifier's own records; need not exist.
    """
    wanted = {tuple(getattr(cell, name) for name in _OF_A_KIND) for cell in cells}
    found = [
        *read_measured(wanted=lambda raw: tuple(raw.get(name) for name in _OF_A_KIND) in wanted),
        *RecordReader(store).all(),
    ]
    known = run_spreads(found, cells)
    told = run_spreads(own, cells)
    return [
        (a, HERE if enough(a) else f"{HERE}, {ALL}") if a.rows else _told(b) for a, b in zip(known, told, strict=True)
    ]


def _told(spread: RunSpread) -> tuple[RunSpread, str]:
    if not spread.rows:
        return spread, ALL
    return spread, THEIRS if enough(spread) else f"{THEIRS}, {ALL}"


def _checked(record: ResultRecord, again: ResultRecord | None, spread: RunSpread, cells: int) -> Checked:
    """A cell's line of the report."""
    submitted = float(record.metrics["top1"] or 0.0)
    found = again.metrics.get("top1") if again is not None and again.status == "ok" else None
    half = spread.half_width(cells)
    reason = None
    if found is None:
        reason = "it was not run" if again is None else f"{again.status}: {again.reason}"
    agreement = _agreement(record, again) if found is not None else None
    return Checked(
        cell_id=record.cell_id,
        row_id=record.row_id,
        title=title_of(record),
        seed=record.seed,
        answers=answers_of(record),
        submitted=submitted,
        again=found,
        half_width=half,
        inside=is_inside(submitted, found, half),
        equal=agreement == 1.0,
        agreement=agreement,
        machine=machine_key(record.provenance),
        differs=_differs(record, again) if again is not None and found is not None else {},
        reason=reason,
    )


def _differs(first: ResultRecord, second: ResultRecord) -> dict[str, tuple[float | None, float | None]]:
    """Metrics besides top-1 that are not equal: submitted, and again."""
    pairs = {name: (first.metrics.get(name), second.metrics.get(name)) for name in {*first.metrics, *second.metrics}}
    return {name: pair for name, pair in sorted(pairs.items()) if name != "top1" and not _near(*pair)}


def _near(first: float | None, second: float | None) -> bool:
    return first == second or (first is not None and second is not None and math.isclose(first, second, rel_tol=NEAR))


def _agreement(first: ResultRecord, second: ResultRecord | None) -> float | None:
    """Share of the test images that both answer alike, right or wrong."""
    if second is None or first.correct is None or second.correct is None or first.test_count != second.test_count:
        return None
    a, b = (unpack_bits(r.correct or "", r.test_count) for r in (first, second))
    return float(np.mean(a == b))


def _facts(records: Iterable[ResultRecord]) -> dict[str, Any]:
    """What of the machine can move numbers, as one of the records says."""
    found = next((r.provenance for r in records if r.provenance), {})
    return {name: found[name] for name in _FACTS if name in found}


def _kinds(
    able: Sequence[ResultRecord], by_cell: Mapping[str, tuple[RunSpread, str]], cells: int
) -> tuple[KindChecked, ...]:
    """A line per kind of cell, over its cells; what their spread is taken from is told of the one that spreads most."""
    found = []
    for kind, records in kinds(able).items():
        pairs = [by_cell[record.cell_id] for record in records]
        forgeries = [spread.smallest_forgery(cells) for spread, _ in pairs]
        found.append(
            KindChecked(
                title=kind.title,
                cells=len(records),
                basis=pairs[int(np.argmax(forgeries))][1],
                deviation=float(np.median([spread.variance.moderated**0.5 for spread, _ in pairs])),
                smallest_forgery=float(np.median(forgeries)),
                widest=max(forgeries),
            )
        )
    return tuple(found)
