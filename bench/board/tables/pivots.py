"""Tables of sources by targets: compressed accuracy, and image measures."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

import pandas as pd

from bench.board.tables.grids import (
    BLANK,
    TIED,
    Cell,
    Grid,
    half_width,
    line_dicts,
    missing,
    notes_of,
    number,
    tie_letters,
)
from bench.board.tables.means import RowsByKey, setting_groups, target_mean
from bench.board.tables.signs import marks
from bench.board.tables.words import significant

_PLAIN_STATUS = ("ok", "incomplete")
_ORDER = {"upper": 0, "lower": 1, "none": 2}
Column = tuple[str, str]
Lines = dict[str, dict[Column, list[dict[str, Any]]]]


def pivot_grids(table: pd.DataFrame, *, mean: bool = True, rows: RowsByKey | None = None) -> list[Grid]:
    """Cross-validation tables as MixMix's Table 6: rows source [network of the images], columns targets.

    One grid per suite, compressor, n and preset; a column per target and setting.  The best row of a column that is no
    control is bold; ties with it are marked.  ``mean`` adds means over targets of like settings, blank as soon as
    one cell is missing; the note lists the protocols they span.  With ``rows`` it gets half of its interval where the
    targets share seeds and test images (:func:`bench.board.tables.means.target_mean`).
    """
    grids = []
    parts = list(table.groupby(["suite", "dataset", "preset", "compressor", "n"], sort=False))
    place = {key[:-1]: i for i, (key, _) in reversed(list(enumerate(parts)))}
    for key, part in sorted(parts, key=lambda item: (place[item[0][:-1]], item[0][-1])):  # fewest images first
        suite, dataset, preset, compressor, count = (str(item) for item in key)
        if part["top1_mean"].notna().any():
            title = f"{suite} · {dataset} · {compressor} · {count} images · preset {preset} · top-1 %"
            grids.append(_pivot(title, part, rows or {}, mean=mean))
    return grids


def _pivot(title: str, part: pd.DataFrame, known: RowsByKey, *, mean: bool) -> Grid:
    rows = line_dicts(part)
    columns = list(dict.fromkeys((str(r["target"]), str(r["setting_label"])) for r in rows))
    means = _means(columns, part) if mean else {}
    body = [_fp_line(rows, columns, means)]
    for name, cells in lines_of(rows).items():
        found = [cells.get(column, []) for column in columns]
        averages = [_mean_cell([found[i] for i in group], known) for group in means.values()]
        body.append((Cell(name), *map(_pivot_cell, found), *averages))
    several = {target for target, _ in columns if sum(t == target for t, _ in columns) > 1}
    settings = {setting for _, setting in columns}
    heads = [f"{t} {s}" if t in several or len(settings) > 1 else t for t, s in columns]
    notes = list(notes_of(part))
    if means:
        spans = ", ".join(sorted({str(p) for p in part["protocol_id"].dropna()}))
        notes.append(f"the mean spans the protocols {spans}; it is blank where a cell is missing")
    if len(settings) == 1:
        title += f" · {settings.pop()}"
    return Grid(title, ("source", *heads, *means), frozenset({0}), tuple(body), tuple(notes))


def _means(columns: Sequence[Column], part: pd.DataFrame) -> dict[str, list[int]]:
    """Head → the columns it is the mean of: one per target (:func:`tables.means.setting_groups`).  Where a group
    has one target only there is nothing to average."""
    groups = setting_groups(part)
    several = len(groups) > 1
    found = {
        label: [i for i, (_, setting) in enumerate(columns) if setting in group] for label, group in groups.items()
    }
    return {f"mean {label}" if several else "mean": places for label, places in found.items() if len(places) > 1}


def metric_grids(table: pd.DataFrame, metrics: Sequence[str]) -> list[Grid]:
    """Image measures as MixMix's Tables 1 and 2: per suite, n, preset and metric one grid, networks by sources, since a
    terminal's line does not hold sixteen networks.

    Two lines follow the networks': mean ± population standard deviation over all of them (the zoo average), and
    over those whose architecture took no part in any line's images: the same networks for every line, real images and
    noise included, since networks differ more than sources.  Blank where a network's value is missing.
    Only rows without a compressor; ``metrics`` are columns that :func:`index.frame.frame` was given as ``extra``.
    """
    grids = []
    measured = table[table["compressor"] == ""]
    for key, part in measured.groupby(["suite", "dataset", "preset", "n"], sort=False):
        suite, dataset, preset, count = (str(item) for item in key)
        rows = line_dicts(part)
        targets = list(dict.fromkeys(str(row["target"]) for row in rows))
        used = {str(row["target"]) for row in rows if row["membership"] not in ("none", "held-out architecture")}
        held = [target not in used for target in targets]
        for metric in metrics:
            if part[metric].isna().all() or metric.endswith(("_low", "_high", "_std")):
                continue
            columns = []
            for cells in lines_of(rows).values():
                found = [cells.get((target, ""), []) for target in targets]
                averages = _average(found, metric), _average(list(compress(found, held)), metric)
                columns.append((*(_metric_cell(cell, metric) for cell in found), *averages))
            title = f"{suite} · {dataset} · {metric} · {count} images · preset {preset}"
            names = [Cell(name) for name in (*targets, "mean ± std", "held out ± std")]
            body = tuple(zip(names, *columns, strict=True))
            notes = list(notes_of(part))
            if any(held):
                notes.append("held out: " + ", ".join(compress(targets, held)))
            grids.append(Grid(title, ("network", *lines_of(rows)), frozenset({0}), body, tuple(notes)))
    return grids


def _average(found: Sequence[Sequence[Mapping[str, Any]]], metric: str) -> Cell:
    """Mean ± population deviation over networks; stale values do not enter."""
    if not found:
        return Cell("")
    fresh = [[row for row in rows if not row["stale"]] for rows in found]
    values = [float(rows[0][metric]) for rows in fresh if len(rows) == 1 and not missing(rows[0][metric])]
    if len(values) < len(fresh):
        return Cell(f"{BLANK} {len(values)} of {len(fresh)}")
    return Cell(f"{significant(statistics.fmean(values))} ± {significant(statistics.pstdev(values))}")


def _metric_cell(rows: Sequence[Mapping[str, Any]], metric: str) -> Cell:
    """The value, with its interval or its deviation over splits where the measure has one."""
    texts = []
    for row in rows:
        text = significant(float(row[metric])) if not missing(row[metric]) else f"{BLANK} {row['seeds']}"
        low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
        if low is not None and high is not None and not (missing(low) or missing(high)):
            text += f" [{significant(float(low), 3)}, {significant(float(high), 3)}]"
        deviation = row.get(f"{metric}_std")
        if not missing(deviation) and deviation:
            text += f" ± {significant(float(deviation), 2)}"
        texts.append(text + marks(row))
    return Cell(" / ".join(texts) or BLANK)


def lines_of(rows: Sequence[Mapping[str, Any]]) -> Lines:
    """Line name → (target, setting) → rows; real images first, then noise, then the methods in their order.

    A source that only ever looks at the very target (zeroq) makes one line, [self], not one per network.
    """
    alone: dict[str, bool] = defaultdict(lambda: True)
    for row in rows:
        alone[str(row["source"])] &= row["model"] == row["target"]
    lines: Lines = {}
    for row in sorted(rows, key=lambda row: _ORDER.get(str(row["control"]), 2)):
        model = "self" if alone[str(row["source"])] and len(rows) > 1 else str(row["model"])
        name = f"{row['source']} [{model}]" if model else str(row["source"])
        name += f" · {row['policy']}" if row["policy"] else ""
        lines.setdefault(name, {}).setdefault((str(row["target"]), str(row["setting_label"])), []).append(dict(row))
    return lines


def _fp_line(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], means: Mapping[str, Sequence[int]]
) -> tuple[Cell, ...]:
    values: list[float | None] = []
    for target, _ in columns:
        values.append(next((r["fp_top1"] for r in rows if r["target"] == target and not missing(r["fp_top1"])), None))
    cells = [Cell("FP32"), *(Cell(number(v)) for v in values)]
    for group in means.values():
        known = [value for i in group if (value := values[i]) is not None]
        cells.append(Cell(number(statistics.fmean(known)) if len(known) == len(group) else BLANK))
    return tuple(cells)


def _pivot_cell(rows: Sequence[Mapping[str, Any]]) -> Cell:
    """The fresh row's value when there is one, else the stale one's with its mark; several fresh ones side by side."""
    shown = [row for row in rows if not row["stale"]] or list(rows)
    texts = []
    for row in shown:
        text = number(row["top1_mean"])
        if missing(row["top1_mean"]):
            text = f"{BLANK} {row['seeds'] if row['status'] in _PLAIN_STATUS else row['status']}"
        mark = TIED if row["tied"] and row["rank"] == 1 else ""
        texts.append(text + marks(row) + mark)
    more = (half_width(shown[0]), tie_letters(shown[0])) if len(shown) == 1 else ()
    return Cell(" / ".join(texts), any(bool(row["best"]) for row in shown), *more)


def _mean_cell(found: Sequence[Sequence[Mapping[str, Any]]], known: RowsByKey) -> Cell:
    shown = [[row for row in rows if not row["stale"]] for rows in found]
    if any(len(rows) != 1 or missing(rows[0]["top1_mean"]) for rows in shown):
        done = sum(len(rows) == 1 and not missing(rows[0]["top1_mean"]) for rows in shown)
        return Cell(f"{BLANK} {done} of {len(shown)}")
    ends = target_mean([rows[0] for rows in shown], known).interval if known else None
    half = number((ends.high - ends.low) / 2) if ends else ""
    return Cell(number(sum(float(rows[0]["top1_mean"]) for rows in shown) / len(shown)), half=half)
