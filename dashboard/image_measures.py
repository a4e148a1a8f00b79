"""Measures of image sets, as networks see them: the second half of the page Images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from bench.board.index.imagesets import StoredImages
from dashboard.common import chart
from dashboard.figures.ablation_axes import metrics
from dashboard.figures.images import EXPLAINED, measure_dots, titled, words
from dashboard.filters import choice
from dashboard.load import snapshot
from dashboard.tables import Column, Html, html_table
from dashboard.text import BLANK, counted, html_text, missing, number, plain, row_name, significant

STATISTICS = "bn_loss"
"""Start of the measures that are distances between the images' batch-norm statistics and a network's own."""


@dataclass(frozen=True)
class Side:
    """One of the image sets side by side: its letter and name, the cells fed by it, and the images if the store holds
    them."""

    letter: str
    name: str
    synth_id: str
    cells: pd.DataFrame
    stored: StoredImages | None
    trouble: str = ""

    @property
    def said(self) -> str:
        """The name, for places that read Markdown."""
        return self.name


def measures(sides: Sequence[Side]) -> None:
    """The table of the sets, one measure over all networks, and whose statistics the images are nearest to."""
    st.header("Measures of the images")
    values = _values(sides)
    names = sorted(metrics(values), key=lambda name: (not name.startswith(STATISTICS), name))
    pair = [side.name for side in sides]
    if not names or not set(pair) & set(values["name"]):
        st.info(
            "Not measured: no suite here measures these image sets. One that lists `measures:` does, "
            "such as `bench run suites/synthesis_quality.yaml`."
        )
        return
    columns = [Column("measure")]
    for side in sides:
        columns += [Column(f"{side.letter}: mean over networks", True), Column(f"{side.letter}: range", True)]
    columns.append(Column("networks", True, f"measured for {', '.join(side.letter for side in sides)}"))
    st.html(html_table(columns, [_measure_row(values, name, pair) for name in names]))
    for side in sides:
        if side.name not in set(values["name"]):
            st.caption(plain(f"{side.letter}: {side.said}: not measured by any suite here."))
    measure = choice("Measure", "measure", names, shown=titled)
    real = next(iter(values.loc[values["control"] == "upper", "name"]), None)
    order = sorted(set(values["network"]))
    chart(measure_dots(values, measure, pair, order, real), f"measure-{measure}")
    seeds = ", ".join(sorted(set(values["seeds"])))
    suites = ", ".join(sorted(set(values["suite"])))
    st.caption(plain(f"each network of suite {suites} measures every image set; seeds {seeds}"))
    if measure in EXPLAINED:
        st.caption(plain(f"{words(measure)}: {EXPLAINED[measure]}"))
    statistics = [name for name in names if name.startswith(STATISTICS)]
    if statistics:
        _nearest(values, statistics[0], pair, real)


def compared(sides: Sequence[Side]) -> list[tuple[str, list[str]]]:
    """Each measure that all sides have, with its mean per side over the networks that measured every side."""
    values = _values(sides)
    out = []
    for measure in sorted(metrics(values), key=lambda name: (not name.startswith(STATISTICS), name)):
        by_name = values.pivot_table(index="network", columns="name", values=measure, aggfunc="first").astype(float)
        names = [side.name for side in sides]
        whole = by_name[list(dict.fromkeys(names))].dropna() if set(names) <= set(by_name) else by_name.iloc[:0]
        if len(whole):
            over = f"{titled(measure)} (mean of {counted(len(whole), 'network')})"
            out.append((over, [significant(whole[name].mean()) for name in names]))
    return out


def _values(sides: Sequence[Side]) -> pd.DataFrame:
    """Rows of the board that measure images, of every suite that measured one of the sets, with ``name`` of the
    source and ``network``; exact by the sets' ids."""
    cells, table = snapshot().cells, snapshot().table
    measuring = cells[(cells["metrics"] != "") & (cells["compressor"] == "")]
    mine = measuring[measuring["synth_id"].isin([side.synth_id for side in sides])]
    wanted = mine[["suite", "preset", "dataset"]].drop_duplicates()
    rows = table[table["compressor"] == ""].merge(wanted, on=["suite", "preset", "dataset"])
    names = [row_name(str(s), str(m)) for s, m in zip(rows["source"], rows["model"], strict=True)]
    rows = rows.assign(name=names, network=rows["target"])
    return rows.drop_duplicates(["name", "network"])


def _measure_row(values: pd.DataFrame, measure: str, pair: Sequence[str]) -> list[str | Html]:
    help_text = html_text(EXPLAINED.get(measure, ""))
    out: list[str | Html] = [Html(f'<span title="{help_text}">{html_text(titled(measure))}</span>')]
    total = values["network"].nunique()
    counts = []
    for name in pair:
        found = values.loc[values["name"] == name, measure].dropna().astype(float)
        whole = len(found) == total
        out += [significant(found.mean() if whole else None), _range(found)]
        counts.append(f"{len(found)} of {total}")
    return [*out, ", ".join(dict.fromkeys(counts))]


def _range(found: pd.Series) -> str:
    return f"{significant(found.min())} to {significant(found.max())}" if len(found) else "not measured"


def _nearest(values: pd.DataFrame, measure: str, pair: Sequence[str], real: str | None) -> None:
    """Whose batch-norm statistics the images are nearest to, in multiples of what real images have."""
    st.header("Nearest statistics")
    if real is None:
        st.info("Not measured: real images are the yardstick, and this suite measures none.")
        return
    table = values.pivot_table(index="network", columns="name", values=measure, aggfunc="first").astype(float)
    ratios = table.div(table[real], axis=0)
    shown = [name for name in dict.fromkeys(pair) if name in ratios]
    ratios = ratios.sort_values(shown[0])
    columns = (Column("network"), Column(f"{real}: {words(measure)}", True), *(Column(n, True) for n in shown))
    rows: list[list[str | Html]] = [
        [
            str(network),
            significant(table.loc[network, real]),
            *(BLANK if missing(ratios.loc[network, n]) else f"{number(ratios.loc[network, n], 1)} ×" for n in shown),
        ]
        for network in ratios.index
    ]
    st.caption(
        plain(
            f"{words(measure)}: distance between the images' statistics and a network's own, summed over its layers; "
            "the sources in multiples of what real images have, nearest network first"
        )
    )
    st.html(html_table(columns, rows))
