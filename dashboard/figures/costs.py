"""What a compressed network costs, in words and units, and the rows that no other beats in cost and accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.board.tables.costs import pareto_front

LABELLED = 5
"""A front of more points bears their numbers, which the table beneath explains; their names would cover each other."""
LABEL = 30
"""Characters of a name at a point."""


@dataclass(frozen=True)
class Cost:
    """A column of the board that costs something: its name in words, the axis's title, its unit, and ``scale`` = what
    the column is divided by to be in that unit."""

    column: str
    label: str
    axis: str
    unit: str
    scale: float = 1.0


WORK = "work_cpu_s"
COSTS = (
    Cost(WORK, "CPU time", "CPU time of synthesis and compression, s", "s"),
    Cost("bitops_g", "bit operations", "bit operations of one image, GBitOPs", "GBitOPs"),
    Cost(
        "macs_effective",
        "effective MACs, zeroed weights not counted",
        "multiply-accumulates of one image, zeroed weights not counted, M",
        "M",
        1e6,
    ),
    Cost("size_bytes", "bytes", "size of the compressed network, kB", "kB", 1e3),
    Cost("synthesis_s", "synthesis time", "wall time of the image set, s", "s"),
    Cost("compress_s", "compression time", "wall time of the compression, s", "s"),
    Cost(
        "forward_equivalents",
        "forward-equivalents",
        "synthesis and compression, passes of one image through one network",
        "passes",
    ),
    Cost("peak_memory_mib", "peak memory", "highest of all stages, MiB", "MiB"),
)


def with_work(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with :data:`WORK`: CPU seconds of synthesis (in full) and compression; blank where one is."""
    return rows.assign(**{WORK: rows["synthesis_cpu_s"] + rows["compress_cpu_s"]})


def offered_costs(rows: pd.DataFrame) -> list[Cost]:
    """The costs a reader may choose; effective MACs where they tell more than MACs: where weights were zeroed."""
    zeroed = bool((rows["macs_effective"] != rows["macs"]).fillna(False).any())
    known = [cost for cost in COSTS if cost.column in rows]
    return [cost for cost in known if zeroed or cost.column != "macs_effective"]


def varying(rows: pd.DataFrame) -> list[str]:
    """Which of bits and images differ between rows; neither has a colour or a marker of its own."""
    return [name for name in ("setting_label", "n") if rows[name].nunique() > 1]


def contenders(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that may stand on the front: methods with a mean, neither controls nor stale."""
    stale = rows["stale"].fillna(False).astype(bool)
    return rows[(rows["control"] == "none") & ~stale & rows["top1_mean"].notna()]


def on_front(rows: pd.DataFrame, cost: Cost) -> pd.DataFrame:
    """The rows on the Pareto front of ``cost`` (low) and mean top-1 (high), cheapest first."""
    found = pareto_front(contenders(rows), cost.column).rows
    return found.sort_values([cost.column, "top1_mean"], kind="stable")


def front_labels(best: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    """What the points of a front are called: source, and what else tells rows of ``known`` apart; numbers from 1 where
    there are more than :data:`LABELLED`."""
    if len(best) > LABELLED:
        return [str(i + 1) for i in range(len(best))]
    names = ["source", *(["compressor"] if known["compressor"].nunique() > 1 else []), *varying(known)]
    return [" · ".join(_short(said(name, getattr(row, name))) for name in names) for row in best.itertuples()]


def said(name: str, value: Any) -> str:
    """A value of :func:`varying` in words."""
    return f"{value} images" if name == "n" else str(value)


def _short(text: str) -> str:
    return text if len(text) <= LABEL else text[: LABEL - 1] + "…"
