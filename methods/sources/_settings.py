"""What the sources declare before anything is computed: hyper-parameters they share, and the numbers of an objective
and of a loop. No torch: a plan reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from bench.interfaces import MethodParams

Beta = Annotated[float, Field(ge=0, lt=1)]
Kappa = Annotated[float, Field(gt=0)] | None
"""Weight of the statistics relative to the network (docs/methods/sources.md#kappa); None takes ``bn_weight`` itself."""

LabelLaw = Literal["balanced", "uniform"]
TvNorm = Literal["batch", "rms"]
ScheduleName = Literal["constant", "cosine", "plateau"]

CROPS_PATIENCE = 50
"""Least patience of a plateau on the noisy loss of random crops: IntraQ's and HAST's own at 1,000 iterations."""

PUBLISHED_ITERATIONS = 5000
"""MixMix's budget, for which its rate of the loss weights is meant."""


def patience(given: int | None, iterations: int, *, crops: bool) -> int:
    """``given`` iterations without a new best loss, else a twentieth of all, with ``crops`` at least 50."""
    return given or max(CROPS_PATIENCE if crops else 1, iterations // 20)


def alpha_rate(given: float | None, iterations: int) -> float:
    """``given`` rate of the loss weights, else 1e-3 divided by the budget ``iterations``/5000
    (docs/methods/sources.md#alpha-rate)."""
    return given or 1e-3 / (iterations / PUBLISHED_ITERATIONS)


class InversionParams(MethodParams):
    """Switches of every inversion: iterations (``half_iterations`` of them at half size), batch, Adam's rate, clip."""

    iterations: int = Field(1000, ge=1)
    half_iterations: int = Field(0, ge=0)
    batch: int = Field(128, ge=1)
    lr: float = Field(0.1, gt=0)
    clip: bool = True

    @model_validator(mode="after")
    def _half_is_part(self) -> Self:
        if self.half_iterations > self.iterations:
            raise ValueError(f"half_iterations {self.half_iterations} exceeds iterations {self.iterations}")
        return self


@dataclass(frozen=True)
class LoopSettings:
    """Numbers of one optimisation.

    The first ``half_iterations`` of the ``iterations`` see images pooled 2x2.  ``restart`` gives each stage its own
    Adam, warm-up and cosine.  ``patience`` (its) belongs to the plateau; ``stop_below`` ends the run at that loss.
    """

    iterations: int
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: ScheduleName = "cosine"
    half_iterations: int = 0
    warmup: int = 0
    restart: bool = False
    clip: bool = True
    patience: int = 100
    floor: float = 1e-4
    stop_below: float | None = None
    log_interval: int | None = None

    @classmethod
    def of(cls, params: InversionParams, **other: Any) -> LoopSettings:
        """The numbers that the switches of every inversion name; ``other`` ones by their names here."""
        switches = params.iterations, params.half_iterations, params.lr, params.clip
        return cls(**dict(zip(("iterations", "half_iterations", "lr", "clip"), switches, strict=True)) | other)

    @classmethod
    def plateau(cls, params: InversionParams, patience: int, **other: Any) -> LoopSettings:
        """Adam whose rate falls after ``patience`` iterations without a new best loss."""
        return cls.of(params, schedule="plateau", patience=patience, **other)

    @classmethod
    def warmed(cls, params: Any) -> LoopSettings:
        """Adam with warm-up and cosine, its numbers called by a source's parameters as they are here."""
        return cls.of(params, betas=params.betas, warmup=params.warmup, restart=params.restart)

    def stages(self) -> list[tuple[int, int]]:
        """(iterations, scale) of each stage with any iterations."""
        half = min(self.half_iterations, self.iterations)
        return [(n, s) for n, s in ((half, 2), (self.iterations - half, 1)) if n > 0]

    @property
    def log_every(self) -> int:
        """``log_interval``, else every 100 iterations; short runs still get about twenty points."""
        return self.log_interval or max(1, min(100, self.iterations // 20))


@dataclass(frozen=True)
class Prior:
    """Weights of the image priors; terms of weight 0 are not computed."""

    tv_l2: float = 0.0
    tv_l1: float = 0.0
    l2: float = 0.0
    blur: float = 0.0
    tv_norm: TvNorm = "batch"

    @property
    def weighs(self) -> bool:
        """Whether any term has a weight."""
        return any((self.tv_l2, self.tv_l1, self.l2, self.blur))


@dataclass(frozen=True)
class Terms:
    """Which terms a one-network objective has. ``bn`` names an entry of ``BN_OBJECTIVES``; weight 0 drops a term.

    ``kappa``, where given, takes the place of ``bn_weight``: kappa divided by the statistics' loss of the start images.
    ``first`` multiplies layer 0's statistics.  ``logit`` maximises the target's logit instead of minimising the CE,
    ``focus`` is the power of 1 - p that weighs the CE of each image (HAST).
    ``input_term`` adds ZeroQ's statistics of the raw image; ``per_channel`` selects ZeroQ's second variant.
    ``competition`` weighs 1 - JS(teacher, student).
    """

    bn: str = "l2norm"
    bn_weight: float = 0.0
    kappa: Kappa = None
    first: float = 1.0
    ce_weight: float = 0.0
    logit: bool = False
    focus: float = 0.0
    prior: Prior = field(default_factory=Prior)
    input_term: bool = False
    per_channel: bool = False
    competition: float = 0.0
    competition_js: Literal["true", "code"] = "true"
    detach_student: bool = False
