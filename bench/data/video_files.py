"""`bench data frames`: a user's video files as frame folders and list files, decoded by PyAV.

``VIDEOS/{train,test,val}/CLASS/FILE`` (or ``VIDEOS/CLASS/FILE``, which all belong to one split) becomes
``OUT/SPLIT/CLASS/NAME/img_00001.jpg`` with a list ``OUT/SPLIT.txt``, as `bench.data.videos` reads them.  A video's
frames appear together or not at all, so the same command goes on where another was interrupted.  A file that cannot be
decoded, or that ends before the frames it says it has, is said and left out, and the others are done.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.atomic import TEMPORARY, is_abandoned, replace_file, temporary_name
from bench.data.listing import class_folders
from bench.data.videos import in_folders, list_file
from bench.errors import BenchError, DataError, nearest
from bench.paths import kept_in
from bench.reading import read_json

if TYPE_CHECKING:
    from PIL import Image

SPLITS = ("train", "test", "val")
SUFFIXES = frozenset(
    {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv", ".3gp"}
)
"""Endings of video files; what has another is no video."""

QUALITY = 90
"""Of the JPEG files."""

WHOLE = 0.9
"""Share of the frames a file says it has that must be there: containers count some that are never shown."""

TICK = 1e-3
"""Part of the time between two kept frames by which times may be off: they are rounded to the container's ticks."""

SETTINGS = "frames.json"
"""File beside the splits that holds how the frames were taken."""

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Taken:
    """Which frames of a video are kept: ``fps`` a second by the file's own times, or each ``every``-th; scaled down to
    a shorter side of ``side`` pixels (0: as they are)."""

    fps: float | None = None
    every: int | None = None
    side: int = 256


@dataclass(frozen=True)
class File:
    """A video file, and the folder below OUT for its frames: ``split``/``name``/stem."""

    path: Path
    split: str
    name: str

    @property
    def folder(self) -> str:
        return f"{self.split}/{self.name}/{self.path.stem}"


@dataclass(frozen=True)
class Extracted:
    """How many videos were decoded, how many stood already, and (file, why) of those that cannot be decoded."""

    made: int
    stood: int
    failed: tuple[tuple[Path, str], ...]


def extract(videos: Path, out: Path, taken: Taken, split: str = "train", report: Report | None = None) -> Extracted:
    """Decode all videos below ``videos`` whose frames are not in ``out`` yet, and write the lists anew.

    Args:
        split: of the videos where the folder is not divided into splits.
        report: called with the videos done and the videos in all.

    Raises:
        BenchError: PyAV is not installed.
        DataError: no videos, files where none belong, a class that no training video has, or frames in ``out`` that
            were taken in another way.
        StoreError: ``out`` cannot be written.
    """
    _library()
    if out.exists() and not out.is_dir():
        raise DataError("there is a file where the folder of the frames is to be", where=str(out))
    found = list_files(videos, split)
    _check_classes(found, out)
    made, failed = 0, list[tuple[Path, str]]()
    with kept_in(out):
        _settle(out, taken)
        for done, file in enumerate(found):
            if report is not None:
                report(done, len(found))
            if (out / file.folder).is_dir():
                continue
            try:
                _decode(file, out, taken)
                made += 1
            except DataError as error:
                failed.append((file.path, str(error.got)))
        if report is not None:
            report(len(found), len(found))
        for one in dict.fromkeys(file.split for file in found):
            _write_list(out, one)
    return Extracted(made, len(found) - made - len(failed), tuple(failed))


# --- which files ---


def list_files(videos: Path, split: str) -> list[File]:
    """The video files in order of split, class and name.

    Raises:
        DataError: as :func:`extract`.
    """
    tops = class_folders(videos)
    divided = [top for top in tops if top.name in SPLITS]
    if divided and len(divided) < len(tops):
        odd = next(top.name for top in tops if top.name not in SPLITS)
        raise DataError("splits and other folders beside each other", where=str(videos), got=odd, expected=SPLITS)
    if split not in SPLITS:
        raise DataError("no such split", got=split, expected=SPLITS, nearest=nearest(split, SPLITS))
    groups = [(top.name, class_folders(top)) for top in divided] or [(split, tops)]
    found = [
        File(path, name, folder.name)
        for name, classes in groups
        for folder in classes
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    if not found:
        allowed = f"SPLIT/CLASS/FILE or CLASS/FILE, ending in {', '.join(sorted(SUFFIXES))}"
        raise DataError("no video files here", where=str(videos), expected=allowed)
    seen: dict[str, File] = {}
    for file in found:
        if (other := seen.setdefault(file.folder, file)) is not file:
            raise DataError("two videos of one name", where=str(file.path), got=f"as {other.path.name}")
    return found


def _check_classes(found: Sequence[File], out: Path) -> None:
    """Raise DataError for a class that no training video has, here or in ``out``, where there are training videos."""
    known = {file.name for file in found if file.split == "train"}
    known |= {folder.name for folder in class_folders(out / "train")}
    for file in found:
        if known and file.name not in known:
            raise DataError(
                "no training video has this class",
                where=str(file.path),
                got=file.name,
                expected=sorted(known)[:10],
                nearest=nearest(file.name, known),
            )


# --- decoding ---


def _library() -> Any:
    try:
        import av
    except ImportError as error:
        hint = "Install it: pip install 'datafree-bench[video]'"
        raise BenchError("decoding videos needs PyAV, which is not installed", hint=hint) from error
    return av


def _decode(file: File, out: Path, taken: Taken) -> None:
    """Write the video's frames.

    Raises:
        DataError: it cannot be decoded to its end; nothing of it is left.
    """
    target = out / file.folder
    temporary = target.with_name(temporary_name(target.name))
    temporary.mkdir(parents=True)
    try:
        for number, image in enumerate(_frames(file.path, taken), 1):
            image.save(temporary / f"img_{number:05d}.jpg", quality=QUALITY)
        if not any(temporary.iterdir()):
            raise DataError("cannot decode the video", where=str(file.path), got="it has no frames")
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            target.parent.rmdir()  # a class of which no video could be decoded


def _frames(path: Path, taken: Taken) -> Iterator[Image.Image]:
    """The frames that are kept, in their order.

    Raises:
        DataError: the file cannot be decoded.
    """
    av = _library()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError("cannot decode the video", where=str(path), got="it has no pictures")
            stream, keep, count = container.streams.video[0], _Keeper(taken), 0
            for count, frame in enumerate(container.decode(stream), 1):
                if taken.fps is not None and frame.time is None:
                    raise DataError("cannot decode the video", where=str(path), got="its frames have no times")
                if keep(count - 1, frame.time):
                    yield _scaled(frame.to_image(), taken.side)
            if count < WHOLE * stream.frames:  # 0 where the file does not say
                got = f"it ends after {count} of {stream.frames} frames"
                raise DataError("cannot decode the video", where=str(path), got=got)
    except av.FFmpegError as error:
        raise DataError("cannot decode the video", where=str(path), got=error) from error


class _Keeper:
    """Which frames of one video are kept, asked in their order."""

    def __init__(self, taken: Taken) -> None:
        self._taken, self._start, self._next = taken, 0.0, 0

    def __call__(self, number: int, time: float | None) -> bool:
        """Whether frame ``number`` (from 0), shown at ``time`` seconds, is kept: by time the first one at or after each
        multiple of 1/fps since the video's beginning."""
        if self._taken.every is not None:
            return number % self._taken.every == 0
        assert self._taken.fps is not None
        assert time is not None
        self._start = time if number == 0 else self._start
        place = (time - self._start) * self._taken.fps + TICK
        if place < self._next:
            return False
        self._next = int(place) + 1
        return True


def _scaled(image: Image.Image, side: int) -> Image.Image:
    short = min(image.size)
    if not side or short <= side:
        return image
    from PIL import Image as pillow

    wide, high = (max(1, round(length * side / short)) for length in image.size)
    return image.resize((wide, high), pillow.Resampling.BILINEAR)


# --- what stays beside the frames ---


def _settle(out: Path, taken: Taken) -> None:
    """Note how frames are taken, and sweep what killed processes left.

    Raises:
        DataError: those in ``out`` were taken in another way.
    """
    path = out / SETTINGS
    asked = asdict(taken)
    try:
        noted = read_json(path)
    except FileNotFoundError:
        replace_file(path, (json.dumps(asked) + "\n").encode())
        noted = asked
    except ValueError as error:
        raise DataError("cannot be read", where=str(path), got=error) from error
    if noted != asked:
        hint = "Name another folder, or take frames in the same way."
        raise DataError(
            "frames were taken in another way here", where=str(path), got=asked, expected=str(noted), hint=hint
        )
    for left in out.glob(f"*/*/.*{TEMPORARY}*"):
        with suppress(OSError):
            if is_abandoned(left):
                shutil.rmtree(left, ignore_errors=True)


def _write_list(out: Path, split: str) -> None:
    """Write the list of the split's videos that have frames; labels follow the names of the training classes."""
    here = class_folders(out / split)
    if here:
        videos = in_folders(out, split, len(class_folders(out / "train") or here))
        lines = [f"{video.folder} {video.count} {video.label}\n" for video in videos]
        replace_file(list_file(out, split), "".join(lines).encode())
