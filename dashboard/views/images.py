"""Images: what two sources synthesise, side by side: pictures, curves of the synthesis, measures over networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bench.board.index.imagesets import is_stored, pixels, read_images, sheet
from bench.errors import StoreError
from bench.store.measured import read_grid, suites_with_grids
from bench.store.records import ResultRecord
from dashboard.common import Scope, heading, problems, scope
from dashboard.figures.images import class_grid, curve_figure
from dashboard.filters import choice
from dashboard.image_measures import Side, measures
from dashboard.load import index, records_of, snapshot
from dashboard.tables import Column, html_table
from dashboard.text import number, plain, row_name, seconds

SHOWN = 256
PER_CLASS = 8
UNLABELLED = 64
NONE = "no network"
FACTS = (Column(""), Column("", True))


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
    first, *places = st.columns([1, 3, 3])
    with first:
        seed = int(choice("Seed", "seed", [str(s) for s in sorted(set(mine["seed"]))]))
    mine = mine[mine["seed"] == seed]
    sources = _sources(mine)
    sides = []
    for place, letter, start in zip(places, "AB", _pair(found.table, mine, sources), strict=True):
        with place:
            sides.append(_side(letter, mine, sources, start))
    for place, side in zip(st.columns(2), sides, strict=True):
        with place:
            _pictures(side, found)
            _facts(found, side)
    _curves(sides)
    measures(sides)


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


def _pair(table: pd.DataFrame, cells: pd.DataFrame, sources: Sequence[str]) -> tuple[str, str]:
    """Shown at first: the method that may look at most, beside real images; else the first two there are."""
    methods = table[(table["control"] == "none") & table["source"].isin(list(sources))]
    tiers = methods.groupby("source")["access"].max()
    first = max(reversed(sources), key=lambda source: str(tiers.get(source, "")))
    real = cells.loc[cells["control"] == "upper", "source"]
    others = [*real, *(source for source in sources if source != first), first]
    return first, str(others[0])


def _side(letter: str, cells: pd.DataFrame, sources: Sequence[str], start: str) -> Side:
    key = letter.lower()
    source = choice(f"Source {letter}", key, sources, default=start)
    part = cells[cells["source"] == source]
    models = sorted({str(m) for m in part["model"]}) or [""]
    done = part[part["status"] == "ok"]["model"].value_counts()
    fullest = max(models, key=lambda m: done.get(m, 0))
    model = choice(f"Images of {letter} from", f"from_{key}", [m or NONE for m in models], fullest or NONE)
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
        st.warning(plain(side.trouble))
    if side.stored is not None:
        mean, std = _constants(found.dataset)
        labels = side.stored.labels
        images = side.stored.images if labels is not None else side.stored.images[:UNLABELLED]
        each = max(1, PER_CLASS // side.stored.frames)
        picture, classes = sheet(pixels(images, mean, std), labels, each, side.stored.frames)
        names = [side.stored.name_of(label) for label in classes]
        st.plotly_chart(class_grid(picture, names), width="stretch", key=f"grid-{side.letter}-{side.synth_id}")
        told = f"the first {each} images of each class" if classes else f"the first {len(images)} images"
        scaled = "" if mean is not None else "; grey levels stretched to the set's own range"
        st.caption(plain(f"{side.letter}: {side.said} · {told}, from the store{scaled}"))
        return
    grid = _packed(side.cells)
    if grid is None:
        st.info(
            plain(f"{side.letter}: {side.said} · no picture: neither the store nor the package holds these images.")
        )
        return
    st.image(grid, width="stretch")
    st.caption(
        plain(f"{side.letter}: {side.said} · the first images of the set as they came with the package, not by class")
    )


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
    st.caption(plain(" · ".join([*told, "first batch of each set"])))
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
    measuring = side.cells[(side.cells["compressor"] == "") & (side.cells["status"] == "ok")].head(1)
    records: list[ResultRecord] = records_of(measuring) if len(measuring) else []
    return dict(records[0].curves) if records else {}
