"""Installed methods by what they declare, for tests that need some method and must not care which.

No test names a method that is not its own subject: a deleted file takes its own test with it and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from bench.data.table import shipped_digests
from bench.spec.registry import Registry
from bench.spec.suite import load_suite


@dataclass(frozen=True)
class Exactly:
    """A set that an attribute must equal, where holding it is not enough."""

    value: frozenset[str]


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
    found = first(kind, **wanted)
    if not found:
        pytest.skip(f"none of the installed {kind} has {wanted}")
    return found


def first(kind: str, **wanted: Any) -> str:
    """As :func:`name`, outside of a test: empty where no installed method fits."""
    return next(iter(methods(kind, **wanted)), "")


def need_small_runs() -> None:
    """Skip the test where one of them is not installed."""
    if not (UPPER and LOWER and ROUND):
        pytest.skip("no installed source is the upper or the lower control, or nothing quantises")


def values(kind: str, name: str, **given: Any) -> str:
    """Those of ``given`` that the method has as parameters (and ``delivery``), as YAML: ``{NAME: {batch: 16}}``."""
    fields = {*Registry(kind).get(name).Params.model_fields, "delivery"}
    return json.dumps({name: {key: value for key, value in given.items() if key in fields}})


def lacking(suite: str) -> list[str]:
    """Methods that a suite names and nobody has installed."""
    grid = load_suite(suite).grid
    sources, compressors = Registry("sources").names(), Registry("compressors").names()
    steps = [step for row in grid.compressor for step in row.method.split("+")]
    missing = {row.method for row in grid.source} - {*sources} | {*steps} - {*compressors}
    if grid.policy:
        missing |= {row.method for row in grid.policy} - {*Registry("policies").names()}
    return sorted(missing)


def complete(suite: str) -> bool:
    """Whether a suite can be planned with what the package brings: all its methods, no data set of the user's."""
    return not lacking(suite) and load_suite(suite).dataset in shipped_digests()


def needs(*suites: str) -> pytest.MarkDecorator:
    """Skip the test where one of the suites names a method that is not installed; test_shipped tells of it."""
    missing = sorted({name for suite in suites for name in lacking(suite)})
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def _has(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Exactly):
        return bool(value == wanted.value)
    if isinstance(value, frozenset):
        return value >= wanted if isinstance(wanted, frozenset | set) else wanted in value
    return bool(value == wanted)


UPPER, LOWER = first("sources", control="upper"), first("sources", control="lower")
ROUND = first("compressors", accepts="bits")
"""What small real runs are made of: the two controls, and the simplest way to fewer bits."""
