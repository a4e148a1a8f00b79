"""The few kinds of error a user meets: where, what was got, what is allowed, the nearest valid name, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from bench.text import cut, visible

MANY = 20_000
"""Characters of what is allowed: a library has a thousand networks."""


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the entry of ``allowed`` most like ``name``, or None when nothing is close."""
    found = difflib.get_close_matches(name[:200], list(allowed), n=1, cutoff=0.5)
    return found[0] if found else None


class BenchError(Exception):
    """An error with a place and a remedy; the CLI prints it without a traceback and exits with 2.

    Args:
        what: one sentence that says what is wrong.
        where: file, line and key (``suites/x.yaml:12: grid.source``), a path or a name.
        got: the offending value.
        expected: what is allowed there.
        nearest: the nearest valid name.
        hint: what to do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        got: object = None,
        expected: str | Iterable[str] | None = None,
        nearest: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.got = got
        self.expected = expected if expected is None or isinstance(expected, str) else ", ".join(expected)
        self.nearest = nearest
        self.hint = hint
        super().__init__(self._text())

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.got, self.expected, self.nearest, self.hint))

    def _text(self) -> str:
        head = f"{cut(self.where)}: {self.what}" if self.where else self.what
        lines = [head]
        if self.got is not None:
            lines.append(f"  got: {cut(str(self.got))}")
        if self.expected is not None:
            lines.append(f"  allowed: {cut(self.expected, MANY)}")
        if self.nearest is not None:
            lines.append(f"  did you mean: {self.nearest}?")
        if self.hint is not None:
            lines.append(f"  {self.hint}")
        return visible("\n".join(lines))


def _rebuild(
    kind: type[BenchError],
    what: str,
    where: str | None,
    got: object,
    expected: str | None,
    near: str | None,
    hint: str | None,
) -> BenchError:
    return kind(what, where=where, got=got, expected=expected, nearest=near, hint=hint)


class SuiteError(BenchError):
    """A suite file or a command-line override is wrong."""


class DataError(BenchError):
    """A data set is missing, damaged, or too small for what is asked."""


class WeightsError(BenchError):
    """A weights file is missing, damaged or belongs to another network."""


class StoreError(BenchError):
    """The store cannot be read or written, or was written by a newer schema."""


class AccessDenied(BenchError):
    """A method read data beyond the tier it declared."""


class NotApplicable(BenchError):
    """A method cannot run on this network (a BN source on a network without BN); the cell says so and is no failure."""


class GateClosed(BenchError):
    """A network is not what it must be before it is used (docs/architecture.md#rule-4): what needs it is skipped."""
