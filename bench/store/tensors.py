"""Tensors as the bytes of a safetensors file that carries its own digest and metadata, and back."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bench.store.meta import ArtifactMeta, header_digest, header_meta, make_header, parse_header
from bench.store.objects import damaged


def digest_of(tensors: Mapping[str, Tensor], names: Iterable[str]) -> str:
    """SHA-256 over name, type, shape and bytes of the tensors, in the order of ``names``; those not there are left out.

    The tensors lie on the CPU.
    """
    total = hashlib.sha256()
    for name in names:
        if name in tensors:
            tensor = tensors[name]
            total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
            total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def pack(tensors: Mapping[str, Tensor], digest: str, meta: ArtifactMeta, where: str) -> bytes:
    """A file of contiguous CPU tensors that share no memory.

    Raises:
        StoreError: metadata that is no JSON.
    """
    content: bytes = save(dict(tensors), make_header(digest, meta, where))
    return content


def unpack(raw: bytes, names: Iterable[str] | None, path: Path) -> tuple[dict[str, Tensor], ArtifactMeta]:
    """The tensors and metadata of a file.

    Args:
        raw: its bytes.
        names: the digest's order; None for the names sorted.
        path: where it lies, for the error.

    Raises:
        DamagedArtifact: they are not what was written.
        StoreError: the metadata has another form.
    """
    header = parse_header(io.BytesIO(raw), path)
    recorded = header_digest(header, path)
    try:
        tensors: dict[str, Tensor] = load(raw)
    except (SafetensorError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise damaged(path, error) from error
    found = digest_of(tensors, sorted(tensors) if names is None else names)
    if found != recorded:
        raise damaged(path, f"digest {found[:16]}, recorded {recorded[:16]}")
    return tensors, header_meta(header, path)
