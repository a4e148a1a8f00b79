"""Checkpoints: weights of every type come back bit by bit, damage noticed, several networks under one key."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from bench.errors import StoreError
from bench.store.checkpoints import CheckpointStore
from bench.store.meta import ArtifactMeta
from bench.store.objects import DamagedArtifact, LostArtifact, ObjectStore
from tests.store.conftest import KEY

META = ArtifactMeta("a_training", 2, ("toy/net",), info={"steps": 3}, cost={"seconds": 4.0})


def network() -> nn.Module:
    """Batch norm for its counter, tied weights, a layer in half precision, memory that is not contiguous."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    net[0].to(memory_format=torch.channels_last)
    net[3].weight = net[2].weight
    net[4].bfloat16()
    return net


def test_a_state_dict_reads_back_bit_by_bit(tmp_path: Path) -> None:
    store, state = CheckpointStore(ObjectStore(tmp_path)), network().state_dict()
    with store.making(KEY) as wanted:
        assert wanted
        digest = store.write(KEY, state, META)
    with store.making(KEY) as wanted:
        assert not wanted
    found, meta = CheckpointStore(ObjectStore(tmp_path)).read(KEY)
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name
    network().load_state_dict(found, strict=True)
    assert meta == META
    assert store.meta(KEY) == META
    assert store.write(KEY, {"other": torch.zeros(1)}, META) == digest  # the first stays
    assert store.read(KEY)[0].keys() == state.keys()


def test_a_training_of_several_networks_has_several_parts(tmp_path: Path) -> None:
    store = CheckpointStore(ObjectStore(tmp_path))
    digests = {
        part: store.write(KEY, {"w": torch.full((2,), i)}, META, part) for i, part in enumerate(("w2a2", "w4a4"))
    }
    assert len(set(digests.values())) == 2
    assert store.read(KEY, "w4a4")[0]["w"].tolist() == [1, 1]
    assert not store.has(KEY)
    with pytest.raises(ValueError, match="no key"):
        store.has(KEY, "../w2a2")


@pytest.mark.parametrize("kind", ["flip", "cut", "name", "meta"])
def test_damage_is_noticed_and_mended(tmp_path: Path, kind: str) -> None:
    store, state = CheckpointStore(ObjectStore(tmp_path)), network().state_dict()
    with pytest.raises(LostArtifact):
        store.read(KEY)
    store.write(KEY, state, META)
    path = store.objects.path(KEY, "weights.safetensors")
    raw = path.read_bytes()
    if kind == "flip":
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    elif kind == "cut":
        path.write_bytes(raw[:-1])
    elif kind == "name":
        path.write_bytes(raw.replace(b"0.weight", b"9.weight"))
    else:
        path.write_bytes(raw.replace(b"a_training", b"b_training"))
    assert path.read_bytes() != raw
    with pytest.raises(DamagedArtifact):
        store.read(KEY)
    assert store.set_aside(KEY)
    store.write(KEY, state, META)
    assert torch.equal(store.read(KEY)[0]["0.weight"], state["0.weight"])


def test_only_tensors_are_weights(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no tensor"):
        CheckpointStore(ObjectStore(tmp_path)).write(KEY, {"_extra_state": {"x": 1}}, META)
