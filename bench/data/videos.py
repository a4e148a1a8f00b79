"""Which videos a split holds and where their frames lie: class folders, or a list file.  No torch, no frame is opened.

``<root>/<split>/<class>/<video>/img_00001.jpg``, or ``<root>/<split>.txt`` with lines ``video_dir num_frames label``
(a folder below the root, how many of its frames belong to the video, the class index), the form of the Temporal Segment
Networks' lists.  Where there is a list, it decides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from bench.data.listing import SUFFIXES, class_folders
from bench.errors import DataError, nearest
from bench.reading import read_bytes

FRAME = re.compile(r"img_([0-9]{5,})(\.[A-Za-z]+)")
"""Name of a frame's file, numbered from 1 (or 0) on without a gap; of frames 100,000 on, more digits."""

LIST_LIMIT = 2**30
"""Bytes of a list file at most."""

_LAYOUT = "SPLIT/CLASS/VIDEO/img_00001.jpg, or SPLIT.txt with lines VIDEO FRAMES LABEL"


@dataclass(frozen=True)
class Video:
    """Frames ``first`` to ``first + count - 1`` in ``folder`` (relative to the data set's), of class ``label``."""

    folder: str
    count: int
    first: int
    suffix: str
    label: int

    def frame(self, index: int) -> str:
        """File of frame ``index`` (0 to count - 1), relative to the data set's folder."""
        return f"{self.folder}/img_{self.first + index:05d}{self.suffix}"


@dataclass(frozen=True)
class _Line:
    """A line of a list file; ``where`` names file and line."""

    folder: str
    count: int
    label: int
    where: str


def list_file(root: Path, split: str) -> Path:
    """Where the split's list file lies, if there is one."""
    return root / f"{split}.txt"


def training_classes(root: Path) -> tuple[int, tuple[str, ...]]:
    """How many classes the training videos have, and their names in the order of the indices; a list file has none.

    Raises:
        DataError: there are no training videos, or a class of the list has none.
    """
    path = list_file(root, "train")
    if path.is_file():
        labels = {line.label for line in _lines(path)}
        gap = next((k for k in range(len(labels)) if k not in labels), None)
        if gap is not None:
            raise DataError(
                "a class has no training video",
                where=str(path),
                got=f"labels up to {max(labels)}, none of label {gap}",
                expected="class indices from 0 on",
            )
        return len(labels), ()
    names = tuple(folder.name for folder in class_folders(root / "train"))
    if not names:
        raise DataError("no training videos here", where=str(root), expected=_LAYOUT.replace("SPLIT", "train"))
    return len(names), names


def list_videos(root: Path, split: str, classes: int) -> tuple[Video, ...]:
    """The split's videos: in the order of its list, else by class folder and name.

    Args:
        classes: how many there must be.

    Raises:
        DataError: no videos; a line of the list is wrong, or its video has fewer frames than it says; a frame is
            missing; a class that no training video has.
    """
    path = list_file(root, split)
    return _listed(root, path, classes) if path.is_file() else in_folders(root, split, classes)


def folders_of(root: Path, split: str) -> tuple[Path, ...]:
    """The topmost files and folders below ``root`` that hold the split, there or not.  Of a list that cannot be read,
    the list alone."""
    path = list_file(root, split)
    try:
        tops = {PurePosixPath(line.folder).parts[0] for line in _lines(path)} if path.is_file() else set()
    except DataError:
        tops = set()
    return (root / split, path, *(root / top for top in sorted(tops - {split})))


# --- list files ---


def _listed(root: Path, path: Path, classes: int) -> tuple[Video, ...]:
    lines = _lines(path)
    known = _training_labels(root, path) or frozenset(range(classes))
    found = []
    for line in lines:
        if line.label >= classes:
            raise DataError(
                "no such class", where=line.where, got=line.label, expected=f"a class index from 0 to {classes - 1}"
            )
        if line.label not in known:
            raise DataError("no training video has this class", where=line.where, got=line.label)
        first, count, suffix = _frames_in(root / line.folder, line.where)
        if count < line.count:
            raise DataError(
                "the video has fewer frames than the list says",
                where=line.where,
                got=f"{count} in {root / line.folder}",
                expected=f"{line.count}",
            )
        found.append(Video(line.folder, line.count, first, suffix, line.label))
    return tuple(found)


def _training_labels(root: Path, path: Path) -> frozenset[int]:
    """Labels of the training list where ``path`` is another split's; none where there is no such list."""
    train = list_file(root, "train")
    return frozenset(line.label for line in _lines(train)) if train != path and train.is_file() else frozenset()


def _lines(path: Path) -> tuple[_Line, ...]:
    stat = path.stat()
    return _read_list(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read_list(path: Path, _time: int, _size: int) -> tuple[_Line, ...]:
    """The lines of a list that are not empty, read once per version of the file."""
    try:
        text = read_bytes(path, LIST_LIMIT).decode()
    except (OSError, ValueError) as error:
        raise DataError("cannot read the list of videos", where=str(path), got=error) from error
    found = [_line(line, f"{path}:{number}") for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not found:
        raise DataError("the list names no video", where=str(path))
    return tuple(found)


def _line(text: str, where: str) -> _Line:
    parts = text.rsplit(maxsplit=2)
    if len(parts) != 3 or not all(re.fullmatch("[0-9]{1,9}", number) for number in parts[1:]) or int(parts[1]) == 0:
        allowed = "VIDEO_DIR NUM_FRAMES LABEL, such as: train/Archery/v_1 120 0"
        raise DataError("this line names no video", where=where, got=text.strip()[:200], expected=allowed)
    folder = PurePosixPath(parts[0].strip())
    if folder.is_absolute() or ".." in folder.parts or not folder.parts:
        raise DataError("the video lies outside the data set's folder", where=where, got=str(folder))
    return _Line(str(folder), int(parts[1]), int(parts[2]), where)


# --- folders ---


def in_folders(root: Path, split: str, classes: int) -> tuple[Video, ...]:
    """The videos of the split's class folders, whatever a list says.

    Raises:
        DataError: as :func:`list_videos`.
    """
    place = root / split
    found = class_folders(place)
    if not found:
        raise DataError(
            "no videos here",
            where=str(place),
            expected=_LAYOUT.replace("SPLIT", split),
            hint="Name the folder with --data-root; `bench data frames` makes one of video files.",
        )
    names = [folder.name for folder in class_folders(root / "train")] or [folder.name for folder in found]
    unknown = [folder.name for folder in found if folder.name not in names]
    if unknown:
        raise DataError(
            "a class folder is none of the training videos'",
            where=str(place),
            got=", ".join(unknown[:5]),
            expected=names[:10],
            nearest=nearest(unknown[0], names),
        )
    if len(names) != classes:
        # A missing folder would shift the labels of all that follow.
        raise DataError("wrong number of class folders", where=str(root), got=len(names), expected=str(classes))
    return tuple(video for folder in found for video in _of_class(root, folder, names.index(folder.name)))


def _of_class(root: Path, folder: Path, label: int) -> list[Video]:
    videos = class_folders(folder)
    if not videos:
        raise DataError("a class folder holds no video", where=str(folder), expected="VIDEO/img_00001.jpg below it")
    found = []
    for video in videos:
        first, count, suffix = _frames_in(video, str(video))
        found.append(Video(video.relative_to(root).as_posix(), count, first, suffix, label))
    return found


def _frames_in(folder: Path, where: str) -> tuple[int, int, str]:
    """Number of the first frame, how many there are, and their ending; what is no frame by its name is left alone.

    Raises:
        DataError: the folder is missing or holds none; one is missing between others, or is there twice.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError as error:
        raise DataError("the video's frames are not here", where=where, got=f"{folder}: {error.strerror}") from error
    matches = [found for found in map(FRAME.fullmatch, names) if found and found[2].lower() in SUFFIXES]
    if not matches:
        raise DataError("no frames here", where=where, got=str(folder), expected="img_00001.jpg, img_00002.jpg, …")
    suffixes = sorted({found[2] for found in matches})
    numbers = sorted(int(found[1]) for found in matches)
    first = min(numbers[0], 1)
    missing = _gap(numbers, first)
    if missing is not None:
        got = f"{folder / f'img_{missing:05d}{suffixes[0]}'}"
        raise DataError("a frame is missing", where=where, got=got, expected=f"{len(numbers)} frames without a gap")
    if len(suffixes) > 1:
        raise DataError("frames are of several kinds", where=where, got=f"{', '.join(suffixes)} in {folder}")
    return first, len(numbers), suffixes[0]


def _gap(numbers: Sequence[int], first: int) -> int | None:
    """The first number that is not there; None where they run from ``first`` on."""
    return next((want for want, number in enumerate(numbers, first) if number != want), None)
