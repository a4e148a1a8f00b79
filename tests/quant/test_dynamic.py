"""A network whose bits each image decides: the choice, its gradient, what is counted
(docs/methods/quantisation.md#dynamic)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.interfaces import BitPolicy, Setting
from bench.measure.complexity import bitops, count
from methods.quant.choosing import (
    ChosenNorm,
    DynamicActivation,
    FollowingLayer,
    HardForward,
    choosers,
    grouped,
)
from methods.quant.learned import StepActivation
from methods.quant.selectors import DeviationSelector, per_channel
from methods.quant.training import TrainedModel
from tests.compressors.dynamic_toys import W4A4, dynamic, exported, force, scatter, toy
from tests.compressors.recon_toys import digest, image_set
from tests.quant.nets import Untraceable

IMAGES = image_set(24, seed=3).images
KINDS: dict[str, dict[str, Any]] = {
    "own": {},
    "follow": {"weights": (3, 4, 5)},
    "norms": {"norms": True},
    "joint": {"selector": "joint", "weights": (3, 4, 5)},
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_gradient_is_the_mixtures_and_the_value_is_the_chosen_ones() -> None:
    """Against out = hard + soft - stopgrad(soft), by autograd alone, in double."""
    logits, x = draw(6, 3, seed=1).double().requires_grad_(), draw(6, 2, 4, 4).double().requires_grad_()
    scales = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64, requires_grad=True)
    up = draw(6, 2, 4, 4, seed=2).double()
    hard = logits.argmax(1)

    def results() -> list[Tensor]:
        return [scales[place] * x.sin() + place for place in range(3)]

    out = HardForward.apply(logits.softmax(1), hard, *results())
    found = torch.autograd.grad((out * up).sum(), (logits, x, scales))
    soft = sum(p.view(-1, 1, 1, 1) * part for p, part in zip(logits.softmax(1).unbind(1), results(), strict=True))
    picked = torch.stack(results())[hard, torch.arange(6)]
    assert torch.equal(out, picked)
    expected = picked.detach() + soft - soft.detach()
    torch.testing.assert_close(found, torch.autograd.grad((expected * up).sum(), (logits, x, scales)))


def test_bits_gradient_is_that_of_the_expected_bits() -> None:
    """d/dlogit_j of sum_i p_i b_i is p_j (b_j - mean), by hand; the value is the argmax's bits, exactly."""
    model = dynamic()
    scatter(choosers(model.body))
    model.student.train()
    model.student(IMAGES)
    quant = choosers(model.body)[0]
    assert quant.choice is not None
    assert quant.choice.soft is not None
    bits = quant.bits_of_images()
    assert torch.equal(bits, torch.tensor([3.0, 4.0, 5.0])[quant.choice.hard])
    (grad,) = torch.autograd.grad(bits.sum(), [quant.selector.linear.bias])
    p, b = quant.choice.soft.detach(), torch.tensor([3.0, 4.0, 5.0])
    torch.testing.assert_close(grad, (p * (b - (p @ b)[:, None])).sum(0))


def test_selector_reads_deviations_and_gives_them_no_gradient() -> None:
    x = draw(5, 4, 3, 3).requires_grad_()
    selector = DeviationSelector(4, 3)
    logits = selector(x, 1, 1)
    deviations = x.detach().flatten(2).double().var(2, unbiased=False).sqrt().float()
    torch.testing.assert_close(logits, deviations.sum(1, keepdim=True) + torch.tensor([0.0, 0.0, 1.0]))
    logits.sum().backward()
    assert x.grad is None
    assert selector.linear.weight.grad is not None
    flat = draw(5, 4)
    assert torch.equal(per_channel(flat, 1, 1, deviation=True), flat.abs())
    tokens = draw(6, 7, 4)  # [rows, tokens, channels], two rows an image
    whole = tokens.view(3, 2 * 7, 4)
    torch.testing.assert_close(per_channel(tokens, 2, 2, deviation=True), whole.std(1, unbiased=False))
    torch.testing.assert_close(per_channel(tokens, 2, 2, deviation=False), whole.mean(1))


def test_rows_go_through_the_parts_they_name() -> None:
    x = draw(7, 2, 3, 3)
    hard = torch.tensor([2, 0, 1, 1, 2, 0, 2])
    out = grouped(x, hard, [lambda y: y, lambda y: 10 * y, lambda y: -y])
    factors = torch.tensor([1.0, 10.0, -1.0])[hard].view(-1, 1, 1, 1)
    assert torch.equal(out, factors * x)


def test_one_candidate_is_the_static_network() -> None:
    one = dynamic((4,))
    static = TrainedModel(toy(), image_set().images[:2], W4A4, _makers())
    static.begin(image_set().images)
    assert not one.dynamic
    assert not one.selectors
    assert digest(one.export()) == digest(static.export())


def _makers() -> Any:
    from methods.quant.learned_weights import LsqWeight
    from methods.quant.training_parts import Makers

    return Makers(lambda w, b: LsqWeight(w, b, "mse"), lambda b, n: StepActivation(b, n, "mse"))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_huge_bias_makes_the_uniform_network(place: int) -> None:
    """Bit for bit in eval mode, and what it takes is the closed form."""
    model = dynamic()
    force(choosers(model.body), place)
    asked = Setting(4, 3 + place)
    static = TrainedModel(toy(), image_set().images[:2], asked, _makers())
    static.begin(image_set().images)
    module = exported(model)
    with torch.no_grad():
        torch.testing.assert_close(module(IMAGES), static.export()(IMAGES), rtol=0, atol=0)
    taken = model.image_bitops(module)(IMAGES)
    assert taken.dtype == torch.float64
    assert taken.tolist() == [float(bitops(count(toy(), (3, 8, 8)), static.layer_bits()))] * len(IMAGES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0, 2])
def test_constant_choices_take_the_closed_form(kind: str, place: int) -> None:
    """With weights that follow, too; both ends are what ``bits_between`` says."""
    model = dynamic(**KINDS[kind])
    module = exported(model)
    force(choosers(module), place)
    moved = {layer: ends[min(place, 1)] for layer, ends in model.bits_between().items()}
    expected = bitops(count(toy(), (3, 8, 8)), {**model.layer_bits(), **moved})
    assert set(model.image_bitops(module)(IMAGES).tolist()) == {float(expected)}


@pytest.mark.parametrize("kind", KINDS)
def test_images_choose_for_themselves(kind: str) -> None:
    """Bits lie between the ends, differ, and are the same whatever images come with one; nothing of a pass stays."""
    model = dynamic(**KINDS[kind])
    scatter(choosers(model.body))
    module = exported(model)
    ask = model.image_bitops(module)
    whole = ask(IMAGES)
    alone = torch.cat([ask(image[None]) for image in IMAGES])
    assert torch.equal(whole, alone)
    assert torch.equal(ask(IMAGES.flip(0)), whole.flip(0))
    assert len(whole.unique()) > 1
    net = count(toy(), (3, 8, 8))
    ends = [
        bitops(net, {**model.layer_bits(), **{layer: pair[end] for layer, pair in model.bits_between().items()}})
        for end in (0, 1)
    ]
    assert ends[0] <= float(whole.min()) < float(whole.max()) <= ends[1]
    with torch.no_grad():
        logits = module(IMAGES)
        torch.testing.assert_close(torch.cat([module(image[None]) for image in IMAGES]), logits)
    assert all(quant.choice is None for quant in choosers(module))
    before = digest(module)
    assert torch.equal(copy.deepcopy(module)(IMAGES), module(IMAGES))
    assert digest(module) == before


@pytest.mark.parametrize("kind", KINDS)
def test_training_pass_computes_what_the_finished_network_does(kind: str) -> None:
    """Hard forward in training mode (statistics kept), against eval mode; bits, against bit operations."""
    model = dynamic(**KINDS[kind], **({"dropout": 0.0} if kind == "joint" else {}))
    scatter(choosers(model.body))
    model.student.train()
    for part in model.body.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    with torch.no_grad():
        logits = model.student(IMAGES)[0]
        mean = model.mean_bits()
    model.student.eval()
    with torch.no_grad():
        torch.testing.assert_close(model.student(IMAGES)[0], logits, rtol=1e-4, atol=1e-5)
    module = exported(model)
    taken, net = model.image_bitops(module)(IMAGES), count(toy(), (3, 8, 8))
    moving = model.bits_between()
    if kind in ("own", "norms"):  # bits and bit operations are the same thing
        rest = bitops(net, {**model.layer_bits(), **{layer: pair[0] for layer, pair in moving.items()}})
        unit = sum(net.layers[layer].macs * pair[0].weight for layer, pair in moving.items())
        torch.testing.assert_close((taken - rest) / unit + 3, mean.double())


def test_gradients_reach_selectors_and_all_candidates() -> None:
    for kind in KINDS.values():
        model = dynamic(**kind)
        model.student.train()
        logits, _ = model.student(IMAGES)
        (logits.square().mean() + model.mean_bits().mean()).backward()
        for quant in choosers(model.body):
            steps = [part.factor.grad for part in quant.parts if isinstance(part, StepActivation)]
            assert all(step is not None and bool(torch.isfinite(step)) for step in steps)
        for parameter in model.selectors:
            assert parameter.grad is not None
            assert bool(torch.isfinite(parameter.grad).all())


def test_gradient_of_the_choice_is_that_of_a_mixture_network() -> None:
    """Layers that follow: the gradient of the last selector's bias is that of a network that mixes softly there, by
    finite differences of the mixture, in double."""
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3).double()
    x, up = draw(4, 2, 5, 5).double(), draw(4, 3, 3, 3, seed=4).double()
    weights = [conv.weight.detach() * factor for factor in (0.5, 1.0, 1.5)]
    logits = draw(4, 3, seed=5).double().requires_grad_()
    parts = [nn.functional.conv2d(x, weight, conv.bias.detach()) for weight in weights]
    (HardForward.apply(logits.softmax(1), logits.argmax(1), *parts) * up).sum().backward()
    step = 1e-6

    def mixture(at: Tensor) -> float:
        shares = at.softmax(1).unbind(1)
        return float((sum(p.view(-1, 1, 1, 1) * part for p, part in zip(shares, parts, strict=True)) * up).sum())

    for place in range(3):
        moved = torch.zeros(4, 3, dtype=torch.float64)
        moved[1, place] = step
        slope = (mixture(logits.detach() + moved) - mixture(logits.detach() - moved)) / (2 * step)
        assert logits.grad is not None
        assert float(logits.grad[1, place]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_noise_is_gumbels_and_comes_from_the_generator() -> None:
    """With zero logits each candidate is chosen equally often; shifted by log 4, as a softmax says."""
    quant = dynamic().activations[0]
    assert isinstance(quant, DynamicActivation)
    with torch.no_grad():
        quant.selector.linear.weight.zero_()
        quant.selector.linear.bias.copy_(torch.tensor([4.0, 1.0, 1.0]).log())
    quant.train()
    quant.generator = torch.Generator().manual_seed(0)
    quant(torch.zeros(6000, 8, 1, 1))
    assert quant.choice is not None
    shares = torch.bincount(quant.choice.hard, minlength=3) / 6000
    torch.testing.assert_close(shares, torch.tensor([4.0, 1.0, 1.0]) / 6, atol=0.03, rtol=0)
    quant.eval()
    quant(torch.zeros(8, 8, 1, 1))
    assert quant.choice.hard.tolist() == [0] * 8


def test_normalisations_of_candidates_follow_their_own_images() -> None:
    """Each candidate's running mean moves by the images that chose it, and by no others."""
    model = dynamic(norms=True)
    norms = [part for part in model.body.modules() if isinstance(part, ChosenNorm)]
    assert norms
    with torch.no_grad():
        for parameter in model.selectors:
            parameter.zero_()
    model.draw(torch.Generator().manual_seed(0))  # each candidate for a third of the images
    seen: dict[nn.Module, Tensor] = {}
    for norm in norms:
        norm.register_forward_pre_hook(lambda part, inputs: seen.update({part: inputs[0].detach().clone()}))
    before = {norm: [part.running_mean.clone() for part in norm.parts] for norm in norms}
    model.student.train()
    model.student(IMAGES)
    norm = norms[0]
    choice = norm._source[0].choice
    assert choice is not None
    used = choice.hard.unique().tolist()
    assert len(used) > 1
    for place, part in enumerate(norm.parts):
        expected = before[norm][place]
        if place in used:
            expected = 0.9 * expected + 0.1 * seen[norm][choice.hard == place].mean((0, 2, 3))
        torch.testing.assert_close(part.running_mean, expected)


def test_policy_and_ends_are_not_chosen() -> None:
    """Nobody chooses what a policy names, what the ends read, nor of what lies in floating point."""
    policy = BitPolicy.of({"conv2": (4, 6)})
    model = dynamic(setting=Setting(4, 4, policy=policy), weights=(3, 4, 5))
    assert "conv2" not in model.bits_between()
    assert model.layer_bits()["conv2"] == (4, 6)
    assert not {"stem.0", "head"} & model.bits_between().keys()
    following = {name for name in model.layer_bits() if isinstance(model.body.get_submodule(name), FollowingLayer)}
    assert following == model.bits_between().keys()
    assert dynamic(setting=Setting(4, 32)).dynamic == ()


def test_a_network_that_cannot_be_traced() -> None:
    net = Untraceable()
    model = dynamic(net=net, weights=(3, 4, 5))
    assert model.path == "modules"
    assert model.dynamic
    scatter(choosers(model.body))
    module = exported(model)
    ask = model.image_bitops(module)
    assert torch.equal(torch.cat([ask(image[None]) for image in IMAGES]), ask(IMAGES))
    assert set(model.layer_bits()) == set(model.weight_levels(module))


class Frames(nn.Module):
    """An image of two frames, each seen by itself; their logits are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.reshape(-1, 3, *x.shape[2:])
        y = torch.relu(self.b(torch.relu(self.a(frames)))).mean((2, 3))
        out: Tensor = self.c(y).view(len(x), -1, 5).mean(1)
        return out


def test_frames_of_an_image_share_its_choice() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Frames().eval()
    images = draw(10, 6, 8, 8)
    from methods.quant.dynamic import DynamicModel
    from methods.quant.dynamic_tensors import Choices

    model = DynamicModel(net, images[:2], W4A4, _makers(), Choices((3, 4, 5)), torch.Generator())
    model.begin(images)
    (quant,) = choosers(model.body)
    assert quant.rows == 2
    scatter([quant])
    module = exported(model)
    bits = module.bits(images)[quant.tensor]
    assert bits.shape == (10,)
    assert torch.equal(torch.cat([module.bits(one[None])[quant.tensor] for one in images]), bits)


def test_standard_deviations_are_those_of_the_first_images() -> None:
    """Mean 0 and variance 1 of each channel over the images that began it, by hand; a constant channel stays at 0."""
    x = draw(50, 3, 4, 4) * torch.linspace(1, 2, 50).view(-1, 1, 1, 1)
    x[:, 2] = 1.0
    selector = DeviationSelector(3, 2, standard=True)
    selector.begin(x, 1, 1)
    with torch.no_grad():
        selector.linear.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]))
        selector.linear.bias.zero_()
    found = selector(x, 1, 1).detach()
    seen = x[:, 0].double().flatten(1).std(1, unbiased=False)
    expected = (seen - seen.mean()) / seen.std(unbiased=False)
    torch.testing.assert_close(found[:, 0].double(), expected, rtol=1e-3, atol=1e-4)
    assert not bool(found[:, 1].any())
