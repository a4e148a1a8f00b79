"""`bench data sample`: a few images of ImageNet's training set as a data set for compressing and measuring.

Every fifth class, in ImageNet's order, gives the images that methods may draw from; the other classes are measured on.
The rule needs no labels beyond the folders' names, draws nothing, and lays both parts over all kinds of classes, which
stand by kind in ImageNet's order.  Networks trained on ImageNet have seen these images, and the board says so
(``seen_in_training``).
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bench.atomic import temporary_name
from bench.data.decoding import decode
from bench.data.listing import SUFFIXES
from bench.data.places import synsets
from bench.errors import DataError
from bench.paths import kept_in

STEP = 5
"""One class of so many gives calibration images, the first of them."""

LARGEST = 64 * 2**20
"""Bytes of an image file at most."""


def make_sample(images: Path, out: Path) -> tuple[int, int]:
    """Copy ``SYNSET/*.jpg`` of a folder or a tar file, at any depth, to ``out/{train,test}/SYNSET/`` and return how
    many there are for calibration and for the test.

    The folder appears as a whole or not at all.

    Raises:
        DataError: no image lies in a folder with a synset's name; one cannot be read; ``out`` is there already.
        StoreError: the folder cannot be written.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError("the folder is there already", where=str(out), hint="Delete it to make the sample anew.")
    order = {name: k for k, name in enumerate(synsets())}
    counts = {"train": 0, "test": 0}
    with kept_in(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_name(temporary_name(out.name))
        try:
            for synset, name, content in _files(images, order):
                part = "test" if order[synset] % STEP else "train"
                place = partial / part / synset / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
                decode(place, 224)
                counts[part] += 1
            if not all(counts.values()):
                allowed = "SYNSET/*.jpg, SYNSET as n01440764, of several classes"
                raise DataError("no images of ImageNet's classes here", where=str(images), expected=allowed)
            if out.exists():
                out.rmdir()
            partial.rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return counts["train"], counts["test"]


def _files(images: Path, order: dict[str, int]) -> Iterator[tuple[str, str, bytes]]:
    """Synset, file name and content of every image, by path."""
    if images.is_dir():
        for path in sorted(images.rglob("*")):
            if path.parent.name in order and path.suffix.lower() in SUFFIXES and path.is_file():
                yield path.parent.name, path.name, path.read_bytes()
        return
    try:
        with tarfile.open(images) as archive:
            for member in sorted(archive.getmembers(), key=lambda item: item.name):
                inner = PurePosixPath(member.name)
                if inner.parent.name not in order or inner.suffix.lower() not in SUFFIXES or not member.isfile():
                    continue
                if member.size > LARGEST:
                    raise DataError("an image file of this size is none", where=f"{images}: {member.name}")
                content = archive.extractfile(member)
                if content is not None:
                    yield inner.parent.name, inner.name, content.read()
    except (tarfile.TarError, EOFError) as error:
        raise DataError("cannot read the archive", where=str(images), got=error) from error
    except FileNotFoundError as error:
        raise DataError("there is no such folder or tar file", where=str(images)) from error
