"""How well agreement with the float network foretells accuracy: the record behind what `bench advise` says without
labels.

    python -m tests.benchmarks.advise_proxy [--store DIR] [--targets A,B] [--state FILE]

Each embedded target is compressed at W4A4 from 64 images of several sources by several compressors, at small shares of
their presets, so that the networks differ.  Of every compressed network: accuracy on half of the test images, agreement
with the float network on the other half (labels unseen), and agreement on foreign images of either kind.  Writes
bench/advise/proxy.json; a target that the state file holds is not measured again.  Some minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from scipy.special import stdtrit
from torch import Tensor

from bench import runtime
from bench.advise.exam import paired
from bench.data.datasets import images_at, labels_of
from bench.interfaces.ranks import rank_correlation
from bench.measure.accuracy import batches, predictions
from bench.run.compression import made_again, variant_of
from bench.run.session import Options, plan_of
from bench.run.tasks import Settings
from bench.run.worker import Bench
from bench.spec.graph import CompressionJob
from bench.spec.plan import Plan

RECORD = Path("bench/advise/proxy.json")
IMAGES = 64
FOREIGN = 512
TESTED = 4000
"""Of the test images: half for accuracy, half for agreement."""
SUITE: dict[str, Any] = {
    "suite": "advise_proxy",
    "version": 1,
    "dataset": "fashion_mnist",
    "grid": {
        "source": [
            *({name: {"batch": 64}} for name in ("dead_leaves", "ood")),
            {"zeroq": {"iterations": 40}},
            {"kw": {"iterations": 40, "batch": 64}},
        ],
        "target": ["*"],
        "compressor": [
            *("rtn", "dfq"),
            *({name: {"iterations": 30}} for name in ("brecq", "qdrop")),
        ],
        "bits": ["W4A4"],
    },
    "images": IMAGES,
    "seeds": [0],
}
KINDS = {"T1": "dead_leaves", "T3": "ood"}
"""Tier of foreign images → the source that makes them here."""


def plan(target: str = "*", **changes: Any) -> Plan:
    suite = {**SUITE, **changes, "grid": {**SUITE["grid"], "target": [target], **changes.get("grid", {})}}
    return plan_of(Options("advise_proxy"), json.dumps(suite))


def foreign(bench: Bench, target: str) -> dict[str, Tensor]:
    """Tier → images [N,C,H,W] in the target's constants."""
    from bench.run.batch import make_batch, read_images, renormalised

    found = plan(target, images=FOREIGN, seeds=[99], grid={"source": list(KINDS.values()), "compressor": ["rtn"]})
    sets = {}
    for job in found.synths:
        for index in range(job.batches):
            make_batch(bench, job, index, _quiet)
        images = renormalised(read_images(bench, job, FOREIGN, _quiet), job, bench.model(found.cells[0].target_name))
        sets[next(tier for tier, name in KINDS.items() if name == job.source.method)] = images.images
    return sets


def measured(bench: Bench, target: str) -> Iterator[dict[str, Any]]:
    """A line for each compressed network: what it is of, its accuracy and its agreements in percent."""
    found = plan(target)
    network = bench.model(found.cells[0].target_name)
    split = bench.dataset("fashion_mnist").test()
    places = torch.from_numpy(paired(len(split.labels), TESTED))
    labels = labels_of(split)[places]
    constants = {"device": "cpu", "mean": network.mean, "std": network.std}
    asked = {"test": images_at(split, places), **foreign(bench, target)}
    plain = {kind: predictions(network.module, batches(images), **constants) for kind, images in asked.items()}
    for job in found.graph():
        if not isinstance(job, CompressionJob):
            from bench.run.batch import make_batch

            make_batch(bench, job.images, job.index, _quiet)  # type: ignore[attr-defined]
            continue
        cell = job.first
        module = variant_of(made_again(bench, job, _quiet).compressed, cell).module
        said = {kind: predictions(module, batches(images), **constants) for kind, images in asked.items()}
        right, same = said["test"] == labels, said["test"] == plain["test"]
        yield {
            "target": cell.target,
            "source": cell.source,
            "control": cell.control,
            "compressor": cell.compressor,
            "top1": _percent(right[0::2]),
            "unlabelled": _percent(same[1::2]),
            **{tier: _percent(said[tier] == plain[tier]) for tier in KINDS},
        }


def _percent(right: Tensor) -> float:
    return round(100 * float(right.float().mean()), 3)


def _quiet(stage: str, step: int, total: int) -> None: ...


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Kind of images → correlation over the compressed networks of each target and its mean with a 95 % interval over
    targets (Student's t on Fisher's z); ``lost``: points of accuracy that the best by the proxy is below the best, the
    mean over targets."""
    out = {}
    for kind in ("unlabelled", *KINDS):
        by_target, lost = {}, []
        for target in dict.fromkeys(row["target"] for row in rows):
            mine = [row for row in rows if row["target"] == target and row["control"] == "none"]
            value = rank_correlation([row[kind] for row in mine], [row["top1"] for row in mine])
            assert value is not None
            by_target[target] = round(value, 3)
            pick = max(mine, key=lambda row: row[kind])
            lost.append(max(row["top1"] for row in mine) - pick["top1"])
        z = [math.atanh(min(value, 0.999)) for value in by_target.values()]
        half = 0.0
        if len(z) > 1:
            half = -float(stdtrit(len(z) - 1, 0.025)) * statistics.stdev(z) / math.sqrt(len(z))
        centre = statistics.mean(z)
        out[kind] = {
            "correlation": round(math.tanh(centre), 3),
            "interval": [round(math.tanh(centre - half), 3), round(math.tanh(centre + half), 3)],
            "targets": by_target,
            "lost": round(statistics.mean(lost), 3),
            "lost_most": round(max(lost), 3),
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path(".bench-proxy"))
    parser.add_argument("--targets", default="")
    parser.add_argument("--state", type=Path, default=Path(".bench-proxy/rows.json"))
    parser.add_argument("--out", type=Path, default=RECORD)
    given = parser.parse_args()
    runtime.set_threads(1)
    bench = Bench(Settings(str(given.store.resolve())))
    names = [name for name in given.targets.split(",") if name] or [
        name.rpartition("/")[2] for name in dict.fromkeys(cell.target_name for cell in plan().cells)
    ]
    rows: list[dict[str, Any]] = json.loads(given.state.read_text()) if given.state.is_file() else []
    for name in names:
        if any(row["target"] == name for row in rows):
            continue
        began = time.process_time()
        rows += list(measured(bench, name))
        given.state.parent.mkdir(parents=True, exist_ok=True)
        given.state.write_text(json.dumps(rows))
        mine = json.dumps(summary([row for row in rows if row["target"] == name]))
        sys.stdout.write(f"{name} {time.process_time() - began:.0f} CPU s {mine}\n")
    facts = runtime.facts("cpu", 1)
    record = {
        "made_by": "tests/benchmarks/advise_proxy.py",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {key: facts[key] for key in ("cpu", "cpu_model", "cores", "platform", "torch") if key in facts},
        "dataset": SUITE["dataset"],
        "bits": SUITE["grid"]["bits"][0],
        "networks": len([row for row in rows if row["control"] == "none"]),
        "kinds": summary(rows),
    }
    given.out.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
