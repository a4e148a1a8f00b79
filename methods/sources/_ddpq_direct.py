"""DDPQ's labels on images that are optimised themselves, by DeepInversion's loop (docs/methods/sources.md#ddpq)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.interfaces import ImageBatch, RunContext, SynthRequest
from methods.sources._augment import Augment, PixelSpace
from methods.sources._ddpq_labels import Law, described, similarity
from methods.sources._features import Head
from methods.sources._generators import Codes
from methods.sources._objectives import (
    Network,
    Prepared,
    SingleObjective,
    draw_labels,
    run,
    start_images,
    weighed,
)
from methods.sources._settings import LoopSettings, Prior, Terms

if TYPE_CHECKING:
    from methods.sources.ddpq import DdpqParams


class SoftObjective(SingleObjective):
    """Cross-entropy with soft labels [B,C] in the class term's place."""

    def __init__(
        self, network: Network, soft: Tensor, anchors: Tensor, terms: Terms, augment: Augment, ctx: RunContext
    ):
        super().__init__(network, anchors, terms, augment, ctx.generator)
        self.soft = soft

    def _class_terms(self, logits: Tensor) -> dict[str, Tensor]:
        return {"ce": self.terms.ce_weight * F.cross_entropy(logits, self.soft)}


def optimised(request: SynthRequest, ctx: RunContext) -> ImageBatch:
    """One batch of images, inverted from the network for soft labels, statistics and prior, with one more look at the
    result for the achieved difficulty.

    Raises:
        NotApplicable: the network does not end in a classifier, or has fewer classes than are asked for.
        NonFiniteLoss: the loss left the finite numbers twice.
    """
    params, spec = request.params, request.dataset
    network = Network(request.models[0], spec, ctx)
    init = start_images((request.batch_size, *spec.shape), ctx)
    anchors = draw_labels("balanced", request.batch_size, spec.classes, request.batch_index, ctx.generator)
    alike = similarity(Head(network, spec.shape, spec.classes).weight, params.similarity)
    law = Law(params, alike, 0, ctx.generator)
    soft = _soft(law, anchors).to(ctx.device)
    augment = Augment(PixelSpace.of(spec), roll=params.pixel_roll, flip=True)
    batch = run(
        Prepared(
            networks=(network,),
            objective=SoftObjective(
                network, soft, anchors.to(ctx.device), weighed(_terms(params), network, init), augment, ctx
            ),
            settings=LoopSettings(
                iterations=params.pixel_iterations,
                half_iterations=params.pixel_half_iterations,
                lr=params.pixel_lr,
            ),
            augment=augment,
            init=init,
            labels=anchors.to(ctx.device),
            unit_macs=request.unit_macs,
        ),
        ctx,
    )
    with torch.no_grad():
        logits, _ = network(batch.images.to(ctx.device))
    looks = len(batch.images) * network.macs / request.unit_macs
    return replace(
        batch,
        soft_labels=soft.cpu(),
        forward_equivalents=batch.forward_equivalents + looks,
        info={**batch.info, **described(soft, anchors, logits, law)},
    )


def _soft(law: Law, anchors: Tensor) -> Tensor:
    classes, shares = law.labels(anchors)
    return Codes(shares[:, :, None], classes, shares).soft(law.classes)


def _terms(params: DdpqParams) -> Terms:
    return Terms(
        bn="l2norm",
        bn_weight=params.pixel_bn_weight,
        kappa=params.pixel_kappa,
        ce_weight=1.0,
        prior=Prior(tv_l2=params.pixel_tv),
    )
