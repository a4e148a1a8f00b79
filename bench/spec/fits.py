"""Whether a network takes the data set's images: classes, channels, size and constants compared before any compute."""

from __future__ import annotations

import math

from bench.data.table import VIDEO, resized
from bench.errors import SuiteError
from bench.interfaces import DatasetSpec, NetworkInfo
from bench.zoo.names import is_factory, is_outside


def check_fit(info: NetworkInfo, dataset: DatasetSpec, where: str) -> None:
    """Compare what the network's manifest says of its input and output with the data set; what it does not say is not
    compared.

    Mean and std need not be the data set's: a network's images are normalised by its own constants, wherever they come
    from (docs/methods/sources.md#pixel-space).

    Args:
        where: who asked for the network.

    Raises:
        SuiteError: they differ; one error names all that does, and what to do.
    """
    hints = []
    if info.shape is not None and info.shape[0] != dataset.shape[0]:
        hints.append(_channels_hint(info, dataset))
    if info.shape is not None and info.shape[1:] != dataset.shape[1:]:
        hints.append(_size_hint(info, info.shape, dataset))
    if info.classes is not None and info.classes != dataset.classes:
        hints.append(_classes_hint(info, dataset))
    if hints:
        raise SuiteError(
            "the network does not fit the data set",
            where=where,
            got=f"{info.name} takes {_said(info.shape, info.classes)}",
            expected=f"{_said(dataset.shape, dataset.classes)}, as {dataset.name} has",
            hint="\n  ".join(hints),
        )
    _check_constants(info, dataset.shape[0], where)


def _check_constants(info: NetworkInfo, channels: int, where: str) -> None:
    """Raise SuiteError unless mean and std normalise images of so many channels."""
    usable = all(math.isfinite(v) for v in info.mean) and all(math.isfinite(v) and v > 0 for v in info.std)
    if not usable or {len(info.mean), len(info.std)} != {channels}:
        raise SuiteError(
            "the network's constants cannot normalise the images",
            where=where,
            got=f"{info.name}: mean {info.mean}, std {info.std}",
            expected=f"{channels} finite numbers each, the std above zero",
            hint="Its manifest is damaged or another network's: register it again.",
        )


def _said(shape: tuple[int, int, int] | None, classes: int | None) -> str:
    images = f"images of {'×'.join(map(str, shape))}" if shape else "images of an unknown size"
    return f"{images}, {classes if classes is not None else 'an unknown number of'} classes"


def _channels_hint(info: NetworkInfo, dataset: DatasetSpec) -> str:
    if dataset.frames > 1 and info.shape is not None and info.shape[0] == dataset.channels:
        name = f"{VIDEO}PATH@{dataset.shape[1]}x{dataset.frames}"
        return f"It takes single frames. To have it look at clips: bench zoo add {info.name} FILE --data {name}."
    if info.shape is not None and info.shape[0] == 3:
        return "It takes colour: image folders are read in three channels, grey images too (imagefolder:PATH@SIZE)."
    return "Choose a network that was trained on such images."


def _size_hint(info: NetworkInfo, shape: tuple[int, int, int], dataset: DatasetSpec) -> str:
    name = resized(dataset.name, shape[1])
    own = f"Read the images at its size: dataset: {name}." if name and shape[1] == shape[2] else ""
    if not is_outside(info.name):
        return own or "Choose a network that was trained on images of this size."
    size = dataset.shape[1]
    other = f"For weights trained at {size} pixels: bench zoo add {info.name} FILE --data FOLDER@{size}."
    return f"{own} {other}".strip()


def _classes_hint(info: NetworkInfo, dataset: DatasetSpec) -> str:
    if not is_outside(info.name) or is_factory(info.name):
        return "Choose a network that was trained on these classes."
    count = dataset.classes
    return (
        f"For weights whose head has {count} classes: bench zoo add {info.name} FILE --classes {count} --data FOLDER."
    )
