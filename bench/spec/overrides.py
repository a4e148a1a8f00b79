"""``--set KEY=VALUE``: dotted keys into a suite's raw values."""

from __future__ import annotations

import os
from typing import Any

from bench.errors import SuiteError, nearest
from bench.spec.origin import KeyPath, dotted, parse_value


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``KEY=VALUE``; the value is YAML (``--set images=64``, ``--set 'grid.bits=[W4A4]'``).

    Raises:
        SuiteError: no ``=``, no key, or a value that is no YAML.
    """
    key, equals, value = _typed(text).partition("=")
    if not equals or not key.strip():
        raise SuiteError("is no KEY=VALUE", where="--set", got=text, expected="for example --set images=64")
    return key.strip(), parse_value(value, f"--set {key.strip()}")


def _typed(text: str) -> str:
    """``text`` as it was typed: where the locale is not UTF-8, Python hands its bytes over as halves of surrogates."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        return text


def apply_override(raw: dict[str, Any], key: str, value: Any) -> list[KeyPath]:
    """Set ``key`` in ``raw`` in place; returns the paths that were set.

    A part that meets a list is an index (``grid.source.0``) or a method's name, which means every entry of that method
    (``grid.source.kw.iterations=50``).

    Raises:
        SuiteError: the key leads into nothing.
    """
    parts = key.split(".")
    if not all(parts):
        raise SuiteError("has an empty part", where=f"--set {key}", got=key)
    return _descend(raw, parts, value, (), key)


def _descend(here: Any, parts: list[str], value: Any, path: KeyPath, key: str) -> list[KeyPath]:
    head, rest = parts[0], parts[1:]
    if isinstance(here, list):
        out: list[KeyPath] = []
        for index in _matching(here, head, path, key):
            if head.isdecimal():
                out += _set_or_descend(here, index, rest, value, (*path, index), key)
                continue
            if not rest:
                raise SuiteError("names a whole entry", where=f"--set {key}", expected=f"{key}.PARAMETER or an index")
            if isinstance(here[index], str):
                here[index] = {head: {}}
            if not isinstance(here[index][head], dict):
                here[index] = {head: {}}
            out += _descend(here[index][head], rest, value, (*path, index, head), key)
        return out
    if not isinstance(here, dict):
        raise SuiteError("leads into a plain value", where=f"--set {key}", got=dotted(path))
    if rest and head not in here:
        raise SuiteError(
            "no such key", where=f"--set {key}", got=dotted((*path, head)), expected=here, nearest=nearest(head, here)
        )
    return _set_or_descend(here, head, rest, value, (*path, head), key)


def _set_or_descend(here: Any, part: str | int, rest: list[str], value: Any, path: KeyPath, key: str) -> list[KeyPath]:
    if rest:
        return _descend(here[part], rest, value, path, key)
    here[part] = value
    return [path]


def _matching(items: list[Any], head: str, path: KeyPath, key: str) -> list[int]:
    """Indices of the list's entries that ``head`` means."""
    if head.isdecimal():
        if int(head) >= len(items):
            raise SuiteError(
                "the list is shorter",
                where=f"--set {key}",
                got=f"{dotted(path)}[{head}]",
                expected=f"0 to {len(items) - 1}",
            )
        return [int(head)]
    names = [
        item if isinstance(item, str) else next(iter(item), "") if isinstance(item, dict) else "" for item in items
    ]
    found = [i for i, name in enumerate(names) if name == head]
    if not found:
        raise SuiteError(
            "no such entry",
            where=f"--set {key}",
            got=dotted((*path, head)),
            expected=names,
            nearest=nearest(head, names),
        )
    return found
