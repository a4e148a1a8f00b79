"""Images: up to three image sets side by side: pictures, rows fed by them, curves of the synthesis, measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from bench.board.index.imagesets import is_stored, pixels, read_images, sheet
from bench.errors import StoreError
from bench.store.measured import read_grid, suites_with_grids
from bench.store.records import ResultRecord
from dashboard.common import Scope, chart, heading, problems, scope
from dashboard.figures.images import class_grid, curve_figure
from dashboard.filters import choice
from dashboard.image_facts import facts, used
from dashboard.image_measures import Side, measures
from dashboard.load import index, records_of, snapshot
from dashboard.packed_grids import relaid
from dashboard.text import plain, row_name

SHOWN = 256
PER_CLASS = 8
UNLABELLED = 64
NONE = "no network"
SEVERAL, ALONE = "T2b", "T2a"
"""Access tiers of images that invert several networks, and one."""


def show() -> None:
    """Draw the page."""
    heading(
        "Images",
        "What the sources synthesise, side by side: images of several networks, of one network alone, and real ones; "
        "how they came about, and how networks see them.",
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
    starts = _starts(found.table, mine)
    sources = _sources(mine)
    sides = []
    for place, letter, start in zip(st.columns(len(starts)), "ABC", starts, strict=False):
        with place:
            sides.append(_side(letter, mine, sources, start))
    pictures = _layout(sides, found.suite)
    for place, side, picture in zip(st.columns(len(sides)), sides, pictures, strict=True):
        with place:
            _pictures(side, found, picture)
    _alike(pictures)
    facts(found, sides)
    for place, side in zip(st.columns(len(sides)), sides, strict=True):
        with place:
            used(side, found.suite)
    _curves(sides)
    measures(sides)


def _first(suites: Sequence[str]) -> str:
    """Where most is to be seen: a suite whose images are at hand, of each kind, and that measures them, of most
    sources."""
    worth = _worth(snapshot().stamp)
    return max(suites, key=lambda suite: worth.get(suite, (False, 0, False, 0)))


@st.cache_data(max_entries=4)
def _worth(stamp: str) -> dict[str, tuple[bool, int, bool, int]]:
    """Suite → whether pictures of its sets can be shown, how many of the kinds of :func:`_starts` it has, whether it
    measures images, number of its sources and the networks they look at.  ``stamp`` is the key."""
    found, packed, table = {}, suites_with_grids(), snapshot().table
    tiers = table.groupby("suite")["access"].agg(set)
    upper = set(table.loc[table["control"] == "upper", "suite"])
    for suite, cells in snapshot().cells.groupby("suite", sort=False):
        sets = cells[cells["synth_id"].notna()].drop_duplicates(["source", "model"])
        shown = str(suite) in packed or any(is_stored(index().store, str(synth_id)) for synth_id in sets["synth_id"])
        kinds = len({SEVERAL, ALONE} & tiers.get(suite, set())) + (suite in upper)
        measures = bool(((cells["compressor"] == "") & (cells["status"] == "ok")).any())
        found[str(suite)] = (shown, kinds, measures, len(sets))
    return found


def _sources(cells: pd.DataFrame) -> list[str]:
    """Labels of the sources: methods first, then the controls."""
    ordered = cells.assign(_last=cells["control"] != "none").sort_values(["_last", "source"])
    return list(dict.fromkeys(ordered["source"]))


def _starts(table: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """Shown at first: images of several networks, of one network alone, and real ones; what a suite lacks is filled
    with its other sources.  Of several sources of a kind, the one that has fed most cells of the board."""
    sources = _sources(cells)
    fed = snapshot().cells["source"].value_counts()
    by_use = sorted(sources, key=lambda source: -int(fed.get(source, 0)))
    own = table[table["source"].isin(sources)]
    kinds = [(own["control"] == "none") & (own["access"] == tier) for tier in (SEVERAL, ALONE)]
    kinds.append(own["control"] == "upper")
    asked = [set(own.loc[kind, "source"]) for kind in kinds]
    chosen = [next((source for source in by_use if source in kind), None) for kind in asked]
    spare = [source for source in sources if source not in chosen]
    filled = [source if source is not None else (spare.pop(0) if spare else None) for source in chosen]
    return [source for source in filled if source is not None]


def _side(letter: str, cells: pd.DataFrame, sources: Sequence[str], start: str) -> Side:
    key = letter.lower()
    source = choice(f"Source {letter}", key, sources, default=start)
    part = cells[cells["source"] == source]
    models = sorted({str(m) for m in part["model"]}) or [""]
    done = part[part["status"] == "ok"]["model"].value_counts()
    fullest = _target() if _target() in models else max(models, key=lambda m: done.get(m, 0))
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


def _target() -> str:
    """The network that another page showed last: its own images are wanted first."""
    return str((st.session_state.get("kept_target") or [""])[0])


# --- pictures ---


@dataclass(frozen=True)
class Picture:
    """How a side's images are shown: the package's grid, or so many from the store, by class or as they come."""

    grid: bytes | None = None
    count: int = 0
    by_class: bool = False


def _layout(sides: Sequence[Side], suite: str) -> list[Picture]:
    """One layout for all: by class if every set has labels, else the first of each, as many as the smallest has; the
    package's grids, laid out alike, if the store lacks a set."""
    stored = [side.stored for side in sides if side.stored is not None]
    grids = [None if side.trouble else _packed(side.cells, suite) for side in sides]
    if len(stored) < len(sides) and sum(grid is not None for grid in grids) > 1:
        stored = []
    by_class = all(found.labels is not None for found in stored)
    count = SHOWN if by_class else min([UNLABELLED, *(len(found.images) // found.frames for found in stored)])
    shown = [None if stored and side.stored is not None else grid for side, grid in zip(sides, grids, strict=True)]
    packed = [grid for grid in shown if grid is not None]
    alike, number = relaid(packed, count if stored and not by_class else UNLABELLED)
    each = iter(alike)
    if number is not None and not by_class:
        count = number
    return [
        Picture(None, count, by_class) if grid is None else Picture(next(each), number or 0, False) for grid in shown
    ]


def _alike(pictures: Sequence[Picture]) -> None:
    """What the package's grids show, said once."""
    packed = [picture for picture in pictures if picture.grid is not None]
    if packed:
        first = f"the first {packed[0].count}" if packed[0].count else "the first"
        st.caption(plain(f"{first} images of each set as they came with the package, not by class"))


def _pictures(side: Side, found: Scope, picture: Picture) -> None:
    if side.trouble:
        st.warning(plain(side.trouble))
    alt = f"{side.letter}: images of {side.said}"
    if side.stored is not None and picture.grid is None:
        mean, std = _constants(found.dataset)
        frames = side.stored.frames
        labels = side.stored.labels if picture.by_class else None
        images = side.stored.images if picture.by_class else side.stored.images[: picture.count * frames]
        each = max(1, PER_CLASS // frames)
        drawn, classes = sheet(pixels(images, mean, std), labels, each, frames)
        names = [side.stored.name_of(label) for label in classes]
        told = f"the first {each} images of each class" if classes else f"the first {len(images) // frames} images"
        chart(class_grid(drawn, names), f"grid-{side.letter}-{side.synth_id}", alt=f"{alt}, {told}")
        scaled = "" if mean is not None else "; grey levels stretched to the set's own range"
        st.caption(plain(f"{side.letter}: {side.said} · {told}, from the store{scaled}"))
        return
    if picture.grid is None:
        st.info(
            plain(f"{side.letter}: {side.said} · no picture: neither the store nor the package holds these images.")
        )
        return
    first = f"the first {picture.count} images" if picture.count else "the first images"
    st.image(picture.grid, width="stretch", alt=f"{alt}, {first} of the set")
    st.caption(plain(f"{side.letter}: {side.said}"))


def _constants(dataset: str) -> tuple[list[float] | None, list[float] | None]:
    """Mean and standard deviation of a record on this data set: what its networks normalise with."""
    cells = snapshot().cells
    some = cells[(cells["dataset"] == dataset) & (cells["status"] == "ok") & (cells["compressor"] != "")].head(1)
    for record in records_of(some) if len(some) else []:
        mean, std = record.protocol.get("mean"), record.protocol.get("std")
        if mean and std:
            return list(mean), list(std)
    return None, None


def _packed(cells: pd.DataFrame, suite: str) -> bytes | None:
    """The grid that came with the package: the shown suite's own where there is one."""
    ordered = cells.assign(_other=cells["suite"] != suite).sort_values("_other", kind="stable")
    one_each = ordered.drop_duplicates("suite").drop(columns="_other")
    for record in records_of(one_each) if len(one_each) else []:
        grid = read_grid(record)
        if grid is not None:
            return grid
    return None


# --- curves ---


def _curves(sides: Sequence[Side]) -> None:
    st.header("Curves of the synthesis")
    curves = [_curves_of(side) for side in sides]
    names = list(dict.fromkeys(name for found in curves for name in sorted(found, key=_curve_order)))
    if not names:
        st.info(
            "Not recorded here: the packed records keep curves of suites that measure images only, and this store "
            "holds none of the sets. Run the suite into a store of your own to see them."
        )
        return
    looks = ("solid blue", "dashed orange", "dotted green")
    told = [
        f"{look}: {side.letter}, {side.said}" if found else f"{side.letter}, {side.said}: no curves recorded"
        for look, side, found in zip(looks, sides, curves, strict=False)
    ]
    st.caption(plain(" · ".join([*told, "first batch of each set"])))
    for start in range(0, len(names), 3):
        for place, name in zip(st.columns(3), names[start : start + 3], strict=False):
            with place:
                figure = curve_figure(name, [(s.name, f.get(name, ())) for s, f in zip(sides, curves, strict=True)])
                chart(figure, f"curve-{name}")


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
