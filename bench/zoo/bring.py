"""Bringing weights for a network from outside: read, fitted, measured where images are at hand, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import DataError, SuiteError
from bench.zoo import factories
from bench.zoo.brought import DATASET, brought, network_facts_of, stem
from bench.zoo.libraries import InputSpec, create, input_of
from bench.zoo.names import OUTSIDE_FORMS, is_factory, is_outside
from bench.zoo.registered import agreed, with_entry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.data.datasets import Dataset


@dataclass(frozen=True)
class Own:
    """What a user's weights were trained on, where that is not ImageNet, and how their file is read.

    ``classes`` is the size of the head of a library's network.  ``data`` is a data set by its name (``cifar10``,
    ``activitynet``), which is measured on where its images are at hand, or a folder (``PATH``, ``PATH@SIZE``,
    ``videofolder:PATH@SIZExFRAMES``), of which test/ is.  ``mean`` and ``std`` are what the training normalised with,
    per channel of pixels in [0, 1].  ``top1`` is what the weights should reach there, in percent.  ``key`` names one of
    several state dicts in the file.
    """

    classes: int | None = None
    data: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    top1: float | None = None
    key: str | None = None


IMAGENET = Own()
"""The library's own head and ImageNet's images."""


def bring(name: str, weights: Path | None, root: Path | None = None, own: Own = IMAGENET) -> dict[str, Any]:
    """Register weights for the network ``name``, and measure them on the test images of their data set where these are
    at hand (``root``, else the cache folder).  Returns the manifest; its ``top1`` is None when not known, ``said``
    tells how the file was read.

    Args:
        weights: a file with a state dict; None for those in the library's cache, or those that a factory's network is
            built with.

    Raises:
        SuiteError: no such network, or none for images of this size; a factory's without data set.
        WeightsError: the file is missing, damaged, or another network's; or it does not reach ``own.top1``.
        DataError: the folder lacks images, or has other classes than the network.
    """
    from bench.zoo import checkpoints

    _check_asked(name, own)
    module = create(name, own.classes)
    said, cast = _load(name, module, weights, own)
    takes = _input(name, module, own)
    data = _images(takes, own, root)
    frames = data.spec.frames
    given = _is_named(own.data) or _is_folder(own)
    ready, known = network_facts_of(name, module, data.spec.shape if given else takes.shape, frames)
    takes = _with_constants(name, takes, data, known["shape"][0] // frames)
    if given or root is not None:
        _check_classes(name, known["classes"], data)
    optional = not _is_folder(own) and root is None
    measured = _measured(ready, takes, data, known["classes"], optional=optional)
    if own.top1 is not None and known["classes"] != data.spec.classes:
        raise SuiteError("an accuracy on which images?", where=name, got=own.top1, hint="Say it: --data DATASET.")
    top1 = agreed(name, measured, own.top1)
    sources = factories.sources_of(name, module) if is_factory(name) else {}
    weighed = checkpoints.digest_of(module.state_dict())
    facts = {
        "network": name,
        "digest": factories.digest_with(sources, weighed) if is_factory(name) else weighed,
        "dataset": data.spec.name.partition(":")[0],
        "head": own.classes,
        "top1": top1,
        "measured": measured is not None,
        "mean": list(takes.mean),
        "std": list(takes.std),
        "cast_from": list(cast),
        "said": list(said),
        **({"sources": sources} if is_factory(name) else {}),
        **({"frames": frames} if frames > 1 else {}),
    }
    entry = None if top1 is None else {"top1": top1, "measured": measured is not None, "test": _digest(data, measured)}
    facts["registered"] = with_entry(brought(name), facts, data.spec.name, entry)
    return checkpoints.save(module, checkpoints.weights_folder(DATASET), stem(name), facts | known)


def _check_asked(name: str, own: Own) -> None:
    if not is_outside(name):
        allowed = ", ".join(OUTSIDE_FORMS)
        what = "weights can be brought for a library's network, or for one that a function of yours builds"
        raise SuiteError(what, got=name, expected=allowed)
    if not is_factory(name):
        return
    if own.classes is not None:
        hint = "Leave --classes out."
        raise SuiteError("a function decides itself how many classes its network has", where=name, hint=hint)
    if own.data is None:
        hint = "Say it: --data NAME (cifar10, imagenet, …) or --data FOLDER@SIZE with --mean and --std."
        raise SuiteError("which images this network was trained on is not known", where=name, hint=hint)


def _load(name: str, module: nn.Module, weights: Path | None, own: Own) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Load the weights into ``module``: what was done to their names, and the types that were cast to float32."""
    from bench.zoo.checkpoints import load_state
    from bench.zoo.matching import matched
    from bench.zoo.state_dicts import read_state

    if weights is None and is_factory(name):
        load_state(module, module.state_dict(), name)
        return ("the weights are those that the function builds the network with",), ()
    if weights is None:
        if own.classes is not None:
            raise SuiteError("the library's weights have the library's head", where=name, got=f"{own.classes} classes")
        from bench.zoo.cached import load_cached

        found, place = load_cached(name, module)
    else:
        found, place = read_state(weights, own.key), weights
    found = matched(module, found, str(place))
    cast = load_state(module, found.state, str(place), None if weights is None else _head_hint(module, found.state))
    return found.notes, cast


def _input(name: str, module: nn.Module, own: Own) -> InputSpec:
    """What the network takes: the library's own configuration, with the user's constants where given; of a factory's
    network, the constants of the data set that it was trained on."""
    takes = input_of(name, module)
    mean, std = own.mean, own.std
    if is_factory(name) and (mean is None or std is None):
        if not _is_named(own.data):
            hint = "Say it: --mean R,G,B --std R,G,B."
            raise SuiteError("how the images of this folder were normalised is not known", where=name, hint=hint)
        from bench.data.table import SPECS, base_name

        spec = SPECS[base_name(str(own.data))]
        mean, std = mean or spec.mean[: spec.channels], std or spec.std[: spec.channels]
    return replace(takes, mean=mean or takes.mean, std=std or takes.std)


def _with_constants(name: str, takes: InputSpec, data: Dataset, channels: int) -> InputSpec:
    """``takes`` with constants for every channel of a clip's frames.

    Raises:
        SuiteError: there are more or fewer than an image has channels.
    """
    if {len(takes.mean), len(takes.std)} != {channels}:
        got = f"{len(takes.mean)} and {len(takes.std)} numbers"
        raise SuiteError(
            "mean and std do not fit the images", where=name, got=got, expected=f"{channels}, one for each channel"
        )
    frames = data.spec.frames
    return replace(takes, mean=takes.mean * frames, std=takes.std * frames)


def _is_named(data: str | None) -> bool:
    """Whether ``data`` is a data set of the table."""
    from bench.data.table import SPECS, base_name

    return data is not None and base_name(data) in SPECS


def _is_folder(own: Own) -> bool:
    return own.data is not None and not _is_named(own.data)


def _images(takes: InputSpec, own: Own, root: Path | None) -> Dataset:
    """The images to measure on, of the size the user says, else of the data set's or the network's own."""
    from bench.data.datasets import get_dataset
    from bench.data.table import FOLDER, SCALED, VIDEO, base_name, sized

    name = DATASET if own.data is None else own.data
    if not _is_folder(own):
        return get_dataset(sized(name, takes.shape[1]) if base_name(name) in SCALED else name, root)
    name = sized(name, takes.shape[1])
    return get_dataset(name if name.startswith((FOLDER, VIDEO)) else FOLDER + name)


def _measured(module: nn.Module, takes: InputSpec, data: Dataset, classes: int, *, optional: bool) -> float | None:
    """Top-1 in percent on the test images; None where they are of other classes, or ``optional`` and not here."""
    from bench.zoo.train import top1

    if classes != data.spec.classes:
        return None
    try:
        return top1(module, data.test_batches(size=max(1, 50 // data.spec.frames)), takes.mean, takes.std)
    except DataError:
        if not optional:
            raise
        return None


def _digest(data: Dataset, measured: float | None) -> str | None:
    return None if measured is None else data.test_digest()


def _check_classes(name: str, classes: int, data: Dataset) -> None:
    if classes == data.spec.classes:
        return
    hint = f"Weights whose head has {data.spec.classes} classes: --classes {data.spec.classes}"
    raise DataError(
        "the images have other classes than the network",
        where=data.spec.name,
        got=f"{data.spec.classes} classes",
        expected=f"{classes}, the classes of {name}",
        hint=None if is_factory(name) else hint,
    )


def _head_hint(module: nn.Module, state: Mapping[str, Tensor]) -> str | None:
    """What to do where all tensors that differ in shape differ in their first size alone, and by the same."""
    own = module.state_dict()
    if own.keys() != state.keys():
        return None
    pairs = [(value.shape, state[key].shape) for key, value in own.items() if value.shape != state[key].shape]
    if len({theirs[:1] for _, theirs in pairs}) != 1 or any(mine[1:] != theirs[1:] for mine, theirs in pairs):
        return None
    return f"A head of another size? Say its classes: --classes {pairs[0][1][0]} --data FOLDER"
