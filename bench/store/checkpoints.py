"""Weights of trained networks under the hash of what trained them: a safetensors file each, checked on every read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from bench.errors import StoreError
from bench.store.meta import ArtifactMeta, header_digest, header_meta, read_header
from bench.store.objects import ObjectStore
from bench.store.tensors import digest_of, pack, unpack

WEIGHTS = "weights"
"""The part's name where a training leaves one network."""


class CheckpointStore:
    """``ROOT/artifacts/<2 hex>/<key>/<part>.safetensors``; a part is one of the networks of a training.

    Args:
        objects: the store beneath, the same as the image sets'.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects

    def has(self, key: str, part: str = WEIGHTS) -> bool:
        """Whether the weights are stored; not whether they are intact, which :meth:`read` tells."""
        return self.objects.has(key, _name(part))

    def making(
        self, key: str, part: str = WEIGHTS, waiting: Callable[[], None] | None = None
    ) -> AbstractContextManager[bool]:
        """Whether the caller is to train; until the block ends nobody else does (:meth:`ObjectStore.making`)."""
        return self.objects.making(key, _name(part), waiting)

    def write(self, key: str, state: Mapping[str, Any], meta: ArtifactMeta, part: str = WEIGHTS) -> str:
        """Store a state dict; returns its digest. Weights that are stored already stay as they are.

        Raises:
            StoreError: a value that is no tensor; metadata that is no JSON; a folder that cannot be written.
        """
        where = f"{key} {part}"
        tensors = {name: _copied(name, value, where) for name, value in state.items()}
        digest = digest_of(tensors, sorted(tensors))
        if self.objects.write(key, _name(part), pack(tensors, digest, meta, where)):
            return digest
        path = self.objects.path(key, _name(part))
        return header_digest(read_header(path), path)

    def read(self, key: str, part: str = WEIGHTS) -> tuple[dict[str, Tensor], ArtifactMeta]:
        """The state dict, on the CPU, and what is known of its training.

        Raises:
            LostArtifact: it is not stored, or (DamagedArtifact) damaged.
        """
        return unpack(self.objects.read(key, _name(part)), None, self.objects.path(key, _name(part)))

    def meta(self, key: str, part: str = WEIGHTS) -> ArtifactMeta:
        """The metadata alone.

        Raises:
            LostArtifact: it is not stored, or (DamagedArtifact) its header is damaged.
        """
        path = self.objects.path(key, _name(part))
        return header_meta(read_header(path), path)

    def set_aside(self, key: str, part: str = WEIGHTS) -> bool:
        """Give damaged weights another name, so that they are trained anew; whether they were (still) damaged."""
        return self.objects.set_aside(key, _name(part), lambda: self.read(key, part))


def _name(part: str) -> str:
    return f"{part}.safetensors"


def _copied(name: str, value: Any, where: str) -> Tensor:
    """On the CPU, in memory of its own: tied weights are stored twice and are tied again by who loads them."""
    if not isinstance(value, Tensor):
        raise StoreError("the state holds what is no tensor", where=where, got=f"{name}: {type(value).__name__}")
    return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
