"""SuiteSpec → Plan: every synthesis once, then every cell; pure, and checked as a whole before any compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.interfaces import Control, DatasetSpec, LabelKind, Membership, MethodParams, Preset, Setting, Tier
from bench.spec.suite import SuiteSpec


@dataclass(frozen=True)
class ResolvedSource:
    """A row of the source axis with its defaults filled in.

    ``params`` is the method's own pydantic object, ``params_json`` the same as plain JSON (what is hashed).
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


@dataclass(frozen=True)
class ResolvedCompressor:
    """A row of the compressor axis with its defaults filled in."""

    method: str
    label: str
    version: int
    params: MethodParams
    params_json: Mapping[str, Any]


@dataclass(frozen=True)
class SynthJob:
    """One image set.  ``models`` and ``student`` are full network names (``fashion_mnist/resnet18_w16``).

    ``dataset`` holds the constants the images are normalised with.  ``count`` is the largest number of images a cell
    asks for, ``batches`` the number of batches of ``source.batch_size`` that hold them.
    """

    synth_id: str
    source: ResolvedSource
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

    @property
    def set_seed(self) -> int:
        """Seed of what all batches share (``SynthRequest.set_seed``)."""

    def batch_seed(self, index: int) -> int:
        """Seed of batch ``index``'s generator; does not depend on ``count``."""


@dataclass(frozen=True)
class CellJob:
    """One point of the grid.  The axis labels are the fields of ResultRecord; see :meth:`axes`.

    A cell of a suite of measures has no compressor and no setting: it measures the image set with the target network.
    """

    cell_id: str
    synth_id: str
    source: str
    source_method: str
    model: str
    target: str
    compressor: str
    compressor_method: str
    bits: str
    n: int
    seed: int
    preset: Preset
    control: Control
    membership: Membership
    setting: Setting | None
    compressor_resolved: ResolvedCompressor | None
    target_name: str  # full: data set and network
    target_digest: str
    dataset: str
    test_subset: int | None
    test_digest: str
    measures: tuple[str, ...] = ()
    not_applicable: str | None = None

    @property
    def generator_seed(self) -> int:
        """Seed of the compressor's generator."""

    def axes(self) -> dict[str, Any]:
        """The labels as keyword arguments of ResultRecord: source … membership, dataset, cell_id, synth_id."""


@dataclass(frozen=True)
class Plan:
    """What a suite asks for: unique syntheses, then cells in the suite's order."""

    suite: SuiteSpec
    preset: Preset
    synths: tuple[SynthJob, ...]
    cells: tuple[CellJob, ...]

    def synth(self, synth_id: str) -> SynthJob:
        """The synthesis with this id."""

    def jobs(self) -> int:
        """Syntheses plus cells that can run."""

    def disk_bytes(self, has: Callable[[str, int], bool] | None = None) -> int:
        """Bytes the image sets take; ``has(synth_id, batch)`` leaves out what is stored already."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for ``bench plan --json``."""


def make_plan(
    suite: SuiteSpec,
    *,
    preset: Preset | None = None,
    only: str | None = None,
    seeds: int | Sequence[int] | None = None,
    dtype: str = "float32",
    catalogue: Any = None,
) -> Plan:
    """Expand ``suite``.

    Args:
        preset: overrides the suite's.
        only: ``source=kw|mixmix,target=resnet*,seed=1``: comma is "and", ``|`` is "or", values may be patterns.
        seeds: a number (the first so many of the suite's, continued upwards), or the seeds themselves.
        dtype: compute dtype of synthesis; part of an image set's identity.
        catalogue: what exists (methods, networks, data sets); the real one unless a test brings its own.

    Raises:
        SuiteError: unknown method, network, key or value; duplicate row; selection or suite of which nothing is left.
        DataError: fewer images than classes; unknown data set.
        WeightsError: a network's manifest is missing or damaged.
    """
    raise NotImplementedError
