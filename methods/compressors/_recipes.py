"""Hyper-parameters that adaround, brecq and qdrop share, and the way from a request to a compressed network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._base import quantised
from methods.quant.choices import RangeMethod

if TYPE_CHECKING:
    from methods.compressors._blocks import Recipe, Row
    from methods.compressors._reconstruct import RoundingRule, WeightRule
    from methods.quant.units import Unit

ROUNDING_TRAVEL = 20.0
"""lr * T of the rounding variables: enough for V to cross its range of +-2.4 several times
(docs/methods/compressors.md#travel)."""

STEP_TRAVEL = 0.2
"""lr * T of BRECQ's activation steps; a half cosine halves it, which leaves Adam's travel of about 0.1
(docs/methods/compressors.md#travel)."""

PENALTY_BY_FAMILY = {"mnasnet": 0.2, "mobilenet": 0.1, "resnet": 0.01, "regnet": 0.01}
"""lambda = auto: the values that BRECQ and QDrop use per architecture (docs/methods/compressors.md#penalty)."""

JOINT_STEP_TRAVEL = 0.8
"""lr * T of QDrop's activation steps as published: 4e-5 for 20000 iterations."""

DEFAULT_PENALTY = 0.1

Positive = Annotated[float, Field(gt=0)]


class ReconstructionParams(MethodParams):
    """What every reconstruction is asked.

    ``calibration`` images at most choose the activation ranges, from ``range_values`` values per tensor (both as in
    rtn, so that the two start from the same grids); ``batch`` is drawn without replacement.
    """

    iterations: int = Field(default=200, ge=0, le=1_000_000)
    batch: int = Field(default=32, ge=1, le=4096)
    guard: bool = True
    calibration: int = Field(default=256, ge=1)
    range_values: int = Field(default=1 << 16, ge=1 << 8, le=1 << 24)
    weight_range: RangeMethod = "mse"
    act_range: RangeMethod = "mse-2d"
    max_layers: int = Field(default=8, ge=1, le=64)


class SoftParams(MethodParams):
    """Learned rounding (docs/methods/compressors.md#rounding).

    ``lr`` auto is 20 / iterations (0.1 at 200, the published 1e-3 at 20000), ``penalty`` is lambda, auto looks the
    architecture up.
    """

    lr: Annotated[float, Field(ge=0, le=10)] | Literal["auto"] = "auto"
    penalty: Annotated[float, Field(ge=0, le=100)] | Literal["auto"] = 0.1
    warmup: float = Field(default=0.2, ge=0, lt=1)
    beta_start: float = Field(default=20.0, ge=1, le=100)
    beta_end: float = Field(default=2.0, ge=1, le=100)


class StepParams(MethodParams):
    """Learned activation steps; ``step_lr`` auto keeps the published lr * T (4e-5 in the preset paper)."""

    step_lr: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = "auto"


class RoundingParams(SoftParams, ReconstructionParams):
    """Learned rounding by reconstruction."""


class DropParams(StepParams, ReconstructionParams):
    """Weights and steps learned together; ``keep``: the probability that an element is quantised while learning."""

    iterations: int = Field(default=280, ge=0, le=1_000_000)
    keep: float = Field(default=0.5, ge=0, le=1)


class JointParams(SoftParams, DropParams):
    """As DropParams, the weights by learned rounding."""


def penalty_for(params: SoftParams, model: ModelHandle) -> float:
    """lambda for this network: as given, or by its architecture's name."""
    return by_architecture(params.penalty, model, PENALTY_BY_FAMILY, DEFAULT_PENALTY)


def by_architecture(
    given: float | Literal["auto"], model: ModelHandle, table: Mapping[str, float], other: float
) -> float:
    """``given``, or for auto the value of the first name in ``table`` that the architecture's or the family's holds,
    ``other`` where none does."""
    if given != "auto":
        return given
    name = f"{model.architecture} {model.family}".lower()
    return next((value for key, value in table.items() if key in name), other)


def rule_for(params: RoundingParams | JointParams, model: ModelHandle) -> RoundingRule:
    """The rounding rule with lr and lambda resolved."""
    from methods.compressors._reconstruct import RoundingRule

    lr = ROUNDING_TRAVEL / max(params.iterations, 1) if params.lr == "auto" else params.lr
    return RoundingRule(lr, penalty_for(params, model), params.warmup, params.beta_start, params.beta_end)


def step_rate(params: StepParams, iterations: int, travel: float = STEP_TRAVEL) -> float:
    """Learning rate of the activation steps over ``iterations``; auto keeps lr * T = ``travel``."""
    return travel / max(iterations, 1) if params.step_lr == "auto" else params.step_lr


def joint_recipe(params: DropParams, rule: WeightRule) -> Recipe:
    """QDrop's stage: weights by ``rule`` and activation steps at once, activations quantised at random."""
    from methods.compressors._blocks import Recipe

    return Recipe(
        rule,
        params.iterations,
        params.batch,
        step_lr=step_rate(params, params.iterations, JOINT_STEP_TRAVEL),
        guard=params.guard,
        joint=True,
        keep=params.keep,
    )


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts over the units: learned, kept as they were, degraded."""
    return {
        "units": list(rows),
        "learned": sum(row["kept"] == "learned" for row in rows),
        "kept": sum(row["kept"] != "learned" for row in rows),
        "degraded": sum(row["degraded"] for row in rows),
    }


def compress(
    model: ModelHandle,
    images: ImageSet,
    setting: Setting,
    params: ReconstructionParams,
    recipe: Recipe,
    ctx: RunContext,
) -> Compressed:
    """Quantise a copy of ``model`` on ``images``, reconstruct it by ``recipe`` and wrap it up."""
    from methods.compressors._blocks import reconstruct
    from methods.quant.model import Sampling, quantize_model

    data = images.images.to(ctx.device, ctx.dtype)
    module = quantize_model(
        model.module,
        data[:2],
        setting,
        weight_range=params.weight_range,
        act_range=params.act_range,
        max_layers=params.max_layers,
    )
    module.to(ctx.device)
    module.calibrate(data, Sampling(params.calibration, params.range_values))
    rows = reconstruct(module, data, recipe, ctx)
    report = summary(rows) | {"unlearned_activations": list(module.loose), "undone": module.undone}
    spent = cost(recipe, len(data), module.units) + sum(row.get("passes", 0.0) for row in rows)
    return Compressed((quantised(module, setting),), report, spent)


def cost(recipe: Recipe, images: int, units: Sequence[Unit]) -> float:
    """Forward passes of one image through the network, a backward counting as one; caches and checks included.

    Ranges behind the quantised prefix run each unit once for each of its tensors and once for what leaves it (units
    count alike); Fisher weights take two forward passes and part of a backward one for each unit.  What a unit's row
    counts itself (``passes``) is not in it.
    """
    steps = 0 if recipe.joint else recipe.step_iterations
    learned = 2.0 * min(recipe.batch, images) * (recipe.iterations + steps)
    checks = (5 if recipe.iterations else 2) + (3 if steps else 0)
    passes = 1 + sum(len(unit.activations) for unit in units) / max(len(units), 1)
    ranges = passes * min(recipe.ranges.images, images) if recipe.ranges else 0
    weights = 3 * len(units) * images if recipe.fisher else 0
    answers = images if recipe.prediction else 0
    return learned + float(checks * images + ranges + weights + answers)
