"""The difference of two rows: as claims have it, in either direction, and only where there is one."""

from __future__ import annotations

import pytest

from bench.board.claims.difference import Difference, difference
from bench.board.claims.judging import judge
from bench.board.index.rows import Row, make_rows
from bench.store.records import ResultRecord

from .make import paired_rows, record


def rows(means: list[float], seeds: int, **second: object) -> tuple[list[ResultRecord], Row, Row]:
    both = paired_rows(means, seeds, images=1000)
    records = [record(bits, seed=seed, source="one") for seed, bits in both[0].items()]
    records += [record(bits, seed=seed, **{"source": "two", **second}) for seed, bits in both[1].items()]
    first, other = make_rows(records)
    return records, first, other


@pytest.mark.parametrize(("means", "seeds"), [([0.8, 0.6], 3), ([0.8, 0.8], 3), ([0.6, 0.8], 4), ([0.8, 0.6], 1)])
def test_it_is_what_a_claim_of_the_two_says(means: list[float], seeds: int) -> None:
    records, first, other = rows(means, seeds)
    found = difference(first, other)
    claim = {"says": "one beats two", "better": {"source": "one"}, "worse": {"source": "two"}}
    (wanted,) = judge([claim], records)
    assert isinstance(found, Difference)
    assert found.verdict == wanted.verdict
    assert (found.estimate, *found.interval) == pytest.approx((wanted.difference, wanted.low, wanted.high))
    assert found.interval.low < found.estimate < found.interval.high


def test_the_other_way_round_it_has_the_other_sign() -> None:
    _, first, other = rows([0.8, 0.6], 3)
    one, two = difference(first, other), difference(other, first)
    assert isinstance(one, Difference)
    assert isinstance(two, Difference)
    assert (two.estimate, two.interval.low) == pytest.approx((-one.estimate, -one.interval.high))
    assert (one.verdict, two.verdict) == ("supported", "refuted")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"target": "vgg_w8"}, "different networks"),
        ({"test_digest": "t2"}, "different images"),
        ({"correct": None}, "not at hand"),
    ],
)
def test_where_there_is_none_it_says_why(fields: dict[str, object], said: str) -> None:
    _, first, other = rows([0.8, 0.6], 3, **{key: value for key, value in fields.items() if key != "correct"})
    if "correct" in fields:
        other = make_rows([record(None, source="two", test_digest="t1", test_count=1000)])[0]
    assert said in str(difference(first, other))
