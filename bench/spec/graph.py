"""The graph of jobs: what is done, one job each, and which job needs which other done before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.spec.jobs import CellJob, SearchJob, SynthJob


class Job(Protocol):
    """What a worker does in one go.

    ``key`` is unique in a plan; ``needs`` holds the keys of the jobs whose results it reads.  ``kind`` is the word for
    it, ``like`` what jobs of similar length share, from the widest word to the narrowest.
    """

    @property
    def kind(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def needs(self) -> frozenset[str]: ...

    @property
    def title(self) -> str: ...

    @property
    def like(self) -> tuple[str, ...]: ...

    @property
    def cells(self) -> tuple[CellJob, ...]:
        """The cells whose records it makes; none for a job that makes what others need."""


@dataclass(frozen=True)
class BatchJob:
    """One batch of an image set."""

    images: SynthJob
    index: int

    kind = "image batch"
    needs: frozenset[str] = frozenset()
    cells: tuple[CellJob, ...] = ()

    @property
    def key(self) -> str:
        return batch_key(self.images, self.index)

    @property
    def title(self) -> str:
        return f"{self.images.title} batch {self.index + 1}/{self.images.batches}"

    @property
    def like(self) -> tuple[str, ...]:
        return (self.kind, self.images.source.label, self.images.model)


@dataclass(frozen=True)
class PolicyJob:
    """One policy search, on images that are stored."""

    images: SynthJob
    search: SearchJob

    kind = "policy search"
    cells: tuple[CellJob, ...] = ()

    @property
    def key(self) -> str:
        return self.search.policy_id

    @property
    def needs(self) -> frozenset[str]:
        return batches_for(self.images, self.search.count)

    @property
    def title(self) -> str:
        return f"{self.search.search.label} for {self.search.target_name} on {self.images.title}"

    @property
    def like(self) -> tuple[str, ...]:
        return (self.kind, self.search.search.label, self.search.target_name)


@dataclass(frozen=True)
class CompressionJob:
    """One compression (or one set of image measures) and the measurement of every network it delivers: several cells
    where one training yields several networks.  ``search`` finds the bits where the cells have a policy."""

    images: SynthJob
    cells: tuple[CellJob, ...]
    suite: str
    suite_version: int
    search: SearchJob | None = None

    kind = "compression"

    @property
    def key(self) -> str:
        return self.first.job_id

    @property
    def first(self) -> CellJob:
        """A cell to read from what all of them share: compressor, target, what is asked."""
        return self.cells[0]

    @property
    def needs(self) -> frozenset[str]:
        policy = {self.first.policy_id} if self.first.policy_id else set()
        return batches_for(self.images, self.first.n) | policy

    @property
    def title(self) -> str:
        more = f" and {len(self.cells) - 1} more" if len(self.cells) > 1 else ""
        return f"{self.first.title}{more}"

    @property
    def like(self) -> tuple[str, ...]:
        first = self.first
        streamed = f"{first.source}[{first.model}]" if first.delivery == "stream" else ""
        return (self.kind, first.compressor, streamed, first.target)


def batch_key(images: SynthJob, index: int) -> str:
    """Key of the job that makes a batch."""
    return f"{images.synth_id}/{index}"


def batches_for(images: SynthJob, count: int) -> frozenset[str]:
    """Keys of the batches that hold the first ``count`` images; none when the source streams them."""
    return frozenset(batch_key(images, index) for index in range(batches_needed(images, count)))


def batches_needed(images: SynthJob, count: int) -> int:
    """How many batches hold the first ``count`` images."""
    return min(images.batches, -(-count // images.source.batch_size))


class Planned(Protocol):
    """What the graph is made from: a plan."""

    @property
    def suite(self) -> Suite: ...

    @property
    def searches(self) -> tuple[SearchJob, ...]: ...

    def synth(self, synth_id: str) -> SynthJob: ...


class Suite(Protocol):
    """A suite's name and version."""

    @property
    def suite(self) -> str: ...

    @property
    def version(self) -> int: ...


def make_graph(plan: Planned, cells: Sequence[CellJob]) -> tuple[Job, ...]:
    """The jobs that make ``cells``: batches, then searches, then compressions, each kind in the plan's order.

    Cells of one ``job_id`` become one compression.
    """
    together: dict[str, list[CellJob]] = {}
    for cell in cells:
        together.setdefault(cell.job_id, []).append(cell)
    searches = {search.policy_id: search for search in plan.searches}
    batches: dict[str, BatchJob] = {}
    found: dict[str, PolicyJob] = {}
    compressions = []
    for group in together.values():
        images = plan.synth(group[0].synth_id)
        search = searches[group[0].policy_id] if group[0].policy_id is not None else None
        compressions.append(CompressionJob(images, tuple(group), plan.suite.suite, plan.suite.version, search))
        if search is not None:
            found.setdefault(search.policy_id, PolicyJob(images, search))
        for index in range(batches_needed(images, max(cell.n for cell in group))):
            batches.setdefault(batch_key(images, index), BatchJob(images, index))
    return (*batches.values(), *found.values(), *compressions)


def counts(jobs: Sequence[Job]) -> dict[str, int]:
    """Kind of job → how many."""
    return dict(Counter(job.kind for job in jobs))
