"""docs/results.md is what the measured records say now."""

from __future__ import annotations

import re

import pytest

from tests.benchmarks import results

TEXT = results.PAGE.read_text(encoding="utf-8")
MADE = dict(re.findall(r'^<a id="(\w+)"></a>\n###[^\n]*\n<!-- (\w+) -->$', TEXT, re.MULTILINE))


def test_every_measured_suite_stands_as_it_is() -> None:
    """``make results`` mends what this finds."""
    assert {suite: results.origin(suite) for suite in results.shipped()} == MADE


@pytest.mark.parametrize("suite", ["quickstart", "seam_on_edmips", "ablation_mixing_pruning"])
def test_a_part_is_what_the_command_writes(suite: str) -> None:
    """Small suites, current and stale, made anew: the page follows the board's code, too."""
    made = results.measured(suite, results.read_measured(suite=suite))
    assert made.part in TEXT
    assert made.line in TEXT
