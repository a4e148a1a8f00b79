"""The ladder of what is known of a number: claimed, self-reported, reproduced ×N.

- ``claimed``: printed in a paper; nobody measured it with this benchmark.
- ``self_reported``: a record with its bitmap, environment and ids, by whoever submits it.
- ``reproduced ×N``: re-run by ``bench verify`` on N kinds of machine unlike its own, each time within its interval.
  Re-runs that fell outside are counted behind it.

Of a row only what was re-run counts; of a submission, the reports that found every sampled cell inside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from bench.machine import machine_key
from bench.store.records import ResultRecord
from bench.store.verifications import Answers, Outcome, Verification, answers_of

CLAIMED = "claimed"
SELF_REPORTED = "self_reported"
REPRODUCED = "reproduced"


@dataclass(frozen=True)
class Rung:
    """Where a number stands: whether it was measured at all, on how many other kinds of machine a re-run was inside,
    and on how many it was outside."""

    measured: bool
    inside: int = 0
    outside: int = 0

    @property
    def name(self) -> str:
        """The rung alone."""
        return REPRODUCED if self.inside else SELF_REPORTED if self.measured else CLAIMED

    def __str__(self) -> str:
        times = f"{self.name} ×{self.inside}" if self.inside else self.name
        return f"{times}, outside ×{self.outside}" if self.outside else times


def rung_of_records(records: Iterable[ResultRecord], found: Mapping[Answers, Outcome]) -> Rung:
    """Of a row's measured records: the machines that re-ran any of them."""
    inside: set[str] = set()
    outside: set[str] = set()
    measured = False
    for record in records:
        measured = True
        one = found.get((record.cell_id, answers_of(record))) if found else None
        if one is not None:
            own = {machine_key(record.provenance)}  # a report's word for it does not count
            inside |= one.inside - own
            outside |= one.outside - own
    return Rung(measured, len(inside - outside), len(outside))


def rung_of_submission(digest: str, reports: Iterable[Verification], machines: Collection[str] = ()) -> Rung:
    """Of a submission that ``machines`` measured: the others whose reports found all sampled cells inside, and those of
    which some report did not."""
    own = [r for r in reports if r.submission == digest and r.machine and r.machine not in machines]
    other = [r for r in own if all(r.machine != cell.machine for cell in r.checked)]
    outside = {r.machine for r in other if r.contradicts}
    return Rung(True, len({r.machine for r in other if r.passed} - outside), len(outside))
