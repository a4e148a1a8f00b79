"""What changed on a suite's board, day by day: rows added, on more seeds, measured again, and verdicts that moved.

Told from the records alone: each says when it was done (UTC), by which versions of its methods, on which machine.  What
is no longer there cannot be told: a pack keeps of each row what the newest methods gave, so an old value is known only
where its records are still in the store or in the package.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from bench.board.claims.judging import Verdict, judge
from bench.board.index.rows import Row, Versions, make_rows
from bench.board.tables.answers import Namer
from bench.board.tables.averages import row_interval
from bench.errors import BenchError
from bench.machine import machine_key
from bench.spec.suite import Claim
from bench.store.records import ResultRecord

FAR_PAST = 0.0
"""When a record that does not say when it was done is taken to be of: before all others."""

BEGINNING = 1.0
"""Since when days are told where no day was named."""


@dataclass(frozen=True)
class Value:
    """Mean top-1 in percent over ``seeds`` with its 95 % interval; None where it was not measured."""

    mean: float | None
    low: float | None
    high: float | None
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class RowChange:
    """A row that is not what it was.  ``old`` None: it was not there; ``why``: what differs, in words, where it was
    measured again."""

    source: str
    target: str
    compressor: str
    setting: str
    n: int
    old: Value | None
    new: Value
    why: str = ""

    @property
    def moved(self) -> float | None:
        """New minus old mean in points."""
        if self.old is None or self.old.mean is None or self.new.mean is None:
            return None
        return self.new.mean - self.old.mean


@dataclass(frozen=True)
class ClaimChange:
    """A claim whose verdict moved: the verdict's words, the difference in points and its interval, before and after;
    ``old`` is empty where nothing had been measured before."""

    says: str
    old: str
    new: str
    old_difference: tuple[float, float, float] | None
    new_difference: tuple[float, float, float] | None


@dataclass(frozen=True)
class Day:
    """What one day (UTC, ``2026-11-27``) changed; ``records`` measured on it, on which ``machines``, by which
    ``software`` (versions of the package) and with which ``seeds``."""

    day: str
    records: int
    seeds: tuple[int, ...]
    software: tuple[str, ...]
    machines: tuple[str, ...]
    sources: tuple[str, ...]
    added: tuple[RowChange, ...] = ()
    more_seeds: tuple[RowChange, ...] = ()
    again: tuple[RowChange, ...] = ()
    claims: tuple[ClaimChange, ...] = ()


@dataclass(frozen=True)
class History:
    """The days of a suite from ``since`` on (empty: all).  ``before``: rows that stood then; ``rows``: that stand now;
    ``undated``: records that do not say when they were done, taken to be of before; ``stale``: rows that are older than
    the methods and weights at hand, and ``aged`` the claims that are open for it."""

    suite: str
    since: str
    before: int
    rows: int
    undated: int
    days: tuple[Day, ...]
    stale: int = 0
    aged: tuple[ClaimChange, ...] = ()


def start_of(since: str | None, records: Sequence[ResultRecord]) -> float:
    """Seconds since 1970 of a day (``2026-11-27``), or of the first record of a newer version of the package than
    ``since`` (``0.1.0``); the end of time where none is newer.  None: :data:`BEGINNING`.

    Raises:
        BenchError: neither a day nor a version.
    """
    if since is None:
        return BEGINNING
    if re.fullmatch(r"\d+(\.\d+)*", since):
        newer = [_done(r) for r in records if _version(_software(r)) > _version(since)]
        return min(newer, default=float("inf"))
    try:
        return _instant(date.fromisoformat(since))
    except ValueError:
        expected = "a day (2026-11-27) or a version of the package (0.1.0)"
        raise BenchError("no day and no version", where="--since", got=since, expected=[expected]) from None


def history(
    suite: str,
    records: Sequence[ResultRecord],
    claims: Sequence[Claim],
    known: Versions | None = None,
    since: str | None = None,
) -> History:
    """The history of a suite's ``records``; of one cell there may be several, the package's and the store's.

    Verdicts of a day are those that its records gave when no method was newer than they were.

    Args:
        known: versions of methods and weights at hand, to say what is old by now; None: not said.

    Raises:
        BenchError: as :func:`start_of`.
    """
    start = start_of(since, records)
    ordered = sorted(records, key=_done)
    namer = Namer(make_rows(ordered))
    days = sorted({_day(_done(record)) for record in ordered if _done(record) >= start})
    found = []
    state = _state([record for record in ordered if _done(record) < start])
    verdicts = _verdicts(claims, state)
    before = len(state)
    for day in days:
        end = _instant(date.fromisoformat(day) + timedelta(days=1))
        after = _state([record for record in ordered if _done(record) < end])
        changed = _changes(state, after, namer)
        judged = _verdicts(claims, after)
        own = [record for record in ordered if _day(_done(record)) == day and _done(record) >= start]
        found.append(_day_of(day, own, changed, _moved(verdicts if state else (), judged)))
        state, verdicts = after, judged
    aged: tuple[ClaimChange, ...] = ()
    stale = 0
    if known is not None:
        now = make_rows([record for row in state.values() for record in row.records], versions=known)
        stale = sum(row.stale for row in now)
        aged = _moved(verdicts, _judged(claims, [r for row in state.values() for r in row.records], known))
    undated = sum(not record.finished for record in ordered)
    return History(suite, since or "", before, len(state), undated, tuple(found), stale, aged)


def _day_of(
    day: str,
    records: Sequence[ResultRecord],
    changed: Mapping[str, Sequence[RowChange]],
    claims: tuple[ClaimChange, ...],
) -> Day:
    return Day(
        day,
        len(records),
        tuple(sorted({record.seed for record in records})),
        tuple(sorted({_software(record) for record in records} - {""})),
        tuple(sorted({machine_key(record.provenance) for record in records})),
        tuple(dict.fromkeys(record.source_method for record in sorted(records, key=lambda r: r.source_method))),
        tuple(changed["added"]),
        tuple(changed["seeds"]),
        tuple(sorted(changed["again"], key=lambda one: -abs(one.moved or 0.0))),
        claims,
    )


State = dict[tuple[object, ...], Row]
"""What a row is named by → its newest edition, the mean of which is over the seeds that it has."""


def _state(records: Sequence[ResultRecord]) -> State:
    """The board of ``records``, which are in the order of their measuring: of each row the edition measured last."""
    found: State = {}
    for row in make_rows(records):
        own = replace(row, expected=())
        old = found.get(row.setting)
        if old is None or _age(own) >= _age(old):
            found[row.setting] = own
    return found


def _age(row: Row) -> tuple[int, float]:
    return row.head.suite_version, max(map(_done, row.records))


def _changes(before: State, after: State, namer: Namer) -> dict[str, list[RowChange]]:
    found: dict[str, list[RowChange]] = {"added": [], "seeds": [], "again": []}
    for key, row in after.items():
        old = before.get(key)
        if old is None:
            found["added"].append(_change(row, None, namer))
            continue
        one, two = ({record.seed: record for record in side.records} for side in (old, row))
        if old.head.row_id == row.head.row_id and all(one[seed] == two.get(seed) for seed in one):
            if len(two) > len(one):
                found["seeds"].append(_change(row, old, namer))
            continue
        found["again"].append(_change(row, old, namer, _why(old, row)))
    return found


def _change(row: Row, old: Row | None, namer: Namer, why: str = "") -> RowChange:
    head = row.head
    name = namer.name(row)
    past = None if old is None else _value(old)
    return RowChange(name, head.target, head.compressor, head.setting_label, head.n, past, _value(row), why)


def _value(row: Row) -> Value:
    seeds = tuple(record.seed for record in row.measured)
    interval = row_interval(row)
    if interval is None:
        return Value(None, None, None, seeds)
    mean, ends = interval
    known = ends.low == ends.low  # an interval that cannot be formed is not a number
    return Value(mean, ends.low if known else None, ends.high if known else None, seeds)


def _why(old: Row, new: Row) -> str:
    """What differs between two editions of a row."""
    one, two = old.head, new.head
    words = [
        f"{kind} version {getattr(one, f'{kind}_version')} → {getattr(two, f'{kind}_version')}"
        for kind in ("suite", "source", "compressor", "policy")
        if getattr(one, f"{kind}_version") != getattr(two, f"{kind}_version")
    ]
    words += ["other weights of the network"] * (one.target_digest != two.target_digest)
    words += ["another protocol"] * (one.protocol_id != two.protocol_id)
    machines = [{machine_key(record.provenance) for record in row.measured} for row in (old, new)]
    words += ["another machine"] * (machines[0] != machines[1])
    return ", ".join(words) or "the same methods on a machine like it"


def _verdicts(claims: Sequence[Claim], state: State) -> list[Verdict]:
    return _judged(claims, [record for row in state.values() for record in row.records], None)


def _judged(claims: Sequence[Claim], records: Sequence[ResultRecord], known: Versions | None) -> list[Verdict]:
    """The verdicts by ``records`` of the newest suite version, whose seeds are those asked for."""
    if not claims:
        return []
    newest = max((record.suite_version for record in records), default=0)
    kept = [record for record in records if record.suite_version == newest]
    seeds: dict[str, list[int]] = defaultdict(list)
    for record in kept:
        seeds[record.suite].append(record.seed)
    return judge(claims, kept, versions=known, seeds={name: sorted(set(found)) for name, found in seeds.items()})


def _moved(before: Sequence[Verdict], after: Sequence[Verdict]) -> tuple[ClaimChange, ...]:
    """The claims whose words differ; ``before`` is empty where nothing was measured: then all claims are open."""
    olds = before or [Verdict(new.says, "open") for new in after]
    return tuple(
        ClaimChange(new.says, old.text if before else "", new.text, _difference(old), _difference(new))
        for old, new in zip(olds, after, strict=True)
        if old.text != new.text
    )


def _difference(verdict: Verdict) -> tuple[float, float, float] | None:
    if verdict.difference is None or verdict.low is None or verdict.high is None:
        return None
    return verdict.difference, verdict.low, verdict.high


def _done(record: ResultRecord) -> float:
    return record.finished or FAR_PAST


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _instant(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _software(record: ResultRecord) -> str:
    return str(record.provenance.get("datafree_bench", ""))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))
