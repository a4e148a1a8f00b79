"""Image sets under the hash of what produced them: one file per batch, written atomically, checked on every read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.errors import StoreError
from bench.interfaces import ImageBatch, ImageSet, LabelKind
from bench.store.meta import ArtifactMeta, batch_name, check_batch, header_digest, header_meta, read_header
from bench.store.objects import ObjectStore, damaged
from bench.store.tensors import digest_of, pack, unpack

_TENSORS = ("images", "labels", "soft_labels")


class ArtifactStore:
    """``ROOT/artifacts/<2 hex>/<synth_id>/<batch>.safetensors``; a batch's metadata lies in its file's header.

    One file per batch, so that a batch is there as a whole or not at all.  ``objects`` is the store beneath.

    Raises:
        StoreError: the folder cannot be written, or a newer version wrote it.
    """

    def __init__(self, root: Path | str) -> None:
        self.objects = ObjectStore(root)
        self.root = self.objects.root

    def has(self, synth_id: str, index: int) -> bool:
        """Whether the batch is stored; not whether it is intact, which :meth:`read` tells."""
        return self.objects.has(synth_id, batch_name(index))

    def missing(self, synth_id: str, batches: int) -> list[int]:
        """Indices below ``batches`` that are to be made; no file is opened."""
        return [index for index in range(batches) if not self.has(synth_id, index)]

    def making(
        self, synth_id: str, index: int, waiting: Callable[[], None] | None = None
    ) -> AbstractContextManager[bool]:
        """Whether the caller is to make the batch; until the block ends nobody else does (:meth:`ObjectStore.making`).

        Args:
            waiting: called every few seconds while another process makes it; what it raises ends the wait.

        Raises:
            StoreError: the lock file cannot be made.
        """
        return self.objects.making(synth_id, batch_name(index), waiting)

    def lock(self, synth_id: str, index: int, timeout: float = -1) -> AbstractContextManager[None]:
        """One writer per batch, across processes; re-entrant within one store object (:meth:`ObjectStore.lock`).

        Raises:
            StoreError: not free within ``timeout`` seconds (-1 waits for ever), or the lock file cannot be made.
        """
        return self.objects.lock(synth_id, batch_name(index), timeout)

    def write_batch(self, synth_id: str, index: int, batch: ImageBatch, meta: ArtifactMeta) -> str:
        """Store a batch; returns the digest of its tensors. A batch that is stored already stays as it is.

        Raises:
            StoreError: tensors that are no image batch or not finite; a folder that cannot be written.
        """
        where, name = f"{synth_id} batch {index}", batch_name(index)
        tensors = checked(batch, where)
        digest = digest_of(tensors, _TENSORS)
        if self.objects.write(synth_id, name, pack(tensors, digest, meta, where)):
            return digest
        path = self.objects.path(synth_id, name)
        return header_digest(read_header(path), path)

    def read(self, synth_id: str, count: int, label_kind: LabelKind) -> ImageSet:
        """The first ``count`` images: float32 [count, C, H, W], labels int64 [count] or None, soft [count, K] or None.

        ``ImageSet.info``: "source", "version", "models", "batches" (each batch's info), "curves" (each batch's, under
        ``NAME/batch``), "cost" (summed over the batches read), "provenance". The set's digest covers shape, images and
        labels of the prefix.

        Raises:
            LostArtifact: a batch is missing or (DamagedArtifact) damaged.
            StoreError: batches do not fit together.
        """
        if count < 1:
            raise ValueError(f"count must be positive, not {count}")
        parts: list[dict[str, Tensor]] = []
        metas: list[ArtifactMeta] = []
        have = 0
        for index in itertools.count():
            tensors, meta = self._load(synth_id, index)
            if parts and tensors.keys() != parts[0].keys():
                path = self.objects.path(synth_id, batch_name(index))
                raise StoreError("batches of one set differ in their labels", where=str(path))
            parts.append(tensors)
            metas.append(meta)
            have += len(tensors["images"])
            if have >= count:
                break
        joined = {name: torch.cat([part[name] for part in parts])[:count].contiguous() for name in parts[0]}
        return ImageSet(
            images=joined["images"],
            labels=joined.get("labels"),
            soft_labels=joined.get("soft_labels"),
            label_kind=label_kind,
            digest=digest_of(joined, _TENSORS),
            synth_id=synth_id,
            info=_summary(metas),
        )

    def batch(self, synth_id: str, index: int) -> tuple[ImageBatch, ArtifactMeta]:
        """One batch as it was stored, and its metadata.

        Raises:
            LostArtifact: the batch is missing or (DamagedArtifact) damaged.
        """
        tensors, meta = self._load(synth_id, index)
        labels, soft, passes = tensors.get("labels"), tensors.get("soft_labels"), meta.cost.get("forward_equivalents")
        return ImageBatch(tensors["images"], labels, soft, passes or 0.0, meta.info), meta

    def meta(self, synth_id: str, index: int) -> ArtifactMeta:
        """Metadata of one batch without reading its tensors.

        Raises:
            LostArtifact: the batch is missing or (DamagedArtifact) its header damaged.
        """
        path = self.objects.path(synth_id, batch_name(index))
        return header_meta(read_header(path), path)

    def set_aside(self, synth_id: str, index: int) -> bool:
        """Give a batch that is damaged another name, so that it is made anew; returns whether it was (still) damaged.

        Raises:
            StoreError: the folder cannot be written.
        """
        return self.objects.set_aside(synth_id, batch_name(index), lambda: self._load(synth_id, index))

    def sweep(self) -> int:
        """Delete the temporary files of writers that are gone; returns how many (:meth:`ObjectStore.sweep`)."""
        return self.objects.sweep()

    def _load(self, synth_id: str, index: int) -> tuple[dict[str, Tensor], ArtifactMeta]:
        name = batch_name(index)
        path = self.objects.path(synth_id, name)
        tensors, meta = unpack(self.objects.read(synth_id, name), _TENSORS, path)
        try:
            check_batch({key: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for key, t in tensors.items()})
        except ValueError as error:
            raise damaged(path, error) from error
        return tensors, meta


def checked(batch: ImageBatch, where: str) -> dict[str, Tensor]:
    """The batch's tensors on the CPU, contiguous, in the stored types.

    Raises:
        StoreError: no image batch, not finite, or another number of labels than images.
    """
    images, labels, soft = batch.images, batch.labels, batch.soft_labels
    if images.ndim != 4 or not images.is_floating_point():
        raise StoreError("is no image batch", where=where, got=f"{images.dtype} {tuple(images.shape)}")
    if not bool(torch.isfinite(images).all()):
        raise StoreError("the images are not finite", where=where, hint="The source diverged.")
    if any(part is not None and len(part) != len(images) for part in (labels, soft)):
        raise StoreError("images and labels differ in number", where=where, got=len(images))
    out = {"images": images.detach().to("cpu", torch.float32).contiguous()}
    if labels is not None:
        out["labels"] = labels.detach().to("cpu", torch.int64).contiguous()
    if soft is not None:
        out["soft_labels"] = soft.detach().to("cpu", torch.float32).contiguous()
    return out


def _summary(metas: Sequence[ArtifactMeta]) -> dict[str, Any]:
    cost: dict[str, float] = {}
    everywhere = set[str].intersection(*(set(meta.cost) for meta in metas))  # no sum over batches that do not know it
    for meta in metas:
        for name, value in meta.cost.items():
            if value is not None and name in everywhere:
                peak = name.startswith("peak")
                cost[name] = max(cost.get(name, 0.0), value) if peak else cost.get(name, 0.0) + value
    return {
        "source": metas[0].source,
        "version": metas[0].version,
        "models": list(metas[0].models),
        "batches": [dict(meta.info) for meta in metas],
        "curves": {f"{name}/{i}": list(curve) for i, meta in enumerate(metas) for name, curve in meta.curves.items()},
        "cost": cost,
        "provenance": [dict(meta.provenance) for meta in metas],
    }
