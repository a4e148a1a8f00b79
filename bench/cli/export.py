"""`bench export`: a cell's network as ONNX, and what it does in ONNX Runtime beside the simulation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.console import Console
from rich.table import Table

from bench.cli.options import STORE, DataRoot, Json, StoreOpt, err, out
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.export.report import Exported

exporting = typer.Typer()


@exporting.command()
def export(
    cell: str,
    onnx: Annotated[Path, typer.Option("--onnx", metavar="FILE", help="The ONNX file to write.")],
    images: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--images", min=1, help="Compare on the first so many test images. Default: all of the cell's."),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=0, help="Rounds of the latency; 0 times nothing.")] = 100,
    check: Annotated[bool, typer.Option("--check", help="Write nothing: compare the FILE that is there.")] = False,
    suite: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--suite", metavar="FILE", help="The suite's file, where the suite is your own."),
    ] = None,
    store: StoreOpt = STORE,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Write a cell's compressed network as ONNX with integer weights, and compare it with the simulated one.

    No store keeps compressed networks: the cell's compression is run again, then the file is written, read back and run
    in ONNX Runtime.  Needs the extra `onnx`.

    Examples: `bench export ff304265 --onnx net.onnx` · `bench export ff304265 --onnx net.onnx --images 500 --json` ·
    `bench export ff304265 --onnx net.onnx --check`
    """
    found = exported(Request(cell, onnx, store, images, runs, check, suite, data_root), err)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
        return
    show(found, out)


@dataclass(frozen=True)
class Request:
    """The command's arguments."""

    cell: str
    file: Path
    store: Path
    images: int | None = None
    runs: int = 100
    check: bool = False
    suite: str | None = None
    data_root: Path | None = None


def exported(request: Request, console: Console) -> Exported:
    """Make the cell's network again, export it and note its parity beside the store's records; progress goes to
    ``console``.

    Raises:
        NotApplicable: the network has no exportable form.
        BenchError: the extra is missing, there is no such cell, the file holds another network, or whatever the cell's
            methods and data complain of.
    """
    from bench.cli.info import cell_of
    from bench.cli.progress import reported
    from bench.export.needs import require
    from bench.spec.jobs import title_of
    from bench.store.exports import StoredExport, write_export

    record = cell_of(request.cell, request.store)
    require()
    if request.check and not request.file.is_file():
        raise BenchError("no such file to check", where="--onnx", got=request.file)
    title = title_of(record)
    console.print(f"{record.cell_id} {title}: its network is made again, then exported", highlight=False)
    from bench.run.again import Place, make_again

    with reported(console, title) as report:
        again = make_again(record, Place(request.store, request.suite, request.data_root), report)
        from bench.export.report import Asked, export  # brings torch, which the kernels are chosen before

        found = export(again, title, Asked(request.file, request.images, request.runs, request.check), report)
    parity = found.parity
    write_export(
        request.store,
        StoredExport(
            cell_id=record.cell_id,
            file_digest=found.digest,
            images=parity.images,
            agreement=parity.agreement,
            simulated_top1=parity.simulated_top1,
            exported_top1=parity.exported_top1,
            software=found.software,
        ),
    )
    return found


def show(found: Exported, console: Console) -> None:
    """Print the report: what agrees, what it costs, then every layer and every quantised tensor."""
    for line in sentences(found):
        console.print(line, highlight=False)
    layers = Table(
        "layer", "asked W/A", "in use W/A", "container", "levels W", "bits W", "levels A", "bits A", "bytes", ""
    )
    for row in found.layers:
        asked = f"{row['requested_weight_bits']}/{row['requested_activation_bits']}"
        layers.add_row(
            row["name"],
            asked,
            f"{row['weight_bits']}/{row['activation_bits']}",
            row.get("file_container", "float"),
            _number(row.get("file_weight_levels")),
            _number(row.get("file_weight_bits"), 1),
            _number(row.get("file_input_levels")),
            _number(row.get("file_input_bits"), 1),
            _number(row.get("file_bytes")),
            "" if row["agrees"] else "differs",
        )
    console.print(layers)
    if found.drift:
        table = Table("tensor", "signal-to-noise dB", "on another level %", "levels apart", title="drift by depth")
        for one in found.drift:
            table.add_row(
                one.tensor, "equal" if one.snr is None else f"{one.snr:.1f}", f"{one.moved:.4f}", str(one.levels)
            )
        console.print(table)


def sentences(found: Exported) -> list[str]:
    """What is to be said before any table."""
    parity = found.parity
    apart = "–" if parity.logit_difference is None else f"{parity.logit_difference:.3g}"
    steps = "" if parity.logit_steps is None else f", {parity.logit_steps:.1f} steps of the last layer's sums"
    claimed = "" if found.claimed_bytes is None else f", the row claims {found.claimed_bytes:,.0f}"
    said = [
        f"{found.file}: opset {found.opset}, sha256 {found.digest[:16]}",
        f"integer parity {parity.agreement:.2f} % of {parity.images} test images; top-1 exported "
        f"{parity.exported_top1:.2f} %, simulated {parity.simulated_top1:.2f} %",
        f"greatest difference of two logits {apart}{steps}",
        f"{found.bytes:,} bytes, {found.graph_bytes:,} of them the graph{claimed}; FP32 {found.float_bytes:,}",
    ]
    if found.latency:
        times = ", ".join(f"{name} {one.p50:.2f}/{one.p95:.2f} ms" for name, one in found.latency.items())
        said.append(f"one image, p50/p95: {times}")
    return [*said, *(f"note: {note}" for note in found.notes)]


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:.{digits}f}"
