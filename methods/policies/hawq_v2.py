"""HAWQ-V2 trace + ILP: layers whose loss surface is steep keep more bits (Dong et al., NeurIPS 2020).

    Omega(policy) = sum_l Tr(H_l) / n_l * ||Q_w(W_l) - W_l||^2        (HAWQ-V2, arXiv 1911.03852, section 3.1)

Tr(H_l) is the trace of the Hessian of the cross-entropy in the weights of layer l, n_l their number, the norm a sum of
squares.  The trace is Hutchinson's (section 3.2): v^T H v for random signs v, by a backward through a backward, on one
fixed batch, batch normalisation in eval mode, weights in floating point.  The policy of least Omega within the budget
comes from the integer program of HAWQ-V3 (arXiv 2011.10680, section 3.3).

Known deviations:
- HAWQ-V2 itself walks a Pareto front; the integer program is HAWQ-V3's, hence the label.
- One probe serves all layers at once (`methods.policies._hutchinson`): the mean is the same, the cost a layer's share,
  the scatter larger, above all in layers of small trace.  ``trace_errors`` in the report are standard errors.
- Q_w is the symmetric per-tensor grid of least squared error; the paper does not say how its range is found.
- Weights decide: a layer's input gets its weight's bits (``equal``, on by default).  ``activations`` adds the same term
  for tensors, Tr(H_a) / |a| * ||Q_a(x) - x||^2, mean over images, as the appendix of HAWQ-V2 has it for activations.
- Negative traces (kinks of ReLUs, few probes) count as 0; the report says how many there were.
- Without labels the network's own answers stand for them.

Published: normalised traces of ResNet18 fall with depth, from 0.0686 at the first searched convolution to 0.0007 at the
last, and strided 1x1 shortcuts lie above their neighbours.  Ours stand in the board's rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from bench.interfaces import ImageSet, MethodParams, ModelHandle, RunContext, Searched, Setting
from methods.policies._base import ForSearchedLayers, SearchParams, cheapest, described, limits_of, pair_costs


class HawqV2Params(SearchParams):
    """``samples`` images at most, ``batch`` at a time; ``probes`` at most, fewer once another changes no trace by more
    than ``tolerance`` of it; ``activations`` adds the tensors' own term (then ``equal`` may be off)."""

    equal: bool = True
    samples: int = Field(default=128, ge=1)
    probes: int = Field(default=32, ge=1, le=10_000)
    tolerance: float = Field(default=1e-3, ge=0, lt=1)
    batch: int = Field(default=64, ge=1, le=4096)
    activations: bool = False


class HawqV2(ForSearchedLayers):
    """The search; see the module's docstring."""

    version = 1
    summary = "HAWQ-V2 trace + ILP: traces of the Hessian times rounding errors, least sum within the budget"
    paper = "Dong et al., HAWQ-V2: Hessian Aware trace-Weighted Quantization of Neural Networks, NeurIPS 2020"
    Params: type[MethodParams] = HawqV2Params
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {"samples": 256},
        "paper": {"samples": 256, "probes": 100},
    }

    def search(self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext) -> Searched:
        """The policy of least Omega; the report holds traces, their standard errors and the perturbations.

        Raises:
            BenchError: the budget cannot be reached, with the smallest value that can.
        """
        from methods.policies._hawq_v2_traces import curvature
        from methods.policies._sensitivity import labelled
        from methods.policies._space import space_of

        space = space_of(model.module, images.images[:2].to(ctx.device), setting)
        limits = limits_of(space, setting, params.budget)
        data = labelled(model.module, images, params.samples, params.batch, ctx)
        found = curvature(model.module, data, space, params, ctx)
        solution = cheapest(space, setting, params, found.table.cost(space))
        report = (
            described(space, solution.policy, limits)
            | found.report()
            | {
                "omega": solution.cost,
                "pair_costs": pair_costs(space, params, found.table.cost(space)),
            }
        )
        return Searched(solution.policy, report, data.passes + found.passes)


METHOD = HawqV2()
