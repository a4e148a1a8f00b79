"""Cost beside accuracy: Pareto front, the best row under a budget, rows of equal budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.board.stats.letters import split_letters
from bench.board.stats.ranks import GROUP

BUDGETS = ("forward_equivalents", "n")
"""What a method spends: forward passes on synthesis and compression, and images."""


AMORTISED = {
    "synthesis_amortised_s": "synthesis_s",
    "synthesis_amortised_forwards": "synthesis_forwards",
    "synthesis_amortised_gmacs": "synthesis_gmacs",
}
"""Column → the full cost of the image set, which it spreads over the targets that the set serves."""

SERVED = ("ok", "incomplete")
"""Status of a row whose target was served; a failed one, or one that is not applicable, shares no cost."""


def amortised(table: pd.DataFrame) -> pd.DataFrame:
    """The frame with :data:`AMORTISED` formed anew from the full costs and ``image_set_targets``."""
    served = table["image_set_targets"].astype("Float64")
    over = served.where(served > 0)
    return table.assign(**{name: table[full].astype("Float64") / over for name, full in AMORTISED.items()})


@dataclass(frozen=True)
class Selection:
    """Rows of the frame, in its order, and how many were left out because they lack a number that was asked for."""

    rows: pd.DataFrame
    left_out: int


def pareto_front(table: pd.DataFrame, cost: str, value: str = "top1_mean") -> Selection:
    """Rows that no other row beats: none has at least the value for at most the cost, and one of the two better.

    Rows equal in both stand on the front together.

    Args:
        table: rows of one rank group (:data:`stats.ranks.GROUP`); accuracies of different targets do not compare.
        cost: a column where less is better; ``value``: one where more is better.
    """
    known = table.dropna(subset=[cost, value])
    spent, gained = known[cost].to_numpy(np.float64), known[value].to_numpy(np.float64)
    kept = np.zeros(len(known), dtype=bool)
    best = -np.inf
    for price in np.unique(spent):
        here = spent == price
        top = gained[here].max()
        if top > best:
            kept |= here & (gained == top)
            best = top
    return Selection(known[kept], len(table) - len(known))


def best_under(
    table: pd.DataFrame,
    *,
    minutes: float | None = None,
    size_bytes: float | None = None,
    bitops_g: float | None = None,
) -> Selection:
    """In each rank group the best row within the limits, and the rows not shown to differ from it.

    ``minutes`` bounds synthesis and compression together, the synthesis charged in full.  Rows without a rank
    (controls, stale, incomplete) do not take part.  A tie is a shared letter of the column ``letters``, so it holds
    for the comparison among all rows of the group.
    """
    ranked = table[table["rank"].notna()]
    limits = [(ranked["synthesis_s"] + ranked["compress_s"], None if minutes is None else 60 * minutes)]
    limits += [(ranked["size_bytes"], size_bytes), (ranked["bitops_g"], bitops_g)]
    known = pd.Series(True, index=ranked.index)
    within = pd.Series(True, index=ranked.index)
    for spent, limit in limits:
        if limit is not None:
            known &= spent.notna()
            within &= (spent <= limit).fillna(False)
    left = ranked[known & within]
    kept = []
    for _, group in left.groupby([*GROUP, "rank_group"], sort=False, dropna=False):
        best = group.loc[group["top1_mean"] == group["top1_mean"].max(), "letters"]
        held = {letter for text in best for letter in split_letters(text)}
        kept += [i for i, text in group["letters"].items() if held & set(split_letters(text))]
    return Selection(left.loc[left.index.isin(kept)], int((~known).sum()))


def equal_budget(table: pd.DataFrame, ratio: float, columns: Sequence[str] = BUDGETS) -> Selection:
    """The most rows whose budgets lie within ``ratio`` of each other in every one of ``columns``.

    Of several such sets the one of the least budget (in the order of the columns).  A budget of zero (rounding to
    nearest on real images) is within a ratio of zero only.

    Args:
        ratio: largest over smallest budget, at least 1.

    Raises:
        ValueError: a ratio below 1, or no column.
    """
    if ratio < 1 or not columns:
        raise ValueError(f"the ratio must be at least 1 and some column given, got {ratio} and {list(columns)}")
    known = table.dropna(subset=list(columns))
    spent = known[list(columns)].to_numpy(np.float64)
    return Selection(known[_largest(spent, ratio)], len(table) - len(known))


def _largest(spent: np.ndarray, ratio: float) -> np.ndarray:
    """Mask [n] of the most rows of ``spent`` [n, c] in one box from some lower ends to ``ratio`` times them."""
    everyone = np.ones(len(spent), dtype=bool)
    if spent.shape[1] == 0 or len(spent) == 0:
        return everyone
    best = np.zeros(len(spent), dtype=bool)
    for low in np.unique(spent[:, 0]):
        inside = (spent[:, 0] >= low) & (spent[:, 0] <= ratio * low)
        chosen = np.zeros(len(spent), dtype=bool)
        chosen[inside] = _largest(spent[inside, 1:], ratio)
        if chosen.sum() > best.sum():
            best = chosen
    return best
