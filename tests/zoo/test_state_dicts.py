"""Weights as users have them: safetensors and torch's files, wrapped or not; nothing in them runs."""

from __future__ import annotations

import argparse
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bench.errors import WeightsError
from bench.zoo.state_dicts import LoadedState, read_state

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "bn.num_batches_tracked": torch.tensor(7)}


def same(loaded: LoadedState) -> bool:
    state = loaded.state
    return state.keys() == STATE.keys() and all(torch.equal(state[key], value) for key, value in STATE.items())


def test_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.safetensors")
    assert same(read_state(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        OrderedDict(STATE),
        {**STATE, "epoch": 3, "name": "x"},
        {"state_dict": STATE, "epoch": 3, "args": argparse.Namespace(lr=0.1, name="x")},
        {"model": STATE, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        {"model_state_dict": STATE, "loss": 0.3},
        {"model": {"state_dict": STATE}},
        {"net": STATE, "acc": 91.5, "epoch": 4},
        {"ema": {"module": STATE}, "optimizer": {"state": {}}},
        {"state_dict_ema": STATE},
    ],
    ids=["plain", "ordered", "numbers", "state_dict", "model", "model_state_dict", "nested", "net", "ema", "averaged"],
)
@pytest.mark.parametrize("ending", ["th", "PT", "pth.tar", "safetensors", ""])
def test_torchs_files_and_what_wraps_them(tmp_path: Path, content: Any, ending: str) -> None:
    torch.save(content, tmp_path / f"a.{ending}")
    assert same(read_state(tmp_path / f"a.{ending}"))


def test_files_of_old_torch(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert same(read_state(tmp_path / "a.pth"))


def test_safetensors_by_another_name(tmp_path: Path) -> None:
    """Content tells what a file is."""
    save_file(STATE, tmp_path / "a.th")
    assert same(read_state(tmp_path / "a.th"))
    with pytest.raises(WeightsError, match="no wrappers"):
        read_state(tmp_path / "a.th", "ema")


def test_what_was_taken_and_what_was_left_is_said(tmp_path: Path) -> None:
    other = {key: value + 1 for key, value in STATE.items()}
    torch.save({"state_dict": STATE, "state_dict_ema": other, "best_prec1": torch.tensor(91.25)}, tmp_path / "a.th")
    found = read_state(tmp_path / "a.th")
    assert same(found)
    said = " | ".join(found.notes)
    assert "under 'state_dict' are taken" in said
    assert "state_dict_ema (--key state_dict_ema takes it)" in said
    assert "best_prec1 = 91.25" in said
    averaged = read_state(tmp_path / "a.th", "state_dict_ema")
    assert torch.equal(averaged.state["conv.weight"], other["conv.weight"])
    assert "running averages" in averaged.notes[0]
    with pytest.raises(WeightsError, match="no such state dict") as caught:
        read_state(tmp_path / "a.th", "state_dict_em")
    assert caught.value.nearest == "state_dict_ema"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x1f\x8b\x08", "unpack it first"),
        (b"other", "another kind of file"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        read_state(tmp_path / "a.pth")


class Bomb:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_nothing_in_a_file_runs(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "extra": Bomb(tmp_path / "ran")}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    for path in (tmp_path / "a.pth", tmp_path / "b.pth"):
        with pytest.raises(WeightsError) as caught:
            read_state(path)
        assert caught.value.where == str(path)
    assert not (tmp_path / "ran").exists()


def test_a_whole_network_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="could run code") as caught:
        read_state(tmp_path / "a.pth")
    assert caught.value.got == "an object of torch.nn.modules.linear.Linear"
    assert "torch.save(model.state_dict(), FILE)" in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"state_dict": {"a": 1}}, torch.zeros(3)])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        read_state(tmp_path / "a.pth")


@pytest.mark.parametrize("ending", ["pth", "safetensors", "h5"])
def test_damaged_and_missing_files_are_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    with pytest.raises(WeightsError, match="missing"):
        read_state(path)
    torch.save(STATE, tmp_path / "good")
    good = (tmp_path / "good").read_bytes()
    for content in (b"", b"junk", b"\x80\x02junk", good[: len(good) // 2], bytes(64)):
        path.write_bytes(content)
        with pytest.raises(WeightsError) as caught:
            read_state(path)
        assert caught.value.where == str(path)
