"""One job, start to finish: a batch of an image set, or a cell; what a worker runs."""

from __future__ import annotations

import dataclasses
import tempfile
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from bench import runtime
from bench.errors import BenchError, NotApplicable
from bench.interfaces import ImageSet, ModelHandle, SynthRequest
from bench.measure.accuracy import evaluate
from bench.measure.complexity import complexity, layer_table
from bench.run.fp import FpResult
from bench.run.steps import run_steps
from bench.run.tasks import Task
from bench.run.worker import Bench, Recorder, Report, access_of, context_of
from bench.spec.identity import digest
from bench.spec.plan import SynthJob
from bench.store.artifacts import CLASS_NAMES, BatchMeta
from bench.store.records import ResultRecord, StageCost, pack_bits

FP_GATE = 0.3  # points; design rule 4


def run_batch(bench: Bench, task: Task, report: Report) -> float:
    """Make one batch and store it; returns the seconds it took. A batch that is there already costs nothing.

    Raises:
        NotApplicable: the source cannot use these networks.
        BenchError: whatever the source or the store complains of.
    """
    job = task.synth
    if bench.store.has(job.synth_id, task.batch):
        return 0.0
    source = bench.sources.get(job.source.method)
    models = tuple(bench.model(name) for name in job.models)
    student = bench.model(job.student) if job.student else None
    source.check(job.source.params, models)
    recorder = Recorder(report)
    access = access_of(bench, job.dataset_name, job, job.source.access)
    request = SynthRequest(
        dataset=job.dataset,
        models=models,
        params=job.source.params,
        batch_index=task.batch,
        batch_size=job.source.batch_size,
        set_seed=job.set_seed,
        student=student,
    )
    with tempfile.TemporaryDirectory() as scratch, runtime.measure() as spent:
        batch = source.synthesize_batch(
            request, context_of(bench, job.dataset, access, job.batch_seed(task.batch), recorder, scratch)
        )
    cost = {**dataclasses.asdict(spent), "forward_equivalents": batch.forward_equivalents}
    meta = BatchMeta(
        source=job.source.method,
        version=job.source.version,
        models=job.models,
        info={**batch.info, "audit": access.audit, CLASS_NAMES: list(job.dataset.class_names)},
        curves=recorder.curves,
        cost=cost,
        provenance={**bench.facts, "date": _now()},
    )
    bench.store.write_batch(job.synth_id, task.batch, batch, meta)
    return spent.seconds


def run_cell(bench: Bench, task: Task, report: Report) -> ResultRecord:
    """Compress, measure and describe one cell; whatever goes wrong becomes a record with the reason."""
    try:
        return _run_cell(bench, task, report)
    except NotApplicable as error:
        return cell_record(task, "not_applicable", reason=str(error), provenance=_dated(bench))
    except Exception as error:  # noqa: BLE001 - a job's failure is a record (design, rule 9)
        reason = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        trace = traceback.format_exc(limit=20)
        return cell_record(task, "failed", reason=reason, traceback=trace, provenance=_dated(bench))


def _run_cell(bench: Bench, task: Task, report: Report) -> ResultRecord:
    cell, job = task.cell, task.synth
    assert cell is not None
    target, dataset = bench.model(cell.target_name), bench.dataset(cell.dataset)
    if job.source.delivery == "stream":
        return _gated(bench, task, None, report)
    images = bench.store.read(job.synth_id, cell.n, job.source.label_kind)
    source = bench.sources.get(job.source.method)
    if "hook" in source.offers:
        images = dataclasses.replace(images, hook=source.hook(job.source.params))
    synthesis = StageCost(**images.info["cost"])
    if cell.measures:
        from bench.run.measures import measure_images

        with runtime.measure() as spent:
            ready = _renormalised(images, job, target)
            metrics = measure_images(cell.measures, ready, target, dataset, cell.generator_seed)
        facts: dict[str, Any] = {"metrics": metrics, "costs": {"synthesis": synthesis, "measure": _cost(spent)}}
        # The first batch's curves: what a suite without compressor has to show over iterations.
        facts["curves"] = {
            name.removesuffix("/0"): curve for name, curve in images.info["curves"].items() if name.endswith("/0")
        }
        return cell_record(task, "ok", **facts, **_origin(images), provenance=_dated(bench))
    return _gated(bench, task, images, report)


def _gated(bench: Bench, task: Task, images: ImageSet | None, report: Report) -> ResultRecord:
    """The cell's record; ``skipped`` when the target is not what it is registered as (design, rule 4)."""
    cell = task.cell
    assert cell is not None
    target, dataset = bench.model(cell.target_name), bench.dataset(cell.dataset)
    report("fp", 0, 1)
    fp = bench.fp(target, dataset, cell.test_subset)
    if target.fp_top1 is not None and abs(fp.full_top1 - target.fp_top1) > FP_GATE:
        reason = f"fp_gate: measured {fp.full_top1:.2f}, registered {target.fp_top1:.2f}"
        return cell_record(task, "skipped", reason=reason, provenance=_dated(bench))
    return _compress_and_measure(bench, task, images, fp, report)


def _compress_and_measure(
    bench: Bench, task: Task, images: ImageSet | None, fp: FpResult, report: Report
) -> ResultRecord:
    cell, job = task.cell, task.synth
    assert cell is not None
    assert cell.compressor_resolved is not None
    assert cell.setting is not None
    target, dataset = bench.model(cell.target_name), bench.dataset(cell.dataset)
    recorder = Recorder(report)
    access = access_of(bench, cell.dataset, job, "T0")
    with tempfile.TemporaryDirectory() as scratch, runtime.measure() as compress:
        ready = _renormalised(images, job, target) if images else _streamed(bench, task, target, recorder, scratch)
        context = context_of(bench, job.dataset, access, cell.generator_seed, recorder, scratch)
        made = run_steps(cell.compressor_resolved, bench.compressors.get, target, ready, cell.setting, context)
    variant = made.variants[0]
    report("measure", 0, 1)
    with runtime.measure() as spent:
        test = dataset.test_batches(cell.test_subset)
        top1, correct = evaluate(variant.module, test, device=context.device, mean=target.mean, std=target.std)
    size = complexity(target.module, dataset.spec.shape, variant)
    layers = layer_table(variant.network or target.module, dataset.spec.shape, variant)
    constants = {"test_set": cell.test_digest[:16], "mean": target.mean, "std": target.std}
    protocol = _plain({**variant.protocol, **constants})
    return cell_record(
        task,
        "ok",
        metrics={"top1": top1, "fp_top1": fp.top1, **size},
        correct=pack_bits(correct),
        test_count=len(correct),
        costs={
            "synthesis": _synthesis(ready),
            "compress": _cost(compress, made.forward_equivalents),
            "measure": _cost(spent),
        },
        protocol=protocol,
        protocol_id=digest(protocol)[:16],
        curves=recorder.curves,
        report=_plain({**made.report, "layers": layers, **({"stream": ready.stream.info()} if ready.stream else {})}),
        provenance=_dated(bench),
        **_origin(ready),
    )


def cell_record(task: Task, status: str, **facts: Any) -> ResultRecord:
    """A record of the task's cell: its labels and identities, and ``facts``."""
    cell, job = task.cell, task.synth
    assert cell is not None
    resolved = cell.compressor_resolved
    return ResultRecord.model_validate(
        {
            "suite": task.suite,
            "suite_version": task.suite_version,
            "status": status,
            **cell.axes(),
            "access": job.source.access,
            "test_digest": cell.test_digest,
            "source_version": job.source.version,
            "source_params": dict(job.source.params_json),
            "compressor_version": resolved.version if resolved else 0,
            "compressor_params": dict(resolved.params_json) if resolved else {},
            "target_digest": cell.target_digest,
            "model_digests": list(job.model_digests),
            **facts,
        }
    )


def _renormalised(images: ImageSet, job: SynthJob, target: ModelHandle) -> ImageSet:
    """The images in the target's own constants; they live in those of their own networks (spec sources 2.4)."""
    if (job.dataset.mean, job.dataset.std) == (target.mean, target.std):
        return images
    mean, std, own_mean, own_std = (
        torch.tensor(v).view(1, -1, 1, 1) for v in (job.dataset.mean, job.dataset.std, target.mean, target.std)
    )
    return dataclasses.replace(images, images=(images.images * std + mean - own_mean) / own_std)


def _streamed(bench: Bench, task: Task, target: ModelHandle, recorder: Recorder, scratch: str) -> ImageSet:
    """No image yet, and the generator that will make them while the student trains."""
    job = task.synth
    source, models = bench.sources.get(job.source.method), tuple(bench.model(name) for name in job.models)
    source.check(job.source.params, models)
    if (job.dataset.mean, job.dataset.std) != (target.mean, target.std):
        raise NotApplicable("a stream's images cannot be renormalised", where=target.name, got=job.dataset.mean)
    access = access_of(bench, job.dataset_name, job, job.source.access)
    request = SynthRequest(
        dataset=job.dataset,
        models=models,
        params=job.source.params,
        batch_index=0,
        batch_size=job.source.batch_size,
        set_seed=job.set_seed,
    )
    context = context_of(bench, job.dataset, access, job.batch_seed(0), recorder, scratch)
    stream = source.stream(request, context)
    none = torch.empty(0, *job.dataset.shape)
    info = {"batches": [{"audit": access.audit}]}
    return ImageSet(none, None, None, stream.label_kind, "", job.synth_id, info, stream)


def _synthesis(images: ImageSet) -> StageCost:
    """What the images cost; a stream's seconds and memory are its consumer's."""
    if images.stream is None:
        return StageCost(**images.info["cost"])
    return StageCost(forward_equivalents=images.stream.forward_equivalents)


def _origin(images: ImageSet) -> dict[str, Any]:
    audit = [entry for info in images.info["batches"] for entry in info.get("audit", [])]
    return {"image_digest": images.digest, "audit": audit}


def _cost(spent: runtime.Spent, forward_equivalents: float = 0.0) -> StageCost:
    return StageCost(**dataclasses.asdict(spent), forward_equivalents=forward_equivalents)


def _plain(value: Any) -> Any:
    """Mappings and tuples of a method's answer as plain JSON; numbers of other libraries as Python's."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value


def _dated(bench: Bench) -> dict[str, Any]:
    return {**bench.facts, "date": _now(), "finished": time.time()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
