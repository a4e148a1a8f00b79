"""Weights on disk: safetensors with one manifest beside each; what is damaged or foreign is refused.

Manifests are read without torch: a plan needs nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.atomic import replace_file
from bench.errors import WeightsError
from bench.paths import cache_folder
from bench.reading import read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

SHIPPED = Path(__file__).parent / "weights"
REQUIRED = {"name", "dataset", "sha256", "digest", "top1", "macs", "mean", "std"}
"""What a manifest must hold."""


def weights_folder(dataset: str) -> Path:
    """Where the weights of networks for ``dataset`` lie: the shipped ones, else the user's cache folder."""
    shipped = SHIPPED / dataset
    return shipped if shipped.is_dir() else cache_folder() / "zoo" / dataset


def digest_of(state: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values in name order; independent of file layout and memory format."""
    found = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu()
        found.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
        found.update(value.numpy().tobytes())
    return found.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_file(path: Path, sha256: str) -> None:
    """Compare the bytes of a file with the manifest's digest.

    Raises:
        WeightsError: it is missing, or damaged.
    """
    if not path.is_file():
        raise WeightsError("the weights file is missing", where=str(path))
    if (got := file_sha256(path)) != sha256:
        raise WeightsError("the weights file is damaged", where=str(path), got=got, expected=sha256)


def save(module: nn.Module, folder: Path, name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Write ``name``.safetensors, then ``name``.json (the manifest, which makes the pair valid); both atomically.

    Raises:
        WeightsError: the folder cannot be written.
    """
    import torch
    from safetensors import torch as safetensors

    state = {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in module.state_dict().items()}
    target = folder / f"{name}.safetensors"
    _write(target, safetensors.save(state))
    manifest = {"name": name, "sha256": file_sha256(target), "digest": digest_of(state), **facts}
    write_manifest(folder, name, manifest)
    return manifest


def write_manifest(folder: Path, name: str, manifest: dict[str, Any]) -> None:
    """Replace ``name``.json atomically.

    Raises:
        WeightsError: the folder cannot be written.
    """
    _write(folder / f"{name}.json", (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    try:
        replace_file(path, content)
    except OSError as error:
        raise WeightsError("cannot be written", where=str(path), got=error.strerror) from error


def manifest(folder: Path, name: str) -> dict[str, Any]:
    """Read ``name``.json.

    Raises:
        WeightsError: there is none, or it is no JSON object.
    """
    path = folder / f"{name}.json"
    try:
        found = read_json(path)
    except FileNotFoundError as error:
        hint = f"train it: bench zoo train {folder.name} --only {name}"
        raise WeightsError("no weights for this network", where=str(path), hint=hint) from error
    except (OSError, ValueError) as error:
        raise WeightsError("the manifest is damaged", where=str(path), got=error) from error
    if not isinstance(found, dict):
        raise WeightsError("the manifest is damaged", where=str(path), got=type(found).__name__, expected="an object")
    return found


def manifests(folder: Path) -> Iterator[dict[str, Any]]:
    """All manifests of a folder, by name."""
    for path in sorted(folder.glob("*.json")):
        yield manifest(folder, path.stem)


def load_into(module: nn.Module, path: Path, sha256: str | None = None) -> tuple[str, ...]:
    """Load a safetensors file into ``module``, strictly; returns the floating-point types that were cast to the
    module's (``float64``).

    Raises:
        WeightsError: the file is missing, damaged (digest off the manifest's), holds values that are not finite, or
            belongs to another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if sha256 is not None and (got := file_sha256(path)) != sha256:
            raise WeightsError("the weights file is damaged", where=str(path), got=got, expected=sha256)
        state = load_file(path)
    except FileNotFoundError as error:
        raise WeightsError("the weights file is missing", where=str(path)) from error
    except (OSError, SafetensorError) as error:
        raise WeightsError("cannot read the weights file", where=str(path), got=error) from error
    return load_state(module, state, str(path))


def load_state(module: nn.Module, state: Mapping[str, Tensor], where: str, hint: str | None = None) -> tuple[str, ...]:
    """Load a state dict into ``module``, strictly; returns the floating-point types that were cast to the module's
    (``float64``).

    Raises:
        WeightsError: it belongs to another network, with the ``hint``; it holds values that are not finite.
    """
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        text = str(error).splitlines()
        got = "; ".join(line.strip() for line in text[:3])
        raise WeightsError("these weights belong to another network", where=where, got=got, hint=hint) from error
    own = module.state_dict()
    kinds: set[str] = set()
    for name, value in state.items():
        if wrong := int((~value.isfinite()).sum()):
            got = f"{name}: {wrong} of {value.numel()} values"
            raise WeightsError("weights are not finite", where=where, got=got, expected="numbers")
        if value.is_floating_point() and value.dtype != own[name].dtype:
            kinds.add(str(value.dtype).removeprefix("torch."))
    return tuple(sorted(kinds))


def freeze(module: nn.Module) -> nn.Module:
    """Eval mode, no parameter asks for a gradient."""
    return module.eval().requires_grad_(False)
