"""MixMix (Li et al., ICCV 2021): feature mixing over several networks, and data mixing of image pairs.

For a batch with the networks S, |S| = m' (``mix``), drawn once without replacement (algorithm 1), minimise
(1/m') sum_j [ CE_mix(A_j(Xh)) + BN_j(Xh) ] + prior(X) with Xh = DataMix(Aug(X)): equations 2 (statistics), 6 (feature
mixing), 7-8 (box and mixture) and 9 (mixed labels); weights are learned by equation 8 of the *appendix*: every term is
divided by its own first value, then (1/m') sum_t Lh_t / a_t^2 + a_t^2 is minimised over images and a.  The average
cancels among these terms, but not against the prior outside them, whose share would otherwise fall with m'.
Deviations and suite choices (the paper is silent; docs/methods/sources.md#mixmix, #unverified): box position uniform
inside the image, one box per batch and iteration (``mini`` and ``thorough``: one per image), sides of at least 2
pixels; partner by a random cyclic shift; jitter strength 0.2 (``mini`` and ``thorough``: none); a_t starts at 1, moves
by Adam with rate 1e-3 / (iterations/5000) and is held at 0.05 or above; the prior keeps fixed weights outside eq. 8
(``learn_prior`` moves it inside); one cosine and one Adam over both stages. ``weights=fixed`` weighs the statistics
0.1, as ``deepinversion`` here. At 32 pixels there is no half-size stage by default (maps of 16-pixel views collapse).
Paper's figures (ImageNet): W4A4 BRECQ ResNet-50 74.58, MobileNet-b 65.38, MobileNetV2 64.01, MNasNet 57.87; W2A4
ResNet-50 66.49 (Table 3); zoo top-1 96.95 ± 1.53, inception score 92.9 (Table 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from bench.errors import NotApplicable
from bench.interfaces import ImageBatch, MethodParams, ModelHandle, RunContext, SynthRequest, Tier
from methods.sources._base import Defaults
from methods.sources._settings import Beta, InversionParams, LabelLaw, LoopSettings, TvNorm, alpha_rate

if TYPE_CHECKING:
    from methods.sources._objectives import Prepared


class MixMixParams(InversionParams):
    """``mix`` is m'. Data mixing (``box`` range of its sides), statistics on or off, loss weights, views, schedule.

    ``ce_weight`` and ``bn_weight`` act with ``weights=fixed`` only: eq. 8's normalisation cancels them.  ``alpha_lr``
    None is 1e-3 divided by the budget iterations/5000, because Adam moves a weight by about that much an iteration.
    """

    iterations: int = Field(1500, ge=1)
    batch: int = Field(64, ge=1)
    lr: float = Field(0.25, gt=0)
    betas: tuple[Beta, Beta] = (0.5, 0.5)
    mix: int = Field(3, ge=1)
    data_mixing: bool = True
    box: tuple[float, float] = (0.1, 0.4)
    per_sample: bool = False
    antialias: bool = False
    bn: bool = True
    weights: Literal["learned", "fixed"] = "learned"
    ce_weight: float = Field(1.0, ge=0)
    bn_weight: float = Field(0.1, ge=0)
    alpha_lr: float | None = Field(None, gt=0)
    learn_prior: bool = False
    tv: float = Field(1e-4, ge=0)
    l2: float = Field(1e-5, ge=0)
    tv_norm: TvNorm = "batch"
    jitter: float = Field(0.2, ge=0, lt=1)
    flip: bool = True
    roll: int = Field(0, ge=0)
    warmup: int = Field(0, ge=0)
    restart: bool = False
    labels: LabelLaw = "uniform"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not 0 < self.box[0] <= self.box[1] <= 1:
            raise ValueError(f"box must be a range within (0, 1], got {self.box}")
        if self.data_mixing and self.batch < 2:
            raise ValueError("data mixing needs a batch of at least 2 images")
        if self.learn_prior and self.weights != "learned":
            raise ValueError("learn_prior needs weights=learned")
        return self

    def resolved_alpha_lr(self) -> float:
        """Rate of the loss weights."""
        return alpha_rate(self.alpha_lr, self.iterations)


class MixMix(Defaults):
    """DataSource ``mixmix``."""

    version = 4
    summary = "class images from several networks at once, with mixed pairs (MixMix)"
    paper = "Li et al., MixMix: All You Need for Data-Free Compression Are Feature and Data Mixing, ICCV 2021"
    Params: type[MethodParams] = MixMixParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {"iterations": 400, "batch": 32, "mix": 3, "per_sample": True, "jitter": 0.0},
        "thorough": {"iterations": 1500, "batch": 64, "per_sample": True, "jitter": 0.0},
        "paper": {"iterations": 5000, "half_iterations": 2500, "batch": 8},
    }
    access: Tier = "T2b"
    models = "zoo"

    def batch_size(self, params: Any) -> int:
        """Images per batch, which share their networks."""
        return int(params.batch)

    def check(self, params: Any, models: tuple[ModelHandle, ...]) -> None:
        """Raise NotApplicable with fewer networks than ``mix``, or one without batch norms while they are matched."""
        from methods.sources._objectives import need_models

        need_models(models, bn=params.bn, source="mixmix")
        if len(models) < params.mix:
            raise NotApplicable(
                f"mix={params.mix} networks per batch, but the zoo has {len(models)}",
                where="mixmix",
                expected=f"mix of 1 to {len(models)}",
            )

    def prepare(self, request: SynthRequest, ctx: RunContext) -> Prepared:
        """Draw networks, labels and start images; nothing is optimised yet."""
        import torch

        from methods.sources._augment import Augment, PixelSpace
        from methods.sources._mixmix_objective import MixMixObjective
        from methods.sources._objectives import Network, Prepared, draw_labels, start_images

        params: MixMixParams = request.params
        self.check(params, request.models)
        chosen = torch.randperm(len(request.models), generator=ctx.generator)[: params.mix].tolist()
        networks = tuple(Network(request.models[i], request.dataset, ctx) for i in chosen)
        labels = draw_labels(
            params.labels, request.batch_size, request.dataset.classes, request.batch_index, ctx.generator
        ).to(ctx.device)
        space = PixelSpace.of(request.dataset)
        augment = Augment(space, roll=params.roll, flip=params.flip, jitter=params.jitter)
        return Prepared(
            networks=networks,
            objective=MixMixObjective(networks, labels, params, augment, ctx.generator),
            settings=LoopSettings.warmed(params),
            augment=augment,
            init=start_images((request.batch_size, *request.dataset.shape), ctx),
            labels=labels,
            unit_macs=request.unit_macs,
        )

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Invert one batch; the record holds its networks and the final loss weights."""
        from methods.sources._mixmix_objective import MixMixObjective
        from methods.sources._objectives import run

        prepared = self.prepare(request, ctx)
        objective = prepared.objective
        assert isinstance(objective, MixMixObjective)
        return run(prepared, ctx, lambda: {"alphas": objective.alphas()})


METHOD = MixMix()
