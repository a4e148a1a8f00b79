"""Qimera (Choi et al., NeurIPS 2021): a generator whose superposed class embeddings make boundary images.

With probability p per batch every image has K random classes with coefficients c = softmax(N(0, I_K)); the body is fed
sum_k c_k LN(e_{y_k} + z_k), and the soft label adds the coefficients up per class (a class drawn twice counts twice);
otherwise one class, one-hot.  Embeddings start from the rows of the teacher's classifier, or from N(0, 1).
L_G = soft CE(T(x), q) + 0.1 ``mse_var``; schedule, optimiser and body as ``gdfq`` (docs/methods/sources.md#qimera,
#gdfq).
Deviations: per-class batch norms (``condition=norms``, at 224) take the weighted *sum* over the slots' classes (the
authors' code takes a mean, which shrinks them by K); LN is per image and slot (their code pools over the batch too);
no mapping layer (off in their scripts); embeddings are learned along from the teacher's rows (not verified there).
Stored images: a coin of p *per image*, each kind made in batches of its own as in training, so that a prefix of the
set holds both kinds; single classes are balanced.  ``label`` is the soft label's largest class.  ``stream``, ``warmup``
and ``mini`` as ``gdfq``, ``kappa`` 30 (docs/methods/tuning.md#qimera).  ``paper`` is the published ResNet-18 setting
(p 0.4, K 500, random embedding of 512).
Paper's figure (with its own quantisation-aware training; from general knowledge, not checked again): ResNet-20 on
CIFAR-10 W4A4 91.26; ResNet-18 on ImageNet W4A4 63.84.
Ours, on the networks before their second training cycle (suite ``sources_all``, 128 images, 60,000 passes with a
generator's counted as one network's, BRECQ, one seed; MobileNetV2 and ResNet-18): W2A4 72.1 and 87.1, W4A4 88.1 and
90.8 (real 82.7, 89.7, 82.3, 91.0; noise 25.5, 50.9, 74.0, 90.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench.interfaces import MethodParams, ModelHandle, RunContext, SynthRequest
from methods.sources._generator_source import GDFQ, ConditionalParams, GeneratorSource

if TYPE_CHECKING:
    from methods.sources._generator_loop import GeneratorTrainer, Sampled


class QimeraParams(ConditionalParams):
    """``superpose`` is p, ``slots`` K; ``embedding`` random has ``latent`` numbers, teacher the classifier's width."""

    superpose: float = Field(0.4, ge=0, le=1)
    slots: int = Field(2, ge=1)
    embedding: Literal["teacher", "random"] = "random"
    latent: int = Field(64, ge=1)


class Qimera(GeneratorSource):
    """DataSource ``qimera``."""

    version = 5
    summary = "generator with superposed class embeddings and soft labels (Qimera)"
    paper = "Choi et al., Qimera: Data-free Quantization with Synthetic Boundary Supporting Samples, NeurIPS 2021"
    Params: type[MethodParams] = QimeraParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {**GDFQ["mini"], "kappa": 30.0},
        "thorough": {**GDFQ["thorough"], "kappa": 30.0},
        "paper": {**GDFQ["paper"], "slots": 500, "latent": 512},
    }

    def check(self, params: QimeraParams, models: tuple[ModelHandle, ...]) -> None:
        """Raise NotApplicable without a network, or with one that has no batch-norm statistics."""
        from methods.sources._objectives import need_models

        need_models(models, bn=True, source="qimera")

    def build(self, request: SynthRequest, ctx: RunContext, params: QimeraParams) -> GeneratorTrainer:
        """Draw the generator's start weights; take the embedding from the teacher, or draw it.

        Raises:
            NotApplicable: the embedding is to be the teacher's, and it does not end in a classifier.
        """
        import torch

        from methods.sources._conditional import ConditionalObjective
        from methods.sources._features import Head
        from methods.sources._generator_loop import GeneratorTrainer
        from methods.sources._generators import Body, ImageGenerator
        from methods.sources._objectives import Network
        from methods.sources._qimera_law import Law

        spec, rng = request.dataset, ctx.generator
        teacher = Network(request.models[0], spec, ctx)
        if params.embedding == "teacher":
            rows = Head(teacher, spec.shape, spec.classes).weight.cpu()
        else:
            rows = torch.randn(spec.classes, params.latent, generator=rng)
        in_norms = params.condition == "norms"
        body = Body(rows.shape[1], spec.shape, params.width, params.eps, rng, spec.classes if in_norms else 0)
        law = Law(params, spec.classes, rows.shape[1], rng)
        return GeneratorTrainer(
            ImageGenerator(body, "superposed", rows),
            ConditionalObjective(teacher, spec.classes, params, law.training),
            params,
            ctx,
            unit_macs=request.unit_macs,
            classes=spec.classes,
        )

    def sampled(self, trainer: GeneratorTrainer, request: SynthRequest, ctx: RunContext) -> Sampled:
        """Both kinds in full batches of their own, then shuffled together by one coin per image.

        Single classes run on from stored batch to stored batch, whose offset is their number of images.
        """
        import torch

        from methods.sources._generator_loop import full
        from methods.sources._qimera_law import Law

        params: QimeraParams = request.params
        size = trainer.generator.body.linear.in_features
        law = Law(params, request.dataset.classes, size, ctx.generator)
        count, batch = request.batch_size, params.batch
        several = torch.rand(count, generator=ctx.generator) < params.superpose
        single = count - int(several.sum())
        first = request.batch_index * count
        wanted = torch.arange(first, first + full(single, batch)) % request.dataset.classes
        # drawn as they are needed: K latents of several hundred images are hundreds of megabytes
        parts = chain(
            (law.single(classes) for classes in wanted.split(batch) if len(classes)),
            (law.superposed(batch) for _ in range(full(count - single, batch) // batch)),
        )
        position = torch.where(several, several.cumsum(0) - 1 + len(wanted), (~several).cumsum(0) - 1)
        return trainer.sample(parts).rows(position)


METHOD = Qimera()
