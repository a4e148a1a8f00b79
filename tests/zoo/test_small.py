"""Every builder: its cost, its maps, its block types, and that equal seeds give equal networks."""

from __future__ import annotations

import pytest
import torch
from timm.layers import SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from bench.data.datasets import get_dataset
from bench.zoo.macs import count_macs, count_parameters
from bench.zoo.recipe import build_entry
from bench.zoo.small import BUILDERS
from bench.zoo.table import TABLE, Entry, entry

ENTRIES = [pytest.param(e, id=e.name) for e in TABLE]
NORMED = [pytest.param(e, id=e.name) for e in TABLE if e.role != "named"]


def build(item: Entry, dataset: str = "fashion_mnist") -> nn.Module:
    return build_entry(item, get_dataset(dataset))


def depthwise(module: nn.Module) -> list[str]:
    return [n for n, m in module.named_modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1]


@pytest.mark.parametrize("item", ENTRIES)
def test_cost_is_that_of_a_small_network(item: Entry) -> None:
    macs = count_macs(build(item), (1, 32, 32))
    assert 3e6 <= macs <= 7e6


@pytest.mark.parametrize("item", NORMED)
def test_no_batch_norm_sees_less_than_four_by_four(item: Entry) -> None:
    module = build(item).eval()
    sizes: list[tuple[int, ...]] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes.append(tuple(inputs[0].shape[2:]))

    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.register_forward_pre_hook(note)
    with torch.no_grad():
        module(torch.zeros(1, 1, 32, 32))
    assert len(sizes) == len(norms) > 0
    assert min(min(size) for size in sizes) == 4


@pytest.mark.parametrize("item", ENTRIES)
def test_an_evaluated_network_is_deterministic_and_drops_nothing(item: Entry) -> None:
    module = build(item).eval()
    assert not [m for m in module.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(module(images), module(images))


@pytest.mark.parametrize("item", ENTRIES)
def test_the_same_builder_serves_colour_images(item: Entry) -> None:
    module = build(item, "cifar100").eval()
    with torch.no_grad():
        assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


def test_the_seed_decides_and_the_callers_random_state_stays() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again = build(entry("mobilenetv2_w035")), build(entry("mobilenetv2_w035"))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = list(zip(first.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    other = build(entry("mobilenetv2_w035_s1"))
    assert first.state_dict().keys() == other.state_dict().keys()
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_mobilenet_b_has_nothing_between_depthwise_and_pointwise() -> None:
    module = build(entry("mobilenet_b_w025"))
    blocks = [m for m in module.modules() if hasattr(m, "conv_dw")]
    assert len(blocks) == 13
    assert all(type(block.bn1) is nn.Identity for block in blocks)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())
    assert norms == 1 + len(blocks)  # the stem's, and one after each pointwise convolution
    ran: list[nn.Module] = []
    for part in module.modules():
        if not list(part.children()):
            part.register_forward_hook(lambda m, _i, _o: ran.append(m))
    module.eval()(torch.zeros(1, 1, 32, 32))
    ran = [m for m in ran if not isinstance(m, nn.Identity)]
    assert sum(isinstance(part, nn.Conv2d) and part.groups > 1 for part in ran) == len(blocks)
    for place, part in enumerate(ran):
        if isinstance(part, nn.Conv2d) and part.groups > 1:
            follower = ran[place + 1]
            assert isinstance(follower, nn.Conv2d)
            assert follower.kernel_size == (1, 1)


@pytest.mark.parametrize(
    ("name", "count"), [("efficientnet_b0_w025", 16), ("mobilenetv3_large_w035", 8), ("seresnet18_w10", 8)]
)
def test_squeeze_excite_is_where_the_original_has_it(name: str, count: int) -> None:
    assert sum(isinstance(m, SqueezeExcite | SEModule) for m in build(entry(name)).modules()) == count


def test_networks_without_batch_norm_are_their_originals_blocks() -> None:
    vit, convnext = build(entry("vit_t32")).eval(), build(entry("convnext_w16")).eval()
    for module in (vit, convnext):
        assert not [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert [type(block).__name__ for block in vit.get_submodule("blocks").children()] == ["Block"] * 5
    assert sum(isinstance(m, ConvNeXtBlock) for m in convnext.modules()) == 2 + 2 + 3
    sizes: list[tuple[int, ...]] = []
    for block in convnext.modules():
        if isinstance(block, ConvNeXtBlock):
            block.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[1:])))
    with torch.no_grad():
        convnext(torch.zeros(1, 1, 32, 32))
    assert sizes == [(16, 16, 16)] * 2 + [(32, 8, 8)] * 2 + [(64, 4, 4)] * 3


@pytest.mark.parametrize(("name", "count"), [("mnasnet_w025", 17), ("mobilenetv2_w035", 17), ("resnet50_w8", 0)])
def test_depthwise_convolutions_are_where_the_original_has_them(name: str, count: int) -> None:
    assert len(depthwise(build(entry(name)))) == count


def test_stage_depths_are_the_originals() -> None:
    for name, depths in {
        "resnet18_w10": [2, 2, 2, 2],
        "resnet34_w8": [3, 4, 6, 3],
        "resnet50_w8": [3, 4, 6, 3],
    }.items():
        module = build(entry(name))
        assert [len(getattr(module, f"layer{k}")) for k in (1, 2, 3, 4)] == depths


def test_macs_of_known_layers_and_an_untouched_module() -> None:
    module = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(512, 10))
    module[1].eval()
    assert count_macs(module, (4, 8, 8)) == 64 * 8 * 2 * 9 + 5120
    assert count_parameters(module) == 8 * 2 * 9 + 8 + 16 + 5130
    assert [m.training for m in module] == [True, False, True, True]
    assert not [m for m in module.modules() if m._forward_hooks]
    assert int(module[1].num_batches_tracked) == 0


def test_every_builder_is_used() -> None:
    assert {e.builder for e in TABLE} == set(BUILDERS)
