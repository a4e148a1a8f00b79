"""What a network must be before a job starts (docs/architecture.md#rule-4): of finite float32 weights, and as accurate
as registered, which is measured once per network and test set and kept in the store."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.data.datasets import Dataset
from bench.data.table import has_own_accuracy
from bench.errors import GateClosed
from bench.interfaces import ModelHandle
from bench.measure.accuracy import evaluate
from bench.store.bitmaps import pack_bits
from bench.store.fp import StoredFp, read_fp, write_fp
from bench.store.records import DamagedRecord
from bench.zoo.registered import GATE, expected_top1

log = logging.getLogger(__name__)


def check_sound(network: ModelHandle) -> None:
    """Look at every parameter and buffer.  The reason names the network: one of a source's may not be the row's.

    Raises:
        GateClosed: one holds NaN or infinities, or floating-point numbers other than float32.
    """
    for name, value in network.module.state_dict().items():
        if not value.is_floating_point():
            continue
        if value.dtype != torch.float32:
            kind = str(value.dtype).removeprefix("torch.")
            raise GateClosed(f"fp_gate: {name} is {kind}; networks compute in float32 ({network.name})")
        if wrong := int((~torch.isfinite(value)).sum()):
            raise GateClosed(f"fp_gate: {name} has {wrong} of {value.numel()} values not finite ({network.name})")


@dataclass(frozen=True)
class FpResult:
    """Top-1 in percent in floating point: on the whole test set (what the gate compares), whose digest is ``test``, and
    on the subset in use."""

    full_top1: float
    top1: float
    test: str = ""

    def check(self, target: ModelHandle, dataset: str) -> None:
        """Raise GateClosed when ``target`` is off its accuracy registered for ``dataset`` by more than ``GATE``.  That
        holds for the test set: on images held out of the training set, or gathered elsewhere, nothing is compared."""
        if not has_own_accuracy(dataset):
            return
        known = expected_top1(target, dataset, self.test)
        if known is not None and abs(self.full_top1 - known) > GATE:
            raise GateClosed(f"fp_gate: measured {self.full_top1:.2f}, registered {known:.2f}")


def fp_result(target: ModelHandle, dataset: Dataset, subset: int | None, store: Path, device: str) -> FpResult:
    """Measure ``target`` on the test set, or read what an earlier job measured with the same weights and images."""
    test = dataset.test_digest()
    key = f"{target.digest[:16]}-{dataset.test_digest(subset)[:16]}"
    path = store / "fp" / f"{key}.json"
    try:
        if (known := read_fp(path)) is not None:
            return FpResult(known.full_top1, known.top1, test)
    except DamagedRecord as error:
        log.warning("%s\n  It is measured again.", error)

    def measured(count: int | None) -> tuple[float, str, int]:
        data = dataset.test_batches(count)
        top1, correct = evaluate(target.module, data, device=device, mean=target.mean, std=target.std)
        return top1, pack_bits(correct), len(correct)

    full_top1, full_correct, full_count = full = measured(None)
    top1, correct, images = full if subset is None else measured(subset)
    write_fp(
        path,
        StoredFp(
            full_top1=full_top1,
            full_correct=full_correct,
            full_count=full_count,
            top1=top1,
            correct=correct,
            count=images,
        ),
    )
    return FpResult(full_top1, top1, test)
