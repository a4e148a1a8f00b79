"""Several methods as one compressor, on a real network."""

from __future__ import annotations

import copy
import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.data.access import DataAccess
from bench.data.datasets import get_dataset
from bench.interfaces import Compressed, DatasetSpec, ImageSet, MethodParams, ModelHandle, RunContext, Setting, Variant
from bench.run.steps import run_steps
from bench.spec import axes
from bench.spec.registry import Registry
from bench.spec.resolved import ResolvedCompressor
from bench.zoo import targets
from tests import pick


class Halve:
    """Makes the classifier blind to the last four of eight channels: a plain network with other weights."""

    Params = MethodParams

    def check(self, params: Any, model: ModelHandle) -> None: ...

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        assert (setting.sparsity, setting.weight_bits) == (0.5, 32)
        module = copy.deepcopy(model.module)
        with torch.no_grad():
            _last(module).weight[:, 4:] = 0
        return Compressed((Variant(setting, module, network=module, protocol={"kind": "halved"}),), {"cut": 1}, 10.0)


def _last(module: nn.Module) -> nn.Linear:
    found = list(module.children())[-1]
    assert isinstance(found, nn.Linear)
    return found


def test_a_later_step_sees_what_the_one_before_made(tmp_path: Path) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    body.append(nn.Linear(8, 10))
    model = ModelHandle("toy/net", body.eval(), "d" * 64, "net", "net", 1, "toy", (0.5,), (0.5,), 50.0)
    images = ImageSet(torch.randn(16, 1, 12, 12), None, None, "none", "d", "s")
    access = DataAccess(get_dataset("fashion_mnist"), "T0")
    generator = torch.Generator().manual_seed(0)
    context = RunContext(torch.device("cpu"), torch.float32, generator, access, tmp_path, logging.getLogger())
    compressors = Registry("compressors")
    name = pick.name("compressors", accepts="bits")
    later = compressors.get(name)
    first = ResolvedCompressor("halve", "halve", 1, MethodParams(), {}, frozenset({"sparsity"}))
    second = ResolvedCompressor(name, name, later.version, later.Params(), {}, frozenset({"bits"}))
    both = dataclasses.replace(
        first, method=f"halve+{name}", accepts=frozenset({"bits", "sparsity"}), steps=(first, second)
    )

    def find(name: str) -> Any:
        return Halve() if name == "halve" else compressors.get(name)

    made = run_steps(both, find, model, images, Setting(4, 4, sparsity=0.5), context)
    alone = find("halve").compress(model, images, Setting(sparsity=0.5), None, context).variants[0].module
    handle = dataclasses.replace(model, module=alone)
    expected = later.compress(handle, images, Setting(4, 4), later.Params(), context)
    with torch.no_grad():
        assert torch.equal(made.variants[0].module(images.images), expected.variants[0].module(images.images))
    assert axes.label(made.variants[0].setting) == "S50 W4A4"
    assert made.variants[0].protocol["steps"] == [{"compressor": "halve", "kind": "halved"}]
    assert {key: value for key, value in made.variants[0].protocol.items() if key != "steps"} == expected.variants[
        0
    ].protocol
    assert made.report["steps"] == [{"compressor": "halve", "cut": 1}]
    assert made.forward_equivalents == expected.forward_equivalents + 10
    network = made.variants[0].network
    assert network is not None
    assert set(made.variants[0].layer_bits) <= {name for name, _ in network.named_modules()}
    assert float(_last(body).weight[:, 4:].detach().abs().sum()) > 0


def test_one_method_answers_as_it_did_alone(tmp_path: Path) -> None:
    row = ResolvedCompressor("one", "one", 1, MethodParams(), {}, frozenset({"bits"}))
    answer = Compressed((), {"b": 2}, 3.0)

    class One:
        def check(self, params: Any, model: Any) -> None: ...

        def compress(self, *given: Any) -> Compressed:
            return answer

    assert run_steps(row, lambda name: One(), None, None, Setting(4, 4), None) == answer  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("fashion_mnist/resnet18_w10", (1, 32, 32)),
        ("fashion_mnist/vgg_bn_w12", (1, 32, 32)),
        ("timm:resnet18", (3, 32, 32)),
    ],
)
def test_an_untrained_network_is_drawn_from_the_generator(name: str, shape: tuple[int, int, int]) -> None:
    spec = DatasetSpec("toy", 7, shape, (0.5,) * shape[0], (0.5,) * shape[0])
    made = [targets.untrained(name, spec, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    first, same, other = (next(m.parameters()) for m in made)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert made[0](torch.randn(2, *shape)).shape == (2, 7)
    assert made[0].training
    assert all(p.requires_grad for p in made[0].parameters())
