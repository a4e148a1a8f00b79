"""`bench data fetch`: from a folder, from torchvision, or a clear word that neither works."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torchvision import datasets as torchvision_datasets

from bench.data import fashion
from bench.data.datasets import get_dataset, whole
from bench.data.fetch import fetch
from bench.errors import DataError
from tests.data.conftest import FULL_ENV


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's downloads fail as without a network."""

    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    for name in ("FashionMNIST", "CIFAR10", "CIFAR100"):
        monkeypatch.setattr(torchvision_datasets, name, refuse)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("way", ["argument", "environment", "debian"])
def test_the_files_are_copied_into_the_cache(
    cache: Path, idx_folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "environment":
        monkeypatch.setenv(FULL_ENV, str(idx_folder))
    elif way == "debian":
        monkeypatch.setattr(fashion, "DEBIAN_FOLDER", idx_folder)
    said = fetch("fashion_mnist", idx_folder if way == "argument" else None)
    assert "60 training images" in said
    assert str(cache / "fashion_mnist") in said
    for path in idx_folder.iterdir():
        path.unlink()
    images, _ = whole(get_dataset("fashion_mnist").full_train())
    assert images.shape == (60, 1, 32, 32)
    assert images.dtype == torch.uint8


@pytest.mark.usefixtures("offline")
def test_both_ways_failing_says_so(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a folder nor") as caught:
        fetch("fashion_mnist", tmp_path / "nowhere")
    text = str(caught.value)
    assert str(tmp_path / "nowhere") in text
    assert "no network" in text
    assert "apt install dataset-fashion-mnist" in text


@pytest.mark.usefixtures("offline")
def test_cifar_without_a_network_names_the_other_way(cache: Path) -> None:
    with pytest.raises(DataError, match="--data-root"):
        fetch("cifar10")


def test_what_cannot_be_fetched_is_said(cache: Path) -> None:
    with pytest.raises(DataError, match=r"image-net\.org"):
        fetch("imagenet")
    with pytest.raises(DataError, match="needs no fetching"):
        fetch("digits")
    with pytest.raises(DataError) as caught:
        fetch("cifar")
    assert caught.value.nearest == "cifar10"
