"""Records for the board's tests: real bitmaps of a chosen accuracy, everything else filled in."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.store.records import ResultRecord, StageCost, pack_bits

IMAGES = 2000


def bits(accuracy: float, seed: int = 0, images: int = IMAGES) -> np.ndarray:
    """Correctness [images] with exactly round(accuracy·images) right answers, at places that depend on ``seed``.

    The same hard images come first for every accuracy of one seed, so rows of one seed are strongly paired.
    """
    order = np.random.default_rng(seed).permutation(images)
    correct = np.zeros(images, dtype=bool)
    correct[order[: round(accuracy * images)]] = True
    return correct


def record(correct: np.ndarray | float | None = None, **fields: Any) -> ResultRecord:
    """A record; ``correct`` is a bitmap or an accuracy in [0, 1], None for a cell that was not measured."""
    if isinstance(correct, float):
        correct = bits(correct, seed=17 + int(fields.get("seed", 0)))
    given: dict[str, Any] = {
        "suite": "s",
        "suite_version": 1,
        "dataset": "d",
        "source": "mixmix",
        "model": "",
        "target": "resnet18_w10",
        "compressor": "brecq",
        "bits": "W4A4",
        "n": 256,
        "seed": 0,
        "preset": "mini",
        "control": "none",
        "membership": "none",
        "status": "ok" if correct is not None else "failed",
        "protocol_id": "p1" if correct is not None else None,
        "test_digest": "t1",
        "target_digest": "w1",
        "source_version": 1,
        "compressor_version": 1,
        "access": "T2a",
    }
    given |= fields
    keys = ("suite", "suite_version", "source", "model", "target", "compressor", "bits", "n", "preset")
    synth = "|".join(str(given[k]) for k in ("source", "model", "seed", "preset", "source_version"))
    given.setdefault("synth_id", synth)
    versions = (given["source_version"], given["compressor_version"], given["seed"], given["target_digest"])
    given.setdefault("cell_id", "|".join(map(str, (*(given[k] for k in keys), *versions))))
    given.setdefault("source_method", given["source"].partition("(")[0])
    given.setdefault("compressor_method", given["compressor"].partition("(")[0])
    if correct is not None:
        top1 = 100 * float(np.mean(correct))
        given["metrics"] = {"top1": top1, "fp_top1": 90.0, "bitops_g": 1.5, "size_bytes": 1000.0} | given.get(
            "metrics", {}
        )
        given.setdefault("correct", pack_bits(correct))
        given.setdefault("test_count", len(correct))
        costs = {
            "synthesis": StageCost(seconds=10, cpu_seconds=20, forward_equivalents=100, peak_memory_mib=50),
            "compress": StageCost(seconds=5, cpu_seconds=6, forward_equivalents=7, peak_memory_mib=70),
            "measure": StageCost(seconds=1, cpu_seconds=2),
        }
        given.setdefault("costs", costs)
    return ResultRecord(**given)


def seeds(accuracies: list[float], **fields: Any) -> list[ResultRecord]:
    """One record per accuracy, seeds 0, 1, …"""
    return [record(value, seed=k, **fields) for k, value in enumerate(accuracies)]
