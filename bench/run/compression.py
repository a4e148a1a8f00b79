"""One compression, start to finish, and the measurement of every network it delivers; what a worker runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from bench import runtime
from bench.data.access import DataAccess
from bench.errors import BenchError, NotApplicable
from bench.identity import digest
from bench.interfaces import Compressed, ImageSet, ModelHandle, Setting, Variant
from bench.measure.accuracy import evaluate, marked, predictions
from bench.measure.complexity import complexity, layer_table
from bench.run.apart import keeper
from bench.run.apart.keeper import Answered
from bench.run.batch import assisted, read_images, renormalised, streamed
from bench.run.fp import FpResult
from bench.run.image_bits import image_bits, metrics_of
from bench.run.reports import broken_record, cost, dated, job_record, origin, plain, synthesis_cost
from bench.run.search import run_search
from bench.run.steps import run_steps
from bench.run.worker import Bench, Recorder, Report, context_of
from bench.spec import axes
from bench.spec.graph import CompressionJob, PolicyJob
from bench.spec.jobs import CellJob
from bench.spec.resolved import brought_by
from bench.store.bitmaps import pack_bits
from bench.store.objects import LostArtifact
from bench.store.policies import StoredPolicy
from bench.store.records import ResultRecord, StageCost


@dataclass(frozen=True)
class Ready:
    """What a compression starts from; no code of its methods has run.

    ``stored`` are the images, None where they are streamed; ``asked`` is the setting with the searched bits,
    ``searched`` what the search cost and ``found`` what it reported; ``access``
    is the door to the data for what makes the stream (the compressor itself sees the images it is given).
    """

    stored: ImageSet | None
    fp: FpResult
    asked: Setting
    searched: Mapping[str, StageCost]
    found: Mapping[str, Any]
    access: DataAccess
    read: list[dict[str, Any]]

    @property
    def audit(self) -> list[dict[str, Any]]:
        """What was read for the images, by the search and up to now."""
        return [*self.read, *self.access.audit]


@dataclass(frozen=True)
class Made:
    """A compression's answer and what went into it."""

    compressed: Compressed
    images: ImageSet
    recorder: Recorder
    spent: runtime.Spent
    ready: Ready
    audit: list[dict[str, Any]]


def run_compression(bench: Bench, job: CompressionJob, report: Report) -> tuple[ResultRecord, ...]:
    """Compress once, measure and describe every cell; whatever goes wrong becomes records with the reason."""
    try:
        bench.integrity.check()
        ready = _prepare(bench, job, report)
        if not (job.own or bench.sealed):
            answered = keeper.compressed(bench, job, ready.fp, ready.access, report)
            labels = bench.dataset(job.first.dataset).test_labels(job.first.test_subset)
            return _checked(job, answered, labels, ready)
        made = _compress(bench, job, ready, report)
    except Exception as error:  # noqa: BLE001 - a job's failure is a record (docs/architecture.md#rule-9)
        return tuple(broken_record(job, cell, error, bench.facts) for cell in job.cells)
    return tuple(_described(bench, job, cell, made, report) for cell in job.cells)


def made_again(bench: Bench, job: CompressionJob, report: Report) -> Made:
    """The job's networks themselves, for who looks into them; nothing is measured and no record written.

    Raises:
        GateClosed: as in a run.
        NotApplicable: a foreign method's network, which does not leave its process.
        BenchError: whatever a method or the store complains of.
    """
    bench.integrity.check()
    if not (job.own or bench.sealed):
        raise NotApplicable("a foreign method's network stays in its own process", where=job.title)
    return _compress(bench, job, _prepare(bench, job, report), report)


def _described(bench: Bench, job: CompressionJob, cell: CellJob, made: Made, report: Report) -> ResultRecord:
    """The cell's record; one network that cannot be measured loses no other's."""
    try:
        return _measure(bench, job, cell, made, report)
    except Exception as error:  # noqa: BLE001 - a job's failure is a record (docs/architecture.md#rule-9)
        return broken_record(job, cell, error, bench.facts)


def _prepare(bench: Bench, job: CompressionJob, report: Report) -> Ready:
    """Images, FP accuracy and policy.

    Raises:
        GateClosed: the target's own accuracy is not the registered one, or the teacher is not sound.
        BenchError: whatever a source, a search or the store complains of.
    """
    cell = job.first
    target, dataset = bench.model(cell.target_name), bench.dataset(cell.dataset)
    _teacher(bench, job)  # looked at here, so that the gate rests on no word of a foreign method's process
    stream = cell.delivery == "stream"
    stored = None if stream else read_images(bench, job.images, cell.n, report)
    report("fp", 0, 1)
    fp = bench.fp(target, dataset, cell.test_subset)
    fp.check(target, cell.dataset)
    asked, policy = job.asked, _policy(bench, job, report)
    searched: dict[str, StageCost] = {}
    found: Mapping[str, Any] = {}
    read: list[dict[str, Any]] = []
    if policy is not None:
        asked = asked.with_policy(policy.policy)
        searched = {
            "search": StageCost(**{name: value for name, value in policy.meta.cost.items() if value is not None})
        }
        found, read = {"search": policy.meta.info.get("report", {})}, list(policy.meta.info.get("audit", ()))
    access = bench.access(cell.dataset, job.images, job.images.source.access if stream else "T0")
    return Ready(stored, fp, asked, searched, found, access, [*(origin(stored)["audit"] if stored else []), *read])


def _compress(bench: Bench, job: CompressionJob, ready: Ready, report: Report) -> Made:
    """The networks that the compressor delivers, all promised ones among them.

    Raises:
        BenchError: what is delivered is not what was promised, or whatever the compressor complains of.
    """
    cell, target = job.first, bench.model(job.first.target_name)
    recorder = Recorder(report)
    access = bench.access(cell.dataset, job.images, "T0")
    with tempfile.TemporaryDirectory() as scratch, runtime.measure() as spent:
        if ready.stored is None:
            images = streamed(bench, job.images, target, ready.access, recorder, scratch)
        else:
            images = renormalised(ready.stored, job.images, target)
        images = assisted(bench, job.images, images)
        context = context_of(bench, job.images.dataset, access, cell.generator_seed, recorder, scratch)
        context = replace(context, teacher=_teacher(bench, job))
        made = run_steps(job.compressor, bench.compressors.get, target, images, ready.asked, context)
    _check_delivered(job, made)
    bench.ready_to_measure()
    return Made(made, images, recorder, spent, ready, [*ready.audit, *access.audit])


def _checked(job: CompressionJob, answered: Answered, labels: Tensor, ready: Ready) -> tuple[ResultRecord, ...]:
    """Records that the process of a method from outside made, with all that the engine knows better: whose they are,
    what was read, and how many of the network's answers are right, for that process has no label.

    Raises:
        BenchError: they are not those of the job's cells, or lack an answer to each test image.
    """
    records = answered.records
    if [record.cell_id for record in records] != [cell.cell_id for cell in job.cells]:
        raise BenchError("the process of a foreign method answers for other cells", where=job.title)
    for cell, record in zip(job.cells, records, strict=True):
        if record.status == "ok" and answered.answers(cell.cell_id).shape != labels.shape:
            raise BenchError("the process of a foreign method leaves test images out", where=cell.title)
    found = []
    for cell, record in zip(job.cells, records, strict=True):
        known = job_record(job, cell, record.status, audit=ready.audit)
        facts = {name: getattr(known, name) for name in known.model_fields_set}
        facts["provenance"] = {
            **record.provenance,
            **brought_by(job.images.source, cell.search_resolved, job.compressor),
        }
        facts["costs"] = {**record.costs, **ready.searched}
        if ready.stored:
            facts |= {name: value for name, value in origin(ready.stored).items() if name != "audit"}
            facts["costs"] |= {"synthesis": synthesis_cost(ready.stored)}
        if record.status != "ok":
            facts |= {"metrics": {}, "correct": None, "image_bits": None, "costs": {}}
        else:
            top1, correct = marked(answered.answers(cell.cell_id), labels)
            facts["metrics"] = {**record.metrics, "top1": top1, "fp_top1": ready.fp.top1}
            facts |= {"correct": pack_bits(correct), "test_count": len(correct)}
        found.append(record.model_copy(update=facts))
    return tuple(found)


def _policy(bench: Bench, job: CompressionJob, report: Report) -> StoredPolicy | None:
    """The searched bits per layer where the cells have a policy.  One that turns out damaged, or was deleted meanwhile,
    is searched again."""
    if job.search is None:
        return None
    key = job.search.policy_id
    try:
        return bench.policies.read(key)
    except LostArtifact:
        bench.policies.set_aside(key)
        run_search(bench, PolicyJob(job.search), report)
        return bench.policies.read(key)


def _teacher(bench: Bench, job: CompressionJob) -> ModelHandle | None:
    """The network that teaches in the target's place, where the suite names one."""
    return bench.model(job.compressor.teacher) if job.compressor.teacher else None


def _told(teacher: ModelHandle) -> dict[str, Any]:
    """What the report says of it."""
    return {"network": teacher.name, "digest": teacher.digest, "macs": teacher.macs, "fp_top1": teacher.fp_top1}


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


def variant_of(made: Compressed, cell: CellJob) -> Variant:
    """The cell's own network among those that one compression delivered."""
    values = cell.setting.values if cell.setting else ()
    return next(variant for variant in made.variants if variant.setting.values == values)


def _measure(bench: Bench, job: CompressionJob, cell: CellJob, made: Made, report: Report) -> ResultRecord:
    """Measure the cell's network."""
    variant, target = variant_of(made.compressed, cell), bench.model(cell.target_name)
    dataset = bench.dataset(cell.dataset)
    report("measure", 0, 1)
    bench.integrity.check()
    with runtime.measure() as spent:
        batches = partial(bench.test_batches, cell.dataset, cell.test_subset)
        how: dict[str, Any] = {"device": bench.device, "mean": target.mean, "std": target.std}
        if bench.sealed:  # there are no labels here: the engine fills in what this process cannot know
            answers = predictions(variant.module, batches(), **how)
            bench.answered(cell.cell_id, answers)
            top1, correct, count = None, None, len(answers)
        else:
            top1, verdicts = evaluate(variant.module, batches(), **how)
            correct, count = pack_bits(verdicts), len(verdicts)
        each = image_bits(
            variant,
            target,
            dataset.spec.shape,
            batches,
            device=bench.device,
            where=cell.compressor,
        )
    bench.integrity.check()
    by_image = metrics_of(each, count) if each else {}
    layers = layer_table(variant.network or target.module, dataset.spec.shape, variant)
    teacher = _teacher(bench, job)
    # Who taught is part of what is measured: such rows are ranked apart (docs/architecture.md#rule-5).
    taught = {"teacher": teacher.name} if teacher else {}
    protocol = plain({**variant.protocol, **_constants(cell, target), **taught})
    stream = made.images.stream
    return job_record(
        job,
        cell,
        "ok",
        metrics={
            "top1": top1,
            "fp_top1": made.ready.fp.top1,
            **complexity(target.module, dataset.spec.shape, variant),
            **by_image,
        },
        correct=correct,
        test_count=count,
        image_bits=each,
        costs={
            "synthesis": synthesis_cost(made.images),
            **made.ready.searched,
            "compress": cost(made.spent, made.compressed.forward_equivalents),
            "measure": cost(spent),
        },
        protocol=protocol,
        protocol_id=digest(protocol)[:16],
        curves=made.recorder.curves,
        report=plain(
            {
                **made.compressed.report,
                **made.ready.found,
                "layers": layers,
                **({"teacher": _told(teacher)} if teacher else {}),
                **({"stream": stream.info()} if stream else {}),
            }
        ),
        provenance=dated(bench.facts),
        **origin(made.images) | {"audit": made.audit},
    )


def _constants(cell: CellJob, target: ModelHandle) -> dict[str, Any]:
    return {"test_set": cell.test_digest[:16], "mean": target.mean, "std": target.std}
