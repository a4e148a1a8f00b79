"""The claims of a suite by its name, judged by records."""

from __future__ import annotations

from collections.abc import Sequence

from bench.board.claims import Verdict, judge
from bench.board.rows import Versions
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
    seeds = {name: sorted({record.seed for record in records if record.suite_version == suite.version})}
    return judge(suite.claims, records, versions=versions, seeds=seeds)
