"""What methods and engine share: Protocols, frozen dataclasses, nothing else. No torch import at run time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Tier = Literal["T0", "T1", "T2a", "T2b", "T3", "T4", "T5", "T6"]
"""What a method may look at, weakest first (design, rule 3)."""

TIERS: tuple[Tier, ...] = ("T0", "T1", "T2a", "T2b", "T3", "T4", "T5", "T6")

Control = Literal["upper", "lower", "none"]
LabelKind = Literal["native", "assigned", "pseudo", "none"]
Delivery = Literal["cached", "stream"]
"""Images stored before a compressor sees them, or made by a generator in lock-step with the student's training."""
Preset = Literal["mini", "thorough", "paper"]
Membership = Literal["held-out architecture", "same architecture", "same checkpoint", "none"]


class MethodParams(BaseModel):
    """Base of every method's hyper-parameters: frozen, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class DatasetSpec:
    """Constants of a data set; no images.

    ``shape`` is (C, H, W) in pixels; ``mean`` and ``std`` are per channel of pixels in [0, 1].
    """

    name: str
    classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelHandle:
    """A frozen eval-mode network and what is known of it.

    ``digest`` is the SHA-256 of the weights, ``macs`` multiply-accumulates for one image, ``fp_top1`` the
    registered top-1 in percent (None when nobody measured it), ``mean``/``std`` the constants it was trained with.
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


@dataclass(frozen=True)
class NetworkInfo:
    """What the plan must know of a network, from its manifest: nothing is built or loaded.

    ``digest`` is the SHA-256 of the weights; ``mean``/``std`` the constants of its input; ``batch_norms`` how many BN
    layers with running statistics it has, None when the manifest does not say.
    """

    name: str
    digest: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch_norms: int | None = None


class DataHandle(Protocol):
    """The only way a method reads data; denies and records what lies beyond the method's tier."""

    def train_images(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, list[int]]:
        """Class-balanced training images (normalised float32 [n,C,H,W]), labels [n], indices. Tier T5 or T6."""

    def unlabelled_images(self, count: int, generator: torch.Generator) -> tuple[Tensor, list[int]]:
        """As :meth:`train_images` without a look at the labels. Tier T4 up."""

    def training_set(self) -> tuple[Tensor, Tensor]:
        """The complete training set: uint8 images [N,C,H,W] and labels [N]. Tier T6."""

    def unrelated_images(self, count: int, generator: torch.Generator) -> Tensor:
        """Images of another domain in the target's shape and constants, float32 [n,C,H,W]. Tier T3 and beyond."""


@dataclass(frozen=True)
class SynthRequest:
    """One batch of an image set. ``models`` are frozen and in eval mode; methods must leave them so.

    ``set_seed`` is the same for all batches of a set; the context's generator differs per batch, so that batch k does
    not depend on how many images are asked for.
    """

    dataset: DatasetSpec
    models: tuple[ModelHandle, ...]
    params: Any
    batch_index: int
    batch_size: int
    set_seed: int
    student: ModelHandle | None = None


@dataclass(frozen=True)
class ImageBatch:
    """What a source returns: images float32 [B,C,H,W] normalised, labels int64 [B] or None, soft [B,K] or None.

    ``forward_equivalents`` counts full-resolution forward passes of one image through one network, summed over the
    batch (a backward counts as one), whatever the network, generators included. ``info`` is JSON: models used, final
    loss terms, clipped fraction.
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


class BatchHook(Protocol):
    """Changes a batch before teacher and student see it: augmentation, or a source's own extra for its consumer.

    ``loss`` maps images to the student's scalar loss of the moment; gradients of parameters must stay untouched.
    """

    def __call__(
        self,
        batch: Batch,
        step: int,
        total: int,
        loss: Callable[[Tensor], Tensor],
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
        """Spent so far, in forwards of the generator's teacher; the student's own are not in it."""

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


@dataclass(frozen=True)
class Setting:
    """What is asked of a compressor.

    Bits are 2..8, or 32 for "leave in floating point"; ``sparsity`` is the part of the weights or channels of each
    layer that is removed; ``student`` is the full name of the network to be trained.
    """

    weight_bits: int = 32
    act_bits: int = 32
    first_last_bits: int = 8
    sparsity: float = 0.0
    student: str | None = None

    def only(self, axes: Collection[str]) -> Setting:
        """The part of the setting that speaks of ``axes``."""
        own: dict[str, Any] = {}
        if "bits" in axes:
            own |= {name: getattr(self, name) for name in ("weight_bits", "act_bits", "first_last_bits")}
        own |= {axis: getattr(self, axis) for axis in ("sparsity", "student") if axis in axes}
        return Setting(**own)

    @property
    def label(self) -> str:
        """``W4A4``, ``S50`` (per cent removed), ``resnet18_w16`` (the student), joined by blanks."""
        parts = [self.student.rpartition("/")[2]] if self.student else []
        parts += [f"S{100 * self.sparsity:g}"] if self.sparsity else []
        quantised = min(self.weight_bits, self.act_bits) < 32
        parts += [f"W{self.weight_bits}A{self.act_bits}"] if quantised or not parts else []
        return " ".join(parts)


def _ignore_progress(stage: str, step: int, total: int) -> None: ...


def _ignore_scalar(name: str, step: int, value: float) -> None: ...


def _no_network(name: str) -> nn.Module:
    raise LookupError(f"no untrained network {name}: this context was made without a zoo")


@dataclass(frozen=True)
class RunContext:
    """Everything a method gets besides its request; nothing is global.

    ``generator`` lives on the CPU: draw there and move, so that a device changes no random number. ``report(stage,
    step, total)`` feeds the progress bar, ``log_scalar(name, step, value)`` the stored curves.  ``untrained(name)``
    builds the network of a full name for the cell's data set, with random weights drawn from ``generator``.
    """

    device: torch.device
    dtype: torch.dtype
    generator: torch.Generator
    data: DataHandle
    scratch: Path
    logger: logging.Logger
    report: Callable[[str, int, int], None] = _ignore_progress
    log_scalar: Callable[[str, int, float], None] = _ignore_scalar
    untrained: Callable[[str], nn.Module] = _no_network


@dataclass(frozen=True)
class Variant:
    """One network a compressor made.

    ``layer_bits`` maps each weighted layer (its name in the network that was compressed) to (weight bits, bits of its
    input); ``scales`` and ``zero_points`` count the quantisers' parameters, for the size in bytes.  ``network`` is the
    floating-point network whose layers are named and counted, where that is not the one given (pruned, a student).
    ``nonzero`` maps layers with zeroed weights to how many of their weights are not zero.
    """

    label: str
    module: nn.Module
    layer_bits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    scales: int = 0
    zero_points: int = 0
    network: nn.Module | None = None
    nonzero: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Compressed:
    """Result of a compressor. ``protocol`` holds what is measured (bits per tensor class, granularity, placement…),
    ``report`` the losses per unit and the like; both are JSON."""

    variants: tuple[Variant, ...]
    protocol: Mapping[str, Any]
    report: Mapping[str, Any] = field(default_factory=dict)
    forward_equivalents: float = 0.0


class Method(Protocol):
    """What sources and compressors have in common. A method file exposes one instance as ``METHOD``.

    ``presets`` maps preset name to parameter values that override the defaults of ``Params``.
    ``summary`` is one line for ``bench ls``; ``paper`` the citation.
    """

    version: int
    summary: str
    paper: str
    needs: frozenset[str]
    Params: type[MethodParams]
    presets: Mapping[str, Mapping[str, Any]]


class DataSource(Method, Protocol):
    """Where calibration images come from (methods/sources/NAME.py).

    ``models``: none | one (the target, or the network the suite names) | zoo | one+zoo (that one first, then the zoo's
    networks if the suite names any). ``control``: upper (real), lower (noise) or none. ``needs`` may hold "bn" (at
    least one BatchNorm with running statistics in each model).
    """

    access: Tier
    control: Control
    models: Literal["none", "one", "zoo", "one+zoo"]
    label_kind: LabelKind

    def batch_size(self, params: Any) -> int:
        """Images per batch; part of the image set's identity."""

    def check(self, params: Any, models: tuple[ModelHandle, ...]) -> None:
        """Raise NotApplicable with the reason when these models cannot serve (no BN…)."""

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Make batch ``request.batch_index``; a function of request and the context's generator only."""


class StreamingSource(DataSource, Protocol):
    """A source that can also deliver while its generator is trained."""

    def stream(self, request: SynthRequest, ctx: RunContext) -> ImageStream:
        """A fresh stream; a function of request and the context's generator only."""


class AssistingSource(DataSource, Protocol):
    """A source with an extra for whoever trains on its images."""

    def hook(self, params: Any) -> BatchHook:
        """The extra; nothing of it is in the stored images."""


class Compressor(Method, Protocol):
    """What makes a target smaller (methods/compressors/NAME.py).

    ``accepts`` holds the setting's axes it needs: "bits", "sparsity", "student".  One without "bits" returns a plain
    floating-point network, which another step can take (``steps: [prune_structured, brecq]``).  ``deliveries`` says
    how it takes its images; a compressor that does not say takes cached ones only.
    """

    accepts: frozenset[str]
    deliveries: frozenset[Delivery]

    def check(self, params: Any, model: ModelHandle) -> None:
        """Raise NotApplicable with the reason when this network cannot be compressed so."""

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Return the compressed network; ``model`` and ``images`` stay as they were."""
