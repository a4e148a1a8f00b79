"""Table of data sets: constants and digests, light: no torch, and an embedded set's images stay packed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from bench.data.listing import class_folders
from bench.data.tensors import TENSORS, owner_of, tensors_spec
from bench.data.videos import training_classes
from bench.errors import DataError, nearest
from bench.interfaces import DatasetSpec
from bench.reading import read_json

_FASHION = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_GARMENTS = tuple(sorted(name for name in _FASHION if name not in ("Coat", "Shirt")))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation that ImageNet's networks, and those trained from them on videos, were trained with."""

_OF_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

FRAMES = 8
"""Frames of a clip where nothing else is said."""


def _clips(frame: DatasetSpec, frames: int) -> DatasetSpec:
    """A data set of clips of ``frames`` frames, each as ``frame`` says."""
    channels, height, width = frame.shape
    shape = (frames * channels, height, width)
    return replace(frame, shape=shape, mean=frame.mean * frames, std=frame.std * frames, frames=frames)


SPECS: dict[str, DatasetSpec] = {
    # Constants of the padded 32×32 training images.
    "fashion_mnist": DatasetSpec("fashion_mnist", 10, (1, 32, 32), (0.219,), (0.332,), _FASHION),
    "digits": DatasetSpec("digits", 10, (1, 32, 32), (0.305,), (0.324,), tuple("0123456789")),
    "cifar10": DatasetSpec("cifar10", 10, (3, 32, 32), *_OF_CIFAR10, _CIFAR10),
    # Strongly compressed: networks lose some ten points on it, so it is another data set than CIFAR-10.
    "cifar10_jpeg": DatasetSpec("cifar10_jpeg", 10, (3, 32, 32), *_OF_CIFAR10, _CIFAR10),
    "cifar100": DatasetSpec("cifar100", 100, (3, 32, 32), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": DatasetSpec("imagenet", 1000, (3, 224, 224), *_IMAGENET),
    # Some images of ImageNet's training set, split by `bench data sample`.
    "imagenet_sample": DatasetSpec("imagenet_sample", 1000, (3, 224, 224), *_IMAGENET),
    # Constants of the training frames that `bench data clips` makes.
    "fashion_clips": _clips(DatasetSpec("fashion_clips", 8, (1, 32, 32), (0.255,), (0.348,), _GARMENTS), FRAMES),
    "activitynet": _clips(DatasetSpec("activitynet", 200, (3, 224, 224), *_IMAGENET), FRAMES),
    "mini_kinetics": _clips(DatasetSpec("mini_kinetics", 200, (3, 224, 224), *_IMAGENET), FRAMES),
}

Part = Literal["train", "full", "test"]
"""Training images a source may draw from; the complete training set, as the zoo is trained on; the test set."""

FOLDER = "imagefolder:"
"""Prefix of a data set that is a folder: `imagefolder:PATH`, with the side in pixels `imagefolder:PATH@64`."""

VIDEO = "videofolder:"
"""Prefix of a data set that is a folder of videos' frames: `videofolder:PATH`, with side and frames of a clip
`videofolder:PATH@64x16`."""

HELD_OUT = "+held_out"
"""Suffix of a data set for tuning: of each class the last fifth of the training images stand for the test set, and
sources draw from the others, so that a choice of hyper-parameters never sees a test image."""

SMALLEST, LARGEST = 8, 2048
"""Sides in pixels that images are scaled to."""

MOST_FRAMES = 64
"""Frames of a clip at most."""

SCALED = ("imagenet", "imagenet_sample", "fashion_clips", "activitynet", "mini_kinetics")
"""Data sets of the table that are decoded to any size: `imagenet@256`, for networks of another size than 224; those of
clips with any number of frames, too: `activitynet@224x16`."""


SEEN = ("imagenet_sample",)
"""Data sets whose test images the networks were trained on: accuracy there says how far a compressed network is from
its own, not how well either generalises."""

SHOWN_IN = {"cifar10_jpeg": "cifar10", "fashion_clips": "fashion_mnist", "imagenet_sample": "imagenet"}
"""Data sets that are made of another one's images: neither is another domain to the other."""


def dataset_names() -> list[str]:
    """Names of the table, and the forms of others: a folder, or a data set of large images at another size."""
    sizes = [f"{name}@SIZE" if SPECS[name].frames == 1 else f"{name}@SIZE[xFRAMES]" for name in SCALED]
    return [*SPECS, *sizes, f"{FOLDER}PATH[@SIZE]", f"{VIDEO}PATH[@SIZE[xFRAMES]]", f"NAME{HELD_OUT}"]


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
    if name.startswith(TENSORS):
        return tensors_spec(name)
    if name.startswith((FOLDER, VIDEO)):
        return _folder_spec(name)
    at = _address(name)
    if at.base in SCALED and at.side is not None:
        return _at_size(SPECS[at.base], name, at)
    if name not in SPECS:
        raise DataError("unknown data set", got=name, expected=dataset_names(), nearest=nearest(name, SPECS))
    return SPECS[name]


def measured_on_test(name: str) -> str:
    """The data set that ``name`` is, or is cut from for tuning, or serves the networks of: its networks' own."""
    return owner_of(name) if name.startswith(TENSORS) else name.removesuffix(HELD_OUT)


def folder_address(name: str) -> tuple[Path, int, int]:
    """Path, side in pixels (32 where none is given) and frames of a clip (1: images) of `imagefolder:PATH[@SIZE]` or
    `videofolder:PATH[@SIZE[xFRAMES]]`.

    Raises:
        DataError: the side is no size of an image; images are asked for as clips.
    """
    video = name.startswith(VIDEO)
    at = _address(name.removeprefix(VIDEO if video else FOLDER))
    if at.frames is not None and not video:
        raise _no_frames(name)
    return Path(at.base), 32 if at.side is None else at.side, (at.frames or FRAMES) if video else 1


def sized(name: str, side: int) -> str:
    """``name`` (a data set of SCALED, or a folder's path) with the size, unless it has one already or by nature."""
    if _address(name).side is not None or (name in SPECS and SPECS[name].shape[1] == side):
        return name
    return f"{name}@{side}"


def base_name(name: str) -> str:
    """The table's name of a data set without the size: "imagenet" of "imagenet@256"."""
    name = measured_on_test(name)
    return name if name.startswith((FOLDER, VIDEO, TENSORS)) else _address(name).base


def shows(name: str) -> str:
    """The base name of the data set whose images the one called ``name`` consists of; mostly its own."""
    base = base_name(name)
    return SHOWN_IN.get(base, base)


def has_own_accuracy(name: str) -> bool:
    """Whether a network's registered accuracy is what it should reach there: not on images held out for tuning, nor on
    any others that somebody gathered."""
    return not name.endswith(HELD_OUT) and not name.startswith(TENSORS)


def seen_in_training(name: str) -> bool:
    """Whether the networks of a data set were trained on its test images."""
    return base_name(name) in SEEN


def resized(name: str, side: int) -> str | None:
    """The name of the same data set at another size where images are read at any; None where they have one."""
    at = _address(measured_on_test(name))
    if name.startswith(TENSORS) or (at.base not in SCALED and not at.base.startswith((FOLDER, VIDEO))):
        return None
    return f"{at.base}@{side}" + (f"x{at.frames}" if at.frames else "")


@dataclass(frozen=True)
class _Address:
    """A name taken apart: `BASE@SIDExFRAMES`; None is what it does not say."""

    base: str
    side: int | None = None
    frames: int | None = None


def _address(name: str) -> _Address:
    """``name`` taken apart.

    Raises:
        DataError: the size is no size of an image, or so many frames are no clip.
    """
    found = re.search(r"@([0-9]+)(?:x([0-9]+))?$", name)
    if found is None:
        return _Address(name)
    side, frames = found[1], found[2]
    if len(side) > 4 or not SMALLEST <= int(side) <= LARGEST:
        allowed = f"NAME@SIZE, SIZE from {SMALLEST} to {LARGEST}"
        raise DataError("images of this size serve no network", where=name, got=side[:20], expected=allowed)
    if frames is not None and (len(frames) > 3 or not 1 <= int(frames) <= MOST_FRAMES):
        allowed = f"NAME@SIZExFRAMES, FRAMES from 1 to {MOST_FRAMES}"
        raise DataError("no clip of so many frames", where=name, got=frames[:20], expected=allowed)
    return _Address(name[: found.start()], int(side), None if frames is None else int(frames))


def _at_size(spec: DatasetSpec, name: str, at: _Address) -> DatasetSpec:
    """``spec`` of the table at another size, clips with another number of frames."""
    if at.frames is not None and spec.frames == 1:
        raise _no_frames(name)
    assert at.side is not None
    constants = spec.mean[: spec.channels], spec.std[: spec.channels]
    frame = DatasetSpec(name, spec.classes, (spec.channels, at.side, at.side), *constants, spec.class_names)
    return _clips(frame, at.frames or spec.frames)


def _no_frames(name: str) -> DataError:
    return DataError("images have no frames", where=name, got=name.rpartition("x")[2], expected="NAME@SIZE")


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
    """Digests of the embedded sets, and of the one that is made from them, (embedded/digests.json) by data set and
    "train", "test" or "test/SUBSET".

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
    place, size, frames = folder_address(name)
    if name.startswith(VIDEO):
        count, classes = training_classes(place)
    else:
        classes = tuple(folder.name for folder in class_folders(place / "train"))
        count = len(classes)
    if not count:
        raise DataError("no image folder here", where=str(place), expected="train/CLASS/*.jpg and test/CLASS/*.jpg")
    return _clips(DatasetSpec(name, count, (3, size, size), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), classes), frames)
