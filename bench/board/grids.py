"""What the printed tables hold: board, cross-validation pivot, image sets, verdicts; how they look is report.py's."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.board.claims import Verdict
from bench.board.stats import LEVEL
from bench.store.records import ResultRecord, StageCost

BLANK = "–"
STALE = "†"
TIED = "="
_PLAIN_STATUS = ("ok", "incomplete")


@dataclass(frozen=True)
class Cell:
    """Text of a cell and whether it stands out."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Grid:
    """A table to print: title, column headers, which columns hold text, rows of cells, notes below."""

    title: str
    headers: tuple[str, ...]
    text: frozenset[int]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def number(value: Any, digits: int = 2) -> str:
    """A number with fixed digits; a blank when it is missing."""
    return BLANK if _missing(value) else f"{float(value):.{digits}f}"


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def board_grids(table: pd.DataFrame) -> list[Grid]:
    """One grid per suite, target and bits: the ranked rows, then the controls, then what was not measured."""
    grids = []
    keys = ["suite", "dataset", "preset", "target", "bits"]
    for key, part in table.groupby(keys, sort=False):
        suite, dataset, preset, target, bits = (str(item) for item in key)
        fp = next((v for v in part["fp_top1"] if not _missing(v)), None)
        title = f"{suite} · {dataset}/{target} · {bits or 'image sets'} · FP32 {number(fp)} % · preset {preset}"
        grids.append(Grid(title, _BOARD_HEADERS, _BOARD_TEXT, tuple(map(_board_row, _records(part))), _notes(part)))
    return grids


_BOARD_HEADERS = ("rank", "source", "from", "compressor", "n", "top-1 %", "95 % interval", "drop", "seeds")
_BOARD_HEADERS += ("target in source", "access", "synth s", "compress s", "")
_BOARD_TEXT = frozenset({1, 2, 3, 9, 10, 13})


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _rank_text(row: Mapping[str, Any]) -> str:
    if _missing(row["rank"]):
        return "" if row["control"] == "none" or row["status"] != "ok" else str(row["control"])
    return f"{row['rank']}{TIED if row['tied'] else ''}"


def _board_row(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    interval = BLANK if _missing(row["top1_low"]) else f"{number(row['top1_low'])} – {number(row['top1_high'])}"
    why = [] if row["status"] == "ok" else [f"{row['status']}: {row['reason']}" if row["reason"] else row["status"]]
    texts = (
        _rank_text(row),
        str(row["source"]) + (STALE if row["stale"] else ""),
        str(row["model"]),
        str(row["compressor"]),
        str(row["n"]),
        number(row["top1_mean"]),
        interval,
        number(row["drop"]),
        str(row["seeds"]),
        "" if row["membership"] == "none" else str(row["membership"]),
        str(row["access"]),
        number(row["synthesis_s"], 1),
        number(row["compress_s"], 1),
        "; ".join([*(["stale"] if row["stale"] else []), *why]),
    )
    return tuple(Cell(text, bold=bool(row["best"])) for text in texts)


def _notes(part: pd.DataFrame) -> tuple[str, ...]:
    notes = []
    protocols = [str(p) for p in part["protocol_id"].dropna().unique()]
    if len(protocols) > 1:
        notes.append(f"ranks are formed within each of {len(protocols)} protocols: {', '.join(protocols)}")
    if part["tied"].fillna(False).any():
        notes.append(f"{TIED} no difference to the first of that rank was shown (paired by image and seed, Holm)")
    if part["stale"].any():
        notes.append(f"{STALE} stale: measured with an older version of its method; not ranked")
    shared = part["image_set_rows"].max()
    if not _missing(shared) and shared > 1:
        notes.append("synthesis time is charged in full to every row that uses the image set")
    seeds = {str(s).partition(" of ")[0] for s in part.loc[part["status"] == "ok", "seeds"]}
    if seeds == {"1"}:
        notes.append("one seed: intervals and ties hold for that seed only")
    return tuple(notes)


def pivot_grids(table: pd.DataFrame, *, mean: bool = True) -> list[Grid]:
    """Cross-validation tables as MixMix's Table 6: rows source [network of the images], columns targets.

    One grid per suite, compressor, n, preset; a column per target and bits.  The best row of a column that is no control
    is bold; ties with it are marked.  ``mean`` adds the mean over the columns, blank as soon as one cell is missing;
    the note lists the protocols it spans.
    """
    grids = []
    for key, part in table.groupby(["suite", "dataset", "preset", "compressor", "n"], sort=False):
        suite, dataset, preset, compressor, count = (str(item) for item in key)
        if part["top1_mean"].notna().any():
            title = f"{suite} · {dataset} · {compressor} · {count} images · preset {preset} · top-1 %"
            grids.append(_pivot(title, part, mean=mean))
    return grids


def _pivot(title: str, part: pd.DataFrame, *, mean: bool) -> Grid:
    rows = _records(part)
    columns = list(dict.fromkeys((str(r["target"]), str(r["bits"])) for r in rows))
    cells: dict[tuple[str, str, str], dict[tuple[str, str], list[dict[str, Any]]]] = defaultdict(dict)
    for row in rows:
        line = (_ORDER[str(row["control"])], str(row["source"]), _from(row))
        cells[line].setdefault((str(row["target"]), str(row["bits"])), []).append(row)
    body = [_fp_line(rows, columns, mean=mean)]
    for line in sorted(cells, key=lambda item: item[0]):
        name = f"{line[1]} [{line[2]}]" if line[2] else line[1]
        found = [cells[line].get(column, []) for column in columns]
        body.append((Cell(name), *map(_pivot_cell, found), *([_mean_cell(found)] if mean else [])))
    several = {target for target, _ in columns if sum(t == target for t, _ in columns) > 1}
    all_bits = {bits for _, bits in columns}
    heads = [f"{t} {b}" if t in several or len(all_bits) > 1 else t for t, b in columns]
    notes = list(_notes(part))
    if mean:
        spans = ", ".join(sorted({str(p) for p in part["protocol_id"].dropna()}))
        notes.append(f"the mean spans the protocols {spans}; it is blank where a cell is missing")
    if len(all_bits) == 1:
        title += f" · {all_bits.pop()}"
    return Grid(title, ("source", *heads, *(["mean"] if mean else [])), frozenset({0}), tuple(body), tuple(notes))


_ORDER = {"upper": "0", "lower": "1", "none": "2"}


def _from(row: Mapping[str, Any]) -> str:
    """The network of the images; one line for "each target itself" when the suite asks for no other network's."""
    return str(row["model"])


def _fp_line(rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str]], *, mean: bool) -> tuple[Cell, ...]:
    values = []
    for target, _ in columns:
        values.append(next((r["fp_top1"] for r in rows if r["target"] == target and not _missing(r["fp_top1"])), None))
    cells = [Cell("FP32"), *(Cell(number(v)) for v in values)]
    if mean:
        cells.append(Cell(BLANK if any(v is None for v in values) else number(sum(map(float, values)) / len(values))))
    return tuple(cells)


def _pivot_cell(rows: Sequence[Mapping[str, Any]]) -> Cell:
    """The fresh row's value when there is one, else the stale one's with its mark; several fresh ones side by side."""
    shown = [row for row in rows if not row["stale"]] or list(rows)
    texts = []
    for row in shown:
        text = number(row["top1_mean"])
        if _missing(row["top1_mean"]):
            text = f"{BLANK} {row['seeds'] if row['status'] in _PLAIN_STATUS else row['status']}"
        mark = TIED if row["tied"] and row["rank"] == 1 else ""
        texts.append(text + mark + (STALE if row["stale"] else ""))
    return Cell(" / ".join(texts), bold=any(bool(row["best"]) for row in shown))


def _mean_cell(found: Sequence[Sequence[Mapping[str, Any]]]) -> Cell:
    shown = [[row for row in rows if not row["stale"]] for rows in found]
    if any(len(rows) != 1 or _missing(rows[0]["top1_mean"]) for rows in shown):
        done = sum(len(rows) == 1 and not _missing(rows[0]["top1_mean"]) for rows in shown)
        return Cell(f"{BLANK} {done} of {len(shown)}")
    return Cell(number(sum(float(rows[0]["top1_mean"]) for rows in shown) / len(shown)))


def image_set_grid(records: Iterable[ResultRecord]) -> Grid:
    """What each image set cost, once, and how many cells it served; in the order of first use."""
    sets: dict[str, list[ResultRecord]] = defaultdict(list)
    for record in records:
        if record.synth_id:
            sets[record.synth_id].append(record)
    rows = []
    for members in sets.values():
        costed = next((r for r in members if "synthesis" in r.costs), None)
        cost = costed.costs["synthesis"] if costed else None
        rows.append(tuple(Cell(text) for text in _set_texts(members[0], cost, len({r.cell_id for r in members}))))
    headers = ("source", "from", "preset", "seed", "n", "seconds", "CPU s", "forwards", "MiB", "cells")
    return Grid("image sets", headers, frozenset({0, 1, 2}), tuple(rows))


def _set_texts(record: ResultRecord, cost: StageCost | None, cells: int) -> tuple[str, ...]:
    costs = (cost.seconds, cost.cpu_seconds, cost.forward_equivalents, cost.peak_memory_mib) if cost else (None,) * 4
    digits = (1, 1, 0, 0)
    shown = (number(value, d) for value, d in zip(costs, digits, strict=True))
    return (record.source, record.model, record.preset, str(record.seed), str(record.n), *shown, str(cells))


def verdict_grid(verdicts: Sequence[Verdict]) -> Grid:
    """Claims with their verdicts; differences in points, better minus worse."""
    rows = []
    for item in verdicts:
        interval = BLANK if item.low is None else f"{number(item.low)} – {number(item.high)}"
        texts = (
            item.says,
            item.verdict,
            number(item.difference),
            interval,
            number(item.margin),
            f"{item.pairs} x {item.seeds}",
            "; ".join(_part_texts(item)),
            "; ".join(filter(None, (item.deciding and f"decided by {item.deciding}", item.reason))),
        )
        rows.append(tuple(Cell(text, bold=item.verdict != "open" and i == 1) for i, text in enumerate(texts)))
    notes = [
        f"intervals at the level Holm's procedure asks for ({LEVEL:.0%} over all claims); parts at {LEVEL:.0%} each"
    ]
    notes.append("differences hold for these networks; intervals cover seeds and test images")
    if any(item.seeds == 1 for item in verdicts):
        notes.append("one seed: paired by test image only, holds for that seed")
    headers = ("claim", "verdict", "difference", "interval", "margin", "pairs x seeds", "by", "remarks")
    return Grid("claims", headers, frozenset({0, 1, 6, 7}), tuple(rows), tuple(notes))


def _part_texts(verdict: Verdict) -> list[str]:
    """Parts in words; an axis with a single value says nothing new and is left out."""
    texts = []
    for part in verdict.parts:
        if sum(other.axis == part.axis for other in verdict.parts) > 1:
            ends = BLANK if part.low is None else f"[{number(part.low)}, {number(part.high)}]"
            texts.append(f"{part.value} {number(part.difference)} {ends}")
    return texts
