"""What the compressors share whose bits depend on the image: parameters, and the way from a request to a network
(docs/methods/compressors.md#dynamic).

The training is that of the other quantisation-aware trainers (see `methods.compressors._qat`) with a choice of bits in
it; a method gives what chooses and how bits are held down.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from bench.errors import NotApplicable
from bench.interfaces import (
    FLOAT_BITS,
    Batch,
    Compressed,
    Delivery,
    ImageSet,
    ModelHandle,
    Offer,
    RunContext,
    Setting,
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

if TYPE_CHECKING:
    from torch import Tensor

    from methods.compressors._dynamic_training import BitLoss, Seen
    from methods.quant.dynamic import DynamicModel
    from methods.quant.dynamic_tensors import Choices

Bits = Annotated[int, Field(ge=2, le=8)]


class DynamicParams(QatParams):
    """As QatParams, and what there is of a choice.

    ``candidates`` are bits of activations, by default the setting's, one less and one more (within 2 to 8); their mean
    over images is to be the setting's.  ``weights`` fixed have the setting's bits; follow: as many more or less as the
    layer's input has.  ``bn`` switch gives each candidate its own batch normalisation.  ``quantiser`` is `lsq`'s or
    `pact`'s, the latter starting at ``quantile``.  ``selector_lr`` is the rate of Adam for what chooses.  ``settle``
    tilts all selectors by one number after the training so that the mean over the first ``bits_images`` images, of
    which usage is reported, is the setting's.
    """

    bn_freeze: float = Field(default=1.0, ge=0, le=1)
    candidates: Annotated[tuple[Bits, ...], Field(min_length=1)] | None = None
    weights: Literal["fixed", "follow"] = "fixed"
    bn: Literal["shared", "switch"] = "shared"
    quantiser: Literal["lsq", "pact"] = "lsq"
    quantile: float = Field(default=0.999, gt=0, le=1)
    selector_lr: float = Field(default=1e-3, ge=0, le=10)
    settle: bool = True
    bits_images: int = Field(default=1024, ge=1)

    @field_validator("candidates")
    @classmethod
    def _ascending(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and len(set(value)) < len(value):
            raise ValueError("a candidate stands there twice")
        return value if value is None else tuple(sorted(value))

    def candidates_for(self, setting: Setting) -> tuple[int, ...]:
        """Bits of the activations that images choose from at ``setting``, ascending.

        Raises:
            NotApplicable: the setting leaves activations in floating point, or no mean of them is what it asks for.
        """
        asked = setting.act_bits
        if asked >= FLOAT_BITS:
            raise NotApplicable("activations stay in floating point, so there are no bits to choose", got="A32")
        near = tuple(bits for bits in (asked - 1, asked, asked + 1) if 2 <= bits <= 8)
        found = near if self.candidates is None else self.candidates
        if not found[0] <= asked <= found[-1]:
            raise NotApplicable(
                "no mean of the candidates is what the setting asks for",
                where=f"candidates: {list(found)}",
                got=f"A{asked}",
                expected=f"A{found[0]} to A{found[-1]}",
            )
        return found

    def weights_for(self, setting: Setting, candidates: tuple[int, ...]) -> tuple[int, ...]:
        """Bits of the weights beside each candidate, () where they are the setting's."""
        if self.weights == "fixed" or len(candidates) == 1 or setting.weight_bits >= FLOAT_BITS:
            return ()
        return tuple(min(max(setting.weight_bits + bits - setting.act_bits, 2), 8) for bits in candidates)


def family_of(params: DynamicParams) -> Family:
    """The quantisers of `lsq` or `pact`, as their own files have them."""
    from methods.quant.learned import PactActivation, StepActivation
    from methods.quant.learned_weights import DorefaWeight, LsqWeight
    from methods.quant.training_parts import Makers

    init, relative = params.init, params.relative_steps
    if params.quantiser == "pact":
        return Family(
            Makers(
                lambda weight, bits: DorefaWeight(weight, bits, rescale=True),
                lambda bits, nonnegative: PactActivation(bits, nonnegative, params.quantile, relative=relative),
            ),
            "dorefa",
            "unsigned after ReLU or the like, else affine",
            "rescaled to the weight's norm",
            "learned clip",
            decayed=("alpha", "beta"),
        )
    return Family(
        Makers(
            lambda weight, bits: LsqWeight(weight, bits, init, relative=relative),
            lambda bits, nonnegative: StepActivation(bits, nonnegative, init, relative=relative),
        ),
        "symmetric",
        "unsigned after ReLU or the like, else symmetric",
        f"learned from {init}",
        f"learned from {init}",
    )


def compress(
    model: ModelHandle,
    images: ImageSet,
    setting: Setting,
    params: DynamicParams,
    choices: Choices,
    bit_loss: BitLoss,
    ctx: RunContext,
    *,
    noisy: bool = False,
) -> Compressed:
    """Train a copy of ``model`` on ``images`` in which each image chooses bits, taught by ``model`` or by the context's
    teacher; ``noisy`` choices are drawn by Gumbel noise.

    Raises:
        NotApplicable: labels are asked for, and the images have none; there is a teacher, and it is asked nothing.
        BenchError: a loss is not finite.
    """
    import torch

    from methods.compressors._dynamic_training import look_at, settle, train_dynamic
    from methods.compressors._feed import feed, offered, order_weights
    from methods.quant.dynamic import DynamicModel

    check_answers(images, params, ctx)
    data, batches = feed(images, params.batch, ctx, params.calibration)
    own = torch.Generator()
    if len(choices.inputs) > 1 and (noisy or choices.selector == "joint"):  # else it draws what a static training does
        own.manual_seed(int(torch.randint(2**62, (), generator=ctx.generator)))
    family = family_of(params)
    net = DynamicModel(model.module, data[:2], setting, family.makers, choices, own)
    losses = losses_of(params, net.taps)
    teacher, look = teacher_of(net, model, losses, ctx)
    for part in (net.student, teacher):
        order_weights(part)
    net.begin(data)
    if net.reason:
        ctx.logger.warning("%s: no feature loss, the network cannot be traced: %s", model.name, net.reason)
    if len(choices.inputs) > 1 and not net.dynamic:
        ctx.logger.warning("%s: no tensor whose bits an image could choose", model.name)
    net.draw(own if noisy else None)
    curve = train_dynamic(
        net,
        teacher,
        batches,
        schedule_of(params),
        optimiser_of(params),
        losses,
        bit_loss,
        ctx,
        selector_lr=params.selector_lr,
        hooks=views(params, model) + offered(images, params.source_hook),
        decayed=[p for q in net.activations for n, p in q.named_parameters() if n.rpartition(".")[2] in family.decayed],
        look=look,
        learn=2.0 * net.passes,
    )
    passes, report = 0.0, curve.report() | {"labels": params.labels}
    if net.dynamic:
        chosen = _first(images, batches, params, ctx)
        count, tilt = sum(map(len, chosen)), 0.0
        if params.settle:
            tilt, looked = settle(net, chosen, bit_loss.target)
            passes += looked * count
        seen: Seen = look_at(net, chosen, teacher)
        passes += (1.0 + look) * count
        report |= seen.report(choices.inputs) | {
            "tilt": tilt,
            "bit_weight": bit_loss.weight,
            "asked_bits": bit_loss.target,
        }
        report |= {"bits_images": count, "selector_macs": sum(p.numel() for p in net.selectors if p.dim() > 1)}
    report |= {"features": list(net.taps), "images": len(images.images)}
    report |= {"delivery": "cached" if images.stream is None else "stream"}
    return Compressed((_variant(net, setting, family, params),), report, curve.passes + len(data) + passes)


def _variant(net: DynamicModel, setting: Setting, family: Family, params: DynamicParams) -> Any:
    """The network for ``setting``, and what each image takes of it."""
    from methods.quant.choosing import PerImage

    protocol: dict[str, Any] = {"dynamic": list(net.choices.inputs)}
    if net.choices.weights:
        protocol["dynamic_weights"] = list(net.choices.weights)
    if net.choices.norms:
        protocol["dynamic_norms"] = True
    variant = finished(net, setting, family, **protocol)
    if not isinstance(variant.module, PerImage):
        return variant
    return replace(variant, image_bitops=net.image_bitops(variant.module), bits_between=net.bits_between())


def _first(images: ImageSet, batches: Iterator[Batch], params: DynamicParams, ctx: RunContext) -> list[Tensor]:
    """The first images of a stored set, or a stream's next ones, in batches on the context's device."""
    from methods.compressors._feed import ordered

    if images.stream is None:
        return [ordered(part, ctx) for part in images.images[: params.bits_images].split(params.batch)]
    count = -(-params.bits_images // images.stream.batch_size)
    return [batch.images for batch in itertools.islice(batches, count)]


def labels_where_there_are(params: Any, images: ImageSet) -> Any:
    """``params`` without the loss by labels where the images have none of the target's classes."""
    labelled = images.stream is not None or images.labels is not None or images.soft_labels is not None
    known = labelled and images.label_kind not in ("foreign", "none")
    return params if known else params.model_copy(update={"labels": 0.0})


class DynamicCompressor(ForWeightedLayers, ABC):
    """What they have in common; a method adds its names, version and parameters, what chooses, and the loss on bits."""

    accepts = frozenset({"bits"})
    deliveries: frozenset[Delivery] = frozenset({"cached", "stream"})
    offers: frozenset[Offer] = frozenset({"teacher"})

    @abstractmethod
    def choices(self, params: Any, setting: Setting) -> Choices:
        """What images choose from, and how."""

    @abstractmethod
    def bit_loss(self, params: Any, setting: Setting) -> BitLoss:
        """What bits cost in training."""
