"""A user's weights, read from safetensors or from torch's own files, of which tensors alone are taken: no code runs.

What kind of file it is tells its content; endings (.pth, .th, .bin, .pt.tar) tell nothing.  Everything that is kept is
safetensors (docs/architecture.md#rule-8); a file of torch's is read once, when its weights are brought.
"""

from __future__ import annotations

import argparse
import numbers
import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bench.errors import WeightsError, nearest

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params")
"""Keys under which trainings keep the state dict beside epoch, optimiser and the like."""

AVERAGED = ("state_dict_ema", "model_state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "params_ema")
"""Keys of running averages of the weights: taken where nothing else is there, or the user names them."""

_ACCURACIES = ("best_prec1", "best_acc1", "best_top1", "best_acc", "acc", "top1", "metric")
"""Under these trainings note what the weights reached."""

_HINT = "Save the state dict alone: torch.save(model.state_dict(), FILE), or safetensors.torch.save_file."

_OTHERS = {
    b"\x89HDF": "an HDF5 file",
    b"\x93NUM": "a NumPy array",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"version https://git-lfs": "a pointer of git-lfs, not the file itself: git lfs pull",
    b"<": "a web page or XML",
}
"""How files begin that are taken for weights by their name."""


@dataclass(frozen=True)
class LoadedState:
    """A state dict on the CPU, and in words what was taken off or left out on the way to it."""

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def read_state(path: Path, key: str | None = None) -> LoadedState:
    """The state dict in a file, without what wraps it.  Its names are as they stand there
    (``bench.zoo.matching.matched`` fits them to a network's).

    Args:
        key: the wrapper to take, where the file holds several (``state_dict_ema``).

    Raises:
        WeightsError: the file is missing, damaged, holds other things than a state dict, or lacks ``key``.
    """
    if not path.is_file():
        raise WeightsError("the weights file is missing", where=str(path))
    if _is_safetensors(path):
        if key is not None:
            raise WeightsError("a safetensors file holds one state dict and no wrappers", where=str(path), got=key)
        try:
            return LoadedState(load_file(path))
        except (OSError, SafetensorError) as error:
            raise WeightsError("cannot read the weights file", where=str(path), got=error) from error
    return _state_in(_torch_content(path), path, key)


def _is_safetensors(path: Path) -> bool:
    """By content: the size of the header in eight bytes, then the header, a JSON object.

    Raises:
        WeightsError: the file cannot be read, or is neither safetensors nor torch's.
    """
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        raise WeightsError("cannot read the weights file", where=str(path), got=error.strerror) from error
    if head[8:9] == b"{":
        return True
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        got = next((what for begin, what in _OTHERS.items() if head.startswith(begin)), "another kind of file")
        allowed = "safetensors, or a state dict that torch.save wrote"
        raise WeightsError("cannot read the weights file", where=str(path), got=got, expected=allowed, hint=_HINT)
    return False


def _torch_content(path: Path) -> Any:
    try:
        # Tensors and plain containers only: what would run code is refused by torch's own reader.
        # An open file, because of a path torch looks at the ending.
        with torch.serialization.safe_globals([argparse.Namespace]), path.open("rb") as file:  # a training's arguments
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = "holds more than tensors, which could run code, and is not read"
        raise WeightsError(what, where=str(path), got=_said(error), hint=_HINT) from error
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
        raise WeightsError("cannot read the weights file", where=str(path), got=_said(error), hint=_HINT) from error


def _state_in(content: Any, path: Path, key: str | None) -> LoadedState:
    """The state dict within what was loaded: itself, or below ``key`` or one of WRAPPERS, else of AVERAGED."""
    said: list[str] = []
    for depth in range(4):
        if not isinstance(content, Mapping):
            raise WeightsError("holds no state dict", where=str(path), got=type(content).__name__, hint=_HINT)
        inner = [name for name in (*WRAPPERS, *AVERAGED) if isinstance(content.get(name), Mapping)]
        if depth == 0 and key is not None:
            inner = [key, *(name for name in inner if name != key)]
            _check_key(content, key, path)
        if not inner or depth == 3:
            break
        said += _wrapped(content, inner)
        content = content[inner[0]]
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    others = {str(name): value for name, value in content.items() if not isinstance(value, Tensor)}
    unlike = [f"{name}: {type(value).__name__}" for name, value in others.items() if not _is_plain(value)]
    if unlike or not tensors:
        got = ", ".join((unlike or [f"{name}: {type(value).__name__}" for name, value in others.items()])[:3])
        allowed = "names and tensors"
        raise WeightsError("holds no state dict", where=str(path), got=got or "nothing", expected=allowed, hint=_HINT)
    if others:
        said.append(f"left out, no tensors: {some_of(list(others))}")
    return LoadedState(tensors, tuple(said))


def _check_key(content: Mapping[Any, Any], key: str, path: Path) -> None:
    if not isinstance(content.get(key), Mapping):
        known = [str(name) for name, value in content.items() if isinstance(value, Mapping)]
        near = nearest(key, known)
        raise WeightsError("the file has no such state dict", where=str(path), got=key, expected=known, nearest=near)


def _wrapped(content: Mapping[Any, Any], inner: list[str]) -> list[str]:
    """In words: which wrapper is taken, what stands beside it, and what the training says it reached."""
    taken, *besides = inner
    words = [f"the weights under {taken!r} are taken"]
    if taken in AVERAGED:
        words[0] += ", which are running averages"
    if besides:
        words.append(f"left out: {some_of(besides)} (--key {besides[0]} takes it)")
    for name in _ACCURACIES:
        value = content.get(name)
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            words.append(f"the file says {name} = {float(value):g}")
    return words


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | argparse.Namespace)


def some_of(names: list[str]) -> str:
    """The first three names, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _said(error: Exception) -> str:
    """What was met, without torch's advice to read it all the same."""
    text = str(error)
    met = re.search(r"GLOBAL ([\w.]+)", text)
    if met:
        return f"an object of {met[1]}"
    return "a TorchScript archive" if "TorchScript" in text else text.split(". ")[0][:200] or type(error).__name__
