"""What the quantisation-aware trainers share: hyper-parameters, presets, and the way from a request to a network.

See docs/methods/compressors.md#training, #presets; MixMix (ICCV 2021), section 5.2 and appendix.  A method gives its
quantisers and names its grids.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench.errors import NotApplicable
from bench.interfaces import (
    BatchHook,
    Compressed,
    Delivery,
    ImageSet,
    MethodParams,
    ModelHandle,
    Offer,
    RunContext,
    Setting,
    Variant,
)
from methods.compressors._base import ForWeightedLayers
from methods.quant.choices import StepInit

if TYPE_CHECKING:
    from torch import nn

    from methods.compressors._distillation import Losses
    from methods.compressors._training import Optimiser, Schedule
    from methods.quant.training import TrainedModel
    from methods.quant.training_parts import Makers

Share = Field(ge=0, le=1)

PAPER_STEPS = 44_000
DROPS = (4_000 / PAPER_STEPS, 10_000 / PAPER_STEPS, 20_000 / PAPER_STEPS)
"""MixMix's drops as shares of its 44,000 steps; BN statistics stay from the second on."""


class QatParams(MethodParams):
    """Settings of the training (docs/methods/compressors.md#training).

    ``shape`` drops multiplies lr by 0.1 at the shares ``drops`` of the steps, cosine lets it fall to 0; ``bn_freeze``
    is the share of the steps after which BN statistics stay (0 for noise-like images: never updated).  ``features`` is
    the weight of the feature loss, ``relative`` divides each feature's by the teacher's mean square; ``kl`` and
    ``labels`` weigh the KL and the cross-entropy with the images' own labels (a recipe without distillation: 0 and 1).
    ``clip`` bounds the gradient's norm (0: never).  ``augment`` paper is MixMix's, flip its flips alone.  ``init``
    chooses where steps start, from ``calibration`` images.
    """

    steps: int = Field(default=1000, ge=0, le=1_000_000)
    batch: int = Field(default=64, ge=1, le=4096)
    optimiser: Literal["sgd", "adam"] = "adam"
    lr: float = Field(default=0.005, ge=0, le=10)
    shape: Literal["drops", "cosine"] = "cosine"
    drops: tuple[float, ...] = DROPS
    momentum: float = Field(default=0.9, ge=0, lt=1)
    decay: float = Field(default=1e-4, ge=0, le=1)
    clip: float = Field(default=5.0, ge=0)
    bn_freeze: float = Field(default=DROPS[1], ge=0, le=1)
    temperature: float = Field(default=3.0, gt=0, le=100)
    squared: bool = True
    features: float = Field(default=3.0, ge=0, le=1e6)
    relative: bool = False
    kl: float = Field(default=1.0, ge=0, le=1e3)
    labels: float = Field(default=0.0, ge=0, le=1e3)
    augment: Literal["none", "flip", "paper"] = "flip"
    blur_sigma: tuple[float, float] = (0.1, 0.5)
    init: StepInit = "mse"
    source_hook: bool = False
    calibration: int = Field(default=256, ge=1)

    @property
    def relative_steps(self) -> bool:
        """Whether learned steps and clips are multiples of their start values."""
        return self.optimiser == "adam"


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "mini": {},
    "thorough": {
        "steps": 1000,
        "optimiser": "sgd",
        "lr": 0.004,
        "shape": "drops",
        "features": 300.0,
        "augment": "paper",
        "init": "lsq",
    },
    "paper": {
        "steps": PAPER_STEPS,
        "batch": 128,
        "optimiser": "sgd",
        "lr": 0.04,
        "shape": "drops",
        "features": 300.0,
        "augment": "paper",
        "blur_sigma": (1.0, 2.0),
        "init": "lsq",
        "calibration": 128,
    },
}


@dataclass(frozen=True)
class Family:
    """What a method brings: its quantisers, its grids in words (for the protocol), and which parameters of the
    activation quantisers weight decay acts on (by name; PACT's clips)."""

    makers: Makers
    weight_grid: str
    activation_grid: str
    weight_range: str
    activation_range: str
    decayed: tuple[str, ...] = ()


def views(params: QatParams, model: ModelHandle) -> tuple[BatchHook, ...]:
    """The augmentation that ``params`` ask for."""
    from methods.compressors._augment import Views

    if params.augment == "none":
        return ()
    if params.augment == "flip":
        return (Views(model.mean, model.std, jitter=(0, 0, 0, 0), grey=0, blur=0),)
    return (Views(model.mean, model.std, sigma=params.blur_sigma),)


def compress(
    model: ModelHandle, images: ImageSet, setting: Setting, params: QatParams, family: Family, ctx: RunContext
) -> Compressed:
    """Train a quantised copy of ``model`` on ``images``, taught by ``model``, and fold it into what is measured.

    Where the context has a teacher, the soft labels are its own; features are compared with those of ``model``, which
    has the same units.

    Raises:
        NotApplicable: labels are asked for, and the images have none; there is a teacher, and no soft labels are asked
            for.
        BenchError: the loss is not finite.
    """
    from methods.compressors._feed import feed, offered, order_weights
    from methods.compressors._training import train
    from methods.quant.training import TrainedModel

    check_answers(images, params, ctx)
    data, batches = feed(images, params.batch, ctx, params.calibration)
    net = TrainedModel(model.module, data[:2], setting, family.makers)
    losses = losses_of(params, net.taps)
    teacher, look = teacher_of(net, model, losses, ctx)
    for part in (net.student, teacher):
        order_weights(part)
    net.begin(data)
    if net.reason:
        ctx.logger.warning("%s: no feature loss, the network cannot be traced: %s", model.name, net.reason)
    curve = train(
        net.student,
        teacher,
        batches,
        schedule_of(params),
        optimiser_of(params),
        losses,
        ctx,
        hooks=views(params, model) + offered(images, params.source_hook),
        decayed=[p for quant in net.activations for name, p in quant.named_parameters() if name in family.decayed],
        settle=net.keep_positive,
        look=look,
    )
    variant = finished(net, setting, family)
    delivery = "cached" if images.stream is None else "stream"
    report = curve.report() | {"features": list(net.taps), "images": len(images.images), "delivery": delivery}
    return Compressed((variant,), report, curve.passes + len(data))


def check_answers(images: ImageSet, params: QatParams, ctx: RunContext) -> None:
    """Raise NotApplicable where labels are asked for, and the images have none, or where there is a teacher, and no
    soft labels are asked for."""
    if params.labels:
        check_labels(images, f"labels: {params.labels:g}")
    if ctx.teacher is not None and not params.kl:
        raise NotApplicable("the recipe asks its teacher nothing", where=ctx.teacher.name, got="kl: 0")


def check_labels(images: ImageSet, asked: str) -> None:
    """Raise NotApplicable unless the images have labels of the target's classes, which ``asked`` (a parameter and its
    value) needs."""
    labelled = images.stream is not None or images.labels is not None or images.soft_labels is not None
    if not labelled or images.label_kind == "foreign":
        what = "labels of other classes" if labelled else "none"
        raise NotApplicable(f"the recipe needs labels, and these images have {what}", got=asked)


def finished(net: TrainedModel, setting: Setting, family: Family, **protocol: Any) -> Variant:
    """The trained ``net``, which is used up, as the variant for ``setting``; ``protocol`` adds to its own."""
    from methods.quant.integer import trained_integers

    module = net.export()
    levels = net.weight_levels(module)
    own = net.protocol(family.weight_grid, family.activation_grid, family.weight_range, family.activation_range)
    return Variant(
        setting,
        module,
        net.layer_bits(),
        net.scale_count(module),
        net.zero_point_count(),
        weight_levels=levels,
        activation_levels=net.activation_levels(),
        protocol={**own, **protocol},
        inspection=net.inspection(module),
        integers=partial(trained_integers, module, net.grids, tuple(levels)),
    )


def schedule_of(params: QatParams) -> Schedule:
    """Steps and learning rates."""
    from methods.compressors._training import Schedule

    return Schedule(params.steps, params.batch, params.lr, params.shape, params.drops, bn_freeze=params.bn_freeze)


def optimiser_of(params: QatParams) -> Optimiser:
    """What moves the parameters."""
    from methods.compressors._training import Optimiser

    return Optimiser(kind=params.optimiser, momentum=params.momentum, decay=params.decay, clip=params.clip or None)


def losses_of(params: QatParams, taps: tuple[str, ...]) -> Losses:
    """What is minimised; no features where none are tapped."""
    from methods.compressors._distillation import Losses

    features = params.features if taps else 0.0
    return Losses(params.temperature, params.squared, features, params.relative, params.kl, params.labels)


def teacher_of(net: TrainedModel, model: ModelHandle, losses: Losses, ctx: RunContext) -> tuple[nn.Module, float]:
    """What the student is compared with, and the forward-equivalents of its answer to one image."""
    from methods.compressors._taught import Taught

    if ctx.teacher is None:
        return net.teacher, 1.0
    taught = Taught(ctx.teacher, model, net.teacher if losses.features else None).to(ctx.device)
    return taught, taught.look


class QatCompressor(ForWeightedLayers, ABC):
    """What the trainers have in common; a method adds its names, version, parameters and quantisers."""

    accepts = frozenset({"bits"})
    deliveries: frozenset[Delivery] = frozenset({"cached", "stream"})
    offers: frozenset[Offer] = frozenset({"teacher"})
    presets: Mapping[str, Mapping[str, Any]] = PRESETS

    @abstractmethod
    def family(self, params: Any) -> Family:
        """The method's quantisers with ``params``."""

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Train a quantised copy of ``model`` at ``setting``'s bits, taught by ``model`` or by the context's teacher;
        the report holds the losses.

        Raises:
            NotApplicable: the recipe needs labels that the images lack, or asks its teacher nothing.
            BenchError: the loss is not finite.
        """
        return compress(model, images, setting, params, self.family(params), ctx)
