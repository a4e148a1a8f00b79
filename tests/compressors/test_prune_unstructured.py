"""Unstructured pruning: exact zeros with ties, the identity at ratio 0, two stages that help, and what is stored."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bench.errors import NotApplicable
from bench.interfaces import Setting
from bench.measure.complexity import complexity, count
from bench.run.steps import run_steps
from bench.spec.registry import Registry
from bench.spec.resolved import ResolvedCompressor
from methods.compressors import _masked, _prune, _reconstruct
from methods.compressors._masks import Entries
from methods.compressors._pruner import PruneParams
from methods.compressors.prune_unstructured import METHOD
from tests import pick
from tests.compressors.recon_toys import context, digest, handle, image_set

HALF = Setting(sparsity=0.5)


def compress(setting: Setting = HALF, *, seed: int = 0, net: nn.Module | None = None, **params: Any) -> Any:
    chosen = PruneParams(**{"mask_iterations": 40, "weight_iterations": 40, "latency_runs": 0, "lr": 5e-3, **params})
    return METHOD.compress(handle(net), image_set(), setting, chosen, context(seed))


def layers(net: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    return {name: part for name, part in net.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}


def zeros(net: nn.Module) -> dict[str, int]:
    return {name: int((part.weight == 0).sum()) for name, part in layers(net).items()}


@pytest.mark.parametrize("ratio", [0.5, 0.37, 0.9])
@pytest.mark.parametrize("stages", [(0, 0), (8, 0), (8, 8)])
def test_zeros_are_exact_in_every_layer(ratio: float, stages: tuple[int, int]) -> None:
    out = compress(Setting(sparsity=ratio), mask_iterations=stages[0], weight_iterations=stages[1])
    expected = {name: round(ratio * part.weight.numel()) for name, part in layers(handle().module).items()}
    assert zeros(out.variants[0].module) == expected
    for name, part in layers(handle().module).items():
        assert out.report["sparsity"][name] == pytest.approx(expected[name] / part.weight.numel(), abs=1e-12)
        assert out.variants[0].nonzero[name] == part.weight.numel() - expected[name]


def test_ties_do_not_change_the_count() -> None:
    weight = torch.tensor([[1.0, -1.0, 1.0], [1.0, 2.0, -1.0]])
    mask = Entries(0.5, ("a",)).rank({"a": weight})["a"]
    assert mask.tolist() == [[0, 0, 0], [1, 1, 1]]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    for part in layers(net).values():
        part.weight.data = part.weight.data.sign()
    assert zeros(compress(net=net).variants[0].module) == {"0": 108, "4": 20}


def test_least_magnitudes_go() -> None:
    out = compress(mask_iterations=0, weight_iterations=0)
    folded = _masked.folded_copy(handle().module, image_set().images[:2], 8).net
    for name, part in layers(out.variants[0].module).items():
        full = layers(folded)[name].weight
        gone, left = full[part.weight == 0].abs(), full[part.weight != 0].abs()
        assert float(gone.max()) <= float(left.min())
        assert torch.equal(part.weight[part.weight != 0], full[part.weight != 0])


def test_a_ratio_that_removes_nothing_is_refused_with_the_smallest_that_does() -> None:
    """The largest layer has 8 * 8 * 9 = 576 weights: one goes above 1/1152."""
    none = {"mask_iterations": 0, "weight_iterations": 0}
    with pytest.raises(NotApplicable, match=r"removes nothing\n  got: 0\.0008\n  allowed: more than 0\.000868"):
        compress(Setting(sparsity=0.0008), **none)
    out = compress(Setting(sparsity=0.0009), **none)
    assert sum(out.variants[0].nonzero.values()) < sum(part.weight.numel() for part in layers(handle().module).values())


def test_each_stage_brings_the_output_nearer() -> None:
    x = image_set(seed=1).images
    target = handle().module(x)

    def error(**params: Any) -> float:
        net = compress(Setting(sparsity=0.6), **params).variants[0].module
        with torch.no_grad():
            return float((net(x) - target).square().mean())

    one_shot = error(mask_iterations=0, weight_iterations=0)
    after_first = error(mask_iterations=100, weight_iterations=0)
    final = error(mask_iterations=100, weight_iterations=100)
    assert after_first < 0.8 * one_shot
    assert final < after_first


def test_guarded_units_end_no_worse_than_one_shot() -> None:
    for absurd in (True, False):
        out = compress(lr=1.0, lr_mask=1.0) if absurd else compress()
        assert out.report["units"]
        for row in out.report["units"]:
            assert row["kept"] == "one shot" or row["final"] <= row["one_shot"], row
        assert (out.report["kept"] > 0) == absurd
        assert zeros(out.variants[0].module) == {
            n: round(0.5 * p.weight.numel()) for n, p in layers(handle().module).items()
        }


def test_a_unit_given_back_holds_its_original_weights_pruned() -> None:
    out = compress(lr=1.0, lr_mask=1.0)
    one_shot = layers(compress(mask_iterations=0, weight_iterations=0).variants[0].module)
    rows = {row["unit"]: row for row in out.report["units"]}
    units = _masked.folded_copy(handle().module, image_set().images[:2], 8).units
    back = [unit for unit in units if rows[unit.name]["kept"] == "one shot"]
    assert back
    for name in (name for unit in back for name in unit.layers):
        assert torch.equal(layers(out.variants[0].module)[name].weight, one_shot[name].weight)


def test_masks_are_learned_in_stage_one_and_may_swap() -> None:
    swapped = compress(lr=1e-3, lr_mask=0.2, guard=False).report["mask_swaps"]
    assert sum(swapped.values()) > 0
    assert compress(lr=1e-3, lr_mask=0.0, guard=False).report["mask_swaps"] == {}


def test_a_loss_that_is_not_finite_degrades_the_unit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = _reconstruct.minimise, []

    def second_fails(*args: Any) -> bool:
        calls.append(1)
        return bool(real(*args)) and len(calls) != 2

    monkeypatch.setattr(_prune, "minimise", second_fails)
    out = compress(mask_iterations=0)
    assert out.report["degraded"] == 1
    (row,) = [row for row in out.report["units"] if row["degraded"]]
    assert row["kept"] == "one shot"


def test_same_generator_same_network_and_inputs_stay() -> None:
    model, images = handle(), image_set()
    before, pixels = digest(model.module), images.images.clone()
    params = PruneParams(mask_iterations=10, weight_iterations=10, latency_runs=0)
    nets = [METHOD.compress(model, images, HALF, params, context(s)).variants[0].module for s in (0, 0, 1)]
    assert digest(model.module) == before
    assert torch.equal(images.images, pixels)
    assert digest(nets[0]) == digest(nets[1])
    assert digest(nets[0]) != digest(nets[2])


def test_progress_never_falls_and_ends_at_its_total() -> None:
    seen: list[tuple[int, int]] = []
    curves: dict[str, list[int]] = {}
    ctx = context(
        report=lambda _, step, total: seen.append((step, total)),
        log_scalar=lambda name, step, _: curves.setdefault(name, []).append(step),
    )
    METHOD.compress(handle(), image_set(), HALF, PruneParams(mask_iterations=50, weight_iterations=50), ctx)
    assert [step for step, _ in seen] == sorted(step for step, _ in seen)
    assert {total for _, total in seen} == {seen[-1][0]}
    assert {name.partition("/")[0] for name in curves} == {"masks", "weights"}


def test_the_report_names_sizes_and_time() -> None:
    report = compress(latency_runs=3).report
    sizes = [part.weight.numel() for part in layers(handle().module).values()]
    assert report["global_sparsity"] == pytest.approx(sum(round(0.5 * size) for size in sizes) / sum(sizes))
    assert report["parameters"]["before"] == report["parameters"]["after"] > report["parameters"]["nonzero"]
    for name in ("before", "after"):
        for batch in ("batch_1", "batch_64"):
            found = report["latency"][name][batch]
            assert 0 < found["median_ms"] <= found["p90_ms"]


def test_rates_keep_the_published_travel() -> None:
    for preset, lr in (("mini", 1e-3), ("thorough", 2e-4), ("paper", 4e-5)):
        found = PruneParams(**METHOD.presets[preset]).schedule()
        assert found.lr == found.lr_mask == pytest.approx(lr)


def test_the_given_layers_stay_whole() -> None:
    out = compress(skip_first_last=True)
    found = zeros(out.variants[0].module)
    assert [name for name, gone in found.items() if not gone] == ["stem.0", "head"]


KEEPERS = pick.methods("compressors", accepts="bits", keeps_zeros=True)


@pytest.mark.parametrize("name", KEEPERS)
def test_zeros_survive_a_later_quantisation(name: str) -> None:
    find, later = Registry("compressors").get, KEEPERS[name]
    chosen = PruneParams(mask_iterations=5, weight_iterations=5, latency_runs=0)
    first = ResolvedCompressor("prune_unstructured", "p", METHOD.version, chosen, {}, METHOD.accepts)
    few = {"iterations": 60, "step_iterations": 5, "correction_iterations": 0}  # the batch norms are folded by now
    then = later.Params(**{key: value for key, value in few.items() if key in later.Params.model_fields})
    second = ResolvedCompressor(name, "b", later.version, then, {}, later.accepts)
    both = ResolvedCompressor("p+b", "p+b", 1, then, {}, METHOD.accepts | later.accepts, steps=(first, second))
    out = run_steps(both, find, handle(), image_set(), Setting(4, 8, sparsity=0.5), context())
    (variant,) = out.variants
    net: Any = variant.module
    assert variant.network is not None
    for name, part in layers(variant.network).items():
        quantised = net.weights[name](net.layer(name).weight)
        assert bool((quantised[part.weight == 0] == 0).all()), name
        assert variant.nonzero[name] == int(quantised.count_nonzero()) <= int(part.weight.count_nonzero())
    flipped = [row["flipped"] for row in out.report.get("units", ()) if "flipped" in row]
    assert not flipped or max(flipped) > 0, "rounding should have been learned"
    metrics = complexity(handle().module, (3, 8, 8), variant)
    assert metrics["macs_effective"] < 0.6 * metrics["macs"]
    assert metrics["macs"] == count(handle().module, (3, 8, 8)).macs


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.a(x).mean((2, 3))
        return out if float(x.detach().sum()) >= 0 else -out


def test_what_cannot_be_pruned_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="Conv2d or Linear"):
        METHOD.check(PruneParams(), handle(nn.Sequential(nn.ReLU(), nn.Flatten())))
    with pytest.raises(NotApplicable, match="traced"):
        compress(net=Untraceable())
