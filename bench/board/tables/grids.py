"""What the printed tables hold: board and image sets (pivots.py and verdict_grids.py have the rest); how they look is
report.py's."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.board.index.ladder import SELF_REPORTED
from bench.board.stats.letters import letter_of, short_letters
from bench.board.tables.signs import legend, marks
from bench.board.tables.words import BLANK as BLANK
from bench.board.tables.words import TIED as TIED
from bench.store.records import ResultRecord, StageCost

TOP1 = "top-1 %"
RANKS = "ranks"
"""Header of the rank interval."""


@dataclass(frozen=True)
class Cell:
    """Text of a cell, whether it stands out, its half width (±) and its tie letters; a terminal shows the text only."""

    text: str
    bold: bool = False
    half: str = ""
    letters: str = ""


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
    return BLANK if missing(value) else f"{float(value):.{digits}f}"


def missing(value: Any) -> bool:
    """None, NaN or pandas' NA."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def half_width(row: Mapping[str, Any]) -> str:
    """Half of the row's 95 % interval; empty when there is none."""
    return "" if missing(row["top1_low"]) else number((row["top1_high"] - row["top1_low"]) / 2)


def tie_letters(row: Mapping[str, Any]) -> str:
    """The row's ``letters``, shortened, where the frame has them, else one letter per rank: rows that share one do not
    differ."""
    given = row.get("letters")
    if not missing(given):
        return short_letters(str(given))
    return "" if missing(row["rank"]) or not row["tied"] else letter_of(int(row["rank"]))


def board_grids(table: pd.DataFrame) -> list[Grid]:
    """One grid per suite, target and setting: the ranked rows, then the controls, then what was not measured.

    Rows without a compressor hold image measures and have no rank; see :func:`bench.board.tables.pivots.metric_grids`.
    """
    grids = []
    keys = ["suite", "dataset", "preset", "target", "setting_label"]
    for key, part in table[table["compressor"] != ""].groupby(keys, sort=False):
        suite, dataset, preset, target, setting = (str(item) for item in key)
        fp = next((v for v in part["fp_top1"] if not missing(v)), None)
        title = f"{suite} · {dataset}/{target} · {setting} · FP32 {number(fp)} % · preset {preset}"
        body = tuple(map(_board_row, line_dicts(part)))
        grids.append(_slim(Grid(title, _BOARD_HEADERS, _BOARD_TEXT, body, board_notes(part))))
    return grids


_BOARD_HEADERS: tuple[str, ...] = (
    *("rank", RANKS, "source", "from", "policy", "compressor", "n", TOP1, "95 % interval", "drop", "seeds"),
    *("target in source", "access", "synth s", "compress s", "machine", "ladder", "remarks"),
)
_BOARD_TEXT = frozenset({2, 3, 4, 5, 11, 12, 15, 16, 17})
_MOVABLE = ("policy", "compressor", "n", "seeds", "access")
_IF_SEVERAL = ("machine",)


def _slim(grid: Grid) -> Grid:
    """Without columns that say nothing: blank ones go, and of some a single value moves into the title, or goes."""
    found = [{row[i].text for row in grid.rows} for i in range(len(grid.headers))]
    moved = [i for i, h in enumerate(grid.headers) if h in _MOVABLE and len(found[i]) == 1]
    silent = [i for i, h in enumerate(grid.headers) if len(found[i] - {""}) < (2 if h in _IF_SEVERAL else 1)]
    kept = [i for i in range(len(grid.headers)) if i not in (*moved, *silent)]
    extra = [f"{grid.headers[i]} {text}" for i in moved for text in found[i] if text]
    return Grid(
        " · ".join([grid.title, *extra]),
        tuple(grid.headers[i] for i in kept),
        frozenset(new for new, old in enumerate(kept) if old in grid.text),
        tuple(tuple(row[i] for i in kept) for row in grid.rows),
        grid.notes,
    )


def line_dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The frame's rows as dicts."""
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _rank_text(row: Mapping[str, Any]) -> str:
    if missing(row["rank"]):
        return "" if row["control"] == "none" or row["status"] != "ok" else str(row["control"])
    return f"{row['rank']}{TIED if row['tied'] else ''}"


def rank_interval(row: Mapping[str, Any]) -> str:
    """The ranks not ruled out at 95 %, "2–4"; empty for what has no rank."""
    low, high = row.get("rank_low"), row.get("rank_high")
    if missing(low) or missing(high):
        return ""
    return f"{low}" if low == high else f"{low}–{high}"


def _board_row(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    interval = BLANK if missing(row["top1_low"]) else f"[{number(row['top1_low'])}, {number(row['top1_high'])}]"
    why = [] if row["status"] == "ok" else [f"{row['status']}: {row['reason']}" if row["reason"] else row["status"]]
    texts = (
        _rank_text(row),
        rank_interval(row),
        str(row["source"]) + marks(row),
        str(row["model"]),
        str(row["policy"]),
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
        str(row["machine"]),
        "" if row["ladder"] == SELF_REPORTED else str(row["ladder"]),
        "; ".join([*(["stale"] if row["stale"] else []), *why]),
    )
    best, top1 = bool(row["best"]), _BOARD_HEADERS.index(TOP1)
    letters = tie_letters(row)
    return tuple(Cell(text, best, letters=letters if i == top1 else "") for i, text in enumerate(texts))


def amortised_text(row: Mapping[str, Any]) -> str:
    """Seconds of the image set for each target that it serves; empty where it serves this one only."""
    served: Any = row.get("image_set_targets")
    return "" if missing(served) or int(served) < 2 else number(row["synthesis_amortised_s"], 1)


def board_notes(part: pd.DataFrame) -> tuple[str, ...]:
    """As :func:`notes_of`, with what a ranked table adds: its protocols, and to whom synthesis time is charged."""
    notes = []
    protocols = [str(p) for p in part["protocol_id"].dropna().unique()]
    if len(protocols) > 1:
        notes.append(f"ranks are formed within each of {len(protocols)} protocols: {', '.join(protocols)}")
    if "rank_group" in part and part.loc[part["rank"].notna(), "rank_group"].nunique() > 1:
        notes.append("ranks are formed within each compressor")
    if "rank_low" in part and part["rank_low"].notna().any():
        notes.append(f"{RANKS}: those not ruled out at 95 % (each row against all others, Holm)")
    notes += best_notes(part)
    shared = part["image_set_rows"].max()
    if not missing(shared) and shared > 1:
        notes.append("synthesis time is charged in full to every row that uses the image set")
    served: Any = part["image_set_targets"].max() if "image_set_targets" in part else None
    if not missing(served) and served > 1:
        notes.append("amortised (image sets): synthesis time over the targets that an image set serves")
    return (*notes, *notes_of(part))


def best_notes(part: pd.DataFrame) -> list[str]:
    """Which rows cannot be told from the best, and by how much the first leads without the winner's curse."""
    if "best_set" not in part or "rank_group" not in part:
        return []
    notes = []
    for name, group in part[part["rank"].notna()].groupby(["rank_group", "protocol_id"], sort=False):
        where = f" ({name[0]})" if name[0] and part["rank_group"].nunique() > 1 else ""
        if len(group) < 2:
            continue
        notes.append(f"not told from the best at 95 %: {int(group['best_set'].sum())} of {len(group)} rows{where}")
        first = group[group["lead"].notna()]
        if len(first):
            notes.append(
                f"the first row's lead over the second{where}, both picked on other seeds and images: "
                f"{number(first['lead'].iloc[0])} points"
            )
    return notes


def notes_of(part: pd.DataFrame) -> tuple[str, ...]:
    """What a reader of these numbers must know: ties, the signs in use, single seeds."""
    notes = []
    if part["tied"].fillna(False).any():
        notes.append(f"{TIED} no difference to the first of that rank was shown (paired by image and seed, Holm)")
    notes += legend(part)
    seeds = {str(s).partition(" of ")[0] for s in part.loc[part["status"] == "ok", "seeds"]}
    if seeds == {"1"}:
        notes.append("one seed: no rank and no tie; intervals have what such rows vary by between seeds")
    return tuple(notes)


def image_set_grid(records: Iterable[ResultRecord]) -> Grid:
    """What the image sets cost: one line per source and network of the images, means over its sets (seeds) by the
    source's newest version.

    ``targets`` is how many a set served at most, ``amortised s`` its time over them, ``cells`` what the sets served
    together.
    """
    lines: dict[tuple[str, str, str, int], list[ResultRecord]] = defaultdict(list)
    for record in records:
        if record.synth_id:
            lines[record.source, record.model, record.preset, record.n].append(record)
    rows = []
    for key, found in sorted(lines.items(), key=lambda item: item[0]):
        newest = max(r.source_version for r in found)
        members = [r for r in found if r.source_version == newest]
        costs = {r.synth_id: r.costs["synthesis"] for r in members if "synthesis" in r.costs}
        texts = (*map(str, key), str(len({r.synth_id for r in members})), *_cost_texts(list(costs.values())))
        rows.append(tuple(map(Cell, (*texts, *_spread(members, costs), str(len({r.cell_id for r in members}))))))
    headers = ("source", "from", "preset", "n", "sets", "s per set", "CPU s", "forwards", "GMACs", "MiB")
    return Grid("image sets", (*headers, "targets", "amortised s", "cells"), frozenset({0, 1, 2}), tuple(rows))


def _spread(members: Sequence[ResultRecord], costs: Mapping[str | None, StageCost]) -> tuple[str, str]:
    """How many targets a set serves at most, and the mean over the sets of the seconds for each of them."""
    served: dict[str | None, set[tuple[str, str]]] = defaultdict(set)
    for record in members:
        if record.status == "ok":
            served[record.synth_id].add((record.dataset, record.target))
    each = [cost.seconds / len(served[key]) for key, cost in costs.items() if served[key]]
    most = max((len(targets) for targets in served.values()), default=0)
    return str(most), number(sum(each) / len(each) if each else None, 1)


def _cost_texts(costs: Sequence[StageCost]) -> tuple[str, ...]:
    """Means of seconds, CPU seconds, forward-equivalents and multiply-accumulates, and the highest memory peak."""
    if not costs:
        return (BLANK,) * 5
    sums = [sum(getattr(c, name) for c in costs) for name in ("seconds", "cpu_seconds", "forward_equivalents")]
    peaks = [c.peak_memory_mib for c in costs if c.peak_memory_mib is not None]
    means = (number(total / len(costs), digits) for total, digits in zip(sums, (1, 1, 0), strict=True))
    macs = [c.macs for c in costs if c.macs is not None]
    gmacs = sum(macs) / len(macs) / 1e9 if len(macs) == len(costs) else None
    return (*means, number(gmacs, 1), number(max(peaks) if peaks else None, 0))
