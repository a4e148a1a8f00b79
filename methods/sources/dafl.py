"""DAFL (Chen et al., ICCV 2019): a generator whose images excite the teacher, confidently and in all classes alike.

z ~ N(0, I) without a class; L_G = w_oh CE(T(x), argmax T(x)) - w_a mean |f_T(x)| + w_ie sum_c pbar_c log10 pbar_c,
pbar the batch's mean softmax, f_T the features before the classifier (the paper's one-hot, activation and information
entropy losses; docs/methods/sources.md#dafl).  No batch-norm statistics.  Labels are the teacher's answers; nothing
balances the classes but the last term, so the record has their histogram.  On a finite batch that term also punishes
confident answers: for confident independent images of uniform classes its mean is -4.900 at batch 100, -4.923 at 128,
-4.962 at 256 and -4.990 at 1,024 (the authors'), 10 classes at weight 5, while shares of uncertain answers reach -5; a
run at batch 100 ended at entropy -4.974 + one-hot 0.056 = -4.918, below the confident -4.900, with mean confidence
0.36.  Nothing holds the statistics either: on our ResNet-18 activations reach 4.6 times the stored deviation, so that
W4A4 steps calibrated on such images are too wide.  Weights are the authors' for CIFAR-10 (0.05, 0.01, 5).
Deviations: Adam's rate 1e-3 instead of 0.02, batch 256 instead of 1024, latent 256 instead of 1000 (suite's 32-pixel
choice; ``paper`` has the authors').  At 0.02, 300 steps end at the same loss but farther from the stored statistics
(555 against 405 in the unit of MixMix eq. 2, N(0,1) noise 109), and BRECQ W2A4 on 128 images falls from 64 to 41.
Seeds differ widely: the last batch norm fixes an image's mean and deviation, nothing its sign.  With the authors'
weights for MNIST (1, 0.1, 5) and rate 0.02, one seed drew bright shapes on black, as the data (BRECQ W2A4 of ResNet-18
88.5), the next one black specks on white, down to -42 where the data ends at -0.66 (10.0).  With those weights and
rate 1e-3, a VGG distilled in lock-step reaches 50.4 instead of 30.3 (800 steps, one seed), BRECQ W2A4 of ResNet-18
59.7 instead of 70.6; the default stays as specified and suite ``kd`` has both.
Delivery ``cached`` freezes the generator after ``iterations`` steps and samples it, which is not the authors' protocol:
theirs trains the student on every step's images (``stream``), with KL(T || S) on the detached images, which is the
consumer's part.  ``mini`` is 300 steps of a body half as wide.
Paper's figure (CIFAR-10, distillation): ResNet-34 to ResNet-18 92.22.
Ours, on the networks before their second training cycle (suite ``sources_all``, 128 images, 60,000 passes with a
generator's counted as one network's, BRECQ, one seed; MobileNetV2 and ResNet-18): W2A4 75.2 and 66.9, W4A4 85.7 and
81.4 (real 82.7, 89.7, 82.3, 91.0; noise 25.5, 50.9, 74.0, 90.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.interfaces import LabelKind, MethodParams, ModelHandle, RunContext, SynthRequest
from methods.sources._generator_source import DaflParams, GeneratorSource

if TYPE_CHECKING:
    from methods.sources._generator_loop import GeneratorTrainer


class Dafl(GeneratorSource):
    """DataSource ``dafl``."""

    summary = "generator that excites the teacher in all classes; no labels, no statistics (DAFL)"
    paper = "Chen et al., Data-Free Learning of Student Networks, ICCV 2019"
    needs: frozenset[str] = frozenset()
    Params: type[MethodParams] = DaflParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {"iterations": 300, "batch": 128, "width": 64},
        "thorough": {"iterations": 12_000},
        "paper": {"iterations": 240_000, "batch": 1024, "latent": 1000, "lr": 0.02},
    }
    label_kind: LabelKind = "pseudo"

    def check(self, params: DaflParams, models: tuple[ModelHandle, ...]) -> None:
        """Raise NotApplicable without a network; batch norms are not needed."""
        from methods.sources._objectives import need_models

        need_models(models, bn=False, source="dafl")

    def build(self, request: SynthRequest, ctx: RunContext, params: DaflParams) -> GeneratorTrainer:
        """Draw the generator's start weights.

        Raises:
            NotApplicable: the teacher does not end in a classifier.
        """
        from methods.sources._dafl import DaflObjective
        from methods.sources._generator_loop import GeneratorTrainer
        from methods.sources._generators import Body, ImageGenerator
        from methods.sources._objectives import Network

        spec, rng = request.dataset, ctx.generator
        generator = ImageGenerator(Body(params.latent, spec.shape, params.width, params.eps, rng))
        objective = DaflObjective(Network(request.models[0], spec, ctx), spec.shape, spec.classes, params, rng)
        return GeneratorTrainer(generator, objective, params, ctx, unit_macs=request.unit_macs, classes=spec.classes)


METHOD = Dafl()
