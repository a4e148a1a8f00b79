"""Networks that call a layer and ask it things, parametrised weights, layers with two names, and what stays in floating
point (docs/methods/quantisation.md#faces)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from bench.interfaces import Setting, Variant
from bench.interfaces.inventory import probe_images, take_inventory
from bench.measure.complexity import complexity, count, layer_table
from methods.quant.graph import prepare
from methods.quant.learned import StepActivation
from methods.quant.learned_weights import LsqWeight
from methods.quant.model import Options, QuantModel, quantize_model, quantize_prepared
from methods.quant.same import TOLERANCE, difference
from methods.quant.training import TrainedModel
from methods.quant.training_parts import Makers
from tests.quant.nets import images, randomise

W4A4 = Setting(4, 4)
MAKERS = Makers(lambda w, b: LsqWeight(w, b, "lsq"), lambda b, n: StepActivation(b, n, "lsq"))


def on_modules(net: nn.Module, setting: Setting = W4A4) -> QuantModel:
    return quantize_prepared(prepare(net, images(), trace_graph=False), setting, Options())


class Asks(nn.Module):
    """Asks its layers for device, type and shape, on a branch that cannot be traced through."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.proj, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.proj.weight
        grid = torch.arange(self.proj.in_channels, device=weight.device, dtype=weight.dtype)
        assert self.head.bias.shape == (self.head.out_features,)
        assert self.stem.kernel_size == (3, 3)
        x = self.proj(self.stem(x) + grid[:, None, None])
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("wrap", [quantize_model, on_modules])
def test_a_layer_shows_its_own_attributes(wrap: Any) -> None:
    net = Asks().eval()
    model = wrap(net, images(), W4A4) if wrap is quantize_model else wrap(net)
    model.calibrate(images())
    with torch.no_grad():
        model(images())
        model.set_state(False, False)
        assert difference(model(images()), net(images())) < TOLERANCE
    layer = model.quant_layer("proj")
    assert (layer.in_channels, layer.stride, layer.bias.shape) == (6, (1, 1), (6,))
    assert not hasattr(layer, "no_such_thing")


def test_the_weight_shown_is_the_one_in_use() -> None:
    model = on_modules(Asks().eval(), Setting(2, 32))
    shown = model.quant_layer("proj").weight
    assert all(len(row.unique()) <= 4 for row in shown.flatten(1))
    model.set_state(False, False)
    assert torch.equal(model.quant_layer("proj").weight, model.layer("proj").weight)


def test_a_trained_layer_behind_a_quantiser_shows_them_too() -> None:
    net = Branches()
    trained = TrainedModel(net, images(), Setting(2, 4), MAKERS)
    assert trained.path == "modules"
    layer = trained.body.get_submodule("two")
    assert layer.in_channels == 4
    assert len(layer.weight.unique()) <= 4  # type: ignore[union-attr]


class Branches(nn.Module):
    """Control flow on values, which no trace can follow; asks its second layer for its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        if x.mean() > -1e9:
            x = self.two(x.to(self.two.weight.dtype)).relu()
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Torch's own transformer encoder, which reads its layers' weights to choose a fused operation."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.body(x).mean(1))  # type: ignore[no-any-return]


def test_torchs_transformer_encoder_is_quantised_inside() -> None:
    net = Encoder().eval()
    model = quantize_model(net, images(2, 16), W4A4)
    inner = [f"body.layers.{i}.linear{j}" for i in (0, 1) for j in (1, 2)]
    assert list(model.weights) == ["patch", *inner, "head"]
    assert set(inner) <= set(model.activations)  # the first of a leaf's layers need not read what the leaf reads
    model.calibrate(images(8, 16))
    with torch.no_grad():
        model.set_state(True, False)
        weights = model(images(2, 16))
        model.set_state(True, True)
        assert not torch.equal(model(images(2, 16)), weights)
        model.set_state(False, False)
        assert difference(model(images(2, 16)), net(images(2, 16))) < TOLERANCE
    assert all(any(word in name for word in ("in_proj", "out_proj")) for name in model.protocol()["left_in_float"])


def _old_weight_norm(layer: nn.Module) -> nn.Module:
    return torch.nn.utils.weight_norm(layer)


def _old_spectral_norm(layer: nn.Module) -> nn.Module:
    return torch.nn.utils.spectral_norm(layer)


def _masked(layer: nn.Module) -> nn.Module:
    return prune.random_unstructured(layer, "weight", 0.5)


NORMED: list[Callable[[Any], nn.Module]] = [
    parametrizations.weight_norm,
    parametrizations.spectral_norm,
    parametrizations.orthogonal,
    _old_weight_norm,
    _old_spectral_norm,
    _masked,
]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("norm", NORMED)
def test_parametrised_weights_become_plain_in_the_copy(norm: Callable[[Any], nn.Module]) -> None:
    body = (norm(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = randomise(nn.Sequential(*body, norm(nn.Linear(6, 5))))
    net(images()).sum().backward()  # a weight that a hook computes now holds autograd's history
    names = set(net.state_dict())
    model = quantize_model(net, images(), W4A4)
    assert list(model.weights) == ["0", "5"]
    assert set(net.state_dict()) == names
    copied = dict(model.body.named_parameters())
    assert not any("original" in name or "_orig" in name or name.endswith("_g") for name in copied)
    with torch.no_grad():
        model.set_state(False, False)
        assert difference(model(images()), net(images())) < TOLERANCE
    found = complexity(net, (3, 12, 12), Variant(W4A4, model, model.layer_bits()))
    assert found["float_weights"] == 0
    trained = TrainedModel(net, images(), W4A4, MAKERS)
    assert not any(name.endswith(("_g", "_orig")) for name, _ in trained.body.named_parameters())
    assert all(parametrize.is_parametrized(trained.body.get_submodule(n), "weight") for n in ("0", "5"))


class TwoNames(nn.Module):
    """One convolution under two names, called by the second alone, and one called by both."""

    def __init__(self, plain: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.alias, self.both = self.first, nn.Conv2d(4, 4, 3, padding=1)
        self.again, self.head, self.plain = self.both, nn.Linear(4, 5), plain

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.both(self.alias(x)).relu()).relu()
        if not self.plain and x.mean() < -1e9:
            x = x + 1
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("plain", [True, False])
def test_a_layer_with_two_names_is_one_layer(plain: bool) -> None:
    net = TwoNames(plain).eval()
    model = quantize_model(net, images(), Setting(3, 3))
    assert model.path == ("graph" if plain else "modules")
    assert list(model.weights) == ["first", "both", "head"]
    assert sorted(layer for unit in model.units for layer in unit.layers) == ["both", "first", "head"]
    assert sum(type(part).__name__ == "QuantLayer" for part in model.modules()) == 3
    model.calibrate(images())
    table = layer_table(net, (3, 12, 12), Variant(Setting(3, 3), model, model.layer_bits()))
    assert [(row["name"], row["weight_bits"]) for row in table] == [("first", 8), ("both", 3), ("head", 8)]
    assert table[1]["macs"] == 2 * 144 * 4 * 4 * 9
    trained = TrainedModel(net, images(), Setting(3, 3), MAKERS)
    assert trained.order == ("first", "both", "head")
    with torch.no_grad():
        model.set_state(False, False)
        assert difference(model(images()), net(images())) < TOLERANCE


class Functional(nn.Module):
    """A projection run by a function, a head that training alone needs, a position embedding and a called layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4, bias=False)
        self.qkv, self.aux, self.head = nn.Linear(8, 24), nn.Linear(8, 50), nn.Linear(24, 5)
        self.position = nn.Parameter(torch.randn(1, 9, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2) + self.position
        x = F.linear(x, self.qkv.weight, self.qkv.bias)
        return self.head(x.mean(1))  # type: ignore[no-any-return]


def test_what_stays_in_float_is_counted_and_said() -> None:
    net = Functional().eval()
    model = quantize_model(net, images(), W4A4)
    assert model.protocol()["left_in_float"] == ["position", "qkv.weight"]
    found = complexity(net, (3, 12, 12), Variant(W4A4, model, model.layer_bits()))
    stem, qkv, head, position = 8 * 48, 8 * 24, 24 * 5, 9 * 8
    assert found["float_weights"] == pytest.approx(100 * (qkv + position) / (stem + qkv + head + position))
    assert found["macs"] == 9 * stem + 9 * qkv + head
    assert found["float_macs"] == pytest.approx(100 * 9 * qkv / found["macs"])
    assert found["bitops_g"] == pytest.approx(
        (9 * stem * 64 + 9 * qkv * 1024 + head * 8 * model.layer_bits()["head"].input) / 1e9
    )
    counts = count(net, (3, 12, 12))
    assert counts.parameters == stem + qkv + 24 + head + 5 + position  # no forward reads ``aux``
    assert counts.other == qkv + 24 + position


def test_the_inventory_leaves_the_network_as_it_was() -> None:
    net = Encoder().train()
    fused = torch.backends.mha.get_fastpath_enabled()
    found = take_inventory(net, probe_images(images(2, 16), 1))
    assert next(iter(found.layers)) == "patch"
    assert net.training
    assert torch.backends.mha.get_fastpath_enabled() == fused
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    # attention's projections: 16 tokens, 8 to 24 and 8 to 8, two layers
    assert found.loose_macs == 2 * 16 * (8 * 24 + 8 * 8)
