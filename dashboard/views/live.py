"""Live: a run while it works; the page asks the store again every two seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamlit as st

from bench.board.index.board_index import LiveState
from bench.errors import BenchError
from dashboard.common import chart, heading
from dashboard.figures.live import done_over_time
from dashboard.history_view import show_history
from dashboard.load import live
from dashboard.tables import Column, Html, html_table
from dashboard.text import BLANK, missing, number, plain, seconds
from dashboard.theme import PALETTE

EVERY = 2.0  # seconds

TASKS = (
    Column("worker", True),
    Column("task"),
    Column("stage", help="in the method's own words"),
    Column("step", True),
    Column("", help="step of all steps of this stage"),
    Column("for", True, "since it began"),
)
RECORDS = (Column("top-1 %", True), Column("cell"), Column("status"), Column("ago", True))
FAILURES = (Column("cell"), Column("status"), Column("reason"), Column("ago", True))

NO_RUN = (
    "No run has told of itself in this store yet. "
    "`bench run suites/quickstart.yaml --seeds 1` starts one; it shows here."
)


def show() -> None:
    """Draw the page."""
    heading("Live", "The run that is writing into this store: how far it is and what it met.")
    _state()
    show_history()


@st.fragment(run_every=EVERY)
def _state() -> None:
    try:
        state = live()
    except BenchError as error:
        st.warning(plain(error))
        return
    if state is None:
        st.info(NO_RUN)
        return
    now = time.time()
    phase = state.phase(now)
    with st.container(horizontal=True, gap="small"):
        st.badge(plain(phase), color="green" if phase in ("running", "finished") else "orange")
        st.text(f"{state.suite}@{state.suite_version}, preset {state.preset}, {_workers(state.workers)}")
    text = _sentence(state, phase, now)
    (st.success if phase == "finished" and not state.failed else st.info if phase == "running" else st.warning)(text)
    st.progress(state.done / state.tasks if state.tasks else 1.0, plain(f"{state.done} of {state.tasks} tasks"))
    if phase in ("running", "silent"):
        st.header("At work")
        if state.running:
            st.html(html_table(TASKS, _tasks(state, now)))
        else:
            st.caption("No task has told of itself yet.")
    if state.curve:
        until = (now if phase == "running" else state.beat) - state.started
        left = state.seconds_left if phase == "running" else None
        figure = done_over_time(state.curve, state.tasks, until, left)
        chart(figure, "done-over-time")
    if state.failures:
        st.header(plain(f"{state.failed} failed"))
        st.html(html_table(FAILURES, _failures(state, now)))
    if state.records:
        st.header("Last records")
        st.html(html_table(RECORDS, _records(state, now)))


def _sentence(state: LiveState, phase: str, now: float) -> str:
    again = "The same `bench run` command resumes; what was measured stands."
    silent = seconds(now - state.beat)
    ran = seconds(state.beat - state.started)
    standing = f" {state.standing} cells stood already." if state.standing else ""
    if phase == "finished":
        failed = f" {state.failed} cells failed; the same command tries them again." if state.failed else ""
        return f"The run ended after {ran}, {seconds(now - state.beat)} ago.{standing}{failed}"
    if phase == "interrupted":
        return f"The run was interrupted after {ran}. {again}"
    if phase == "died":
        return f"The run died: its process is gone, and it was last heard from {silent} ago. {again}"
    if phase == "silent":
        return f"The run's process is there, but it has said nothing for {silent}: stopped, or hung."
    left = "time left unknown until the first task ends" if missing(state.seconds_left) else _left(state)
    return f"Running for {seconds(now - state.started)}, {left}.{standing}"


def _left(state: LiveState) -> str:
    return f"about {seconds(state.seconds_left)} left"


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


def _tasks(state: LiveState, now: float) -> list[Sequence[str | Html]]:
    return [
        (
            str(task.worker),
            task.title,
            task.stage or BLANK,
            f"{task.step} of {task.total}" if task.total else BLANK,
            _bar(task.step / task.total) if task.total else Html(""),
            seconds(now - task.began),
        )
        for task in state.running
    ]


def _bar(share: float) -> Html:
    width = round(100 * min(max(share, 0.0), 1.0), 1)
    return Html(
        '<div style="width:7rem;height:.5rem;border-radius:.25rem;background:rgba(128,128,128,.25)">'
        f'<div style="width:{width}%;height:100%;border-radius:.25rem;background:{PALETTE[0]}"></div></div>'
    )


def _records(state: LiveState, now: float) -> list[Sequence[str | Html]]:
    return [(number(r.top1), r.title, r.status, seconds(now - r.ended)) for r in state.records]


def _failures(state: LiveState, now: float) -> list[Sequence[str | Html]]:
    return [(r.title, r.status, _first_line(r.reason), seconds(now - r.ended)) for r in state.failures]


def _first_line(reason: str | None) -> str:
    line = (reason or "").strip().partition("\n")[0]
    return f"{line[:160]}…" if len(line) > 160 else line or BLANK
