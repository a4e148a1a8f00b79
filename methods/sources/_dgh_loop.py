"""Images in groups whose batch-norm statistics are pooled over all groups, and the optimisation of one group at a time
(docs/methods/sources.md#dgh).

Each group has an optimiser and a schedule of its own.  Its gradient is that of the pooled statistics in which its own
part is measured on the view of this moment and the other groups' parts are those last measured, without a graph: so
memory holds one group's graph whatever the set's size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from bench.interfaces import RunContext
from methods.sources._augment import PixelSpace, integer
from methods.sources._bn_taps import Layout, Stats, together
from methods.sources._inversion import Inverted, NonFiniteLoss, edge_fraction
from methods.sources._losses import mse_gauss, smoothed
from methods.sources._objectives import Network


@dataclass(frozen=True)
class Canvas:
    """From an optimised canvas [B,C,H+e,W+e] to what the network sees [B,C,H,W]; ``extra`` is e in pixels.

    ``sigma`` is the deviation of the 3x3 Gaussian in pixels, 0 for none; ``clip`` shows values held in the valid box
    and hands gradients on as if they were not.
    """

    space: PixelSpace
    extra: int
    flip: bool
    sigma: float
    clip: bool

    def view(self, canvas: Tensor, generator: Generator) -> Tensor:
        """Mirrored by a coin, smoothed, cut out at a random place; one draw for all images."""
        if self.flip and float(torch.rand((), generator=generator)) < 0.5:
            canvas = canvas.flip(3)
        return self._cut(canvas, integer(0, self.extra, generator), integer(0, self.extra, generator))

    def final(self, canvas: Tensor) -> Tensor:
        """Smoothed and cut out of the middle."""
        return self._cut(canvas, self.extra // 2, self.extra // 2)

    def _cut(self, canvas: Tensor, top: int, left: int) -> Tensor:
        x = smoothed(canvas, 3, self.sigma) if self.sigma else canvas
        height, width = canvas.shape[2] - self.extra, canvas.shape[3] - self.extra
        x = x[:, :, top : top + height, left : left + width]
        return straight_clip(x, self.space) if self.clip else x

    def kinds(self) -> list[str]:
        """Names of what is done, for the record."""
        done = {"flip": self.flip, "blur": self.sigma, "crop": self.extra, "clip": self.clip}
        return [name for name, used in done.items() if used]


def straight_clip(x: Tensor, space: PixelSpace) -> Tensor:
    """``x`` [B,C,H,W] held in the valid box, with the gradient of ``x`` itself: a pixel beyond the edge can return."""
    low, high = space.box(x)
    return x + (x.detach().clamp(low, high) - x.detach())


@dataclass(frozen=True)
class Part:
    """Statistics of one group: of every batch norm's input, and of the images themselves."""

    taps: Stats
    pixels: Stats


def pixel_statistics(x: Tensor) -> Stats:
    """Mean and biased variance [C] of images [B,C,H,W], towards 0 and 1: normalised images are one layer more."""
    one = torch.ones(1, device=x.device)
    channels = x.shape[1]
    layout = Layout(
        target_mean=torch.zeros(channels, device=x.device),
        target_var=torch.ones(channels, device=x.device),
        segment=torch.zeros(channels, dtype=torch.int64, device=x.device),
        sizes=channels * one,
        weight=one,
        first=one,
    )
    x = x.float()
    counts = torch.tensor([x.numel() / channels], device=x.device)
    return Stats(x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0), counts, layout)


def measured(network: Network, x: Tensor) -> tuple[Tensor, Part]:
    """Logits [B,K] and statistics of images [B,C,H,W]."""
    logits, stats = network(x)
    assert stats is not None, "a network without batch norms was let through"
    return logits, Part(stats, pixel_statistics(x))


def set_loss(parts: Sequence[Part], *, input_term: bool = True) -> Tensor:
    """Mean over L layers and the images of the mean over channels of the squared errors of mean and deviation, of
    statistics pooled over all groups; scalar.  ``input_term`` False leaves the images out of sum and divisor."""
    taps = together([part.taps for part in parts])
    loss, layers = mse_gauss(taps), taps.layout.weight.sum()
    if input_term:
        loss, layers = loss + mse_gauss(together([part.pixels for part in parts])), layers + 1.0
    return loss / layers


def stretch_loss(logits: Tensor, *, inverse: bool) -> Tensor:
    """Minus the mean distance of each image's largest and smallest logit [B,K], or one over that mean; scalar."""
    distance = (logits.amax(1) - logits.amin(1)).mean()
    return 1.0 / distance.clamp(min=1e-6) if inverse else -distance


@dataclass(frozen=True)
class GroupSettings:
    """Numbers of the optimisation: passes over all groups, RAdam's rate, the plateau's ``patience`` in passes and
    whether it forgets its best loss at each fall of the rate (``reset``), the logits' term, the images' term."""

    iterations: int
    lr: float
    patience: int
    reset: bool
    stretch: float
    inverse: bool
    input_term: bool


class _Group:
    """One group's canvas, optimiser and schedule."""

    def __init__(self, canvas: Tensor, settings: GroupSettings, lr: float) -> None:
        self.canvas = canvas.detach().clone().requires_grad_()
        self.reset = settings.reset
        self.optimiser = torch.optim.RAdam([self.canvas], lr=lr, foreach=False)
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=0.5, patience=settings.patience, min_lr=1e-4
        )

    @property
    def lr(self) -> float:
        """The rate of the next step."""
        return float(self.optimiser.param_groups[0]["lr"])

    def step(self, loss: Tensor) -> None:
        """Move along ``loss``'s gradient, then look at the loss itself."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        before = self.lr
        self.plateau.step(float(loss.detach()))
        if self.reset and self.lr < before:
            self.plateau.best = math.inf


@dataclass
class SetInversion:
    """Optimises copies of canvases [set,C,H+e,W+e], in groups of ``batch``, against ``network``."""

    network: Network
    canvas: Canvas
    settings: GroupSettings
    ctx: RunContext
    batch: int
    losses: Mapping[str, float] = field(default_factory=dict)
    done: int = 0

    def __call__(self, init: Tensor) -> Inverted:
        """Final images [set,C,H,W]; one retry at half the rate.

        Raises:
            NonFiniteLoss: when the retry fails too.
        """
        lr, failed = self.settings.lr, dict[int, int]()
        try:
            return self._attempt(init, lr)
        except NonFiniteLoss as error:
            self.ctx.logger.warning("%s; trying again with learning rate %g", error, lr / 2)
            failed = {1: self.done}
        return replace(self._attempt(init, lr / 2), retried=True, failed=failed)

    def _attempt(self, init: Tensor, lr: float) -> Inverted:
        groups = [_Group(part, self.settings, lr) for part in init.split(self.batch)]
        parts = [self._refreshed(group) for group in groups]
        self.done = 0
        for number in range(self.settings.iterations):
            found = self._pass(groups, parts)
            self.done += 1
            self._log(number, found, sum(group.lr for group in groups) / len(groups))
        images = torch.cat([self.canvas.final(group.canvas.detach()) for group in groups])
        return Inverted(
            images=images,
            losses=self.losses,
            iterations={1: self.done},
            clipped=edge_fraction(images, self.canvas.space),
            lr=lr,
            retried=False,
        )

    @torch.no_grad()
    def _refreshed(self, group: _Group) -> Part:
        return measured(self.network, self.canvas.final(group.canvas))[1]

    def _pass(self, groups: Sequence[_Group], parts: list[Part]) -> dict[str, Tensor]:
        """One step of each group, in random order; the mean over groups of each term."""
        settings, seen = self.settings, list[dict[str, Tensor]]()
        for index in torch.randperm(len(groups), generator=self.ctx.generator).tolist():
            group = groups[index]
            logits, own = measured(self.network, self.canvas.view(group.canvas, self.ctx.generator))
            terms = {"bn": set_loss([*parts[:index], own, *parts[index + 1 :]], input_term=settings.input_term)}
            if settings.stretch:
                terms["stretch"] = settings.stretch * stretch_loss(logits, inverse=settings.inverse)
            loss = torch.stack(list(terms.values())).sum()
            group.step(loss)
            parts[index] = self._refreshed(group)
            seen.append({"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}})
        return {name: torch.stack([one[name] for one in seen]).mean() for name in seen[0]}

    def _log(self, number: int, found: Mapping[str, Tensor], lr: float) -> None:
        """Curves, progress and the check for finiteness, about twenty times and at the end."""
        total = self.settings.iterations
        if number % max(1, min(100, total // 20)) and number != total - 1:
            return
        self.losses = {name: float(value) for name, value in found.items()}
        for name, value in {**self.losses, "lr": lr}.items():
            self.ctx.log_scalar(name, number, value)
        self.ctx.report("invert", number + 1, total)
        if not math.isfinite(self.losses["loss"]):
            raise NonFiniteLoss(f"loss is {self.losses['loss']} at pass {number}")
