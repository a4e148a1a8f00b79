"""pydantic's errors in the words a suite's author needs: where, what was got, what is allowed, the nearest name."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bench.errors import SuiteError, nearest
from bench.spec.axes import axis_names
from bench.spec.origin import KeyPath

_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def explain(
    error: ValidationError, model: type[BaseModel], at: Callable[[KeyPath], str], subject: str | None = None
) -> SuiteError:
    """The foremost of ``error``'s findings as a SuiteError.

    Args:
        at: turns a key path below the model into a place (file, line, key).
        subject: what takes the keys, for "unknown parameter of kw".
    """
    findings = error.errors(include_url=False)
    # An unknown key before a missing one: the one is often the other, misspelt.
    found = next((f for f in findings if f["type"] == "extra_forbidden"), findings[0])
    kind, path, got = found["type"], _plain_path(found, model), found.get("input")
    if kind == "extra_forbidden":
        allowed = _fields(model, path[:-1])
        key = str(path[-1])
        what = f"unknown parameter of {subject}" if subject else "unknown key"
        return SuiteError(what, where=at(path), got=key, expected=allowed or "none", nearest=nearest(key, allowed))
    if kind == "missing":
        return SuiteError(f"the key {path[-1]!r} is missing", where=at(path[:-1]))
    if kind in ("too_short", "string_too_short"):
        return SuiteError("is empty", where=at(path), expected="at least one value")
    if kind == "value_error":
        return SuiteError(str(found["ctx"]["error"]), where=at(path), got=repr(got))
    # A value of several allowed types has one finding for each of them.
    same = [f for f in findings if _plain_path(f, model) == path]
    expected = " or ".join(dict.fromkeys(_expected(f) for f in same))
    words = [word for f in same if f["type"] == "literal_error" for word in _words(f)]
    wrong_type = all(f["type"] in _TYPES for f in same)
    what = "wrong type" if wrong_type else "not allowed"
    return SuiteError(what, where=at(path), got=repr(got), expected=expected, nearest=nearest(str(got), words))


def _expected(found: ErrorDetails) -> str:
    """What would have been allowed."""
    if found["type"] == "literal_error":
        return ", ".join(_words(found))
    return _TYPES.get(found["type"], found["msg"])


def _words(found: ErrorDetails) -> list[str]:
    return [part.strip("' ") for part in str(found["ctx"]["expected"]).replace(" or ", ", ").split(",")]


def _plain_path(found: ErrorDetails, model: type[BaseModel]) -> KeyPath:
    """The finding's place without the parts pydantic adds for the branches of a union (``literal['auto']``)."""
    out: list[str | int] = []
    loc = found["loc"]
    for i, part in enumerate(loc):
        unknown_key = found["type"] == "extra_forbidden" and i == len(loc) - 1
        if isinstance(part, int) or unknown_key or part in _fields(model, tuple(out)):
            out.append(part)
    return tuple(out)


def _fields(model: type[BaseModel], path: KeyPath) -> tuple[str, ...]:
    """Keys of the model found at ``path`` below ``model``; () where no model lies."""
    here: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int):
            continue
        if here is None or part not in here.model_fields:
            return ()
        here = _model_in(here.model_fields[part].annotation)
    return _keys(here) if here else ()


def _keys(model: type[BaseModel]) -> tuple[str, ...]:
    """The model's keys as a file has them: a field ``axes`` stands for the axes of the setting, by their names."""
    own = tuple(key for key in model.model_fields if key != "axes")
    return own if len(own) == len(model.model_fields) else (*own, *axis_names())


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first pydantic model an annotation holds (through unions, tuples and Annotated)."""
    parts = typing.get_args(annotation)
    if parts:
        return next((found for part in parts if (found := _model_in(part))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
