"""What the cells of a ranked table say of a row: numbers as their uncertainty warrants, a blank where there is none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bench.board.tables.grids import rank_interval, tie_letters
from dashboard.figures.costs import WORK
from dashboard.tables import Html
from dashboard.text import BLANK, digits_for, html_text, interval, missing, number, rounded, significant

Ends = tuple[float, float]
"""The lowest and the highest end of an interval in the table, %: the axis of what is drawn in its rows."""


def rank(row: Any, _: Ends) -> str:
    """With = where no difference to the first row of that rank was shown."""
    return BLANK if missing(row.rank) else f"{row.rank}{'=' if row.tied else ''}"


def ranks(row: Any, _: Ends) -> str:
    """Those not ruled out."""
    return rank_interval({"rank_low": row.rank_low, "rank_high": row.rank_high}) or BLANK


def ties(row: Any, _: Ends) -> str | Html:
    """The letters, runs by their ends; all of them when one rests on it."""
    if missing(row.letters):
        return ""
    short = tie_letters({"letters": row.letters})
    says = f"letters {row.letters}: not shown to differ from any row that has one of these"
    return Html(f'<span title="{html_text(says)}">{html_text(short)}</span>')


def single(row: Any) -> bool:
    """Whether one seed of the row was measured, which says nothing of another."""
    return str(row.seeds).partition(" of ")[0] == "1"


def seeds(row: Any, _: Ends) -> str:
    """How many; "k of n" while some are missing."""
    measured, asked = str(row.seeds).split(" of ")
    return measured if measured == asked else str(row.seeds)


def minutes(row: Any, _: Ends) -> str:
    """CPU minutes of synthesis and compression."""
    spent = getattr(row, WORK)
    return BLANK if missing(spent) else significant(spent / 60, 2)


def day(row: Any, _: Ends) -> str:
    """The day (UTC) its last seed was measured."""
    return BLANK if missing(row.finished) else datetime.fromtimestamp(row.finished, UTC).date().isoformat()


def note(row: Any, _: Ends) -> str:
    """Why a row has no value."""
    if row.status == "ok":
        return ""
    return f"{row.status.replace('_', ' ')}: {row.reason}" if row.reason else row.status.replace("_", " ")


FAR = 999.0
"""Per cent; an end of a recovered share beyond it only says that real and noise hardly differ."""


def recovered(share: float, low: float, high: float) -> str:
    """A share with its interval; ends beyond ±999 % as > 999 and < -999."""
    if low >= -FAR and high <= FAR:
        return f"{rounded(share, low, high)} {interval(low, high)}"
    ends = f"< -{FAR:.0f}" if low < -FAR else number(low, 0), f"> {FAR:.0f}" if high > FAR else number(high, 0)
    return f"{number(share, 0)} [{', '.join(ends)}]"


def recovered_text(row: Any, _: Ends) -> str:
    """:func:`recovered` of the row."""
    return BLANK if missing(row.recovered) else recovered(row.recovered, row.recovered_low, row.recovered_high)


def drop_digits(row: Any) -> int:
    """Decimals that the row's interval warrants."""
    return digits_for(None if missing(row.top1_low) or missing(row.top1_high) else (row.top1_high - row.top1_low) / 2)
