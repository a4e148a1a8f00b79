"""Bits decided once: the rule, the policy, and what both wrappers make of shipped networks."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from bench.errors import BenchError
from bench.interfaces import BitPolicy, Setting
from bench.zoo.small import BUILDERS
from bench.zoo.table import entry
from methods.quant.bits import FLOAT, IMAGE, INPUT, OUTPUT, UNTRACED, BitPlan, BitRule, Wiring, decide
from methods.quant.learned import StepActivation
from methods.quant.learned_weights import LsqWeight
from methods.quant.model import quantize_model
from methods.quant.training import TrainedModel
from methods.quant.training_parts import Makers
from tests.quant.nets import TwoCalls, images, randomise
from tests.quant.test_graph import Branching, ShapeTest

W2A3 = Setting(2, 3, first_last_bits=5)
WIRING = Wiring(
    ("stem", "conv", "down", "squeeze", "head"),
    {"s": "stem", "b": "inner", "e": "se", "g": "se", "h": "last"},
    {
        "stem": frozenset({IMAGE}),
        "conv": frozenset({"s"}),
        "down": frozenset({"s", "b"}),
        "squeeze": frozenset({"e"}),
        "head": frozenset({"h"}),
    },
)
"""``down``, on the shortcut, reads a concatenation; no layer reads the gate ``g``."""

PINNED = {
    "resnet18_w10": ("5/8 2/5 2/3 2/5 17x2/3 5/5", "5/8 20x2/3 5/5"),
    "resnet50_w8": ("5/8 2/5 2x2/3 2/5 48x2/3 5/5", "5/8 52x2/3 5/5"),
    "seresnet18_w10": (
        "5/8 2/5 2/3 2x2/8 2/5 2x2/3 2x2/8 2x2/3 2x2/8 3x2/3 2x2/8 2x2/3 2x2/8 3x2/3 2x2/8 2x2/3 2x2/8 3x2/3 2x2/8 5/5",
        "5/8 2x2/3 2x2/8 3x2/3 2x2/8 2x2/3 2x2/8 3x2/3 2x2/8 2x2/3 2x2/8 3x2/3 2x2/8 2x2/3 2x2/8 3x2/3 2x2/8 5/5",
    ),
    "mobilenetv3_large_w035": (
        "5/8 2/5 9x2/3 2x2/8 3x2/3 2x2/8 3x2/3 2x2/8 15x2/3 2x2/8 3x2/3 2x2/8 3x2/3 2x2/8 3x2/3 2x2/8 3x2/3 2x2/8 "
        "3x2/3 5/5",
        "5/8 10x2/3 2x2/8 3x2/3 2x2/8 3x2/3 2x2/8 15x2/3 2x2/8 3x2/3 2x2/8 3x2/3 2x2/8 3x2/3 2x2/8 3x2/3 2x2/8 3x2/3 "
        "5/5",
    ),
    "densenet_g8": ("5/8 51x2/3 5/5", "5/8 51x2/3 5/5"),
    "shufflenetv2_w48": ("5/8 2/5 2/3 2/5 52x2/3 5/5", "5/8 55x2/3 5/5"),
    "vgg_bn_w12": ("5/8 2/5 4x2/3 5/5", "5/8 5x2/3 5/5"),
}
"""Network → its layers' weight bits/input bits at W2A3 (first/last 5) in order of execution, of the post-training and
of the training wrapper, recorded when each of them still decided for itself."""

BITS_KEYS = (
    "weight_bits",
    "activation_bits",
    "first_last_weight_bits",
    "stem_output_bits",
    "last_input_bits",
    "squeeze_excite_bits",
    "logit_bits",
    "image_bits",
)


def asked(setting: Setting, **layers: tuple[int, int]) -> Setting:
    """``setting`` with a policy for ``layers``."""
    return Setting(policy=BitPolicy.of(layers), **dict(setting.values))


def plan(setting: Setting, rule: BitRule = OUTPUT) -> BitPlan:
    return decide(WIRING, setting, rule)


def trained(net: nn.Module, x: torch.Tensor, setting: Setting) -> TrainedModel:
    makers = Makers(lambda w, b: LsqWeight(w, b, "lsq"), lambda b, n: StepActivation(b, n, "lsq"))
    return TrainedModel(net, x, setting, makers)


def shortened(bits: BitPolicy) -> str:
    """Runs of equal layers as ``3x2/8``."""
    runs = [(bit, len(list(run))) for bit, run in itertools.groupby(f"{w}/{a}" for w, a in bits.values())]
    return " ".join(bit if count == 1 else f"{count}x{bit}" for bit, count in runs)


@pytest.mark.parametrize("name", PINNED)
def test_without_a_policy_bits_of_shipped_networks_are_what_they_were(name: str) -> None:
    item = entry(name)
    net = BUILDERS[item.builder](10, 1, **item.kwargs).eval()
    x = images(2, 32, channels=1)
    post = quantize_model(net, x, W2A3, weight_range="minmax")
    assert (shortened(post.layer_bits()), shortened(trained(net, x, W2A3).layer_bits())) == PINNED[name]
    assert [q.bits for q in post.weights.values()] == [bits.weight for bits in post.layer_bits().values()]


@pytest.mark.parametrize(
    ("make", "post", "training"),
    [(TwoCalls, (2, 3, 5, 5, 5, 8, 32, 8), (2, 3, 5, 3, 5, 8, 32, 8)), (Branching, *[(2, 3, 5, 3, 5, 3, 32, 8)] * 2)],
)
def test_the_protocol_says_what_it_said(make: type[nn.Module], post: tuple[int], training: tuple[int]) -> None:
    net = randomise(make())
    found = quantize_model(net, images(), W2A3).protocol(), trained(net, images(), W2A3).protocol("", "", "", "")
    for protocol, expected in zip(found, (post, training), strict=True):
        assert tuple(protocol[key] for key in BITS_KEYS) == expected
        assert len(protocol) == len(BITS_KEYS) + 10


@pytest.mark.parametrize(
    ("rule", "stem", "gate"), [(OUTPUT, 5, 8), (INPUT, 3, 8), (UNTRACED, 3, 3)], ids=["output", "input", "untraced"]
)
def test_one_rule_decides(rule: BitRule, stem: int, gate: int) -> None:
    found = plan(W2A3, rule)
    assert found.tensors == {"s": stem, "b": 3, "e": gate, "g": gate, "h": 5}
    weights = [bits.weight for bits in found.layers.values()]
    assert weights == [5, 2, 2, 2, 5]
    assert [bits.input for bits in found.layers.values()] == [8, stem, stem, gate, 5]


def test_what_is_left_in_floating_point_stays_so() -> None:
    assert set(plan(Setting(32, 32)).layers.values()) == {(32, 32)}
    assert [bits.weight for bits in plan(Setting(32, 4)).layers.values()] == [32] * 5
    assert {bits.input for bits in plan(Setting(4, 32)).layers.values()} == {32}
    loose = Wiring(("only",), {}, {"only": frozenset({FLOAT})})
    assert decide(loose, asked(W2A3, only=(2, 2)), OUTPUT).layers["only"] == (2, 32)


def test_a_policy_wins_where_it_names_a_layer_and_the_rest_follows_the_setting() -> None:
    found = plan(asked(W2A3, stem=(3, 8), squeeze=(6, 4), head=(2, 2)))
    assert dict(found.layers) == {"stem": (3, 8), "conv": (2, 5), "down": (2, 5), "squeeze": (6, 4), "head": (2, 2)}
    assert found.tensors["g"] == 8
    assert plan(asked(Setting(32, 32), conv=(4, 4))).layers["conv"] == (4, 32)  # ``down`` reads the tensor, too
    both = plan(asked(Setting(32, 32), conv=(4, 4), down=(32, 6)))
    assert [both.layers[name] for name in ("conv", "down")] == [(4, 6), (32, 6)]


def test_of_the_layers_that_read_a_tensor_the_one_that_wants_most_decides() -> None:
    found = plan(asked(W2A3, conv=(2, 2), down=(2, 4)))
    assert (found.tensors["s"], found.tensors["b"]) == (4, 4)
    assert found.layers["conv"].input == found.layers["down"].input == 4
    # ``down`` is not named: it wants the rule's bits of the stem's output
    assert plan(asked(W2A3, conv=(2, 2))).tensors["s"] == 5
    assert plan(asked(W2A3, conv=(2, 8))).tensors["s"] == 8
    assert plan(asked(W2A3, conv=(2, 32))).layers["down"].input == 32


@pytest.mark.parametrize(("wish", "used"), [(2, 8), (8, 8), (32, 32)])
def test_the_image_keeps_its_eight_bits(wish: int, used: int) -> None:
    assert plan(asked(W2A3, stem=(4, wish))).layers["stem"] == (4, used)


def test_a_policy_that_names_an_unknown_layer_is_an_error() -> None:
    with pytest.raises(BenchError) as caught:
        plan(asked(W2A3, sqeeze=(4, 4)))
    error = caught.value
    assert (error.where, error.got, error.nearest) == ("policy", "sqeeze", "squeeze")
    assert error.expected == "one of its 5 weighted layers, stem to head"


@pytest.mark.parametrize(
    ("bits", "near"), [((1, 4), "2"), ((4, 9), "8"), ((16, 4), "8"), ((4, 31), "32"), ((0, 4), "2")]
)
def test_other_bits_are_an_error(bits: tuple[int, int], near: str) -> None:
    with pytest.raises(BenchError, match="no such bit-width") as caught:
        plan(asked(W2A3, conv=bits))
    assert (caught.value.where, caught.value.nearest) == ("policy.conv", near)
    assert caught.value.got in bits


@pytest.mark.parametrize("make", [TwoCalls, Branching])
def test_both_wrappers_refuse_such_a_policy(make: type[nn.Module]) -> None:
    setting = asked(W2A3, nothing_like_it=(4, 4))
    for wrap in (quantize_model, trained):
        with pytest.raises(BenchError, match="does not have"):
            wrap(make().eval(), images(), setting)


def test_only_a_policy_adds_words_to_the_protocol() -> None:
    net = randomise(TwoCalls())
    plain, mixed = (quantize_model(net, images(), s).protocol() for s in (W2A3, asked(W2A3, conv=(4, 4))))
    rule = mixed.pop("bit_rule")
    assert mixed == plain
    assert rule == (
        "policy, the most where several layers read one tensor; else weights: first and last layer the first/last "
        "bits, all others the setting's bits (shortcuts and squeeze-excite among them); tensors: the first layer's "
        "output the first/last bits, the last layer's input the first/last bits, tensors inside squeeze-excite 8 bits, "
        "the image 8 bits, all others the setting's bits"
    )
    assert len({each.words() for each in (OUTPUT, INPUT, UNTRACED)}) == 3


def test_both_wrappers_quantise_the_same_layer_inside_an_untraceable_leaf() -> None:
    """``fc2`` is registered first but runs second: ``fc1`` reads what the graph quantises."""
    body = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    net = randomise(nn.Sequential(*body, ShapeTest(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)))
    setting: Any = Setting(4, 3, policy=BitPolicy.of({"4.fc2": (2, 6)}))
    model = trained(net, images(), setting)
    assert dict(model.layer_bits()) == {"0": (8, 8), "4.fc1": (4, 3), "4.fc2": (2, 6), "7": (8, 8)}
    post = quantize_model(net, images(), setting)
    assert dict(post.layer_bits()) == {**model.layer_bits(), "4.fc1": (4, 8)}
    assert [type(model.body.get_submodule(f"4.{name}")).__name__ for name in ("fc1", "fc2")] == [
        "ParametrizedConv2d",
        "QuantisedInput",
    ]
    assert [post.quant_layer(f"4.{name}").input_quant is None for name in ("fc1", "fc2")] == [True, False]
