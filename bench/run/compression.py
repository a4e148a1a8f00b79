"""One compression, start to finish, and the measurement of every network it delivers; what a worker runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench import runtime
from bench.errors import BenchError
from bench.identity import digest
from bench.interfaces import Compressed, ImageSet, ModelHandle, Setting, Variant
from bench.measure.accuracy import evaluate
from bench.measure.complexity import complexity, layer_table
from bench.run.batch import read_images, renormalised, streamed
from bench.run.fp import FpResult
from bench.run.reports import broken_record, cost, dated, job_record, origin, plain, synthesis_cost
from bench.run.search import run_search
from bench.run.steps import run_steps
from bench.run.worker import Bench, Recorder, Report, access_of, context_of
from bench.spec import axes
from bench.spec.graph import CompressionJob, PolicyJob
from bench.spec.jobs import CellJob
from bench.store.objects import LostArtifact
from bench.store.records import ResultRecord, StageCost, pack_bits


@dataclass(frozen=True)
class Made:
    """A compression's answer and what went into it."""

    compressed: Compressed
    images: ImageSet
    recorder: Recorder
    spent: runtime.Spent
    fp: FpResult
    searched: Mapping[str, StageCost]


def run_compression(bench: Bench, job: CompressionJob, report: Report) -> tuple[ResultRecord, ...]:
    """Compress once, measure and describe every cell; whatever goes wrong becomes records with the reason."""
    try:
        made = _compress(bench, job, report)
    except Exception as error:  # noqa: BLE001 - a job's failure is a record (docs/architecture.md#rule-9)
        return tuple(broken_record(job, cell, error, bench.facts) for cell in job.cells)
    return tuple(_described(bench, job, cell, made, report) for cell in job.cells)


def _described(bench: Bench, job: CompressionJob, cell: CellJob, made: Made, report: Report) -> ResultRecord:
    """The cell's record; one network that cannot be measured loses no other's."""
    try:
        return _measure(bench, job, cell, made, report)
    except Exception as error:  # noqa: BLE001 - a job's failure is a record (docs/architecture.md#rule-9)
        return broken_record(job, cell, error, bench.facts)


def _compress(bench: Bench, job: CompressionJob, report: Report) -> Made:
    """The networks that the compressor delivers, all promised ones among them.

    Raises:
        GateClosed: the target's own accuracy is not the registered one.
        BenchError: what is delivered is not what was promised, or whatever the compressor complains of.
    """
    cell = job.first
    target, dataset = bench.model(cell.target_name), bench.dataset(cell.dataset)
    stored = None if cell.delivery == "stream" else read_images(bench, job.images, cell.n, report)
    report("fp", 0, 1)
    fp = bench.fp(target, dataset, cell.test_subset)
    fp.check(target)
    recorder = Recorder(report)
    access = access_of(bench, cell.dataset, job.images, "T0")
    asked, searched = _with_policy(bench, job, report)
    with tempfile.TemporaryDirectory() as scratch, runtime.measure() as spent:
        if stored is None:
            ready = streamed(bench, job.images, target, recorder, scratch)
        else:
            ready = renormalised(stored, job.images, target)
        context = context_of(bench, job.images.dataset, access, cell.generator_seed, recorder, scratch)
        made = run_steps(job.compressor, bench.compressors.get, target, ready, asked, context)
    _check_delivered(job, made)
    return Made(made, ready, recorder, spent, fp, searched)


def _with_policy(bench: Bench, job: CompressionJob, report: Report) -> tuple[Setting, dict[str, StageCost]]:
    """The setting asked for, with the searched bits per layer where the cells have a policy, and what the search cost.
    A policy that turns out damaged, or was deleted meanwhile, is searched again."""
    if job.search is None:
        return job.asked, {}
    key = job.search.policy_id
    try:
        found = bench.policies.read(key)
    except LostArtifact:
        bench.policies.set_aside(key)
        run_search(bench, PolicyJob(job.images, job.search), report)
        found = bench.policies.read(key)
    cost_of = {name: value for name, value in found.meta.cost.items() if value is not None}
    return job.asked.with_policy(found.policy), {"search": StageCost(**cost_of)}


def _check_delivered(job: CompressionJob, made: Compressed) -> None:
    """Raise BenchError unless every planned network is there once."""
    delivered = [variant.setting.values for variant in made.variants]
    planned = [cell.setting.values for cell in job.cells if cell.setting is not None]
    if len(set(delivered)) < len(delivered) or not set(planned) <= set(delivered):
        raise BenchError(
            "the compressor delivers other networks than it promised",
            where=job.first.compressor,
            got=", ".join(axes.label(variant.setting) or "none" for variant in made.variants),
            expected=", ".join(cell.setting_label for cell in job.cells),
        )


def _variant(made: Compressed, cell: CellJob) -> Variant:
    values = cell.setting.values if cell.setting else ()
    return next(variant for variant in made.variants if variant.setting.values == values)


def _measure(bench: Bench, job: CompressionJob, cell: CellJob, made: Made, report: Report) -> ResultRecord:
    """Measure the cell's network."""
    variant, target = _variant(made.compressed, cell), bench.model(cell.target_name)
    dataset = bench.dataset(cell.dataset)
    report("measure", 0, 1)
    with runtime.measure() as spent:
        batches = dataset.test_batches(cell.test_subset)
        top1, correct = evaluate(variant.module, batches, device=bench.device, mean=target.mean, std=target.std)
    layers = layer_table(variant.network or target.module, dataset.spec.shape, variant)
    protocol = plain({**variant.protocol, **_constants(cell, target)})
    stream = made.images.stream
    return job_record(
        job,
        cell,
        "ok",
        metrics={"top1": top1, "fp_top1": made.fp.top1, **complexity(target.module, dataset.spec.shape, variant)},
        correct=pack_bits(correct),
        test_count=len(correct),
        costs={
            "synthesis": synthesis_cost(made.images),
            **made.searched,
            "compress": cost(made.spent, made.compressed.forward_equivalents),
            "measure": cost(spent),
        },
        protocol=protocol,
        protocol_id=digest(protocol)[:16],
        curves=made.recorder.curves,
        report=plain({**made.compressed.report, "layers": layers, **({"stream": stream.info()} if stream else {})}),
        provenance=dated(bench.facts),
        **origin(made.images),
    )


def _constants(cell: CellJob, target: ModelHandle) -> dict[str, Any]:
    return {"test_set": cell.test_digest[:16], "mean": target.mean, "std": target.std}
