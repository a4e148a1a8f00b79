"""How far results move between instruction sets, beside how far they move between seeds.

``python -m tests.benchmarks.spread``.  One suite, measured once for each of :data:`SETS` into a store of its own; the
instruction set is forced down by environment variables, so one machine with AVX-512 stands for several.  What this
cannot show: whether two *processors* under the same variables agree.  For that, copy the folder of a ``portable`` store
to the other machine, run there with ``--only-sets portable --folder OTHER``, and compare with ``--beside``.

Everything is measured anew (``--fresh``), synthesis included.  Never part of the tests.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from bench.machine import KERNELS, VARIABLES, machine_key
from bench.store.record_store import RecordReader
from bench.store.records import ResultRecord

SETS: Mapping[str, Mapping[str, str]] = {
    "native": {},
    "avx2": {name: KERNELS["portable"][name] for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")},
    "portable": KERNELS["portable"],
}
"""Name → what is set in the environment; ``avx2`` leaves the BLAS as it is."""

Measured = Mapping[str, Sequence[ResultRecord]]
"""Instruction set → the records measured under it."""


@dataclass(frozen=True)
class Spread:
    """Of one target, setting and compressor, in points of top-1; ``rows`` (a source each) on ``seeds`` seeds.

    ``between_sets``: standard deviation over instruction sets of one row and seed, ``between_seeds``: over seeds of one
    row and instruction set, both pooled over what is left (root of the mean variance); None where there is one only.
    ``largest``: furthest apart that two sets are at one row and seed.  ``equal``: of ``pairs`` pairs of sets at one row
    and seed, those whose right answers are the same on every test image.
    """

    name: tuple[str, str, str]
    rows: int
    seeds: int
    between_sets: float | None
    between_seeds: float | None
    largest: float
    equal: int
    pairs: int


def spreads(measured: Measured) -> list[Spread]:
    """A line for each target, setting and compressor; only rows and seeds that every set has."""
    cells: dict[tuple[str, str, str], dict[tuple[str, str, int], dict[str, ResultRecord]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for name, records in measured.items():
        for r in records:
            if r.status == "ok" and r.metrics.get("top1") is not None:
                group = (r.target, r.setting_label, r.compressor)
                cells[group][f"{r.source} {r.n}", r.model, r.seed][name] = r
    lines = []
    for group, found in sorted(cells.items()):
        whole = {key: one for key, one in found.items() if len(one) == len(measured)}
        if whole:
            lines.append(_spread(group, whole))
    return lines


def _spread(name: tuple[str, str, str], cells: Mapping[tuple[str, str, int], Mapping[str, ResultRecord]]) -> Spread:
    across = [[_top1(r) for r in one.values()] for one in cells.values()]
    along: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for (source, model, _), one in cells.items():
        for kernels, record in one.items():
            along[source, model, kernels].append(_top1(record))
    pairs = [pair for one in cells.values() for pair in combinations(one.values(), 2)]
    return Spread(
        name=name,
        rows=len({key[:2] for key in cells}),
        seeds=len({seed for _, _, seed in cells}),
        between_sets=_pooled(across),
        between_seeds=_pooled(along.values()),
        largest=max(max(values) - min(values) for values in across),
        equal=sum(a.correct == b.correct for a, b in pairs),
        pairs=len(pairs),
    )


def _top1(record: ResultRecord) -> float:
    return float(record.metrics["top1"] or 0.0)


def _pooled(groups: Iterable[Sequence[float]]) -> float | None:
    """Root of the mean sample variance of groups of two and more."""
    found = [statistics.variance(group) for group in groups if len(group) > 1]
    return statistics.fmean(found) ** 0.5 if found else None


def cpu_seconds(records: Iterable[ResultRecord]) -> float:
    """CPU seconds of compressions, measurements and, once each, image sets."""
    sets: dict[str, float] = {}
    total = 0.0
    for record in records:
        total += sum(cost.cpu_seconds for stage, cost in record.costs.items() if stage in ("compress", "measure"))
        if record.synth_id and "synthesis" in record.costs:
            sets[record.synth_id] = record.costs["synthesis"].cpu_seconds
    return total + sum(sets.values())


def equal_image_sets(measured: Measured) -> tuple[int, int]:
    """How many image sets have one content under all instruction sets, of those that each of them made."""
    digests: dict[str, dict[str, str]] = defaultdict(dict)
    for name, records in measured.items():
        for record in records:
            if record.synth_id and record.image_digest:
                digests[f"{record.synth_id} {record.n}"][name] = record.image_digest
    whole = [found for found in digests.values() if len(found) == len(measured)]
    return sum(len(set(found.values())) == 1 for found in whole), len(whole)


def table(measured: Measured) -> str:
    """What is printed."""
    lines = [f"{'kernels':<10} {'machine':<28} {'cells':>5} {'CPU s':>8}"]
    for name, records in measured.items():
        machines = ", ".join(sorted({machine_key(r.provenance) for r in records}))
        lines.append(f"{name:<10} {machines:<28} {len(records):>5} {cpu_seconds(records):>8.1f}")
    same, known = equal_image_sets(measured)
    lines += [
        "",
        f"image sets that are equal to the bit under all of them: {same} of {known}",
        "size: rows x seeds, a row being a source; equal cells: the same answers are right on every test image",
        "points of top-1: deviation between instruction sets, deviation between seeds, furthest apart at one seed",
        f"{'target':<20} {'bits':<6} {'compressor':<12} {'size':>8} {'sets':>7} {'seeds':>7} {'most':>7}  equal cells",
    ]
    for one in spreads(measured):
        target, bits, compressor = one.name
        between = (f"{'–' if value is None else f'{value:.2f}':>7}" for value in (one.between_sets, one.between_seeds))
        size = f"{one.rows} x {one.seeds}"
        shown = f"{target:<20} {bits:<6} {compressor:<12} {size:>8} {' '.join(between)} {one.largest:>7.2f}"
        lines.append(f"{shown}  {one.equal} of {one.pairs} pairs")
    return "\n".join(lines)


def measure(name: str, store: Path, suite: str, options: Sequence[str]) -> None:
    """Run the suite under the set's environment; everything is measured again.

    Raises:
        CalledProcessError: a cell failed.
    """
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES} | dict(SETS[name])
    command = [
        sys.executable,
        "-c",
        "from bench.cli.app import main; main()",
        "run",
        suite,
        "--fresh",
        "--tracker",
        "none",
    ]
    subprocess.run([*command, "--store", str(store), *options], env=environment, check=True)


def main() -> None:
    """Measure what is asked for, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--suite", default="quickstart")
    parser.add_argument("--seeds", default="[0, 1, 2]", help="as YAML")
    parser.add_argument("--only", help="as `bench run --only`")
    parser.add_argument("--set", dest="sets", action="append", default=[], help="as `bench run --set`")
    parser.add_argument("--workers", help="as `bench run --workers`")
    parser.add_argument("--folder", type=Path, default=Path(".bench-spread"), help="of the stores")
    parser.add_argument("--only-sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="further stores to compare with")
    parser.add_argument("--print", dest="only_print", action="store_true", help="measure nothing")
    given = parser.parse_args()
    options = [part for value in (f"seeds={given.seeds}", *given.sets) for part in ("--set", value)]
    for name in ("only", "workers"):
        options += [f"--{name}", getattr(given, name)] if getattr(given, name) else []
    stores = {name: given.folder / name for name in given.only_sets}
    for name, store in {} if given.only_print else stores.items():
        measure(name, store, given.suite, options)
    stores |= {str(store): store for store in given.beside}
    sys.stdout.write(table({name: RecordReader(store).all() for name, store in stores.items()}) + "\n")


if __name__ == "__main__":
    main()
