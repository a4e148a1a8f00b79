"""pydantic's errors in the words a suite's author needs: where, what was got, what is allowed, the nearest name."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from bench.errors import SuiteError, nearest
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
    kind, path, got = found["type"], tuple(found["loc"]), found.get("input")
    if kind == "extra_forbidden":
        allowed = _fields(model, path[:-1])
        key = str(path[-1])
        what = f"unknown parameter of {subject}" if subject else "unknown key"
        return SuiteError(what, where=at(path), got=key, expected=allowed or "none", nearest=nearest(key, allowed))
    if kind == "missing":
        return SuiteError(f"the key {path[-1]!r} is missing", where=at(path[:-1]))
    if kind in ("too_short", "string_too_short"):
        return SuiteError("is empty", where=at(path), expected="at least one value")
    if kind == "literal_error":
        allowed = tuple(part.strip("' ") for part in str(found["ctx"]["expected"]).replace(" or ", ", ").split(","))
        return SuiteError("not allowed", where=at(path), got=got, expected=allowed, nearest=nearest(str(got), allowed))
    if kind in _TYPES:
        return SuiteError("wrong type", where=at(path), got=repr(got), expected=_TYPES[kind])
    if kind == "value_error":
        return SuiteError(str(found["ctx"]["error"]), where=at(path), got=repr(got))
    return SuiteError("not allowed", where=at(path), got=repr(got), expected=str(found["msg"]))


def _fields(model: type[BaseModel], path: KeyPath) -> tuple[str, ...]:
    """Keys of the model found at ``path`` below ``model``; () where no model lies."""
    here: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int):
            continue
        if here is None or part not in here.model_fields:
            return ()
        here = _model_in(here.model_fields[part].annotation)
    return tuple(here.model_fields) if here else ()


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first pydantic model an annotation holds (through unions, tuples and Annotated)."""
    parts = typing.get_args(annotation)
    if parts:
        return next((found for part in parts if (found := _model_in(part))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
