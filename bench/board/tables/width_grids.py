"""The printed table of Delta_B and of what one training of several bit-widths costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.board.tables.grids import Cell, Grid, line_dicts, missing, number
from bench.board.tables.widths import GROUP

DEFINITION = (
    "Delta_B = 100/|B| x the sum over the bit-widths b in B of top-1 of the one network at b / top-1 of the network "
    "trained at b alone; B: the bit-widths it was trained at; 100: as good as networks of their own"
)
"""Printed wherever Delta_B is."""
PAIRED = (
    "both top-1 are means over the same seeds, of the same images, target and test images; the 95 % interval covers "
    "seeds and test images, paired"
)

_HEADERS = (
    *("one network", "trained at", "against", "Delta_B %", "95 % interval", "seeds"),
    *("passes, M", "of networks alone", "ratio", "remarks"),
)
_TEXT = frozenset({0, 1, 2, 9})
COSTS = (
    "passes: forward-equivalents of the compression in millions, per seed, once for all networks of a training, with "
    "the calibration of bit-widths that were not trained; of networks alone: of those at the same bit-widths, a "
    "training that made several counting for each by an equal part"
)
"""Printed where costs are."""


def width_grids(table: pd.DataFrame) -> list[Grid]:
    """Delta_B and costs, one grid per group of rows that has networks trained alone, from :func:`line_table`."""
    grids = []
    for key, part in table.groupby(list(GROUP), sort=False):
        own = part[~part["alone"]]
        if own.empty or not part["alone"].any():
            continue
        grids.append(Grid(f"Delta_B: {group_name(key)}", _HEADERS, _TEXT, _grid_rows(own), notes(own)))
    return grids


def group_name(key: Any) -> str:
    """Values of :data:`GROUP` in words."""
    of = {name: str(value) for name, value in zip(GROUP, key, strict=True)}
    source = f"{of['source']} [{of['model']}]" if of["model"] else of["source"]
    words = (of["suite"], f"{of['dataset']}/{of['target']}", source, of["policy"], f"{of['n']} images")
    return " · ".join([*filter(None, words), f"preset {of['preset']}"])


def notes(table: pd.DataFrame) -> tuple[str, ...]:
    """What a reader of these lines must know, sentences."""
    told = [DEFINITION]
    if table["delta_b"].notna().any():
        told.append(PAIRED)
        if (table["seeds"].fillna("").str.partition(" ")[0] == "1").any():
            told.append(
                "one seed: the interval has what the rows beside it, or the shipped ones, vary by between seeds"
            )
    if table["passes"].notna().any():
        told.append(COSTS)
    return tuple(told)


def _grid_rows(own: pd.DataFrame) -> tuple[tuple[Cell, ...], ...]:
    return tuple(tuple(map(Cell, _texts(row))) for row in line_dicts(own))


def _texts(row: Mapping[str, Any]) -> tuple[str, ...]:
    blank = missing(row["delta_b"])
    mine, theirs = (None if missing(row[name]) else row[name] / 1e6 for name in ("passes", "reference_passes"))
    return (
        str(row["compressor"]),
        str(row["widths"]),
        "" if missing(row["reference"]) else str(row["reference"]),
        number(row["delta_b"]),
        number(None) if blank else f"[{number(row['delta_low'])}, {number(row['delta_high'])}]",
        "" if missing(row["seeds"]) else str(row["seeds"]),
        number(mine, 3),
        number(theirs, 3),
        number(mine / theirs if mine and theirs else None),
        "" if missing(row["reason"]) else str(row["reason"]),
    )
