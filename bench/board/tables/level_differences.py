"""What changes as one thing of a method changes: paired differences of its levels to a reference level.

An axis is a parameter of a source or of a compressor that differs between rows of one method, the network the images
come from, their number, or the compressor.  Two rows are a pair of an axis where they are alike in everything else.
The difference of a level is the mean over its pairs as claims form it (:class:`bench.board.claims.units.Comparison`),
so a claim of the same words has the same difference and, at the same level of confidence, the same interval.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.board.claims.pairing import row_difference, same_code
from bench.board.claims.units import Comparison
from bench.board.index.rows import Row
from bench.board.stats.paired import LEVEL
from bench.board.tables.answers import settings_of

ITSELF = "the network itself"
"""Level of the images' network where it is the compressed one."""

SHARED = ("compressor", "images")
"""Axes along which every source may vary, controls too."""


@dataclass(frozen=True)
class Axis:
    """A thing that varies: the ``kind`` of it (source, compressor, model, images), whose it is (a method's name where
    it is one of its parameters), and its name."""

    kind: str
    method: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} of {self.method}" if self.method else self.name


@dataclass(frozen=True)
class LevelDifference:
    """Level minus reference in points of top-1, mean over ``pairs`` of rows on ``seeds`` and ``images``, with its 95 %
    interval, not corrected for their number.  ``method``: the source's; ``control`` as the source declares itself.
    ``difference`` None: a row of a pair is not complete, ``why`` says so.  ``stale``: some row is of an older version.
    """

    axis: Axis
    level: str
    reference: str
    setting: str
    method: str
    control: str
    pairs: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    images: int = 0
    stale: bool = False
    why: str = ""

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out no difference."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


Place = Mapping[Axis, Any]
"""A row's value on every axis that it has."""


def level_differences(rows: Sequence[Row], level: float = LEVEL) -> list[LevelDifference]:
    """All levels of all axes, axis by axis, level by level in the order of their values; the reference has no line.

    The reference of a parameter is its preset's own value, of other axes the level of most rows (the compressed network
    itself, where images come from one), the first of these where there are several.

    Args:
        rows: of one suite, from :func:`bench.board.index.rows.make_rows`; rows without a compressor are left out.
    """
    known = _current([row for row in rows if row.head.compressor])
    axes, placed = _placed(known)
    groups = {label: name for name, labels in settings_of(known).items() for label in labels}
    found = []
    for axis in axes:
        own = [(row, place) for row, place in zip(known, placed, strict=True) if axis in place]
        values = _ordered(place[axis] for _, place in own)
        reference = _reference(axis, own, values)
        parts: dict[tuple[str, str, str, str], list[tuple[Row, Row]]] = defaultdict(list)
        at = {(_beside(row, place, axis), _text(place[axis])): row for row, place in own}
        for row, place in own:
            other = at.get((_beside(row, place, axis), _text(reference)))
            if other is not None and _text(place[axis]) != _text(reference):
                head = row.head
                key = (_text(place[axis]), groups[head.setting_label], head.source_method, head.control)
                parts[key].append((row, other))
        order = {_text(value): i for i, value in enumerate(values)}
        for key in sorted(parts, key=lambda key: (order[key[0]], *key[1:])):
            text, setting, method, control = key
            empty = LevelDifference(axis, text, _text(reference), setting, method, control, len(parts[key]))
            found.append(_measured(empty, parts[key], level))
    return found


def _measured(empty: LevelDifference, pairs: Sequence[tuple[Row, Row]], level: float) -> LevelDifference:
    """``empty`` with the mean over its pairs."""
    values: dict[str, Any] = {name: getattr(empty, name) for name in empty.__dataclass_fields__}
    values["stale"] = any(row.stale for pair in pairs for row in pair)
    lacking = [row for pair in pairs for row in pair if not row.complete or not row.bitmaps]
    if lacking:
        return LevelDifference(**values | {"why": f"{len(lacking)} rows are not complete"})
    if any(_unlike(*pair) for pair in pairs):
        return LevelDifference(**values | {"why": "measured with other versions, networks or test images"})
    spread = Comparison.of("", [row_difference(*pair) for pair in pairs], ()).spread
    if spread is None:
        return LevelDifference(**values | {"why": "the rows share no seed"})
    low, high = spread.interval(level)
    ends = {"difference": spread.estimate, "low": low, "high": high}
    return LevelDifference(**values | ends | {"seeds": spread.seeds, "images": spread.images})


def _unlike(first: Row, second: Row) -> bool:
    one, two = first.head, second.head
    tests = (one.test_digest, one.test_count, one.target_digest), (two.test_digest, two.test_count, two.target_digest)
    return tests[0] != tests[1] or not same_code(first, second)


def _current(rows: Sequence[Row]) -> list[Row]:
    """Of rows of one setting the fresh one, and rows of the newest suite version alone."""
    newest = max((row.head.suite_version for row in rows), default=0)
    kept = [row for row in rows if row.head.suite_version == newest and row.status != "not_applicable"]
    fresh = {row.setting for row in kept if not row.stale}
    return [row for row in kept if not row.stale or row.setting not in fresh]


def _placed(rows: Sequence[Row]) -> tuple[list[Axis], list[dict[Axis, Any]]]:
    """The axes along which rows vary, and every row's values on them."""
    changed = {kind: _changed(rows, kind) for kind in ("source", "compressor")}
    placed: list[dict[Axis, Any]] = []
    for row in rows:
        place: dict[Axis, Any] = {}
        for kind, names in changed.items():
            method = getattr(row.head, f"{kind}_method")
            params = getattr(row.head, f"{kind}_params")
            place |= {
                Axis(kind, method, name): _flat(getattr(row.head, f"{kind}_changes"), name, params)
                for name in names.get(method, ())
            }
        if row.head.model and not _follows(rows, row):
            place[Axis("model", "", "images from")] = ITSELF if row.head.model == row.head.target else row.head.model
        place[Axis("images", "", "images")] = row.head.n
        place[Axis("compressor", "", "compressor")] = row.head.compressor_method
        placed.append(place)
    seen: dict[Axis, set[str]] = defaultdict(set)
    for place in placed:
        for axis, value in place.items():
            seen[axis].add(_text(value))
    return [axis for axis in seen if len(seen[axis]) > 1], placed


def _changed(rows: Sequence[Row], kind: str) -> dict[str, list[str]]:
    """Method → parameters in which its rows differ."""
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    names: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        names[getattr(row.head, f"{kind}_method")] |= set(getattr(row.head, f"{kind}_changes"))
    for row in rows:
        method = getattr(row.head, f"{kind}_method")
        for name in names[method]:
            params, changes = getattr(row.head, f"{kind}_params"), getattr(row.head, f"{kind}_changes")
            values[method][name].add(_text(_flat(changes, name, params)))
    return {method: sorted(n for n, found in own.items() if len(found) > 1) for method, own in values.items()}


def _flat(changes: Mapping[str, Any], name: str, params: Mapping[str, Any]) -> Any:
    """A parameter's value: as changed, as resolved, or the preset's own where a record does not hold it."""
    return changes[name] if name in changes else params.get(name, PRESET)


PRESET = "preset's own"
"""Level of a parameter that was not changed, where the record does not say its value."""


def _follows(rows: Sequence[Row], row: Row) -> bool:
    """Whether the images' network follows from the source: each label looks at one only, or always at the target."""
    own = [r.head for r in rows if r.head.source == row.head.source]
    return len({h.model for h in own}) == 1 or all(h.model == h.target for h in own)


def _reference(axis: Axis, own: Sequence[tuple[Row, Place]], values: Sequence[Any]) -> Any:
    if axis.kind in ("source", "compressor") and axis.method:
        for row, place in own:
            if axis.name not in getattr(row.head, f"{axis.kind}_changes"):
                return place[axis]
    counts = {_text(value): sum(_text(place[axis]) == _text(value) for _, place in own) for value in values}
    return max(values, key=lambda value: (value == ITSELF, counts[_text(value)]))


def _beside(row: Row, place: Place, axis: Axis) -> tuple[object, ...]:
    """What the rows of a pair share: all but the axis.  Of two compressors the parameters of equal names agree."""
    head, between = row.head, axis.kind == "compressor" and not axis.method
    others = sorted(
        (a.kind, "" if between and a.kind == "compressor" else a.method, a.name, _text(value))
        for a, value in place.items()
        if a != axis
    )
    keys = (head.dataset, head.preset, head.target, head.setting_label, head.variant, head.policy, head.source_method)
    return (*keys, head.delivery, *(() if axis.kind == "compressor" else (head.protocol_id,)), *others)


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Distinct values, numbers by size, then words by name."""
    found = {_text(value): value for value in values}

    def place(value: Any) -> tuple[bool, float, str]:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return not number, float(value) if number else 0.0, _text(value)

    return sorted(found.values(), key=place)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, default=str)
