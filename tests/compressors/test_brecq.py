"""BRECQ on toy networks: never worse than nearest per unit, deterministic, and nearest exactly when nothing moves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import NotApplicable
from bench.interfaces import Setting
from methods.compressors import _blocks, _caches, _recipes
from methods.compressors._fisher import fisher_weights
from methods.compressors.brecq import METHOD, BrecqParams
from methods.quant.model import quantize_model
from tests.compressors.recon_toys import context, digest, handle, image_set, nearest, quantised_weights
from tests.quant.nets import seeded

W3A4 = Setting(3, 4)


def compress(setting: Setting = W3A4, *, seed: int = 0, net: nn.Module | None = None, **params: Any) -> Any:
    chosen = BrecqParams(**{"iterations": 60, "step_iterations": 20, **params})
    return METHOD.compress(handle(net), image_set(), setting, chosen, context(seed))


def rows(out: Any, stage: str) -> list[dict[str, Any]]:
    return [row for row in out.report["units"] if row["stage"] == stage]


def test_blocks_fit_better_than_nearest_at_three_bits() -> None:
    out = compress(iterations=200, step_iterations=0)
    learned = [row for row in rows(out, "rounding") if row["layers"]]
    assert len(learned) >= 3
    for row in learned:
        assert row["kept"] == "learned"
        assert row["hard"] < 0.9 * row["rtn"], row
        assert 0 < row["flipped"] < 0.5
        assert row["converged"] > 0.9
        assert row["seconds"] > 0


def test_output_is_nearer_to_full_precision_than_nearest_rounding() -> None:
    x = image_set(seed=1).images
    target = handle().module(x)
    with torch.no_grad():
        learned = (compress(iterations=200, step_iterations=80).variants[0].module(x) - target).square().mean()
        plain = (nearest(W3A4)(x) - target).square().mean()
    assert float(learned) < 0.8 * float(plain)


@pytest.mark.parametrize("guard", [True, False])
def test_without_movement_it_is_nearest_rounding(guard: bool) -> None:
    net = compress(lr=0.0, step_lr=0.0, guard=guard, range_inputs="full").variants[0].module
    plain = nearest(W3A4)
    for name, weight in quantised_weights(plain).items():
        assert torch.equal(quantised_weights(net)[name], weight), name
    for name, quantiser in plain.activations.items():
        assert torch.equal(net.activations[name].scale, quantiser.scale)
    x = image_set(seed=1).images
    torch.testing.assert_close(net(x), plain(x), rtol=1e-4, atol=1e-4)


def test_guard_goes_back_where_learning_harms() -> None:
    out = compress(penalty=0.0, lr=10.0, iterations=3, step_lr=1.0, step_iterations=3)
    plain, net = nearest(W3A4), out.variants[0].module
    kept = [row for row in rows(out, "rounding") if row["kept"] == "nearest" and row["layers"]]
    assert kept, "the absurd rate should harm at least one unit"
    for row in rows(out, "rounding"):
        if row["kept"] == "learned":
            assert row["hard"] <= row["rtn"]
        else:
            unit = next(u for u in net.units if u.name == row["unit"])
            for name in unit.layers:
                assert torch.equal(quantised_weights(net)[name], quantised_weights(plain)[name])
    for row in rows(out, "steps"):
        assert row["kept"] == "calibrated" or row["learned"] <= row["base"]


def test_without_the_guard_a_harmful_result_stays() -> None:
    out = compress(penalty=0.0, lr=10.0, iterations=3, step_iterations=0, guard=False)
    assert any(row.get("hard", 0) > row["rtn"] for row in rows(out, "rounding"))
    assert all(row["kept"] == "learned" for row in rows(out, "rounding") if row["layers"])


def test_every_hard_weight_is_a_neighbour_on_its_grid() -> None:
    net = compress().variants[0].module
    for name, weight in quantised_weights(net).items():
        quantiser, full = net.weights[name], net.layer(name).weight
        level = weight / quantiser.scale
        assert float((level - level.round()).abs().max()) < 1e-3
        floor, _ = quantiser.floor_levels(full)
        inside = (floor + quantiser.zero_point >= quantiser.n) & (floor + quantiser.zero_point < quantiser.p)
        assert bool(((weight - full).abs() < quantiser.scale * (1 + 1e-4))[inside].all())


@pytest.mark.parametrize(("ends", "learned"), [(8, False), (4, True)])
def test_first_layer_keeps_nearest_and_its_step_is_learned_below_eight_bits(ends: int, learned: bool) -> None:
    setting = Setting(3, 4, first_last_bits=ends)
    out = compress(setting)
    net, plain = out.variants[0].module, nearest(setting)
    first = next(iter(net.weights))
    assert torch.equal(quantised_weights(net)[first], quantised_weights(plain)[first])
    assert any(row["unit"] == net.units[0].name for row in rows(out, "steps")) is learned


def test_eight_bit_steps_stay_as_calibrated() -> None:
    still, moved = (compress(step_lr=rate, iterations=0).variants[0].module for rate in (0.0, 0.05))
    changed = {name: not torch.equal(still.activations[name].scale, q.scale) for name, q in moved.activations.items()}
    assert {q.bits for q in moved.activations.values()} == {4, 8}
    assert changed == {name: q.bits < 8 for name, q in moved.activations.items()}


def test_ranges_are_chosen_behind_the_quantised_prefix_in_order() -> None:
    """Against a walk over the whole network's forward, one tensor after the other."""
    images = image_set().images
    net = compress(iterations=0, step_iterations=0).variants[0].module
    other = nearest(W3A4)
    other.set_state(True, True)
    with torch.no_grad():
        for quantiser in other.activations.values():
            seen: list[Tensor] = []
            hook = quantiser.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
            other(images)
            hook.remove()
            quantiser.observe(seen[0])
            quantiser.calibrate()
    full = nearest(W3A4).activations
    moved = 0
    for name, quantiser in other.activations.items():
        assert net.activations[name].scale.item() == pytest.approx(quantiser.scale.item(), rel=1e-4)
        assert net.activations[name].zero_point == quantiser.zero_point
        moved += not torch.equal(full[name].scale, quantiser.scale)
    assert moved > 2


def test_fisher_weights_are_squared_gradients_of_the_divergence() -> None:
    images = image_set(8).images
    net = nearest(W3A4)
    unit = net.units[1]
    done = net.units[0].layers
    weights = fisher_weights(net, unit, images, done, batch=3)
    net.set_state(False, False)
    full = net(images).softmax(1)
    rest = [net.unit_module(later) for later in net.units[2:]]
    for name in (*done, *unit.layers):
        net.weights[name].enabled = True
    output = net.unit_module(unit)(net.unit_module(net.units[0])(images)).detach().requires_grad_(True)
    logits = output
    for part in rest:
        logits = part(logits)
    (full * (full.log() - logits.log_softmax(1))).sum().backward()
    assert output.grad is not None
    expected = output.grad.square()
    torch.testing.assert_close(weights, expected / expected.mean(), rtol=1e-3, atol=1e-5)


def test_the_fisher_objective_serves_the_output_and_leaves_all_switches_as_they_were() -> None:
    x = image_set(seed=1).images
    target = handle().module(x).softmax(1)

    def divergence(net: nn.Module) -> float:
        with torch.no_grad():
            return float(F.kl_div(net(x).log_softmax(1), target, reduction="batchmean"))

    found = compress(objective="fisher", iterations=200, step_iterations=0).variants[0].module
    assert all(q.enabled for q in (*found.weights.values(), *found.activations.values()))
    assert divergence(found) < 0.8 * divergence(nearest(W3A4))
    with pytest.raises(NotApplicable, match="traced"):
        compress(net=Untraceable(), objective="fisher", max_layers=1)


def test_same_generator_same_network_and_inputs_stay() -> None:
    model, images = handle(), image_set()
    before, pixels = digest(model.module), images.images.clone()
    params = BrecqParams(iterations=30, step_iterations=10)
    nets = [METHOD.compress(model, images, W3A4, params, context(s)).variants[0].module for s in (0, 0, 1)]
    assert digest(model.module) == before
    assert torch.equal(images.images, pixels)
    assert digest(nets[0]) == digest(nets[1])
    assert digest(nets[0]) != digest(nets[2])


@pytest.mark.parametrize(
    ("setting", "stages"),
    [(Setting(32, 32), set()), (Setting(4, 32), {"rounding"}), (Setting(32, 4), {"steps"})],
)
def test_thirty_two_bits_leave_that_part_alone(setting: Setting, stages: set[str]) -> None:
    out = compress(setting, iterations=10, step_iterations=5)
    found = {row["stage"] for row in out.report["units"] if row.get("layers", 1)}
    assert found == stages
    if not stages:
        x = image_set(seed=1).images
        torch.testing.assert_close(out.variants[0].module(x), handle().module(x), rtol=1e-4, atol=1e-4)


def test_a_loss_that_is_not_finite_degrades_the_unit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = _blocks.minimise, []

    def second_fails(*args: Any) -> bool:
        calls.append(1)
        return bool(real(*args)) and len(calls) != 2

    monkeypatch.setattr(_blocks, "minimise", second_fails)
    out = compress(step_iterations=0)
    assert out.report["degraded"] == 1
    (row,) = [row for row in rows(out, "rounding") if row["degraded"]]
    assert row["kept"] == "nearest"
    unit = next(u for u in out.variants[0].module.units if u.name == row["unit"])
    plain = quantised_weights(nearest(W3A4))
    for name in unit.layers:
        assert torch.equal(quantised_weights(out.variants[0].module)[name], plain[name])


def test_progress_never_falls_and_ends_at_its_total() -> None:
    seen: list[tuple[str, int, int]] = []
    curves: dict[str, list[int]] = {}

    def log(name: str, step: int, value: float) -> None:
        assert value >= 0
        curves.setdefault(name, []).append(step)

    ctx = context(report=lambda *a: seen.append(a), log_scalar=log)
    METHOD.compress(handle(), image_set(), W3A4, BrecqParams(iterations=100, step_iterations=50), ctx)
    steps = [step for _, step, _ in seen]
    assert steps == sorted(steps)
    assert {total for *_, total in seen} == {seen[-1][1]}
    assert [50, 100] in curves.values()


class Dense(nn.Module):
    """Two concatenations; with few layers per unit its pieces do not form a chain."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 6, 3, padding=1)
        self.c = nn.Conv2d(12, 6, 3, padding=1)
        self.head = nn.Linear(18, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        y = torch.cat([x, torch.relu(self.b(x))], 1)
        z = torch.cat([y, torch.relu(self.c(y))], 1)
        out: Tensor = self.head(z.mean((2, 3)))
        return out


class Untraceable(nn.Module):
    """Data-dependent control flow: no graph, layers are replaced one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        if float(x.detach().sum()) >= 0:
            x = torch.relu(self.b(x))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


@pytest.mark.parametrize("net", [Dense, Untraceable], ids=["off the chain", "no graph"])
def test_networks_without_a_chain_are_reconstructed_too(net: type[nn.Module]) -> None:
    out = compress(Setting(3, 4, first_last_bits=4), net=seeded(net), max_layers=1)
    learned = [row for row in rows(out, "rounding") if row["layers"]]
    assert all(row.get("hard", row["rtn"]) <= row["rtn"] for row in learned if row["kept"] == "learned")
    assert sum(row["kept"] == "learned" for row in learned) >= 2
    assert rows(out, "steps")


@pytest.mark.parametrize("state", [(False, False), (True, False), (True, True)])
def test_carried_inputs_equal_captured_ones(state: tuple[bool, bool]) -> None:
    images = image_set().images
    net = quantize_model(handle().module, images[:2], W3A4)
    net.calibrate(images)
    prefix = _caches.Prefix(net, images, *state)
    for unit in net.units:
        assert unit.chain
        x = prefix.enter(unit)
        net.set_state(*state)
        torch.testing.assert_close(x.all(), net.capture_inputs(unit, images), rtol=1e-4, atol=1e-4)
        prefix.leave(_caches.cached(net.unit_module(unit), x))


def test_caches_do_not_alias_what_others_may_change() -> None:
    images = image_set().images
    net = quantize_model(handle().module, images[:2], W3A4)
    net.calibrate(images)
    prefix = _caches.Prefix(net, images, False, False)
    x = prefix.enter(net.units[0])
    y = _caches.cached(net.unit_module(net.units[0]), x)
    before = y.all().clone()
    for parameter in net.parameters():
        parameter.data.zero_()
    assert torch.equal(y.all(), before)


@pytest.mark.parametrize("fed", ["full", "quantised"])
def test_stage_two_starts_from_the_error_behind_the_chosen_prefix(fed: Any) -> None:
    x = image_set().images
    out = compress(iterations=0, step_lr=0.0, step_inputs=fed)
    net, found = out.variants[0].module, rows(out, "steps")
    assert len(found) == 2  # the others' steps have 8 bits
    for row in found:
        unit = next(unit for unit in net.units if unit.name == row["unit"])
        with torch.no_grad():
            net.set_state(False, False)
            inner = net.capture_inputs(unit, x, len(x))
            target = net.unit_module(unit)(inner)
            if fed == "quantised":
                net.set_state(True, True)
                inner = net.capture_inputs(unit, x, len(x))
            net.set_state(True, True)
            error = (net.unit_module(unit)(inner) - target).square().sum(1).mean()
        assert row["base"] == pytest.approx(float(error), rel=1e-3), row["unit"]


def test_the_prefix_changes_what_stage_two_learns() -> None:
    found = [compress(iterations=0, step_inputs=fed).variants[0].module.activations for fed in ("full", "quantised")]
    assert any(not torch.equal(found[0][name].scale, found[1][name].scale) for name in found[0])


def test_rates_keep_the_published_travel() -> None:
    model = handle()
    for preset, lr, step_lr in (("mini", 0.1, 2.5e-3), ("thorough", 0.04, 1e-3), ("paper", 1e-3, 4e-5)):
        params = BrecqParams(**METHOD.presets[preset])
        assert _recipes.rule_for(params, model).lr == pytest.approx(lr)
        assert _recipes.step_rate(params, params.step_iterations) == pytest.approx(step_lr)


def test_lambda_auto_looks_at_the_architecture() -> None:
    names = ["resnet50", "regnetx", "mobilenetv2", "mnasnet", "vgg"]
    auto = BrecqParams(penalty="auto")
    assert [_recipes.penalty_for(auto, handle(architecture=n)) for n in names] == [0.01, 0.01, 0.1, 0.2, 0.1]
    assert _recipes.penalty_for(BrecqParams(), handle(architecture="resnet50")) == 0.1


@pytest.mark.parametrize(
    "bad", [{"iterations": -1}, {"batch": 0}, {"lr": "fast"}, {"warmup": 1.0}, {"step_lr": -1}, {"lamda": 0.1}]
)
def test_bad_parameters_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BrecqParams(**bad)


def test_a_network_without_weighted_layers_is_not_applicable() -> None:
    with pytest.raises(NotApplicable):
        METHOD.check(BrecqParams(), handle(nn.Sequential(nn.ReLU(), nn.Flatten())))
