"""Structured pruning: groups move together, the smaller network equals the masked one, a later step can take it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.interfaces import ImageSet, ModelHandle, Setting
from bench.measure.complexity import complexity, count
from bench.run.steps import run_steps
from bench.spec.registry import Registry
from bench.spec.resolved import ResolvedCompressor
from bench.zoo import targets
from methods.compressors import _channels
from methods.compressors._least_squares import refit, samples, solve
from methods.compressors._masked import Folded, folded_copy, layer_of
from methods.compressors._masks import ChannelGroup, Coupled, Filters, Member
from methods.compressors.prune_structured import METHOD, PruneStructuredParams, groups_of
from methods.quant.units import describe_units
from tests import pick
from tests.compressors.prune_toys import FIFTH, compress, layers
from tests.compressors.recon_toys import Residual, context, digest, handle, image_set
from tests.contracts import kit

SHIPPED = ["resnet18_w10", "resnet50_w8", "mobilenetv2_w035", "efficientnet_b0_w025", "densenet_g8"]


@cache
def shipped(name: str) -> ModelHandle:
    return targets.load(f"fashion_mnist/{name}")


def grey(count: int = 8, seed: int = 0) -> ImageSet:
    x = torch.randn(count, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    return ImageSet(x, None, None, "none", "0", "0")


def toy(setting: Setting = FIFTH, **params: Any) -> Any:
    return compress(handle(), image_set(), setting, **params)


def work_of(model: ModelHandle, images: ImageSet) -> tuple[Folded, Tensor]:
    return folded_copy(model.module, images.images[:2], 8), images.images[:1]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_networks_get_smaller_and_stay_networks(name: str) -> None:
    model, images = shipped(name), grey()
    out = compress(model, images, mask_iterations=0, weight_iterations=0)
    net = out.variants[0].module
    before, after = count(model.module, (1, 32, 32)), count(net, (1, 32, 32))
    assert set(layers(net)) == set(layers(model.module)) == set(out.report["channels"])
    assert 0.55 < after.macs / before.macs < 0.75
    assert 0.55 < after.parameters / before.parameters < 0.75
    last = list(after.layers)[-1]
    for layer, (kept, of) in out.report["channels"].items():
        assert kept == (of if layer == last else of - round(0.2 * of)), layer
        old, new = layers(model.module)[layer], layers(net)[layer]
        if isinstance(old, nn.Conv2d) and isinstance(new, nn.Conv2d) and old.groups == of > 1:
            assert new.groups == new.in_channels == new.out_channels == kept
    assert [unit[:2] for unit in describe_units(net, images.images[:2])] == [
        unit[:2] for unit in describe_units(model.module, images.images[:2])
    ]
    with torch.no_grad():
        assert net(images.images).shape == model.module(images.images).shape


@pytest.mark.parametrize("name", ["resnet50_w8", "efficientnet_b0_w025", "densenet_g8"])
def test_the_masked_network_zeroes_what_the_smaller_one_lacks(name: str) -> None:
    """The masked network, made here by hand: rows and biases of the groups' producers, gammas and betas."""
    model, images = shipped(name), grey()
    small = compress(model, images, mask_iterations=0, weight_iterations=0).variants[0].module
    work, example = work_of(model, images)
    groups = groups_of(work, example, PruneStructuredParams())
    weights = {name: layer_of(work.net, name).weight for name in work.order}
    gone = [group.removed(weights, 0.2) for group in groups]
    with torch.no_grad():
        for group, channels in zip(groups, gone, strict=True):
            for path, member in {**group.producers, **group.norms}.items():
                rows = member.own[torch.isin(member.group, channels)]
                for value in work.net.get_submodule(path).parameters():
                    value[rows] = 0
        seen: dict[str, Tensor] = {}
        hooks = [
            layer_of(work.net, name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
            for name in work.order
        ]
        masked = work.net(images.images)
        for hook in hooks:
            hook.remove()
        assert float((small(images.images) - masked).norm() / masked.norm()) <= 1e-5
    for group, channels in zip(groups, gone, strict=True):
        for path, member in group.producers.items():
            assert float(seen[path][:, member.own[torch.isin(member.group, channels)]].abs().sum()) == 0


def test_members_of_a_residual_stream_lose_the_same_channels() -> None:
    work, example = work_of(handle(), image_set())
    groups = groups_of(work, example, PruneStructuredParams())
    (stream,) = [group for group in groups if "conv2" in group.producers]
    assert set(stream.producers) == {"stem.0", "conv2", "depthwise"}
    weights = {name: layer_of(work.net, name).weight for name in work.order}
    masks = Coupled(0.25, groups).rank(weights)
    assert len({tuple(masks[name].flatten().tolist()) for name in stream.producers}) == 1
    norms = torch.stack([weights[name].double().abs().flatten(1).sum(1) for name in stream.producers]).sum(0)
    expected = set(norms.argsort()[:2].tolist())
    assert set((masks["conv2"].flatten() == 0).nonzero().view(-1).tolist()) == expected


def test_interior_mode_leaves_streams_alone() -> None:
    work, example = work_of(handle(), image_set())
    found = groups_of(work, example, PruneStructuredParams(mode="physical_interior"))
    assert [set(group.producers) for group in found] == [{"conv1"}, {"pointwise"}]
    net = toy(mode="physical_interior").variants[0].module
    assert [len(part.weight) for part in layers(net).values()] == [8, 6, 8, 8, 13, 5]
    model = shipped("mobilenetv2_w035")
    out = compress(model, grey(), mode="physical_interior", mask_iterations=0, weight_iterations=0)
    every = compress(model, grey(), mask_iterations=0, weight_iterations=0)
    assert (
        model.macs > count(out.variants[0].module, (1, 32, 32)).macs > count(every.variants[0].module, (1, 32, 32)).macs
    )


def test_grouped_convolutions_lose_the_same_positions_in_each_part() -> None:
    member = Member(torch.arange(6), torch.arange(6))
    group = ChannelGroup("a", 6, 2, {"a": member}, {}, ())
    weight = torch.tensor([[3.0], [1.0], [2.0], [3.0], [9.0], [2.5]])
    assert group.removed({"a": weight}, 0.34).tolist() == [2, 5]  # 4.5 < 6 < 10
    assert group.removed({"a": weight}, 1.0).tolist() == [0, 2, 3, 5]  # one position stays
    model = shipped("regnetx_w16")
    net = compress(model, grey(), mask_iterations=0, weight_iterations=0).variants[0].module
    grouped = 0
    for name, old in layers(model.module).items():
        new = layers(net)[name]
        if isinstance(old, nn.Conv2d) and isinstance(new, nn.Conv2d) and old.groups > 1:
            assert new.groups == old.groups
            gone = old.groups * round(0.2 * old.out_channels / old.groups)
            assert new.in_channels == new.out_channels == old.out_channels - gone
            grouped += 1
    assert grouped > 1


def test_mask_mode_zeroes_filters_with_their_biases() -> None:
    out = toy(Setting(sparsity=0.3), mode="mask")
    net, x = out.variants[0].module, image_set(seed=1).images
    seen: dict[str, Tensor] = {}
    for name, part in layers(net).items():
        part.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    net(x)
    for name, part in layers(net).items():
        dead = part.weight.flatten(1).abs().sum(1) == 0
        assert int(dead.sum()) == (0 if name == "head" else round(0.3 * len(dead))), name
        assert float(seen[name][:, dead].abs().sum()) == 0
        assert out.variants[0].nonzero[name] == int(part.weight.count_nonzero())
    assert out.variants[0].protocol["mode"] == "mask"


def test_at_least_one_filter_stays() -> None:
    masks = Filters(1.0, ("a",)).rank({"a": torch.tensor([[1.0], [3.0], [2.0]])})
    assert masks["a"].flatten().tolist() == [0, 1, 0]
    net = toy(Setting(sparsity=1.0)).variants[0].module
    assert [len(part.weight) for part in layers(net).values()] == [1, 1, 1, 1, 1, 5]


@pytest.mark.parametrize("mode", ["physical_all", "physical_interior", "mask"])
def test_a_ratio_that_removes_nothing_is_refused_with_the_smallest_that_does(mode: Any) -> None:
    """The largest layers have 16 channels: round(r * 16) is 0 up to 1/32."""
    none = {"mode": mode, "mask_iterations": 0, "weight_iterations": 0}
    with pytest.raises(NotApplicable, match=r"removes nothing\n  got: 0\.031\n  allowed: more than 0\.0312"):
        toy(Setting(sparsity=0.031), **none)
    assert toy(Setting(sparsity=0.032), **none).report["global_sparsity"] > 0
    with pytest.raises(NotApplicable, match="no layer of this network may lose anything"):
        compress(handle(nn.Sequential(nn.Flatten(), nn.Linear(192, 5))), image_set(), **none)


@pytest.mark.parametrize("mode", ["physical_all", "mask"])
def test_reconstruction_brings_the_output_nearer(mode: Any) -> None:
    x = image_set(seed=1).images
    target = handle().module(x)
    errors = []
    for iterations in (0, 80):
        out = toy(mode=mode, mask_iterations=iterations, weight_iterations=iterations, lr=5e-3)
        with torch.no_grad():
            errors.append(float((out.variants[0].module(x) - target).square().mean()))
        for row in out.report["units"]:
            assert row["kept"] == "one shot" or row["final"] <= row["one_shot"], row
    assert errors[1] < 0.7 * errors[0]


def test_least_squares_equals_the_pseudo_inverse() -> None:
    g = torch.Generator().manual_seed(0)
    x, y, start = (torch.randn(*shape, generator=g) for shape in ((1, 40, 6), (1, 40, 3), (1, 3, 6)))
    found = solve(x, y, start, ridge=1e-12)
    torch.testing.assert_close(found[0], (torch.linalg.pinv(x[0]) @ y[0]).mT, rtol=1e-4, atol=1e-5)
    dead = x.clone()
    dead[..., 2] = 0  # a channel that is gone
    for ridge in (1e-4, 1.0, 100.0):
        fit = solve(dead, y, start, ridge)
        assert float((y - dead @ fit.mT).norm()) <= float((y - dead @ start.mT).norm())
        assert torch.equal(fit[..., 2], start[..., 2])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_layer_is_refitted_to_its_own_output(groups: int) -> None:
    """Targets come from another layer, which the fit must find, whatever stride, padding and groups."""
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    layer, other = (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups) for _ in range(2))
    x = torch.randn(16, 4, 9, 9, generator=g)
    with torch.no_grad():
        weight, bias = refit(layer, *samples(layer, x, other(x), 25, g))
    assert bias is not None
    torch.testing.assert_close(weight, other.weight.detach(), rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(bias, other.bias.detach() if other.bias is not None else None, rtol=1e-2, atol=1e-3)


def test_least_squares_helps_before_anything_is_learned() -> None:
    x = image_set(seed=1).images
    target = handle().module(x)
    none = {"mask_iterations": 0, "weight_iterations": 0}
    errors = []
    for positions in (0, 10):
        net = toy(Setting(sparsity=0.3), positions=positions, **none).variants[0].module
        errors.append(float((net(x) - target).square().mean()))
    assert errors[1] < 0.7 * errors[0]


def test_what_it_counts_is_the_smaller_network() -> None:
    out = toy(Setting(sparsity=0.5), latency_runs=2)
    (variant,) = out.variants
    assert variant.network is variant.module
    metrics = complexity(handle().module, (3, 8, 8), variant)
    assert metrics["macs"] == count(variant.module, (3, 8, 8)).macs < 0.5 * count(handle().module, (3, 8, 8)).macs
    sizes = out.report["parameters"]
    assert metrics["size_bytes"] == 4 * sizes["after"]
    assert sizes["after"] == sizes["nonzero"] < sizes["before"]
    assert out.variants[0].protocol["mode"] == "physical_all"
    assert "latency" not in out.variants[0].protocol


def test_same_generator_same_network_and_inputs_stay() -> None:
    model, images = handle(), image_set()
    before, pixels = digest(model.module), images.images.clone()
    nets = [compress(model, images, seed=s, lr=1e-3).variants[0].module for s in (0, 0, 1)]
    assert digest(model.module) == before
    assert torch.equal(images.images, pixels)
    assert digest(nets[0]) == digest(nets[1])
    assert digest(nets[0]) != digest(nets[2])


def test_a_later_step_quantises_the_smaller_network() -> None:
    find = Registry("compressors").get
    name = pick.name("compressors", accepts="bits", offers="units")
    later, model, images = find(name), shipped("mobilenet_b_w025"), grey(32)
    few = PruneStructuredParams(mask_iterations=3, weight_iterations=3, latency_runs=0)
    first = ResolvedCompressor("prune_structured", "prune_structured", 1, few, {}, METHOD.accepts)
    then = kit.small(later)
    second = ResolvedCompressor(name, name, later.version, then, {}, later.accepts)
    axes = METHOD.accepts | later.accepts
    both = ResolvedCompressor(f"prune_structured+{name}", "both", 1, then, {}, axes, steps=(first, second))
    out = run_steps(both, find, model, images, Setting(4, 4, sparsity=0.2), context())
    (variant,) = out.variants
    alone = later.compress(model, images, Setting(4, 4), then, context())
    assert variant.setting == Setting(4, 4, sparsity=0.2)
    assert out.variants[0].protocol["steps"][0]["mode"] == "physical_all"
    assert set(variant.layer_bits) == set(alone.variants[0].layer_bits)
    nets: list[Any] = [variant.module, alone.variants[0].module]
    assert [unit.name for unit in nets[0].units] == [unit.name for unit in nets[1].units]
    assert variant.network is not None
    shape = (1, 32, 32)
    found = complexity(model.module, shape, variant)
    full = complexity(model.module, shape, alone.variants[0])
    for metric in ("macs", "bitops_g", "size_bytes"):
        assert found[metric] < 0.8 * full[metric]
    assert variant.module(images.images).isfinite().all()


def test_a_channel_split_is_not_applicable_but_can_be_masked() -> None:
    model = shipped("shufflenetv2_w48")
    with pytest.raises(NotApplicable, match="mode mask"):
        compress(model, grey(), mask_iterations=0, weight_iterations=0)
    out = compress(model, grey(), mode="mask", mask_iterations=0, weight_iterations=0)
    assert out.report["global_sparsity"] == pytest.approx(0.2, abs=0.02)


def test_the_network_given_to_the_library_stays() -> None:
    work, example = work_of(handle(), image_set())
    before = digest(work.net)
    groups = _channels.find_groups(work.net, example, work.order, {work.order[-1]})
    small = _channels.remove(work.net, example, [(groups[0].root, [0])])
    assert digest(work.net) == before != digest(small)
    with pytest.raises(NotApplicable, match="torch-pruning"):
        _channels.remove(work.net, example, [(groups[0].root, list(range(groups[0].size)))])


def test_a_network_without_weighted_layers_is_not_applicable() -> None:
    with pytest.raises(NotApplicable):
        METHOD.check(PruneStructuredParams(), handle(nn.Sequential(nn.ReLU(), nn.Flatten())))
    assert isinstance(handle().module, Residual)
