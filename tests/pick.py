"""Installed methods by what they declare, for tests that need some method and must not care which.

No test names a method that is not its own subject: a deleted file takes its own test with it and nothing else.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench.spec.registry import Registry


def methods(kind: str, *, params: tuple[str, ...] = (), **declared: Any) -> dict[str, Any]:
    """Name → method of all that fit, those with the fewest parameters first.

    Args:
        kind: ``sources`` or ``compressors``.
        params: parameters it must have.
        declared: attributes: equal to the value, or holding it where the attribute is a set.
    """
    registry = Registry(kind)
    found = {name: registry.get(name) for name in registry.names()}
    fitting = {
        name: method
        for name, method in found.items()
        if set(params) <= set(method.Params.model_fields)
        and all(_has(getattr(method, key), value) for key, value in declared.items())
    }
    return dict(sorted(fitting.items(), key=lambda item: (len(item[1].Params.model_fields), item[0])))


def name(kind: str, **wanted: Any) -> str:
    """The simplest that fits; the test is skipped where no installed method does."""
    found = methods(kind, **wanted)
    if not found:
        pytest.skip(f"none of the installed {kind} has {wanted}")
    return next(iter(found))


def _has(value: Any, wanted: Any) -> bool:
    if isinstance(value, frozenset):
        return value >= wanted if isinstance(wanted, frozenset | set) else wanted in value
    return bool(value == wanted)
