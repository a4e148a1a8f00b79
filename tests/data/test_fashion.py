"""The embedded images: complete, balanced, the recorded ones; and the idx files they come from."""

from __future__ import annotations

import gzip
import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from bench.data import fashion
from bench.errors import DataError
from tests.data.conftest import idx_bytes

EMBEDDED = Path(str(resources.files("bench.data"))) / "embedded"


def full_folder() -> Path | None:
    """A folder of this machine that holds the 60,000 training images, if there is one."""
    stem = fashion.IDX_FILES["train_images"]
    places = fashion.candidate_folders(Path("/nonexistent"), None)
    return next((p for p in places if (p / f"{stem}.gz").is_file() or (p / stem).is_file()), None)


def test_the_embedded_set_is_complete_and_balanced() -> None:
    arrays, indices = fashion.read_embedded()
    for split in ("train", "test"):
        assert arrays[f"{split}_images"].shape == (10_000, 28, 28)
        assert np.bincount(arrays[f"{split}_labels"]).tolist() == [1000] * 10
    assert len(np.unique(indices)) == 10_000
    assert 0 <= indices.min() <= indices.max() < 60_000


def test_the_embedded_files_are_small_and_carry_their_licence() -> None:
    assert sum(p.stat().st_size for p in EMBEDDED.iterdir()) <= 8_000_000
    notice = (EMBEDDED / "fashion_mnist.LICENSE").read_text()
    assert "Zalando" in notice
    assert "Permission is hereby granted" in notice


@pytest.mark.skipif(full_folder() is None, reason="the full Fashion-MNIST is not on this machine")
def test_the_embedded_images_are_the_recorded_ones_of_the_full_set() -> None:
    folder = full_folder()
    assert folder is not None
    full, (arrays, indices) = fashion.read_folder(folder), fashion.read_embedded()
    assert np.array_equal(full["train_images"][indices], arrays["train_images"])
    assert np.array_equal(full["train_labels"][indices], arrays["train_labels"])
    assert np.array_equal(full["test_images"], arrays["test_images"])
    assert np.array_equal(full["test_labels"], arrays["test_labels"])
    assert np.array_equal(fashion.embedded_indices(full["train_labels"]), indices)


def test_pack_is_read_back_and_a_changed_byte_is_noticed(
    idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    packed = package / "embedded"
    packed.mkdir(parents=True)
    fashion.pack(idx_folder, packed)
    monkeypatch.setattr(fashion.resources, "files", lambda _: package)
    arrays, indices = fashion.read_embedded()
    source = fashion.read_folder(idx_folder)
    assert np.array_equal(arrays["train_images"], source["train_images"][indices])
    assert np.array_equal(arrays["test_labels"], source["test_labels"])

    meta = json.loads((packed / "fashion_mnist.json").read_text())
    meta["arrays"]["test_labels"]["sha256"] = "0" * 64
    (packed / "fashion_mnist.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match="damaged"):
        fashion.read_embedded()
    (packed / "fashion_mnist_train_images.xz").write_bytes(b"no xz stream")
    with pytest.raises(DataError, match="fashion_mnist_train_images"):
        fashion.read_embedded()
    (packed / "fashion_mnist.json").unlink()
    with pytest.raises(DataError, match="missing or damaged"):
        fashion.read_embedded()


def test_idx_files_are_read_plain_and_gzipped(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(idx_bytes(array))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx_bytes(array)))
    assert np.array_equal(fashion.read_idx(tmp_path / "a"), array)
    assert np.array_equal(fashion.read_idx(tmp_path / "a.gz"), array)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a", b"", "no idx file"),
        ("a", b"\x00\x00\x0d\x01" + bytes(8), "no idx file"),
        ("a", idx_bytes(np.zeros((4, 28, 28), np.uint8))[:-1], "truncated"),
        ("a.gz", b"not gzip at all", "cannot read"),
        ("a.gz", gzip.compress(idx_bytes(np.zeros((4, 28, 28), np.uint8)), mtime=0)[:-12], "cannot read"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=what) as caught:
        fashion.read_idx(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_folder_with_a_missing_or_mismatched_file_is_refused(idx_folder: Path) -> None:
    labels = idx_folder / fashion.IDX_FILES["train_labels"]
    labels.write_bytes(idx_bytes(np.zeros(59, np.uint8)))
    with pytest.raises(DataError, match="do not match"):
        fashion.read_folder(idx_folder)
    labels.unlink()
    with pytest.raises(DataError, match="missing"):
        fashion.read_folder(idx_folder)
