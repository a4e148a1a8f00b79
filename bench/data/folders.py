"""Data sets that lie in folders: class folders of images, torchvision's CIFAR, scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from bench.interfaces import DatasetSpec

Split = tuple[Tensor, Tensor]


def open_image_folder(name: str) -> tuple[DatasetSpec, Callable[[], Split], Callable[[], Split]]:
    raise NotImplementedError


def read(spec: DatasetSpec, place: Path, split: str) -> Split:
    raise NotImplementedError


def read_digits(split: str) -> Split:
    raise NotImplementedError
