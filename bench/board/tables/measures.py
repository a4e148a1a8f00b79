"""Measures of images as one table: a line per source, a column per measure, each the mean over the networks.

The whole tables, networks by sources with the deviation over networks, are
:func:`bench.board.tables.pivots.metric_grids`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.board.index.rows import Row
from bench.board.tables.answers import Namer
from bench.board.tables.signs import STALE
from bench.board.tables.words import BLANK, significant

ENDS = ("_low", "_high", "_std")
"""Endings of what belongs to another measure: its interval, its deviation."""


@dataclass(frozen=True)
class MeasureTable:
    """``lines``: name and a text per measure; a blank with "k of n" where a network's value is missing.  ``held_out``:
    the networks whose architecture took no part in any line's images, over which means are; all where there is none."""

    dataset: str
    preset: str
    images: int
    networks: tuple[str, ...]
    held_out: bool
    measures: tuple[str, ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]


def measure_tables(
    rows: Sequence[Row],
    measures: Sequence[str],
    *,
    shown: Callable[[Row], bool] = lambda row: True,
    measured_on: Callable[[Row], bool] = lambda row: True,
) -> list[MeasureTable]:
    """One table per data set, preset and image count of the rows without a compressor; ``shown`` and ``measured_on`` as
    :func:`bench.board.tables.answers.source_tables` takes them."""
    namer, parts = Namer(rows), defaultdict[tuple[str, str, int], list[Row]](list)
    for row in rows:
        if not row.head.compressor and measured_on(row):
            parts[row.head.dataset, row.head.preset, row.head.n].append(row)
    tables = []
    for (dataset, preset, images), members in parts.items():
        targets = list(dict.fromkeys(row.head.target for row in members))
        used = {row.head.target for row in members if row.head.membership not in ("none", "held-out architecture")}
        held = [target for target in targets if target not in used]
        networks = tuple(held or targets)
        known = [name for name in measures if not name.endswith(ENDS) and any(row.metric(name) for row in members)]
        lines = defaultdict[str, list[Row]](list)
        for row in sorted(members, key=lambda row: {"upper": 0, "lower": 1}.get(row.head.control, 2)):
            lines[namer.name(row)].append(row)
        texts = [
            (name + _sign(own), tuple(_mean(own, networks, measure) for measure in known))
            for name, own in lines.items()
            if any(shown(row) for row in own)
        ]
        if texts:
            tables.append(MeasureTable(dataset, preset, images, networks, bool(held), tuple(known), tuple(texts)))
    return tables


def _sign(rows: Sequence[Row]) -> str:
    return STALE.text if all(row.stale for row in rows) else ""


def _mean(rows: Sequence[Row], networks: Sequence[str], measure: str) -> str:
    """Over the networks; fresh rows where there are any."""
    fresh = [row for row in rows if not row.stale] or rows
    values = [[v for row in fresh if row.head.target == network for v in row.metric(measure)] for network in networks]
    whole = [float(np.mean(found)) for found in values if found]
    if len(whole) < len(networks):
        return f"{BLANK} {len(whole)} of {len(networks)}"
    return significant(float(np.mean(whole)))
