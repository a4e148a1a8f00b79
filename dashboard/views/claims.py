"""Claims: what the papers say, and what the measured rows say to it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import streamlit as st

from bench.board.claims.judging import MEANING, SEEDS_TO_JUDGE, SIGN, UNJUDGED, WORDS, Verdict, Word
from bench.board.claims.verdicts import ClaimRow, suite_of
from dashboard.common import chart, heading, problems
from dashboard.figures.claims import COLOURS, claims_forest, parts_forest
from dashboard.filters import choice, choices
from dashboard.links import LEADERBOARD_PAGE, cell_link, link
from dashboard.load import rows_of_claims, snapshot, verdicts
from dashboard.paper_view import paper_figure
from dashboard.tables import Column, Html, html_table
from dashboard.text import html_text, interval, missing, number, plain, rounded, row_name

ALL = "all suites"
OURS = "Questions of ours"
FEW_RECORDS = 5000
"""Above this the page begins with one suite: judging reads its records."""

COLUMNS = (
    Column("side"),
    Column("source"),
    Column("target"),
    Column("compressor"),
    Column("setting"),
    Column("top-1 %", True, "mean over seeds; blank while one is missing"),
    Column("seeds", True),
    Column("cell"),
    Column("rows"),
)


def show() -> None:
    """Draw the page."""
    heading("Claims", "Sentences of the papers, tested on the measured rows; fewer than three seeds give no verdict.")
    problems()
    table = snapshot().table
    known = {
        str(suite): list(dict.fromkeys(part["preset"])) for suite, part in table.groupby("suite") if _claimed(suite)
    }
    if not known:
        st.info(
            "No measured suite has a claim yet. `bench run suites/quickstart.yaml --seeds 1` measures the first rows; "
            "the other suites' claims are judged as soon as their rows are there."
        )
        return
    left, middle, right = st.columns([3, 1, 3])
    with left:
        first = ALL if len(snapshot().cells) <= FEW_RECORDS else next(iter(known))
        suite = choice("Suite", "suite", [*known, ALL], default=first)
    chosen = [name for name in known if suite in (name, ALL)]
    with middle:
        preset = choice("Preset", "preset", list(dict.fromkeys(p for name in chosen for p in known[name])))
    with right:
        words = choices("Verdict", "verdict", WORDS)
    judged = {name: verdicts(name, preset) for name in chosen if preset in known[name]}
    _counted([verdict for found in judged.values() for verdict in found])
    for paper, names in by_paper(judged).items():
        st.header(plain(paper))
        for name in names:
            _suite(name, preset, judged[name], words)


def by_paper(suites: Iterable[str]) -> dict[str, list[str]]:
    """Paper → its suites in the order of its tables and figures; last those that follow no table."""
    follows = {name: (suite.reproduces or "") if (suite := suite_of(name)) is not None else "" for name in suites}
    found: dict[str, list[str]] = {}
    for name in sorted(follows, key=lambda n: (not follows[n], table_order(follows[n]), n)):
        found.setdefault(follows[name].partition("/")[0] or OURS, []).append(name)
    return found


def table_order(place: str) -> tuple[str, ...]:
    """Of ``mixmix/T10``: what sorts it behind ``mixmix/T9``."""
    return tuple(part.zfill(4) if part.isdigit() else part for part in re.split(r"(\d+)", place))


def few_seeds(verdict: Verdict) -> bool:
    """Whether the claim has too few seeds to be judged."""
    return 0 < verdict.seeds < SEEDS_TO_JUDGE


def _claimed(suite: object) -> bool:
    spec = suite_of(str(suite))
    return spec is not None and bool(spec.claims)


def _counted(found: Sequence[Verdict]) -> None:
    counts = Counter(str(verdict.verdict) for verdict in found)
    for words in ([w for w in WORDS if w not in UNJUDGED], UNJUDGED):
        parts = [f"{badge(word)} {counts[word]} <small>({MEANING[word]})</small>" for word in words]
        inside = "".join(f"<div>{part}</div>" for part in parts)
        st.html(f'<div style="display:flex;gap:.4rem 1.4rem;flex-wrap:wrap">{inside}</div>')
    st.caption(
        "An interval holds at the level that Holm's procedure asks of its claim, 95 % over all claims of the suite. "
        "It covers seeds and test images; the suite's networks are taken as they are, not as a sample of networks."
    )


def _suite(name: str, preset: str, judged: Sequence[Verdict], words: Sequence[str]) -> None:
    kept = [(i, verdict) for i, verdict in enumerate(judged) if verdict.verdict in words]
    suite = suite_of(name)
    st.subheader(plain(suite.title if suite is not None and suite.title else name), anchor=name)
    follows = f", follows {suite.reproduces}" if suite is not None and suite.reproduces else ""
    st.caption(plain(f"suite {name}{follows}, {len(judged)} claims"))
    if not kept:
        st.info("No claim of this suite has this verdict.")
        return
    shown = [verdict for _, verdict in kept]
    if any(not missing(verdict.difference) for verdict in shown):
        chart(claims_forest(shown), f"forest-{name}-{preset}")
    judged_now = [(i, verdict) for i, verdict in kept if not few_seeds(verdict)]
    for i, verdict in judged_now:
        _claim(name, preset, i, verdict)
    waiting = [(i, verdict) for i, verdict in kept if few_seeds(verdict)]
    if waiting:
        st.caption(
            "On fewer than three seeds, so without a verdict: the interval has what such rows vary by between seeds, "
            "which these seeds do not tell."
        )
    for i, verdict in waiting:
        _claim(name, preset, i, verdict)
    if judged_now:
        paper_figure("claims", name, preset)


def _claim(suite: str, preset: str, position: int, verdict: Verdict) -> None:
    with st.container(border=True):
        st.html(f"{badge(verdict.verdict, verdict.text)} &nbsp;<strong>{html_text(verdict.says)}</strong>")
        st.text(sentence(verdict))
        key = f"{suite}-{preset}-{position}"
        # what stands in a closed expander is neither drawn nor sent
        with st.expander("Breakdown, remarks and the rows behind it", key=f"more-{key}", on_change="rerun") as more:
            if more.open:
                _details(suite, preset, position, verdict)


def _details(suite: str, preset: str, position: int, verdict: Verdict) -> None:
    figure = parts_forest(verdict)
    if figure is not None:
        chart(figure, f"parts-{suite}-{preset}-{position}")
        st.caption("Each part with its own 95 % interval, not corrected for the number of parts.")
    for remark in verdict.remarks:
        st.text(f"• {remark}")
    rows = rows_of_claims(suite, preset)[position]
    if not rows:
        st.caption("No measured row is of this claim.")
        return
    targets = list(dict.fromkeys(row.target for row in rows))
    if len(targets) > 1:
        st.caption(plain(f"{len(rows)} rows on {len(targets)} targets"))
    st.html(html_table(COLUMNS, [_row(suite, preset, row) for row in rows]))


def _row(suite: str, preset: str, row: ClaimRow) -> Sequence[str | Html]:
    filters: dict[str, str | list[str]] = {"suite": suite, "preset": preset, "target": row.target}
    filters |= {"compressor": [row.compressor], "setting": [row.setting_label]} if row.compressor else {}
    return (
        row.side,
        row_name(row.source, row.model, row.policy),
        row.target,
        row.compressor,
        row.setting_label,
        number(row.top1) if row.top1 is not None else row.status.replace("_", " "),
        row.seeds,
        cell_link("cell", suite, row.cell_id),
        link("leaderboard", LEADERBOARD_PAGE, **filters),
    )


def badge(word: Word, text: str = "") -> str:
    """A verdict as a pill with a sign, so that colour alone never tells; ``text``: more than the word."""
    style = f"border:1.5px solid {COLOURS[word]};border-radius:1rem;padding:.05rem .6rem;white-space:nowrap"
    return f'<span style="{style}"><b style="color:{COLOURS[word]}">{SIGN[word]}</b> {html_text(text or word)}</span>'


def sentence(verdict: Verdict) -> str:
    """Effect, interval and what it rests on, in words."""
    if missing(verdict.difference):
        why = f": {verdict.remarks[0]}" if verdict.remarks else ""
        more = f" (and {len(verdict.remarks) - 1} more remarks)" if len(verdict.remarks) > 1 else ""
        return f"Not judged yet{why}{more}."
    mean = rounded(verdict.difference, verdict.low, verdict.high)
    parts = [
        f"{mean} points {interval(verdict.low, verdict.high)} at {100 * verdict.level:.1f} %",
        f"margin {number(verdict.margin, 1)}",
        f"{verdict.pairs} pairs × {verdict.seeds} {'seed' if verdict.seeds == 1 else 'seeds'}",
        f"{verdict.images:,} test images",
    ]
    if verdict.deciding:
        parts.append(f"decided by {verdict.deciding}")
    return " · ".join(parts)
