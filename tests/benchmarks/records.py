"""Many plausible records as JSON files, fast: text from a template, bitmaps of 10,000 images from a pool."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.spec.plan import Plan
from bench.store.bitmaps import pack_bits
from bench.store.record_store import RecordStore
from bench.store.records import ResultRecord, StageCost
from bench.store.seals import sealed

IMAGES = 10_000
SEEDS = 5
SOURCES = 20
COMPRESSORS = 2
BITS = ("W2A4", "W4A4", "W4A8", "W8A8", "W3A3")
TARGETS = 10
PER_SUITE = SEEDS * SOURCES * COMPRESSORS * len(BITS) * TARGETS  # 10,000

_SLOTS = (
    *("cell_id", "row_id", "job_id", "synth_id", "suite", "source", "target", "compressor", "setting_label", "seed"),
    *("control", "protocol_id"),
)


_ROW = ("suite", "target", "compressor", "setting_label", "source")


def write_records(root: Path, count: int) -> None:
    """``count`` records in suites of 10,000: 20 sources (two of them controls) x 2 compressors x 5 bits x 10 targets x
    5 seeds, with curves and costs as the quick suites make them, about 4 kB each."""
    RecordStore(root)
    before, middle, after = _template()
    pool = _bitmaps()
    for number, facts in enumerate(_grid(count)):
        level = (facts["row"] * 7 + facts["place"]) % len(pool)
        correct, top1 = pool[level][facts["seed"]]
        folder = root / "records" / f"{facts['suite']}@1"
        folder.mkdir(parents=True, exist_ok=True)
        row = hashlib.sha256(json.dumps([facts[k] for k in _ROW]).encode()).hexdigest()[:16]
        cell = hashlib.sha256(str(number).encode()).hexdigest()[:32]
        synth = hashlib.sha256(f"{facts['suite']}{facts['source']}{facts['seed']}".encode()).hexdigest()[:32]
        filled = {
            **facts,
            "cell_id": cell,
            "row_id": row,
            "synth_id": synth,
            "job_id": cell,
            "protocol_id": f"p-{facts['setting_label']}",
        }
        head = ", ".join(f"{json.dumps(k)}: {json.dumps(filled[k])}" for k in _SLOTS)
        metrics = f'"correct": "{correct}", "metrics": {{"top1": {top1}, "fp_top1": 91.0, {middle}'
        (folder / f"{cell}.json").write_bytes(sealed(json.loads(f"{before}{head}, {metrics}{after}")))


def _grid(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        suite, rest = divmod(number, PER_SUITE)
        rest, seed = divmod(rest, SEEDS)
        rest, source = divmod(rest, SOURCES)
        rest, compressor = divmod(rest, COMPRESSORS)
        target, bits = divmod(rest, len(BITS))
        yield {
            "suite": f"suite_{suite}",
            "target": f"net_{target}",
            "compressor": f"compressor_{compressor}",
            "setting_label": BITS[bits],
            "source": f"source_{source}",
            "control": {0: "upper", 1: "lower"}.get(source, "none"),
            "seed": seed,
            "row": source + SOURCES * compressor,
            "place": target,
        }


def _bitmaps() -> list[list[tuple[str, float]]]:
    """Accuracy level → per seed the packed bits and their top-1; rows of one seed are paired by hard images."""
    generator = np.random.default_rng(0)
    hard = generator.random(IMAGES)
    out = []
    for level in np.linspace(0.6, 0.9, 40):
        seeds = []
        for _ in range(SEEDS):
            correct = hard + 0.1 * generator.standard_normal(IMAGES) < level
            seeds.append((pack_bits(correct), 100 * float(correct.mean())))
        out.append(seeds)
    return out


def write_cells(root: Path, plan: Plan) -> None:
    """A record with status ok of every cell of ``plan``, about 4 kB each."""
    RecordStore(root)
    suite = plan.suite
    folder = root / "records" / f"{suite.suite}@{suite.version}"
    folder.mkdir(parents=True)
    correct, top1 = _bitmaps()[20][0]
    facts = {"suite": suite.suite, "suite_version": suite.version, "correct": correct, "metrics": {"top1": top1}}
    raw = {**_made().model_dump(mode="json"), **facts}
    for cell in plan.applicable:
        (folder / f"{cell.cell_id}.json").write_bytes(sealed({**raw, **cell.axes()}))


def _made() -> ResultRecord:
    cost = StageCost(seconds=12.5, cpu_seconds=12.1, forward_equivalents=2560, peak_memory_mib=812.0)
    return ResultRecord(
        **dict.fromkeys(_SLOTS, "x") | {"seed": 0},  # type: ignore[arg-type]
        suite_version=1,
        dataset="fashion_mnist",
        source_method="a",
        model="",
        compressor_method="b",
        n=256,
        preset="mini",
        membership="none",
        status="ok",
        test_count=IMAGES,
        test_digest="t" * 64,
        costs={"synthesis": cost, "compress": cost, "measure": cost, "fp": cost},
        protocol={"weights": {"bits": 4, "per": "channel"}, "activations": {"bits": 4}, "first_last": 8},
        curves={name: [(i, 1.5 / (i + 1)) for i in range(24)] for name in ("loss", "bn", "ce")},
        source_version=1,
        compressor_version=1,
        target_digest="w" * 64,
        provenance={"finished": 1.79e9, "torch": "2.15.0", "threads": 1},
    )


def _template() -> tuple[str, str, str]:
    """A record's text before its changing fields, within its metrics, and after."""
    raw = {k: v for k, v in _made().model_dump(mode="json").items() if k not in (*_SLOTS, "correct", "metrics")}
    text = json.dumps(raw)
    return "{", '"macs": 1.1e7, "bitops_g": 0.7, "size_bytes": 90000.0, "size_ratio": 0.13}, ', text[1:]
