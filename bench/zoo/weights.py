"""Weights on disk: a safetensors file and a JSON manifest beside it, per network; every read is checked."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from bench.errors import WeightsError


def shipped_dir(dataset: str) -> Path:
    """Folder of the weights that travel with the package, for one data set."""
    return Path(str(resources.files("bench.zoo"))) / "weights" / dataset


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a state dict, in name order; device does not matter."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it; parents are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes private files; shipped weights must be readable for whoever installs them.
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_weights(path: Path, module: nn.Module, network: str) -> str:
    """Store a network's state as safetensors with its name as metadata; returns the file's SHA-256."""
    state = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    content = save(state, metadata={"network": network})
    write_atomic(path, content)
    return hashlib.sha256(content).hexdigest()


def read_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a safetensors file, checked against ``sha256`` when given.

    Raises:
        WeightsError: the file is missing, is no safetensors file, or has another digest.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            "the weights file is missing", where=str(path), got=error.strerror, hint="train it: bench zoo train"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise WeightsError("the weights file is damaged or foreign", where=str(path), got=found, expected=sha256)
    try:
        return dict(load(content))
    except SafetensorError as error:
        raise WeightsError("is no safetensors file", where=str(path), got=error) from error


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load ``state`` into ``module``.

    Raises:
        WeightsError: names or shapes are those of another network.
    """
    own = module.state_dict()
    missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    if missing or foreign or shapes:
        first = (missing or foreign or sorted(shapes))[0]
        raise WeightsError(
            "the weights belong to another network",
            where=str(path),
            got=f"{len(missing)} tensors missing, {len(foreign)} unknown, {len(shapes)} of another shape ({first})",
        )
    module.load_state_dict(dict(state))


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a network's manifest.

    Raises:
        WeightsError: it is missing or no manifest.
    """
    try:
        manifest = json.loads(path.read_text())
    except OSError as error:
        raise WeightsError(
            "the network has no manifest", where=str(path), got=error.strerror, hint="train it: bench zoo train"
        ) from error
    except ValueError as error:
        raise WeightsError("the manifest is damaged", where=str(path), got=error) from error
    needed = {"network", "sha256", "digest", "top1", "parameters", "macs", "mean", "std"}
    if not isinstance(manifest, dict) or needed - manifest.keys():
        lacks = sorted(needed - manifest.keys()) if isinstance(manifest, dict) else type(manifest).__name__
        raise WeightsError("the manifest is incomplete", where=str(path), got=lacks, expected=sorted(needed))
    return manifest


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a network's manifest, one file per network so that two processes never meet."""
    write_atomic(path, (json.dumps(manifest, indent=1) + "\n").encode())
