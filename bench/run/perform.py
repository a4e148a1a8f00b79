"""What each kind of job does; what a worker runs."""

from __future__ import annotations

from functools import singledispatch

from bench.run.batch import make_batch
from bench.run.compression import run_compression
from bench.run.measures import run_measures
from bench.run.search import run_search
from bench.run.worker import Bench, Report
from bench.spec.graph import BatchJob, CompressionJob, Job, MeasureJob, PolicyJob
from bench.store.records import ResultRecord


@singledispatch
def perform(job: Job, bench: Bench, report: Report) -> tuple[ResultRecord, ...]:
    """Do the job; returns the records of its cells, none for a job that makes what others need.

    Raises:
        NotApplicable: a method cannot take these networks.
        BenchError: whatever a method or the store complains of.
    """
    raise TypeError(f"no job: {type(job).__name__}")


@perform.register
def _(job: BatchJob, bench: Bench, report: Report) -> tuple[ResultRecord, ...]:
    make_batch(bench, job.images, job.index, report)
    return ()


@perform.register
def _(job: PolicyJob, bench: Bench, report: Report) -> tuple[ResultRecord, ...]:
    run_search(bench, job, report)
    return ()


@perform.register
def _(job: CompressionJob, bench: Bench, report: Report) -> tuple[ResultRecord, ...]:
    return run_compression(bench, job, report)


@perform.register
def _(job: MeasureJob, bench: Bench, report: Report) -> tuple[ResultRecord, ...]:
    return run_measures(bench, job, report)
