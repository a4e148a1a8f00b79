"""Rank correlation, for boards, measures and methods.  Imported by itself."""

from __future__ import annotations

from collections.abc import Sequence


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation of ``a`` [N] and ``b`` [N], equal values at their mean rank; None where one of them
    is constant, or of fewer than two."""
    from scipy.stats import spearmanr  # slow to load, and few ask for it

    if len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return float(spearmanr(a, b).statistic)
