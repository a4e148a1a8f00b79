"""What a reader needs who sees little, no colours or nothing, or who prints: axe-core on every page and on the report,
contrast of captions and ticks as they are drawn, alternative text, and the report on paper and on a phone.

axe-core (MPL) comes with the package axe-playwright-python and is no part of this one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from bench.board.claims.judging import judge
from bench.board.index.frame import frame
from dashboard.report.page import Part, build
from tests.board.make import record, seeds
from tests.dashboard.test_theme import READABLE, contrast

from .conftest import Tab, pages

pytestmark = pytest.mark.browser

New = Callable[[], Tab]
PAPER = 688  # CSS pixels: A4's 210 mm without 14 mm on each side

OPACITY = """([place]) => {
  let all = 1;
  for (let e = document.querySelector(place); e; e = e.parentElement) all *= Number(getComputedStyle(e).opacity);
  return all;
}"""


@pytest.fixture(scope="module")
def axe() -> str:
    package = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed: the extra `dev` has it")
    return resources.files(package).joinpath("axe.min.js").read_text(encoding="utf-8")


def violations(page: Page, axe: str) -> dict[str, list[Any]]:
    """Rule → the places that break it."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return {rule["id"]: [node["target"] for node in rule["nodes"]] for rule in found}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_of_ours(shipped: str, tab: New, axe: str, scheme: Any) -> None:
    here = tab()
    found_pages = list(pages(here, shipped).items())
    assert len(found_pages) > 8
    here.page.emulate_media(color_scheme=scheme)
    for title, address in found_pages[:: 1 if scheme == "light" else 4]:  # the dark theme is one for all of them
        here.open(address)
        found = violations(here.page, axe)
        assert found == {}, title


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_captions_and_ticks_are_drawn_readable(shipped: str, tab: New, scheme: Any) -> None:
    here = tab()
    here.page.emulate_media(color_scheme=scheme)
    here.open(f"{shipped}/leaderboard")
    ground = hexed(here, '[data-testid="stApp"]', "backgroundColor")
    for place, what in (
        ('[data-testid="stMainBlockContainer"] [data-testid="stCaptionContainer"] p', "color"),
        (".js-plotly-plot .ytick text", "fill"),
        (".js-plotly-plot .xtick text", "fill"),
        (".js-plotly-plot .xtitle", "fill"),
    ):
        assert contrast(hexed(here, place, what), ground) >= READABLE, place


def hexed(here: Tab, place: str, what: str) -> str:
    """A colour as it was computed; it must not be see-through, or its contrast would depend on what lies behind."""
    script = "([place, what]) => getComputedStyle(document.querySelector(place))[what]"
    here.page.wait_for_selector(place)
    assert here.page.evaluate(OPACITY, [place]) == 1
    found = [float(part) for part in re.findall(r"[\d.]+", here.page.evaluate(script, [place, what]))]
    assert found[3:] in ([], [1.0])
    return "#{:02X}{:02X}{:02X}".format(*map(int, found[:3]))


def test_charts_and_images_have_a_text_in_their_place(shipped: str, tab: New) -> None:
    here = tab().open(f"{shipped}/images")
    images = here.page.locator('[data-testid="stImage"] img').all()
    assert all((image.get_attribute("alt") or "").strip() for image in images)
    here = tab().open(f"{shipped}/trade-offs")
    here.page.get_by_role("figure", name=re.compile("^Chart, .*top-1")).first.wait_for()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report with a decided claim, a heat map, and a leaderboard that is folded."""
    records = []
    for target in ("resnet50_w8", "mobilenetv2_w035"):
        same = {"target": target, "target_digest": target, "dataset": "fashion_mnist"}
        records += seeds([0.88, 0.89, 0.87], source="real", control="upper", **same)
        records += seeds([0.20, 0.21, 0.22], source="noise", control="lower", **same)
        records += seeds([0.80, 0.81, 0.82], source="mixmix", model="zoo:full", **same)
    reason = "a reason that is long enough to need several lines of the table's last column on paper"
    records.append(record(None, source="broken", target="resnet50_w8", reason=reason, dataset="fashion_mnist"))
    claims = [{"says": "mixed beats noise", "better": {"source": "mixmix"}, "worse": {"source": "noise"}}]
    part = Part("s", "A title", "", frame(records), judge(claims, records), records, None, (), (("board", "bench s"),))
    file: Path = tmp_path_factory.mktemp("report") / "r.html"
    file.write_text(build([part]), encoding="utf-8")
    return file.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_report(report: str, chromium: Browser, axe: str, scheme: Any) -> None:
    context = chromium.new_context(color_scheme=scheme, bypass_csp=True, viewport={"width": 1080, "height": 3000})
    page = context.new_page()
    page.goto(report)
    page.wait_for_selector(".plot-container")
    found = violations(page, axe)
    context.close()
    assert found == {}


def test_the_report_begins_with_findings_and_names_n(report: str, chromium: Browser) -> None:
    page = chromium.new_page()
    page.goto(report)
    assert page.locator("h2").first.inner_text() == "Findings"
    finding = page.locator("header tbody tr").first.inner_text()
    assert "supported" in finding
    assert "2 × 3" in finding  # two networks, three seeds
    captions = page.locator("figcaption").all_text_contents()
    assert len(captions) == page.locator("figure").count() > 1
    assert all(re.search(r"n: .*3 seeds", caption) and "images" in caption for caption in captions), captions
    page.close()


def test_the_report_fits_a_phone(report: str, chromium: Browser) -> None:
    page = chromium.new_page(viewport={"width": 390, "height": 800})
    page.goto(report)
    page.wait_for_selector("main")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_the_report_prints_whole(report: str, chromium: Browser) -> None:
    page = chromium.new_page(viewport={"width": PAPER, "height": 900}, color_scheme="dark")
    page.goto(report)
    folded = page.locator("details:not([open])").count()
    assert folded > 0
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    figures = page.locator(".figure").count()
    page.wait_for_function("n => document.querySelectorAll('.plot-container').length === n", arg=figures)
    ends = page.evaluate(
        "[...document.querySelectorAll('table, svg, pre, .facts, figcaption')]"
        ".map((e) => [e.tagName, e.getBoundingClientRect().right]).filter(([, right]) => right > innerWidth + 1)"
    )
    assert ends == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert min(int(part) for part in re.findall(r"\d+", ground)) > 240  # no dark paper
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == folded
    page.emulate_media(media="screen")
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()
