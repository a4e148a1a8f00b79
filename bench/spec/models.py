"""The models a suite file is made of: entries of the grid's axes, selectors, claims."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bench.interfaces import Delivery, Setting
from bench.spec.axes import WHOLE, axis_names

Name = Annotated[str, Field(min_length=1)]
Label = Annotated[str, Field(pattern=r"^[^|,()]+(\([^|()]*\))?$")]
"""A row's name: commas inside the one pair of parentheses only, so that ``--only`` can name it."""
Count = Annotated[int, Field(ge=1)]
MOST_IMAGES = 2_000_000
"""Images of a set at most: more than the largest training set here holds; a plan lists every batch of them."""
Counts = Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_IMAGES)], ...], Field(min_length=1)]
Names = Annotated[tuple[Name, ...], Field(min_length=1)]


class Part(BaseModel):
    """Frozen, unknown keys forbidden, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SourceEntry(Part):
    """One value of the source axis.

    ``model``: ``self`` (the cell's own target), ``each_target`` (one row per network of the target axis) or a network;
    for sources that look at one network.  ``zoo``: groups' names or networks; for sources that mix several.  Some look
    at one network and, where a zoo is named, at that besides.  ``label`` replaces the row's name, which otherwise is
    the method plus its non-default parameters.  ``delivery`` ``stream`` trains a source's generator in lock-step with
    the compressor's student; nothing is stored then.  ``domain``: the data set that unrelated images come from, for
    sources that read such.  ``of``: the source whose images a filter changes.
    """

    method: Name
    model: Name | None = None
    zoo: Names | None = None
    student: Name | None = None
    delivery: Delivery = "cached"
    domain: Name | None = None
    of: SourceEntry | None = None
    label: Label | None = None
    params: dict[str, Any] = Field(default_factory=dict)


class StepEntry(Part):
    """A method and its parameters, one of several that make a compressor."""

    method: Name
    params: dict[str, Any] = Field(default_factory=dict)


class CompressorEntry(Part):
    """One value of the compressor axis: a method, its parameters, and the row's name if not derived from those; or
    ``steps``, methods of which each takes the network the one before it made.

    ``teacher``: the network that teaches in the target's place, for methods that offer it.
    """

    method: Name
    label: Label | None = None
    teacher: Name | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    steps: tuple[StepEntry, ...] = ()


class PolicyEntry(Part):
    """One value of the policy axis: a search of bits per layer, its parameters, and the row's name.

    ``on``: the images it looks at, where they are not those the compressor gets; ``images``: how many of them.
    ``file``: no search, a policy in a file.
    """

    method: Name
    label: Label | None = None
    on: SourceEntry | None = None
    images: Count | None = None
    file: Name | None = None
    params: dict[str, Any] = Field(default_factory=dict)


class AxisEntry(Part):
    """One value of an axis of the setting, as the axis read it.  With ``target`` (a pattern), matching targets get it
    instead of the plain ones."""

    values: dict[str, Any]
    target: Name | None = None

    @property
    def setting(self) -> Setting:
        """What is asked of a compressor on this axis."""
        return Setting.of(self.values)


class Grid(Part):
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


class Selector(Part):
    """Which rows one side of a claim speaks of: axis: value or list of values.

    ``source``, ``compressor`` and ``policy`` take a row's label or a method's name.  ``model``: ``own`` (the images
    come from the target itself), ``foreign`` (from another single network), ``any``, or a value of the model column
    such as ``zoo:full``.  ``axes`` holds what the file says under ``setting`` (a row's whole label) or under the name
    of an axis of the setting.  ``images`` is their number, where the suite has several.  ``over`` says what becomes of
    several rows in one pairing unit: ``each`` pairs every one of them, ``mean`` averages them, ``best`` takes the
    one that is highest on other seeds and images than it is judged on.
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


class Claim(Part):
    """A sentence of a paper as a comparison of rows, in points of top-1.

    Differences better - worse are paired within equal values of ``by`` (and the seed); the claim is supported when
    their interval lies above ``margin``, refuted when below, else open; fewer than three seeds give no verdict.  A
    negative margin says "at most so much worse".
    """

    says: Name
    better: Selector
    worse: Selector
    by: Annotated[tuple[PairingAxis, ...], Field(min_length=1)] = ("target",)
    margin: float = 0.0
