"""``--only EXPR``: which rows of the grid to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bench.errors import SuiteError, nearest

Labels = Mapping[str, Sequence[str]]
"""Axis → what the row is called there, its own label first; a source also goes by its method's name."""


@dataclass(frozen=True)
class Selection:
    """Parsed ``--only``: each axis and the values or patterns any of which may match."""

    wanted: tuple[tuple[str, tuple[str, ...]], ...]

    def accepts(self, labels: Labels) -> bool:
        """Whether a row with these labels is selected."""
        return all(
            any(matches(label, value) for value in values for label in labels[axis]) for axis, values in self.wanted
        )


def own_labels(rows: Sequence[Labels]) -> list[Labels]:
    """The rows without those names of methods that are some row's own label: such a word means that row alone, so that
    ``source=mixmix`` is the row without parameters where the suite has one, and all of the method where it has none."""
    taken = {(axis, names[0]) for row in rows for axis, names in row.items()}
    return [
        {axis: (names[0], *(n for n in names[1:] if (axis, n) not in taken)) for axis, names in row.items()}
        for row in rows
    ]


def parse_only(text: str, axes: Sequence[str]) -> Selection:
    """Parse ``source=kw|mixmix,target=resnet*``: comma is "and", ``|`` is "or", values may be patterns.

    Commas inside parentheses belong to a label: ``source=mixmix(mix=1, data_mixing=false)``.

    Raises:
        SuiteError: no ``axis=value``, an unknown axis, an axis given twice.
    """
    wanted: dict[str, tuple[str, ...]] = {}
    for part in _split(text):
        axis, equals, value = part.partition("=")
        axis, values = axis.strip(), tuple(item.strip() for item in value.split("|"))
        if not equals or not all(values):
            raise SuiteError(
                "is no AXIS=VALUE", where="--only", got=part.strip(), expected="target=resnet*|mobilenet*,seed=1"
            )
        if axis not in axes:
            raise SuiteError("no such axis", where="--only", got=axis, expected=axes, nearest=nearest(axis, axes))
        if axis in wanted:
            raise SuiteError("the axis is given twice", where="--only", got=axis, hint=f"Write {axis}=A|B.")
        wanted[axis] = values
    return Selection(tuple(wanted.items()))


def check_selection(selection: Selection, rows: Sequence[Labels]) -> None:
    """Raise SuiteError when a value of the selection matches no row, or nothing matches all of it."""
    for axis, values in selection.wanted:
        known = list(dict.fromkeys(label for row in rows for label in row[axis]))
        for value in values:
            if not any(matches(label, value) for label in known):
                raise SuiteError(
                    f"matches no {axis} of the suite",
                    where=f"--only {axis}",
                    got=value,
                    expected=known,
                    nearest=nearest(value, known),
                )
    if not any(map(selection.accepts, rows)):
        text = ",".join(f"{axis}={'|'.join(values)}" for axis, values in selection.wanted)
        raise SuiteError("selects nothing: no cell matches all of it", where="--only", got=text)


def matches(label: str, value: str) -> bool:
    """Equal, or ``value`` is a pattern (``*``, ``?``) that fits."""
    return label == value or fnmatchcase(label, value)


def is_pattern(value: str) -> bool:
    """Whether ``value`` holds wildcards."""
    return any(sign in value for sign in "*?[")


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for i, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if sign == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]
