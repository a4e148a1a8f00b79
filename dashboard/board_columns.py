"""Columns of a ranked table of the board: which there are, and how a row fills them.

Source, top-1, interval, CPU time and seeds come first: they fit a phone.  The others follow, or those that a reader
chose instead (:mod:`dashboard.column_choice`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from bench.board.index.ladder import SELF_REPORTED
from bench.board.tables.signs import SIGNS, marks
from dashboard.board_cells import (
    Ends,
    day,
    drop_digits,
    minutes,
    note,
    rank,
    ranks,
    recovered_text,
    seeds,
    single,
    ties,
)
from dashboard.figures.costs import WORK
from dashboard.links import cell_link
from dashboard.tables import Column, Html, interval_bar
from dashboard.text import html_text, interval, missing, number, rounded, row_name, seconds, size

Shown = tuple[Column, str, Callable[[Any, Ends], str | Html]]
"""A column, the frame's column it needs (it is left out when the frame has none), and its cell of a row."""

BLANKABLE = ("rank_low", "letters", "recovered", "mde", "synthesis_gmacs", "integer_parity")
"""Columns that no row may have a value for: a single row has nothing to be compared with, older records no MACs, and no
cell may have been exported."""

AMORTISED = ("synthesis_amortised_s", "synthesis_amortised_forwards")
"""Columns that tell nothing where every image set serves one target."""

SAID_ONCE = {"policy": "policy", "compressor": "compressor", "n": "images"}
"""Columns that go into the caption where they hold one value; else the name of a row has them, and a column only where
one is asked for."""

LEADING = ("source", "top1_mean", "top1_low", WORK, "seeds")
"""The columns that always stand first."""

DATE = "finished"
"""When a row was measured, in seconds since 1970: of its last seed (:func:`with_dates`)."""


def source_name(row: Any) -> str:
    """The source of a row with its signs."""
    found = marks({sign.column: getattr(row, sign.column, None) for sign in SIGNS})
    return row_name(row.source, row.model) + (f" {found}" if found else "")


def _named(beside: Sequence[str]) -> Callable[[Any, Ends], Html]:
    """The cell of a source with the columns ``beside`` it, which tell the rows of a table apart."""

    def name(row: Any, _: Ends) -> Html:
        found = {column: getattr(row, column) for column in beside}
        told = [f"{value} images" if column == "n" else str(value) for column, value in found.items() if value]
        more = html_text("".join(f" · {text}" for text in told))
        return Html(f'<div class="df-name">{cell_link(source_name(row), row.suite, row.cell_id).markup}{more}</div>')

    return name


COLUMNS: tuple[Shown, ...] = (
    (Column("source", help="where the images come from; leads to the cell of its first seed"), "source", _named(())),
    (
        Column("top-1\n%", True, "mean over seeds, rounded to its uncertainty"),
        "top1_mean",
        lambda r, _: rounded(r.top1_mean, r.top1_low, r.top1_high),
    ),
    (Column("95 %\ninterval", True), "top1_low", lambda r, _: interval(r.top1_low, r.top1_high)),
    (Column("CPU\nmin", True, "CPU minutes of one image set, charged in full, and one compression"), WORK, minutes),
    (
        Column("seeds", True, "measured; k of n, and a blank mean, while some of those asked for are missing"),
        "seeds",
        seeds,
    ),
    (
        Column(
            "rank", True, "within this target and protocol; = where no difference to the first of the rank was shown"
        ),
        "rank",
        rank,
    ),
    (Column("rank interval", True, "ranks not ruled out at 95 %"), "rank_low", ranks),
    (
        Column("ties", help="rows that share a letter are not shown to differ; a–d: each letter from a to d"),
        "letters",
        ties,
    ),
    (
        Column("", help="the mean and its 95 % interval"),
        "top1_high",
        lambda r, ends: interval_bar(r.top1_mean, r.top1_low, r.top1_high, ends, r.control),
    ),
    (Column("policy", help="what gave each layer its bits"), "policy", lambda r, _: r.policy),
    (Column("compressor"), "compressor", lambda r, _: r.compressor),
    (
        Column("drop", True, "points below the uncompressed network"),
        "drop",
        lambda r, _: number(r.drop, drop_digits(r)),
    ),
    (
        Column(
            "recovered %",
            True,
            "share of the way from noise (0) to as many real images (100); blank where these do not differ",
        ),
        "recovered",
        recovered_text,
    ),
    (
        Column("detectable", True, "minimum detectable effect: points that would be found with 80 % power"),
        "mde",
        lambda r, _: number(r.mde),
    ),
    (Column("remark"), "reason", note),
    (Column("images", True), "n", lambda r, _: number(r.n, 0)),
    (
        Column("target in source", help="is the target, or its architecture, among the networks the images come from"),
        "membership",
        lambda r, _: "" if r.membership == "none" else str(r.membership),
    ),
    (
        Column("access", help="what the source may look at: T0 nothing … T6 the training set"),
        "access",
        lambda r, _: r.access,
    ),
    (
        Column("synthesis", True, "wall time of the image set, charged in full"),
        "synthesis_s",
        lambda r, _: seconds(r.synthesis_s),
    ),
    (
        Column("amortised", True, "synthesis over the targets that its image set serves"),
        "synthesis_amortised_s",
        lambda r, _: seconds(r.synthesis_amortised_s),
    ),
    (
        Column("passes a target", True, "synthesis in passes through the inverted network, over the targets it serves"),
        "synthesis_amortised_forwards",
        lambda r, _: number(r.synthesis_amortised_forwards, 0),
    ),
    (
        Column("synthesis GMACs", True, "multiply-accumulates of the image set, every network and generator its own"),
        "synthesis_gmacs",
        lambda r, _: number(r.synthesis_gmacs, 1),
    ),
    (Column("compression", True, "wall time"), "compress_s", lambda r, _: seconds(r.compress_s)),
    (
        Column("passes", True, "forward-equivalents of synthesis and compression: the optimiser budget"),
        "forward_equivalents",
        lambda r, _: number(r.forward_equivalents, 0),
    ),
    (Column("peak", True, "memory, MiB"), "peak_memory_mib", lambda r, _: number(r.peak_memory_mib, 0)),
    (Column("size", True, "of the compressed network"), "size_bytes", lambda r, _: size(r.size_bytes)),
    (Column("GBitOPs", True), "bitops_g", lambda r, _: number(r.bitops_g, 3)),
    (Column("measured", help="day of its last seed (UTC)"), DATE, day),
    (
        Column("machine", help="what measured it: kernels, threads, digest of all that can move numbers"),
        "machine",
        lambda r, _: r.machine,
    ),
    (
        Column(
            "integer parity",
            True,
            "% of test images on which the exported network predicts what the simulated one does",
        ),
        "integer_parity",
        lambda r, _: number(r.integer_parity, 2),
    ),
    (
        Column("ladder", help="reproduced ×N: run again inside its interval on N other kinds of machine"),
        "ladder",
        lambda r, _: str(r.ladder).replace("_", " "),
    ),
)


def values(part: pd.DataFrame, name: str) -> list[str]:
    """The column's values, each once; rows that were not measured may have none."""
    return [text for text in dict.fromkeys(map(str, part[name].dropna())) if text]


def shown_columns(part: pd.DataFrame) -> list[Shown]:
    """Those whose values the board has; remarks only where there is one, and none that is the same in every row, blank
    in all, or in the rows' names."""
    left_out = {*SAID_ONCE, *(name for name in BLANKABLE if name in part and part[name].isna().all())}
    if "image_set_targets" in part and part["image_set_targets"].max() < 2:
        left_out |= set(AMORTISED)
    if (part["status"] == "ok").all():
        left_out.add("reason")
    if "ladder" in part and set(values(part, "ladder")) <= {SELF_REPORTED}:
        left_out.add("ladder")
    return [_fitted(item, part) for item in COLUMNS if item[1] in part and item[1] not in left_out]


def leading_columns(part: pd.DataFrame) -> list[Shown]:
    """Those that always stand first."""
    return [_fitted(item, part) for item in COLUMNS if item[1] in part and item[1] in LEADING]


def _fitted(item: Shown, part: pd.DataFrame) -> Shown:
    """The column; that of the sources names what else tells the rows of ``part`` apart."""
    if item[1] != "source":
        return item
    beside = [name for name in SAID_ONCE if name in part and len(values(part, name)) > 1]
    return item[0], item[1], _named(beside)


def rows(part: pd.DataFrame, columns: Sequence[Shown]) -> list[Sequence[str | Html]]:
    """The rows of one target as cells of ``columns``."""
    low, high = part["top1_low"].min(), part["top1_high"].max()
    ends = (0.0, 100.0) if missing(low) or missing(high) else (float(low), float(high))
    return [[cell(row, ends) for _, _, cell in columns] for row in part.itertuples()]


def classes(part: pd.DataFrame) -> list[str]:
    """How each row stands out: the best of its group, a control beside it, one seed alone."""
    return [
        f"{_kind(row)} {'single' if single(row) else ''}".strip()
        for row in part[["best", "control", "seeds"]].itertuples()
    ]


def _kind(row: Any) -> str:
    return "best" if row.best is True or row.best == 1 else "control" if row.control != "none" else ""


def with_dates(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The board's rows with :data:`DATE`; blank where no seed was measured or no record says when."""
    keys = ["suite", "suite_version", "row_id"]
    last = cells[cells["status"] == "ok"].groupby(keys)[DATE].max().reset_index()
    return table.merge(last.astype({"suite_version": "Int64"}), on=keys, how="left")
