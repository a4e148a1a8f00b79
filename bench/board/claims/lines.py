"""What a suite found, as lines of text: its claims with their verdicts, those on too few seeds apart."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.text import Text

from bench.board.claims.judging import SEEDS_TO_JUDGE, SIGN, WORDS, Verdict
from bench.board.tables.layout import GAP, bold
from bench.board.tables.words import BLANK

NARROWEST = 30
"""Columns of a claim's sentence at least, on however narrow a terminal."""


def counted(verdicts: Iterable[Verdict]) -> str:
    """ "1 supported, 3 open", in the order of :data:`bench.board.claims.judging.WORDS`."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    return ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])


def claim_lines(
    verdicts: Sequence[Verdict], width: int, *, narrowed: bool = False, whole: bool = False
) -> list[str | Text]:
    """What was found: verdicts first, then claims that too few seeds speak to; none without claims.

    Args:
        narrowed: a part of the suite is shown, so its claims are only counted.
        whole: with each claim's breakdown and remarks.
    """
    if not verdicts:
        return []
    if narrowed:
        return [f"claims of the whole suite: {counted(verdicts)}"]
    judged = [verdict for verdict in verdicts if not 0 < verdict.seeds < SEEDS_TO_JUDGE]
    early = [verdict for verdict in verdicts if 0 < verdict.seeds < SEEDS_TO_JUDGE]
    lines: list[str | Text] = []
    if judged:
        lines.append(bold(f"claims: {counted(judged)}"))
        lines += _listed(judged, width, whole=whole)
    if early:
        lines.append(bold(f"too few seeds for a verdict: {counted(early)}"))
        lines += _listed(early, width, whole=whole)
    return lines


def _listed(verdicts: Sequence[Verdict], width: int, *, whole: bool) -> list[str]:
    ordered = sorted(verdicts, key=lambda verdict: WORDS.index(verdict.verdict))
    words = max(len(verdict.verdict) for verdict in ordered)
    numbers = [_difference(verdict) for verdict in ordered]
    wide = max(map(len, numbers))
    lines = []
    for verdict, number in zip(ordered, numbers, strict=True):
        before = f"{SIGN[verdict.verdict]} {verdict.verdict.ljust(words)}{GAP}{number.ljust(wide)}{GAP}"
        rest = " " * len(before)
        room = max(width - len(before), NARROWEST)
        said = textwrap.wrap(verdict.says + _besides(verdict), room, break_long_words=False, break_on_hyphens=False)
        lines += [before + "".join(said[:1]), *(rest + more for more in said[1:])]
        if whole:
            lines += [f"{rest}{part}" for part in (*_parts(verdict), *verdict.remarks)]
    return lines


def _difference(verdict: Verdict) -> str:
    if verdict.difference is None or verdict.low is None or verdict.high is None:
        return BLANK
    return f"{verdict.difference:+.2f} [{verdict.low:.2f}, {verdict.high:.2f}]"


def _besides(verdict: Verdict) -> str:
    """Behind a claim: its margin, what it depends on, and whether rows are lacking."""
    words = [f"margin {verdict.margin:g}"] if verdict.margin else []
    if verdict.verdict == "depends":
        words.append(
            f"on {verdict.depends_on}: above for {', '.join(verdict.above)}, below for {', '.join(verdict.below)}"
        )
    if verdict.difference is None and verdict.remarks:
        words.append("rows are missing or old")
    return f" ({'; '.join(words)})" if words else ""


def _parts(verdict: Verdict) -> list[str]:
    several = [p for p in verdict.parts if sum(other.axis == p.axis for other in verdict.parts) > 1]
    known = [p for p in several if p.difference is not None and p.low is not None and p.high is not None]
    return [f"{p.value}: {p.difference:+.2f} [{p.low:.2f}, {p.high:.2f}]" for p in known]
