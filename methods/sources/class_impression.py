"""Class impressions (Nayak et al., ICML 2019): images whose answers are soft labels drawn by the classes' similarity.

The labels of class k are Dir(beta C_k), C the cosines of the classifier's rows (section 3.2), each row of them mapped
to 0..1 by its extremes.  The image minimises CE(softmax(A(X) / tau), y) from noise (section 3.3, equation 4).  Only
answers are looked at and the classifier's weights: no statistics, no features, no prior
(docs/methods/sources.md#class_impression).

Left open by the paper: a mapped row holds a 0, which a Dirichlet law does not take, so concentrations are ``least``
(1e-3) or more before the factor; the start is N(0,1).
From memory of the paper and not checked again: tau 20, beta 1 and 0.1 for half of the images each, batches of 100, Adam
with rate 0.01, 1,500 steps.

Known deviations:
- Classes k come in turn, as the paper makes equally many of each; the stored label is the largest share of the soft
  one, which need not be k.
- Images stay in the valid box (``clip``); the paper does not say.
- Factors alternate from image to image, so that a prefix of the set holds both.
- ``mini`` and ``thorough`` have fewer or as many steps at rate 0.1 on a cosine; they are not tuned.
- The paper distils with augmented impressions; what is done with the images is the compressor's business here.
Paper's figures (distillation, from memory, not checked again): MNIST LeNet-5 98.77, Fashion-MNIST 79.62, CIFAR-10
AlexNet 69.56.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bench.interfaces import ImageBatch, MethodParams, RunContext, SynthRequest
from methods.sources._settings import InversionParams, LoopSettings, ScheduleName, Terms
from methods.sources._single import SingleSource

if TYPE_CHECKING:
    from methods.sources._augment import Augment, PixelSpace
    from methods.sources._objectives import Prepared

Positive = Annotated[float, Field(gt=0)]


class ClassImpressionParams(InversionParams):
    """``betas`` scale the concentrations, which are ``least`` or above; ``temperature`` softens the answers;
    ``schedule`` of the rate."""

    iterations: int = Field(1500, ge=1)
    batch: int = Field(100, ge=1)
    lr: float = Field(0.01, gt=0)
    betas: tuple[Positive, ...] = Field((1.0, 0.1), min_length=1)
    least: float = Field(1e-3, gt=0, le=1)
    temperature: float = Field(20.0, gt=0)
    schedule: ScheduleName = "cosine"


class ClassImpression(SingleSource):
    """DataSource ``class_impression``."""

    version = 1
    summary = "images whose answers are soft labels drawn by the classes' similarity; outputs alone"
    paper = "Nayak et al., Zero-Shot Knowledge Distillation in Deep Networks, ICML 2019"
    needs = frozenset[str]()
    Params: type[MethodParams] = ClassImpressionParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {"iterations": 200, "lr": 0.1},
        "thorough": {"iterations": 1500, "lr": 0.1},
        "paper": {"schedule": "constant"},
    }

    def terms(self, params: ClassImpressionParams) -> Terms:
        """The objective has its own class term and no other."""
        return Terms()

    def augment(self, params: ClassImpressionParams, space: PixelSpace) -> Augment:
        """None."""
        from methods.sources._augment import Augment

        return Augment(space)

    def settings(self, params: ClassImpressionParams) -> LoopSettings:
        """Adam."""
        return LoopSettings.of(params, schedule=params.schedule)

    def prepare(self, request: SynthRequest, ctx: RunContext) -> Prepared:
        """As every one-network source, with soft labels in place of the classes.

        Raises:
            NotApplicable: the network does not end in a layer with an output for each class.
        """
        from methods.sources._class_impression_objective import (
            ImpressionObjective,
            concentrations,
            draw_soft_labels,
            scales,
        )
        from methods.sources._features import classifier, rows

        prepared, params = super().prepare(request, ctx), request.params
        assert prepared.labels is not None
        classes = request.dataset.classes
        weight = rows(classifier(prepared.networks[0], request.dataset.shape, classes))
        beta = scales(params, request.batch_size, classes, request.batch_index)
        alpha = concentrations(weight, params.least)[prepared.labels.cpu()] * beta[:, None]
        soft = draw_soft_labels(alpha, ctx.generator)
        objective = ImpressionObjective(prepared, soft, params.temperature, ctx.generator)
        return replace(prepared, objective=objective, labels=objective.labels)

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Invert one batch; its soft labels go along."""
        from methods.sources._class_impression_objective import ImpressionObjective
        from methods.sources._objectives import run

        prepared = self.prepare(request, ctx)
        assert isinstance(prepared.objective, ImpressionObjective)
        return replace(run(prepared, ctx), soft_labels=prepared.objective.soft.cpu())


METHOD = ClassImpression()
