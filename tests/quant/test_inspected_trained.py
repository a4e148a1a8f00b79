"""A network trained quantised, opened up: its floating-point side by hand, the planted layer, what comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.interfaces import BitPolicy, Setting
from bench.measure.accuracy import batches
from bench.measure.diagnosis import Data, diagnose
from methods.quant.dynamic import DynamicModel
from methods.quant.dynamic_tensors import Choices
from methods.quant.inspected_trained import InspectedTrained
from methods.quant.learned import ActivationMaker, PactActivation, StepActivation
from methods.quant.learned_weights import LsqWeight, SquashedWeight, WeightMaker
from methods.quant.quantizers import WeightQuantizer
from methods.quant.training import TrainedModel
from methods.quant.training_parts import Makers
from tests.compressors.adaptive_toys import W8A8, adaptive

from .nets import Chain, Untraceable, randomise

WEIGHTS: dict[str, WeightMaker] = {
    "learned": lambda weight, bits: LsqWeight(weight, bits, "mse"),
    "dorefa": lambda weight, bits: SquashedWeight(weight, bits, "dorefa", "norm"),
    "centred": lambda weight, bits: SquashedWeight(weight, bits, "centred", "norm"),
    "spread": lambda weight, bits: SquashedWeight(weight, bits, "modified", "sat"),
}
ACTIVATIONS: dict[str, ActivationMaker] = {
    "steps": lambda bits, nonnegative: StepActivation(bits, nonnegative, "mse"),
    "clips": lambda bits, nonnegative: PactActivation(bits, nonnegative, 0.999),
}
LOW = "6"


def quiet(stage: str, step: int, total: int) -> None: ...


@pytest.fixture(scope="module")
def shown() -> Tensor:
    return torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def trained(
    net: nn.Module, shown: Tensor, weights: str = "learned", inputs: str = "steps", low: str = LOW, bits: int = 2
) -> TrainedModel:
    setting = Setting(8, 8, first_last_bits=8, policy=BitPolicy.of({low: (bits, bits)}))
    made = TrainedModel(net, shown[:2], setting, Makers(WEIGHTS[weights], ACTIVATIONS[inputs]))
    made.begin(shown)
    return made


def opened(made: TrainedModel) -> tuple[nn.Module, InspectedTrained]:
    body = made.export()
    found = made.inspection(body)
    assert isinstance(found, InspectedTrained)
    return body, found


def data_of(net: nn.Module, images: Tensor) -> Data:
    """The network's own predictions as labels."""
    with torch.no_grad():
        labels = net(images).argmax(1)

    def give() -> Iterator[tuple[Tensor, Tensor]]:
        return batches(images, labels, 16)

    return Data(give, len(images), (0.0,), (1.0,), int(labels.max()) + 1, torch.device("cpu"), images)


def test_floating_is_the_trained_weight_behind_its_normalisation(shown: Tensor) -> None:
    """W γ / sqrt(var + ε) by hand, and the logits of the network itself where nothing was trained yet."""
    net = randomise(Chain(width=12))
    made = trained(net, shown)
    layer = made.body.get_submodule(LOW)
    assert parametrize.is_parametrized(layer, "weight")
    latent = layer.parametrizations.weight.original.detach().clone()
    norm = made.body.get_submodule(str(int(LOW) + 1))
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    factor = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    body, found = opened(made)
    plain, used = found.weight(LOW)
    torch.testing.assert_close(plain, latent * factor.reshape(-1, 1, 1, 1))
    assert len(torch.unique(used[0])) <= 4
    with found.floating(), torch.no_grad():
        torch.testing.assert_close(body(shown), net(shown), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("inputs", ACTIVATIONS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_layer_of_two_bits_is_named_and_all_is_as_before(weights: str, inputs: str, shown: Tensor) -> None:
    net = randomise(Chain(width=12))
    body, found = opened(trained(net, shown, weights, inputs))
    state = {key: value.clone() for key, value in body.state_dict().items()}
    with torch.no_grad():
        before = body(shown)
    told = diagnose(net, body, found, data_of(net, shown), quiet)
    assert min(told.layers, key=lambda layer: layer.own).name == LOW
    assert told.baseline == found.baseline != ""
    assert len(told.blocks) == len(found.blocks) > 1
    assert all(block.drift == block.drift for block in told.blocks)  # each is known
    with torch.no_grad():
        assert torch.equal(body(shown), before)
    assert body.state_dict().keys() == state.keys()
    assert all(torch.equal(state[key], value) for key, value in body.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in body.modules())


@pytest.mark.parametrize("net", [Chain(width=12), Untraceable()], ids=["graph", "modules"])
def test_a_lifted_weight_is_rounded_to_eight_bits_and_a_replay_is_the_whole_forward(
    net: nn.Module, shown: Tensor
) -> None:
    names = [name for name, part in net.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    low = names[1]
    body, found = opened(trained(randomise(net), shown, low=low, bits=3))
    found.calibrate(shown, 8)
    with found.lifted(low, 8), torch.no_grad():
        plain = found.weight(low)[0]
        assert torch.equal(found.module(low).weight, WeightQuantizer(plain, 8, grid="symmetric")(plain))
        wanted = body(shown)
    with torch.no_grad():
        usual = body(shown)
    assert not torch.equal(wanted, usual)
    passes = found.each_lifted(shown, [low], 8)
    torch.testing.assert_close(next(passes), usual)
    torch.testing.assert_close(next(passes), wanted)


def test_each_width_of_one_training_is_opened_up_at_its_own_bits() -> None:
    from tests.quant.nets import images

    net = adaptive()
    inner = net.order[1]
    seen = []
    for width, setting in enumerate(net.settings):
        one = net.single(width)
        body, found = opened(one)
        plain, used = found.weight(inner)
        noise = float(((plain - used) ** 2).sum() / (plain**2).sum())
        seen.append((setting.weight_bits, found.bits(inner).weight, noise))
        with torch.no_grad():
            assert torch.equal(found.forward(images())[0], body(images()))
    assert all(asked == got for asked, got, _ in seen)
    assert [bits for bits, *_ in sorted(seen, key=lambda item: item[2])] == sorted(
        (bits for bits, *_ in seen), reverse=True
    )
    assert W8A8.weight_bits == seen[0][0]


def test_where_images_choose_no_layer_has_bits_of_its_own(shown: Tensor) -> None:
    makers = Makers(WEIGHTS["learned"], ACTIVATIONS["steps"])
    net = randomise(Chain(width=12))
    for candidates, known in (((3, 4, 5), False), ((4,), True)):
        made = DynamicModel(net, shown[:2], Setting(4, 4), makers, Choices(candidates), torch.Generator())
        made.begin(shown)
        assert (made.inspection(made.export()) is not None) == known
