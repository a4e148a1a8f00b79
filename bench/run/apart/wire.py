"""Messages between the engine and the process a method runs in: JSON, and tensors as safetensors.

Nothing that comes from there is unpickled: a pickle can hold code, and would run in the process that evaluates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bench.errors import BenchError, StoreError
from bench.reading import parse_json


@dataclass(frozen=True)
class Message:
    """``kind`` says what it is about, ``body`` is JSON, ``tensors`` lie on the CPU."""

    kind: str
    body: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def send(pipe: Connection, message: Message) -> None:
    """Send a message; the other side may be gone (OSError).

    Raises:
        StoreError: what a method answered is no JSON.
    """
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in message.tensors.items()}
    try:
        head = json.dumps({"kind": message.kind, "body": message.body, "tensors": sorted(tensors)}, default=_mapping)
    except (TypeError, ValueError) as error:
        raise StoreError("the artifact's metadata is no JSON", where=message.kind, got=error) from error
    pipe.send_bytes(head.encode())
    if tensors:
        pipe.send_bytes(save(tensors))


def receive(pipe: Connection) -> Message:
    """The next message.

    Raises:
        EOFError, OSError: the other side is gone.
        BenchError: what it sends is no message.
    """
    raw = pipe.recv_bytes()
    try:
        head = parse_json(raw)
        tensors = load(pipe.recv_bytes()) if head["tensors"] else {}
        return Message(str(head["kind"]), dict(head["body"]), tensors)
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise BenchError("the process of a foreign method sends what is no message", got=error) from error


def _mapping(value: Any) -> Any:
    """Read-only mappings and numbers of other libraries as JSON has them."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
