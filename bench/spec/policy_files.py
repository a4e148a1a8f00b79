"""A policy in a file: ``{layer: [weight bits, input bits]}``, alone or under ``bits`` beside what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.atomic import replace_file
from bench.errors import SuiteError
from bench.interfaces import ALLOWED_BITS, ALLOWED_WORDS, BitPolicy
from bench.reading import read_json

_FORM = "an object {layer: [weight bits, input bits]}, alone or under `bits`"


def read_policy_file(path: Path, where: str | None = None) -> BitPolicy:
    """The policy in a file; whether its layers are a network's is told where the network is known.

    Raises:
        SuiteError: the file cannot be read or holds something else, naming the layer.
    """
    try:
        content: Any = read_json(path)
    except (OSError, ValueError) as error:
        raise SuiteError("cannot read the policy", where=where, got=f"{path}: {error}", expected=_FORM) from error
    layers = content.get("bits", content) if isinstance(content, Mapping) else content
    if not isinstance(layers, Mapping) or not layers:
        raise SuiteError("this is no policy", where=where, got=f"{path}: {type(layers).__name__}", expected=_FORM)
    try:
        policy = BitPolicy.from_json(layers)
    except ValueError as error:
        raise SuiteError("this is no policy", where=where, got=f"{path}: {error}", expected=_FORM) from error
    for name, pair in policy.items():
        if not set(pair) <= set(ALLOWED_BITS):
            got = f"{path}: {name} {list(pair)}"
            raise SuiteError("no such bit-width", where=where, got=got, expected=ALLOWED_WORDS)
    return policy


def policy_text(policy: BitPolicy, facts: Mapping[str, Any]) -> str:
    """JSON of a policy file: ``facts`` first, then a line per layer."""
    lines = [f"    {json.dumps(name)}: {json.dumps(list(pair))}" for name, pair in policy.items()]
    head = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in facts.items()]
    return "\n".join(["{", *head, '  "bits": {', ",\n".join(lines), "  }", "}", ""])


def write_policy_file(path: Path, policy: BitPolicy, facts: Mapping[str, Any]) -> None:
    """Write a policy file as a whole.

    Raises:
        OSError: it cannot be written.
    """
    replace_file(path, policy_text(policy, facts).encode())
