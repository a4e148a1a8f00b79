"""The images on which candidates are compared, and what an answer to them is worth.

With labels it is accuracy.  Without, it is agreement: how often the compressed network says what the float network
says, a data set whose labels are the float network's own answers (`bench.data.tensors`).  The engine measures both the
same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bench.advise.network import Network
from bench.data.decoding import decode
from bench.data.folders import FolderSplit, open_folder
from bench.data.listing import SUFFIXES, class_folders
from bench.data.places import SYNSETS, open_split, synsets
from bench.data.splits import Bytes, Ints, Split
from bench.data.table import base_name
from bench.data.tensors import TENSORS, Facts, write_tensors
from bench.errors import BenchError, DataError, nearest

if TYPE_CHECKING:
    from bench.run.worker import Bench

Kind = Literal["accuracy", "agreement"]

MOST = 2000
"""Images of a written exam at most."""

MOST_BYTES = 128 * 2**20

FEWEST = 20
"""Images below which nothing can be told apart."""

WHOLE = 10_000 * 3 * 32 * 32
"""Values of a labelled test set up to which the last round sees all of it."""


@dataclass(frozen=True)
class Asked:
    """What the user gave: a labelled folder ``test``, a folder ``images`` without labels, ``blind`` to labels."""

    test: Path | None = None
    images: Path | None = None
    blind: bool = False
    data_root: Path | None = None


@dataclass(frozen=True)
class Exam:
    """Data sets by name: ``small`` for early rounds, ``full`` for the last; ``images`` says which they are.

    ``proxy``: of agreement, the kind of images by which `bench.advise.proxy` knows how well it foretells accuracy;
    ``common``: of agreement, the share of the images to which the float network gives its most frequent answer."""

    kind: Kind
    small: str
    full: str
    images: str
    proxy: str | None = None
    common: float = 0.0

    @property
    def word(self) -> str:
        """What its percentages are."""
        return "top-1" if self.kind == "accuracy" else "agreement with the float network"


def choose(asked: Asked, network: Network, folder: Path, bench: Bench) -> Exam:
    """The exam for what the user gave; what has to be written is written below ``folder``.

    Raises:
        BenchError: two kinds of images at once, or a folder that holds none that fit.
    """
    if asked.test is not None and (asked.images is not None or asked.blind):
        other = "--blind" if asked.images is None else "--images"
        raise BenchError("labels are given and not wanted", where="--test", got=other, hint="Give one of the two.")
    if asked.images is not None:
        found, words = _unlabelled(asked.images, network), f"images of {asked.images}, without labels"
        return _answered(found, words, "unlabelled", network, folder, bench)
    if asked.test is not None:
        split = _labelled(asked.test, network)
        return _small(split, f"{len(split.labels)} labelled images of {asked.test}", None, network, folder)
    try:
        test = open_split(network.owner, "test", asked.data_root) if network.owner else None
    except DataError:
        test = None
    if test is not None and not asked.blind:
        return _small(test, f"test images of {network.owner}", network.owner, network, folder)
    if test is not None:
        found = test.read(paired(len(test.labels), _most(network)))
        return _answered(found, f"test images of {network.owner}, labels unseen", "unlabelled", network, folder, bench)
    from bench.advise.foreign import foreign_images

    found, words, tier = foreign_images(network, bench)
    return _answered(found, words, tier, network, folder, bench)


def paired(count: int, most: int) -> Ints:
    """At most ``most`` of ``count`` places in steps, two neighbours at a time: what was at an even place stays at one,
    so that the half that choices were made by and the half that is reported never mix."""
    pairs, wanted = count // 2, min(count, most) // 2
    starts = 2 * np.unique(np.linspace(0, pairs - 1, wanted).round().astype(np.int64)) if wanted else np.empty(0, int)
    return np.stack([starts, starts + 1], axis=1).reshape(-1).astype(np.int64)


def _most(network: Network) -> int:
    return min(MOST, MOST_BYTES // int(np.prod(network.shape)))


def _small(split: Split, words: str, name: str | None, network: Network, folder: Path) -> Exam:
    """A labelled exam; the last round sees the whole data set ``name`` where that is small enough."""
    picks = paired(len(split.labels), _most(network))
    _check_count(len(picks), words)
    small = _written(_fitting(split.read(picks), network), split.labels[picks], "given", words, network, folder)
    whole = name is not None and len(split.labels) * int(np.prod(network.shape)) <= WHOLE
    return Exam("accuracy", small, name if whole and name is not None else small, words)


def _answered(images: Bytes, words: str, proxy: str, network: Network, folder: Path, bench: Bench) -> Exam:
    """An exam whose right answers are the float network's.

    Raises:
        BenchError: it has no finite answer to an image.
    """
    import torch

    from bench.measure.accuracy import batches, predictions

    _check_count(len(images), words)
    model = bench.model(network.name)
    answers = predictions(
        model.module, batches(torch.from_numpy(images)), device=bench.device, mean=model.mean, std=model.std
    )
    if int(answers.min()) < 0:
        raise BenchError("the float network has no finite answer to some of the images", where=network.shown, got=words)
    name = _written(images, answers.numpy(), f"answers of {network.shown}", words, network, folder)
    common = float(answers.bincount().max()) / len(answers)
    return Exam("agreement", name, name, words, proxy, common)


def _written(images: Bytes, labels: Ints, said: str, words: str, network: Network, folder: Path) -> str:
    info = network.info
    facts = Facts(network.classes, network.shape, info.mean, info.std, network.owner, words, said)
    content = hashlib.sha256(np.ascontiguousarray(images).tobytes())
    content.update(np.ascontiguousarray(labels, np.int64).tobytes())
    place = folder / content.hexdigest()[:16]
    if (place / "facts.json").is_file():
        return f"{TENSORS}{place.absolute()}"
    return write_tensors(place, images, labels.astype(np.int64), facts)


def _check_count(count: int, words: str) -> None:
    if count < FEWEST:
        raise BenchError("too few images to compare networks on", where=words, got=count, expected=f"{FEWEST} or more")


def _labelled(folder: Path, network: Network) -> Split:
    """The split in FOLDER/CLASS, or in FOLDER/test/CLASS.

    Raises:
        DataError: no class folders, or not as many as the network has classes.
    """
    place = folder / "test" if (folder / "test").is_dir() else folder
    place = place.expanduser().absolute()
    names = synsets() if network.owner and base_name(network.owner) in SYNSETS else ()
    if not class_folders(place):
        raise DataError("no class folders here", where=str(place), expected="CLASS/*.jpg, or test/CLASS/*.jpg")
    count = None if names else network.classes
    return open_folder(FolderSplit(place.parent, place.name, network.shape[1], tuple(names), count))


def _unlabelled(folder: Path, network: Network) -> Bytes:
    """Images uint8 [N,C,H,W] of a folder and those below it.

    Raises:
        DataError: there are none, or one cannot be read.
    """
    if not folder.is_dir():
        raise DataError("no folder here", where="--images", got=str(folder), nearest=_beside(folder))
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    picks = paired(len(files), _most(network))
    _check_count(len(picks), str(folder))
    return _fitting(np.stack([decode(files[i], network.shape[1]) for i in picks]), network)


def _beside(folder: Path) -> str | None:
    return nearest(folder.name, _names(folder.parent)) if folder.parent.is_dir() else None


def _names(folder: Path) -> Iterator[str]:
    return (path.name for path in folder.iterdir() if path.is_dir())


def _fitting(images: Bytes, network: Network) -> Bytes:
    """Images in the network's channels: grey ones as the mean of three.

    Raises:
        BenchError: they are of another size.
    """
    if images.shape[1] == 3 and network.shape[0] == 1:
        images = np.rint(images.astype(np.float32).mean(axis=1, keepdims=True)).astype(np.uint8)
    if images.shape[1:] != network.shape:
        raise BenchError("the images do not fit the network", got=images.shape[1:], expected=str(network.shape))
    return images
