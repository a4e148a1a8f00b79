"""Names, facts and loaded networks of the zoo; and any network of timm or torchvision, or of the user's, by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench.errors import SuiteError, WeightsError, nearest
from bench.interfaces import DatasetSpec, Membership, ModelHandle, NetworkInfo
from bench.zoo.brought import check_brought, facts_of, load_outside
from bench.zoo.names import architecture_of, is_outside
from bench.zoo.table import GROUPS, TABLE, entry

if TYPE_CHECKING:
    import torch
    from torch import nn


def _present(dataset: str, names: Iterable[str]) -> tuple[str, ...]:
    from bench.zoo.checkpoints import weights_folder

    folder = weights_folder(dataset)
    return tuple(f"{dataset}/{name}" for name in names if (folder / f"{name}.json").exists())


def target_names(dataset: str) -> tuple[str, ...]:
    """Full names of the targets with weights for ``dataset``, in the table's order."""
    return _present(dataset, (item.name for item in TABLE if item.role == "target"))


def zoo_names(dataset: str, group: str) -> tuple[str, ...]:
    """Full names of all networks of a zoo (full, mobile, residual), with weights or without: a zoo of which a part is
    trained must not pass for the whole one, so that what is missing is an error when its manifest is asked for.

    Raises:
        SuiteError: no such zoo.
    """
    if group not in GROUPS:
        raise SuiteError("unknown zoo", got=group, expected=GROUPS, nearest=nearest(group, GROUPS))
    return tuple(f"{dataset}/{name}" for name in GROUPS[group])


def info(name: str) -> NetworkInfo:
    """What the manifest says; nothing is built, but a library's network where nobody brought weights when it is first
    seen.

    Raises:
        SuiteError: the library has no such network.
        WeightsError: no manifest for this network, or a damaged one.
    """
    fact = facts_of(name) if is_outside(name) else _fact(*_split(name))
    shape = fact.get("shape")
    return NetworkInfo(
        name=name,
        digest=fact["digest"],
        mean=tuple(fact["mean"]),
        std=tuple(fact["std"]),
        batch_norms=fact.get("batch_norms"),
        classes=fact.get("classes"),
        shape=tuple(shape) if shape else None,
        layers=fact.get("layers"),
        parameters=fact.get("parameters"),
        macs=fact["macs"],
        fp_top1=fact["top1"],
    )


def architecture(name: str) -> str:
    """What membership compares: the architecture without width, data set or checkpoint."""
    if is_outside(name):
        return architecture_of(name)
    return re.sub(r"[^a-z0-9]", "", entry(name).architecture)


def membership(target: str, models: Iterable[str]) -> Membership:
    """How ``target`` relates to the networks the images come from (full names): docs/methods/sources.md#membership."""
    names = tuple(models)
    if not names:
        return "none"
    if target in names:
        return "same checkpoint"
    if architecture(target) in {architecture(name) for name in names}:
        return "same architecture"
    return "held-out architecture"


def load(name: str) -> ModelHandle:
    """Build a network, load its weights, freeze it. ``timm:NAME`` and ``torchvision:NAME`` get the weights brought for
    them, else seeded random ones (nothing is downloaded); ``MODULE:FUNCTION`` those brought for it.

    Raises:
        SuiteError: unknown network.
        WeightsError: weights missing, damaged or of another network.
    """
    if is_outside(name):
        return load_outside(name)
    from bench.data.datasets import get_dataset
    from bench.zoo.checkpoints import freeze, load_into, weights_folder
    from bench.zoo.recipe import build_entry

    dataset, short = _split(name)
    folder = weights_folder(dataset)
    item, fact = entry(short), _fact(dataset, short)
    module = build_entry(item, get_dataset(dataset))
    load_into(module, folder / f"{short}.safetensors", fact["sha256"])
    return ModelHandle(
        name=name,
        module=freeze(module),
        digest=fact["digest"],
        architecture=item.architecture,
        family=item.family,
        macs=int(fact["macs"]),
        dataset=dataset,
        mean=tuple(fact["mean"]),
        std=tuple(fact["std"]),
        fp_top1=float(fact["top1"]),
    )


def untrained(name: str, dataset: DatasetSpec, generator: torch.Generator) -> nn.Module:
    """The network of a full name for the data set's channels, classes and frames, weights drawn anew; in training mode.

    ``timm:NAME`` is built for any shape timm's constructor takes; torchvision's networks for three channels only.

    Raises:
        SuiteError: unknown network, or one that cannot be built for this data set.
    """
    import torch

    from bench.interfaces.clips import for_clips
    from bench.zoo.libraries import build
    from bench.zoo.small import BUILDERS

    with torch.random.fork_rng(devices=[]):  # initialisers draw from the global generator
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        if is_outside(name):
            net = build(name, dataset.classes, dataset.channels)
        else:
            item = entry(_split(name)[1])
            net = BUILDERS[item.builder](dataset.classes, dataset.channels, **item.kwargs)
        return for_clips(net, dataset.frames)


def check_weights(name: str) -> None:
    """Check that a network's file is there and undamaged, and a factory's code as it was, without building it.

    Raises:
        SuiteError: a factory is not there.
        WeightsError: missing, or its digest is not the manifest's.
    """
    from bench.zoo.checkpoints import check_file, weights_folder

    if is_outside(name):
        check_brought(name)
        return
    dataset, short = _split(name)
    check_file(weights_folder(dataset) / f"{short}.safetensors", _fact(dataset, short)["sha256"])


def _split(name: str) -> tuple[str, str]:
    dataset, _, short = name.rpartition("/")
    if not dataset:
        raise WeightsError("a network's full name has its data set", got=name, expected="DATASET/NAME")
    return dataset, short


def _fact(dataset: str, short: str) -> dict[str, Any]:
    """The manifest of a network, checked: a zoo network under a target's name would undo "never a target's checkpoint".

    Raises:
        WeightsError: there is none, it is incomplete, or it is another network's.
    """
    from bench.zoo.checkpoints import REQUIRED, manifest, weights_folder

    folder = weights_folder(dataset)
    fact, where = manifest(folder, short), str(folder / f"{short}.json")
    missing = sorted(REQUIRED - fact.keys())
    if missing:
        raise WeightsError("the manifest is damaged", where=where, got=f"no {', '.join(missing)}")
    if (fact["dataset"], fact["name"]) != (dataset, short):
        got = f"{fact['dataset']}/{fact['name']}"
        raise WeightsError("these weights belong to another network", where=where, got=got)
    return fact
