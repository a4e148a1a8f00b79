"""Every quantiser of methods/quant says on what grid it rounds; the plain network of these grids is the simulated one
(docs/export.md#mapping)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.interfaces import BitPolicy, Setting
from bench.interfaces.grids import GridPoint, WeightGrid
from methods.quant.choosing import DynamicActivation, PerImage
from methods.quant.integer import folded_grid, grid_point, trained_integers, weight_grid
from methods.quant.learned import AffineStepActivation, LearnedActivation, PactActivation, StepActivation
from methods.quant.learned_weights import LsqWeight, SquashedWeight
from methods.quant.model import quantize_model
from methods.quant.quantizers import ActQuantizer, WeightQuantizer
from methods.quant.selectors import DeviationSelector
from tests.quant.nets import Chain, images, randomise


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


WEIGHTS: dict[str, Callable[[Tensor, int], nn.Module]] = {
    "affine, per channel": lambda w, b: WeightQuantizer(w, b),
    "symmetric, per tensor": lambda w, b: WeightQuantizer(w, b, grid="symmetric", per_channel=False),
    "learned step": lambda w, b: LsqWeight(w, b, "mse"),
    "squashed": lambda w, b: SquashedWeight(w, b, "dorefa", "norm"),
    "shifted": lambda w, b: SquashedWeight(w, b, "modified", "norm"),
    "shifted by half": lambda w, b: SquashedWeight(w, b, "centred", "sat"),
}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", WEIGHTS)
def test_codes_and_grid_give_the_weight_in_use(kind: str, bits: int) -> None:
    weight = torch.randn(6, 4, 3, 3) * 0.2 + 0.05
    quantiser = WEIGHTS[kind](weight, bits)
    grid = weight_grid(quantiser, weight)
    assert grid is not None
    used = quantiser(weight).detach()
    codes = grid.codes(used)
    assert grid.low <= int(codes.min())
    assert int(codes.max()) <= grid.high
    assert grid.high - grid.low + 1 == 1 << bits == 1 << grid.bits
    torch.testing.assert_close(grid.values(codes), used, rtol=1e-6, atol=1e-7)


def test_a_weight_left_in_floating_point_has_no_grid() -> None:
    assert weight_grid(WeightQuantizer(torch.randn(2, 2), 32), torch.randn(2, 2)) is None
    with pytest.raises(NotApplicable, match="Linear"):
        weight_grid(nn.Linear(2, 2), torch.randn(2, 2))


@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_normalisation_folded_behind_a_weight_moves_into_its_steps(kind: str) -> None:
    """Factors of either sign and zero, each channel its own."""
    weight = torch.randn(5, 3, 3, 3)
    quantiser = WEIGHTS[kind](weight, 4)
    grid, used = weight_grid(quantiser, weight), quantiser(weight).detach()
    assert grid is not None
    factor = torch.tensor([0.3, -2.0, 0.0, 1.0, 11.0]).reshape(-1, 1, 1, 1)
    after = used * factor
    folded = folded_grid(grid, used, after)
    codes = folded.codes(after)
    assert folded.low <= int(codes.min())
    assert int(codes.max()) <= folded.high
    expected = after if folded.offset is None else after.where(factor != 0, folded.values(codes))
    torch.testing.assert_close(folded.values(codes), expected, rtol=1e-5, atol=1e-6)


def values(signed: bool) -> Tensor:
    x = torch.randn(8, 4, 5, 5) * 3
    return x if signed else x.clamp_min(0)


def begun(quantiser: nn.Module, x: Tensor) -> nn.Module:
    """The quantiser with its range chosen for ``x``."""
    if isinstance(quantiser, ActQuantizer):
        quantiser.observe(x)
        quantiser.calibrate()
    else:
        assert isinstance(quantiser, LearnedActivation)
        quantiser.observing = True
        quantiser(x)
    return quantiser


POINTS: dict[str, Callable[[int, bool], nn.Module]] = {
    "searched": lambda b, n: ActQuantizer(b, nonnegative=n),
    "learned step": lambda b, n: StepActivation(b, n, "mse"),
    "learned step and zero": lambda b, n: AffineStepActivation(b, n, "mse"),
    "learned clips": lambda b, n: PactActivation(b, n, 0.99),
}


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", POINTS)
def test_the_point_rounds_as_its_quantiser_does(kind: str, signed: bool, bits: int) -> None:
    x = values(signed)
    quantiser = begun(POINTS[kind](bits, not signed), x)
    point = grid_point(quantiser)
    assert point is not None
    assert point.high - point.low + 1 == 1 << bits
    wide = torch.cat([x * 3, torch.linspace(-20, 20, 400).reshape(1, 4, 10, 10)[..., :5, :5]])
    with torch.no_grad():
        torch.testing.assert_close(point(wide), quantiser(wide), rtol=0, atol=0)
    assert len(point(wide).unique()) <= 1 << bits


def test_a_tensor_left_in_floating_point_has_no_point() -> None:
    assert grid_point(ActQuantizer(32)) is None
    off = begun(ActQuantizer(4), values(True))
    off.enabled = False  # type: ignore[assignment]
    assert grid_point(off) is None


def test_bits_that_images_decide_have_no_integer_form() -> None:
    parts = [StepActivation(bits, True, "mse") for bits in (3, 4)]
    dynamic = DynamicActivation("x", 4, parts, DeviationSelector(4, 2), axis=1, rows=1)
    with pytest.raises(NotApplicable, match="images decide"):
        grid_point(dynamic)
    with pytest.raises(NotApplicable, match="images decide"):
        trained_integers(PerImage(nn.Sequential(dynamic)), {}, ())
    with pytest.raises(NotApplicable, match="quantiser is known"):
        trained_integers(nn.Sequential(nn.Conv2d(1, 1, 1)), {}, ["0"])


@pytest.mark.parametrize("traced", [True, False])
def test_the_plain_network_is_the_simulated_one_to_the_bit(traced: bool) -> None:
    net, x = randomise(Chain()), images(16)
    if not traced:
        net = Untraceable(net).eval()
    names = [name for name, part in net.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    policy = BitPolicy.of({names[1]: (3, 5), names[2]: (32, 32)})
    made = quantize_model(net, x[:2], Setting(4, 4, policy=policy))
    assert made.path == ("graph" if traced else "modules")
    made.calibrate(x)
    made.freeze()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    found = made.integers()
    with torch.no_grad():
        assert torch.equal(found.module(x), made(x))
    assert list(found.weights) == [name for name in names if name != names[2]]
    assert found.weights[names[1]].bits == 3
    points = [found.module.get_submodule(path) for path in found.points.values()]
    assert points
    assert all(isinstance(point, GridPoint) for point in points)
    # a copy: who changes it changes nothing of the network
    for parameter in found.module.parameters():
        parameter.data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


class Untraceable(nn.Module):
    """Branches on what it sees, so that no graph can be had."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x if bool(x.isfinite().all()) else x.nan_to_num())
        return out


def test_a_shift_of_a_grid_is_part_of_its_values() -> None:
    """By hand: codes 0..3 of step 2 around the zero point 2 and half a step above: -3, -1, 1, 3."""
    one = torch.tensor(1.0)
    grid = WeightGrid(2, 0, 3, 2 * one, 2 * one, one)
    assert grid.values(torch.tensor([[0, 1, 2, 3]])).tolist() == [[-3.0, -1.0, 1.0, 3.0]]
    assert grid.codes(torch.tensor([[-3.0, -1.0, 1.0, 3.0]])).tolist() == [[0, 1, 2, 3]]
