"""What the rounds say: which candidate to use, how sure that is, and what is cheaper and not told apart from it.

The half of the images that choices were made by is not looked at again: the best of many is partly the luckiest
(:mod:`bench.board.stats.picks`).  Every percentage, interval and comparison here is one of the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.advise.budget import Candidate
from bench.advise.candidates import LeftOut
from bench.advise.network import Network
from bench.advise.proxy import proxy
from bench.advise.rounds import Field
from bench.advise.search import CHOICE, Search, Stage
from bench.board.stats.intervals import accuracy_interval
from bench.board.stats.multiple import holm
from bench.board.stats.paired import LEVEL, Interval, common_table, paired_difference
from bench.board.stats.picks import HALVES
from bench.store.bitmaps import unpack_bits
from bench.store.records import ResultRecord

GUESSING = 3
"""Times the accuracy of guessing below which a float network has learned next to nothing."""

MOSTLY = 0.5
"""Share of one answer from which agreement tells little."""

REPORTED = 1 - CHOICE
"""The half of the images that is reported."""


def random_weights(network: Network) -> str:
    """What is to be said of a network that nobody brought weights for."""
    return (
        f"{network.shown} has random weights, for nobody brought others. Its accuracy, and agreement with it, say "
        f"nothing of a trained network: bench zoo add {network.shown} FILE (or --pretrained), then ask again."
    )


@dataclass(frozen=True)
class Line:
    """A candidate, or a reference beside them: percent with interval on the reported half, points to the pick with
    Holm's p; ``seconds`` of one image set and one compression, ``size`` in bytes.  ``chosen`` is the percentage that
    the choice saw."""

    cell: Candidate
    reference: bool
    percent: float
    interval: Interval
    behind: float
    p: float
    size: float
    seconds: float
    seeds: int
    chosen: float

    @property
    def tied(self) -> bool:
        """Whether it is not told apart from the pick."""
        return self.p >= 1 - LEVEL

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "source": self.cell.source,
            "compressor": self.cell.compressor,
            "bits": self.cell.bits,
            "reference": self.reference,
            "percent": self.percent,
            "low": self.interval.low,
            "high": self.interval.high,
            "behind": self.behind,
            "p": self.p,
            "tied": self.tied,
            "size_bytes": self.size,
            "seconds": self.seconds,
            "seeds": self.seeds,
            "percent_of_choice": self.chosen,
        }


@dataclass(frozen=True)
class Answer:
    """``lines``: the pick first, then by the half that the choice saw, references last."""

    field: Field
    stage: Stage
    lines: tuple[Line, ...]
    left_out: tuple[LeftOut, ...]
    images: int
    fp: float | None
    used: float
    earlier: tuple[Stage, ...] = ()

    @property
    def pick(self) -> Line:
        return self.lines[0]

    @property
    def tied(self) -> tuple[Line, ...]:
        """Candidates that are not told apart from the pick."""
        return tuple(line for line in self.lines[1:] if line.tied and not line.reference)

    @property
    def cheapest(self) -> Line:
        """Of the pick and those not told apart from it: the fewest bytes, then the least time."""
        return min((self.pick, *self.tied), key=lambda line: (line.size, line.seconds))

    def sentences(self) -> list[str]:
        """The answer, what it rests on, and what it is not."""
        exam, pick, level = self.field.exam, self.pick, self.stage.level
        said = f"use {pick.cell.words}: {_percent(pick)} {exam.word}"
        tied = self.tied
        if tied:
            names = [f"{line.cell.source} with {line.cell.compressor}" + _bits(line, pick) for line in tied[:4]]
            more = f" and {len(tied) - 4} more" if len(tied) > 4 else ""
            few = "this one is" if len(tied) == 1 else f"these {len(tied)} are"
            said += f"; {few} not told apart from it: {', '.join(names)}{more}"
            cheapest = "itself" if self.cheapest is pick else self.cheapest.cell.words
            said += f"; the cheapest of them is {cheapest}" if self.cheapest is not pick else "; it is the cheapest"
        elif len(self.lines) - sum(line.reference for line in self.lines) > 1:
            said += "; it is told apart from all others"
        effort = (
            "the whole mini presets" if level.effort == 1 else f"{level.effort:.0%} of the mini presets' iterations"
        )
        seeds = f"{pick.seeds} seed{'s' if pick.seeds > 1 else ''}"
        out = [said + "."]
        if self.field.network.random:
            out.insert(0, f"No advice: {random_weights(self.field.network)}")
        out += self._little()
        float_said = f"; the float network has {self.fp:.2f} %" if exam.kind == "accuracy" and self.fp else ""
        out.append(
            f"Compared on {exam.images}: chosen by one half, reported on the {self.images} images of the other, "
            f"{level.images} calibration images, {effort}, {seeds}{float_said}."
        )
        if level.effort < 1:
            out.append("The time ended before whole presets were compared; more --minutes go on from here.")
        if pick.seeds == 1:
            out.append("One seed: the intervals hold for it alone, and another may rank otherwise.")
        if any(one.control == "lower" and one.name == pick.cell.source for one in self.field.candidates.sources):
            out.append("No other source applies to this network: what is left is a control.")
        if exam.kind == "agreement":
            out.append(
                "This is not accuracy: no label was looked at. " + (proxy(exam.proxy).sentence() if exam.proxy else "")
            )
        return out

    def _little(self) -> list[str]:
        """What takes the numbers their meaning: a float network that guesses, or gives one answer to most images."""
        exam, guess = self.field.exam, 100 / self.field.network.classes
        if exam.kind == "accuracy" and self.fp is not None and self.fp < GUESSING * guess:
            return [f"The float network itself has {self.fp:.2f} %, guessing {guess:.2f} %: there is little to lose."]
        if exam.kind == "agreement" and exam.common > MOSTLY:
            return [
                f"The float network gives one answer to {100 * exam.common:.0f} % of these images: a network that "
                "always gave it would agree as often, so agreement tells little."
            ]
        return []

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        exam, level = self.field.exam, self.stage.level
        return {
            "network": self.field.network.shown,
            "kind": exam.kind,
            "images": exam.images,
            "reported_images": self.images,
            "calibration_images": level.images,
            "effort": level.effort,
            "fp_top1": self.fp if exam.kind == "accuracy" else None,
            "seconds": self.used,
            "pick": self.pick.to_json(),
            "cheapest": self.cheapest.to_json(),
            "lines": [line.to_json() for line in self.lines],
            "left_out": [{"name": one.name, "why": one.why} for one in self.left_out],
            "rounds": [
                {
                    "calibration_images": stage.level.images,
                    "effort": stage.level.effort,
                    "candidates": [
                        {"words": cell.words, "percent_of_choice": stage.score(cell), "seeds": len(stage.records[cell])}
                        for cell in stage.ranked()
                    ],
                }
                for stage in (*self.earlier, self.stage)
            ],
            "said": self.sentences(),
        }


def answer(search: Search) -> Answer:
    """Of the last round that compared something.

    Raises:
        ValueError: no round did.
    """
    stage = search.stages[-1]
    ranked = stage.ranked()
    if not ranked:
        raise ValueError("no candidate was measured")
    references = {
        Candidate(name, ranked[0].compressor, ranked[0].bits): records
        for name, records in search.references.items()
        if records
    }
    rows: dict[Candidate, dict[int, ResultRecord]] = {cell: stage.records[cell] for cell in ranked} | references
    best = _reported(stage.records[ranked[0]])
    compared = [_compared(best, _reported(records)) for records in rows.values()]
    adjusted = [1.0, *holm([p for _, p in compared[1:]])]
    lines = []
    for (cell, records), (behind, _), p in zip(rows.items(), compared, adjusted, strict=True):
        table = np.stack(list(_reported(records).values()))
        percent, interval = accuracy_interval(table)
        seen = [unpack_bits(r.correct, r.test_count)[CHOICE::HALVES].mean() for r in records.values() if r.correct]
        lines.append(
            Line(
                cell,
                cell in references,
                percent,
                interval,
                behind,
                p,
                _mean([r.metrics.get("size_bytes") or 0.0 for r in records.values()]),
                _mean([_seconds(r) for r in records.values()]),
                len(records),
                100 * float(np.mean(seen)),
            )
        )
    first = next(iter(stage.records[ranked[0]].values()))
    images = next(iter(best.values())).size
    left = (*search.field.candidates.left_out, *search.left_out)
    earlier = tuple(one for one in search.stages[:-1] if one.full)
    return Answer(
        search.field, stage, tuple(lines), left, images, first.metrics.get("fp_top1"), search.clock.used, earlier
    )


def _reported(records: dict[int, ResultRecord]) -> dict[int, npt.NDArray[np.bool_]]:
    """Seed → correctness on the reported half."""
    return {
        seed: unpack_bits(record.correct, record.test_count)[REPORTED::HALVES]
        for seed, record in sorted(records.items())
        if record.correct is not None
    }


def _compared(best: dict[int, npt.NDArray[np.bool_]], other: dict[int, npt.NDArray[np.bool_]]) -> tuple[float, float]:
    """Points that ``best`` is ahead, and p of no difference; the largest p where they share no seed."""
    tables = common_table(best, other)
    if not tables or best is other:
        return 0.0, 1.0
    found = paired_difference(tables[0], tables[1])
    return found.estimate, found.p_value()


def _seconds(record: ResultRecord) -> float:
    return sum(record.costs[stage].seconds for stage in ("synthesis", "compress") if stage in record.costs)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _percent(line: Line) -> str:
    return f"{line.percent:.2f} % [{line.interval.low:.2f}, {line.interval.high:.2f}]"


def _bits(line: Line, pick: Line) -> str:
    return "" if line.cell.bits == pick.cell.bits else f" at {line.cell.bits}"
