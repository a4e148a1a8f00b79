"""The claims of a suite by its name, judged by records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.board.claims.judging import Verdict, current_rows, judge
from bench.board.claims.pairing import sides
from bench.board.index.rows import Row, Versions, make_rows
from bench.errors import SuiteError
from bench.spec.suite import SuiteSpec, load_suite
from bench.store.records import ResultRecord


def suite_of(name: str) -> SuiteSpec | None:
    """The shipped suite of this name; None when its file did not come with the package."""
    try:
        return load_suite(name)
    except SuiteError:
        return None


def suite_verdicts(name: str, records: Sequence[ResultRecord], versions: Versions) -> list[Verdict]:
    """Verdicts on the suite's claims from records of one preset; empty when the suite has no claim or is not shipped.

    Seeds asked for are those found in the records, so a suite measured seed by seed is judged by what there is.
    """
    suite = suite_of(name)
    if suite is None or not suite.claims:
        return []
    return judge(suite.claims, records, versions=versions, seeds=_seeds(suite, records))


@dataclass(frozen=True)
class ClaimRow:
    """A row that a claim speaks of: its keys, mean top-1 in percent (None unless every seed was measured), "k of n",
    and the cell of its first seed."""

    side: str
    source: str
    model: str
    target: str
    policy: str
    compressor: str
    setting_label: str
    top1: float | None
    seeds: str
    status: str
    cell_id: str


def claim_rows(name: str, records: Sequence[ResultRecord], versions: Versions) -> list[tuple[ClaimRow, ...]]:
    """Per claim of the suite, in order, the rows of its better and its worse side; arguments as in
    :func:`suite_verdicts`."""
    suite = suite_of(name)
    if suite is None:
        return []
    rows = current_rows(make_rows(records, versions=versions, seeds=_seeds(suite, records)))
    found = [sides(claim, rows) for claim in suite.claims]
    return [(*_listed("better", better), *_listed("worse", worse)) for better, worse in found]


def _listed(side: str, rows: Sequence[Row]) -> list[ClaimRow]:
    listed = []
    for row in rows:
        head, top1 = row.head, row.metric("top1")
        mean = sum(top1) / len(top1) if top1 else None
        keys = (head.source, head.model, head.target, head.policy, head.compressor, head.setting_label)
        listed.append(ClaimRow(side, *keys, mean, row.seeds, row.status, row.records[0].cell_id))
    return listed


def _seeds(suite: SuiteSpec, records: Sequence[ResultRecord]) -> dict[str, list[int]]:
    return {suite.suite: sorted({record.seed for record in records if record.suite_version == suite.version})}
