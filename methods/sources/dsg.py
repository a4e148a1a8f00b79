"""Diverse Sample Generation (Zhang et al., CVPR 2021): slack statistics, and a layer of its own for every image.

Slack distribution alignment: with N(0,1) images the network's statistics are mu0 and sd0; delta_i and gamma_i are the
``quantile`` over layer i's channels of |mu0_i - muh_i| and |sd0_i - sh_i|.  Per image l_i = ||max(|mu - muh| - delta_i,
0)||^2 + ||max(|sd - sh| - gamma_i, 0)||^2.  Layerwise sample enhancement: image b minimises sum_i l_i + l_(b mod L),
that is rows of ones(B,L) + onehot(b mod L); the batch's loss is their mean (docs/methods/sources.md#dsg).
Deviations and what is unverified (docs/methods/sources.md#unverified): the authors load thresholds from unpublished
files; the recipe, the quantile 0.9 and the 1,024 noise images are from memory of the paper. Their code doubles before
squaring (enhancement times 4) and takes an absolute value inside the hinge; the formulas are followed. b counts through
the whole image set, so a batch need not have L images (theirs are fixed at 40 or 64; here 64, above the depth of most
networks). The plateau's patience is 260 of 500 iterations. The bands of N(0,1) noise at the quantile 0.9 are wide: on
our ResNet-18 the loss falls by three orders of magnitude while the pooled BN loss ends at 64 (noise 108, ``zeroq`` 10).
``journal`` adds the extended version's class term (counted twice, random targets that are not handed on), 0.01 TV and
0.01 l2 priors and uniform start, but neither its spectral diversity term, whose form is in no reference at hand, nor
the roll of the prior's copy.
Paper's figure: MixMix does not measure it.
Ours, on the networks before their second training cycle (suite ``sources_all``, 128 images, 60,000 passes, BRECQ, one
seed; MobileNetV2 and ResNet-18): W2A4 61.7 and 84.2, W4A4 87.1 and 90.2 (real 82.7, 89.7, 82.3, 91.0; noise 25.5, 50.9,
74.0, 90.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.interfaces import ImageBatch, LabelKind, MethodParams, RunContext, SynthRequest
from methods.sources._settings import InversionParams, LabelLaw, LoopSettings, Prior, Terms
from methods.sources._single import SingleSource

if TYPE_CHECKING:
    from torch import Tensor

    from methods.sources._augment import Augment, PixelSpace
    from methods.sources._objectives import Prepared


class DsgParams(InversionParams):
    """Slack ``quantile`` (eps) from ``noise_images``, or none; ``enhance`` one layer per image; ``patience``."""

    iterations: int = Field(500, ge=1)
    batch: int = Field(64, ge=1)
    lr: float = Field(0.5, gt=0)
    clip: bool = False
    slack: bool = True
    quantile: float = Field(0.9, ge=0, le=1)
    noise_images: int = Field(1024, ge=1)
    enhance: bool = True
    journal: bool = False
    patience: int | None = Field(None, ge=1)


class Dsg(SingleSource):
    """DataSource ``dsg``."""

    version = 1
    summary = "batch-norm statistics per image within a slack, each image with a layer of its own (DSG)"
    paper = "Zhang et al., Diversifying Sample Generation for Accurate Data-Free Quantization, CVPR 2021"
    Params: type[MethodParams] = DsgParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {"iterations": 200, "batch": 64},
        "thorough": {"iterations": 500, "batch": 64},
        "paper": {"iterations": 500, "batch": 40, "lr": 0.9},
    }
    label_kind: LabelKind = "none"

    def terms(self, params: DsgParams) -> Terms:
        """Statistics per image; with ``journal`` the class term and priors."""
        extra = params.journal
        prior = Prior(tv_l2=0.01, l2=0.01) if extra else Prior()
        return Terms(bn="sq_std_image", bn_weight=1.0, ce_weight=2.0 if extra else 0.0, prior=prior)

    def augment(self, params: DsgParams, space: PixelSpace) -> Augment:
        """None."""
        from methods.sources._augment import Augment

        return Augment(space)

    def settings(self, params: DsgParams) -> LoopSettings:
        """Adam on a plateau schedule, stepped every iteration."""
        return LoopSettings.plateau(params, params.patience or max(1, params.iterations * 260 // 500))

    def label_law(self, params: DsgParams) -> LabelLaw | None:
        """Random targets for ``journal`` only."""
        return "uniform" if params.journal else None

    def start(self, request: SynthRequest, ctx: RunContext) -> Tensor:
        """N(0,1); U(0,1) with ``journal``, as in the authors' code."""
        if not request.params.journal:
            return super().start(request, ctx)
        import torch

        shape = (request.batch_size, *request.dataset.shape)
        return torch.rand(shape, generator=ctx.generator).to(ctx.device)

    def prepare(self, request: SynthRequest, ctx: RunContext) -> Prepared:
        """As every one-network source, with bands from noise that all batches of a set share."""
        import torch

        from methods.sources._dsg_slack import SlackObjective, enhancement, noise_statistics
        from methods.sources._losses import Slack, slack_bands

        prepared, params = super().prepare(request, ctx), request.params
        network = prepared.networks[0]
        objective = SlackObjective(network, prepared.labels, self.terms(params), prepared.augment, ctx.generator)
        generator = torch.Generator().manual_seed(request.set_seed)
        count = params.noise_images if params.slack else 1
        mean, var, layout = noise_statistics(network, request.dataset.shape, count, generator)
        zero = torch.zeros(layout.taps, device=ctx.device)
        objective.slack = slack_bands(mean, var, layout, params.quantile) if params.slack else Slack(zero, zero)
        if params.enhance:
            start = request.batch_index * request.batch_size
            objective.weights = enhancement(request.batch_size, layout.taps, start).to(ctx.device)
        return replace(prepared, objective=objective)

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Optimise one batch; the record holds the bands of every layer."""
        from methods.sources._dsg_slack import SlackObjective
        from methods.sources._objectives import run

        prepared, params = self.prepare(request, ctx), request.params
        assert isinstance(prepared.objective, SlackObjective)
        slack = prepared.objective.slack
        bands = {"delta": slack.mean.tolist(), "gamma": slack.deviation.tolist()}
        made = run(prepared, ctx, lambda: bands)
        noise = params.noise_images if params.slack else 0
        return replace(made, labels=None, forward_equivalents=made.forward_equivalents + noise)


METHOD = Dsg()
