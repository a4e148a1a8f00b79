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

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from bench.errors import SuiteError, nearest
from bench.interfaces import Delivery, Preset, Setting
from bench.spec.entries import long_form
from bench.spec.explain import explain
from bench.spec.origin import KeyPath, Origin, read_yaml
from bench.spec.overrides import apply_override, parse_override

__all__ = ["Claim", "Selector", "SuiteSpec", "load_suite", "parse_override", "suite_names"]

Measure = Literal["bn_loss", "zoo_top1", "classifier_score", "mmd"]
"""Image measures; each is taken with the network on the target axis (its BN statistics, predictions or features)."""

Name = Annotated[str, Field(min_length=1)]
Label = Annotated[str, Field(pattern=r"^[^|,()]+(\([^|()]*\))?$")]
"""A row's name: commas inside the one pair of parentheses only, so that ``--only`` can name it."""
SuiteName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Count = Annotated[int, Field(ge=1)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Names = Annotated[tuple[Name, ...], Field(min_length=1)]
PairingAxis = Literal["target", "compressor", "bits", "seed"]


class _Part(BaseModel):
    """Frozen, unknown keys forbidden, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SourceEntry(_Part):
    """One value of the source axis.

    ``model``: ``self`` (the cell's own target), ``each_target`` (one row per network of the target axis) or a network;
    for sources that look at one network.  ``zoo``: groups' names or networks; for sources that mix several.  Some look
    at one network and, where a zoo is named, at that besides.  ``label`` replaces the row's name, which otherwise is
    the method plus its non-default parameters.  ``delivery`` ``stream`` trains a source's generator in lock-step with
    the compressor's student; nothing is stored then.
    """

    method: Name
    model: Name | None = None
    zoo: Names | None = None
    student: Name | None = None
    delivery: Delivery = "cached"
    label: Label | None = None
    params: dict[str, Any] = Field(default_factory=dict)


class StepEntry(_Part):
    """A method and its parameters, one of several that make a compressor."""

    method: Name
    params: dict[str, Any] = Field(default_factory=dict)


class CompressorEntry(_Part):
    """One value of the compressor axis: a method, its parameters, and the row's name if not derived from those; or
    ``steps``, methods of which each takes the network the one before it made."""

    method: Name
    label: Label | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    steps: tuple[StepEntry, ...] = ()


class BitsEntry(_Part):
    """One value of the bits axis.  With ``target`` (a pattern), matching targets get it instead of the plain ones."""

    weight_bits: int
    act_bits: int
    target: Name | None = None

    @property
    def setting(self) -> Setting:
        """The setting asked of a compressor (first and last layer at 8 bits)."""
        return Setting(weight_bits=self.weight_bits, act_bits=self.act_bits, first_last_bits=8)


class SparsityEntry(_Part):
    """One value of the sparsity axis: the part of each layer's weights or channels to remove; ``target`` as above."""

    sparsity: Annotated[float, Field(gt=0, lt=1)]
    target: Name | None = None

    @property
    def setting(self) -> Setting:
        """The setting asked of a compressor."""
        return Setting(sparsity=self.sparsity)


class StudentEntry(_Part):
    """One value of the student axis: the network that a distillation trains; ``target`` as above."""

    student: Name
    target: Name | None = None

    @property
    def setting(self) -> Setting:
        """The setting asked of a compressor."""
        return Setting(student=self.student)


class Grid(_Part):
    """The axes.  ``bits``, ``sparsity`` and ``student`` make the setting: each compressor is asked for what it takes.
    A suite of image measures has no compressor and no setting."""

    source: Annotated[tuple[SourceEntry, ...], Field(min_length=1)]
    target: Annotated[tuple[Name, ...], Field(min_length=1)]
    compressor: tuple[CompressorEntry, ...] = ()
    bits: tuple[BitsEntry, ...] = ()
    sparsity: tuple[SparsityEntry, ...] = ()
    student: tuple[StudentEntry, ...] = ()


class Selector(_Part):
    """Which rows one side of a claim speaks of: axis: value or list of values.

    ``source`` and ``compressor`` take a row's label or a method's name.  ``model``: ``own`` (the images come from the
    target itself), ``foreign`` (from another single network), ``any``, or a value of the model column such as
    ``zoo:full``.  ``images`` is their number, where the suite has several.  ``over`` says what becomes of several rows
    in one pairing unit: ``each`` pairs every one of them, ``mean`` averages them, ``best`` takes the highest.
    """

    source: Names | None = None
    model: Names | None = None
    target: Names | None = None
    compressor: Names | None = None
    bits: Names | None = None
    membership: Names | None = None
    images: Counts | None = None
    over: Literal["each", "mean", "best"] = "mean"

    def values(self, axis: str) -> tuple[str, ...] | None:
        """The selected values of ``axis`` (``n`` for the images); None where the selector leaves it open."""
        if axis == "n":
            return None if self.images is None else tuple(map(str, self.images))
        got: tuple[str, ...] | None = getattr(self, axis)
        return got


class Claim(_Part):
    """A sentence of a paper as a comparison of rows, in points of top-1.

    Differences better - worse are paired within equal values of ``by`` (and the seed); the claim is supported when
    their interval lies above ``margin``, refuted when below, else open.  A negative margin says "at most so much
    worse".
    """

    says: Name
    better: Selector
    worse: Selector
    by: Annotated[tuple[PairingAxis, ...], Field(min_length=1)] = ("target",)
    margin: float = 0.0


class SuiteSpec(_Part):
    """One suite file.  ``images``: how many of each set are used; several counts are prefixes of one synthesis.
    ``test_subset``: measure on so many class-balanced test images instead of all of them.

    ``measures``: the suite measures image sets (each with every network on the target axis) instead of compressed
    accuracy.
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
    measures: tuple[Measure, ...] = ()
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
    place, shown = _find(path_or_name)
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError("cannot read the suite", where=shown, got=error) from error
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
    raise SuiteError(
        "no such suite", where=str(path_or_name), expected=("a file", *names), nearest=nearest(path.stem, names)
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


SETTING_AXES = ("bits", "sparsity", "student")


def _check_axes(spec: SuiteSpec) -> None:
    """Duplicates, and the axes a suite of measures must not have or another must."""
    grid = spec.grid
    for key, values in (("seeds", spec.seeds), ("measures", spec.measures), ("images", spec.images)):
        _check_unique(spec, (key,), values)
    for axis in ("source", "target", "compressor", *SETTING_AXES):
        entries = [item.model_dump_json() if isinstance(item, BaseModel) else item for item in getattr(grid, axis)]
        _check_unique(spec, ("grid", axis), entries)
    for axis in ("compressor", *SETTING_AXES):
        if spec.measures and getattr(grid, axis):
            raise SuiteError(
                "a suite of image measures compresses nothing",
                where=spec.at("grid", axis),
                hint="Drop this axis, or drop `measures`.",
            )
    if not spec.measures and not grid.compressor:
        raise SuiteError("the axis is empty", where=spec.at("grid", "compressor"), expected="at least one value")
    if not spec.measures and not any(getattr(grid, axis) for axis in SETTING_AXES):
        where = spec.at("grid", next((axis for axis in SETTING_AXES if axis in grid.model_fields_set), "bits"))
        raise SuiteError("the axis is empty", where=where, expected="at least one value of bits, sparsity or student")


def _check_unique(spec: SuiteSpec, path: KeyPath, values: Any) -> None:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise SuiteError("the value is given twice", where=spec.at(*path, i), got=value)
