"""GENIE-D: swing convolution, generator and latents, the loop's settings (docs/methods/sources.md#invariant-15)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import NotApplicable
from bench.interfaces import ImageBatch, ModelHandle
from methods.sources._genie_generator import Body, GenieObjective, add_swing, swing
from methods.sources._losses import input_statistics, sq_std_batch
from methods.sources._objectives import Network
from methods.sources.genie import METHOD, GenieParams
from tests.sources.toy import COLOUR, GREY, Curves, NoNorm, ToyNet, context, fingerprint, handle, randomised, request

SMALL: dict[str, Any] = {"batch": 8, "iterations": 4, "width": 8}


def made(zoo: tuple[ModelHandle, ...], seed: int = 0, **params: object) -> ImageBatch:
    return METHOD.synthesize_batch(request(METHOD, zoo[:1], **{**SMALL, **params}), context(seed))


def test_swing_is_a_window_of_the_reflection() -> None:
    x = torch.arange(30.0).view(1, 1, 5, 6)
    assert torch.equal(swing(x, 0, 0), x)
    assert torch.equal(F.pad(x, (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, 1:-1], x)  # the centre is no special case
    down_right = swing(x, 1, 1)
    assert torch.equal(down_right[:, :, :-1, :-1], x[:, :, 1:, 1:])
    assert torch.equal(down_right[:, :, -1, :-1], x[:, :, -2, 1:])
    up = swing(x, -1, 0)
    assert torch.equal(up[:, :, 1:], x[:, :, :-1])
    assert torch.equal(up[:, :, 0], x[:, :, 1])


@pytest.mark.parametrize("dy", [-1, 0, 1])
@pytest.mark.parametrize("dx", [-1, 0, 1])
def test_strided_convolution_swings_and_keeps_its_shape(monkeypatch: pytest.MonkeyPatch, dy: int, dx: int) -> None:
    conv, plain = nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Conv2d(2, 2, 3, padding=1)
    net = nn.Sequential(copy.deepcopy(plain), copy.deepcopy(conv))
    draws = iter((dy, dx))
    monkeypatch.setattr("methods.sources._genie_generator.integer", lambda low, high, generator: next(draws))
    assert add_swing(net, torch.Generator()) == 1
    x = torch.randn(2, 2, 8, 8)
    out = net(x)
    assert out.shape == conv(plain(x)).shape
    padded = F.pad(plain(x), (1, 1, 1, 1), mode="reflect")
    window = padded[:, :, 1 + dy : 9 + dy, 1 + dx : 9 + dx]
    torch.testing.assert_close(out, conv(window))
    assert torch.equal(out, conv(plain(x))) == (dy == dx == 0)


def test_offsets_take_all_nine_values_anew_for_each_call() -> None:
    class Keep(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(float(x[0, 0, 2, 2]))
            return super().forward(x)

    seen: list[float] = []
    net = Keep(1, 1, 3, stride=2)
    add_swing(net, torch.Generator().manual_seed(0))
    x = torch.arange(25.0).view(1, 1, 5, 5)
    for _ in range(200):
        net(x)
    assert sorted(set(seen)) == [6, 7, 8, 11, 12, 13, 16, 17, 18]
    assert add_swing(nn.Sequential(nn.Conv2d(1, 1, 3)), torch.Generator()) == 0


def test_maps_of_one_pixel_pass_as_they_are() -> None:
    net = nn.Conv2d(1, 1, 1, stride=2)
    x = torch.randn(2, 1, 1, 1)
    expected = net(x)
    add_swing(net, torch.Generator().manual_seed(0))
    assert torch.equal(net(x), expected)


def test_network_and_final_measure_are_the_callers_without_swing(zoo: tuple[ModelHandle, ...]) -> None:
    before = fingerprint(zoo[0].module)
    batch = made(zoo)
    assert fingerprint(zoo[0].module) == before
    assert not any(m._forward_pre_hooks or m._forward_hooks or m.training for m in zoo[0].module.modules())
    assert all(p.grad is None and p.requires_grad for p in zoo[0].module.parameters())
    prepared = METHOD.prepare(request(METHOD, zoo[:1], **SMALL), context())
    assert isinstance(prepared.objective, GenieObjective)
    swinging, still = (
        sum(len(m._forward_pre_hooks) for m in n.taps.module.modules())
        for n in (prepared.objective.network, prepared.networks[0])
    )
    assert (swinging, still) == (1, 0)
    with pytest.raises(NotApplicable, match="no batch norm"):
        METHOD.check(GenieParams(), (handle(NoNorm().eval(), "plain"),))
    assert batch.labels is None
    assert batch.forward_equivalents == 8 * (2 * 4 + 1) * (1 + batch.info["generator_macs_ratio"])


def test_body_has_unit_channels_and_any_size() -> None:
    for shape in ((1, 16, 16), (3, 30, 18)):
        body = Body(shape, 8, torch.Generator().manual_seed(0))
        images = body(torch.randn(16, 256, 1, 1, generator=torch.Generator().manual_seed(1)))
        assert images.shape == (16, *shape)
        torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(shape[0]), rtol=0, atol=1e-5)
        torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(shape[0]), rtol=0, atol=1e-2)
    again = Body((3, 30, 18), 8, torch.Generator().manual_seed(0))
    assert fingerprint(again) == fingerprint(Body((3, 30, 18), 8, torch.Generator().manual_seed(0)))


def test_gradient_goes_to_generator_and_latents_only(zoo: tuple[ModelHandle, ...]) -> None:
    prepared = METHOD.prepare(request(METHOD, zoo[:1], **SMALL), context())
    objective = prepared.objective
    assert isinstance(objective, GenieObjective)
    z = prepared.init.clone().requires_grad_()
    loss = objective.backward(z, 1, False)["loss"]
    for tensor in (z, *objective.body.parameters()):
        assert tensor.grad is not None
        assert bool(torch.isfinite(tensor.grad).all())
    assert float(z.grad.abs().sum()) > 0  # type: ignore[union-attr]
    assert all(p.grad is None for p in objective.network.taps.module.parameters())
    before = fingerprint(objective.body)
    objective.stepped()
    assert fingerprint(objective.body) != before
    assert float(loss) > 0


def test_objective_without_swing_is_the_batch_statistics_and_the_input_term(zoo: tuple[ModelHandle, ...]) -> None:
    prepared = METHOD.prepare(request(METHOD, zoo[:1], **{**SMALL, "swing": False}), context())
    objective = prepared.objective
    assert isinstance(objective, GenieObjective)
    loss = objective.backward(prepared.init.clone().requires_grad_(), 1, False)["loss"]
    with torch.no_grad():
        images = objective.images(prepared.init)
        _, stats = Network(zoo[0], GREY, context())(images)
    assert stats is not None
    torch.testing.assert_close(loss, sq_std_batch(stats) + input_statistics(images), rtol=1e-4, atol=1e-5)


def test_generator_rate_decays_and_reset_starts_afresh(zoo: tuple[ModelHandle, ...]) -> None:
    values = {**SMALL, "decay_every": 2, "generator_lr": 0.02}
    objective = METHOD.prepare(request(METHOD, zoo[:1], **values), context()).objective
    assert isinstance(objective, GenieObjective)
    first = fingerprint(objective.body)
    z = torch.randn(8, 256, 1, 1).requires_grad_()
    rates = []
    for _ in range(5):
        rates.append(objective.optimiser.param_groups[0]["lr"])
        objective.backward(z, 1, False)
        objective.stepped()
    assert rates == pytest.approx([0.02, 0.02, 0.019, 0.019, 0.01805])
    objective.reset()
    assert objective.optimiser.param_groups[0]["lr"] == 0.01  # the loop's retry halves the latents' rate likewise
    assert fingerprint(objective.body) != first
    assert [GenieParams.model_validate({"iterations": n}).span(None) for n in (4000, 1000, 230)] == [100, 25, 25]


def test_non_finite_loss_is_tried_again_with_both_rates_halved(
    zoo: tuple[ModelHandle, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = GenieObjective.backward
    losses: list[int] = []

    def bad_once(self: GenieObjective, view: Tensor, scale: int, log: bool) -> Mapping[str, Tensor]:
        found = plain(self, view, scale, log)
        losses.append(1)
        return {**found, "loss": found["loss"] * float("nan")} if len(losses) == 2 else found

    monkeypatch.setattr(GenieObjective, "backward", bad_once)
    batch = made(zoo, lr=0.2, generator_lr=0.02)
    assert (batch.info["retried_at_half_lr"], batch.info["lr"], batch.info["generator_lr"]) == (True, 0.1, 0.01)
    ratio = batch.info["generator_macs_ratio"]
    assert batch.forward_equivalents == 8 * (2 * (4 + 2) + 1) * (1 + ratio)  # two iterations before it was seen


def test_the_record_weighs_the_generator(zoo: tuple[ModelHandle, ...]) -> None:
    """Toy's multiply-accumulates are 1; the maps are 4x4, 8x8 and 16x16."""
    macs = 256 * 8 * 16 + 9 * 8 * 4 * 64 + 9 * 4 * 1 * 256
    assert made(zoo).info["generator_macs_ratio"] == macs


def test_same_request_same_bits_whatever_the_global_generator(zoo: tuple[ModelHandle, ...]) -> None:
    first = made(zoo, seed=3)
    torch.rand(7)
    again = made(zoo, seed=3)
    assert torch.equal(first.images, again.images)
    assert dict(first.info) == dict(again.info)
    assert not torch.equal(first.images, made(zoo, seed=4).images)
    assert not torch.equal(first.images, made(zoo, seed=3, swing=False).images)


def test_three_channels() -> None:
    model = handle(randomised(ToyNet(channels=3)), "n", COLOUR)
    batch = METHOD.synthesize_batch(request(METHOD, (model,), dataset=COLOUR, **SMALL), context())
    assert batch.images.shape == (8, *COLOUR.shape)
    assert 0 < batch.info["clipped"] < 1


def test_statistics_fall_and_the_curve_counts_the_images_edges(zoo: tuple[ModelHandle, ...]) -> None:
    curves = Curves()
    source = request(METHOD, zoo[:1], iterations=60, batch=16, width=16)
    batch = METHOD.synthesize_batch(source, context(curves=curves))
    bn = [value for _, value in curves.points["bn"]]
    assert bn[-1] * 5 < bn[0]
    steps = [step for step, _ in curves.points["clipped"]]
    assert len(steps) == len(set(steps))
    assert max(value for _, value in curves.points["clipped"]) > 0
    assert float(batch.images.mean().abs()) < 0.05
