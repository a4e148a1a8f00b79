"""The table of data sets: constants of each, and one way to its training and test images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.data import fashion, folders
from bench.errors import DataError, nearest
from bench.interfaces import DatasetSpec

ENV_CACHE = "BENCH_DATA"

Split = tuple[Tensor, Tensor]
Loader = Callable[[], Split]

_FASHION_CLASSES = "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle-boot".split()
_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()

SPECS: dict[str, DatasetSpec] = {
    # Mean and deviation of the 60,000 training images after padding to 32×32, as the networks see them.
    "fashion_mnist": DatasetSpec("fashion_mnist", 10, (1, 32, 32), (0.2190,), (0.3318,), tuple(_FASHION_CLASSES)),
    "cifar10": DatasetSpec(
        "cifar10", 10, (3, 32, 32), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), tuple(_CIFAR10_CLASSES)
    ),
    "cifar100": DatasetSpec("cifar100", 100, (3, 32, 32), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": DatasetSpec("imagenet", 1000, (3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "digits": DatasetSpec("digits", 10, (1, 32, 32), (0.3053,), (0.3555,), tuple("0123456789")),
}


def cache_dir() -> Path:
    """Where fetched data lie: $BENCH_DATA, else ~/.cache/datafree-bench; not created here."""
    named = os.environ.get(ENV_CACHE)
    return Path(named) if named else Path.home() / ".cache" / "datafree-bench"


@dataclass
class Dataset:
    """A data set's constants and its two splits, each read once, when first asked for.

    Images are uint8 [N,C,H,W], labels int64 [N].  Reading raises `DataError` when files are missing or damaged.
    """

    spec: DatasetSpec
    train_loader: Loader
    test_loader: Loader

    @cached_property
    def _train(self) -> Split:
        return self.train_loader()

    @cached_property
    def _test(self) -> Split:
        return self.test_loader()

    @property
    def train_count(self) -> int:
        """Number of training images at hand."""
        return len(self._train[1])

    @property
    def train_labels(self) -> Tensor:
        """Labels of the training images, int64 [N]."""
        return self._train[1]

    def train(self, indices: Tensor | Sequence[int] | None = None) -> Split:
        """Training images (uint8 [n,C,H,W]) and labels (int64 [n]), all or those at ``indices``."""
        images, labels = self._train
        if indices is None:
            return images, labels
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        if chosen.numel() and (int(chosen.min()) < 0 or int(chosen.max()) >= len(labels)):
            raise DataError(
                "an index lies outside the training images",
                where=self.spec.name,
                got=[int(chosen.min()), int(chosen.max())],
                expected=f"0..{len(labels) - 1}",
            )
        return images[chosen], labels[chosen]

    def test(self, subset: int | None = None) -> Split:
        """Test images (uint8 [n,C,H,W]) and labels (int64 [n]), all or a fixed class-balanced ``subset``.

        The subset holds the first subset/classes images of each class, in file order.

        Raises:
            DataError: ``subset`` is no multiple of the classes, or a class has too few images.
        """
        images, labels = self._test
        if subset is None:
            return images, labels
        per_class, rest = divmod(subset, self.spec.classes)
        if subset <= 0 or rest:
            raise DataError(
                "a test subset has the same number of images of each class",
                where=self.spec.name,
                got=subset,
                expected=f"a multiple of {self.spec.classes}",
            )
        places = [torch.nonzero(labels == c).flatten()[:per_class] for c in range(self.spec.classes)]
        short = min(len(p) for p in places)
        if short < per_class:
            raise DataError("a class has too few test images", where=self.spec.name, got=short, expected=str(per_class))
        chosen = torch.cat(places).sort().values
        return images[chosen], labels[chosen]

    def test_digest(self, subset: int | None = None) -> str:
        """SHA-256 over the shape, images and labels of ``test(subset)``, hexadecimal."""
        images, labels = self.test(subset)
        digest = hashlib.sha256(repr(tuple(images.shape)).encode())
        digest.update(images.contiguous().numpy().tobytes())
        digest.update(labels.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 [N,C,H,W] to float32 in the data set's normalised space."""
        return normalise(images, self.spec.mean, self.spec.std)

    def denormalise(self, images: Tensor) -> Tensor:
        """Inverse of `normalise`: float to uint8, rounded and clipped to 0..255."""
        mean, std = _constants(self.spec.mean, self.spec.std, images)
        return ((images.float() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def _constants(mean: Sequence[float], std: Sequence[float], like: Tensor) -> tuple[Tensor, Tensor]:
    shape = (1, len(mean), 1, 1)
    return (
        torch.tensor(mean, dtype=torch.float32, device=like.device).view(shape),
        torch.tensor(std, dtype=torch.float32, device=like.device).view(shape),
    )


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 [N,C,H,W] to float32 (x / 255 - mean) / std per channel."""
    centre, scale = _constants(mean, std, images)
    return (images.float() / 255 - centre) / scale


def pad32(images: fashion.Bytes) -> Tensor:
    """Grey images uint8 [N,28,28] to tensors [N,1,32,32], two zero pixels on each side."""
    return torch.from_numpy(np.pad(images, ((0, 0), (2, 2), (2, 2)))).unsqueeze(1)


def _labels(labels: fashion.Bytes) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))


def _fashion_mnist(root: Path | None, full: bool) -> Dataset:
    def embedded(split: str) -> Split:
        arrays, _ = fashion.read_embedded()
        return pad32(arrays[f"{split}_images"]), _labels(arrays[f"{split}_labels"])

    def whole() -> Split:
        arrays = fashion.read_full(cache_dir(), root)
        labels = arrays["train_labels"]
        first = fashion.embedded_indices(labels)
        # The shipped images keep their places 0..9999, so an index means the same image with and without the rest.
        order = np.concatenate([first, np.setdiff1d(np.arange(len(labels)), first)])
        return pad32(arrays["train_images"][order]), _labels(labels[order])

    return Dataset(SPECS["fashion_mnist"], whole if full else lambda: embedded("train"), lambda: embedded("test"))


def dataset_names() -> tuple[str, ...]:
    """The names `get_dataset` knows, without ``imagefolder:PATH``."""
    return tuple(SPECS)


def get_dataset(name: str, root: Path | None = None, *, full: bool = False) -> Dataset:
    """Return the data set ``name``; files are read when images are first asked for.

    Args:
        name: one of `dataset_names`, or ``imagefolder:PATH[@SIZE]`` (SIZE in pixels, 32 when left out).
        root: folder that holds the data; the user's cache ($BENCH_DATA) when None.
        full: fashion_mnist only: all 60,000 training images in place of the shipped 10,000, which come first.

    Raises:
        DataError: the name is unknown, or the folder an ``imagefolder:`` names does not exist.
    """
    if name.startswith("imagefolder:"):
        spec, train, test = folders.open_image_folder(name)
        return Dataset(spec, train, test)
    if name not in SPECS:
        raise DataError(
            "no such data set",
            where="dataset",
            got=name,
            expected=[*SPECS, "imagefolder:PATH"],
            nearest=nearest(name, SPECS),
        )
    if name == "fashion_mnist":
        return _fashion_mnist(root, full)
    if name == "digits":
        return Dataset(SPECS[name], lambda: folders.read_digits("train"), lambda: folders.read_digits("test"))
    spec = SPECS[name]
    place = root if root is not None else cache_dir() / name
    return Dataset(spec, lambda: folders.read(spec, place, "train"), lambda: folders.read(spec, place, "test"))
