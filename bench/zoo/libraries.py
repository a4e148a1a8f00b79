"""Networks of timm and torchvision by name: with weights the user brought, else with seeded random ones.

Nothing is downloaded.  Brought weights are copied into the user's cache folder as safetensors with a manifest, so that
their digest is part of every cell's identity and their accuracy is registered for the FP32 gate.  What is found out
about a network with random weights is kept there, too (``bench.zoo.seen``), so that planning imports no library again.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import DataError, SuiteError, WeightsError, nearest
from bench.interfaces import ModelHandle

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("timm", "torchvision")
DATASET = "imagenet"
"""What the libraries' networks are built for: 1,000 classes, three channels, 224 pixels."""

_SHAPE = (3, 224, 224)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def library_of(name: str) -> str | None:
    """ "timm" or "torchvision" when ``name`` is one of theirs."""
    prefix = name.split(":", 1)[0]
    return prefix if ":" in name and prefix in LIBRARIES else None


def architecture_of(name: str) -> str:
    """The architecture without its width (suffixes _100, _1_0, _x1_0, 1_0) and weight tag, in letters and digits."""
    bare = re.sub(r"_(\d+|[\dx]+_\d+)$|(?<=[a-z])\d_\d$", "", name.split(":", 1)[1].split(".")[0])
    return re.sub(r"[^a-z0-9]", "", bare)


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
    if REQUIRED - fact.keys() or fact["network"] != name:
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
        found = _facts(name, create(name))
        write_facts(library, name, found)
    return found


def _facts(name: str, module: nn.Module) -> dict[str, Any]:
    """What is to be known of ``module``, the network ``name`` with random weights."""
    from bench.zoo.checkpoints import digest_of
    from bench.zoo.macs import network_facts
    from bench.zoo.outputs import returning_logits

    mean, std = _IMAGENET
    facts = {"network": name, "top1": None, "mean": list(mean), "std": list(std)}
    counted = network_facts(returning_logits(module, _SHAPE, name), _SHAPE)
    return {**facts, "digest": digest_of(module.state_dict()), **counted}


def bring(name: str, weights: Path, root: Path | None = None) -> dict[str, Any]:
    """Register the safetensors file ``weights`` for the network ``name``, and measure it where ImageNet's validation
    images are at hand (``root``, else the cache folder). Returns the manifest; its ``top1`` is None when not measured.

    Raises:
        SuiteError: no such network.
        WeightsError: the file is missing, damaged, or another network's.
    """
    from bench.data.datasets import get_dataset
    from bench.zoo import checkpoints
    from bench.zoo.macs import network_facts
    from bench.zoo.outputs import returning_logits
    from bench.zoo.train import top1

    if library_of(name) is None:
        raise SuiteError(
            "weights can be brought for a library's network", got=name, expected="timm:NAME or torchvision:NAME"
        )
    module = create(name)
    cast = checkpoints.load_into(module, weights)
    mean, std = _constants(module)
    ready = returning_logits(module, _SHAPE, name)
    try:
        measured = top1(ready, get_dataset(DATASET, root).test_batches(size=50), mean, std)
    except DataError:
        if root is not None:
            raise
        measured = None
    facts: dict[str, Any] = {
        "network": name,
        "dataset": DATASET,
        "top1": measured,
        "mean": list(mean),
        "std": list(std),
    }
    facts |= {"cast_from": list(cast), **network_facts(ready, _SHAPE)}
    return checkpoints.save(module, checkpoints.weights_folder(DATASET), _stem(name), facts)


def load_library(name: str) -> ModelHandle:
    """The network with its brought weights, else with random ones of a fixed seed.

    Raises:
        SuiteError: the library has no such network.
        WeightsError: brought weights are damaged or another network's, or it returns no logits.
    """
    from bench.zoo.checkpoints import freeze, load_into, weights_folder
    from bench.zoo.outputs import returning_logits

    module, fact = create(name), brought(name)
    if fact is not None:
        load_into(module, weights_folder(DATASET) / f"{_stem(name)}.safetensors", fact["sha256"])
    else:
        fact = _facts(name, module)
    return ModelHandle(
        name=name,
        module=freeze(returning_logits(module, _SHAPE, name)),
        digest=fact["digest"],
        architecture=architecture_of(name),
        family=name.split(":", 1)[0],
        macs=fact["macs"],
        dataset=DATASET,
        mean=tuple(fact["mean"]),
        std=tuple(fact["std"]),
        fp_top1=fact["top1"],
    )


def create(name: str) -> nn.Module:
    """The library's network with random weights of a fixed seed.

    Raises:
        SuiteError: the library has no such network.
    """
    import torch

    library, short = name.split(":", 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module: nn.Module = _create(library, short)
    return module


def build(name: str, classes: int, channels: int) -> nn.Module:
    """The library's network for another number of classes and channels, drawn from torch's global generator.

    Raises:
        SuiteError: the library has no such network, or cannot build it so.
    """
    check_build(name, channels)
    library, short = name.split(":", 1)
    channelled = {"in_chans": channels} if library == "timm" else {}
    module: nn.Module = _create(library, short, num_classes=classes, **channelled)
    return module


def check_build(name: str, channels: int, where: str | None = None) -> None:
    """Whether :func:`build` can, without building; the library is asked for its names once per version.

    Raises:
        SuiteError: the library has no such network, or it cannot have so many channels; ``where`` says who asked.
    """
    from bench.zoo.seen import read_names, write_names

    library, short = name.split(":", 1)
    if _bare(library, short) not in read_names(library):
        write_names(library, _checked(library, short, where))
    if library == "torchvision" and channels != 3:
        raise SuiteError(
            "torchvision's networks take three channels",
            where=where,
            got=f"{channels} for {name}",
            hint="timm's networks take any number.",
        )


def _bare(library: str, short: str) -> str:
    """The name in the library's list: timm's without the tag of its weights."""
    return short.split(".")[0] if library == "timm" else short


def _checked(library: str, short: str, where: str | None = None) -> list[str]:
    """The names of all networks of the library, ``short`` among them.

    Raises:
        SuiteError: it is not.
    """
    names: list[str]
    if library == "timm":
        import timm

        names = timm.list_models()
    else:
        from torchvision import models

        names = models.list_models(module=models)
    if _bare(library, short) not in names:
        raise SuiteError(f"{library} has no such network", where=where, got=short, nearest=nearest(short, names))
    return names


def _create(library: str, short: str, **options: int) -> Any:
    _checked(library, short)
    if library == "timm":
        import timm

        return timm.create_model(short, pretrained=False, **options)
    from torchvision import models

    return models.get_model(short, weights=None, **options)


def _constants(module: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What timm says its weights were trained with; torchvision's networks all take ImageNet's."""
    known = getattr(module, "default_cfg", None) or {}
    mean, std = known.get("mean", _IMAGENET[0]), known.get("std", _IMAGENET[1])
    return tuple(float(v) for v in mean), tuple(float(v) for v in std)


def _stem(name: str) -> str:
    return name.replace(":", "_").replace("/", "_")
