"""``bench plan``: what a run would do and what it would cost.

Neither torch nor pandas comes with this module.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from rich.table import Table

from bench.cli.options import (
    STORE,
    DataRoot,
    DatasetOpt,
    Json,
    Only,
    Plugins,
    PresetOpt,
    Seeds,
    Sets,
    StoreOpt,
    SuiteArg,
    options_of,
    out,
)

if TYPE_CHECKING:
    from bench.cost.planned import Cost
    from bench.run.session import Draft, Options
    from bench.spec.plan import Plan
    from bench.store.index import Place

SHOWN_CELLS = 1000
"""Rows of a plan's table; a table of a hundred thousand takes a minute to lay out and nobody reads it."""


def plan(
    suite: SuiteArg,
    only: Only = None,
    sets: Sets = None,
    dataset: DatasetOpt = None,
    preset: PresetOpt = None,
    seeds: Seeds = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--workers", min=0, help="Worker processes that the minutes are for. Default: one a core."),
    ] = None,
    cost: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--cost", metavar="FILE", help="Plan for the machine that this calibration is of; repeatable."),
    ] = None,
    store: StoreOpt = STORE,
    data_root: DataRoot = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Show what a suite would do and how long it would take: image sets, cells, what stands already, disk, minutes.
    Nothing is written anywhere.

    Examples: `bench plan ptq_w4a4 --seeds 1` · `bench plan ptq_w4a4 --workers 8` ·
    `bench plan suites/quickstart.yaml --json` · `bench plan suites/imagenet/mixmix_t3.yaml --cost gpu.json`
    """
    options = options_of(
        suite,
        only=only,
        sets=sets,
        dataset=dataset,
        preset=preset,
        seeds=seeds,
        workers=workers,
        store=store,
        data_root=data_root,
        plugin=plugin,
    )
    show_plan(options, out, as_json, tuple(cost or ()))


def show_plan(options: Options, console: Console, as_json: bool, cost: Sequence[Path] = ()) -> None:
    """Print what a run would do, what stands already, and what the rest would cost; nothing is written.

    Args:
        cost: calibrations of the machines that the cost is for; this machine's unless given.

    Raises:
        BenchError: whatever is wrong with the suite; after all is shown, the weights and data that are missing.
    """
    from bench.notes import nothing_noted
    from bench.run import session

    with nothing_noted():
        draft = session.draft_of(options)
        standing = _standing(draft, options.store, options.fresh)
        jobs = _left(draft.plan, standing, options.store)
        costs = _costs(draft, jobs, options, cost)
        if as_json:
            found = {**draft.plan.to_json(), **_more(draft, standing, jobs, costs)}
            typer.echo(json.dumps(found, indent=1, default=str))
        else:
            _print(draft.plan, standing, jobs, costs, console)
            lacking = session.not_made(draft.plan, options)
            if lacking is not None and jobs:
                console.print(str(lacking), highlight=False, markup=False)
        if draft.lacks:
            raise draft.error(options.data_root)


def _standing(draft: Draft, store: Path, fresh: bool) -> dict[str, Place]:
    """cell_id → where the record lies that answers it; none where ids are none yet, or all is to be measured anew."""
    from bench.run import session
    from bench.store.index import Listing

    if draft.lacks or fresh:
        return {}
    found, suite = Listing(session.read_records(store)), draft.plan.suite
    places = {cell.cell_id: found.standing(cell.cell_id, suite.suite, suite.version) for cell in draft.plan.applicable}
    return {key: place for key, place in places.items() if place is not None}


def _left(plan: Plan, standing: Mapping[str, Place], store: Path) -> tuple[Any, ...]:
    """The jobs that a run would do."""
    from bench.cost.planned import left

    return left(plan.graph([cell for cell in plan.applicable if cell.cell_id not in standing]), store)


def _costs(draft: Draft, jobs: Sequence[Any], options: Options, files: Sequence[Path]) -> tuple[Cost, ...]:
    from bench.cost.planned import costs_of

    if not jobs:
        return ()
    return costs_of(draft.plan, jobs, draft.catalogue, options.store, options.workers, files, options.data_root)


def _more(draft: Draft, standing: Mapping[str, Place], jobs: Sequence[Any], costs: Sequence[Cost]) -> dict[str, Any]:
    """What the JSON has besides the plan."""
    from bench.spec.graph import counts

    answered = {cell_id: "package" if place.packed else "store" for cell_id, place in standing.items()}
    return {
        "answered": answered,
        "jobs_left": counts(jobs),
        "cost": [cost.to_json() for cost in costs],
        "missing": {"networks": draft.lacks.networks, "data": list(draft.lacks.data)},
    }


def _print(
    plan: Plan, standing: Mapping[str, Place], jobs: Sequence[Any], costs: Sequence[Cost], console: Console
) -> None:
    suite = plan.suite
    console.print(f"{suite.suite}@{suite.version} on {suite.dataset}, preset {plan.preset}", highlight=False)
    sets = Table("image set", "made from", "seed", "images", "batches", title="syntheses")
    for job in plan.synths:
        sets.add_row(job.source.label, job.model or "–", str(job.seed), str(job.count), str(job.batches))
    console.print(sets)
    grid = Table("source", "made from", "target", "compressor", "setting", "seed", "", title="cells")
    for cell in plan.cells[:SHOWN_CELLS]:
        note = "n/a" if cell.not_applicable else _note(standing.get(cell.cell_id))
        treatment = " · ".join(filter(None, (cell.policy, cell.compressor)))
        row = (cell.source, cell.model or "–", cell.target, treatment, cell.setting_label, str(cell.seed), note)
        grid.add_row(*row)
    console.print(grid)
    if len(plan.cells) > SHOWN_CELLS:
        console.print(f"… and {len(plan.cells) - SHOWN_CELLS} more cells: --json lists all", highlight=False)
    for line in (*_said(plan, standing, jobs), *_cost_lines(costs)):
        console.print(line, highlight=False)


def _note(place: Place | None) -> str:
    """What answers a cell: ``shipped`` records came with the package."""
    return "" if place is None else "shipped" if place.packed else "stands"


def _said(plan: Plan, standing: Mapping[str, Place], jobs: Sequence[Any]) -> list[str]:
    """What is left to do, and what answers the rest."""
    from bench.spec.graph import counts

    todo = [cell for cell in plan.applicable if cell.cell_id not in standing]
    impossible = len(plan.cells) - len(plan.applicable)
    where = Counter(place.packed for place in standing.values())
    parts = [f"{where[True]} answered by shipped records"] if where[True] else []
    parts += [f"{where[False]} by the store"] if where[False] else []
    parts += [f"{impossible} not applicable"] if impossible else []
    rest = f" ({', '.join(parts)})" if parts else ""
    lines = [f"{len(todo)} of {len(plan.cells)} cells to do{rest}"]
    if where[True]:
        lines.append("`bench run` measures no cell that a shipped record answers; --fresh measures it here")
    kinds = ", ".join(f"{kind} {n}" for kind, n in counts(jobs).items())
    size = sum(job.images.batch_bytes for job in jobs if not job.needs and not job.cells) / 2**20
    lines.append(f"jobs: {kinds or 'none'}; image sets to make take {size:,.0f} MiB")
    return lines


def _cost_lines(costs: Sequence[Cost]) -> list[str]:
    """What the jobs cost on each device, in lines."""
    lines = []
    for cost in costs:
        cpu = cost.device == "cpu"
        unit, each = ("CPU-minutes", 60) if cpu else ("GPU-hours", 3600)
        kinds = [
            f"{kind} {total.seconds / each:,.{1 if cpu else 2}f}"
            + (f" + {total.unknown} unknown" if total.unknown else "")
            for kind, total in cost.kinds.items()
        ]
        total = f"{cost.seconds / each:,.{1 if cpu else 2}f}"
        lines.append(f"{unit}: {', '.join(kinds)}; total {total}{_on(cost)}")
        lines += _caveats(cost)
        if cost.known:
            at_once = f"{cost.workers} {'worker' if cost.workers == 1 else 'workers'}"
            lines.append(f"about {minutes(cost.wall)} with {at_once}" + ("" if cpu else " on the GPU"))
    if costs and all(cost.device == "cpu" for cost in costs):
        lines.append("GPU-hours: not known, no GPU is calibrated (bench calibrate-cost --device cuda, or --cost FILE)")
    return lines


def _on(cost: Cost) -> str:
    """Where the seconds come from."""
    bases = {basis for total in cost.kinds.values() for basis in total.bases}
    if "elsewhere" in bases:
        from bench.cost.calibration import reference

        return f", on the machine of the shipped records ({reference().facts['cpu']})"
    calibrated = f"scaled to {cost.machine} as calibrated on {(cost.date or '')[:10]}"
    if bases == {"own"}:
        return ", from this machine's own records"
    return f", from records {calibrated}" if "own" not in bases else f", from its own records and others {calibrated}"


def _caveats(cost: Cost) -> list[str]:
    lines = []
    if cost.elsewhere:
        lines.append("minutes here: not known, this machine has no records of such jobs: bench calibrate-cost")
    elif cost.unknown:
        lines.append(f"minutes: not known, nothing tells of {cost.unknown} of the jobs")
    rough = sum(total.rough for total in cost.kinds.values())
    if rough:
        lines.append(f"{rough} jobs are of methods that no record is of: taken to cost what others of their kind do")
    if cost.tested_guessed:
        lines.append("the test images are not here to be counted: 50 a class are assumed")
    return lines


def minutes(seconds: float) -> str:
    """A duration to the precision that it has: seconds, minutes, hours."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:,.1f} hours"
