"""A source that inverts one network: what ``deepdream``, ``zeroq``, ``kw`` and ``deepinversion`` have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from bench.interfaces import (
    Control,
    ImageBatch,
    LabelKind,
    MethodParams,
    ModelHandle,
    Offer,
    RunContext,
    SynthRequest,
    Tier,
)
from methods.sources._augment import Augment, PixelSpace
from methods.sources._inversion import LoopSettings
from methods.sources._losses import BN_OBJECTIVES
from methods.sources._objectives import (
    LabelLaw,
    Network,
    Prepared,
    SingleObjective,
    Terms,
    draw_labels,
    need_models,
    run,
    start_images,
)
from methods.sources._tap_function import Scope

Beta = Annotated[float, Field(ge=0, lt=1)]


CROPS_PATIENCE = 50
"""Least patience of a plateau on the noisy loss of random crops: IntraQ's and HAST's own at 1,000 iterations."""


def patience(given: int | None, iterations: int, *, crops: bool) -> int:
    """``given`` iterations without a new best loss, else a twentieth of all, with ``crops`` at least 50."""
    return given or max(CROPS_PATIENCE if crops else 1, iterations // 20)


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


class SingleSource(ABC):
    """DataSource on one network; a subclass names its terms, its views and its loop."""

    version: int = 2
    summary: str
    paper: str
    needs: frozenset[str] = frozenset({"bn"})
    Params: type[MethodParams]
    presets: Mapping[str, Mapping[str, Any]]
    access: Tier = "T2a"
    control: Control = "none"
    models: Literal["none", "one", "zoo"] = "one"
    label_kind: LabelKind = "assigned"
    offers: frozenset[Offer] = frozenset()

    @abstractmethod
    def terms(self, params: Any) -> Terms:
        """The objective."""

    @abstractmethod
    def augment(self, params: Any, space: PixelSpace) -> Augment:
        """The view that the network sees."""

    @abstractmethod
    def settings(self, params: Any) -> LoopSettings:
        """The optimisation."""

    def label_law(self, params: Any) -> LabelLaw | None:
        """How targets are drawn; None for a source without targets."""
        return "balanced"

    def batch_size(self, params: Any) -> int:
        """Images per batch."""
        return int(params.batch)

    def check(self, params: Any, models: tuple[ModelHandle, ...]) -> None:
        """Raise NotApplicable without a network, or with one that lacks the batch norms this source matches."""
        need_models(models, bn="bn" in self.needs, source=type(self).__name__.lower())

    def prepare(self, request: SynthRequest, ctx: RunContext) -> Prepared:
        """Draw labels and start images, copy the network, build the objective; nothing is optimised yet."""
        params, dataset = request.params, request.dataset
        self.check(params, request.models)
        terms, law = self.terms(params), self.label_law(params)
        labels = None
        if law is not None:
            labels = draw_labels(law, request.batch_size, dataset.classes, request.batch_index, ctx.generator)
            labels = labels.to(ctx.device)
        augment = self.augment(params, PixelSpace.of(dataset))
        scope: Scope = BN_OBJECTIVES[terms.bn].scope
        network = Network(request.models[0], dataset, ctx, scope)
        student = Network(request.student, dataset, ctx) if request.student and terms.competition else None
        return Prepared(
            networks=(network,),
            objective=SingleObjective(network, labels, terms, augment, ctx.generator, student),
            settings=self.settings(params),
            augment=augment,
            init=self.start(request, ctx),
            labels=labels,
            student=student,
        )

    def start(self, request: SynthRequest, ctx: RunContext) -> Tensor:
        """Start images [B,C,H,W]: N(0,1)."""
        return start_images((request.batch_size, *request.dataset.shape), ctx)

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Invert one batch; see the Protocol."""
        return run(self.prepare(request, ctx), ctx)
