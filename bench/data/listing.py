"""What lies below a split's folder: its class folders, their images, and what is no image.  No torch."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.errors import DataError

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def class_folders(folder: Path) -> list[Path]:
    """The folders in ``folder`` by name, but those whose name begins with a dot; none where it is no folder.

    Raises:
        DataError: it cannot be read.
    """
    return [folder / entry.name for entry in _entries(folder) if entry.is_dir()] if folder.is_dir() else []


def class_images(folder: Path, classes: Sequence[Path]) -> list[list[str]]:
    """The names of the images of each class folder in ``folder``, sorted.  Files that are none by their ending, and
    images beside the class folders, are counted and said in one warning; names that begin with a dot are ignored.

    Raises:
        DataError: a class folder cannot be read, or holds folders: whether what lies there belongs to the class cannot
            be told.
    """
    images: list[list[str]] = []
    left_out = [entry.path for entry in _entries(folder) if not entry.is_dir() and _is_image(entry)]
    for one in classes:
        entries = _entries(one)
        _check_flat(one, entries)
        images.append([entry.name for entry in entries if _is_image(entry)])
        left_out += [entry.path for entry in entries if not _is_image(entry)]
    if left_out and multiprocessing.parent_process() is None:  # whoever started a worker has planned, and said it
        _say(folder, left_out)
    return images


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in the folder, by name; the system tells kinds with the names, so no file is looked at."""
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError("cannot read the folder", where=str(folder), got=error.strerror) from error


def _check_flat(folder: Path, entries: Sequence[os.DirEntry[str]]) -> None:
    below = [entry for entry in entries if entry.is_dir()]
    if below:
        count = sum(len(files) for entry in below for _, _, files in os.walk(entry.path))
        raise DataError(
            "a class folder holds folders",
            where=str(folder),
            got=f"{', '.join(entry.name for entry in below[:5])} ({count} files)",
            expected="the class's images, and no folder below them",
            hint="Move the images up into the class's folder, or take the folders away.",
        )


def _say(folder: Path, left_out: Sequence[str]) -> None:
    kinds = Counter(os.path.splitext(path)[1].lower() or "no ending" for path in left_out)
    log.warning(
        "%s: %d files are left out (%s; the first: %s); images end in %s and lie in a class's folder",
        folder,
        len(left_out),
        ", ".join(f"{count} of {kind}" for kind, count in sorted(kinds.items())),
        os.path.relpath(left_out[0], folder),
        ", ".join(sorted(SUFFIXES)),
    )


def _is_image(entry: os.DirEntry[str]) -> bool:
    """By its ending; a link to nothing counts, and is named when it is read, but no pipe, which would never end."""
    return (entry.is_file() or entry.is_symlink()) and os.path.splitext(entry.name)[1].lower() in SUFFIXES
