"""`bench data fetch`: the full files of a data set, from a folder or torchvision's own download."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.error import URLError

from bench.data import fashion
from bench.data.table import SPECS
from bench.errors import DataError, nearest
from bench.paths import cache_folder, kept_in

FETCHABLE = ("fashion_mnist", "cifar10", "cifar100")

_VIDEOS = "Its videos have to be had from their authors; name the folder of their frames with --data-root."
HINTS = {
    "imagenet": "ImageNet has to be asked for at image-net.org; name its folder with --data-root.",
    "imagenet_sample": "It is cut from images of yours: bench data sample FOLDER.",
    "activitynet": _VIDEOS,
    "mini_kinetics": _VIDEOS,
    "fashion_clips": "It is made from the embedded images: bench data clips",
}
"""What to do for data sets that are not fetched."""


def fetch(name: str, source: Path | None = None) -> str:
    """Put the full data set into the cache folder; returns what was done.

    Args:
        source: a folder that holds the files already; for Fashion-MNIST the four idx files.

    Raises:
        DataError: unknown data set; no folder has it and the download fails.
    """
    if name not in FETCHABLE:
        known = name in SPECS
        raise DataError(
            "needs no fetching" if known else "unknown data set",
            got=name,
            expected=FETCHABLE,
            nearest=None if known else nearest(name, FETCHABLE),
            hint=HINTS.get(name),
        )
    place = cache_folder() / name
    with kept_in(place):
        return _fashion(place, source) if name == "fashion_mnist" else _torchvision(name, place, [])


def _fashion(place: Path, source: Path | None) -> str:
    tried = []
    for folder in fashion.candidate_folders(cache_folder(), source):
        try:
            found = fashion.read_folder(folder)
        except DataError as error:
            tried.append(str(error).splitlines()[0])
            continue
        if folder != place:
            place.mkdir(parents=True, exist_ok=True)
            for stem in fashion.IDX_FILES.values():
                for path in (folder / f"{stem}.gz", folder / stem):
                    if path.is_file():
                        shutil.copy2(path, place / path.name)
                        break
        return f"{len(found['train_labels'])} training images from {folder}, now in {place}"
    done = _torchvision("fashion_mnist", place, tried)
    raw = place / "FashionMNIST" / "raw"
    for stem in fashion.IDX_FILES.values():
        shutil.copy2(raw / f"{stem}.gz", place / f"{stem}.gz")
    return done


def _torchvision(name: str, place: Path, tried: list[str]) -> str:
    from torchvision import datasets

    kind = {"fashion_mnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    try:
        for train in (True, False):
            kind(str(place), train=train, download=True)
    except (RuntimeError, URLError, OSError) as error:
        where = "; ".join(tried) or "no folder was named"
        raise DataError(
            "neither a folder nor torchvision's download gives this data set",
            where=name,
            got=f"folders: {where}; download: {error}",
            hint="Debian: apt install dataset-fashion-mnist. Else name the folder with --from."
            if name == "fashion_mnist"
            else "Put {train,test}/CLASS/*.jpg into a folder and name it with --data-root.",
        ) from error
    return f"downloaded to {place}"
