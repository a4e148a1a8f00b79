"""A suite's history as lines of text that fit a screen."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich.text import Text

from bench.board.claims.judging import SIGN, WORDS
from bench.board.tables.history import ClaimChange, Day, History, RowChange, Value
from bench.board.tables.layout import WIDTH, Column, aligned, bold
from bench.board.tables.words import BLANK

SCREEN = 45
LOST = (
    "An old value is known only where its records are still in the store or the package: a pack keeps of each row what "
    "the newest methods gave."
)


def history_lines(found: History, width: int = WIDTH, most: int = SCREEN) -> list[str | Text]:
    """Days, the newest first: what was measured, then verdicts and values that moved; at most ``most`` lines, so that
    of many rows the largest changes stand for the rest."""
    lines: list[str | Text] = [bold(_head(found))]
    foot = _foot(found, width)
    if not found.days:
        return [*lines, "nothing was measured in that time", *foot]
    days = list(reversed(found.days))
    heads = [_day_head(day, width) for day in days]
    claims = [[line for change in day.claims for line in claim_line(change, width)] for day in days]
    rows = [[*day.again, *day.more_seeds] for day in days]
    room = most - len(lines) - len(foot) - sum(map(len, heads)) - sum(map(len, claims))
    rows_left = max(0, room - 2 * sum(map(bool, rows)))
    for head, moved, changed in zip(heads, claims, rows, strict=True):
        lines += [*head, *moved]
        if changed:
            kept = changed[: max(1, min(len(changed), rows_left))]
            rows_left -= len(kept)
            lines += _row_lines(kept, width)
            lines += [f"  and {len(changed) - len(kept)} more: --json"] if len(kept) < len(changed) else []
    whole = [*lines, *foot]
    if len(whole) <= most:
        return whole
    kept_lines = whole[: most - len(foot) - 1]
    return [*kept_lines, f"and {len(whole) - len(kept_lines) - len(foot)} more lines: --json", *foot]


def _head(found: History) -> str:
    since = f" since {found.since}" if found.since else ""
    stood = f", {found.before} stood before" if found.since else ""
    return f"{found.suite}{since} · {found.rows} rows{stood}"


def _foot(found: History, width: int) -> list[str | Text]:
    said = []
    if found.stale:
        said.append(f"{found.stale} of {found.rows} rows are older than the methods or weights at hand (†).")
    if found.undated:
        said.append(f"{found.undated} records do not say when they were measured; they count as before all others.")
    said.append(LOST)
    lines: list[str | Text] = [""]
    if found.aged:
        lines.append("claims that are judged otherwise by what is at hand today:")
        lines += [line for change in found.aged for line in claim_line(change, width)]
    return [*lines, *(part for line in said for part in textwrap.wrap(line, width))]


def _day_head(day: Day, width: int) -> list[str | Text]:
    counts = [
        f"{len(changes)} {what}"
        for changes, what in (
            (day.added, "rows added"),
            (day.more_seeds, "on more seeds"),
            (day.again, "measured again"),
        )
        if changes
    ]
    seeds = f"seed{'s' * (len(day.seeds) > 1)} {', '.join(map(str, day.seeds))}"
    first = " · ".join([day.day, f"{day.records} records, {seeds}", *counts])
    rest = [f"sources: {', '.join(day.sources)}", f"by {', '.join(day.software)}" if day.software else ""]
    rest.append(f"on {', '.join(day.machines)}")
    indent = {"initial_indent": "  ", "subsequent_indent": "  "}
    wrapped = textwrap.wrap(" · ".join(filter(None, rest)), width, break_on_hyphens=False, **indent)  # type: ignore[arg-type]
    return ["", bold(first), *wrapped[:3]]


def claim_line(change: ClaimChange, width: int) -> list[str]:
    """A claim's verdict before and after, on as many lines as it takes."""
    old = f"{verdict_text(change.old, change.old_difference)} → " if change.old else "first verdict "
    text = f"claim: {change.says}: {old}{verdict_text(change.new, change.new_difference)}"
    return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def verdict_text(text: str, difference: tuple[float, float, float] | None) -> str:
    """``✓ supported +1.32 [0.62, 2.03]``."""
    mark = next((SIGN[word] for word in WORDS if text.startswith(word)), "")
    ends = "" if difference is None else " {:+.2f} [{:.2f}, {:.2f}]".format(*difference)
    return f"{mark} {text}{ends}"


def _row_lines(changes: Sequence[RowChange], width: int) -> list[str]:
    columns = [
        Column("  row", tuple(f"  {_name(change)}" for change in changes), right=False),
        Column("was", tuple(value_text(change.old) for change in changes)),
        Column("is", tuple(value_text(change.new) for change in changes)),
        Column("why", tuple(change.why or "more seeds" for change in changes), right=False, spare=1),
    ]
    return aligned(columns, width)


def _name(change: RowChange) -> str:
    return " ".join(filter(None, [change.source, "→", change.target, change.compressor, change.setting]))


def value_text(value: Value | None) -> str:
    """``90.02 [89.55, 90.49] on 3``: mean, interval, number of seeds."""
    if value is None or value.mean is None:
        return BLANK
    ends = "" if value.low is None or value.high is None else f" [{value.low:.2f}, {value.high:.2f}]"
    return f"{value.mean:.2f}{ends} on {len(value.seeds)}"


def overview_lines(found: Sequence[History], width: int = WIDTH) -> list[str | Text]:
    """A line per suite, the one measured last on top; those of which nothing was measured in that time are counted."""
    shown = sorted((one for one in found if one.days), key=lambda one: (one.days[-1].day, one.suite), reverse=True)
    silent = len(found) - len(shown)
    lines: list[str | Text] = []
    if shown:
        columns = [
            Column("suite", tuple(one.suite for one in shown), right=False),
            Column("first", tuple(one.days[0].day for one in shown)),
            Column("last", tuple(one.days[-1].day for one in shown)),
            Column("added", tuple(_count(len(day.added) for day in one.days) for one in shown)),
            Column("more seeds", tuple(_count(len(day.more_seeds) for day in one.days) for one in shown)),
            Column("again", tuple(_count(len(day.again) for day in one.days) for one in shown)),
            Column("rows", tuple(str(one.rows) for one in shown)),
        ]
        head, *rest = aligned(columns, width)
        lines += [bold(head), *rest]
    since = next((f" since {one.since}" for one in found if one.since), "")
    lines += [f"nothing measured{since} in {silent} suites"] if silent else []
    return [*lines, "", "verdicts and values that moved: bench history SUITE", *textwrap.wrap(LOST, width)]


def _count(counts: Iterable[int]) -> str:
    return str(sum(counts) or "")
