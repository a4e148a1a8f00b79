"""A run on a data set for tuning: measured on images held out of the training set, of which no source takes one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.data.datasets import get_dataset, whole
from bench.interfaces import ModelHandle
from bench.store.artifacts import ArtifactStore
from bench.zoo import targets
from tests import pick

from .conftest import Run

TUNING = f"""
suite: tiny
version: 1
dataset: fashion_mnist+held_out
grid:
  source: [{pick.UPPER}]
  target: [mobilenetv2_w035]
  compressor: [{pick.ROUND}]
  bits: [W8A8]
images: 200
seeds: [0]
"""


def test_nothing_of_the_test_set_and_nothing_held_out_is_seen(
    run: Run, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = targets.load

    def registered_otherwise(name: str) -> ModelHandle:
        return replace(load(name), fp_top1=12.0)  # on the test set this closes the gate

    monkeypatch.setattr(targets, "load", registered_otherwise)
    suite.write_text(TUNING)
    (record,) = run()
    assert record.status == "ok", record.reason
    data = get_dataset("fashion_mnist+held_out")
    assert (record.test_count, record.test_digest) == (2000, data.test_digest())
    assert record.metrics["fp_top1"] > 80  # type: ignore[operator]
    assert record.synth_id is not None
    images = ArtifactStore(tmp_path / "store").read(record.synth_id, record.n, "native").images
    pixels = (data.denormalise(images) * 255).round().to(torch.uint8)
    held, kept = ({image.numpy().tobytes() for image in whole(split)[0]} for split in (data.test(), data.train()))
    taken = {image.numpy().tobytes() for image in pixels}
    assert len(taken) == 200
    assert taken <= kept
    assert taken.isdisjoint(held)
