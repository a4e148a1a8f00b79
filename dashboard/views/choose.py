"""Choose: which source and which compressor for a network at some bits, as one sentence, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from bench.board.choose.answer import Table
from bench.board.choose.asked import TIERS, Question, asked_of, networks, settings
from bench.board.choose.joined import Choice
from bench.board.choose.text import advise_command, command, cpu, elsewhere, export_command, named, sentence, sure
from dashboard.common import heading, problems
from dashboard.filters import amount, choice, switch
from dashboard.links import cell_link
from dashboard.load import answer_to, snapshot
from dashboard.tables import Column, Html, html_table, interval_bar
from dashboard.text import digits_for, html_text, interval, missing, number, plain

FIRST = ("mobilenetv2_w035", "W4A4")
"""What the page opens on, where it is measured."""
ANY = "any"

SHOWN = 12
"""Rows tied with the pick that are shown at once; the others are folded."""

COLUMNS = (
    Column("source and compressor", help="leads to the cell of its first seed"),
    Column("top-1 %", True, "mean over seeds"),
    Column("95 % interval", True),
    Column("CPU", True, "of one image set and one compression"),
    Column("seeds", True, "of all suites together"),
    Column("images", True),
    Column("", help="the mean and its 95 % interval"),
    Column("CPU of images", True, "CPU time of the image set"),
    Column("access", help="what the source may look at: T0 nothing … T6 the training set"),
    Column("suites", help="which measured it"),
)
NAME = "white-space:normal;overflow-wrap:anywhere;width:max-content;max-width:min(24rem,34vw)"
"""Of the first column: accuracy, interval and cost stand beside it on a phone."""


def show() -> None:
    """Draw the page."""
    heading("Choose", "Which images, and which compressor, for a network whose training data is not at hand.")
    problems()
    question = _asked()
    if question is None:
        st.info("No records yet. `bench run suites/quickstart.yaml --seeds 1` makes the first ones in four minutes.")
        return
    answer = answer_to(question)
    st.html(
        '<p role="status" style="font-size:1.25rem;line-height:1.5;margin:.4rem 0;max-width:60rem">'
        f"{html_text(sentence(answer))}</p>"
    )
    if answer.main is not None:
        _rows(answer.main)
    found = sure(answer)
    if found:
        st.caption(plain("How sure: " + "; ".join(found) + "."))
    _commands([("Run it", command(answer)), ("Write its network to a file", export_command(answer))])
    others = elsewhere(answer)
    if others:
        with st.expander(plain(f"Under other protocols, not compared with it ({len(others)})")):
            for line in others:
                st.text(line)
    st.header("A network of your own")
    st.text("Networks differ more than methods do. This tries sources and compressors on yours, small ones first:")
    st.code(advise_command(question), language="bash", wrap_lines=True)


def _asked() -> Question | None:
    """The question of the filters; None where nothing is measured."""
    table = asked_of(snapshot().table)
    if table.empty:
        return None
    st.caption(
        "The three limits hold for the image set: CPU minutes to make it, how many, what the source may look at."
    )
    first, second, third, fourth, fifth, sixth = st.columns([12, 6, 7, 7, 7, 9], vertical_alignment="bottom")
    datasets = [str(name) for name in table["dataset"].value_counts().index]
    dataset = datasets[0]
    if len(datasets) > 1:
        dataset = choice("Data set", "dataset", datasets)
    with first:
        network = choice("Network", "network", networks(table, dataset), FIRST[0], _shown)
    with second:
        bits = choice("Bits", "bits", settings(table, dataset, network), FIRST[1])
    with third:
        minutes = amount("CPU minutes", "cpu_minutes")
    with fourth:
        count = amount("Images", "most_images")
    with fifth:
        tier = choice("Access", "tier", [ANY, *TIERS])
    with sixth:
        per_layer = switch("Bits per layer", "bits_by", "layer")
    limit = None if tier == ANY else tier
    return Question(dataset, network, bits, minutes, None if count is None else int(count), limit, per_layer)


def _shown(network: str) -> str:
    if not network.endswith("*"):
        return network
    return "all networks (mean)" if network == "*" else f"{network} (mean)"


def _rows(main: Table) -> None:
    """The pick with what is tied with it and the controls; folded, the others."""
    top = [one for one in (main.pick, *main.tied[:SHOWN]) if one is not None]
    marks = ["best" if one is main.pick else "" for one in top] + ["control"] * len(main.references)
    st.html(html_table(COLUMNS, _cells([*top, *main.references]), marks))
    says = ["bold: the highest mean; below it what is not told apart from it"] if main.pick is not None else []
    says += ["italic: controls, which are never picked"] if main.references else []
    if says:
        st.caption(plain(" · ".join(says)))
    if len(main.tied) > SHOWN:
        with st.expander(plain(f"Also not told apart from it ({len(main.tied) - SHOWN})")):
            st.html(html_table(COLUMNS, _cells(main.tied[SHOWN:])))
    if main.apart:
        with st.expander(plain(f"Lower, and shown to be ({len(main.apart)})")):
            st.html(html_table(COLUMNS, _cells(main.apart)))
    if main.weaker:
        with st.expander(plain(f"One seed, which says nothing of another ({len(main.weaker)})")):
            st.html(html_table(COLUMNS, _cells(main.weaker), ["control"] * len(main.weaker)))


def _cells(rows: Sequence[Choice]) -> list[Sequence[str | Html]]:
    known = [end for one in rows for end in one.ends if not missing(end)]
    ends = (min(known), max(known)) if known else (0.0, 100.0)
    return [_line(one, ends) for one in rows]


def _line(one: Choice, ends: tuple[float, float]) -> Sequence[str | Html]:
    head, (low, high) = one.head, one.ends
    digits = digits_for(None if missing(low) else (high - low) / 2)
    bar = interval_bar(one.top1, low, high, ends, "upper" if one.control else "none")
    says = html_text(f"{named(one)}: {number(one.top1, 1)} %, 95 % interval {interval(low, high)}")
    name = f"{one.compressor} · {head.policy}" if head.policy else one.compressor
    link = cell_link(one.source, head.suite, head.cell_id).markup
    return [
        Html(f'<div style="{NAME}">{link} with {html_text(name)}</div>'),
        number(one.top1, digits),
        interval(low, high),
        cpu(one.cpu_s),
        str(len(one.seeds)),
        number(one.n, 0),
        Html(f'<div role="img" aria-label="{says}">{bar.markup}</div>'),
        cpu(one.synthesis_s),
        one.access,
        ", ".join(one.suites),
    ]


def _commands(found: Sequence[tuple[str, str]]) -> None:
    for label, text in found:
        if text:
            st.caption(plain(label))
            st.code(text, language="bash", wrap_lines=True)
