"""The diagnosis finds faults that were planted: a layer of two bits, a dead channel, a constant one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from statistics import NormalDist

import pytest
import torch
from torch import Tensor, nn

from bench.data.datasets import get_dataset
from bench.interfaces import BitPolicy, LayerBits, Setting
from bench.measure.accuracy import batches, evaluate, to_input
from bench.measure.diagnosis import Data, diagnose, predict
from bench.measure.findings import Diagnosis, Gain, LayerFinding
from bench.measure.signals import Channels, LayerSignal, Ratio
from bench.zoo.targets import load
from methods.quant.inspected import Inspected
from methods.quant.model import QuantModel, Sampling, quantize_model
from tests.quant.nets import Chain, randomise

CLASSES = 5
CPU = torch.device("cpu")


def quiet(stage: str, step: int, total: int) -> None: ...


def toy_images(count: int = 40) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def toy(width: int = 12) -> nn.Module:
    return randomise(Chain(width=width))


def quantised(net: nn.Module, images: Tensor, **policy: tuple[int, int]) -> QuantModel:
    bits = BitPolicy.of({name.replace("_", "."): pair for name, pair in policy.items()})
    made = quantize_model(
        net, images[:2], Setting(8, 8, first_last_bits=8, policy=bits), weight_range="minmax", act_range="minmax"
    )
    made.calibrate(images, Sampling(values=1 << 12))
    made.freeze()
    return made.eval().requires_grad_(False)


def data_of(net: nn.Module, images: Tensor, size: int = 16) -> Data:
    """The network's own predictions as labels, so that in floating point it is always right."""
    with torch.no_grad():
        labels = net(images).argmax(1)

    def give() -> Iterator[tuple[Tensor, Tensor]]:
        return batches(images, labels, size)

    return Data(give, len(images), (0.0,), (1.0,), int(net(images[:1]).shape[1]), CPU, images)


def diagnosed(net: nn.Module, made: QuantModel, images: Tensor) -> Diagnosis:
    return diagnose(net, made, Inspected(made), data_of(net, images), quiet)


def weighted(net: nn.Module) -> list[str]:
    return [name for name, part in net.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]


def test_the_layer_of_two_bits_is_first_wherever_it_lies() -> None:
    net, images = toy(), toy_images()
    for name in weighted(net)[1:-1]:
        found = diagnosed(net, quantised(net, images, **{name.replace(".", "_"): (2, 2)}), images)
        first = found.ranked()[0]
        assert first.name == name
        assert first.gain is not None
        assert first.bits == LayerBits(2, 2)
        assert all(layer.gain is None for layer in found.layers if layer.name != name)  # they have 8 bits already
        assert first.own == min(layer.own for layer in found.layers)


def test_a_gain_is_the_difference_of_two_accuracies() -> None:
    net, images = toy(), toy_images(64)
    name = weighted(net)[1]
    made = quantised(net, images, **{name.replace(".", "_"): (2, 2)})
    data, opened = data_of(net, images, 64), Inspected(made)
    found = diagnose(net, made, opened, data, quiet)
    before = evaluate(made, data.batches(), device="cpu")[0]
    with opened.lifted(name, 8):
        after = evaluate(made, data.batches(), device="cpu")[0]
    gain = found.ranked()[0].gain
    assert gain is not None
    assert gain.points == pytest.approx(after - before)
    assert found.top1 == pytest.approx(before)
    assert found.plain_top1 == 100


def test_the_network_stays_as_it_was() -> None:
    net, images = toy(), toy_images()
    made = quantised(net, images, **{weighted(net)[1].replace(".", "_"): (2, 2)})
    state = {key: value.clone() for key, value in made.state_dict().items()}
    before = made(images)
    diagnosed(net, made, images)
    assert torch.equal(made(images), before)
    assert all(torch.equal(state[key], value) for key, value in made.state_dict().items())
    assert not any(part._forward_hooks for part in made.modules())


def test_planted_channels_are_found() -> None:
    net, images = toy(), toy_images()
    name = weighted(net)[1]
    made = quantised(net, images)
    layer = made.layer(name)
    layer.weight[2], layer.bias[2] = 0, 0  # type: ignore[index]
    layer.weight[4], layer.bias[4] = 0, 0.75  # type: ignore[index]
    made.unfreeze()
    made.refresh_weight_ranges()
    signal = next(one for one in diagnosed(net, made, images).layers if one.name == name).signal
    assert len(signal.outputs) == 2
    for channels in signal.outputs:  # without quantisers as with them
        assert channels.dead().nonzero().flatten().tolist() == [2]
        assert channels.constant().nonzero().flatten().tolist() == [4]


def test_ratios_are_what_the_definition_gives() -> None:
    net, images = toy(), toy_images()
    name = weighted(net)[2]
    made = quantised(net, images, **{name.replace(".", "_"): (3, 8)})
    found = next(one for one in diagnosed(net, made, images).layers if one.name == name)
    plain, used = Inspected(made).weight(name)
    assert found.weight == pytest.approx(
        10 * math.log10(float((plain**2).sum() / ((plain - used) ** 2).sum())), abs=1e-3
    )
    outputs: list[Tensor] = []
    hook = made.quant_layer(name).register_forward_hook(lambda part, args, out: outputs.append(out.double()))
    with torch.no_grad():
        made.set_state(False, False)
        made(images)
        made.set_state(True, True)
        made(images)
    hook.remove()
    noise = ((outputs[0] - outputs[1]) ** 2).sum()
    assert found.drift == pytest.approx(10 * math.log10(float((outputs[0] ** 2).sum() / noise)), abs=1e-2)


def test_uniform_noise_has_its_known_ratio() -> None:
    """Rounding a uniform signal to b bits leaves 20 b log10(2) dB: 48.2 at 8 bits."""
    values = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    step = 2 / 256
    ratio = Ratio()
    for part in values.split(50_000):
        ratio.add(part, (part / step).round() * step)
    assert ratio.decibels == pytest.approx(20 * 8 * math.log10(2), abs=0.1)
    exact = Ratio()
    exact.add(values, values)
    assert exact.decibels == math.inf
    assert math.isnan(Ratio().decibels)


def test_channels_over_batches() -> None:
    seen = Channels()
    first, second = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    first[:, 1], second[:, 1] = 5.0, 5.0
    second[0, 2, 3] = 1.0  # zero in the first batch alone
    seen.add(first, 1)
    seen.add(second, 1)
    assert seen.dead().tolist() == [True, False, False]
    assert seen.constant().tolist() == [False, True, False]
    assert seen.ends() == (0.0, 5.0)


def test_the_interval_of_a_gain() -> None:
    """Against Wald's on a large sample, where both are the same, and by its symmetry."""
    gain = Gain(900, 500, 10_000)
    low, high = gain.interval()
    z, difference = NormalDist().inv_cdf(0.975), 0.04
    half = z * math.sqrt((0.14 - difference**2) / 10_000)
    assert gain.points == 4.0
    assert low == pytest.approx(100 * (difference - half), abs=0.01)
    assert high == pytest.approx(100 * (difference + half), abs=0.01)
    mirrored = Gain(500, 900, 10_000).interval()
    assert mirrored == pytest.approx((-high, -low))
    wider = gain.interval(20)
    assert wider[0] < low < high < wider[1]
    assert wider[1] - 4 == pytest.approx((high - 4) * NormalDist().inv_cdf(1 - 0.025 / 20) / z, rel=0.02)
    none = Gain(0, 0, 50).interval()
    assert none[0] == -none[1] < 0


def finding(name: str, gain: Gain | None, own: float) -> LayerFinding:
    ratios = (20.0, 20.0, own, 20.0, 20.0)
    return LayerFinding(name, "", LayerBits(4, 4), gain, *ratios, 0.0, None, None, (0.0, 1.0), LayerSignal())


def test_gains_that_are_none_rank_by_ratio() -> None:
    whole = diagnosed(toy(), quantised(toy(), toy_images()), toy_images())
    layers = (
        finding("noisy", Gain(2, 3, 100), 10.0),
        finding("small gain", Gain(20, 1, 100), 40.0),
        finding("chance", Gain(8, 1, 100), 20.0),
        finding("kept", None, 15.0),
        finding("great gain", Gain(30, 1, 100), 50.0),
        finding("costs", Gain(1, 20, 100), 0.0),
        finding("unknown", None, math.nan),
    )
    ranked = [layer.name for layer in replace(whole, layers=layers).ranked()]
    assert ranked == ["great gain", "small gain", "noisy", "kept", "chance", "unknown", "costs"]
    alone = Gain(8, 1, 100)  # shown by itself, but not among five
    assert alone.interval()[0] > 0 > alone.interval(5)[0]


def test_the_answer_is_json_with_finite_numbers() -> None:
    net, images = toy(), toy_images()
    found = diagnosed(net, quantised(net, images), images)
    answer = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [layer["name"] for layer in answer["layers"]] == weighted(net)
    assert sorted(layer["rank"] for layer in answer["layers"]) == list(range(1, len(answer["layers"]) + 1))
    assert sum(answer["predictions"]["float"]) == len(images)
    assert answer["layers"][0]["input_db"] is None  # the image: no quantiser


def test_a_closed_network_still_shows_its_predictions() -> None:
    net, images = toy(), toy_images()
    found = diagnose(net, net, None, data_of(net, images), quiet)
    assert found.layers == ()
    assert found.closed
    assert found.histogram.agreement == 1.0
    assert found.histogram.distance == 0.0


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        logits = x.flatten(1)[:, :CLASSES].clone()
        logits[0, 1] = math.nan
        return logits


def test_logits_that_are_not_finite_are_no_prediction() -> None:
    net, images = toy(), toy_images(8)
    data = replace(data_of(net, images, 8), classes=CLASSES)
    assert predict(Broken(), data).tolist().count(-1) == 1
    assert diagnose(Broken(), Broken(), None, data, quiet).histogram.broken == 1


def test_two_bits_planted_in_an_embedded_network() -> None:
    target, dataset = load("fashion_mnist/resnet18_w10"), get_dataset("fashion_mnist", None)
    images = torch.cat([to_input(x, CPU, target.mean, target.std) for x, _ in dataset.test_batches(40)])
    planted = "layer2.0.conv1"
    made = quantised(target.module, images, **{planted.replace(".", "_"): (2, 2)})
    data = Data(lambda: dataset.test_batches(40), 40, target.mean, target.std, 10, CPU, images)
    found = diagnose(target.module, made, Inspected(made), data, quiet)
    first = found.ranked()[0]
    assert first.name == planted
    assert first.block == "layer2.0"
    assert first.own < min(layer.own for layer in found.layers if layer is not first)
    assert first.logits < min(layer.logits for layer in found.layers if layer is not first)
    drifts = [block.drift for block in found.blocks]
    before = [block.name for block in found.blocks].index(first.block)
    assert drifts[before] < min(drifts[:before])
