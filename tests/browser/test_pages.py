"""The dashboard as a reader meets it: every page, a filter, a link, the rows, and what must not come through."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from bench.board.index.rows import ROW_KEY
from bench.store.measured import read_measured
from bench.store.record_store import RecordStore

from ..board.make import bits, record
from .conftest import Serve, Tab, pages

pytestmark = pytest.mark.browser

New = Callable[[], Tab]
EVIL = '<script>window.hacked=1</script><img src=x onerror="window.hacked=1">'


def hostile(root: Path) -> Path:
    """A store whose records hold markup wherever text can be."""
    store = RecordStore(root)
    for k, name in enumerate((EVIL, "mixmix")):
        fields = {"cell_id": f"{k:032x}", "source": name, "source_method": name, "dataset": "d", "suite": "evil"}
        store.write(record(bits(0.5 + 0.1 * k, images=100), **fields, model=EVIL, target=EVIL, setting_label="W4A4"))
    store.write(
        record(None, cell_id=f"{9:032x}", suite="evil", target=EVIL, reason=EVIL, traceback=EVIL, compressor=EVIL)
    )
    return root


@pytest.fixture(scope="session")
def attacked(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    return serve(hostile(tmp_path_factory.mktemp("evil") / "store"))


def choose_another(tab: Tab, label: str) -> str:
    """Choose the second of the options of a select box, or the first if that is chosen; returns it."""
    box = tab.page.locator('[data-testid="stSelectbox"]').filter(has_text=label).first
    before = box.locator("input").input_value() or box.inner_text()
    box.locator("input").click()
    options = tab.page.locator('[role="option"]')
    options.first.wait_for()
    other = next(o for o in options.all() if o.inner_text().strip() not in before)
    name = other.inner_text().strip()
    other.click()
    tab.settle()
    return name


def test_every_page_is_drawn(shipped: str, tab: New) -> None:
    here = tab()
    offered = pages(here, shipped)
    assert len(offered) >= 9
    for title, address in offered.items():
        here.open(address).check()
        assert len(here.text().strip()) > len(title) + 20, f"{title} is empty"


def test_a_page_fits_a_phone(shipped: str, tab: New) -> None:
    here = tab()
    offered = pages(here, shipped)
    here.page.set_viewport_size({"width": 390, "height": 800})
    for title, address in offered.items():
        here.open(address).check()
        wide = here.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{title} is {wide} pixels wide"


def test_rows_shown_are_rows_stored(shipped: str, tab: New) -> None:
    records, here = [r for r in read_measured() if r.compressor], tab()
    for suite in sorted({r.suite for r in records}):
        chosen = [r for r in records if r.suite == suite]
        scope = {name: getattr(chosen[0], name) for name in ("suite", "preset", "dataset", "target")}
        stored = {tuple(getattr(r, k) for k in ROW_KEY) for r in chosen if scope.items() <= vars(r).items()}
        here.open(f"{shipped}/leaderboard?{urlencode(scope)}").check()
        assert len(here.rows()) == len(stored), suite
        assert here.page.locator(".js-plotly-plot").count() > 0


def test_a_filter_changes_the_view_and_its_link_repeats_it(shipped: str, tab: New) -> None:
    here = tab().open(f"{shipped}/leaderboard")
    before = here.rows()
    assert before
    suite = choose_another(here, "Suite")
    after = here.rows()
    assert after != before
    assert urlencode({"suite": suite}) in here.page.url
    here.check()
    linked = tab().open(here.page.url)
    linked.check()
    assert linked.rows() == after
    assert linked.page.url == here.page.url


def test_the_first_page_answers_and_its_link_repeats_it(shipped: str, tab: New) -> None:
    here = tab().open(shipped)
    here.check()
    answer = here.page.locator('[role="status"]').filter(has_text="W4A4 on mobilenetv2_w035")
    answer.wait_for()
    before = here.rows()
    assert choose_another(here, "Bits") != "W4A4"
    answer.wait_for(state="detached")
    here.settle()
    assert here.rows() != before
    linked = tab().open(here.page.url)
    assert linked.rows() == here.rows()


def test_the_pages_have_a_dark_mode(shipped: str, tab: New) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        here = tab()
        here.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        here.open(shipped).check()
        ground = here.page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
        grounds.append(sum(int(part) for part in ground.strip("rgba() ").split(",")[:3]))
    assert grounds[0] > 600 > 150 > grounds[1]


def test_text_of_records_is_text(attacked: str, tab: New) -> None:
    here = tab()
    for title, address in pages(here, attacked).items():
        query = urlencode({"suite": "evil", "cell": f"{0:032x}", "target": EVIL})
        here.open(f"{address}?{query}")
        here.page.wait_for_timeout(300)
        assert here.page.evaluate("window.hacked === undefined"), title
        here.check()
    first = tab().open(f"{attacked}/leaderboard?{urlencode({'suite': 'evil'})}")
    assert EVIL in first.text()
    assert first.page.locator(".df-table script, .df-table img").count() == 0


def test_an_unknown_choice_in_the_address_is_named(shipped: str, tab: New) -> None:
    here = tab()
    for title, address in pages(here, shipped).items():
        query = urlencode({"suite": "../../../../etc/passwd", "cell": "/etc/passwd", "store": "/etc", "target": "../x"})
        here.open(f"{address}?{query}").check()
        assert "root:" not in here.text(), title
        assert "root:" not in here.page.content(), title


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static/../../../../../../../../etc/passwd",
        "/media/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/app/static/../../../../etc/passwd",
        "/app/static/app.py",
        "/component/x/../../../../etc/passwd",
        "//etc/passwd",
    ],
)
def test_a_path_in_the_address_reaches_no_file(shipped: str, path: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(shipped).netloc, timeout=20)
    connection.request("GET", path)  # as it stands: a browser would tidy it first
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert b"root:" not in body
    assert b"set_page_config" not in body
