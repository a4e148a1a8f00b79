"""What a suite file asks for: its models, and the loader that names file, line, key and nearest name in every error.

The loader checks form only (keys, types, ranges, duplicates).  Whether methods, networks and data sets exist is
checked by :func:`bench.spec.plan.make_plan`, before any compute.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from bench.errors import SuiteError, nearest
from bench.interfaces import Preset
from bench.reading import read_bytes
from bench.spec.axes import AXES, axis_names
from bench.spec.entries import long_form
from bench.spec.explain import explain
from bench.spec.models import Claim, Count, Counts, Grid, Name, Part, Selector
from bench.spec.origin import MAX_BYTES, KeyPath, Origin, read_yaml
from bench.spec.overrides import apply_override, parse_override

__all__ = ["Claim", "Selector", "SuiteSpec", "load_suite", "parse_override", "suite_names"]

Measure = Literal["bn_loss", "zoo_top1", "classifier_score", "mmd", "class_similarity"]
"""Image measures; each is taken with the network on the target axis (its BN statistics, predictions or features)."""

RankWithin = Literal["compressor", "protocol"]
"""Which rows of a target and protocol are ranked against each other: those of one compressor, or all of them."""

FULL_SIZE = "imagenet"
"""Folder of shipped suites whose networks and data do not come with the package."""

SuiteName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class SuiteSpec(Part):
    """One suite file.  ``images``: how many of each set are used; several counts are prefixes of one synthesis.
    ``test_subset``: measure on so many class-balanced test images instead of all of them.

    ``measures``: the suite measures image sets (each with every network on the target axis) instead of compressed
    accuracy.

    ``trained``: every network must have weights that somebody brought; without it a library's network may have random
    ones.

    ``rank_within``: ``protocol`` where the suite compares compressors; else ranks are formed within each
    ``compressor``.  It says how the board shows what was measured, so no cell's identity holds it.
    """

    suite: SuiteName
    version: Count
    reproduces: str | None = None
    title: str | None = None
    about: str | None = None
    dataset: Name
    grid: Grid
    images: Counts
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    test_subset: Count | None = None
    preset: Preset = "mini"
    trained: bool = False
    measures: tuple[Measure, ...] = ()
    rank_within: RankWithin = "compressor"
    claims: tuple[Claim, ...] = ()

    _origin: Origin = PrivateAttr(default_factory=lambda: Origin("suite"))

    def at(self, *path: str | int) -> str:
        """The place of a key for error messages: ``suites/x.yaml:12: grid.source[2]``."""
        return self._origin.at(path)

    def changed(self, key: str) -> bool:
        """Whether the command line set ``key`` or something below it."""
        return any(path[0] == key for path in self._origin.overrides)


def load_suite(path_or_name: str | Path, overrides: Mapping[str, Any] | None = None) -> SuiteSpec:
    """Read a suite file, or a suite shipped with the package by its bare name.

    Args:
        overrides: dotted key → value (see :mod:`bench.spec.overrides`), applied in order before anything is checked.

    Raises:
        SuiteError: naming file, line, key, what was got and what is allowed.
    """
    return suite_from_text(*suite_text(path_or_name), overrides)


def suite_text(path_or_name: str | Path) -> tuple[str, str]:
    """The text of a suite file, or of a shipped suite, and what the file is called in messages.

    Raises:
        SuiteError: no such suite, or a file that cannot be read.
    """
    place, shown = _find(path_or_name)
    try:
        return read_bytes(place, MAX_BYTES).decode(), shown
    except (OSError, ValueError) as error:
        raise SuiteError("cannot read the suite", where=shown, got=error) from error


def suite_from_text(text: str, shown: str, overrides: Mapping[str, Any] | None = None) -> SuiteSpec:
    """The suite that a file's ``text`` asks for; ``shown`` is what the file is called in messages.

    Raises:
        SuiteError: as :func:`load_suite`.
    """
    raw, origin = read_yaml(text, shown)
    if not isinstance(raw, dict):
        raise SuiteError("is no suite", where=shown, got=type(raw).__name__, expected="a mapping: suite, version, …")
    for key, value in (overrides or {}).items():
        for path in apply_override(raw, key, value):
            origin = origin.overridden(path, f"--set {key}")
    return parse_suite(raw, origin)


def parse_suite(raw: dict[str, Any], origin: Origin) -> SuiteSpec:
    """Check raw values and build the spec.

    Raises:
        SuiteError: as :func:`load_suite`.
    """
    try:
        # Strict JSON mode takes a list for a tuple, but neither "3" nor true for a number.
        spec = SuiteSpec.model_validate_json(json.dumps(long_form(raw, origin.at)), strict=True)
    except ValidationError as error:
        raise explain(error, SuiteSpec, lambda path: origin.at(_raw_path(path, raw))) from error
    spec._origin = origin
    _check_axes(spec)
    return spec


def suite_names() -> tuple[str, ...]:
    """Names of the suites shipped with the package."""
    return tuple(
        sorted(item.name.removesuffix(".yaml") for item in _shipped().iterdir() if item.name.endswith(".yaml"))
    )


def full_size_names() -> tuple[str, ...]:
    """Names of the shipped suites of full-size networks and data, which the user brings (``suites/imagenet``)."""
    folder = _shipped() / FULL_SIZE
    return tuple(sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")))


def _shipped() -> Traversable:
    return resources.files("suites")


def _find(path_or_name: str | Path) -> tuple[Traversable, str]:
    path = Path(path_or_name)
    if path.is_file():
        return path, str(path_or_name)
    names = suite_names()
    # ``suites/x.yaml`` works from any folder: the shipped suite of that name, when no such file lies here.
    named = path.stem if path.suffix == ".yaml" and path.parent.name in ("", "suites") else str(path_or_name)
    if named in names:
        return _shipped() / f"{named}.yaml", f"suites/{named}.yaml"
    large = full_size_names()
    if path.stem in large and path.parent.name in ("", FULL_SIZE) and path.suffix in ("", ".yaml"):
        return _shipped() / FULL_SIZE / f"{path.stem}.yaml", f"suites/{FULL_SIZE}/{path.stem}.yaml"
    raise SuiteError(
        "no such suite",
        where=str(path_or_name),
        expected=("a file", *names, *large),
        nearest=nearest(path.stem, (*names, *large)),
    )


def _raw_path(path: KeyPath, raw: dict[str, Any]) -> KeyPath:
    """The key path in the file of one in the models: entries hold their options under the method's name."""
    if path[:2] == ("images", 0) and not isinstance(raw["images"], list):
        return path[:1]
    if len(path) < 4 or path[0] != "grid" or not isinstance(path[2], int) or path[3] == "steps":
        return path
    item = raw["grid"][path[1]][path[2]]
    if not isinstance(item, dict):
        return path[:3]
    name = str(next(iter(item)))
    return (*path[:3], name, *(part for part in path[3:] if part != "params"))


def _check_axes(spec: SuiteSpec) -> None:
    """Duplicates, and the axes a suite of measures must not have or another must."""
    grid = spec.grid
    axes: dict[str, tuple[Any, ...]] = {axis.name: grid.entries(axis.name) for axis in AXES}
    fixed = {name: getattr(grid, name) for name in ("source", "target", "compressor", "policy")}
    for key, values in (("seeds", spec.seeds), ("measures", spec.measures), ("images", spec.images)):
        _check_unique(spec, (key,), values)
    for name, entries in {**fixed, **axes}.items():
        shown = [item.model_dump_json() if isinstance(item, BaseModel) else item for item in entries]
        _check_unique(spec, ("grid", name), shown)
    for name, entries in {"compressor": grid.compressor, "policy": grid.policy, **axes}.items():
        if spec.measures and entries:
            raise SuiteError(
                "a suite of image measures compresses nothing",
                where=spec.at("grid", name),
                hint="Drop this axis, or drop `measures`.",
            )
    if not spec.measures and not grid.compressor:
        raise SuiteError("the axis is empty", where=spec.at("grid", "compressor"), expected="at least one value")
    if not spec.measures and not any(axes.values()):
        known = " or ".join([", ".join(axis_names()[:-1]), axis_names()[-1]])
        where = spec.at("grid", next(iter(grid.axes), axis_names()[0]))
        raise SuiteError("the axis is empty", where=where, expected=f"at least one value of {known}")


def _check_unique(spec: SuiteSpec, path: KeyPath, values: Any) -> None:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise SuiteError("the value is given twice", where=spec.at(*path, i), got=value)
