"""A data set that is a folder of arrays: what was written is read, and what is damaged is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.data.places import files_of, open_split
from bench.data.table import digest, has_own_accuracy, measured_on_test, resized, spec_of
from bench.data.tensors import FACTS, IMAGES, LABELS, Facts, write_tensors
from bench.errors import DataError

FACTS_OF = Facts(3, (1, 8, 8), (0.2,), (0.3,), "fashion_mnist", "some", "given")
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8)).astype(np.uint8)
CLASS = np.array([0, 1, 2, 2, 1, 0])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    name = write_tensors(tmp_path / "a", PIXELS, CLASS, FACTS_OF)
    spec, split = spec_of(name), open_split(name, "test")
    assert (spec.name, spec.classes, spec.shape, spec.mean, spec.std) == (name, 3, (1, 8, 8), (0.2,), (0.3,))
    assert split.labels.tolist() == CLASS.tolist()
    assert np.array_equal(split.read(np.array([4, 0])), PIXELS[[4, 0]])
    assert measured_on_test(name) == "fashion_mnist"
    assert len(open_split(name, "train").labels) == len(open_split("fashion_mnist", "train").labels)
    assert not has_own_accuracy(name)
    assert resized(name, 64) is None
    assert (tmp_path / "a") in files_of(name)


def test_labels_are_part_of_its_identity(tmp_path: Path) -> None:
    one = write_tensors(tmp_path / "a", PIXELS, CLASS, FACTS_OF)
    other = write_tensors(tmp_path / "b", PIXELS, CLASS[::-1].copy() * 0, FACTS_OF)
    assert digest(one, "test") != digest(other, "test")


def test_a_network_from_outside_has_no_training_images_here(tmp_path: Path) -> None:
    name = write_tensors(tmp_path / "a", PIXELS, CLASS, Facts(3, (1, 8, 8), (0.2,), (0.3,), "", "some", "given"))
    assert measured_on_test(name) == name
    with pytest.raises(DataError, match="test images alone"):
        open_split(name, "train")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / FACTS).write_text("{"),
        lambda folder: (folder / FACTS).write_text(json.dumps({"classes": 3})),
        lambda folder: (folder / FACTS).unlink(),
        lambda folder: (folder / IMAGES).write_bytes(b"no image"),
        lambda folder: (folder / IMAGES).unlink(),
        lambda folder: (folder / LABELS).write_bytes(CLASS[:3].tobytes()),
        lambda folder: (folder / LABELS).write_bytes((CLASS + 1).tobytes()),
        lambda folder: (folder / LABELS).write_bytes((CLASS - 1).tobytes()),
        lambda folder: (folder / LABELS).write_bytes(b""),
        lambda folder: (folder / LABELS).write_bytes(b"cut"),
    ],
)
def test_a_damaged_one_is_said(tmp_path: Path, spoil) -> None:  # type: ignore[no-untyped-def]
    name = write_tensors(tmp_path / "a", PIXELS, CLASS, FACTS_OF)
    spoil(tmp_path / "a")
    with pytest.raises(DataError, match=r"damaged|not here"):
        open_split(name, "test")
