"""`bench zoo …`: training with a live bar, and verification."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bench import runtime


@dataclass(frozen=True)
class Training:
    """What `bench zoo train` was asked for; fields as its options."""

    dataset: str
    only: str | None
    threads: int
    data_root: Path | None
    to: Path | None
    epochs: int | None
    holdout: int


def train(asked: Training, console: Console) -> None:
    """Train what is missing and show how far it is."""
    from bench.zoo.recipe import train as train_zoo
    from bench.zoo.targets import weights_folder

    runtime.set_threads(asked.threads)
    folder = asked.to or weights_folder(asked.dataset)
    names = [name for name in (asked.only or "").split(",") if name]
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=console) as bar:
        lines = {}

        def log(name: str, step: int, total: int, loss: float) -> None:
            if name not in lines:
                lines[name] = bar.add_task(name, total=total, loss="")
            bar.update(lines[name], completed=step, loss=f"loss {loss:.3f}")

        count = 0
        for fact in train_zoo(
            asked.dataset, names, folder, log, root=asked.data_root, holdout=asked.holdout, epochs=asked.epochs
        ):
            count += 1
            found = f"{fact['holdout_top1']:.2f} on held-out images" if asked.holdout else f"{fact['top1']:.2f}"
            bar.console.print(f"{fact['name']}: top-1 {found}", highlight=False)
    where = "nothing was written (tuning)" if asked.holdout else f"weights in {folder}"
    console.print(f"{count} networks trained, {where}", highlight=False)


def verify(dataset: str, console: Console, as_json: bool) -> bool:
    """Show registered and measured top-1 of every network; whether all agree."""
    from bench.zoo.recipe import verify as verify_zoo
    from bench.zoo.targets import weights_folder

    began = time.perf_counter()
    rows = verify_zoo(dataset, weights_folder(dataset))
    if as_json:
        console.print_json(json.dumps(rows))
        return all(row["ok"] for row in rows)
    table = Table("network", "family", "parameters", "MMACs", "registered", "measured", "")
    for row in rows:
        good = "ok" if row["ok"] else "differs"
        numbers = (f"{row['parameters']:,}", f"{row['macs'] / 1e6:.2f}", f"{row['top1']:.2f}", f"{row['measured']:.2f}")
        table.add_row(row["name"], row["family"], *numbers, good)
    console.print(table)
    console.print(f"{len(rows)} networks in {time.perf_counter() - began:.0f} s", highlight=False)
    return all(row["ok"] for row in rows)
