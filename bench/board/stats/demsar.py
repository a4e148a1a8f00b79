"""Methods compared over several targets by their ranks: Friedman's test, Nemenyi's critical difference.

After Demsar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7:1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from bench.board.stats.paired import LEVEL


@dataclass(frozen=True)
class CriticalDifference:
    """Data of a critical-difference plot.

    ``average_ranks``: method → mean rank over ``blocks`` (1 is best, ties averaged), best first; ``cd``: two methods
    whose average ranks differ by less are not told apart; ``cliques``: the maximal runs of methods within ``cd``, the
    plot's bars; ``p_friedman``: of no difference between any methods (None for two methods); ``left_out``: method →
    "k of n" blocks, when it lacks one; ``note``: what this rests on.
    """

    average_ranks: dict[str, float]
    blocks: tuple[str, ...]
    cd: float
    cliques: tuple[tuple[str, ...], ...]
    p_friedman: float | None
    left_out: dict[str, str]
    level: float
    note: str


def nemenyi_q(count: int, level: float = LEVEL) -> float:
    """Quantile of the studentised range of ``count`` groups, infinite degrees of freedom, over sqrt(2) (Table 5)."""
    return float(scipy_stats.studentized_range.ppf(level, count, math.inf)) / math.sqrt(2)


def critical_difference(scores: pd.DataFrame, level: float = LEVEL) -> CriticalDifference:
    """Average ranks of methods (columns) over blocks (rows, usually targets); a higher score is better.

    A method without a score in some block is left out: a mean rank over other blocks would compare unlike with unlike.

    Raises:
        ValueError: fewer than two methods with all scores, or fewer than two blocks.
    """
    known = scores.notna().sum()
    left_out = {str(name): f"{k} of {len(scores)}" for name, k in known.items() if k < len(scores)}
    complete = scores.loc[:, known == len(scores)].astype(float)
    blocks, methods = complete.shape
    if methods < 2 or blocks < 2:
        raise ValueError(f"{methods} methods with a score in each of {blocks} blocks; two of each are needed")
    ranks = complete.rank(axis=1, ascending=False).mean().sort_values(kind="stable")
    cd = nemenyi_q(methods, level) * math.sqrt(methods * (methods + 1) / (6 * blocks))
    p_friedman = None
    if methods > 2 and complete.nunique(axis=1).max() > 1:
        p_friedman = float(scipy_stats.friedmanchisquare(*complete.to_numpy().T).pvalue)
    return CriticalDifference(
        average_ranks={str(name): float(rank) for name, rank in ranks.items()},
        blocks=tuple(map(str, complete.index)),
        cd=cd,
        cliques=_cliques([str(name) for name in ranks.index], ranks.to_numpy(), cd),
        p_friedman=p_friedman,
        left_out=left_out,
        level=level,
        note=_note(blocks, methods),
    )


def _cliques(names: list[str], ranks: np.ndarray, cd: float) -> tuple[tuple[str, ...], ...]:
    """Maximal runs of two and more methods whose average ranks span less than ``cd``."""
    runs: list[tuple[int, int]] = []
    for start in range(len(names)):
        end = int(np.searchsorted(ranks, ranks[start] + cd, side="left"))
        if end - start > 1 and (not runs or end > runs[-1][1]):
            runs.append((start, end))
    return tuple(tuple(names[start:end]) for start, end in runs)


def _note(blocks: int, methods: int) -> str:
    text = (
        f"ranks over {blocks} targets, each counted as an independent draw; they share the data set and often the image"
        " sets, so this says less about further networks than the numbers suggest"
    )
    if blocks <= 10 or methods <= 5:
        text += (
            "; Friedman's test and Nemenyi's difference are approximations meant for more than 10 targets and 5 methods"
        )
    return text
