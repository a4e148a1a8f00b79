"""``bench calibrate-cost``: how fast this machine is.

Neither torch nor pandas comes with this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.table import Table

from bench.cli.options import Json, err, out
from bench.errors import BenchError

SECONDS = 2.0
"""Of each kind of step on each network."""


def calibrate_cost(
    device: Annotated[str, typer.Option("--device", help="cpu | cuda.")] = "cpu",
    network: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--network", metavar="NAME", help="Time these instead of the usual ones; repeatable."),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads per worker, as in `bench run`.")] = 1,
    seconds: Annotated[float, typer.Option("--seconds", min=0.01, help="Of each step on each network.")] = SECONDS,
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", metavar="FILE", help="Where to keep it, to be copied to another machine."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how long this machine takes for a forward-equivalent of synthesis, of reconstruction, of training and of
    testing, and keep it in the cache folder, where `bench plan` finds it; for the plan of another machine, copy the
    file there and name it with --cost.

    Examples: `bench calibrate-cost` · `bench calibrate-cost --network timm:resnet50` ·
    `bench calibrate-cost --device cuda --out gpu.json`, then `bench plan SUITE --cost gpu.json`
    """
    from bench import runtime
    from bench.cli.progress import reported
    from bench.cost import calibration

    if device not in calibration.DEVICES:
        raise BenchError("unknown device", where="--device", got=device, expected=calibration.DEVICES)
    runtime.resolve_device(device)
    from bench.cost.steps import calibrate, usual_networks

    names = tuple(dict.fromkeys(network or usual_networks(device)))
    with reported(err, "calibrating") as report:
        found = calibrate(names, device, threads, seconds, report)
    place = calibration.keep(found, to)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    table = Table("network", "step", "batch", "ms a pass", "GMAC/s", title=f"{found.name}, {found.device}")
    for one in found.timed:
        spent = one.cpu_seconds if found.device == "cpu" else one.seconds
        speed = one.macs / spent / 1e9
        table.add_row(one.network, one.step, str(one.batch), f"{1000 * spent:.3f}", f"{speed:,.1f}")
    out.print(table)
    option = "" if to is None else f"; bench plan SUITE --cost {place}"
    out.print(f"kept in {place}{option}", highlight=False)
