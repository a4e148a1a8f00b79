"""A user's weights, read from safetensors or from torch's own files, of which tensors alone are taken: no code runs.

Everything that is kept is safetensors (docs/architecture.md#rule-8); a .pth file is read once, when its weights are
brought.
"""

from __future__ import annotations

import argparse
import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bench.errors import WeightsError

TORCH_FILES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
"""Endings of files that torch wrote; any other is taken for safetensors."""

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which trainings keep the state dict beside epoch, optimiser and the like."""

PREFIX = "module."
"""What parallel training puts before every name."""

_HINT = "Save the state dict alone: torch.save(model.state_dict(), FILE), or safetensors.torch.save_file."


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU: what wraps it and ``module.`` before its names are taken off.

    Raises:
        WeightsError: the file is missing, damaged, or holds other things than a state dict.
    """
    if not path.is_file():
        raise WeightsError("the weights file is missing", where=str(path))
    if path.suffix.lower() not in TORCH_FILES:
        try:
            found: dict[str, Tensor] = load_file(path)
        except (OSError, SafetensorError) as error:
            allowed = f"safetensors, or a state dict in one of {', '.join(TORCH_FILES)}"
            raise WeightsError("cannot read the weights file", where=str(path), got=error, expected=allowed) from error
        return found
    return _state_in(_torch_content(path), path)


def _torch_content(path: Path) -> Any:
    try:
        # Tensors and plain containers only: what would run code is refused by torch's own reader.
        with torch.serialization.safe_globals([argparse.Namespace]):  # a training's arguments: names and values
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = "holds more than tensors, which could run code, and is not read"
        raise WeightsError(what, where=str(path), got=_said(error), hint=_HINT) from error
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
        raise WeightsError("cannot read the weights file", where=str(path), got=_said(error), hint=_HINT) from error


def _state_in(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict within what was loaded: itself, or below one of WRAPPERS."""
    for _ in range(3):
        if not isinstance(content, Mapping):
            raise WeightsError("holds no state dict", where=str(path), got=type(content).__name__, hint=_HINT)
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    wrong = [f"{name}: {type(value).__name__}" for name, value in content.items() if not isinstance(value, Tensor)]
    if wrong or not content:
        got = ", ".join(wrong[:3]) or "nothing"
        raise WeightsError("holds no state dict", where=str(path), got=got, expected="names and tensors", hint=_HINT)
    state = {str(name): value for name, value in content.items()}
    prefixed = all(name.startswith(PREFIX) for name in state)
    return {name.removeprefix(PREFIX): value for name, value in state.items()} if prefixed else state


def _said(error: Exception) -> str:
    """What was met, without torch's advice to read it all the same."""
    text = str(error)
    met = re.search(r"GLOBAL ([\w.]+)", text)
    if met:
        return f"an object of {met[1]}"
    return "a TorchScript archive" if "TorchScript" in text else text.split(". ")[0][:200] or type(error).__name__
