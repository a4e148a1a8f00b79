"""Successive halving by the engine: each round is a suite, run part by part, so that the clock is looked at in between.

Everything measured stands in the store: the same command goes on where it was interrupted, and what stands is read, not
run.  The time that was used before counts; it is noted beside the exam.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from bench.advise.budget import Candidate, Costs
from bench.advise.candidates import LeftOut, Level, Source
from bench.advise.rounds import (
    FIRST_SHARE,
    LEVELS,
    SECOND_SHARE,
    Field,
    better_half,
    by_source_and_bits,
    finals,
    only,
    seconds_of,
)
from bench.atomic import replace_file
from bench.board.stats.picks import HALVES
from bench.reading import read_json
from bench.run.progress import clock
from bench.run.session import Options, plan_of, read_records, run
from bench.store.bitmaps import unpack_bits
from bench.store.index import Listing
from bench.store.records import ResultRecord

CHOICE = 0
"""The half of the images (those at even places) that choices are made by; the other half is reported."""

GRACE = 1.05
"""Times the budget after which a job is ended."""


@dataclass(frozen=True)
class Stage:
    """A round that was run: records of ``cells`` at ``level``, by candidate and seed."""

    level: Level
    cells: tuple[Candidate, ...]
    records: dict[Candidate, dict[int, ResultRecord]]

    @property
    def full(self) -> tuple[Candidate, ...]:
        """The candidates with the most seeds, which alone are compared."""
        most = max((len(self.records.get(cell, {})) for cell in self.cells), default=0)
        return tuple(cell for cell in self.cells if most and len(self.records.get(cell, {})) == most)

    def ranked(self) -> list[Candidate]:
        """Those in the order of the half that choices are made by, the best first."""
        return sorted(self.full, key=lambda cell: -self.score(cell))

    def score(self, cell: Candidate) -> float:
        """Percent right on the half that choices are made by, the mean over seeds."""
        each = [chosen_half(record) for record in self.records[cell].values()]
        return sum(each) / len(each)


def chosen_half(record: ResultRecord) -> float:
    """Percent right on the half that choices are made by."""
    if record.correct is None:
        return 0.0
    return 100 * float(unpack_bits(record.correct, record.test_count)[CHOICE::HALVES].mean())


@dataclass
class Clock:
    """Seconds used of ``total``, those of interrupted runs among them; noted in ``file``."""

    total: float
    file: Path
    now: Callable[[], float] = time.monotonic
    before: float = 0.0
    _began: float = field(default=0.0)

    def start(self, began: float) -> None:
        """Begin at the moment ``began`` of ``now``, with what was used before."""
        self._began = began
        try:
            self.before = float(read_json(self.file)["used"])
        except (OSError, ValueError, KeyError, TypeError):
            self.before = 0.0

    @property
    def used(self) -> float:
        return self.before + self.now() - self._began

    @property
    def left(self) -> float:
        return self.total - self.used

    def note(self) -> None:
        """Write down what was used."""
        replace_file(self.file, json.dumps({"used": self.used}).encode())


class Search:
    """Runs the rounds of ``field`` with the engine's ``options``; ``name`` is the last suite's name."""

    def __init__(self, given: Field, name: str, options: Options, clock: Clock, costs: Costs, console: Console) -> None:
        self.field, self.name, self.options = given, name, options
        self.clock, self.costs, self.console = clock, costs, console
        self.left_out: list[LeftOut] = []
        self.stages: list[Stage] = []
        self.references: dict[str, dict[int, ResultRecord]] = {}

    def run(self, bits: Sequence[str], size: int | None) -> None:
        """All rounds that fit; :attr:`stages` holds them in order, the last one the most thorough."""
        try:
            self._run(bits, size)
        finally:
            self.clock.note()

    def _run(self, bits: Sequence[str], size: int | None) -> None:
        widths = self._widths(bits, size)
        pool = [
            Candidate(source.name, compressor.name, width)
            for source in sorted(self.field.candidates.sources, key=lambda one: one.passes(LEVELS[0]))
            for width in widths
            for compressor in self.field.candidates.compressors
        ]
        self._round(1, LEVELS[0], pool, 1, FIRST_SHARE * self.clock.total)
        if not self.stages[0].full:
            return
        ranked = self.stages[0].ranked()
        share = SECOND_SHARE * self.clock.left
        second = better_half(ranked, lambda cells: self._takes(cells, LEVELS[1], 1) <= share)
        if len(ranked) > 1 and self._affordable(second, LEVELS[1], 1):
            self._round(2, LEVELS[1], second, 1, self.clock.left)
        self._last()

    def _last(self) -> None:
        """The last round: whole presets where they fit, else more seeds of the round before."""
        before = self.stages[-1]
        ranked = before.ranked()
        levels = [LEVELS[-1]] + ([before.level] if before.level != LEVELS[-1] else [])
        for level in levels:
            found = finals(ranked, lambda cells, seeds, level=level: self._affordable(cells, level, seeds))  # type: ignore[misc]
            if found is not None and (level != before.level or found[0] > 1):
                seeds, chosen = found
                for count in range(1, seeds + 1):
                    self._round(3, level, chosen, count, self.clock.left)
                self._refer(chosen, level, seeds)
                return

    def _takes(self, cells: Sequence[Candidate], level: Level, seeds: int) -> float:
        return seconds_of(cells, level, seeds, self.field, self.costs)

    def _affordable(self, cells: Sequence[Candidate], level: Level, seeds: int) -> bool:
        """Whether the cells fit into what is left, or stand already."""
        if self._takes(cells, level, seeds) <= self.clock.left:
            return True
        text = self._suite(level, cells)
        return all(self._stands(text, part, seeds) for part in by_source_and_bits(cells))

    def _widths(self, bits: Sequence[str], size: int | None) -> list[str]:
        """Bits to choose among: those whose weights fit into ``size`` bytes and have the most bits.  The first cells:
        they tell bytes and speed."""
        lower = next(one for one in self._controls() if one.control == "lower")
        cheapest = min(self.field.candidates.compressors, key=lambda one: one.passes(LEVELS[0]))
        cells = [Candidate(lower.name, cheapest.name, width) for width in bits]
        self.console.print("first cells: bytes of each bit-width, seconds of a pass", highlight=False)
        records = self._engine(f"{self.name}_r0", LEVELS[0], cells, 1)
        self.costs.calibrate(records)
        self._learn(records, LEVELS[0])
        sizes = {record.setting_label: record.metrics.get("size_bytes") for record in records if record.status == "ok"}
        if not sizes:
            if self.clock.left <= 0:
                raise NothingRuns("the time ended within the first compression")
            reasons = {record.reason or record.status for record in records}
            raise NothingRuns("; ".join(sorted(reasons)))
        if size is None:
            return [width for width in bits if width in sizes]
        fitting = {width: value for width, value in sizes.items() if value is not None and value <= size}
        for width in bits:
            if width not in fitting:
                self.left_out.append(LeftOut(width, f"{sizes.get(width) or 0:,.0f} bytes, at most {size:,}"))
        if not fitting:
            least = min(value for value in sizes.values() if value is not None)
            raise NothingRuns(f"no bits fit into {size:,} bytes; the fewest take {least:,.0f}")
        widest = max(fitting, key=lambda width: (fitting[width] or 0.0, width))
        narrower = [width for width in bits if width in fitting and fitting[width] != fitting[widest]]
        self.left_out += [LeftOut(width, f"narrower than needed: {widest} fits") for width in narrower]
        return [width for width in bits if width in fitting and width not in narrower]

    def _controls(self) -> tuple[Source, ...]:
        return (*self.field.candidates.references, *self.field.candidates.sources)

    def _round(self, number: int, level: Level, cells: Sequence[Candidate], seeds: int, share: float) -> None:
        """Run a round part by part, while it fits into ``share`` seconds; what does not is left out."""
        stops = min(self.clock.used + share, self.clock.total)
        effort = "whole mini presets" if level.effort == 1 else f"{level.effort:.0%} of the mini presets' iterations"
        many = f"{len(cells)} candidates, {level.images} images, {effort}, {seeds} seed{'s' if seeds > 1 else ''}"
        self.console.print(f"round {number}: {many}; {self._said(cells, level)}", highlight=False)
        before = self.stages[-1] if self.stages and self.stages[-1].level == level else None
        found = {cell: dict(before.records.get(cell, {})) for cell in cells} if before else {}
        text, ran = self._suite(level, cells), False
        parts = by_source_and_bits(cells)
        if parts and self._takes(parts[0], level, 1) > self.clock.left:
            parts = self._cheapest(parts, level)
        for part in parts:
            takes = self._takes(part, level, 1)
            late = takes > self.clock.left or (ran and self.clock.used + takes > stops)
            if late and not self._stands(text, part, seeds):
                if seeds == 1:
                    self._leave(part, f"no time: {clock(takes)} in round {number}")
                continue
            ran = True
            records = self._engine(self._suite_name(level), level, cells, seeds, part)
            self._learn(records, level)
            for record in records:
                cell = Candidate(record.source_method, record.compressor_method, record.setting_label)
                if record.status == "ok":
                    found.setdefault(cell, {})[record.seed] = record
                else:
                    self._leave([cell], (record.reason or record.status).splitlines()[0])
            self.clock.note()
        self._keep(Stage(level, tuple(cells), found))

    def _cheapest(self, parts: Sequence[Sequence[Candidate]], level: Level) -> list[list[Candidate]]:
        """Of parts of which none fits as a whole, each compressor by itself, the cheapest with all sources first: on a
        large network a few candidates are more than none."""
        order = {one.name: one.passes(level) for one in self.field.candidates.compressors}
        every = [cell for part in parts for cell in part]
        return [[cell] for cell in sorted(every, key=lambda cell: order[cell.compressor])]

    def _keep(self, stage: Stage) -> None:
        """A round with more seeds of the same cells takes the place of the one before."""
        if self.stages and self.stages[-1].level == stage.level and stage.full:
            self.stages.pop()
        if stage.full or not self.stages:
            self.stages.append(stage)

    def _said(self, cells: Sequence[Candidate], level: Level) -> str:
        used = f"{clock(self.clock.used)} of {clock(self.clock.total)} used"
        return f"{used}, about {clock(self._takes(cells, level, 1))} for this round"

    def _leave(self, cells: Sequence[Candidate], why: str) -> None:
        for source in dict.fromkeys(cell.source for cell in cells):
            names = [cell.compressor for cell in cells if cell.source == source]
            name = source if len(names) == len(self.field.candidates.compressors) else f"{source} × {', '.join(names)}"
            if all(one.name != name for one in self.left_out):
                self.left_out.append(LeftOut(name, why))

    def _refer(self, chosen: Sequence[Candidate], level: Level, seeds: int) -> None:
        """The controls beside the best, where time is left."""
        best = self.stages[-1].ranked()[:1]
        for source in self.field.candidates.references if best else ():
            cell = replace(best[0], source=source.name)
            if self._takes([cell], level, seeds) <= self.clock.left or self._stands(
                self._suite(level, [cell]), [cell], seeds
            ):
                records = self._engine(self._suite_name(level), level, [cell], seeds)
                self.references[source.name] = {r.seed: r for r in records if r.status == "ok"}

    def _suite_name(self, level: Level) -> str:
        return self.name if level == LEVELS[-1] else f"{self.name}_r{LEVELS.index(level) + 1}"

    def _suite(self, level: Level, cells: Sequence[Candidate]) -> str:
        names = list(dict.fromkeys(cell.source for cell in cells))
        return self.field.suite(self._suite_name(level), level, names, cells, level == LEVELS[-1])

    def _stands(self, text: str, part: Sequence[Candidate], seeds: int) -> bool:
        """Whether every cell of the part is measured."""
        plan = plan_of(replace(self.options, only=only(part), seeds=seeds), text)
        listing = Listing(read_records(self.options.store))
        suite = plan.suite
        return all(listing.standing(cell.cell_id, suite.suite, suite.version) for cell in plan.applicable)

    def _engine(
        self,
        name: str,
        level: Level,
        cells: Sequence[Candidate],
        seeds: int,
        part: Sequence[Candidate] | None = None,
    ) -> list[ResultRecord]:
        """Records of ``part`` of the suite of ``cells``, run by the engine."""
        sources = list(dict.fromkeys(cell.source for cell in cells))
        text = self.field.suite(name, level, sources, cells, level == LEVELS[-1])
        limit = None
        if self.options.workers != 0:
            limit = max(10.0, GRACE * self.clock.total - self.clock.used)
        options = replace(self.options, suite=name, only=only(part or cells), seeds=seeds, job_timeout=limit)
        began = self.clock.now()
        _, records = run(options, self.console, lambda asked: plan_of(asked, text))
        jobs = sum(self.costs.of(record, stage) for record in records for stage in ("compress", "measure"))
        made = {record.synth_id: self.costs.of(record, "synthesis") for record in records}
        rest = self.clock.now() - began - jobs / self.costs.workers - sum(made.values())
        self.costs.overhead = (self.costs.overhead + max(0.0, rest)) / 2  # the first call imports; later ones do not
        return records

    def _learn(self, records: Sequence[ResultRecord], level: Level) -> None:
        every = (*self.field.candidates.sources, *self.field.candidates.references)
        self.costs.learn(
            records,
            {source.name: source.passes(level) for source in every},
            {one.name: one.passes(level) for one in self.field.candidates.compressors},
        )


class NothingRuns(Exception):
    """No candidate can run; the text says why."""
