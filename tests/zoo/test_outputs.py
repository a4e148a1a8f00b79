"""Networks that return more than logits: these are taken where it is clear, else the error says what came."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.models import _registry
from torch import Tensor, nn

from bench.errors import GateClosed, WeightsError
from bench.measure.accuracy import evaluate
from bench.run.tasks import Settings
from bench.run.worker import Bench
from bench.zoo.bring import bring
from bench.zoo.outputs import Logits, returning_logits
from bench.zoo.targets import info, load
from methods.quant.trace import prepared_copy, trace

SHAPE = (3, 8, 8)
Pair = namedtuple("Pair", ["features", "logits"])


@dataclass
class Output:
    """As the outputs of language libraries: attributes, no positions."""

    loss: Tensor | None
    logits: Tensor


class Net(nn.Module):
    """Five logits [N, 5], eight features [N, 8] and maps [N, 8, H, W], returned as ``shape`` says."""

    def __init__(self, form: Callable[[Tensor, Tensor, Tensor], Any], classes: int | None = 5) -> None:
        super().__init__()
        self.conv, self.head, self.form = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5), form
        if classes:
            self.num_classes = classes

    def forward(self, x: Tensor) -> Any:
        maps = torch.relu(self.conv(x))
        features = maps.mean((2, 3))
        return self.form(self.head(features), features, maps)


CLEAR: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Any], int | None]] = {
    "first of a tuple": (lambda y, f, m: (y, f), 5),
    "the one as wide as there are classes": (lambda y, f, m: [f, m, y], 5),
    "the only one with two dimensions": (lambda y, f, m: (m, y), None),
    "with auxiliary logits of the same width": (lambda y, f, m: (y, y + 1), None),
    "a dict": (lambda y, f, m: {"features": f, "logits": y}, None),
    "torchvision's dict": (lambda y, f, m: OrderedDict(out=y, aux=y + 1), None),
    "a named tuple": (lambda y, f, m: Pair(f, y), None),
    "an object": (lambda y, f, m: Output(None, y), None),
}


@pytest.mark.parametrize("name", CLEAR)
def test_logits_are_taken_and_the_rest_is_left(name: str) -> None:
    form, classes = CLEAR[name]
    net = Net(form, classes)
    plain = Net(lambda y, f, m: y, classes)
    plain.load_state_dict(net.state_dict())
    x = torch.randn(4, *SHAPE)
    ready = returning_logits(net, SHAPE, "mine")
    assert torch.equal(ready(x), plain(x))
    assert returning_logits(plain, SHAPE, "mine") is plain
    assert ready.training, "as it came"
    graph = trace(prepared_copy(ready), x)
    assert torch.allclose(graph(x), plain(x), atol=1e-6)


UNCLEAR: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Any], int | None, str]] = {
    "two widths": (lambda y, f, m: (y, f), None, r"tuple of a tensor \[1, 5\], a tensor \[1, 8\]"),
    "no such width": (lambda y, f, m: (f, m), 5, r"tuple of a tensor \[1, 8\], a tensor \[1, 8, 8, 8\]"),
    "maps": (lambda y, f, m: m, 5, r"a tensor \[1, 8, 8, 8\]"),
    "segmentation": (lambda y, f, m: {"out": m}, 5, r"dict of out: a tensor \[1, 8, 8, 8\]"),
    "another key": (lambda y, f, m: {"prediction": y}, 5, r"dict of prediction: a tensor \[1, 5\]"),
    "nothing": (lambda y, f, m: (), 5, "tuple of nothing"),
    "none": (lambda y, f, m: None, 5, "NoneType"),
    "a number a image": (lambda y, f, m: y.sum(1), 5, r"a tensor \[1\]"),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_is_not_clear_is_named(name: str) -> None:
    form, classes, got = UNCLEAR[name]
    with pytest.raises(WeightsError, match=rf"^mine: the network returns no logits\n  got: {got}\n  allowed: "):
        returning_logits(Net(form, classes), SHAPE, "mine")


def test_accuracy_of_what_are_no_logits_is_an_error() -> None:
    data = [(torch.randn(2, *SHAPE), torch.zeros(2, dtype=torch.int64))]
    with pytest.raises(WeightsError, match=r"no logits\n  got: tuple of a tensor \[2, 5\]"):
        evaluate(Net(lambda y, f, m: (y, f)), data, device="cpu")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], nn.Module]], str]:
    """Makes a network timm's for this test; returns its full name."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))

    def register(build: Callable[[], nn.Module]) -> str:
        monkeypatch.setitem(_registry._model_entrypoints, "own_toy", lambda pretrained=False, **_: build())
        return "timm:own_toy"

    return register


def test_a_librarys_network_with_a_tuple_is_known_brought_and_loaded(
    own: Callable[[Callable[[], nn.Module]], str], tmp_path: Path
) -> None:
    name = own(lambda: Net(lambda y, f, m: (f, y)))
    assert info(name).classes == 5
    handle = load(name)
    assert isinstance(handle.module, Logits)
    assert handle.digest == info(name).digest
    state = {key: value.double() for key, value in Net(lambda y, f, m: y).state_dict().items()}
    save_file(state, tmp_path / "mine.safetensors")
    made = bring(name, tmp_path / "mine.safetensors")
    assert made["cast_from"] == ["float64"]
    brought = load(name).module.state_dict()
    assert all(torch.equal(brought[f"net.{key}"], value.float()) for key, value in state.items())


def test_weights_that_are_not_finite_are_not_brought(
    own: Callable[[Callable[[], nn.Module]], str], tmp_path: Path
) -> None:
    name = own(lambda: Net(lambda y, f, m: y))
    state = Net(lambda y, f, m: y).state_dict()
    state["conv.weight"][0, 0, 0, :2] = float("nan")
    save_file(state, tmp_path / "mine.safetensors")
    with pytest.raises(WeightsError, match=r"not finite\n  got: conv\.weight: 2 of 216 values"):
        bring(name, tmp_path / "mine.safetensors")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda net: net.head.bias.data.fill_(float("inf")), r"fp_gate: head\.bias has 5 of 5 values not finite"),
        (lambda net: net.conv.weight.data[0].fill_(float("nan")), r"fp_gate: conv\.weight has 27 of 216 values"),
        (lambda net: net.double(), "fp_gate: conv.weight is float64; networks compute in float32"),
        (lambda net: net.half(), "fp_gate: conv.weight is float16; networks compute in float32"),
    ],
)
def test_the_gate_names_the_parameter(
    spoil: Callable[[nn.Module], Any], says: str, own: Callable[[Callable[[], nn.Module]], str], tmp_path: Path
) -> None:
    def build() -> nn.Module:
        net = Net(lambda y, f, m: y)
        spoil(net)
        return net

    name = own(build)
    with pytest.raises(GateClosed, match=says):
        Bench(Settings(store=str(tmp_path / "store"))).model(name)
