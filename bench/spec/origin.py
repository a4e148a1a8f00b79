"""Where each key of a suite comes from (file and line, or a command-line override), and YAML read as plain data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from bench.errors import SuiteError

KeyPath = tuple[str | int, ...]

MAX_BYTES = 1_000_000
MAX_ITEMS = 10_000
"""Of one list or mapping."""

_NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_MAX_DEPTH = 24  # a suite is three or four levels deep; deeper means an alias that contains itself
_MAX_NODES = 20_000  # aliases of aliases grow exponentially
_MAX_INTEGER = 2**63  # what tables and records hold; YAML writes a number of any length in few characters


def dotted(path: KeyPath) -> str:
    """``grid.source[2].kw`` of ("grid", "source", 2, "kw")."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


@dataclass(frozen=True)
class Origin:
    """Source of a suite's keys. ``lines`` maps a key path to its 1-based line, ``overrides`` to the option given."""

    file: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    overrides: Mapping[KeyPath, str] = field(default_factory=dict)

    def at(self, path: KeyPath) -> str:
        """``FILE:LINE: KEY``, or ``--set KEY`` for a key the command line gave; the nearest known parent's line."""
        heads = [path[:end] for end in range(len(path), -1, -1)]
        # An override first: below it, the file's lines speak of a value that is no longer there.
        for head in heads:
            if head in self.overrides:
                return self.overrides[head] if head == path else f"{self.overrides[head]}: {dotted(path)}"
        for head in heads:
            if head in self.lines:
                key = dotted(path)
                return f"{self.file}:{self.lines[head]}: {key}" if key else f"{self.file}:{self.lines[head]}"
        return f"{self.file}: {dotted(path)}" if path else self.file

    def overridden(self, path: KeyPath, option: str) -> Origin:
        """The origin after ``option`` set ``path``."""
        return replace(self, overrides={**self.overrides, path: option})


class _Reader:
    """Turns composed YAML nodes into plain values and notes the line of each key."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {}
        self._nodes = 0
        self._loader = yaml.SafeLoader("")

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self._nodes += 1
        if len(path) > _MAX_DEPTH or self._nodes > _MAX_NODES:
            raise SuiteError("is nested too deeply or too large for a suite", where=f"{self.file}:{line}")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise SuiteError("a key must be a word", where=f"{self.file}:{line}: {dotted(path)}")
            key = str(key_node.value)
            if key in out:
                raise SuiteError("the key is given twice", where=f"{self.file}:{line}: {dotted(path)}", got=key)
            self.lines[(*path, key)] = line
            out[key] = self.value(value_node, (*path, key))
        return out

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        where = ": ".join(filter(None, (f"{self.file}:{node.start_mark.line + 1}", dotted(path))))
        try:
            got = self._loader.construct_object(node)  # type: ignore[no-untyped-call]
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise SuiteError("the value cannot be read", where=where, got=node.value, expected=str(error)) from error
        large = SuiteError("the number is too large", where=where, got=node.value, expected="below 2^63, and finite")
        if isinstance(got, int) and abs(got) >= _MAX_INTEGER:
            raise large
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            got = _as_written(str(node.value), got, where)
        if isinstance(got, float) and not abs(got) < _MAX_INTEGER:
            raise large
        # Dates and binary are not part of a suite's vocabulary: what looks like one is the text it was written as.
        return got if got is None or isinstance(got, bool | int | float | str) else str(node.value)


def _as_written(text: str, got: Any, where: str) -> Any:
    """The value of an unquoted word, which must mean what a reader takes it for: YAML 1.1 has octal (032 is 26),
    sexagesimal (1:30 is 90) and other numbers, and words for true and false, that look like something else; and takes
    1e-3 for a word.

    Raises:
        SuiteError: it looks like something else.
    """
    plain, quoted = _NUMBER.fullmatch(text), f'As a word write "{text}" in quotes.'
    if isinstance(got, bool):
        if text.lower() in ("true", "false"):
            return got
        what = f"YAML reads this word as {str(got).lower()}"
        raise SuiteError(what, where=where, got=text, expected=("true", "false"), hint=quoted)
    value = float(text) if isinstance(got, str) and plain else got
    if isinstance(value, int | float) and not (plain and math.isfinite(value)):
        what, numbers = f"YAML reads this as the number {value}", "a decimal number, such as 32 or 0.5"
        raise SuiteError(what, where=where, got=text, expected=numbers, hint=quoted)
    return value


class _Composer(yaml.SafeLoader):
    """Counts while it reads, so that what is too large ends early and not after half a minute."""

    composed = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.composed += 1
        if self.depth > _MAX_DEPTH:
            raise self._refused(f"more than {_MAX_DEPTH} levels")
        if self.composed > _MAX_NODES:
            raise self._refused(f"more than {_MAX_NODES:,} values")
        if parent is not None and len(parent.value) >= MAX_ITEMS:
            raise self._refused(f"a list of more than {MAX_ITEMS:,} items")
        self.depth += 1
        found: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self.depth -= 1
        return found

    def _refused(self, why: str) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=why, problem_mark=self.get_mark())  # type: ignore[no-untyped-call]


def read_yaml(text: str, file: str) -> tuple[Any, Origin]:
    """Read one YAML document as plain data (no tags, no code); also the line of every key.

    Raises:
        SuiteError: no YAML, several documents, a key given twice, a tag that is no plain data, or more than
            :data:`MAX_BYTES`, :data:`MAX_ITEMS`, or the depth and the number of values that a suite may have.
    """
    if len(text) > MAX_BYTES:
        what = "is too large for a suite"
        raise SuiteError(what, where=file, got=f"{len(text):,} characters", expected=f"up to {MAX_BYTES:,}")
    try:
        node = yaml.compose(text, Loader=_Composer)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}" if mark else file
        raise SuiteError("is no valid YAML", where=where, got=error.problem) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise SuiteError("is no valid YAML", where=file, got=error) from error
    if node is None:
        raise SuiteError("is empty", where=file, expected="a suite (see bench ls suites)")
    reader = _Reader(file)
    return reader.value(node, ()), Origin(file, reader.lines)


def parse_value(text: str, option: str) -> Any:
    """The YAML value of a command-line option: a number, word, list or mapping."""
    return read_yaml(text, option)[0] if text.strip() else ""
