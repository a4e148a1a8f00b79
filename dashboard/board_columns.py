"""Columns of a ranked table of the board: which there are, and how a row fills them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from bench.board.index.ladder import SELF_REPORTED
from bench.board.tables.grids import rank_interval, tie_letters
from bench.board.tables.signs import SIGNS, marks
from dashboard.links import cell_link
from dashboard.tables import Column, Html, interval_bar
from dashboard.text import BLANK, digits_for, html_text, interval, missing, number, rounded, row_name, seconds, size

Ends = tuple[float, float]
Shown = tuple[Column, str, Callable[[Any, Ends], str | Html]]
"""A column, the frame's column it needs (it is left out when the frame has none), and its cell of a row."""

BLANKABLE = ("rank_low", "letters", "recovered", "mde", "synthesis_gmacs", "integer_parity")
"""Columns that no row may have a value for: a single row has nothing to be compared with, older records no MACs, and no
cell may have been exported."""

AMORTISED = ("synthesis_amortised_s", "synthesis_amortised_forwards")
"""Columns that tell nothing where every image set serves one target."""

SAID_ONCE = {"policy": "policy", "compressor": "compressor", "n": "images", "machine": "machine"}
"""Columns that go into the caption where they hold one value."""


def _rank(row: Any, _: Ends) -> str:
    return BLANK if missing(row.rank) else f"{row.rank}{'=' if row.tied else ''}"


def _ranks(row: Any, _: Ends) -> str:
    return rank_interval({"rank_low": row.rank_low, "rank_high": row.rank_high}) or BLANK


def _ties(row: Any, _: Ends) -> str | Html:
    """The letters, runs by their ends; all of them when one rests on it."""
    if missing(row.letters):
        return ""
    short = tie_letters({"letters": row.letters})
    says = f"letters {row.letters}: not shown to differ from any row that has one of these"
    return Html(f'<span title="{html_text(says)}">{html_text(short)}</span>')


def source_name(row: Any) -> str:
    """The source of a row with its signs."""
    found = marks({sign.column: getattr(row, sign.column, None) for sign in SIGNS})
    return row_name(row.source, row.model) + (f" {found}" if found else "")


def _name(row: Any, _: Ends) -> str | Html:
    return cell_link(source_name(row), row.suite, row.cell_id)


def _note(row: Any, _: Ends) -> str:
    """Why a row has no value."""
    if row.status == "ok":
        return ""
    return f"{row.status.replace('_', ' ')}: {row.reason}" if row.reason else row.status.replace("_", " ")


FAR = 999.0
"""Per cent; an end of a recovered share beyond it only says that real and noise hardly differ."""


def recovered(share: float, low: float, high: float) -> str:
    """A share with its interval; ends beyond ±999 % as > 999 and < -999."""
    if low >= -FAR and high <= FAR:
        return f"{rounded(share, low, high)} {interval(low, high)}"
    ends = f"< -{FAR:.0f}" if low < -FAR else number(low, 0), f"> {FAR:.0f}" if high > FAR else number(high, 0)
    return f"{number(share, 0)} [{', '.join(ends)}]"


def _recovered(row: Any, _: Ends) -> str:
    return BLANK if missing(row.recovered) else recovered(row.recovered, row.recovered_low, row.recovered_high)


COLUMNS: tuple[Shown, ...] = (
    (
        Column(
            "rank", True, "within this target and protocol; = where no difference to the first of the rank was shown"
        ),
        "rank",
        _rank,
    ),
    (Column("rank interval", True, "ranks not ruled out at 95 %"), "rank_low", _ranks),
    (
        Column("ties", help="rows that share a letter are not shown to differ; a–d: each letter from a to d"),
        "letters",
        _ties,
    ),
    (Column("source", help="where the images come from; leads to the cell of its first seed"), "source", _name),
    (Column("policy", help="what gave each layer its bits"), "policy", lambda r, _: r.policy),
    (Column("compressor"), "compressor", lambda r, _: r.compressor),
    (
        Column("top-1 %", True, "mean over seeds, rounded to its uncertainty"),
        "top1_mean",
        lambda r, _: rounded(r.top1_mean, r.top1_low, r.top1_high),
    ),
    (
        Column("", help="the mean and its 95 % interval"),
        "top1_mean",
        lambda r, ends: interval_bar(r.top1_mean, r.top1_low, r.top1_high, ends, r.control),
    ),
    (Column("95 % interval", True), "top1_low", lambda r, _: interval(r.top1_low, r.top1_high)),
    (
        Column("drop", True, "points below the uncompressed network"),
        "drop",
        lambda r, _: number(r.drop, _digits(r)),
    ),
    (
        Column(
            "recovered %",
            True,
            "share of the way from noise (0) to as many real images (100); blank where these do not differ",
        ),
        "recovered",
        _recovered,
    ),
    (
        Column("detectable", True, "minimum detectable effect: points that would be found with 80 % power"),
        "mde",
        lambda r, _: number(r.mde),
    ),
    (
        Column("seeds", True, "measured of asked for; a mean is blank while one is missing"),
        "seeds",
        lambda r, _: r.seeds,
    ),
    (Column("remark"), "reason", _note),
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
    """Those whose values the board has; remarks only where there is one, and none that is the same in every row or
    blank in all."""
    left_out = {name for name in SAID_ONCE if len(values(part, name)) < 2}
    left_out |= {name for name in BLANKABLE if name in part and part[name].isna().all()}
    if "image_set_targets" in part and part["image_set_targets"].max() < 2:
        left_out |= set(AMORTISED)
    if (part["status"] == "ok").all():
        left_out.add("reason")
    if "ladder" in part and set(values(part, "ladder")) <= {SELF_REPORTED}:
        left_out.add("ladder")
    return [item for item in COLUMNS if item[1] in part and item[1] not in left_out]


def rows(part: pd.DataFrame, columns: Sequence[Shown]) -> list[Sequence[str | Html]]:
    """The rows of one target as cells of ``columns``."""
    low, high = part["top1_low"].min(), part["top1_high"].max()
    ends = (0.0, 100.0) if missing(low) or missing(high) else (float(low), float(high))
    return [[cell(row, ends) for _, _, cell in columns] for row in part.itertuples()]


def classes(part: pd.DataFrame) -> list[str]:
    """How each row stands out: the best of its group, or a control beside it."""
    return [
        "best" if r.best is True or r.best == 1 else "control" if r.control != "none" else "" for r in part.itertuples()
    ]


def _digits(row: Any) -> int:
    return digits_for(None if missing(row.top1_low) or missing(row.top1_high) else (row.top1_high - row.top1_low) / 2)
