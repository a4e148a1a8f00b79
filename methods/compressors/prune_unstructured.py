"""Unstructured pruning: half of each layer's weights are zeroed by magnitude, the rest makes up for them.

MixMix (Li et al., ICCV 2021), section 5.3 and appendix B, equation 10: L1 magnitude selects, 1024 images reconstruct
each unit's output in two stages (masks and weights jointly, absorbed and ranked again; then weights, masks frozen).
Magnitude pruning is Han et al., "Deep Compression" (arXiv 1510.00149).

Known deviations:
- ``mini`` runs 200 iterations per stage at 1e-3 (paper: 5000 at 4e-5, both falling along a cosine): lr * T is kept.
- Optimiser, batch and whether biases train are not printed: Adam, 32, yes.  Equation 10 prints an unsquared difference
  of a linear layer's outputs; a unit's (block's) output after its activation and the squared norm are used.
- Both stages go through the whole network, one after the other; the paper does not say.
- First and last layer are pruned (not printed; ``skip_first_last``).
- Guard (not in the paper): a unit that learning made worse over all images keeps its original weights, pruned.

Zeros are exact and counted per layer, but dense kernels do not skip them: MACs stay, ``macs_effective`` and the bytes
fall.  Published figures (MixMix, table 5, ImageNet, real data, 50 %): ResNet-50 76.53 % (FP 77.00 %), MobileNet-b
72.96 %, MobileNetV2 68.96 % (72.49 %), MNasNet 70.43 % (73.52 %).
Ours, on the networks before their second training cycle (suite ``pruning``, narrow networks at 32 pixels, 256 images,
one seed; real, DeepInversion, MixMix, noise): ResNet-50 90.9, 90.7, 90.6, 81.6 (91.4), MobileNet-b 86.0, 80.3, 75.1,
37.4 (89.7), MobileNetV2 88.4, 73.0, 76.7, 24.2 (90.9), MNasNet 87.8, 77.5, 78.3, 33.7 (90.7).
"""

from __future__ import annotations

from typing import Any

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._pruner import PruneParams, Pruner


class PruneUnstructured(Pruner):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "smallest weights of each layer zeroed, the others reconstruct each block's output"
    makes_zeros = True
    Params: type[MethodParams] = PruneParams

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Zero ``setting.sparsity`` of each layer's weights; the report holds a row per unit."""
        from methods.compressors._masks import Entries
        from methods.compressors._pruned import Plan, compress, folded, prunable

        work = folded(model, images.images[:2].to(ctx.device, ctx.dtype), params)
        selection = Entries(setting.sparsity, prunable(work, params, outputs=True))
        protocol = {"pruned": "weights", "criterion": "L1", "scope": "layer"}
        return compress(work, Plan(selection, protocol), images, setting, params, ctx)


METHOD = PruneUnstructured()
