"""Nothing below a class's folder is dropped without a word."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from bench.data.folders import FolderSplit, open_folder
from bench.data.table import spec_of
from bench.errors import DataError

Make = Callable[..., Path]


@pytest.fixture
def root(cache: Path, image_folder: Make) -> Path:
    return image_folder(("train", "test"), ("cat", "dog"), 2, (16, 16))


def count(root: Path) -> int:
    open_folder.cache_clear()
    return len(open_folder(FolderSplit(root, "test", 16)).labels)


def test_files_that_are_no_images_are_counted_and_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = Image.new("RGB", (16, 16))
    image.save(root / "test" / "dog" / "b.gif")
    image.save(root / "test" / "dog" / "c.GIF")
    (root / "test" / "dog" / "plain").touch()
    image.save(root / "test" / "stray.png")
    (root / "test" / "README.md").touch()  # beside the classes: nobody takes it for one of their images
    assert count(root) == 4
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{root / 'test'}: 6 files are left out (2 of .gif, 1 of .png, 2 of .txt, 1 of no ending;")
    assert "the first: stray.png" in said
    assert ".tif" in said


def test_nothing_is_said_where_nothing_is_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (root / "test").rglob("*.txt"):
        path.unlink()
    assert count(root) == 4
    assert caplog.records == []


def test_every_ending_counts_whatever_its_case(root: Path) -> None:
    for ending in ("JPG", "jpeg", "tif", "TIFF", "webp", "bmp"):
        Image.new("RGB", (16, 16)).save(root / "test" / "cat" / f"x.{ending}")
    assert count(root) == 4 + 6


def test_dot_files_and_dot_folders_are_ignored(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (root / "test").rglob("*.txt"):
        path.unlink()
    for folder in (root / "train", root / "test", root / "test" / "cat"):
        (folder / ".ipynb_checkpoints").mkdir()
        (folder / ".ipynb_checkpoints" / "a.png").touch()
        (folder / ".DS_Store").touch()
        (folder / "._000.png").touch()
    assert count(root) == 4
    assert spec_of(f"imagefolder:{root}").class_names == ("cat", "dog")
    assert caplog.records == []


def test_folders_below_a_class_are_an_error(root: Path) -> None:
    below = root / "test" / "dog" / "more"
    (below / "deep").mkdir(parents=True)
    for path in (below / "a.png", below / "deep" / "b.png"):
        Image.new("RGB", (16, 16)).save(path)
    with pytest.raises(DataError, match="a class folder holds folders") as caught:
        count(root)
    assert caught.value.where == str(root / "test" / "dog")
    assert caught.value.got == "more (2 files)"
    assert "Move the images up" in str(caught.value)


def test_a_folder_that_is_called_like_an_image_is_no_image(root: Path) -> None:
    (root / "test" / "cat" / "z.png").mkdir()
    with pytest.raises(DataError, match="holds folders"):
        count(root)


def test_a_link_to_nothing_is_named_when_it_is_read(root: Path) -> None:
    (root / "test" / "cat" / "z.png").symlink_to(root / "nowhere.png")
    assert count(root) == 5
    with pytest.raises(DataError, match=r"cannot read the image[\s\S]*") as caught:
        open_folder(FolderSplit(root, "test", 16)).digest()
    assert caught.value.where == str(root / "test" / "cat" / "z.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_left_out_and_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(root / "test" / "cat" / "z.png")
    assert count(root) == 4
    assert "1 of .png, 2 of .txt" in caplog.text
