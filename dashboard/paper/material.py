"""What a figure for a paper is drawn from: a suite's rows, its ranked tables and the verdicts on its claims."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from bench.board.claims.judging import Verdict
from bench.board.index.machines import content_of, several_contents
from bench.board.index.rows import Asked, Row, Versions, make_rows
from bench.board.index.selected import Selected
from bench.board.tables.answers import SourceTable, source_tables
from bench.board.tables.grids import Grid
from bench.store.records import ResultRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Within = Literal["compressor", "protocol"]
"""What ranks are formed within, as a suite's ``rank_within`` says."""


@dataclass(frozen=True)
class Material:
    """``records``: those of one suite and of the seeds asked for; ``selected``: which rows are shown, and which they
    are ranked beside; ``within``: what ranks are formed within; ``verdicts``: on the claims of the whole suite."""

    suite: str
    version: int
    title: str
    records: tuple[ResultRecord, ...]
    rows: tuple[Row, ...]
    selected: Selected
    within: Within
    verdicts: tuple[Verdict, ...] = ()
    remade: Collection[str] = field(default_factory=frozenset)

    def shown(self, row: Row) -> bool:
        """Whether it was selected."""
        return row.head.row_id in self.selected.shown

    @cached_property
    def tables(self) -> tuple[SourceTable, ...]:
        """The tables of ``bench board``."""
        on = self.selected.measured_on
        return tuple(
            source_tables(
                self.rows,
                self.within,
                remade=self.remade,
                shown=self.shown,
                measured_on=lambda row: row.head.row_id in on,
            )
        )

    @property
    def drawn(self) -> list[ResultRecord]:
        """The records of the rows that are shown."""
        return [record for record in self.records if record.row_id in self.selected.shown]

    @property
    def seeds(self) -> list[int]:
        """Seeds that something shown was measured with."""
        return sorted({record.seed for record in self.drawn if record.status == "ok"})

    @property
    def measured(self) -> tuple[str, str]:
        """First and last day of the measuring (UTC, ``2026-11-21``); blanks where no record says when."""
        days = sorted(_day(record.finished) for record in self.drawn if record.finished)
        return (days[0], days[-1]) if days else ("", "")


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def material(
    suite: str,
    version: int,
    title: str,
    within: Within,
    selected: Selected,
    known: Versions,
    asked: Asked,
    verdicts: Sequence[Verdict] = (),
) -> Material:
    """The material of ``selected`` records of a suite.

    Args:
        known: versions of methods and weights at hand, to tell stale rows.
        asked: as :func:`bench.board.index.rows.make_rows` takes seeds.
    """
    records = selected.records
    rows = make_rows(records, versions=known, seeds=asked)
    remade = several_contents(map(content_of, records))
    return Material(suite, version, title, records, tuple(rows), selected, within, tuple(verdicts), remade)


@dataclass(frozen=True)
class Drawing:
    """A figure, the table of the same rows, and the sentences of its caption."""

    figure: Figure
    grids: tuple[Grid, ...]
    caption: tuple[str, ...]
