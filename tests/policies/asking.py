"""A search asked as the engine asks it."""

from __future__ import annotations

import tempfile
from typing import Any

from torch import nn

from bench.interfaces import Searched, Setting
from bench.spec.registry import Registry, resolve_params
from tests.contracts import kit
from tests.contracts.toys import SPEC, context, images


def ask(search: str, net: nn.Module, *, setting: Setting | None = None, seed: int = 3, **params: Any) -> Searched:
    """What a search says of ``net`` on noise, with these parameters besides its preset's."""
    method = Registry("policies").get(search)
    resolved = resolve_params(method, "mini", params)
    with tempfile.TemporaryDirectory() as scratch:
        model = kit.frozen(net, "toy/net", SPEC)
        found = method.search(model, images(), setting or Setting(3, 3), resolved, context(seed, scratch))
    assert isinstance(found, Searched)
    return found
