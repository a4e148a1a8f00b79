"""Pruning by masks with MixMix's reconstruction in two stages, unit by unit (docs/methods/compressors.md#pruning).

Li et al., "MixMix", ICCV 2021, section 5.3 and appendix B, equation 10: masks start as magnitude says, then masks
(real numbers from now on) and weights are learned so that each unit's output matches the full-precision network's; mask
and weight are multiplied into new weights, which are ranked again; then weights alone are learned under the frozen
mask.  Each stage goes through the whole network before the next begins, because coupled channels are ranked together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.interfaces import RunContext
from methods.compressors._caches import EVALUATION_BATCH, Cache, Carried, cached, run
from methods.compressors._least_squares import fits, refit, samples
from methods.compressors._masked import Folded, MaskedUnit, Schedule, Values, layer_of, masked
from methods.compressors._masks import PER_CHANNEL, Masks, Selection
from methods.compressors._reconstruct import draw_batches, learning, mean_error, minimise
from methods.quant.subgraph import unit_graph, unit_inputs
from methods.quant.units import Unit

FIT_BATCH = 64

Row = dict[str, Any]
"""One unit's line of the report, JSON."""


class Pruning:
    """One pruning of one network, in place: its layers always hold the masked weights.

    Attributes:
        masks: the masks now; ``first`` those of the original weights.
    """

    def __init__(
        self, folded: Folded, selection: Selection, images: Tensor, schedule: Schedule, ctx: RunContext
    ) -> None:
        self._folded, self._selection, self._images = folded, selection, images
        self._schedule, self._ctx = schedule, ctx
        self._full = deepcopy(folded.graph)
        self._original = {name: self._read(name) for name in folded.order}
        self._dense = dict(self._original)
        self._norms = {
            name: [value.detach().clone() for value in part.parameters()]
            for name, part in folded.graph.named_modules()
            if isinstance(part, PER_CHANNEL)
        }
        self.first = self.masks = self._rank()
        self._place(folded.order)
        self._total = len(folded.units) * (schedule.mask_iterations + schedule.weight_iterations)
        self._done = 0

    @property
    def empty(self) -> bool:
        """Whether nothing is to go."""
        return all(bool(mask.all()) for mask in self.masks.values())

    @property
    def smallest(self) -> float | None:
        """The ratio above which something goes; None where nothing may at any."""
        choices = self._selection.choices({name: weight for name, (weight, _) in self._original.items()})
        return 0.5 / choices if choices else None

    def run(self) -> list[Row]:
        """Both stages; one row per unit."""
        rows = {unit.name: {"unit": unit.name, "layers": len(unit.layers)} for unit in self._folded.units}
        if self._schedule.positions:
            self._walk("fit", rows)
        if self._schedule.mask_iterations:
            self._walk("masks", rows)
            self.masks = self._rank()
            self._place(self._folded.order)
        self._walk("weights", rows)
        self._ctx.report("pruned", self._total, self._total)
        return list(rows.values())

    def swaps(self) -> dict[str, int]:
        """{layer: weights or filters that were to go at first and stay now}, where there are any."""
        counts = {name: int(((mask > 0) & (self.first[name] == 0)).sum()) for name, mask in self.masks.items()}
        return {name: count for name, count in counts.items() if count}

    def _walk(self, stage: str, rows: dict[str, Row]) -> None:
        """One stage over all units: inputs from the pruned prefix, targets from the full-precision network."""
        full, pruned = self._prefix(self._full), self._prefix(self._folded.graph)
        for unit in self._folded.units:
            begin = time.perf_counter()
            whole, x_full = unit_graph(self._full, unit), full.enter(unit)
            target = cached(whole, x_full)
            full.leave(target)
            module, x = unit_graph(self._folded.graph, unit), pruned.enter(unit)
            row = rows[unit.name]
            if unit.layers and stage == "fit":
                self._fit_layers(unit, (module, x), (whole, x_full))
            elif unit.layers:
                learn = self._learn_masks if stage == "masks" else self._learn_weights
                learn(unit, module, x, target, row)
            pruned.leave(cached(module, x))
            row["seconds"] = row.get("seconds", 0.0) + time.perf_counter() - begin

    def _prefix(self, graph: fx.GraphModule) -> Carried:
        return Carried(self._images, lambda unit: unit_inputs(graph, unit, self._images, EVALUATION_BATCH))

    @torch.no_grad()
    def _fit_layers(self, unit: Unit, pruned: tuple[nn.Module, Cache], full: tuple[nn.Module, Cache]) -> None:
        """Fit layer after layer on its pruned input and full-precision output; filters to go stay as they are."""
        for name in unit.layers:
            layer, whole = layer_of(self._folded.graph, name), layer_of(self._full, name)
            if not fits(layer):
                continue
            parts = []
            for x, x_full in zip(pruned[1].chunks(FIT_BATCH), full[1].chunks(FIT_BATCH), strict=True):
                inputs, _ = _seen(layer, pruned[0], x)
                _, outputs = _seen(whole, full[0], x_full)
                parts.append(samples(layer, inputs, outputs, self._schedule.positions, self._ctx.generator))
            weight, bias = refit(layer, torch.cat([x for x, _ in parts], 1), torch.cat([y for _, y in parts], 1))
            mask = self.masks.get(name, torch.ones_like(weight))
            old, old_bias = self._dense[name]
            if bias is not None and old_bias is not None:
                bias = torch.where(mask.flatten(1)[:, 0] > 0, bias, old_bias)
            self._dense[name] = torch.where(mask > 0, weight, old), bias
            self._place([name])

    def _learn_masks(self, unit: Unit, module: nn.Module, x: Cache, target: Cache, row: Row) -> None:
        """Stage 1: real masks and weights, then absorbed; the unit is left pruned by the first masks."""
        fitted = MaskedUnit(module, self._values(unit), self.masks, self._selection.filters, real=True)
        row["before"] = mean_error(run(module, x, EVALUATION_BATCH), target.all())
        row["degraded"] = not self._fit(fitted, unit, "masks", self._schedule.mask_iterations, x, target)
        if not row["degraded"]:
            row["soft"] = mean_error(run(fitted, x, EVALUATION_BATCH), target.all())
            self._dense |= _detached(fitted.values())
            self._place(unit.layers)
        row["stage1"] = mean_error(run(module, x, EVALUATION_BATCH), target.all())

    def _learn_weights(self, unit: Unit, module: nn.Module, x: Cache, target: Cache, row: Row) -> None:
        """Stage 2: weights under the frozen masks, and the guard."""
        learned = {name: self.masks[name] for name in unit.layers if name in self.masks}
        values = self._values(unit)
        one_shot = self.first if self._selection.local else self.masks
        self._set(unit.layers, self._original, one_shot)
        row["one_shot"] = mean_error(run(module, x, EVALUATION_BATCH), target.all())
        row |= {"kept": "learned", "degraded": row.get("degraded", False)}
        fine = True
        if self._schedule.weight_iterations:
            fitted = MaskedUnit(module, values, learned, self._selection.filters, real=False)
            fine = self._fit(fitted, unit, "weights", self._schedule.weight_iterations, x, target)
            values = _detached(fitted.values())
        error = math.inf
        if fine:
            self._set(unit.layers, values, learned)
            error = row["final"] = mean_error(run(module, x, EVALUATION_BATCH), target.all())
        row["degraded"] |= not fine
        if not math.isfinite(error) or (self._schedule.guard and error > row["one_shot"]):
            self._set(unit.layers, self._original, one_shot)
            self.masks |= {name: one_shot[name] for name in learned}
            row["kept"] = "one shot"

    def _fit(self, fitted: MaskedUnit, unit: Unit, stage: str, iterations: int, x: Cache, target: Cache) -> bool:
        ctx, batch = self._ctx, self._schedule.batch
        index = draw_batches(len(target), batch, iterations, ctx.generator, self._images.device)
        curve = f"{stage}/{unit.name.replace('+', '_')}"  # trackers allow no plus sign in a curve's name

        def watch(step: int, loss: float) -> None:
            ctx.report(f"{stage} {unit.name}", self._done + step, self._total)
            ctx.log_scalar(curve, step, loss)

        learners = fitted.learners(self._schedule)
        with learning(learners):
            fine = minimise(fitted, x, target, learners, index, watch)
        self._done += iterations
        return fine

    def _rank(self) -> Masks:
        return self._selection.rank({name: weight for name, (weight, _) in self._dense.items()})

    def _read(self, name: str) -> tuple[Tensor, Tensor | None]:
        layer = layer_of(self._folded.graph, name)
        return layer.weight.detach().clone(), None if layer.bias is None else layer.bias.detach().clone()

    def _values(self, unit: Unit) -> Values:
        return {name: self._dense[name] for name in unit.layers}

    def _place(self, names: Sequence[str]) -> None:
        """Mask the layers' learned weights, and what else has parameters for their channels."""
        self._set(names, self._dense, self.masks)
        for name, mask in self._selection.norm_masks(self.masks).items():
            for own, value in zip(self._folded.graph.get_submodule(name).parameters(), self._norms[name], strict=True):
                own.data.copy_(value * mask)

    @torch.no_grad()
    def _set(self, names: Sequence[str], values: Values, masks: Masks) -> None:
        for name in names:
            layer = layer_of(self._folded.graph, name)
            weight, bias = masked(*values[name], masks.get(name), self._selection.filters)
            layer.weight.copy_(weight)
            if bias is not None and layer.bias is not None:
                layer.bias.copy_(bias)


def _seen(layer: nn.Module, unit: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What ``layer`` reads and gives while ``unit`` runs on ``x``."""
    found: list[tuple[Tensor, Tensor]] = []
    hook = layer.register_forward_hook(lambda _, args, out: found.append((args[0], out)))
    try:
        unit(x)
    finally:
        hook.remove()
    return found[-1]


def _detached(values: Values) -> Values:
    return {name: (w.detach(), None if b is None else b.detach()) for name, (w, b) in values.items()}
