"""Which jobs can start: it knows unmet needs and nothing else of them."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from bench.spec.graph import Job


class Queue:
    """The open jobs of a graph.

    Args:
        jobs: the graph, each job after those it needs.
        stored: keys of jobs whose results are there already.
    """

    def __init__(self, jobs: Sequence[Job], stored: Iterable[str] = ()) -> None:
        there = frozenset(stored)
        self.open: tuple[Job, ...] = tuple(job for job in jobs if job.key not in there)
        self._unmet = {job.key: set(job.needs) - there for job in self.open}
        self._dependents: dict[str, list[Job]] = defaultdict(list)
        for job in self.open:
            for key in self._unmet[job.key]:
                self._dependents[key].append(job)
        self._left = {job.key: job for job in self.open}
        self._running: set[str] = set()
        self._ready: deque[Job] = deque()
        self._later: deque[Job] = deque()
        for job in self.open:
            self._offer(job)

    @property
    def left(self) -> bool:
        """Whether any job waits or runs."""
        return bool(self._left or self._running)

    def take(self) -> Job | None:
        """The next job that can start; None when there is none now.

        Jobs that make records go first: these are what the user waits for, and the others fill the gaps between them.
        """
        for waiting in (self._ready, self._later):
            while waiting:
                job = waiting.popleft()
                if job.key in self._left:
                    self._running.add(job.key)
                    return job
        return None

    def done(self, job: Job) -> None:
        """The job's result is there."""
        self._running.discard(job.key)
        self._left.pop(job.key, None)
        for other in self._dependents.pop(job.key, []):
            self._unmet[other.key].discard(job.key)
            self._offer(other)

    def failed(self, job: Job) -> list[Job]:
        """The job's result will never be there; returns it and all that need it, directly or not, still open.

        Other jobs that only these needed are dropped, too: nobody would look at what they make.
        """
        self._running.discard(job.key)
        lost, frontier = [], [job]
        while frontier:
            one = frontier.pop(0)
            if self._left.pop(one.key, None) is not None:
                lost.append(one)
                frontier += self._dependents.pop(one.key, [])
        wanted = {key for left in self._left.values() for key in left.needs}
        for key in [key for key, left in self._left.items() if not left.cells and key not in wanted]:
            del self._left[key]
        return lost

    def _offer(self, job: Job) -> None:
        if not self._unmet[job.key] and job.key in self._left:
            (self._ready if job.cells else self._later).append(job)
