"""Measured and published side by side: one table, the difference in scale in words, and how it prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.board.tables.gap import reproduction_gap
from bench.board.tables.grids import BLANK, Cell, Grid, line_dicts, missing, number
from bench.board.tables.names import BEST_ON_TEST
from bench.board.tables.published import (
    CLAIMED,
    MEASURED,
    Paper,
    join,
    paper,
    published,
    setting_keys,
    width_mark,
)

_OURS = {
    "suite": "suite",
    "dataset": "dataset",
    "source": "source",
    "model": "model",
    "target": "target",
    "compressor": "compressor",
    "setting_label": "setting_label",
    "n": "n",
    "preset": "preset",
    "seeds": "seeds",
    "top1_mean": "measured_top1",
    "top1_low": "measured_low",
    "top1_high": "measured_high",
    "fp_top1": "measured_fp",
    "ladder": "ladder",
}
_THEIRS = {
    "paper": "paper",
    "table": "table",
    "dataset": "claimed_dataset",
    "target_model": "claimed_target",
    "method": "claimed_method",
    "source": "claimed_source",
    "bits": "claimed_bits",
    "setting": "claimed_setting",
    "metric": "metric",
    "value": "claimed_value",
    "printed": "claimed_printed",
    "selection": "claimed_selection",
    "verified_implementation": "claimed_verified",
}
_GAP = ("gap", "gap_low", "gap_high", "gap_reason")
_NUMBERS = ("measured_top1", "measured_low", "measured_high", "measured_fp", "claimed_value", *_GAP[:3])
BOTH = f"{MEASURED}, {CLAIMED}"


@dataclass(frozen=True)
class Beside:
    """``table``: a line per measured row and per printed number without one, columns ``suite`` … ``ladder`` from the
    frame (``claimed`` for a printed number alone), ``paper`` … ``claimed_verified`` from the paper, ``gap`` …
    ``gap_reason``, and ``provenance``: which of the two a line holds (measured; claimed; both).  ``notes``: the
    difference in scale in words."""

    reference: str
    table: pd.DataFrame
    notes: tuple[str, ...]


def beside(
    table: pd.DataFrame, reference: str, *, sizes: Mapping[str, int] | None = None, metric: str = "top1"
) -> Beside:
    """Put the printed numbers of ``reference`` ("mixmix/T6") beside the rows of one suite.

    Measured and claimed numbers stay in columns of their own, so that no mean can take both in.  Of the printed rows
    without a measured one those at settings the suite measures are listed; all of them where it has none such.

    Args:
        table: from :func:`bench.board.index.frame.frame`.
        sizes: pixels a side of the measured data sets' images, for the words on scale.
        metric: the printed metric that is compared; a table without it is listed as it is.

    Raises:
        DataError: unknown paper or table.
    """
    printed = published(reference)
    compressed = table[table["compressor"] != ""]
    joined = reproduction_gap(join(compressed, printed, metric))
    ours = joined[[*_OURS, "published_row", *_GAP]].rename(columns=_OURS).reset_index(drop=True)
    theirs = printed[list(_THEIRS)].rename(columns=_THEIRS)
    met = theirs.reindex(ours["published_row"].astype("Float64")).reset_index(drop=True)
    lines = pd.concat([ours.drop(columns="published_row"), met], axis=1)
    lines["provenance"] = lines["paper"].notna().map({True: BOTH, False: MEASURED})
    alone, left_out = _without_partner(
        printed, set(joined["published_row"].dropna()), set(setting_keys(compressed)), metric
    )
    extra = theirs.loc[alone].assign(provenance=CLAIMED, ladder=CLAIMED, gap_reason="not measured here")
    found = pd.concat([lines, extra], ignore_index=True)[[*_OURS.values(), *_THEIRS.values(), *_GAP, "provenance"]]
    for name in found.columns:
        found[name] = found[name].astype("Float64" if name in _NUMBERS else "Int64" if name == "n" else "string")
    notes = [*_scale_notes(compressed, printed, paper(reference.partition("/")[0]), sizes or {}), *left_out]
    return Beside(reference, found, tuple(notes))


def _without_partner(
    printed: pd.DataFrame, met: set[int], settings: set[str], metric: str
) -> tuple[list[int], tuple[str, ...]]:
    """Labels of the printed rows to list besides, and a note on those that are not."""
    wanted = printed[printed["metric"] == metric]
    if wanted.empty:
        return list(printed.index), ()
    same = wanted[wanted["setting_key"].isin(settings)]
    shown = wanted if same.empty else same
    others = len(wanted) - len(shown)
    note = f"{others} printed numbers at settings this suite does not measure are left out" if others else ""
    return [label for label in shown.index if label not in met], (note,) if note else ()


def _scale_notes(
    table: pd.DataFrame, printed: pd.DataFrame, source: Paper, sizes: Mapping[str, int]
) -> tuple[str, ...]:
    """What differs between the measured rows and the paper's, one plain sentence each."""
    number_of = str(printed["table"].iloc[0])
    notes = [
        f"claimed: {source.short} ({source.venue}), table {number_of}, as printed; measured: this suite. "
        "No claimed number enters a mean, a rank or a verdict."
    ]
    if table.empty:
        return (*notes, "this suite compresses nothing: its measures stand in tables of their own")
    data, theirs = _values(table["dataset"]), _values(printed["dataset"])
    notes.append(f"data set: {', '.join(data)} measured, {', '.join(theirs)} claimed")
    pixels = sorted({sizes[name] for name in data if name in sizes})
    stated = sorted({source.image_size[name] for name in theirs if name in source.image_size})
    if pixels and stated and pixels != stated:
        notes.append(f"image size: {_sides(pixels)} pixels measured, {_sides(stated)} claimed")
    narrow = [name for name in _values(table["target"]) if width_mark(name)]
    if narrow:
        full = ", ".join(name for name in _values(printed["target_model"]) if name) or "the table names none"
        notes.append(f"networks: narrowed ones measured ({', '.join(narrow)}), full ones claimed ({full})")
    listed = [name for name in _values(table["model"]) if name.startswith("zoo:") and "+" in name]
    if listed:
        many = " or ".join(str(name.count("+") + 1) for name in listed)
        notes.append(f"zoo: {many} networks that the suite lists measured, the paper's own claimed")
    notes.append(_fp_note(table, printed))
    count = source.images.get(number_of)
    images = " and ".join(f"{int(n):,}" for n in sorted(table["n"].dropna().unique()))
    theirs_count = f"{count:,} claimed" if count else "the paper states none for this table"
    notes.append(f"images the compressor sees: {images} measured, {theirs_count}")
    presets = [name for name in _values(table["preset"]) if name != "paper"]
    if presets:
        notes.append(f"hyper-parameters: preset {', '.join(presets)}, scaled down from the papers' own")
    chosen = int((printed["selection"] == BEST_ON_TEST).sum())
    if chosen:
        notes.append(f"epoch: the last one measured; the one best on the test set behind {chosen} claimed numbers")
    seeds = sorted({str(value).rpartition(" ")[2] for value in table["seeds"]})
    said = f"{source.seeds} claimed" if source.seeds else "the paper states none and prints no spread"
    notes.append(f"seeds: {' or '.join(seeds)} measured, {said}")
    return tuple(note for note in notes if note)


def _fp_note(table: pd.DataFrame, printed: pd.DataFrame) -> str:
    """Uncompressed accuracy on both sides, where the paper prints one for an architecture that was measured."""
    joined = join(table, printed).dropna(subset=["published_fp", "fp_top1"]).drop_duplicates("target")
    pairs = [
        f"{row['target']} {number(row['fp_top1'])} measured, {row['published_target']} {number(theirs)} claimed"
        for row, theirs in zip(joined.to_dict("records"), joined["published_fp"], strict=True)
    ]
    return f"uncompressed top-1: {'; '.join(pairs)}" if pairs else ""


def _values(column: pd.Series) -> list[str]:
    return list(dict.fromkeys(str(value) for value in column))


def _sides(pixels: Sequence[int]) -> str:
    return " and ".join(f"{side}×{side}" for side in pixels)


_HEADERS = (
    *("source", "from", "target", "compressor", "bits", "setting"),
    *("measured %", "claimed", "claimed on", "table", "gap"),
)
_TEXT = frozenset({"source", "from", "target", "compressor", "bits", "setting", "claimed on", "table"})


def beside_grid(found: Beside) -> Grid:
    """The lines that hold a printed number, as a table to print; measured rows without one are counted in a note.

    Settings have a column where a line has one; data sets where the numbers are on several, which else stand in a note.
    """
    lines = line_dicts(found.table)
    shown = [line for line in lines if line["provenance"] != MEASURED]
    alone = [line for line in lines if line["provenance"] == MEASURED]
    notes = list(found.notes)
    if alone:
        made = ", ".join(dict.fromkeys(str(line["compressor"]) for line in alone))
        notes.append(f"{len(alone)} measured rows ({made}) have no printed number and are not listed")
    reasons = {str(line["gap_reason"]) for line in shown if line["provenance"] == BOTH and line["gap_reason"]}
    if any(not missing(line["gap"]) for line in shown):
        notes.append("gap: claimed minus measured, in points, with the measured interval")
    if reasons:
        some = sorted(reasons)
        more = f"; and {len(some) - 3} more" if len(some) > 3 else ""
        notes.append(f"no gap is formed where the scale differs: {'; '.join(some[:3])}{more}")
    body = [tuple(map(Cell, _texts(line))) for line in shown]
    texts = {name: {row[i].text for row in body} for i, name in enumerate(_HEADERS)}
    left_out = {"setting"} if texts["setting"] <= {""} else set()
    left_out |= {"claimed on"} if len(texts["claimed on"]) < 2 else set()
    keep = [i for i, name in enumerate(_HEADERS) if name not in left_out]
    headers = tuple(_HEADERS[i] for i in keep)
    text = frozenset(i for i, name in enumerate(headers) if name in _TEXT)
    body = [tuple(row[i] for i in keep) for row in body]
    return Grid(f"{found.reference}: measured beside published", headers, text, tuple(body), tuple(notes))


def _texts(line: Mapping[str, Any]) -> tuple[str, ...]:
    both = line["provenance"] == BOTH
    measured = BLANK if missing(line["measured_top1"]) else number(line["measured_top1"])
    if not missing(line["measured_low"]):
        measured += f" ± {number((line['measured_high'] - line['measured_low']) / 2)}"
    gap = BLANK
    if not missing(line["gap"]):
        gap = f"{number(line['gap'])} [{number(line['gap_low'])}, {number(line['gap_high'])}]"
    names = ("source", "model", "target", "compressor", "setting_label") if both else _CLAIMED_NAMES
    metric = "" if line["metric"] == "top1" else f" ({line['metric']})"
    return (
        *("" if missing(line[name]) else str(line[name]) for name in names),
        "" if missing(line["claimed_setting"]) else str(line["claimed_setting"]).replace(";", "; "),
        measured,
        f"{line['claimed_printed']}{metric}",
        str(line["claimed_dataset"]),
        f"{line['paper']}/{line['table']}",
        gap,
    )


_CLAIMED_NAMES = ("claimed_source", "model", "claimed_target", "claimed_method", "claimed_bits")
