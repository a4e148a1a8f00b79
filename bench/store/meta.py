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
from typing import Any, BinaryIO, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from bench.errors import StoreError
from bench.reading import LIMIT, parse_json
from bench.store.files import first_fault
from bench.store.objects import damaged, lost

CLASS_NAMES = "class_names"
"""Key of a batch's ``info``: the names of the data set's classes in the order of the labels, for who looks at it."""

Curves = Mapping[str, Sequence[tuple[int, float]]]

MAX_DIMENSIONS = 8
MAX_SIDE = 2**31

_HEADER = {"digest", "meta", "meta_digest"}


@dataclass(frozen=True)
class ArtifactMeta:
    """What is known of an artifact; all of it JSON.

    ``source`` is the registered name of the method that made it (a source, a search, a compressor) and ``version`` that
    method's, ``models`` are full network names, ``info`` and ``curves`` what the method reported, ``cost`` holds
    StageCost's fields (seconds, cpu_seconds, forward_equivalents, peak_memory_mib), ``provenance`` dates and machine.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

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
            StoreError: other fields than these, or values of another kind.
        """
        try:
            return _META.validate_python(raw)
        except ValidationError as error:
            what, hint = "the artifact's metadata has another form", "Update datafree-bench."
            raise StoreError(what, where=str(path), got=first_fault(error), hint=hint) from error


_META = TypeAdapter(ArtifactMeta)


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
    try:
        meta = parse_json(header["meta"])
    except ValueError as error:
        raise damaged(path, error) from error
    return ArtifactMeta.from_json(meta, path)


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

    Nothing is allocated for a tensor before its shape was looked at here and its bytes were counted by safetensors.

    Raises:
        DamagedArtifact: no safetensors file, or a shape that no tensor of ours has.
    """
    try:
        size = file.seek(0, 2)
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, LIMIT):
            raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
        header = parse_json(file.read(length))
        found = header.pop("__metadata__", None) or {}
        for name, entry in header.items():
            check_shape(name, entry["shape"])
        return {str(name): str(value) for name, value in found.items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise damaged(path, error) from error


def check_shape(name: str, shape: Any) -> None:
    """A shape as a header gives it: safetensors counts the bytes, which says nothing where one dimension is 0.

    Raises:
        ValueError: no list of at most eight whole numbers from 0 to 2^31.
    """
    good = isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS
    if not good or not all(type(side) is int and 0 <= side < MAX_SIDE for side in shape):
        raise ValueError(f"{name[:64]} has the shape {str(shape)[:80]}")


def check_batch(tensors: Mapping[str, tuple[str, Sequence[int]]]) -> None:
    """What an image set's file must hold: name → type and shape of ``images`` [N, C, H, W], ``labels`` [N] and
    ``soft_labels`` [N, K], none of them empty.

    Raises:
        ValueError: something else.
    """
    number = tensors["images"][1][0] if "images" in tensors and tensors["images"][1] else 0
    for name, (kind, shape) in tensors.items():
        wanted, dimensions = _BATCH.get(name, ("", 0))
        if kind != wanted or len(shape) != dimensions or min(shape) < 1 or shape[0] != number:
            raise ValueError(f"{name} {kind} {tuple(shape)} in a batch of {number} images")
    if not number:
        raise ValueError("a batch without images")


_BATCH = {"images": ("float32", 4), "labels": ("int64", 1), "soft_labels": ("float32", 2)}


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
        value = parse_json(raw)
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
