"""How the networks that images were made from read them: once per stored batch, and kept beside it
(bench/store/image_gate.py)."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import Tensor

from bench.data.datasets import renormalise
from bench.errors import NotApplicable
from bench.interfaces import ImageBatch, ModelHandle, Tier
from bench.measure.images import bn_loss, zoo_top1
from bench.run.worker import Bench
from bench.spec.jobs import SynthJob
from bench.store.image_gate import OwnReading

IMAGES = 256
"""Images of a batch that are looked at; a batch is one synthesis, so more tell little."""

ONE_CLASS = 0.9
"""Share of a soft label's largest class from which on it names that class alone; a mixture of classes has no top-1."""

INVERTING: tuple[Tier, ...] = ("T2a", "T2b")
"""Tiers of sources that make images from networks alone."""

_LARGEST = 1e30  # in place of what is not finite, which JSON cannot hold


def own_readings(bench: Bench, job: SynthJob, batch: ImageBatch) -> list[dict[str, Any]]:
    """A reading (JSON) by each network the batch was made from; none for controls and sources that invert nothing.

    The networks are those the source says it used for this batch, else all it was given.
    """
    if job.source.control != "none" or job.source.access not in INVERTING:
        return []
    used = batch.info.get("models") or ()
    names = [name for name in job.models if name in used] or list(job.models)
    images = batch.images[:IMAGES].to(bench.device)
    # the source noise's law, from a seed of its own: the same for all sets, and no set's draws depend on it
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(bench.device)
    labels = _labels(batch) if job.source.label_kind == "assigned" else None
    found = []
    for network in map(bench.model, names):
        shown, beside = (renormalise(part, job.dataset, network) for part in (images, noise))
        found.append(_reading(network, shown, beside, labels).model_dump(mode="json"))
    return found


def _labels(batch: ImageBatch) -> Tensor | None:
    """The labels [n] of the images that are looked at, -1 for a mixture of classes."""
    if batch.labels is None:
        return None
    labels = batch.labels[:IMAGES].cpu()
    if batch.soft_labels is None:
        return labels
    return torch.where(batch.soft_labels[:IMAGES].cpu().amax(1) >= ONE_CLASS, labels, -1)


def _reading(network: ModelHandle, images: Tensor, noise: Tensor, labels: Tensor | None) -> OwnReading:
    """One network's reading of images and noise [n,C,H,W] in its own constants."""
    top1: float | None = None
    labelled = 0
    if labels is not None:
        rows = torch.nonzero(labels >= 0).flatten()
        labelled = len(rows)
        if labelled:
            top1 = zoo_top1({network.name: network.module}, images[rows.to(images.device)], labels[rows]).mean
    losses: list[float | None] = [None, None]
    with contextlib.suppress(NotApplicable):  # no statistics to compare with
        losses = [_finite(bn_loss(network.module, part).u1) for part in (images, noise)]
    return OwnReading(
        network=network.name, n=len(images), labelled=labelled, top1=top1, bn_loss=losses[0], noise_bn_loss=losses[1]
    )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else _LARGEST
