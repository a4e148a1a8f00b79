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

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from bench.errors import SuiteError, nearest
from bench.interfaces import Delivery, Preset, Setting
from bench.spec.axes import AXES, WHOLE, axis_names
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


class PolicyEntry(_Part):
    """One value of the policy axis: a search of bits per layer, its parameters, and the row's name."""

    method: Name
    label: Label | None = None
    params: dict[str, Any] = Field(default_factory=dict)


class AxisEntry(_Part):
    """One value of an axis of the setting, as the axis read it.  With ``target`` (a pattern), matching targets get it
    instead of the plain ones."""

    values: dict[str, Any]
    target: Name | None = None

    @property
    def setting(self) -> Setting:
        """What is asked of a compressor on this axis."""
        return Setting(**self.values)


class Grid(_Part):
    """The axes.  Those of :data:`bench.spec.axes.AXES` (keys ``bits``, ``sparsity``, … in the file) make the setting:
    each compressor is asked for what it takes.  ``policy``: each quantising compressor takes the bits of each search.
    A suite of image measures has no compressor and no setting."""

    source: Annotated[tuple[SourceEntry, ...], Field(min_length=1)]
    target: Annotated[tuple[Name, ...], Field(min_length=1)]
    compressor: tuple[CompressorEntry, ...] = ()
    policy: tuple[PolicyEntry, ...] = ()
    axes: dict[str, tuple[AxisEntry, ...]] = Field(default_factory=dict)

    def entries(self, axis: str) -> tuple[AxisEntry, ...]:
        """The values of an axis of the setting; none where the suite lacks it."""
        return self.axes.get(axis, ())


class Selector(_Part):
    """Which rows one side of a claim speaks of: axis: value or list of values.

    ``source``, ``compressor`` and ``policy`` take a row's label or a method's name.  ``model``: ``own`` (the images
    come from the target itself), ``foreign`` (from another single network), ``any``, or a value of the model column
    such as ``zoo:full``.  ``axes`` holds what the file says under ``setting`` (a row's whole label) or under the name
    of an axis of the setting.  ``images`` is their number, where the suite has several.  ``over`` says what becomes of
    several rows in one pairing unit: ``each`` pairs every one of them, ``mean`` averages them, ``best`` takes the
    highest.
    """

    source: Names | None = None
    model: Names | None = None
    target: Names | None = None
    compressor: Names | None = None
    policy: Names | None = None
    axes: dict[str, Names] = Field(default_factory=dict)
    membership: Names | None = None
    images: Counts | None = None
    over: Literal["each", "mean", "best"] = "mean"

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, raw: Any) -> Any:
        """The axes' keys beside the others, as the file has them, into ``axes``; lists as the tuples the fields are."""
        if not isinstance(raw, dict):
            return raw
        plain = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
        own = {key: plain.pop(key) for key in (WHOLE, *axis_names()) if key in plain}
        named = {key: tuple(map(_word, value)) if isinstance(value, tuple) else value for key, value in own.items()}
        return {**plain, "axes": {**dict(raw.get("axes", {})), **named}} if named else plain

    def values(self, axis: str) -> tuple[str, ...] | None:
        """The selected values of ``axis`` (``n`` for the images); None where the selector leaves it open."""
        if axis == "n":
            return None if self.images is None else tuple(map(str, self.images))
        if axis in (WHOLE, *axis_names()):
            return self.axes.get(axis)
        got: tuple[str, ...] | None = getattr(self, axis)
        return got


def _word(value: Any) -> Any:
    """A number as it is written in the file (0.5): values of axes are compared by their names."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value


def _pairing(axis: str) -> str:
    known = ("target", "compressor", WHOLE, *axis_names(), "seed")
    if axis not in known:
        raise ValueError(f"no axis to pair by; allowed: {', '.join(known)}")
    return axis


PairingAxis = Annotated[str, AfterValidator(_pairing)]


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
