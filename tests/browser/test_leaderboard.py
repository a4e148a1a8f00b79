"""The leaderboard as a reader meets it: at a desk, on a phone, on dark ground; what stands first, words, columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Tab

pytestmark = pytest.mark.browser

New = Callable[[], Tab]
PHONE = 390
FIRST = ["source", "top-1 %", "95 % interval", "CPU min", "seeds"]
COMPARING = "suite=ptq_compressors"
"""A suite that ranks several compressors in one table: its rows have the longest names."""

ENDS = """() => [...document.querySelectorAll('.df-wrap')].map((wrap) => {
  const heads = [...wrap.querySelectorAll('thead th')].slice(0, 5);
  return [heads.map((head) => head.innerText.trim().replace(/\\s+/g, ' ')),
          heads[4].getBoundingClientRect().right <= Math.min(wrap.getBoundingClientRect().right, innerWidth) + 1];
})"""


def opened(tab: Tab, address: str, width: int, scheme: Any = "light") -> Tab:
    tab.page.emulate_media(color_scheme=scheme)
    tab.page.set_viewport_size({"width": width, "height": 900})
    tab.open(address).check()
    return tab


@pytest.mark.parametrize(("width", "scheme"), [(1080, "light"), (PHONE, "light"), (1080, "dark")])
@pytest.mark.parametrize("query", ["suite=ptq_w2a4", COMPARING])
def test_the_answer_is_seen_without_scrolling_sideways(
    shipped: str, tab: New, query: str, width: int, scheme: str
) -> None:
    here = opened(tab(), f"{shipped}/leaderboard?{query}", width, scheme)
    assert here.page.evaluate("document.documentElement.scrollWidth") <= width
    tables = here.page.evaluate(ENDS)
    assert tables
    assert all(heads == FIRST and seen for heads, seen in tables), tables
    first = here.page.locator(".df-table").first.bounding_box()
    assert first is not None
    assert first["y"] < 900  # the table begins on the first screen, before any chart


def test_filters_are_folded_on_a_phone(shipped: str, tab: New) -> None:
    here = opened(tab(), f"{shipped}/leaderboard?suite=ptq_w2a4", PHONE)
    boxes = here.page.locator('.st-key-filters [data-testid="stSelectbox"]')
    assert boxes.count() > 3
    assert not boxes.first.is_visible()
    here.page.get_by_text("Show filters").click()
    boxes.first.wait_for(state="visible")
    wide = opened(tab(), f"{shipped}/leaderboard?suite=ptq_w2a4", 1080)
    wide.page.locator('.st-key-filters [data-testid="stSelectbox"]').first.wait_for(state="visible")
    assert not wide.page.get_by_text("Show filters").is_visible()


def test_what_an_address_asks_for_in_vain_is_said_on_a_phone(shipped: str, tab: New) -> None:
    here = opened(tab(), f"{shipped}/leaderboard?suite=no-such-suite", PHONE)
    here.page.get_by_text("There is no suite").wait_for(state="visible")


def test_words_and_columns_change_the_view_and_its_link_repeats_it(shipped: str, tab: New) -> None:
    here = opened(tab(), f"{shipped}/leaderboard?suite=ptq_w2a4", 1080)
    before = here.rows()
    field = here.page.get_by_label("Search")
    field.fill("zeroq")
    field.press("Enter")
    here.page.wait_for_url("**search=zeroq**")
    here.settle().check()
    assert 0 < len(here.rows()) < len(before)
    assert all("zeroq" in row for row in here.rows())
    linked = opened(tab(), f"{here.page.url}&columns=test_count&columns=machine", 1080)
    heads = linked.page.locator(".df-table").first.locator("thead th").all_inner_texts()
    assert [" ".join(head.split()) for head in heads] == [*FIRST, "test_count images", "machine"]
    assert len(linked.rows()) == len(here.rows())


def test_a_row_of_one_seed_is_pale(shipped: str, tab: New) -> None:
    here = opened(tab(), f"{shipped}/leaderboard?{COMPARING}", 1080)
    lines = here.page.locator(".df-table tbody tr.single")
    assert lines.count() == len(here.rows())  # this suite was measured with one seed
    colour = "(row) => getComputedStyle(row.cells[1]).color"
    assert lines.first.evaluate(colour) != here.page.locator("h1").evaluate("(e) => getComputedStyle(e).color")
