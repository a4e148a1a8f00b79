"""One batch of an image set, start to finish, and a stream of images; what a worker runs."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bench import runtime
from bench.data.access import DataAccess
from bench.data.datasets import renormalise
from bench.errors import NotApplicable
from bench.interfaces import ImageBatch, ImageSet, ModelHandle, SynthRequest
from bench.interfaces.methods import unit_macs
from bench.run.apart import keeper
from bench.run.made import MadeBatch
from bench.run.readings import own_readings
from bench.run.reports import now
from bench.run.worker import Bench, Recorder, Report, context_of, waiting
from bench.spec.jobs import SynthJob
from bench.spec.resolved import brought_by
from bench.store.artifacts import checked
from bench.store.image_gate import INVERSION
from bench.store.meta import CLASS_NAMES, ArtifactMeta
from bench.store.objects import LostArtifact
from bench.store.strips import FRAMES

_ENGINES = ("audit", CLASS_NAMES, FRAMES, INVERSION)
"""What of a stored batch's info is not its source's word."""


def make_batch(bench: Bench, job: SynthJob, index: int, report: Report) -> None:
    """Make one batch and store it.  One that is there already costs nothing; while another process makes it, this one
    waits and says so.

    Raises:
        GateClosed: one of the source's networks is not sound.
        NotApplicable: the source cannot use these networks.
        BenchError: whatever the source or the store complains of.
    """
    with bench.store.making(job.synth_id, index, waiting(report)) as wanted:
        if wanted:
            # looked at here, so that the gate rests on no word of a foreign method's process
            for name in (*job.models, *([job.student] if job.student else [])):
                bench.model(name)
            if job.of is not None:
                made, reads = changed(bench, job, job.of, index, report)
            else:
                access = bench.access(job.dataset_name, job, job.source.access)
                work = synthesise if job.source.own else keeper.synthesised
                made, reads = work(bench, job, index, access, report), access.audit
            checked(made.batch, f"{job.synth_id} batch {index}")
            bench.store.write_batch(job.synth_id, index, made.batch, _described(bench, job, made, reads))


def changed(
    bench: Bench, job: SynthJob, of: SynthJob, index: int, report: Report
) -> tuple[MadeBatch, tuple[dict[str, Any], ...]]:
    """A batch of ``of``, changed by a filter that reads nothing else, with the reads that the images of ``of`` took;
    its cost is that of both.

    Raises:
        BenchError: whatever the filter or the store complains of.
    """
    given, meta = _stored(bench, of, index, report)
    access = bench.access(job.dataset_name, job, "T0")
    made = synthesise(bench, job, index, access, report, given)
    before = runtime.Spent(**{key: meta.cost.get(key) or 0.0 for key in dataclasses.asdict(made.spent)})
    spent = runtime.Spent(
        seconds=before.seconds + made.spent.seconds,
        cpu_seconds=before.cpu_seconds + made.spent.cpu_seconds,
        peak_memory_mib=max(before.peak_memory_mib, made.spent.peak_memory_mib),
    )
    return dataclasses.replace(made, spent=spent), (*meta.info.get("audit", ()), *access.audit)


def _stored(bench: Bench, job: SynthJob, index: int, report: Report) -> tuple[ImageBatch, ArtifactMeta]:
    """A stored batch as its source made it; one that is lost or damaged is made again."""
    try:
        found = bench.store.batch(job.synth_id, index)
    except LostArtifact:
        bench.store.set_aside(job.synth_id, index)
        make_batch(bench, job, index, report)
        found = bench.store.batch(job.synth_id, index)
    batch, meta = found
    info = {key: value for key, value in meta.info.items() if key not in _ENGINES}
    return dataclasses.replace(batch, info=info), meta


def read_images(bench: Bench, job: SynthJob, count: int, report: Report) -> ImageSet:
    """The first ``count`` images of a set.  A batch that turns out damaged, or was deleted meanwhile, is made again.

    Raises:
        LostArtifact: that did not help.
        BenchError: whatever the source or the store complains of.
    """
    for _ in range(job.batches):
        try:
            return bench.store.read(job.synth_id, count, job.source.label_kind)
        except LostArtifact as error:
            bench.store.set_aside(job.synth_id, int(error.part))
            make_batch(bench, job, int(error.part), report)
    return bench.store.read(job.synth_id, count, job.source.label_kind)


def assisted(bench: Bench, job: SynthJob, images: ImageSet) -> ImageSet:
    """The images with what their source offers a training on them."""
    if not job.source.hook:
        return images
    return dataclasses.replace(images, hook=bench.sources.get(job.source.method).hook(job.source.params))


def synthesise(
    bench: Bench, job: SynthJob, index: int, access: DataAccess, report: Report, given: ImageBatch | None = None
) -> MadeBatch:
    """Make a batch in this process; a filter changes ``given``.

    Raises:
        NotApplicable: the source cannot use these networks.
        BenchError: whatever the source complains of.
    """
    source = bench.sources.get(job.source.method)
    models = tuple(bench.model(name) for name in job.models)
    student = bench.model(job.student) if job.student else None
    source.check(job.source.params, models)
    recorder = Recorder(report)
    request = SynthRequest(
        dataset=job.dataset,
        models=models,
        params=job.source.params,
        batch_index=index,
        batch_size=job.source.batch_size,
        set_seed=job.set_seed,
        student=student,
        given=given,
    )
    with tempfile.TemporaryDirectory() as scratch, runtime.measure() as spent:
        batch: ImageBatch = source.synthesize_batch(
            request, context_of(bench, job.dataset, access, job.batch_seed(index), recorder, scratch)
        )
    return MadeBatch(batch, recorder.curves, spent)


def _described(bench: Bench, job: SynthJob, made: MadeBatch, reads: Sequence[Mapping[str, Any]]) -> ArtifactMeta:
    readings = own_readings(bench, job, made.batch)
    passes = made.batch.forward_equivalents
    return ArtifactMeta(
        source=job.source.method,
        version=job.source.version,
        models=job.models,
        info={
            **made.batch.info,
            "audit": list(reads),
            CLASS_NAMES: list(job.dataset.class_names),
            **({FRAMES: job.dataset.frames} if job.dataset.frames > 1 else {}),
            **({INVERSION: readings} if readings else {}),
        },
        curves=made.curves,
        cost={
            **dataclasses.asdict(made.spent),
            "forward_equivalents": passes,
            "macs": passes * unit_macs([bench.model(name) for name in job.models]),
        },
        provenance={**bench.facts, "date": now(), **brought_by(job.source)},
    )


def renormalised(images: ImageSet, job: SynthJob, target: ModelHandle) -> ImageSet:
    """The images in the target's own constants; they live in those of their own networks
    (docs/methods/sources.md#pixel-space)."""
    return dataclasses.replace(images, images=renormalise(images.images, job.dataset, target))


def streamed(
    bench: Bench, job: SynthJob, target: ModelHandle, access: DataAccess, recorder: Recorder, scratch: str
) -> ImageSet:
    """No image yet, and the generator that will make them while the student trains."""
    source, models = bench.sources.get(job.source.method), tuple(bench.model(name) for name in job.models)
    source.check(job.source.params, models)
    if (job.dataset.mean, job.dataset.std) != (target.mean, target.std):
        raise NotApplicable("a stream's images cannot be renormalised", where=target.name, got=job.dataset.mean)
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
    # what it reads is known when it has ended
    info: dict[str, object] = {"batches": [{}], "unit_macs": request.unit_macs}
    return ImageSet(none, None, None, stream.label_kind, "", job.synth_id, info, stream)
