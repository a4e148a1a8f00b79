"""The mixture, its gradients, the supernet against plain quantised networks, L_comp, and the images it trains on."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from bench.errors import BenchError
from bench.interfaces import ImageSet, LayerBits
from methods.policies._differentiable import TrainingParams
from methods.policies._mixed import START, MixedActivation, MixedWeight, SoftmaxChoice
from methods.policies._mixture import Levels, mixture
from methods.policies._proxy import moved, proxy_of, start_of
from methods.quant.learned_weights import LsqWeight
from methods.quant.quantizers import fake_quant
from tests.contracts import kit
from tests.contracts.toys import SPEC, context, images, teacher
from tests.policies.super_toys import BITS, batch, net, pictures, plain, proxy, put, supernet
from tests.quant.nets import Untraceable

LEVELS = (Levels(-2, 1, 0.3), Levels(0, 7, 0.1), Levels(-8, 7, 0.2))


def made(size: int = 70_001) -> tuple[Tensor, Tensor, Tensor]:
    """Values in more than one piece, shares and steps."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()
    shares = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64, requires_grad=True)
    return x, shares, torch.tensor([0.7, 0.31, 0.23], dtype=torch.float64, requires_grad=True)


def test_a_mixture_and_its_gradients_are_the_weighted_sum_of_plain_quantisers() -> None:
    x, shares, steps = made()
    up = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    out = mixture(x, shares, steps, LEVELS)
    parts = [fake_quant(x, steps[k], g.low, g.high, g.gain) for k, g in enumerate(LEVELS)]
    wanted = sum(share * part for share, part in zip(shares, parts, strict=True))
    assert isinstance(wanted, Tensor)
    assert torch.allclose(out, wanted)
    given = torch.autograd.grad(out, (x, shares, steps), up, retain_graph=True)
    for one, other in zip(given, torch.autograd.grad(wanted, (x, shares, steps), up), strict=True):
        assert torch.allclose(one, other)
        assert float(one.abs().max()) > 0


@pytest.mark.parametrize("levels", [LEVELS, (Levels(-2, 1, offset=0.5, through=True),) * 3])
def test_the_gradient_that_can_be_differentiated_again_is_the_same_and_has_gradients(levels: Any) -> None:
    x, shares, steps = made(400)
    up = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2)).requires_grad_()
    out = mixture(x, shares, steps, levels)
    fast = torch.autograd.grad(out, (x, shares, steps), up, retain_graph=True)
    slow = torch.autograd.grad(out, (x, shares, steps), up, create_graph=True)
    assert all(torch.allclose(one, other) for one, other in zip(fast, slow, strict=True))
    # d to_x / d shares: what a loss on the gradient moves the choices by
    (second,) = torch.autograd.grad(slow[0].sum(), shares)
    inside = [torch.ones_like(x) if g.through else (x / s - g.offset).clamp(g.low, g.high).eq(x / s - g.offset)
              for s, g in zip(steps, levels, strict=True)]  # fmt: skip
    assert torch.allclose(second, torch.stack([(mask * up).sum() for mask in inside]))


@pytest.mark.parametrize("module", [net, lambda: kit.built(Untraceable, 0).eval()], ids=["graph", "modules"])
@pytest.mark.parametrize("init", ["mse", "lsq"])
def test_one_hot_logits_are_the_plain_quantised_network_bit_for_bit(module: Any, init: Any) -> None:
    network = module()
    found = supernet(network, init=init, on=lambda number: (number + 1) % len(BITS))
    assert found.path == ("graph" if module is net else "modules")
    policy = found.picked()
    assert len({bits for pair in policy.values() for bits in pair}) > 1
    other = plain(network, policy, init)
    assert torch.equal(found.student(pictures(seed=5))[0], other.student(pictures(seed=5))[0])
    assert {name: other.layer_bits()[name] for name in policy} == dict(policy)
    for name, pair in policy.items():
        layer = next(p for p in found.body.get_submodule(name).modules() if parametrize.is_parametrized(p, "weight"))
        assert 2 <= len(layer.weight.unique()) <= 2**pair.weight  # type: ignore[operator,union-attr]


def test_one_hot_logits_train_as_the_plain_network_does() -> None:
    network = net()
    found = supernet(network, on=lambda number: 1)
    other = plain(network, found.picked())
    grads = []
    for model in (found, other):
        model.student.train()
        F.cross_entropy(model.student(pictures())[0], batch().labels).backward()
        grads.append({name: p.grad for name, p in model.student.named_parameters() if p.grad is not None})
    own = {name.replace(".parts.1", ""): grad for name, grad in grads[0].items()}
    assert grads[1].keys() <= own.keys()
    for name, grad in grads[1].items():
        assert torch.allclose(own[name], grad, rtol=1e-4, atol=1e-6), name


def test_fixed_steps_are_edmips() -> None:
    weight = torch.randn(640, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()
    choice = SoftmaxChoice((2, 3))
    put(choice, 0)
    out = MixedWeight(weight, choice, None)(weight)
    step = 0.996 * float(weight.detach().std())
    assert out.unique().tolist() == pytest.approx([-1.5 * step, -0.5 * step, 0.5 * step, 1.5 * step])
    assert float((out - weight).detach().square().mean()) == pytest.approx(
        0.1188, rel=0.05
    )  # Lloyd and Max's uniform optimum
    out.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))  # type: ignore[arg-type]

    x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0)).relu() * 3
    quant = MixedActivation(True, choice, None)
    quant.begin(x)
    assert float(quant.spread) == pytest.approx(3, rel=0.05)
    assert quant(x).unique().tolist() == pytest.approx([i * 0.538 * float(quant.spread) for i in range(4)])


def test_what_is_not_searched_has_plain_quantisers_at_its_own_bits() -> None:
    found = supernet()
    first, last = found.order[0], found.order[-1]
    assert not {first, last} & found.weights.keys()
    for name in (first, last):
        part = found.body.get_submodule(name).parametrizations["weight"][0]  # type: ignore[index,union-attr]
        assert isinstance(part, LsqWeight)
        assert (part.n, part.p) == (-128, 127)


class Branches(nn.Module):
    """Two layers read one tensor, as at a downsample."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.head((self.one(x) + self.two(x)).relu().mean((2, 3)))  # type: ignore[no-any-return]


def test_layers_that_read_one_tensor_share_its_choice() -> None:
    found = supernet(kit.built(Branches, 0).eval())
    assert len(found.weights) == 2
    assert len(found.inputs) == 1
    weight, act = (0.2, 0.5)
    with torch.no_grad():
        for choice, likely in zip(found.choices, (weight, weight, act), strict=True):
            choice.logits[1] += likely  # type: ignore[union-attr,operator]
    cost = found.costs()
    together = sum(cost(place, LayerBits(3, 3)) for place in found.space.searched)
    apart = -sum(torch.softmax(c.logits.double(), 0)[1].log().item() for c in found.choices)  # type: ignore[arg-type]
    assert together == pytest.approx(apart)


def test_complexity_at_uniform_logits_is_the_closed_form() -> None:
    found = supernet()
    places = found.space.searched
    assert all(place.weight and place.input for place in places)
    mean = sum(BITS) / len(BITS)
    wanted = sum(place.macs for place in places) / places[0].macs * mean * mean
    assert float(found.complexity().detach()) == pytest.approx(wanted)
    assert [float(v) for v in found.choices[0].logits.detach()] == [pytest.approx(START)] * 4  # type: ignore[union-attr]


def test_complexity_of_one_hot_logits_is_the_policys_bitops() -> None:
    found = supernet(on=lambda number: number % len(BITS))
    assert float(found.bitops().detach()) == pytest.approx(found.space.used(found.picked()).bitops)


def test_complexitys_gradient_has_the_sign_of_bits_over_their_mean() -> None:
    found = supernet()
    with torch.no_grad():
        for choice in found.choices:
            choice.logits.copy_(torch.tensor([0.3, -0.2, 0.6, 0.1]))  # type: ignore[union-attr,operator]
    found.complexity().backward()
    for name, choice in found.weights.items():
        share = torch.softmax(choice.logits.detach(), 0)  # type: ignore[arg-type]
        away = share * (torch.tensor(BITS) - (share * torch.tensor(BITS)).sum())
        place = next(p for p in found.space.searched if p.name == name)
        act = float(found.inputs[place.reads].expected().detach())
        factor = place.macs / found.space.searched[0].macs * act
        assert torch.allclose(choice.logits.grad, factor * away, rtol=1e-4)  # type: ignore[union-attr,arg-type]
        assert [float(v) > 0 for v in away] == [False, False, True, True]


def test_equal_logits_give_the_lowest_candidate() -> None:
    found = supernet()
    assert set(found.picked().values()) == {LayerBits(2, 2)}


def test_all_gradients_are_finite_at_two_bits_and_none_is_missing() -> None:
    found = supernet(bits=(2, 3))
    found.student.train()
    loss = F.cross_entropy(found.student(pictures())[0], batch().labels) + found.complexity()
    loss.backward()
    for name, parameter in found.student.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
    assert all(float(p.grad.abs().sum()) > 0 for p in found.architecture)  # type: ignore[union-attr]


def test_the_extras_are_a_logit_and_a_step_per_candidate() -> None:
    network = net()
    found = supernet(network)
    plain_count = sum(p.numel() for p in network.parameters())
    ends = 2 + 1  # weight steps of first and last layer, and the step of the last input
    extras = len(found.choices) * 2 * len(BITS) + ends
    assert sum(p.numel() for p in found.student.parameters()) == plain_count + extras


def test_moved_images_are_shifted_with_their_edges_repeated() -> None:
    x = torch.arange(2 * 36.0).reshape(2, 1, 6, 6)
    found = moved(x, 2, False, torch.Generator().manual_seed(0))
    padded = F.pad(x, (2,) * 4, mode="replicate")
    for image, whole in zip(found, padded, strict=True):
        windows = [whole[:, i : i + 6, j : j + 6] for i in range(5) for j in range(5)]
        assert any(torch.equal(image, window) for window in windows)
    assert not torch.equal(found, x)
    assert torch.equal(moved(x, 0, False, torch.Generator()), x)
    mirrored = moved(x, 0, True, torch.Generator().manual_seed(3))
    assert all(torch.equal(m, i) or torch.equal(m, i.flip(2)) for m, i in zip(mirrored, x, strict=True))


def test_labels_are_the_images_else_soft_ones_else_the_networks_own() -> None:
    model, given = teacher(), images()
    labels, soft = torch.arange(16) % 5, torch.softmax(torch.randn(16, 5), 1)
    params, ctx = TrainingParams(samples=12), context(0, ".")
    hard, passes = proxy_of(model, ImageSet(given.images, labels, soft, "native", "", ""), params, ctx)
    assert (hard.labels.tolist(), hard.soft, passes) == (labels[:12].tolist(), None, 0.0)
    mixed, _ = proxy_of(model, ImageSet(given.images, None, soft, "assigned", "", ""), params, ctx)
    assert torch.equal(mixed.soft, soft[:12])  # type: ignore[arg-type]
    own, passes = proxy_of(model, given, params, ctx)
    assert torch.equal(own.labels, model.module(given.images[:12]).argmax(1))
    assert passes == 12


def test_a_new_head_serves_other_classes_and_the_old_one_refuses_them() -> None:
    model, ctx = teacher(), context(0, ".")
    other = proxy(16, classes=7)
    with pytest.raises(BenchError, match="not of the network's classes"):
        start_of(model, "head", other, TrainingParams(), ctx)
    other = dataclasses.replace(other, fresh=True)
    net = start_of(model, "head", other, TrainingParams(), ctx)
    assert net(pictures()).shape == (16, 7)
    assert model.module(pictures()).shape == (16, SPEC.classes)
    with pytest.raises(BenchError, match="needs labels"):
        proxy_of(model, images(), TrainingParams(head="new"), ctx)


def test_batches_hold_each_image_once_an_epoch() -> None:
    made = proxy(16)
    stream = made.batches(5, torch.Generator().manual_seed(0))
    seen = torch.cat([next(stream).images for _ in range(made.steps(5))])
    assert len(seen) == 15
    assert len(seen.flatten(1).unique(dim=0)) == 15
    assert len(next(made.batches(64, torch.Generator())).images) == 16
