"""DQNet: one small controller looks at an image's early features and chooses the bits of all later layers.

Liu et al., "Instance-Aware Dynamic Neural Network Quantization" (CVPR 2022).  The paper itself was not at hand: its
setting is that of public descriptions, not checked against the text: behind the first stage average pooling, linear 64,
dropout 0.2, linear to layers x 3; hard Gumbel-softmax at tau 1 in training, argmax in use; candidates one bit less than
asked, as asked, one more, for weights and activations at once; loss = cross-entropy + 0.05 max(0, mean bits - asked).
Real images were its data; here any images serve.

What is left open, with the choice made:
- The first stage: the first quarter of the weighted layers (``after``), which is the first stage of a ResNet-18.  Its
  layers have the setting's bits.  The controller reads the input of the next one.
- No nonlinearity stands between its two layers, as none is described.  Gradient flows into the features it reads.
- Mean bits are those of the layers it chooses for, weighted by MACs.  A layer's weights have its input's candidate.
  Where several layers read one tensor they share a choice.

Known deviations:
- ``mini`` learns from the full-precision network instead of labels, fine-tunes it by `lsq`'s training, with
  statistics that follow the batches to the end, and moves the controller by Adam; ``paper`` is labels alone, SGD 0.1,
  decay 1e-4, batches of 256, 110 epochs of ImageNet.
- The loss holds the mean from above only, and that of drawn choices; the mean of the surest ones is another
  (below).  ``settle`` (not in ``paper``) tilts all logits by one number afterwards so that the mean over the
  training images is the setting's.
- First and last layer and squeeze-excite have 8 bits, a policy's layers their own.
- Bytes are counted at the setting's bits; a device that is to serve all candidates stores more.

Published figure (ImageNet, ResNet-18, DoReFa at 4 bits 68.1 %): 69.44 %.
Ours (as in `ddpq_dynamic`, 1,024 training images, where one candidate there reaches 92.1 %): 92.7 % at 3.97 bits,
ten of twelve choices the same for all images, rank correlation with entropy 0.17; not settled, with labels beside the
KL, 91.6 % at 3.71 bits (3.95 as drawn in training).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._dynamic import DynamicCompressor, DynamicParams, compress

if TYPE_CHECKING:
    from methods.compressors._dynamic_training import BitLoss
    from methods.quant.dynamic_tensors import Choices

EPOCHS, PER_EPOCH = 110, 1_281_167 // 256


class DqnetParams(DynamicParams):
    """As DynamicParams; the controller reads what the first layer after the share ``after`` reads, has ``hidden`` units
    and ``dropout``; ``bit_weight`` is the weight of the bits above those asked for."""

    weights: Literal["fixed", "follow"] = "follow"
    after: float = Field(default=0.25, ge=0, lt=1)
    hidden: int = Field(default=64, ge=1, le=4096)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    bit_weight: float = Field(default=0.05, ge=0, le=1e6)


class Dqnet(DynamicCompressor):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "training in which a controller chooses the bits of later layers from an image's early features"
    paper = "Liu et al., Instance-Aware Dynamic Neural Network Quantization, CVPR 2022"
    Params: type[MethodParams] = DqnetParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {"steps": 4000},
        "paper": {
            "steps": EPOCHS * PER_EPOCH,
            "batch": 256,
            "optimiser": "sgd",
            "lr": 0.1,
            "decay": 1e-4,
            "clip": 0.0,
            "features": 0.0,
            "kl": 0.0,
            "labels": 1.0,
            "quantiser": "pact",
            "settle": False,
        },
    }

    def choices(self, params: Any, setting: Setting) -> Choices:
        """A controller for all tensors."""
        from methods.quant.dynamic_tensors import Choices

        candidates = params.candidates_for(setting)
        return Choices(
            candidates,
            params.weights_for(setting, candidates),
            "joint",
            params.after,
            params.hidden,
            params.dropout,
            params.bn == "switch",
        )

    def bit_loss(self, params: Any, setting: Setting) -> BitLoss:
        """What lies above the bits asked for."""
        from methods.compressors._dynamic_training import BitLoss

        candidates = params.candidates_for(setting)
        return BitLoss("hinge", params.bit_weight, setting.act_bits, candidates[0], candidates[-1])

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Train a copy of ``model`` and its controller; the setting's bits bound the mean.

        Raises:
            NotApplicable: the candidates have no such mean; the recipe needs labels that the images lack, or asks its
                teacher nothing.
            BenchError: a loss is not finite.
        """
        choices, bit_loss = self.choices(params, setting), self.bit_loss(params, setting)
        return compress(model, images, setting, params, choices, bit_loss, ctx, noisy=True)


METHOD = Dqnet()
