"""What the informing commands print: plan, lists, diff, repro; packing and syncing records.

Neither torch nor pandas comes with this module; the functions that need them import them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from bench.errors import BenchError, StoreError, SuiteError, nearest
from bench.interfaces import Units
from bench.run import session
from bench.spec.plan import Plan
from bench.spec.plugins import read_plugins
from bench.spec.registry import Registry
from bench.store.exports import parities, with_parity
from bench.store.files import check_layout
from bench.store.index import Listing
from bench.store.records import ResultRecord, refused

KINDS = ("sources", "compressors", "policies", "targets", "datasets", "suites", "records")


def refused_records(plan: Plan, store: Path) -> str:
    """Which records of the plan's cells do not stand, and why, as a sentence; empty where all do."""
    if not check_layout(store):
        return ""
    listing, suite = Listing(session.open_records(store)), plan.suite
    for cell in plan.cells:
        listing.standing(cell.cell_id, suite.suite, suite.version)
    return refused(list(listing.refused.values()))


def list_records(store: Path, console: Console, as_json: bool) -> None:
    """Print how many records of which status the store and the package hold, and which of them are refused.

    Raises:
        StoreError: there is no store.
    """
    if not check_layout(store):
        raise StoreError("is no store", where=str(store), hint="Name the folder that `bench run --store DIR` wrote.")
    listing = Listing(session.open_records(store))
    rows = [
        {"suite": f"{suite}@{version}", "where": "package" if packed else "store", **counts}
        for (suite, version, packed), counts in sorted(listing.counts().items())
    ]
    said = list(listing.refused.values())
    if as_json:
        typer.echo(json.dumps({"records": rows, "refused": [str(error) for error in said]}, indent=1))
        return
    kinds = list(dict.fromkeys(key for row in rows for key in row if key not in ("suite", "where")))
    table = Table("suite", "where", *kinds)
    for row in rows:
        table.add_row(str(row["suite"]), str(row["where"]), *(str(row.get(kind, "")) for kind in kinds))
    console.print(table)
    if said:
        console.print(refused(said), highlight=False)


def list_kind(
    kind: str,
    units: str | None,
    dataset: str,
    console: Console,
    as_json: bool,
    plugins: Sequence[Path] = (),
) -> None:
    """Print one kind of thing, or a network's reconstruction units; ``plugins``: methods in files besides."""
    if kind not in KINDS:
        raise SuiteError("nothing of this kind to list", got=kind, expected=KINDS, nearest=nearest(kind, KINDS))
    if units is not None:
        _list_units(units, dataset, console, as_json)
        return
    rows = _rows(kind, dataset, plugins)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    headers = list(rows[0]) if rows else ["nothing"]
    table = Table(*headers)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)


def _rows(kind: str, dataset: str, plugins: Sequence[Path]) -> list[dict[str, Any]]:
    if kind == "suites":
        from bench.spec.suite import load_suite, suite_names

        suites = [load_suite(name) for name in suite_names()]
        return [{"name": s.suite, "title": s.title or "", "reproduces": s.reproduces or ""} for s in suites]
    if kind == "datasets":
        from bench.data.table import SPECS

        return [
            {
                "name": s.name,
                "classes": s.classes,
                "shape": "×".join(map(str, (s.channels, *s.shape[1:]))),
                "frames": s.frames,
            }
            for s in SPECS.values()
        ]
    if kind == "targets":
        from bench.zoo.checkpoints import manifests, weights_folder
        from bench.zoo.table import entry

        return [
            {
                "name": fact["name"],
                "role": entry(fact["name"]).role,
                "family": fact["family"],
                "MMACs": round(fact["macs"] / 1e6, 2),
                "parameters": fact["parameters"],
                "top-1": round(fact["top1"], 2),
            }
            for fact in manifests(weights_folder(dataset))
        ]
    registry = Registry(kind, plugins=read_plugins(plugins))
    methods = [(name, registry.get(name)) for name in registry.names()]
    from_outside = any(registry.brought(name) for name, _ in methods)
    return [
        {"name": name, "version": m.version, "what": m.summary, "paper": m.paper}
        | ({"brought by": registry.brought(name)} if from_outside else {})
        for name, m in methods
    ]


def _list_units(name: str, dataset: str, console: Console, as_json: bool) -> None:
    import torch

    from bench.data.table import spec_of
    from bench.zoo.names import is_outside
    from bench.zoo.targets import info, load

    full = name if is_outside(name) or "/" in name else f"{dataset}/{name}"
    handle = load(full)
    shape = info(full).shape or spec_of(handle.dataset).shape
    found = _units_of(handle.module, torch.zeros(1, *shape))
    if as_json:
        rows = [
            {"unit": unit, "rule": rule, "layers": list(layers), "compressors": names}
            for units, names in found.items()
            for unit, rule, layers in units
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    for units, names in found.items():
        table = Table("#", "unit", "rule", "layers", title=", ".join(names))
        for number, (unit, rule, layers) in enumerate(units, 1):
            table.add_row(str(number), unit, rule, "\n".join(layers))
        console.print(table)


def _units_of(module: Any, example: Any) -> dict[Units, list[str]]:
    """The network's units → the compressors that work on them; each that offers to say so is asked.

    Raises:
        BenchError: none does.
    """
    registry = Registry("compressors")
    found: dict[Units, list[str]] = {}
    for name in registry.names():
        method = registry.get(name)
        if "units" in method.offers:
            found.setdefault(method.units(module, example), []).append(name)
    if not found:
        raise BenchError("no installed compressor says what units it works on", where="--units")
    return found


def cell_of(prefix: str, store: Path) -> ResultRecord:
    """The record of a cell, by its id or a unique beginning of it, from the store or the package.

    Raises:
        BenchError: none begins so, or several do.
    """
    records = session.read_records(store)
    found = sorted({key[2] for key in records.cells() if key[2].startswith(prefix)})
    record = records.find(found[0]) if len(found) == 1 else None
    if record is None:
        what = f"{len(found)} cells begin so" if len(found) > 1 else "no cell begins so"
        raise BenchError(what, got=prefix, expected=found[:5] or None, hint="ids: bench board --format json")
    return with_parity([record], parities(store))[0]


def repro(prefix: str, store: Path) -> str:
    """The one command that measures the cell of this id again."""
    from bench.board.index.cells import repro_command

    return repro_command(cell_of(prefix, store), store)


def add_measured(suite: str, store: Path, to: Path) -> Path:
    """Pack the store's records of a suite with an image grid per image set."""
    from bench.run.pictures import grid_png
    from bench.store.artifacts import ArtifactStore
    from bench.store.measured import pack_measured

    plan = session.plan_of(session.Options(suite))
    spec = plan.suite
    records = [r for r in session.read_records(store).all(spec.suite, spec.version) if r.status != "failed"]
    artifacts = ArtifactStore(store)
    grids = {}
    for job in plan.synths:
        if not any(r.synth_id == job.synth_id for r in records) or not artifacts.has(job.synth_id, 0):
            continue
        images = artifacts.read(job.synth_id, min(64, job.source.batch_size), job.source.label_kind)
        grids[job.synth_id] = grid_png(images.images.numpy(), job.dataset)
    return pack_measured(records, grids, to)


def sync_mlflow(suite: str, store: Path) -> str:
    """Log every record of a suite that MLflow lacks, and end the runs that a killed process left open.

    Raises:
        BenchError: what is wrong with the suite or the store; a server that fails.
    """
    from mlflow.exceptions import MlflowException

    from bench.cli.tracking import summary_of
    from bench.run.observers import RunStart
    from bench.run.tracking import MlflowObserver, tracking_uri, ui_command

    plan, uri = session.plan_of(session.Options(suite)), tracking_uri()
    records = session.read_records(store).all(plan.suite.suite, plan.suite.version)
    observer = MlflowObserver(uri, summary_of)
    try:
        observer.run_started(RunStart(plan, store, {record.cell_id: record for record in records}, ()))
        observer.run_ended(records)
    except MlflowException as error:
        hint = "Start the server, or name another with MLFLOW_TRACKING_URI."
        raise BenchError("MLflow cannot be written", where=uri, got=error, hint=hint) from error
    return f"{len(records)} records in {uri}; see them: {ui_command(uri)}"
