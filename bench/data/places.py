"""Where each split of each data set lies, and how it is opened. No torch, but for CIFAR in torchvision's files."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bench.data import fashion
from bench.data.clips import ClipSplit, open_clips
from bench.data.folders import FolderSplit, open_folder
from bench.data.splits import ArraySplit, PartSplit, Split, held_out
from bench.data.table import (
    FOLDER,
    HELD_OUT,
    SHOWN_IN,
    SPECS,
    VIDEO,
    Part,
    base_name,
    folder_address,
    measured_on_test,
    shipped_digests,
    spec_of,
)
from bench.data.tensors import TENSORS, open_tensors, place_of
from bench.data.videos import folders_of
from bench.errors import DataError
from bench.interfaces import DatasetSpec
from bench.paths import cache_folder

VALIDATED = ("imagenet", "activitynet", "mini_kinetics")
"""Data sets that are measured on their validation images, `val`."""

SAMPLE = "imagenet_sample"
"""Data set that `bench data sample` makes of images of the user's."""

SYNSETS = ("imagenet", SAMPLE)
"""Data sets whose class folders are ImageNet's synsets; some may be missing."""

EMBEDDED = ("fashion_mnist", "digits")
"""Data sets that come with the package or a library of it."""

MADE = "fashion_clips"
"""Data set whose files `bench data clips` makes: its digests are recorded as those of the embedded sets are."""

CLIPS = tuple(name for name, spec in SPECS.items() if spec.frames > 1)
"""Data sets of videos in the table."""


log = logging.getLogger(__name__)


def open_split(name: str, part: Part, root: Path | None = None) -> Split:
    """A split of the data set called ``name``; ``root`` is the folder of those that are not embedded.

    Raises:
        DataError: unknown name, or the images are not on this machine; the hint says how to get them.
    """
    spec = spec_of(name)
    if name.endswith(HELD_OUT):
        return _held_out(name, part, root)
    if name.startswith(TENSORS):
        return _tensors(name, part, root)
    folder = "test" if part == "test" else "train"
    if name.startswith(FOLDER):
        return open_folder(FolderSplit(folder_address(name)[0], folder, spec.shape[1], spec.class_names))
    if name.startswith(VIDEO):
        return _clips(spec, folder_address(name)[0], folder)
    if name == "fashion_mnist" and part == "full":
        return _fashion_full(tuple(fashion.candidate_folders(cache_folder(), root)))
    if name == "fashion_mnist":
        return _fashion(part)
    if name == "digits":
        return _digits()
    base = base_name(name)
    place = root or cache_folder() / base
    if base in VALIDATED and part == "test":
        folder = "val"
    if base == MADE:
        return _made(spec, place, folder)
    if base in CLIPS:
        return _clips(spec, place, folder)
    if base == SAMPLE and not (place / folder).is_dir():
        raise DataError("the sample is not here", where=str(place), hint="Make it: bench data sample IMAGES")
    if base in SYNSETS:
        return open_folder(FolderSplit(place, folder, spec.shape[1], synsets()))
    if (place / folder).is_dir():
        if base == "cifar10":
            _check_pixels(place / folder)
        return open_folder(FolderSplit(place, folder, spec.shape[1], classes=spec.classes))
    return _cifar_files(name, place, folder)


@lru_cache(maxsize=8)
def _check_pixels(folder: Path) -> None:
    """Say once that a folder of JPEG files is another data set than CIFAR-10."""
    if multiprocessing.parent_process() is None and next(folder.glob("*/*.jp*g"), None) is not None:
        log.warning("%s: JPEG files are not CIFAR-10's pixels; as a data set they are called cifar10_jpeg", folder)


def domain_root(name: str, dataset: str, root: Path | None) -> Path | None:
    """The folder of the data set ``name`` that serves as another domain in a run on ``dataset`` whose own folder is
    ``root``: ``root/NAME`` where that is there, else ``root`` itself where ``dataset`` is embedded and needs none, else
    None (the cache folder)."""
    if root is None:
        return None
    below = root / base_name(name)
    if not name.startswith((FOLDER, VIDEO)) and below.is_dir():
        return below
    return root if measured_on_test(dataset) in EMBEDDED else None


def files_of(name: str, root: Path | None = None) -> tuple[Path, ...]:
    """The files and folders that hold the data set called ``name`` wherever it may lie, there or not; ``root`` as in
    :func:`open_split`.  Nothing is opened."""
    if name.startswith(TENSORS):
        owner = measured_on_test(name)
        return (place_of(name), *(() if owner == name else files_of(owner, root)))
    name = measured_on_test(name)
    if name.startswith(FOLDER):
        return tuple(_parts(folder_address(name)[0]))
    if name.startswith(VIDEO):
        return _video_parts(folder_address(name)[0])
    name = base_name(name)
    if name in CLIPS:
        made_of = files_of(SHOWN_IN[name], root) if name in SHOWN_IN else ()
        folders = dict.fromkeys(place for place in (cache_folder() / name, root) if place)
        return (*made_of, *(part for place in folders for part in _video_parts(place)))
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


def _tensors(name: str, part: Part, root: Path | None) -> Split:
    """Test images are its own, training images those of the data set that its networks belong to."""
    if part == "test":
        return open_tensors(name)
    owner = measured_on_test(name)
    if owner == name:
        raise DataError("these are test images alone", where=name, expected="a data set with training images")
    return open_split(owner, part, root)


def _clips(spec: DatasetSpec, place: Path, folder: str) -> Split:
    """A split of a data set of videos below ``place``."""
    drawn = folder == "train"
    return open_clips(ClipSplit(place, folder, spec.classes, spec.frames, spec.channels, spec.shape[1], drawn))


def not_made(name: str, root: Path | None = None) -> DataError | None:
    """The error that reading the data set called ``name`` would end with because its files have to be made first, with
    the command that makes them; None where they are there, or none have to be made.  A plan does without them."""
    place = root or cache_folder() / MADE
    if base_name(name) != MADE or all((place / folder).is_dir() for folder in ("train", "test")):
        return None
    return _not_made(place)


def _not_made(place: Path) -> DataError:
    return DataError("the clips are not here", where=str(place), hint="Make them: bench data clips")


def _made(spec: DatasetSpec, place: Path, folder: str) -> Split:
    """A split of the clips that the package makes itself.

    Raises:
        DataError: they are not there, or are others.
    """
    if not (place / folder).is_dir():
        raise _not_made(place)
    split = _clips(spec, place, folder)
    known = shipped_digests().get(spec.name, {}).get(folder)
    if known is not None and split.digest() != known:
        hint = "Delete the folder, then: bench data clips"
        raise DataError("these are not the clips that `bench data clips` makes", where=str(place), hint=hint)
    return split


def _video_parts(place: Path) -> tuple[Path, ...]:
    return tuple(part for split in ("train", "test", "val") for part in folders_of(place, split))


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
def synsets() -> tuple[str, ...]:
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

    kinds = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}
    if name not in kinds:
        raise DataError(
            "the data set is not here",
            where=str(place),
            expected=f"{split}/CLASS/*.jpg",
            hint="Name its folder with --data-root.",
        )
    kind = kinds[name]
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
