"""Weights a user brought for a network of timm or torchvision, and what is known of those with random weights.

Brought weights are copied into the user's cache folder as safetensors with a manifest, so that their digest is part of
every cell's identity and their accuracy is registered for the FP32 gate.  What is found out about a network with random
weights is kept there, too (``bench.zoo.seen``), so that planning imports no library again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import DataError, SuiteError, WeightsError
from bench.interfaces import ModelHandle
from bench.zoo.libraries import UNFIT, InputSpec, architecture_of, create, input_of, library_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.data.datasets import Dataset

DATASET = "imagenet"
"""What the libraries' networks are built for: 1,000 classes, three channels."""


@dataclass(frozen=True)
class Own:
    """What a user's weights were trained on, where that is not ImageNet.

    ``classes`` is the size of the head; ``folder`` (``PATH`` or ``PATH@SIZE``) holds the images, of which test/ is
    measured on; or it is a data set of videos by its name (``videofolder:PATH@SIZExFRAMES``, ``activitynet``), and the
    network then looks at clips.  ``mean`` and ``std`` are what the training normalised with, per channel of pixels in
    [0, 1].
    """

    classes: int | None = None
    folder: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


IMAGENET = Own()
"""The library's own head and ImageNet's images."""


def brought(name: str) -> dict[str, Any] | None:
    """The manifest of the weights brought for ``name``; None when there are none.

    Raises:
        WeightsError: the manifest is damaged or another network's.
    """
    from bench.zoo.checkpoints import REQUIRED, manifest, weights_folder

    path = weights_folder(DATASET) / f"{_stem(name)}.json"
    if not path.exists():
        return None
    fact = manifest(path.parent, path.stem)
    if REQUIRED - fact.keys() or fact.get("network") != name:
        raise WeightsError("these weights belong to another network", where=str(path), got=fact.get("network"))
    return fact


def facts_of(name: str) -> dict[str, Any]:
    """The manifest of the weights brought for ``name``, else that of its random ones, for which the network is built
    when it is first seen.

    Raises:
        SuiteError: the library has no such network.
        WeightsError: the manifest is damaged or another network's.
    """
    from bench.zoo.seen import read_facts, write_facts

    library = name.split(":", 1)[0]
    found = brought(name) or read_facts(library, name)
    if found is None:
        found = _random_facts(name, create(name))
        write_facts(library, name, found)
    return found


def bring(name: str, weights: Path, root: Path | None = None, own: Own = Own()) -> dict[str, Any]:
    """Register the state dict in the file ``weights`` for the network ``name``, and measure it on the test images of
    the user's ``own`` folder, else on ImageNet's where they are at hand (``root``, else the cache folder). Returns the
    manifest; its ``top1`` is None when not measured.

    Raises:
        SuiteError: no such network, or none for images of this size.
        WeightsError: the file is missing, damaged, or another network's.
        DataError: the folder lacks images, or has other classes than the network.
    """
    from bench.zoo import checkpoints

    if library_of(name) is None:
        raise SuiteError(
            "weights can be brought for a library's network", got=name, expected="timm:NAME or torchvision:NAME"
        )
    from bench.zoo.state_dicts import read_state

    module = create(name, own.classes)
    state = read_state(weights)
    cast = checkpoints.load_state(module, state, str(weights), _head_hint(module, state))
    takes = input_of(name, module)
    takes = replace(takes, mean=own.mean or takes.mean, std=own.std or takes.std)
    data = _images(takes, own, root)
    frames = data.spec.frames
    ready, known = _network_facts(name, module, data.spec.shape if own.folder is not None else takes.shape, frames)
    takes = replace(takes, mean=takes.mean * frames, std=takes.std * frames)
    if own.folder is not None or root is not None:
        _check_classes(name, known["classes"], data)
    facts = {
        "network": name,
        "dataset": data.spec.name.partition(":")[0],
        "head": own.classes,
        "top1": _measured(ready, takes, data, known["classes"], optional=own.folder is None and root is None),
        "mean": list(takes.mean),
        "std": list(takes.std),
        "cast_from": list(cast),
        **({"frames": frames} if frames > 1 else {}),
    }
    return checkpoints.save(module, checkpoints.weights_folder(DATASET), _stem(name), facts | known)


def load_library(name: str) -> ModelHandle:
    """The network with its brought weights, else with random ones of a fixed seed.

    Raises:
        SuiteError: the library has no such network.
        WeightsError: brought weights are damaged or another network's.
    """
    from bench.interfaces.clips import for_clips
    from bench.zoo.checkpoints import freeze, load_into, weights_folder
    from bench.zoo.outputs import returning_logits

    fact = brought(name)
    module = create(name, fact.get("head") if fact else None)
    if fact is not None:
        load_into(module, weights_folder(DATASET) / f"{_stem(name)}.safetensors", fact["sha256"])
    else:
        fact = _random_facts(name, module)
    frames = fact.get("frames", 1)
    return ModelHandle(
        name=name,
        module=freeze(for_clips(returning_logits(module, _frame(_shape(fact), frames), name), frames)),
        digest=fact["digest"],
        architecture=architecture_of(name),
        family=name.split(":", 1)[0],
        macs=fact["macs"],
        dataset=DATASET,
        mean=tuple(fact["mean"]),
        std=tuple(fact["std"]),
        fp_top1=fact["top1"],
    )


def _random_facts(name: str, module: nn.Module) -> dict[str, Any]:
    """What is to be known of ``module``, the network ``name`` with random weights."""
    from bench.zoo.checkpoints import digest_of

    takes = input_of(name, module)
    facts = {"network": name, "top1": None, "mean": list(takes.mean), "std": list(takes.std)}
    return {**facts, "digest": digest_of(module.state_dict()), **_network_facts(name, module, takes.shape)[1]}


def _network_facts(
    name: str, module: nn.Module, shape: tuple[int, int, int], frames: int = 1
) -> tuple[nn.Module, dict[str, Any]]:
    """``module`` so that it returns logits of images, or of clips of ``frames``, and its ``network_facts``.

    Raises:
        SuiteError: the network does not run on images of ``shape`` (C, H, W).
        WeightsError: it returns no logits.
    """
    from bench.interfaces.clips import for_clips
    from bench.zoo.macs import network_facts
    from bench.zoo.outputs import returning_logits

    try:
        ready = for_clips(returning_logits(module, _frame(shape, frames), name), frames)
        return ready, network_facts(ready, shape)
    except UNFIT as error:
        own = "×".join(map(str, input_of(name, module).shape))
        raise SuiteError(
            "the network does not run on images of this size",
            where=name,
            got=f"{'×'.join(map(str, _frame(shape, frames)))}: {error}",
            expected=f"its library says {own}",
        ) from error


def _images(takes: InputSpec, own: Own, root: Path | None) -> Dataset:
    """The images to measure on, of the size the user says, else of the network's own."""
    from bench.data.datasets import get_dataset
    from bench.data.table import FOLDER, SPECS, VIDEO, base_name, sized

    name = sized(DATASET if own.folder is None else own.folder, takes.shape[1])
    known = SPECS.get(base_name(name))
    if own.folder is None or (known is not None and known.frames > 1):
        return get_dataset(name, root)
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


def _check_classes(name: str, classes: int, data: Dataset) -> None:
    if classes != data.spec.classes:
        raise DataError(
            "the folder has other classes than the network",
            where=data.spec.name,
            got=f"{data.spec.classes} class folders",
            expected=f"{classes}, the classes of {name}",
            hint=f"Weights whose head has {data.spec.classes} classes: --classes {data.spec.classes}",
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


def _shape(fact: Mapping[str, Any]) -> tuple[int, int, int]:
    """Shape (C, H, W) of the images that a manifest is for."""
    channels, height, width = fact["shape"]
    return channels, height, width


def _frame(shape: tuple[int, int, int], frames: int) -> tuple[int, int, int]:
    """Shape of a single frame of a clip of ``shape`` (N·C, H, W)."""
    return shape[0] // frames, *shape[1:]


def _stem(name: str) -> str:
    return name.replace(":", "_").replace("/", "_")
