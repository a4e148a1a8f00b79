"""The claims of a suite as a forest plot: difference, interval, margin and verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D

from bench.board.claims.judging import DECIDED, MEANING, SIGN, WORDS, Verdict, Word
from bench.board.tables.verdict_grids import verdict_grid
from bench.errors import BenchError
from dashboard.figures.claims import COLOURS
from dashboard.paper.material import Drawing, Material
from dashboard.paper.style import (
    PAPER,
    SMALL,
    colour,
    lines_height,
    names_width,
    room_of,
    rows_axis,
    sheet,
    span,
    ticks,
    wrapped,
)
from dashboard.paper.words import listed, measured_on
from dashboard.theme import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {word: COLOURS[word] for word in DECIDED}
_MARKERS = {"supported": "o", "refuted": "X", "depends": "D"}
_DARK = "#5F646C"


def draw(found: Material, width: float) -> Drawing:
    """A line for each claim, in the suite's order; one that no rows speak to says so in place of a difference.

    Raises:
        BenchError: the suite makes no claim.
    """
    verdicts = found.verdicts
    if not verdicts:
        raise BenchError("the suite makes no claim", where=found.suite, hint="Choose another --kind.")
    names = [wrapped(verdict.says, names_width(width)) for verdict in verdicts]
    said = [wrapped(_said(verdict), 18 if width < 5 else 26) for verdict in verdicts]
    taller = [a if a.count("\n") >= b.count("\n") else b for a, b in zip(names, said, strict=True)]
    figure = sheet(width, 0.75 + lines_height(taller, pad=0.09))
    axes = figure.add_subplot()
    at = rows_axis(axes, names)
    for verdict, y in zip(verdicts, at, strict=True):
        _line(axes, verdict, y)
    values = [v for one in verdicts for v in (one.difference, one.low, one.high, one.margin) if v is not None]
    axes.set_xlim(*(span([*values, 0.0]) if any(values) else (-1.0, 1.0)))
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    ticks(axes, width - room_of([names]) - 1.2)
    axes.set_xlabel("difference in top-1, points")
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(at, labels=said)
    beside.tick_params(length=0, labelsize=SMALL)
    beside.spines["right"].set_visible(False)
    return Drawing(figure, (verdict_grid(verdicts, parts=False),), _caption(found, verdicts))


def _said(verdict: Verdict) -> str:
    """The verdict's mark and words; that there is nothing to judge by, where there is nothing."""
    lacking = ": rows are missing or old" if verdict.difference is None else ""
    return f"{SIGN[verdict.verdict]} {verdict.text}{lacking}"


def _line(axes: Axes, verdict: Verdict, y: float) -> None:
    if verdict.difference is None or verdict.low is None or verdict.high is None:
        return
    judged = verdict.verdict in _COLOURS
    ink = _COLOURS.get(verdict.verdict, _DARK)
    axes.errorbar(
        [verdict.difference],
        [y],
        xerr=[[verdict.difference - verdict.low], [verdict.high - verdict.difference]],
        marker=_MARKERS.get(verdict.verdict, "o"),
        markersize=4.5,
        color=ink,
        markerfacecolor=ink if judged else PAPER,
        linewidth=0,
        elinewidth=1.1,
        capsize=1.8,
    )
    margin = Line2D([verdict.margin] * 2, [y - 0.38, y + 0.38], color=colour(1), linewidth=1.6)
    axes.add_line(margin)


def _caption(found: Material, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    levels = sorted({f"{100 * one.level:.1f}" for one in verdicts if one.low is not None})
    words: list[Word] = [word for word in WORDS if any(one.verdict == word for one in verdicts)]
    said = [
        "Claims of the suite: difference in top-1 (better minus worse, paired by seed and test image) with its "
        "interval at the level that Holm's procedure over all claims asks for"
        + (f" ({listed(levels)} %)." if levels else "."),
        "Orange: the margin to clear.",
        f"Verdicts: {'; '.join(f'{SIGN[word]} {word}: {MEANING[word]}' for word in words)}.",
    ]
    counts = [(one.seeds, one.pairs) for one in verdicts if one.seeds]
    if counts:
        seeds, pairs = sorted({s for s, _ in counts}), sorted({p for _, p in counts})
        said.append(f"Each over {listed(pairs)} pairs of rows on {listed(seeds)} seeds.")
    return (*said, measured_on(found, found.records))
