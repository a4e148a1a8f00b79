"""The reproduction gap between a printed number and ours, formed where both are of one scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.board.tables.published import plain, width_mark

MAX_FP_DIFFERENCE = 3.0
"""Points of top-1 between the printed uncompressed network and ours beyond which they are not one network trained
alike; checkpoints of one architecture in these papers differ by less than 2."""


def reproduction_gap(joined: pd.DataFrame) -> pd.DataFrame:
    """``joined`` (from :func:`bench.board.tables.published.join`) with the reproduction gap, claimed minus measured in
    points of top-1.

    It is formed where data set and architecture are the same and the network has its full width; elsewhere it is blank
    and ``gap_reason`` says why.  Its interval is the measured one's, mirrored: a printed number brings none of its own.

    Returns:
        A copy with columns gap, gap_low, gap_high (Float64, points) and gap_reason (text, empty where there is a gap).
    """
    table = joined.copy()
    reasons = [_why_no_gap(row) for row in table.to_dict("records")]
    formed = pd.Series([reason == "" for reason in reasons], index=table.index, dtype=bool)
    claimed = table["published_mean"].astype("Float64").where(formed)
    for name, column in (("gap", "top1_mean"), ("gap_low", "top1_high"), ("gap_high", "top1_low")):
        table[name] = (claimed - table[column].astype("Float64")).astype("Float64")
    table["gap_reason"] = pd.Series(reasons, index=table.index, dtype="str")
    return table


def _why_no_gap(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["published_mean"]):
        return "no printed number"
    if pd.isna(row["top1_mean"]):
        return f"not measured ({row['seeds']} seeds)"
    if row["stale"]:
        return "measured with an older version of the method"
    if plain(row["dataset"]) != plain(row["published_dataset"]):
        return f"measured on {row['dataset']}, claimed on {row['published_dataset']}"
    if width_mark(row["target"]):
        return f"{row['target']} is not the full-width {row['published_target']}"
    fp, claimed = row["fp_top1"], row["published_fp"]
    if not (pd.isna(fp) or pd.isna(claimed)) and abs(fp - claimed) > MAX_FP_DIFFERENCE:
        return f"another checkpoint: uncompressed {fp:.2f} measured, {claimed:.2f} claimed"
    return ""
