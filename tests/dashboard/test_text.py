"""Text from records, suites and addresses is shown as text on every page and in the report: nothing of it is Markdown,
HTML, a plot's markup or a choice that was not offered."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from bench.board.claims.judging import Verdict
from bench.store.record_store import RecordStore
from dashboard.cli_report import _part
from dashboard.report.page import build
from dashboard.text import figure_text, plain
from tests.board.make import record
from tests.dashboard.conftest import read, shown, stored
from tests.dashboard.markdown import unescaped

ROOT = Path(__file__).parent.parent.parent / "dashboard"
PICTURE = "![p](http://a.example/p.png)"
EVIL = f"<img src=x onerror=alert(1)>{PICTURE}<b>b</b>%{{x}}\x1b[31m"
PAGES = (
    *("leaderboard", "cross_validation", "trade_offs", "ablations", "images", "bits", "policies", "cell", "claims"),
    *("choose", "live"),
)
MARKDOWN = ("title", "header", "subheader", "caption", "markdown", "info", "warning", "error", "success")

Open = Callable[..., AppTest]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_unescaped_text_reaches_a_place_that_reads_markdown(path: Path) -> None:
    allowed = {"help_empty"} if path.name == "common.py" else set()  # its callers give text of ours
    assert list(unescaped(path.read_text(encoding="utf-8"), frozenset(allowed))) == []


@pytest.mark.parametrize(
    "text",
    [
        "st.markdown(f'**{name}**')",
        "st.caption(name)",
        "st.info('a ' + name)",
        "st.expander(plain(a) + b)",
        "column.metric(name, 3)",
        "st.image(x, caption=name)",
        "st.progress(0.5, f'{name}')",
        "st.button('a', help=name)",
        "st.caption(plain(name).upper())",
    ],
)
def test_what_is_unescaped_is_found(text: str) -> None:
    assert len(list(unescaped(text))) == 1


@pytest.mark.parametrize(
    "text", ["st.text(name)", "st.caption(plain(name))", "st.info(f'`a` {plain(b)}')", "log.info(x)"]
)
def test_what_is_escaped_is_spared(text: str) -> None:
    assert list(unescaped(text)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PICTURE, r"\!\[p\]\(http\:" + "\u2060" + r"//a.example/p.png\)"),
        ("a\n\n    # b\n- c", "a  \n\\# b  \n\\- c"),
        ("1. a", r"1\. a"),
        ("a\n===", "a  \n\\==="),
        ("www.a.example x@a.example", "www\u2060.a.example x@\u2060a.example"),
        (":smile: :red[x] timm:resnet18", "\\:\u2060smile\\: \\:red\\[x\\] timm\\:resnet18"),
        ("<b>\x1b", r"\<b\>\\u001b"),
        ("W4A4 of W8A8, 51.2 %", "W4A4 of W8A8, 51.2 %"),
    ],
)
def test_markdown_is_escaped(text: str, expected: str) -> None:
    assert plain(text) == expected
    assert read(plain("a " + PICTURE)) == "a " + PICTURE


def test_a_figures_text_is_escaped() -> None:
    assert figure_text(EVIL) == (
        "&lt;img src=x onerror=alert(1)&gt;![p](http://a.example/p.png)&lt;b&gt;b&lt;/b&gt;%\u2060{x}\\u001b[31m"
    )


class Tags(HTMLParser):
    """What a browser would make of HTML: its tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def harmless(html: str) -> None:
    """No picture, no script of theirs, no bold name, nothing that runs or loads."""
    for tag, attributes in Tags(html).found:
        assert tag != "img"
        assert not any(name.startswith("on") for name in attributes)
        assert "example" not in str(attributes.get("src"))
    assert "<b>b</b>" not in html
    assert "\x1b" not in html


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(item)


def figures(test: AppTest) -> Iterator[str]:
    """All text in the figures of a page."""
    for element in test.get("plotly_chart"):
        yield from strings(json.loads(element.proto.spec))


def markdown(test: AppTest) -> Iterator[str]:
    for kind in MARKDOWN:
        yield from (str(element.value) for element in getattr(test, kind))
    for block in test.get("expander"):
        yield block.label


@pytest.fixture
def evil(alone: RecordStore) -> RecordStore:
    """Records whose every name is hostile: two targets, two sources with two parameters and a control, two seeds."""
    common: dict[str, Any] = {
        "dataset": EVIL, "preset": EVIL, "compressor": f"brecq{EVIL}", "compressor_method": f"brecq{EVIL}",
        "curves": {EVIL: [(0, 1.0), (1, 0.5)], f"{EVIL}/{EVIL}": [(0, 1.0)]}, "protocol": {EVIL: 4, "weight": 4},
        "report": {EVIL: {EVIL: EVIL}, "layers": [{"layer": EVIL, "kind": EVIL, "weight_bits": 4, "input_bits": 4}]},
        "provenance": {EVIL: EVIL}, "audit": [{"what": EVIL}], "membership": EVIL, "access": EVIL,
        "source_params": {EVIL: EVIL}, "metrics": {EVIL: 3.0},
    }  # fmt: skip
    for target in (f"a{EVIL}", f"b{EVIL}"):
        for source, model, control in ((f"x{EVIL}", EVIL, "none"), (f"y{EVIL}", "", "none"), (f"z{EVIL}", "", "upper")):
            for seed in (0, 1):
                label = {"setting_label": f"W4A4{EVIL}", "setting": {"weight_bits": 4, "act_bits": 4}}
                names = {"target": target, "source": source, "source_method": source, "model": model}
                item = record(0.5 + 0.1 * (control == "none"), seed=seed, control=control, **names, **label, **common)
                alone.write(stored([item])[0])
    failed = record(None, source=f"w{EVIL}", target=f"a{EVIL}", reason=f"{EVIL}\n# x", traceback=EVIL, **common)
    alone.write(stored([failed.model_copy(update={"metrics": {}})])[0])
    (alone.root / "records" / "s@1" / f"{'c' * 16}.json").write_text("{")
    return alone


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_hostile_names_as_text(evil: RecordStore, app: Open, page: str) -> None:
    test = app(page)
    assert not test.exception
    assert "could not be drawn" not in shown(test)
    for text in markdown(test):
        assert PICTURE not in text, text
        assert "<img" not in text.replace("\\<", ""), text
        assert "\x1b" not in text, text
    for element in test.get("html"):
        harmless(element.proto.body)
    for text in figures(test):
        assert "<img" not in text, text
        assert "<b>b</b>" not in text, text
        assert "\x1b" not in text, text


@pytest.mark.parametrize("page", PAGES)
def test_an_address_is_a_choice_among_what_is_offered(evil: RecordStore, app: Open, page: str) -> None:
    keys = ("suite", "preset", "dataset", "target", "compressor", "setting", "cell", "a", "row", "minutes", "along")
    test = app(page, **dict.fromkeys(keys, PICTURE))
    assert not test.exception
    assert not any(PICTURE in text for text in markdown(test))
    for element in test.get("html"):
        harmless(element.proto.body)


def test_the_report_shows_hostile_names_as_text(evil: RecordStore) -> None:
    records = evil.all()
    part = _part("s", records, Path("store"), given=False)
    verdict = Verdict(**{**_verdict(), "says": EVIL, "remarks": (EVIL,), "deciding": EVIL})
    page = build([part.__class__(**{**part.__dict__, "verdicts": (verdict,), "title": EVIL, "reproduces": EVIL})])
    head, _, rest = page.partition("<body>")
    body = re.sub(r"<script>.*?</script>", "", rest, flags=re.DOTALL)
    data = re.findall(r'<script type="application/json">(.*?)</script>', body, flags=re.DOTALL)
    harmless(re.sub(r"<script.*?</script>", "", body, flags=re.DOTALL))
    assert data
    for text in (text for figure in data for text in strings(json.loads(figure))):
        assert "<img" not in text
        assert "\x1b" not in text
    assert "default-src 'none'" in head


def _verdict() -> dict[str, Any]:
    return {
        "says": "x", "verdict": "open", "difference": 0.5, "low": -1.0, "high": 2.0, "level": 0.95, "margin": 0.0,
        "pairs": 2, "seeds": 2, "images": 100,
    }  # fmt: skip
