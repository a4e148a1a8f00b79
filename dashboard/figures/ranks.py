"""Pairwise comparisons as a map, and average ranks with their critical difference."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.board.stats.demsar import CriticalDifference
from dashboard.text import digits_for, figure_text, interval, number
from dashboard.theme import GREY, PALETTE, styled

CODES = {"loss": -1, "tie": 0, "win": 1}
MARKS = {"win": "▲", "loss": "▼", "tie": "="}
WIN, LOSS, TIE = "rgba(0,114,178,0.75)", "rgba(230,159,0,0.75)", "rgba(138,143,152,0.18)"


def win_map(pairs: pd.DataFrame) -> go.Figure:
    """Row minus column in points for every pair: blue with ▲ where the row is shown to be better, orange with ▼ where
    it is shown to be worse, grey with = where nothing is shown.

    Args:
        pairs: from :func:`bench.board.stats.ranks.win_matrix`.
    """
    names = list(dict.fromkeys(pairs["row"]))
    found = {(pair.row, pair.column): pair for pair in pairs.itertuples()}
    grid: list[list[Any]] = [[found.get((row, column)) for column in names] for row in names]
    figure = go.Figure(
        go.Heatmap(
            x=[figure_text(name) for name in names],
            y=[figure_text(name) for name in names],
            z=[[None if pair is None else CODES[pair.outcome] for pair in line] for line in grid],
            text=[["" if pair is None else _square(pair) for pair in line] for line in grid],
            customdata=[["" if pair is None else _hover(pair) for pair in line] for line in grid],
            texttemplate="%{text}",
            hovertemplate="%{customdata}<extra></extra>",
            hoverongaps=False,
            colorscale=[[0, LOSS], [0.49, LOSS], [0.5, TIE], [0.51, WIN], [1, WIN]],
            zmin=-1,
            zmax=1,
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )
    figure.update_xaxes(side="top", showgrid=False, tickangle=-40)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return styled(figure, 170 + 30 * len(names))


def critical_difference_plot(found: CriticalDifference) -> go.Figure:
    """Average rank of each method, best on top; a bar on the right spans methods that Nemenyi's test does not
    tell apart.

    Source: Demšar 2006, JMLR 7, figure 1, drawn upright so that long names stay readable.
    """
    names = [figure_text(name) for name in found.average_ranks]
    ranks = list(found.average_ranks.values())
    figure = go.Figure()
    for place, clique in enumerate(found.cliques):
        x = max(ranks) + 0.9 + 0.3 * place
        shown = {
            "x": [x, x],
            "y": [figure_text(clique[0]), figure_text(clique[-1])],
            "mode": "lines",
            "showlegend": False,
        }
        text = f"not told apart: {figure_text(', '.join(clique))}"
        figure.add_trace(go.Scatter(**shown, line={"width": 5, "color": GREY}, hovertemplate=f"{text}<extra></extra>"))
    figure.add_trace(
        go.Scatter(
            x=ranks,
            y=names,
            mode="markers+text",
            text=[number(rank) for rank in ranks],
            textposition="top center",
            marker={"size": 10, "color": PALETTE[0]},
            hovertemplate="%{y}: average rank %{x:.2f}<extra></extra>",
            showlegend=False,
        )
    )
    start = min(ranks)
    ruler = {"x": [start, start + found.cd], "y": [names[0], names[0]], "mode": "lines+text"}
    figure.add_trace(
        go.Scatter(
            **ruler,
            line={"width": 2, "color": GREY, "dash": "dot"},
            name=f"critical difference {found.cd:.2f} from the best",
        )
    )
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1])
    figure.update_xaxes(title=f"average rank over {len(found.blocks)} targets (1 is best)")
    return styled(figure, 150 + 28 * len(names))


def _square(pair: Any) -> str:
    digits = digits_for((pair.high - pair.low) / 2)
    return f"{MARKS[pair.outcome]} {number(pair.difference, digits)}"


def _hover(pair: Any) -> str:
    return (
        f"{figure_text(pair.row)}<br>minus {figure_text(pair.column)}<br>"
        f"{number(pair.difference)} points {interval(pair.low, pair.high)}<br>"
        f"p {pair.p:.3g}, corrected {pair.p_holm:.3g}<br>detectable: {number(pair.detectable)} points"
    )
