"""Ids: pinned hashes, so that a changed rule cannot slip through, and what equals what."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.identity import canonical, cell_id, digest, seed_from, synth_id
from bench.interfaces import Setting
from bench.spec import axes
from bench.store.image_bits import ImageBits
from bench.store.image_gate import ImageGate
from bench.store.records import SCHEMA_VERSION, ResultRecord, StageCost

SYNTH: dict[str, Any] = {
    "source": "kw",
    "version": 1,
    "params": {"iterations": 400, "lr": 0.1, "clip": True},
    "model_digests": ["ab" * 32],
    "student_digest": None,
    "dataset": {"name": "toy", "classes": 10, "shape": (1, 8, 8), "mean": (0.5,), "std": (0.25,), "train": None},
    "batch_size": 32,
    "dtype": "float32",
    "seed": 0,
}
CELL: dict[str, Any] = {
    "synth": "0123456789abcdef",
    "count": 256,
    "compressor": "brecq",
    "version": 1,
    "params": {"iterations": 200},
    "setting": {"weight_bits": 4, "act_bits": 4, "first_last_bits": 8},
    "target_digest": "cd" * 32,
    "test_digest": "ef" * 32,
    "seed": 0,
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_ids_are_pinned() -> None:
    """If this fails, every stored result changes its id: bump identity.SCHEME and pin anew, or undo the change."""
    assert synth_id(**SYNTH) == "e23db3f5ac0d0132"
    assert cell_id(**CELL) == "7cf79f56e012b448"
    assert seed_from("batch", "0123456789abcdef", 3) == 7595603089691269291
    assert digest({"b": (1, 2.5), "a": None}) == "e57f5d37865437a82e1108bafb4e5213dfe7e9085f5c253341ebbab30cac5faf"


def test_record_schema_is_pinned() -> None:
    """If this fails, the record's schema changed: bump SCHEMA_VERSION, add a migration, and pin anew."""
    models = (ResultRecord, StageCost, ImageGate, ImageBits)
    fields = [name for model in models for name in ("|", *model.model_fields)][1:]
    assert (SCHEMA_VERSION, digest(fields)[:16]) == (4, "796845e86d3882e3")


def test_what_is_hashed_of_a_setting_is_pinned() -> None:
    """A new axis must not be hashed where nothing is asked on it, or it changes every cell's id."""
    plain = {"weight_bits": 32, "act_bits": 32, "first_last_bits": 8}
    assert axes.identity(Setting()) == axes.identity(Setting(32, 32)) == plain
    assert axes.identity(Setting(4, 4)) == {"weight_bits": 4, "act_bits": 4, "first_last_bits": 8}
    assert axes.identity(Setting(sparsity=0.5, student="a/b"))["sparsity"] == 0.5
    assert axes.identity(Setting(sparsity=0.5, student="a/b"))["student"] == "a/b"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source", "dream"),
        ("version", 2),
        ("params", {"iterations": 401, "lr": 0.1, "clip": True}),
        ("model_digests", ["ab" * 32, "ac" * 32]),
        ("student_digest", "aa" * 32),
        ("dataset", {**SYNTH["dataset"], "mean": (0.4,)}),
        ("batch_size", 33),
        ("dtype", "bfloat16"),
        ("seed", 1),
    ],
)
def test_each_part_of_a_synthesis_counts(key: str, value: Any) -> None:
    assert synth_id(**{**SYNTH, key: value}) != synth_id(**SYNTH)


def test_the_order_of_a_zoo_counts() -> None:
    one, other = ({**SYNTH, "model_digests": order} for order in (["a", "b"], ["b", "a"]))
    assert synth_id(**one) != synth_id(**other)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("synth", "1123456789abcdef"),
        ("count", 255),
        ("compressor", "rtn"),
        ("version", 2),
        ("params", {"iterations": 201}),
        ("setting", {"weight_bits": 2, "act_bits": 4, "first_last_bits": 8}),
        ("target_digest", "ce" * 32),
        ("test_digest", "ee" * 32),
        ("seed", 1),
        ("policy", {"conv1": 8}),
        ("measures", ("mmd",)),
        ("teacher", "ad" * 32),
    ],
)
def test_each_part_of_a_cell_counts(key: str, value: Any) -> None:
    assert cell_id(**{**CELL, key: value}) != cell_id(**CELL)


def test_the_order_of_measures_does_not_count() -> None:
    assert cell_id(**CELL, measures=("mmd", "bn_loss")) == cell_id(**CELL, measures=("bn_loss", "mmd"))


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_order_of_keys_and_kind_of_sequence_do_not_count(value: dict[str, Any]) -> None:
    turned = {key: tuple(item) if isinstance(item, list) else item for key, item in reversed(value.items())}
    assert canonical(turned) == canonical(value)


@given(JSON, JSON)
def test_equal_text_means_equal_values(one: Any, other: Any) -> None:
    if canonical(one) == canonical(other):
        assert one == other


def test_zero_has_one_sign_and_a_count_is_no_measure() -> None:
    assert canonical(-0.0) == canonical(0.0)
    assert canonical(1) != canonical(1.0)
    assert canonical(True) != canonical(1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), [float("-inf")]])
def test_no_number_that_is_not_finite(bad: Any) -> None:
    with pytest.raises(ValueError):
        canonical(bad)


@pytest.mark.parametrize("bad", [object(), b"bytes", {1: "key"}])
def test_no_value_without_a_form(bad: Any) -> None:
    with pytest.raises(TypeError):
        canonical(bad)


@given(st.text(), st.integers())
def test_seeds_fit_generators(text: str, number: int) -> None:
    assert 0 <= seed_from(text, number) < 2**63
    assert seed_from(text, number) == seed_from(text, number)
