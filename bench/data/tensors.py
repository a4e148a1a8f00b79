"""A data set that is one folder of arrays: test images as bytes, a class for each, and what is known of them.

`tensors:PATH`, written as a whole by :func:`write_tensors`: images from anywhere (a user's folder, another domain, a
split whose labels are not to be seen) with labels that somebody gave them or that a network said.  Training images
there are none, but those of the data set that the network belongs to.  No torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.atomic import replace_file
from bench.data.splits import ArraySplit, Bytes, Ints
from bench.errors import DataError
from bench.interfaces import DatasetSpec
from bench.reading import read_bytes, read_json

TENSORS = "tensors:"
"""Prefix of such a data set's name."""

LIMIT = 256 * 2**20
"""Bytes of the images at most."""

FACTS, IMAGES, LABELS = "facts.json", "images.bin", "labels.bin"


@dataclass(frozen=True)
class Facts:
    """``shape`` (C, H, W); ``mean`` and ``std`` per channel of pixels in [0, 1]; ``owner`` is the data set whose
    networks it serves, empty for networks from outside; ``labels`` says where the labels come from, ``images`` where
    the images do."""

    classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    owner: str
    images: str
    labels: str


def write_tensors(folder: Path, images: Bytes, labels: Ints, facts: Facts) -> str:
    """Write images uint8 [N,C,H,W] and labels int64 [N] and return the data set's name.  The facts are written last: a
    folder without them is none.

    Raises:
        OSError: the folder cannot be written.
    """
    for name, array in ((IMAGES, images.astype(np.uint8)), (LABELS, labels.astype("<i8"))):
        replace_file(folder / name, np.ascontiguousarray(array).tobytes())
    replace_file(folder / FACTS, json.dumps(asdict(facts)).encode())
    return f"{TENSORS}{folder.absolute()}"


def tensors_spec(name: str) -> DatasetSpec:
    """Constants of the data set.

    Raises:
        DataError: it is not there, or damaged.
    """
    facts = facts_of(name)
    return DatasetSpec(name, facts.classes, facts.shape, facts.mean, facts.std)


def owner_of(name: str) -> str:
    """The data set whose networks it serves; its own name for networks from outside, and where it is not there."""
    try:
        return facts_of(name).owner or name
    except DataError:
        return name


def facts_of(name: str) -> Facts:
    """What is known of it.

    Raises:
        DataError: as :func:`tensors_spec`.
    """
    path = place_of(name) / FACTS
    try:
        return _read(path, os.stat(path).st_mtime_ns)
    except FileNotFoundError as error:
        hint = "It was made by `bench advise`: the same command makes it again."
        raise DataError("the data set is not here", where=str(path), hint=hint) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError("the data set is damaged", where=str(path), got=error) from error


def place_of(name: str) -> Path:
    """Its folder."""
    return Path(name.removeprefix(TENSORS))


def open_tensors(name: str) -> ArraySplit:
    """Its images and labels.

    Raises:
        DataError: they are not there, damaged, or not what the facts say.
    """
    facts, folder = facts_of(name), place_of(name)
    try:
        raw, marks = (_content(folder / part, os.stat(folder / part).st_mtime_ns) for part in (IMAGES, LABELS))
        labels = np.frombuffer(marks, "<i8").astype(np.int64)
        images = np.frombuffer(raw, np.uint8).reshape(len(labels), *facts.shape)
    except (OSError, ValueError) as error:
        raise DataError("the data set is damaged", where=str(folder), got=error) from error
    if not len(labels) or labels.min() < 0 or labels.max() >= facts.classes:
        got = f"{len(labels)} labels" + (f", from {labels.min()} to {labels.max()}" if len(labels) else "")
        raise DataError("the data set is damaged", where=str(folder), got=got, expected=f"0 to {facts.classes - 1}")
    return ArraySplit(images, labels)


@lru_cache(maxsize=16)
def _read(path: Path, changed: int) -> Facts:
    raw: dict[str, Any] = read_json(path)
    return Facts(
        int(raw["classes"]),
        _three(raw["shape"]),
        tuple(map(float, raw["mean"])),
        tuple(map(float, raw["std"])),
        str(raw["owner"]),
        str(raw["images"]),
        str(raw["labels"]),
    )


def _three(values: Sequence[Any]) -> tuple[int, int, int]:
    channels, height, width = map(int, values)
    return channels, height, width


@lru_cache(maxsize=4)
def _content(path: Path, changed: int) -> bytes:
    return read_bytes(path, LIMIT)
