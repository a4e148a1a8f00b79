"""The table of data sets: constants, subsets, digests, folders, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.data.datasets import SPECS, dataset_names, get_dataset
from bench.errors import DataError
from tests.data.conftest import colour_of

# These pin what every measurement on the shipped test set is measured on.
TEST_DIGEST = "f24cf301b160abd47850a2434112a8d30edf9ad82607c27a849f98e1ea756a55"
SUBSET_DIGEST = "e7b4351b02e75ab98ca6a721bead9403198bca6fa0bfb3db754c013a5ce8b349"


def test_the_test_set_is_pinned() -> None:
    data = get_dataset("fashion_mnist")
    assert data.test_digest() == TEST_DIGEST
    assert data.test_digest(2000) == SUBSET_DIGEST


def test_embedded_images_are_padded_bytes() -> None:
    images, labels = get_dataset("fashion_mnist").train()
    assert images.shape == (10_000, 1, 32, 32)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    border = torch.ones(32, 32, dtype=torch.bool)
    border[2:-2, 2:-2] = False
    assert int(images[:, :, border].max()) == 0


def test_training_and_test_images_are_disjoint() -> None:
    data = get_dataset("fashion_mnist")
    train = {bytes(i.numpy().tobytes()) for i in data.train()[0]}
    test = {bytes(i.numpy().tobytes()) for i in data.test()[0]}
    assert not train & test
    assert data.train_digest() != data.test_digest()


@pytest.mark.parametrize("name", ["fashion_mnist", "digits"])
def test_constants_are_those_of_the_training_images(name: str) -> None:
    data = get_dataset(name)
    pixels = data.train()[0].double() / 255
    assert abs(float(pixels.mean()) - data.spec.mean[0]) < 0.005
    assert abs(float(pixels.std()) - data.spec.std[0]) < 0.005
    assert tuple(pixels.shape[1:]) == data.spec.shape


@pytest.mark.parametrize("subset", [10, 500, 2000])
def test_subsets_are_balanced_fixed_and_nested(subset: int) -> None:
    data = get_dataset("fashion_mnist")
    images, labels = data.test(subset)
    assert torch.bincount(labels, minlength=10).tolist() == [subset // 10] * 10
    assert torch.equal(images, data.test(subset)[0])
    larger = {i.numpy().tobytes() for i in data.test(subset * 2)[0]}
    assert all(i.numpy().tobytes() in larger for i in images)
    assert data.test_digest(subset) != data.test_digest(subset * 2)


@pytest.mark.parametrize("subset", [-10, 0, 7, 1005, 10_010])
def test_impossible_subsets_say_what_is_allowed(subset: int) -> None:
    with pytest.raises(DataError, match="multiple of 10 up to 10000"):
        get_dataset("fashion_mnist").test(subset)


def test_normalise_and_denormalise_are_inverse() -> None:
    for name in ("fashion_mnist", "cifar10"):
        data = get_dataset(name)
        images = torch.randint(0, 256, (4, *data.spec.shape), generator=torch.Generator().manual_seed(0))
        space = data.normalise(images.to(torch.uint8))
        assert space.dtype == torch.float32
        expected = (images[:, 0] / 255 - data.spec.mean[0]) / data.spec.std[0]
        assert torch.allclose(space[:, 0], expected, atol=1e-5)
        assert torch.equal((data.denormalise(space) * 255).round().long(), images)
        assert float(data.denormalise(space * 100).max()) <= 1.0


def test_unknown_names_come_with_the_nearest() -> None:
    with pytest.raises(DataError, match="fashion_mnist") as caught:
        get_dataset("fashion-mnist")
    assert caught.value.nearest == "fashion_mnist"
    assert {*SPECS, "imagefolder:PATH[@SIZE]"} == set(dataset_names())


def test_the_full_set_is_asked_for_by_name(cache: Path) -> None:
    with pytest.raises(DataError, match="bench data fetch fashion_mnist"):
        get_dataset("fashion_mnist").full_train()


def test_the_full_set_comes_from_the_named_folder(cache: Path, idx_folder: Path) -> None:
    images, labels = get_dataset("fashion_mnist", idx_folder).full_train()
    assert images.shape == (60, 1, 32, 32)
    assert torch.bincount(labels).tolist() == [6] * 10


@pytest.mark.parametrize(("name", "hint"), [("cifar10", "bench data fetch cifar10"), ("imagenet", "val/CLASS")])
def test_missing_folders_are_named(cache: Path, name: str, hint: str) -> None:
    with pytest.raises(DataError, match=hint) as caught:
        get_dataset(name).test()
    assert str(cache / name) in str(caught.value)


def test_cifar_from_an_image_folder_keeps_the_published_class_order(
    cache: Path, image_folder: Callable[..., Path]
) -> None:
    names = SPECS["cifar10"].class_names
    root = image_folder(("train", "test"), names, 3, (32, 32))
    data = get_dataset("cifar10", root)
    images, labels = data.test()
    assert images.shape == (30, 3, 32, 32)
    assert labels.tolist() == [k for k in range(10) for _ in range(3)]
    for image, label, place in zip(images, labels.tolist(), [0, 1, 2] * 10, strict=True):
        assert tuple(image[:, 5, 5].tolist()) == colour_of(label, place)
    assert torch.equal(data.train()[0], data.full_train()[0])


def test_imagenet_is_resized_and_cropped(cache: Path, image_folder: Callable[..., Path]) -> None:
    root = image_folder(("val",), ("n01440764", "n01484850"), 2, (300, 400))
    images, labels = get_dataset("imagenet", root).test()
    assert images.shape == (4, 3, 224, 224)
    assert labels.tolist() == [0, 0, 2, 2]  # n01443537 is not there, and shifts nobody's label


def test_any_image_folder_has_its_own_classes(cache: Path, image_folder: Callable[..., Path]) -> None:
    root = image_folder(("train", "test"), ("cat", "dog"), 2, (40, 50))
    data = get_dataset(f"imagefolder:{root}")
    assert data.spec.class_names == ("cat", "dog")
    assert data.spec.shape == (3, 32, 32)
    assert data.train()[0].shape == (4, 3, 32, 32)
    assert get_dataset(f"imagefolder:{root}@48").test()[0].shape == (4, 3, 48, 48)
    with pytest.raises(DataError, match="SIZE from 8"):
        get_dataset(f"imagefolder:{root}@4")
    (root / "test" / "dog").rename(root / "test" / "dogg")
    with pytest.raises(DataError, match="none of the data set's classes") as caught:
        get_dataset(f"imagefolder:{root}").test()
    assert caught.value.nearest == "dog"
    with pytest.raises(DataError, match="no image folder here"):
        get_dataset(f"imagefolder:{root / 'nowhere'}")


def test_an_unreadable_image_is_named(cache: Path, image_folder: Callable[..., Path]) -> None:
    root = image_folder(("train", "test"), ("cat", "dog"), 2, (32, 32))
    broken = root / "test" / "cat" / "000.png"
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot read the image") as caught:
        get_dataset(f"imagefolder:{root}").test()
    assert str(broken) in str(caught.value)
