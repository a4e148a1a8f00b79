"""Records for the board's tests: real bitmaps of a chosen accuracy, everything else filled in."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from bench.board.stats.paired import Bitmaps
from bench.store.bitmaps import pack_bits
from bench.store.image_gate import ImageGate
from bench.store.records import ResultRecord, StageCost

IMAGES = 2000


def bits(accuracy: float, seed: int = 0, images: int = IMAGES) -> np.ndarray:
    """Correctness [images] with exactly round(accuracy·images) right answers, at places that depend on ``seed``.

    The same hard images come first for every accuracy of one seed, so rows of one seed are strongly paired.
    """
    order = np.random.default_rng(seed).permutation(images)
    correct = np.zeros(images, dtype=bool)
    correct[order[: round(accuracy * images)]] = True
    return correct


def gate(top1: float) -> ImageGate:
    """The verdict on images of which their own networks find so many labels (per cent), statistics met."""
    return ImageGate(top1=top1, bn_loss=1, noise_bn_loss=4, bn_share=0.25, n=9, flagged=top1 < 90)


def paired_rows(means: list[float], seeds: int = 1, images: int = 2000, key: int = 0) -> list[Bitmaps]:
    """Rows of about these accuracies, paired by the images' difficulty."""
    rng = np.random.default_rng(key)
    easy = rng.beta(4, 1.5, images)
    return [{s: rng.random(images) < easy + mean - easy.mean() for s in range(seeds)} for mean in means]


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
        "setting_label": "W4A4",
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
    keys = ("suite", "suite_version", "source", "model", "target", "compressor", "setting_label", "n", "preset")
    synth = "|".join(str(given[k]) for k in ("source", "model", "seed", "preset", "source_version"))
    given.setdefault("synth_id", synth)
    versions = (given["source_version"], given["compressor_version"], given["seed"], given["target_digest"])
    named = tuple(given[k] for k in keys)
    searched = tuple(filter(None, [given.get("policy")]))
    given.setdefault("cell_id", "|".join(map(str, (*named, *versions, *searched))))
    inner = (given.get("source_params"), given.get("compressor_params"), given.get("model_digests"))
    tests = (given["dataset"], given["target_digest"], given["test_digest"])
    row = (*named[2:-1], *versions[:2], *tests, *inner, *searched)
    given.setdefault("row_id", "|".join(map(str, row)))
    given.setdefault("job_id", given["cell_id"])
    given.setdefault("setting", setting_of(given["setting_label"]))
    given.setdefault("source_method", given["source"].partition("(")[0])
    given.setdefault("delivery", "stream" if given["source"].endswith(("(stream)", ", stream)")) else "cached")
    for kind in ("source", "compressor"):
        inside = given[kind].partition("(")[2].removesuffix(")") if "+" not in given[kind] else ""
        words = [word.partition("=") for word in inside.split(", ") if word and word != "stream"]
        told = {key: value if value.isalpha() else json.loads(value) for key, equals, value in words if equals}
        known = {"true": True, "false": False}
        given.setdefault(f"{kind}_changes", {key: known.get(value, value) for key, value in told.items()})
    given.setdefault("compressor_method", re.sub(r"\([^()]*\)", "", given["compressor"]))
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


def twice(correct: np.ndarray | float, **fields: Any) -> list[ResultRecord]:
    """The same answers under two seeds, the fewest that are ranked."""
    return [record(correct, seed=seed, **fields) for seed in (0, 1)]


def setting_of(label: str) -> dict[str, Any]:
    """The setting that a label such as ``S50 W4A4`` stands for; any other word is a student."""
    found: dict[str, Any] = {}
    for word in label.split():
        if bits_found := re.fullmatch(r"W(\d+)A(\d+)", word):
            found |= {"weight_bits": int(bits_found[1]), "act_bits": int(bits_found[2]), "first_last_bits": 8}
        elif part := re.fullmatch(r"S([\d.]+)", word):
            found["sparsity"] = float(part[1]) / 100
        else:
            found["student"] = f"d/{word}"
    return found


def seeds(accuracies: list[float], **fields: Any) -> list[ResultRecord]:
    """One record per accuracy, seeds 0, 1, …"""
    return [record(value, seed=k, **fields) for k, value in enumerate(accuracies)]
