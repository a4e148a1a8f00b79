"""The table of data sets: constants, subsets, digests, folders, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.data import table
from bench.data.datasets import Dataset, batch_size, get_dataset, whole
from bench.data.table import SPECS, dataset_names
from bench.errors import DataError
from tests.data.conftest import colour_of

# These pin what every measurement on the shipped test set is measured on.
TEST_DIGEST = "f24cf301b160abd47850a2434112a8d30edf9ad82607c27a849f98e1ea756a55"
SUBSET_DIGEST = "e7b4351b02e75ab98ca6a721bead9403198bca6fa0bfb3db754c013a5ce8b349"


def test_the_test_set_is_pinned() -> None:
    data = get_dataset("fashion_mnist")
    assert data.test_digest() == TEST_DIGEST
    assert data.test_digest(2000) == SUBSET_DIGEST


def all_of(data: Dataset, subset: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """All test images and labels, out of their batches."""
    images, labels = zip(*data.test_batches(subset), strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.mark.parametrize("subset", [None, 500])
def test_batches_are_the_test_set_in_its_order(subset: int | None) -> None:
    data = get_dataset("fashion_mnist")
    split = data.test()
    picks = torch.arange(10_000)
    if subset is not None:
        first = [(torch.from_numpy(split.labels) == c).nonzero().flatten()[:50] for c in range(10)]
        picks = torch.cat(first).sort().values
    images, labels = whole(split)
    sizes = {len(part) for part, _ in data.test_batches(subset)}
    assert sizes == {250}
    for size in (250, 33, 10_000):
        got = list(zip(*data.test_batches(subset, size=size), strict=True))
        assert torch.equal(torch.cat(got[0]), images[picks])
        assert torch.equal(torch.cat(got[1]), labels[picks])


def test_large_images_come_in_smaller_batches() -> None:
    assert [batch_size((3, side, side)) for side in (32, 64, 81, 224)] == [250, 250, 250, 33]
    assert batch_size((3, 32, 32), 128) == 128
    assert batch_size((3, 4000, 4000)) == 1


def test_embedded_images_are_padded_bytes() -> None:
    images, labels = whole(get_dataset("fashion_mnist").train())
    assert images.shape == (10_000, 1, 32, 32)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    border = torch.ones(32, 32, dtype=torch.bool)
    border[2:-2, 2:-2] = False
    assert int(images[:, :, border].max()) == 0


def test_training_and_test_images_are_disjoint() -> None:
    data = get_dataset("fashion_mnist")
    train = {bytes(i.numpy().tobytes()) for i in whole(data.train())[0]}
    test = {bytes(i.numpy().tobytes()) for i in all_of(data)[0]}
    assert not train & test
    assert data.train_digest() != data.test_digest()


@pytest.mark.parametrize("name", ["fashion_mnist", "digits"])
def test_constants_are_those_of_the_training_images(name: str) -> None:
    data = get_dataset(name)
    pixels = whole(data.train())[0].double() / 255
    assert abs(float(pixels.mean()) - data.spec.mean[0]) < 0.005
    assert abs(float(pixels.std()) - data.spec.std[0]) < 0.005
    assert tuple(pixels.shape[1:]) == data.spec.shape


@pytest.mark.parametrize("subset", [10, 500, 2000])
def test_subsets_are_balanced_fixed_and_nested(subset: int) -> None:
    data = get_dataset("fashion_mnist")
    images, labels = all_of(data, subset)
    assert torch.bincount(labels, minlength=10).tolist() == [subset // 10] * 10
    assert torch.equal(images, all_of(data, subset)[0])
    larger = {i.numpy().tobytes() for i in all_of(data, subset * 2)[0]}
    assert all(i.numpy().tobytes() in larger for i in images)
    assert data.test_digest(subset) != data.test_digest(subset * 2)


@pytest.mark.parametrize("subset", [-10, 0, 7, 1005, 10_010])
def test_impossible_subsets_say_what_is_allowed(subset: int) -> None:
    with pytest.raises(DataError, match="multiple of 10 up to 10000"):
        get_dataset("fashion_mnist").test_batches(subset)
    with pytest.raises(DataError, match="multiple of 10 up to 10000"):
        table.digest("fashion_mnist", "test", subset=subset)


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
    forms = {
        "imagenet@SIZE",
        "imagenet_sample@SIZE",
        "imagefolder:PATH[@SIZE]",
        "videofolder:PATH[@SIZE[xFRAMES]]",
        "NAME+held_out",
    }
    clips = {f"{name}@SIZE[xFRAMES]" for name, spec in SPECS.items() if spec.frames > 1}
    assert {*SPECS, *forms, *clips} == set(dataset_names())


def test_the_full_set_is_asked_for_by_name(cache: Path) -> None:
    with pytest.raises(DataError, match="bench data fetch fashion_mnist"):
        get_dataset("fashion_mnist").full_train()


def test_the_full_set_comes_from_the_named_folder(cache: Path, idx_folder: Path) -> None:
    images, labels = whole(get_dataset("fashion_mnist", idx_folder).full_train())
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
    images, labels = all_of(data)
    assert images.shape == (30, 3, 32, 32)
    assert labels.tolist() == [k for k in range(10) for _ in range(3)]
    for image, label, place in zip(images, labels.tolist(), [0, 1, 2] * 10, strict=True):
        assert tuple(image[:, 5, 5].tolist()) == colour_of(label, place)
    assert torch.equal(whole(data.train())[0], whole(data.full_train())[0])


def test_jpeg_files_are_a_data_set_of_their_own(
    cache: Path, image_folder: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    root = image_folder(("train", "test"), SPECS["cifar10"].class_names, 3, (32, 32))
    get_dataset("cifar10", root).train()
    assert "cifar10_jpeg" not in caplog.text
    (root / "test" / "cat" / "000.png").rename(root / "test" / "cat" / "000.jpg")
    for _ in range(2):
        pixels = all_of(get_dataset("cifar10", root))[0]
    assert caplog.text.count("are called cifar10_jpeg") == 1
    caplog.clear()
    assert torch.equal(all_of(get_dataset("cifar10_jpeg", root))[0], pixels)
    assert caplog.text == ""
    with pytest.raises(DataError, match="the data set is not here"):
        get_dataset("cifar10_jpeg").test()


def test_imagenet_is_resized_and_cropped(cache: Path, image_folder: Callable[..., Path]) -> None:
    root = image_folder(("val",), ("n01440764", "n01484850"), 2, (300, 400))
    images, labels = all_of(get_dataset("imagenet", root))
    assert images.shape == (4, 3, 224, 224)
    assert labels.tolist() == [0, 0, 2, 2]  # n01443537 is not there, and shifts nobody's label


def test_any_image_folder_has_its_own_classes(cache: Path, image_folder: Callable[..., Path]) -> None:
    root = image_folder(("train", "test"), ("cat", "dog"), 2, (40, 50))
    data = get_dataset(f"imagefolder:{root}")
    assert data.spec.class_names == ("cat", "dog")
    assert data.spec.shape == (3, 32, 32)
    assert whole(data.train())[0].shape == (4, 3, 32, 32)
    assert all_of(get_dataset(f"imagefolder:{root}@48"))[0].shape == (4, 3, 48, 48)
    with pytest.raises(DataError, match="SIZE from 8"):
        get_dataset(f"imagefolder:{root}@4")
    (root / "test" / "dog").rename(root / "test" / "dogg")
    with pytest.raises(DataError, match="none of the data set's classes") as caught:
        get_dataset(f"imagefolder:{root}").test()
    assert caught.value.nearest == "dog"
    with pytest.raises(DataError, match="no image folder here"):
        get_dataset(f"imagefolder:{root / 'nowhere'}")
