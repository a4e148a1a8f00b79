"""The rounds: how much effort each has, which candidates go on, and the suites that the engine runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from bench.advise.budget import Candidate, Costs
from bench.advise.candidates import Candidates, Compressor, Level, Source
from bench.advise.exam import Exam
from bench.advise.network import Network

LEVELS = (Level(64, 0.25), Level(128, 0.5), Level(256, 1.0))
"""Images and effort of the rounds; the last one has the whole ``mini`` presets."""

FIRST_SHARE = 0.35
"""Share of the budget that the first round may take."""

SECOND_SHARE = 0.5
"""Share of what is left that the second round may take."""

MOST_SEEDS = 3

FINALS = ((3, 4), (3, 3), (2, 4), (2, 3), (2, 2), (1, 3), (1, 2))
"""(seeds, finalists) of the last round, the best that fits is taken."""


@dataclass(frozen=True)
class Field:
    """What all rounds share."""

    network: Network
    exam: Exam
    candidates: Candidates

    @property
    def pixels(self) -> int:
        return self.network.shape[1] * self.network.shape[2]

    def source(self, name: str) -> Source:
        """By name, references among them."""
        every = (*self.candidates.sources, *self.candidates.references)
        return next(source for source in every if source.name == name)

    def compressor(self, name: str) -> Compressor:
        return next(one for one in self.candidates.compressors if one.name == name)

    def suite(
        self,
        name: str,
        level: Level,
        sources: Sequence[str],
        cells: Sequence[Candidate],
        last: bool,
        seeds: int = MOST_SEEDS,
    ) -> str:
        """A round's suite as YAML: ``sources`` and the compressors and bits of ``cells`` at ``level``; the last one
        sees all of the exam."""
        compressors = dict.fromkeys(cell.compressor for cell in cells)
        raw = {
            "suite": name,
            "version": 1,
            "dataset": self.exam.full if last else self.exam.small,
            "grid": {
                "source": [_entry(one, self.source(one).params(level, self.pixels)) for one in sources],
                "target": [self.network.shown],
                "compressor": [_entry(one, self.compressor(one).params(level)) for one in compressors],
                "bits": list(dict.fromkeys(cell.bits for cell in cells)),
            },
            "images": level.images,
            "seeds": list(range(seeds)),
            "rank_within": "protocol",
        }
        return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


def _entry(name: str, params: Mapping[str, Any]) -> Any:
    return {name: dict(params)} if params else name


def by_source(cells: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    """The candidates of each source, in their order."""
    out: dict[str, list[Candidate]] = {}
    for cell in cells:
        out.setdefault(cell.source, []).append(cell)
    return out


def seconds_of(cells: Sequence[Candidate], level: Level, seeds: int, field: Field, costs: Costs) -> float:
    """What a round of these cells takes, each source's part a call of the engine."""
    total = 0.0
    for source, mine in by_source(cells).items():
        sets = seeds * costs.images(field.source(source), level)
        each = [costs.cell(field.compressor(cell.compressor), level) for cell in mine]
        total += costs.chunk(sets, each * seeds)
    return total


def better_half(ranked: Sequence[Candidate], fits: Callable[[Sequence[Candidate]], bool]) -> list[Candidate]:
    """The first half of the ranked candidates, or as many of them as fit into the time, two at least."""
    count = max(2, (len(ranked) + 1) // 2)
    while count > 2 and not fits(ranked[:count]):
        count -= 1
    return list(ranked[:count])


def finals(
    ranked: Sequence[Candidate], fits: Callable[[Sequence[Candidate], int], bool]
) -> tuple[int, list[Candidate]] | None:
    """(seeds, finalists) of the last round: the most that fits; None where nothing does."""
    for seeds, count in FINALS:
        chosen = list(ranked[:count])
        if fits(chosen, seeds):
            return seeds, chosen
    return None


def by_source_and_bits(cells: Sequence[Candidate]) -> list[list[Candidate]]:
    """Candidates of one source and bit-width at a time, in their order."""
    out: dict[tuple[str, str], list[Candidate]] = {}
    for cell in cells:
        out.setdefault((cell.source, cell.bits), []).append(cell)
    return list(out.values())


def only(part: Sequence[Candidate]) -> str:
    """The part of a suite that holds these cells."""
    axes = {
        "source": dict.fromkeys(cell.source for cell in part),
        "compressor": dict.fromkeys(cell.compressor for cell in part),
        "bits": dict.fromkeys(cell.bits for cell in part),
    }
    return ",".join(f"{axis}={'|'.join(values)}" for axis, values in axes.items())
