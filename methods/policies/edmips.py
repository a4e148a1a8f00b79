"""EdMIPS: every layer is a mixture of its candidate bits, and the shares are trained with the weights.

Cai and Vasconcelos, "Rethinking Differentiable Search for Mixed-Precision Neural Networks", CVPR 2020 (arXiv
2004.05795).  With p = softmax(alpha_l) and r = softmax(beta_l), all logits 0.01 at first, a layer computes

    y = conv(sum_j r_j Q_aj(x), sum_i p_i Q_wi(W))        one shared W, one convolution

and one loss on one batch moves weights, alpha and beta together:

    L = L_task + gamma L_comp,   L_comp = (1 / M_1) sum_l M_l (sum_i p_i w_i) (sum_j r_j a_j)

with M_l the multiply-accumulates of searched layer l and M_1 those of the first.  A layer gets its likeliest bits.

Deviations:
- Quantisers are LSQ's, a learned step per layer and candidate, as the compressors here train; ``quantisers: fixed`` has
  EdMIPS' steps for normal weights and half-wave normal activations, the latter times the spread of the first images,
  as the networks here have no activations of unit variance, and the weights' grid for two-sided tensors.  EdMIPS'
  candidates of one bit are left out: no compressor here has them.
- Layers that read one tensor share its bits, and first and last layer have the setting's own.
- The budget is hard: the policy is projected by the integer program with cost -log p_w - log p_a (``answer: argmax``
  leaves that out), and fills the budget (``fill``), as gamma is not tuned to it.  gamma has to be tuned per network and
  budget in the paper; by default it is chosen in the first step, gamma L_comp being ``pressure`` times the task's loss,
  a rule of ours.  ``paper`` looks for it by bisection.
- The search starts from the trained network and lasts 5 epochs on up to 5,000 images (``mini``), with lr_arch 1 and
  without decay of the logits; ``paper`` has the published schedule (25 epochs, lr 0.1, lr_arch 0.01, both divided by 10
  twice, decay 1e-4 of the logits too).
- Images without labels are labelled by the network itself.  The gradient's norm is clipped at 5.
- Cost is counted as a forward and a backward per image; a step of the supernet takes 1.5 to 2.9 times the time of a
  step in floating point (ten networks at 32 pixels, four candidates each, one thread; tests/benchmarks).

Published figures (ImageNet, top-1, uniform 2 bits and mixed ones of the same cost): ResNet-18 65.1 and 65.9 % (1.992
bits), ResNet-50 70.6 and 72.1 % (2.007), GoogLeNet 64.8 and 67.8 %, Inception-v3 71.0 and 72.4 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.interfaces import MethodParams
from methods.policies._differentiable import MINI, DifferentiableSearch, PressureParams


class Edmips(DifferentiableSearch):
    """The search; see the module's docstring."""

    version = 1
    summary = "shares of candidate bits trained with the weights, under a complexity loss"
    paper = "Cai and Vasconcelos, Rethinking Differentiable Search for Mixed-Precision Neural Networks, CVPR 2020"
    Params: type[MethodParams] = PressureParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": MINI,
        "thorough": {"epochs": 15, "samples": 50_000},
        "paper": {
            "weight_bits": [2, 3, 4],
            "act_bits": [2, 3, 4],
            "epochs": 25,
            "batch": 256,
            "samples": 2_000_000,
            "lr": 0.1,
            "lr_arch": 0.01,
            "decay_arch": 1e-4,
            "shape": "drops",
            "drops": [0.4, 0.8],
            "shift": 4,
            "flip": True,
            "quantisers": "fixed",
            "pressure": None,
        },
    }


METHOD = Edmips()
