"""Trade-offs and images as a reader meets them: at a desk, on a phone, on dark ground."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Tab

pytestmark = pytest.mark.browser

New = Callable[[], Tab]
SIZES = pytest.mark.parametrize(("width", "scheme"), [(1080, "light"), (390, "light"), (1080, "dark")])


def opened(tab: Tab, address: str, width: int, scheme: Any) -> Tab:
    tab.page.emulate_media(color_scheme=scheme)
    tab.page.set_viewport_size({"width": width, "height": 900})
    tab.open(address).check()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    return tab


@SIZES
def test_the_front_is_drawn_and_named(shipped: str, tab: New, width: int, scheme: str) -> None:
    here = opened(tab(), f"{shipped}/trade-offs?suite=ptq_w4a4", width, scheme)
    plot = here.page.locator(".js-plotly-plot").first
    plot.locator(".legendtext").filter(has_text="Pareto front").wait_for()
    assert plot.locator(".legendtext").filter(has_text="(control)").count() > 0
    assert plot.locator(".textpoint").count() > 0  # what the front's points are called
    assert "CPU time" in (plot.locator(".xtitle").text_content() or "")


@SIZES
def test_three_sets_stand_side_by_side_with_a_text_in_their_place(
    shipped: str, tab: New, width: int, scheme: str
) -> None:
    here = opened(tab(), f"{shipped}/images", width, scheme)
    images = here.page.locator('[data-testid="stImage"] img').all()
    assert len(images) == 3
    assert all("images of" in (image.get_attribute("alt") or "") for image in images)
    boxes = [box for image in images if (box := image.bounding_box())]
    assert len({round(box["width"]) for box in boxes}) == 1
    assert len({round(box["y"]) for box in boxes}) == (1 if width > 640 else 3)
