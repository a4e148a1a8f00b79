"""GDFQ (Xu et al., ECCV 2020): a generator of labelled images, trained for class and batch-norm statistics.

z ~ N(0, I), y uniform; L_G = CE(T(G(z|y)), y) + 0.1 sum over layers of squared errors of mean and variance, here their
mean over layers and channels as in the authors' code (docs/methods/sources.md#gdfq, #mse_var).  At 32 pixels embed(y) *
z enters the body (``condition=latent``); at 224 z enters it and the three inner batch norms are per class
(``condition=norms``).
Delivery ``cached`` trains for as long as the authors leave the student alone (``paper``: 50 epochs of 200 steps), then
makes the stored images with balanced labels: that is not the authors' protocol, in which the generator goes on
learning beside the student (``stream``; ``warmup`` steps pass first, 10,000 at 224 and 800 at 32 pixels).  The rate's
``milestones`` (epochs 100, 200 and 300 of 400) lie beyond the cached training.  The student's loss is the consumer's.
Deviations: images are not clipped to valid pixels (the record gives the share beyond).  ``mini`` is 300 steps of a body
half as wide; ``mini`` and ``thorough`` weigh the statistics by ``kappa`` 3 (docs/methods/tuning.md#gdfq).
Paper's figure (with its own quantisation-aware training; from general knowledge, not checked again): ResNet-20 on
CIFAR-10 W4A4 90.25; ResNet-18 on ImageNet W4A4 60.60.
Ours, on the networks before their second training cycle (suite ``sources_all``, 128 images, 60,000 passes with a
generator's counted as one network's, BRECQ, one seed; MobileNetV2 and ResNet-18): W2A4 64.8 and 87.0, W4A4 85.2 and
90.1 (real 82.7, 89.7, 82.3, 91.0; noise 25.5, 50.9, 74.0, 90.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.interfaces import MethodParams, ModelHandle, RunContext, SynthRequest
from methods.sources._generator_source import GDFQ, ConditionalParams, GeneratorSource

if TYPE_CHECKING:
    from torch import Tensor

    from methods.sources._generator_loop import GeneratorTrainer
    from methods.sources._generators import Codes


class GdfqParams(ConditionalParams):
    """As every generator with classes."""


class Gdfq(GeneratorSource):
    """DataSource ``gdfq``."""

    version = 5
    summary = "generator conditioned on the class, with batch-norm statistics (GDFQ)"
    paper = "Xu et al., Generative Low-Bitwidth Data Free Quantization, ECCV 2020"
    Params: type[MethodParams] = GdfqParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {**GDFQ["mini"], "kappa": 3.0},
        "thorough": {**GDFQ["thorough"], "kappa": 3.0},
        "paper": GDFQ["paper"],
    }

    def check(self, params: GdfqParams, models: tuple[ModelHandle, ...]) -> None:
        """Raise NotApplicable without a network, or with one that has no batch-norm statistics."""
        from methods.sources._objectives import need_models

        need_models(models, bn=True, source="gdfq")

    def build(self, request: SynthRequest, ctx: RunContext, params: GdfqParams) -> GeneratorTrainer:
        """Draw the generator's start weights and embedding N(0, 1)."""
        import torch

        from methods.sources._conditional import ConditionalObjective
        from methods.sources._generator_loop import GeneratorTrainer
        from methods.sources._generators import Body, Codes, ImageGenerator
        from methods.sources._objectives import Network

        spec, rng = request.dataset, ctx.generator
        in_norms = params.condition == "norms"
        body = Body(params.latent, spec.shape, params.width, params.eps, rng, spec.classes if in_norms else 0)
        if in_norms:
            generator = ImageGenerator(body)
        else:
            generator = ImageGenerator(body, "product", torch.randn(spec.classes, params.latent, generator=rng))

        def draw(classes: Tensor | None) -> Codes:
            if classes is None:
                classes = torch.randint(spec.classes, (params.batch,), generator=rng)
            return Codes(torch.randn(len(classes), 1, params.latent, generator=rng), classes[:, None])

        objective = ConditionalObjective(Network(request.models[0], spec, ctx), spec.classes, params, draw)
        return GeneratorTrainer(generator, objective, params, ctx, unit_macs=request.unit_macs, classes=spec.classes)


METHOD = Gdfq()
