"""The short forms of a suite's values (``kw``, ``{kw: {mix: 1}}``, ``W4A4``) as the models' long form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from bench.errors import SuiteError, nearest
from bench.spec.axes import AXES, WHOLE, Axis, NoValue, axis_names
from bench.spec.origin import KeyPath

At = Callable[[KeyPath], str]

SOURCE_OPTIONS = ("model", "zoo", "student", "delivery", "domain", "of", "label")
COMPRESSOR_OPTIONS = ("label", "teacher")
POLICY_OPTIONS = ("label", "on", "images")
OPTIONS = {"source": SOURCE_OPTIONS, "compressor": COMPRESSOR_OPTIONS, "policy": POLICY_OPTIONS}
"""Axis of methods → what an entry says of its row; whatever else stands there is a parameter of the method."""

FILE = "file"
_LISTED = ("source", "model", "target", "compressor", "policy", "membership")


def long_form(raw: dict[str, Any], at: At) -> dict[str, Any]:
    """A copy of a suite's raw values in the models' form.

    What has a wrong shape here stays as it is: the models complain about it.

    Raises:
        SuiteError: an entry that is neither a name nor one name with its parameters; bits that do not exist.
    """
    out = dict(raw)
    grid = raw.get("grid")
    if isinstance(grid, dict):
        out["grid"] = _grid(grid, at)
    if "images" in raw and not isinstance(raw["images"], list):
        out["images"] = [raw["images"]]
    claims = raw.get("claims")
    if isinstance(claims, list):
        out["claims"] = [_claim(claim) for claim in claims]
    return out


def _grid(grid: dict[str, Any], at: At) -> dict[str, Any]:
    out = {key: value for key, value in grid.items() if key not in axis_names()}
    if "axes" in out:  # the models' word for what the file says by the axes' names
        raise SuiteError("unknown key", where=at(("grid", "axes")), got="axes", expected=axis_names())
    for name, options in OPTIONS.items():
        if isinstance(grid.get(name), list):
            out[name] = [_method(item, ("grid", name, i), at, options) for i, item in enumerate(grid[name])]
    axes: dict[str, Any] = {}
    for axis in AXES:
        if axis.name not in grid:
            continue
        given = grid[axis.name]
        if not isinstance(given, list):
            raise SuiteError("wrong type", where=at(("grid", axis.name)), got=repr(given), expected="a list")
        axes[axis.name] = [_axis_entry(axis, item, ("grid", axis.name, i), at) for i, item in enumerate(given)]
    return {**out, "axes": axes} if axes else out


def _method(item: Any, path: KeyPath, at: At, options: tuple[str, ...]) -> dict[str, Any]:
    if path[1] == "compressor" and isinstance(item, dict) and "steps" in item:
        return _steps(item, path, at)
    if path[1] == "policy" and isinstance(item, dict) and set(item) == {FILE}:
        return _policy_file(item[FILE], path, at)
    name, given = _named(item, path, at, "a method's name, or {NAME: {PARAMETER: value}}")
    out: dict[str, Any] = {"method": name}
    out |= {key: value for key, value in given.items() if key in options}
    out["params"] = {key: value for key, value in given.items() if key not in options}
    if isinstance(out.get("zoo"), str):
        out["zoo"] = [out["zoo"]]
    for key in ("on", "of"):
        if key in out:
            out[key] = _method(out[key], (*path, name, key), at, SOURCE_OPTIONS)
    return out


def _policy_file(given: Any, path: KeyPath, at: At) -> dict[str, Any]:
    """``{file: mine.json}`` or ``{file: {path: mine.json, label: …}}``: no search, but the policy in the file."""
    options = {"path": given} if isinstance(given, str) else given
    where = at((*path, FILE))
    if not isinstance(options, dict) or not isinstance(options.get("path"), str) or not options["path"]:
        raise SuiteError("names no file", where=where, got=repr(given), expected="the path of a policy as JSON")
    unknown = sorted(set(options) - {"path", "label"})
    if unknown:
        raise SuiteError("unknown key", where=where, got=unknown[0], expected=("path", "label"))
    label = options.get("label", PurePath(options["path"]).stem)
    return {"method": FILE, "file": options["path"], "label": label, "params": {}}


def _steps(item: dict[str, Any], path: KeyPath, at: At) -> dict[str, Any]:
    """``{steps: [prune_structured, {brecq: {…}}], label: …}``: methods one after the other."""
    if "teacher" in item:
        raise _chain_teacher(item["teacher"], at((*path, "teacher")))
    unknown = sorted(set(item) - {"steps", "label"})
    if unknown:
        raise SuiteError(
            "unknown key",
            where=at((*path, unknown[0])),
            got=unknown[0],
            expected=("steps", "label"),
            hint="A step's parameters belong to the step: {steps: [{NAME: {PARAMETER: value}}, …]}.",
        )
    given = item["steps"]
    if not isinstance(given, list) or len(given) < 2:
        raise SuiteError(
            "is no list of steps", where=at((*path, "steps")), got=repr(given), expected="at least two compressors"
        )
    expected = "a compressor's name, or {NAME: {PARAMETER: value}}"
    named = [_named(step, (*path, "steps", i), at, expected) for i, step in enumerate(given)]
    for i, (name, params) in enumerate(named):
        if "teacher" in params:
            raise _chain_teacher(params["teacher"], at((*path, "steps", i, name, "teacher")))
    steps = [{"method": name, "params": params} for name, params in named]
    out: dict[str, Any] = {"method": "+".join(name for name, _ in named), "steps": steps}
    return out | ({"label": item["label"]} if "label" in item else {})


def _chain_teacher(got: Any, where: str) -> SuiteError:
    return SuiteError(
        "a chain of steps takes no teacher",
        where=where,
        got=got,
        hint="Each step learns from the network it is given; `teacher` is an option of a compressor that stands alone.",
    )


def _axis_entry(axis: Axis, item: Any, path: KeyPath, at: At) -> dict[str, Any]:
    """``W4A4`` or ``{W4A4: {target: PATTERN}}`` as the axis's values and the pattern."""
    given: Any = {}
    if isinstance(item, dict) and len(item) == 1:
        item, given = next(iter(item.items()))
    try:
        values = dict(axis.read(item))
    except NoValue as error:
        raise SuiteError(str(error), where=at(path), got=repr(item), expected=error.expected) from error
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise SuiteError("wrong type", where=at((*path, str(item))), got=repr(given), expected="a mapping of options")
    for key, value in given.items():
        if key != "target":
            where = at((*path, str(item), str(key)))
            raise SuiteError(
                "unknown key", where=where, got=key, expected="target", nearest=nearest(str(key), ["target"])
            )
        if not isinstance(value, str) or not value:
            where = at((*path, str(item), "target"))
            raise SuiteError("wrong type", where=where, got=repr(value), expected="text: a target or a pattern of some")
    return {"values": values, **given}


def _named(item: Any, path: KeyPath, at: At, expected: str) -> tuple[str, dict[str, Any]]:
    """(name, options) of ``name`` or ``{name: {options}}``."""
    if isinstance(item, str) and item:
        return item, {}
    if not isinstance(item, dict) or len(item) != 1:
        raise SuiteError("is no entry of this axis", where=at(path), got=repr(item), expected=expected)
    name, given = next(iter(item.items()))
    if given is None:
        return str(name), {}
    if not isinstance(given, dict):
        raise SuiteError("wrong type", where=at((*path, name)), got=repr(given), expected="a mapping of parameters")
    return str(name), given


def _claim(claim: Any) -> Any:
    if not isinstance(claim, dict):
        return claim
    out = dict(claim)
    if isinstance(out.get("by"), str):
        out["by"] = [out["by"]]
    for side in ("better", "worse"):
        if isinstance(out.get(side), dict):
            out[side] = {key: [value] if _single(key, value) else value for key, value in out[side].items()}
    return out


def _single(key: str, value: Any) -> bool:
    """Whether a selector's value stands for a list of one."""
    if key == "images":
        return isinstance(value, int)
    scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
    return isinstance(value, str) if key in _LISTED else key in (WHOLE, *axis_names()) and scalar
