"""Leaderboard: the ranked rows of one target with intervals, ties, coverage and costs; the means over all targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import streamlit as st

from bench.board.tables.costs import equal_budget
from bench.board.tables.grids import best_notes
from bench.board.tables.settings import setting_name
from bench.board.tables.signs import legend
from dashboard.board_cells import single
from dashboard.board_columns import DATE, SAID_ONCE, classes, rows, values, with_dates
from dashboard.column_choice import columns_of, label, offered
from dashboard.common import Scope, chart, download, heading, problems, scope, telling_target
from dashboard.crosstable import one_seed
from dashboard.figures.costs import WORK, with_work
from dashboard.figures.leaderboard import USED, leaderboard_bars
from dashboard.filters import choice, choices, folded, picked, words
from dashboard.links import with_cells
from dashboard.load import snapshot
from dashboard.pairwise import critical_differences, pairwise
from dashboard.paper_view import paper_figure
from dashboard.tables import html_table
from dashboard.target_means import target_means
from dashboard.text import counted, plain

ALL_TARGETS = "all targets (means)"
SORTS = {
    "rank": ("rank", True),
    "top-1": ("top1_mean", False),
    "drop": ("drop", True),
    "CPU time": (WORK, True),
    "synthesis time": ("synthesis_s", True),
    "synthesis MACs": ("synthesis_gmacs", True),
    "compression time": ("compress_s", True),
    "passes": ("forward_equivalents", True),
    "size": ("size_bytes", True),
    "GBitOPs": ("bitops_g", True),
    "source": ("source", True),
    "date, newest first": (DATE, False),
}

BUDGETS: dict[str, float | None] = {
    "any": None,
    "equal within 1.25×": 1.25,
    "equal within 2×": 2.0,
    "equal within 4×": 4.0,
}
"""How far optimiser passes and image counts of the rows may lie apart."""

SEARCHED = ("source", "model", "target", "compressor", "policy")
SECTION = "section"
"""Which table of the page a row stands in (:func:`with_sections`)."""


class Asked(NamedTuple):
    """What the reader chose: the target, what to sort by, which columns besides the first (none: the usual ones)."""

    target: str
    order: str
    columns: list[str]


def show() -> None:
    """Draw the page."""
    heading(
        "Leaderboard",
        "Which synthetic images, and which compressor, keep most of a network's accuracy: one target network at a "
        "time, best rows first, with what they cost.",
    )
    problems()
    with folded():
        found = scope(snapshot().table["compressor"] != "")
        if found is None:
            return
        found = found._replace(table=_prepared(*found[:3], snapshot().stamp, found.table))
        asked, table = _filtered(found)
    if table.empty:
        st.info("No row has all of these; take a filter off.")
        return
    table = with_cells(table, snapshot().cells)
    if asked.target == ALL_TARGETS:
        target_means(found.suite, table)
        critical_differences(table)
    else:
        _one_target(found, asked, table)
    paper_figure("ranks", found.suite, found.preset, set(table["row_id"]))
    download(
        "Download these rows (CSV)",
        table.drop(columns=["cell_id", WORK, DATE, SECTION]).to_csv(index=False),
        f"{found.suite}.csv",
        "text/csv",
        key="csv",
    )


@st.cache_resource(max_entries=8)
def _prepared(suite: str, preset: str, dataset: str, stamp: str, _table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a scope with what the page adds to them; kept, since every filter begins with them."""
    return with_sections(with_dates(with_work(_table), snapshot().cells))


def _filtered(found: Scope) -> tuple[Asked, pd.DataFrame]:
    """What was chosen, and the rows left."""
    above, below = st.columns([4, 4, 3, 4]), st.columns([3, 3, 9])
    with above[3]:
        table = _with_words(found.table, words("Search", "search", "source, network, compressor"))
    targets = list(dict.fromkeys(table["target"])) or list(dict.fromkeys(found.table["target"]))
    with above[0]:
        target = choice("Target", "target", [*targets, ALL_TARGETS], telling_target(table))
    table = table if target == ALL_TARGETS else table[table["target"] == target]
    with above[1]:
        compressors = choices("Compressor", "compressor", list(dict.fromkeys(table["compressor"])))
    with above[2]:
        settings = choices(setting_name(table), "setting", list(dict.fromkeys(table["setting_label"])))
    with below[0]:
        budget = choice("Budget", "budget", list(BUDGETS))
    order, columns = "", []
    if target != ALL_TARGETS:
        with below[1]:
            order = choice("Sort by", "sort", list(SORTS))
        with below[2]:
            columns = picked("More columns", "columns", offered(found.table), label, "the usual ones")
    table = table[table["compressor"].isin(compressors) & table["setting_label"].isin(settings)]
    ratio = BUDGETS[budget]
    return Asked(target, order, columns), table if ratio is None else _equal_budget(table, ratio)


def _with_words(table: pd.DataFrame, asked: Sequence[str]) -> pd.DataFrame:
    """The rows that have every word somewhere in their source, networks, compressor or policy."""
    if not asked:
        return table
    texts = table[list(SEARCHED)].astype(str).agg(" ".join, axis=1).str.lower()
    return table[[all(word in text for word in asked) for text in texts]]


def _equal_budget(table: pd.DataFrame, ratio: float) -> pd.DataFrame:
    """The methods whose optimiser and image budgets lie within ``ratio``; controls, which spend next to no passes, stay
    where a method left has as many images."""
    method = table["control"] == "none"
    found = equal_budget(table[method], ratio)
    out = int(method.sum()) - len(found.rows)
    st.caption(
        plain(f"{out} rows spend more or less than the others and are left out; ranks are those of the whole board.")
    )
    controls = ~method & (table["n"].isin(found.rows["n"]) | found.rows.empty)
    return table[controls | table.index.isin(found.rows.index)]


def _sorted(part: pd.DataFrame, order: str) -> pd.DataFrame:
    """By the chosen column; equal and missing values stay in the board's order."""
    column, ascending = SORTS[order]
    return part.sort_values(column, ascending=ascending, kind="stable", na_position="last")


def _one_target(found: Scope, asked: Asked, table: pd.DataFrame) -> None:
    """A table for each group of rows that are ranked against each other."""
    said = f"{found.suite}, {found.preset}, {found.dataset}: {counted(len(table), 'row')}"
    st.caption(plain(f"{said}, {len(table[table['status'] == 'ok'])} complete"))
    sizes = found.table[SECTION].value_counts()
    parts = dict(list(_sorted(table, asked.order).groupby(SECTION, sort=False)))
    sections = {key: parts[key] for key in dict.fromkeys(table[SECTION])}
    titles = [_title(table, part) for part in sections.values()]
    for (key, part), title in zip(sections.items(), titles, strict=True):
        protocol = _protocol(part)
        mark = f" · protocol {protocol[:6]}" if titles.count(title) > 1 and protocol else ""
        _section(title + mark, part, asked.columns, int(sizes[key]) - len(part))


def with_sections(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with :data:`SECTION`: what is ranked together (:data:`bench.board.stats.ranks.GROUP`, and the
    compressor unless the suite compares those) shares one.

    What was not measured knows no protocol; it stands with the rows beside it where these follow one.
    """
    keys = ["suite", "suite_version", "dataset", "target", "setting_label", "rank_group"]
    outer = table.groupby(keys, sort=False, dropna=False).ngroup().astype(str)
    inner = table[["target_digest", "protocol_id", "test_digest"]].fillna("").astype(str).agg("/".join, axis=1)
    inner = inner.astype("object").where(table["protocol_id"].notna())
    only = {name: part.dropna().iloc[0] for name, part in inner.groupby(outer) if part.nunique() == 1}
    return table.assign(**{SECTION: outer + "/" + inner.fillna(outer.map(only)).fillna("")})


def _protocol(part: pd.DataFrame) -> str:
    """The protocol its measured rows follow; empty where none was measured."""
    return next(iter(part["protocol_id"].dropna().astype(str)), "")


def _title(table: pd.DataFrame, part: pd.DataFrame) -> str:
    """Target and setting; the compressor where ranks are formed within each, the version where there are several."""
    row = part.iloc[0]
    named = [row["target"], row["setting_label"], row["rank_group"]]
    if table["suite_version"].nunique() > 1:
        named.append(f"version {row['suite_version']}")
    return " · ".join(str(name) for name in named if name)


def _section(title: str, part: pd.DataFrame, chosen: Sequence[str], hidden: int) -> None:
    """Table, notes, chart, and every two rows compared.

    Args:
        hidden: rows of the group that a filter leaves out.
    """
    st.header(plain(title))
    columns = columns_of(part, chosen)
    st.html(html_table([column for column, _, _ in columns], rows(part, columns), classes(part)))
    st.caption(plain(" · ".join(_notes(part, hidden))))
    row = part.iloc[0]
    name = "-".join(filter(None, [str(row["setting_label"]), _protocol(part)[:6] or "none", str(row["rank_group"])]))
    measured = part[list(USED)].dropna(subset=["top1_mean"])
    if len(measured):
        chart(leaderboard_bars(measured), f"bars-{title}", f"{row['suite']}-{title}")
    known = part["protocol_id"].notna()
    pairwise(part if known.all() else part[known], name)


def _notes(part: pd.DataFrame, hidden: int) -> list[str]:
    once = [f"{label} {found[0]}" for name, label in SAID_ONCE.items() if len(found := values(part, name)) == 1]
    notes = [f"all rows: {', '.join(once)}"] if once else []
    fp = part["fp_top1"].dropna()
    if len(fp):
        notes.append(f"the uncompressed network reaches {float(fp.iloc[0]):.2f} %")
    if protocol := _protocol(part):
        within = "within each compressor" if part["rank_group"].any() else "over all compressors"
        notes.append(f"protocol {protocol}, {part['test_count'].max():,} test images; ranks are formed {within}")
    if one_seed(part):
        notes.append("one seed: no rank and no tie; intervals have what such rows vary by between seeds")
    elif any(single(row) for row in part[["seeds"]].itertuples()):
        notes.append("pale, and open in the chart: one seed, no rank and no letter")
    if hidden:
        notes.append(f"{hidden} more rows are hidden by a filter; ranks and ties are among all")
    else:
        notes += best_notes(part[["best_set", "rank_group", "rank", "protocol_id", "lead"]])
    if part["tied"].fillna(False).any():
        notes.append("= no difference to the first of that rank was shown")
    notes += legend(part)
    if (part["control"] != "none").any():
        notes.append("italic: controls, which stand beside and have no rank")
    return notes
