"""GMPQ: a mixture of candidate bits that has to look where the network in floating point looks.

Wang et al., "Generalizable Mixed-Precision Quantization via Attribution Rank Preservation", ICCV 2021 (arXiv
2108.02720).  The supernet and L_comp are EdMIPS' (`methods.policies.edmips`).  With the last feature map f and the
predicted class of each network,

    A = ReLU(sum_c (sum_hw d logit_pred / d f_c) f_c)
    L = CE + w L_attr + gamma L_comp,   L_attr = mean (A / |A| - A_full^p / |A_full^p|)^2

the norms per image.  A search that keeps attributions is meant to serve data it has not seen.

Deviations:
- The loss is what the authors' code computes: the paper speaks of ranks of attributions.  p is 3, or (``power: 0``) 24
  times the mean of 1 / (E[w] E[a]); w is 40.
- f is the last unit's output, before the pooling and in floating point; of a network that cannot be traced what its
  last convolution gives.
- A map of zeros stays one, instead of dividing by its norm.
- Quantisers, gamma, the hard budget, labels and start as for EdMIPS (``paper``: gamma 3e-4); the clip at 5 too.  The
  network in floating point is the one the search starts from, which ``pretrain_epochs`` may train on the images first.
- Cost counts three passes per image: a forward and a backward of the supernet and a forward of the other network.

Published figures (ImageNet, ResNet-18 at 3 bits): 68.6 % at 22.8 GBitOPs, 0.6 hours (SEAM's Table 1, full precision
70.5 %); taught by a ResNet-101 69.5 % (SEAM's Table 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.interfaces import MethodParams
from methods.policies._differentiable import MINI, DifferentiableSearch, PressureParams

if TYPE_CHECKING:
    from methods.policies._proxy import Proxy
    from methods.policies._supernet import Supernet
    from methods.policies._supernet_loop import Objective


class GmpqParams(PressureParams):
    """``attribution``: w, 0 leaves the loss out; ``power``: p, 0 adapts it."""

    attribution: float = Field(default=40.0, ge=0, le=10_000)
    power: float = Field(default=3.0, ge=0, le=100)


class Gmpq(DifferentiableSearch):
    """The search; see the module's docstring."""

    version = 1
    summary = "EdMIPS' supernet that keeps the attributions of the network in floating point"
    paper = "Wang et al., Generalizable Mixed-Precision Quantization via Attribution Rank Preservation, ICCV 2021"
    Params: type[MethodParams] = GmpqParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": MINI,
        "thorough": {"epochs": 15, "samples": 50_000},
        "paper": {
            "epochs": 25,
            "batch": 256,
            "samples": 50_000,
            "lr": 0.1,
            "lr_arch": 0.01,
            "shape": "drops",
            "drops": [0.4, 0.8],
            "shift": 4,
            "flip": True,
            "quantisers": "lsq",
            "gamma": 3e-4,
        },
    }

    def objective(self, net: Supernet, proxy: Proxy, params: Any, limit: float) -> Objective:
        """With the loss of attributions."""
        from methods.policies._attribution import AttributionObjective

        return AttributionObjective(net, proxy, params)


METHOD = Gmpq()
