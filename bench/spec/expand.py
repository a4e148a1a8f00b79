"""The grid of a suite: its axes crossed into syntheses and cells, with everything their identities are made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.errors import SuiteError
from bench.identity import synth_id
from bench.interfaces import DatasetSpec, NetworkInfo, Preset, Setting
from bench.spec import axes
from bench.spec.asked import promised, settings_of
from bench.spec.catalogue import Catalogue, full_name, short_name
from bench.spec.cells import Point, Treatment, make_cell, make_search
from bench.spec.fits import check_fit
from bench.spec.jobs import CellJob, SearchJob, SynthJob
from bench.spec.resolved import ResolvedCompressor
from bench.spec.rows import SourceRow, compressor_rows, source_rows, target_rows
from bench.spec.search_rows import search_rows
from bench.spec.suite import SuiteSpec

_READS_TRAINING_IMAGES = ("T4", "T5", "T6")

MOST_CELLS = 1_000_000
"""Cells of a suite at most; a grid is a product, and a slip in one axis would plan for hours."""


class Expansion:
    """Crosses the axes of one suite; holds what every cell needs so that each network is looked up once."""

    def __init__(self, suite: SuiteSpec, preset: Preset, dtype: str, catalogue: Catalogue) -> None:
        self.suite, self.preset, self.dtype, self.catalogue = suite, preset, dtype, catalogue
        self.dataset = catalogue.dataset(suite.dataset)
        _check_counts(suite, self.dataset)
        self.targets = target_rows(suite, catalogue)
        self.sources = source_rows(suite, preset, self.targets, catalogue)
        self.searches = search_rows(suite, preset, self.targets, catalogue)
        self.most = max((*suite.images, *(row.images or 1 for row in self.searches)))
        self._infos: dict[str, NetworkInfo] = {}
        self._check_networks()
        self.compressors = compressor_rows(suite, preset, catalogue)
        self.settings = {} if suite.measures else settings_of(suite, self.targets, catalogue)
        self.test_digest = catalogue.test_digest(suite.dataset, suite.test_subset)
        self._synths: dict[tuple[Any, ...], SynthJob] = {}

    def info(self, name: str) -> NetworkInfo:
        """The network's manifest entry."""
        if name not in self._infos:
            self._infos[name] = self.catalogue.info(name)
        return self._infos[name]

    def _check_networks(self) -> None:
        """Compare every network that is to see images with the data set.

        Raises:
            SuiteError: one does not fit.
            WeightsError: a network's manifest is missing or damaged.
        """
        for name in self.targets:
            check_fit(self.info(name), self.dataset, self._where(name))
        for row in (*self.sources, *(search.on for search in self.searches if search.on)):
            student = (row.student,) if row.student else ()
            where = ("source", row.index) if row.index >= 0 else ("policy", -1 - row.index)
            for name in (*(row.models or ()), *row.beside, *student):
                check_fit(self.info(name), self.dataset, self.suite.at("grid", *where))

    def _where(self, target: str) -> str:
        """The entry of the target axis that names ``target``; the axis, where it is a pattern that fits."""
        entries = [full_name(self.suite.dataset, entry) for entry in self.suite.grid.target]
        return self.suite.at("grid", "target", *([entries.index(target)] if target in entries else []))

    def points(self, seeds: Sequence[int]) -> list[tuple[SynthJob, SearchJob | None, CellJob]]:
        """Every cell with its image set and policy search, in the order source, target, images, compressor, policy,
        setting, variant, seed."""
        out: list[tuple[SynthJob, SearchJob | None, CellJob]] = []
        seen: dict[str, CellJob] = {}
        for row in self.sources:
            for target in self.targets:
                for count, treatment in itertools.product(self.suite.images, self._treatments(target)):
                    reason = {
                        seed: self._reason(row, self._synth(row, target, seed), target, treatment) for seed in seeds
                    }
                    for setting, seed in itertools.product(treatment.variants, seeds):
                        looks = treatment.row.on if treatment.row and treatment.row.on else row
                        sets = self._synth(row, target, seed), self._synth(looks, target, seed)
                        point = self._point(sets, target, count, treatment)
                        cell = make_cell(point, setting, reason[seed])
                        self._check_new(row, cell, seen)
                        out.append((point.images, make_search(point), cell))
                    self._check_size(len(out))
        return out

    def _check_size(self, cells: int) -> None:
        if cells > MOST_CELLS:
            most, hint = f"at most {MOST_CELLS:,} cells", "Ask for fewer values on the axes, or for fewer seeds."
            raise SuiteError("the grid is too large", where=self.suite.at("grid"), expected=most, hint=hint)

    def _point(self, sets: tuple[SynthJob, SynthJob], target: str, count: int, treatment: Treatment) -> Point:
        images, looked_at = sets
        return Point(
            suite=self.suite,
            preset=self.preset,
            dtype=self.dtype,
            images=images,
            looked_at=looked_at,
            target_name=target,
            target_digest=self.info(target).digest,
            test_digest=self.test_digest,
            membership=self.catalogue.membership(target, images.models) if images.models else "none",
            count=count,
            treatment=treatment,
        )

    def _treatments(self, target: str) -> list[Treatment]:
        """Compressors, what each is asked for (the part of the settings that it takes, each once) and the searches that
        give a quantising one its bits."""
        if self.suite.measures:
            return [Treatment(None, None, None, (None,))]
        out = []
        for made in self.compressors:
            searches = self.searches if axes.takes_policy(made.accepts) and self.searches else (None,)
            asked = dict.fromkeys(axes.only(setting, made.accepts) for setting in self.settings[target])
            for search, setting in itertools.product(searches, asked):
                out.append(Treatment(made, search, setting, self._promised(made, setting)))
        return out

    def _promised(self, made: ResolvedCompressor, asked: Setting) -> tuple[Setting, ...]:
        """What one compression delivers; a setting that lacks an axis the compressor needs delivers nothing but the
        reason why not."""
        if any(not self.suite.grid.entries(name) for name in made.accepts):
            return (asked,)
        return promised(made, asked, self.catalogue)

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
        models += tuple(name for name in row.beside if name not in models)
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
        train = self.catalogue.train_digest(self.suite.dataset) if reads else None
        identity = synth_id(
            source=source.method,
            version=source.version,
            params={**source.described, **({} if source.delivery == "cached" else {"delivery": source.delivery})},
            model_digests=digests,
            student_digest=student_digest,
            dataset=_dataset_identity(dataset, train),
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
            count=self.most,
            batches=0 if source.delivery == "stream" else -(-self.most // source.batch_size),
            preset=self.preset,
            train_digest=train,
            of=self._make_synth(replace(row, source=source.of), models, dataset, seed) if source.of else None,
        )

    def _reason(self, row: SourceRow, job: SynthJob, target: str, treatment: Treatment) -> str | None:
        """Why a cell cannot be, as far as manifests and declarations tell; the methods' own checks come at run time."""
        compressor = treatment.compressor
        if compressor and (missing := {axis for axis in compressor.accepts if not self.suite.grid.entries(axis)}):
            return f"{compressor.method} needs {' and '.join(axes.axis(name).noun for name in sorted(missing))}"
        if compressor and compressor.teacher == target:
            name = short_name(self.suite.dataset, target)
            return f"{name} is the target itself, which teaches {compressor.method} where no teacher is named"
        looks = treatment.row.on if treatment.row and treatment.row.on else row
        if treatment.search and looks.source.delivery == "stream":
            return "a policy search needs stored images, and a stream leaves none"
        if treatment.search and compressor and compressor.steps:
            return "a policy is searched on the target, and a chain's last step quantises another network"
        if compressor and row.source.delivery not in compressor.deliveries:
            return f"{compressor.method} takes no {row.source.delivery} of images"
        constants = (self.info(target).mean, self.info(target).std)
        if row.source.delivery == "stream" and (job.dataset.mean, job.dataset.std) != constants:
            return f"a stream's images cannot be renormalised from the constants of {job.model} to the target's"
        if "bn" in row.needs and job.models and all(self.info(name).batch_norms == 0 for name in job.models):
            return f"{job.source.method} needs batch normalisation, and {job.model} has none"
        return None


FEWEST = 64
"""Images of a set at least, where a data set has more classes: each image is then of another one."""


def _check_counts(suite: SuiteSpec, dataset: DatasetSpec) -> None:
    least = {"images": min(dataset.classes, FEWEST), "test_subset": dataset.classes}
    for key, count in (("images", min(suite.images)), ("test_subset", suite.test_subset)):
        if count is not None and count < least[key]:
            raise SuiteError(
                f"fewer images than {suite.dataset} has classes",
                where=suite.at(key),
                got=count,
                expected=f"at least {least[key]}",
            )


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
