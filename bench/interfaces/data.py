"""Data and networks as methods see them: images, labels, networks, the door to the data. No torch at run time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Tier = Literal["T0", "T1", "T2a", "T2b", "T3", "T4", "T5", "T6"]
"""What a method may look at, weakest first (docs/architecture.md#rule-3)."""

TIERS: tuple[Tier, ...] = ("T0", "T1", "T2a", "T2b", "T3", "T4", "T5", "T6")

Control = Literal["upper", "lower", "none"]
LabelKind = Literal["native", "assigned", "pseudo", "foreign", "none"]
"""Labels that a data set gave, that a source asked its images to have, that a network read off them; those of other
classes than the target's (a proxy data set's own); none."""
Delivery = Literal["cached", "stream"]
"""Images stored before a compressor sees them, or made by a generator in lock-step with the student's training."""
Membership = Literal["held-out architecture", "same architecture", "same checkpoint", "none"]


@dataclass(frozen=True)
class DatasetSpec:
    """Constants of a data set; no images.

    ``shape`` is (C, H, W) in pixels; ``mean`` and ``std`` are per channel of pixels in [0, 1].  Where a sample is a
    clip of ``frames`` frames, its channels are those of all frames, one frame after the other
    (docs/architecture.md#clips).
    """

    name: str
    classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] = ()
    frames: int = 1

    @property
    def channels(self) -> int:
        """Channels of a single frame; of an image all it has."""
        return self.shape[0] // self.frames


@dataclass(frozen=True)
class ModelHandle:
    """A frozen eval-mode network and what is known of it.

    ``digest`` is the SHA-256 of the weights, ``macs`` multiply-accumulates for one image, ``fp_top1`` the
    registered top-1 in percent (None when nobody measured it), ``mean``/``std`` the constants it was trained with.
    ``registered`` is top-1 by data set where weights are registered for several (``bench.zoo.registered``).
    """

    name: str
    module: nn.Module
    digest: str
    architecture: str
    family: str
    macs: int
    dataset: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fp_top1: float | None = None
    registered: Mapping[str, float] | None = None


@dataclass(frozen=True)
class NetworkInfo:
    """What the plan must know of a network, from its manifest: nothing is built or loaded.

    ``digest`` is the SHA-256 of the weights; ``mean``/``std`` the constants of its input, whose ``shape`` is (C, H, W);
    ``classes`` how many logits it has; ``batch_norms`` how many BN layers with running statistics and ``layers`` how
    many convolutions and linear layers it has; ``macs`` multiply-accumulates for one image; ``fp_top1`` the registered
    top-1 in percent.  None is what the manifest does not say.
    """

    name: str
    digest: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch_norms: int | None = None
    classes: int | None = None
    shape: tuple[int, int, int] | None = None
    layers: int | None = None
    parameters: int | None = None
    macs: int | None = None
    fp_top1: float | None = None


class DataHandle(Protocol):
    """The only way a method reads data; denies and records what lies beyond the method's tier."""

    def train_images(
        self, count: int, generator: torch.Generator, start: int | None = None
    ) -> tuple[Tensor, Tensor, list[int]]:
        """Class-balanced training images (normalised float32 [n,C,H,W]), labels [n], indices. Tier T5 or T6.

        With ``start``: those from that place on of the same order, fewer than ``count`` where the split ends.
        """

    def unlabelled_images(
        self, count: int, generator: torch.Generator, start: int | None = None
    ) -> tuple[Tensor, list[int]]:
        """As :meth:`train_images` without a look at the labels. Tier T4 up."""

    def training_set(self) -> tuple[Tensor, Tensor]:
        """The complete training set: uint8 images [N,C,H,W] and labels [N]. Tier T6."""

    def training_batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """As :meth:`training_set`, one pass in random order, read from disk as it goes. Tier T6."""

    def unrelated_images(self, count: int, generator: torch.Generator, start: int | None = None) -> Tensor:
        """Images of another domain in the target's shape and constants, float32 [n,C,H,W]. Tier T3 and beyond."""

    def unrelated_labelled(
        self, count: int, generator: torch.Generator, start: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`unrelated_images`, with that domain's own labels, int64 [n]. Tier T3 and beyond."""


@dataclass(frozen=True)
class ImageBatch:
    """What a source returns: images float32 [B,C,H,W] normalised, labels int64 [B] or None, soft [B,K] or None.

    ``forward_equivalents`` counts full-resolution forward passes of one image (a backward counts as one), summed over
    the batch, in passes of the request's network (``SynthRequest.unit_macs``): any other network, a generator too,
    counts by its multiply-accumulates over that one's.  ``info`` is JSON: models used, final loss terms, clipped
    fraction.
    """

    images: Tensor
    labels: Tensor | None = None
    soft_labels: Tensor | None = None
    forward_equivalents: float = 0.0
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """What one step of a training sees: normalised images [B,C,H,W]; labels int64 [B] and soft labels [B,K] where the
    source gives them."""

    images: Tensor
    labels: Tensor | None = None
    soft: Tensor | None = None


class StudentLoss(Protocol):
    """What a hook may ask of the training at this step; the passes that an answer takes are counted there."""

    def __call__(self, images: Tensor, /) -> Tensor:
        """The student's scalar loss of the moment on ``images``, differentiable in them."""

    def teacher(self, images: Tensor) -> Tensor:
        """The teacher's logits [B,K] for ``images``, detached."""


class BatchHook(Protocol):
    """Changes a batch before teacher and student see it: augmentation, or a source's own extra for its consumer.

    ``step`` counts from 0 to ``total`` - 1.  Gradients of parameters must stay untouched by what is asked of ``loss``.
    """

    def __call__(
        self,
        batch: Batch,
        step: int,
        total: int,
        loss: StudentLoss,
        generator: torch.Generator,
    ) -> Batch: ...


class ImageStream(Protocol):
    """Images of a generator that is trained in lock-step with whoever takes them (delivery ``stream``).

    ``batch_size`` images a batch.  The first ``warmup`` steps pass inside the first call of ``next_batch``, before
    anybody sees an image.
    """

    label_kind: LabelKind
    batch_size: int
    warmup: int

    @property
    def forward_equivalents(self) -> float:
        """Spent so far, in the unit of :class:`ImageBatch`; the student's own passes are not in it."""

    def next_batch(self) -> ImageBatch:
        """Train the generator one step and return the batch it was trained on, detached, on the context's device."""

    def info(self) -> Mapping[str, Any]:
        """Steps made, last losses and the like, JSON."""


@dataclass(frozen=True)
class ImageSet:
    """Calibration or training images as read from the artifact store; a prefix of the stored batches.

    With ``stream`` there is no stored image (``images`` is empty): batches come from a generator as they are asked for.
    ``hook`` is what the source offers a training on its images; a compressor uses it where its parameters ask for it.
    """

    images: Tensor
    labels: Tensor | None
    soft_labels: Tensor | None
    label_kind: LabelKind
    digest: str
    synth_id: str
    info: Mapping[str, Any] = field(default_factory=dict)
    stream: ImageStream | None = None
    hook: BatchHook | None = None
