"""Bit policies under the hash of what found them: a JSON file each, checked on every read.  No torch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.interfaces import BitPolicy
from bench.store.meta import ArtifactMeta, seal, unseal
from bench.store.objects import ObjectReader, ObjectStore, damaged

POLICY = "policy.json"
"""File of a policy."""


@dataclass(frozen=True)
class StoredPolicy:
    """A policy in the network's order, and what is known of the search that found it."""

    policy: BitPolicy
    meta: ArtifactMeta


def read_policy(objects: ObjectReader, key: str) -> StoredPolicy:
    """The policy under ``key``.

    Raises:
        LostArtifact: it is not stored, or (DamagedArtifact) damaged.
        StoreError: its metadata has another form.
    """
    path = objects.path(key, POLICY)
    content = unseal(objects.read(key, POLICY), path)
    try:
        policy = BitPolicy.from_json(content["policy"])
        meta: dict[str, Any] = content["meta"]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error
    return StoredPolicy(policy, ArtifactMeta.from_json(meta, path))


class PolicyStore:
    """``ROOT/artifacts/<2 hex>/<key>/policy.json``.

    Args:
        objects: the store beneath, the same as the image sets'.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects

    def has(self, key: str) -> bool:
        """Whether the policy is stored; not whether it is intact, which :meth:`read` tells."""
        return self.objects.has(key, POLICY)

    def making(self, key: str, waiting: Callable[[], None] | None = None) -> AbstractContextManager[bool]:
        """Whether the caller is to search; until the block ends nobody else does (:meth:`ObjectStore.making`)."""
        return self.objects.making(key, POLICY, waiting)

    def write(self, key: str, stored: StoredPolicy) -> bool:
        """Store a policy; one that is there stays as it is. Returns whether this one was written.

        Raises:
            StoreError: metadata that is no JSON; a folder that cannot be written.
        """
        content = {"policy": stored.policy.to_json(), "meta": stored.meta.to_json()}
        return self.objects.write(key, POLICY, seal(content, str(Path(key) / POLICY)))

    def read(self, key: str) -> StoredPolicy:
        """As :func:`read_policy`; the artifact's last use moves."""
        return read_policy(self.objects, key)

    def set_aside(self, key: str) -> bool:
        """Give a damaged policy another name, so that it is searched anew; whether it was (still) damaged."""
        return self.objects.set_aside(key, POLICY, lambda: self.read(key))
