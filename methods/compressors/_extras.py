"""What a recipe adds to a unit's reconstruction: the prediction difference and inputs of corrected distribution."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from methods.compressors._caches import Cache, cached
from methods.compressors._correction import Correction, correct, norms
from methods.compressors._prediction import Prediction, PredictionDifference
from methods.compressors._reconstruct import Extra
from methods.quant.model import QuantModel
from methods.quant.units import Unit


class Extras:
    """The additions to all units of one network; each is off where its rule is None.

    ``passes`` in a unit's row are the forward passes of one image through the network that they took.
    """

    def __init__(
        self, model: QuantModel, images: Tensor, prediction: Prediction | None, correction: Correction | None
    ) -> None:
        self._model, self._correction, self._prediction = model, correction, prediction
        self._difference = None if prediction is None else PredictionDifference(model, images, prediction)

    def corrected(
        self, unit: Unit, module: nn.Module, full: Cache, target: Cache, row: dict[str, Any]
    ) -> tuple[Cache, Cache]:
        """The unit's full-precision inputs with corrected distribution and what the full-precision unit makes of them;
        as given where it holds no batch norm."""
        rule = self._correction
        seen = [] if rule is None else norms(self._model, unit, module)
        if rule is None or not seen:
            return full, target
        enabled = [(q, q.enabled) for q in (*self._model.weights.values(), *self._model.activations.values())]
        self._model.set_state(False, False)
        found = correct(module, full, seen, rule)
        aim = cached(module, found.inputs)
        for quantiser, before in enabled:
            quantiser.enabled = before
        row |= {"bn_before": found.before, "bn_after": found.after, "moved": found.moved}
        _spend(row, (2 * rule.iterations + 2) * len(full) / len(self._model.units))
        return found.inputs, aim

    def term(self, unit: Unit, module: nn.Module, inputs: Cache, iterations: int, row: dict[str, Any]) -> Extra | None:
        """The prediction difference of a unit on ``inputs`` from the quantised prefix; switches what follows to full
        precision."""
        if self._difference is None or self._prediction is None:
            return None
        self._difference.alone(unit)
        value, passes = self._difference.term(unit, module, inputs)
        _spend(row, passes * iterations)
        return Extra(self._prediction.reconstruction, value)


def _spend(row: dict[str, Any], passes: float) -> None:
    row["passes"] = row.get("passes", 0.0) + passes
