"""Any classification network of timm and torchvision can be quantised (docs/methods/quantisation.md#invariant-3,
#invariant-6, #invariant-7)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from bench.interfaces import Setting
from methods.quant.graph import prepare
from methods.quant.model import Options, QuantModel, Sampling, quantize_model, quantize_prepared
from tests.quant.nets import images, randomise

COUNTS = {
    "torchvision/resnet18": 10,
    "torchvision/resnet50": 18,
    "torchvision/vgg11_bn": 11,
    "torchvision/mobilenet_v2": 20,
    "torchvision/mobilenet_v3_large": 19,
    "torchvision/mnasnet1_0": 21,
    "torchvision/efficientnet_b0": 19,
    "torchvision/regnet_x_400mf": 24,
    "torchvision/densenet121": None,
    "torchvision/shufflenet_v2_x1_0": 19,
    "torchvision/googlenet": 13,
    "torchvision/inception_v3": None,
    "torchvision/convnext_tiny": None,
    "timm/resnet18": 10,
    "timm/resnet50": 18,
    "timm/mobilenetv2_100": 20,
    "timm/mnasnet_100": 20,
    "timm/efficientnet_b0": 19,
    "timm/efficientnet_lite0": 19,
    "timm/mobilenetv3_large_100": 19,
    "timm/regnetx_004": 24,
    "timm/densenet121": None,
    "timm/repvgg_a0": 23,
    "timm/ghostnet_100": None,
    "timm/hrnet_w18": None,
    "timm/seresnet50": 18,
    "timm/res2net50_26w_4s": 18,
    "timm/dla34": None,
    "timm/convnext_atto": None,
    "timm/vit_tiny_patch16_224": 14,
    "timm/vgg11_bn": 10,
}
"""Network: number of units, None where only coverage is asked.  The list of
docs/methods/quantisation.md#networks-tried."""

# What stays in floating point (pre-activation networks), so that nothing else does unnoticed.
KEEPS_NORM = {"torchvision/densenet121", "timm/densenet121", "timm/repvgg_a0"}
OFF_CHAIN = {
    "torchvision/densenet121",
    "torchvision/inception_v3",
    "timm/densenet121",
    "timm/ghostnet_100",
    "timm/hrnet_w18",
    "timm/dla34",
}
SIZES = {"torchvision/inception_v3": 96, "timm/vit_tiny_patch16_224": 64}


@cache
def network(name: str) -> nn.Module:
    """The network with random weights, ten classes and random batch-norm statistics."""
    library, _, short = name.partition("/")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        more = {"init_weights": False} if short in ("googlenet", "inception_v3", "vgg11_bn") else {}
        if library == "torchvision":
            net = torchvision.models.get_model(short, weights=None, num_classes=10, **more)
        else:
            size = {"img_size": 64} if short.startswith("vit") else {}
            net = timm.create_model(short, num_classes=10, **size)
    for part in net.modules():
        # timm starts some heads at zero, which hides every error.
        if isinstance(part, nn.Linear) and not bool(part.weight.any()):
            nn.init.normal_(part.weight, std=0.05, generator=torch.Generator().manual_seed(1))
    return randomise(net)


@pytest.fixture(autouse=True)
def _free() -> Iterator[None]:
    """One network at a time in memory."""
    yield
    network.cache_clear()


def weighted(net: nn.Module) -> int:
    """Weighted layers that run in eval mode; the auxiliary heads of the Inception networks do not."""
    layers = [name for name, part in net.named_modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    return sum(not name.lower().startswith("aux") for name in layers)


def run_chain(model: QuantModel, x: Tensor) -> Tensor:
    for unit in model.units:
        x = model.unit_module(unit)(x)
    return x


@pytest.mark.parametrize("name", COUNTS)
def test_network_can_be_quantised(name: str) -> None:
    net, x = network(name), images(2, SIZES.get(name, 64))
    prepared = prepare(net, x)
    assert prepared.graph is not None, prepared.reason
    with torch.no_grad():
        unfolded, folded = net(x), prepared.body(x)
    assert bool(torch.isfinite(unfolded).all())
    assert float((folded - unfolded).norm() / unfolded.norm()) <= 1e-5
    left = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in prepared.body.modules())
    assert left == (name in KEEPS_NORM)

    model = quantize_prepared(prepared, Setting(32, 32))
    with torch.no_grad():
        assert torch.equal(model(x), folded)
    check_units(name, model, folded, x, weighted(net))

    small = quantize_model(net, x, Setting(4, 4), weight_range="minmax", act_range="minmax")
    small.calibrate(x, Sampling(values=1024))
    with torch.no_grad():
        quantised = small(x)
    assert bool(torch.isfinite(quantised).all())
    assert not torch.equal(quantised, folded)
    bits = small.layer_bits()
    assert all(act in (4, 8) for _, act in bits.values()), "a layer reads a tensor that is not quantised"
    weights = [weight for weight, _ in bits.values()]
    assert weights == [8] + [4] * (len(weights) - 2) + [8]


def check_units(name: str, model: QuantModel, folded: Tensor, x: Tensor, layers: int) -> None:
    covered = [layer for unit in model.units for layer in unit.layers]
    assert len(covered) == len(set(covered)) == layers
    assert set(covered) == set(model.weights)
    assert all(len(unit.layers) <= Options().max_layers for unit in model.units)
    if COUNTS[name] is not None:
        assert len(model.units) == COUNTS[name]
    assert (not all(unit.chain for unit in model.units)) == (name in OFF_CHAIN)
    with torch.no_grad():
        if name not in OFF_CHAIN:
            assert torch.equal(run_chain(model, x), folded)
        else:
            loose = next(unit for unit in model.units if not unit.chain)
            assert model.unit_module(loose)(model.capture_inputs(loose, x)).shape[0] == 2


def test_every_listed_network_is_known() -> None:
    known = set(torchvision.models.list_models()) | set(timm.list_models())
    assert {name.partition("/")[2] for name in COUNTS} <= known
