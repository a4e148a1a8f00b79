"""`bench data clips`: clips of garments made from the embedded Fashion-MNIST, whose class needs several frames.

A clip is about one garment.  Each frame shows another part of it (22 of 28 rows, 16 of 28 columns) in one half of a
black image of 32×32 pixels, somewhere up or down, and as clutter in the other half a part of the same size of another
garment, which is another one in every frame.  Which of the two parts is meant cannot be seen in a single frame, only in
what comes again; the order of the frames says nothing, as it must be for averaged logits.

Garments of the test clips are embedded test images.  The classes Shirt and Coat are left out: trained on a few thousand
garments, a network takes a quarter of the coats for pullovers, and more of the shirts for either, however many frames
it sees.  The zoo's ResNet-18 reaches 92.1 % on eight frames and 51.9 % on one.

Everything is drawn as whole numbers from the raw words of PCG-64, whose stream NumPy guarantees, and files are PNGs
without compression, so that the same bytes come out of any machine, which a digest makes sure of.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.atomic import temporary_name
from bench.data import fashion
from bench.data.splits import Bytes, Ints
from bench.errors import DataError
from bench.paths import kept_in

CLASSES = {
    "Ankle boot": 9,
    "Bag": 8,
    "Dress": 3,
    "Pullover": 2,
    "Sandal": 5,
    "Sneaker": 7,
    "T-shirt": 0,
    "Trouser": 1,
}
"""Folder of a class → its label in Fashion-MNIST; in the order of the names, as folders are read."""

GARMENTS = {"train": 600, "test": 200}
"""Clips of each class, about the first so many of its embedded images."""

LENGTHS = (8, 9, 10)
"""Frames of a clip, in turn."""

SIDE, ROWS, COLUMNS = 32, 22, 16
DIGEST = "db801d0a1dfac1497a607c9c2e245899c83535b2f35ece504f47018b585b864b"
"""SHA-256 over the names and contents of all files, in the order in which they are made."""

_SEEDS = {"train": 20_150_820, "test": 20_160_820}
_DRAWS = 8  # words for a frame

Report = Callable[[int, int], None]
File = tuple[str, bytes]


def make_clips(out: Path, report: Report = lambda done, total: None) -> int:
    """Write the clips as ``out/{train,test}/CLASS/NUMBER/img_00001.png`` and return how many there are.

    The folder appears as a whole or not at all; one that holds them already is compared file by file and left.

    Args:
        report: called with the frames done and the frames in all.

    Raises:
        DataError: the folder is a file, or holds something else; the images made here are not those made elsewhere.
        StoreError: the folder cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise DataError("there is a file where the folder of the clips is to be", where=str(out))
    total = sum(_frames_in_all(split) for split in GARMENTS)
    if out.is_dir() and any(out.iterdir()):
        _compare(out, report, total)
    else:
        with kept_in(out):
            _write(out, report, total)
    return sum(len(CLASSES) * count for count in GARMENTS.values())


def _write(out: Path, report: Report, total: int) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(temporary_name(out.name))
    try:
        found = hashlib.sha256()
        for done, (name, content) in enumerate(files(), 1):
            path = temporary / name
            if path.name == "img_00001.png":
                path.parent.mkdir(parents=True)
            path.write_bytes(content)
            found.update(name.encode() + content)
            report(done, total)
        if found.hexdigest() != DIGEST:
            raise DataError("the clips made here are not those made elsewhere", got=found.hexdigest(), expected=DIGEST)
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _compare(out: Path, report: Report, total: int) -> None:
    for done, (name, content) in enumerate(files(), 1):
        path = out / name
        try:
            same = path.read_bytes() == content
        except OSError:
            same = False
        if not same:
            hint = "Name another folder, or delete this one and make the clips anew."
            raise DataError("the folder holds something else than the clips", where=str(path), hint=hint)
        report(done, total)


def files() -> Iterator[File]:
    """Every file's path below the data set's folder and its content: class by class, clip by clip, frame by frame."""
    arrays, _ = fashion.read_embedded()
    for split in GARMENTS:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        picks = np.concatenate([np.flatnonzero(labels == label)[: GARMENTS[split]] for label in CLASSES.values()])
        words = np.random.PCG64(_SEEDS[split])
        names = [name for name in CLASSES for _ in range(GARMENTS[split])]
        for number, (name, pick) in enumerate(zip(names, picks, strict=True)):
            folder = f"{split}/{name}/{number % GARMENTS[split]:05d}"
            for frame, image in enumerate(_clip(images, picks, int(pick), _length(number), words), 1):
                yield f"{folder}/img_{frame:05d}.png", png(image)


def _length(number: int) -> int:
    return LENGTHS[number % len(LENGTHS)]


def _frames_in_all(split: str) -> int:
    return sum(_length(number) for number in range(len(CLASSES) * GARMENTS[split]))


def _clip(images: Bytes, picks: Ints, pick: int, length: int, words: np.random.PCG64) -> Iterator[Bytes]:
    """The frames uint8 [32,32] of a clip of garment ``pick``; clutter comes from the garments ``picks``."""
    draws = (words.random_raw(length * _DRAWS).reshape(length, _DRAWS) >> np.uint64(33)).astype(np.int64)
    spare, across = fashion.SIDE - ROWS, fashion.SIDE - COLUMNS
    # Parts begin at four columns and two rows, a pixel more or less; each comes once, then some a second time.
    order = np.argsort(words.random_raw(8), kind="stable")
    for frame, draw in enumerate(draws):
        part = int(order[frame % 8])
        top = min(max(part // 4 * spare + int(draw[0] % 3) - 1, 0), spare)
        left = min(max(part % 4 * across // 3 + int(draw[1] % 3) - 1, 0), across)
        other = int(picks[draw[2] % len(picks)])
        image = np.zeros((SIDE, SIDE), np.uint8)
        half = int(draw[3] % 2)
        _paste(image, images[pick, top : top + ROWS, left : left + COLUMNS], half, draw[4])
        top, left = int(draw[5] % (spare + 1)), int(draw[6] % (across + 1))
        _paste(image, images[other, top : top + ROWS, left : left + COLUMNS], 1 - half, draw[7])
        yield image


def _paste(image: Bytes, part: Bytes, half: int, draw: np.int64) -> None:
    """Put a part into the left (0) or right (1) half of an image, somewhere up or down."""
    top = int(draw % (SIDE - ROWS + 1))
    image[top : top + ROWS, half * COLUMNS : half * COLUMNS + COLUMNS] = part


def png(image: npt.NDArray[np.uint8]) -> bytes:
    """A grey image [H, W] as a PNG without compression: its bytes depend on no version of a library."""
    height, width = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)  # 0: no filter
    stored = b"\x01" + struct.pack("<HH", len(rows), 0xFFFF - len(rows)) + rows  # one last block, stored
    packed = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
