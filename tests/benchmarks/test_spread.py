"""The arithmetic of the spread between instruction sets; the benchmark itself is started by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bench.store.records import ResultRecord
from tests.benchmarks.spread import SETS, cpu_seconds, equal_image_sets, spreads, table
from tests.board.make import record


def test_the_spread_between_sets_stands_beside_that_between_seeds() -> None:
    tops = {"native": (0.80, 0.84), "avx2": (0.82, 0.84)}
    measured = {name: [record(top, seed=k) for k, top in enumerate(values)] for name, values in tops.items()}
    (one,) = spreads(measured)
    assert one.name == ("resnet18_w10", "W4A4", "brecq")
    assert (one.rows, one.seeds, one.pairs) == (1, 2, 2)
    assert one.between_sets == pytest.approx(1.0)  # variances 2 and 0 points²
    assert one.between_seeds == pytest.approx(5**0.5)  # variances 8 and 2 points²
    assert one.largest == pytest.approx(2.0)
    assert one.equal == 1  # at seed 1 the same answers are right


def test_what_one_set_lacks_is_left_out() -> None:
    measured = {"native": [record(0.8), record(0.7, source="kw")], "avx2": [record(0.8), record(None, source="kw")]}
    (one,) = spreads(measured)
    assert (one.rows, one.between_sets, one.between_seeds) == (1, 0.0, None)


def test_image_sets_are_compared_by_content() -> None:
    def made(digest: str, **fields: Any) -> ResultRecord:
        return record(0.8, **fields).model_copy(update={"image_digest": digest})

    native = [made("x", synth_id="a"), made("y", synth_id="b", source="kw"), made("z", synth_id="c", source="di")]
    avx2 = [made("x", synth_id="a"), made("!", synth_id="b", source="kw")]
    assert equal_image_sets({"native": native, "avx2": avx2}) == (1, 2)


def test_image_sets_are_paid_once() -> None:
    shared = [record(0.8, compressor=name, synth_id="set") for name in ("rtn", "brecq")]
    assert cpu_seconds(shared) == 20 + 2 * (6 + 2)


def test_the_table_names_machines() -> None:
    one = record(0.8).model_copy(update={"provenance": {"aten": "AVX2", "threads": 1}})
    said = table({name: [one] for name in SETS})
    assert said.count("avx2/1t/") == 3
    assert "3 of 3" in said
