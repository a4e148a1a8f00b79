"""How a run gets on: tasks done over time, and where it will be when the rest goes on at the same pace."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.theme import GREY, PALETTE, styled

_UNITS = ((7200.0, 3600.0, "h"), (180.0, 60.0, "min"), (0.0, 1.0, "s"))


def done_over_time(curve: Sequence[tuple[float, int]], tasks: int, now: float, left: float | None) -> go.Figure:
    """A step per task that ended, the number of tasks as a dashed line, the expected rest dotted.

    Args:
        curve: (seconds since the start, tasks done), ascending.
        tasks: to do in all.
        now: seconds since the start.
        left: seconds left as estimated; None draws no rest.
    """
    span = max(now + (left or 0.0), 1.0)
    unit, name = next((size, name) for least, size, name in _UNITS if span >= least)
    done = curve[-1][1] if curve else 0
    times = [0.0, *(seconds for seconds, _ in curve), max(now, curve[-1][0] if curve else 0.0)]
    counts = [0, *(count for _, count in curve), done]
    figure = go.Figure(
        go.Scatter(
            x=[seconds / unit for seconds in times],
            y=counts,
            mode="lines",
            line={"shape": "hv", "color": PALETTE[0], "width": 2},
            name="done",
            hovertemplate=f"%{{y}} done after %{{x:.1f}} {name}<extra></extra>",
        )
    )
    if left is not None and done < tasks:
        figure.add_trace(
            go.Scatter(
                x=[times[-1] / unit, (times[-1] + left) / unit],
                y=[done, tasks],
                mode="lines",
                line={"dash": "dot", "color": PALETTE[1], "width": 2},
                name="expected",
                hovertemplate=f"expected after %{{x:.1f}} {name}<extra></extra>",
            )
        )
    figure.add_hline(tasks, line_dash="dash", line_color=GREY)
    figure.update_xaxes(title=f"time since the start, {name}", range=[0, 1.02 * span / unit])
    figure.update_yaxes(title="tasks done", range=[0, 1.08 * max(tasks, 1)])
    return styled(figure, 260)
