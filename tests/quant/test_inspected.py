"""A quantised network opened up: what is switched within a context, what is replaced, what comes back as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bench.interfaces import BitPolicy, Setting
from methods.quant.inspected import Inspected
from methods.quant.model import QuantModel, quantize_model

from .nets import TwoCalls, randomise

LOW = "conv"


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def net(images: Tensor) -> QuantModel:
    policy = BitPolicy.of({LOW: (2, 3)})
    made = quantize_model(randomise(TwoCalls()), images[:2], Setting(4, 4, first_last_bits=8, policy=policy))
    made.calibrate(images)
    made.freeze()
    return made.eval().requires_grad_(False)


def by_hand(net: QuantModel, layer: str, images: Tensor) -> Tensor:
    """Logits of the two-call network with every weight and tensor as ``net`` has them, but 8 bits for one layer."""
    twin = quantize_model(
        randomise(TwoCalls()),
        images[:2],
        Setting(4, 4, first_last_bits=8, policy=BitPolicy.of({LOW: (8, 8) if layer == LOW else (2, 3)})),
    )
    twin.calibrate(images)
    twin.freeze()
    return twin(images)  # type: ignore[no-any-return]


def test_a_lifted_layer_is_one_that_was_quantised_so_from_the_start(net: QuantModel, images: Tensor) -> None:
    opened, before = Inspected(net), net(images)
    opened.calibrate(images, 8)
    with opened.lifted(LOW, 8):
        lifted = net(images)
    assert torch.equal(lifted, by_hand(net, LOW, images))
    assert not torch.equal(lifted, before)
    assert torch.equal(net(images), before)


def test_a_replay_gives_what_the_whole_forward_gives(net: QuantModel, images: Tensor) -> None:
    opened = Inspected(net)
    opened.calibrate(images, 8)
    passes = opened.each_lifted(images, opened.layers, 8)
    assert torch.equal(next(passes), net(images))
    for layer, found in zip(opened.layers, passes, strict=True):
        with opened.lifted(layer, 8):
            assert torch.equal(found, net(images)), layer
    alone = opened.each_alone(images, opened.layers)
    with opened.floating():
        assert torch.equal(next(alone), net(images))
    for layer, found in zip(opened.layers, alone, strict=True):
        with opened.alone(layer):
            assert torch.equal(found, net(images)), layer


def test_without_quantisers_it_is_the_network_that_was_given(net: QuantModel, images: Tensor) -> None:
    with Inspected(net).floating(), torch.no_grad():
        torch.testing.assert_close(net(images), randomise(TwoCalls())(images), atol=1e-4, rtol=1e-4)


def test_the_blocks_outputs_are_those_of_its_units(net: QuantModel, images: Tensor) -> None:
    opened = Inspected(net)
    logits, outputs = opened.forward(images)
    assert len(outputs) == len(opened.blocks)
    assert torch.equal(logits, net(images))
    assert torch.equal(outputs[-1].reshape(logits.shape), logits)


def test_grids_tell_the_ends_of_what_a_layer_reads(net: QuantModel, images: Tensor) -> None:
    opened = Inspected(net)
    seen: list[Tensor] = []
    hook = opened.module(LOW).register_forward_hook(lambda part, args, out: seen.append(args[0]))
    net(100 * images)  # far beyond the ranges, so that both ends are reached where the grid has them
    hook.remove()
    (grid,) = opened.grids(LOW)
    assert grid.bits == 3  # no other layer reads the tensor
    assert float(seen[0].max()) == pytest.approx(grid.high)
    assert float(seen[0].min()) == pytest.approx(grid.low, abs=1e-6)
    assert grid.high - grid.low == pytest.approx((2**grid.bits - 1) * grid.step, rel=1e-5)
    assert opened.grids(opened.layers[0]) == ()  # the image


def test_the_used_weight_has_no_more_values_than_its_bits_allow(net: QuantModel) -> None:
    plain, used = Inspected(net).weight(LOW)
    assert plain.shape == used.shape
    assert max(len(row.unique()) for row in used.flatten(1)) <= 4
    assert max(len(row.unique()) for row in plain.flatten(1)) > 4


def test_grids_are_chosen_before_a_layer_is_lifted(net: QuantModel) -> None:
    with pytest.raises(LookupError, match="calibrate"), Inspected(net).lifted(LOW, 8):
        pass


class Untraceable(nn.Module):
    """Branches on its input's values, so that no graph is known."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x).relu())
        return self.fc(y.mean((2, 3)) if float(y.sum()) < 1e9 else y.amax((2, 3)))  # type: ignore[no-any-return]


def test_a_network_without_a_graph_opens_up_too(images: Tensor) -> None:
    net = quantize_model(Untraceable().eval(), images[:2], Setting(4, 4, first_last_bits=8))
    assert net.path == "modules"
    net.calibrate(images)
    net.freeze()
    opened = Inspected(net.eval())
    opened.calibrate(images, 8)
    passes = opened.each_lifted(images, ("second",), 8)
    assert not torch.equal(next(passes), next(passes))
    assert opened.forward(images)[1] == ()
