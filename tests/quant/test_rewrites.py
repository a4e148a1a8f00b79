"""What is wrapped is what was given (docs/methods/quantisation.md#rewrites): a rewrite that changes the network is not
made, or undone and said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.interfaces import Setting
from methods.compressors._masked import folded_copy
from methods.quant.graph import prepare
from methods.quant.learned import StepActivation
from methods.quant.learned_weights import LsqWeight
from methods.quant.model import quantize_model
from methods.quant.same import TOLERANCE, departs, difference, reference
from methods.quant.training import TrainedModel
from methods.quant.training_parts import Makers
from tests.quant.nets import images, randomise

W8A8 = Setting(8, 8)
MAKERS = Makers(lambda w, b: LsqWeight(w, b, "lsq"), lambda b, n: StepActivation(b, n, "lsq"))


class BatchNormReLU(nn.BatchNorm2d):
    """Normalises and activates, under a base class that only normalises."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class AbsConv(nn.Conv2d):
    """A convolution whose output is not linear in its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).abs()


def double(module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
    return out * 2


def net_of(conv: nn.Module, norm: nn.Module) -> nn.Module:
    head = (nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    return randomise(nn.Sequential(conv, norm, *head))


def hooked(part: nn.Module) -> nn.Module:
    part.register_forward_hook(double)
    return part


def patched(part: nn.Module) -> nn.Module:
    own = part.forward
    part.forward = lambda x: own(x).abs()  # type: ignore[method-assign]
    return part


STRANGE: dict[str, Callable[[], nn.Module]] = {
    "norm that activates": lambda: net_of(nn.Conv2d(3, 6, 3), BatchNormReLU(6)),
    "norm with a hook": lambda: net_of(nn.Conv2d(3, 6, 3), hooked(nn.BatchNorm2d(6))),
    "norm with a forward of its own": lambda: net_of(nn.Conv2d(3, 6, 3), patched(nn.BatchNorm2d(6))),
    "convolution of a class of its own": lambda: net_of(AbsConv(3, 6, 3), nn.BatchNorm2d(6)),
    "convolution with a hook": lambda: net_of(hooked(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6)),
    "convolution with a forward of its own": lambda: net_of(patched(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6)),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_may_compute_something_else_is_not_folded(name: str) -> None:
    net = STRANGE[name]()
    prepared = prepare(net, images())
    assert prepared.graph is not None
    assert list(prepared.stats) == ["2"]  # the plain pair behind it is folded
    assert prepared.undone == {}
    model = quantize_model(net, images(), W8A8)
    model.calibrate(images(64))
    assert sorted(model.weights) == ["0", "2", "7"]
    with torch.no_grad():
        expected = net(images(8, seed=1))
        assert difference(model(images(8, seed=1)), expected) < 0.1
        model.set_state(False, False)
        assert difference(model(images(8, seed=1)), expected) < TOLERANCE


@pytest.mark.parametrize("name", STRANGE)
def test_training_and_masks_keep_what_was_given_too(name: str) -> None:
    net = STRANGE[name]()
    expected = reference(net, images())
    assert departs(folded_copy(net, images(), 8).net, expected) == ""
    trained = TrainedModel(net, images(), Setting(32, 32), MAKERS)
    with torch.no_grad():
        student = trained.student(images())[0]
        exported = trained.export()
        assert difference(exported(images()), student) < TOLERANCE
        assert difference(student, net(images())) < TOLERANCE


class ReadsItsWeight(nn.Module):
    """Calls a convolution before a norm, and multiplies by its weight once more: folding changes both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.norm, self.head = (
            nn.Conv2d(3, 6, 1),
            nn.Conv2d(6, 6, 3),
            nn.BatchNorm2d(6),
            nn.Linear(6, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norm(self.conv(x)).relu() + F.conv2d(x, self.conv.weight)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def test_a_folding_that_changes_the_network_is_undone_and_said() -> None:
    net = randomise(ReadsItsWeight())
    model = quantize_model(net, images(), Setting(4, 4))
    assert set(model.undone) == {"folding"}
    assert "differ by" in model.undone["folding"]
    protocol = model.protocol()
    assert (protocol["path"], protocol["batch_norm"], protocol["undone"]) == ("graph", "unfolded", ["folding"])
    assert protocol["weights_used_beside_their_layers"] == ["conv"]
    with torch.no_grad():
        model.set_state(False, False)
        assert difference(model(images(8, seed=1)), net(images(8, seed=1))) < TOLERANCE
    trained = TrainedModel(net, images(), Setting(4, 32), MAKERS)
    trained.begin(images())
    with torch.no_grad():
        student = trained.student(images())[0]
        assert difference(trained.export()(images()), student) < TOLERANCE
    assert trained.protocol("", "", "", "")["undone"] == ["folding"]


class DropPath(nn.Module):
    """Bears the name of stochastic depth but works in eval mode as well."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 + 1


def test_a_preparation_that_changes_the_network_is_undone_and_said() -> None:
    net = randomise(nn.Sequential(nn.Conv2d(3, 4, 3), DropPath(), nn.ReLU(), nn.Flatten(), nn.Linear(400, 5)))
    model = quantize_model(net, images(), Setting(32, 32))
    assert set(model.undone) == {"preparation"}
    assert model.protocol()["undone"] == ["preparation"]
    with torch.no_grad():
        assert difference(model(images(8, seed=1)), net(images(8, seed=1))) < TOLERANCE


class Zeros(nn.Module):
    """Branches on its input: with an image of zeros it takes another way than with any real one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(400, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) if bool(x.any()) else self.other(x)
        return self.head(x.flatten(1))  # type: ignore[no-any-return]


def test_layers_are_found_on_images_that_are_not_zero() -> None:
    model = quantize_model(Zeros().eval(), torch.zeros(2, 3, 12, 12), Setting(4, 4))
    assert list(model.weights) == ["conv", "head"]


def test_distances_are_relative_to_what_images_change() -> None:
    expected = torch.tensor([[1.0, 2.0], [1.0, 4.0]])
    assert difference(expected, expected) == 0.0
    # the spread is [0, 1] up and down: 2 ** 0.5
    assert difference(expected + torch.tensor([[0.0, 0.0], [0.0, 1.0]]), expected) == pytest.approx(2**-0.5)
    constant = torch.full((2, 2), 3.0)
    assert difference(constant * 1.01, constant) == pytest.approx(0.1)  # a tenth of the norm at least
    odd = torch.tensor([[1.0, float("nan")], [2.0, float("inf")]])
    assert difference(odd, odd) == 0.0
    assert difference(torch.nan_to_num(odd), odd) == float("inf")
    assert difference(odd, torch.nan_to_num(odd)) == float("inf")


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.head(x.mean((2, 3)))
        return x, x


def test_a_network_that_returns_no_tensor_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="one tensor of logits"):
        quantize_model(Pair().eval(), images(), W8A8)
