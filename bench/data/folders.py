"""Images from folders: {split}/{class}/*.jpg, decoded when they are read. No torch."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import PIL

from bench.data.decoding import READER, decode
from bench.data.listing import class_folders, class_images
from bench.data.manifests import Manifest
from bench.data.splits import Bytes, Ints, digest_of
from bench.errors import DataError, nearest

KEEP_BYTES = 128 * 2**20
"""A split that fits is kept once decoded: 32×32 images are read again for every cell, and decoding costs more than they
weigh."""


@dataclass(frozen=True)
class FolderSplit:
    """One split of an image folder.

    ``size`` is the side in pixels (224: shorter side to 256, then centre crop). ``names`` are the class folders in the
    order of their indices; where it is empty, the sorted folders there are count, and ``classes`` how many must be.
    """

    root: Path
    split: str
    size: int
    names: tuple[str, ...] = ()
    classes: int | None = None


class DecodedFiles(ABC):
    """A split (``bench.data.splits.Split``) whose samples lie in files below ``folder``; only those read are decoded.

    ``labels`` are int64 [N], ``shape`` is a sample's (C, H, W).  What a sample is made of says the subclass.
    """

    def __init__(self, folder: Path, labels: Ints, shape: tuple[int, int, int]) -> None:
        self._folder, self._labels, self._shape = folder, labels, (len(labels), *shape)
        self._digests: dict[bytes, str] = {}
        self._here = np.zeros(len(labels), dtype=bool)  # which samples of _kept are decoded

    @property
    def labels(self) -> Ints:
        """As ``Split``."""
        return self._labels

    def read(self, picks: Ints, draw: int | None = None) -> Bytes:
        """As ``Split``: uint8 [n,C,H,W]."""
        if int(np.prod(self._shape)) > KEEP_BYTES or draw is not None:
            found: Bytes = np.empty((len(picks), *self._shape[1:]), dtype=np.uint8)
            for place, sample in enumerate(self._decoded(picks, draw)):
                found[place] = sample
            return found
        new = np.unique(picks[~self._here[picks]])
        for place, sample in zip(new, self._decoded(new), strict=True):
            self._kept[place] = sample
            self._here[place] = True
        kept: Bytes = self._kept[picks]
        return kept

    def digest(self, picks: Ints | None = None) -> str:
        """As ``Split``, from the folder's manifest: no file is opened when the files are as they were."""
        picks = np.arange(len(self._labels)) if picks is None else picks
        asked = picks.tobytes()
        if asked not in self._digests:
            names = [self._names(int(i)) for i in picks]
            found = iter(self._manifest.contents([name for sample in names for name in sample]))
            contents = [list(islice(found, len(sample))) for sample in names]
            labels = self._labels[picks]
            facts = [READER, PIL.__version__, *self._facts(), contents, labels.tolist()]
            key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
            self._digests[asked] = self._manifest.digest(key, lambda: digest_of(self._hashed(picks, contents), labels))
        return self._digests[asked]

    @cached_property
    def _kept(self) -> Bytes:
        return np.empty(self._shape, dtype=np.uint8)

    def _decoded(self, picks: Ints, draw: int | None = None) -> Iterator[Bytes]:
        for i in picks:
            yield self._sample(int(i), draw)

    def _hashed(self, picks: Ints, contents: list[list[str]]) -> Iterable[Bytes]:
        """What the digest is taken over besides the labels; ``contents`` are the SHA-256 of each sample's files."""
        return self._decoded(picks)

    @cached_property
    def _manifest(self) -> Manifest:
        return self._listed()

    @abstractmethod
    def _listed(self) -> Manifest:
        """The manifest of all files."""

    @abstractmethod
    def _facts(self) -> list[object]:
        """What a sample depends on besides its files, JSON."""

    @abstractmethod
    def _names(self, index: int) -> Sequence[str]:
        """Files of a sample, relative to the folder."""

    @abstractmethod
    def _sample(self, index: int, draw: int | None) -> Bytes:
        """The sample [C,H,W]; ``draw`` as in ``Split``."""


class FolderImages(DecodedFiles):
    """The images ``files`` (relative paths) below ``folder``, of ``size`` pixels a side; ``labels`` int64 [N]."""

    def __init__(self, folder: Path, files: tuple[str, ...], labels: Ints, size: int) -> None:
        super().__init__(folder, labels, (3, size, size))
        self._files, self._size = files, size

    def _listed(self) -> Manifest:
        return Manifest(self._folder, self._files)

    def _facts(self) -> list[object]:
        return [self._size]

    def _names(self, index: int) -> Sequence[str]:
        return (self._files[index],)

    def _sample(self, index: int, draw: int | None) -> Bytes:
        return decode(self._folder / self._files[index], self._size)


@lru_cache(maxsize=8)
def open_folder(split: FolderSplit) -> FolderImages:
    """The split's files and labels, listed once per process; no image is opened. Class index = position of the folder's
    name.

    With ``names``, a folder may be missing (a sample of ImageNet): it shifts no label of another.

    Raises:
        DataError: the folder is missing or empty; a class folder is unknown, empty, or holds folders.
    """
    folder = split.root / split.split
    classes = class_folders(folder)
    if not classes:
        raise DataError(
            "no images here",
            where=str(folder),
            expected=f"{split.split}/CLASS/*.jpg below the data set's folder",
            hint="name the folder with --data-root, or set BENCH_DATA",
        )
    names = split.names or tuple(c.name for c in classes)
    unknown = [c.name for c in classes if c.name not in names]
    if unknown:
        raise DataError(
            "a class folder is none of the data set's classes",
            where=str(folder),
            got=", ".join(unknown[:5]),
            expected=names[:10],
            nearest=nearest(unknown[0], names),
        )
    index = {name: k for k, name in enumerate(names)}
    images = class_images(folder, classes)
    files = [(f"{c.name}/{name}", index[c.name]) for c, found in zip(classes, images, strict=True) for name in found]
    filled = {label for _, label in files}
    empty = [c.name for c in classes if index[c.name] not in filled]
    if empty:
        raise DataError("a class folder holds no image", where=str(folder), got=", ".join(empty[:5]))
    if split.classes is not None and len(classes) != split.classes:
        # A missing folder would shift the labels of all that follow.
        raise DataError(
            "wrong number of class folders", where=str(folder), got=len(classes), expected=str(split.classes)
        )
    labels = np.array([k for _, k in files], dtype=np.int64)
    return FolderImages(folder, tuple(name for name, _ in files), labels, split.size)
