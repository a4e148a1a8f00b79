"""Seconds that jobs of a plan will take, from those of jobs that were done.  No torch.

A job's work is its parameters' effort times the network's multiply-accumulates.  Its seconds are those of the most
alike job that was done, times the quotient of their work; and times the quotient of the two machines' speed at steps of
that kind on networks of those sizes, where the other job was done on another machine or on a network of another size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from statistics import median
from typing import Literal

from bench.cost.calibration import Calibration
from bench.cost.effort import Step, effort, step_of
from bench.cost.evidence import BATCH, COMPRESSION, MEASURES, SEARCH, TESTING, Spent, compression_work, search_work
from bench.spec.graph import BatchJob, CompressionJob, Job, MeasureJob, PolicyJob

Basis = Literal["own", "calibrated", "elsewhere"]
"""Where seconds come from: records of this machine; others, scaled to the machine asked about; others as they are,
since nobody knows that machine's speed."""

ALIKE = 1.5
"""Networks whose multiply-accumulates differ by less run at one speed."""


@dataclass(frozen=True)
class Seconds:
    """What a job will take, and what that rests on; ``same_method`` is False where only other methods' jobs of its kind
    were done."""

    seconds: float
    basis: Basis
    same_method: bool = True


@dataclass
class KindTotal:
    """All jobs of one kind: CPU seconds on a CPU, wall seconds on CUDA; ``unknown`` jobs are not among them."""

    jobs: int = 0
    unknown: int = 0
    rough: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    bases: set[Basis] = field(default_factory=set)

    def add(self, found: Seconds | None) -> None:
        """Count one job."""
        self.jobs += 1
        if found is None:
            self.unknown += 1
            return
        self.rough += not found.same_method
        self.seconds += found.seconds
        self.longest = max(self.longest, found.seconds)
        self.bases.add(found.basis)


@dataclass(frozen=True)
class Facts:
    """What of a plan's world a forecast needs: a network's multiply-accumulates by its full name (None: not known), and
    how many test images a cell is measured on."""

    macs: Callable[[str], float | None]
    tested: int


@dataclass(frozen=True)
class Forecast:
    """Forecasts for one device.

    ``own`` is what was done on it, ``others`` what was done on the machine of ``reference``; ``speed`` is this device's
    calibration.
    """

    device: str
    own: Sequence[Spent]
    others: Sequence[Spent]
    reference: Calibration | None
    speed: Calibration | None
    facts: Facts

    def totals(self, jobs: Iterable[Job]) -> dict[str, KindTotal]:
        """Kind of job → what all of them take, in the order of the jobs."""
        found: dict[str, KindTotal] = {}
        for job in jobs:
            found.setdefault(job.kind, KindTotal()).add(self.of(job))
        return found

    def of(self, job: Job) -> Seconds | None:
        """What one job takes; None where nothing alike was done."""
        parts = [self.part(one) if one else None for one in self.asked(job)]
        known = [part for part in parts if part is not None]
        if not known or len(known) < len(parts):
            return None
        worst = max((part.basis for part in known), key=("own", "calibrated", "elsewhere").index)
        return Seconds(sum(part.seconds for part in known), worst, all(part.same_method for part in known))

    def asked(self, job: Job) -> list[Spent | None]:
        """A job as the pieces of work that were measured, without their seconds; None for one on a network of which
        nothing is known."""
        if isinstance(job, BatchJob):
            return [self._batch(job)]
        if isinstance(job, PolicyJob):
            search = job.search
            params, method = search.search.params_json, search.search.method
            work = search_work(params, search.count)
            return [self._spent(SEARCH, step_of(params), method, search.target_name, work)]
        assert isinstance(job, MeasureJob)
        first = job.first
        if not isinstance(job, CompressionJob):
            return [self._spent(MEASURES, "forward", "", first.target_name, float(first.n))]
        params, method = job.compressor.params_json, job.compressor.method
        work = compression_work(params, first.n)
        tested = float(self.facts.tested * len(job.cells))
        return [
            self._spent(COMPRESSION, step_of(params), first.compressor_method or method, first.target_name, work),
            self._spent(TESTING, "forward", first.compressor_method or method, first.target_name, tested),
        ]

    def _batch(self, job: BatchJob) -> Spent | None:
        source = job.images.source
        each = [self.facts.macs(name) for name in job.images.models]
        known = [one for one in each if one]
        if len(known) < len(each):
            return None
        macs = sum(known) / len(known) if known else float(prod(job.images.dataset.shape)) / _PIXELS
        work = effort(source.params_json, source.batch_size) or float(source.batch_size)
        return Spent(BATCH, "synthesis", source.method, job.images.model, macs, work, 0.0)

    def _spent(self, kind: str, step: Step, method: str, network: str, work: float) -> Spent | None:
        macs = self.facts.macs(network)
        bare = network.rpartition("/")[2] if "/" in network else network
        return Spent(kind, step, method, bare, macs, work, 0.0) if macs else None

    def part(self, asked: Spent) -> Seconds | None:
        """What one piece of work takes; None where nothing alike was done."""
        found = None
        for rows, own in ((self.own, True), (self.others, False)):
            found = _nearest(asked, rows)
            if found is None:
                continue
            same = found[0].method == asked.method
            if not same and own and any(row.method == asked.method and row.kind == asked.kind for row in self.others):
                continue  # another machine's word of this method says more than this machine's of another
            passes = _passes(asked, rows) if same else None
            scaled = [self._scaled(asked, row, own, passes) for row in found]
            bases = {basis for _, basis in scaled}
            basis: Basis = "own" if bases == {"own"} else "calibrated" if "elsewhere" not in bases else "elsewhere"
            return Seconds(median(seconds for seconds, _ in scaled), basis, same)
        return None

    def _scaled(self, asked: Spent, row: Spent, own: bool, passes: float | None) -> tuple[float, Basis]:
        """Seconds of ``asked``, of so many ``passes`` where that is known, by those of ``row``."""
        times = passes / row.passes if passes and row.passes else asked.effort / row.effort
        seconds = row.seconds * times * asked.macs / row.macs
        basis: Basis = "own" if own else "elsewhere" if self.speed is None else "calibrated"
        if not row.network:  # no network computed: multiply-accumulates say little of what it took
            return seconds, basis
        if own and (self.speed is None or 1 / ALIKE < asked.macs / row.macs < ALIKE):
            return seconds, basis
        before, speed = self.speed if own else self.reference, self.speed or self.reference
        now = speed.per_mac(asked.step, asked.macs) if speed else None
        then = before.per_mac(row.step, row.macs) if before else None
        if now is None or then is None:
            return seconds, "own" if own else "elsewhere"
        return seconds * now / then, basis


_PIXELS = 1024.0
"""Numbers of an image that count as one multiply-accumulate where no network computes: those of 32×32 grey ones."""


def _passes(asked: Spent, rows: Sequence[Spent]) -> float | None:
    """Forward-equivalents of a policy search by those of others of its method: a constant, which trials and starting
    values take whatever the images, and a share of the effort.

    How many images one looked at is known of it no better than that there were no more than its record has, so of
    several rows of one effort the one of the most passes is right.
    """
    known = [row for row in rows if row.kind == asked.kind and row.method == asked.method and row.passes]
    if asked.kind != SEARCH or not known:
        return None
    most = {row.effort: max(one.passes for one in known if one.effort == row.effort) for row in known}
    first, last = min(most), max(most)
    slope = (most[last] - most[first]) / (last - first) if last > first else 0.0
    start = most[first] - slope * first
    if slope > 0 and start >= 0:
        return start + slope * asked.effort
    return asked.effort * max(passes / effort for effort, passes in most.items())


def _nearest(asked: Spent, rows: Sequence[Spent]) -> list[Spent] | None:
    """The rows of the same kind most like what is asked: of its method, on its network, of its effort; else of its
    method; else of other methods that do such steps, where both have an effort of their own."""
    kind = [row for row in rows if row.kind == asked.kind and row.work > 0 and row.seconds > 0]
    same = [row for row in kind if row.method == asked.method]
    if not same:
        if asked.kind == TESTING:
            return _closest(asked, kind) if kind else None
        alike = [row for row in kind if row.step == asked.step and bool(row.network) == bool(asked.network)]
        return alike if asked.step != "forward" and alike else None
    here = [row for row in same if row.network == asked.network]
    alike = [row for row in here or same if _close(row.effort, asked.effort)]
    return _closest(asked, alike or here or same)


def _closest(asked: Spent, rows: Sequence[Spent]) -> list[Spent]:
    """Of rows of several efforts those nearest to the one asked."""
    least = min(_apart(row, asked) for row in rows)
    return [row for row in rows if _apart(row, asked) <= least * 1.01]


def _apart(row: Spent, asked: Spent) -> float:
    return max(row.effort / asked.effort, asked.effort / row.effort)


def _close(first: float, second: float) -> bool:
    return abs(first - second) <= 0.01 * max(first, second)


def wall_seconds(totals: Mapping[str, KindTotal], workers: int) -> float:
    """Seconds until all jobs are done, ``workers`` at a time: their sum over the workers, and no less than the longest
    job."""
    longest = max((total.longest for total in totals.values()), default=0.0)
    return max(sum(total.seconds for total in totals.values()) / max(1, workers), longest)
