"""`bench policy`: the best bits of a table, the front, and what a policy takes on a network."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.cli.policy import policy
from bench.errors import BenchError

from .test_commands import bench

HEAD = "layer,macs,weights,weight_bits,act_bits,cost"
LAYERS = {"a": (1000, 50), "b": (4000, 90), "c": (2000, 20)}
BITS = (2, 4, 8)


def cost(layer: str, weight: int, act: int) -> float:
    """Falls with bits; another rate for each layer."""
    return {"a": 5.0, "b": 1.0, "c": 9.0}[layer] * (2.0**-weight + 2.0**-act)


def table(folder: Path, head: str = HEAD, **more: str) -> Path:
    """The table as a file; ``more`` gives values of further columns by layer."""
    lines = [head]
    for name, (macs, weights) in LAYERS.items():
        for weight, act in itertools.product(BITS, BITS):
            extra = "".join(f",{more[name]}" for _ in [0] if name in more)
            lines.append(f"{name},{macs},{weights},{weight},{act},{cost(name, weight, act)}{extra}")
    file = folder / "table.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def best(most: float) -> float:
    """The least cost within so many BitOPs, by trying all policies."""
    pairs = list(itertools.product(BITS, BITS))
    found = []
    for chosen in itertools.product(pairs, repeat=3):
        used = sum(LAYERS[name][0] * w * a for name, (w, a) in zip(LAYERS, chosen, strict=True))
        if used <= most:
            found.append(sum(cost(name, w, a) for name, (w, a) in zip(LAYERS, chosen, strict=True)))
    return min(found)


def said(*arguments: str) -> str:
    """What ``bench policy`` prints, in this process."""
    done = CliRunner().invoke(policy, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: str) -> str:
    """The error ``bench policy`` ends in."""
    with pytest.raises(BenchError) as caught:
        CliRunner().invoke(policy, list(arguments), catch_exceptions=False)
    return str(caught.value)


def solved(folder: Path, *budgets: str) -> dict[str, Any]:
    """The policy within these budgets."""
    options = [word for budget in budgets for word in ("--budget", budget)]
    found: dict[str, Any] = json.loads(said("solve", str(folder / "table.csv"), *options))
    return found


def test_the_optimal_policy_within_a_budget(tmp_path: Path) -> None:
    table(tmp_path)
    answer = json.loads(bench(tmp_path, "policy", "solve", "table.csv", "--budget", "bitops=60000"))
    assert answer["bitops"] <= 60_000
    assert answer["cost"] == pytest.approx(best(60_000))
    assert list(answer["bits"]) == ["a", "b", "c"]
    four = solved(tmp_path, "average=4")
    assert four["bitops"] <= 16 * 7000
    both = solved(tmp_path, "average=4", "bytes=45")
    assert both["weight_bytes"] <= 45 < four["weight_bytes"]
    assert both["cost"] > four["cost"]


def test_layers_of_a_group_get_one_pair(tmp_path: Path) -> None:
    table(tmp_path, f"{HEAD},group", a="g", b="g", c="")
    answer = solved(tmp_path, "bitops=60000")
    assert answer["bits"]["a"] == answer["bits"]["b"]
    assert answer["cost"] >= best(60_000)


def test_the_front(tmp_path: Path) -> None:
    table(tmp_path)
    file = tmp_path / "front.json"
    text = said("solve", str(tmp_path / "table.csv"), "--pareto", "--points", "12", "--out", str(file))
    found = json.loads(file.read_text())
    assert len(found) > 3
    assert f"{found[0]['bitops']:,}" in text
    for more, fewer in itertools.pairwise(found):
        assert more["bitops"] > fewer["bitops"]
        assert more["cost"] < fewer["cost"]
    assert all(point["cost"] == pytest.approx(best(point["bitops"])) for point in found)


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        (("cost\n", "costs\n"), [], ["table.csv:1", "lacks a column", "cost"]),
        (("a,1000,50,2,2,", "a,1000,50,2,x,"), [], ["table.csv:2: act_bits", "no finite number", "'x'"]),
        (("a,1000,50,2,4,", "a,1001,50,2,4,"), [], ["table.csv:3", "disagree", "1001", "1000"]),
        (("a,1000,50,2,4,", "a,1000,50,2,2,"), [], ["table.csv:3", "given twice"]),
        (("", ""), ["--budget", "averge=4"], ["--budget", "averge=4", "did you mean: average"]),
        (("", ""), ["--budget", "average=four"], ["no positive number", "four"]),
        (("", ""), ["--budget", "average=1.5"], ["no policy is within the budget", "at least 28000"]),
        (("", ""), ["--pareto", "--budget", "average=4"], ["a front has no budget"]),
    ],
)
def test_bad_input_says_where_and_what(
    tmp_path: Path, change: tuple[str, str], arguments: list[str], words: list[str]
) -> None:
    file = table(tmp_path)
    file.write_text(file.read_text().replace(*change, 1))
    found = refused("solve", str(file), "--out", str(tmp_path / "mine.json"), *arguments)
    assert all(word in found for word in words), found
    assert not (tmp_path / "mine.json").exists()


def test_a_policy_on_a_network(tmp_path: Path) -> None:
    shown = json.loads(said("show", str(whole(tmp_path)), "--target", "resnet18_w10", "--json"))
    assert shown["effective_bits"] == pytest.approx(4)
    assert shown["bitops_legacy"] > shown["bitops"]
    assert shown["bits"]["conv1"] == shown["bits"]["fc"] == [8, 8]
    text = said("show", str(whole(tmp_path)), "--target", "resnet18_w10")
    assert "layer4.1.conv2" in text
    assert "GBitOPs" in text


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("layer1.0.conv3", ["does not have", "did you mean: layer1.0.conv"]),
        ("", ["misses a layer", "layer1.0.conv1"]),
    ],
)
def test_a_policy_of_another_network(tmp_path: Path, wrong: str, words: list[str]) -> None:
    file = whole(tmp_path)
    bits = json.loads(file.read_text())
    bits["bits"][wrong or "conv1"] = bits["bits"].pop("layer1.0.conv1")
    file.write_text(json.dumps(bits))
    found = refused("show", str(file), "--target", "resnet18_w10")
    assert all(word in found for word in words), found


def whole(folder: Path) -> Path:
    """4 bits for every inner layer of ResNet-18."""
    from bench.zoo import targets

    names = [name for name, part in targets.load("fashion_mnist/resnet18_w10").module.named_modules() if weighted(part)]
    file = folder / "mine.json"
    file.write_text(json.dumps({"method": "by hand", "bits": {name: [4, 4] for name in names[1:-1]}}))
    return file


def weighted(part: object) -> bool:
    """A convolution or a linear layer."""
    from torch import nn

    return isinstance(part, nn.Conv2d | nn.Linear)


def test_ranks_of_a_suite_without_searches(tmp_path: Path) -> None:
    asked = ["ranks", "quickstart", "--store", str(tmp_path)]
    with pytest.raises(BenchError, match="no search of it can be rated") as told:
        CliRunner().invoke(policy, asked, catch_exceptions=False)
    assert "measured policies beside" in str(told.value)
    assert json.loads(CliRunner().invoke(policy, [*asked, "--json"]).stdout) == []
