"""What need not run, because what it makes lies in the store: cells of a plan, jobs of its graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.spec.graph import BatchJob, Job, PolicyJob
from bench.store.artifacts import ArtifactStore
from bench.store.policies import PolicyStore
from bench.store.records import ResultRecord


class Standing(Mapping[str, ResultRecord]):
    """cell_id → record of the cells that stand; of many a record is opened only when it is asked for.

    Args:
        ways: cell_id → what gives the record, or raises StoreError when it is gone or damaged meanwhile.
    """

    def __init__(self, ways: Mapping[str, Callable[[], ResultRecord]]) -> None:
        self._ways = ways

    def __getitem__(self, cell_id: str) -> ResultRecord:
        return self._ways[cell_id]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._ways)

    def __len__(self) -> int:
        return len(self._ways)


def stored(jobs: Sequence[Job], artifacts: ArtifactStore) -> frozenset[str]:
    """Keys of the jobs whose results are stored; each image set is listed once."""
    batches: dict[str, list[BatchJob]] = {}
    for job in jobs:
        if isinstance(job, BatchJob):
            batches.setdefault(job.images.synth_id, []).append(job)
    found: set[str] = set()
    for synth_id, own in batches.items():
        missing = set(artifacts.missing(synth_id, 1 + max(job.index for job in own)))
        found |= {job.key for job in own if job.index not in missing}
    policies = PolicyStore(artifacts.objects)
    found |= {job.key for job in jobs if isinstance(job, PolicyJob) and policies.has(job.key)}
    return frozenset(found)
