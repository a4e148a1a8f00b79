"""Parts of the board's frame: formed, kept as Parquet, and joined."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.board.index.columns import COLUMNS
from bench.board.index.frame import frame, frame_of_rows, in_order
from bench.board.index.listing import STANDARD
from bench.board.index.rows import Versions, make_rows
from bench.board.tables.costs import SERVED, amortised
from bench.store.files import write_atomic
from bench.store.records import ResultRecord
from bench.store.verifications import Answers, Outcome


def of_cells(found: Mapping[Answers, Outcome], cells: set[str]) -> dict[Answers, Outcome]:
    """What re-runs of these cells found."""
    return {answers: outcome for answers, outcome in found.items() if answers[0] in cells}


def part_of(
    records: list[ResultRecord],
    known: Versions,
    asked: dict[Any, list[int]],
    remade: list[str],
    rerun: Mapping[Answers, Outcome],
) -> pd.DataFrame:
    """The frame of one target's records, with the ids of each line's image sets."""
    extra = sorted({name for record in records for name in record.metrics} - STANDARD)
    rows = make_rows(records, versions=known, seeds=asked)
    table = frame_of_rows(rows, extra, remade=remade, rerun=rerun)
    sets = [sorted({r.synth_id for r in rows[i].records if r.synth_id}) for i in table.index]
    return table.assign(image_sets=pd.Series(sets, index=table.index, dtype=object)).reset_index(drop=True)


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """All parts; how many rows an image set feeds and how many targets it serves is a matter of the whole suite, so it
    is counted here."""
    if not frames:
        return frame([])
    table = pd.concat(frames, ignore_index=True)
    uses = table[["suite", "image_sets"]].explode("image_sets").dropna()
    counts = uses.groupby(["suite", "image_sets"])["image_sets"].transform("size")
    table["image_set_rows"] = counts.groupby(level=0).max().reindex(table.index, fill_value=0)
    served = table.loc[table["status"].isin(SERVED), ["suite", "dataset", "target", "image_sets"]]
    targets = served.explode("image_sets").dropna().drop_duplicates().groupby(["suite", "image_sets"]).size()
    each = pd.MultiIndex.from_frame(uses)
    found = pd.Series(targets.reindex(each, fill_value=0).to_numpy(), index=uses.index)
    table["image_set_targets"] = found.groupby(level=0).max().reindex(table.index, fill_value=0)
    table = amortised(table)
    return in_order(typed(table.drop(columns="image_sets"))).reset_index(drop=True)


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """With the documented columns first, further metrics after them, each of its type."""
    types = {column.name: column.dtype for column in COLUMNS}
    types |= dict.fromkeys(sorted(set(table.columns) - set(types)), "Float64")
    return table[list(types)].astype(types)


def read_parquet(path: Path) -> pd.DataFrame | None:
    """The table kept at ``path``; None where there is none, or a damaged one, which is then made anew."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError):
        return None


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Keep ``table`` at ``path``, whole or not at all."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomic(path, buffer.getvalue())


def remove_others(folder: Path, used: set[str]) -> None:
    """Remove the tables of ``folder`` whose file names are not in ``used``."""
    for old in folder.glob("*.parquet"):
        if old.name not in used:
            old.unlink(missing_ok=True)
