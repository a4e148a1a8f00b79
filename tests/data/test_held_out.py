"""Data sets for tuning: which training images stand for the test set, and that no split shows a test image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data.datasets import get_dataset
from bench.data.places import open_split
from bench.data.splits import HELD_OUT_SHARE, ArraySplit, PartSplit, held_out
from bench.data.table import spec_of
from bench.errors import DataError

CLASSES = 3


@given(counts=st.lists(st.integers(HELD_OUT_SHARE, 40), min_size=CLASSES, max_size=CLASSES), seed=st.integers(0, 2**16))
def test_the_last_fifth_of_each_class_is_held_out(counts: list[int], seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(CLASSES), counts))
    kept, held = held_out(labels, CLASSES)
    for places in (kept, held):
        assert (np.diff(places) > 0).all()
    assert sorted([*kept, *held]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        own = np.flatnonzero(labels == label)
        assert held[labels[held] == label].tolist() == own[count - count // 5 :].tolist()


def test_a_class_of_four_images_is_too_small() -> None:
    with pytest.raises(DataError, match="too few images to hold one out") as raised:
        held_out(np.array([0] * 9 + [1] * 4), 2)
    assert raised.value.got == 4
    with pytest.raises(DataError, match="too few images"):
        held_out(np.zeros(9, dtype=np.int64), 2)  # nothing at all of the other class


def test_a_part_is_the_split_of_its_images() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 1, 4, 4), dtype=np.uint8), rng.integers(0, 3, 12)
    places = np.array([7, 2, 11, 5])
    part, direct = PartSplit(ArraySplit(images, labels), places), ArraySplit(images[places], labels[places])
    assert part.labels.tolist() == direct.labels.tolist()
    for picks in (np.array([0, 1, 2, 3]), np.array([3, 0]), np.array([], dtype=np.int64)):
        assert np.array_equal(part.read(picks), direct.read(picks))
        assert part.digest(picks) == direct.digest(picks)
    assert part.digest() == direct.digest() != ArraySplit(images, labels).digest()


def test_both_parts_are_training_images_and_no_class_weighs_more() -> None:
    base, data = get_dataset("fashion_mnist"), get_dataset("fashion_mnist+held_out")
    whole, kept, held = base.train(), data.train(), data.test()
    assert np.bincount(held.labels).tolist() == [200] * 10
    assert np.bincount(kept.labels).tolist() == [800] * 10
    parts = held_out(whole.labels, 10)
    for split, places in zip((kept, held), parts, strict=True):
        assert np.array_equal(split.read(np.arange(50)), whole.read(places[:50]))
    assert {data.test_digest(), data.train_digest()}.isdisjoint({base.test_digest(), base.train_digest()})
    assert data.spec.mean == base.spec.mean


def test_there_is_no_complete_training_set() -> None:
    with pytest.raises(DataError, match="has no complete training set") as raised:
        get_dataset("fashion_mnist+held_out").full_train()
    assert "training images that sources draw from" in str(raised.value.hint)


def test_a_folder_is_held_out_of_as_well(cache: Path, image_folder: Callable[..., Path]) -> None:
    root = image_folder(("train", "test"), ("cat", "dog"), 7, (32, 32))
    name = f"imagefolder:{root}@32"
    data, whole = get_dataset(f"{name}+held_out"), open_split(name, "train")
    assert data.spec.class_names == ("cat", "dog")
    assert data.test().labels.tolist() == [0, 1]  # the last of seven, by name
    assert np.array_equal(data.test().read(np.arange(2)), whole.read(np.array([6, 13])))
    assert np.array_equal(data.train().read(np.arange(12)), whole.read(np.array([*range(6), *range(7, 13)])))


@pytest.mark.parametrize("name", ["fashion_mnist+held_out+held_out", "imagefolder:nowhere@32+held_out+held_out"])
def test_images_are_held_out_once(name: str) -> None:
    for ask in (spec_of, get_dataset, lambda asked: open_split(asked, "test")):
        with pytest.raises(DataError, match="held out once") as raised:
            ask(name)
        assert raised.value.nearest == name.removesuffix("+held_out")
