"""What the next round takes, from the seconds of those before it; before any was run, from passes through the network.

An image set costs a source's seconds a pass; a cell its compressor's, and the measurement.  All are wall seconds of one
job, so ``workers`` jobs at once take their share of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.advise.candidates import Compressor, Level, Source
from bench.store.records import ResultRecord

FIRST_GUESS = 2.0
"""Times the seconds that passes alone take: what is not known yet is taken for dearer than it looks."""


@dataclass(frozen=True)
class Candidate:
    """A source and a compressor at some bits."""

    source: str
    compressor: str
    bits: str

    @property
    def words(self) -> str:
        return f"{self.source} with {self.compressor} at {self.bits}"


@dataclass
class Costs:
    """Seconds as they become known, wall or ``cpu`` ones; ``overhead`` is what a call of the engine takes beside its
    jobs."""

    workers: int
    cpu: bool = False
    overhead: float = 0.0
    measure: float = 0.0
    sizes: dict[str, float] = field(default_factory=dict)
    _pass: float = 0.0
    _images: dict[str, tuple[float, float]] = field(default_factory=dict)  # source → (level's passes, seconds)
    _compress: dict[str, tuple[float, float]] = field(default_factory=dict)

    def of(self, record: ResultRecord, stage: str) -> float:
        """Seconds of a record's stage; none where it had no such."""
        cost = record.costs.get(stage)
        return 0.0 if cost is None else cost.cpu_seconds if self.cpu else cost.seconds

    def calibrate(self, records: Iterable[ResultRecord]) -> None:
        """From the first cells: seconds of a measurement, and of one pass (through the quantised network: more than
        through the plain one)."""
        for record in records:
            if record.status == "ok" and record.test_count:
                self.measure = max(self.measure, self.of(record, "measure"))
                self._pass = max(self._pass, self.of(record, "measure") / record.test_count)

    def learn(self, records: Iterable[ResultRecord], sources: dict[str, float], compressors: dict[str, float]) -> None:
        """From a round's records; the arguments map names to the passes of the round's level."""
        for record in records:
            if record.status != "ok":
                continue
            size = record.metrics.get("size_bytes")
            if size is not None:
                self.sizes[record.setting_label] = float(size)
            for known, name, stage, passes in (
                (self._images, record.source_method, "synthesis", sources),
                (self._compress, record.compressor_method, "compress", compressors),
            ):
                if name in passes and stage in record.costs:
                    seconds = self.of(record, stage)
                    before = known.get(name, (0.0, 0.0))
                    same = before[0] == passes[name]
                    known[name] = (passes[name], max(seconds, before[1]) if same else seconds)
            self.measure = max(self.measure, self.of(record, "measure"))

    def images(self, source: Source, level: Level) -> float:
        """Seconds of one image set."""
        return self._seconds(self._images.get(source.name), source.passes(level))

    def cell(self, compressor: Compressor, level: Level) -> float:
        """Seconds of one compression and its measurement."""
        return self._seconds(self._compress.get(compressor.name), compressor.passes(level)) + self.measure

    def chunk(self, sets: float, cells: Iterable[float]) -> float:
        """Seconds of the engine's call that makes image sets of ``sets`` seconds, one after the other, and then the
        ``cells``: as many at once as there are workers."""
        each = list(cells)
        return self.overhead + sets + max([sum(each) / self.workers, *each[:1]])

    def _seconds(self, known: tuple[float, float] | None, passes: float) -> float:
        if known is None:
            return FIRST_GUESS * passes * self._pass
        return known[1] * max(1.0, passes / known[0])
