"""One job, start to finish: a batch of an image set, or a cell; what a worker runs."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bench import __version__, runtime
from bench.data.access import DataAccess
from bench.data.datasets import Dataset, get_dataset
from bench.errors import BenchError, NotApplicable
from bench.interfaces import DatasetSpec, ImageSet, ModelHandle, RunContext, SynthRequest, Tier
from bench.measure.accuracy import evaluate
from bench.measure.complexity import complexity, layer_table
from bench.run.fp import FpResult, fp_result
from bench.run.steps import run_steps
from bench.run.tasks import Settings, Task
from bench.spec.identity import digest
from bench.spec.plan import SynthJob
from bench.spec.registry import Registry
from bench.store.artifacts import CLASS_NAMES, ArtifactStore, BatchMeta
from bench.store.records import ResultRecord, StageCost, pack_bits
from bench.zoo import targets

FP_GATE = 0.3  # points; design rule 4
log = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]


class Bench:
    """What one process keeps between jobs: networks, data sets, registries. A network is loaded once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = ArtifactStore(Path(settings.store))
        self.sources, self.compressors = Registry("sources"), Registry("compressors")
        self._models: dict[str, ModelHandle] = {}
        self._datasets: dict[str, Dataset] = {}
        self._fp: dict[tuple[str, int | None], FpResult] = {}

    @cached_property
    def facts(self) -> dict[str, Any]:
        return {**runtime.facts(self.settings.device, self.settings.threads), "datafree_bench": __version__}

    def model(self, name: str) -> ModelHandle:
        if name not in self._models:
            handle = targets.load(name)
            handle.module.to(self.settings.device)
            self._models[name] = handle
        return self._models[name]

    def dataset(self, name: str) -> Dataset:
        if name not in self._datasets:
            root = Path(self.settings.data_root) if self.settings.data_root else None
            self._datasets[name] = get_dataset(name, root)
        return self._datasets[name]

    def fp(self, target: ModelHandle, dataset: Dataset, subset: int | None) -> FpResult:
        key = (target.digest, subset)
        if key not in self._fp:
            self._fp[key] = fp_result(target, dataset, subset, Path(self.settings.store), self.settings.device)
        return self._fp[key]


class _Recorder:
    """Collects a job's curves and hands its progress on."""

    def __init__(self, report: Report) -> None:
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self.report = report

    def scalar(self, name: str, step: int, value: float) -> None:
        self.curves.setdefault(name, []).append((step, float(value)))


def _context(
    bench: Bench, spec: DatasetSpec, access: DataAccess, seed: int, recorder: _Recorder, scratch: str
) -> RunContext:
    generator = runtime.make_generator(seed)
    return RunContext(
        device=torch.device(bench.settings.device),
        dtype=torch.float32,
        generator=generator,
        data=access,
        untrained=lambda name: targets.untrained(name, spec, generator).to(bench.settings.device),
        scratch=Path(scratch),
        logger=log,
        report=recorder.report,
        log_scalar=recorder.scalar,
    )


def _access(bench: Bench, dataset: str, constants: SynthJob, tier: Tier) -> DataAccess:
    """The door to the data, in the constants the images of this set are normalised with."""
    found = bench.dataset(dataset)
    found = dataclasses.replace(found, spec=constants.dataset)
    other = bench.settings.unrelated
    unrelated = bench.dataset(other) if other and other != dataset else None
    return DataAccess(found, tier, unrelated)


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
    recorder = _Recorder(report)
    access = _access(bench, job.dataset_name, job, job.source.access)
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
            request, _context(bench, job.dataset, access, job.batch_seed(task.batch), recorder, scratch)
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
        return cell_record(task, "not_applicable", reason=str(error), provenance=bench.facts)
    except Exception as error:  # noqa: BLE001 - a job's failure is a record (design, rule 9)
        reason = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        return cell_record(
            task, "failed", reason=reason, traceback=traceback.format_exc(limit=20), provenance=bench.facts
        )


def _run_cell(bench: Bench, task: Task, report: Report) -> ResultRecord:
    cell, job = task.cell, task.synth
    assert cell is not None
    target, dataset = bench.model(cell.target_name), bench.dataset(cell.dataset)
    images = bench.store.read(job.synth_id, cell.n, job.source.label_kind)
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
    report("fp", 0, 1)
    fp = bench.fp(target, dataset, cell.test_subset)
    if target.fp_top1 is not None and abs(fp.full_top1 - target.fp_top1) > FP_GATE:
        reason = f"fp_gate: measured {fp.full_top1:.2f}, registered {target.fp_top1:.2f}"
        return cell_record(task, "skipped", reason=reason, provenance=_dated(bench))
    return _compress_and_measure(bench, task, images, fp, report)


def _compress_and_measure(bench: Bench, task: Task, images: ImageSet, fp: FpResult, report: Report) -> ResultRecord:
    cell, job = task.cell, task.synth
    assert cell is not None
    assert cell.compressor_resolved is not None
    assert cell.setting is not None
    target, dataset = bench.model(cell.target_name), bench.dataset(cell.dataset)
    recorder = _Recorder(report)
    access = _access(bench, cell.dataset, job, "T0")
    ready = _renormalised(images, job, target)
    with tempfile.TemporaryDirectory() as scratch, runtime.measure() as compress:
        context = _context(bench, job.dataset, access, cell.generator_seed, recorder, scratch)
        made = run_steps(cell.compressor_resolved, bench.compressors.get, target, ready, cell.setting, context)
    variant = made.variants[0]
    report("measure", 0, 1)
    with runtime.measure() as spent:
        test = dataset.test(cell.test_subset)
        top1, correct = evaluate(variant.module, *test, target.mean, target.std, context.device)
    size = complexity(target.module, dataset.spec.shape, variant)
    layers = layer_table(variant.network or target.module, dataset.spec.shape, variant)
    constants = {"test_set": cell.test_digest[:16], "mean": target.mean, "std": target.std}
    protocol = _plain({**made.protocol, **constants})
    return cell_record(
        task,
        "ok",
        metrics={"top1": top1, "fp_top1": fp.top1, **size},
        correct=pack_bits(correct),
        test_count=len(correct),
        costs={
            "synthesis": StageCost(**images.info["cost"]),
            "compress": _cost(compress, made.forward_equivalents),
            "measure": _cost(spent),
        },
        protocol=protocol,
        protocol_id=digest(protocol)[:16],
        curves=recorder.curves,
        report=_plain({**made.report, "layers": layers}),
        provenance=_dated(bench),
        **_origin(images),
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
