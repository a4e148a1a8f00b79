"""Is the pick of `bench advise`, blind to labels and on a fraction of the cost, near the best of a measured grid?

    python -m tests.benchmarks.advise [--share 0.1] [--store DIR] [--state FILE] [--targets A,B]

The grid of a target are its rows of the suite below as they came with the package: the candidates are the sources that
look at the target itself or at the zoo, and the grid's compressors; its cost are the recorded CPU seconds of all its
image sets, compressions and measurements.  Each target is asked for with ``--blind`` (the test images' labels hidden),
within that share of the grid's cost in CPU seconds, in this process.  The pick's accuracy is looked up in the grid, its
mean over seeds there.  A target in the state file is not asked for again; an interrupted one resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console

from bench import runtime
from bench.advise.ask import Request, ask
from bench.store.measured import read_measured
from bench.store.records import ResultRecord

SUITE = "ptq_w4a4"
WITHIN = 1.0
"""Points of top-1 that a pick may be below the grid's best."""


def grid_cost(rows: list[ResultRecord]) -> float:
    """CPU seconds: each image set once, every compression and measurement."""
    sets = {row.synth_id: row.costs["synthesis"].cpu_seconds for row in rows if "synthesis" in row.costs}
    cells = sum(row.costs[stage].cpu_seconds for row in rows for stage in ("compress", "measure"))
    return sum(sets.values()) + cells


def accuracies(rows: list[ResultRecord]) -> dict[tuple[str, str, str], float]:
    """(source, network of its images, compressor) → mean top-1 over seeds."""
    found = defaultdict(list)
    for row in rows:
        found[row.source_method, row.model, row.compressor_method].append(row.metrics["top1"])
    return {key: mean(value for value in values if value is not None) for key, values in found.items()}


def proved(target: str, rows: list[ResultRecord], share: float, store: Path) -> dict[str, Any]:
    """What came out for a target whose rows of the grid are ``rows``."""
    own = [row for row in rows if row.control == "none" and row.model in ("", target, "zoo:full")]
    names = {
        axis: "|".join(dict.fromkeys(getattr(row, f"{axis}_method") for row in own))
        for axis in ("source", "compressor")
    }
    cost = grid_cost(rows)
    request = Request(
        network=target,
        bits=(rows[0].setting_label,),
        size=None,
        seconds=share * cost,
        store=store,
        blind=True,
        only=",".join(f"{axis}={value}" for axis, value in names.items()),
        workers=0,
        suite=store / f"{target}.yaml",
        cpu=True,
    )
    said, _ = ask(request, Console(file=sys.stderr, width=140))
    pick = said.pick.cell
    table = accuracies(rows)
    mine = next(
        v
        for (s, m, c), v in table.items()
        if (s, c) == (pick.source, pick.compressor) and m in ("", target, "zoo:full")
    )
    controls = {row.source_method for row in rows if row.control != "none"}
    best = max(value for (source, _, _), value in table.items() if source not in controls)
    return {
        "target": target,
        "bits": pick.bits,
        "pick": pick.words,
        "agreement": said.pick.percent,
        "top1": mine,
        "best": best,
        "best_with_controls": max(table.values()),
        "behind": best - mine,
        "near": best - mine <= WITHIN,
        "grid_cpu_seconds": cost,
        "cpu_seconds": said.used,
        "share": said.used / cost,
        "effort": said.stage.level.effort,
        "seeds": said.pick.seeds,
        "left_out": [f"{one.name}: {one.why}" for one in said.left_out],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--store", type=Path, default=Path(".bench-advise"))
    parser.add_argument("--state", type=Path, default=Path(".bench-advise/proof.json"))
    parser.add_argument("--targets", default="")
    given = parser.parse_args()
    runtime.set_threads(1)
    by_target: dict[str, list[ResultRecord]] = {}
    for row in read_measured(suite=SUITE):
        if row.status == "ok":
            by_target.setdefault(row.target, []).append(row)
    done: dict[str, Any] = json.loads(given.state.read_text()) if given.state.is_file() else {}
    wanted = [name for name in given.targets.split(",") if name] or sorted(
        by_target, key=lambda n: grid_cost(by_target[n])
    )
    for target in wanted:
        if target not in done:
            done[target] = proved(target, by_target[target], given.share, given.store)
            given.state.parent.mkdir(parents=True, exist_ok=True)
            given.state.write_text(json.dumps(done, indent=1))
        sys.stdout.write(f"{json.dumps(done[target])}\n")
    near = sum(one["near"] for one in done.values())
    sys.stdout.write(f"{near} of {len(done)} picks within {WITHIN:g} point of the grid's best\n")


if __name__ == "__main__":
    main()
