"""What a source that changes another's images must keep to, and the batch it is given in a test."""

from __future__ import annotations

from typing import Any

import torch

from bench.interfaces import DatasetSpec, ImageBatch
from tests.contracts import kit
from tests.sources.toy import GREY

COUNT = 8


def given_batch(index: int, dataset: DatasetSpec, label_kind: str) -> ImageBatch:
    """What another source made: images of their own for each index."""
    generator = torch.Generator().manual_seed(index)
    labels = torch.arange(COUNT) % dataset.classes if label_kind != "none" else None
    images = torch.randn(COUNT, *dataset.shape, generator=generator)
    return ImageBatch(images, labels, None, float(COUNT), {"models": ["other"]})


def filters_change_what_they_are_given(case: Any) -> None:
    """Other images, the given batch's labels, its record as "of", its cost and more; that batch stays as it is."""
    if "filter" not in case.method.offers:
        return
    for label_kind in ("none", "assigned"):
        given = given_batch(0, GREY, label_kind)
        before = {name: kit.bits_of(value) for name, value in vars(given).items()}
        made = case.make(case.request(given=given)).batch
        assert {name: kit.bits_of(value) for name, value in vars(given).items()} == before, (
            "the given batch was changed"
        )
        assert made.images.shape == given.images.shape
        assert kit.checksum(made.images) != before["images"], "nothing was changed"
        assert kit.bits_of(made.labels) == before["labels"], "the labels are not those of the images"
        assert made.soft_labels is None
        assert made.info.get("of") == given.info, "what the images were made from is lost"
        assert made.info.get("models") == given.info["models"], "which networks made the images is lost"
        assert made.forward_equivalents >= given.forward_equivalents, "the images came at a cost"
        other = case.make(case.request(given=given_batch(1, GREY, label_kind))).batch
        assert kit.checksum(other.images) != kit.checksum(made.images), "other images make no difference"
