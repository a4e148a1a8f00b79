"""Images: what two sources synthesise, side by side: pictures, curves of the synthesis, measures over networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from bench.board.imagesets import StoredImages, is_stored, pixels, read_images, sheet
from bench.errors import StoreError
from bench.store.measured import read_grid, suites_with_grids
from bench.store.records import ResultRecord
from dashboard.common import Scope, heading, problems, scope
from dashboard.figures.ablation_axes import metrics
from dashboard.figures.images import class_grid, curve_figure, measure_dots, titled, words
from dashboard.filters import choice
from dashboard.load import index, records_of, snapshot
from dashboard.tables import Column, Html, html_table
from dashboard.text import number, plain, row_name, seconds

SHOWN = 256
PER_CLASS = 8
UNLABELLED = 64
NONE = "no network"
FACTS = (Column(""), Column("", True))
MEASURES = (
    Column("measure"),
    Column("A: mean over networks", True),
    Column("A: range", True),
    Column("B: mean over networks", True),
    Column("B: range", True),
    Column("networks", True, "measured for A and for B"),
)
STATISTICS = "bn_loss"
"""Start of the measures that are distances between the images' batch-norm statistics and a network's own."""


@dataclass(frozen=True)
class Side:
    """One of the two image sets: its letter and name, the cells fed by it, and the images if the store holds them."""

    letter: str
    name: str
    synth_id: str
    cells: pd.DataFrame
    stored: StoredImages | None
    trouble: str = ""

    @property
    def said(self) -> str:
        """The name, for places that read Markdown."""
        return plain(self.name)


def show() -> None:
    """Draw the page."""
    heading(
        "Images",
        "What each source synthesises: two image sets side by side, how they came about, and how networks see them.",
    )
    problems()
    found = scope(snapshot().table["source"] != "", first=_first)
    if found is None:
        return
    cells = snapshot().cells
    mine = cells[
        (cells["suite"] == found.suite) & (cells["preset"] == found.preset) & (cells["dataset"] == found.dataset)
    ]
    mine = mine[mine["synth_id"].notna()]
    if mine.empty:
        st.info("No cell of this suite says which images it was fed with: its image sets are not made yet.")
        return
    seed = int(choice("Seed", "seed", [str(s) for s in sorted(set(mine["seed"]))]))
    mine = mine[mine["seed"] == seed]
    sources = _sources(mine)
    places = st.columns(2)
    sides = []
    for i, (place, letter) in enumerate(zip(places, "AB", strict=True)):
        with place:
            sides.append(_side(letter, mine, sources, sources[min(i, len(sources) - 1)]))
    for place, side in zip(st.columns(2), sides, strict=True):
        with place:
            _pictures(side, found)
            _facts(found, side)
    _curves(sides)
    _measures(sides)


def _first(suites: Sequence[str]) -> str:
    """Where most is to be seen: a suite whose images are at hand, and that measures them, of most sources."""
    worth = _worth(snapshot().stamp)
    return max(suites, key=lambda suite: worth.get(suite, (False, False, 0)))


@st.cache_data(max_entries=4)
def _worth(stamp: str) -> dict[str, tuple[bool, bool, int]]:
    """Suite → whether pictures of its sets can be shown, whether it measures images, number of its sources and the
    networks they look at.  ``stamp`` is the key."""
    found, packed = {}, suites_with_grids()
    for suite, cells in snapshot().cells.groupby("suite", sort=False):
        sets = cells[cells["synth_id"].notna()].drop_duplicates(["source", "model"])
        shown = any(is_stored(index().store, str(synth_id)) for synth_id in sets["synth_id"])
        shown = shown or str(suite) in packed
        measures = bool(((cells["compressor"] == "") & (cells["status"] == "ok")).any())
        found[str(suite)] = (shown, measures, len(sets))
    return found


def _sources(cells: pd.DataFrame) -> list[str]:
    """Labels of the sources: methods first, then the controls."""
    ordered = cells.assign(_last=cells["control"] != "none").sort_values(["_last", "source"])
    return list(dict.fromkeys(ordered["source"]))


def _side(letter: str, cells: pd.DataFrame, sources: Sequence[str], start: str) -> Side:
    key = letter.lower()
    source = choice(f"Source {letter}", key, sources, default=start)
    part = cells[cells["source"] == source]
    models = sorted({str(m) for m in part["model"]}) or [""]
    model = choice(f"Images of {letter} from", f"from_{key}", [m or NONE for m in models])
    part = part[part["model"] == ("" if model == NONE else model)]
    part = part if len(part) else cells[cells["source"] == source]
    synth_id = str(part["synth_id"].iloc[0])
    everywhere = snapshot().cells
    everywhere = everywhere[everywhere["synth_id"] == synth_id]
    name = row_name(source, str(part["model"].iloc[0]))
    try:
        stored = read_images(index().store, synth_id, SHOWN)
    except StoreError as error:
        return Side(letter, name, synth_id, everywhere, None, str(error))
    except ValueError:
        stored = None  # an id of another form: no image set of ours
    return Side(letter, name, synth_id, everywhere, stored)


# --- pictures ---


def _pictures(side: Side, found: Scope) -> None:
    if side.trouble:
        st.warning(plain(side.trouble).replace("\n", "  \n"))
    if side.stored is not None:
        mean, std = _constants(found.dataset)
        labels = side.stored.labels
        images = side.stored.images if labels is not None else side.stored.images[:UNLABELLED]
        picture, classes = sheet(pixels(images, mean, std), labels, PER_CLASS)
        names = [side.stored.name_of(label) for label in classes]
        st.plotly_chart(class_grid(picture, names), width="stretch", key=f"grid-{side.letter}-{side.synth_id}")
        told = f"the first {PER_CLASS} images of each class" if classes else f"the first {len(images)} images"
        scaled = "" if mean is not None else "; grey levels stretched to the set's own range"
        st.caption(f"{side.letter}: {side.said} · {told}, from the store{scaled}")
        return
    grid = _packed(side.cells)
    if grid is None:
        st.info(f"{side.letter}: {side.said} · no picture: neither the store nor the package holds these images.")
        return
    st.image(grid, width="stretch")
    st.caption(f"{side.letter}: {side.said} · the first images of the set as they came with the package, not by class")


def _constants(dataset: str) -> tuple[list[float] | None, list[float] | None]:
    """Mean and standard deviation of a record on this data set: what its networks normalise with."""
    cells = snapshot().cells
    some = cells[(cells["dataset"] == dataset) & (cells["status"] == "ok") & (cells["compressor"] != "")].head(1)
    for record in records_of(some) if len(some) else []:
        mean, std = record.protocol.get("mean"), record.protocol.get("std")
        if mean and std:
            return list(mean), list(std)
    return None, None


def _packed(cells: pd.DataFrame) -> bytes | None:
    one_each = cells.drop_duplicates("suite")
    for record in records_of(one_each) if len(one_each) else []:
        grid = read_grid(record)
        if grid is not None:
            return grid
    return None


# --- facts, curves ---


def _facts(found: Scope, side: Side) -> None:
    """What the set took and what its source was allowed to see."""
    row, stored = _table_row(found, side), side.stored
    labels = "not in this store" if stored is None else "none" if stored.labels is None else "yes"
    facts: dict[str, str] = {"labels": labels, "image set": side.synth_id}
    if row is not None:
        facts = {
            "may look at (access tier)": str(row.access),
            "images used": number(row.n, 0),
            "wall time of the synthesis": seconds(row.synthesis_s),
            "CPU time": seconds(row.synthesis_cpu_s),
        } | facts
    st.html(html_table(FACTS, list(facts.items())))


def _table_row(found: Scope, side: Side) -> Any:
    mine = side.cells[side.cells["suite"] == found.suite].head(1)
    if mine.empty:
        return None
    table, cell = found.table, mine.iloc[0]
    rows = table[(table["source"] == cell["source"]) & (table["model"] == cell["model"])]
    return next(rows.itertuples(), None)


def _curves(sides: Sequence[Side]) -> None:
    st.subheader("Curves of the synthesis")
    curves = [_curves_of(side) for side in sides]
    names = list(dict.fromkeys(name for found in curves for name in sorted(found, key=_curve_order)))
    if not names:
        st.info(
            "Not recorded here: the packed records keep curves of suites that measure images only, and this store "
            "holds neither set. Run the suite into a store of your own to see them."
        )
        return
    looks = ("solid blue", "dashed orange")
    told = [
        f"{look}: {side.letter}, {side.said}" if found else f"{side.letter}, {side.said}: no curves recorded"
        for look, side, found in zip(looks, sides, curves, strict=True)
    ]
    st.caption(" · ".join([*told, "first batch of each set"]))
    for start in range(0, len(names), 3):
        for place, name in zip(st.columns(3), names[start : start + 3], strict=False):
            with place:
                figure = curve_figure(name, [(s.name, f.get(name, ())) for s, f in zip(sides, curves, strict=True)])
                st.plotly_chart(figure, width="stretch", key=f"curve-{name}")


def _curve_order(name: str) -> tuple[bool, str]:
    """The loss first, then its terms."""
    return name != "loss", name


def _curves_of(side: Side) -> dict[str, list[tuple[int, float]]]:
    """From the stored batch, else from a record that measured the images (others hold their compressor's curves)."""
    if side.stored is not None and side.stored.curves:
        return {name: list(curve) for name, curve in side.stored.curves.items()}
    plain = side.cells[(side.cells["compressor"] == "") & (side.cells["status"] == "ok")].head(1)
    records: list[ResultRecord] = records_of(plain) if len(plain) else []
    return dict(records[0].curves) if records else {}


# --- measures ---


def _measures(sides: Sequence[Side]) -> None:
    st.subheader("Measures of the images")
    values = _values(sides)
    names = sorted(metrics(values), key=lambda name: (not name.startswith(STATISTICS), name))
    pair = [side.name for side in sides]
    if not names or not set(pair) & set(values["name"]):
        st.info(
            "Not measured: no suite here measures these two image sets. One that lists `measures:` does, "
            "such as `bench run suites/synthesis_quality.yaml`."
        )
        return
    st.html(html_table(MEASURES, [_measure_row(values, name, pair) for name in names]))
    for side in sides:
        if side.name not in set(values["name"]):
            st.caption(f"{side.letter}: {side.said}: not measured by any suite here.")
    measure = choice("Measure", "measure", names, shown=titled)
    real = next(iter(values.loc[values["control"] == "upper", "name"]), None)
    order = sorted(set(values["network"]))
    st.plotly_chart(measure_dots(values, measure, pair, order, real), width="stretch", key=f"measure-{measure}")
    seeds = ", ".join(sorted(set(values["seeds"])))
    suites = plain(", ".join(sorted(set(values["suite"]))))
    st.caption(f"each network of suite {suites} measures every image set; seeds {seeds}")
    statistics = [name for name in names if name.startswith(STATISTICS)]
    if statistics:
        _nearest(values, statistics[0], pair, real)


def _values(sides: Sequence[Side]) -> pd.DataFrame:
    """Rows of the board that measure images, of every suite that measured one of the two sets, with ``name`` of the
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
    out: list[str | Html] = [titled(measure)]
    total = values["network"].nunique()
    counts = []
    for name in pair:
        found = values.loc[values["name"] == name, measure].dropna().astype(float)
        whole = len(found) == total
        out += [number(found.mean() if whole else None), _range(found)]
        counts.append(f"{len(found)} of {total}")
    return [*out, ", ".join(dict.fromkeys(counts))]


def _range(found: pd.Series) -> str:
    return f"{number(found.min())} to {number(found.max())}" if len(found) else "not measured"


def _nearest(values: pd.DataFrame, measure: str, pair: Sequence[str], real: str | None) -> None:
    """Whose batch-norm statistics the images are nearest to, in multiples of what real images have."""
    st.subheader("Nearest statistics")
    if real is None:
        st.info("Not measured: real images are the yardstick, and this suite measures none.")
        return
    table = values.pivot_table(index="network", columns="name", values=measure, aggfunc="first").astype(float)
    ratios = table.div(table[real], axis=0)
    shown = [name for name in dict.fromkeys(pair) if name in ratios]
    ratios = ratios.sort_values(shown[0])
    columns = (Column("network"), Column(f"{real}: {words(measure)}", True), *(Column(n, True) for n in shown))
    rows: list[list[str | Html]] = [
        [str(network), number(table.loc[network, real]), *(f"{number(ratios.loc[network, n], 1)} ×" for n in shown)]
        for network in ratios.index
    ]
    st.caption(
        f"{words(measure)}: distance between the images' statistics and a network's own, summed over its layers; the "
        "sources in multiples of what real images have, nearest network first"
    )
    st.html(html_table(columns, rows))
