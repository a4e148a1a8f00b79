"""Ablations as a reader meets them: a sentence above each plot, its table folded, on any screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.board.claims.judging import SIGN

from .conftest import Tab

pytestmark = pytest.mark.browser

New = Callable[[], Tab]


@pytest.mark.parametrize(("width", "scheme"), [(1080, "light"), (390, "light"), (1080, "dark")])
def test_every_plot_has_its_sentence_and_its_table(shipped: str, tab: New, width: int, scheme: Any) -> None:
    here = tab()
    here.page.emulate_media(color_scheme=scheme)
    here.page.set_viewport_size({"width": width, "height": 900})
    here.open(f"{shipped}/ablations?suite=ptq_w2a4").check()
    assert here.page.evaluate("document.documentElement.scrollWidth") <= width
    plots = here.page.locator(".js-plotly-plot").count()
    assert plots == 4
    text = here.text()
    assert "depends on compressor (above:" in text
    assert sum(line.startswith("Highest: ") for line in text.splitlines()) == plots + 1
    assert any(SIGN["supported"] in line for line in text.splitlines())
    folded = here.page.locator('[data-testid="stExpander"] summary').filter(has_text="Table: ")
    assert folded.count() == plots
    folded.first.click()
    here.settle()
    assert here.page.locator('[data-testid="stExpander"] .df-table:visible').count() == 2
    here.check()


def test_a_phone_draws_no_name_of_the_front_that_covers_another(shipped: str, tab: New) -> None:
    """The wide screen draws them."""
    seen = {}
    for width in (1080, 390):
        here = tab()
        here.page.set_viewport_size({"width": width, "height": 900})
        here.open(f"{shipped}/trade-offs").check()
        names = here.page.locator('[class*="st-key-wide-names"] .scatterlayer .trace:last-child .textpoint')
        assert names.count() > 0
        seen[width] = [name.is_visible() for name in names.all()]
    assert all(seen[1080])
    assert not any(seen[390])
