"""FlexRound: equation 2 against a plain loop, where its gradients go, and its invariants."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.interfaces import Setting
from methods.compressors._division import Division, UnitDivision
from methods.compressors._rounding import Grid
from methods.compressors.flexround import METHOD, FlexRoundParams
from tests.compressors.recon_toys import Residual, context, digest, handle, image_set, nearest, quantised_weights

W3A4 = Setting(3, 4)


def compress(net: nn.Module | None = None, **params: Any) -> Any:
    return METHOD.compress(handle(net), image_set(), W3A4, FlexRoundParams(**params), context())


def grid_of(weight: Tensor) -> Grid:
    generator = torch.Generator().manual_seed(1)
    shape = (len(weight), *[1] * (weight.dim() - 1))
    return Grid(weight, torch.rand(shape, generator=generator) * 0.2 + 0.1, torch.full(shape, 3.0), 0, 7)


@pytest.mark.parametrize("shape", [(3, 2, 2, 2), (3, 4)])
def test_it_is_equation_two(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    grid = grid_of(torch.randn(shape, generator=generator))
    layer = Division(grid)
    assert (layer.columns is not None) == (len(shape) == 4)
    with torch.no_grad():
        for variable in layer.variables():
            variable.copy_(0.5 * torch.randn(variable.shape, generator=generator))
    found = layer.value().detach()
    step_of, each, rows = layer.step.detach().flatten(), layer.each.detach(), layer.rows.detach().flatten()
    columns = None if layer.columns is None else layer.columns.detach().flatten()
    for place in torch.cartesian_prod(*(torch.arange(size) for size in shape)).tolist():
        row, column = place[0], place[1]
        step = float(grid.scale.flatten()[row]) * math.exp(float(step_of[row]))
        by = math.exp(float(each[tuple(place)])) * math.exp(float(rows[row]))
        by *= 1.0 if columns is None else math.exp(float(columns[column]))
        level = min(max(round(float(grid.weight[tuple(place)]) / (step * by)) + 3, 0), 7) - 3
        assert float(found[tuple(place)]) == pytest.approx(step * level, abs=1e-6)


def test_it_starts_at_nearest_and_large_weights_move_further() -> None:
    weight = torch.tensor([[0.05, -0.3, 0.61, 0.0]])
    grid = Grid(weight, torch.tensor([[0.1]]), torch.tensor([[8.0]]), 0, 31)
    layer = UnitDivision({"w": grid})
    assert torch.allclose(layer.hard()["w"], torch.tensor([[0.0, -0.3, 0.6, 0.0]]))
    assert layer.flipped() == 0
    each = layer.layers["w"].each
    soft, penalty = layer.soft()
    assert penalty is None
    soft["w"].sum().backward()
    assert torch.allclose(each.grad, -weight)  # in proportion to the weight, a zero one not at all
    with torch.no_grad():
        each.fill_(-0.5)
    moved = (layer.hard()["w"] / 0.1).round()
    assert moved.tolist() == [[1.0, -5.0, 10.0, 0.0]]  # 0.61 is 6 steps, and may go to 10
    assert layer.flipped() == 0.75


def test_units_fit_better_than_nearest_and_grids_are_known() -> None:
    out = compress()
    variant = out.variants[0]
    rows = [row for row in out.report["units"] if row["layers"]]
    assert rows
    assert all(row["hard"] < row["rtn"] for row in rows)
    assert all(row["soft"] == pytest.approx(row["hard"]) for row in rows)
    net, plain = variant.module, nearest(W3A4)
    learned = 0
    for name, weight in quantised_weights(net).items():
        quantiser = net.weights[name]
        levels = weight / quantiser.scale + quantiser.zero_point
        assert torch.allclose(levels, levels.round(), atol=1e-3)
        assert quantiser.n <= float(levels.round().min())
        assert float(levels.round().max()) <= quantiser.p
        learned += not torch.equal(quantiser.scale, plain.weights[name].scale)
    assert learned == len(net.weights) - 1


def test_a_unit_that_learning_made_worse_is_as_before() -> None:
    net = compress(travel=100.0, iterations=3).variants[0].module
    plain = nearest(W3A4)
    ours, theirs = quantised_weights(net), quantised_weights(plain)
    same = [name for name in ours if torch.equal(ours[name], theirs[name])]
    assert len(same) > 1
    assert all(torch.equal(net.weights[name].scale, plain.weights[name].scale) for name in same)


def test_zeros_stay_and_the_network_given_stays() -> None:
    net = Residual()
    with torch.no_grad():
        net.conv1.weight[:, ::2] = 0
    model = handle(net)
    before = digest(model.module)
    out = METHOD.compress(model, image_set(), W3A4, FlexRoundParams(iterations=20), context())
    assert not quantised_weights(out.variants[0].module)["conv1"][:, ::2].any()
    assert digest(model.module) == before
