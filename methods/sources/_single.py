"""A source that inverts one network: what ``deepdream``, ``zeroq``, ``kw`` and ``deepinversion`` have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from bench.interfaces import ImageBatch, ModelHandle, RunContext, SynthRequest
from methods.sources._base import Defaults
from methods.sources._settings import LabelLaw, LoopSettings, Terms

if TYPE_CHECKING:
    from torch import Tensor

    from methods.sources._augment import Augment, PixelSpace
    from methods.sources._objectives import Prepared
    from methods.sources._tap_function import Scope


class SingleSource(Defaults, ABC):
    """DataSource on one network; a subclass names its terms, its views and its loop."""

    version: int = 2

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
        from methods.sources._objectives import need_models

        need_models(models, bn="bn" in self.needs, source=type(self).__name__.lower())

    def prepare(self, request: SynthRequest, ctx: RunContext) -> Prepared:
        """Draw labels and start images, copy the network, build the objective; nothing is optimised yet."""
        from methods.sources._augment import PixelSpace
        from methods.sources._losses import BN_OBJECTIVES
        from methods.sources._objectives import Network, Prepared, SingleObjective, draw_labels, weighed

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
        init = self.start(request, ctx)
        terms = weighed(terms, network, init)
        return Prepared(
            networks=(network,),
            objective=SingleObjective(network, labels, terms, augment, ctx.generator, student),
            settings=self.settings(params),
            augment=augment,
            init=init,
            labels=labels,
            student=student,
        )

    def start(self, request: SynthRequest, ctx: RunContext) -> Tensor:
        """Start images [B,C,H,W]: N(0,1)."""
        from methods.sources._objectives import start_images

        return start_images((request.batch_size, *request.dataset.shape), ctx)

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Invert one batch; see the Protocol."""
        from methods.sources._objectives import run

        return run(self.prepare(request, ctx), ctx)


class RolledSource(SingleSource):
    """One network seen through rolls and flips, Adam with warm-up and cosine (per stage with ``restart``), labels as
    asked for: what ``deepdream``, ``deepinversion`` and ``psaq_vit`` share beyond the network."""

    def augment(self, params: Any, space: PixelSpace) -> Augment:
        """Roll and flip."""
        from methods.sources._augment import Augment

        return Augment(space, roll=params.roll, flip=params.flip)

    def settings(self, params: Any) -> LoopSettings:
        """Adam with warm-up and cosine."""
        return LoopSettings.warmed(params)

    def label_law(self, params: Any) -> LabelLaw | None:
        """As asked for."""
        law: LabelLaw = params.labels
        return law
