"""A source for each way to break the contract."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict
from torch import Tensor
from torch.nn import functional as F

from bench.errors import AccessDenied
from bench.interfaces import Batch, ImageBatch, ModelHandle, RunContext, SynthRequest
from tests.contracts import filters, sources
from tests.contracts.breaches import Breaches
from tests.contracts.good_source import Good, Hook, Params, Stream

BREACHES = Breaches()


class Loose(Params):
    model_config = ConfigDict(frozen=True, extra="ignore")


BREACHES.add(
    sources.declares_what_the_plan_reads,
    Good,
    SaysNoPaper={"paper": " "},
    LacksAPreset={"presets": {"mini": {}, "paper": {}}},
    PresetOutOfRange={"presets": {"mini": {}, "thorough": {"batch": 0}, "paper": {}}},
    PresetOfWrongType={"presets": {"mini": {"batch": "8"}, "thorough": {}, "paper": {}}},
    NoSuchTier={"access": "T9"},
    TierBelowItsNetworks={"access": "T1"},
    NoSuchNeed={"needs": ["bn"]},
    OffersWhatItLacks={"hook": property()},
    HidesItsStream={"offers": frozenset({"hook"})},
    TakesAnyParameter={"Params": Loose},
)


@BREACHES.of(sources.declares_what_the_plan_reads)
class TakesOtherArguments(Good):
    def batch_size(self) -> int:  # type: ignore[override]
        return 8


class Tampers(Good):
    """A good batch with one thing wrong."""

    wrong: Mapping[str, Any]

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        batch = super().synthesize_batch(request, ctx)
        return dataclasses.replace(batch, **{key: value(batch) for key, value in self.wrong.items()})


def tampering(**wrong: Any) -> dict[str, Any]:
    """What :class:`Tampers` does wrong."""
    return {"wrong": wrong}


BREACHES.add(
    sources.makes_sound_batches,
    Tampers,
    TooFewImages=tampering(images=lambda batch: batch.images[1:]),
    DoublePrecision=tampering(images=lambda batch: batch.images.double()),
    NotFinite=tampering(images=lambda batch: batch.images / 0),
    KeepsItsGraph=tampering(images=lambda batch: batch.images.requires_grad_()),
    ForgetsItsLabels=tampering(labels=lambda batch: None),
    LabelsOfNoClass=tampering(labels=lambda batch: batch.labels + 1),
    SoftLabelsThatSumToTwo=tampering(soft_labels=lambda batch: F.one_hot(batch.labels, 4) * 2.0),
    CostsNothing=tampering(forward_equivalents=lambda batch: 0.0),
    CostsNaN=tampering(forward_equivalents=lambda batch: float("nan")),
    InfoIsNoJson=tampering(info=lambda batch: {"labels": batch.labels}),
)


class Touches(Good):
    """Does something to the network it was given."""

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        batch = super().synthesize_batch(request, ctx)
        self.touch(request.models[0].module)
        return batch

    def touch(self, net: Any) -> None:
        """What is done."""


BREACHES.add(
    sources.leaves_networks_as_they_were,
    Touches,
    LeavesTrainingMode={"touch": lambda self, net: net.train()},
    LeavesGradientsOn={"touch": lambda self, net: net.requires_grad_(True)},
    LeavesAGradient={"touch": lambda self, net: setattr(net.fc.bias, "grad", torch.zeros_like(net.fc.bias))},
    LeavesAHook={"touch": lambda self, net: net.fc.register_forward_hook(lambda *given: None)},
    MovesAStatistic={"touch": lambda self, net: net.bn1.running_mean.add_(1e-6)},
    SwapsAnActivation={"touch": lambda self, net: setattr(net, "act", torch.nn.ReLU(inplace=True))},
    TurnsASwitch={"touch": lambda self, net: setattr(net.act, "inplace", False)},
)

BREACHES.add(
    sources.same_seed_same_bits,
    Tampers,
    ReadsTheClock=tampering(images=lambda batch: batch.images + time.perf_counter_ns() % 1000),
    DrawsForShow=tampering(images=lambda batch: torch.zeros_like(batch.images)),
)

BREACHES.add(
    sources.keeps_out_of_the_world,
    Tampers,
    DrawsFromEverybody=tampering(images=lambda batch: batch.images + torch.randn(())),
    TurnsGradientsOff=tampering(info=lambda batch: {"off": bool(torch.set_grad_enabled(False))}),
)


@BREACHES.of(sources.keeps_out_of_the_world)
class ChangesThePrecision(Good):
    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        batch = super().synthesize_batch(request, ctx)
        torch.set_default_dtype(torch.float64)
        return batch


class Before(Good):
    """Does something before it makes its batch."""

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        self.do(ctx)
        return super().synthesize_batch(request, ctx)

    def do(self, ctx: RunContext) -> None:
        """What is done."""


BREACHES.add(
    sources.keeps_out_of_the_world,
    Before,
    SeedsEverybody={"do": lambda self, ctx: torch.manual_seed(0)},
    WritesAFile={"do": lambda self, ctx: Path("images.txt").write_text("mine", encoding="utf-8")},
    WritesPastPython={"do": lambda self, ctx: torch.save({}, "network.pt")},
    Prints={"do": lambda self, ctx: print("step 1")},  # noqa: T201
    SetsAVariable={"do": lambda self, ctx: os.environ.update(MADE_BY_A_SOURCE="1")},
)


@BREACHES.of(sources.keeps_out_of_the_world)
class WritesElsewhere(Before):
    def do(self, ctx: RunContext) -> None:
        (ctx.scratch.parent / f"left_{os.getpid()}").touch()
        (ctx.scratch.parent / f"left_{os.getpid()}").unlink()


@BREACHES.of(sources.keeps_its_tier)
class ReadsBeyondItsTier(Before):
    def do(self, ctx: RunContext) -> None:
        ctx.data.train_images(4, torch.Generator())


@BREACHES.of(sources.keeps_its_tier)
class TriesInSilence(Before):
    def do(self, ctx: RunContext) -> None:
        try:
            ctx.data.train_images(4, torch.Generator())
        except AccessDenied:
            return


@BREACHES.of(sources.keeps_its_tier)
class DeclaresMoreThanItReads(Before):
    access = "T5"

    def do(self, ctx: RunContext) -> None:
        ctx.data.unlabelled_images(4, torch.Generator())


@BREACHES.of(sources.batches_stand_alone)
class Counts(Good):
    def __init__(self) -> None:
        self.made = 0

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        batch = super().synthesize_batch(request, ctx)
        self.made += 1
        return dataclasses.replace(batch, images=batch.images + self.made)


@BREACHES.of(sources.batches_stand_alone)
class SameBatchAlways(Good):
    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        same = dataclasses.replace(ctx, generator=torch.Generator().manual_seed(request.set_seed))
        return super().synthesize_batch(request, same)


@BREACHES.of(sources.says_when_networks_do_not_serve)
class TakesAnyNetwork(Good):
    needs = frozenset({"bn"})


@BREACHES.of(sources.says_when_networks_do_not_serve)
class TakesNoNetwork(Good):
    def check(self, params: Any, models: tuple[ModelHandle, ...]) -> None: ...


class BadStream(Stream):
    def next_batch(self) -> ImageBatch:
        batch = super().next_batch()
        return dataclasses.replace(batch, images=batch.images + torch.randn(()))


@BREACHES.of(sources.streams_are_deterministic)
class StreamDrawsFromEverybody(Good):
    def stream(self, request: SynthRequest, ctx: RunContext) -> Any:
        return BadStream(request, ctx)


class StandsStill(Stream):
    def next_batch(self) -> ImageBatch:
        self.ctx.generator.manual_seed(0)
        return super().next_batch()


@BREACHES.of(sources.streams_are_deterministic)
class StreamStandsStill(Good):
    def stream(self, request: SynthRequest, ctx: RunContext) -> Any:
        return StandsStill(request, ctx)


class Attached(Stream):
    def next_batch(self) -> ImageBatch:
        batch = super().next_batch()
        return dataclasses.replace(batch, images=batch.images.requires_grad_())


@BREACHES.of(sources.streams_are_deterministic)
class StreamKeepsItsGraph(Good):
    def stream(self, request: SynthRequest, ctx: RunContext) -> Any:
        return Attached(request, ctx)


class Backward(Hook):
    def __call__(
        self, batch: Batch, step: int, total: int, loss: Callable[[Tensor], Tensor], generator: torch.Generator
    ) -> Batch:
        loss(batch.images).backward()
        return batch


@BREACHES.of(sources.hooks_leave_gradients_alone)
class HookAddsToGradients(Good):
    def hook(self, params: Any) -> Any:
        return Backward()


class InPlace(Hook):
    def __call__(
        self, batch: Batch, step: int, total: int, loss: Callable[[Tensor], Tensor], generator: torch.Generator
    ) -> Batch:
        batch.images.add_(1)
        return batch


@BREACHES.of(sources.hooks_leave_gradients_alone)
class HookWritesOnTheBatch(Good):
    def hook(self, params: Any) -> Any:
        return InPlace()


class Filters(Good):
    """Doubles what it is given."""

    offers = frozenset({"filter"})
    wrong: Mapping[str, Any] = {}

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        given = request.given
        assert given is not None
        info = {"models": given.info["models"], "of": given.info}
        made = dataclasses.replace(given, images=given.images * 2, info=info)
        return dataclasses.replace(made, **{key: value(given) for key, value in self.wrong.items()})


BREACHES.add(
    filters.filters_change_what_they_are_given,
    Filters,
    ChangesNothing=tampering(images=lambda given: given.images),
    WritesOnWhatItIsGiven=tampering(images=lambda given: given.images.add_(1) * 2),
    ForgetsTheCost=tampering(forward_equivalents=lambda given: 0.0),
    ForgetsTheRecord=tampering(info=lambda given: dict(given.info)),
    ForgetsTheNetworks=tampering(info=lambda given: {"of": given.info}),
    ForgetsLabels=tampering(labels=lambda given: None),
    MakesItsOwnImages=tampering(images=lambda given: torch.zeros_like(given.images)),
)
