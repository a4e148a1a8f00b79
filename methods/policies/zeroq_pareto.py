"""ZeroQ's choice of bits: layers whose rounding alone moves the network's answers keep more (Cai et al., CVPR 2020).

    Omega_i(k) = 1/N sum_j KL(M(x_j) || M with layer i alone at k bits (x_j))      (arXiv 2001.00281, section 3.2)
    Omega(policy) = sum_i Omega_i(k_i)

over the N images that are given (ZeroQ's are made from batch-norm statistics: source ``zeroq``), without labels.  The
sum takes for granted that layers do not act on each other.  Quantisers are those of post-training compressors: batch
normalisation folded, weights per channel, activations per tensor where the compressor has them, ranges of least error
(docs/methods/quantisation.md).

Known deviations:
- The paper finds the Pareto front of size and Omega by dynamic programming and takes its point at the wished size; an
  integer program gives that point exactly, and also within BitOPs.  ``front`` in the report is the front over BitOPs.
- The paper measures weights and leaves activations at one bit-width.  ``activations`` (on) measures each input tensor
  alone in the same way and adds it; off, inputs are tied to weights (``equal``) or get the most bits that fit.
- First and last layer keep the setting's bits (docs/methods/quantisation.md#bits).

Published: mixed and uniform bits together, 1.71 points over DFQ on MobileNetV2 (abstract); ours stand in the board's
rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.interfaces import ImageSet, MethodParams, ModelHandle, RunContext, Searched, Setting
from methods.policies._base import (
    ForSearchedLayers,
    SearchParams,
    cheapest,
    choices_of,
    described,
    limits_of,
    pair_costs,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from methods.policies._sensitivity import Table
    from methods.policies._space import Space


class ZeroqParetoParams(SearchParams):
    """``samples`` images at most are measured, ``batch`` at a time; ``calibration`` of them choose activation ranges,
    from ``range_values`` values per tensor; ``activations`` measures inputs too; ``points`` of the front (0: none)."""

    samples: int = Field(default=128, ge=1)
    batch: int = Field(default=128, ge=1, le=4096)
    calibration: int = Field(default=128, ge=1)
    range_values: int = Field(default=1 << 14, ge=1 << 8, le=1 << 24)
    activations: bool = True
    points: int = Field(default=12, ge=0, le=200)


class ZeroqPareto(ForSearchedLayers):
    """The search; see the module's docstring."""

    version = 1
    summary = "ZeroQ's sensitivities: divergence with one layer alone quantised, least sum within the budget"
    paper = "Cai et al., ZeroQ: A Novel Zero Shot Quantization Framework, CVPR 2020"
    Params: type[MethodParams] = ZeroqParetoParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {"samples": 512, "calibration": 256, "range_values": 1 << 16},
        "paper": {"samples": 1024, "calibration": 1024, "range_values": 1 << 16},
    }

    def search(self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext) -> Searched:
        """The policy of least summed divergence; the report holds every single one.

        Raises:
            BenchError: the budget cannot be reached, with the smallest value that can.
        """
        from bench.interfaces.program import front
        from methods.policies._sensitivity import first_images
        from methods.policies._space import space_of

        data = first_images(images, params.samples, ctx)
        space = space_of(model.module, data[:2], setting)
        limits = limits_of(space, setting, params.budget)
        table, passes = measured(model.module, data, space, setting, params, ctx)
        solution = cheapest(space, setting, params, table.cost(space))
        fixed = space.bitops(solution.policy) - solution.bitops
        points = front(choices_of(space, params, table.cost(space)), params.points) if params.points else ()
        report = described(space, solution.policy, limits) | {
            "omega": solution.cost,
            "pair_costs": pair_costs(space, params, table.cost(space)),
            "sensitivities": table.report(),
            "front": [[float(fixed + point.bitops), point.cost] for point in points],
        }
        return Searched(solution.policy, report, passes)


def measured(
    module: nn.Module, data: Tensor, space: Space, setting: Setting, params: Any, ctx: RunContext
) -> tuple[Table, float]:
    """The divergence of every (layer, bits) and (tensor, bits) alone, and the passes it took.

    One quantised copy per bit-width serves all layers: a quantiser is switched on and off again.
    """
    from methods.policies._sensitivity import Table, divergence_with, logits_of, wired
    from methods.quant.calibrate import Sampling

    sampling = Sampling(params.calibration, params.range_values, batch=params.batch)
    weighted = [place for place in space.searched if place.weight]
    tensors = {place.reads: [p.name for p in space.searched if p.reads == place.reads] for place in space.searched}
    tensors = {name: tensors[name] for name in dict.fromkeys(p.reads for p in space.searched if p.input)}
    acts = params.act_bits if params.activations else ()
    weights: dict[tuple[str, int], float] = {}
    inputs: dict[tuple[str, int], float] = {}
    passes, done = 0.0, 0
    total = len(weighted) * len(params.weight_bits) + len(tensors) * len(acts)
    for bits in sorted({*params.weight_bits, *acts}):
        found = wired(module, data, space, setting, bits, sampling)
        full = logits_of(found.net, data, params.batch)
        on: list[tuple[dict[tuple[str, int], float], str, list[nn.Module]]] = []
        if bits in params.weight_bits:
            on += [(weights, place.name, found.weight(place.name)) for place in weighted]
        if bits in acts:
            on += [(inputs, name, found.inputs(readers)) for name, readers in tensors.items()]
        for entries, name, quantisers in on:
            entries[name, bits] = divergence_with(quantisers, found.net, data, full, params.batch)
            done += 1
            ctx.report("sensitivities", done, total)
        passes += len(data) * (1.0 + len(on)) + min(params.calibration, len(data))
    return Table(weights, inputs), passes


METHOD = ZeroqPareto()
