"""A store of the test's own, a cache of its own, and the dashboard over them as Streamlit's AppTest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from bench.board.index import STORE_VARIABLE
from bench.store.records import RecordStore

APP = Path(__file__).parent.parent.parent / "dashboard" / "app.py"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordStore]:
    """An empty store that the dashboard shows; nothing cached from other tests."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "store"))
    st.cache_resource.clear()
    st.cache_data.clear()
    yield RecordStore(tmp_path / "store")
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def app(store: RecordStore) -> Callable[..., AppTest]:
    """Open a page by its view's name (the first page by default), with filters as in an address."""

    def start(view: str | None = None, **filters: str | list[str]) -> AppTest:
        if view is None:
            test = AppTest.from_file(str(APP), default_timeout=60)
        else:
            test = AppTest.from_string(f"from dashboard.views import {view}\n{view}.show()", default_timeout=60)
        for key, value in filters.items():
            test.query_params[key] = value
        return test.run()

    return start
