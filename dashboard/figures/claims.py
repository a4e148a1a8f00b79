"""Claims and their breakdown as forest plots: effect, interval, margin."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

import plotly.graph_objects as go

from bench.board.claims.judging import Part, Verdict
from dashboard.text import figure_text, interval, missing, number, rounded
from dashboard.theme import GREY, PALETTE, styled

COLOURS = {
    "supported": PALETTE[0],
    "refuted": PALETTE[5],
    "depends": PALETTE[3],
    "open": GREY,
    "two seeds": GREY,
    "one seed": GREY,
}
SYMBOLS = {
    "supported": "circle",
    "refuted": "x",
    "depends": "diamond-wide",
    "open": "circle-open",
    "two seeds": "square-open",
    "one seed": "triangle-up-open",
}
AXIS = "difference in top-1, points"
WIDTH = 34


def claims_forest(verdicts: Sequence[Verdict]) -> go.Figure:
    """One line per claim, first on top: the difference with its interval at the level of Holm's procedure, and the
    margin it must clear.  Colour and marker show the verdict.  A claim without data keeps its line, empty."""
    figure = go.Figure()
    for word in COLOURS:
        members = [(i, v) for i, v in enumerate(verdicts) if v.verdict == word and not missing(v.difference)]
        if members:
            figure.add_trace(
                go.Scatter(
                    x=[v.difference for _, v in members],
                    y=[i for i, _ in members],
                    error_x=_bars([(v.difference, v.low, v.high) for _, v in members]),
                    mode="markers",
                    marker={
                        "size": 11,
                        "color": COLOURS[word],
                        "symbol": SYMBOLS[word],
                        "line": {"width": 2, "color": COLOURS[word]},
                    },
                    name=word,
                    text=[_says(v) for _, v in members],
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    figure.add_trace(_margins([v.margin for v in verdicts]))
    names = ["<br>".join(map(figure_text, wrap(v.says, WIDTH))) for v in verdicts]
    lines = sum(max(2, name.count("<br>") + 1) for name in names)
    return _forest(figure, names, 120 + 21 * lines)


def parts_forest(verdict: Verdict) -> go.Figure | None:
    """The claim's difference within each target, bits or seed; None where no axis has two values.

    The intervals are at 95 % each, not corrected for their number.
    """
    axes = dict.fromkeys(part.axis for part in verdict.parts)
    shown = [axis for axis in axes if sum(part.axis == axis for part in verdict.parts) > 1]
    parts = [part for axis in shown for part in verdict.parts if part.axis == axis]
    if not parts:
        return None
    figure = go.Figure()
    for axis, colour in zip(shown, PALETTE, strict=False):
        members = [(i, p) for i, p in enumerate(parts) if p.axis == axis and not missing(p.difference)]
        figure.add_trace(
            go.Scatter(
                x=[p.difference for _, p in members],
                y=[i for i, _ in members],
                error_x=_bars([(p.difference, p.low, p.high) for _, p in members]),
                mode="markers",
                marker={"size": 9, "color": colour},
                name=f"by {axis}",
                text=[_part(p) for _, p in members],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    figure.add_trace(_margins([verdict.margin] * len(parts)))
    return _forest(figure, [figure_text(part.value) for part in parts], 130 + 28 * len(parts))


def _forest(figure: go.Figure, names: Sequence[str], height: int) -> go.Figure:
    figure.add_vline(0, line_color=GREY, line_width=1)
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=list(names), range=[len(names) - 0.5, -0.5])
    figure.update_xaxes(title=AXIS)
    return styled(figure, height)


def _bars(found: Sequence[tuple[float | None, float | None, float | None]]) -> dict[str, object]:
    ends = [(v or 0.0, v if low is None else low, v if high is None else high) for v, low, high in found]
    return {
        "type": "data",
        "symmetric": False,
        "array": [(high or 0.0) - v for v, _, high in ends],
        "arrayminus": [v - (low or 0.0) for v, low, _ in ends],
        "thickness": 2,
    }


def _margins(margins: Sequence[float]) -> go.Scatter:
    return go.Scatter(
        x=list(margins),
        y=list(range(len(margins))),
        mode="markers",
        marker={"symbol": "line-ns", "size": 18, "line": {"width": 2, "color": PALETTE[1]}},
        name="margin to clear",
        hovertemplate="margin %{x} points<extra></extra>",
    )


def _says(verdict: Verdict) -> str:
    mean = rounded(verdict.difference, verdict.low, verdict.high)
    return "<br>".join(
        [
            *map(figure_text, wrap(f"{verdict.text}: {verdict.says}", 60)),
            f"{mean} points {interval(verdict.low, verdict.high)} at {100 * verdict.level:.1f} %",
            f"{verdict.pairs} pairs on {verdict.seeds} seeds",
        ]
    )


def _part(part: Part) -> str:
    mean = rounded(part.difference, part.low, part.high)
    head = f"{part.axis} {figure_text(part.value)}<br>{mean} points {interval(part.low, part.high)}"
    return f"{head}<br>{number(part.pairs, 0)} pairs"
