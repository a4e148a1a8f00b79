"""What is stored beside an artifact's content, and the digests that tell damage.  No torch.

Tensors lie in safetensors files whose header holds ``digest`` (of the tensors), ``meta`` (JSON) and ``meta_digest``;
policies in JSON files that hold ``digest`` and ``content``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from bench.errors import StoreError
from bench.store.objects import damaged, lost

CLASS_NAMES = "class_names"
"""Key of a batch's ``info``: the names of the data set's classes in the order of the labels, for who looks at it."""

Curves = Mapping[str, Sequence[tuple[int, float]]]

_HEADER = {"digest", "meta", "meta_digest"}


@dataclass(frozen=True)
class ArtifactMeta:
    """What is known of an artifact; all of it JSON.

    ``source`` is the registered name of the method that made it (a source, a search, a compressor) and ``version`` that
    method's, ``models`` are full network names, ``info`` and ``curves`` what the method reported, ``cost`` holds
    StageCost's fields (seconds, cpu_seconds, forward_equivalents, peak_memory_mib), ``provenance`` dates and machine.
    """

    source: str
    version: int
    models: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    cost: Mapping[str, float | None] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; a curve's points that are no numbers (a step that diverged) are left out."""
        raw = asdict(self)
        raw["curves"] = {name: [p for p in points if math.isfinite(p[1])] for name, points in self.curves.items()}
        return raw

    @staticmethod
    def from_json(raw: Mapping[str, Any], path: Path) -> ArtifactMeta:
        """Inverse of :meth:`to_json`; ``path`` is named where something is wrong.

        Raises:
            StoreError: other fields than these.
        """
        try:
            curves = {name: [(int(i), float(v)) for i, v in points] for name, points in raw["curves"].items()}
            return ArtifactMeta(**{**raw, "models": tuple(raw["models"]), "curves": curves})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                "the artifact's metadata has another form", where=str(path), got=error, hint="Update datafree-bench."
            ) from error


def batch_name(index: int) -> str:
    """File of an image set's batch ``index``, from 0."""
    return f"{index:05d}.safetensors"


# --- the header of a file of tensors ---


def make_header(digest: str, meta: ArtifactMeta, where: str) -> dict[str, str]:
    """The header's metadata for tensors with ``digest``.

    Raises:
        StoreError: metadata that is no JSON.
    """
    text = _dumps(meta.to_json(), where, sort_keys=True)
    return {"digest": digest, "meta": text, "meta_digest": _sha256(text)}


def header_digest(header: Mapping[str, str], path: Path) -> str:
    """The digest of the tensors, as it was recorded.

    Raises:
        DamagedArtifact: the header holds none.
    """
    if not header.keys() >= _HEADER:
        raise damaged(path, "the header holds no digest")
    return header["digest"]


def header_meta(header: Mapping[str, str], path: Path) -> ArtifactMeta:
    """The metadata in a header.

    Raises:
        DamagedArtifact: it is not what was written.
        StoreError: it has another form.
    """
    header_digest(header, path)
    if _sha256(header["meta"]) != header["meta_digest"]:
        raise damaged(path, "the metadata's digest differs")
    return ArtifactMeta.from_json(json.loads(header["meta"]), path)


def read_header(path: Path) -> dict[str, str]:
    """The header's metadata of a safetensors file; nothing else of it is read.

    Raises:
        LostArtifact: the file is missing or (DamagedArtifact) no such file.
    """
    try:
        with path.open("rb") as file:
            return parse_header(file, path)
    except FileNotFoundError as error:
        raise lost(path) from error
    except OSError as error:
        raise damaged(path, error.strerror) from error


def parse_header(file: BinaryIO, path: Path) -> dict[str, str]:
    """As :func:`read_header`, from an open file at its start: eight bytes of length, then JSON.

    Raises:
        DamagedArtifact: no safetensors file.
    """
    try:
        length = int.from_bytes(file.read(8), "little")
        raw = file.read(length) if length < 100_000_000 else b""  # the format's own limit
        found = json.loads(raw).get("__metadata__") or {}
        return {str(name): str(value) for name, value in found.items()}
    except (ValueError, AttributeError) as error:
        raise damaged(path, error) from error


# --- JSON with a digest ---


def seal(content: Mapping[str, Any], where: str) -> bytes:
    """A JSON file that holds ``content`` in its order, and its digest.

    Raises:
        StoreError: ``content`` is no JSON.
    """
    digest = _sha256(_dumps(content, where))
    return f"{json.dumps({'digest': digest, 'content': content}, indent=1, allow_nan=False)}\n".encode()


def unseal(raw: bytes, path: Path) -> dict[str, Any]:
    """Inverse of :func:`seal`.

    Raises:
        DamagedArtifact: the content is not what was written.
    """
    try:
        value = json.loads(raw)
        content: dict[str, Any] = value["content"]
        intact = _sha256(json.dumps(content)) == value["digest"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from error
    if not intact:
        raise damaged(path, "the content's digest differs")
    return content


def _dumps(value: Mapping[str, Any], where: str, *, sort_keys: bool = False) -> str:
    try:
        return json.dumps(value, allow_nan=False, sort_keys=sort_keys)
    except (ValueError, TypeError) as error:
        raise StoreError("the artifact's metadata is no JSON", where=where, got=error) from error


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
