"""One batch of an image set, start to finish, and a stream of images; what a worker runs."""

from __future__ import annotations

import dataclasses
import tempfile

import torch

from bench import runtime
from bench.errors import NotApplicable
from bench.interfaces import ImageSet, ModelHandle, SynthRequest
from bench.run.reports import now
from bench.run.worker import Bench, Recorder, Report, access_of, context_of
from bench.spec.graph import BatchJob
from bench.spec.jobs import SynthJob
from bench.store.artifacts import CLASS_NAMES, BatchMeta


def run_batch(bench: Bench, made: BatchJob, report: Report) -> float:
    """Make one batch and store it; returns the seconds it took. A batch that is there already costs nothing.

    Raises:
        NotApplicable: the source cannot use these networks.
        BenchError: whatever the source or the store complains of.
    """
    job = made.images
    if bench.store.has(job.synth_id, made.index):
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
        batch_index=made.index,
        batch_size=job.source.batch_size,
        set_seed=job.set_seed,
        student=student,
    )
    with tempfile.TemporaryDirectory() as scratch, runtime.measure() as spent:
        batch = source.synthesize_batch(
            request, context_of(bench, job.dataset, access, job.batch_seed(made.index), recorder, scratch)
        )
    cost = {**dataclasses.asdict(spent), "forward_equivalents": batch.forward_equivalents}
    meta = BatchMeta(
        source=job.source.method,
        version=job.source.version,
        models=job.models,
        info={**batch.info, "audit": access.audit, CLASS_NAMES: list(job.dataset.class_names)},
        curves=recorder.curves,
        cost=cost,
        provenance={**bench.facts, "date": now()},
    )
    bench.store.write_batch(job.synth_id, made.index, batch, meta)
    return spent.seconds


def read_images(bench: Bench, job: SynthJob, count: int) -> ImageSet:
    """The first ``count`` images of a stored set, with what the source offers a training on them."""
    images = bench.store.read(job.synth_id, count, job.source.label_kind)
    source = bench.sources.get(job.source.method)
    return dataclasses.replace(images, hook=source.hook(job.source.params)) if "hook" in source.offers else images


def renormalised(images: ImageSet, job: SynthJob, target: ModelHandle) -> ImageSet:
    """The images in the target's own constants; they live in those of their own networks (spec sources 2.4)."""
    if (job.dataset.mean, job.dataset.std) == (target.mean, target.std):
        return images
    mean, std, own_mean, own_std = (
        torch.tensor(v).view(1, -1, 1, 1) for v in (job.dataset.mean, job.dataset.std, target.mean, target.std)
    )
    return dataclasses.replace(images, images=(images.images * std + mean - own_mean) / own_std)


def streamed(bench: Bench, job: SynthJob, target: ModelHandle, recorder: Recorder, scratch: str) -> ImageSet:
    """No image yet, and the generator that will make them while the student trains."""
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
