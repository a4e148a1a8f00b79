"""What a plan is made of: resolved methods, image sets, searches, cells.  Plain frozen data, no decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.identity import SEED_SCHEME, seed_from
from bench.interfaces import Control, DatasetSpec, Delivery, LabelKind, Membership, MethodParams, Preset, Setting, Tier
from bench.spec import axes
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
    the suite says so.
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
    code: str | None = None
    brought: str = ""

    @property
    def described(self) -> dict[str, Any]:
        """As of every method, and the row's options that say what it reads."""
        found = super().described
        if self.domain is None:
            return found
        return {**found, "domain": self.domain.partition(":")[0], "domain_digest": self.domain_digest}


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


@dataclass(frozen=True)
class SynthJob:
    """One image set.

    ``models`` and ``student`` are full network names (``fashion_mnist/resnet18_w16``); ``dataset`` holds the
    constants the images are normalised with, ``dataset_name`` the suite's word for the data set.  ``count`` is the
    largest number of images a cell asks for, ``batches`` how many batches of ``source.batch_size`` hold them (none when
    the source streams them).  ``train_digest`` is that of the training images where the source reads them.
    """

    synth_id: str
    source: ResolvedSource
    model: str
    models: tuple[str, ...]
    model_digests: tuple[str, ...]
    student: str | None
    student_digest: str | None
    dataset: DatasetSpec
    dataset_name: str
    seed: int
    count: int
    batches: int
    preset: Preset
    train_digest: str | None = None

    @property
    def title(self) -> str:
        """What the progress shows."""
        return f"{self.name} seed {self.seed}"

    @property
    def name(self) -> str:
        """The source, and the network it looked at."""
        return origin_of(self.source.label, self.model)

    @property
    def set_seed(self) -> int:
        """Seed of what all batches share (``SynthRequest.set_seed``)."""
        return seed_from("set", self.seed)

    def batch_seed(self, index: int) -> int:
        """Seed of batch ``index``'s generator; does not depend on ``count``, and not on the source's parameters either:
        the rows of an ablation then start from the same images and labels and draw nested sets of networks, so that
        they differ by what is ablated (docs/methods/sources.md#contract)."""
        return seed_from("batch", self.seed, index)

    def batches_of(self, count: int) -> int:
        """How many batches hold the first ``count`` images; none when the source streams them."""
        return min(self.batches, -(-count // self.source.batch_size))

    @property
    def batch_bytes(self) -> int:
        """Size of one stored batch: float32 images; labels are small beside them."""
        channels, height, width = self.dataset.shape
        return self.source.batch_size * channels * height * width * 4


def brought_by(*rows: ResolvedSource | ResolvedCompressor | ResolvedSearch | None) -> dict[str, Any]:
    """What a record says of where methods come from that are not the product's own: name → who brought it and, of a
    file, the digest of its content."""
    steps = [step for row in rows for step in (row.chain if isinstance(row, ResolvedCompressor) else [row])]
    found = {
        step.method: {"by": step.brought, **({"digest": step.code} if step.code else {})}
        for step in steps
        if step is not None and step.brought
    }
    return {BROUGHT: found} if found else {}


@dataclass(frozen=True)
class SearchJob:
    """A policy search: bits per layer of the target, found on an image set within a setting.

    ``count`` of ``images`` are looked at; ``setting`` is what the cells that use the policy are asked for.  The search
    looks at the images alone, so its data tier is their source's.
    """

    policy_id: str
    search: ResolvedSearch
    images: SynthJob
    count: int
    target_name: str
    target_digest: str
    setting: Setting
    seed: int

    @property
    def generator_seed(self) -> int:
        """Seed of the generator the search gets; the same for all sources and searches of a target and setting."""
        return seed_from("search", self.seed, self.target_digest, axes.identity(self.setting))


@dataclass(frozen=True)
class CellJob:
    """One point of the grid.  The labels are fields of ResultRecord; :meth:`axes` gives them.

    A cell of a suite of measures has neither compressor nor setting: it measures the image set with the target
    network.  ``target_name`` is full (data set and network), ``target`` what the row shows.  ``asked`` is what the
    compressor is asked for, ``setting`` what this cell is of: another one where one compression delivers several
    networks, which then share ``job_id`` and are told apart by ``variant``.
    """

    cell_id: str
    row_id: str
    job_id: str
    synth_id: str
    policy_id: str | None
    source: str
    source_method: str
    delivery: Delivery
    model: str
    target: str
    compressor: str
    compressor_method: str
    policy: str
    setting_label: str
    variant: str
    n: int
    seed: int
    preset: Preset
    control: Control
    membership: Membership
    setting: Setting | None
    asked: Setting | None
    compressor_resolved: ResolvedCompressor | None
    search_resolved: ResolvedSearch | None
    search_access: Tier
    target_name: str
    target_digest: str
    dataset: str
    test_subset: int | None
    test_digest: str
    measures: tuple[str, ...] = ()
    not_applicable: str | None = None

    @property
    def generator_seed(self) -> int:
        """Seed of the generator the compressor and the measures get: one for all sources and compressors of a target,
        setting and seed, so that rows that are compared draw the same batches and the same real images."""
        asked = axes.identity(self.asked) if self.asked else {}
        return seed_from("cell", SEED_SCHEME, self.seed, self.target_digest, asked)

    def axes(self) -> dict[str, Any]:
        """The labels and identities as keyword arguments of ResultRecord."""
        values = dict(self.setting.values) if self.setting else {}
        return {"setting": values, **{name: getattr(self, name) for name in SHARED}}

    def labels(self) -> dict[str, tuple[str, ...]]:
        """Axis → what the cell is called there, for ``--only`` and claims."""
        return {
            "source": (self.source, self.source_method),
            "model": (self.model,),
            "target": (self.target,),
            "compressor": (self.compressor, self.compressor_method),
            "policy": (self.policy, self.search_resolved.method) if self.search_resolved else (self.policy,),
            "variant": (self.variant,),
            **axes.names(self.setting or Setting()),
            "seed": (str(self.seed),),
            "membership": (self.membership,),
            "n": (str(self.n),),
        }

    @property
    def title(self) -> str:
        """What the progress shows."""
        return title_of(self)


SHARED = (
    "cell_id",
    "row_id",
    "job_id",
    "synth_id",
    "policy_id",
    "dataset",
    "source",
    "source_method",
    "delivery",
    "model",
    "target",
    "compressor",
    "compressor_method",
    "policy",
    "setting_label",
    "variant",
    "n",
    "seed",
    "preset",
    "control",
    "membership",
)
"""Fields that a CellJob and a ResultRecord share by name."""


class Titled(Protocol):
    """What a cell and its record are called by."""

    @property
    def source(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def compressor(self) -> str: ...
    @property
    def policy(self) -> str: ...
    @property
    def setting_label(self) -> str: ...
    @property
    def seed(self) -> int: ...


def title_of(cell: Titled) -> str:
    """A cell or its record in a line."""
    words = (origin_of(cell.source, cell.model), "→", cell.target, cell.compressor, cell.policy, cell.setting_label)
    return " ".join(filter(None, (*words, f"seed {cell.seed}")))


def origin_of(source: str, model: str) -> str:
    """A source and the network its images come from."""
    return f"{source}[{model}]" if model else source
