"""``--only``: and, or, patterns, labels with commas, and errors with the nearest name."""

from __future__ import annotations

import pytest

from bench.errors import SuiteError
from bench.spec.select import check_selection, own_labels, parse_only

AXES = ("source", "target", "seed")
ROWS = [
    {"source": (label, label.partition("(")[0]), "target": (target,), "seed": (seed,)}
    for label in ("kw", "mixmix", "mixmix(mix=1, zoo=[a, b])")
    for target in ("resnet18", "mobilenet")
    for seed in ("0", "1")
]


def chosen(text: str) -> list[tuple[str, str, str]]:
    selection, rows = parse_only(text, AXES), own_labels(ROWS)
    check_selection(selection, rows)
    return [(row["source"][0], row["target"][0], row["seed"][0]) for row in rows if selection.accepts(row)]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("source=kw", 4),
        ("source=kw,seed=1", 2),
        ("source=kw|mixmix, target=res*", 4),
        ("source=mixmix", 4),
        ("source=mixmix*", 8),
        ("source=mixmix(mix=1, zoo=[a, b])", 4),
        ("source=mixmix(*", 4),
        ("seed=0|1", 12),
        ("target=*", 12),
    ],
)
def test_selects(text: str, count: int) -> None:
    assert len(chosen(text)) == count


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sourc=kw", ["no such axis", "did you mean: source"]),
        ("source=kv", ["matches no source", "did you mean: kw"]),
        ("source=kw|mixmux", ["mixmux", "did you mean: mixmix"]),
        ("source", ["AXIS=VALUE"]),
        ("source=", ["AXIS=VALUE"]),
        ("", ["AXIS=VALUE"]),
        ("source=kw,", ["AXIS=VALUE"]),
        ("source=kw,source=mixmix", ["given twice", "A|B"]),
        ("seed=7", ["matches no seed", "0, 1"]),
    ],
)
def test_bad_expressions(text: str, words: list[str]) -> None:
    with pytest.raises(SuiteError) as caught:
        chosen(text)
    for word in ["--only", *words]:
        assert word in str(caught.value)


def test_nothing_matches_all_of_it() -> None:
    selection = parse_only("source=kw,target=mobilenet", AXES)
    rows = [row for row in ROWS if row["source"][0] != "kw" or row["target"][0] != "mobilenet"]
    with pytest.raises(SuiteError, match="selects nothing"):
        check_selection(selection, rows)


def test_a_methods_name_means_its_rows_where_none_is_called_so() -> None:
    rows = own_labels([row for row in ROWS if row["source"][0] != "mixmix"])
    selection = parse_only("source=mixmix", AXES)
    assert {row["source"][0] for row in rows if selection.accepts(row)} == {"mixmix(mix=1, zoo=[a, b])"}
