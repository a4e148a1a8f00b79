"""PSAQ-ViT (Li et al., ECCV 2022): images whose patches differ from each other in every self-attention.

Self-attention tells the foreground of an image from its background, so that similarities of an image's patches spread
over many values; for noise they pile up.  With G_l the cosine similarities of the patches in attention l and f_l their
kernel density, L = - sum_l H_l + a1 CE(A(X), Y) + a2 TV, H_l = - ∫ f_l log f_l
(docs/methods/sources.md#psaq_vit).  No statistics are matched, so the network needs no batch norm.

Left open by the paper, chosen as its authors' public settings have it: Gaussian kernels; the outputs of the heads,
averaged over heads and before the projection, as a patch's features; the class token left out; |TV - t| for TV, with t
one random number per batch (2500 to 3000 for 32 images of 224 pixels, which are 1.14 to 1.37 in root mean squares of
the four differences); a1 = 1, a2 = 0.05; Adam with betas 0.5 and 0.9, rate 0.2 (0.25 for Swin), 1,000 steps; shifts and
flips.

Known deviations:
- A similarity counts once for each pair, without those of a patch with itself, which are 1: a constant part of f.
- ``mini`` and ``thorough`` integrate over 32 points with kernels of 0.05, which resolves them; ``paper`` has 10 points
  with kernels of 0.01, as published, on which the integral is coarse.  The points reach three kernels beyond the
  extremes.
- One cosine over all steps with shifts of 30 pixels (published: two of 500, with 15 and 30), and shifts draw rows and
  columns each for themselves.
- ``mini`` and ``thorough`` have balanced labels; the published draws are uniform.
- Windows of shifted-window attention are compared each within itself.  Attention that shows no heads
  (`nn.MultiheadAttention`, torchvision's shifted windows) gives its output behind the projection.
- Weights and steps of ``mini`` and ``thorough`` are not tuned.
Forward-equivalents count layers alone, here as everywhere: not the products inside attention, nor the densities.
Paper's figures (Table 1, ImageNet, from memory, not checked again): DeiT-T W4A8 65.57, W8A8 71.56; DeiT-B W8A8 79.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from bench.interfaces import ImageBatch, MethodParams, ModelHandle, RunContext, SynthRequest
from methods.sources._settings import Beta, InversionParams, LabelLaw, Terms, TvNorm
from methods.sources._single import RolledSource

if TYPE_CHECKING:
    from methods.sources._objectives import Prepared

Rough = Annotated[float, Field(ge=0)]


class PsaqVitParams(InversionParams):
    """Weights ``entropy``, ``ce`` and ``tv``; ``bandwidth`` of the kernels and ``points`` of the integral; ``tv_range``
    the total variation to be met is drawn from, the sum of the four directions' root mean squares in normalised space;
    views (``roll`` pixels, ``flip``), ``warmup`` steps, ``labels`` law."""

    iterations: int = Field(1000, ge=1)
    lr: float = Field(0.2, gt=0)
    betas: tuple[Beta, Beta] = (0.5, 0.9)
    entropy: float = Field(1.0, ge=0)
    ce: float = Field(1.0, ge=0)
    tv: float = Field(0.05, ge=0)
    tv_norm: TvNorm = "batch"
    tv_range: tuple[Rough, Rough] = (1.14, 1.37)
    bandwidth: float = Field(0.05, gt=0)
    points: int = Field(32, ge=2)
    roll: int = Field(4, ge=0)
    flip: bool = True
    warmup: int = Field(0, ge=0)
    restart: bool = False
    labels: LabelLaw = "balanced"

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.tv_range[0] > self.tv_range[1]:
            raise ValueError(f"tv_range {self.tv_range} ends below its beginning")
        return self


class PsaqVit(RolledSource):
    """DataSource ``psaq_vit``."""

    version = 1
    summary = "patches that differ from each other in self-attention; for vision transformers (PSAQ-ViT)"
    paper = "Li et al., Patch Similarity Aware Data-Free Quantization for Vision Transformers, ECCV 2022"
    needs = frozenset({"attention"})
    Params: type[MethodParams] = PsaqVitParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {"iterations": 200, "batch": 64, "warmup": 20},
        "thorough": {"iterations": 1000, "batch": 64, "warmup": 100},
        "paper": {
            "iterations": 1000,
            "batch": 32,
            "roll": 30,
            "warmup": 100,
            "bandwidth": 0.01,
            "points": 10,
            "labels": "uniform",
        },
    }

    def terms(self, params: PsaqVitParams) -> Terms:
        """CE; the rest is the objective's own."""
        return Terms(ce_weight=params.ce)

    def check(self, params: PsaqVitParams, models: tuple[ModelHandle, ...]) -> None:
        """Raise NotApplicable without a network, or with one without self-attention."""
        from methods.sources._objectives import need_models
        from methods.sources._psaq_vit_objective import need_attention

        need_models(models, bn=False, source="psaq_vit")
        for handle in models:
            need_attention(handle.module, handle.name)

    def prepare(self, request: SynthRequest, ctx: RunContext) -> Prepared:
        """As every one-network source, with the attentions' taps on the private copy."""
        from methods.sources._psaq_vit_objective import PatchObjective

        prepared = super().prepare(request, ctx)
        return replace(prepared, objective=PatchObjective(prepared, request.params, ctx.generator))

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Invert one batch; the record has the entropy of the clean result and the number of attentions."""
        from methods.sources._objectives import run
        from methods.sources._psaq_vit_objective import PatchObjective

        prepared = self.prepare(request, ctx)
        objective = prepared.objective
        assert isinstance(objective, PatchObjective)

        def extra() -> dict[str, Any]:
            return {
                "attentions": objective.attentions,
                "patch_entropy": objective.seen(),
                "tv_target": objective.target,
            }

        return run(prepared, ctx, extra)


METHOD = PsaqVit()
