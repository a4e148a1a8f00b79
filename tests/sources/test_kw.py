"""KW: fixed-size networks, and that it optimises."""

from __future__ import annotations

import torch

from bench.interfaces import ModelHandle
from methods.sources.kw import METHOD
from tests.sources.toy import CLASSES, ToyNet, context, halves_bn_loss, handle, request


def test_network_of_fixed_size_sees_enlarged_half_views() -> None:
    net = ToyNet()
    net.fc = torch.nn.Linear(16 * 4, CLASSES)
    flat = torch.nn.Sequential(net.conv1, net.bn1, torch.nn.Flatten(), torch.nn.Linear(8 * 256, CLASSES)).eval()
    batch = METHOD.synthesize_batch(
        request(METHOD, (handle(flat, "flat"),), batch=8, iterations=4, half_iterations=2), context()
    )
    assert batch.info["enlarged_half_views"] == ["flat"]
    assert batch.forward_equivalents == 8 * (2 * 4 + 1)


def test_it_halves_the_bn_loss_and_hits_its_labels(zoo: tuple[ModelHandle, ...]) -> None:
    halves_bn_loss(METHOD, zoo[:1])


def test_mini_is_what_the_specification_asks_for() -> None:
    assert (METHOD.access, METHOD.presets["mini"]["iterations"]) == ("T2a", 400)
