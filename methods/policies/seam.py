"""SEAM: a mixture of candidate bits whose features are kept apart by class, searched on a small proxy data set.

Tang et al., "SEAM: Searching Transferable Mixed-Precision Quantization Policy through Large Margin Regularization", ACM
Multimedia 2023.  The supernet and L_comp are EdMIPS' (`methods.policies.edmips`); the classifier gives way to one of
Gaussian classes over the penultimate feature g, with d_k(g) = (g - mu_k)' Sigma_k^-1 (g - mu_k) / 2:

    L = L_cls + lambda L_inc + gamma L_comp                                    (equation 11)
    L_cls = CE of z, z_y = -(1 + m) d_y - log det Sigma_y / 2, z_k = -d_k - log det Sigma_k / 2 elsewhere   (6, 9)
    L_inc = mean of d_y + log det Sigma_y / 2 + log K                          (10)

Predictions have no margin.  The policy is meant for the network, not for the classes: ``head`` is not needed, as the
last layer's own scores are not used.

Deviations:
- The paper adds the margin inside equation 9 and says it multiplies; and equation 6 exponentiates the density of
  equation 9 again.  Here it is the log posterior with a factor on d_y, as the loss SEAM builds on has it (Wan et
  al., CVPR 2018).
- L_inc is a mean over the batch, not a sum, which would make lambda depend on the batch.
- g is what the last layer reads, behind that layer's own quantiser where the network can be traced.
- The paper leaves open gamma, how the logits are trained, the quantisers of the search, the first weights and whether
  Sigma is learned.  Here: gamma as for EdMIPS, SGD for all, LSQ's steps, the target's weights, and Sigma = I
  (``covariance: diagonal`` learns log variances within [-3, 3]).
- The means start at those of the classes (``means: xavier`` is the other way): far from them, d of hundreds of features
  is so large that the margin is all that counts.
- The budget is hard: the policy is projected by the integer program (``answer: argmax`` leaves that out).
- Labels of images without any are the network's own predictions; of soft labels, the likeliest class.

Published figures (ImageNet, proxy CIFAR-10 and StanfordCars): ResNet-18 at 3 bits 70.0 and 69.6 % (23.07 GBitOPs), at 4
bits 70.8 and 70.5 % (34.7; full precision 70.5 %); ResNet-50 76.8 and 76.2 % (70.43, 71.6); MobileNetV1 at 3 bits 69.9
and 69.6 %, at 4 bits 71.8 and 71.7 %; search in 0.3 to 1.7 hours.  Without the margin 68.4 instead of 70.0 % (Table 3,
CIFAR-10).  lambda 0.02, 0.1, 0.5, 2.5: 69.5, 70.0, 69.2, 69.0 % (Table 5).

Class margins (Figure 2; `methods.policies._margins`; ResNet-18, 5,000 training images, 3 bits, one seed), smallest and
mean distance of centres over spread: full precision 2.25, 3.27; after 5 epochs EdMIPS 2.30, 3.88 and SEAM 2.11, 4.34;
after the published 15 epochs 2.36, 3.83 and 2.62, 4.89 (MobileNetV2, 5 epochs: 2.31, 3.26; 2.02, 3.69; 2.20, 4.96). So
five epochs are too few for the two classes that look most alike. One thing varied at a time in five epochs: m = 0 2.14,
lambda = 0 2.00, both 2.20, m = 1 and lambda = 0.02 1.90, lr = 0.05 1.79; Sigma = s^2 I with the features' own variance
s^2 about their class centres 0.81 (with lambda = 0 1.02).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench.interfaces import MethodParams
from methods.policies._differentiable import MINI, DifferentiableSearch, PressureParams

if TYPE_CHECKING:
    from methods.policies._proxy import Proxy
    from methods.policies._supernet import Supernet
    from methods.policies._supernet_loop import Objective


class SeamParams(PressureParams):
    """``margin``: m; ``margin_ramp``: share of the steps within which it grows in steps from a third (0: at once);
    ``lambda_inc`` weighs L_inc; ``means``: where they start; ``covariance``: Sigma."""

    margin: float = Field(default=0.3, ge=0, le=10)
    margin_ramp: float = Field(default=0.0, ge=0, le=1)
    lambda_inc: float = Field(default=0.1, ge=0, le=100)
    means: Literal["classes", "xavier"] = "classes"
    covariance: Literal["identity", "diagonal"] = "identity"


class Seam(DifferentiableSearch):
    """The search; see the module's docstring."""

    version = 1
    summary = "EdMIPS' supernet with Gaussian classes and a margin, for small proxy data"
    paper = "Tang et al., SEAM: Searching Transferable Mixed-Precision Quantization Policy, ACM Multimedia 2023"
    Params: type[MethodParams] = SeamParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": MINI,
        "thorough": {"epochs": 15, "samples": 50_000},
        "paper": {
            "epochs": 15,
            "batch": 128,
            "samples": 50_000,
            "lr_arch": 0.01,
            "shift": 4,
            "quantisers": "lsq",
            "means": "xavier",
            "pressure": None,
        },
    }

    def objective(self, net: Supernet, proxy: Proxy, params: Any, limit: float) -> Objective:
        """The Gaussian classes' losses."""
        from methods.policies._gaussian_head import GaussianObjective

        return GaussianObjective(net, proxy, params)


METHOD = Seam()
