"""What a panel of an ablation shows, in words and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from bench.board.claims.judging import SIGN, UNJUDGED, Word
from bench.board.tables.signs import STALE
from dashboard.figures.ablation_axes import SETTING, Layout, Panel, axis_name, number_of
from dashboard.figures.ablation_findings import Finding, Findings
from dashboard.figures.ablations import colour_key, setting_names
from dashboard.tables import Column, Html
from dashboard.text import BLANK, counted, interval, number, rounded

NAMED = 3
"""Levels of one verdict that a sentence names; more are counted."""

Table = tuple[list[Column], list[list[str | Html]], list[str]]
"""Columns, rows and, a row each, its class."""


def sentence(found: Findings) -> str:
    """The verdicts on the levels, each kind with its mark: "Against mix 1: ✓ mix 3 gains 2.1 points [0.8, 3.4]; ? not
    told apart: mix 2 (+0.4 [-0.6, 1.4])".  Without verdicts the greatest difference."""
    known = [one for one in found.found if one.verdict.difference is not None]
    if not known:
        return f"{SIGN['open']} No two rows can be compared: {_why(found.found[0])}."
    held = [one for one in known if one.stale or one.verdict.verdict in UNJUDGED]
    if len(held) == len(known):
        return f"{_held_back(held)} {_widest(found, held)}"
    say = _above if found.best else _gained
    groups = [say(word, [one for one in known if one.verdict.verdict == word]) for word in SIGN]
    lacking = len(found.found) - len(known)
    groups.append(f"{counted(lacking, 'level')} with rows missing" if lacking else "")
    start = f"Highest: {found.reference}" if found.best else f"Against {found.reference}"
    return f"{start}: {'; '.join(filter(None, groups))}."


def not_judged(rows: pd.DataFrame, plan: Layout, measure: str) -> str:
    """What stands in the place of :func:`sentence` for a measure without answers per test image."""
    own = rows[(rows["control"] == "none") & rows[measure].notna()]
    own = own if len(own) else rows[rows[measure].notna()]
    if own.empty:
        return ""
    ordered = own.assign(_name=setting_names(own, plan)).sort_values(measure, kind="stable")
    ends = [f"{number(row[measure], 3)} ({row['_name']})" for _, row in ordered.iloc[[0, -1]].iterrows()]
    return f"From {ends[0]} to {ends[1]}; not judged, since only top-1 is known image by image."


def _why(one: Finding) -> str:
    return one.verdict.remarks[0] if one.verdict.remarks else "they share no seed"


def _held_back(held: Sequence[Finding]) -> str:
    words: list[Word] = [word for word in UNJUDGED if any(one.verdict.verdict == word for one in held)]
    told = [*words, *([f"older version {STALE.text}"] if any(one.stale for one in held) else [])]
    return f"{SIGN[words[0] if words else 'open']} No verdict ({', '.join(told)})."


def _widest(found: Findings, held: Sequence[Finding]) -> str:
    """The greatest difference to the reference; to the highest level the smallest."""
    size: Callable[[Finding], float] = lambda one: abs(one.verdict.difference or 0.0)  # noqa: E731
    one = min(held, key=size) if found.best else max(held, key=size)
    v = one.verdict
    if found.best:
        return f"Highest: {found.reference}, {_points(v.difference, v.low, v.high)} above {one.worse}."
    return f"Greatest difference to {found.reference}: {one.better}, {_signed(one)}."


def _points(value: float | None, low: float | None, high: float | None) -> str:
    return f"{rounded(value, low, high)} points {interval(low, high)}"


def _signed(one: Finding) -> str:
    v = one.verdict
    return f"{'+' if (v.difference or 0) > 0 else ''}{_points(v.difference, v.low, v.high)}"


def _turned(one: Finding) -> str:
    """A loss as a positive number with its interval."""
    v = one.verdict
    return _points(*(None if end is None else -end for end in (v.difference, v.high, v.low)))


def _uneven(one: Finding) -> str:
    axis, parts = one.uneven
    return f" ({axis}: {', '.join(f'{value} {part:+.1f}' for value, part in parts)})" if axis else ""


def _gained(word: Word, group: Sequence[Finding]) -> str:
    """Levels of one verdict against the reference."""
    if not group:
        return ""
    if word == "supported":
        said = [f"{one.better} gains {_points(*_numbers(one))}{_uneven(one)}" for one in _by_size(group)]
    elif word == "refuted":
        said = [f"{one.better} loses {_turned(one)}{_uneven(one)}" for one in _by_size(group)]
    elif word == "depends":
        said = [f"{one.better} {one.verdict.text}" for one in group]
    else:
        said = [f"{one.better} ({_signed(one)})" for one in group]
    before = {"open": "not told apart: "}.get(word, f"no verdict on {word}: " if word in UNJUDGED else "")
    return f"{SIGN[word]} {before}{_listed(said)}"


def _above(word: Word, group: Sequence[Finding]) -> str:
    """Levels of one verdict that the highest stands against, the nearest first."""
    if not group:
        return ""
    ordered = _by_size(group)[::-1]
    if word == "supported":
        return f"{SIGN[word]} above {_listed([f'{o.worse} by {_points(*_numbers(o))}{_uneven(o)}' for o in ordered])}"
    if word == "refuted":
        return f"{SIGN[word]} below {_listed([f'{o.worse} by {_turned(o)}' for o in ordered])}"
    if word == "depends":
        return f"{SIGN[word]} {_listed([f'against {one.worse} it {one.verdict.text}' for one in group])}"
    before = "not told apart from" if word == "open" else f"no verdict on {word} against"
    return f"{SIGN[word]} {before} {_listed([f'{one.worse} ({_signed(one)})' for one in ordered])}"


def _numbers(one: Finding) -> tuple[float | None, float | None, float | None]:
    v = one.verdict
    return v.difference, v.low, v.high


def _by_size(group: Sequence[Finding]) -> list[Finding]:
    """The greatest difference first."""
    return sorted(group, key=lambda one: -abs(one.verdict.difference or 0.0))


def _listed(said: Sequence[str]) -> str:
    named = ", ".join(said[:NAMED])
    return f"{named} and {len(said) - NAMED} more" if len(said) > NAMED else named


# --- the table twin ---


def value_table(panel: Panel, plan: Layout, measure: str, unit: str) -> Table:
    """What the panel draws, controls last."""
    rows = pd.concat([panel.rows, panel.controls])
    rows = rows[rows[measure].notna()]
    names, colours = setting_names(rows, plan), colour_key(rows, plan)
    names = names.where((names != "") & (rows["control"] == "none"), rows["source"]) if plan.numeric else names
    colours = colours.where(rows["control"] == "none", "") if plan.numeric else colours
    several = colours.nunique() > 1
    numbers = rows[plan.x].map(lambda v: number_of(plan.x, v) or 0.0) if plan.x != SETTING else 0.0
    ordered = rows.assign(_name=names, _colour=colours, _number=numbers, _last=rows["control"] != "none")
    ordered = ordered.sort_values(["_last", "_colour", "_number", "_name"] if plan.numeric else
                                  ["_last", "_number", "_name", "_colour"], kind="stable")  # fmt: skip
    columns = [Column("setting" if plan.x == SETTING else axis_name(plan.x))]
    columns += [Column(" · ".join(map(axis_name, plan.colour)))] if several else []
    columns += [Column(unit, True), Column("95 % interval", True), Column("seeds", True)]
    lines: list[list[str | Html]] = []
    for row in ordered.to_dict("records"):
        low, high = (row.get(f"{measure.removesuffix('_mean')}_{end}") for end in ("low", "high"))
        cells = [str(row["_name"]), *([str(row["_colour"])] if several else [])]
        lines.append([*cells, rounded(row[measure], low, high), interval(low, high), str(row["seeds"])])
    return columns, lines, ["" if c == "none" else "control" for c in ordered["control"]]


DIFFERENCES = (
    Column("level"),
    Column("against"),
    Column("verdict", help="as a claim of these words would have it"),
    Column("difference", True, "level minus the other, points of top-1"),
    Column("interval", True, "at the confidence that Holm's correction over the plot's levels asks for"),
    Column("confidence", True),
    Column("pairs", True, "pairs of rows alike in all else"),
)


def difference_table(found: Findings) -> Table:
    """The verdicts behind :func:`sentence`."""
    lines: list[list[str | Html]] = []
    for one in found.found:
        v = one.verdict
        word = f"{SIGN[v.verdict]} {v.text}" + (f" {STALE.text}" if one.stale else "")
        level = f"{100 * v.level:.4g} %" if v.difference is not None else BLANK
        known = [rounded(v.difference, v.low, v.high), interval(v.low, v.high), level, str(v.pairs or BLANK)]
        lines.append([one.better, one.worse, word, *known])
    return list(DIFFERENCES), lines, [""] * len(lines)
