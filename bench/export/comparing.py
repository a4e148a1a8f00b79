"""Comparing the exported network with the simulated one: predictions, logits, and every quantised tensor on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.export.reading import Content
from bench.export.running import Floats, Session
from bench.interfaces.grids import GridPoint, Integers
from bench.measure.accuracy import eval_mode


@dataclass(frozen=True)
class Parity:
    """Top-1 of both in percent, the share of equal predictions in percent, and the greatest difference of two logits
    (None where no image has finite ones), as it is and in steps of the logits; None where these have no step
    (:func:`logit_step`)."""

    images: int
    simulated_top1: float
    exported_top1: float
    agreement: float
    logit_difference: float | None
    logit_steps: float | None


def parity(simulated: Floats, exported: Floats, labels: npt.NDArray[np.int64], step: float | None) -> Parity:
    """Compare logits [N, K]; an image whose logits are not all finite is predicted by neither and agrees with nothing.

    Raises:
        ValueError: shapes differ.
    """
    if simulated.shape != exported.shape or len(labels) != len(simulated):
        raise ValueError(f"logits {simulated.shape} and {exported.shape} of {len(labels)} images")
    first, second = _predicted(simulated), _predicted(exported)
    finite = (first >= 0) & (second >= 0)
    difference = float(np.abs(simulated[finite].astype(np.float64) - exported[finite]).max()) if finite.any() else None
    return Parity(
        len(labels),
        100 * float((first == labels).mean()),
        100 * float((second == labels).mean()),
        100 * float(((first == second) & (first >= 0)).mean()),
        difference,
        None if step is None or difference is None else difference / step,
    )


def _predicted(logits: Floats) -> npt.NDArray[np.int64]:
    found = logits.argmax(axis=1)
    return np.where(np.isfinite(logits).all(axis=1), found, -1)


def logit_step(content: Content) -> float | None:
    """The step of the logits: that of the last layer's input times the greatest of its weight, the unit in which an
    integer kernel counts.  None where that layer is in floating point."""
    if not content.weights:
        return None
    last = list(content.weights)[-1]
    read = content.reads[last]
    if len(read) != 1 or not read <= content.points.keys():
        return None
    return content.points[next(iter(read))].scale * float(np.abs(content.weights[last].scale).max())


@dataclass(frozen=True)
class Drift:
    """One quantised tensor, by its place on the way to the logits: signal-to-noise ratio of the exported values against
    the simulated ones in dB (None: equal to the last bit), the share of them in percent that lie on another level, and
    the most levels between."""

    tensor: str
    snr: float | None
    moved: float
    levels: int


@torch.no_grad()
def drift(integers: Integers, session: Session, names: Sequence[str], batches: Sequence[Tensor]) -> list[Drift]:
    """Every quantised tensor of both networks on the same images [N, C, H, W], in the order of execution.

    ``session`` gives the logits and then the tensors that ``names`` names (:func:`bench.export.running.opened`).
    """
    seen: dict[str, Tensor] = {}
    hooks = []
    steps = {}
    for tensor in names:
        point = integers.module.get_submodule(integers.points[tensor])
        assert isinstance(point, GridPoint)
        steps[tensor] = float(point.scale)
        hooks.append(point.register_forward_hook(_keeper(seen, tensor)))
    sums = {tensor: [0.0, 0.0, 0.0, 0.0, 0.0] for tensor in names}
    try:
        with eval_mode(integers.module):
            for images in batches:
                integers.module(images)
                for tensor, exported in zip(names, session(images)[1:], strict=True):
                    _add(sums[tensor], seen[tensor], exported, steps[tensor])
    finally:
        for hook in hooks:
            hook.remove()
    order = [tensor for tensor in integers.points if tensor in sums]
    return [_drift(tensor, *sums[tensor]) for tensor in order]


def _keeper(seen: dict[str, Tensor], tensor: str) -> Any:
    def keep(part: torch.nn.Module, inputs: Any, out: Tensor) -> None:
        seen[tensor] = out

    return keep


def _add(sums: list[float], simulated: Tensor, exported: Floats, step: float) -> None:
    one = simulated.cpu().numpy().astype(np.float64)
    levels = np.rint((exported - one) / step)
    sums[0] += float(np.square(one).sum())
    sums[1] += float(np.square(exported - one).sum())
    sums[2] += float((levels != 0).sum())
    sums[3] += one.size
    sums[4] = max(sums[4], float(np.abs(levels).max()))


def _drift(tensor: str, signal: float, noise: float, moved: float, count: float, levels: float) -> Drift:
    ratio = 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else None
    return Drift(tensor, ratio, 100 * moved / max(count, 1.0), int(levels))
