"""The short forms of a suite's values (``kw``, ``{kw: {mix: 1}}``, ``W4A4``) as the models' long form."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from bench.errors import SuiteError
from bench.spec.origin import KeyPath

At = Callable[[KeyPath], str]

SOURCE_OPTIONS = ("model", "zoo", "student", "delivery", "label")
COMPRESSOR_OPTIONS = ("label",)
_LISTED = ("source", "model", "target", "compressor", "bits", "membership")
_BITS = re.compile(r"W(\d{1,3})A(\d{1,3})")
_ALLOWED = (*range(2, 9), 32)


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
    out = dict(grid)
    forms: dict[str, Callable[[Any, KeyPath, At], Any]] = {
        "source": lambda item, path, at: _method(item, path, at, SOURCE_OPTIONS),
        "compressor": lambda item, path, at: _method(item, path, at, COMPRESSOR_OPTIONS),
        "bits": _bits,
        "sparsity": _sparsity,
        "student": lambda item, path, at: _setting("student", item, path, at),
    }
    for axis, form in forms.items():
        if isinstance(grid.get(axis), list):
            out[axis] = [form(item, ("grid", axis, i), at) for i, item in enumerate(grid[axis])]
    return out


def _method(item: Any, path: KeyPath, at: At, options: tuple[str, ...]) -> dict[str, Any]:
    if path[1] == "compressor" and isinstance(item, dict) and "steps" in item:
        return _steps(item, path, at)
    name, given = _named(item, path, at, "a method's name, or {NAME: {PARAMETER: value}}")
    out: dict[str, Any] = {"method": name}
    out |= {key: value for key, value in given.items() if key in options}
    out["params"] = {key: value for key, value in given.items() if key not in options}
    if isinstance(out.get("zoo"), str):
        out["zoo"] = [out["zoo"]]
    return out


def _steps(item: dict[str, Any], path: KeyPath, at: At) -> dict[str, Any]:
    """``{steps: [prune_structured, {brecq: {…}}], label: …}``: methods one after the other."""
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
    steps = [{"method": name, "params": params} for name, params in named]
    out: dict[str, Any] = {"method": "+".join(name for name, _ in named), "steps": steps}
    return out | ({"label": item["label"]} if "label" in item else {})


def _sparsity(item: Any, path: KeyPath, at: At) -> dict[str, Any]:
    if isinstance(item, int | float) and not isinstance(item, bool):
        return {"sparsity": float(item)}
    if isinstance(item, dict) and len(item) == 1 and isinstance(next(iter(item)), float):
        return {"sparsity": next(iter(item)), **_named(item, path, at, "")[1]}
    expected = "the part to remove such as 0.5, or {0.5: {target: PATTERN}}"
    raise SuiteError("is no sparsity", where=at(path), got=repr(item), expected=expected)


def _setting(axis: str, item: Any, path: KeyPath, at: At) -> dict[str, Any]:
    name, given = _named(item, path, at, f"a {axis}'s name, or {{NAME: {{target: PATTERN}}}}")
    return {axis: name, **given}


def _bits(item: Any, path: KeyPath, at: At) -> dict[str, Any]:
    name, given = _named(item, path, at, "bits such as W4A4, or {W4A8: {target: PATTERN}}")
    found = _BITS.fullmatch(name)
    if not found:
        raise SuiteError("is no bit-width", where=at(path), got=name, expected="W<weights>A<activations>, such as W4A4")
    weight, act = int(found[1]), int(found[2])
    if weight not in _ALLOWED or act not in _ALLOWED:
        raise SuiteError("no such bit-width", where=at(path), got=name, expected="2 to 8 bits, or 32 (floating point)")
    return {"weight_bits": weight, "act_bits": act, **given}


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
    return isinstance(value, int) if key == "images" else key in _LISTED and isinstance(value, str)
