"""Trade-offs: accuracy against what it costs, the Pareto front, and the best row under a limit of time and size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bench.board.stats.ranks import GROUP
from bench.board.tables.costs import best_under
from bench.board.tables.settings import setting_name
from bench.board.tables.signs import legend
from dashboard.board_columns import source_name
from dashboard.common import chart, download, heading, problems, scope, telling_target
from dashboard.figures.costs import LABELLED, WORK, Cost, front_labels, offered_costs, on_front, varying, with_work
from dashboard.figures.front_line import WIDE, WIDE_STYLE
from dashboard.figures.trade_offs import trade_off
from dashboard.filters import amount, choice, choices
from dashboard.load import snapshot
from dashboard.paper_view import paper_figure
from dashboard.tables import Column, Html, html_table
from dashboard.text import counted, html_text, interval, missing, number, plain, rounded, row_name, seconds, size
from dashboard.widths import accuracy_over_bits

SHOWN = 200
"""Rows of the table; more would make the page slow, and nobody reads them."""
Shown = tuple[Column, Callable[[Any], str | Html]]
COLUMNS: tuple[Shown, ...] = (
    (Column("source", help="where the images come from"), source_name),
    (Column("compressor"), lambda r: r.compressor),
    (Column("setting"), lambda r: r.setting_label),
    (Column("images", True), lambda r: number(r.n, 0)),
    (
        Column("top-1 %", True, "mean over seeds, rounded to its uncertainty"),
        lambda r: rounded(r.top1_mean, r.top1_low, r.top1_high),
    ),
    (Column("95 % interval, %", True), lambda r: interval(r.top1_low, r.top1_high)),
    (Column("size", True, "of the compressed network"), lambda r: size(r.size_bytes)),
    (Column("GBitOPs", True), lambda r: number(r.bitops_g, 3)),
    (
        Column("effective MMACs", True, "million multiply-accumulates of one image, zeroed weights not counted"),
        lambda r: number(None if missing(r.macs_effective) else r.macs_effective / 1e6, 2),
    ),
    (Column("synthesis, wall time", True, "of the image set, charged in full"), lambda r: seconds(r.synthesis_s)),
    (Column("compression, wall time", True), lambda r: seconds(r.compress_s)),
    (Column("CPU time", True, "of synthesis, charged in full, and compression"), lambda r: seconds(getattr(r, WORK))),
    (
        Column("passes of one image", True, "forward-equivalents of synthesis and compression"),
        lambda r: number(r.forward_equivalents, 0),
    ),
    (Column("peak memory, MiB", True), lambda r: number(r.peak_memory_mib, 0)),
)
BEST = 10
"""Rows shown of those that are best under a limit."""


def show() -> None:
    """Draw the page."""
    heading(
        "Trade-offs",
        "What accuracy costs: CPU time, bit operations, bytes. The dotted line joins the methods that no other beats "
        "in both; the band is their 95 % intervals.",
    )
    problems()
    found = scope(snapshot().table["compressor"] != "")
    if found is None:
        return
    rows, cost = _filtered(with_work(found.table))
    if rows.empty:
        st.info("No row has all of these; take a filter off.")
        return
    measured = rows[rows["top1_mean"].notna()]
    if measured.empty:
        st.info("None of these rows has a mean yet: every one still lacks a seed.")
        _unmeasured(rows)
        return
    columns = shown_columns(rows)
    for digest, part in measured.groupby("test_digest", sort=False, dropna=False):
        _plot(part, cost, columns, f"{found.suite}-{digest}")
    _unmeasured(rows)
    accuracy_over_bits(found, str(rows["target"].iloc[0]))
    paper_figure("front", found.suite, found.preset, set(measured["row_id"]))
    st.header("Best under a limit")
    _best(measured, columns)
    st.header("The rows")
    shown = measured.head(SHOWN)
    st.html(_table(shown, columns, _classes(shown)))
    if "n" not in varying(rows):
        st.caption(plain(f"all rows: {counted(rows['n'].iloc[0], 'image')}"))
    if len(measured) > SHOWN:
        st.caption(plain(f"The first {SHOWN} of {len(measured):,}; the download holds all."))
    download(
        "Download these rows (CSV)",
        rows.drop(columns=WORK).to_csv(index=False),
        f"{found.suite}-costs.csv",
        "text/csv",
        key="csv",
    )


def _filtered(table: pd.DataFrame) -> tuple[pd.DataFrame, Cost]:
    first, second, third, fourth = st.columns([2, 2, 2, 2])
    with first:
        target = choice("Target", "target", list(dict.fromkeys(table["target"])), telling_target(table))
    with second:
        table = table[table["target"] == target]
        costs = {cost.column: cost for cost in offered_costs(table)}
        telling = [column for column in costs if table[column].nunique() > 1]
        column = choice("Cost", "cost", list(costs), next(iter(telling), None), shown=lambda name: costs[name].label)
    with third:
        compressors = choices("Compressor", "compressor", list(dict.fromkeys(table["compressor"])))
    with fourth:
        settings = choices(setting_name(table), "setting", list(dict.fromkeys(table["setting_label"])))
    return table[table["compressor"].isin(compressors) & table["setting_label"].isin(settings)], costs[column]


def shown_columns(rows: pd.DataFrame) -> list[Shown]:
    """All but images where every row has as many, and effective MACs where no weight was zeroed."""
    left_out = set() if "n" in varying(rows) else {"images"}
    if "macs_effective" not in {cost.column for cost in offered_costs(rows)}:
        left_out.add("effective MMACs")
    return [item for item in COLUMNS if item[0].header not in left_out]


def _table(rows: pd.DataFrame, columns: Sequence[Shown], classes: Sequence[str] = ()) -> str:
    cells = [[cell(r) for _, cell in columns] for r in rows.itertuples()]
    return html_table([column for column, _ in columns], cells, classes)


def _plot(part: pd.DataFrame, cost: Cost, columns: Sequence[Shown], key: str) -> None:
    known = part[part[cost.column].notna()]
    if known.empty:
        st.info(plain(f"{cost.label.capitalize()}: not measured for these rows."))
        return
    figure, name = trade_off(known, cost), f"trade-off-{key}-{cost.column}"
    if figure.data[-1].name == WIDE:
        with st.container(key=f"wide-names-{name}"):
            st.html(WIDE_STYLE)
            chart(figure, name)
    else:
        chart(figure, name)
    best = on_front(known, cost)
    left_out = len(part) - len(known)
    says = [
        f"{counted(len(known), 'row')}, {len(best)} on the front",
        f"{int(known['test_count'].max()):,} test images" if known["test_count"].notna().any() else "",
        "grey diamonds: controls, on no front; one beyond the axes stands at the edge with an arrow and its value",
        f"{counted(left_out, 'row')} without this cost left out" if left_out else "",
        *legend(part),
    ]
    st.caption(plain(" · ".join(filter(None, says))))
    if len(best):
        numbered = len(best) > LABELLED
        with st.expander("The rows on the front", expanded=numbered):
            names = iter(front_labels(best, known))
            first: list[Shown] = [(Column("point", True, "its number in the figure"), lambda _: next(names))]
            st.html(_table(best, [*(first if numbered else []), *columns]))


def _unmeasured(rows: pd.DataFrame) -> None:
    missing = rows[rows["top1_mean"].isna()]
    if missing.empty:
        return
    with st.expander(plain(f"{counted(len(missing), 'row')} without a mean, not drawn")):
        for r in missing.itertuples():
            name = row_name(str(r.source), str(r.model), str(r.policy))
            name += f" · {r.compressor} · {r.setting_label}{_images(r, rows)}"
            st.text(f"{name}: {r.status}, seeds {r.seeds}" + (f" ({r.reason!s})" if r.reason else ""))


def _images(row: Any, rows: pd.DataFrame) -> str:
    """The row's image count where it tells rows apart."""
    return f" on {row.n:,} images" if "n" in varying(rows) else ""


def _best(measured: pd.DataFrame, columns: Sequence[Shown]) -> None:
    """The best method within the limits, as a sentence, and those that the paired tests do not tell from it."""
    left, right = st.columns(2)
    with left:
        minutes = amount("At most this many minutes, synthesis and compression", "minutes")
    with right:
        kilobytes = amount("At most this many kB", "kb")
    found = best_under(measured, minutes=minutes, size_bytes=1e3 * kilobytes if kilobytes else None)
    limits = [
        f"{minutes:g} minute{'' if minutes == 1 else 's'}" if minutes else "",
        f"{kilobytes:g} kB" if kilobytes else "",
    ]
    under = " and ".join(filter(None, limits))
    if found.rows.empty:
        st.info(plain(f"No method fits under {under}." if under else "No method here has a rank yet."))
        return
    rows = found.rows.sort_values("top1_mean", ascending=False, kind="stable")
    group = rows.groupby([*GROUP, "rank_group"], sort=False, dropna=False).ngroup().sort_values(kind="stable")
    rows = rows.loc[group.index]
    best: Any = next(rows.itertuples())
    tied = int((group == group.iloc[0]).sum()) - 1
    shared = (
        f" Within its protocol and the limits {counted(tied, 'other')} not shown to differ from it." if tied else ""
    )
    accuracy = f"{rounded(best.top1_mean, best.top1_low, best.top1_high)} %"
    with_what = f"{best.compressor} at {best.setting_label}{_images(best, measured)}"
    name = f"{source_name(best)} with {with_what}"
    st.html(
        f"<p><b>{html_text(f'Best under {under}' if under else 'Best without a limit')}:</b> {html_text(name)}, top-1 "
        f"{accuracy} {interval(best.top1_low, best.top1_high)}, {seconds(best.synthesis_s + best.compress_s)}, "
        f"{size(best.size_bytes)}.{shared}</p>"
    )
    st.html(_table(rows.head(BEST), columns, ["" if later else "best" for later in group.duplicated()]))
    says = [
        "bold: the best of a protocol (what is compressed, to which bits) and compressor; beneath it those not "
        "shown to differ",
        "controls, stale and incomplete rows and those of one seed take no part",
        f"the first {BEST} of {len(rows)}" if len(rows) > BEST else "",
        f"{counted(found.left_out, 'row')} without the limited cost left out" if found.left_out else "",
    ]
    st.caption(plain(" · ".join(filter(None, says))))


def _classes(part: pd.DataFrame) -> list[str]:
    return ["control" if r.control != "none" else "" for r in part.itertuples()]
