"""LIMPQ: the step size that a layer learns at a bit-width says how much it needs it (Tang et al., ECCV 2022).

    minimise  sum_l s_a[l, a_l] + alpha s_w[l, w_l]   within the budget      (LIMPQ, arXiv 2203.08368, eq. 6)

s_w[l, b] and s_a[l, b] are LSQ's learned steps (arXiv 1902.08153) of layer l at b bits: large where coarse levels do.
They are learned together (section 3.3): in each batch one pass with all layers at b, for every candidate b, then one
with drawn bits; weights are one set, steps and batch normalisations one per candidate; gradients are summed, each value
cut to [-1, 1], and one step of SGD is made.  The training is thrown away, the steps stay.

From the authors' code: lr 0.01, momentum 0.9, decay 2.5e-5, cosine, label smoothing 0.1, batch 256, 5 epochs; alpha 2;
steps within [1e-5, 1]; first steps 2 mean|x| / sqrt(p) and max|mean +- 3 sd| / 2^(b-1).

Known deviations:
- A step of fewer bits below one of more is an outlier, which the code gives a cost of 1e8.  Here it costs more than all
  layers at their worst together, so that the program can still tell the others apart; compared is the next kept
  candidate, as candidates have gaps.  A layer of nothing but outliers is made monotone by isotonic regression.
- Bounds act on the learned number after each step, not on the one used; ``step_most`` is one of the code's numbers, for
  activations of its ImageNet networks.
- In a mixed pass a normalisation is the copy of its layer's weight bits, the most bits where those are fixed.
- No decay on steps and normalisations; without labels the network's own answers stand for them.
- ``mini`` trains for steps, not epochs: on few images.  So short, weights' steps move by some percent and inputs' by
  less (``moved`` in the report): their start values, a spread of the weight and a mean of the input, decide mostly.

Published: ResNet50 W3A4 at 12.2x compression, 76.9 %; ResNet18 3MP 69.7 %; ours stand in the board's rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.interfaces import ImageSet, LayerBits, MethodParams, ModelHandle, RunContext, Searched, Setting
from methods.policies._base import ForSearchedLayers, SearchParams, cheapest, described, limits_of, pair_costs

if TYPE_CHECKING:
    from methods.policies._limpq_training import Indicators
    from methods.policies._space import Place


class LimpqParams(SearchParams):
    """``alpha`` weighs the weights' steps in the cost.  ``steps`` of SGD on ``batch`` images each, of at most
    ``samples``, learned steps at ``step_lr``; ``clip`` bounds each value of the summed gradient; learned steps stay
    within ``step_least`` and ``step_most``; ``calibration`` images start the activations' steps."""

    alpha: float = Field(default=2.0, ge=0, le=1e6)
    samples: int = Field(default=512, ge=1)
    steps: int = Field(default=120, ge=1, le=1_000_000)
    batch: int = Field(default=32, ge=1, le=4096)
    lr: float = Field(default=0.01, gt=0, le=10)
    step_lr: float = Field(default=0.01, gt=0, le=100)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    decay: float = Field(default=2.5e-5, ge=0, le=1)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    clip: float = Field(default=1.0, gt=0)
    step_least: float = Field(default=1e-5, gt=0)
    step_most: float = Field(default=1.0, gt=0)
    calibration: int = Field(default=128, ge=1)


class Limpq(ForSearchedLayers):
    """The search; see the module's docstring."""

    version = 1
    summary = "LIMPQ: jointly learned step sizes as importance of layers, least sum within the budget"
    paper = "Tang et al., Mixed-Precision Neural Network Quantization via Learned Layer-wise Importance, ECCV 2022"
    Params: type[MethodParams] = LimpqParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {"samples": 10_000, "steps": 600, "batch": 64},
        "paper": {
            "samples": 1_300_000,
            "steps": 25_000,
            "batch": 256,
            "weight_bits": (2, 3, 4, 5, 6),
            "act_bits": (2, 3, 4, 5, 6),
        },
    }

    def search(self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext) -> Searched:
        """The policy of least summed indicators; the report holds them, raw and with what was an outlier.

        Raises:
            BenchError: the budget cannot be reached, or the training diverged.
        """
        from methods.policies._limpq_training import (
            Candidates,
            JointModel,
            indicators,
            moved,
            three_sigma_weight,
            train,
        )
        from methods.policies._sensitivity import labelled
        from methods.policies._space import space_of
        from methods.policies._switched import Switched

        data = labelled(model.module, images, params.samples, params.batch, ctx)
        space = space_of(model.module, data.images[:2], setting)
        limits = limits_of(space, setting, params.budget)
        candidates = Candidates(params.weight_bits, params.act_bits)
        start = data.images[: params.calibration]
        bits = (candidates.weight, candidates.act)
        switched = Switched(model.module, start, space, setting, bits, three_sigma_weight, "lsq")
        before = indicators(switched, space)
        trained = train(JointModel(switched, space, start[:2], candidates), data, params, ctx)
        found = indicators(switched, space)
        cost, outliers = costs(found, params.alpha)
        solution = cheapest(space, setting, params, cost)
        report = described(space, solution.policy, limits) | {
            "weight_indicators": {n: {str(b): s for b, s in own.items()} for n, own in found.weights.items()},
            "input_indicators": {n: {str(b): s for b, s in own.items()} for n, own in found.inputs.items()},
            "outliers": outliers,
            "moved": moved(before, found),
            "steps_at_bounds": trained.bounded,
            "loss_first": trained.losses[0],
            "loss_last": trained.losses[-1],
            "cost": solution.cost,
            "pair_costs": pair_costs(space, params, cost),
        }
        return Searched(solution.policy, report, data.passes + len(start) + trained.passes)


def costs(found: Indicators, alpha: float) -> tuple[Callable[[Place, LayerBits], float], dict[str, list[int]]]:
    """Cost of a pair at a layer, and the outliers: "layer weight" or "layer input" → bits."""
    from methods.policies._limpq_training import repaired

    weights = {name: repaired(steps) for name, steps in found.weights.items()}
    inputs = {name: repaired(steps) for name, steps in found.inputs.items()}
    worst = sum(alpha * max(kept.values()) for kept, _ in weights.values())
    penalty = 1.0 + worst + sum(max(kept.values()) for kept, _ in inputs.values())

    def cost(place: Place, bits: LayerBits) -> float:
        total = 0.0
        if place.weight:
            step = weights[place.name][0].get(bits.weight)
            total += penalty if step is None else alpha * step
        if place.input:
            total += inputs[place.name][0].get(bits.input, penalty)
        return total

    outliers = {f"{name} weight": list(left) for name, (_, left) in weights.items() if left}
    outliers |= {f"{name} input": list(left) for name, (_, left) in inputs.items() if left}
    return cost, outliers


METHOD = Limpq()
