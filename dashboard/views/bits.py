"""Bits per layer: what each layer of a row's network is stored and computed with, and what each image takes where bits
depend on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bench.store.records import ResultRecord
from dashboard.common import Scope, chart, heading, problems, scope
from dashboard.figures.bits import (
    FLOAT,
    alone,
    by_kind,
    differing,
    kept,
    layer_bits,
    layer_figure,
    mean_bits,
    protocol_bits,
    protocol_figure,
    resized,
    sentence,
)
from dashboard.filters import choice
from dashboard.image_bits import show_image_bits
from dashboard.load import records_of, snapshot
from dashboard.tables import Column, Html, html_table
from dashboard.text import counted, figure_text, interval, number, plain, rounded, row_name, size

FLOATS = 6
"""How many parameters outside the layers are named."""

KINDS = (
    Column("kind of layer"),
    Column("weights, bits", True),
    Column("inputs, bits", True),
    Column("layers", True),
    Column("weights", True, "scalars"),
    Column("MACs", True, "for one image"),
)
LAYERS = (
    Column("", True, "place in the order of execution"),
    Column("layer"),
    Column("kind"),
    Column("weights, bits", True),
    Column("input, bits", True),
    Column("weights", True, "scalars"),
    Column("MACs", True, "for one image"),
    Column("BitOPs", True, "MACs x bits of the weights x bits of the input"),
)
KEPT = Column("kept %", True, "weights that are not zero, of those stored")
NOTHING = "no other row"


def show() -> None:
    """Draw the page."""
    heading(
        "Bits per layer",
        "How many bits each layer of a compressed network keeps for its weights and its inputs, and how many weights; "
        "and how many each image gets, where bits depend on the image.",
    )
    problems()
    found = scope(snapshot().table["compressor"] != "", "No record of a compressed network yet.")
    if found is None:
        return
    targets = list(dict.fromkeys(found.table["target"]))
    target = choice("Target", "target", targets)
    cells = _cells(found, target)
    if cells.empty:
        st.info("No row of this target was measured: what its layers got is known once a cell has succeeded.")
        return
    names = list(cells["name"])
    left, right = st.columns(2)
    newest = str(cells.sort_values("finished", kind="stable", na_position="first")["name"].iloc[-1])
    with left:
        first = choice("Row", "row", names, default=newest)
    with right:
        second = choice("Beside it", "beside", [NOTHING, *(name for name in names if name != first)])
    chosen = [first] if second == NOTHING else [first, second]
    records = [records_of(cells[cells["name"] == name])[0] for name in chosen]
    rows = found.table[found.table["target"] == target]
    listed = records_of(cells[cells["name"] == newest])[0]
    for name, record in zip(chosen, records, strict=True):
        _row(name, record, rows, listed)
    if len(records) > 1:
        _compare(*records)
    show_image_bits(dict(zip(chosen, records, strict=True)), _measured(found, target))


def _cells(found: Scope, target: str) -> pd.DataFrame:
    """The cell of the lowest measured seed of each row, with its ``name``, in the board's order."""
    mine = _measured(found, target)
    mine = mine.assign(name=[_name(row) for row in mine.itertuples()])
    mine = mine.sort_values(["suite_version", "seed"], ascending=[False, True], kind="stable").drop_duplicates("name")
    order = {_name(row): i for i, row in enumerate(found.table[found.table["target"] == target].itertuples())}
    place = mine["name"].map(lambda name: order.get(name, len(order)))
    return mine.assign(_place=place).sort_values("_place", kind="stable")


def _measured(found: Scope, target: str) -> pd.DataFrame:
    """The measured cells of a target."""
    cells = snapshot().cells
    mask = (cells["suite"] == found.suite) & (cells["preset"] == found.preset) & (cells["dataset"] == found.dataset)
    mine: pd.DataFrame = cells[mask & (cells["target"] == target) & (cells["compressor"] != "")]
    return mine[mine["status"] == "ok"]


def _name(row: Any) -> str:
    name = row_name(str(row.source), str(row.model), str(row.policy))
    return f"{name} · {row.compressor} · {row.setting_label} · {row.n} images"


def _row(name: str, record: ResultRecord, table: pd.DataFrame, listed: ResultRecord) -> None:
    """One row: what it reached, the bars, and the layers as tables.

    Args:
        table: the board's rows of its target.
        listed: the target's newest record; its layers serve an older one that was made under the same protocol.
    """
    st.header(plain(name))
    _facts(record, name, table)
    layers = layer_bits(record)
    # of the same bits, too: these say how much a step has pruned
    same = all(getattr(listed, f) == getattr(record, f) for f in ("protocol_id", "target_digest", "setting_label"))
    if layers.empty and same:
        layers = layer_bits(listed)
        if not layers.empty:
            st.caption(plain(f"Layers as listed by the record {listed.cell_id[:8]} of the same network and protocol."))
    if layers.empty:
        _protocol(name, record)
        return
    chart(layer_figure(layers, figure_text(name)), f"layers-{record.cell_id}")
    weights, inputs = mean_bits(layers)
    says = [
        f"{len(layers)} layers of {int(layers['parameters'].sum()):,} weights",
        f"a weight takes {weights:.2f} bits on average, an input {inputs:.2f} (by MACs)",
        "input: what a layer reads, be it the image or an activation",
    ]
    floats = record.metrics.get("float_weights")
    if floats:
        says.append(f"{floats:.1f} % of the weights in float{_named_floats(record)}")
    left = kept(layers)
    if left is not None:
        share = 100 * layers["nonzero"].sum() / max(layers["parameters"].sum(), 1)
        says.insert(1, f"{share:.1f} % of them are not zero")
    st.caption(plain(" · ".join(says)))
    more = () if left is None else (KEPT,)
    st.html(html_table((*KINDS, *more), [_kind(r) for r in by_kind(layers).itertuples()]))
    with st.expander("All layers"):
        st.html(html_table((*LAYERS, *more), [_layer(i, r) for i, r in enumerate(layers.itertuples(), start=1)]))


def _facts(record: ResultRecord, name: str, table: pd.DataFrame) -> None:
    for r in [r for r in table.itertuples() if _name(r) == name][:1]:
        accuracy = f"top-1 {rounded(r.top1_mean, r.top1_low, r.top1_high)} % {interval(r.top1_low, r.top1_high)}"
        st.caption(plain(f"{accuracy} · {size(r.size_bytes)} · {number(r.bitops_g, 3)} GBitOPs · seed {record.seed}"))


def _protocol(name: str, record: ResultRecord) -> None:
    found = protocol_bits(record)
    if not found:
        st.info("This record holds neither a list of its layers nor a protocol that speaks of bits.")
        return
    chart(protocol_figure(found), f"protocol-{record.cell_id}")
    named = _named_floats(record)
    rest = f" In floating point besides{named}." if named else ""
    st.info(
        f"As the protocol says it, by kind of tensor ({plain(sentence(found))}).{plain(rest)} This record was made "
        "before records listed their layers; run the suite again with this version (`--fresh`) for the list."
    )


def _named_floats(record: ResultRecord) -> str:
    """Parameters outside the layers that stay in floating point, the first few by name."""
    floats = record.protocol.get("left_in_float")
    if not isinstance(floats, list) or not floats:
        return ""
    more = f" and {len(floats) - FLOATS} more" if len(floats) > FLOATS else ""
    return f": {plain(', '.join(map(str, floats[:FLOATS])))}{more}"


def _compare(one: ResultRecord, other: ResultRecord) -> None:
    first, second = layer_bits(one), layer_bits(other)
    if first.empty or second.empty:
        return
    unlike = alone(first, second)
    if unlike:
        st.caption(plain(f"The networks differ: {counted(unlike, 'layer')} only one of them has."))
    names, sizes = differing(first, second), resized(first, second)
    if not names and not unlike:
        st.caption("Both rows give every layer the same bits" + (", but not the same weights." if sizes else "."))
    _named(names, "with other bits")
    _named(sizes, "with another number of weights or of MACs")


def _named(lines: Sequence[str], what: str) -> None:
    if lines:
        with st.expander(plain(f"{counted(len(lines), 'layer')} {what}")):
            for line in lines:
                st.text(line)


def _bits(bits: int) -> str:
    return "float" if bits >= FLOAT else str(bits)


def _kept(r: Any) -> list[str]:
    """Nothing where the record does not list how many weights are not zero."""
    return [number(100 * r.nonzero / max(r.parameters, 1), 1)] if hasattr(r, "nonzero") else []


def _kind(r: Any) -> list[str | Html]:
    counts = [f"{int(v):,}" for v in (r.layers, r.parameters, r.macs)]
    return [r.kind, _bits(r.weight_bits), _bits(r.activation_bits), *counts, *_kept(r)]


def _layer(place: int, r: Any) -> list[str | Html]:
    bitops = r.macs * r.weight_bits * r.activation_bits
    counts = [f"{int(v):,}" for v in (r.parameters, r.macs, bitops)]
    return [str(place), r.layer, r.kind, _bits(r.weight_bits), _bits(r.activation_bits), *counts, *_kept(r)]
