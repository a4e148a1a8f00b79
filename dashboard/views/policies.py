"""Policies: the bits that searches gave each layer, what they reach, gain and cost, and how steady they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bench.board.tables.searches import GROUP, INTERVAL_FROM, epoch_of, epochs
from bench.store.records import ResultRecord
from dashboard.common import Scope, chart, heading, problems, scope
from dashboard.figures.bits import layer_bits
from dashboard.figures.margins import Margins, embeddings, margin_bars, margins_of
from dashboard.figures.policies import SIDES, agreement, policy_map, stability
from dashboard.figures.searches import complexity, cost_gain, cost_notes, on_front
from dashboard.filters import choice
from dashboard.load import records_of, searches_of, snapshot
from dashboard.tables import Column, Html, html_table
from dashboard.text import BLANK, counted, interval, missing, number, plain, rounded, row_name, seconds

COSTS = (
    Column("policy", help="what gave each layer its bits"),
    Column("setting"),
    Column("top-1 %", True, "mean over seeds, rounded to its uncertainty"),
    Column("95 % interval", True),
    Column("GBitOPs", True),
    Column("gain", True, "points over equal bits, mean of the seeds' paired differences"),
    Column("95 % interval", True, f"of the gain; from {INTERVAL_FROM} seeds on"),
    Column("BitOPs, ratio", True, "over those of equal bits"),
    Column("passes", True, "forward-equivalents of the search"),
    Column("epochs", True, "the same in epochs of training in floating point"),
    Column("CPU", True, "of the search"),
    Column("images", True, "that the search was given"),
    Column("seeds", True, "k of n"),
)
STEADY = (
    Column("policy"),
    Column("seeds", True),
    Column("weights, %", True, "of the layers whose weights get the same bits from every seed"),
    Column("inputs, %", True, "of the layers whose inputs get the same bits from every seed"),
    Column("layers that differ"),
)
NAMED = 4
"""Up to how many layers a table names them."""


def show() -> None:
    """Draw the page."""
    heading(
        "Policies",
        "Bits per layer as searches found them: what they reach, what they gain over equal bits and at what cost, and "
        "how steady they are over seeds.",
    )
    problems()
    found = scope(
        snapshot().table["policy"] != "",
        "No record whose bits were searched yet: a suite's policy axis asks for searches.",
    )
    if found is None:
        return
    target = choice("Target", "target", list(dict.fromkeys(found.table["target"])))
    cells = _measured(found, target)
    table = searches_of(cells) if len(cells) else pd.DataFrame()
    groups = {_name(key): part for key, part in table.groupby(list(GROUP), sort=False)} if len(table) else {}
    if not groups:
        st.info("No row of this target was measured: what a search is worth is known once a cell has succeeded.")
        return
    name = choice("Rows", "rows", list(groups))
    group = groups[name]
    _accuracy(group)
    _costs(group)
    settings = list(dict.fromkeys(group["setting_label"]))
    setting = choice("Setting", "level", settings) if len(settings) > 1 else str(settings[0])
    by_policy = _records(cells, group[group["setting_label"] == setting])
    searches = list(group[~group["control"]]["policy"])
    _layers(by_policy, searches)
    _margins(by_policy)


def _measured(found: Scope, target: str) -> pd.DataFrame:
    """The measured cells of a target, of the suite's newest version; those without a search, too: their seeds tell of
    the variance between seeds."""
    cells = snapshot().cells
    mask = (cells["suite"] == found.suite) & (cells["preset"] == found.preset) & (cells["dataset"] == found.dataset)
    mine = cells[mask & (cells["target"] == target) & (cells["compressor"] != "") & (cells["status"] == "ok")]
    newest: pd.DataFrame = mine[mine["suite_version"] == mine["suite_version"].max()]
    return newest


def _name(key: Any) -> str:
    """A group of rows in words."""
    of = dict(zip(GROUP, key, strict=True))
    return f"{row_name(str(of['source']), str(of['model']))} · {of['compressor']} · {of['n']} images"


def _records(cells: pd.DataFrame, lines: pd.DataFrame) -> dict[str, list[ResultRecord]]:
    """Policy → the records of its row by ascending seed; of a row that is stale only where there is no other."""
    rows = lines.sort_values("stale", kind="stable").drop_duplicates("policy")
    found: dict[str, list[ResultRecord]] = {str(policy): [] for policy in lines["policy"]}
    for record in records_of(cells[cells["row_id"].isin(set(rows["row_id"]))].sort_values("seed", kind="stable")):
        found[record.policy].append(record)
    return found


def _accuracy(group: pd.DataFrame) -> None:
    st.header("Complexity against accuracy")
    known = group[group["top1_mean"].notna() & group["bitops_g"].notna()]
    if known.empty:
        st.info("None of these rows has a mean yet: every one still lacks a seed.")
        return
    chart(complexity(group), "complexity")
    says = [
        f"{counted(len(known), 'row')}, {len(on_front(group))} on the front",
        "the front is of searches; controls stand beside it, grey and hollow",
        f"{counted(len(group) - len(known), 'row')} without a mean left out" if len(known) < len(group) else "",
        f"{counted(int(known['stale'].sum()), 'row')} stale, on no front and without a gain"
        if known["stale"].any()
        else "",
    ]
    st.caption(plain(" · ".join(filter(None, says))))


def _costs(group: pd.DataFrame) -> None:
    st.header("Search cost against gain")
    images = epoch_of(group)
    drawn = group[group["gain"].notna() & ~group["equal"]]
    if drawn.empty:
        st.info(plain(_no_gain(group)))
    elif not images:
        st.info("None of these searches looked at images, so none has a cost in epochs.")
    else:
        chart(cost_gain(group, images), "cost-gain")
        st.caption(plain(" · ".join(cost_notes(group, images))))
    with st.expander("The same as a table", expanded=drawn.empty):
        st.html(
            html_table(
                COSTS,
                [_cost_row(r) for r in group.assign(_e=epochs(group["search_forwards"], images)).itertuples()],
                ["control" if control else "" for control in group["control"]],
            )
        )


def _no_gain(group: pd.DataFrame) -> str:
    if not group["equal"].any():
        return "No control of equal bits was measured beside these rows, so nothing is known of a gain."
    if group["stale"].all() or group[group["equal"]]["stale"].all():
        return "These rows are stale, measured with an older version of a method or other weights: no gain is formed."
    return "No row has all of its seeds beside those of equal bits yet, so nothing is known of a gain."


def _cost_row(r: Any) -> list[str | Html]:
    gain = BLANK if missing(r.gain) or r.equal else f"{float(r.gain):+.2f}"
    return [
        r.policy,
        r.setting_label,
        rounded(r.top1_mean, r.top1_low, r.top1_high),
        interval(r.top1_low, r.top1_high),
        number(r.bitops_g, 3),
        gain,
        interval(r.gain_low, r.gain_high),
        number(r.bitops_ratio, 3),
        number(r.search_forwards, 0),
        number(r[-1], 2),
        seconds(r.search_cpu_s),
        BLANK if missing(r.search_forwards) or not r.search_forwards else number(r.search_images, 0),
        r.seeds,
    ]


def _layers(by_policy: Mapping[str, Sequence[ResultRecord]], searches: Sequence[str]) -> None:
    """The policies over each other, and how steady each is; ``searches`` are those that are no controls."""
    st.header("Policies over each other")
    frames = {name: [layer_bits(record) for record in records] for name, records in by_policy.items()}
    layers = next((list(some[0]["layer"]) for some in frames.values() if len(some[0])), [])
    unlike = [name for name, some in frames.items() if any(list(frame["layer"]) != layers for frame in some)]
    if unlike:
        st.caption(plain(f"Left out, as their records list other layers or none: {', '.join(unlike)}."))
    frames = {name: some for name, some in frames.items() if name not in unlike}
    if not frames or not layers:
        st.info("No record here lists its layers.")
        return
    chart(policy_map(frames), "policy-map")
    _steady(frames, searches)


def _steady(frames: Mapping[str, Sequence[pd.DataFrame]], searches: Sequence[str]) -> None:
    st.header("Stability over seeds")
    several = {name: some for name, some in frames.items() if len(some) > 1}
    if not several:
        st.info("One seed says nothing of how steady a search is.")
        return
    shown = choice(
        "Search", "search", list(several), default=next((name for name in several if name in searches), None)
    )
    chart(stability(several[shown]), "stability")
    st.caption("Each bar is a layer; its parts are the shares of the seeds that give it these bits.")
    st.html(html_table(STEADY, [_steady_row(name, some) for name, some in several.items()]))


def _steady_row(name: str, some: Sequence[pd.DataFrame]) -> list[str | Html]:
    shares = [number(100 * agreement(some, [side]), 0) for side, _ in SIDES]
    sides = [side for side, _ in SIDES]
    layers = list(some[0]["layer"])
    other = [
        str(layer)
        for index, layer in enumerate(layers)
        if any(len({int(frame[side].iloc[index]) for frame in some}) > 1 for side in sides)
    ]
    names = f": {', '.join(other)}" if 0 < len(other) <= NAMED else ""
    return [name, str(len(some)), *shares, f"{len(other)} of {len(layers)}{names}"]


def _margins(by_policy: Mapping[str, Sequence[ResultRecord]]) -> None:
    st.header("Class margins of the features")
    known = {
        name: seeds
        for name, records in by_policy.items()
        if (seeds := [(record, found) for record in records if (found := margins_of(record)) is not None])
    }
    if not known:
        st.info(
            "None of these searches reports margins. Those that train a supernet do; a record made before they did "
            "lacks them until the suite is run again (`--fresh`)."
        )
        return
    bars = margin_bars({name: [found for _, found in seeds] for name, seeds in known.items()})
    chart(bars, "margins")
    st.caption(plain(" · ".join(_said_of_margins(known))))
    pictures = {f"{name} · seed {r.seed}": found for name, seeds in known.items() for r, found in seeds}
    shown = pictures[choice("Features of", "features", list(pictures))]
    if not any(shown["points"].values()):
        st.info("These features have no picture.")
        return
    chart(embeddings(shown), "embeddings")
    count = counted(len(shown["point_classes"]), "image")
    st.caption(plain(f"First two principal components of the features of {count}, each network's own; colour: class."))


def _said_of_margins(known: Mapping[str, Sequence[tuple[ResultRecord, Margins]]]) -> list[str]:
    lacking = sorted(
        f"no ratio for {name}, seed {record.seed}, {side}: {why}"
        for name, seeds in known.items()
        for record, found in seeds
        for side, why in found.get("why", {}).items()
    )
    own = any(record.report["search"].get("labels") == "target" for seeds in known.values() for record, _ in seeds)
    says = [
        "smallest distance between class centres over the mean spread within classes, of what the last layer reads",
        "as searched: the trained supernet, all candidate bits mixed",
        "classes are the network's own answers, as the images have no labels" if own else "",
        *lacking,
    ]
    return list(filter(None, says))
