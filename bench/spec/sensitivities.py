"""Sensitivities of the user's own: a CSV with a line per layer and pair of bits.  Imported by itself, as it brings the
integer program and with it scipy."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.errors import SuiteError, nearest
from bench.interfaces import LayerBits
from bench.interfaces.program import Choice
from bench.reading import LIMIT, read_bytes

COLUMNS = ("layer", "macs", "weights", "weight_bits", "act_bits", "cost")
MORE = ("group", "reads")


def read_table(path: Path) -> list[Choice]:
    """The layers of a CSV of sensitivities, in the order in which they appear.

    Raises:
        SuiteError: a file that cannot be read; a missing or unknown column, a bad number, a pair given twice, a layer
            whose lines disagree, each with its line.
    """
    try:
        lines = read_bytes(path, LIMIT).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise SuiteError("cannot read the table", where=str(path), got=error, expected="CSV") from error
    rows = csv.DictReader(lines)
    header = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = header
    _check_header(path, header)
    facts: dict[str, tuple[int, int, str, str]] = {}
    costs: dict[str, dict[LayerBits, float]] = {}
    for row in rows:
        where = f"{path}:{rows.line_num}"
        name = (row["layer"] or "").strip()
        if not name:
            raise SuiteError("the line names no layer", where=where, got="nothing", expected="a layer's name")
        macs, weights, weight, act = (_whole(row, key, where) for key in COLUMNS[1:5])
        pair = LayerBits(weight, act)
        if not all(1 <= bits <= 32 for bits in pair):
            raise SuiteError("no such bit-width", where=where, got=f"{weight} and {act}", expected="1 to 32")
        more = tuple((row.get(key) or "").strip() for key in MORE)
        own = (macs, weights, *more)
        if facts.setdefault(name, own) != own:  # type: ignore[arg-type]
            expected = f"as above: {', '.join(map(str, facts[name]))}"
            raise SuiteError(
                "two lines of a layer disagree", where=where, got=", ".join(map(str, own)), expected=expected
            )
        if pair in costs.setdefault(name, {}):
            raise SuiteError("the pair is given twice", where=where, got=f"{name} {weight}, {act}")
        costs[name][pair] = _number(row, "cost", where)
    if not facts:
        raise SuiteError(
            "the table has no line", where=str(path), got="a header alone", expected="a line per layer and pair"
        )
    return [Choice(name, own[0], own[1], costs[name], own[2], own[3]) for name, own in facts.items()]


def _check_header(path: Path, header: Sequence[str]) -> None:
    where = f"{path}:1"
    for name in COLUMNS:
        if name not in header:
            raise SuiteError(
                "the table lacks a column", where=where, got=", ".join(header) or "nothing", expected=COLUMNS
            )
    known = (*COLUMNS, *MORE)
    for name in header:
        if name not in known:
            raise SuiteError("unknown column", where=where, got=name, expected=known, nearest=nearest(name, known))


def _whole(row: dict[str, Any], key: str, where: str) -> int:
    number = _number(row, key, where)
    if number != int(number) or not 0 <= number < 2**53:
        raise SuiteError("no whole number", where=f"{where}: {key}", got=row[key], expected="0, 1, 2 …")
    return int(number)


def _number(row: dict[str, Any], key: str, where: str) -> float:
    try:
        number = float(row[key])
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < 1e300:
        raise SuiteError("no finite number", where=f"{where}: {key}", got=repr(row[key]), expected="0.5, 3, 1e-4 …")
    return number
