"""The loop: schedules, projection, stages, progress, retry (docs/methods/sources.md#pixel-space, #loop, #invariant-9,
#invariant-10)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from methods.sources._augment import PixelSpace
from methods.sources._inversion import Inverted, NonFiniteLoss, cosine_lr, edge_fraction, invert
from methods.sources._settings import LoopSettings
from tests.sources.toy import GREY, Curves, context

SPACE = PixelSpace.of(GREY)


class Bowl:
    """Squared distance to a target; remembers what it was shown, goes bad on demand."""

    def __init__(self, target: float = 0.5, bad_attempts: int = 0) -> None:
        self.target, self.bad_attempts = target, bad_attempts
        self.shapes: list[tuple[int, int]] = []
        self.steps = self.resets = 0
        self.box_broken = False

    def backward(self, view: Tensor, scale: int, log: bool) -> Mapping[str, Tensor]:
        self.shapes.append((view.shape[-1], scale))
        low, high = SPACE.box(view)
        self.box_broken |= bool(((view < low) | (view > high)).any())
        loss = (view - self.target).square().mean()
        if self.resets < self.bad_attempts:
            loss = loss * float("nan")
        loss.backward()
        return {"loss": loss.detach(), **({"extra": loss.detach()} if log else {})}

    def stepped(self) -> None:
        self.steps += 1

    def reset(self) -> None:
        self.resets += 1


def start() -> Tensor:
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)


def solve(bowl: Bowl, settings: LoopSettings, curves: Curves | None = None) -> Inverted:
    return invert(start(), bowl, SPACE, settings, context(curves=curves))


def test_reaches_the_minimum_and_leaves_the_start_alone() -> None:
    init = start()
    kept = init.clone()
    result = invert(init, Bowl(), SPACE, LoopSettings(200, 0.1), context())
    assert torch.equal(init, kept)
    assert not result.images.requires_grad
    torch.testing.assert_close(result.images, torch.full_like(kept, 0.5), atol=0.02, rtol=0)


def test_every_step_ends_inside_the_box() -> None:
    far, free = Bowl(target=50.0), Bowl(target=50.0)
    result = solve(far, LoopSettings(60, 0.5))
    low, high = SPACE.box(result.images)
    assert not far.box_broken
    assert bool((result.images == high).all())
    assert result.clipped == edge_fraction(result.images, SPACE) == 1.0
    unclipped = solve(free, LoopSettings(60, 0.5, clip=False))
    assert free.box_broken
    assert bool((unclipped.images > high).any())
    assert float(low) < float(high)


def test_stages_pool_and_are_priced() -> None:
    bowl = Bowl()
    result = solve(bowl, LoopSettings(10, 0.1, half_iterations=4))
    assert bowl.shapes == [(4, 2)] * 4 + [(8, 1)] * 6
    assert bowl.steps == 10
    assert result.iterations == {2: 4, 1: 6}
    assert result.forwards() == 4 * (2 * 4 / 4 + 2 * 6)
    assert result.forwards(enlarged=True) == 4 * 2 * 10


def test_half_stage_may_be_everything() -> None:
    assert LoopSettings(5, 0.1, half_iterations=5).stages() == [(5, 2)]


def test_cosine_with_warmup() -> None:
    rates = [cosine_lr(1.0, step, 20, 4) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(rates[4:]))
    assert 0 < rates[-1] < 0.01


def test_restart_begins_each_stage_at_the_full_rate() -> None:
    """With one cosine the second stage starts low, with a restart it moves at the full rate again."""
    far = {
        restart: solve(
            Bowl(target=3.0), LoopSettings(40, 0.02, half_iterations=36, restart=restart, clip=False)
        ).images.mean()
        for restart in (False, True)
    }
    assert float(far[True]) > float(far[False]) + 0.01


def test_plateau_lowers_the_rate() -> None:
    """On a bowl whose loss no longer falls the rate drops, so the images stand still."""

    class Flat(Bowl):
        def backward(self, view: Tensor, scale: int, log: bool) -> Mapping[str, Tensor]:
            view.sum().backward()
            return {"loss": torch.tensor(1.0)}

    moved = {}
    for name in ("constant", "plateau"):
        settings = LoopSettings(60, 0.1, schedule=name, patience=5, clip=False)  # type: ignore[arg-type]
        moved[name] = float((solve(Flat(), settings).images - start()).abs().mean())
    assert moved["constant"] == pytest.approx(6.0, rel=0.01)
    assert moved["plateau"] < 1.5


def test_stop_below_ends_the_run() -> None:
    result = solve(Bowl(), LoopSettings(500, 0.1, stop_below=0.05))
    assert sum(result.iterations.values()) < 500
    assert result.losses["loss"] <= 0.05


def test_curves_and_progress() -> None:
    curves = Curves()
    solve(Bowl(), LoopSettings(40, 0.1), curves)
    assert set(curves.points) == {"loss", "extra", "clipped"}
    steps = [step for step, _ in curves.points["loss"]]
    assert steps == [*range(0, 40, 2), 39]
    assert curves.reports[-1] == ("invert", 40, 40)
    assert LoopSettings(5000, 0.1).log_every == 100


def test_non_finite_loss_gets_one_retry_at_half_the_rate() -> None:
    bowl = Bowl(bad_attempts=1)
    result = solve(bowl, LoopSettings(20, 0.1))
    assert (result.retried, result.lr, bowl.resets) == (True, 0.05, 1)
    assert (result.iterations, result.failed) == ({1: 20}, {1: 1})
    assert result.forwards() == 4 * 2 * 21
    assert bool(torch.isfinite(result.images).all())
    with pytest.raises(NonFiniteLoss, match="nan"):
        solve(Bowl(bad_attempts=2), LoopSettings(20, 0.1))
