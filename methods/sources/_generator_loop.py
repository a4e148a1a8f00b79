"""The one training loop of a generator, and the two ways its images leave it: stored, or step by step to a student.

``cached``: one generator is trained for ``iterations`` steps and makes one stored batch of ``images`` images, in
batches as large as those of its training.  More images than that come from a second generator with its own seed, so
that a stored batch never depends on how many are asked for.
``stream``: the same trainer is stepped from outside, once per batch that the student takes; the student is no part of
any objective here, so it never gets a gradient from the generator nor the other way round.

Cost: multiply-accumulates of every image through every network, the generator among them, a backward as many as a
forward, over those of one image through the network that is inverted (``SynthRequest.unit_macs``).
``generator_macs_ratio`` in the record is what one pass through the generator counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from bench.interfaces import ImageBatch, LabelKind, RunContext
from methods.sources._bn_taps import Stats, together
from methods.sources._generator_source import GeneratorParams
from methods.sources._generators import Codes, ImageGenerator
from methods.sources._inversion import NonFiniteLoss
from methods.sources._losses import l2norm
from methods.sources._objectives import Network


class GeneratorObjective(Protocol):
    """What a generator is trained for; draws its codes and holds whatever else is learned."""

    teacher: Network

    @property
    def macs(self) -> float:
        """Multiply-accumulates of the networks for one image of the last step, forward and backward."""

    def draw(self, classes: Tensor | None = None) -> Codes:
        """The codes of one training batch; with ``classes`` [B], one of these for each image, if it has any."""

    def backward(self, images: Tensor, codes: Codes, log: bool) -> tuple[Mapping[str, Tensor], Tensor]:
        """Add the gradient to the leaf ``images`` [B,C,H,W].

        Returns detached scalars, among them ``loss``, and the teacher's logits [B,K] of these images.
        """

    def stepped(self) -> None:
        """Called after the generator's step."""

    def info(self) -> Mapping[str, Any]:
        """More for the record (JSON)."""


class GeneratorTrainer:
    """One generator, its objective and its Adam."""

    def __init__(
        self,
        generator: ImageGenerator,
        objective: GeneratorObjective,
        params: GeneratorParams,
        ctx: RunContext,
        *,
        unit_macs: float,
        classes: int,
    ) -> None:
        self.generator, self.objective = generator.to(ctx.device), objective
        self.params, self.ctx, self.classes = params, ctx, classes
        self.unit_macs, self.macs_ratio = unit_macs, generator.body.macs / unit_macs
        self.optimiser = torch.optim.Adam(generator.parameters(), lr=params.lr, betas=params.betas, foreach=False)
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimiser, list(params.milestones))
        self.done, self.forward_equivalents, self.prefix = 0, 0.0, ""
        self.terms: Mapping[str, Tensor] = {}

    def step(self, *, log: bool = False) -> ImageBatch:
        """Train the generator on one batch; returns that batch as it was before the update, detached, on the device.

        Labels are the drawn classes, or the teacher's answers where nothing was drawn; with shares also soft ones.

        Raises:
            NonFiniteLoss: looked at only when ``log``.
        """
        codes = self.objective.draw().to(self.ctx.device)
        self.optimiser.zero_grad(set_to_none=True)
        images = self.generator(codes)
        leaf = images.detach().requires_grad_()
        self.terms, logits = self.objective.backward(leaf, codes, log)
        images.backward(leaf.grad)
        cost = len(images) * (self.objective.macs / self.unit_macs + 2.0 * self.macs_ratio)
        self.forward_equivalents += cost
        if log and not math.isfinite(float(self.terms["loss"])):
            raise NonFiniteLoss(f"loss is {float(self.terms['loss'])} at iteration {self.done}")
        self.optimiser.step()
        self.schedule.step()
        self.objective.stepped()
        if log:
            for name, value in self.terms.items():
                self.ctx.log_scalar(self.prefix + name, self.done, float(value))
        self.done += 1
        return self._batch(leaf.detach(), codes, logits, cost)

    @torch.no_grad()
    def sample(self, parts: Iterable[Codes]) -> Sampled:
        """Images of each of ``parts`` as one batch, and what the teacher says of them."""
        made: list[ImageBatch] = []
        look = self.macs_ratio + self.objective.teacher.macs / self.unit_macs
        seen: list[Stats] = []
        answers: list[Tensor] = []
        for part in parts:
            codes = part.to(self.ctx.device)
            images = self.generator(codes)
            logits, stats = self.objective.teacher(images)
            made.append(self._batch(images, codes, logits, look * len(images)))
            answers.append(logits)
            if stats is not None:
                seen.append(stats)
        soft = [batch.soft_labels for batch in made if batch.soft_labels is not None]
        labels = [batch.labels for batch in made if batch.labels is not None]
        return Sampled(
            images=torch.cat([batch.images for batch in made]).cpu(),
            labels=torch.cat(labels).cpu(),
            soft_labels=torch.cat(soft).cpu() if soft else None,
            logits=torch.cat(answers).cpu(),
            bn=float(l2norm(together(seen))) if seen else None,
            cost=sum(batch.forward_equivalents for batch in made),
        )

    def _batch(self, images: Tensor, codes: Codes, logits: Tensor, cost: float) -> ImageBatch:
        soft = None if codes.shares is None else codes.soft(self.classes)
        return ImageBatch(images.contiguous(), self._labels(codes, logits), soft, cost)

    def _labels(self, codes: Codes, logits: Tensor) -> Tensor:
        return logits.argmax(1) if codes.classes is None else codes.labels(self.classes)


@dataclass(frozen=True)
class Sampled:
    """Images [n,C,H,W], labels [n], soft labels [n,K] or None, the teacher's logits [n,K].

    ``bn`` is its BN loss (``l2norm``) over all images made, pooled as ``_objectives.inspect`` does, None without
    statistics; ``cost`` in forward-equivalents.
    """

    images: Tensor
    labels: Tensor
    soft_labels: Tensor | None
    logits: Tensor
    bn: float | None
    cost: float

    @property
    def right(self) -> Tensor:
        """Where the teacher agrees with the label [n]."""
        return self.logits.argmax(1) == self.labels

    def rows(self, order: Tensor) -> Sampled:
        """These rows in this order."""
        soft = None if self.soft_labels is None else self.soft_labels[order]
        return Sampled(self.images[order], self.labels[order], soft, self.logits[order], self.bn, self.cost)


class GeneratorStream:
    """See ``bench.interfaces.ImageStream``."""

    def __init__(self, trainer: GeneratorTrainer, label_kind: LabelKind) -> None:
        self.trainer, self.label_kind = trainer, label_kind
        self.batch_size, self.warmup = trainer.params.batch, trainer.params.warmup
        trainer.prefix = "generator_"  # the student logs its own loss in the same place

    @property
    def forward_equivalents(self) -> float:
        """So far, warm-up included."""
        return self.trainer.forward_equivalents

    def next_batch(self) -> ImageBatch:
        """One step of the generator; the first call makes the warm-up's before."""
        trainer = self.trainer
        while trainer.done < self.warmup:
            trainer.step(log=is_logged(trainer.done, trainer.params.iterations))
        return trainer.step(log=is_logged(trainer.done, trainer.params.iterations))

    def info(self) -> Mapping[str, Any]:
        """Steps made and the last logged loss terms."""
        losses = {name: float(value) for name, value in self.trainer.terms.items()}
        found = {"iterations": self.trainer.done, "losses": losses, "generator_macs_ratio": self.trainer.macs_ratio}
        return {**found, **self.trainer.objective.info()}


def is_logged(step: int, iterations: int) -> bool:
    """Every 100 iterations, more often in a short run, and the last."""
    return step % max(1, min(100, iterations // 20)) == 0 or step == iterations - 1


def full(count: int, size: int) -> int:
    """``count`` rounded up to full batches."""
    return -(-count // size) * size
