"""A cell's compressed network, made again: the one that was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError, NotApplicable
from bench.measure.accuracy import evaluate
from bench.run.again import Place, make_again
from bench.store.bitmaps import pack_bits

from .conftest import Run


def quiet(stage: str, step: int, total: int) -> None: ...


def test_it_is_right_where_the_record_says_so(run: Run, suite: Path, tmp_path: Path) -> None:
    record = run(only="seed=1")[0]
    again = make_again(record, Place(tmp_path / "store", str(suite)), quiet)
    batches = again.dataset.test_batches(again.cell.test_subset)
    top1, correct = evaluate(again.variant.module, batches, device="cpu", mean=again.target.mean, std=again.target.std)
    assert top1 == record.metrics["top1"]
    assert pack_bits(correct) == record.correct
    assert again.images.digest == record.image_digest
    assert again.variant.inspection is not None
    with pytest.raises(BenchError, match="no such cell") as refused:
        make_again(record.model_copy(update={"cell_id": "0" * 16}), Place(tmp_path / "store", str(suite)), quiet)
    assert "run the suite again" in str(refused.value)
    with pytest.raises(BenchError, match="did not come with the package") as unnamed:
        make_again(record, Place(tmp_path / "store"), quiet)
    assert "--suite FILE" in str(unnamed.value)
    changed = record.model_copy(update={"status": "not_applicable", "reason": "no batch normalisation"})
    with pytest.raises(NotApplicable, match="no network"):
        make_again(changed, Place(tmp_path), quiet)
