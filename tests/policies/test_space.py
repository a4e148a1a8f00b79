"""What a search decides on: which layers are open, who reads one tensor, and that BitOPs are the real ones."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from bench.errors import NotApplicable
from bench.interfaces import BitPolicy, LayerBits, Setting
from bench.measure.complexity import bitops, count
from methods.policies._space import Space, space_of
from methods.quant.learned import StepActivation
from methods.quant.learned_weights import LsqWeight
from methods.quant.model import quantize_model
from methods.quant.training import TrainedModel
from methods.quant.training_parts import Makers
from tests.quant.nets import Chain, TwoCalls, seeded

MAKERS = Makers(lambda weight, bits: LsqWeight(weight, bits, "mse"), lambda bits, low: StepActivation(bits, low, "mse"))


class Block(nn.Module):
    """A downsampling residual block between a stem and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = seeded(lambda: nn.Conv2d(3, 8, 3, padding=1))
        self.one = seeded(lambda: nn.Conv2d(8, 12, 3, stride=2, padding=1))
        self.two = seeded(lambda: nn.Conv2d(12, 12, 3, padding=1, groups=12))
        self.point = seeded(lambda: nn.Conv2d(12, 12, 1))
        self.down = seeded(lambda: nn.Conv2d(8, 12, 1, stride=2))
        self.head = seeded(lambda: nn.Linear(12, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        y = self.point(self.two(self.one(x).relu()).relu()) + self.down(x)
        out: torch.Tensor = self.head(y.relu().mean((2, 3)))
        return out


def space(net: nn.Module, side: int = 8, setting: Setting | None = None) -> Space:
    return space_of(net.eval(), torch.zeros(2, 3, side, side), setting or Setting(3, 3))


def drawn(space: Space, seed: int) -> BitPolicy:
    """Bits drawn for each layer and each tensor."""
    generator = torch.Generator().manual_seed(seed)

    def pick() -> int:
        return int(torch.randint(2, 9, (), generator=generator))

    acts = {place.reads: pick() for place in space.searched}
    return BitPolicy.of({place.name: place.bits(pick(), acts[place.reads]) for place in space.searched})


@pytest.mark.parametrize(("build", "layers"), [("resnet18", 19), ("resnet50", 52)])
def test_searched_layers_of_the_published_networks(build: str, layers: int) -> None:
    net = torchvision.models.get_model(build, weights=None, num_classes=10)
    found = space(net, 64)
    assert len(found.searched) == layers
    assert [place.name for place in found.places if not place.searched] == ["conv1", "fc"]
    assert {place.fixed for place in found.places if not place.searched} == {LayerBits(8, 8)}


def test_layers_that_read_one_tensor_share_it_and_the_ends_are_fixed() -> None:
    found = space(Block())
    reads = {place.name: place.reads for place in found.places}
    assert reads["one"] == reads["down"] != reads["two"]
    assert [place.name for place in found.searched] == ["one", "two", "point", "down"]


@pytest.mark.parametrize("net", [Block(), TwoCalls(), Chain()], ids=lambda net: type(net).__name__)
def test_bitops_are_those_of_the_wrapped_network_under_both_placements(net: nn.Module) -> None:
    found, example = space(net), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    counts = count(net, (3, 8, 8))
    for seed in range(3):
        policy = drawn(found, seed)
        setting = Setting(3, 3, policy=policy)
        expected = found.bitops(policy)
        assert bitops(counts, quantize_model(net, example, setting).layer_bits()) == expected
        trained = TrainedModel(net, example, setting, MAKERS).layer_bits()
        assert bitops(counts, trained) == expected
        assert {name: trained[name] for name in policy} == dict(policy)  # read back as it was given
    weights = sum(layer.weights for layer in counts.layers.values())
    assert found.weight_bits(found.uniform(8, 8)) == 8 * weights


def test_effective_bits_of_a_uniform_policy_are_its_bits() -> None:
    found = space(Block())
    assert found.effective_bits(found.uniform(3, 3)) == pytest.approx(3)
    assert found.effective_bits(found.uniform(2, 8)) == pytest.approx(4)


def test_ties() -> None:
    found = space(Block())
    assert found.tied(()) == {}
    assert found.tied(("sibling",)) == {"one": "one", "down": "one"}
    assert found.tied(("depthwise",)) == {"two": "two", "point": "two"}
    assert found.tied(("add",)) == {"point": "point", "down": "point"}
    assert found.tied(("add", "sibling")) == dict.fromkeys(("one", "point", "down"), "one")


def test_tied_layers_get_one_pair_from_the_program() -> None:
    found = space(Block())
    tied = found.tied(("sibling", "depthwise"))
    choices = found.choices((2, 4), (2, 4), lambda place, bits: -bits.weight, tie=lambda p: tied.get(p.name, ""))
    assert {choice.name: choice.tied for choice in choices} == {
        "one": "one", "two": "two", "point": "two", "down": "one"
    }  # fmt: skip


def test_equal_pairs_only() -> None:
    found = space(Block())
    choices = found.choices((2, 3, 4), (3, 4, 6), lambda place, bits: 0.0, equal=True)
    assert {tuple(choice.costs) for choice in choices} == {((3, 3), (4, 4))}


def test_nothing_between_the_ends() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    with pytest.raises(NotApplicable, match="no layer whose bits could be searched"):
        space(net)
