"""What a plan is made of besides its methods: image sets, searches, cells.  Plain frozen data, no decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from bench.identity import SEED_SCHEME, seed_from
from bench.interfaces import Control, DatasetSpec, Delivery, Membership, Preset, Setting, Tier
from bench.spec import axes
from bench.spec.resolved import ResolvedCompressor, ResolvedSearch, ResolvedSource


@dataclass(frozen=True)
class SynthJob:
    """One image set.

    ``models`` and ``student`` are full network names (``fashion_mnist/resnet18_w16``); ``dataset`` holds the
    constants the images are normalised with, ``dataset_name`` the suite's word for the data set.  ``count`` is the
    largest number of images a cell asks for, ``batches`` how many batches of ``source.batch_size`` hold them (none when
    the source streams them).  ``train_digest`` is that of the training images where the source reads them.  ``of`` is
    the image set that the source changes, batch by batch, where it is a filter.
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
    of: SynthJob | None = None

    @property
    def title(self) -> str:
        """What the progress shows."""
        return f"{self.name} seed {self.seed}"

    @property
    def name(self) -> str:
        """The source, and the network it looked at."""
        return origin_of(self.source.label, self.model)

    @property
    def chain(self) -> tuple[SynthJob, ...]:
        """The image sets it is made of, in the order they are made: itself alone when it changes no other."""
        return (*self.of.chain, self) if self.of is not None else (self,)

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
