"""The process of a foreign method: it has networks and images it is given, and asks the engine for all else."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import singledispatch
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from torch import Tensor

from bench import runtime
from bench.data.access import DataAccess
from bench.data.datasets import Arrays, Dataset
from bench.errors import AccessDenied
from bench.interfaces import ImageSet, ModelHandle, Tier
from bench.run.apart.doors import shut
from bench.run.apart.exam import sat
from bench.run.apart.handle import READS, RemoteData
from bench.run.apart.keeper import Order
from bench.run.apart.wire import Message, receive, send
from bench.run.batch import synthesise
from bench.run.compression import run_compression
from bench.run.executors.base import attempt
from bench.run.executors.serve import PROGRESS_EVERY
from bench.run.fp import FpResult
from bench.run.reports import plain
from bench.run.search import find_policy
from bench.run.tasks import Failed
from bench.run.worker import Bench
from bench.spec.graph import BatchJob, CompressionJob, Job, PolicyJob
from bench.spec.jobs import SynthJob
from bench.spec.registry import Registry
from bench.spec.resolved import ResolvedCompressor, ResolvedSearch, ResolvedSource
from bench.store.records import ResultRecord

Row = TypeVar("Row", ResolvedSource, ResolvedCompressor, ResolvedSearch)


class Line:
    """This end of the pipe to the engine; several threads may speak."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock, self._last = pipe, threading.RLock(), 0.0

    def ask(self, question: Message) -> Message:
        """The engine's answer."""
        with self._lock:
            send(self._pipe, question)
            return receive(self._pipe)

    def tell(self, kind: str, body: dict[str, Any], **tensors: Any) -> None:
        """No answer follows."""
        with self._lock:
            send(self._pipe, Message(kind, body, {k: v for k, v in tensors.items() if v is not None}))

    def report(self, stage: str, step: int, total: int) -> None:
        """Progress, now and then."""
        now = time.monotonic()
        if now - self._last >= PROGRESS_EVERY:
            self._last = now
            self.tell("progress", {"stage": stage, "step": step, "total": total})

    def given(self) -> Message:
        """What the engine sends unasked, beside the order."""
        return receive(self._pipe)

    def wait(self) -> None:
        """Until the engine closes its end; it has then read all that was told."""
        with suppress(EOFError, OSError):
            receive(self._pipe)


class SealedBench(Bench):
    """As :class:`Bench`; the data stay with the engine, the labels of the test images to the end."""

    sealed = True

    def __init__(self, order: Order, line: Line) -> None:
        super().__init__(order.settings)
        self._line, self._fp_known = line, order.fp
        self.answers: dict[str, Tensor] = {}
        shut(order.hidden, order.guarded, lambda path: line.tell("denied", {"path": path}))

    def access(self, dataset: str, constants: SynthJob, tier: Tier) -> DataAccess:
        """The engine's door, whatever tier is named here."""
        line = self._line

        def ask(question: Message) -> Message:
            """What a method's handle can say: nothing but reads."""
            if question.kind not in READS:
                raise AccessDenied("a method may not ask this of its door to the data", got=question.kind)
            return line.ask(question)

        return RemoteData(ask)

    def fp(self, target: ModelHandle, dataset: Dataset, subset: int | None) -> FpResult:
        """What the engine measured."""
        if self._fp_known is None:
            raise LookupError("nothing is measured here")
        return self._fp_known

    def test_batches(self, dataset: str, subset: int | None) -> Iterator[Arrays]:
        """The images of the job's own cells, whatever is named here; -1 is each label."""
        return sat(self._line.ask)

    def answered(self, cell_id: str, answers: Tensor) -> None:
        """As :meth:`Bench.answered`; the engine gets them with the records."""
        self.answers[cell_id] = answers


def main(descriptor: int) -> None:
    """Do one job for the process at the other end of the pipe, and end."""
    pipe = Connection(descriptor)
    sys.dont_write_bytecode = True  # it may not write where the code lies
    line, order = Line(pipe), pipe.recv()
    _end_with(order.parent)
    runtime.set_threads(order.settings.threads)
    bench = SealedBench(order, line)
    outcome = attempt(order.job, lambda: _work(_complete(order.job, bench), bench, line))
    if isinstance(outcome, Failed):
        reason, trace = outcome.reason, outcome.traceback
        line.tell("failed", {"reason": reason, "traceback": trace, "applicable": outcome.status != "not_applicable"})
    line.wait()


@singledispatch
def _work(job: Job, bench: SealedBench, line: Line) -> tuple[ResultRecord, ...]:
    """Run a method's code and tell the engine what it made."""
    raise TypeError(f"nothing that runs apart: {type(job).__name__}")


@_work.register
def _(job: BatchJob, bench: SealedBench, line: Line) -> tuple[ResultRecord, ...]:
    access = bench.access(job.images.dataset_name, job.images, job.images.source.access)
    made = synthesise(bench, job.images, job.index, access, line.report)
    batch = made.batch
    body = {"info": batch.info, "forward_equivalents": float(batch.forward_equivalents), "curves": made.curves}
    tensors = {"images": batch.images, "labels": batch.labels, "soft_labels": batch.soft_labels}
    line.tell("done", {**body, "spent": asdict(made.spent)}, **tensors)
    return ()


@_work.register
def _(job: PolicyJob, bench: SealedBench, line: Line) -> tuple[ResultRecord, ...]:
    given = line.given()
    images = ImageSet(
        images=given.tensors["images"],
        labels=given.tensors.get("labels"),
        soft_labels=given.tensors.get("soft_labels"),
        **given.body,
    )
    access = bench.access(job.images.dataset_name, job.images, "T0")
    found = find_policy(bench, job, images, access, line.report)
    searched = found.searched
    line.tell(
        "done",
        {
            "policy": searched.policy.to_json(),
            "report": plain(searched.report),
            "forward_equivalents": float(searched.forward_equivalents),
            "curves": found.curves,
            "spent": asdict(found.spent),
        },
    )
    return ()


@_work.register
def _(job: CompressionJob, bench: SealedBench, line: Line) -> tuple[ResultRecord, ...]:
    records = run_compression(bench, job, line.report)
    line.tell("done", {"records": [record.model_dump(mode="json") for record in records]}, **bench.answers)
    return records


def _complete(job: Job, bench: SealedBench) -> Job:
    """The job with the parameters' objects of the methods whose code it runs; here that code is loaded."""
    if isinstance(job, BatchJob):
        return replace(job, images=_with_source(job.images, bench))
    if isinstance(job, PolicyJob):
        return replace(job, search=replace(job.search, search=_filled(job.search.search, bench.searches)))
    if isinstance(job, CompressionJob):
        row = job.compressor
        steps = tuple(_filled(step, bench.compressors) for step in row.steps)
        filled = replace(row, steps=steps) if steps else _filled(row, bench.compressors)
        used = job.images.source.hook or job.images.source.delivery == "stream"
        images = _with_source(job.images, bench) if used else job.images
        return replace(job, compressor=filled, images=images)
    return job


def _with_source(images: SynthJob, bench: SealedBench) -> SynthJob:
    return replace(images, source=_filled(images.source, bench.sources))


def _filled(row: Row, registry: Registry) -> Row:
    if row.own:
        return row
    method = registry.get(row.method)
    return replace(row, params=method.Params.model_validate_json(json.dumps(dict(row.params_json)), strict=True))


def _end_with(parent: int) -> None:
    """End when ``parent`` does, even in the middle of a method."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
