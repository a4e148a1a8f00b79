"""Who teaches whom in CoQuant: a teacher for each width and batch, whose blocks stand in for the width's own
(docs/methods/compressors.md#coquant)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bench.interfaces import Batch
from methods.compressors._adaptive_training import Course, Lesson, name
from methods.compressors._distillation import label_loss
from methods.quant.adaptive import AdaptiveModel

if TYPE_CHECKING:
    from methods.compressors.coquant import CoquantParams

PAPER_WEIGHTS = 11_000_000
"""Weights of the network that the published lambda was found on (ResNet-18): D grows with the root of their number."""


class CoquantCourse(Course):
    """Teachers by confidence and distance, blocks swapped; draws from ``generator`` alone.

    ``kept`` holds, for each block, with which probability it stays at the student's width.
    """

    def __init__(self, net: AdaptiveModel, params: CoquantParams, generator: torch.Generator) -> None:
        self.net, self.params, self.generator = net, params, generator
        self.inner, self.through = params.inner, params.swapped_gradient == "all"
        self.fresh = params.answers == "fresh"
        self.scale = math.sqrt(PAPER_WEIGHTS / max(net.weight_count, 1)) if params.scaled else 1.0
        self.names = [name(setting) for setting in net.widths.trained]
        self.kept: list[float] = []
        self.chosen: Counter[tuple[int, int]] = Counter()
        self.doubts: list[list[float]] = [[] for _ in self.names]
        self.distances: dict[tuple[int, int], float] = {}
        self.swapped, self.drawn = 0, 0

    def open(self, step: int, total: int) -> None:
        first = first_kept(self.params.p_init, step, total)
        self.kept = keeping(first, len(self.net.blocks), self.params.depth)
        self.distances.clear()

    def lesson(self, width: int, heard: Sequence[Tensor], batch: Batch) -> Lesson:
        if width == 0 or self.params.guide == "none":
            return Lesson()
        guide = self._guide(width, heard, batch)
        self.chosen[width, guide] += 1
        draws = torch.rand(len(self.kept), generator=self.generator).tolist()
        swaps = {block: guide for block, (draw, keep) in enumerate(zip(draws, self.kept, strict=True)) if draw >= keep}
        self.swapped += len(swaps)
        self.drawn += len(draws)
        return Lesson(guide, swaps=swaps)

    def _guide(self, width: int, heard: Sequence[Tensor], batch: Batch) -> int:
        if self.params.guide != "dynamic":
            return 0 if self.params.guide == "widest" else width - 1
        doubts = [doubt(logits, batch if self.params.confidence == "labels" else None) for logits in heard]
        self.doubts[width - 1].append(doubts[-1])
        apart = [self._distance(other, width) for other in range(width)]
        return choose(doubts, apart, self.params.lambda_distance * self.scale)

    def _distance(self, one: int, other: int) -> float:
        if (one, other) not in self.distances:
            self.distances[one, other] = self.net.distance(one, other)
        return self.distances[one, other]

    def report(self) -> dict[str, Any]:
        """How often each width was taught by which, the last tenth's mean U of those that could teach, the last D, what
        D is multiplied by beside lambda, and the share of draws that swapped a block."""
        tails = {self.names[i]: values[-max(len(values) // 10, 1) :] for i, values in enumerate(self.doubts) if values}
        return {
            "guides": {f"{self.names[s]} by {self.names[t]}": count for (s, t), count in sorted(self.chosen.items())},
            "doubts": {key: sum(tail) / len(tail) for key, tail in tails.items()},
            "distances": {f"{self.names[a]} to {self.names[b]}": d for (a, b), d in sorted(self.distances.items())},
            "distance_scale": self.scale,
            "swapped": self.swapped / self.drawn if self.drawn else 0.0,
        }


def choose(doubts: Sequence[float], distances: Sequence[float], weight: float) -> int:
    """The place with the least U + ``weight`` D, the first of equal ones."""
    costs = [u + weight * d for u, d in zip(doubts, distances, strict=True)]
    return costs.index(min(costs))


def doubt(logits: Tensor, batch: Batch | None = None) -> float:
    """U of logits [B, K]: the mean entropy of their softmax in nats, or the cross-entropy with the batch's labels.

    Raises:
        ValueError: the batch has no labels.
    """
    if batch is not None:
        return float(label_loss(logits, batch))
    logs = torch.log_softmax(logits, 1)
    return float(-(logs.exp() * logs).sum(1).mean())


def first_kept(start: float, step: int, total: int) -> float:
    """p_1 of ``step``: ``start`` in the first of ``total`` steps, 1 in the last, linear between."""
    return start + (1 - start) * (step / (total - 1) if total > 1 else 0.0)


def keeping(first: float, blocks: int, depth: str) -> list[float]:
    """p_i of each block, with p_1 = ``first``: rising to 1 at the last block, or the same for all."""
    if depth == "constant" or blocks < 2:
        return [first] * blocks
    return [1 - (1 - first) * (blocks - place) / (blocks - 1) for place in range(1, blocks + 1)]
