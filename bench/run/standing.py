"""Which jobs of a graph need not run, because what they make lies in the store."""

from __future__ import annotations

from collections.abc import Sequence

from bench.spec.graph import BatchJob, Job, PolicyJob
from bench.store.artifacts import ArtifactStore
from bench.store.policies import PolicyStore


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
