"""What a suite varies, read off its rows, and what to draw along what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.board.tables.settings import Level, axis_names, levels
from dashboard.text import missing

ITSELF = "the target itself"
ZOO = "zoo:"
SETTING = "setting"
SCHEME, OPTION, PARAM = "scheme", "option:", "param:"
MANY = 3
"""How many values make a line worth drawing along a numeric axis."""

NAMES = {"method": "source", SCHEME: "compressor", "model": "images from", "n": "images", SETTING: "setting"}


@dataclass(frozen=True)
class Layout:
    """How rows are drawn: along ``x`` (numeric if so), one colour per value of ``colour``, one panel per values of
    ``panels``; ``axes`` are all that vary, target aside; ``beside`` those that follow from x, said beside its value."""

    x: str
    numeric: bool
    colour: tuple[str, ...]
    panels: tuple[str, ...]
    axes: tuple[str, ...]
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One plot: its title, the rows of the settings and those of the controls drawn as lines beside them."""

    title: str
    rows: pd.DataFrame
    controls: pd.DataFrame


def is_shared(axis: str) -> bool:
    """Whether controls (real images, noise) vary along the axis, too; a source's parameter changes that source only."""
    return axis in (SCHEME, *axis_names(), "n") or axis.startswith(OPTION)


def is_ablation(rows: pd.DataFrame) -> bool:
    """Whether some method occurs with several parameters, zoos, image counts, bits or compressors."""
    own = _methods(rows)
    return varies_source(rows) or any(own[axis].nunique() > 1 for axis in ("compressor", "setting_label", "n"))


def varies_source(rows: pd.DataFrame) -> bool:
    """Whether some method occurs with several parameters or zoos."""
    own = _methods(rows)
    names = own.assign(_method=_method(own), _zoo=own["model"].where(own["model"].str.startswith(ZOO), ""))
    return bool((names.drop_duplicates(["_method", "source", "_zoo"]).groupby("_method").size() > 1).any())


def with_axes(rows: pd.DataFrame, params: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The rows with a column per varied axis beside the board's: ``method`` of the source and ``scheme``, that of the
    compressor; ``param:NAME`` and ``option:NAME`` for each parameter that differs between rows of one source or of one
    compressor.  ``model`` says :data:`ITSELF` for the target.

    Args:
        params: label of a source or compressor → its resolved parameters (defaults included).
    """
    found = rows.assign(**{"method": _method(rows), SCHEME: rows["compressor_method"].astype(str)})
    found["model"] = np.where((rows["model"] == rows["target"]) & (rows["model"] != ""), ITSELF, rows["model"])
    for name in axis_names():
        found[name] = pd.Series(levels(rows, name), index=found.index, dtype=object)
    for column, method, prefix in (("source", "method", PARAM), ("compressor", SCHEME, OPTION)):
        for name in _varied(found, column, method, params):
            # as a list, since pandas would make 1 a 1.0 beside a row that has no such parameter
            values = [params.get(str(label), {}).get(name) for label in found[column]]
            found[f"{prefix}{name}"] = pd.Series(values, index=found.index, dtype=object)
    return found


def slim(found: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The rows with the columns that a plot of ``measure`` needs and no others; with all it would be slow."""
    stem = measure.removesuffix("_mean")
    names = ("suite", "source", "model", "target", "compressor", "setting_label", "n", "seeds", "control", "method")
    wanted = {*names, SCHEME, *axis_names(), measure, f"{stem}_low", f"{stem}_high"}
    kept = found[[c for c in found if c in wanted or str(c).startswith((PARAM, OPTION))]]
    # numpy's own types: a plot takes the values one by one, which pandas' extension types make slow
    return kept.astype({c: "float64" if str(kept[c].dtype) == "Float64" else object for c in kept})


def layout(found: pd.DataFrame, along: str | None = None) -> Layout:
    """What to draw along what.

    The x axis is the numeric one that varies with everything else fixed, if exactly one does with three values or
    more; else the axis of most values among setting of the source, compressor, bits and images.  ``along`` overrides.
    An axis whose value follows from that of x (the bits of a step, where each compressor has its own) parts no panels.
    Where one method stands beside controls, they share panels by target, unless these are more than the sources.
    """
    axes = varied_axes(found)
    own = _methods(found)
    lines = [axis for axis in axes if _is_line(own, axis, axes)]
    x = along if along in (*axes, SETTING) else lines[0] if len(lines) == 1 else _broadest(own, axes)
    source = tuple(axis for axis in axes if not is_shared(axis))
    numeric = x in axes and _is_line(own, x, axes)
    others = [axis for axis in axes if is_shared(axis) and axis != x]
    beside = tuple(axis for axis in others if _follows(found, axis, x))
    shared = tuple(axis for axis in others if axis not in beside)
    if x == SETTING:
        return Layout(x, False, ("target",), shared, axes)
    rest = tuple(axis for axis in source if axis != x)
    together = not rest and is_shared(x) and found["target"].nunique() <= found["method"].nunique()
    if numeric or together:
        return Layout(x, numeric, rest or ("method",), ("target", *shared), axes, beside)
    return Layout(x, False, ("target",), (*(rest or ("method",)), *shared), axes, beside)


def varied_axes(found: pd.DataFrame) -> tuple[str, ...]:
    """The axes of :func:`with_axes` along which methods differ: source's first, then those all sources share."""
    own = _methods(found)
    params, options = ([str(c) for c in found if str(c).startswith(start)] for start in (PARAM, OPTION))
    names = ["method", *params, "model", SCHEME, *options, *axis_names(), "n"]
    return tuple(name for name in names if _values(own, name) > 1)


def panels(found: pd.DataFrame, plan: Layout) -> list[Panel]:
    """The rows by panel.  Controls that do not vary along x are set apart, to be drawn as lines across the panel."""
    out = []
    beside_x = aside(found, plan)
    shared = [axis for axis in plan.panels if is_shared(axis) or axis == "target"]
    for key, rows in found[~beside_x].groupby(list(plan.panels) or ["suite"], sort=False, dropna=False):
        values = dict(zip(plan.panels, key if isinstance(key, tuple) else (key,), strict=False))
        beside = found[beside_x]
        for axis in shared:
            beside = beside[beside[axis] == values[axis]]
        out.append(Panel(" · ".join(said(axis, value) for axis, value in values.items()), rows, beside))
    return out


def aside(found: pd.DataFrame, plan: Layout) -> pd.Series:
    """Which rows are controls that do not vary along x; none where there is no method to draw them beside."""
    control = found["control"] != "none"
    return control & (plan.numeric and not is_shared(plan.x) and not control.all())


def axis_name(axis: str) -> str:
    """An axis in words."""
    return NAMES.get(axis, axis.partition(":")[2] or axis)


def metrics(rows: pd.DataFrame) -> list[str]:
    """Columns of metrics beyond the standard ones that the rows have, without those that are ends or spreads of
    another metric (``NAME_low``, ``NAME_high``, ``NAME_std``, ``NAME_floor``)."""
    start = list(rows.columns).index("access") + 1
    found = [str(c) for c in rows.columns[start:] if str(rows[c].dtype) == "Float64" and rows[c].notna().any()]
    beside = ("low", "high", "std", "floor")
    return [c for c in found if c.rpartition("_")[2] not in beside or c.rpartition("_")[0] not in found]


# --- reading the axes ---


def _methods(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of methods; all rows where there are controls only, which are then what the suite is about."""
    own = rows[rows["control"] == "none"]
    return own if len(own) else rows


def _method(rows: pd.DataFrame) -> pd.Series:
    """The source's method; one that streams is another than the same with stored images."""
    streams = rows["delivery"].astype(str) == "stream"
    method = rows["source_method"].astype(str)
    return method.where(~streams, method + "(stream)")


def _varied(found: pd.DataFrame, column: str, method: str, params: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Parameters that differ between the labels in ``column`` of one method, in the order of their names."""
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    pairs = zip(found[column].astype(str), found[method].astype(str), strict=True)
    for label, name in sorted(set(map(tuple, pairs))):
        by_method.setdefault(name, []).append(params.get(label, {}))
    differ: set[str] = set()
    for group in by_method.values():
        for name in {name for one in group for name in one}:
            if len({repr(one.get(name)) for one in group}) > 1:
                differ.add(name)
    return sorted(differ)


def _values(rows: pd.DataFrame, axis: str) -> int:
    return len({said(axis, v) for v in rows[axis] if not missing(v)}) if axis in rows else 0


def _is_line(rows: pd.DataFrame, axis: str, axes: Sequence[str]) -> bool:
    """Whether ``axis`` is numeric and takes three values or more while all other axes stay as they are."""
    known = rows[rows[axis].map(lambda v: not missing(v))]
    if known.empty or any(number_of(axis, v) is None for v in known[axis]):
        return False
    others = joined(known, ("target", *(a for a in axes if a != axis)))
    counts = known.assign(_key=others).drop_duplicates(["_key", axis]).groupby("_key").size()
    distinct = known[axis].map(lambda v: number_of(axis, v))
    return bool(counts.max() >= MANY) and distinct.nunique() == known[axis].map(repr).nunique()


def _follows(rows: pd.DataFrame, axis: str, x: str) -> bool:
    """Whether each value of ``x`` occurs with one value of ``axis`` only."""
    keys = [rows[name].map(repr) for name in (("source", "model") if x == SETTING else (x,))]
    return bool((rows[axis].map(repr).groupby(keys).nunique() <= 1).all())


def _broadest(rows: pd.DataFrame, axes: Sequence[str]) -> str:
    """The axis of most values; the source's axes count together, as its setting."""
    settings = joined(rows, [a for a in axes if not is_shared(a)]).nunique()
    shared = [(_values(rows, axis), axis) for axis in axes if is_shared(axis)]
    count, axis = max(shared, default=(0, SETTING))
    return axis if count > max(settings, 1) else SETTING


def number_of(axis: str, value: Any) -> float | None:
    """A value as a number: bits by those of the weights; None for what is none."""
    if isinstance(value, Level):
        return value.number
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return None
    return float(value) if math.isfinite(float(value)) else None


def said(axis: str, value: Any) -> str:
    """A value as a reader would say it beside others."""
    if missing(value) or value == "":
        return ""
    if isinstance(value, Level) or axis in ("target", "method", "source", SCHEME, SETTING):
        return str(value)
    if isinstance(value, bool | np.bool_):
        value = "yes" if value else "no"
    return f"from {value}" if axis == "model" else f"{axis_name(axis)} {value}"


def joined(rows: pd.DataFrame, axes: Sequence[str]) -> pd.Series:
    if rows.empty:
        return pd.Series([], dtype=str, index=rows.index)
    words = [[said(axis, value) for axis, value in zip(axes, row, strict=True)] for row in rows[list(axes)].to_numpy()]
    return pd.Series([" · ".join(filter(None, w)) for w in words], index=rows.index)
