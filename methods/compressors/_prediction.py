"""The prediction difference: how far a unit's quantisation carries the network's answers from those in full precision.

PD-Quant (arXiv 2212.07048): the units before are quantised, the unit is as it is being learned, the rest is in full
precision, and the divergence from the full-precision network's answers is followed back into the unit's variables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.compressors._caches import EVALUATION_BATCH, Cache, run
from methods.quant.model import QuantModel
from methods.quant.units import Unit


def divergence(logits: Tensor, full: Tensor, temperature: float) -> Tensor:
    """KL(softmax(full / T) || softmax(logits / T)) [], in nats, mean over images; both are [B, K]."""
    return F.kl_div(
        F.log_softmax(logits / temperature, 1),
        F.log_softmax(full / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )


@dataclass(frozen=True)
class Prediction:
    """``weight`` of the divergence, its ``temperature`` and the ``images`` of each batch it is taken of, and the weight
    of the unit's squared error beside it."""

    weight: float
    temperature: float
    images: int
    reconstruction: float = 1.0


class PredictionDifference:
    """The term of every unit of one network.

    Args:
        model: on the images' device; its quantisers are switched off once, here.
        images: [N, C, H, W].
    """

    def __init__(self, model: QuantModel, images: Tensor, rule: Prediction) -> None:
        self._model, self._rule = model, rule
        self._images = Cache(images, channels_last=True)
        model.set_state(False, False)
        self._full = Cache(run(model, self._images, EVALUATION_BATCH))

    def alone(self, unit: Unit) -> None:
        """Switch off what is quantised after ``unit``, so that what runs behind it is in full precision."""
        units, activations = self._model.units, self._model.activations
        later = units[units.index(unit) + 1 :]
        for name in (name for other in later for name in other.layers):
            self._model.weights[name].enabled = False
        for name in (*(name for other in later for name in other.activations), *self._model.loose):
            activations[name].enabled = False

    def term(self, unit: Unit, module: nn.Module, inputs: Cache) -> tuple[Callable[[Tensor], Tensor], float]:
        """The weighted divergence for the first of the images (or rows) ``index`` [B] of the unit's ``inputs``; these
        come from the quantised prefix, and ``module`` is the unit.  And the forward passes of one image through the
        network that one step of it takes, a backward counting as one and units alike.

        Where what follows needs more than the unit's output, or rows are not images (windows of shifted-window
        attention), the whole network runs on the images.
        """
        rule, images, units = self._rule, len(self._images), self._model.units
        rest = self._model.rest_module(unit) if len(inputs) == images else None
        per_image = max(1, len(inputs) // images)

        def value(index: Tensor) -> Tensor:
            index = index[: rule.images]
            if rest is not None:
                logits = rest(module(inputs.take(index)))
            else:
                index = torch.div(index, per_image, rounding_mode="floor")
                logits = self._model(self._images.take(index))
            return rule.weight * divergence(logits, self._full.take(index), rule.temperature)

        behind = len(units) - units.index(unit)
        there = len(units) if rest is None else behind
        return value, (there + behind) / len(units) * min(rule.images, images)
