"""Equalisation, absorption, bias correction and moments (docs/methods/compressors.md#dfq, #invariant-14)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import Tensor, nn

from bench.interfaces import Setting
from bench.zoo.small import BUILDERS
from methods.compressors._dfq import correct_biases, mean_outputs
from methods.compressors.dfq import METHOD, DfqParams
from methods.quant.equalise import absorb, equalise, find_pairs, grouped, through, unclip_relu6
from methods.quant.fold import BatchStats
from methods.quant.graph import Prepared, prepare
from methods.quant.model import quantize_model
from methods.quant.moments import clipped_normal, propagate
from tests.compressors.quant_toys import context, handle, image_set
from tests.quant.nets import Chain, TwoCalls, images, randomise


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def uneven(act: type[nn.Module] = nn.ReLU) -> nn.Module:
    """A chain whose channels differ by orders of magnitude, undone by the layer behind: the same function, but one
    grid for a whole weight cannot hold it."""
    net = randomise(Chain(act))
    generator = torch.Generator().manual_seed(3)
    parts = dict(net.named_children())
    with torch.no_grad():
        for norm, behind in (("1", "3"), ("4", "6"), ("7", "9")):
            factor = torch.exp(torch.randn(parts[norm].weight.shape, generator=generator) * 1.5)
            parts[norm].weight.mul_(factor)
            parts[norm].bias.mul_(factor)
            view = grouped(parts[behind])  # type: ignore[arg-type]
            view.div_(factor.reshape(view.shape[0], 1, view.shape[2], 1))
    return net


def ready(net: nn.Module, size: int = 12) -> Prepared:
    prepared = prepare(net, images(2, size))
    assert prepared.graph is not None
    return prepared


@pytest.mark.parametrize("act", [nn.ReLU, nn.LeakyReLU])
def test_equalisation_keeps_the_function_and_evens_the_ranges(act: type[nn.Module]) -> None:
    prepared = ready(uneven(act))
    assert prepared.graph is not None
    pairs = find_pairs(prepared.graph)
    # 12 has a pooling before it; 0-3 leads into a depthwise, 6-9 into a grouped convolution.
    assert [(p.first, p.second, p.rectified) for p in pairs] == [
        (a, b, act is nn.ReLU) for a, b in [("0", "3"), ("3", "6"), ("6", "9")]
    ]
    stats_before = prepared.stats["0"].gamma.clone()
    with torch.no_grad():
        before = prepared.body(images())
        spread = ranges(prepared, "0", "3")[0]
        equalise(prepared, pairs, sweeps=1000)
        after = prepared.body(images())
    assert float((after - before).norm() / before.norm()) < 1e-5
    assert not torch.allclose(stats_before, prepared.stats["0"].gamma)
    for pair in pairs:
        first, second = ranges(prepared, pair.first, pair.second)
        torch.testing.assert_close(first, second, rtol=5e-3, atol=0)
    assert ranges(prepared, "0", "3")[0].log().std() < spread.log().std()


def ranges(prepared: Prepared, first: str, second: str) -> tuple[Tensor, Tensor]:
    one, two = prepared.body.get_submodule(first), prepared.body.get_submodule(second)
    assert isinstance(one, nn.Conv2d)
    assert isinstance(two, (nn.Conv2d, nn.Linear))
    return one.weight.detach().flatten(1).abs().amax(1), grouped(two).abs().amax((1, 3)).flatten()


def test_equalisation_rescales_the_stored_statistics_with_the_layer() -> None:
    prepared = ready(uneven())
    assert prepared.graph is not None
    before = {name: (entry.beta.clone(), entry.gamma.clone()) for name, entry in prepared.stats.items()}
    first = prepared.body.get_submodule("0")
    assert isinstance(first, nn.Conv2d)
    assert first.bias is not None
    old = first.bias.detach().clone()
    equalise(prepared, find_pairs(prepared.graph), sweeps=5)
    factor = first.bias.detach() / old
    torch.testing.assert_close(prepared.stats["0"].beta, before["0"][0] * factor)
    torch.testing.assert_close(prepared.stats["0"].gamma, before["0"][1] * factor)


def test_dead_channels_keep_their_scale() -> None:
    net = uneven()
    with torch.no_grad():
        first, second = net[0], net[3]  # type: ignore[index]
        first.weight[2] = 0
        second.weight[4] = 0
    prepared = ready(net)
    assert prepared.graph is not None
    layer = prepared.body.get_submodule("0")
    assert isinstance(layer, nn.Conv2d)
    kept = layer.weight.detach()[[2, 4]].clone()
    equalise(prepared, find_pairs(prepared.graph))
    assert torch.equal(layer.weight.detach()[[2, 4]], kept)
    assert bool(torch.isfinite(prepared.body(images())).all())


def test_no_pair_across_a_branch_or_a_silu() -> None:
    residual, smooth = ready(randomise(TwoCalls())).graph, ready(randomise(Chain(nn.SiLU))).graph
    assert residual is not None
    assert smooth is not None
    assert find_pairs(residual) == []
    assert find_pairs(smooth) == []


def test_relu6_becomes_relu_and_then_pairs_are_found() -> None:
    graph = ready(randomise(Chain(nn.ReLU6))).graph
    assert graph is not None
    assert find_pairs(graph) == []
    assert unclip_relu6(graph) == 3
    assert len(find_pairs(graph)) == 3
    assert torch.isfinite(graph(images())).all()


def test_absorbing_is_exact_where_the_activation_exceeds_the_shift() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)
    ).eval()
    prepared = ready(net)
    assert prepared.graph is not None
    for name, channels in (("0", 6), ("2", 4)):
        layer = prepared.body.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        layer.bias.data.fill_(20.0)
        layer.weight.data.abs_().mul_(0.5)  # keeps every pre-activation above the shift
        ones = torch.ones(channels)
        prepared.stats[name] = BatchStats(ones.clone(), 12 * ones, ones.clone(), ones.clone())
    pairs = find_pairs(prepared.graph)
    with torch.no_grad():
        before = prepared.body(images())
        assert absorb(prepared, pairs, "unpadded") == 1
        torch.testing.assert_close(prepared.body(images()), before, rtol=1e-4, atol=1e-4)
        assert torch.equal(prepared.stats["0"].beta, torch.full((6,), 3.0))
        assert torch.equal(prepared.stats["2"].beta, torch.full((4,), 12.0))
        assert absorb(prepared, pairs, "none") == 0
        assert absorb(prepared, pairs, "all") == 1  # now the padded one; inexact at its border only
        middle = prepared.body(images())[:, :, 2:-2, 2:-2]
        torch.testing.assert_close(middle, before[:, :, 2:-2, 2:-2], rtol=1e-4, atol=1e-3)
        assert not torch.allclose(prepared.body(images()), before, rtol=1e-3, atol=1e-2)


def test_padding_inside_the_forward_counts_as_padding() -> None:
    """timm's Conv2dSame pads by itself and declares padding 0."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), Conv2dSame(4, 2, 3)).eval()
    prepared = ready(net)
    assert prepared.graph is not None
    ones = torch.ones(4)
    prepared.stats["0"] = BatchStats(ones.clone(), 12 * ones, ones.clone(), ones.clone())
    pairs = find_pairs(prepared.graph)
    assert len(pairs) == 1
    assert absorb(prepared, pairs, "unpadded") == 0
    assert absorb(prepared, pairs, "all") == 1


@given(
    mean=st.floats(-3, 3),
    sd=st.floats(0.05, 3),
    ends=st.sampled_from([(0.0, math.inf), (0.0, 6.0), (-1.0, 1.0), (-math.inf, math.inf)]),
)
@settings(max_examples=25, deadline=None)
def test_clipped_normal_matches_the_sampled_one(mean: float, sd: float, ends: tuple[float, float]) -> None:
    # Evenly spaced quantiles: Monte Carlo without its noise.
    draws = torch.special.ndtri((torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000) * sd + mean
    clipped = draws.clamp(*ends)
    first, var = clipped_normal(torch.tensor([mean]), torch.tensor([sd]), *ends)
    assert float(first) == pytest.approx(float(clipped.mean()), abs=1e-2)
    assert float(var.sqrt()) == pytest.approx(float(clipped.std()), abs=1e-2)


def test_moments_follow_sums_poolings_and_smooth_activations() -> None:
    graph = ready(randomise(TwoCalls(nn.SiLU))).graph
    assert graph is not None
    prepared = ready(randomise(TwoCalls(nn.SiLU)))
    found = {node.name: moments for node, moments in propagate(graph, prepared.stats).items()}
    stem, conv = prepared.stats["stem"], prepared.stats["conv"]
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(200_000, 8, generator=generator) * s.gamma.abs() + s.beta for s in (stem, conv)]
    act = nn.functional.silu(draws[0])
    total = act + draws[1]
    torch.testing.assert_close(found["act"].mean, act.mean(0), rtol=0, atol=1e-2)
    torch.testing.assert_close(found["add"].mean, total.mean(0), rtol=0, atol=1e-2)
    torch.testing.assert_close(found["add"].var, total.var(0), rtol=2e-2, atol=1e-2)
    assert torch.equal(found["mean"].mean, found["act_1"].mean)


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_analytic_correction_takes_the_mean_error_out_on_gaussian_inputs(groups: int) -> None:
    net = nn.Sequential(nn.Conv2d(6, 12, 3, groups=groups), nn.ReLU(), nn.Conv2d(12, 4, 1)).eval()
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(6, generator=generator)
    x = torch.randn(400, 6, 5, 5, generator=generator) + mean[None, :, None, None]
    model = quantize_model(net, x[:2], Setting(3, 32, first_last_bits=3))
    model.set_state(False, False)
    names = ["0", "2"]
    target = mean_outputs(model, names, x)["0"]
    model.set_state(True, False)
    before = (mean_outputs(model, names, x)["0"] - target).abs()
    assert correct_biases(model, "analytic", {"0": mean, "2": torch.zeros(12)}, x) == []
    model.set_state(True, False)
    after = (mean_outputs(model, names, x)["0"] - target).abs()
    assert bool((after <= before + 1e-3).all())
    assert float(after.mean()) < 0.1 * float(before.mean())


def test_empirical_correction_matches_every_layers_mean() -> None:
    net = uneven()
    x = images(32)
    model = quantize_model(net, x[:2], Setting(3, 32))
    model.set_state(False, False)
    names = list(model.weights)
    targets = mean_outputs(model, names, x)
    assert correct_biases(model, "empirical", {}, x) == names
    model.set_state(True, False)
    after = mean_outputs(model, names, x)
    for name in names:
        torch.testing.assert_close(after[name], targets[name], rtol=1e-3, atol=1e-3)


def test_constant_input_through_grouped_weights() -> None:
    layer = nn.Conv2d(6, 9, 3, groups=3, bias=False)
    mean = torch.randn(6)
    with torch.no_grad():
        expected = layer(mean[None, :, None, None].expand(1, 6, 3, 3))[0, :, 0, 0]
        torch.testing.assert_close(through(grouped(layer), mean), expected, rtol=1e-5, atol=1e-5)


def error_of(net: nn.Module, tmp_path: Path, **params: object) -> float:
    x, test = images(64), images(64, seed=4)
    done = METHOD.compress(
        handle(net), image_set(x), Setting(4, 8), DfqParams.model_validate(params), context(tmp_path)
    )
    with torch.no_grad():
        return float((done.variants[0].module(test) - net(test)).norm() / net(test).norm())


def test_equalising_helps_one_grid_per_tensor(tmp_path: Path) -> None:
    net = uneven()
    plain = error_of(net, tmp_path, per_channel=False, equalise=False, correction="none")
    equal = error_of(net, tmp_path, per_channel=False, correction="none")
    both = error_of(net, tmp_path, per_channel=False, correction="empirical")
    assert equal < 0.7 * plain
    assert both < equal


def test_report_names_what_was_done_and_the_model_stays(tmp_path: Path) -> None:
    net = randomise(Chain(nn.ReLU6))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    done = METHOD.compress(handle(net), image_set(images(16)), Setting(4, 4), DfqParams(), context(tmp_path))
    assert done.report["relu6_replaced"] == 3
    assert done.report["pairs"] == 3
    # The image's mean is not in any batch norm, so the first layer is corrected from the images; layer 12 reads 9,
    # which has none.
    assert done.report["empirical"] == ["0", "12"]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert done.variants[0].protocol["activation_source"] == "images"


@pytest.mark.parametrize(("pool", "corrected"), [(nn.MaxPool2d(2), ["0", "4"]), (nn.AvgPool2d(2), ["0"])])
def test_behind_a_maximum_the_mean_comes_from_images(pool: nn.Module, corrected: list[str], tmp_path: Path) -> None:
    """The mean of a maximum does not follow from the mean; the mean of an average does."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), pool, nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    net = nn.Sequential(*net, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    done = METHOD.compress(handle(randomise(net)), image_set(images(16)), Setting(4, 4), DfqParams(), context(tmp_path))
    assert done.report["empirical"] == corrected


def test_ranges_from_statistics_hold_the_data(tmp_path: Path) -> None:
    net, x = randomise(TwoCalls()), images(64)
    params = DfqParams(act_source="statistics")
    done = METHOD.compress(handle(net), image_set(x), Setting(8, 8), params, context(tmp_path))
    assert done.report["ranges_from_statistics"] == 2
    model = done.variants[0].module
    quantizer = model.activations["act"]  # type: ignore[index,operator]
    assert float(quantizer.zero_point) == 0
    prepared = ready(net)
    assert prepared.graph is not None
    entry = prepared.stats["stem"]
    top = float((entry.beta + 6 * entry.gamma.abs()).max())
    assert float(quantizer.scale.detach()) * 255 == pytest.approx(top, rel=1e-5)


def test_a_network_with_few_pairs_or_no_batch_norm_is_still_corrected(tmp_path: Path) -> None:
    net = BUILDERS["efficientnet_b0"](5, 3, width=0.25, stem=8, head=16)
    done = METHOD.compress(
        handle(randomise(net)), image_set(images(8, 32)), Setting(4, 4), DfqParams(range_values=256), context(tmp_path)
    )
    assert done.report["pairs"] == 1  # two linear convolutions in a row, where neither block has a shortcut
    assert any("se" in name for name in done.report["empirical"])
    assert bool(torch.isfinite(done.variants[0].module(images(2, 32))).all())
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(400, 5)).eval()
    done = METHOD.compress(handle(plain), image_set(images(8)), Setting(4, 4), DfqParams(), context(tmp_path))
    assert done.report["empirical"] == ["0", "3"]


@pytest.mark.parametrize("preset", ["mini", "thorough", "paper"])
def test_presets_are_valid(preset: str) -> None:
    assert METHOD.Params(**METHOD.presets[preset])
