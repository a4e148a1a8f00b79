"""A suite's records as what a screen shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from bench.board.claims.judging import Verdict
from bench.board.index.listing import STANDARD
from bench.board.index.machines import content_of, several_contents
from bench.board.index.rows import Row, Versions, make_rows
from bench.board.index.selected import Selected
from bench.board.tables.answers import source_tables
from bench.board.tables.measures import measure_tables
from bench.board.tables.screen import View
from bench.spec.plan import Plan
from bench.store.records import ResultRecord

Extent = Literal["screen", "brief", "all", "wide"]
"""How much a printed board shows: a screen, the first line of each table, all lines, all columns and tables."""

MORE = 'more: --all every line · --wide every column · --brief the winners · --only "target=NAME"'


def view_of(
    plan: Plan,
    records: Sequence[ResultRecord],
    selected: Selected,
    verdicts: Sequence[Verdict],
    known: Versions,
    extent: Extent = "screen",
) -> View:
    """What a screen shows of the ``records`` of the plan's suite, of which some are ``selected``; ``verdicts``: on the
    whole suite's claims, ``known``: the versions of methods and weights at hand."""
    seeds = sorted({record.seed for record in selected.records})
    asked = {plan.suite.suite: sorted({cell.seed for cell in plan.cells} & set(seeds))}
    rows = make_rows(selected.records, versions=known, seeds=asked)
    remade = several_contents(map(content_of, selected.records))

    def shown(row: Row) -> bool:
        return row.head.row_id in selected.shown

    def measured_on(row: Row) -> bool:
        return row.head.row_id in selected.measured_on

    tables = source_tables(rows, plan.suite.rank_within, remade=remade, shown=shown, measured_on=measured_on)
    extra = sorted({name for record in selected.records for name in record.metrics} - STANDARD)
    measures = measure_tables(rows, extra, shown=shown, measured_on=measured_on)
    part = len(selected.records) < len(records) or len(selected.shown) < len({record.row_id for record in records})
    further = {
        "bits by image, and what they cost: --wide": any(record.image_bits is not None for record in records),
        "networks of several bit-widths, and their Delta_B: --wide": any(record.variant for record in records),
        MORE: extent != "all",
    }
    return View(
        title=_title(plan, rows, seeds),
        verdicts=verdicts,
        tables=tables,
        measures=measures,
        further=[line for line, said in further.items() if said],
        narrowed=part,
        whole=extent == "all",
        brief=extent == "brief",
    )


def _title(plan: Plan, rows: Sequence[Row], seeds: Sequence[int]) -> str:
    """What was measured: suite, data set, preset, images, seeds."""
    suite = plan.suite
    datasets, presets, images = ({str(getattr(row.head, name)) for row in rows} for name in ("dataset", "preset", "n"))
    counts = f"{', '.join(sorted(images, key=int))} images"
    measured = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    if len(suite.seeds) > len(seeds):
        measured += f" of {len(suite.seeds)}"
    words = [", ".join(sorted(datasets)), f"preset {', '.join(sorted(presets))}", counts, measured]
    return " · ".join([suite.suite, *words])
