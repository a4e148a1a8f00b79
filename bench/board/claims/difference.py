"""Two rows of the board against each other: their difference as claims and ranks have it, and a verdict on it."""

from __future__ import annotations

from dataclasses import dataclass

from bench.board.claims.judging import SEEDS_TO_JUDGE, Word
from bench.board.index.rows import Row
from bench.board.stats.moderation import Term, moderated
from bench.board.stats.paired import LEVEL, Interval, common_table, paired_difference


@dataclass(frozen=True)
class Difference:
    """First minus second in points of top-1, paired by ``seeds`` and test ``images``, with its 95 % interval;
    ``detectable``: the true difference that one such comparison finds with 80 % power.  ``verdict``: on the first being
    the better one, as a claim would get it."""

    estimate: float
    interval: Interval
    detectable: float
    seeds: int
    images: int
    verdict: Word


def difference(first: Row, second: Row, level: float = LEVEL) -> Difference | str:
    """The rows' difference, the variance between seeds moderated by rows beside each; or in words why there is none."""
    if first.head.target != second.head.target:
        return "they are of different networks"
    if (first.head.test_digest, first.head.test_count) != (second.head.test_digest, second.head.test_count):
        return "they were tested on different images"
    if not first.bitmaps or not second.bitmaps:
        return "correctness per test image is not at hand for both"
    tables = common_table(first.bitmaps, second.bitmaps)
    if not tables:
        return "they share no seed"
    terms = [Term("first", 1.0, first.between), Term("second", -1.0, second.between)]
    found = moderated(paired_difference(tables[0], tables[1]), terms)
    interval = found.interval(level)
    verdict: Word = "supported" if interval.low > 0 else "refuted" if interval.high < 0 else "open"
    if found.seeds < SEEDS_TO_JUDGE:
        verdict = "one seed" if found.seeds == 1 else "two seeds"
    return Difference(found.estimate, interval, found.detectable(level), found.seeds, found.images, verdict)
