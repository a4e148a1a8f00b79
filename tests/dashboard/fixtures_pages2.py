"""A store of a test and a page of the dashboard over it, as the server would draw it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from safetensors.numpy import save
from streamlit.testing.v1 import AppTest

from bench.store.meta import ArtifactMeta, make_header
from bench.store.record_store import RecordStore
from bench.store.records import ResultRecord
from tests.board.make import record
from tests.dashboard.conftest import read

Open = Callable[..., AppTest]


def made(*args: Any, **fields: Any) -> ResultRecord:
    """A record as :func:`tests.board.make.record` makes it, with ids that a store accepts."""
    found = record(*args, **fields)
    ids = {"cell_id": hashlib.sha256(found.cell_id.encode()).hexdigest()[:16]}
    if found.synth_id:
        ids["synth_id"] = hashlib.sha256(found.synth_id.encode()).hexdigest()[:16]
    return found.model_copy(update=ids)


class Pages:
    """Records into the store, pages out of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, records: Sequence[ResultRecord]) -> None:
        store = RecordStore(self.folder)
        for one in records:
            store.write(one)

    def spoil(self, name: str, content: object, beside: ResultRecord) -> None:
        """A file in the place of a record of suite s, and a good record beside it."""
        self.write([beside])
        folder = self.folder / "records" / "s@1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))

    def images(self, synth_id: str, images: np.ndarray, labels: np.ndarray | None, curves: dict[str, Any]) -> None:
        """One stored batch, as the artifact store lays it out."""
        folder = self.folder / "artifacts" / synth_id[:2] / synth_id
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"images": images.astype(np.float32)} | ({} if labels is None else {"labels": labels})
        header = make_header("not checked by who draws", ArtifactMeta("one", 1, curves=curves), synth_id)
        (folder / "00000.safetensors").write_bytes(save(tensors, header))

    def open(self, page: str, **query: str) -> AppTest:
        """The page as the server draws it for this address; a failure in it shows as an exception of the test."""
        app = AppTest.from_string(f"from dashboard.views import {page}\n{page}.show()", default_timeout=60)
        for key, value in query.items():
            app.query_params[key] = value
        return app.run()


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pages]:
    """An empty store, and no records of the package."""
    empty = tmp_path / "measured"
    empty.mkdir()
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("DATAFREE_BENCH_STORE", str(tmp_path / "store"))
    monkeypatch.setattr("bench.board.index.board_index.measured_folder", lambda: empty)
    st.cache_resource.clear()
    st.cache_data.clear()
    yield Pages(tmp_path / "store")
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packs_known: Callable[[Path], None]) -> Iterator[Pages]:
    """The records that come with the package, and no store."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    packs_known(tmp_path / "cache")
    monkeypatch.delenv("DATAFREE_BENCH_STORE", raising=False)
    st.cache_resource.clear()
    st.cache_data.clear()
    yield Pages(tmp_path / "store")
    st.cache_resource.clear()
    st.cache_data.clear()


def text_of(app: AppTest) -> str:
    """All that a page says in words and tables, as it is read."""
    return read(raw_of(app))


def raw_of(app: AppTest) -> str:
    """As :func:`text_of`, as it is sent: Markdown with what escapes it, HTML."""
    parts = [str(getattr(e, "value", "")) for kind in ("info", "warning", "caption", "text") for e in app.get(kind)]
    parts += [e.proto.body for e in app.get("html")]
    return "\n".join(parts)


def charts(app: AppTest) -> list[dict[str, Any]]:
    """The figures of a page as plotly reads them."""
    return [json.loads(e.proto.spec) for e in app.get("plotly_chart")]


AWKWARD: dict[str, Callable[[Pages], None]] = {
    "nothing": lambda pages: None,
    "one row, one seed": lambda pages: pages.write([made(0.8)]),
    "failed": lambda pages: pages.write([made(None, reason="boom <b>", traceback="Traceback")]),
    "failed beside good": lambda pages: pages.write([made(0.8), made(None, source="kw", reason="boom <b>")]),
    "not applicable": lambda pages: pages.write([made(None, status="not_applicable", reason="needs labels")]),
    "one seed of two": lambda pages: pages.write([made(0.8), made(0.7, source="kw"), made(0.7, source="kw", seed=1)]),
    "half-written": lambda pages: pages.spoil("a" * 16, '{"schema_version": 1, "su', made(0.8)),
    "newer schema": lambda pages: pages.spoil("b" * 16, {"schema_version": 99}, made(0.8)),
    "controls only": lambda pages: pages.write(
        [
            made(0.8, source="real(batch=5)", control="upper", compressor=c, setting_label=b)
            for c in ("brecq", "lsq")
            for b in ("W4A4", "W2A4")
        ]
    ),
    "one control": lambda pages: pages.write([made(0.8, source="real", control="upper")]),
    "markup": lambda pages: pages.write([made(0.8, source="x<script>alert(1)</script>"), made(0.7)]),
}
"""Stores that a page must answer with a sentence or a picture, never with a traceback."""


def check_awkward(pages: Pages, page: str, name: str) -> AppTest:
    """Write one of :data:`AWKWARD`, open the page: no exception, something to read, no live markup."""
    AWKWARD[name](pages)
    app = pages.open(page)
    assert not app.exception, [e.value for e in app.exception]
    assert not app.error
    assert text_of(app).strip()
    assert "<script>" not in raw_of(app)
    if name in ("half-written", "newer schema"):
        assert any("could not be read" in e.label for e in app.expander)
    return app
