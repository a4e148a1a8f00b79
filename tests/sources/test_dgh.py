"""DGH: statistics of a set from its groups, the gradient through one group's part, the canvas, cost and determinism."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.interfaces import ModelHandle
from methods.sources._augment import PixelSpace
from methods.sources._dgh_loop import Canvas, GroupSettings, _Group, measured, set_loss, straight_clip, stretch_loss
from methods.sources._inversion import NonFiniteLoss
from methods.sources._losses import EPS
from methods.sources._objectives import Network
from methods.sources.dgh import METHOD, DghParams
from tests.sources.toy import GREY, SIZE, Curves, ToyNet, context, halves_bn_loss, handle, randomised, request

SPACE = PixelSpace.of(GREY)


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return randomised(ToyNet())


def images(count: int = 24) -> Tensor:
    """Groups of unlike brightness, so that a group's statistics are not the set's."""
    x = torch.randn(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return x * (0.5 + torch.arange(count).view(-1, 1, 1, 1) / count) + torch.arange(count).view(-1, 1, 1, 1) / count


def loss_in_float64(net: nn.Module, x: Tensor, *, input_term: bool = True) -> Tensor:
    """The objective of all images in one batch, by hooks on a double network and textbook moments."""
    net = net.double()
    seen: list[Tensor] = []
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    hooks = [norm.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0])) for norm in norms]
    net(x)
    for hook in hooks:
        hook.remove()
    targets = [(norm.running_mean, norm.running_var) for norm in norms]
    if input_term:
        seen.append(x)
        targets.append((torch.zeros(1), torch.ones(1)))
    total = x.new_zeros(())
    for values, (mean, var) in zip(seen, targets, strict=True):
        assert mean is not None
        assert var is not None
        flat = values.transpose(0, 1).flatten(1)
        own, spread = flat.mean(1), ((flat.square().mean(1) - flat.mean(1).square()) + EPS).sqrt()
        error = (own - mean.double()).square() + (spread - (var.double() + EPS).sqrt()).square()
        total = total + error.mean()
    return total / len(seen)


@pytest.mark.parametrize("input_term", [True, False])
def test_statistics_of_a_set_from_its_groups_are_those_of_one_batch(net: nn.Module, input_term: bool) -> None:
    network, x = Network(handle(net), GREY, context()), images()
    parts = [measured(network, group)[1] for group in x.split(6)]
    found = set_loss(parts, input_term=input_term)
    torch.testing.assert_close(
        found.double(), loss_in_float64(net, x.double(), input_term=input_term), rtol=1e-5, atol=0
    )
    # and not those of the groups one by one
    apart = torch.stack([set_loss([part], input_term=input_term) for part in parts]).mean()
    assert float(apart) > 1.05 * float(found)


@pytest.mark.parametrize("first", [0, 2])
def test_the_gradient_of_one_group_is_its_part_of_the_whole_ones(net: nn.Module, first: int) -> None:
    network, x = Network(handle(net), GREY, context()), images()
    groups = [group.clone().requires_grad_() for group in x.split(6)]
    with torch.no_grad():
        parts = [measured(network, group)[1] for group in groups]
    parts[first] = measured(network, groups[first])[1]
    set_loss(parts).backward()
    assert [group.grad is None for group in groups] == [index != first for index in range(4)]

    whole = x.double().requires_grad_()
    loss_in_float64(net, whole).backward()
    assert whole.grad is not None
    expected = whole.grad.split(6)[first]
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(
        groups[first].grad.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
    )


def test_the_loss_is_nothing_where_the_statistics_are_met(net: nn.Module) -> None:
    """Stored statistics set layer by layer to those of a set, whose images have mean 0 and deviation 1."""
    x = images()
    x = (x - x.mean()) / x.std(correction=0)
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    for _ in norms:
        network = Network(handle(net), GREY, context())
        stats = network(x)[1]
        assert stats is not None
        sizes = [norm.num_features for norm in norms]
        for norm, mean, var in zip(norms, stats.mean.split(sizes), stats.var.split(sizes), strict=True):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
    network = Network(handle(net), GREY, context())
    assert float(set_loss([measured(network, group)[1] for group in x.split(6)])) < 1e-6


def test_a_clipped_pixel_keeps_its_gradient() -> None:
    low, high = (float(edge) for edge in SPACE.box(torch.zeros(1, 1, 1, 1)))
    x = torch.tensor([low - 5, 0.0, high + 5]).view(1, 1, 1, 3).requires_grad_()
    shown = straight_clip(x, SPACE)
    torch.testing.assert_close(shown.flatten(), torch.tensor([low, 0.0, high]))
    (shown * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1.0, 2.0, 3.0]


def test_the_canvas_is_smoothed_and_cut() -> None:
    canvas = Canvas(SPACE, 4, flip=True, sigma=1.25, clip=True)
    point = torch.zeros(1, 1, SIZE + 4, SIZE + 4)
    point[0, 0, 8, 8] = 1.0
    weights = torch.exp(-torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64) / (2 * 1.25**2))
    kernel = torch.outer(weights, weights) / weights.sum() ** 2
    final = canvas.final(point)
    assert final.shape == (1, 1, SIZE, SIZE)
    torch.testing.assert_close(final[0, 0, 5:8, 5:8].double(), kernel, rtol=1e-5, atol=1e-7)
    assert float(final.sum()) == pytest.approx(1.0, abs=1e-5)

    places = set()
    for seed in range(200):
        view = canvas.view(point, torch.Generator().manual_seed(seed))
        places.add(divmod(int(view.flatten().argmax()), SIZE))
    # unmirrored the point is at 8 less the offset, mirrored at 19 - 8 less the offset
    assert places == {(8 - top, column - left) for top in range(5) for column in (8, 11) for left in range(5)}
    plain = Canvas(SPACE, 0, flip=False, sigma=0.0, clip=False)
    beyond = 100 * torch.ones(2, 1, SIZE, SIZE)
    assert torch.equal(plain.view(beyond, torch.Generator()), beyond)
    assert plain.kinds() == []


def test_both_forms_of_the_output_term_pull_the_logits_apart() -> None:
    for inverse in (True, False):
        logits = torch.tensor([[0.0, 1.0, 3.0], [2.0, 1.0, 1.5]], requires_grad=True)
        loss = stretch_loss(logits, inverse=inverse)
        assert float(loss.detach()) == pytest.approx(1 / 2.0 if inverse else -2.0)
        loss.backward()
        assert logits.grad is not None
        assert logits.grad.sign().tolist() == [[1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]


@pytest.mark.parametrize(("reset", "falls"), [(True, 2), (False, 3)])
def test_the_plateau_forgets_its_best_loss_at_each_fall(reset: bool, falls: int) -> None:
    """Patience 1: the rate halves at every second loss that is not a new best; after a fall any loss is one."""
    settings = GroupSettings(9, 16.0, 1, reset, 0.0, False, True)
    group = _Group(torch.zeros(1, 1, 2, 2), settings, 16.0)
    for value in (1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0):
        group.step(group.canvas.sum() * 0 + value)
    assert group.lr == 16.0 / 2**falls


@pytest.mark.parametrize("switch", [{}, {"stretch_form": "inverse", "stretch": 1e-4, "extra": 0}])
def test_it_halves_the_bn_loss_over_the_set(zoo: tuple[ModelHandle, ...], switch: dict[str, Any]) -> None:
    halves_bn_loss(METHOD, zoo[:1], groups=2, **switch)


def test_cost_shape_and_record(zoo: tuple[ModelHandle, ...]) -> None:
    curves = Curves()
    asked = request(METHOD, zoo[:1], iterations=5, batch=4, groups=3)
    batch = METHOD.synthesize_batch(asked, context(curves=curves))
    assert (asked.batch_size, len(batch.images), batch.labels) == (12, 12, None)
    assert batch.forward_equivalents == 12 * (5 * (2 + 1) + 1 + 1)
    assert curves.reports[-1] == ("invert", 5, 5)
    assert set(curves.points) == {"loss", "bn", "stretch", "lr"}
    assert batch.info["augment"] == ["flip", "blur", "crop", "clip"]
    low, high = SPACE.box(batch.images)
    assert bool(((batch.images >= low) & (batch.images <= high)).all())


def test_a_loss_that_is_not_finite_is_tried_again_once() -> None:
    net = randomised(ToyNet())
    net.get_parameter("fc.weight").data.fill_(float("inf"))
    with pytest.raises(NonFiniteLoss, match="pass 0"):
        METHOD.synthesize_batch(request(METHOD, (handle(net),), iterations=3, batch=4, groups=2), context())


def test_presets_cost_what_kw_s_mini_does() -> None:
    mini = DghParams(**METHOD.presets["mini"])
    assert METHOD.batch_size(mini) == 128
    assert 2 * 400 - 3 <= 3 * mini.iterations <= 2 * 400
