"""On which images candidates are compared, and that no label is seen where none is to be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.advise import exam
from bench.advise.exam import Asked, choose, paired
from bench.advise.network import find
from bench.data.datasets import get_dataset
from bench.data.places import open_split
from bench.data.table import spec_of
from bench.errors import BenchError, DataError
from bench.run.fp import fp_result
from bench.spec.catalogue import ShippedCatalogue

from .conftest import CLASSES, SIDE, bench_at, registered, write_images


@given(st.integers(0, 5000), st.integers(0, 3000))
def test_a_part_keeps_each_image_in_its_half(count: int, most: int) -> None:
    picks = paired(count, most)
    assert len(picks) <= min(count, most)
    assert len(picks) >= min(count, most) - 1
    assert len(set(picks.tolist())) == len(picks)
    assert all(place % 2 == index % 2 for index, place in enumerate(picks.tolist()))
    assert not len(picks) or picks.max() < count


def test_a_labelled_data_set_is_accuracy_on_its_own_labels(place: Path) -> None:
    network = registered(place / "data")
    found = choose(Asked(), network, place / "out", bench_at(place / "store"))
    assert (found.kind, found.proxy) == ("accuracy", None)
    assert found.full == network.owner
    assert open_split(found.small, "test").labels.tolist() == open_split(network.owner, "test").labels.tolist()


def test_blind_the_right_answers_are_the_float_networks_own(place: Path) -> None:
    network, bench = registered(place / "data"), bench_at(place / "store")
    found = choose(Asked(blind=True), network, place / "out", bench)
    assert (found.kind, found.small, found.proxy) == ("agreement", found.full, "unlabelled")
    split = open_split(found.full, "test")
    images = torch.from_numpy(split.read(np.arange(len(split.labels)))).float() / 255
    model = bench.model(network.name)
    with torch.no_grad():
        said = model.module((images - 0.5) / 0.25).argmax(1)
    assert said.tolist() == split.labels.tolist()
    assert fp_result(model, get_dataset(found.full), None, place / "store", "cpu").top1 == 100


def test_blind_no_label_of_the_data_set_comes_through(place: Path) -> None:
    """The same images in other class folders give the same exam."""
    network, bench = registered(place / "data"), bench_at(place / "store")
    first = choose(Asked(blind=True), network, place / "out", bench)
    files = sorted((place / "data" / "test").rglob("*.png"))
    every = place / "every"
    every.mkdir()
    for index, file in enumerate(files):
        shutil.copy(file, every / f"{index:04d}.png")
    again = choose(Asked(images=every), network, place / "other", bench)
    assert Path(first.full).name == Path(again.full).name  # named by content


def test_a_gathered_set_is_not_held_against_the_registered_accuracy(place: Path) -> None:
    network = registered(place / "data")
    model, bench = bench_at(place / "store").model(network.name), bench_at(place / "store")
    found = choose(Asked(blind=True), network, place / "out", bench)
    fp_result(model, get_dataset(found.full), None, place / "store", "cpu").check(model, found.full)


def test_with_nothing_at_hand_foreign_images_are_made(place: Path) -> None:
    registered(place / "data")
    shutil.rmtree(place / "data")
    network = find("own_tiny:net", None, ShippedCatalogue())
    assert (network.owner, network.shape, network.classes) == ("", (3, SIDE, SIDE), CLASSES)
    found = choose(Asked(), network, place / "out", bench_at(place / "store"))
    assert found.kind == "agreement"
    assert found.proxy in ("T1", "T3")
    assert "foreign images" in found.images
    spec = spec_of(found.full)
    assert (spec.shape, spec.classes) == ((3, SIDE, SIDE), CLASSES)
    with pytest.raises(DataError, match="test images alone"):
        open_split(found.full, "train")


def test_a_labelled_folder_of_the_users(place: Path) -> None:
    network = registered(place / "data")
    found = choose(Asked(test=place / "data" / "test"), network, place / "out", bench_at(place / "store"))
    assert found.kind == "accuracy"
    assert open_split(found.full, "test").labels.tolist() == open_split(network.owner, "test").labels.tolist()
    same = choose(Asked(test=place / "data"), network, place / "out", bench_at(place / "store"))
    assert same.full == found.full  # DIR/test/CLASS
    write_images(place / "data" / "test" / "c9", 2, seed=9)
    exam.open_folder.cache_clear()
    with pytest.raises(DataError, match="wrong number of class folders"):
        choose(Asked(test=place / "data" / "test"), network, place / "out", bench_at(place / "store"))


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (Asked(test=Path("data"), blind=True), "labels are given and not wanted"),
        (Asked(test=Path("data"), images=Path("data")), "labels are given and not wanted"),
        (Asked(images=Path("dat")), "did you mean: data"),
        (Asked(images=Path("few")), "too few images"),
        (Asked(test=Path("few")), "no class folders"),
    ],
)
def test_what_cannot_be_compared_on_is_said(place: Path, asked: Asked, what: str) -> None:
    network = registered(place / "data")
    write_images(place / "few", 3, seed=0)
    with pytest.raises(BenchError, match=what):
        choose(asked, network, place / "out", bench_at(place / "store"))


def test_an_unknown_network_names_the_nearest_and_the_command(place: Path) -> None:
    with pytest.raises(BenchError, match="resnet18_w10") as error:
        find("resnet18_w1", None, ShippedCatalogue())
    assert "bench zoo add" in str(error.value)
