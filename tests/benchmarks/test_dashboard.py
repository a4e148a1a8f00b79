"""How long a reader waits with 20,000 records: the first page cold, a filter warm, the index from nothing and by one.

Budgets (2 cores): first page 2 s, filter 0.5 s; with BENCH_MANY=200000 in the environment the first page 10 s.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.board.index.board_index import STORE_VARIABLE, BoardIndex

from .records import write_records

st = pytest.importorskip("streamlit")
APP = Path(__file__).parent.parent.parent / "dashboard" / "app.py"
MANY = int(os.environ.get("BENCH_MANY", "20000"))
COLD, WARM = (2.0 if MANY <= 20_000 else 10.0), 0.5

pytestmark = pytest.mark.skipif("--benchmark-only" not in sys.argv, reason="writes many files; `make benchmarks`")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The records, with an index on disk; removed afterwards."""
    root = tmp_path_factory.mktemp("many")
    write_records(root / "store", MANY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_DATA", str(root / "cache"))
        patch.setenv(STORE_VARIABLE, str(root / "store"))
        yield root / "store"
    shutil.rmtree(root)


def test_index_from_nothing(store: Path, benchmark: Any) -> None:
    found = benchmark.pedantic(lambda: BoardIndex(store).snapshot(), rounds=1)
    assert len(found.cells[found.cells["place"].str.startswith("records/")]) == MANY


def test_index_after_one_record_more(store: Path, benchmark: Any) -> None:
    files = sorted((store / "records" / "suite_0@1").glob("*.json"))

    def change() -> None:
        content = files.pop().read_bytes()
        files[-1].unlink()
        files[-1].write_bytes(content)  # another cell's content: counted once
        files.pop()

    benchmark.pedantic(lambda: BoardIndex(store).snapshot(), setup=change, rounds=3)


PAGES = (
    *("", "leaderboard", "cross-validation", "trade-offs", "ablations", "images", "bits", "policies", "cell", "claims"),
    "live",
)


def _open(path: str) -> Any:
    """A reader's first view of a page of the first suite."""
    from streamlit.testing.v1 import AppTest
    from streamlit.util import calc_hash

    page = AppTest.from_file(str(APP), default_timeout=60)
    page.query_params["suite"] = "suite_0"
    page._page_hash = calc_hash(path) if path else ""  # switch_page knows no pages made of functions
    return page


@pytest.mark.parametrize("path", PAGES)
def test_page_cold(store: Path, benchmark: Any, path: str) -> None:
    BoardIndex(store).snapshot()

    def forget() -> None:
        st.cache_resource.clear()
        st.cache_data.clear()

    def first() -> Any:
        return _open(path).run()

    first()  # imports: the server has done them
    page = benchmark.pedantic(first, setup=forget, rounds=5)
    assert not page.exception
    assert not page.error
    assert page.title
    assert benchmark.stats.stats.median <= COLD


@pytest.mark.parametrize(
    "change",
    [
        lambda page: page.selectbox[0].select_index(1),
        lambda page: page.multiselect[0].select("compressor_1"),
    ],
    ids=["suite", "compressor"],
)
def test_filter_warm(store: Path, benchmark: Any, change: Callable[[Any], Any]) -> None:
    BoardIndex(store).snapshot()

    def setup() -> tuple[tuple[Any], dict[str, Any]]:
        return (change(_open("leaderboard").run()),), {}

    page = benchmark.pedantic(lambda widget: widget.run(), setup=setup, rounds=5)
    assert not page.exception
    assert benchmark.stats.stats.median <= WARM


@pytest.mark.parametrize("path", [path for path in PAGES[:-1] if path != "policies"])  # no searched bits here
def test_bits_or_suite_warm(store: Path, benchmark: Any, path: str) -> None:
    """The last filter of the page that takes several values, else another suite."""
    BoardIndex(store).snapshot()

    def setup() -> tuple[tuple[Any], dict[str, Any]]:
        page = _open(path).run()
        several = [widget for widget in page.multiselect if widget.key == "widget_bits"]
        return (several[0].select(several[0].options[-1]) if several else page.selectbox[0].select_index(1),), {}

    page = benchmark.pedantic(lambda widget: widget.run(), setup=setup, rounds=5, warmup_rounds=1)
    assert not page.error
    assert benchmark.stats.stats.median <= WARM
