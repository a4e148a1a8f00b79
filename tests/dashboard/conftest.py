"""A store of the test's own, a cache of its own, and the dashboard over them as Streamlit's AppTest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from bench.board.index.board_index import STORE_VARIABLE
from bench.store.record_store import RecordStore
from bench.store.records import ResultRecord

APP = Path(__file__).parent.parent.parent / "dashboard" / "app.py"


def stored(records: Iterable[ResultRecord]) -> list[ResultRecord]:
    """The board tests' records with cell ids that a store takes."""
    return [r.model_copy(update={"cell_id": hashlib.sha256(r.cell_id.encode()).hexdigest()[:16]}) for r in records]


@pytest.fixture
def store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packs_known: Callable[[Path], None]
) -> Iterator[RecordStore]:
    """An empty store that the dashboard shows; nothing cached from other tests but the package's own records."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    packs_known(tmp_path / "cache")
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "store"))
    st.cache_resource.clear()
    st.cache_data.clear()
    yield RecordStore(tmp_path / "store")
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def alone(store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordStore:
    """The store without the records that came with the package."""
    (tmp_path / "no_measured").mkdir()
    monkeypatch.setattr("bench.board.index.board_index.measured_folder", lambda: tmp_path / "no_measured")
    return store


@pytest.fixture
def app(store: RecordStore) -> Callable[..., AppTest]:
    """Open a page by its view's name (the first page by default), with filters as in an address."""

    def start(view: str | None = None, **filters: Any) -> AppTest:
        if view is None:
            test = AppTest.from_file(str(APP), default_timeout=60)
        else:
            test = AppTest.from_string(f"from dashboard.views import {view}\n{view}.show()", default_timeout=60)
        for key, value in filters.items():
            test.query_params[key] = value
        return test.run()

    return start


def read(text: str) -> str:
    """Markdown as it is read: what was escaped, without what escapes it."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text).replace("\u2060", "")


def shown(test: AppTest) -> str:
    """Everything a page says: text, captions, tables, messages and code."""
    kinds = ("title", "header", "subheader", "text", "caption", "markdown", "info", "warning", "error", "code")
    said = [str(element.value) for kind in kinds for element in getattr(test, kind)]
    said += [element.proto.body for element in test.get("html")]
    said += [f"{tile.label} {tile.value} {tile.delta}" for tile in test.metric]
    return read("\n".join(said))
