"""Where each split of each data set lies, and how it is opened. No torch, but for CIFAR in torchvision's files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bench.data import fashion
from bench.data.folders import FolderSplit, open_folder
from bench.data.splits import ArraySplit, PartSplit, Split, held_out
from bench.data.table import FOLDER, HELD_OUT, Part, base_name, folder_address, measured_on_test, spec_of
from bench.errors import DataError
from bench.paths import cache_folder


def open_split(name: str, part: Part, root: Path | None = None) -> Split:
    """A split of the data set called ``name``; ``root`` is the folder of those that are not embedded.

    Raises:
        DataError: unknown name, or the images are not on this machine; the hint says how to get them.
    """
    spec = spec_of(name)
    if name.endswith(HELD_OUT):
        return _held_out(name, part, root)
    folder = "test" if part == "test" else "train"
    if name.startswith(FOLDER):
        place, size = folder_address(name)
        return open_folder(FolderSplit(place, folder, size, spec.class_names))
    if name == "fashion_mnist" and part == "full":
        return _fashion_full(tuple(fashion.candidate_folders(cache_folder(), root)))
    if name == "fashion_mnist":
        return _fashion(part)
    if name == "digits":
        return _digits()
    base = base_name(name)
    place = root or cache_folder() / base
    if base == "imagenet":
        return open_folder(FolderSplit(place, "val" if part == "test" else "train", spec.shape[1], _synsets()))
    if (place / folder).is_dir():
        return open_folder(FolderSplit(place, folder, spec.shape[1], classes=spec.classes))
    return _cifar_files(name, place, folder)


def files_of(name: str, root: Path | None = None) -> tuple[Path, ...]:
    """The files and folders that hold the data set called ``name`` wherever it may lie, there or not; ``root`` as in
    :func:`open_split`.  Nothing is opened."""
    name = measured_on_test(name)
    if name.startswith(FOLDER):
        return tuple(_parts(folder_address(name)[0]))
    name = name.partition("@")[0]
    embedded = Path(__file__).parent / "embedded"
    shipped = [path for path in sorted(embedded.glob(f"{name}*")) if path.suffix in (".xz", ".json")]
    found = find_spec("sklearn") if name == "digits" else None
    library = [Path(place) / "datasets" / "data" / "digits.csv.gz" for place in _folders(found)]
    others = fashion.candidate_folders(cache_folder(), root) if name == "fashion_mnist" else [cache_folder() / name]
    places = dict.fromkeys([*others, *([root] if root else [])])
    return (*shipped, *library, *(part for place in places for part in _parts(place)))


def _held_out(name: str, part: Part, root: Path | None) -> Split:
    """A split of the data set for tuning: all are parts of the training images sources may draw from."""
    if part == "full":
        hint = "choose hyper-parameters on the training images that sources draw from"
        raise DataError("a data set for tuning has no complete training set", where=name, hint=hint)
    whole = open_split(measured_on_test(name), "train", root)
    kept, held = held_out(whole.labels, spec_of(name).classes)
    return PartSplit(whole, held if part == "test" else kept)


def _parts(place: Path) -> Iterator[Path]:
    """What of a folder is the data set: other things may lie beside it."""
    yield from (place / folder for folder in ("train", "test", "val"))
    yield from (place / f"{stem}{ending}" for stem in fashion.IDX_FILES.values() for ending in ("", ".gz"))
    yield from sorted(place.glob("cifar-*"))  # torchvision's own files


def _folders(spec: ModuleSpec | None) -> list[str]:
    return list(spec.submodule_search_locations or ()) if spec else []


@lru_cache(maxsize=2)
def _fashion(part: Part) -> ArraySplit:
    arrays, _ = fashion.read_embedded()
    return _padded(arrays[f"{part}_images"], arrays[f"{part}_labels"])


@lru_cache(maxsize=1)
def _fashion_full(places: tuple[Path, ...]) -> ArraySplit:
    arrays = fashion.read_full(places)
    return _padded(arrays["train_images"], arrays["train_labels"])


def _padded(images: fashion.Bytes, labels: fashion.Bytes) -> ArraySplit:
    """28×28 images [N,28,28] within a black margin, as the zoo's networks take them."""
    return ArraySplit(np.pad(images[:, None], ((0, 0), (0, 0), (2, 2), (2, 2))), labels.astype(np.int64))


@lru_cache(maxsize=1)
def _digits() -> ArraySplit:
    """scikit-learn's 8×8 digits, four times as large by bilinear interpolation (pixel centres, edges repeated)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    centres = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, None)
    low = centres.astype(int)
    weights = np.zeros((32, 8))
    weights[np.arange(32), low] += 1 - (centres - low)
    weights[np.arange(32), np.minimum(low + 1, 7)] += centres - low
    large = weights @ (found.images / 16) @ weights.T  # exact: sixteenths times sixty-fourths
    return ArraySplit(np.rint(large * 255).astype(np.uint8)[:, None], found.target.astype(np.int64))


@lru_cache(maxsize=1)
def _synsets() -> tuple[str, ...]:
    """Folder names of ImageNet-1k in the order of the class indices, from timm's file of them: importing timm would
    bring in torch."""
    found = find_spec("timm")
    for place in _folders(found):
        path = Path(place) / "data" / "_info" / "imagenet_synsets.txt"
        if path.is_file():
            return tuple(path.read_text(encoding="utf-8").split())
    from timm.data import ImageNetInfo

    return tuple(str(name) for name in ImageNetInfo("imagenet-1k").label_names())


@lru_cache(maxsize=2)
def _cifar_files(name: str, place: Path, split: str) -> ArraySplit:
    """CIFAR from torchvision's own files below ``place``.

    Raises:
        DataError: they are not there; the hint says how to get them.
    """
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    try:
        found = kind(str(place), train=split == "train", download=False)
    except RuntimeError as error:
        raise DataError(
            "the data set is not here",
            where=str(place),
            expected=f"{split}/CLASS/*.jpg, or torchvision's files",
            hint=f"run: bench data fetch {name}",
        ) from error
    images = np.ascontiguousarray(found.data.transpose(0, 3, 1, 2))
    return ArraySplit(images, np.asarray(found.targets, dtype=np.int64))
