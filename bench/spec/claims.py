"""Claims against the grid: what a selector means, and whether it speaks of rows that exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.errors import SuiteError, nearest
from bench.spec.axes import WHOLE, axis_names
from bench.spec.origin import KeyPath
from bench.spec.suite import Selector, SuiteSpec

RELATIONS = ("own", "foreign", "any")
Labels = Mapping[str, Sequence[str]]
"""Axis → what a row is called there: its label, and the names of methods it also goes by."""


def claim_axes() -> tuple[str, ...]:
    """The axes a selector may speak of; ``n`` is its ``images``."""
    return ("source", "model", "target", "compressor", "policy", WHOLE, *axis_names(), "membership", "n")


def selects(selector: Selector, row: Labels) -> bool:
    """Whether a row is meant by ``selector``: on each axis that it names, by any of the row's names there.

    The model's relation to the target (own, foreign) is a name of the model, too.
    """
    related = relations(row["model"][0], row["target"][0])
    return all(
        wanted is None or any(name in wanted for name in (*row[axis], *(related if axis == "model" else ())))
        for axis, wanted in _wanted(selector)
    )


def relations(model: str, target: str) -> tuple[str, ...]:
    """The words of the ``model`` axis that fit images from ``model`` compressing ``target``.

    ``own``: from the target itself; ``foreign``: from another single network; ``any``: always.
    """
    if not model or model.startswith("zoo:"):
        return ("any",)
    return ("any", "own") if model == target else ("any", "foreign")


def check_claims(suite: SuiteSpec, rows: Sequence[Labels]) -> None:
    """Check every claim against the whole grid's rows.

    Raises:
        SuiteError: a selector's value that no row has (with the nearest), or a combination that selects nothing.
    """
    allowed = {axis: tuple(dict.fromkeys(name for row in rows for name in row[axis] if name)) for axis in claim_axes()}
    allowed["model"] = (*RELATIONS, *allowed["model"])
    for i, claim in enumerate(suite.claims):
        for side, selector in (("better", claim.better), ("worse", claim.worse)):
            _check_selector(suite, selector, allowed, ("claims", i, side))
            if not any(selects(selector, row) for row in rows):
                raise SuiteError("selects no row of the suite", where=suite.at("claims", i, side))


def _check_selector(suite: SuiteSpec, selector: Selector, allowed: Mapping[str, Sequence[str]], path: KeyPath) -> None:
    for axis, wanted in _wanted(selector):
        key = "images" if axis == "n" else axis
        for value in wanted or ():
            if value not in allowed[axis]:
                raise SuiteError(
                    f"the suite has no such {key}",
                    where=suite.at(*path, key),
                    got=value,
                    expected=allowed[axis],
                    nearest=nearest(value, allowed[axis]),
                )


def _wanted(selector: Selector) -> list[tuple[str, tuple[str, ...] | None]]:
    return [(axis, selector.values(axis)) for axis in claim_axes()]
