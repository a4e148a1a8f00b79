"""The board that MLflow is told at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.cli.board import tabled
from bench.run.tracked import Summary
from bench.spec.plan import Plan
from bench.store.records import ResultRecord

_OVER_SEEDS = {
    "top1": "top1_mean",
    "top1_low": "top1_low",
    "top1_high": "top1_high",
    "fp_top1": "fp_top1",
    "drop": "drop",
    "rank": "rank",
    "rank_low": "rank_low",
    "rank_high": "rank_high",
    "bitops_g": "bitops_g",
    "size_bytes": "size_bytes",
    "cpu_s": "cpu_s",
}
"""Metric of a row's run → column of the frame."""


def summary_of(plan: Plan, records: Sequence[ResultRecord]) -> Summary:
    """The board of ``records`` as Markdown and CSV, and of each row what its seeds say together."""
    from bench.board.tables.report import report

    table, verdicts = tabled(records, plan)
    files = {
        "board.md": str(report(table, "md", verdicts=verdicts, records=records)),
        "board.csv": str(report(table, "csv")),
    }
    rows = {
        str(row["row_id"]): {
            metric: float(row[column]) for metric, column in _OVER_SEEDS.items() if pd.notna(row[column])
        }
        for row in table.to_dict("records")
    }
    return Summary(files, rows)
