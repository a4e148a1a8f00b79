"""The Live page in every state of a run, and its figure by its data."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from bench.store.live import MISSED, SILENT, LiveState, live_path, write_live
from bench.store.record_store import RecordStore
from dashboard.figures.live import done_over_time
from tests.dashboard.conftest import read

App = Callable[..., AppTest]


def state(**changes: Any) -> LiveState:
    now = time.time()
    facts = {
        "pid": os.getpid(),
        "suite": "ptq_w4a4",
        "suite_version": 1,
        "preset": "mini",
        "workers": 2,
        "started": now - 90,
        "beat": now,
        "tasks": 8,
        "done": 3,
        "seconds_left": 150.0,
        "curve": [[10.0, 1], [40.0, 2], [80.0, 3]],
    }
    return LiveState.model_validate({**facts, **changes})


def line(**changes: Any) -> dict[str, Any]:
    return {"cell_id": "ab" * 16, "title": "a → b", "status": "ok", "top1": 81.25, "ended": time.time(), **changes}


def said(test: AppTest) -> str:
    """All text of the page but its tables."""
    assert not test.exception
    return read(" ".join(str(e.value) for kind in (test.info, test.warning, test.success) for e in kind))


def tables(test: AppTest) -> str:
    return " ".join(str(e.proto.body) for e in test.get("html"))


def test_no_run_yet(app: App, store: RecordStore) -> None:
    assert "No run has told of itself" in said(app("live"))


def test_a_run_at_work(app: App, store: RecordStore) -> None:
    now = time.time()
    task = {"worker": 1, "title": "mixmix → net", "kind": "cell", "stage": "reconstruct", "step": 3, "total": 12}
    write_live(store.root, state(running=[{**task, "began": now - 20}], records=[line()], standing=2))
    test = app("live")
    text = said(test)
    assert "Running for 1.5 min" in text
    assert "about 2.5 min left" in text
    assert "2 cells stood already" in text
    (bar,) = test.get("progress")
    assert (bar.proto.value, bar.proto.text) == (37, "3 of 8 tasks")
    html = tables(test)
    for shown in ("mixmix → net", "reconstruct", "3 of 12", "width:25.0%", "81.25"):
        assert shown in html
    assert "time left unknown" in said(app_after(app, store, state(seconds_left=None)))


def app_after(app: App, store: RecordStore, found: LiveState) -> AppTest:
    write_live(store.root, found)
    return app("live")


def test_failures_with_their_reason_as_text(app: App, store: RecordStore) -> None:
    failed = line(status="failed", top1=None, title="<img src=x>", reason="<script>alert(1)</script>\nsecond line")
    test = app_after(app, store, state(failures=[failed], failed=61))
    assert any("61 failed" in e.value for e in test.header)
    html = tables(test)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&lt;img src=x&gt;" in html
    assert "second line" not in html


def test_how_runs_end(app: App, store: RecordStore) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    now = time.time()
    cases = [
        (state(ended="finished", done=8), "The run ended after 1.5 min"),
        (state(ended="finished", done=8, failed=2), "2 cells failed"),
        (state(ended="interrupted"), "interrupted"),
        (state(pid=gone.pid, beat=now - MISSED - 5), "its process is gone"),
        (state(beat=now - SILENT - 5), "stopped, or hung"),
        (state(ended="finished", tasks=0, done=0, curve=[]), "The run ended"),
    ]
    for found, says in cases:
        test = app_after(app, store, found)
        assert says in said(test), found
        assert len(test.get("plotly_chart")) == bool(found.curve)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"schema_version": 1, "pid": 12', "half-written"),
        ('{"schema_version": 99}', "newer version"),
        ("[]", "half-written"),
        ("", "half-written"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(app: App, store: RecordStore, content: str, says: str) -> None:
    live_path(store.root).write_text(content)
    assert says in said(app("live"))


def test_a_store_of_a_newer_version(app: App, store: RecordStore) -> None:
    (store.root / "store.json").write_text('{"schema": 99}')
    assert "newer version" in said(app("live"))


def test_without_a_store(app: App, store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFREE_BENCH_STORE", "")
    assert "No run has told of itself" in said(app("live"))


def test_the_curve_steps_to_now_and_on_to_the_end() -> None:
    figure = done_over_time([(60.0, 1), (120.0, 3)], 9, now=180.0, left=360.0)
    done, rest = figure.data
    assert list(done.x) == [0, 1, 2, 3]  # minutes
    assert list(done.y) == [0, 1, 3, 3]
    assert done.line.shape == "hv"
    assert (list(rest.x), list(rest.y)) == ([3, 9], [3, 9])
    assert figure.layout.xaxis.title.text == "time since the start, min"
    assert figure.layout.xaxis.range[1] >= 9
    assert figure.layout.shapes[0].y0 == 9


@pytest.mark.parametrize(("now", "unit", "end"), [(30.0, "s", 30), (179.0, "s", 179), (7200.0, "h", 2)])
def test_the_axis_has_a_fitting_unit(now: float, unit: str, end: float) -> None:
    figure = done_over_time([(now, 2)], 2, now, None)
    (done,) = figure.data  # all done: nothing to expect
    assert done.x[-1] == end
    assert figure.layout.xaxis.title.text.endswith(f", {unit}")
