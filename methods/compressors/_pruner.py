"""What the pruning compressors declare alike: hyper-parameters, presets, attributes. No torch: a plan reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bench.interfaces import MethodParams
from methods.compressors._base import ForWeightedLayers

if TYPE_CHECKING:
    from methods.compressors._masked import Schedule

TRAVEL = 0.2
"""lr * T as published (4e-5 for 5000 iterations); a half cosine halves it."""

Rate = Annotated[float, Field(ge=0, le=1)] | Literal["auto"]


class PruneParams(MethodParams):
    """``mask_iterations`` of stage 1 (masks and weights) and ``weight_iterations`` of stage 2 (weights); both 0 is
    pruning in one shot.

    ``lr`` auto is 0.2 / iterations (1e-3 at 200, the published 4e-5 at 5000), ``lr_mask`` auto is ``lr``; both fall
    along a half cosine.  ``skip_first_last`` leaves the first and the last layer whole.  ``latency_runs`` forward
    passes are timed per network and batch size (0: none).
    """

    mask_iterations: int = Field(default=200, ge=0, le=1_000_000)
    weight_iterations: int = Field(default=200, ge=0, le=1_000_000)
    batch: int = Field(default=32, ge=1, le=4096)
    lr: Rate = "auto"
    lr_mask: Rate = "auto"
    biases: bool = True
    skip_first_last: bool = False
    guard: bool = True
    max_layers: int = Field(default=8, ge=1, le=64)
    latency_runs: int = Field(default=20, ge=0, le=10_000)

    def schedule(self) -> Schedule:
        """The schedule with its rates resolved."""
        from methods.compressors._masked import Schedule

        longest = max(self.mask_iterations, self.weight_iterations, 1)
        lr = TRAVEL / longest if self.lr == "auto" else self.lr
        lr_mask = lr if self.lr_mask == "auto" else self.lr_mask
        iterations = (self.mask_iterations, self.weight_iterations)
        return Schedule(*iterations, self.batch, lr, lr_mask, self.biases, self.guard)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "mini": {},
    "thorough": {"mask_iterations": 1000, "weight_iterations": 1000, "latency_runs": 50},
    "paper": {"mask_iterations": 5000, "weight_iterations": 5000, "latency_runs": 50},
}


class Pruner(ForWeightedLayers):
    """What both ways of pruning declare alike."""

    paper = "Li et al., MixMix: All You Need for Data-Free Compression Are Feature and Data Mixing, ICCV 2021"
    accepts = frozenset({"sparsity"})
    presets: Mapping[str, Mapping[str, Any]] = PRESETS
