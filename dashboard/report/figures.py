"""The static report's figures; pure: frame or verdicts → plotly figure. Text from records is escaped, for plotly reads
a subset of HTML in labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.board.claims.judging import Verdict
from bench.board.tables.costs import pareto_front
from bench.board.tables.grids import line_dicts, missing, number
from bench.board.tables.pivots import lines_of
from bench.board.tables.searches import epoch_of
from bench.store.records import ResultRecord
from dashboard.figures.claims import claims_forest as forest
from dashboard.figures.image_bits import against_difficulty, histogram, training_curves
from dashboard.figures.markers import SYMBOLS
from dashboard.figures.searches import complexity, cost_gain
from dashboard.figures.widths import accuracy_over_widths
from dashboard.text import figure_text
from dashboard.theme import GREY, HEAT, PALETTE, styled


def _plain(figure: go.Figure, height: int) -> go.Figure:
    """The dashboard's look without Streamlit's theme; the page's script sets the ink for light and dark."""
    return styled(figure, height).update_layout(template="none", font={"size": 12})


def claims_forest(verdicts: Sequence[Verdict]) -> go.Figure:
    """:func:`dashboard.figures.claims.claims_forest` for a page without a theme."""
    figure = forest(verdicts)
    return _plain(figure, int(figure.layout.height))


def search_figures(table: pd.DataFrame) -> list[go.Figure]:
    """Complexity against accuracy, and cost against gain where a gain is known, of one group of searches.

    Args:
        table: lines of :func:`bench.board.tables.searches.search_table` with a mean.
    """
    figures = [complexity(table)]
    images = epoch_of(table)
    if images and bool((table["gain"].notna() & ~table["equal"]).any()):
        figures.append(cost_gain(table, images))
    return [_plain(figure, int(figure.layout.height)) for figure in figures]


def width_figure(points: pd.DataFrame) -> go.Figure:
    """:func:`dashboard.figures.widths.accuracy_over_widths` for a page without a theme."""
    figure = accuracy_over_widths(points)
    return _plain(figure, int(figure.layout.height))


def image_bits_figures(rows: Mapping[str, ResultRecord]) -> list[go.Figure]:
    """Histogram of bits per image, bits against difficulty, and the trainings' curves, of rows by name whose bits
    depend on the image."""
    figures = [histogram(rows), against_difficulty(rows), *training_curves(rows).values()]
    return [_plain(figure, int(figure.layout.height)) for figure in figures]


def cross_validation_parts(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of one heat map each, as :func:`tables.pivots.pivot_grids` parts them, with what to call them:
    the compressor, and what else tells the parts of this table apart (data set, preset, images)."""
    keys = ["compressor", "dataset", "preset", "n"]
    several = [name for name in keys[1:] if table[name].nunique() > 1]
    order = list(dict.fromkeys(table["compressor"]))
    parts = []
    for key, part in sorted(table.groupby(keys, sort=True), key=lambda item: order.index(item[0][0])):
        values = dict(zip(keys, key, strict=True))
        words = [f"{values[name]} images" if name == "n" else str(values[name]) for name in several]
        parts.append((", ".join([str(values["compressor"]), *words]), part))
    return parts


def cross_validation(part: pd.DataFrame) -> go.Figure:
    """Sources by targets, as MixMix's Table 6: colour is the drop from the uncompressed network in points, text top-1.

    A frame marks images made from the target itself.  A missing cell is blank; hover gives interval, seeds, seconds.
    The colours end at the largest drop of what is no lower control, else noise would leave the rest one colour.

    Args:
        part: rows of one compressor, image count and preset (:func:`cross_validation_parts`).
    """
    rows = line_dicts(part)
    columns = list(dict.fromkeys((str(row["target"]), str(row["setting_label"])) for row in rows))
    lines = lines_of(rows)
    found = [[_fresh(cells.get(column, [])) for column in columns] for cells in lines.values()]
    several = len({setting for _, setting in columns}) > 1
    heads = [figure_text(f"{target} {setting}" if several else target) for target, setting in columns]
    names = [figure_text(name) for name in lines]
    drops = [float(row["drop"]) for row in rows if not missing(row["drop"]) and row["control"] != "lower"]
    figure = go.Figure(
        go.Heatmap(
            z=[[_value(row, "drop") for row in line] for line in found],
            x=heads,
            y=names,
            text=[["" if row is None else number(row["top1_mean"]) for row in line] for line in found],
            texttemplate="%{text}",
            customdata=[[_hover(row) for row in line] for line in found],
            hovertemplate="%{y}<br>on %{x}<br>%{customdata}<extra></extra>",
            hoverongaps=False,
            colorscale=HEAT,
            reversescale=True,
            zmin=min(0.0, *drops) if drops else None,
            zmax=max(drops) if drops else None,
            colorbar={"title": {"text": "drop, points", "side": "right"}, "thickness": 12},
            xgap=1,
            ygap=1,
        )
    )
    for y, line in enumerate(found):
        for x, row in enumerate(line):
            if row is not None and row["model"] == row["target"]:
                ends = {"x0": x - 0.47, "x1": x + 0.47, "y0": y - 0.44, "y1": y + 0.44}
                figure.add_shape(type="rect", line={"color": PALETTE[5], "width": 2}, **ends)
    figure.update_xaxes(side="top", showgrid=False, tickangle=-30)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return _plain(figure, 170 + 28 * len(names))


def trade_off(table: pd.DataFrame) -> go.Figure:
    """Mean top-1 over the targets against mean seconds (synthesis and compression), one point per source,
    compressor, setting, image count and preset; the lines are the Pareto fronts, one a setting, of what is no control.

    Colour says the compressor, marker the setting, its size the image count, smallest first.  A combination with a
    missing target has no mean and no point: means over different targets do not compare.
    """
    points = trade_off_points(table)
    figure = go.Figure()
    compressors = list(dict.fromkeys(point["compressor"] for point in points))
    settings = list(dict.fromkeys(point["setting"] for point in points))
    sizes = marker_sizes([point["n"] for point in points])
    for compressor, setting in dict.fromkeys((point["compressor"], point["setting"]) for point in points):
        part = [point for point in points if (point["compressor"], point["setting"]) == (compressor, setting)]
        part.sort(key=lambda point: bool(point["control"]))  # the legend shows the first one's marker
        shape = SYMBOLS[settings.index(setting) % len(SYMBOLS)]
        figure.add_trace(
            go.Scatter(
                x=[point["seconds"] for point in part],
                y=[point["top1"] for point in part],
                mode="markers",
                marker={
                    "size": [sizes[point["n"]] for point in part],
                    "symbol": [shape + ("-open" if point["control"] else "") for point in part],
                    "color": PALETTE[compressors.index(compressor) % len(PALETTE)],
                    "line": {"width": 1.5},
                },
                name=figure_text(f"{compressor} {setting}".strip()),
                text=[figure_text(point["label"]) for point in part],
                hovertemplate="%{text}<br>%{y:.2f} % in %{x:.1f} s<extra></extra>",
            )
        )
    for setting in settings:
        methods = [point for point in points if point["setting"] == setting and not point["control"]]
        known = pd.DataFrame(methods, columns=["seconds", "top1"])
        front = pareto_front(known, "seconds", "top1").rows.sort_values("seconds")
        figure.add_trace(
            go.Scatter(
                x=front["seconds"].tolist(),
                y=front["top1"].tolist(),
                mode="lines",
                line={"shape": "hv", "dash": "dot", "color": GREY},
                name="Pareto front (no controls)",
                legendgroup="front",
                showlegend=setting == settings[0],
                hoverinfo="skip",
            )
        )
    figure.update_xaxes(
        title="synthesis + compression, mean s per cell (log)", type="log", dtick="D2", exponentformat="none"
    )
    figure.update_yaxes(title="top-1, mean over targets, %")
    return _plain(figure, 420)


def marker_sizes(counts: Sequence[int]) -> dict[int, float]:
    """Image count → size of its marker in pixels: 7 to 15 in equal steps, 11 where there is one count."""
    places = sorted(set(counts))
    return {count: 11.0 if len(places) == 1 else 7 + 8 * i / (len(places) - 1) for i, count in enumerate(places)}


def trade_off_points(table: pd.DataFrame) -> list[dict[str, Any]]:
    """label, compressor, setting, n, seconds, top1, control of what was measured on all targets of its setting."""
    rows = [row for row in line_dicts(table[table["compressor"] != ""]) if not row["stale"]]
    groups: dict[str, set[str]] = {}
    for row in rows:
        groups.setdefault(row["target"], set()).add(row["setting_label"])
    mixed = any(len(own) > 1 for own in groups.values())  # else each target has its own setting: one group
    targets: dict[str, set[tuple[str, str]]] = {}
    parts: dict[tuple[str, str, int, str], list[dict[str, Any]]] = {}
    for row in rows:
        setting = str(row["setting_label"]) if mixed else ""
        targets.setdefault(setting, set()).add((row["target"], row["setting_label"]))
        parts.setdefault((str(row["compressor"]), setting, int(row["n"]), str(row["preset"])), []).append(row)
    several = [len({key[i] for key in parts}) > 1 for i in (2, 3)]
    points = []
    for (compressor, setting, n, preset), part in parts.items():
        told = [f"{n} images" if several[0] else "", preset if several[1] else ""]
        for name, cells in lines_of(part).items():
            label = " · ".join(filter(None, (name, compressor, setting, *told)))
            point = _point(cells, targets[setting])
            if point is not None:
                points.append({"label": label, "compressor": compressor, "setting": setting, "n": n} | point)
    return points


def _point(cells: Mapping[Any, Sequence[Mapping[str, Any]]], targets: set[Any]) -> dict[str, Any] | None:
    found = [rows[0] for rows in cells.values() if len(rows) == 1]
    costs = ("synthesis_s", "compress_s", "top1_mean")
    if set(cells) != targets or len(found) != len(targets) or any(missing(r[c]) for r in found for c in costs):
        return None
    seconds = sum(float(row["synthesis_s"]) + float(row["compress_s"]) for row in found) / len(found)
    top1 = sum(float(row["top1_mean"]) for row in found) / len(found)
    return {"seconds": seconds, "top1": top1, "control": any(row["control"] != "none" for row in found)}


def _fresh(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The cell's row: the fresh one where there is one."""
    return next((row for row in rows if not row["stale"]), rows[0] if rows else None)


def _value(row: Mapping[str, Any] | None, name: str) -> float | None:
    return None if row is None or missing(row[name]) else float(row[name])


def _hover(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "no such cell"
    if missing(row["top1_mean"]):
        return figure_text(f"{row['status']}: {row['seeds']} seeds {row['reason']}")
    ends = f"[{number(row['top1_low'])}, {number(row['top1_high'])}]"
    cost = f"{number(row['synthesis_s'], 1)} s synthesis, {number(row['compress_s'], 1)} s compression"
    return f"{number(row['top1_mean'])} % {ends}<br>seeds {row['seeds']}, {row['n']} images<br>{cost}"
