"""The static report: complete, escaped, loads nothing, and opens in a browser without a network or an error."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from bench.board.claims.judging import judge
from bench.board.index.frame import frame
from bench.board.tables.comparison import beside
from bench.store.record_store import RecordStore
from bench.store.records import ResultRecord
from dashboard.report.page import Part, build, records_digest
from tests import pick
from tests.board.make import record, seeds

from .test_board_files import bench

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


class Page(HTMLParser):
    """Every attribute of every element, the scripts and styles with their text, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self._inside: str = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        self._inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        elif self._inside == "style":
            self.styles.append(data)
        else:
            self.text.append(data)


def _records() -> list[ResultRecord]:
    records = []
    for target in ("resnet50_w8", "mobilenetv2_w035"):
        same = {"target": target, "target_digest": target, "dataset": "fashion_mnist"}
        records += seeds([0.88, 0.89], source="real", control="upper", **same)
        records += seeds([0.20, 0.21], source="noise", control="lower", **same)
        records += seeds([0.80, 0.81], source="mixmix", model="zoo:full", **same)
        records += seeds([0.80, 0.80], source=HOSTILE, model=target, **same)
    failed = record(None, source="broken", target="resnet50_w8", reason=HOSTILE, seed=0, dataset="fashion_mnist")
    return [*records, failed]


def _part(name: str = "s") -> Part:
    records = _records()
    table = frame(records)
    claims = [
        {"says": f"mixed beats noise {HOSTILE}", "better": {"source": "mixmix"}, "worse": {"source": "noise"}},
        {"says": "nothing is known", "better": {"source": "nowhere"}, "worse": {"source": "noise"}},
    ]
    found = beside(table, "mixmix/T6", sizes={"fashion_mnist": 32})
    commands = (("prints the board", "bench board s"), ("writes this file", "bench report s"))
    return Part(name, f"A title {HOSTILE}", "mixmix/T6", table, judge(claims, records), records, found, (), commands)


@pytest.fixture(scope="module")
def text() -> str:
    return build([_part("s"), _part("t")])


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_it_shows_what_it_should(page: Page) -> None:
    shown = " ".join(" ".join(page.text).split())
    for words in (
        "16 of 17",  # eight rows of two seeds, and one that failed
        "80.50",
        "± ",
        "2 of 2",
        "0 of 2",
        "supported",
        "mixed beats noise",
        "Measured beside published",
        "74.58",
        "image size: 32×32 pixels measured, 224×224 claimed",
        "bench board s",
        "protocols",
        records_digest(_records()),
        "synth s",
    ):
        assert words in shown, words
    labels = [value for _, name, value in page.attributes if name == "aria-label"]
    row = frame(_records()).set_index(["source", "target"]).loc[("mixmix", "resnet50_w8")]
    assert f"80.50 in {row['top1_low']:.2f} to {row['top1_high']:.2f} percent" in labels


def test_it_loads_nothing(page: Page) -> None:
    assert not set(page.tags) & {"link", "iframe", "img", "object", "embed", "base", "form", "audio", "video", "source"}
    for tag, name, value in page.attributes:
        assert name not in ("src", "srcset", "data", "action", "ping", "poster", "background"), (tag, name)
        if name == "href":
            assert value.startswith("#")
        assert not name.startswith("on"), (tag, name)
    style = " ".join([*page.styles, *(v for _, name, v in page.attributes if name == "style")])
    assert "@import" not in style
    assert "url(" not in style
    own = page.scripts[-1][1]
    for word in ("http:", "https:", "fetch", "XMLHttpRequest", "import(", "WebSocket", "sendBeacon", "eval"):
        assert word not in own
    policy = next(v for tag, name, v in page.attributes if tag == "meta" and name == "content" and "default-src" in v)
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]  # scripts by their hash only


def test_the_policy_names_exactly_the_two_scripts(page: Page) -> None:
    data = [text for kind, text in page.scripts if kind.get("type") == "application/json"]
    run = [text for kind, text in page.scripts if kind.get("type") != "application/json"]
    assert len(run) == 2
    policy = next(v for tag, name, v in page.attributes if tag == "meta" and name == "content" and "default-src" in v)
    named = re.findall(r"'sha256-([^']+)'", policy)
    assert named == [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run]
    assert data
    for figure in data:
        assert not set("<>") & set(figure)
        assert json.loads(figure)["data"]


def test_text_of_records_is_escaped(text: str) -> None:
    assert HOSTILE not in text
    assert "<script>document" not in text
    assert "<img" not in Page(text).tags
    assert "&lt;script&gt;document.title" in text


def test_the_same_records_make_the_same_file(text: str) -> None:
    assert build([_part("s"), _part("t")]) == text
    other = _records()
    other[0] = other[0].model_copy(update={"seed": 5})
    assert records_digest(other) != records_digest(_records())
    assert records_digest(reversed(_records())) == records_digest(_records())


def test_odd_suites() -> None:
    measures = [
        record(0.5, source="x", target=t).model_copy(
            update={"compressor": "", "setting_label": "", "setting": {}, "correct": None, "metrics": {"bn_loss": 1.25}}
        )
        for t in ("a", "b")
    ]
    empty = Part("e", "", "", frame([]), (), [], None, ("nothing here",), ())
    only = Part("m", "", "", frame(measures, extra=["bn_loss"]), (), measures, None, (), ())
    failed = [record(None, reason="broke")]
    bad = Part("f", "", "", frame(failed), judge([], failed), failed, None, (), ())
    shown = build([empty, only, bad])
    assert "nothing here" in shown
    assert "1.250" in shown
    assert "failed: broke" in shown


@pick.needs("ptq_bits", "ablation_zoo")
def test_the_command_writes_the_shipped_suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = bench("report", "ptq_bits", "ablation_zoo", "--out", "sub/r.html")
    assert "2 suites" in said
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["r.html"]
    page = Page((tmp_path / "sub" / "r.html").read_text(encoding="utf-8"))
    shown = " ".join(page.text)
    assert "Image sources from 8 down to 2 bits" in shown
    assert "refuted" in shown
    assert "mixmix/A-T2" in shown
    assert (tmp_path / "sub" / "r.html").stat().st_size < 8_000_000


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
def test_it_opens_offline_without_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text(text, encoding="utf-8")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--proxy-server=127.0.0.1:9"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 20_000})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"file://{tmp_path / 'r.html'}")
        figures = page.locator('[type="application/json"]').count()
        assert figures >= 4
        drawn = "wanted => document.querySelectorAll('div.plot-container').length === wanted"
        page.wait_for_function(drawn, arg=figures, timeout=60_000)  # every figure was drawn
        assert page.title() == "datafree-bench report"  # no text of a record ran as a script
        assert said == []
        browser.close()


def test_a_suite_whose_file_is_not_at_hand_is_shown_without_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.run.session.PackedRecords", tuple)  # the store's records only
    store = RecordStore(tmp_path / "mine")
    store.write(record(0.8, suite="own", cell_id="0123456789abcdef"))
    said = bench("report", "--store", "mine")
    assert "1 suites, 1 cells" in said
    shown = " ".join(Page((tmp_path / "report.html").read_text(encoding="utf-8")).text)
    assert "the suite's file is not at hand" in shown
    assert "80.00" in shown
    assert "bench repro 0123456789abcdef --store mine" in shown
