"""Numbers and words of a suite mean what they look like: what YAML 1.1 reads otherwise is refused with its place."""

from __future__ import annotations

from typing import Any

import pytest

from bench.errors import SuiteError
from bench.spec.origin import read_yaml
from bench.spec.overrides import parse_override


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("032", 26), ("1_000", 1000), ("0x20", 32), ("0b11", 3), ("00", 0), ("-012", -10), ("1:30", 90),
        ("1:30.5", 90.5), ("1_0.5", 10.5), (".inf", "inf"), ("-.inf", "-inf"), (".nan", "nan"), ("1e999", "inf"),
        ("!!int 032", 26),
    ],
)  # fmt: skip
def test_a_number_that_yaml_reads_as_another_is_refused(text: str, value: Any) -> None:
    with pytest.raises(SuiteError) as caught:
        read_yaml(f"grid:\n  images: [1, {text}]\n", "mine.yaml")
    said = str(caught.value)
    assert said.startswith(f"mine.yaml:2: grid.images[1]: YAML reads this as the number {value}\n")
    assert f"got: {text.split()[-1]}\n" in said
    with pytest.raises(SuiteError, match="--set images"):
        parse_override(f"images={text}")


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "Yes", "NO", "On", "OFF"])
def test_a_word_that_yaml_reads_as_true_or_false_is_refused(word: str) -> None:
    with pytest.raises(SuiteError, match=r"mine\.yaml:1: suite: YAML reads this word as (true|false)") as caught:
        read_yaml(f"suite: {word}", "mine.yaml")
    assert f'"{word}"' in str(caught.value)
    assert read_yaml(f'suite: "{word}"', "mine.yaml")[0] == {"suite": word}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("32", 32), ("0", 0), ("-5", -5), ("+3", 3), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1.5e-3", 0.0015),
        ("1e-3", 0.001), ("4E5", 4e5), ("true", True), ("False", False), ("~", None), ("e5", "e5"), ("y", "y"),
        ("08", "08"), ("0o17", "0o17"), ("W4A4", "W4A4"), ("'032'", "032"), ('"0x20"', "0x20"), ("1.2.3", "1.2.3"),
        ("2026-01-01", "2026-01-01"), ("'1e-3'", "1e-3"),
    ],
)  # fmt: skip
def test_all_else_is_what_it_looks_like(text: str, value: Any) -> None:
    (got,) = read_yaml(f"key: {text}", "mine.yaml")[0].values()
    assert got == value
    assert type(got) is type(value)
