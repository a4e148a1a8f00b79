"""On the pages: a figure for a paper with its downloads, and what changed on a board; neither until it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest
from streamlit.testing.v1 import AppTest

from bench.store.record_store import RecordStore
from bench.store.records import ResultRecord
from tests.board.make import record, seeds
from tests.dashboard.conftest import shown, stored

App = Callable[..., AppTest]
KINDS = ["pdf", "svg", "tex", "bib"]


def keep(store: RecordStore, records: Iterable[ResultRecord]) -> None:
    for one in stored(records):
        store.write(one)


def on(day: int, **fields: object) -> dict[str, object]:
    return {"provenance": {"finished": datetime(2026, 11, day, tzinfo=UTC).timestamp()}, **fields}


def two_days() -> list[ResultRecord]:
    first = [r for name in ("a", "b") for r in seeds([0.8, 0.81], source=name, **on(1))]
    return [*first, *(record(0.82, source=name, seed=2, **on(2)) for name in ("a", "b"))]


def toggle(test: AppTest, key: str) -> AppTest:
    test.toggle(key=key).set_value(True)
    return test.run()


def test_the_map_is_offered_as_files_and_drawn_when_asked(alone: RecordStore, app: App) -> None:
    keep(alone, two_days())
    test = app("cross_validation")
    assert not test.exception
    assert not test.get("image")
    (key,) = [one.key for one in test.toggle if str(one.key).startswith("paper-map-")]
    drawn = toggle(test, key)
    assert not drawn.exception
    assert len(drawn.get("image")) == 1
    labels = [button.proto.label for button in drawn.get("download_button")]
    assert [label.lower() for label in labels if label.lower() in KINDS] == KINDS
    assert "n = 3 seeds (0, 1, 2)" in shown(drawn)


def test_charts_have_one_button_and_it_is_for_svg(alone: RecordStore, app: App) -> None:
    keep(alone, two_days())
    (chart,) = app("cross_validation").get("plotly_chart")
    assert '"modeBarButtons":[["toImage"]]' in chart.proto.config.replace(" ", "")
    assert '"format":"svg"' in chart.proto.config.replace(" ", "")


@pytest.mark.parametrize("empty", [True, False])
def test_the_history_is_read_when_asked(empty: bool, alone: RecordStore, app: App) -> None:
    if not empty:
        keep(alone, two_days())
    test = app("live")
    assert "2026-11-02" not in shown(test)
    said = shown(toggle(test, "history"))
    assert not test.exception
    if empty:
        assert "Nothing is measured yet" in said
        return
    assert said.index("2026-11-02") < said.index("2026-11-01")
    assert "more seeds" in said
    assert said.count("on 2") == said.count("on 3") == 2
