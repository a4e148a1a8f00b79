"""Fashion-MNIST: the shipped 20,000 images, and the full training set from a folder of idx files or torchvision.

The embedded part is the complete test set and 10,000 class-balanced training images, as xz streams of raw bytes:
that is the smallest of the lossless forms tried (PNG and WebP mosaics are 5 % larger) and opens without pickle.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.errors import DataError
from bench.reading import read_bytes, read_json, unxz, unzip

Bytes = npt.NDArray[np.uint8]

SIDE = 28
EMBEDDED_PER_CLASS = 1000
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
ENV_FOLDER = "BENCH_FASHION_MNIST"
IDX_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def read_idx(path: Path) -> Bytes:
    """Read one idx file of unsigned bytes (plain or .gz); the array has the shape its header states.

    Raises:
        DataError: the file is missing, truncated, or no idx file of bytes.
    """
    try:
        raw = unzip(read_bytes(path), gzip=True) if path.suffix == ".gz" else read_bytes(path)
    except (OSError, ValueError) as error:
        raise DataError("cannot read the idx file", where=str(path), got=error) from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise DataError("is no idx file of unsigned bytes", where=str(path), got=raw[:4].hex(), expected="0000 08 nn")
    dims = raw[3]
    if len(raw) < 4 + 4 * dims:
        raise DataError(
            "the idx file is truncated", where=str(path), got=len(raw), expected=f"more than {4 + 4 * dims}"
        )
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims))
    body = np.frombuffer(raw, np.uint8, offset=4 + 4 * dims)
    if body.size != int(np.prod(shape)):
        raise DataError("the idx file is truncated", where=str(path), got=body.size, expected=str(int(np.prod(shape))))
    return body.reshape(shape)


def read_folder(folder: Path) -> dict[str, Bytes]:
    """Read the four idx files (each plain or .gz) of ``folder``: {train,test}_{images [N,28,28], labels [N]}.

    Raises:
        DataError: a file is missing or damaged, or images and labels do not match.
    """
    out: dict[str, Bytes] = {}
    for key, stem in IDX_FILES.items():
        found = [p for p in (folder / f"{stem}.gz", folder / stem) if p.is_file()]
        if not found:
            raise DataError("a Fashion-MNIST file is missing", where=str(folder), expected=f"{stem}.gz or {stem}")
        out[key] = read_idx(found[0])
    for split in ("train", "test"):
        images, labels = out[f"{split}_images"], out[f"{split}_labels"]
        if images.shape[1:] != (SIDE, SIDE) or labels.shape != images.shape[:1]:
            raise DataError("images and labels do not match", where=str(folder), got=(images.shape, labels.shape))
    return out


def embedded_indices(labels: Bytes) -> npt.NDArray[np.int64]:
    """The fixed choice: the first 1,000 images of each class in file order, ascending; int64 [10000]."""
    picks = [np.flatnonzero(labels == c)[:EMBEDDED_PER_CLASS] for c in range(10)]
    return np.sort(np.concatenate(picks)).astype(np.int64)


def pack(source: Path, dest: Path) -> None:
    """Write the embedded files to ``dest`` from a folder of idx files; how the shipped ones were made."""
    full = read_folder(source)
    indices = embedded_indices(full["train_labels"])
    arrays = {
        "train_images": full["train_images"][indices],
        "train_labels": full["train_labels"][indices],
        "test_images": full["test_images"],
        "test_labels": full["test_labels"],
    }
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 4, "lp": 0, "pb": 0}]
    entries: dict[str, dict[str, object]] = {}
    for key, array in arrays.items():
        name = f"fashion_mnist_{key}.xz"
        (dest / name).write_bytes(lzma.compress(array.tobytes(), format=lzma.FORMAT_XZ, filters=filters))
        entries[key] = {
            "file": name,
            "shape": list(array.shape),
            "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
        }
    meta = {
        "source": "Fashion-MNIST, Zalando SE, MIT licence (fashion_mnist.LICENSE)",
        "train_indices": "positions in the 60,000 training images of the original file",
        "arrays": entries,
        "indices": indices.tolist(),
    }
    (dest / "fashion_mnist.json").write_text(json.dumps(meta, separators=(",", ":")) + "\n")


def read_embedded() -> tuple[dict[str, Bytes], npt.NDArray[np.int64]]:
    """The shipped arrays (as `read_folder`, 10,000 + 10,000 images) and the original index of each training image.

    Raises:
        DataError: a file is missing or its content is not the recorded one.
    """
    folder = resources.files("bench.data") / "embedded"
    try:
        meta = read_json(folder / "fashion_mnist.json")
    except (OSError, ValueError) as error:
        raise DataError("the embedded data set is missing or damaged", where=str(folder), got=error) from error
    out: dict[str, Bytes] = {}
    for key, entry in meta["arrays"].items():
        place = folder / entry["file"]
        try:
            raw = unxz(read_bytes(place))
        except (OSError, ValueError) as error:
            raise DataError("an embedded file is missing or damaged", where=str(place), got=error) from error
        digest = hashlib.sha256(raw).hexdigest()
        if digest != entry["sha256"]:
            raise DataError("an embedded file is damaged", where=str(place), got=digest, expected=entry["sha256"])
        out[key] = np.frombuffer(raw, np.uint8).reshape(entry["shape"])
    return out, np.asarray(meta["indices"], dtype=np.int64)


def candidate_folders(cache: Path, named: Path | None) -> list[Path]:
    """Where the four idx files may lie, best first: named by the caller, $BENCH_FASHION_MNIST, cache, Debian."""
    env = os.environ.get(ENV_FOLDER)
    places = [named, Path(env) if env else None, cache / "fashion_mnist", DEBIAN_FOLDER]
    return [p for p in places if p is not None]


def read_full(places: Sequence[Path]) -> dict[str, Bytes]:
    """All 70,000 images from the first of ``places`` (see `candidate_folders`) that holds them.

    Raises:
        DataError: no folder holds the files, or a file is damaged.
    """
    stem = IDX_FILES["train_images"]
    for folder in places:
        if (folder / f"{stem}.gz").is_file() or (folder / stem).is_file():
            return read_folder(folder)
    raise DataError(
        "the full 60,000 training images are not here",
        where="fashion_mnist",
        expected=" or ".join(str(p) for p in places),
        hint="run: bench data fetch fashion_mnist",
    )
