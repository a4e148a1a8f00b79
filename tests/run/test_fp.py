"""A network's own accuracy: kept with its bitmaps and digest, measured again where the file does not hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from bench.data.datasets import get_dataset
from bench.run import fp
from bench.run.fp import fp_result
from bench.zoo.targets import load

TARGET = "fashion_mnist/mobilenetv2_w035"


def test_a_damaged_result_is_measured_again_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 10))
    target, dataset = replace(load(TARGET), module=small), get_dataset("fashion_mnist")
    first = fp_result(target, dataset, 100, tmp_path, "cpu")
    (path,) = (tmp_path / "fp").iterdir()
    raw = json.loads(path.read_bytes())
    assert (raw["full_top1"], raw["top1"], raw["count"]) == (first.full_top1, first.top1, 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fp, "evaluate", None)
        assert fp_result(target, dataset, 100, tmp_path, "cpu") == first  # read, not measured
    assert caplog.text == ""
    path.write_text(json.dumps(raw | {"top1": 100.0}))
    assert fp_result(target, dataset, 100, tmp_path, "cpu") == first
    assert "It is measured again" in caplog.text
    assert json.loads(path.read_bytes()) == raw
