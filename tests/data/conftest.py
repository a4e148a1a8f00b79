"""Small idx files and image folders, and a cache folder of the test's own."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import fashion

FULL_ENV = fashion.ENV_FOLDER


def idx_bytes(array: fashion.Bytes) -> bytes:
    """An array in the idx format."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user cache; no Fashion-MNIST folder of the machine is seen."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("BENCH_DATA", str(folder))
    monkeypatch.delenv(FULL_ENV, raising=False)
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", tmp_path / "no-debian")
    return folder


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """Four idx files, two gzipped and two plain, of 60 training and 20 test images."""
    folder = tmp_path / "idx"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (rng.permutation(count) % 10).astype(np.uint8)
        (folder / f"{fashion.IDX_FILES[f'{split}_images']}.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / fashion.IDX_FILES[f"{split}_labels"]).write_bytes(idx_bytes(labels))
    return folder


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Make {split}/{class}/*.png below a new folder; each image has the one colour that `colour_of` tells."""

    def make(splits: tuple[str, ...], classes: tuple[str, ...], each: int, size: tuple[int, int]) -> Path:
        root = tmp_path / "images"
        for split in splits:
            for k, name in enumerate(classes):
                folder = root / split / name
                folder.mkdir(parents=True)
                for i in range(each):
                    Image.new("RGB", size, colour_of(k, i)).save(folder / f"{i:03d}.png")
                (folder / "notes.txt").write_text("no image")
        return root

    return make


def colour_of(label: int, place: int) -> tuple[int, int, int]:
    """The colour of image ``place`` of class ``label``."""
    return (10 * label, 20 * place, 200)
