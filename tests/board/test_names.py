"""suites/published/names.yaml: about printed names only, read safely, and the keys that follow from it."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pandas as pd
import pytest

from bench.board.tables.names import names, parse
from bench.board.tables.published import papers, published
from bench.errors import DataError

FILE = Path(__file__).parents[2] / "suites" / "published" / "names.yaml"


def test_the_names_speak_of_what_is_printed() -> None:
    """No entry of names.yaml is about a name, setting or row that no file holds."""
    whole = pd.concat([published(key) for key in papers()])
    assert [name for name in names().sources if not fnmatch.filter(set(whole["source"]), name)] == []
    settings = {part for text in whole["setting"] for part in text.split(";")}
    assert set(names().options) | set(names().compressors) <= settings
    for chosen in names().selection:
        found = published(f"{chosen.paper}/{chosen.table}")
        assert set(chosen.sources) <= set(found.loc[found["metric"] == chosen.metric, "source"])


@pytest.mark.parametrize(
    ("printed", "target", "keys"),
    [
        ("Training data", "ResNet-18", ("upper control", "")),
        ("KW", "ResNet-50", ("kw", "own")),
        ("KW-MobileNet-b", "MobileNet-b", ("kw", "own")),
        ("KW-MobileNet-b", "ResNet-18", ("kw", "mobilenetb")),
        ("Single-Model", "ResNet-18", ("kw", "own")),
        ("DeepInversion-ResNet-50", "", ("deepinversion", "resnet50")),
        ("DAFL+MixMix", "VGG11", ("daflmixmix", "own")),
        ("MixMix-mobile", "ResNet-18", ("mixmixmobile", "")),
    ],
)
def test_printed_sources_have_their_keys(printed: str, target: str, keys: tuple[str, str]) -> None:
    table = published("mixmix")
    rows = table[
        (table["source"] == printed) & (table["target_model"] == target) & ~table["setting"].str.contains("m_")
    ]
    assert len(rows)
    assert set(zip(rows["source_key"], rows["model_key"], strict=True)) == {keys}


def test_who_chose_the_epoch_on_the_test_set() -> None:
    whole = pd.concat([published(key) for key in papers()])
    chosen = whole[whole["selection"] == "best-on-test"]
    assert set(whole["selection"]) == {"last", "best-on-test"}
    assert chosen[["table", "source", "printed"]].to_dict("split")["data"] == [
        ["T7", "DAFL", "92.22"],
        ["T7", "DAFL+MixMix", "93.97"],
        ["T7", "DAFL+MixMix", "91.57"],
        ["T7", "DAFL+MixMix", "94.79"],
    ]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("selection: best-on-test", "selection: best", "selection.0.selection"),
        ("model: own}", "network: own}", "sources.KW.network"),
        ("options:", "option:", "option"),
        ("mix=1", "1", "options.m_prime=1"),
    ],
)
def test_a_damaged_file_of_names_is_refused(old: str, new: str, says: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert parse(text, "n.yaml") == names()
    assert old in text
    with pytest.raises(DataError, match=f"n.yaml: {says}"):
        parse(text.replace(old, new, 1), "n.yaml")
