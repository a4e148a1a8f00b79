"""A sample of ImageNet as a data set: how it is cut, and how sources take images and labels where classes are many."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from bench.cli.app import app
from bench.data.access import MANY, DataAccess, balanced_order
from bench.data.datasets import get_dataset
from bench.data.places import synsets
from bench.data.sample import make_sample
from bench.data.table import seen_in_training, shows, spec_of
from bench.errors import DataError
from methods.sources._objectives import draw_labels

CLASSES = (0, 1, 2, 5, 994, 995, 999)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """One image of each of CLASSES whose brightness is the place in the list, somewhere below a folder."""
    for k, index in enumerate(CLASSES):
        folder = tmp_path / "given" / "val" / synsets()[index]
        folder.mkdir(parents=True)
        Image.new("RGB", (40, 30), (30 * k, 30 * k, 30 * k)).save(folder / f"{index}.png")
    (tmp_path / "given" / "val" / "notes.txt").write_text("no image")
    (tmp_path / "given" / "val" / "elsewhere").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "given" / "val" / "elsewhere" / "a.png")
    return tmp_path / "given"


def packed(images: Path) -> Path:
    place = images.parent / "given.tar"
    with tarfile.open(place, "w") as archive:
        archive.add(images, "sample")
    return place


@pytest.mark.parametrize("tar", [False, True])
def test_every_fifth_class_is_for_calibration(images: Path, tar: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(images.parent / "cache"))
    with pytest.raises(DataError, match="bench data sample IMAGES"):
        get_dataset("imagenet_sample").test()
    done = CliRunner().invoke(app, ["data", "sample", str(packed(images) if tar else images)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "3 images for calibration, 4 for the test" in " ".join(done.output.split())
    data = get_dataset("imagenet_sample")
    assert data.train().labels.tolist() == [0, 5, 995]
    assert data.test().labels.tolist() == [1, 2, 994, 999]
    shown = torch.from_numpy(data.test().read(torch.arange(4).numpy()))
    assert shown.shape == (4, 3, 224, 224)
    assert shown[:, 0, 0, 0].tolist() == [30 * CLASSES.index(index) for index in (1, 2, 994, 999)]
    assert get_dataset("imagenet_sample@96").spec.shape == (3, 96, 96)


def test_what_cannot_be_cut_leaves_nothing(images: Path) -> None:
    out = images.parent / "out"
    (images / "val" / synsets()[7]).mkdir()
    (images / "val" / synsets()[7] / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(DataError, match="cannot read the image"):
        make_sample(images, out)
    with pytest.raises(DataError, match="no such folder or tar"):
        make_sample(images / "nowhere.tar", out)
    (images.parent / "no.tar").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot read the archive"):
        make_sample(images.parent / "no.tar", out)
    with pytest.raises(DataError, match="no images of ImageNet's classes"):
        make_sample(images / "val" / "elsewhere", out)
    assert not [path for path in images.parent.iterdir() if path.name.startswith("out")]
    (images / "val" / synsets()[7] / "broken.jpg").unlink()
    make_sample(images, out)
    with pytest.raises(DataError, match="there already"):
        make_sample(images, out)


def test_networks_have_seen_a_sample_and_no_other_set() -> None:
    assert seen_in_training("imagenet_sample")
    assert seen_in_training("imagenet_sample@96+held_out")
    assert not any(map(seen_in_training, ("imagenet", "fashion_mnist", "imagefolder:/x@32")))
    assert shows("imagenet_sample@96") == "imagenet"
    assert spec_of("imagenet_sample").classes == 1000


def test_classes_without_images_do_not_count() -> None:
    labels = torch.tensor([4, 7, 7, 4, 9, 9, 9])
    order = balanced_order(labels, 1000, torch.Generator().manual_seed(0))
    assert [sorted(labels[part].tolist()) for part in order.split(3)] == [[4, 7, 9], [4, 7, 9]]
    assert len(balanced_order(labels[:0], 10, torch.Generator())) == 0


def test_of_many_classes_the_first_images_are_of_any() -> None:
    labels = torch.arange(200).repeat(2)
    order = balanced_order(labels, 200, torch.Generator().manual_seed(0))
    first, second = labels[order].split(200)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(200))
    assert first[:MANY].max() > 2 * MANY  # not the first classes
    few = torch.arange(MANY).repeat(2)
    assert few[balanced_order(few, MANY, torch.Generator())].tolist() == few.tolist()  # as ever


def test_a_source_reads_fewer_images_than_there_are_classes(images: Path) -> None:
    make_sample(images, images.parent / "out")
    data = get_dataset("imagenet_sample@32", images.parent / "out")
    found, labels, _ = DataAccess(data, "T5").train_images(2, torch.Generator().manual_seed(3))
    assert found.shape == (2, 3, 32, 32)
    assert set(labels.tolist()) < {0, 5, 995}


@pytest.mark.parametrize("classes", [65, 100, 128, 200, 1000])
def test_balanced_labels_of_many_classes_are_spread(classes: int) -> None:
    generator = torch.Generator()
    drawn = torch.cat([draw_labels("balanced", 16, classes, k, generator) for k in range(-(-classes // 16))])
    assert sorted(drawn[:classes].tolist()) == list(range(classes))
    first = drawn[:64].sort().values
    gaps = torch.cat([first[1:] - first[:-1], first[:1] + classes - first[-1:]])
    assert int(gaps.max()) <= 4 * classes / 64  # no part of the classes is left out


def test_balanced_labels_of_few_classes_are_in_turn() -> None:
    for classes in (10, 64):
        drawn = torch.cat([draw_labels("balanced", 7, classes, k, torch.Generator()) for k in range(20)])
        assert drawn.tolist() == [k % classes for k in range(140)]
