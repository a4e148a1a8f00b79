"""The graph of jobs: what is done, one job each, and which job needs which other done before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from bench.interfaces import Setting
from bench.spec.jobs import CellJob, SearchJob, SynthJob
from bench.spec.resolved import ResolvedCompressor

if TYPE_CHECKING:
    from bench.spec.plan import Plan


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
    """One batch of an image set; a filter's needs the batch that it changes."""

    images: SynthJob
    index: int

    kind: ClassVar[str] = "image batch"
    cells: ClassVar[tuple[CellJob, ...]] = ()

    @property
    def key(self) -> str:
        return batch_key(self.images, self.index)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({batch_key(self.images.of, self.index)} if self.images.of else ())

    @property
    def title(self) -> str:
        return f"{self.images.title} batch {self.index + 1}/{self.images.batches}"

    @property
    def like(self) -> tuple[str, ...]:
        return (self.kind, self.images.source.label, self.images.model)


@dataclass(frozen=True)
class PolicyJob:
    """One policy search, on images that are stored."""

    search: SearchJob

    kind: ClassVar[str] = "policy search"
    cells: ClassVar[tuple[CellJob, ...]] = ()

    @property
    def images(self) -> SynthJob:
        """The set it looks at."""
        return self.search.images

    @property
    def key(self) -> str:
        return self.search.policy_id

    @property
    def needs(self) -> frozenset[str]:
        return batch_keys(self.images, self.search.count)

    @property
    def title(self) -> str:
        return f"{self.search.search.label} for {self.search.target_name} on {self.images.title}"

    @property
    def like(self) -> tuple[str, ...]:
        return (self.kind, self.search.search.label, self.search.target_name)


@dataclass(frozen=True)
class MeasureJob:
    """The measures of one image set under one network: a single cell."""

    images: SynthJob
    cells: tuple[CellJob, ...]
    suite: str
    suite_version: int

    kind: ClassVar[str] = "image measures"

    @property
    def first(self) -> CellJob:
        """A cell to read from what all of them share."""
        return self.cells[0]

    @property
    def key(self) -> str:
        return self.first.job_id

    @property
    def needs(self) -> frozenset[str]:
        return batch_keys(self.images, self.first.n)

    @property
    def title(self) -> str:
        more = f" and {len(self.cells) - 1} more" if len(self.cells) > 1 else ""
        return f"{self.first.title}{more}"

    @property
    def like(self) -> tuple[str, ...]:
        return (self.kind, self.first.target)


@dataclass(frozen=True)
class CompressionJob(MeasureJob):
    """One compression and the measurement of every network it delivers: several cells where one training yields several
    networks.  ``search`` finds the bits where the cells have a policy."""

    compressor: ResolvedCompressor
    asked: Setting
    search: SearchJob | None

    kind: ClassVar[str] = "compression"

    @property
    def own(self) -> bool:
        """Whether all code that it runs is the product's own: the compressor's, and what it uses of the source's."""
        source = self.images.source
        used = source.delivery == "stream" or source.hook
        return self.compressor.own and (source.own or not used)

    @property
    def needs(self) -> frozenset[str]:
        policy = {self.search.policy_id} if self.search else set()
        return super().needs | policy

    @property
    def like(self) -> tuple[str, ...]:
        first = self.first
        streamed = f"{first.source}[{first.model}]" if first.delivery == "stream" else ""
        return (self.kind, first.compressor, streamed, first.target)


def batch_key(images: SynthJob, index: int) -> str:
    """Key of the job that makes a batch."""
    return f"{images.synth_id}/{index}"


def batch_keys(images: SynthJob, count: int) -> frozenset[str]:
    """Keys of the batches that hold the first ``count`` images; none when the source streams them."""
    return frozenset(batch_key(images, index) for index in range(images.batches_of(count)))


def make_graph(plan: Plan, cells: Sequence[CellJob]) -> tuple[Job, ...]:
    """The jobs that make ``cells``: batches, then searches, then jobs with cells, each kind in the plan's order.

    Cells of one ``job_id`` become one job.
    """
    together: dict[str, list[CellJob]] = {}
    for cell in cells:
        together.setdefault(cell.job_id, []).append(cell)
    searches = {search.policy_id: search for search in plan.searches}
    batches: dict[str, BatchJob] = {}
    found: dict[str, PolicyJob] = {}
    last: list[MeasureJob] = []
    for group in together.values():
        first, images = group[0], plan.synth(group[0].synth_id)
        shared = (images, tuple(group), plan.suite.suite, plan.suite.version)
        search = searches[first.policy_id] if first.policy_id is not None else None
        if first.compressor_resolved is None or first.asked is None:
            last.append(MeasureJob(*shared))
        else:
            last.append(CompressionJob(*shared, first.compressor_resolved, first.asked, search))
        if search is not None:
            found.setdefault(search.policy_id, PolicyJob(search))
        looked_at = [(search.images, search.count)] if search is not None else []
        for last_of, count in (*looked_at, (images, first.n)):
            for own in last_of.chain:
                for index in range(own.batches_of(count)):
                    batches.setdefault(batch_key(own, index), BatchJob(own, index))
    return (*batches.values(), *found.values(), *last)


def counts(jobs: Iterable[Job]) -> dict[str, int]:
    """Kind of job → how many."""
    return dict(Counter(job.kind for job in jobs))
