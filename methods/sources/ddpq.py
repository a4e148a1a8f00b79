"""DDPQ (Hong et al.): soft labels over similar classes, of controlled difficulty; easy images are mixed up late.

Only the supplementary material was at hand.  Its facts: difficult images are those confused among semantically similar
classes; difficulty is read off the entropy of the prediction; rows of the classification layer are prototypes of their
classes, so that similar classes are found without data (Section C, Figure S3); labels spread over the top-K similar
classes, K = 2 suffices, a large K drags in irrelevant classes (Figure S4); from half of the epochs on easy samples are
mixed up, which promotes the diversity of difficulty (Section B, Figure S1).

Here (docs/methods/sources.md#ddpq): Sim = cosine of the classifier's rows; the group of anchor a is a and the K - 1
classes most like it; label q, largest at the anchor; L_G = soft CE(T(x), q) + 0.1 ``mse_var`` with ``gdfq``'s body,
whose input (32 pixels) or class norms (224) are the q-weighted sum over the group.

What the supplement leaves open, with the choice made:
- similarity: the cosine; ``similarity: dot`` is the other reading (a public review of an earlier version names it).
- whether the anchor is one of the K: it is, so K = 1 is a one-hot label.
- the law of q: ``uniform`` over all falling shares (K = 2: (r, 1 - r), r ~ U(1/2, 1)); ``softmax`` of N(0, I_K) over
  ``temperature``; ``entropy``: e ~ U(0, 1), and drawn logits sharpened or flattened until H(q) = e log K.
- how plausibility is controlled: by taking similar classes.  ``groups: random`` is the control, the same shares on
  classes drawn at random; the record has the mean similarity (``plausibility``) of either.
- how images are made: a generator (``backend: generator``, also as a stream), or ``deepinversion``'s loop with the
  soft CE (``backend: direct``; the parameters ``pixel_*``; without that source's warm-up, restarts, first-layer factor
  and l2 prior).
- how a group enters the generator: sum_k q_k LN(e_k + z) (``entry: superposed``, ``qimera``'s with one z), since at
  ``mini`` its images follow their labels; by ``gdfq``'s own, sum_k q_k e_k * z (``entry: product``), they do not
  (below).
- what is easy: of each batch the half (``easy``) with the lowest entropy of the full-precision network's answer;
  ``easy_by: label`` takes that of the soft label, which costs no pass.
- mixup: the easy ones among themselves in one random cycle, x = l x_i + (1 - l) x_j and q alike, l ~ Beta(1, 1) for
  each image; difficult ones stay.  It replaces images, it adds none.
- progress: half of the steps of the training (``mix_from``), which differs from half of its epochs by less than one.

Deviations: mixup is a hook for whoever trains on the images (``source_hook: true``), never part of the stored ones.
The selection of bits is the compressor's.  With shares near one half the top-1 is no measure of an image, so the record
has the percentage of answers inside the group (``group_top1``) and difficulties beside it.  ``label`` is the anchor.
Delivery, ``warmup`` and ``mini`` as ``gdfq``; ``paper`` is GDFQ's setting, since none is printed.
Paper's figure (Table S1, with its own bit selection; ResNet-18 on ImageNet, about 4 bits): 67.47.
Ours (128 images of the zoo's VGG-8, MobileNetV2, one seed; ``mini``): answers inside the group 100, 100 %, rank
correlation of the answers' entropy with the label's 0.74, 0.71, BN loss 2.6, 21 (kw 4.6, 54; noise 30, 200), the anchor
read by three other networks 57, 55 % (the group 82, 84 %).  With gdfq's product and kappa 3: 91, 77 %, -0.16, -0.09,
7.2, 65, 36, 24 %.  Optimised directly: 100, 100 %, 0.75, 0.67, 3.3, 41, 61, 67 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench.errors import NotApplicable
from bench.interfaces import (
    Batch,
    ImageBatch,
    ImageStream,
    MethodParams,
    ModelHandle,
    Offer,
    RunContext,
    StudentLoss,
    SynthRequest,
)
from methods.sources._generator_source import GDFQ, ConditionalParams, GeneratorSource
from methods.sources._settings import Kappa

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from methods.sources._generator_loop import GeneratorTrainer, Sampled


@dataclass(frozen=True)
class Mixup:
    """Difficulty-aware mixup, a hook for whoever trains on the images: nothing before the share ``start`` of the
    training; then the share ``easy`` of each batch with the lowest entropy is mixed up among itself, the rest stays.

    ``by``: the entropy of the teacher's answer to the images, or of their labels.
    """

    easy: float = 0.5
    by: Literal["achieved", "label"] = "achieved"
    start: float = 0.5

    def __call__(self, batch: Batch, step: int, total: int, loss: StudentLoss, generator: torch.Generator) -> Batch:
        """The batch with its easy images and their labels mixed, in the old order."""
        import torch

        count = int(self.easy * len(batch.images))
        if step < self.start * total or count < 2:
            return batch
        rows = self._entropies(batch, loss).argsort(stable=True)[:count]
        rows = rows[torch.randperm(count, generator=generator).to(rows.device)]
        share = torch.rand(count, generator=generator).to(rows.device)
        return mixed(batch, rows, rows.roll(1), share)

    def _entropies(self, batch: Batch, loss: StudentLoss) -> Tensor:
        """Of each image [B], in nats."""
        from methods.sources._ddpq_labels import entropy

        if self.by == "label" and batch.soft is not None:
            return entropy(batch.soft)
        return entropy(loss.teacher(batch.images).float().softmax(1))


def mixed(batch: Batch, rows: Tensor, partners: Tensor, share: Tensor) -> Batch:
    """The batch with image and soft label of each of ``rows`` [n] replaced by ``share`` [n] of them and the rest of its
    partner's; the label of a mixture is its largest class.  Of a batch without soft labels the images are mixed, and
    each keeps the label of its larger part."""
    import torch

    def blend(values: Tensor) -> Tensor:
        part = share.to(values.dtype).view(-1, *[1] * (values.dim() - 1))
        found = values.clone()
        found[rows] = part * values[rows] + (1 - part) * values[partners]
        return found

    labels, soft = batch.labels, None if batch.soft is None else blend(batch.soft)
    if labels is not None:
        larger = torch.where(share >= 0.5, labels[rows], labels[partners]) if soft is None else soft[rows].argmax(1)
        labels = labels.clone()
        labels[rows] = larger
    return Batch(blend(batch.images), labels, soft)


class DdpqParams(ConditionalParams):
    """``similar`` is K, ``groups`` of classes ``similar`` or drawn at random; the ``law`` of the shares with its
    ``temperature`` (softmax); ``entry`` says how a group enters the generator at 32 pixels. ``easy``, ``easy_by`` and
    ``mix_from``, the share of the training before the first mixture, are the hook's, no image depends on them.
    ``pixel_*`` are the optimisation's with ``backend: direct``, all others but ``similar``, ``groups``, ``similarity``,
    ``law`` and ``temperature`` the generator's."""

    backend: Literal["generator", "direct"] = "generator"
    entry: Literal["superposed", "product"] = "superposed"
    similar: int = Field(2, ge=1)
    groups: Literal["similar", "random"] = "similar"
    similarity: Literal["cosine", "dot"] = "cosine"
    law: Literal["uniform", "softmax", "entropy"] = "uniform"
    temperature: float = Field(1.0, gt=0)
    easy: float = Field(0.5, ge=0, le=1)
    easy_by: Literal["achieved", "label"] = "achieved"
    mix_from: float = Field(0.5, ge=0, le=1)
    pixel_iterations: int = Field(2000, ge=1)
    pixel_half_iterations: int = Field(0, ge=0)
    pixel_batch: int = Field(256, ge=1)
    pixel_lr: float = Field(0.1, gt=0)
    pixel_bn_weight: float = Field(0.1, ge=0)
    pixel_kappa: Kappa = None
    pixel_tv: float = Field(2.5e-5, ge=0)
    pixel_roll: int = Field(2, ge=0)


class Ddpq(GeneratorSource):
    """DataSource ``ddpq``."""

    version = 1
    summary = "soft labels over similar classes, of controlled difficulty; easy images mixed up late (DDPQ)"
    paper = (
        "Hong et al., Difficulty, Diversity, and Plausibility: Dynamic Data-Free Quantization (supplementary material)"
    )
    offers: frozenset[Offer] = frozenset({"stream", "hook"})
    Params: type[MethodParams] = DdpqParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {**GDFQ["mini"], "kappa": 30.0, "pixel_iterations": 400, "pixel_batch": 128, "pixel_kappa": 10.0},
        "thorough": {**GDFQ["thorough"], "kappa": 30.0, "pixel_kappa": 10.0},
        "paper": {
            **GDFQ["paper"],
            "pixel_iterations": 3000,
            "pixel_half_iterations": 2000,
            "pixel_batch": 84,
            "pixel_lr": 0.2,
            "pixel_bn_weight": 0.05,
            "pixel_tv": 1e-4,
            "pixel_roll": 30,
        },
    }

    def batch_size(self, params: DdpqParams) -> int:
        """Images of one generator, or of one optimisation."""
        return params.images if params.backend == "generator" else params.pixel_batch

    def check(self, params: DdpqParams, models: tuple[ModelHandle, ...]) -> None:
        """Raise NotApplicable without a network, or with one that has no batch-norm statistics."""
        from methods.sources._objectives import need_models

        need_models(models, bn=True, source="ddpq")

    def build(self, request: SynthRequest, ctx: RunContext, params: DdpqParams) -> GeneratorTrainer:
        """Draw the generator's start weights and embedding N(0, 1); find each class's group.

        Raises:
            NotApplicable: the network does not end in a classifier, or has fewer classes than are asked for.
        """
        import torch

        from methods.sources._ddpq_labels import GroupObjective, Law, similarity
        from methods.sources._features import Head
        from methods.sources._generator_loop import GeneratorTrainer
        from methods.sources._generators import Body, ImageGenerator
        from methods.sources._objectives import Network

        spec, rng = request.dataset, ctx.generator
        teacher = Network(request.models[0], spec, ctx)
        alike = similarity(Head(teacher, spec.shape, spec.classes).weight, params.similarity)
        in_norms = params.condition == "norms"
        body = Body(params.latent, spec.shape, params.width, params.eps, rng, spec.classes if in_norms else 0)
        embedding = None if in_norms else torch.randn(spec.classes, params.latent, generator=rng)
        return GeneratorTrainer(
            ImageGenerator(body, "plain" if in_norms else params.entry, embedding),
            GroupObjective(teacher, params, Law(params, alike, params.latent, rng)),
            params,
            ctx,
            unit_macs=request.unit_macs,
            classes=spec.classes,
        )

    def described(self, trainer: GeneratorTrainer, made: Sampled) -> Mapping[str, Any]:
        """Difficulty of labels and images, plausibility, the groups."""
        from methods.sources._ddpq_labels import GroupObjective, described

        assert isinstance(trainer.objective, GroupObjective)
        assert made.soft_labels is not None
        return described(made.soft_labels, made.labels, made.logits, trainer.objective.law)

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """One generator's images, or one optimisation's; see the Protocol."""
        if request.params.backend == "generator":
            return super().synthesize_batch(request, ctx)
        from methods.sources._ddpq_direct import optimised

        self.check(request.params, request.models)
        return optimised(request, ctx)

    def stream(self, request: SynthRequest, ctx: RunContext) -> ImageStream:
        """As every generator's.

        Raises:
            NotApplicable: images that are optimised themselves come in no stream.
        """
        if request.params.backend != "generator":
            raise NotApplicable(
                "a stream needs a generator", where="backend", got=request.params.backend, expected="generator"
            )
        return super().stream(request, ctx)

    def hook(self, params: DdpqParams) -> Mixup:
        """Difficulty-aware mixup."""
        return Mixup(params.easy, params.easy_by, params.mix_from)


METHOD = Ddpq()
