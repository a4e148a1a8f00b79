"""The smallest network of every architecture family of timm and torchvision, wrapped and cut into units.

``make sweep``.  Random weights (torch.hub and downloads are never used), each network at its own size and with its own
classes; docs/networks.md says what is checked.  A network's line goes to the state file as soon as it is done, and a
second start goes on where the first one stopped.  Never part of the tests.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from timm.models import list_models, list_modules
from torch import Tensor, nn

from bench.errors import BenchError, NotApplicable
from bench.interfaces import Setting
from bench.interfaces.inventory import LAYERS, evaluating, probe_images, take_inventory
from bench.measure.complexity import count, float_share
from methods.quant.graph import prepare
from methods.quant.model import Options, QuantModel, Sampling, quantize_prepared
from methods.quant.same import TOLERANCE, difference
from tests.benchmarks.sweep_table import write_page
from tests.compressors.prune_toys import compress
from tests.compressors.recon_toys import handle
from tests.quant.nets import randomise

MAX_SIDE = 384
"""Networks for larger images are listed as skipped."""

WORDS = (
    *(
        "test_",
        "atto",
        "femto",
        "pico",
        "nano",
        "xxs",
        "xx_small",
        "xxt",
        "xs",
        "x_small",
        "_t0",
        "_n0",
        "tiny",
        "mini",
    ),
    *("_s0", "_b0", "_0", "00mf", "small", "128s"),
)
"""Parts of names that promise a small network, smallest first."""


@dataclass
class Line:
    """One family's result; ``status`` is ok, skipped or failed, ``reason`` says why."""

    family: str
    network: str
    status: str
    reason: str = ""
    side: int = 0
    parameters: int = 0
    path: str = ""
    difference: float | None = None
    layers: int = 0
    units: int = 0
    loose: int = 0
    float_weights: float = 0.0
    pruning: str = "not tried"
    seconds: float = 0.0


def families() -> dict[str, list[str]]:
    """{family: its networks}: modules of timm, modules of torchvision.models."""
    found = {f"timm/{module}": [f"timm:{n}" for n in list_models(module=module)] for module in list_modules()}
    for name in torchvision.models.list_models(module=torchvision.models):
        module = torchvision.models.get_model_builder(name).__module__.rpartition(".")[2]
        found.setdefault(f"torchvision/{module}", []).append(f"torchvision:{name}")
    return {family: networks for family, networks in found.items() if networks}


def promise(name: str) -> tuple[int, int, int, str]:
    """How small a network its name promises; least first."""
    word = next((i for i, part in enumerate(WORDS) if part in name), len(WORDS))
    digits = "".join(c if c.isdigit() else " " for c in name).split()
    return word, int(digits[0]) if digits else 999, len(name), name


def smallest(networks: list[str], tries: int = 2) -> tuple[str, int]:
    """Of the few whose names promise least the one with the fewest parameters, and how many these are."""
    sizes: dict[str, int] = {}
    for name in sorted(networks, key=promise)[:tries]:
        with torch.device("meta"):
            try:
                sizes[name] = sum(p.numel() for p in build(name).parameters())
            except (RuntimeError, NotImplementedError, ValueError, TypeError):
                continue  # it computes with its own weights while it is built
    if not sizes:
        name = min(networks, key=promise)
        return name, sum(p.numel() for p in build(name).parameters())
    least = min(sizes, key=sizes.__getitem__)
    return least, sizes[least]


def build(network: str) -> nn.Module:
    """The network with random weights, in eval mode."""
    library, _, name = network.partition(":")
    if library == "timm":
        return timm.create_model(name, pretrained=False).eval()
    more: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **more).eval()


def side_of(network: str, net: nn.Module) -> tuple[int, int]:
    """(Channels, side) of the images it is made for."""
    if network.startswith("timm:"):
        config: Any = net.pretrained_cfg
        return config["input_size"][0], config["input_size"][-1]
    weights = torchvision.models.get_model_weights(network.partition(":")[2])
    (size,) = next(iter(weights)).transforms().crop_size
    return 3, size


def lively(net: nn.Module) -> nn.Module:
    """Random batch-norm statistics, and weights where the library starts with zeros, which would hide every error."""
    generator = torch.Generator().manual_seed(1)
    for part in net.modules():
        weight = getattr(part, "weight", None)
        if isinstance(part, LAYERS) and isinstance(weight, Tensor) and not bool(weight.any()):
            nn.init.normal_(weight, std=0.05, generator=generator)
    return randomise(net).requires_grad_(False)


def examine(network: str, line: Line, prune: bool) -> None:
    """Fill in ``line``; raises AssertionError, or what the product raises."""
    torch.manual_seed(0)
    net = lively(build(network))
    channels, line.side = side_of(network, net)
    if line.side > MAX_SIDE:
        line.status, line.reason = "skipped", f"images of {line.side} pixels"
        return
    x = probe_images(torch.zeros(1, channels, line.side, line.side), 2)
    with evaluating(net):
        expected = net(x)
    prepared = prepare(net, x)
    line.path = "graph" if prepared.graph is not None else f"modules: {prepared.reason}"
    model = quantize_prepared(prepared, Setting(4, 4), Options("minmax", "minmax"))
    model.set_state(False, False)
    with torch.no_grad():
        line.difference = difference(model(x), expected)
    assert line.difference <= TOLERANCE, f"differs by {line.difference:.1e}"
    called = [name for name, use in take_inventory(net, x[:1]).layers.items() if _wrapped(use.module)]
    covered = [layer for unit in model.units for layer in unit.layers]
    assert sorted(covered) == sorted(called) == sorted(model.weights), "units do not cover the layers"
    line.layers, line.units, line.loose = len(called), len(model.units), len(model.loose)
    run_units(model, x)
    model.set_state(True, True)
    model.calibrate(x, Sampling(values=1024))
    with torch.no_grad():
        assert bool(torch.isfinite(model(x)).all()), "W4A4 gives values that are not finite"
    line.float_weights, _ = float_share(count(net, (channels, line.side, line.side)), model.layer_bits())
    line.status = "ok"
    if prune:
        line.pruning = pruned(net, x)


def _wrapped(part: nn.Module) -> bool:
    return isinstance(part, (nn.Conv2d, nn.Linear))


@torch.no_grad()
def run_units(model: QuantModel, x: Tensor) -> None:
    """The chain's units in order, and a few of the others on their own inputs."""
    carried, others = x, 0
    for unit in model.units:
        if unit.chain:
            carried = model.unit_module(unit)(model.capture_inputs(unit, x) if others else carried)
        elif others < 4:
            found = model.unit_module(unit)(model.capture_inputs(unit, x))
            assert bool(torch.isfinite(found).all()), f"unit {unit.name}"
            others += 1
    if all(unit.chain for unit in model.units):
        assert torch.equal(carried, model(x)), "the units are not the whole forward"


def pruned(net: nn.Module, x: Tensor) -> str:
    """What structured pruning without learning says."""
    from bench.interfaces import ImageSet

    images = ImageSet(x, None, None, "none", "0", "0")
    try:
        made = compress(handle(net), images, mask_iterations=0, weight_iterations=0)
    except NotApplicable as error:
        return f"not applicable: {str(error).splitlines()[0]}"
    sizes = made.report["parameters"]
    return f"{100 * (1 - sizes['after'] / sizes['before']):.0f} % of the parameters removed"


def measure(family: str, networks: list[str], largest: float, prune: bool) -> Line:
    """One family's line; networks of more than ``largest`` million parameters are skipped."""
    begin = time.perf_counter()
    line = Line(family, "", "failed")
    try:
        line.network, line.parameters = smallest(networks)
        if line.parameters > largest * 1e6:
            line.status, line.reason = "skipped", f"{line.parameters / 1e6:.0f} M parameters"
        else:
            examine(line.network, line, prune)
    except NotApplicable as error:
        line.status, line.reason = "not applicable", str(error).replace("\n", " ")
    except (AssertionError, BenchError) as error:
        line.status, line.reason = "failed", str(error).replace("\n", " ")
    except Exception as error:  # noqa: BLE001 - a sweep goes on, and says what happened
        line.status = "failed"
        line.reason = f"traceback: {type(error).__name__}: {error}"
        traceback.print_exc()
    line.seconds = round(time.perf_counter() - begin, 1)
    return line


def done(state: Path) -> Iterator[Line]:
    """Lines of earlier starts, a family's last one."""
    if state.exists():
        lines = [Line(**json.loads(text)) for text in state.read_text(encoding="utf-8").splitlines()]
        yield from {line.family: line for line in lines}.values()


def again(line: Line, failed: bool, largest: float) -> bool:
    """Whether a family is to be tried once more: one that failed, where that is asked for, or was too large then."""
    small = line.status == "skipped" and not line.side and line.parameters <= largest * 1e6
    return small or (failed and line.status == "failed")


def main() -> int:
    """Sweep; exits with 1 where a family failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=Path("build/sweep.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/networks.md"))
    parser.add_argument("--largest", type=float, default=90, help="skip networks of more million parameters")
    parser.add_argument("--only", nargs="*", default=[], help="these families alone, once more")
    parser.add_argument("--failed", action="store_true", help="do those again that failed")
    parser.add_argument("--prune", action="store_true", help="prune each network as well")
    args = parser.parse_args()
    args.state.parent.mkdir(parents=True, exist_ok=True)
    known, networks = {line.family: line for line in done(args.state)}, families()
    todo = args.only or [f for f in networks if f not in known or again(known[f], args.failed, args.largest)]
    todo.sort(key=lambda family: min(map(promise, networks[family])))
    for number, family in enumerate(todo, start=1):
        line = known[family] = measure(family, networks[family], args.largest, args.prune)
        with args.state.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")
        said = f"{line.status} {line.reason}"[:300]
        sys.stdout.write(f"{number}/{len(todo)} {line.network or family}: {said} ({line.seconds} s)\n")
        sys.stdout.flush()
    write_page(args.page, [asdict(line) for line in known.values()])
    return int(any(line.status == "failed" for line in known.values()))


if __name__ == "__main__":
    sys.exit(main())
