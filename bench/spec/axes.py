"""The axes of the setting, one entry each: everything the engine and the board know of an axis stands here.

The grid of a suite, ``--only``, claims, labels, identities and the board's columns derive from :data:`AXES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.interfaces import FLOAT_BITS, Setting

Values = Mapping[str, Any]
"""Key of the setting → value."""


class NoValue(ValueError):
    """What was written is no value of the axis; ``expected`` says what is."""

    def __init__(self, message: str, expected: str) -> None:
        super().__init__(message)
        self.expected = expected


class AxisColumn(NamedTuple):
    """A key of the setting as a column of the board: pandas ``dtype``, unit or kind, meaning."""

    key: str
    dtype: str
    unit: str
    meaning: str

    def fits(self, value: Any) -> bool:
        """Whether a value of a record can stand in the column."""
        return value is None or (type(value) in _KINDS[self.dtype] and (type(value) is not int or abs(value) < 2**63))


_KINDS: Mapping[str, tuple[type, ...]] = {"Int64": (int,), "Float64": (int, float), "str": (str,)}


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        name: its key in a suite's grid, in ``--only`` and in claims; what a compressor ``accepts``.
        noun: for messages: "a bit-width".
        columns: the keys of :class:`bench.interfaces.Setting` that it owns, each a column of the board.
        read: what stands in the suite (text or number) → values; raises NoValue.
        text: values → the axis's part of a row's label.
        words: values → other names the value goes by in ``--only`` and claims, such as 0.5 for S50.
        number: values → where the value lies on a plot's axis; None where it has no order.
        network: the key that names a network of the data set, which the plan resolves and checks.
        per_layer: whether a policy may set it layer by layer; a compressor that accepts such an axis quantises.
        plain: values as they are hashed when the axis was not asked for; only the axis that is older than the others
            has any, so that ids made before the others existed stay.
    """

    name: str
    noun: str
    columns: tuple[AxisColumn, ...]
    read: Callable[[Any], Values]
    text: Callable[[Values], str]
    words: Callable[[Values], tuple[str, ...]] = lambda values: ()
    number: Callable[[Values], float | None] = lambda values: None
    network: str | None = None
    per_layer: bool = False
    plain: Values = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the setting that the axis owns."""
        return tuple(column.key for column in self.columns)

    def values(self, setting: Setting) -> dict[str, Any]:
        """What the setting asks on this axis; empty when nothing."""
        return {key: value for key, value in setting.values if key in self.keys}

    def label(self, setting: Setting) -> str:
        """The axis's part of the label; empty when nothing was asked."""
        own = self.values(setting)
        return self.text(own) if own else ""

    def names(self, setting: Setting) -> tuple[str, ...]:
        """All that the value is called by, its label first; one empty name when nothing was asked."""
        own = self.values(setting)
        return (self.text(own), *self.words(own)) if own else ("",)


_BITS = re.compile(r"W(\d{1,3})A(\d{1,3})")
_ALLOWED = (*range(2, 9), FLOAT_BITS)


def _read_bits(item: Any) -> Values:
    found = _BITS.fullmatch(item) if isinstance(item, str) else None
    if not found:
        raise NoValue("is no bit-width", "W<weights>A<activations>, such as W4A4")
    weight, act = int(found[1]), int(found[2])
    if weight not in _ALLOWED or act not in _ALLOWED:
        raise NoValue("no such bit-width", "2 to 8 bits, or 32 (floating point)")
    return {"weight_bits": weight, "act_bits": act, "first_last_bits": 8}


def _read_sparsity(item: Any) -> Values:
    if isinstance(item, bool) or not isinstance(item, int | float):
        raise NoValue("is no sparsity", "the part to remove such as 0.5, or {0.5: {target: PATTERN}}")
    if not 0 < item < 1:
        raise NoValue("no such sparsity", "more than 0 and less than 1")
    return {"sparsity": float(item)}


def _read_student(item: Any) -> Values:
    if not isinstance(item, str) or not item:
        raise NoValue("is no student", "a network's name, or {NAME: {target: PATTERN}}")
    return {"student": item}


AXES: tuple[Axis, ...] = (
    Axis(
        name="bits",
        noun="a bit-width",
        columns=(
            AxisColumn("weight_bits", "Int64", "bits", "bits of the weights; blank where nothing is quantised"),
            AxisColumn("act_bits", "Int64", "bits", "bits of the activations"),
            AxisColumn("first_last_bits", "Int64", "bits", "bits of the first and the last layer"),
        ),
        read=_read_bits,
        text=lambda values: f"W{values['weight_bits']}A{values['act_bits']}",
        number=lambda values: float(values["weight_bits"]),
        per_layer=True,
        plain={"weight_bits": FLOAT_BITS, "act_bits": FLOAT_BITS, "first_last_bits": 8},
    ),
    Axis(
        name="sparsity",
        noun="a sparsity",
        columns=(AxisColumn("sparsity", "Float64", "", "part of each layer's weights or channels removed"),),
        read=_read_sparsity,
        text=lambda values: f"S{100 * values['sparsity']:g}",
        words=lambda values: (f"{values['sparsity']:g}",),
        number=lambda values: float(values["sparsity"]),
    ),
    Axis(
        name="student",
        noun="a student",
        columns=(AxisColumn("student", "str", "key", "network trained in the target's place"),),
        read=_read_student,
        text=lambda values: str(values["student"]).rpartition("/")[2],
        words=lambda values: (str(values["student"]),),
        network="student",
    ),
)
"""In the order of the board's columns; a label holds their parts in the opposite order."""


def axis_names() -> tuple[str, ...]:
    """The axes' names, in the table's order."""
    return tuple(axis.name for axis in AXES)


def axis(name: str) -> Axis:
    """The axis of this name."""
    return next(axis for axis in AXES if axis.name == name)


def label(setting: Setting) -> str:
    """What a row is called by: ``resnet18_w16 S50 W4A4``; the axes that were asked for, the bits last."""
    return " ".join(part for axis in reversed(AXES) if (part := axis.label(setting)))


WHOLE = "setting"
"""The word for all of a setting in ``--only`` and claims, beside the single axes' names."""


def names(setting: Setting) -> dict[str, tuple[str, ...]]:
    """The whole setting and each axis → what it is called by, the label first."""
    return {WHOLE: (label(setting),), **{axis.name: axis.names(setting) for axis in AXES}}


def only(setting: Setting, names: Collection[str]) -> Setting:
    """The part of the setting that speaks of the axes ``names``; the policy goes with those it sets by layer."""
    part = setting.part([key for axis in AXES if axis.name in names for key in axis.keys])
    return part.with_policy(setting.policy) if takes_policy(names) else part


def takes_policy(names: Collection[str]) -> bool:
    """Whether who accepts the axes ``names`` takes the bits of single layers: a quantising compressor."""
    return any(axis.per_layer for axis in AXES if axis.name in names)


def identity(setting: Setting) -> dict[str, Any]:
    """What is hashed of a setting."""
    found: dict[str, Any] = {}
    for axis in AXES:
        found |= {**axis.plain, **axis.values(setting)}
    return found


def columns() -> tuple[AxisColumn, ...]:
    """The board's columns of the setting."""
    return tuple(column for axis in AXES for column in axis.columns)
