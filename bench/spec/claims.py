"""Claims against the grid: what a selector means, and whether it speaks of rows that exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.errors import SuiteError, nearest
from bench.spec.origin import KeyPath
from bench.spec.suite import Selector, SuiteSpec

RELATIONS = ("own", "foreign", "any")
_AXES = ("source", "model", "target", "compressor", "bits", "membership", "n")


def selects(selector: Selector, row: Mapping[str, str]) -> bool:
    """Whether a row (a record's labels: source, source_method, model, target, …) is meant by ``selector``.

    A source or compressor is meant by its label or by its method's name.
    """
    names = {
        "source": (row["source"], row["source_method"]),
        "model": (row["model"], *relations(row["model"], row["target"])),
        "target": (row["target"],),
        "compressor": (row["compressor"], row["compressor_method"]),
        "bits": (row["bits"],),
        "membership": (row["membership"],),
        "n": (row["n"],),
    }
    return all(wanted is None or any(name in wanted for name in names[axis]) for axis, wanted in _wanted(selector))


def relations(model: str, target: str) -> tuple[str, ...]:
    """The words of the ``model`` axis that fit images from ``model`` compressing ``target``.

    ``own``: from the target itself; ``foreign``: from another single network; ``any``: always.
    """
    if not model or model.startswith("zoo:"):
        return ("any",)
    return ("any", "own") if model == target else ("any", "foreign")


def check_claims(suite: SuiteSpec, rows: Sequence[Mapping[str, str]]) -> None:
    """Check every claim against the whole grid's rows (labels as :func:`selects` takes them).

    Raises:
        SuiteError: a selector's value that no row has (with the nearest), or a combination that selects nothing.
    """
    known = {
        "source": [name for row in rows for name in (row["source"], row["source_method"])],
        "compressor": [name for row in rows for name in (row["compressor"], row["compressor_method"])],
        "model": [*RELATIONS, *(row["model"] for row in rows if row["model"])],
        **{axis: [row[axis] for row in rows] for axis in ("target", "bits", "membership", "n")},
    }
    allowed = {axis: tuple(dict.fromkeys(names)) for axis, names in known.items()}
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
    return [(axis, selector.values(axis)) for axis in _AXES]
