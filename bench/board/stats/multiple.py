"""Corrections for several tests of one family; plain Python."""

from __future__ import annotations

from collections.abc import Sequence

from bench.board.stats.paired import LEVEL


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values in the given order (Holm 1979, Scand. J. Statist. 6:65)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [1.0] * len(p_values)
    running = 0.0
    for step, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - step) * p_values[index]))
        adjusted[index] = running
    return adjusted


def holm_levels(p_values: Sequence[float], level: float = LEVEL) -> list[float]:
    """Confidence level at which each interval is to be read so that it excludes the null exactly when Holm rejects.

    The k-th smallest p is tested at (1-level)/(m-k); after the first that is kept, all others share its level.
    """
    alpha = 1 - level
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    levels = [level] * len(p_values)
    stopped: float | None = None
    for step, index in enumerate(order):
        share = alpha / (len(order) - step) if stopped is None else stopped
        levels[index] = 1 - share
        if stopped is None and p_values[index] > share:
            stopped = share
    return levels
