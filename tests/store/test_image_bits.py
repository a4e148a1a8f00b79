"""Bits per image in a record: packed exactly, read back, and refused when they contradict the record."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.store.image_bits import ImageBits, check_image_bits, outside, pack_floats, unpack_floats
from bench.store.record_store import RecordStore
from bench.store.records import DamagedRecord, ResultRecord, parse_record

Make = Callable[..., ResultRecord]
COUNT = 999
VALUES = np.random.default_rng(3).choice([1.0, 1.25, 2.0], COUNT)
HARD = np.random.default_rng(4).random(COUNT)


def bits(values: np.ndarray = VALUES, **changes: Any) -> ImageBits:
    """Of layers of 0.25e9 MACs x 1 bit whose inputs have 2 to 6 bits, beside 0.5e9 bit operations that never change."""
    fields: dict[str, Any] = {"bitops_g": pack_floats(values), "difficulty": pack_floats(HARD), "least_g": 1.0}
    fields |= {"most_g": 2.0, "fixed_g": 0.5, "unit_g": 0.25, "squared": False}
    return ImageBits(**fields | changes)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=50))
def test_floats_read_back_to_the_last_bit(values: list[float]) -> None:
    found = unpack_floats(pack_floats(np.array(values, dtype=np.float64)), len(values))
    assert found.tobytes() == np.array(values, dtype=np.float64).tobytes()


def test_a_list_is_shorter_than_its_floats() -> None:
    """2 bits of information a value, which zlib's codes cannot reach, but a byte is enough."""
    assert len(base64.b64decode(pack_floats(VALUES))) < COUNT


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [1e39], [[1.0]]])
def test_what_is_no_list_of_finite_floats_is_not_packed(values: list[Any]) -> None:
    with pytest.raises(ValueError, match="no list of finite numbers"):
        pack_floats(np.array(values))


def test_a_list_of_another_length_or_with_holes_is_refused() -> None:
    text = pack_floats(VALUES)
    for count in (COUNT - 1, COUNT + 1, -1):
        with pytest.raises(ValueError):
            unpack_floats(text, count)
    hole = base64.b64encode(zlib.compress(np.array([np.nan], "<f4").view(np.uint8).tobytes())).decode()
    with pytest.raises(ValueError, match="not finite"):
        unpack_floats(hole, 1)


def test_bits_follow_from_bit_operations() -> None:
    found = bits()
    assert found.between == (2.0, 6.0)
    assert list(found.bits_of(np.array([1.0, 1.25, 2.0]))) == [2.0, 3.0, 6.0]
    # weights, too, of 2 to 4 bits: 0.25e9 MACs at b x b bits
    both = bits(least_g=1.5, most_g=4.5, squared=True)
    assert both.between == (2.0, 4.0)
    assert not found.constant
    assert bits(most_g=1.0).constant


def test_what_lies_outside_is_named() -> None:
    assert outside(np.array([1.0, 2.0]), 1.0, 2.0) == ""
    assert "image 1: 2.1, not within 1 and 2 (1 such" in outside(np.array([1.0, 2.1]), 1.0, 2.0)
    assert "image 0: nan" in outside(np.array([np.nan, 2.0]), 1.0, 2.0)


def recorded(make: Make, **changes: Any) -> ResultRecord:
    found = make()
    mean = float(np.float32(VALUES).astype(np.float64).mean())
    return found.model_copy(update={"metrics": found.metrics | {"bitops_g": mean}, "image_bits": bits(**changes)})


def test_a_record_reads_back_with_its_images(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path)
    record = recorded(make_record)
    store.write(record)
    assert store.get(record.suite, record.suite_version, record.cell_id) == record


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"values": VALUES[:-1]}, "998 images, 999"),
        ({"values": VALUES + 0.01}, "not within 1 and 2"),
        ({"values": np.full(COUNT, 1.25)}, "its images say 1.25"),
        ({"difficulty": pack_floats(HARD[:5])}, "5 images, 999"),
        ({"difficulty": "?"}, ""),
    ],
)
def test_a_record_that_contradicts_its_images_is_refused(make_record: Make, changes: dict[str, Any], said: str) -> None:
    raw = recorded(make_record, **changes).model_dump(mode="json")
    with pytest.raises(DamagedRecord) as caught:
        parse_record(raw, "x")
    assert said in str(caught.value)


def test_no_mean_is_a_contradiction() -> None:
    with pytest.raises(ValueError, match="bitops_g None"):
        check_image_bits(bits(), None, COUNT)


def test_schema_3_knew_no_bits_per_image(make_record: Make) -> None:
    before = make_record()
    raw = before.model_dump(mode="json", exclude={"image_bits"})
    assert parse_record({**raw, "schema_version": 3}, "x") == before
