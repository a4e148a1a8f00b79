"""Choose: the sentence, the table behind it, limits and their address, and every state of a store."""

from __future__ import annotations

import re

import pytest

from bench.store.records import StageCost
from tests.dashboard.fixtures_pages2 import AWKWARD, Pages, check_awkward, made, measured, pages, raw_of, text_of

__all__ = ["measured", "pages"]


def _write(pages: Pages, **accuracies: float) -> None:
    """A source of two seeds for each; its image set takes as many CPU minutes as its name has letters."""
    for source, top1 in accuracies.items():
        spent = {"synthesis": StageCost(cpu_seconds=60.0 * len(source)), "compress": StageCost(cpu_seconds=1.0)}
        control = "upper" if source == "up" else "none"
        pages.write(
            [made(top1, source=source, compressor="c", seed=seed, costs=spent, control=control) for seed in (0, 1)]
        )


@pytest.mark.parametrize("name", AWKWARD)
def test_page_answers_awkward_stores(pages: Pages, name: str) -> None:
    check_awkward(pages, "choose", name)


def test_page_answers_and_shows_what_is_tied_and_the_controls(pages: Pages) -> None:
    _write(pages, best=0.85, tied=0.849, low=0.40, up=0.95)
    text = text_of(pages.open("choose"))
    assert "Use best with c at W4A4 on resnet18_w10: 85.0 %" in text
    first = text.partition("</table>")[0]
    assert re.findall(r'<tr class="(\w*)">.*?>(\w+)</a>', first) == [("best", "best"), ("", "tied"), ("control", "up")]
    assert "How sure: 2 seeds, 2,000 test images" in text


def test_a_limit_is_read_from_the_address_and_written_to_it(pages: Pages) -> None:
    _write(pages, best=0.85, x=0.80)
    app = pages.open("choose", cpu_minutes="2")
    assert "Use x with c" in text_of(app)
    app.number_input[0].set_value(None).run()
    assert "Use best with c" in text_of(app)
    assert "cpu_minutes" not in app.query_params
    app.number_input[0].set_value(0.5).run()
    assert "within these limits" in text_of(app)
    assert app.query_params["cpu_minutes"] in ("0.5", ["0.5"])


def test_bits_per_layer_are_asked_for_by_a_switch(pages: Pages) -> None:
    _write(pages, best=0.85)
    searched = {"compressor": "c", "policy": "found", "policy_method": "found", "source": "kind"}
    pages.write([made(0.9, seed=seed, **searched) for seed in (0, 1)])
    app = pages.open("choose")
    assert "Use best" in text_of(app)
    app.toggle[0].set_value(True).run()
    assert "Use kind with c, bits by found" in text_of(app)
    assert app.query_params["bits_by"] in ("layer", ["layer"])


def test_every_interval_bar_has_words(pages: Pages) -> None:
    _write(pages, best=0.85, tied=0.849)
    raw = raw_of(pages.open("choose"))
    said = re.findall(r'role="img" aria-label="([^"]+)"', raw)
    assert len(said) == raw.count('<div class="df-bar">') == 2
    assert all("95 % interval" in one for one in said)


def test_page_opens_on_the_measured_rows(measured: Pages) -> None:
    app = measured.open("choose")
    assert not app.exception
    assert [box.value for box in app.selectbox][:2] == ["mobilenetv2_w035", "W4A4"]
    assert " at W4A4 on mobilenetv2_w035: " in text_of(app)
    assert any("bench run" in code.value for code in app.code)
    assert any("bench advise" in code.value for code in app.code)
