"""Table of data sets: constants, training and test images as uint8, digests. Fashion-MNIST and digits are embedded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.data import fashion
from bench.data.folders import FolderSplit, read_cifar, read_image_folder
from bench.errors import DataError, nearest
from bench.interfaces import DatasetSpec
from bench.paths import cache_folder

Arrays = tuple[Tensor, Tensor]

_FASHION = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

SPECS: dict[str, DatasetSpec] = {
    # Constants of the padded 32×32 training images.
    "fashion_mnist": DatasetSpec("fashion_mnist", 10, (1, 32, 32), (0.219,), (0.332,), _FASHION),
    "digits": DatasetSpec("digits", 10, (1, 32, 32), (0.305,), (0.324,), tuple("0123456789")),
    "cifar10": DatasetSpec("cifar10", 10, (3, 32, 32), (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616), _CIFAR10),
    "cifar100": DatasetSpec("cifar100", 100, (3, 32, 32), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": DatasetSpec("imagenet", 1000, (3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


@dataclass(frozen=True)
class Dataset:
    """Images of one data set, read when asked for. Images are uint8 [N,C,H,W], labels int64 [N]."""

    spec: DatasetSpec
    train_part: Callable[[], Arrays]
    full_part: Callable[[], Arrays]
    test_part: Callable[[], Arrays]

    def train(self) -> Arrays:
        """The training images sources may draw from (for Fashion-MNIST the 10,000 embedded ones)."""
        return self.train_part()

    def full_train(self) -> Arrays:
        """The complete training set, as the zoo is trained on.

        Raises:
            DataError: it is not on this machine; the hint says how to fetch it.
        """
        return self.full_part()

    def test(self, subset: int | None = None) -> Arrays:
        """The test set, or its fixed class-balanced subset of ``subset`` images (the first of each class).  The whole
        set is shared between callers: it is not to be written to.

        Raises:
            DataError: the subset is no multiple of the classes or more than there is.
        """
        images, labels = self.test_part()
        if subset is None:
            return images, labels
        each, rest = divmod(subset, self.spec.classes)
        counts = torch.bincount(labels, minlength=self.spec.classes)
        if rest or each < 1 or each > int(counts.min()):
            allowed = f"a multiple of {self.spec.classes} up to {int(counts.min()) * self.spec.classes}"
            raise DataError("no class-balanced test subset of this size", got=subset, expected=allowed)
        picks = torch.cat([torch.nonzero(labels == c).flatten()[:each] for c in range(self.spec.classes)])
        picks = picks.sort().values
        return images[picks], labels[picks]

    def test_digest(self, subset: int | None = None) -> str:
        """SHA-256 over the bytes of test images and labels; identity of what is measured on."""
        return _digest(self.test(subset))

    def train_digest(self) -> str:
        """SHA-256 over the bytes of the training images and labels a source may draw from."""
        return _digest(self.train())

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 [N,C,H,W] to normalised float32 of the same shape."""
        return (images.float() / 255 - _channels(self.spec.mean, images)) / _channels(self.spec.std, images)

    def denormalise(self, images: Tensor) -> Tensor:
        """Normalised float32 [N,C,H,W] back to pixels in [0, 1], clipped."""
        return (images * _channels(self.spec.std, images) + _channels(self.spec.mean, images)).clamp(0, 1)


def _digest(arrays: Arrays) -> str:
    images, labels = arrays
    found = hashlib.sha256(images.contiguous().numpy().tobytes())
    found.update(labels.numpy().tobytes())
    return found.hexdigest()


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device).view(1, -1, 1, 1)


def dataset_names() -> list[str]:
    """Names of the table; `imagefolder:PATH` is allowed besides, with the side in pixels as `imagefolder:PATH@64`."""
    return [*SPECS, "imagefolder:PATH[@SIZE]"]


def get_dataset(name: str, root: Path | None = None) -> Dataset:
    """The data set called ``name``; ``root`` is the folder of those that are not embedded.

    Raises:
        DataError: unknown name. What is missing on disk is reported when images are asked for (`require`).
    """
    if name.startswith("imagefolder:"):
        return _image_folder(name, name.split(":", 1)[1])
    if name not in SPECS:
        raise DataError("unknown data set", got=name, expected=dataset_names(), nearest=nearest(name, SPECS))
    spec = SPECS[name]
    if name == "fashion_mnist":
        return Dataset(
            spec, lambda: _embedded("train"), lambda: _fashion_full(_places(root)), lambda: _embedded("test")
        )
    if name == "digits":
        return Dataset(spec, _digits, _digits, _digits)
    place = root or cache_folder() / name
    size = spec.shape[1]
    if name == "imagenet":
        synsets = _synsets()
        return _folders(spec, FolderSplit(place, "train", size, synsets), FolderSplit(place, "val", size, synsets))
    return _cifar(spec, place)


@lru_cache(maxsize=4)
def _embedded(split: str) -> Arrays:
    arrays, _ = fashion.read_embedded()
    return _pad(arrays[f"{split}_images"]), torch.from_numpy(arrays[f"{split}_labels"].astype("int64"))


def _places(root: Path | None) -> tuple[Path, ...]:
    return tuple(fashion.candidate_folders(cache_folder(), root))


@lru_cache(maxsize=1)
def _fashion_full(places: tuple[Path, ...]) -> Arrays:
    arrays = fashion.read_full(places)
    return _pad(arrays["train_images"]), torch.from_numpy(arrays["train_labels"].astype("int64"))


def _pad(images: fashion.Bytes) -> Tensor:
    return F.pad(torch.from_numpy(images.copy()).unsqueeze(1), (2, 2, 2, 2))


@lru_cache(maxsize=1)
def _digits() -> Arrays:
    from sklearn.datasets import load_digits

    found = load_digits()
    small = torch.from_numpy(found.images).float().unsqueeze(1) / 16
    large = F.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
    return (large * 255).round().to(torch.uint8), torch.from_numpy(found.target.astype("int64"))


def _cifar(spec: DatasetSpec, place: Path) -> Dataset:
    def part(split: str) -> Arrays:
        return read_cifar(spec.name, place, split)

    return Dataset(spec, lambda: part("train"), lambda: part("train"), lambda: part("test"))


def _folders(spec: DatasetSpec, train: FolderSplit, test: FolderSplit) -> Dataset:
    return Dataset(
        spec,
        lambda: read_image_folder(train),
        lambda: read_image_folder(train),
        lambda: read_image_folder(test),
    )


@lru_cache(maxsize=1)
def _synsets() -> tuple[str, ...]:
    """Folder names of ImageNet-1k in the order of the class indices, from timm."""
    from timm.data import ImageNetInfo

    return tuple(str(name) for name in ImageNetInfo("imagenet-1k").label_names())


def _image_folder(name: str, address: str) -> Dataset:
    """``address`` is PATH or PATH@SIZE, the side in pixels (32 where none is given)."""
    text, _, side = address.rpartition("@") if re.search(r"@\d+$", address) else (address, "", "32")
    place, size = Path(text), int(side)
    if size < 8:
        raise DataError("images this small serve no network", where=name, got=size, expected="PATH@SIZE, SIZE from 8")
    classes = tuple(p.name for p in sorted((place / "train").glob("*")) if p.is_dir())
    if not classes:
        raise DataError("no image folder here", where=str(place), expected="train/CLASS/*.jpg and test/CLASS/*.jpg")
    spec = DatasetSpec(name, len(classes), (3, size, size), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), classes)
    return _folders(spec, FolderSplit(place, "train", size, classes), FolderSplit(place, "test", size, classes))
