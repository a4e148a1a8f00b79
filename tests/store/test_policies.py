"""Policies: back in the network's order with cost and origin, damage noticed, made once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import StoreError
from bench.interfaces import BitPolicy
from bench.store.meta import ArtifactMeta, seal
from bench.store.objects import DamagedArtifact, LostArtifact, ObjectStore
from bench.store.policies import PolicyStore, StoredPolicy
from tests.store.conftest import KEY

STORED = StoredPolicy(
    BitPolicy.of({"stem": (8, 8), "body.1": (2, 4), "a_last": (8, 32)}),
    ArtifactMeta(
        "a_search",
        3,
        models=("toy/net",),
        info={"budget": {"mean_weight_bits": 4.0}, "objective": 0.1},
        curves={"objective": [(0, 1.0), (7, 0.1)]},
        cost={"seconds": 1.5, "peak_memory_mib": None},
        provenance={"date": "2024-01-01"},
    ),
)


def test_a_policy_reads_back_in_the_network_s_order(tmp_path: Path) -> None:
    store = PolicyStore(ObjectStore(tmp_path))
    with store.making(KEY) as wanted:
        assert wanted
        assert store.write(KEY, STORED)
    with store.making(KEY) as wanted:
        assert not wanted
    found = PolicyStore(ObjectStore(tmp_path)).read(KEY)
    assert found == STORED
    assert list(found.policy) == ["stem", "body.1", "a_last"]
    assert not store.write(KEY, StoredPolicy(BitPolicy(), STORED.meta))
    assert store.read(KEY) == STORED


@pytest.mark.parametrize("kind", ["bits", "order", "cost", "cut", "foreign", "text", "list"])
def test_damage_is_noticed_and_mended(tmp_path: Path, kind: str) -> None:
    store = PolicyStore(ObjectStore(tmp_path))
    with pytest.raises(LostArtifact):
        store.read(KEY)
    store.write(KEY, STORED)
    path = store.objects.path(KEY, "policy.json")
    raw = json.loads(path.read_bytes())
    layers = raw["content"]["policy"]
    if kind == "bits":
        layers["body.1"] = [4, 4]
    elif kind == "order":
        raw["content"]["policy"] = {name: layers[name] for name in sorted(layers)}
    elif kind == "cost":
        raw["content"]["meta"]["cost"]["seconds"] = 0.5
    elif kind == "foreign":
        raw = {"content": raw["content"]}
    elif kind == "list":
        raw = [raw]
    text = json.dumps(raw)
    path.write_text({"cut": text[:50], "text": "\x00"}.get(kind, text))
    with pytest.raises(DamagedArtifact) as caught:
        store.read(KEY)
    assert (caught.value.key, caught.value.part) == (KEY, "policy")
    assert store.set_aside(KEY)
    assert not store.has(KEY)
    assert store.write(KEY, STORED)
    assert store.read(KEY) == STORED


def test_another_form_is_not_taken_for_damage(tmp_path: Path) -> None:
    """A file whose digest is right and whose fields are not ours comes from another version of the code."""
    store = PolicyStore(ObjectStore(tmp_path))
    store.write(KEY, STORED)
    path = store.objects.path(KEY, "policy.json")
    meta = {**STORED.meta.to_json(), "colour": "red"}
    path.write_bytes(seal({"policy": STORED.policy.to_json(), "meta": meta}, "here"))
    with pytest.raises(StoreError, match="another form") as caught:
        store.read(KEY)
    assert not isinstance(caught.value, LostArtifact)
    assert store.has(KEY)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    store = PolicyStore(ObjectStore(tmp_path))
    for info in ({"x": object()}, {"x": float("nan")}):
        with pytest.raises(StoreError, match="no JSON"):
            store.write(KEY, StoredPolicy(STORED.policy, ArtifactMeta("a_search", 1, info=info)))
    assert not store.has(KEY)
