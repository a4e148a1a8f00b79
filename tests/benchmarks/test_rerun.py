"""How wide the intervals of re-runs are on the shipped rows, and how often they hold two seeds of a row that was left
out, as if these were two machines' runs of one cell.

The figures stand in docs/submissions.md (`#inside`).  This file with ``--benchmark-only -s`` prints them.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest

from bench.board.stats.rerun import Kind, kind_of, run_spreads
from bench.store.measured import read_measured
from bench.store.records import ResultRecord

pytestmark = pytest.mark.skipif("--benchmark-only" not in sys.argv, reason="a study of minutes; `make benchmarks`")

SUITES = ("quickstart", "ptq_w2a4", "ptq_w4a4")
SAMPLE = 5
"""Cells of a draw, for the intervals' level."""

Rows = dict[str, list[ResultRecord]]


def held(row: Sequence[ResultRecord], others: Sequence[ResultRecord]) -> list[bool]:
    """For each ordered pair of the row's seeds, whether the second, taken for a re-run, is inside the 95 % interval."""
    widths = [spread.half_width() for spread in run_spreads(others, row)]
    runs = [(float(r.metrics["top1"] or 0.0), width) for r, width in zip(row, widths, strict=True)]
    return [abs(again - first) <= width for (first, _), (again, width) in permutations(runs, 2)]


def study() -> list[bool]:
    """A line for each kind; whether each pair is inside."""
    found: dict[Kind, Rows] = defaultdict(lambda: defaultdict(list))
    for suite in SUITES:
        for record in read_measured(suite=suite):
            if record.status == "ok":
                found[kind_of(record)][record.row_id].append(record)
    every: list[bool] = []
    for kind, rows in found.items():
        part = [
            r for other, members in found.items() if other[:-1] == kind[:-1] for row in members.values() for r in row
        ]
        several = [row for row in rows.values() if len(row) > 1]
        hits = [hit for row in several for hit in held(row, [r for r in part if r.row_id != row[0].row_id])]
        spreads = run_spreads(part, [row[0] for row in several])
        forgeries = [spread.smallest_forgery(SAMPLE) for spread in spreads]
        half = statistics.median(spread.half_width(SAMPLE) for spread in spreads)
        line = f"{kind.title}: {len(several)} rows, ±{half:.2f}, forgery {statistics.median(forgeries):.2f}"
        sys.stdout.write(f"{line} to {max(forgeries):.2f}; {sum(hits)} of {len(hits)} pairs inside\n")
        every += hits
    return every


def test_shipped_rows_left_out(benchmark: Any) -> None:
    """95 % intervals hold about 95 % of the pairs."""
    every = benchmark.pedantic(study, rounds=1)
    sys.stdout.write(f"all: {sum(every)} of {len(every)}, {sum(every) / len(every):.1%}\n")
    assert 0.92 <= sum(every) / len(every) <= 0.98
