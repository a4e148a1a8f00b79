"""A chart's button for SVG, and the figure for a paper with its files, in Chromium."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import Tab

pytestmark = pytest.mark.browser


def test_a_chart_and_a_figure_for_a_paper_are_downloaded(chromium: Browser, shipped: str, tmp_path: Path) -> None:
    tab = Tab(chromium.new_page(viewport={"width": 1080, "height": 1400}, accept_downloads=True))
    tab.open(f"{shipped}/cross-validation?suite=ptq_w4a4&compressor=rtn")
    page = tab.page
    page.hover(".js-plotly-plot")
    with page.expect_download() as chart:
        page.click(".modebar-btn")
    assert chart.value.suggested_filename == "ptq_w4a4-map.svg"
    chart.value.save_as(tmp_path / "chart.svg")
    assert ElementTree.parse(tmp_path / "chart.svg").getroot().tag.endswith("}svg")
    page.get_by_text("Figure for a paper").click()
    page.get_by_text("Draw it").click()
    for form, start in (("pdf", b"%PDF-"), ("svg", b"<?xml"), ("tex", b"% Caption"), ("bib", b"@misc{")):
        with page.expect_download() as file:
            page.get_by_role("button", name=form.upper(), exact=True).click()
        assert file.value.suggested_filename == f"ptq_w4a4-map.{form}"
        file.value.save_as(tmp_path / form)
        assert (tmp_path / form).read_bytes().startswith(start)
    assert tab.wrong == []
    page.close()
