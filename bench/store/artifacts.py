"""Image sets under the hash of what produced them: one file per batch, written atomically, checked on every read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.interfaces import ImageBatch, ImageSet, LabelKind

Curves = Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class BatchMeta:
    """What is stored beside a batch's tensors. ``cost``: StageCost fields; ``provenance``: never identity."""

    source: str
    version: int
    models: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


class ArtifactStore:
    """``ROOT/artifacts/<2 hex>/<synth_id>/<batch>.safetensors``; metadata lives in the file's header."""

    def __init__(self, root: Path | str) -> None: ...

    def has(self, synth_id: str, index: int) -> bool:
        """Whether the batch is stored (not whether it is intact; see :meth:`missing`)."""

    def missing(self, synth_id: str, batches: int) -> list[int]:
        """Indices below ``batches`` to be made: absent, or damaged (those are set aside with a logged warning)."""

    @contextmanager
    def lock(self, synth_id: str, index: int, timeout: float = -1) -> Iterator[None]:
        """One writer per key. Re-entrant within one ArtifactStore, so make + write_batch may both sit inside it."""

    def write_batch(self, synth_id: str, index: int, batch: ImageBatch, meta: BatchMeta) -> str:
        """Store a batch; returns its digest. A batch that is stored and intact stays as it is."""

    def read(self, synth_id: str, count: int, label_kind: LabelKind) -> ImageSet:
        """The first ``count`` images. ImageSet.info: {"batches": [meta...], "curves", "cost" (summed), "models"...}.

        Raises: StoreError when a batch is missing or damaged.
        """

    def meta(self, synth_id: str, index: int) -> BatchMeta:
        """Metadata of one batch without reading its tensors."""

    def sweep(self) -> int:
        """Delete temporary files whose writer is gone; returns how many."""
