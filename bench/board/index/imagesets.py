"""Stored image sets for people who look at them: images, labels, curves.  No torch; the store is only read.

The pixels' digests are not checked again here: this draws, it does not measure (:mod:`bench.store.artifacts` checks
them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from bench.store.meta import CLASS_NAMES, ArtifactMeta, Curves, batch_name, check_batch, header_meta, read_header
from bench.store.objects import ObjectReader, damaged, is_key
from bench.store.strips import FRAMES, strips

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StoredImages:
    """The first images of a set: float32 [N, C, H, W] in their networks' normalised space, the labels they were made
    for (int64 [N]) where there are any, the curves of the first batch, what its source said of it, the names of the
    classes in the order of the labels (none in sets that were stored before names were), and the frames of a clip (1:
    they are images)."""

    images: Floats
    labels: npt.NDArray[np.int64] | None
    curves: Curves = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    frames: int = 1

    def name_of(self, label: int) -> str:
        """The class's name, "class 3" where none is known."""
        return self.class_names[label] if 0 <= label < len(self.class_names) else f"class {label}"


def is_stored(store: Path | None, synth_id: str) -> bool:
    """Whether the store holds the set's first batch; False for an id of another form."""
    return store is not None and is_key(synth_id) and ObjectReader(store).has(synth_id, batch_name(0))


def read_images(store: Path | None, synth_id: str, count: int) -> StoredImages | None:
    """At most ``count`` images of a set in batch order; None when the store does not hold it.

    Raises:
        StoreError: a batch is damaged.
        ValueError: ``synth_id`` is no key of an image set.
    """
    if not is_key(synth_id):
        raise ValueError(f"no key of an image set: {synth_id!r}")
    objects = ObjectReader(store) if store is not None else None
    parts: list[dict[str, Any]] = []
    meta: ArtifactMeta | None = None
    while objects is not None and sum(len(p["images"]) for p in parts) < count:
        name = batch_name(len(parts))
        if not objects.has(synth_id, name):
            break
        tensors, found = _batch(objects.path(synth_id, name))
        parts.append(tensors)
        meta = meta or found
    if meta is None:
        return None
    labelled = all("labels" in part for part in parts)
    return StoredImages(
        images=np.concatenate([part["images"] for part in parts])[:count],
        labels=np.concatenate([part["labels"] for part in parts])[:count] if labelled else None,
        curves=meta.curves,
        info=meta.info,
        class_names=tuple(map(str, meta.info.get(CLASS_NAMES, ()))),
        frames=frames if isinstance(frames := meta.info.get(FRAMES), int) else 1,
    )


def _batch(path: Path) -> tuple[dict[str, Any], ArtifactMeta]:
    meta = header_meta(read_header(path), path)
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys() if name in ("images", "labels")}  # noqa: SIM118
        check_batch({key: (str(t.dtype), t.shape) for key, t in tensors.items()})
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from error
    return tensors, meta


def pixels(images: Floats, mean: Sequence[float] | None, std: Sequence[float] | None) -> npt.NDArray[np.uint8]:
    """Normalised images [N, C, H, W] as bytes: in the constants ``mean`` and ``std`` per channel, clipped to [0, 1]; by
    the set's own 0.5th and 99.5th percentile where the constants are not known."""
    if mean is not None and std is not None:
        factor, offset = (np.asarray(v, dtype=np.float32).reshape(1, -1, 1, 1) for v in (std, mean))
        values = images * factor + offset
    else:
        low, high = np.percentile(images, [0.5, 99.5])
        values = (images - low) / max(float(high - low), 1e-6)
    out: npt.NDArray[np.uint8] = (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
    return out


def sheet(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64] | None, columns: int, frames: int = 1
) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Images [N, C, H, W] as one picture [height, width, C], white gaps of two pixels between them; of clips the
    ``frames`` side by side.

    With labels each row holds the first ``columns`` images of one class, and the classes are returned in the order of
    the rows; without, the images follow each other and the list is empty.
    """
    images = strips(images, frames)
    number, channels, height, width = images.shape
    if labels is None:
        rows = [list(range(i, min(i + columns, number))) for i in range(0, number, columns)]
        classes: list[int] = []
    else:
        classes = sorted({int(label) for label in labels})
        rows = [np.flatnonzero(labels == label)[:columns].tolist() for label in classes]
    wide = max(map(len, rows))
    out = np.full((len(rows) * (height + 2) - 2, wide * (width + 2) - 2, channels), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, index in enumerate(row):
            top, left = r * (height + 2), c * (width + 2)
            out[top : top + height, left : left + width] = images[index].transpose(1, 2, 0)
    return out, classes
