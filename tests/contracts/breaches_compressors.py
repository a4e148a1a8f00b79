"""A compressor that keeps its contract, and one for each way to break it."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

from bench.errors import AccessDenied, NotApplicable
from bench.interfaces import (
    BitPolicy,
    Compressed,
    Delivery,
    ImageSet,
    MethodParams,
    ModelHandle,
    RunContext,
    Setting,
    Variant,
)
from tests.contracts import compressors
from tests.contracts.breaches import Breaches

BREACHES = Breaches()


class Params(MethodParams):
    batch: int = Field(32, ge=1)


def weighted(net: nn.Module) -> dict[str, Any]:
    """Name → convolution or linear layer."""
    return {name: part for name, part in net.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}


class Good:
    """Rounds weights to one grid per tensor; delivers the bits asked for and 8.  A teacher's answers move the
    classifier's bias."""

    version = 1
    summary = "a compressor that keeps its contract"
    paper = "none"
    needs: frozenset[str] = frozenset()
    accepts: frozenset[str] = frozenset({"bits"})
    deliveries: frozenset[Delivery] = frozenset({"cached", "stream"})
    makes_zeros = False
    keeps_zeros = True
    offers: frozenset[Any] = frozenset({"units", "teacher"})
    Params = Params
    presets: Mapping[str, Mapping[str, Any]] = {"mini": {}, "thorough": {}, "paper": {"batch": 64}}

    def variants(self, params: Any, setting: Setting) -> tuple[Setting, ...]:
        return (setting, setting.joined(Setting(8)))

    def check(self, params: Any, model: ModelHandle) -> None:
        if not weighted(model.module):
            raise NotApplicable("nothing to round")

    def units(self, module: nn.Module, example: torch.Tensor) -> Any:
        return tuple((name, "layer", (name,)) for name in weighted(module))

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        if images.stream is not None:
            images.stream.next_batch()
        variants = tuple(self.made(model, each, ctx) for each in self.variants(params, setting))
        made = Compressed(variants, {"n": 1}, 1.0)
        return made if ctx.teacher is None else self.taught(made, ctx.teacher, images)

    @torch.no_grad()
    def taught(self, made: Compressed, teacher: ModelHandle, images: ImageSet) -> Compressed:
        """The answer after a look at what the teacher says."""
        for variant in made.variants:
            variant.module.get_parameter("head.bias").add_(teacher.module(images.images).mean(0))
        return dataclasses.replace(made, forward_equivalents=made.forward_equivalents + len(images.images))

    @torch.no_grad()
    def made(self, model: ModelHandle, setting: Setting, ctx: RunContext) -> Variant:
        """One variant."""
        net = copy.deepcopy(model.module)
        for part in weighted(net).values():
            step = part.weight.abs().max() / (2 ** (setting.weight_bits - 1) - 1)
            part.weight.copy_((part.weight / step).round() * step)
        bits = BitPolicy.of(dict.fromkeys(weighted(net), (setting.weight_bits, 32)))
        return Variant(setting, net, bits, len(bits), protocol={"bits": setting.weight_bits})


@BREACHES.of(compressors.declares_what_the_plan_reads)
class NoSuchAxis(Good):
    accepts = frozenset({"bits", "colour"})


@BREACHES.of(compressors.declares_what_the_plan_reads)
class NoSuchDelivery(Good):
    deliveries: Any = frozenset({"pigeon"})


@BREACHES.of(compressors.declares_what_the_plan_reads)
class DoesNotSayWhetherItKeepsZeros(Good):
    keeps_zeros: Any = None


@BREACHES.of(compressors.declares_what_the_plan_reads)
class HidesItsUnits(Good):
    offers = frozenset()


@BREACHES.of(compressors.splits_networks_where_it_says_so)
class LosesALayer(Good):
    def units(self, module: nn.Module, example: torch.Tensor) -> Any:
        return super().units(module, example)[1:]


@BREACHES.of(compressors.learns_from_a_teacher_where_it_says_so)
class DoesNotAskItsTeacher(Good):
    def taught(self, made: Compressed, teacher: ModelHandle, images: ImageSet) -> Compressed:
        return dataclasses.replace(made, forward_equivalents=made.forward_equivalents + len(images.images))


@BREACHES.of(compressors.learns_from_a_teacher_where_it_says_so)
class AsksItsTeacherForNothing(Good):
    def taught(self, made: Compressed, teacher: ModelHandle, images: ImageSet) -> Compressed:
        return dataclasses.replace(super().taught(made, teacher, images), forward_equivalents=made.forward_equivalents)


@BREACHES.of(compressors.learns_from_a_teacher_where_it_says_so)
class TrainsItsTeacher(Good):
    def taught(self, made: Compressed, teacher: ModelHandle, images: ImageSet) -> Compressed:
        with torch.no_grad():
            teacher.module.get_parameter("head.bias").add_(0.1)
        return super().taught(made, teacher, images)


class Wraps(Good):
    """A good answer with something done to it."""

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        made = super().compress(model, images, setting, params, ctx)
        changed = self.change(made, model, images, ctx)
        return made if changed is None else changed

    def change(self, made: Compressed, model: ModelHandle, images: ImageSet, ctx: RunContext) -> Compressed | None:
        """What is done."""


def with_first(made: Compressed, **changed: Any) -> Compressed:
    """The answer with its first variant changed."""
    return dataclasses.replace(made, variants=(dataclasses.replace(made.variants[0], **changed), *made.variants[1:]))


@BREACHES.of(compressors.delivers_every_planned_variant)
class DropsAVariant(Wraps):
    def change(self, made: Compressed, *given: Any) -> Compressed:
        return dataclasses.replace(made, variants=made.variants[:1])


@BREACHES.of(compressors.delivers_every_planned_variant)
class DeliversOneTwice(Wraps):
    def change(self, made: Compressed, *given: Any) -> Compressed:
        return dataclasses.replace(made, variants=(made.variants[0], *made.variants))


@BREACHES.of(compressors.delivers_every_planned_variant)
class DeliversAnotherSetting(Wraps):
    def change(self, made: Compressed, *given: Any) -> Compressed:
        return with_first(made, setting=Setting(3, 3))


@BREACHES.of(compressors.delivers_every_planned_variant)
class PromisesOneTwice(Good):
    def variants(self, params: Any, setting: Setting) -> tuple[Setting, ...]:
        return (setting, setting)


@BREACHES.of(compressors.makes_sound_networks)
class StaysInTrainingMode(Wraps):
    def change(self, made: Compressed, *given: Any) -> None:
        made.variants[0].module.train()


@BREACHES.of(compressors.makes_sound_networks)
class StillWantsGradients(Wraps):
    def change(self, made: Compressed, *given: Any) -> None:
        made.variants[0].module.requires_grad_(True)


@BREACHES.of(compressors.makes_sound_networks)
class AnswersNaN(Wraps):
    def change(self, made: Compressed, *given: Any) -> None:
        with torch.no_grad():
            made.variants[1].module.get_parameter("head.bias").fill_(float("nan"))


@BREACHES.of(compressors.makes_sound_networks)
class ProtocolIsNoJson(Wraps):
    def change(self, made: Compressed, *given: Any) -> Compressed:
        return with_first(made, protocol={"step": torch.ones(3)})


@BREACHES.of(compressors.makes_sound_networks)
class CostsMinusOne(Wraps):
    def change(self, made: Compressed, *given: Any) -> Compressed:
        return dataclasses.replace(made, forward_equivalents=-1.0)


class TakesBatchesOnly(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Any) -> Any:
        return self.net(x).squeeze()


@BREACHES.of(compressors.makes_sound_networks)
class FailsOnASingleImage(Wraps):
    def change(self, made: Compressed, *given: Any) -> Compressed:
        return with_first(made, module=TakesBatchesOnly(made.variants[0].module).eval())


@BREACHES.of(compressors.names_layers_that_exist)
class InventsALayer(Wraps):
    def change(self, made: Compressed, *given: Any) -> Compressed:
        return with_first(made, layer_bits=BitPolicy.of({"tail": (4, 4)}))


@BREACHES.of(compressors.names_layers_that_exist)
class ForgetsALayer(Wraps):
    def change(self, made: Compressed, *given: Any) -> Compressed:
        return with_first(made, layer_bits=BitPolicy(made.variants[0].layer_bits.layers[1:]))


@BREACHES.of(compressors.names_layers_that_exist)
class DoesNotCountItsZeros(Good):
    makes_zeros = True


@BREACHES.of(compressors.leaves_its_inputs_as_they_were)
class RoundsInPlace(Good):
    def made(self, model: ModelHandle, setting: Setting, ctx: RunContext) -> Variant:
        with torch.no_grad():
            next(iter(weighted(model.module).values())).weight.mul_(1.001)
        return super().made(model, setting, ctx)


@BREACHES.of(compressors.leaves_its_inputs_as_they_were)
class WritesOnTheImages(Wraps):
    def change(self, made: Compressed, model: ModelHandle, images: ImageSet, ctx: RunContext) -> None:
        images.images.clamp_(-1, 1)


@BREACHES.of(compressors.leaves_its_inputs_as_they_were)
class SharesItsWeights(Wraps):
    def change(self, made: Compressed, model: ModelHandle, images: ImageSet, ctx: RunContext) -> None:
        name = next(iter(weighted(model.module)))
        made.variants[0].module.get_submodule(name).weight = model.module.get_submodule(name).weight


@BREACHES.of(compressors.same_seed_same_bits)
class ReadsTheClock(Wraps):
    def change(self, made: Compressed, *given: Any) -> None:
        with torch.no_grad():
            made.variants[0].module.get_parameter("head.bias").add_(time.perf_counter_ns() % 1000)


@BREACHES.of(compressors.keeps_out_of_the_world)
class DrawsFromEverybody(Wraps):
    def change(self, made: Compressed, *given: Any) -> None:
        with torch.no_grad():
            made.variants[0].module.get_parameter("head.bias").add_(torch.randn(()))


@BREACHES.of(compressors.keeps_out_of_the_world)
class WritesAFile(Wraps):
    def change(self, made: Compressed, *given: Any) -> None:
        torch.save({}, Path("network.pt"))


@BREACHES.of(compressors.keeps_out_of_the_world)
class TriesToReadData(Wraps):
    def change(self, made: Compressed, model: ModelHandle, images: ImageSet, ctx: RunContext) -> None:
        try:
            ctx.data.unlabelled_images(8, torch.Generator())
        except AccessDenied:
            return


@BREACHES.of(compressors.says_when_a_network_does_not_serve)
class TakesNetworksItCannotServe(Wraps):
    def check(self, params: Any, model: ModelHandle) -> None: ...

    def change(self, made: Compressed, model: ModelHandle, images: ImageSet, ctx: RunContext) -> Compressed | None:
        lost = torch.nn.Flatten()
        return None if weighted(model.module) else with_first(made, module=lost.eval())


@BREACHES.of(compressors.says_when_a_network_does_not_serve)
class RefusesWithoutAReason(Good):
    def check(self, params: Any, model: ModelHandle) -> None:
        if not weighted(model.module):
            raise NotApplicable("")


@BREACHES.of(compressors.takes_what_it_says_it_takes)
class DoesNotAskItsStream(Good):
    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        return super().compress(model, dataclasses.replace(images, stream=None), setting, params, ctx)


@BREACHES.of(compressors.keeps_zeros_where_it_says_so)
class FillsZeros(Good):
    def made(self, model: ModelHandle, setting: Setting, ctx: RunContext) -> Variant:
        variant = super().made(model, setting, ctx)
        with torch.no_grad():
            for part in weighted(variant.module).values():
                part.weight.add_(0.01)
        return variant


@BREACHES.of(compressors.leaves_a_network_that_others_can_take)
class LeavesHalfPrecision(Wraps):
    accepts = frozenset({"sparsity"})

    def change(self, made: Compressed, *given: Any) -> None:
        made.variants[0].module.half()
