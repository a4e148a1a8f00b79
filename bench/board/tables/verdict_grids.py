"""The printed table of claims and their verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from bench.board.claims.judging import SEEDS_TO_JUDGE, Verdict
from bench.board.stats.paired import LEVEL
from bench.board.tables.grids import BLANK, Cell, Grid, number


def verdict_grid(verdicts: Sequence[Verdict], parts: bool = True) -> Grid:
    """Claims with their verdicts; differences in points, better minus worse. ``parts``: with each claim's breakdown."""
    rows = []
    left_out = frozenset[int]() if parts else frozenset({6})
    for item in verdicts:
        interval = BLANK if item.low is None else f"[{number(item.low)}, {number(item.high)}]"
        texts = (
            item.says,
            item.text,
            number(item.difference),
            interval,
            number(item.margin),
            f"{item.pairs} x {item.seeds}",
            "; ".join(_part_texts(item)),
            "; ".join([*([f"decided by {item.deciding}"] if item.deciding else []), *_in_short(item.remarks)]),
        )
        decided = item.verdict in ("supported", "refuted", "depends")
        rows.append(tuple(Cell(text, decided and i == 1) for i, text in enumerate(texts) if i not in left_out))
    notes = [
        f"intervals at the level Holm's procedure asks for ({LEVEL:.0%} over all claims); parts at {LEVEL:.0%} each"
    ]
    notes.append("differences hold for these networks; intervals cover seeds and test images")
    notes += verdict_notes(verdicts)
    headers = ("claim", "verdict", "difference", "interval", "margin", "pairs x seeds", "by", "remarks")
    kept = [name for i, name in enumerate(headers) if i not in left_out]
    text = frozenset(i for i, name in enumerate(kept) if name in ("claim", "verdict", "by", "remarks"))
    return Grid("claims", tuple(kept), text, tuple(rows), tuple(notes))


def verdict_notes(verdicts: Sequence[Verdict]) -> list[str]:
    """What stands in place of a verdict, in words."""
    notes = []
    if any(0 < item.seeds < SEEDS_TO_JUDGE for item in verdicts):
        notes.append(
            "one seed, two seeds: no verdict; the interval has what the rows beside it, or the shipped ones, vary by "
            "between seeds"
        )
    if any(item.verdict == "depends" for item in verdicts):
        notes.append("depends on: above the margin for some values and below it for others, so no mean decides")
    return notes


def _in_short(remarks: Sequence[str], most: int = 3) -> list[str]:
    """The first remarks; a suite measured in part has one for every row it lacks."""
    rest = len(remarks) - most
    return [*remarks[:most], *([f"and {rest} more like these"] if rest > 0 else [])]


def _part_texts(verdict: Verdict) -> list[str]:
    """Parts in words; an axis with a single value says nothing new and is left out."""
    texts = []
    for part in verdict.parts:
        if sum(other.axis == part.axis for other in verdict.parts) > 1:
            ends = BLANK if part.low is None else f"[{number(part.low)}, {number(part.high)}]"
            texts.append(f"{part.value} {number(part.difference)} {ends}")
    return texts
