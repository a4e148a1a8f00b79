"""What a method is, what it is given and what it answers. No torch import at run time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from bench.interfaces.data import (
    BatchHook,
    Control,
    DataHandle,
    DatasetSpec,
    Delivery,
    ImageBatch,
    ImageSet,
    ImageStream,
    LabelKind,
    ModelHandle,
    Tier,
)
from bench.interfaces.settings import BitPolicy, LayerBits, Setting

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bench.interfaces.grids import Integers
    from bench.interfaces.inspection import Inspection


Offer = Literal["stream", "hook", "filter", "units", "teacher", "alone"]
"""What a method can do besides: a source "stream", "hook" and "filter", a compressor "units", "teacher" and "alone"."""

WORDS: frozenset[Offer] = frozenset({"filter", "teacher", "alone"})
"""Offers that are the word alone; behind each of the others stands a method of that name."""

Units = tuple[tuple[str, str, tuple[str, ...]], ...]
"""(unit, rule by which it is one, its weighted layers), in order of execution."""


class MethodParams(BaseModel):
    """Base of every method's hyper-parameters: frozen, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class SynthRequest:
    """One batch of an image set. ``models`` are frozen and in eval mode; methods must leave them so.

    ``set_seed`` is the same for all batches of a set; the context's generator differs per batch, so that batch k does
    not depend on how many images are asked for.  ``given`` is the batch of this index that another source made, where
    the source is a filter and the suite names that other (``of``); it must stay as it is.
    """

    dataset: DatasetSpec
    models: tuple[ModelHandle, ...]
    params: Any
    batch_index: int
    batch_size: int
    set_seed: int
    student: ModelHandle | None = None
    given: ImageBatch | None = None

    @property
    def unit_macs(self) -> float:
        """Multiply-accumulates of one forward-equivalent: those of the network that is inverted for one image, of
        several networks their mean; 1 where there is none."""
        return unit_macs(self.models)


def unit_macs(models: Sequence[ModelHandle]) -> float:
    """As `SynthRequest.unit_macs`, of the networks a source is given."""
    return max(1.0, sum(model.macs for model in models) / max(1, len(models)))


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
    ``teacher`` is the network whose answers a compressor trains towards instead of the target's, where the suite names
    one: frozen, in eval mode, and to be left so.  It expects images in its own constants, and a forward pass of it
    counts ``teacher.macs / model.macs`` forward-equivalents.
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
    teacher: ModelHandle | None = None


@dataclass(frozen=True)
class Variant:
    """One network a compressor made.

    ``setting`` is what it is of: one of those :meth:`Compressor.variants` promised.  ``module`` is in eval mode and
    asks for no gradient.  ``layer_bits`` maps each weighted layer (its name in the network that was compressed) to the
    bits in use; ``scales`` and ``zero_points`` count the quantisers' parameters, for the size in bytes.  ``network`` is
    the floating-point network whose layers are named and counted, where that is not the one given (pruned, a student).
    ``nonzero`` maps layers with zeroed weights to how many of their weights are not zero.  ``weight_levels`` maps
    quantised layers to the most distinct values that share a scale, counted in the weight that is used;
    ``activation_levels`` maps layers whose input is quantised to how many values its quantiser has.  ``protocol`` holds
    what is measured (bits per tensor class, granularity, placement…), JSON; where a training may serve several
    settings, also ``widths``, those it was for, widest first, and ``zero_shot``, whether this one is none of them
    (`bench.board.tables.widths` reads both).  ``bitops`` are the mean bit operations per
    image where bits depend on the image and only the compressor can tell, else None: they then follow from
    ``layer_bits``, or from ``image_bitops``.  That is pure: images [N, C, H, W] as ``module`` takes them, on its device
    → bit operations of each [N] float64, over the layers and by the count of `bench.measure.complexity.bitops`
    (what is left in floating point included), the same whatever images come with it.  ``bits_between`` then maps each
    layer whose bits an image decides to the fewest and the most it may get; the other layers have ``layer_bits``, and
    from both follow the closed-form bounds that every image must keep to.  ``inspection`` opens ``module`` up for who
    asks which layer loses the accuracy; None where it cannot be opened.  ``integers`` makes the network's integer form,
    to be exported, or raises NotApplicable with the reason why there is none; a network without quantisers has None.
    """

    setting: Setting
    module: nn.Module
    layer_bits: BitPolicy = field(default_factory=BitPolicy)
    scales: int = 0
    zero_points: int = 0
    network: nn.Module | None = None
    nonzero: Mapping[str, int] = field(default_factory=dict)
    weight_levels: Mapping[str, int] = field(default_factory=dict)
    activation_levels: Mapping[str, int] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    bitops: float | None = None
    image_bitops: Callable[[torch.Tensor], torch.Tensor] | None = None
    bits_between: Mapping[str, tuple[LayerBits, LayerBits]] = field(default_factory=dict)
    inspection: Inspection | None = None
    integers: Callable[[], Integers] | None = None


@dataclass(frozen=True)
class Compressed:
    """Result of a compressor: a network for each promised setting; ``report`` holds the losses per unit and the like,
    JSON."""

    variants: tuple[Variant, ...]
    report: Mapping[str, Any] = field(default_factory=dict)
    forward_equivalents: float = 0.0


@dataclass(frozen=True)
class Searched:
    """Result of a policy search.

    ``policy`` names the layers that depart from the setting.  ``report`` holds what led to it (sensitivities, the
    policy before a projection onto the budget…), JSON; ``forward_equivalents`` count forward passes of one image
    through the network, a backward as one more.
    """

    policy: BitPolicy
    report: Mapping[str, Any] = field(default_factory=dict)
    forward_equivalents: float = 0.0


class Method(Protocol):
    """What sources, searches and compressors have in common. A method file exposes one instance as ``METHOD``.

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
    least one BatchNorm with running statistics in each model) and "attention" (self-attention in each).  ``offers``
    says what it can do besides: "stream" (a :class:`StreamingSource`), "hook" (an :class:`AssistingSource`), "filter"
    (it changes the images of another source, ``SynthRequest.given``; networks, tier and labels are then the other's).
    """

    access: Tier
    control: Control
    models: Literal["none", "one", "zoo", "one+zoo"]
    label_kind: LabelKind
    offers: frozenset[Offer]

    def batch_size(self, params: Any) -> int:
        """Images per batch; part of the image set's identity."""

    def check(self, params: Any, models: tuple[ModelHandle, ...]) -> None:
        """Raise NotApplicable with the reason when these models cannot serve (no BN…)."""

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Make batch ``request.batch_index``; a function of request and the context's generator only."""


class StreamingSource(DataSource, Protocol):
    """A source that can also deliver while its generator is trained; ``offers`` holds "stream"."""

    def stream(self, request: SynthRequest, ctx: RunContext) -> ImageStream:
        """A fresh stream; a function of request and the context's generator only."""


class AssistingSource(DataSource, Protocol):
    """A source with an extra for whoever trains on its images; ``offers`` holds "hook"."""

    def hook(self, params: Any) -> BatchHook:
        """The extra; nothing of it is in the stored images."""


class PolicySearch(Method, Protocol):
    """What assigns bits to each layer (methods/policies/NAME.py); any quantising compressor takes its policy.

    ``control``: it looks at nothing, and the others are compared with it.  ``written``: it takes its policy from a file
    that the suite names (``{file: PATH}``), as its parameter ``layers``.
    """

    control: bool
    written: bool

    def check(self, params: Any, model: ModelHandle) -> None:
        """Raise NotApplicable with the reason when this network cannot be searched."""

    def search(self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext) -> Searched:
        """Bits per layer for ``setting``; ``model`` and ``images`` stay as they were."""


class Compressor(Method, Protocol):
    """What makes a target smaller (methods/compressors/NAME.py).

    ``accepts`` holds the names of the setting's axes it needs ("bits", "sparsity", "student").  One without "bits"
    returns a plain floating-point network, which another step can take (``steps: [prune_structured, brecq]``).
    ``deliveries`` says how it takes its images.  In a chain of steps, one that ``makes_zeros`` (scattered ones, that
    is, in tensors of the old size) may only be followed by those that ``keeps_zeros``, else the row would claim a
    sparsity that the network has lost.  ``offers`` says what it can do besides: "units" (a
    :class:`BlockwiseCompressor`), "teacher" (it learns from ``RunContext.teacher`` where there is one), "alone" (it
    trains the network of each setting by itself: what one network for several settings is divided by).
    """

    accepts: frozenset[str]
    deliveries: frozenset[Delivery]
    makes_zeros: bool
    keeps_zeros: bool
    offers: frozenset[Offer]

    def variants(self, params: Any, setting: Setting) -> tuple[Setting, ...]:
        """The settings that one compression for ``setting`` delivers, a network each; mostly that one alone.

        The plan makes a cell for each, so it must answer without looking at a network.
        """

    def check(self, params: Any, model: ModelHandle) -> None:
        """Raise NotApplicable with the reason when this network cannot be compressed so."""

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Return the compressed networks, one for each of :meth:`variants`; ``model`` and ``images`` stay as they
        were."""


class BlockwiseCompressor(Compressor, Protocol):
    """A compressor that works on blocks of a network one after the other; ``offers`` holds "units"."""

    def units(self, module: nn.Module, example: torch.Tensor) -> Units:
        """The blocks of ``module``, which stays as it was; ``example`` holds images [N, C, H, W] of its size."""
