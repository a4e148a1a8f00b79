"""A policy that somebody wrote down."""

from __future__ import annotations

import pytest

from bench.errors import BenchError, SuiteError
from bench.spec.registry import Registry, resolve_params
from tests.policies.asking import ask
from tests.policies.test_space import Block

LAYERS = {"one": [2, 4], "two": [3, 3], "point": [8, 6], "down": [4, 4]}


def test_it_is_taken_as_it_stands() -> None:
    found = ask("bits_file", Block(), layers=LAYERS).policy
    assert found.to_json() == LAYERS


def test_without_layers_it_is_the_setting() -> None:
    assert {tuple(pair) for pair in ask("bits_file", Block()).policy.values()} == {(3, 3)}


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({**LAYERS, "tow": [2, 2]}, ["does not have", "tow", "two"]),
        ({name: bits for name, bits in LAYERS.items() if name != "point"}, ["misses a layer", "point"]),
    ],
)
def test_layers_that_are_not_the_networks(layers: dict[str, list[int]], words: list[str]) -> None:
    with pytest.raises(BenchError) as caught:
        ask("bits_file", Block(), layers=layers)
    assert all(word in str(caught.value) for word in words)


def test_bits_that_do_not_exist_are_refused_before_anything_runs() -> None:
    with pytest.raises(SuiteError, match=r"2 to 8, or 32"):
        resolve_params(Registry("policies").get("bits_file"), "mini", {"layers": {"one": [1, 4]}})
