"""What a reader of the leaderboard chooses: words, columns, a compressor's ranks, a figure for a paper."""

from __future__ import annotations

import re
from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from bench.store.record_store import RecordStore
from tests.dashboard.conftest import read, shown, stored
from tests.dashboard.test_leaderboard import A, B, ranked_rows

App = Callable[..., AppTest]


def test_ranks_of_each_compressor_have_a_table_of_their_own(alone: RecordStore, app: App) -> None:
    records = ranked_rows(one=0.7, two=0.5)
    records += [one.model_copy(update={"compressor": "loose", "cell_id": f"{one.cell_id}x"}) for one in records]
    for one in stored(records):
        alone.write(one)
    test = app("leaderboard")
    assert not test.exception
    assert [read(header.value) for header in test.header] == [f"{A} · W4A4 · fit", f"{A} · W4A4 · loose"]
    assert len(test.get("plotly_chart")) == 2


def test_words_find_rows_of_any_name(alone: RecordStore, app: App) -> None:
    for one in stored(ranked_rows(A, one=0.7, two=0.5) + ranked_rows(B, one=0.6)):
        alone.write(one)

    def listed(**filters: str) -> list[str]:
        return sorted(re.findall(r"cell=[^>]*>(\w+)</a>", shown(app("leaderboard", **filters))))

    assert listed(target=A, search="ONE") == ["one"]
    assert listed(target=A, search="fit two") == ["two"]
    assert listed(search="vgg") == ["lower", "one", "upper"]  # a network's name alone leads to its rows
    found = app("leaderboard", target=A, search="one")
    assert "hidden by a filter" in shown(found)
    nothing = app("leaderboard", search="no such thing")
    assert not nothing.exception
    assert "No row has all of these" in shown(nothing)
    found.text_input(key="widget_search").set_value("two").run()
    assert "two" in found.query_params["search"]
    found.text_input(key="widget_search").set_value("").run()
    assert "search" not in found.query_params


def test_columns_are_chosen_and_stand_in_the_address(alone: RecordStore, app: App) -> None:
    for one in stored(ranked_rows(one=0.7, two=0.5)):
        alone.write(one)
    test = app("leaderboard")
    assert "detectable" in shown(test)
    test.multiselect(key="widget_columns").set_value(["test_count", "rank"]).run()
    said = shown(test)
    assert test.query_params["columns"] == ["test_count", "rank"]
    assert said.index("test_count") < said.index(">rank<")
    assert "detectable" not in said
    assert shown(app("leaderboard", columns=["test_count", "rank"])) == said


def test_the_ranks_are_offered_for_a_paper(alone: RecordStore, app: App) -> None:
    for one in stored(ranked_rows(one=0.7, two=0.5)):
        alone.write(one)
    test = app("leaderboard")
    (bars,) = test.get("plotly_chart")
    assert '"format":"svg"' in bars.proto.config.replace(" ", "")
    test.toggle(key="paper-ranks-s").set_value(True).run()
    assert not test.exception
    assert len(test.get("image")) == 1
