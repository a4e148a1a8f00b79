"""`bench policy …`: the best bits per layer of a table of sensitivities, and what a policy takes on a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.table import Table

from bench.cli.options import STORE, Json, StoreOpt, SuiteArg, out
from bench.errors import SuiteError, nearest
from bench.interfaces import BitPolicy, LayerBits, check_layers
from bench.spec.policy_files import policy_text, read_policy_file, write_policy_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.interfaces.program import Choice, Limits, Solution
    from bench.measure.complexity import Counts

policy = typer.Typer(
    help="Bits per layer.  Example: `bench policy solve table.csv --budget average=4 --out mine.json`",
    no_args_is_help=True,
)

BUDGETS = ("bitops", "bytes", "average")


@policy.command()
def solve(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE.csv",
            help="A line per layer and pair of bits, columns layer, macs, weights, weight_bits, act_bits, cost; "
            "group (layers that get the same pair) and reads (layers that read one tensor) if there are such.",
        ),
    ],
    budget: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--budget",
            metavar="NAME=VALUE",
            help="bitops=3.2e9 | bytes=250000 | average=4 (effective bits); several hold at once. They count the "
            "layers of the table.",
        ),
    ] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="The front of cost over BitOPs instead of one point.")
    ] = False,
    points: Annotated[int, typer.Option("--points", min=2, max=1000, help="Budgets tried along the front.")] = 40,
    file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", metavar="FILE", help="Write the policy (the front: a list of them) as JSON."),
    ] = None,
) -> None:
    """Choose each layer's bits so that the costs' sum is least within hard budgets (an integer program).

    Examples: `bench policy solve table.csv --budget bitops=3.2e9 --out mine.json` · `bench policy solve table.csv
    --pareto` · then in a suite `policy: [{file: mine.json}]`
    """
    from bench.interfaces import program
    from bench.spec import sensitivities

    choices = sensitivities.read_table(table)
    if pareto:
        if budget:
            raise SuiteError("a front has no budget", where="--budget", got=", ".join(budget), hint="Drop one of them.")
        found = program.front(choices, points)
        out.print(_front_table(found))
        if file is not None:
            _write(file, json.dumps([_facts(s) | {"bits": s.policy.to_json()} for s in found], indent=1) + "\n")
        return
    limits = limits_of(budget or [], choices)
    solution = program.solve(choices, limits)
    facts = {"method": "integer program", "table": table.name} | _facts(solution)
    if file is None:
        typer.echo(policy_text(solution.policy, facts), nl=False)
    else:
        _write_policy(file, solution.policy, facts)
        out.print(f"{_said(solution)}, in {file}", highlight=False)


@policy.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy as JSON.")],
    target: Annotated[str, typer.Option("--target", help="The network: a target's name, or timm:NAME.")],
    dataset: Annotated[str, typer.Option("--dataset", help="Data set of the target.")] = "fashion_mnist",
    as_json: Json = False,
) -> None:
    """Show a policy on a network: its bits, BitOPs in both ways of counting, bytes of the weights.

    First and last layer have 8 bits unless the policy names them.

    Example: `bench policy show mine.json --target resnet18_w10`
    """
    from bench.measure.complexity import bitops, count
    from bench.spec.catalogue import ShippedCatalogue, find_network
    from bench.zoo import targets

    found = read_policy_file(file, str(file))
    catalogue = ShippedCatalogue()
    model = targets.load(find_network(catalogue, dataset, target, "--target"))
    shape = catalogue.info(model.name).shape or catalogue.dataset(dataset).shape
    counts = count(model.module, shape)
    bits = complete(found, counts, str(file))
    weights = sum(counts.layers[name].weights * pair.weight for name, pair in bits.items())
    inner = list(counts.layers)[1:-1]
    macs = sum(counts.layers[name].macs for name in inner)
    used = sum(counts.layers[name].macs * bits[name].weight * bits[name].input for name in inner)
    facts = {
        "target": model.name,
        "bitops": bitops(counts, bits),
        "bitops_legacy": bitops(counts, bits, legacy=True),
        "effective_bits": (used / max(macs, 1)) ** 0.5,
        "weight_bytes": weights / 8,
        "compression": 32 * sum(layer.weights for layer in counts.layers.values()) / max(weights, 1),
    }
    if as_json:
        typer.echo(json.dumps(facts | {"bits": {name: list(pair) for name, pair in bits.items()}}, indent=1))
        return
    shown = Table("layer", "weight bits", "input bits", "MACs", "weights", title=f"{file.name} on {model.name}")
    for name, pair in bits.items():
        layer = counts.layers[name]
        shown.add_row(name, str(pair.weight), str(pair.input), f"{layer.macs:,}", f"{layer.weights:,}")
    out.print(shown)
    out.print(
        f"{facts['bitops'] / 1e9:.4g} GBitOPs ({facts['bitops_legacy'] / 1e9:.4g} by the legacy count), "
        f"effective bits {facts['effective_bits']:.3f} between first and last layer, weights "
        f"{facts['weight_bytes']:,.0f} bytes (1/{facts['compression']:.2f} of floating point)",
        highlight=False,
    )


@policy.command()
def ranks(
    suite: SuiteArg,
    store: StoreOpt = STORE,
    as_json: Json = False,
) -> None:
    """Does what a search calls costly lose accuracy?  Each search rates every policy of the suite that was measured;
    Spearman's rank correlation of how cheap it calls them with how accurate they are, mean over seeds (1: the same
    order).

    Example: `bench policy ranks policy_ptq`
    """
    from bench.board.index.versions import versions
    from bench.board.tables.foretelling import FEWEST, foretelling
    from bench.cli.board import all_records, records_of

    _, records, note = records_of(suite, all_records(store), None)
    found = foretelling(records, versions=versions())
    if as_json:
        typer.echo(found.to_json(orient="records", indent=1))
        return
    if found.empty:
        raise SuiteError(
            "no search of it can be rated",
            where=suite,
            got=f"{len(records)} records",
            hint=f"needed are searches that report a cost per layer, with {FEWEST} measured policies beside",
        )
    shown = Table("source", "target", "compressor", "bits", "search", "policies", "seeds", "rank correlation", "range")
    columns = ("source", "target", "compressor", "setting_label", "policy")
    for row in found.to_dict("records"):
        words = (str(row[name]) for name in (*columns, "policies", "seeds"))
        shown.add_row(*words, f"{row['correlation']:.2f}", f"{row['lowest']:.2f} to {row['highest']:.2f}")
    out.print(shown)
    if note:
        out.print(note, highlight=False)


def complete(given: BitPolicy, counts: Counts, where: str) -> dict[str, LayerBits]:
    """Bits of every weighted layer: the policy's, and 8 where it leaves out the first or the last.

    Raises:
        BenchError: it names a layer that the network lacks, or misses one.
    """
    names = list(counts.layers)
    check_layers(given, names, names[1:-1], where=where)
    return {name: given.get(name, LayerBits(8, 8)) for name in names}


def limits_of(given: Sequence[str], choices: Sequence[Choice]) -> Limits:
    """``--budget`` as limits on the layers of the table.

    Raises:
        SuiteError: no such budget, or no positive number.
    """
    from bench.interfaces.program import Limits

    most: dict[str, list[int]] = {"bitops": [], "weight_bits": []}
    macs = sum(choice.macs for choice in choices)
    for text in given:
        name, _, value = text.partition("=")
        if name not in BUDGETS:
            raise SuiteError(
                "no such budget", where="--budget", got=text, expected=BUDGETS, nearest=nearest(name, BUDGETS)
            )
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not 0 < number < 1e30:
            raise SuiteError(
                "no positive number", where=f"--budget {name}", got=value or "nothing", expected="1e9, 250000, 4 …"
            )
        if name == "bytes":
            most["weight_bits"].append(int(8 * number))
        else:
            most["bitops"].append(int(number if name == "bitops" else macs * number**2))
    return Limits(min(most["bitops"], default=None), min(most["weight_bits"], default=None))


def _facts(solution: Solution) -> dict[str, Any]:
    return {"cost": solution.cost, "bitops": solution.bitops, "weight_bytes": solution.weight_bits / 8}


def _said(solution: Solution) -> str:
    size = solution.weight_bits / 8
    return f"cost {solution.cost:.6g} at {solution.bitops:,} BitOPs, {size:,.0f} bytes of weights"


def _front_table(found: Iterable[Solution]) -> Table:
    shown = Table("BitOPs", "bytes of weights", "cost", "mean weight bits", "mean input bits", title="front")
    for solution in found:
        pairs = list(solution.policy.values())
        means = (sum(pair[side] for pair in pairs) / len(pairs) for side in (0, 1))
        size = f"{solution.weight_bits / 8:,.0f}"
        shown.add_row(f"{solution.bitops:,}", size, f"{solution.cost:.6g}", *(f"{mean:.2f}" for mean in means))
    return shown


def _write(file: Path, text: str) -> None:
    from bench.atomic import replace_file

    try:
        replace_file(file, text.encode())
    except OSError as error:
        raise SuiteError("cannot write the file", where=str(file), got=error.strerror) from error


def _write_policy(file: Path, found: BitPolicy, facts: dict[str, Any]) -> None:
    try:
        write_policy_file(file, found, facts)
    except OSError as error:
        raise SuiteError("cannot write the file", where=str(file), got=error.strerror) from error
