"""A claim of a suite → its verdict, from the per-image bitmaps of the measured rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

from bench.board.claims.pairing import Compared, compare
from bench.board.claims.units import Comparison
from bench.board.index.rows import Row, Versions, make_rows
from bench.board.stats.heterogeneity import heterogeneity
from bench.board.stats.multiple import holm_levels
from bench.board.stats.paired import LEVEL, Spread
from bench.spec.axes import WHOLE, axis_names
from bench.spec.suite import Claim
from bench.store.records import ResultRecord

Word = Literal["supported", "refuted", "depends", "open", "two seeds", "one seed"]
WORDS: tuple[Word, ...] = get_args(Word)
"""What can be said of a claim, in the order in which it is counted."""

UNJUDGED: tuple[Word, ...] = ("two seeds", "one seed")
"""What stands in place of a verdict on fewer seeds than :data:`SEEDS_TO_JUDGE`."""

DECIDED: tuple[Word, ...] = ("supported", "refuted", "depends")
"""Verdicts that say something."""

SEEDS_TO_JUDGE = 3
"""Fewer seeds give no verdict: what one or two of them show, the next ones may not."""

MEANING: Mapping[Word, str] = {
    "supported": "interval above the margin",
    "refuted": "interval below the margin",
    "depends": "above the margin for some values of an axis, below it for others",
    "open": "interval across the margin, or cells missing",
    "two seeds": "no verdict on two seeds",
    "one seed": "no verdict on one seed",
}

SIGN: Mapping[Word, str] = {
    "supported": "✓",
    "refuted": "✗",
    "depends": "±",
    "open": "?",
    "two seeds": "2",
    "one seed": "1",
}
"""The mark of a verdict, wherever one is shown."""

_FEW: Mapping[int, Word] = {1: "one seed", 2: "two seeds"}


@dataclass(frozen=True)
class Part:
    """One value of a pairing axis: mean difference in points and its own 95 % interval, not corrected for the number
    of parts. ``pairs`` counts the paired settings behind it; None where a cell is missing."""

    axis: str
    value: str
    difference: float | None
    low: float | None
    high: float | None
    pairs: int


@dataclass(frozen=True)
class Verdict:
    """What the measured rows say to a claim; differences are better minus worse in points of top-1.

    ``low`` and ``high`` are the ends of the interval at confidence ``level``, which is the one Holm's procedure over
    the suite's claims asks of this claim, so "supported", "refuted" and "open" can be read off the interval.  ``pairs``
    paired settings on ``seeds`` seeds and ``images`` test images are behind it; fewer than three seeds are named in
    place of a verdict.  The interval is about seeds and test images; the networks of the suite are taken as they are,
    not as a sample of networks.  ``deciding`` names the comparison shown when a side says ``over: each``.  A claim that
    "depends" does so on the axis ``depends_on``, whose values ``above`` and ``below`` the margin contradict each other;
    ``p_heterogeneity`` is that of the parts of this axis, else the smallest of any.  ``remarks``: why it is open, and
    what was left out; one for every row that is missing.
    """

    says: str
    verdict: Word
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = LEVEL
    p_value: float | None = None
    margin: float = 0.0
    pairs: int = 0
    seeds: int = 0
    images: int = 0
    by: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    settings: tuple[str, ...] = ()
    deciding: str = ""
    remarks: tuple[str, ...] = ()
    depends_on: str = ""
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    p_heterogeneity: float | None = None

    @property
    def text(self) -> str:
        """The verdict in words: "depends on bits (above: W2A4; below: W4A4)"."""
        if self.verdict != "depends":
            return self.verdict
        return f"depends on {self.depends_on} (above: {', '.join(self.above)}; below: {', '.join(self.below)})"


def judge(
    claims: Iterable[Claim | Mapping[str, Any]],
    records: Iterable[ResultRecord],
    *,
    versions: Versions | None = None,
    seeds: Mapping[str, Collection[int]] | None = None,
    level: float = LEVEL,
) -> list[Verdict]:
    """Judge one suite's claims, in their order.

    Differences are paired within equal values of every axis on which the two sides do not differ by the claim's own
    words, by seed and by test image.  A claim is supported when its interval lies above ``margin``, refuted when it
    lies below, else open; a claim with a missing, failed or stale cell is open and says which.  Settings that are not
    applicable on one side are left out and named.  Fewer than :data:`SEEDS_TO_JUDGE` seeds are no verdict: the interval
    stands, the word is "one seed" or "two seeds".

    Opposite effects are not pooled: where one value of a pairing axis lies above the margin and another one below it,
    each at the claim's level over the number of values (Bonferroni), and the values differ among themselves
    (:func:`stats.heterogeneity.heterogeneity`), the claim "depends" on that axis, whatever the mean says.  It
    takes a verdict back and so adds no false one.

    With ``over: each`` every single comparison must hold: it is supported when the weakest is (intersection-union
    test, no correction needed) and refuted when any is refuted (Bonferroni over the comparisons).  ``over: best``
    picks the best row by other seeds and images than it is judged on (:mod:`bench.board.stats.picks`).

    Args:
        claims: :class:`bench.spec.suite.Claim` or the same as a mapping; they are one family for Holm's correction,
            those without data included.
        records: the records of one suite and preset.
        versions, seeds: as :func:`bench.board.index.rows.make_rows` takes them.

    Raises:
        pydantic.ValidationError: a mapping is no claim.
    """
    rows = current_rows(make_rows(records, versions=versions, seeds=seeds))
    parsed = [c if isinstance(c, Claim) else Claim.model_validate_json(_json(c)) for c in claims]
    return judge_compared(parsed, [compare(claim, rows) for claim in parsed], level)


class Question(Protocol):
    """What is judged: a claim, or what else says it of comparisons at hand."""

    @property
    def says(self) -> str: ...

    @property
    def margin(self) -> float: ...

    @property
    def by(self) -> Sequence[str]: ...


def judge_compared(asked: Sequence[Question], found: Sequence[Compared], level: float = LEVEL) -> list[Verdict]:
    """:func:`judge` where the rows are compared already; ``asked`` is one family for Holm's correction."""
    decisions = [_decide(one, result.comparisons) for one, result in zip(asked, found, strict=True)]
    levels = holm_levels([d.p_value if d and d.enough else 1.0 for d in decisions], level)
    verdicts = []
    for one, result, decision, own in zip(asked, found, decisions, levels, strict=True):
        verdict = _verdict(one, decision, own, level)
        remarks = tuple(dict.fromkeys((*result.problems, *result.notes)))
        verdicts.append(
            replace(verdict, remarks=remarks, parts=_parts(one, result.units, level), settings=result.settings)
        )
    return verdicts


def _json(claim: Mapping[str, Any]) -> str:
    """The claim as JSON in the models' long form, where selectors and ``by`` hold lists."""

    def listed(value: Any, key: str) -> Any:
        if isinstance(value, Mapping):
            return {k: listed(v, k) for k, v in value.items()}
        return [value] if isinstance(value, str) and key not in ("says", "over") else value

    return json.dumps(listed(claim, ""))


def current_rows(rows: Sequence[Row]) -> list[Row]:
    """What judges claims: rows of the newest suite version; stale ones go when their setting has a fresh row."""
    newest = max((row.head.suite_version for row in rows), default=0)
    kept = [row for row in rows if row.head.suite_version == newest]
    fresh = {row.setting for row in kept if not row.stale}
    return [row for row in kept if not row.stale or row.setting not in fresh]


@dataclass(frozen=True)
class _Decision:
    comparison: Comparison
    spread: Spread
    p_value: float
    share: int  # comparisons the error is divided by

    @property
    def enough(self) -> bool:
        """Whether there are seeds enough for a verdict."""
        return self.spread.seeds >= SEEDS_TO_JUDGE


def _decide(claim: Question, comparisons: Sequence[Comparison]) -> _Decision | None:
    """The comparison that settles the claim, and the p-value it enters Holm's procedure with."""
    if not comparisons or any(c.spread is None for c in comparisons):
        return None
    pairs = [(c, c.spread) for c in comparisons if c.spread is not None]
    p_values = [spread.p_value(claim.margin) for _, spread in pairs]
    below = [i for i, (_, spread) in enumerate(pairs) if spread.estimate <= claim.margin]
    if below:
        worst = min(below, key=lambda i: (p_values[i], pairs[i][1].estimate))
        return _Decision(*pairs[worst], min(1.0, p_values[worst] * len(pairs)), len(pairs))
    weakest = max(range(len(pairs)), key=lambda i: p_values[i])
    return _Decision(*pairs[weakest], p_values[weakest], 1)


def _verdict(claim: Question, decision: _Decision | None, holm_level: float, level: float) -> Verdict:
    if decision is None:
        return Verdict(claim.says, "open", level=level, margin=claim.margin, by=tuple(claim.by))
    own = 1 - (1 - holm_level) / decision.share if decision.enough else level
    low, high = decision.spread.interval(own)
    word: Word = "supported" if low > claim.margin else "refuted" if high < claim.margin else "open"
    found = Verdict(
        says=claim.says,
        verdict=word if decision.enough else _FEW[decision.spread.seeds],
        difference=decision.spread.estimate,
        low=low,
        high=high,
        level=own,
        p_value=decision.p_value,
        margin=claim.margin,
        pairs=len(decision.comparison.units),
        seeds=decision.spread.seeds,
        images=decision.spread.images,
        by=tuple(claim.by),
        deciding=decision.comparison.name,
    )
    return _unless_opposite(found, claim, decision.comparison) if decision.enough else found


def _unless_opposite(found: Verdict, claim: Question, comparison: Comparison) -> Verdict:
    """``found``, or that it depends on the axis along which its parts contradict each other most."""
    splits = []
    for axis in _axes_of(claim):
        members = [(value, part.spread) for value, part in comparison.along(axis) if part.spread is not None]
        if axis != "seed" and len(members) > 1:
            splits.append((heterogeneity([spread for _, spread in members]), axis, members))
    for p, axis, members in sorted(splits, key=lambda split: split[0]):
        ends = [(value, spread.interval(1 - (1 - found.level) / len(members))) for value, spread in members]
        above = tuple(value for value, end in ends if end.low > found.margin)
        below = tuple(value for value, end in ends if end.high < found.margin)
        if above and below and p <= 1 - found.level:
            return replace(found, verdict="depends", depends_on=axis, above=above, below=below, p_heterogeneity=p)
    return replace(found, p_heterogeneity=min((p for p, _, _ in splits), default=None))


def _axes_of(claim: Question) -> tuple[str, ...]:
    """The axes of ``by``, and the setting unless an axis of it is among those."""
    along = claim.by if set(claim.by) & set(axis_names()) else (*claim.by, WHOLE)
    return tuple(dict.fromkeys(along))


def _parts(claim: Question, units: Sequence[Comparison], level: float) -> tuple[Part, ...]:
    """Breakdown along each of :func:`_axes_of`, so that one sees where an effect appears."""
    parts = []
    for axis in _axes_of(claim):
        groups: dict[str, list[Comparison]] = defaultdict(list)
        for unit in units:
            for value, piece in unit.along(axis):
                groups[value].append(piece)
        for value, members in groups.items():
            spread = Comparison.join("", members, ()).spread
            low, high = spread.interval(level) if spread else (None, None)
            parts.append(Part(axis, value, spread.estimate if spread else None, low, high, len(members)))
    return tuple(parts)
