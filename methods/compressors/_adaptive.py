"""What the adaptive compressors share: parameters, presets, and the way from a request to a network of each width
(docs/methods/compressors.md#adaptive).

The training is that of the other quantisation-aware trainers (see `methods.compressors._qat`) at several widths at
once; a method gives its `Course`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from bench.interfaces import (
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
from methods.compressors._qat import (
    Family,
    QatParams,
    check_answers,
    finished,
    losses_of,
    optimiser_of,
    schedule_of,
    teacher_of,
    views,
)
from methods.quant.choices import ClipStart, WeightGrid, WeightScale
from methods.quant.widths import Widths, widths_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench.interfaces import Batch
    from methods.compressors._adaptive_training import Course
    from methods.quant.adaptive import AdaptiveModel
    from methods.quant.learned_weights import WeightMaker
    from methods.quant.training_parts import Makers

Bits = Annotated[int, Field(ge=2, le=8)]

CIFAR_STEPS = 350 * 390
"""CoQuant's 350 epochs on CIFAR-10 in batches of 128, incomplete ones left out."""


class AdaptiveParams(QatParams):
    """As QatParams, and what there is of several widths.

    ``widths`` are trained; a width of b is the setting asked for with b bits at most.  ``zero_shot`` ones are evaluated
    only, with clips and batch normalisation of the nearest trained width that is not narrower, statistics taken anew
    from the first ``bn_images`` images where ``calibrate`` says so.  ``weights`` is their grid, ``rescale`` what they
    are multiplied by; ``clips`` are each width's own or shared, start at ``alpha`` (a number, the ``quantile`` of the
    first images or their least squared error), learn at ``alpha_lr`` times lr and decay by ``alpha_decay``.
    """

    lr: float = Field(default=0.0025, ge=0, le=10)
    bn_freeze: float = Field(default=1.0, ge=0, le=1)
    widths: Annotated[tuple[Bits, ...], Field(min_length=1)] = (8, 6, 4, 2)
    zero_shot: tuple[Bits, ...] = (7, 5, 3)
    calibrate: bool = True
    bn_images: int = Field(default=2000, ge=1)
    weights: WeightGrid = "centred"
    rescale: WeightScale = "norm"
    clips: Literal["own", "shared"] = "own"
    alpha: ClipStart | Annotated[float, Field(gt=0, le=1e3)] = "mse"
    quantile: float = Field(default=0.999, gt=0, le=1)
    alpha_lr: float = Field(default=1.0, ge=0, le=100)
    alpha_decay: float = Field(default=1e-4, ge=0, le=1)

    @field_validator("widths", "zero_shot")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a width stands there twice")
        return tuple(sorted(value, reverse=True))


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "mini": {},
    "thorough": {"steps": 4000},
    "paper": {
        "steps": CIFAR_STEPS,
        "batch": 128,
        "optimiser": "sgd",
        "lr": 0.1,
        "shape": "drops",
        "drops": (150 / 350, 225 / 350, 270 / 350),
        "clip": 0.0,
        "temperature": 1.0,
        "features": 0.0,
        "kl": 0.0,
        "labels": 1.0,
        "weights": "modified",
        "alpha": 8.0,
    },
}
"""``paper`` is CoQuant's supplementary Table 2, CIFAR-10 with ResNet-18."""

CourseMaker = Callable[["AdaptiveModel", "torch.Generator"], "Course"]
"""(the network, a generator of its own) -> who teaches whom."""


def compress(
    model: ModelHandle, images: ImageSet, widths: Widths, params: AdaptiveParams, make: CourseMaker, ctx: RunContext
) -> Compressed:
    """Train a copy of ``model`` at all ``widths`` on ``images``, taught by ``model`` or by the context's teacher, and
    fold each into what is measured.

    Raises:
        NotApplicable: labels are asked for, and the images have none; there is a teacher, and it is asked nothing.
        BenchError: a loss is not finite.
    """
    import torch

    from methods.compressors._adaptive_training import groups, name, train_widths
    from methods.compressors._feed import feed, offered, order_weights, ordered
    from methods.quant.adaptive import AdaptiveModel

    check_answers(images, params, ctx)
    # Drawn first and by every method, so that rows that are compared train on the same batches.
    own = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=ctx.generator)))
    data, batches = feed(images, params.batch, ctx, params.calibration)
    makers, last = _quantisers(params)
    net = AdaptiveModel(model.module, data[:2], widths, makers, tied=params.clips == "shared", last=last)
    losses = losses_of(params, net.taps)
    teacher, look = teacher_of(net, model, losses, ctx)
    for part in (net.student, teacher):
        order_weights(part)
    net.begin(data)
    if net.reason:
        ctx.logger.warning("%s: no feature loss and no blocks, it cannot be traced: %s", model.name, net.reason)
    course = make(net, own)
    curve = train_widths(
        net,
        teacher,
        batches,
        schedule_of(params),
        optimiser_of(params),
        losses,
        course,
        ctx,
        parameters=groups(net, params.decay, params.alpha_lr, params.alpha_decay),
        hooks=views(params, model) + offered(images, params.source_hook),
        look=look,
    )
    net.add_zero_shot()
    looked = 0
    if widths.zero_shot and params.calibrate and net.normalised:
        chosen = _calibration(images, batches, params)
        looked = sum(map(len, chosen))
        for place in range(len(widths.trained), len(widths.all)) if looked else ():
            net.calibrate(place, (ordered(part, ctx) for part in chosen))
    variants = tuple(_variant(net, place, params, bool(looked)) for place in range(len(widths.all)))
    report = curve.report() | {
        "features": list(net.taps),
        "images": len(images.images),
        "delivery": "cached" if images.stream is None else "stream",
        "widths": [name(setting) for setting in widths.trained],
        "calibration_images": looked,
        "blocks": list(net.blocks),
        **course.report(),
    }
    return Compressed(variants, report, curve.passes + len(data) + looked * len(widths.zero_shot))


def _quantisers(params: AdaptiveParams) -> tuple[Makers, WeightMaker]:
    """What makes the quantisers of a width, and those of the last layer's weight: SAT's factor is for that one, whose
    scale no normalisation sets."""
    from methods.quant.learned import PactActivation
    from methods.quant.learned_weights import SquashedWeight
    from methods.quant.training_parts import Makers

    inner: WeightScale = "none" if params.rescale == "sat" else params.rescale
    return (
        Makers(
            lambda weight, bits: SquashedWeight(weight, bits, params.weights, inner),
            lambda bits, nonnegative: PactActivation(
                bits, nonnegative, params.quantile, relative=params.relative_steps, start=params.alpha
            ),
        ),
        lambda weight, bits: SquashedWeight(weight, bits, params.weights, params.rescale),
    )


def _calibration(images: ImageSet, batches: Iterator[Batch], params: AdaptiveParams) -> list[Tensor]:
    """The first images of a stored set, or a stream's next ones, in batches; a single image has no variance."""
    if images.stream is None:
        chosen = list(images.images[: params.bn_images].split(params.batch))
    else:
        count = -(-params.bn_images // images.stream.batch_size)
        chosen = [batch.images for batch in itertools.islice(batches, count)]
    return [part for part in chosen if len(part) > 1]


SCALES: Mapping[WeightScale, str] = {
    "norm": "rescaled to the weight's norm",
    "sat": "[-1, 1], the last layer's rescaled to a spread",
    "none": "[-1, 1]",
}


def _variant(net: AdaptiveModel, place: int, params: AdaptiveParams, calibrated: bool) -> Variant:
    """The network at the width of this place."""
    from methods.compressors._adaptive_training import name

    trained = len(net.widths.trained)
    start = params.alpha if isinstance(params.alpha, str) else f"{params.alpha:g}"
    family = Family(
        _quantisers(params)[0],
        params.weights,
        "unsigned after ReLU or the like, else affine",
        SCALES[params.rescale],
        f"learned clip from {start}" + (", one for all widths" if params.clips == "shared" and trained > 1 else ""),
    )
    return finished(
        net.single(place),
        net.settings[place],
        family,
        widths=[name(setting) for setting in net.widths.trained],
        zero_shot=place >= trained,
        calibrated=place >= trained and calibrated,
    )


class AdaptiveCompressor(ForWeightedLayers):
    """What they have in common; a method adds its names and version, and what departs: parameters, course, training."""

    accepts = frozenset({"bits"})
    deliveries: frozenset[Delivery] = frozenset({"cached", "stream"})
    offers: frozenset[Offer] = frozenset({"teacher"})
    presets: Mapping[str, Mapping[str, Any]] = PRESETS
    Params: type[MethodParams] = AdaptiveParams

    def course(self, params: Any) -> CourseMaker:
        """Who teaches whom with ``params``: nobody but the full-precision network and the labels."""
        from methods.compressors._adaptive_training import Course

        return lambda net, generator: Course()

    def variants(self, params: Any, setting: Setting) -> tuple[Setting, ...]:
        """The setting at each trained width, widest first, then at each other one: at most so many bits for weights and
        for activations, equal ones once."""
        return widths_of(setting, params.widths, params.zero_shot).all

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """One training of a copy of ``model``; a network of each width.

        Raises:
            NotApplicable: the recipe needs labels that the images lack, or asks its teacher nothing.
            BenchError: a loss is not finite.
        """
        return self.trained(model, images, widths_of(setting, params.widths, params.zero_shot), params, ctx)

    def trained(self, model: ModelHandle, images: ImageSet, widths: Widths, params: Any, ctx: RunContext) -> Compressed:
        """The networks of all ``widths`` from one training; raises as :meth:`compress`."""
        return compress(model, images, widths, params, self.course(params), ctx)
