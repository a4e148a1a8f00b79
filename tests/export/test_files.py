"""A small network on embedded images, written as ONNX, read back and run in ONNX Runtime (docs/export.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from bench.data.datasets import get_dataset
from bench.errors import BenchError
from bench.export.comparing import drift, logit_step, parity
from bench.export.graph import float_model, integer_model
from bench.export.nodes import LAYER, TENSOR
from bench.export.reading import Content, differences, read
from bench.export.running import Session, latencies, opened, takes_two_bits
from bench.interfaces import BitPolicy, Setting
from bench.interfaces.grids import GridPoint, Integers, WeightGrid
from bench.measure.accuracy import to_input
from bench.zoo import targets
from methods.quant.model import QuantModel, Sampling, quantize_model

NETWORK = "fashion_mnist/resnet18_w10"
THREE, EIGHT = "layer1.0.conv1", "layer2.0.conv1"
IMAGES = 250


@dataclass(frozen=True)
class World:
    """The simulated network, its file, images in normalised space and their labels."""

    net: QuantModel
    file: Path
    images: Tensor
    labels: np.ndarray
    content: Content


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """W4A4 with one layer at 3 and 5 bits and one at 8 and 8."""
    target, dataset = targets.load(NETWORK), get_dataset("fashion_mnist")
    pixels, labels = next(dataset.test_batches(size=IMAGES))
    images = to_input(pixels, torch.device("cpu"), target.mean, target.std)
    policy = BitPolicy.of({THREE: (3, 5), EIGHT: (8, 8)})
    net = quantize_model(target.module, images[:2], Setting(4, 4, policy=policy), weight_range="minmax")
    net.calibrate(images[:64], Sampling(64, 1 << 12))
    net.freeze()
    net.eval().requires_grad_(False)
    file = tmp_path_factory.mktemp("export") / "net.onnx"
    ir.save(integer_model(net.integers(), images[:2], two_bits=False), file)
    return World(net, file, images, labels.numpy(), read(file))


def test_the_file_predicts_what_the_simulation_does(world: World) -> None:
    with torch.no_grad():
        simulated = world.net(world.images).numpy()
    exported = Session(world.file)(world.images)[0]
    found = parity(simulated, exported, world.labels, logit_step(world.content))
    assert found.images == IMAGES
    assert found.agreement >= 98
    assert abs(found.exported_top1 - found.simulated_top1) <= 2
    assert found.logit_steps is not None
    assert found.logit_difference < np.abs(simulated).max() / 4
    # any number of images, not those it was written with
    alone = Session(world.file)(world.images[:1])[0]
    np.testing.assert_allclose(alone, exported[:1], atol=np.abs(simulated).max() / 4)


def test_the_bits_of_every_layer_are_read_back(world: World) -> None:
    asked, levels = world.net.layer_bits(), world.net.weight_levels()
    assert list(world.content.weights) == list(asked)
    for name, bits in asked.items():
        stored = world.content.weights[name]
        assert stored.levels == levels[name] <= 1 << bits.weight
        assert stored.container == ("UINT8" if bits.weight > 4 else "UINT4")
        used = world.net.quant_layer(name).weight.numpy()
        np.testing.assert_allclose(stored.values, used, rtol=1e-6, atol=1e-7)
        # packed: two codes to a byte, then scale and zero point of each channel
        rows = len(used)
        whole = used.size if bits.weight > 4 else -(-used.size // 2)
        assert stored.size == whole + 4 * rows + (rows if bits.weight > 4 else -(-rows // 2))
    reads = {name: world.content.input_levels(name) for name in asked}
    assert reads == {name: world.net.activation_levels().get(name) for name in asked}
    assert reads[next(iter(asked))] is None
    assert world.content.reads[next(iter(asked))] == {"image"}
    assert reads[THREE] == 256  # of all that read the stem's output, the one that wants most decides
    assert reads[EIGHT] == 256


def test_points_hold_the_grid_whatever_their_container(world: World) -> None:
    assert world.net.activations
    for name, quantiser in world.net.activations.items():
        point = world.content.points[name]
        assert (point.low, point.high, point.zero_point) == (quantiser.n, quantiser.p, int(quantiser.zero_point))
        assert point.levels == 1 << quantiser.bits
        assert point.container == "UINT8"
        assert np.float32(point.scale) == np.float32(quantiser.scale.item())


def test_a_file_that_holds_the_network_differs_in_nothing(world: World) -> None:
    assert differences(world.content, world.net.integers()) == []


def tampered(world: World, place: Path, what: str) -> Path:
    """The file with one number changed."""
    model = ir.load(world.file)
    key, whose = (TENSOR, world.content.points) if what == "point" else (LAYER, world.content.weights)
    node = next(n for n in model.graph if n.metadata_props.get(key) == next(iter(whose)))
    held = node.inputs[0 if what == "code" else 1]
    assert held is not None
    assert held.const_value is not None
    values = held.const_value.numpy().copy()
    if what == "code":
        values.reshape(-1)[3] = 0 if int(values.reshape(-1)[3]) else 1
    else:
        values = np.asarray(values * np.float32(1.25), dtype=np.float32)
    held.const_value = ir.Tensor(values, dtype=held.dtype, name=held.name)
    file = place / f"{what}.onnx"
    ir.save(model, file)
    return file


@pytest.mark.parametrize(("what", "said"), [("code", "1 of "), ("scale", "scale"), ("point", "quantiser's scale")])
def test_a_tampered_file_is_told(world: World, tmp_path: Path, what: str, said: str) -> None:
    content = read(tampered(world, tmp_path, what))
    assert content.digest != world.content.digest
    found = differences(content, world.net.integers())
    assert found
    assert all(said in sentence for sentence in found)


def test_another_network_is_told(world: World) -> None:
    less = replace(world.content, weights=dict(list(world.content.weights.items())[1:]))
    assert differences(less, world.net.integers()) == [f"{next(iter(world.content.weights))}: no weight of this layer"]


def test_a_file_cut_off_or_none_is_refused(world: World, tmp_path: Path) -> None:
    file = tmp_path / "cut.onnx"
    file.write_bytes(world.file.read_bytes()[:5000])
    with pytest.raises(BenchError, match="no ONNX file"):
        read(file)
    with pytest.raises(BenchError, match="does not load"):
        Session(file)
    with pytest.raises(BenchError, match="cannot be read"):
        read(tmp_path / "none.onnx")


def test_drift_is_that_of_every_tensor_and_sees_a_wrong_one(world: World, tmp_path: Path) -> None:
    raw, names = opened(world.file)
    same = drift(world.net.integers(), Session(raw), names, [world.images[:32], world.images[32:40]])
    assert [one.tensor for one in same] == list(world.net.activations)
    assert all(one.moved < 5 and (one.snr is None or one.snr > 15) for one in same)
    raw, names = opened(tampered(world, tmp_path, "scale"))
    off = drift(world.net.integers(), Session(raw), names, [world.images[:32]])
    assert max(one.moved for one in off) > 5
    worst = min(one.snr for one in off if one.snr is not None)
    assert worst < 15


def test_the_float_network_and_latency(world: World) -> None:
    module = targets.load(NETWORK).module
    file = ir.to_proto(float_model(module, world.images[:2])).SerializeToString()
    plain = Session(file)
    with torch.no_grad():
        expected = module(world.images[:20]).numpy()
    np.testing.assert_allclose(plain(world.images[:20])[0], expected, rtol=1e-3, atol=1e-3)
    found = latencies({"exported": Session(world.file), "fp32": plain}, world.images[:1], 5)
    assert list(found) == ["exported", "fp32"]
    assert all(0 < one.p50 <= one.p95 for one in found.values())
    assert len(world.file.read_bytes()) < len(file) / 3


class Coarse(nn.Module):
    """A point, a 1x1 layer of one channel with a bias, a point: for a step of the sums that is chosen."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.before, self.layer = GridPoint(8, 0, 255, 0.5, 0), nn.Conv2d(1, 1, 1)
        self.behind = GridPoint(8, 0, 255, 0.25, 128)
        with torch.no_grad():
            self.layer.bias.fill_(bias)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.layer(self.before(x))).flatten(1)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("step", "inside"), [(1.0, False), (0.001, True)])
def test_a_bias_is_not_rounded_where_that_would_move_the_output(tmp_path: Path, step: float, inside: bool) -> None:
    """Steps of 0.5 for the input: sums of 0.5 are two steps of the output, sums of 0.0005 a five-hundredth."""
    net = Coarse(0.25).eval()
    with torch.no_grad():
        net.layer.weight.fill_(step * 3)
    one = torch.tensor([step])
    grid = WeightGrid(8, 0, 255, one, torch.tensor([4.0]))
    x = torch.linspace(-1, 12, 128).reshape(2, 1, 8, 8)
    with torch.no_grad():
        expected = net(x).numpy()
    points = {"before": "before", "behind": "behind"}
    model = integer_model(Integers(net, {"layer": grid}, points), x, two_bits=False)
    conv = next(node for node in model.graph if node.op_type == "Conv")
    assert (len(conv.inputs) == 3) is inside
    file = tmp_path / "net.onnx"
    ir.save(model, file)
    np.testing.assert_allclose(Session(file)(x)[0], expected, atol=1e-6)


def test_weights_of_two_bits_are_packed_where_the_runtime_runs_them(tmp_path: Path) -> None:
    net = Coarse(0.25).eval()
    with torch.no_grad():
        net.layer.weight.fill_(-0.5)
    grid = WeightGrid(2, 0, 3, torch.tensor([0.5]), torch.tensor([2.0]))
    x = torch.linspace(-1, 12, 128).reshape(2, 1, 8, 8)
    with torch.no_grad():
        expected = net(x).numpy()
    two = takes_two_bits()
    points = {"before": "before", "behind": "behind"}
    file = tmp_path / "net.onnx"
    ir.save(integer_model(Integers(net, {"layer": grid}, points), x, two_bits=two), file)
    content = read(file)
    assert content.weights["layer"].container == ("UINT2" if two else "UINT4")
    assert content.opset == (25 if two else 21)
    assert content.weights["layer"].codes.flatten().tolist() == [1]
    np.testing.assert_allclose(Session(file)(x)[0], expected, atol=1e-6)
