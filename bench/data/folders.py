"""Images from folders: {split}/{class}/*.jpg, and torchvision's CIFAR files; as uint8 tensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bench.errors import DataError, nearest

Arrays = tuple[Tensor, Tensor]
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


@dataclass(frozen=True)
class FolderSplit:
    """One split of an image folder.

    ``size`` is the side in pixels (224: shorter side to 256, then centre crop). ``names`` are the class folders in the
    order of their indices; where it is empty, the sorted folders there are count, and ``classes`` how many must be.
    """

    root: Path
    split: str
    size: int
    names: tuple[str, ...] = ()
    classes: int | None = None


def _open(path: Path, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        with Image.open(path) as found:
            image = found.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise DataError("cannot read the image", where=str(path), got=error) from error
    if image.size != (size, size):
        short = size * 256 // 224 if size >= 128 else size
        scale = short / min(image.size)
        wide, high = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
        left, top = (wide - size) // 2, (high - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image, dtype=np.uint8)


@lru_cache(maxsize=2)
def read_image_folder(split: FolderSplit) -> Arrays:
    """Images uint8 [N,3,size,size] and labels int64 [N]; class index = position of the folder's name.

    With ``names``, a folder may be missing (a sample of ImageNet): it shifts no label of another.

    Raises:
        DataError: the folder is missing or empty, a class folder is unknown, or an image cannot be read.
    """
    folder = split.root / split.split
    classes = sorted(p for p in folder.glob("*") if p.is_dir())
    if not classes:
        raise DataError(
            "no images here",
            where=str(folder),
            expected=f"{split.split}/CLASS/*.jpg below the data set's folder",
            hint="name the folder with --data-root, or set BENCH_DATA",
        )
    names = split.names or tuple(c.name for c in classes)
    unknown = [c.name for c in classes if c.name not in names]
    if unknown:
        raise DataError(
            "a class folder is none of the data set's classes",
            where=str(folder),
            got=", ".join(unknown[:5]),
            expected=names[:10],
            nearest=nearest(unknown[0], names),
        )
    index = {name: k for k, name in enumerate(names)}
    paths = [(p, index[c.name]) for c in classes for p in sorted(c.iterdir()) if p.suffix.lower() in SUFFIXES]
    filled = {label for _, label in paths}
    empty = [c.name for c in classes if index[c.name] not in filled]
    if empty:
        raise DataError("a class folder holds no image", where=str(folder), got=", ".join(empty[:5]))
    if split.classes is not None and len(classes) != split.classes:
        # A missing folder would shift the labels of all that follow.
        raise DataError(
            "wrong number of class folders", where=str(folder), got=len(classes), expected=str(split.classes)
        )
    images = np.stack([_open(p, split.size) for p, _ in paths])
    labels = torch.tensor([k for _, k in paths])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels


def read_cifar(name: str, place: Path, split: str) -> Arrays:
    """CIFAR from an image folder ({train,test}/CLASS/*) or torchvision's own files below ``place``.

    Raises:
        DataError: neither is there; the hint says how to get it.
    """
    if (place / split).is_dir():
        return read_image_folder(FolderSplit(place, split, 32, classes={"cifar10": 10, "cifar100": 100}[name]))
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    try:
        found = kind(str(place), train=split == "train", download=False)
    except RuntimeError as error:
        raise DataError(
            "the data set is not here",
            where=str(place),
            expected=f"{split}/CLASS/*.jpg, or torchvision's files",
            hint=f"run: bench data fetch {name}",
        ) from error
    return torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(found.targets)
