"""SuiteSpec → Plan: every synthesis once, then every cell; pure, and checked as a whole before any compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from bench.errors import SuiteError
from bench.interfaces import DatasetSpec, NetworkInfo, Preset, Setting
from bench.spec.catalogue import Catalogue, ShippedCatalogue, short_name
from bench.spec.claims import check_claims
from bench.spec.identity import cell_id, synth_id
from bench.spec.jobs import CellJob, ResolvedCompressor, ResolvedSource, SynthJob
from bench.spec.rows import SourceRow, compressor_rows, settings_of, source_rows, target_rows
from bench.spec.select import check_selection, parse_only
from bench.spec.suite import SuiteSpec

__all__ = ["CellJob", "Plan", "ResolvedCompressor", "ResolvedSource", "SynthJob", "make_plan", "require_applicable"]

ONLY_AXES = ("source", "model", "target", "compressor", "bits", "seed", "membership")
_READS_TRAINING_IMAGES = ("T4", "T5", "T6")


@dataclass(frozen=True)
class Plan:
    """What a suite asks for: unique syntheses, then cells in the suite's order.

    A synthesis that only not-applicable cells would use is not listed.
    """

    suite: SuiteSpec
    preset: Preset
    synths: tuple[SynthJob, ...]
    cells: tuple[CellJob, ...]

    @cached_property
    def _by_id(self) -> dict[str, SynthJob]:
        return {job.synth_id: job for job in self.synths}

    def synth(self, synth_id: str) -> SynthJob:
        """The synthesis with this id."""
        return self._by_id[synth_id]

    @property
    def applicable(self) -> tuple[CellJob, ...]:
        """The cells that can run."""
        return tuple(cell for cell in self.cells if cell.not_applicable is None)

    def jobs(self) -> int:
        """Syntheses plus cells that can run."""
        return len(self.synths) + len(self.applicable)

    def disk_bytes(self, has: Callable[[str, int], bool] | None = None) -> int:
        """Bytes the image sets take; ``has(synth_id, batch)`` leaves out what is stored already."""
        return sum(
            job.batch_bytes
            for job in self.synths
            for index in range(job.batches)
            if has is None or not has(job.synth_id, index)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for ``bench plan --json``."""
        return {
            "suite": self.suite.suite,
            "version": self.suite.version,
            "dataset": self.suite.dataset,
            "preset": self.preset,
            "jobs": self.jobs(),
            "disk_bytes": self.disk_bytes(),
            "synths": [_synth_json(job) for job in self.synths],
            "cells": [{**cell.axes(), "not_applicable": cell.not_applicable} for cell in self.cells],
        }


def make_plan(
    suite: SuiteSpec,
    *,
    preset: Preset | None = None,
    only: str | None = None,
    seeds: int | Sequence[int] | None = None,
    dtype: str = "float32",
    catalogue: Catalogue | None = None,
) -> Plan:
    """Expand ``suite``.

    Args:
        preset: overrides the suite's.
        only: ``source=kw|mixmix,target=resnet*,seed=1``: comma is "and", ``|`` is "or", values may be patterns.
        seeds: a number (the first so many of the suite's, continued upwards), or the seeds themselves.
        dtype: compute dtype of the synthesis; part of an image set's identity.
        catalogue: what exists (methods, networks, data sets); the real one unless a test brings its own.

    Raises:
        SuiteError: unknown method, network, key or value; fewer images than classes; equal rows; a selection or a
            suite of which nothing is left.
        DataError: unknown data set, missing folder, a test subset that cannot be.
        WeightsError: a network's manifest is missing or damaged.
    """
    expansion = _Expansion(suite, preset or suite.preset, dtype, catalogue or ShippedCatalogue())
    pairs = expansion.pairs(_seeds(suite, seeds))
    # A grid the command line changed need not hold what the claims speak of; the board then calls them open.
    if not suite.changed("grid"):
        check_claims(suite, [{axis: str(label) for axis, label in cell.axes().items()} for _, cell in pairs])
    if only is not None:
        selection = parse_only(only, ONLY_AXES)
        check_selection(selection, [cell.labels() for _, cell in pairs])
        pairs = [(job, cell) for job, cell in pairs if selection.accepts(cell.labels())]
    plan = Plan(suite, expansion.preset, _unique(pairs), tuple(cell for _, cell in pairs))
    require_applicable(suite, [cell.not_applicable for cell in plan.cells])
    return plan


def require_applicable(suite: SuiteSpec, reasons: Sequence[str | None]) -> None:
    """Raise SuiteError when every cell has a reason (one per cell, None for "can run") why it cannot be.

    The runner calls it again once the methods' own checks have seen the networks.
    """
    if all(reason is not None for reason in reasons):
        found = sorted({str(reason) for reason in reasons})
        raise SuiteError("nothing of the suite can run", where=suite.at(), got="; ".join(found) or "no cell")


class _Expansion:
    """Crosses the axes of one suite; holds what every cell needs so that each network is looked up once."""

    def __init__(self, suite: SuiteSpec, preset: Preset, dtype: str, catalogue: Catalogue) -> None:
        self.suite, self.preset, self.dtype, self.catalogue = suite, preset, dtype, catalogue
        self.dataset = catalogue.dataset(suite.dataset)
        _check_counts(suite, self.dataset)
        self.targets = target_rows(suite, catalogue)
        self.sources = source_rows(suite, preset, self.targets, catalogue)
        self.compressors = compressor_rows(suite, preset, catalogue)
        self.settings = settings_of(suite, self.targets, catalogue) if suite.grid.bits else {}
        self.test_digest = catalogue.test_digest(suite.dataset, suite.test_subset)
        self._infos: dict[str, NetworkInfo] = {}
        self._synths: dict[tuple[Any, ...], SynthJob] = {}

    def info(self, name: str) -> NetworkInfo:
        """The network's manifest entry."""
        if name not in self._infos:
            self._infos[name] = self.catalogue.info(name)
        return self._infos[name]

    def pairs(self, seeds: Sequence[int]) -> list[tuple[SynthJob, CellJob]]:
        """Every cell with its synthesis, in the order source, target, compressor, bits, seed."""
        out: list[tuple[SynthJob, CellJob]] = []
        seen: dict[str, CellJob] = {}
        for row in self.sources:
            for target in self.targets:
                for compressor, setting in self._treatments(target):
                    for seed in seeds:
                        job = self._synth(row, target, seed)
                        cell = self._cell(row, job, target, compressor, setting)
                        self._check_new(row, cell, seen)
                        out.append((job, cell))
        return out

    def _treatments(self, target: str) -> list[tuple[ResolvedCompressor | None, Setting | None]]:
        if self.suite.measures:
            return [(None, None)]
        return [(compressor, setting) for compressor in self.compressors for setting in self.settings[target]]

    def _check_new(self, row: SourceRow, cell: CellJob, seen: dict[str, CellJob]) -> None:
        old = seen.setdefault(cell.cell_id, cell)
        if old is not cell:
            raise SuiteError(
                "two rows ask for the same cell",
                where=self.suite.at("grid", "source", row.index),
                got=f"{old.source} from {old.model or 'no model'} and {cell.source}, both for {cell.target}",
                hint="Drop one of the two.",
            )

    def _synth(self, row: SourceRow, target: str, seed: int) -> SynthJob:
        models = row.models if row.models is not None else (target,)
        dataset = self._constants(row, models, target)
        key = (row.index, models, dataset, seed)
        if key not in self._synths:
            self._synths[key] = self._make_synth(row, models, dataset, seed)
        return self._synths[key]

    def _constants(self, row: SourceRow, models: tuple[str, ...], target: str) -> DatasetSpec:
        """The data set with the constants the images are normalised with.

        Images live in the space of the one network they come from, of the target when they come from none, and of the
        data set when they come from several.
        """
        if row.zoo:
            return self.dataset
        info = self.info(models[0] if models else target)
        return replace(self.dataset, mean=info.mean, std=info.std)

    def _make_synth(self, row: SourceRow, models: tuple[str, ...], dataset: DatasetSpec, seed: int) -> SynthJob:
        source = row.source
        digests = tuple(self.info(name).digest for name in models)
        student_digest = self.info(row.student).digest if row.student else None
        reads = source.access in _READS_TRAINING_IMAGES
        identity = synth_id(
            source=source.method,
            version=source.version,
            params=source.params_json,
            model_digests=digests,
            student_digest=student_digest,
            dataset=_dataset_identity(dataset, self.catalogue.train_digest(self.suite.dataset) if reads else None),
            batch_size=source.batch_size,
            dtype=self.dtype,
            seed=seed,
        )
        return SynthJob(
            synth_id=identity,
            source=source,
            model=row.model if row.model is not None else short_name(self.suite.dataset, models[0]),
            models=models,
            model_digests=digests,
            student=row.student,
            student_digest=student_digest,
            dataset=dataset,
            dataset_name=self.suite.dataset,
            seed=seed,
            count=self.suite.images,
            batches=-(-self.suite.images // source.batch_size),
            preset=self.preset,
        )

    def _cell(
        self, row: SourceRow, job: SynthJob, target: str, compressor: ResolvedCompressor | None, setting: Setting | None
    ) -> CellJob:
        suite, digest = self.suite, self.info(target).digest
        return CellJob(
            cell_id=cell_id(
                synth=job.synth_id,
                count=suite.images,
                compressor=compressor.method if compressor else None,
                version=compressor.version if compressor else None,
                params=compressor.params_json if compressor else {},
                setting=asdict(setting) if setting else None,
                target_digest=digest,
                test_digest=self.test_digest,
                seed=job.seed,
                measures=suite.measures,
            ),
            synth_id=job.synth_id,
            source=job.source.label,
            source_method=job.source.method,
            model=job.model,
            target=short_name(suite.dataset, target),
            compressor=compressor.label if compressor else "",
            compressor_method=compressor.method if compressor else "",
            bits=setting.label if setting else "",
            n=suite.images,
            seed=job.seed,
            preset=self.preset,
            control=job.source.control,
            membership=self.catalogue.membership(target, job.models) if job.models else "none",
            setting=setting,
            compressor_resolved=compressor,
            target_name=target,
            target_digest=digest,
            dataset=suite.dataset,
            test_subset=suite.test_subset,
            test_digest=self.test_digest,
            measures=suite.measures,
            not_applicable=self._reason(row, job, compressor),
        )

    def _reason(self, row: SourceRow, job: SynthJob, compressor: ResolvedCompressor | None) -> str | None:
        """Why a cell cannot be, as far as manifests and declarations tell; the methods' own checks come at run time."""
        if compressor and "bits" not in self.catalogue.compressors.get(compressor.method).accepts:
            return f"{compressor.method} takes no bit-width"
        if "bn" in row.needs and job.models and all(self.info(name).batch_norms == 0 for name in job.models):
            return f"{job.source.method} needs batch normalisation, and {job.model} has none"
        return None


def _unique(pairs: Sequence[tuple[SynthJob, CellJob]]) -> tuple[SynthJob, ...]:
    """Each synthesis once, in the order of first use; rows that differ in name only share one."""
    out: dict[str, SynthJob] = {}
    for job, cell in pairs:
        if cell.not_applicable is None:
            out.setdefault(job.synth_id, job)
    return tuple(out.values())


def _check_counts(suite: SuiteSpec, dataset: DatasetSpec) -> None:
    for key, count in (("images", suite.images), ("test_subset", suite.test_subset)):
        if count is not None and count < dataset.classes:
            raise SuiteError(
                f"fewer images than {suite.dataset} has classes",
                where=suite.at(key),
                got=count,
                expected=f"at least {dataset.classes}",
            )


def _seeds(suite: SuiteSpec, asked: int | Sequence[int] | None) -> tuple[int, ...]:
    if asked is None:
        return suite.seeds
    if not isinstance(asked, int):
        return tuple(dict.fromkeys(asked))
    if asked < 1:
        raise SuiteError("no seed is left", where="--seeds", got=asked, expected="at least 1")
    more = range(max(suite.seeds) + 1, max(suite.seeds) + 1 + asked)
    return (*suite.seeds, *more)[:asked]


def _dataset_identity(dataset: DatasetSpec, train_digest: str | None) -> dict[str, Any]:
    """Constants that are hashed; a folder's path (``imagefolder:PATH``) never is, its content's digest is."""
    return {
        "name": dataset.name.partition(":")[0],
        "classes": dataset.classes,
        "shape": dataset.shape,
        "mean": dataset.mean,
        "std": dataset.std,
        "train": train_digest,
    }


def _synth_json(job: SynthJob) -> dict[str, Any]:
    source: Mapping[str, Any] = {
        "method": job.source.method,
        "label": job.source.label,
        "version": job.source.version,
        "params": job.source.params_json,
        "batch_size": job.source.batch_size,
    }
    return {
        "synth_id": job.synth_id,
        "source": source,
        "models": list(job.models),
        "student": job.student,
        "seed": job.seed,
        "count": job.count,
        "batches": job.batches,
        "preset": job.preset,
    }
