"""Records and batches for the store's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bench.interfaces import ImageBatch
from bench.store.bitmaps import pack_bits
from bench.store.records import ResultRecord, StageCost

KEY = "0123456789abcdef"


@pytest.fixture
def make_record() -> Callable[..., ResultRecord]:
    """A measured record; keyword arguments replace fields."""

    def make(**changes: Any) -> ResultRecord:
        bits = np.random.default_rng(changes.get("seed", 0)).random(999) < 0.9
        fields: dict[str, Any] = {
            "cell_id": KEY,
            "synth_id": "a" * 16,
            "suite": "toy",
            "suite_version": 1,
            "dataset": "toy",
            "source": "kw",
            "source_method": "kw",
            "model": "net",
            "target": "net",
            "compressor": "rtn",
            "compressor_method": "rtn",
            "setting": {"weight_bits": 4, "act_bits": 4, "first_last_bits": 8},
            "setting_label": "W4A4",
            "row_id": "c" * 16,
            "job_id": KEY,
            "n": 32,
            "seed": 0,
            "preset": "mini",
            "control": "none",
            "membership": "same checkpoint",
            "status": "ok",
            "metrics": {"top1": 100 * float(bits.mean()), "fp_top1": None},
            "correct": pack_bits(bits),
            "test_count": 999,
            "costs": {"compress": StageCost(seconds=1.5)},
            "curves": {"loss": [(i, 1 / (i + 1)) for i in range(400)]},
            "source_version": 1,
            "compressor_version": 2,
        }
        return ResultRecord(**{**fields, **changes})

    return make


def make_batch(index: int, size: int = 8, *, labels: bool = True) -> ImageBatch:
    """Random images [size, 1, 8, 8] that depend on ``index`` only."""
    generator = torch.Generator().manual_seed(index)
    return ImageBatch(
        images=torch.randn(size, 1, 8, 8, generator=generator),
        labels=torch.randint(10, (size,), generator=generator) if labels else None,
        info={"models": ["net"], "loss": 0.5},
    )
