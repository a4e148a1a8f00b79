"""The compressed network of a cell, made again: a store keeps images, bits and records, but no compressed network.

It is made as `bench run` makes it: from the same plan, images, bits, seed and threads.  On the same machine it is the
same network; elsewhere it is one within the spread between machines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench import runtime
from bench.errors import BenchError, NotApplicable
from bench.interfaces import ImageSet, ModelHandle, Variant
from bench.machine import check_in_process, kernels_chosen
from bench.run.tasks import Settings
from bench.spec.catalogue import ShippedCatalogue
from bench.spec.graph import CompressionJob
from bench.spec.jobs import CellJob
from bench.spec.plan import Plan, make_plan
from bench.spec.suite import load_suite, suite_names
from bench.store.records import ResultRecord

if TYPE_CHECKING:
    from bench.data.datasets import Dataset
    from bench.run.compression import Made
    from bench.run.worker import Bench, Report


@dataclass(frozen=True)
class Place:
    """Where a cell is made again: the store with its images, the suite's file (None: the shipped suite of the record's
    name), the folder of the data set, the device."""

    store: Path
    suite: str | None = None
    data_root: Path | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Again:
    """A cell's compressed network and what it was made from.

    ``variant`` is in eval mode on ``bench.device``; ``images`` are those of the compression, in the target's constants.
    """

    record: ResultRecord
    cell: CellJob
    variant: Variant
    made: Made = field(repr=False)
    bench: Bench = field(repr=False)

    @property
    def target(self) -> ModelHandle:
        """The network that was compressed."""
        return self.bench.model(self.cell.target_name)

    @property
    def dataset(self) -> Dataset:
        """The data set that the cell is measured on; ``cell.test_subset`` says on which of its test images."""
        return self.bench.dataset(self.cell.dataset)

    @property
    def images(self) -> ImageSet:
        """The images of the compression; none in memory where they were streamed."""
        return self.made.images


def make_again(record: ResultRecord, place: Place, report: Report) -> Again:
    """Run the compression of ``record``'s cell once more; images and bits that the store lacks are made first.

    Nothing is measured but the float network (the gate), and no record is written.

    Raises:
        NotApplicable: there is no such network: the cell was not applicable, is no compression, or its compressor is
            an installed one, whose network stays in its own process.
        BenchError: the suite has no such cell any more, or whatever a method, the data or the store complains of.
    """
    if record.status == "not_applicable":
        raise NotApplicable("the cell has no network", where=record.cell_id, got=record.reason)
    kernels = str(record.provenance.get("kernels", "native"))
    kernels = kernels if kernels == "portable" else "native"
    check_in_process(kernels)
    with kernels_chosen(kernels):  # before anything below loads torch
        plan = _plan(record, place)
        cell = _cell(plan, record)
        jobs = plan.graph([one for one in plan.applicable if one.job_id == cell.job_id])
        job = next((one for one in jobs if isinstance(one, CompressionJob)), None)
        if job is None:
            raise NotApplicable("the cell is no compression", where=record.cell_id, got=plan.suite.suite)
        return _made(record, cell, job, place, report)


def _made(record: ResultRecord, cell: CellJob, job: CompressionJob, place: Place, report: Report) -> Again:
    from bench.run.compression import made_again, variant_of
    from bench.run.worker import Bench

    threads = int(record.provenance.get("threads", 1))
    device = runtime.resolve_device(place.device)
    runtime.set_threads(threads)
    root = str(place.data_root) if place.data_root else None
    bench = Bench(Settings(str(place.store.resolve()), device, threads, root))
    made = made_again(bench, job, report)
    return Again(record, cell, variant_of(made.compressed, cell), made, bench)


def _plan(record: ResultRecord, place: Place) -> Plan:
    """The suite's plan at the record's count, preset and seed."""
    if place.suite is None and record.suite not in suite_names():
        what = "the cell's suite did not come with the package"
        raise BenchError(what, where=record.cell_id, got=record.suite, hint="Name its file: --suite FILE")
    overrides = {"images": record.n}
    suite = load_suite(place.suite or record.suite, overrides)
    if suite.dataset != record.dataset:
        suite = load_suite(place.suite or record.suite, {**overrides, "dataset": record.dataset})
    if record.preset not in ("mini", "thorough", "paper"):
        raise BenchError("unknown preset", where=record.cell_id, got=record.preset)
    catalogue = ShippedCatalogue(root=place.data_root)
    return make_plan(suite, preset=record.preset, seeds=[record.seed], catalogue=catalogue)  # type: ignore[arg-type]


def _cell(plan: Plan, record: ResultRecord) -> CellJob:
    """The plan's cell of the record's id.

    Raises:
        BenchError: there is none.
    """
    found = next((cell for cell in plan.cells if cell.cell_id == record.cell_id), None)
    if found is None:
        hint = "A method's version rose, the suite changed, or the record comes from --set: run the suite again."
        raise BenchError("the suite has no such cell", where=plan.suite.suite, got=record.cell_id, hint=hint)
    return found
