"""Damaged, foreign or missing weights are refused; a digest does not depend on the memory layout."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from bench.data.datasets import Dataset
from bench.errors import WeightsError
from bench.zoo import checkpoints
from bench.zoo.recipe import build_entry
from bench.zoo.table import Entry


@pytest.fixture
def saved(toy: Dataset, tiny: Entry, tmp_path: Path) -> Path:
    """A folder with the untrained tiny network."""
    checkpoints.save(build_entry(tiny, toy), tmp_path, "tiny", {"dataset": "toy"})
    return tmp_path


def test_a_saved_network_comes_back(toy: Dataset, tiny: Entry, saved: Path) -> None:
    other = build_entry(dataclasses.replace(tiny, seed=1), toy)
    fact = checkpoints.manifest(saved, "tiny")
    checkpoints.load_into(other, saved / "tiny.safetensors", fact["sha256"])
    assert checkpoints.digest_of(other.state_dict()) == fact["digest"]
    assert fact["digest"] == checkpoints.digest_of(build_entry(tiny, toy).state_dict())
    assert [f["name"] for f in checkpoints.manifests(saved)] == ["tiny"]


def test_the_digest_sees_values_and_names_but_no_layout(toy: Dataset, tiny: Entry) -> None:
    module = build_entry(tiny, toy)
    first = checkpoints.digest_of(module.state_dict())
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert checkpoints.digest_of(module.state_dict()) == first
    state = dict(module.state_dict())
    name = next(iter(state))
    assert checkpoints.digest_of({**state, name: state[name] + 1e-6}) != first
    assert checkpoints.digest_of({("x" if k == name else k): v for k, v in state.items()}) != first


@pytest.mark.parametrize("checked", [True, False])
def test_a_flipped_byte_or_a_cut_file_is_refused(toy: Dataset, tiny: Entry, saved: Path, checked: bool) -> None:
    path = saved / "tiny.safetensors"
    sha256 = checkpoints.manifest(saved, "tiny")["sha256"] if checked else None
    content = bytearray(path.read_bytes())
    module = build_entry(tiny, toy)
    if checked:
        content[-1] ^= 1
        path.write_bytes(bytes(content))
        with pytest.raises(WeightsError, match="damaged"):
            checkpoints.load_into(module, path, sha256)
    path.write_bytes(bytes(content[:100]))
    with pytest.raises(WeightsError, match=r"damaged|cannot read"):
        checkpoints.load_into(module, path, sha256)


def test_a_missing_file_and_weights_of_another_network_are_named(toy: Dataset, tiny: Entry, saved: Path) -> None:
    wider = dataclasses.replace(tiny, kwargs={**tiny.kwargs, "channels": (8, 16, 16, 16, 64)})
    deeper = dataclasses.replace(tiny, kwargs={**tiny.kwargs, "repeats": (1, 2, 1)})
    path = saved / "tiny.safetensors"
    for item in (wider, deeper):
        with pytest.raises(WeightsError, match="another network") as caught:
            checkpoints.load_into(build_entry(item, toy), path)
        assert str(path) in str(caught.value)
    with pytest.raises(WeightsError, match="missing"):
        checkpoints.load_into(build_entry(tiny, toy), saved / "none.safetensors", "0" * 64)


def test_a_missing_or_damaged_manifest_is_named(saved: Path) -> None:
    with pytest.raises(WeightsError, match="bench zoo train"):
        checkpoints.manifest(saved, "none")
    for content in ("{", "[]"):
        (saved / "tiny.json").write_text(content)
        with pytest.raises(WeightsError, match="damaged"):
            checkpoints.manifest(saved, "tiny")


def test_saving_leaves_no_temporary_file_and_replaces_the_old(toy: Dataset, tiny: Entry, saved: Path) -> None:
    before = checkpoints.manifest(saved, "tiny")["digest"]
    checkpoints.save(build_entry(dataclasses.replace(tiny, seed=1), toy), saved, "tiny", {})
    assert checkpoints.manifest(saved, "tiny")["digest"] != before
    assert sorted(p.name for p in saved.iterdir()) == ["tiny.json", "tiny.safetensors"]
