"""Live progress: jobs done of total, time left, what each worker does; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.run.observers import Observer, RunStart
from bench.run.tasks import Progress as ProgressEvent
from bench.run.tasks import Silent
from bench.spec.graph import Job, counts
from bench.spec.jobs import origin_of, title_of
from bench.store.records import ResultRecord

PLAIN_EVERY = 15.0  # seconds between two lines when no terminal is there


Like = tuple[str, ...]
"""What a job is like, from the widest word to the narrowest; jobs that share more words take more nearly as long."""


class Eta:
    """Seconds left, from the mean durations of the jobs most alike and the workers; None before the first job ends."""

    def __init__(self, jobs: Iterable[Like], workers: int) -> None:
        self._left = Counter(jobs)
        self._spent: dict[Like, float] = defaultdict(float)
        self._ended: Counter[Like] = Counter()
        self._workers = max(workers, 1)

    def ended(self, like: Like, seconds: float) -> None:
        """A job like this ended after so many seconds."""
        self.dropped(like)
        for words in _wider(like):
            self._spent[words] += seconds
            self._ended[words] += 1

    def dropped(self, like: Like) -> None:
        """A job like this will not run, or failed in no time that tells anything."""
        self._left[like] = max(0, self._left[like] - 1)

    def seconds(self) -> float | None:
        """What is left, each job at the mean of those that share the most words with it."""
        if not self._ended:
            return None
        total = 0.0
        for like, left in self._left.items():
            known = next(words for words in _wider(like) if self._ended[words])
            total += left * self._spent[known] / self._ended[known]
        return total / self._workers


def _wider(like: Like) -> Iterator[Like]:
    """``like`` and its beginnings, the longest first; the empty one is every job."""
    return (like[:count] for count in range(len(like), -1, -1))


class Work:
    """The jobs of a run: how many are done, and how long the rest will take."""

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self._queue = {job.key: job for job in jobs}
        self.others = counts(job for job in jobs if not job.cells)
        self.cells = sum(len(job.cells) for job in jobs)
        self.total = len(jobs)
        self._eta = Eta((job.like for job in jobs), workers)

    @property
    def done(self) -> int:
        """Jobs that ended, and those that will never run because what they need cannot be made."""
        return self.total - len(self._queue)

    def ended(self, job: Job, seconds: float) -> None:
        """A job ended after so many seconds; 0 for one that failed."""
        if self._queue.pop(job.key, None) is None:
            return
        if seconds > 0:
            self._eta.ended(job.like, seconds)
        else:
            self._eta.dropped(job.like)

    def recorded(self, record: ResultRecord) -> None:
        """A record came: of a cell that ran, or of one that waited in vain, as do the jobs that only it needed."""
        gone = self._queue.get(record.job_id)
        if gone is None:
            return
        useless: list[Job] = [gone]
        while useless:  # a search that nobody waits for leaves its batches to nobody
            for job in useless:
                self.ended(job, 0.0)
            wanted = {key for job in self._queue.values() for key in job.needs}
            useless = [job for job in self._queue.values() if not job.cells and job.key not in wanted]

    def seconds_left(self) -> float | None:
        """At the mean durations so far; None before the first job ended."""
        return self._eta.seconds()


def named(kind: str, count: int) -> str:
    """A kind of job for so many: ``image batches``, ``policy search``."""
    return kind if count == 1 else f"{kind}es"


def clock(seconds: float | None) -> str:
    """``m:ss`` or ``h:mm:ss``; ``-:--`` for None."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class ProgressObserver(Observer):
    """One bar for the run, one line per worker."""

    def __init__(self, console: Console, workers: int) -> None:
        self._console, self._workers = console, workers
        self._live: Progress | None = None
        self._total: TaskID | None = None
        self._lines: dict[str, TaskID] = {}
        self._flagged: set[str] = set()
        self._work = Work((), workers)
        self._last = 0.0

    def run_started(self, start: RunStart) -> None:
        work = self._work = Work(start.jobs, self._workers)
        standing = f", {len(start.done)} cells stand already" if start.done else ""
        parts = [f"{work.cells} cells", *(f"{n} {named(kind, n)}" for kind, n in work.others.items())]
        self._console.print(f"{' and '.join(parts)} to do{standing}")
        if self._console.is_terminal and work.total:
            self._live = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=self._console,
                transient=True,
            )
            self._total = self._live.add_task("jobs", total=work.total, note="")
            self._live.start()

    def job_started(self, job: Job, worker: int) -> None:
        if self._live is not None:
            self._lines[job.key] = self._live.add_task(job.title, total=None, note="")

    def progress(self, event: ProgressEvent) -> None:
        line = self._lines.get(event.job.key)
        if self._live is not None and line is not None:
            self._live.update(line, completed=event.step, total=event.total, note=event.stage)
        elif self._live is None and time.monotonic() - self._last > PLAIN_EVERY:
            self._last = time.monotonic()
            where = f"{event.job.title}: {event.stage} {event.step}/{event.total}"
            left = clock(self._work.seconds_left())
            self._console.print(f"[{self._work.done}/{self._work.total}] {where}, left {left}", markup=False)

    def job_done(self, job: Job, seconds: float) -> None:
        self._work.ended(job, seconds)
        self._show_total()
        line = self._lines.pop(job.key, None)
        if self._live is not None and line is not None:
            self._live.remove_task(line)

    def _show_total(self) -> None:
        if self._live is not None and self._total is not None:
            left = clock(self._work.seconds_left())
            self._live.update(self._total, completed=self._work.done, note=f"left {left}")

    def record(self, record: ResultRecord) -> None:
        self._work.recorded(record)
        self._show_total()
        self._flag(record)
        if record.status == "ok" and self._live is not None:
            return
        top1 = record.metrics.get("top1")
        shown = f"{top1:.2f}" if top1 is not None else record.status
        text = f"{title_of(record)}: {shown}"
        if record.reason:
            text += f" ({record.reason.splitlines()[0]})"
        self._say(text)

    def _flag(self, record: ResultRecord) -> None:
        """Say once of each image set that it failed."""
        gate, synth = record.image_gate, record.synth_id
        if gate is None or not gate.flagged or synth is None or synth in self._flagged:
            return
        self._flagged.add(synth)
        top1 = "no labels" if gate.top1 is None else f"own top-1 {gate.top1:.1f} %"
        share = "no BN statistics" if gate.bn_share is None else f"own BN loss {gate.bn_share:.2f} of that of noise"
        which = f"{origin_of(record.source, record.model)} seed {record.seed}"
        self._say(f"{which}: the images do not invert their network ({top1}, {share})")

    def silent(self, event: Silent) -> None:
        """A job of which nothing is heard; what ends it is the user's to decide."""
        what = "no progress" if event.alive else "its worker is stopped or hung: no sign of it"
        ends = "`--job-timeout SECONDS` would end it"
        self._say(f"{event.job.title}: {what} for {clock(event.seconds)} (worker {event.worker + 1}); {ends}")

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _say(self, text: str) -> None:
        (self._live.console if self._live else self._console).print(text, markup=False, highlight=False)
