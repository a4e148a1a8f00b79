"""DAFL with MixMix's objective in the generator's training (Li et al., ICCV 2021, section 5.4, Table 7).

The paper says no more than "MixMix objective added during GAN training"; its appendix has no section on it.  Suite's
definition (docs/methods/sources.md#dafl_mixmix): L_G = L_DAFL + (1/m') sum_j [ l1 CE_mix(A_j(Xh); yhat_host,
yhat_guest, beta) + l2 BN_j(Xh) ] with Xh = DataMix(G(z)) (main text eq. 7 to 9), yhat the teacher's answers to the
unmixed images (detached), BN of eq. 2.
The networks S = {A_j}, |S| = m' (``mix``): without a zoo the teacher itself (m' = 1, the row "+MixMix-1"); with one
(``{dafl_mixmix: {zoo: full, mix: 3}}``), networks of the zoo drawn without replacement anew at every step, because a
generator has no fixed image batch.  The teacher's own terms are DAFL's, on unmixed images, and the student learns from
the teacher only.
``weights=fixed``: l1 = 0.05, l2 = 1; ``learned``: eq. 8 of the appendix over the mixed terms of every network of the
pool, normalised by their first values, at the rate 1e-3 / (iterations/5000) as ``mixmix``.  DAFL's terms stay outside:
two of the three are negative, and eq. 8 divides by a positive first value.  No image prior: DAFL has none.
Statistics are compared with unsquared norms, so their gradient does not fade near the target.  Delivery, preset
``mini`` and batch as ``dafl``; ``kappa`` 1 (docs/methods/tuning.md#dafl_mixmix).  Declared as reading other networks
(T2b), though without a zoo it sees the target only.
Paper's figures (Table 7, CIFAR-10): VGG11 to VGG11 93.97, VGG11 to ResNet-18 91.57, ResNet-34 to ResNet-18 94.79.
Ours, on the networks before their second training cycle (suite ``sources_all``, 128 images, 60,000 passes with a
generator's counted as one network's, BRECQ, one seed; MobileNetV2 and ResNet-18): W2A4 77.7 and 88.9, W4A4 89.0 and
90.8 (real 82.7, 89.7, 82.3, 91.0; noise 25.5, 50.9, 74.0, 90.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from bench.errors import NotApplicable
from bench.interfaces import LabelKind, MethodParams, ModelHandle, RunContext, SynthRequest, Tier
from methods.sources._generator_source import DaflParams, GeneratorSource
from methods.sources._settings import Kappa

if TYPE_CHECKING:
    from methods.sources._generator_loop import GeneratorTrainer


class DaflMixMixParams(DaflParams):
    """``mix`` is m'; ``box`` the range of the guest's sides; ``ce_weight`` and ``bn_weight`` are l1 and l2 (fixed),
    ``kappa`` in the place of l2 is divided by each network's first statistics' loss.

    ``alpha_lr``, the rate of learned weights, is scaled with the iterations as ``mixmix`` does where it is None.
    """

    mix: int = Field(1, ge=1)
    data_mixing: bool = True
    box: tuple[float, float] = (0.1, 0.4)
    weights: Literal["learned", "fixed"] = "fixed"
    ce_weight: float = Field(0.05, ge=0)
    bn_weight: float = Field(1.0, ge=0)
    kappa: Kappa = None
    alpha_lr: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not 0 < self.box[0] <= self.box[1] <= 1:
            raise ValueError(f"box must be a range within (0, 1], got {self.box}")
        return self


class DaflMixMix(GeneratorSource):
    """DataSource ``dafl_mixmix``."""

    version = 5
    summary = "DAFL's generator with MixMix's objective, from one or several networks"
    paper = "Li et al., MixMix: All You Need for Data-Free Compression Are Feature and Data Mixing, ICCV 2021"
    Params: type[MethodParams] = DaflMixMixParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {"iterations": 300, "batch": 128, "width": 64, "kappa": 1.0},
        "thorough": {"iterations": 12_000, "kappa": 1.0},
        "paper": {"iterations": 240_000, "batch": 1024, "latent": 1000, "lr": 0.02},
    }
    access: Tier = "T2b"
    models: Literal["none", "one", "zoo", "one+zoo"] = "one+zoo"
    label_kind: LabelKind = "pseudo"

    def check(self, params: DaflMixMixParams, models: tuple[ModelHandle, ...]) -> None:
        """Raise NotApplicable without a teacher, or where the pool is too small or lacks batch norms."""
        from methods.sources._objectives import need_models

        need_models(models[:1], bn=False, source="dafl_mixmix")
        pool = models[1:] or models
        need_models(pool, bn=True, source="dafl_mixmix")
        if len(pool) < params.mix:
            raise NotApplicable(
                f"mix={params.mix} networks per step, but there are {len(pool)} beside the teacher"
                if models[1:]
                else f"mix={params.mix} networks per step, but there is only the teacher",
                where="dafl_mixmix",
                expected=f"mix of 1 to {len(pool)}",
                hint="name a zoo: {dafl_mixmix: {zoo: full, mix: 3}}",
            )

    def build(self, request: SynthRequest, ctx: RunContext, params: DaflMixMixParams) -> GeneratorTrainer:
        """Draw the generator's start weights.

        Raises:
            NotApplicable: the teacher does not end in a classifier.
        """
        from methods.sources._dafl_mixmix_objective import DaflMixMixObjective
        from methods.sources._generator_loop import GeneratorTrainer
        from methods.sources._generators import Body, ImageGenerator
        from methods.sources._objectives import Network

        spec, rng = request.dataset, ctx.generator
        generator = ImageGenerator(Body(params.latent, spec.shape, params.width, params.eps, rng))
        teacher, *zoo = (Network(handle, spec, ctx) for handle in request.models)
        objective = DaflMixMixObjective(teacher, zoo or [teacher], spec, params, rng)
        return GeneratorTrainer(generator, objective, params, ctx, unit_macs=request.unit_macs, classes=spec.classes)


METHOD = DaflMixMix()
