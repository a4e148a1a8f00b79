"""Table of data sets: constants and digests, light: no torch, and an embedded set's images stay packed."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from bench.data.listing import class_folders
from bench.errors import DataError, nearest
from bench.interfaces import DatasetSpec
from bench.reading import read_json

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

Part = Literal["train", "full", "test"]
"""Training images a source may draw from; the complete training set, as the zoo is trained on; the test set."""

FOLDER = "imagefolder:"
"""Prefix of a data set that is a folder: `imagefolder:PATH`, with the side in pixels `imagefolder:PATH@64`."""

HELD_OUT = "+held_out"
"""Suffix of a data set for tuning: of each class the last fifth of the training images stand for the test set, and
sources draw from the others, so that a choice of hyper-parameters never sees a test image."""

SMALLEST, LARGEST = 8, 2048
"""Sides in pixels that images are scaled to."""

SCALED = ("imagenet",)
"""Data sets of the table that are decoded to any size: `imagenet@256`, for networks of another size than 224."""


def dataset_names() -> list[str]:
    """Names of the table, and the forms of others: a folder, or a data set of large images at another size."""
    return [*SPECS, *(f"{name}@SIZE" for name in SCALED), f"{FOLDER}PATH[@SIZE]", f"NAME{HELD_OUT}"]


def spec_of(name: str) -> DatasetSpec:
    """Constants of the data set called ``name``.

    Raises:
        DataError: unknown name, no image folder there, or the suffix for tuning twice.  What a named data set lacks on
            disk is reported when its images are asked for.
    """
    if name.endswith(HELD_OUT):
        base = measured_on_test(name)
        if base.endswith(HELD_OUT):
            raise DataError("images for tuning are held out once", got=name, nearest=base)
        return replace(spec_of(base), name=name)
    if name.startswith(FOLDER):
        return _folder_spec(name)
    base, side = _sized(name)
    if base in SCALED and side is not None:
        return replace(SPECS[base], name=name, shape=(SPECS[base].shape[0], side, side))
    if name not in SPECS:
        raise DataError("unknown data set", got=name, expected=dataset_names(), nearest=nearest(name, SPECS))
    return SPECS[name]


def measured_on_test(name: str) -> str:
    """The data set that ``name`` is, or is cut from for tuning: its networks' own."""
    return name.removesuffix(HELD_OUT)


def folder_address(name: str) -> tuple[Path, int]:
    """Path and side in pixels (32 where none is given) of `imagefolder:PATH[@SIZE]`.

    Raises:
        DataError: the side is no size of an image.
    """
    address, side = _sized(name.removeprefix(FOLDER))
    return Path(address), 32 if side is None else side


def sized(name: str, side: int) -> str:
    """``name`` (a data set of SCALED, or a folder's path) with the size, unless it has one already or by nature."""
    if _sized(name)[1] is not None or (name in SPECS and SPECS[name].shape[1] == side):
        return name
    return f"{name}@{side}"


def base_name(name: str) -> str:
    """The table's name of a data set without the size: "imagenet" of "imagenet@256"."""
    name = measured_on_test(name)
    return name if name.startswith(FOLDER) else _sized(name)[0]


def scalable(name: str) -> str | None:
    """The name without the size where images are read at any size; None where they have one."""
    name = measured_on_test(name)
    base = _sized(name)[0]
    return base if base in SCALED or name.startswith(FOLDER) else None


def _sized(name: str) -> tuple[str, int | None]:
    """What stands before the size in pixels, and the size; None where there is none.

    Raises:
        DataError: the size is no size of an image.
    """
    if not re.search(r"@[0-9]+$", name):
        return name, None
    text, _, side = name.rpartition("@")
    if len(side) > 4 or not SMALLEST <= int(side) <= LARGEST:
        allowed = f"NAME@SIZE, SIZE from {SMALLEST} to {LARGEST}"
        raise DataError("images of this size serve no network", where=name, got=side[:20], expected=allowed)
    return text, int(side)


def digest(name: str, part: Part, root: Path | None = None, subset: int | None = None) -> str:
    """SHA-256 of the images and labels of a split, or of the class-balanced ``subset`` of so many; ``root`` is the
    folder of a data set that is not embedded.  What is recorded is looked up, so that no image is opened.

    Raises:
        DataError: unknown data set, its images are missing or damaged, or there is no such subset.
    """
    known: str | None = shipped_digests().get(name, {}).get(part if subset is None else f"{part}/{subset}")
    if known is not None:
        return known
    from bench.data.places import open_split
    from bench.data.splits import balanced_picks

    split = open_split(name, part, root)
    return split.digest(None if subset is None else balanced_picks(split.labels, spec_of(name).classes, subset))


@lru_cache(maxsize=1)
def shipped_digests() -> dict[str, Any]:
    """Digests of the embedded sets (embedded/digests.json) by data set and "train", "test" or "test/SUBSET".

    Raises:
        DataError: the file is missing or damaged.
    """
    path = resources.files("bench.data") / "embedded" / "digests.json"
    try:
        found: dict[str, Any] = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError("the embedded data set is missing or damaged", where=str(path), got=error) from error
    return found


def _folder_spec(name: str) -> DatasetSpec:
    place, size = folder_address(name)
    classes = tuple(folder.name for folder in class_folders(place / "train"))
    if not classes:
        raise DataError("no image folder here", where=str(place), expected="train/CLASS/*.jpg and test/CLASS/*.jpg")
    return DatasetSpec(name, len(classes), (3, size, size), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), classes)
