"""DNAS-style: bits drawn by Gumbel softmax at a falling temperature, weights and logits trained in turn.

Wu et al., "Mixed Precision Quantization of ConvNets via Differentiable Neural Architecture Search", 2018 (arXiv
1812.00090).  In every step each choice's shares are drawn,

    m = softmax((alpha + g) / tau),   g_i = -log(-log u_i),   tau from 5 down,

so that they come close to one candidate; weights move on one part of the images and logits on the other, in turn, by

    L = CE (log Cost / log Cost_0)^k        Cost = sum_l M_l E_m[w_l] E_m[a_l]

A layer gets the candidate with the largest logit.

Deviations, for which rows say "DNAS-style": no code of the authors was at hand.
- One convolution of mixed operands (as in `methods.policies.edmips`), not an edge per candidate.
- The paper's factor beta (log Cost)^k is printed without values: the factor is 1 at the start here and ``exponent`` is
  k.  It says nothing of a budget, which the integer program enforces as for the other searches.
- tau falls in equal factors from ``tau_first`` to ``tau_last`` within the search, whatever its length.
- The logits' optimiser is SGD like the weights'; turns change every step, not every epoch.  ``paper`` is a schedule of
  our own at the usual length of such searches: the paper's was not at hand.

Published figures (ImageNet, as SEAM's Table 1 repeats them): ResNet-18 at 3 bits 68.7 % (full precision 71.0 %, 25.38
GBitOPs), at 4 bits 70.6 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.interfaces import MethodParams
from methods.policies._differentiable import MINI, DifferentiableSearch, TrainingParams

if TYPE_CHECKING:
    from methods.policies._proxy import Proxy
    from methods.policies._supernet import Supernet
    from methods.policies._supernet_loop import Objective


class DnasParams(TrainingParams):
    """``tau_first`` and ``tau_last``: temperature in the first and last step; ``arch_share`` of the images moves the
    logits, the rest the weights; ``exponent``: k of the cost's factor."""

    tau_first: float = Field(default=5.0, gt=0, le=100)
    tau_last: float = Field(default=0.5, gt=0, le=100)
    arch_share: float = Field(default=0.2, gt=0, lt=1)
    exponent: float = Field(default=1.0, ge=0, le=10)


class Dnas(DifferentiableSearch):
    """The search; see the module's docstring."""

    version = 1
    summary = "DNAS-style: bits drawn by Gumbel softmax, weights and logits trained in turn"
    paper = "Wu et al., Mixed Precision Quantization of ConvNets via Differentiable NAS, 2018, arXiv 1812.00090"
    Params: type[MethodParams] = DnasParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": MINI,
        "thorough": {"epochs": 15, "samples": 50_000},
        "paper": {
            "epochs": 60,
            "batch": 256,
            "samples": 2_000_000,
            "lr": 0.1,
            "lr_arch": 0.01,
            "quantisers": "lsq",
            "shift": 4,
            "flip": True,
        },
    }

    def objective(self, net: Supernet, proxy: Proxy, params: Any, limit: float) -> Objective:
        """Drawn shares, a factor for the cost."""
        from methods.policies._gumbel import GumbelObjective

        return GumbelObjective(net, proxy, params)


METHOD = Dnas()
