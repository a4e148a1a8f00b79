"""What a method's own code answers, before the engine stores it."""

from __future__ import annotations

from dataclasses import dataclass

from bench import runtime
from bench.interfaces import ImageBatch, Searched
from bench.store.meta import Curves


@dataclass(frozen=True)
class MadeBatch:
    """A batch, the curves its source logged, and what making it took."""

    batch: ImageBatch
    curves: Curves
    spent: runtime.Spent


@dataclass(frozen=True)
class SearchedPolicy:
    """What a search answered, the curves it logged, and what searching took."""

    searched: Searched
    curves: Curves
    spent: runtime.Spent
