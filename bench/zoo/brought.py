"""Networks from outside as they are known here: the weights a user brought, and what is known of random ones.

Brought weights (``bench.zoo.bring``) lie in the user's cache folder as safetensors with a manifest, so that their
digest is part of every cell's identity and their accuracy is registered for the FP32 gate.  What is found out about a
library's network with random weights is kept there, too (``bench.zoo.seen``), so that planning imports no library
again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.errors import SuiteError, WeightsError
from bench.interfaces import ModelHandle
from bench.zoo import factories
from bench.zoo.libraries import UNFIT, create, input_of
from bench.zoo.names import architecture_of, family_of, is_factory, library_of
from bench.zoo.registered import by_data

if TYPE_CHECKING:
    from torch import nn

DATASET = "imagenet"
"""What the libraries' networks are built for: 1,000 classes, three channels."""


def brought(name: str) -> dict[str, Any] | None:
    """The manifest of the weights brought for ``name``; None when there are none.

    Raises:
        WeightsError: the manifest is damaged or another network's.
    """
    from bench.zoo.checkpoints import REQUIRED, manifest, weights_folder

    path = weights_folder(DATASET) / f"{stem(name)}.json"
    if not path.exists():
        return None
    fact = manifest(path.parent, path.stem)
    if REQUIRED - fact.keys() or fact.get("network") != name:
        raise WeightsError("these weights belong to another network", where=str(path), got=fact.get("network"))
    return fact


def facts_of(name: str) -> dict[str, Any]:
    """The manifest of the weights brought for ``name``, else that of a library's random ones, for which the network is
    built when it is first seen.

    Raises:
        SuiteError: the library has no such network.
        WeightsError: the manifest is damaged or another network's; none was brought for a factory's network.
    """
    from bench.zoo.seen import read_facts, write_facts

    if (given := brought(name)) is not None:
        return given
    library = library_of(name)
    if library is None:
        raise _unknown(name)
    found = read_facts(library, name)
    if found is None:
        found = _random_facts(name, create(name))
        write_facts(library, name, found)
    return found


def check_brought(name: str) -> None:
    """Check that what was brought for ``name`` is undamaged, and a factory's code as it was; the network is not built.

    Raises:
        SuiteError: the factory is not there.
        WeightsError: the file is missing or damaged, or the code has changed.
    """
    from bench.zoo.checkpoints import check_file, weights_folder

    fact = brought(name)
    if fact is None:
        if is_factory(name):
            raise _unknown(name)
        return
    check_file(weights_folder(DATASET) / f"{fact['name']}.safetensors", fact["sha256"])
    if is_factory(name):
        factories.check_sources(name, fact["sources"])


def load_outside(name: str) -> ModelHandle:
    """The network with its brought weights; a library's without such with random ones of a fixed seed.

    Raises:
        SuiteError: there is no such network.
        WeightsError: brought weights are damaged or another network's; a factory's are missing, or its code has
            changed.
    """
    from bench.interfaces.clips import for_clips
    from bench.zoo.checkpoints import freeze, load_into, weights_folder
    from bench.zoo.outputs import returning_logits

    fact = brought(name)
    if fact is None and is_factory(name):
        raise _unknown(name)
    module = create(name, fact.get("head") if fact else None)
    if fact is not None:
        load_into(module, weights_folder(DATASET) / f"{fact['name']}.safetensors", fact["sha256"])
    else:
        fact = _random_facts(name, module)
    if is_factory(name):
        factories.check_sources(name, fact["sources"])
    frames = fact.get("frames", 1)
    return ModelHandle(
        name=name,
        module=freeze(for_clips(returning_logits(module, frame_shape(_shape(fact), frames), name), frames)),
        digest=fact["digest"],
        architecture=architecture_of(name),
        family=family_of(name),
        macs=fact["macs"],
        dataset=DATASET,
        mean=tuple(fact["mean"]),
        std=tuple(fact["std"]),
        fp_top1=fact["top1"],
        registered=by_data(fact),
    )


def network_facts_of(
    name: str, module: nn.Module, shape: tuple[int, int, int], frames: int = 1
) -> tuple[nn.Module, dict[str, Any]]:
    """``module`` so that it returns logits of images, or of clips of ``frames``, and what is to be known of it.

    Raises:
        SuiteError: the network does not run on images of ``shape`` (C, H, W).
        WeightsError: it returns no logits.
    """
    from bench.interfaces.clips import for_clips
    from bench.zoo.macs import network_facts
    from bench.zoo.outputs import returning_logits

    try:
        ready = for_clips(returning_logits(module, frame_shape(shape, frames), name), frames)
        return ready, network_facts(ready, shape)
    except UNFIT as error:
        own = "×".join(map(str, input_of(name, module).shape))
        raise SuiteError(
            "the network does not run on images of this size",
            where=name,
            got=f"{'×'.join(map(str, frame_shape(shape, frames)))}: {error}",
            expected=None if is_factory(name) else f"its library says {own}",
        ) from error


def frame_shape(shape: tuple[int, int, int], frames: int) -> tuple[int, int, int]:
    """Shape of a single frame of a clip of ``shape`` (N·C, H, W)."""
    return shape[0] // frames, *shape[1:]


def stem(name: str) -> str:
    """The name of the files of the network ``name``; a factory's holds a digest, since several would read alike."""
    plain = name.replace(":", "_").replace("/", "_")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}" if is_factory(name) else plain


def _unknown(name: str) -> WeightsError:
    hint = f"Register them: bench zoo add {name} FILE --data DATASET"
    return WeightsError("nobody brought weights for this network", where=name, hint=hint)


def _random_facts(name: str, module: nn.Module) -> dict[str, Any]:
    """What is to be known of ``module``, the network ``name`` with random weights."""
    from bench.zoo.checkpoints import digest_of

    takes = input_of(name, module)
    facts = {"network": name, "top1": None, "mean": list(takes.mean), "std": list(takes.std)}
    return {**facts, "digest": digest_of(module.state_dict()), **network_facts_of(name, module, takes.shape)[1]}


def _shape(fact: Mapping[str, Any]) -> tuple[int, int, int]:
    """Shape (C, H, W) of the images that a manifest is for."""
    channels, height, width = fact["shape"]
    return channels, height, width
