"""What every source with a generator declares, and the way from a request to images, stored or step by step.

The training itself is in ``_generator_loop``; no torch here until something is computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench.interfaces import ImageBatch, ImageStream, MethodParams, ModelHandle, Offer, RunContext, SynthRequest
from methods.sources._base import Defaults
from methods.sources._settings import Beta, Kappa

if TYPE_CHECKING:
    from methods.sources._generator_loop import GeneratorTrainer, Sampled


class GeneratorParams(MethodParams):
    """``iterations`` of ``batch`` images train one generator, which makes ``images`` images.

    ``latent`` numbers enter it; ``width`` (published: 128) and ``eps`` shape it.  Adam's rate falls tenfold at each of
    ``milestones`` (iterations).  ``warmup`` iterations of a stream pass before the student sees an image.
    """

    iterations: int = Field(10_000, ge=1)
    batch: int = Field(128, ge=2)
    images: int = Field(1024, ge=1)
    lr: float = Field(1e-3, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    latent: int = Field(100, ge=1)
    width: int = Field(128, ge=2)
    eps: float = Field(0.8, gt=0)
    milestones: tuple[int, ...] = ()
    warmup: int = Field(0, ge=0)


class ConditionalParams(GeneratorParams):
    """``bn_weight`` of the statistics, or ``kappa``; ``condition`` says where a class enters: the latent, or the batch
    norms too."""

    betas: tuple[Beta, Beta] = (0.5, 0.999)
    bn_weight: float = Field(0.1, ge=0)
    kappa: Kappa = None
    condition: Literal["latent", "norms"] = "latent"


GDFQ: Mapping[str, Mapping[str, Any]] = {
    "mini": {"iterations": 300, "width": 64, "warmup": 30},
    "thorough": {"iterations": 10_000, "warmup": 800, "milestones": (20_000, 40_000, 60_000)},
    "paper": {
        "iterations": 10_000,
        "batch": 16,
        "condition": "norms",
        "warmup": 10_000,
        "milestones": (20_000, 40_000, 60_000),
    },
}
"""GDFQ's training by preset, which generators made after it keep."""


class DaflParams(GeneratorParams):
    """Weights of the one-hot, activation and information-entropy terms; the defaults are the authors' for CIFAR-10."""

    iterations: int = Field(12_000, ge=1)
    batch: int = Field(256, ge=2)
    latent: int = Field(256, ge=1)
    one_hot: float = Field(0.05, ge=0)
    activation: float = Field(0.01, ge=0)
    entropy: float = Field(5.0, ge=0)


class GeneratorSource(Defaults, ABC):
    """DataSource that trains a generator; a subclass builds generator and objective, and says what to sample."""

    version: int = 4
    offers: frozenset[Offer] = frozenset({"stream"})

    @abstractmethod
    def check(self, params: Any, models: tuple[ModelHandle, ...]) -> None:
        """See the Protocol."""

    @abstractmethod
    def build(self, request: SynthRequest, ctx: RunContext, params: Any) -> GeneratorTrainer:
        """A fresh generator with its objective; ``params`` are the request's, or those with half the rate."""

    def batch_size(self, params: Any) -> int:
        """Images of one generator, which is one stored batch."""
        return int(params.images)

    def stream(self, request: SynthRequest, ctx: RunContext) -> ImageStream:
        """A generator that is trained while the images are used; a function of request and generator only."""
        from methods.sources._generator_loop import GeneratorStream

        self.check(request.params, request.models)
        return GeneratorStream(self.build(request, ctx, request.params), self.label_kind)

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Train one generator and sample it; one retry at half the rate when the loss leaves the finite numbers.

        Raises:
            NonFiniteLoss: when the retry fails too.
        """
        from methods.sources._generator_loop import is_logged
        from methods.sources._inversion import NonFiniteLoss

        params, failed = request.params, 0.0
        self.check(params, request.models)
        for retried in (False, True):
            trainer = self.build(request, ctx, params)
            try:
                for step in range(params.iterations):
                    log = is_logged(step, params.iterations)
                    trainer.step(log=log)
                    if log:
                        ctx.report("train generator", step + 1, params.iterations)
                return self._packed(trainer, request, ctx, failed if retried else None)
            except NonFiniteLoss as error:
                if retried:
                    raise
                failed = trainer.forward_equivalents
                ctx.logger.warning("%s; trying again with learning rate %g", error, params.lr / 2)
                params = params.model_copy(update={"lr": params.lr / 2})
        raise AssertionError("unreachable")

    def sampled(self, trainer: GeneratorTrainer, request: SynthRequest, ctx: RunContext) -> Sampled:
        """The stored batch: latents drawn anew, classes (where there are any) in turn over the whole set."""
        import torch

        from methods.sources._generator_loop import full

        first = request.batch_index * request.batch_size
        wanted = torch.arange(first, first + full(request.batch_size, trainer.params.batch)) % request.dataset.classes
        parts = [trainer.objective.draw(classes) for classes in wanted.split(trainer.params.batch)]
        return trainer.sample(parts).rows(torch.arange(request.batch_size))

    def described(self, trainer: GeneratorTrainer, made: Sampled) -> Mapping[str, Any]:
        """More for the record of a stored batch (JSON)."""
        return {}

    def _packed(
        self, trainer: GeneratorTrainer, request: SynthRequest, ctx: RunContext, failed: float | None
    ) -> ImageBatch:
        """Sample and describe; ``failed`` is what an attempt before this one cost, None for a first one."""
        import torch

        from methods.sources._augment import PixelSpace
        from methods.sources._inversion import edge_fraction

        made = self.sampled(trainer, request, ctx)
        space = PixelSpace.of(request.dataset)
        teacher = trainer.objective.teacher.name
        info = {
            "models": [teacher],
            "delivery": "cached",
            "losses": {name: float(value) for name, value in trainer.terms.items()},
            "iterations": {"1/1": trainer.done},
            "lr": trainer.params.lr,
            "retried_at_half_lr": failed is not None,
            "clipped": edge_fraction(made.images, space),
            "histogram": torch.bincount(made.labels, minlength=request.dataset.classes).tolist(),
            "clean_bn": {} if made.bn is None else {teacher: made.bn},
            "generator_macs_ratio": trainer.macs_ratio,
            **trainer.objective.info(),
            **self.described(trainer, made),
        }
        if self.label_kind == "assigned":
            info["top1"] = {teacher: float(made.right.float().mean() * 100.0)}
        cost = trainer.forward_equivalents + made.cost + (failed or 0.0)
        return ImageBatch(made.images, made.labels, made.soft_labels, cost, info)
