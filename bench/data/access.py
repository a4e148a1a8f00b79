"""Who may read what: the handle a method gets denies any read beyond its tier and records every one
(docs/architecture.md#rule-3).

There is no way to the test split from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.data.datasets import Dataset, batches_of, images_at, labels_of, whole
from bench.errors import AccessDenied, DataError
from bench.interfaces import TIERS, Tier


def balanced_order(labels: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """A random order int64 [N'] in which every ``classes`` images hold each class once, as long as all classes last."""
    per_class = []
    for c in range(classes):
        found = torch.nonzero(labels == c).flatten()
        per_class.append(found[torch.randperm(len(found), generator=generator)])
    shortest = min(len(p) for p in per_class)
    return torch.stack([p[:shortest] for p in per_class], dim=1).flatten()


class DataAccess:
    """A method's only door to data.

    Args:
        dataset: the suite's data set; images come out in its constants.
        tier: what the method declared; reads beyond it raise AccessDenied.
        unrelated: the data set that serves as another domain, None when there is none.
    """

    def __init__(self, dataset: Dataset, tier: Tier, unrelated: Dataset | None = None) -> None:
        self._dataset = dataset
        self._tier = tier
        self._unrelated = unrelated
        self.audit: list[dict[str, Any]] = []

    def train_images(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, list[int]]:
        """``count`` class-balanced training images (normalised [n,C,H,W]), labels [n] and their indices. Tier T5 up.

        Raises:
            AccessDenied: the method's tier is below T5.
            DataError: fewer images than asked for.
        """
        self._allow("T5", "labelled training images", count)
        split = self._dataset.train()
        labels = labels_of(split)
        picks = self._pick("train", balanced_order(labels, self._dataset.spec.classes, generator), count)
        return self._dataset.normalised_at(split, picks), labels[picks], [int(i) for i in picks]

    def unlabelled_images(self, count: int, generator: torch.Generator) -> tuple[Tensor, list[int]]:
        """``count`` training images drawn without a look at the labels (normalised [n,C,H,W]) and their indices. Tier
        T4 up.

        Raises:
            AccessDenied: the method's tier is below T4.
            DataError: fewer images than asked for.
        """
        self._allow("T4", "unlabelled training images", count)
        split = self._dataset.train()
        order = torch.randperm(len(split.labels), generator=generator)
        picks = self._pick("train, unlabelled", order, count)
        return self._dataset.normalised_at(split, picks), [int(i) for i in picks]

    def training_set(self) -> tuple[Tensor, Tensor]:
        """The complete training set: uint8 [N,C,H,W] and labels [N], as copies. Tier T6.

        For a set that fits into memory; `training_batches` reads as it goes.

        Raises:
            AccessDenied: the method's tier is below T6.
            DataError: the complete set is not on this machine.
        """
        self._allow("T6", "the complete training set", 0)
        images, labels = whole(self._dataset.full_train())
        self._record("complete training set", len(labels), torch.arange(len(labels)))
        return images, labels

    def training_batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the complete training set in random order, read as it goes: uint8 [B,C,H,W] and labels [B], the
        last batch shorter where the count asks for it. Tier T6.

        Raises:
            AccessDenied: the method's tier is below T6.
            DataError: the complete set is not on this machine; while the batches come, an image cannot be read.
        """
        self._allow("T6", "the complete training set", 0)
        split = self._dataset.full_train()
        order = torch.randperm(len(split.labels), generator=generator)
        self._record("complete training set", len(order), order)
        return batches_of(split, size, order)

    def unrelated_images(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` images of another domain in this data set's shape and constants, float32 [n,C,H,W]. Tier T3 up.

        Raises:
            AccessDenied: the method's tier is below T3.
            DataError: there is no other domain, or it has too few images.
        """
        self._allow("T3", "unrelated images", count)
        if self._unrelated is None:
            raise DataError(
                "no data set of another domain is named", expected="a data set of unrelated images, e.g. digits"
            )
        split = self._unrelated.train()
        order = torch.randperm(len(split.labels), generator=generator)
        picks = self._pick(self._unrelated.spec.name, order, count)
        channels, height, width = self._dataset.spec.shape
        found = images_at(split, picks).float()
        if found.shape[1] != channels:
            found = found.mean(1, keepdim=True).expand(-1, channels, -1, -1)
        if found.shape[2:] != (height, width):
            found = F.interpolate(found, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
        return self._dataset.normalise(found)

    def _allow(self, needed: Tier, what: str, count: int) -> None:
        if TIERS.index(self._tier) < TIERS.index(needed):
            self.audit.append({"read": what, "count": count, "denied": True})
            raise AccessDenied(
                f"a method of tier {self._tier} may not read {what}", expected=f"tier {needed} or beyond"
            )

    def _pick(self, split: str, order: Tensor, count: int) -> Tensor:
        """The first ``count`` of ``order``, recorded."""
        if not 0 < count <= len(order):
            raise DataError(f"no such number of images ({split})", got=count, expected=f"1 to {len(order)}")
        self._record(split, count, order[:count])
        return order[:count]

    def _record(self, split: str, count: int, picks: Tensor) -> None:
        digest = hashlib.sha256(picks.numpy().tobytes()).hexdigest()[:16]
        self.audit.append({"read": split, "count": count, "indices": digest, "denied": False})
