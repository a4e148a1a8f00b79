"""Walking a quantised network unit by unit with the reconstruction loop: AdaRound, BRECQ and QDrop are settings of it.

Stage 1 learns how weights round, with activations in full precision and inputs from the quantised-weight prefix; then
activation ranges may be chosen anew, each behind the quantised prefix; stage 2, once all units are rounded, learns
activation steps on the full-precision prefix's output (or the quantised one's); the joint form (QDrop) does both at
once.  The target is always the full-precision unit's output on the full-precision prefix.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bench.interfaces import RunContext
from methods.compressors._caches import EVALUATION_BATCH, Cache, Inputs, MixedInputs, Prefix, cached, run
from methods.compressors._correction import Correction
from methods.compressors._extras import Extras
from methods.compressors._fisher import fisher_weights
from methods.compressors._prediction import Prediction
from methods.compressors._reconstruct import (
    Extra,
    Learner,
    StepLearner,
    WeightRule,
    draw_batches,
    learning,
    mean_error,
    minimise,
)
from methods.compressors._unit_quantisers import UnitQuantisers, dropping, restore
from methods.quant.calibrate import Sampling, observe
from methods.quant.model import QuantModel
from methods.quant.quantizers import ActQuantizer
from methods.quant.units import Unit

Row = dict[str, Any]
"""One unit's line of the report, JSON."""


@dataclass(frozen=True)
class Recipe:
    """What is learned and for how long.

    ``iterations`` of stage 1 (0: none) under ``rounding``; ``step_iterations`` of stage 2 (0: none) from rate
    ``step_lr``, on inputs of the quantised prefix where ``step_prefix``; ``ranges``: activation ranges are chosen again
    from so much data after stage 1, behind the quantised prefix; ``joint`` learns both in one stage of
    ``iterations``, with probability ``keep`` of a quantised element.
    ``fisher`` weighs stage 1's error by the loss's squared gradients (`methods.compressors._fisher`).
    ``guard`` goes back to nearest rounding (or calibrated steps) where learning did not help on all cached inputs.
    ``prediction`` adds the prediction difference to stage 1's (or the joint stage's) error; ``correction`` moves the
    full-precision inputs there, and with them the targets.
    """

    rounding: WeightRule
    iterations: int
    batch: int
    step_iterations: int = 0
    step_lr: float = 0.0
    step_prefix: bool = False
    ranges: Sampling | None = None
    fisher: bool = False
    guard: bool = True
    joint: bool = False
    keep: float = 1.0
    prediction: Prediction | None = None
    correction: Correction | None = None


def reconstruct(model: QuantModel, images: Tensor, recipe: Recipe, ctx: RunContext) -> list[Row]:
    """Learn what ``recipe`` asks for, in place; the network is left quantised, with hard weights.

    Args:
        model: calibrated quantised network in eval mode on ``ctx.device``.
        images: normalised float32 [N, C, H, W] on ``ctx.device``.
    """
    model.eval().requires_grad_(False)
    model.unfreeze()
    walk = Walk(model, images, recipe, ctx)
    rows = walk.rounding()
    if recipe.ranges is not None:
        walk.ranges(recipe.ranges)
    if recipe.step_iterations and not recipe.joint:
        rows += walk.steps()
    model.set_state(True, True)
    walk.finish()
    return rows


class Walk:
    """One reconstruction of one network."""

    def __init__(self, model: QuantModel, images: Tensor, recipe: Recipe, ctx: RunContext) -> None:
        self._model, self._images, self._recipe, self._ctx = model, images, recipe, ctx
        self._quantisers = UnitQuantisers(model)
        per_unit = recipe.iterations + (0 if recipe.joint else recipe.step_iterations)
        self._total, self._done = len(model.units) * per_unit, 0
        self._extras = Extras(model, images, recipe.prediction, recipe.correction)

    def finish(self) -> None:
        """Report that nothing is left to do, units without anything to learn included."""
        self._ctx.report("reconstructed", self._total, self._total)

    def rounding(self) -> list[Row]:
        """Stage 1 (or the joint stage) over all units in execution order."""
        joint = self._recipe.joint
        full = Prefix(self._model, self._images, False, False)
        quantised = Prefix(self._model, self._images, True, joint)
        rows = []
        for unit in self._model.units:
            module = self._model.unit_module(unit)
            x_full = full.enter(unit)
            target = cached(module, x_full)
            full.leave(target)
            x = quantised.enter(unit)
            row, output = self._round_unit(unit, module, x, x_full, target)
            quantised.leave(output)
            rows.append(row)
            self._done += self._recipe.iterations
        return rows

    def _round_unit(self, unit: Unit, module: nn.Module, x: Cache, x_full: Cache, target: Cache) -> tuple[Row, Cache]:
        """Learn one unit; return its report and its output on ``x`` as finally quantised."""
        begin = time.perf_counter()
        self._model.set_state(True, self._recipe.joint)
        quantisers = self._quantisers.steps(unit) if self._recipe.joint else []
        learned = self._quantisers.layers(unit)
        self._quantisers.freeze(unit.layers)
        output = cached(module, x)
        base = mean_error(output.all(), target.all())
        row: Row = {"unit": unit.name, "stage": "joint" if self._recipe.joint else "rounding", "layers": len(learned)}
        row |= {"rtn": base, "kept": "nearest", "degraded": False}
        if (learned or quantisers) and self._recipe.iterations:
            output = self._learn(unit, module, (x, x_full, target, output), learned, quantisers, row)
        row["seconds"] = time.perf_counter() - begin
        return row, output

    def _learn(
        self,
        unit: Unit,
        module: nn.Module,
        caches: tuple[Cache, Cache, Cache, Cache],
        learned: Sequence[str],
        quantisers: Sequence[ActQuantizer],
        row: Row,
    ) -> Cache:
        """Fit rounding (and steps), harden, guard; fill in ``row`` and return the unit's output."""
        recipe, (x, x_full, target, nearest) = self._recipe, caches
        x_full, aim = self._extras.corrected(unit, module, x_full, target, row)
        learners: list[Learner] = []
        own = self._quantisers.attach(learned, recipe.rounding) if learned else None
        if own is not None:
            learners += own.learners
        before = [q.scale.detach().clone() for q in quantisers]
        inputs: Inputs = x
        if quantisers:
            learners.append(self._step_learner(quantisers))
        if recipe.joint:
            inputs = MixedInputs(x, x_full, recipe.keep, self._ctx.generator)
        weights = self._fisher(unit) if recipe.fisher else None
        extra = self._extras.term(unit, module, x, recipe.iterations, row)
        place = (unit, row["stage"])
        with dropping(quantisers, recipe.keep, self._ctx.generator):
            fine = self._minimise(module, inputs, aim, learners, recipe.iterations, place, weights, extra)
        row["degraded"] = not fine
        output, error = nearest, math.inf
        if fine:
            if own is not None:
                own.soften()
                row |= {"flipped": own.rounding.flipped(), "converged": own.rounding.converged()}
                row["soft"] = mean_error(run(module, x, EVALUATION_BATCH), target.all())
                own.harden()
            output = cached(module, x)
            error = row["hard"] = mean_error(output.all(), target.all())
        if not math.isfinite(error) or (recipe.guard and error > row["rtn"]):
            if own is not None:
                self._quantisers.detach(own)
            restore(quantisers, before)
            return nearest
        row["kept"] = "learned"
        return output

    def ranges(self, sampling: Sampling) -> None:
        """Activation ranges again, tensor after tensor, each for what the network quantised so far gives."""
        place = {quantiser: index for index, quantiser in enumerate(self._quantisers.activations.values())}
        prefix = Prefix(self._model, self._images[: sampling.images], True, True)
        for unit in self._model.units:
            module = self._model.unit_module(unit)
            x = prefix.enter(unit)
            for quantiser in (self._quantisers.activations[name] for name in unit.activations):
                if not quantiser.is_identity:
                    observe(module, x.chunks(sampling.batch), {place[quantiser]: quantiser}, sampling)
            prefix.leave(cached(module, x))

    def steps(self) -> list[Row]:
        """Stage 2: activation steps, unit by unit, hard weights; inputs as ``step_prefix`` says."""
        full = Prefix(self._model, self._images, False, False)
        quantised = Prefix(self._model, self._images, True, True) if self._recipe.step_prefix else None
        rows = []
        for unit in self._model.units:
            begin = time.perf_counter()
            module = self._model.unit_module(unit)
            x = full.enter(unit)
            target = cached(module, x)
            full.leave(target)
            if quantised is not None:
                x = quantised.enter(unit)
            if quantisers := self._quantisers.steps(unit):
                row = self._step_unit(unit, module, x, target, quantisers)
                row["seconds"] = time.perf_counter() - begin
                rows.append(row)
            if quantised is not None:
                self._model.set_state(True, True)
                quantised.leave(cached(module, x))
            self._done += self._recipe.step_iterations
        return rows

    def _step_unit(
        self, unit: Unit, module: nn.Module, x: Cache, target: Cache, quantisers: Sequence[ActQuantizer]
    ) -> Row:
        recipe = self._recipe
        self._model.set_state(True, True)
        base = mean_error(run(module, x, EVALUATION_BATCH), target.all())
        before = [q.scale.detach().clone() for q in quantisers]
        learner = self._step_learner(quantisers)
        fine = self._minimise(module, x, target, [learner], recipe.step_iterations, (unit, "steps"))
        row: Row = {"unit": unit.name, "stage": "steps", "base": base, "kept": "learned", "degraded": not fine}
        error = math.inf
        if fine:
            error = row["learned"] = mean_error(run(module, x, EVALUATION_BATCH), target.all())
        if not math.isfinite(error) or (recipe.guard and error > base):
            restore(quantisers, before)
            row["kept"] = "calibrated"
        return row

    def _minimise(
        self,
        module: nn.Module,
        inputs: Inputs,
        target: Cache,
        learners: Sequence[Learner],
        iterations: int,
        place: tuple[Unit, str],
        weights: Cache | None = None,
        extra: Extra | None = None,
    ) -> bool:
        ctx, (unit, stage) = self._ctx, place
        if len(inputs) != len(target):  # a layer of shifted-window attention takes images and gives windows
            count = min(len(inputs), len(target))
            inputs, target = inputs.of(count), target.of(count)
            weights = None if weights is None else weights.of(count)
        index = draw_batches(len(target), self._recipe.batch, iterations, ctx.generator, self._images.device)

        # trackers allow no plus sign in a curve's name
        curve = f"{stage}/{unit.name.replace('+', '_')}"

        def watch(step: int, loss: float) -> None:
            ctx.report(f"{stage} {unit.name}", self._done + step, self._total)
            ctx.log_scalar(curve, step, loss)

        with learning(learners):
            return minimise(module, inputs, target, learners, index, watch, weights, extra)

    def _fisher(self, unit: Unit) -> Cache:
        """The weights of the unit's output, behind the units before it."""
        units = self._model.units
        done = [name for before in units[: units.index(unit)] for name in before.layers]
        found = fisher_weights(self._model, unit, self._images, done, EVALUATION_BATCH)
        return Cache(found, channels_last=True)

    def _step_learner(self, quantisers: Sequence[ActQuantizer]) -> StepLearner:
        return StepLearner([quantiser.scale for quantiser in quantisers], self._recipe.step_lr)
