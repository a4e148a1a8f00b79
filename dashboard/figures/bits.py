"""Bits of weights and activations, layer by layer as a record lists them, or by kind of tensor as its protocol does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.store.records import ResultRecord
from dashboard.text import figure_text
from dashboard.theme import GREY, PALETTE, styled

FLOAT = 32
"""Bits of what stays in floating point."""
CEILING = 10
"""Height of a bar that stands for floating point, on an axis that ends just above it: 32 would dwarf 2 and 4."""

COLUMNS = ("layer", "kind", "weight_bits", "activation_bits", "macs", "parameters")
_COLOURS = {2: PALETTE[5], 3: PALETTE[1], 4: PALETTE[0], 8: PALETTE[2], FLOAT: GREY}
_OTHERS = (PALETTE[3], PALETTE[4], PALETTE[6])
_STRIPS = (
    ("weight_bits", "weights, bits"),
    ("activation_bits", "inputs, bits"),
    ("kept", "kept, %"),
    ("share", "MACs, %"),
)


def layer_bits(record: ResultRecord) -> pd.DataFrame:
    """The record's layers in the order of their execution; empty when it holds no such list.

    Returns:
        layer, kind, weight_bits, activation_bits (of the layer's input; 32: floating point), macs (for one image),
        parameters (scalars of the weight); where the record says of some layer how many weights are not zero, also
        nonzero (all of a layer of which it says nothing).  A policy of mixed precision is read the same way.
    """
    listed = record.report.get("layers")
    rows = [row for row in listed if isinstance(row, Mapping)] if isinstance(listed, list) else []
    names = {"layer": "name"}
    data = [[row.get(names.get(column, column)) for column in COLUMNS] for row in rows]
    table = pd.DataFrame(data, columns=list(COLUMNS))
    if table[list(COLUMNS[2:])].isna().any(axis=None):
        return table.iloc[:0]
    table = table.astype(dict.fromkeys(COLUMNS[2:], "int64"))
    if not any(isinstance(row.get("nonzero"), int) for row in rows):
        return table
    left = [row.get("nonzero") for row in rows]
    whole = table["parameters"]
    return table.assign(nonzero=[n if isinstance(n, int) else w for n, w in zip(left, whole, strict=True)])


def protocol_bits(record: ResultRecord) -> dict[str, int]:
    """What the protocol says of bits, by kind of tensor in words: ``first last weight`` → 8, the plain kinds first;
    empty without protocol."""
    found = {k.removesuffix("_bits"): v for k, v in record.protocol.items() if k.endswith("_bits")}
    ordered = sorted(found.items(), key=lambda item: (item[0] not in ("weight", "activation"), item[0]))
    return {name.replace("_", " "): int(v) for name, v in ordered if isinstance(v, int | float)}


def mean_bits(layers: pd.DataFrame) -> tuple[float, float]:
    """Mean bits of a weight (over all weights) and of a layer's input (over all MACs)."""
    weights, macs = layers["parameters"], layers["macs"]
    return (
        float((layers["weight_bits"] * weights).sum() / max(weights.sum(), 1)),
        float((layers["activation_bits"] * macs).sum() / max(macs.sum(), 1)),
    )


def kept(layers: pd.DataFrame) -> pd.Series | None:
    """Per cent of each layer's weights that are not zero; None where the record says nothing of it."""
    if "nonzero" not in layers:
        return None
    return 100 * layers["nonzero"] / layers["parameters"].clip(lower=1)


def layer_figure(layers: pd.DataFrame, name: str) -> go.Figure:
    """Strips of bars over the layers in order: bits of the weights, bits of the inputs, share of the weights that are
    not zero (where the record says so), share of the MACs.

    Args:
        layers: as :func:`layer_bits` gives them, not empty.
        name: of the row, for the hover.
    """
    total = max(int(layers["macs"].sum()), 1)
    table = layers.assign(share=100 * layers["macs"] / total, place=range(1, len(layers) + 1))
    left = kept(layers)
    if left is not None:
        table = table.assign(kept=left)
    strips = [(column, title) for column, title in _STRIPS if column in table]
    figure = go.Figure()
    shown: set[int] = set()
    for strip, (column, _) in enumerate(strips, start=1):
        if not column.endswith("_bits"):
            figure.add_trace(_share_bars(table, column, strip))
            continue
        for bits, part in table.groupby(column, sort=True):
            figure.add_trace(_bars(part, int(str(bits)), strip, name, int(str(bits)) not in shown))
            shown.add(int(str(bits)))
    return _strips(figure, table, strips)


def _share_bars(table: pd.DataFrame, column: str, strip: int) -> go.Bar:
    count, what = ("macs", "MACs") if column == "share" else ("nonzero", "weights not zero")
    return go.Bar(
        x=table["place"],
        y=table[column],
        width=0.85,
        yaxis=f"y{strip}",
        marker={"color": GREY},
        showlegend=False,
        customdata=table.assign(layer=table["layer"].map(figure_text))[["layer", count]],
        hovertemplate=f"%{{customdata[0]}}<br>%{{customdata[1]:,}} {what}, %{{y:.1f}} %<extra></extra>",
    )


def _bars(part: pd.DataFrame, bits: int, strip: int, name: str, legend: bool) -> go.Bar:
    texts = [
        f"<b>{figure_text(layer)}</b> ({figure_text(kind)})<br>weights {_said(weight)}, input {_said(act)}<br>"
        f"{parameters:,} weights, {macs:,} MACs ({share:.1f} %)"
        for layer, kind, weight, act, macs, parameters, share in part[[*COLUMNS, "share"]].itertuples(index=False)
    ]
    return go.Bar(
        x=part["place"],
        y=[min(bits, CEILING)] * len(part),
        width=0.85,
        yaxis="y" if strip == 1 else f"y{strip}",
        marker={"color": colour(bits), "pattern": {"shape": "/" if bits >= FLOAT else ""}},
        name=_said(bits),
        legendgroup=str(bits),
        legendrank=bits,
        showlegend=legend,
        hovertext=texts,
        hovertemplate=f"%{{hovertext}}<extra>{name}</extra>",
    )


def _strips(figure: go.Figure, table: pd.DataFrame, strips: Sequence[tuple[str, str]]) -> go.Figure:
    pitch = 1.05 / len(strips)  # of which 0.05 is the gap beneath a strip
    domains = [(max(0.0, 1 - i * pitch + 0.05), 1 - (i - 1) * pitch) for i in range(1, len(strips) + 1)]
    floating = bool((table[["weight_bits", "activation_bits"]] >= FLOAT).any(axis=None))
    for strip, ((column, title), domain) in enumerate(zip(strips, domains, strict=True), start=1):
        axis: dict[str, Any] = {"domain": domain, "title": title, "anchor": "x"}
        if column == "kept":
            axis |= {"range": [0, 105], "tickvals": [0, 50, 100]}
        if column.endswith("_bits"):
            ticks = [2, 4, 8, *([CEILING] if floating else [])]
            axis |= {"range": [0, CEILING + 0.5 if floating else 8.6], "tickvals": ticks}
            axis["ticktext"] = [str(FLOAT) if t == CEILING else str(t) for t in ticks]
        figure.update_layout({f"yaxis{strip if strip > 1 else ''}": axis})
    figure.update_xaxes(
        title="layer, in the order of execution",
        anchor=f"y{len(strips)}",
        showgrid=False,
        range=[0.4, len(table) + 0.6],
    )
    return styled(figure, 80 + 140 * len(strips)).update_layout(barmode="overlay")


def protocol_figure(found: Mapping[str, int]) -> go.Figure:
    """Lying bars: bits per kind of tensor."""
    names = list(reversed(list(found)))
    figure = go.Figure(
        go.Bar(
            y=[figure_text(name) for name in names],
            x=[min(found[name], CEILING) for name in names],
            orientation="h",
            marker={
                "color": [colour(found[name]) for name in names],
                "pattern": {"shape": ["/" if found[name] >= FLOAT else "" for name in names]},
            },
            text=[_said(found[name]) for name in names],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )
    figure.update_xaxes(title="bits", range=[0, CEILING + 5], tickvals=[2, 4, 8])
    return styled(figure, 80 + 30 * len(names)).update_layout(margin_t=8)


def colour(bits: int) -> str:
    """A colour per number of bits, the same on every page of bits."""
    return _COLOURS.get(bits, _OTHERS[bits % len(_OTHERS)])


def sentence(found: Mapping[str, int]) -> str:
    """What the protocol says, fewest bits first: ``4 bits: weight, activation; 8 bits: first last weight, …``."""
    groups: dict[int, list[str]] = {}
    for name, bits in found.items():
        groups.setdefault(bits, []).append(name)
    return "; ".join(f"{_said(bits)}: {', '.join(names)}" for bits, names in sorted(groups.items()))


def by_kind(layers: pd.DataFrame) -> pd.DataFrame:
    """Layers, weights (and those not zero, where known) and MACs per kind and pair of bits, most MACs first."""
    keys = ["kind", "weight_bits", "activation_bits"]
    sums = {name: (name, "sum") for name in ("parameters", "macs", "nonzero") if name in layers}
    table = layers.groupby(keys, as_index=False).agg(layers=("layer", "size"), **sums)
    return table.sort_values("macs", ascending=False, kind="stable", ignore_index=True)


def _said(bits: int) -> str:
    return "floating point" if bits >= FLOAT else f"{bits} bits"


def differing(one: pd.DataFrame, other: pd.DataFrame) -> Sequence[str]:
    """Layers of both whose bits differ, in the order of the first."""
    both = one.merge(other, on="layer", suffixes=("", "_other"))
    changed = (both["weight_bits"] != both["weight_bits_other"]) | (
        both["activation_bits"] != both["activation_bits_other"]
    )
    return [str(name) for name in both.loc[changed, "layer"]]


def resized(one: pd.DataFrame, other: pd.DataFrame) -> Sequence[str]:
    """Layers of both of which one row keeps another number of weights (fewer channels, or more zeroes) or which do
    other work, with both numbers, in the order of the first: ``conv1: 288 and 460 weights``."""
    both = one.assign(left=_left(one)).merge(other.assign(left=_left(other)), on="layer", suffixes=("", "_other"))
    changed = both[(both["left"] != both["left_other"]) | (both["macs"] != both["macs_other"])]
    return [f"{row.layer}: {row.left:,} and {row.left_other:,} weights" for row in changed.itertuples()]


def alone(one: pd.DataFrame, other: pd.DataFrame) -> int:
    """How many layers only one of the two has."""
    return len(set(one["layer"]) ^ set(other["layer"]))


def _left(layers: pd.DataFrame) -> pd.Series:
    """Weights that a layer keeps."""
    return layers["nonzero"] if "nonzero" in layers else layers["parameters"]
