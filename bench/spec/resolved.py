"""The methods of a plan, with their defaults filled in.  Plain frozen data, no decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.interfaces import Control, Delivery, LabelKind, MethodParams, Tier
from bench.spec.plugins import KEY

BROUGHT = "brought"
"""Under which a record's provenance says where methods come from that are not the product's own."""


class _Resolved:
    """A method of the grid.  One that an installed package or a file brought crosses to another process without its own
    parameters' object, whose code would run there; ``params_json`` says the same."""

    params_json: Mapping[str, Any]
    code: str | None
    brought: str

    @property
    def described(self) -> dict[str, Any]:
        """``params_json`` and whatever else beside the version decides what it makes: what is hashed, and what a record
        holds."""
        return {**self.params_json, **({KEY: self.code} if self.code else {})}

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        return state if state["own"] else {**state, "params": MethodParams()}


@dataclass(frozen=True)
class ResolvedSource(_Resolved):
    """A row of the source axis with its defaults filled in.

    ``params`` is the method's own pydantic object, ``params_json`` the same as plain JSON (what is hashed), ``changes``
    what of it differs from the preset.  ``own``: it is the product's own; else ``brought`` says whose it is, and
    ``code`` is the digest of its file where it is one; ``hook``: it has an extra for who trains on its images.
    ``domain`` names the data set that its unrelated images come from and ``domain_digest`` tells their content, where
    the suite says so.  ``of`` is the source whose images it changes, where it is a filter.
    """

    method: str
    label: str
    version: int
    params: MethodParams
    params_json: Mapping[str, Any]
    access: Tier
    control: Control
    label_kind: LabelKind
    batch_size: int
    delivery: Delivery = "cached"
    changes: Mapping[str, Any] = field(default_factory=dict)
    own: bool = True
    hook: bool = False
    domain: str | None = None
    domain_digest: str | None = None
    of: ResolvedSource | None = None
    code: str | None = None
    brought: str = ""

    @property
    def described(self) -> dict[str, Any]:
        """As of every method, and the row's options that say what it reads or changes."""
        found = super().described
        if self.domain is not None:
            found |= {"domain": self.domain.partition(":")[0], "domain_digest": self.domain_digest}
        if self.of is not None:
            found["of"] = {"method": self.of.method, "version": self.of.version, "params": self.of.described}
        return found

    @property
    def chain(self) -> tuple[ResolvedSource, ...]:
        """The methods that the images go through: itself alone when it changes no other's."""
        return (*self.of.chain, self) if self.of is not None else (self,)


@dataclass(frozen=True)
class ResolvedCompressor(_Resolved):
    """A row of the compressor axis with its defaults filled in; fields as in :class:`ResolvedSource`.

    ``accepts``: the setting's axes it takes; ``deliveries``: how it takes its images.  With ``steps``, methods run one
    after the other: ``method`` joins their names by "+", ``version`` is the sum of theirs, ``params`` is None.
    ``teacher`` is the full name of the network that teaches in the target's place, ``teacher_digest`` that of its
    weights; None where the target teaches, or nothing is taught.
    """

    method: str
    label: str
    version: int
    params: MethodParams | None
    params_json: Mapping[str, Any]
    accepts: frozenset[str]
    deliveries: frozenset[Delivery] = frozenset({"cached"})
    steps: tuple[ResolvedCompressor, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    own: bool = True
    teacher: str | None = None
    teacher_digest: str | None = None
    code: str | None = None
    brought: str = ""

    @property
    def chain(self) -> tuple[ResolvedCompressor, ...]:
        """The methods to run, in order; itself alone when it has no steps."""
        return self.steps or (self,)


@dataclass(frozen=True)
class ResolvedSearch(_Resolved):
    """A row of the policy axis with its defaults filled in; fields as in :class:`ResolvedSource`."""

    method: str
    label: str
    version: int
    params: MethodParams
    params_json: Mapping[str, Any]
    own: bool = True
    code: str | None = None
    brought: str = ""


def brought_by(*rows: ResolvedSource | ResolvedCompressor | ResolvedSearch | None) -> dict[str, Any]:
    """What a record says of where methods come from that are not the product's own: name → who brought it and, of a
    file, the digest of its content."""
    steps = [step for row in rows for step in ([row] if row is None or isinstance(row, ResolvedSearch) else row.chain)]
    found = {
        step.method: {"by": step.brought, **({"digest": step.code} if step.code else {})}
        for step in steps
        if step is not None and step.brought
    }
    return {BROUGHT: found} if found else {}
