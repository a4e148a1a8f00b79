"""Badges: valid SVG that says the rung, whatever the texts hold; and the commands that write them."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.board.index.ladder import Rung
from bench.cli import app as cli
from bench.submit.badge import COLOURS, DOUBTED, badge
from bench.submit.package import Submission

SVG = "{http://www.w3.org/2000/svg}"


def parts(text: str) -> tuple[str, list[str], list[str]]:
    """Title, texts and fills."""
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert {node.tag.removeprefix(SVG) for node in root.iter()} == {"svg", "title", "rect", "g", "text"}
    shown = [str(node.text) for node in root.iter(f"{SVG}text")]
    fills = [str(node.get("fill")) for node in root.iter(f"{SVG}rect")]
    return str(root.findtext(f"{SVG}title")), shown, fills


@pytest.mark.parametrize(
    ("rung", "words", "colour"),
    [
        (Rung(False), "claimed", COLOURS["claimed"]),
        (Rung(True), "self reported", COLOURS["self_reported"]),
        (Rung(True, 3), "reproduced ×3", COLOURS["reproduced"]),
        (Rung(True, 3, 1), "reproduced ×3, outside ×1", DOUBTED),
        (Rung(True, 0, 2), "self reported, outside ×2", DOUBTED),
    ],
)
def test_what_it_says(rung: Rung, words: str, colour: str) -> None:
    title, shown, fills = parts(badge(rung, ["mine@1"]))
    assert shown == ["datafree-bench", words]
    assert fills[1] == colour
    assert title == f"datafree-bench: {words} · mine@1"


def test_nothing_of_it_is_markup() -> None:
    title, _, _ = parts(badge(Rung(True), ['<script>"&\x1b[31m']))
    assert title.endswith('<script>"&\\u001b[31m')


def test_it_is_wide_enough_for_its_text() -> None:
    narrow, wide = (ElementTree.fromstring(badge(rung)) for rung in (Rung(False), Rung(True, 12, 34)))
    assert int(str(wide.get("width"))) > int(str(narrow.get("width")))
    for root in (narrow, wide):
        label, message = root.iter(f"{SVG}rect")
        assert int(str(root.get("width"))) == int(str(label.get("width"))) + int(str(message.get("width")))


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_of_a_submission(made: tuple[Path, Submission], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "badge", str(made[0]), "--out", str(tmp_path / "b.svg")) == 0
    title, shown, _ = parts((tmp_path / "b.svg").read_text())
    assert shown[1] == "self reported"
    assert made[1].digest[:12] in title


def test_of_printed_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "badge", "mixmix/T7", "--out", str(tmp_path / "b.svg")) == 0
    title, shown, _ = parts((tmp_path / "b.svg").read_text())
    assert shown[1] == "claimed"
    assert "best-on-test" in title
    assert "verified implementation: 0 of" in title


def test_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "badge", "nowhere.json.xz", "--out", str(tmp_path / "b.svg")) == 2
    assert "neither a file nor printed numbers" in capsys.readouterr().err
    assert not (tmp_path / "b.svg").exists()
