"""The engine's side of a method that runs apart: starts its process, answers its reads, takes what it made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import bench
from bench import runtime
from bench.data.access import DataAccess, note_denied
from bench.data.places import files_of
from bench.errors import BenchError, NotApplicable
from bench.interfaces import BitPolicy, ImageBatch, ImageSet, Searched
from bench.run.apart.exam import QUESTIONS, Exam
from bench.run.apart.handle import READS, Desk
from bench.run.apart.wire import Message, receive, send
from bench.run.fp import FpResult
from bench.run.made import MadeBatch, SearchedPolicy
from bench.run.tasks import Settings
from bench.spec.graph import BatchJob, CompressionJob, Job, PolicyJob
from bench.spec.jobs import SynthJob
from bench.spec.registry import code_folders
from bench.store.records import ResultRecord

if TYPE_CHECKING:
    from bench.run.worker import Bench, Report

_COMMAND = "from bench.run.apart.child import main; main({})"
_GONE = "the process of the foreign method died"
_BAD_ANSWER = "the process of a foreign method answers what was not asked"


@dataclass(frozen=True)
class Order:
    """What the process is to do.

    ``hidden`` are files it may not read, ``guarded`` those it may not change; ``fp`` is the target's own accuracy;
    ``parent`` the process without which it ends.
    """

    job: Job
    settings: Settings
    hidden: tuple[Path, ...]
    guarded: tuple[Path, ...]
    parent: int
    fp: FpResult | None = None


def synthesised(bench: Bench, job: SynthJob, index: int, access: DataAccess, report: Report) -> MadeBatch:
    """As :func:`bench.run.batch.synthesise`, in a process of its own.

    Raises:
        NotApplicable: the source cannot use these networks.
        BenchError: whatever the source complains of; its process died.
    """
    found = _asked(_order(bench, BatchJob(job, index), job.dataset_name), access, report)
    with _trusting_nothing():
        body, tensors = found.body, found.tensors
        batch = ImageBatch(
            tensors["images"],
            tensors.get("labels"),
            tensors.get("soft_labels"),
            float(body["forward_equivalents"]),
            dict(body["info"]),
        )
        return MadeBatch(batch, dict(body["curves"]), runtime.Spent(**body["spent"]))


def searched(bench: Bench, job: PolicyJob, images: ImageSet, access: DataAccess, report: Report) -> SearchedPolicy:
    """As :func:`bench.run.search.find_policy`, in a process of its own.

    Raises:
        NotApplicable: the search cannot take this network.
        BenchError: whatever the search complains of; its process died.
    """
    tensors = {"images": images.images, "labels": images.labels, "soft_labels": images.soft_labels}
    given = Message(
        "images",
        {"label_kind": images.label_kind, "digest": images.digest, "synth_id": images.synth_id, "info": images.info},
        {name: value for name, value in tensors.items() if value is not None},
    )
    found = _asked(_order(bench, job, job.images.dataset_name), access, report, given)
    with _trusting_nothing():
        body = found.body
        searched = Searched(
            BitPolicy.from_json(body["policy"]), dict(body["report"]), float(body["forward_equivalents"])
        )
        return SearchedPolicy(searched, dict(body["curves"]), runtime.Spent(**body["spent"]))


@dataclass(frozen=True)
class Answered:
    """Records without verdicts, and by cell what its network said of each test image."""

    records: Sequence[ResultRecord]
    said: Mapping[str, Tensor]

    def answers(self, cell_id: str) -> Tensor:
        """The classes int64 [N] of the cell's network; none where it gave none, or no whole numbers."""
        found = self.said.get(cell_id)
        return found if found is not None and found.dtype == torch.int64 else torch.empty(0, dtype=torch.int64)


def compressed(bench: Bench, job: CompressionJob, fp: FpResult, access: DataAccess, report: Report) -> Answered:
    """The job's cells, compressed and run on the test images in a process of their own.

    Raises:
        NotApplicable: a method cannot take this network.
        BenchError: its process died.
    """
    exam = Exam(partial(bench.test_batches, job.first.dataset, job.first.test_subset))
    found = _asked(_order(bench, job, job.first.dataset, fp), access, report, exam=exam)
    with _trusting_nothing():
        return Answered([ResultRecord.model_validate(record) for record in found.body["records"]], found.tensors)


def _order(
    engine: Bench, job: BatchJob | PolicyJob | CompressionJob, dataset: str, fp: FpResult | None = None
) -> Order:
    settings = engine.settings
    names = dict.fromkeys(name for name in (dataset, settings.unrelated) if name)
    hidden = tuple(path for name in names for path in files_of(name, engine.data_root()))
    if (domain := job.images.source.domain) is not None:
        hidden += files_of(domain, engine.data_root(dataset, domain))
    guarded = (Path(bench.__file__).parent, *code_folders(), Path(settings.store), *hidden)
    return Order(job, settings, hidden, guarded, os.getpid(), fp)


def _asked(
    order: Order, access: DataAccess, report: Report, given: Message | None = None, exam: Exam | None = None
) -> Message:
    """What the process answers when it is done; its reads are answered meanwhile, until the first test image."""
    desk = Desk(access)
    with _process(order.settings.threads) as (process, pipe):
        try:
            pipe.send(order)
            if given is not None:
                send(pipe, given)
            while True:
                message = receive(pipe)
                if message.kind == "done":
                    return message
                with _trusting_nothing():
                    _answer(message, pipe, Answerer(desk, exam), access, report)
        except (EOFError, ConnectionError) as error:
            raise BenchError(_died(process)) from error


@dataclass(frozen=True)
class Answerer:
    """Who answers a process: its desk for what methods may read, its exam (a compression's alone) for test images."""

    desk: Desk
    exam: Exam | None

    def answer(self, question: Message) -> Message:
        """The answer.

        Raises:
            KeyError: nobody has one: test images are for networks that are done, and those read nothing more.
        """
        if self.exam is not None and question.kind in QUESTIONS:
            return self.exam.answer(question)
        if question.kind in READS and not (self.exam and self.exam.begun):
            return self.desk.answer(question)
        raise KeyError(question.kind)


def _answer(message: Message, pipe: Connection, answerer: Answerer, access: DataAccess, report: Report) -> None:
    body = message.body
    if message.kind == "progress":
        report(str(body["stage"]), int(body["step"]), int(body["total"]))
    elif message.kind == "denied":
        note_denied(access, str(body["path"]))
    elif message.kind == "failed":
        raise _failure(body)
    else:
        send(pipe, answerer.answer(message))


def _failure(body: Any) -> BenchError:
    """What went wrong there, with its trace."""
    error = (BenchError if body["applicable"] else NotApplicable)(str(body["reason"]))
    if body["traceback"]:
        error.add_note(str(body["traceback"]))
    return error


@contextmanager
def _trusting_nothing() -> Iterator[None]:
    """Whatever is missing or of a wrong type in an answer is one error.

    Raises:
        BenchError: such an answer.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise BenchError(_BAD_ANSWER, got=f"{type(error).__name__}: {error}") from error


@contextmanager
def _process(threads: int) -> Iterator[tuple[subprocess.Popen[bytes], Connection]]:
    """A fresh interpreter with a pipe to it, in a session of its own: Ctrl-C is for its parent to decide on.  At the
    end it is killed, with whatever it started."""
    # Not forked from a template with the imports done: a method could reach that one (its socket, its memory under
    # /proc) and so the jobs after its own, a fork could leave this session, and threads and CUDA do not survive one.
    ours, theirs = Pipe()
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND.format(theirs.fileno())],
        env={**os.environ, **runtime.thread_variables(threads), "PYTHONPATH": paths},
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    theirs.close()
    try:
        yield process, ours
    finally:
        ours.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _died(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(5)
    except subprocess.TimeoutExpired:
        return f"{_GONE} (it closed its pipe)"
    return f"{_GONE} (killed by signal {-code})" if code < 0 else f"{_GONE} (exit code {code})"
