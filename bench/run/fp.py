"""The target's own accuracy, measured once per network and test set and kept in the store
(docs/architecture.md#rule-4)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.data.datasets import Dataset
from bench.errors import BenchError
from bench.interfaces import ModelHandle
from bench.measure.accuracy import evaluate
from bench.store.files import write_atomic

GATE = 0.3  # points


class GateClosed(BenchError):
    """The target is not what it is registered as."""


@dataclass(frozen=True)
class FpResult:
    """Top-1 in percent in floating point: on the whole test set (what the gate compares) and on the subset in use."""

    full_top1: float
    top1: float

    def check(self, target: ModelHandle) -> None:
        """Raise GateClosed when ``target`` is off its registered accuracy by more than ``GATE``."""
        if target.fp_top1 is not None and abs(self.full_top1 - target.fp_top1) > GATE:
            raise GateClosed(f"fp_gate: measured {self.full_top1:.2f}, registered {target.fp_top1:.2f}")


def fp_result(target: ModelHandle, dataset: Dataset, subset: int | None, store: Path, device: str) -> FpResult:
    """Measure ``target`` on the test set, or read what an earlier job measured with the same weights and images."""
    key = f"{target.digest[:16]}-{dataset.test_digest(subset)[:16]}"
    path = store / "fp" / f"{key}.json"
    try:
        return FpResult(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        pass  # not measured yet, or a damaged file that the measurement replaces

    def top1_of(count: int | None) -> float:
        data = dataset.test_batches(count)
        return evaluate(target.module, data, device=device, mean=target.mean, std=target.std)[0]

    full_top1 = top1_of(None)
    top1 = full_top1 if subset is None else top1_of(subset)
    result = FpResult(full_top1, top1)
    write_atomic(path, json.dumps(asdict(result)).encode())
    return result
