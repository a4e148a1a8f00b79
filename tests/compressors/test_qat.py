"""Quantisation-aware training end to end, its placement and its quantisers (docs/methods/compressors.md#training;
docs/methods/quantisation.md#learned-quantisers)."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.interfaces import Setting
from methods.compressors._qat import PRESETS, QatCompressor
from methods.quant.learned import LearnedActivation, PactActivation, PactClip, StepActivation, sample
from methods.quant.learned_weights import DorefaWeight, LsqWeight, dorefa_weight
from methods.quant.model import quantize_model
from methods.quant.training import TrainedModel
from methods.quant.training_parts import Makers
from tests import pick
from tests.compressors.qat_toys import W2A4, compress
from tests.compressors.recon_toys import Counter, context, digest, handle, image_set
from tests.quant.nets import TwoCalls, images, randomise

METHODS = {name: method for name, method in pick.methods("compressors").items() if isinstance(method, QatCompressor)}


def makers(init: Any = "lsq") -> Makers:
    return Makers(lambda w, b: LsqWeight(w, b, init), lambda b, n: StepActivation(b, n, init))


def trained(net: nn.Module, setting: Setting = W2A4) -> TrainedModel:
    return TrainedModel(net, images(), setting, makers())


def closed_form(v: Tensor, low: float, high: float) -> Tensor:
    """LSQ's equation 3."""
    inner = torch.round(v) - v
    return torch.where(v <= low, torch.tensor(low), torch.where(v >= high, torch.tensor(high), inner))


@pytest.mark.parametrize("relative", [False, True])
def test_step_gradients_are_lsqs_also_on_the_bounds(relative: bool) -> None:
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    quant = LsqWeight(weight, 3, "lsq", relative=relative)
    s = quant.scale.detach()
    torch.testing.assert_close(s, 2 * weight.abs().mean() / 3**0.5)
    weight.view(-1)[:20] = -4 * s
    weight.view(-1)[20:60] = 3 * s
    weight.requires_grad_(True)
    up = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    (quant(weight) * up).sum().backward()
    v = weight.detach() / s
    expected = (closed_form(v, -4.0, 3.0) * up).sum() / (weight.numel() * 3) ** 0.5
    assert quant.factor.grad is not None
    torch.testing.assert_close(quant.factor.grad, expected * quant.unit)
    torch.testing.assert_close(weight.grad, up * ((v >= -4) & (v <= 3)))


def test_activation_step_counts_the_values_of_one_image() -> None:
    x = torch.rand(7, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    quant = StepActivation(4, True, "lsq")
    quant.observing = True
    assert torch.equal(quant(x), x)
    assert not quant.signed
    quant(x).sum().backward()
    expected = closed_form(x / quant.scale.detach(), 0.0, 15.0).sum() / (3 * 4 * 4 * 15) ** 0.5
    assert quant.factor.grad is not None
    torch.testing.assert_close(quant.factor.grad, expected)
    signed = StepActivation(4, False, "lsq")
    signed.observing = True
    signed(x)
    assert signed.limits == (-8, 7)
    with torch.no_grad():
        signed.factor.fill_(-0.5)
    signed.keep_positive()
    assert float(signed.scale.detach()) == 0.5


def test_pact_gradients() -> None:
    x = torch.tensor([-1.0, -0.5, 0.0, 0.3, 0.7, 1.0, 2.0], requires_grad=True)
    up = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    alpha, beta = torch.tensor(1.0, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    out = PactClip.apply(x, alpha, None, 15)
    (out * up).sum().backward()
    assert alpha.grad is not None
    assert float(alpha.grad) == 32 + 64
    torch.testing.assert_close(x.grad, up * torch.tensor([0, 0, 1, 1, 1, 1, 0.0]))
    torch.testing.assert_close(out, torch.round(x.clamp(0, 1) * 15) / 15)
    x.grad = alpha.grad = None
    out = PactClip.apply(x, alpha, beta, 15)
    (out * up).sum().backward()
    assert beta.grad is not None
    assert alpha.grad is not None
    assert float(alpha.grad) == 32 + 64
    assert float(beta.grad) == -(1 + 2)
    torch.testing.assert_close(x.grad, up * torch.tensor([0, 1, 1, 1, 1, 1, 0.0]))
    assert float(out[2].detach()) == 0
    assert len(torch.unique(PactClip.apply(torch.linspace(-3, 3, 999), alpha, beta, 15))) == 16


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_dorefa_levels_and_zero_weight(bits: int) -> None:
    weight = torch.randn(40, 40, generator=torch.Generator().manual_seed(0), requires_grad=True)
    out = dorefa_weight(weight, bits)
    assert float(out.detach().abs().max()) == 1
    assert len(torch.unique(out)) == 2**bits
    squashed = torch.tanh(weight) / torch.tanh(weight).abs().max()
    assert float((out - squashed).detach().abs().max()) <= 1 / (2**bits - 1) + 1e-6
    kept = DorefaWeight(weight.detach(), bits, rescale=True)
    torch.testing.assert_close(kept(weight).norm(), weight.norm())
    zero = torch.zeros(4, 4, requires_grad=True)
    dorefa_weight(zero, bits).sum().backward()
    assert zero.grad is not None
    assert bool(torch.isfinite(zero.grad).all())


def test_input_placement() -> None:
    """Image and identity path stay in floating point; one quantiser per tensor that a layer reads."""
    net: Any = randomise(TwoCalls())
    model = trained(net)
    x = images()
    model.begin(x)
    assert model.order == ("stem", "conv", "fc")
    assert len(model.activations) == 2
    assert dict(model.layer_bits()) == {"stem": (8, 8), "conv": (2, 4), "fc": (8, 8)}
    first, last = model.activations
    assert (first.bits, last.bits) == (4, 8)
    assert not first.signed
    weight: Any = {name: model.body.get_submodule(name).weight for name in model.order}
    assert len(torch.unique(weight["conv"])) <= 4

    def layer(name: str, bn: Any, data: Tensor) -> Tensor:
        bias = None if name == "conv" else net.get_submodule(name).bias
        out: Tensor = bn(nn.functional.conv2d(data, weight[name], bias, padding=1))
        return out

    with torch.no_grad():
        stem = torch.relu(layer("stem", net.bn, x))
        block = torch.relu(layer("conv", net.bn2, first(stem)) + stem)
        expected = nn.functional.linear(last(block.mean((2, 3))), weight["fc"], net.fc.bias)
        torch.testing.assert_close(model.student(x)[0], expected)


def test_two_layers_that_read_one_tensor_share_its_quantiser() -> None:
    class Fork(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self[0](x))
            return self[3]((self[1](y) + self[2](y)).mean((2, 3)))  # type: ignore[no-any-return]

    convs = [nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 5)]
    model = trained(Fork(*convs).eval())
    assert len(model.activations) == 2
    assert [bits for _, bits in model.layer_bits().values()] == [8, 4, 4, 8]


def test_without_bits_student_is_teacher_and_features_are_unit_outputs() -> None:
    net: Any = randomise(TwoCalls())
    model = trained(net, Setting(32, 32))
    x = images()
    logits, taps = model.student(x)
    target, wanted = model.teacher(x)
    torch.testing.assert_close(logits, net(x), rtol=0, atol=0)
    assert torch.equal(logits, target)
    assert all(torch.equal(a, b) for a, b in zip(taps, wanted, strict=True))
    stem = torch.relu(net.bn(net.stem(x)))
    block = torch.relu(net.bn2(net.conv(stem)) + stem)
    for ours, theirs in zip(taps, (stem, block), strict=False):
        torch.testing.assert_close(ours, theirs)
    assert len(taps) == 2


def test_features_are_taken_before_the_fake_quantiser() -> None:
    model = trained(randomise(TwoCalls()))
    model.begin(images())
    _, taps = model.student(images())
    assert all(len(torch.unique(tap)) > 100 for tap in taps)


def test_export_is_the_student_with_batch_norm_folded_behind_few_levels() -> None:
    net: Any = randomise(TwoCalls())
    model = trained(net)
    x = images(16)
    model.begin(x)
    with torch.no_grad():
        before = model.student.eval()(x)[0]
    folded: Any = model.export()
    with torch.no_grad():
        after = folded(x)
    assert float((after - before).norm() / before.norm()) < 1e-4
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    weight = folded.conv.weight
    for channel in weight:
        assert len(torch.unique(channel)) <= 4
    multiplier = net.bn2.weight / torch.sqrt(net.bn2.running_var + net.bn2.eps)
    per_tensor = weight / multiplier.view(-1, 1, 1, 1)
    levels = per_tensor / per_tensor[per_tensor != 0].abs().min()
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert set(levels.round().unique().tolist()) <= {-2.0, -1.0, 0.0, 1.0}
    assert model.scale_count(folded) == 8 + 8 + 5 + 2


@pytest.mark.parametrize("name", METHODS)
def test_a_zero_point_is_stored_for_each_two_sided_grid_that_has_one(name: str) -> None:
    """The toy's depthwise output is read by a layer as it is, so one tensor is two-sided."""
    grids = ("symmetric", "affine") if "activation_grid" in METHODS[name].Params.model_fields else ("own",)
    for grid in grids:
        chosen = {} if grid == "own" else {"activation_grid": grid}
        variant = compress(METHODS[name], steps=0, **chosen).variants[0]
        quants = [m for m in variant.module.modules() if isinstance(m, LearnedActivation) and m.bits < 32]
        two_sided = sum(q.signed for q in quants)
        assert two_sided > 0
        has = grid == "affine" or any(isinstance(q, PactActivation) for q in quants)
        assert variant.zero_points == (two_sided if has else 0)


@pytest.mark.parametrize("name", METHODS)
def test_training_brings_the_network_nearer_to_its_teacher(name: str) -> None:
    """The toy's normalisation has random statistics, so they stay: those of its images would be another network."""
    target = handle().module(image_set(seed=1).images)
    errors = []
    for steps in (0, 25):
        module = compress(METHODS[name], steps=steps, optimiser="adam", lr=0.003, bn_freeze=0.0).variants[0].module
        with torch.no_grad():
            errors.append(float((module(image_set(seed=1).images) - target).square().mean()))
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("name", METHODS)
def test_same_generator_same_network_and_inputs_stay(name: str) -> None:
    model, data = handle(), image_set()
    before, pixels = digest(model.module), data.images.clone()
    method: Any = METHODS[name]
    params = method.Params(steps=8, batch=16, augment="paper")
    nets = [method.compress(model, data, W2A4, params, context(s)).variants[0].module for s in (0, 0, 1)]
    assert digest(nets[0]) == digest(nets[1])
    assert digest(nets[0]) != digest(nets[2])
    assert digest(model.module) == before
    assert torch.equal(data.images, pixels)
    assert not any(p.requires_grad for p in nets[0].parameters())


@pytest.mark.parametrize("name", METHODS)
def test_protocol_has_the_keys_of_post_training_quantisation_and_differs(name: str) -> None:
    protocol = compress(METHODS[name], steps=1).variants[0].protocol
    other = quantize_model(handle().module, image_set().images[:2], W2A4).protocol()
    assert protocol.keys() == other.keys()
    assert protocol["weight_granularity"] == "per tensor"
    assert protocol["activation_placement"] == "input"
    assert protocol["left_in_float"] == other["left_in_float"] == []


def test_a_network_without_batch_norm_says_so() -> None:
    net = randomise(TwoCalls())
    assert trained(net).protocol("", "", "", "")["batch_norm"] == "folded behind the quantised weights"
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    assert trained(plain).protocol("", "", "", "")["batch_norm"] == "none"


@pytest.mark.parametrize("name", METHODS)
def test_a_stream_s_batches_are_trained_on(name: str) -> None:
    stream = Counter()
    given = dataclasses.replace(image_set(), images=torch.empty(0, 3, 8, 8), stream=stream)
    params = METHODS[name].Params(steps=3, batch=99)
    made = METHODS[name].compress(handle(), given, W2A4, params, context())
    assert "stream" in METHODS[name].deliveries
    assert stream.made == 3  # the first batch chose the ranges and is trained on, too
    assert made.report["delivery"] == "stream"
    assert made.forward_equivalents == 3 * 4 * 3 + 4


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 6, 7, 8, 14, 28])
def test_the_sample_sees_every_place_and_channel(side: int) -> None:
    shape = (max(4, 2_000_000 // (48 * side * side)), 48, side, side)
    places = torch.arange(48 * side * side, dtype=torch.float64).expand(shape[0], -1).reshape(shape)
    seen = sample(places).long()
    assert len(seen) <= 2**16 + 1
    assert len(torch.unique(seen)) == min(48 * side * side, len(seen))
    assert len(torch.unique(seen % (side * side))) == side * side


def test_protocols_of_the_methods_differ() -> None:
    found = [compress(METHODS[name], steps=0).variants[0].protocol for name in METHODS]
    assert all(a != b for a, b in itertools.combinations(found, 2))


@pytest.mark.parametrize("name", METHODS)
def test_presets_are_valid_and_paper_is_the_published_one(name: str) -> None:
    method: Any = METHODS[name]
    for preset in PRESETS.values():
        method.Params(**preset)
    paper = method.Params(**method.presets["paper"])
    assert (paper.steps, paper.batch, paper.lr, paper.features, paper.temperature) == (44_000, 128, 0.04, 300, 3)
    assert (round(paper.bn_freeze * paper.steps), paper.augment) == (10_000, "paper")
