"""Image folders: read as asked for, digested from a manifest, damaged images named."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.data import folders, manifests
from bench.data.folders import FolderImages, FolderSplit, open_folder
from bench.errors import DataError
from bench.notes import read_note

Make = Callable[..., Path]
CLASSES = ("cat", "dog", "owl")


@pytest.fixture
def root(cache: Path, image_folder: Make) -> Path:
    return image_folder(("test",), CLASSES, 4, (40, 30))


def opened(root: Path, size: int = 16) -> FolderImages:
    """The split as another process finds it."""
    open_folder.cache_clear()
    return open_folder(FolderSplit(root, "test", size))


def by_hand(root: Path, size: int = 16) -> str:
    """SHA-256 of all images as one array, then of all labels."""
    files = sorted((root / "test").rglob("*.png"))
    images = np.stack([folders.decode(path, size) for path in files])
    labels = np.array([CLASSES.index(path.parent.name) for path in files], dtype=np.int64)
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The paths of the images decoded from here on."""
    seen: list[Path] = []
    decode = folders.decode

    def watched(path: Path, size: int) -> folders.Bytes:
        seen.append(path)
        return decode(path, size)

    monkeypatch.setattr(folders, "decode", watched)
    return seen


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose content is hashed from here on."""
    seen: list[str] = []
    digest = hashlib.file_digest

    def watched(file, name):  # type: ignore[no-untyped-def]
        seen.append(Path(file.name).name)
        return digest(file, name)

    monkeypatch.setattr(manifests.hashlib, "file_digest", watched)
    return seen


def test_the_digest_is_that_of_the_whole_array(root: Path) -> None:
    split = opened(root)
    assert split.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert split.digest() == by_hand(root)
    picks = np.array([1, 6, 11])
    images = split.read(picks)
    expected = hashlib.sha256(images.tobytes() + split.labels[picks].tobytes()).hexdigest()
    assert split.digest(picks) == expected != split.digest()
    assert opened(root, 8).digest() == by_hand(root, 8) != split.digest()


def test_an_unchanged_folder_opens_no_image(root: Path, decoded: list[Path], hashed: list[str]) -> None:
    first = opened(root).digest()
    assert len(decoded) == len(hashed) == 12
    decoded.clear()
    hashed.clear()
    again = opened(root)
    assert [again.digest(), again.digest()] == [first, first]
    assert decoded == hashed == []


def test_a_changed_file_changes_the_digest_and_is_the_only_one_hashed(
    root: Path, hashed: list[str], decoded: list[Path]
) -> None:
    before = opened(root).digest()
    one, other = root / "test" / "dog" / "001.png", root / "test" / "owl" / "002.png"
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    os.utime(one, ns=(0, 1))
    hashed.clear()
    changed = opened(root).digest()
    assert hashed == ["001.png"]
    assert changed == by_hand(root) != before
    one.write_bytes(kept)
    os.utime(one, ns=(0, 2))
    decoded.clear()
    assert opened(root).digest() == before  # the old content is known
    assert decoded == []


def test_a_new_and_a_removed_file_change_the_digest(root: Path) -> None:
    before = opened(root).digest()
    (root / "test" / "cat" / "003.png").rename(root / "test" / "owl" / "009.png")
    moved = opened(root)
    assert moved.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 5
    assert moved.digest() == by_hand(root) != before


@pytest.mark.parametrize("damage", [b"no json", b"[1, 2]", b'{"schema": 1, "files": {}, "digests": {}}', None])
def test_a_damaged_manifest_is_made_again(root: Path, cache: Path, damage: bytes | None) -> None:
    first = opened(root).digest()
    (path,) = (cache / "manifests").iterdir()
    good = path.read_bytes()
    path.write_bytes(good.replace(b"cat/000.png", b"cat/009.png") if damage is None else damage)
    assert opened(root).digest() == first
    assert path.read_bytes() == good
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file is left


def test_a_cache_that_cannot_be_written_costs_only_time(
    root: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the folder should be")
    assert opened(root).digest() == by_hand(root)
    assert "cannot be kept" in caplog.text


def test_old_digests_do_not_pile_up(root: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(manifests, "KEPT", 2)
    split = opened(root)
    for i in range(4):
        split.digest(np.array([i]))
    (path,) = (cache / "manifests").iterdir()
    assert len(read_note(path, manifests.KIND)["digests"]) == 2


def test_large_splits_are_decoded_anew_and_small_ones_are_kept(
    root: Path, decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    picks = np.array([3, 0, 3])
    kept = opened(root)
    first = kept.read(picks)
    assert len(decoded) == 2
    first[:] = 0  # the reader's own copy
    assert np.array_equal(kept.read(picks), np.stack([folders.decode(p, 16) for p in _files(root)])[picks])
    decoded.clear()
    kept.read(picks)
    assert decoded == []
    expected = kept.read(picks)
    monkeypatch.setattr(folders, "KEEP_BYTES", 12 * 3 * 16 * 16 - 1)
    large = opened(root)
    for _ in range(2):
        assert np.array_equal(large.read(picks), expected)
    assert len(decoded) == 6


def _files(root: Path) -> list[Path]:
    return sorted((root / "test").rglob("*.png"))


@pytest.mark.parametrize("content", [b"no image", b"", None])
def test_a_damaged_image_is_named(root: Path, content: bytes | None) -> None:
    broken = root / "test" / "dog" / "002.png"
    broken.write_bytes(broken.read_bytes()[:60] if content is None else content)
    split = opened(root)
    for read in (split.digest, lambda: split.read(np.arange(12))):
        with pytest.raises(DataError, match="cannot read the image") as caught:
            read()
        assert str(broken) in str(caught.value)
    split.read(np.arange(5))  # those before it are as good as ever


def test_a_file_that_vanishes_is_named(root: Path) -> None:
    split = opened(root)
    (root / "test" / "owl" / "001.png").unlink()
    for read in (split.digest, lambda: split.read(np.arange(12))):
        with pytest.raises(DataError, match="cannot read the image") as caught:
            read()
        assert "owl/001.png" in str(caught.value)
