"""Image sets under the hash of what produced them: one file per batch, written atomically, checked on every read."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from bench.errors import StoreError
from bench.interfaces import ImageBatch, ImageSet, LabelKind
from bench.store.files import TEMPORARY, open_store, write_atomic

log = logging.getLogger(__name__)

CLASS_NAMES = "class_names"
"""Key of a batch's ``info``: the names of the data set's classes in the order of the labels, for who looks at it."""

Curves = Mapping[str, Sequence[tuple[int, float]]]

_ID = re.compile(r"[0-9a-f]{8,64}")
_TENSORS = ("images", "labels", "soft_labels")


@dataclass(frozen=True)
class BatchMeta:
    """What is stored beside a batch's tensors; all of it JSON.

    ``cost`` holds StageCost's fields (seconds, cpu_seconds, forward_equivalents, peak_memory_mib), ``models`` full
    network names, ``info`` and ``curves`` what the source reported, ``provenance`` dates and machine.
    """

    source: str
    version: int
    models: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    cost: Mapping[str, float | None] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


class ArtifactStore:
    """``ROOT/artifacts/<2 hex>/<synth_id>/<batch>.safetensors``; a batch's metadata lies in its file's header.

    One file per batch, so that a batch is there as a whole or not at all.

    Raises:
        StoreError: the folder cannot be written, or a newer version wrote it.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = open_store(root)
        self._folder = self.root / "artifacts"
        self._locks: dict[Path, FileLock] = {}

    def has(self, synth_id: str, index: int) -> bool:
        """Whether the batch is stored (not whether it is intact; see :meth:`missing`)."""
        return self._path(synth_id, index).is_file()

    def missing(self, synth_id: str, batches: int) -> list[int]:
        """Indices below ``batches`` that are to be made.

        A damaged batch is set aside under another name with a warning, so that it is made anew.
        """
        out = []
        for index in range(batches):
            if not self.has(synth_id, index):
                out.append(index)
                continue
            try:
                self._load(synth_id, index)
            except StoreError as error:
                path = self._path(synth_id, index)
                log.warning("%s\n  The batch is made again; the damaged file is kept as %s.damaged", error, path.name)
                path.replace(path.with_name(f"{path.name}.damaged"))
                out.append(index)
        return out

    @contextmanager
    def lock(self, synth_id: str, index: int, timeout: float = -1) -> Iterator[None]:
        """One writer per key, across processes; re-entrant within one store object.

        A worker takes it, looks again with :meth:`has`, makes the batch, writes it.

        Args:
            timeout: seconds to wait; -1 waits for ever.

        Raises:
            StoreError: not free in time, or the lock file cannot be made.
        """
        path = self.root / "locks" / f"{synth_id}-{index:05d}.lock"
        held = self._locks.setdefault(path, FileLock(path))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.acquire(timeout=timeout)
        except Timeout as error:
            raise StoreError("another process is writing this batch", where=str(path)) from error
        except OSError as error:
            raise StoreError("cannot be written", where=str(path), got=error.strerror) from error
        try:
            yield
        finally:
            held.release()

    def write_batch(self, synth_id: str, index: int, batch: ImageBatch, meta: BatchMeta) -> str:
        """Store a batch; returns the digest of its tensors. A batch that is stored already stays as it is.

        Raises:
            StoreError: tensors that are no image batch or not finite; a folder that cannot be written.
        """
        tensors = _checked(batch, f"{synth_id} batch {index}")
        with self.lock(synth_id, index):
            if self.has(synth_id, index):
                return str(self._header(synth_id, index)["digest"])
            header = {"digest": _digest(tensors), "meta": _meta_text(meta, f"{synth_id} batch {index}")}
            header["meta_digest"] = hashlib.sha256(header["meta"].encode()).hexdigest()
            write_atomic(self._path(synth_id, index), save(tensors, header))
            return header["digest"]

    def read(self, synth_id: str, count: int, label_kind: LabelKind) -> ImageSet:
        """The first ``count`` images: float32 [count, C, H, W], labels int64 [count] or None, soft [count, K] or None.

        ``ImageSet.info``: "source", "version", "models", "batches" (each batch's info), "curves" (each batch's, under
        ``NAME/batch``), "cost" (summed over the batches read), "provenance". The set's digest covers shape, images and
        labels of the prefix.

        Raises:
            StoreError: a batch is missing or damaged, or batches do not fit together.
        """
        if count < 1:
            raise ValueError(f"count must be positive, not {count}")
        parts: list[dict[str, Tensor]] = []
        metas: list[BatchMeta] = []
        have = 0
        while have < count:
            tensors, meta = self._load(synth_id, len(parts))
            if parts and tensors.keys() != parts[0].keys():
                raise StoreError(
                    "batches of one set differ in their labels", where=str(self._path(synth_id, len(parts)))
                )
            parts.append(tensors)
            metas.append(meta)
            have += len(tensors["images"])
        joined = {name: torch.cat([part[name] for part in parts])[:count].contiguous() for name in parts[0]}
        return ImageSet(
            images=joined["images"],
            labels=joined.get("labels"),
            soft_labels=joined.get("soft_labels"),
            label_kind=label_kind,
            digest=_digest(joined),
            synth_id=synth_id,
            info=_summary(metas),
        )

    def meta(self, synth_id: str, index: int) -> BatchMeta:
        """Metadata of one batch without reading its tensors.

        Raises:
            StoreError: the batch is missing or its header damaged.
        """
        return self._meta(self._header(synth_id, index), self._path(synth_id, index))

    def sweep(self) -> int:
        """Delete the temporary files of writers that are gone; returns how many.

        A file whose key is locked belongs to a writer at work and stays.
        """
        removed = 0
        for path in self._folder.glob(f"*/*/.*{TEMPORARY}*"):
            index = path.name[1:].partition(".")[0]
            if not index.isdecimal():
                continue
            try:
                with self.lock(path.parent.name, int(index), timeout=0):
                    path.unlink(missing_ok=True)
                    removed += 1
            except StoreError:
                continue
        return removed

    def _path(self, synth_id: str, index: int) -> Path:
        if not _ID.fullmatch(synth_id) or index < 0:
            raise ValueError(f"no key of an image set: {synth_id!r}, {index}")
        return self._folder / synth_id[:2] / synth_id / f"{index:05d}.safetensors"

    def _header(self, synth_id: str, index: int) -> dict[str, str]:
        path = self._path(synth_id, index)
        if not path.is_file():
            raise StoreError("the batch is not stored", where=str(path), hint="Run the suite again; it makes it.")
        try:
            with safe_open(path, framework="pt") as file:
                header: dict[str, str] = dict(file.metadata() or {})
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error
        if not {"digest", "meta", "meta_digest"} <= header.keys():
            raise _damaged(path, "the header holds no digest")
        return header

    def _load(self, synth_id: str, index: int) -> tuple[dict[str, Tensor], BatchMeta]:
        path, header = self._path(synth_id, index), self._header(synth_id, index)
        try:
            tensors: dict[str, Tensor] = load(path.read_bytes())
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error
        found = _digest(tensors)
        if found != header["digest"]:
            raise _damaged(path, f"digest {found[:16]}, recorded {header['digest'][:16]}")
        return tensors, self._meta(header, path)

    @staticmethod
    def _meta(header: Mapping[str, str], path: Path) -> BatchMeta:
        if hashlib.sha256(header["meta"].encode()).hexdigest() != header["meta_digest"]:
            raise _damaged(path, "the metadata's digest differs")
        try:
            raw = json.loads(header["meta"])
            raw["models"] = tuple(raw["models"])
            raw["curves"] = {name: [(int(i), float(v)) for i, v in points] for name, points in raw["curves"].items()}
            return BatchMeta(**raw)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                "the batch's metadata has another form", where=str(path), got=error, hint="Update datafree-bench."
            ) from error


def _checked(batch: ImageBatch, where: str) -> dict[str, Tensor]:
    """The batch's tensors on the CPU, contiguous, in the stored types."""
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


def _meta_text(meta: BatchMeta, where: str) -> str:
    """The metadata as JSON; a curve's points that are no numbers (a step that diverged) are left out."""
    raw = asdict(meta)
    raw["curves"] = {name: [p for p in points if math.isfinite(p[1])] for name, points in meta.curves.items()}
    try:
        return json.dumps(raw, allow_nan=False, sort_keys=True)
    except (ValueError, TypeError) as error:
        raise StoreError("the batch's metadata is no JSON", where=where, got=error) from error


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over shape and bytes of images, labels and soft labels, in this order."""
    total = hashlib.sha256()
    for name in _TENSORS:
        if name in tensors:
            tensor = tensors[name]
            total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
            total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


def _summary(metas: Sequence[BatchMeta]) -> dict[str, Any]:
    cost: dict[str, float] = {}
    for meta in metas:
        for name, value in meta.cost.items():
            if value is not None:
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


def _damaged(path: Path, reason: object) -> StoreError:
    return StoreError(
        "the stored batch is damaged", where=str(path), got=reason, hint="Run the suite again; it remakes it."
    )
