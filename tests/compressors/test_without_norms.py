"""Networks without batch norm: transformers, shifted windows, ConvNeXt, NFNet, SqueezeNet, and what is left in floating
point of them (docs/methods/quantisation.md#without-batch-norm)."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from bench.interfaces import Compressed, Setting
from bench.interfaces.inventory import take_inventory
from methods.quant.model import quantize_model
from methods.quant.units import describe_units
from tests import pick
from tests.compressors.recon_toys import context, handle, image_set
from tests.contracts import kit

BITS = pick.Exactly(frozenset({"bits"}))
BLOCKWISE = pick.first("compressors", accepts=BITS, offers="units", params=("step_iterations",))
LAYERWISE = pick.first("compressors", accepts=BITS, offers=pick.Exactly(frozenset()), params=("iterations",))
NEAREST = pick.first(
    "compressors", accepts=BITS, offers=pick.Exactly(frozenset()), params=("per_channel", "max_layers")
)
TRAINED = pick.first("compressors", accepts=BITS, offers="teacher", params=("activation_grid", "steps"))

TRANSFORMER = ["layer normalisation", "products of activations", "softmax"]


def _swin() -> Any:
    sizes: dict[str, Any] = {"img_size": 16, "patch_size": 2, "window_size": 4, "embed_dim": 12}
    return timm.create_model("swin_tiny_patch4_window7_224", num_classes=5, depths=(2, 1), num_heads=(2, 2), **sizes)


def _vit() -> Any:
    sizes: dict[str, Any] = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3}
    return timm.create_model("vit_tiny_patch16_224", num_classes=5, **sizes)


def _convnext() -> Any:
    return timm.create_model("convnext_atto", num_classes=5, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), patch_size=2)


def _nfnet() -> Any:
    sizes: dict[str, Any] = {"channels": (16, 16, 32, 32), "stem_chs": 8, "group_size": 8, "num_features": 16}
    return timm.create_model("nfnet_l0", num_classes=5, depths=(1, 1, 1, 1), **sizes)


def _squeezenet() -> Any:
    return torchvision.models.squeezenet1_1(num_classes=5)


KINDS: dict[str, tuple[Any, int, list[str], list[str]]] = {
    "vit": (_vit, 16, ["blocks.0", "blocks.1"], TRANSFORMER),
    "swin": (_swin, 16, ["layers.0.blocks.0", "layers.0.blocks.1", "layers.1.blocks.0"], TRANSFORMER),
    "convnext": (_convnext, 32, [f"stages.{k}.blocks.0" for k in range(4)], ["layer normalisation"]),
    "nfnet": (_nfnet, 32, [f"stages.{k}.0" for k in range(4)], []),
    "squeezenet": (_squeezenet, 32, [f"features.{k}" for k in (3, 4, 6, 7, 9, 10, 11, 12)], []),
}
"""Builder, side of its images, its blocks, what its protocol has as ``float_operations``."""


@cache
def network(kind: str) -> nn.Module:
    """With random weights, the ones that start at zero among them."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net: nn.Module = KINDS[kind][0]()
    for part in net.requires_grad_(False).parameters():
        if not bool(part.any()) or float(part.abs().max()) < 1e-5:  # zero heads and residual gains hide every error
            nn.init.normal_(part, std=0.2, generator=generator)
    return net.eval()


def images(kind: str) -> Tensor:
    return image_set(8, KINDS[kind][1]).images


def compress(kind: str, name: str) -> Compressed:
    if not name:
        pytest.skip("no installed compressor of this kind")
    method = pick.methods("compressors")[name]
    params = kit.small(method)
    model = handle(network(kind), kind)
    method.check(params, model)
    found: Compressed = method.compress(model, image_set(8, KINDS[kind][1]), Setting(4, 4), params, context())
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_the_units(kind: str) -> None:
    """Every weighted layer is in one unit; the blocks of the architecture are units, whole."""
    net, blocks = network(kind), KINDS[kind][2]
    units = describe_units(net, images(kind)[:2])
    layers = [layer for _, _, inside in units for layer in inside]
    assert sorted(layers) == sorted(take_inventory(net, images(kind)[:2]).layers)
    names = [name for name, _, _ in units]
    assert [name for name in names if name in blocks] == blocks
    for name, _, inside in units:
        if name in blocks:
            own = [f"{name}.{n}" for n, m in net.get_submodule(name).named_modules() if isinstance(m, _LAYERS)]
            assert set(inside) == set(own)


_LAYERS = (nn.Conv2d, nn.Linear)

PAIRS = [
    *((kind, BLOCKWISE) for kind in KINDS),
    *((kind, TRAINED) for kind in ("vit", "swin", "nfnet")),
    *((kind, LAYERWISE) for kind in ("swin", "convnext")),
    *((kind, NEAREST) for kind in ("vit", "squeezenet")),
]


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_it_compresses(kind: str, name: str) -> None:
    (variant,) = compress(kind, name).variants
    net, x = network(kind), images(kind)
    with torch.no_grad():
        made, given = variant.module(x), net(x)
    assert bool(made.isfinite().all())
    assert made.shape == given.shape
    assert not torch.allclose(made, given, rtol=1e-3)
    names = list(take_inventory(net, x[:2]).layers)
    assert set(variant.layer_bits) == set(names)
    inner = [variant.layer_bits[layer] for layer in names[1:-1]]
    assert all(bits.weight == 4 for bits in inner)
    assert all(bits.input in (4, 8) for bits in inner)
    assert {variant.layer_bits[layer].weight for layer in (names[0], names[-1])} == {8}
    assert variant.protocol.get("float_operations", []) == KINDS[kind][3]
    assert variant.protocol["path"] == "graph"


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_nothing_is_rounded_but_weights_and_inputs_of_layers(kind: str) -> None:
    """Queries, keys, values, attention's products and the stream of sums have no quantiser; a layer's input has one."""
    net = quantize_model(network(kind), images(kind)[:2], Setting(2, 2), weight_range="minmax", act_range="minmax")
    reads = {layer: net.reads(layer) for layer in net.weights}
    assert all(len(tensors) == 1 for tensors in reads.values())
    inputs = {tensor for tensors in reads.values() for tensor in tensors}
    assert inputs - set(net.activations) == {"<image>"}
    assert set(net.activations) <= inputs


def test_a_weight_standardising_layer_rounds_the_weight_it_multiplies_by() -> None:
    """NFNet's weight is standardised before the grid is laid, so that there are 2^b values per channel."""
    net = quantize_model(network("nfnet"), images("nfnet")[:2], Setting(3, 32))
    for name, quantizer in net.weights.items():
        layer = net.layer(name)
        assert type(layer).__name__ in ("Conv2d", "Conv2dSame", "Linear")
        bits = net.layer_bits()[name].weight
        used = quantizer(layer.weight).flatten(1)
        assert max(len(row.unique()) for row in used) <= 2**bits
    source: Any = network("nfnet").get_submodule("stages.0.0.conv2")
    x = torch.randn(1, source.in_channels, 5, 5, generator=torch.Generator().manual_seed(0))
    plain = net.layer("stages.0.0.conv2")
    with torch.no_grad():
        torch.testing.assert_close(plain(x), source(x))
    assert not torch.allclose(plain.weight, source.weight)


def test_a_unit_may_take_images_and_give_windows() -> None:
    net = quantize_model(network("swin"), images("swin")[:2], Setting(4, 4), act_range="minmax", max_layers=1)
    unit = next(u for u in net.units if u.layers == ("layers.0.blocks.0.attn.qkv",))
    net.set_state(False, False)
    entered = net.capture_inputs(unit, images("swin"))
    with torch.no_grad():
        given = net.unit_module(unit)(entered)
        one = net.unit_module(unit)(entered[3:4])
    assert (len(entered), len(given)) == (8, 8 * 4)
    torch.testing.assert_close(given[12:16], one)
