"""What the paired comparisons say of each row: rank, rank interval, tie letters, the set that holds the best."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.board.stats.letters import letter_of
from bench.board.stats.moderation import SeedVariance
from bench.board.stats.paired import LEVEL, Bitmaps
from bench.board.stats.picks import lead
from bench.board.stats.ranks import PairTable, pair_table


def tie_ranks(table: PairTable) -> list[int]:
    """Rank of each row (1 is best), monotone with the means.

    Down the means, the first row opens a rank and the next ones share it until one is shown to be worse than the row
    that opened it; that one opens the next rank.  A lower row that is not told apart from a higher rank (it scatters
    more) still comes after; its rank interval says so.
    """
    ranks = [0] * len(table.order)
    opened = 0
    for place, row in enumerate(table.order):
        if place and table.outcome[table.order[opened], row] != 0:
            opened = place
        ranks[row] = opened + 1
    return ranks


def rank_intervals(table: PairTable) -> list[tuple[int, int]]:
    """Rank interval of each row: from 1 + the rows shown to be better, to the number of rows not shown to be worse.

    An interval fails only if a corrected test of its row rejects wrongly, so each holds the true rank with 95 %
    confidence, and with ``family="group"`` all of them together do (Mogstad, Romano, Shaikh and Wilhelm 2024, Review
    of Economic Studies 91:476; the same by Tukey's test in Al Mohamad, Goeman and van Zwet 2022, Biometrics 78:238).
    Percentiles of bootstrapped ranks are not used: they are too short just where rows are close, since a draw hardly
    ever ties (Hall and Miller 2009, Annals of Statistics 37:3929).
    """
    better, worse = (table.outcome < 0).sum(axis=1), (table.outcome > 0).sum(axis=1)
    count = len(table.means)
    return [(1 + int(b), count - int(w)) for b, w in zip(better, worse, strict=True)]


def letters(table: PairTable) -> list[str]:
    """Compact letter display: two rows share a letter if and only if the corrected test does not tell them apart.

    Insert and absorb (Piepho 2004, J. Computational and Graphical Statistics 13:456); "a" holds the best mean.  After
    "z" come "aa", "ab", separated by commas in a row's label when any letter is longer than one.
    """
    order = table.order
    columns = [set(order)] if order else []
    for i, j in itertools.combinations(order, 2):
        if table.outcome[i, j] == 0:
            continue
        whole = [column for column in columns if not {i, j} <= column]
        split = [column - {row} for column in columns if {i, j} <= column for row in (i, j)]
        # none of the whole ones is within another one, before and after
        split = [c for k, c in enumerate(split) if c not in split[:k] and not any(c < o for o in split)]
        columns = whole + [c for c in split if not any(c <= o for o in whole)]
    place = {row: k for k, row in enumerate(order)}
    columns.sort(key=lambda column: sorted(place[row] for row in column))
    names = [letter_of(k + 1) for k in range(len(columns))]
    join = "," if any(len(name) > 1 for name in names) else ""
    return [join.join(n for n, c in zip(names, columns, strict=True) if row in c) for row in range(len(order))]


@dataclass(frozen=True)
class Standing:
    """What the board says of one row of a rank group; ``detectable`` is the median over its comparisons, in points.

    ``lead``: of the first row by mean, its advantage over the second without the winner's curse
    (:func:`stats.picks.lead`).  ``best_set``: no row is shown to be better.  These rows hold the truly best one
    with 95 % confidence, since for that one this fails only if a corrected test of its row rejects wrongly.
    """

    rank: int
    tied: int
    low: int
    high: int
    letters: str
    detectable: float | None
    lead: float | None = None

    @property
    def best_set(self) -> bool:
        """Whether the row cannot be told from the best."""
        return self.low == 1


def standings(
    rows: Sequence[Bitmaps], level: float = LEVEL, between: Sequence[SeedVariance] | None = None
) -> list[Standing]:
    """Rank, number of rows that share it, rank interval, letters and minimum detectable effect of every row; arguments
    as :func:`pair_table` takes them."""
    table = pair_table(rows, level, between=between)
    ranks, named = tie_ranks(table), letters(table)
    ahead = lead(rows)
    found = []
    for k, (low, high) in enumerate(rank_intervals(table)):
        effects = table.detectable[k][np.isfinite(table.detectable[k])]
        effect = float(np.median(effects)) if len(effects) else None
        first = ahead if k == table.order[0] else None
        found.append(Standing(ranks[k], ranks.count(ranks[k]), low, high, named[k], effect, first))
    return found
