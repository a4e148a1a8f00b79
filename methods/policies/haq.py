"""HAQ-reduced: an agent chooses bits layer by layer and learns from the accuracy it gets (Wang et al., CVPR 2019).

From HAQ (arXiv 1811.08886, section 3) and its code: DDPG over the layers, two steps each (weight, input); ten numbers
describe a layer; an action in [0, 1] is mapped to bits, all with equal parts of the interval; a policy over the
budget is lowered from the last layer to the first, input before weight, until it fits (section 3.3); every step of an
episode gets the reward 0.1 (accuracy - accuracy in floating point), percent.  Actor and critic 300-300, lr 1e-4
and 1e-3, tau 0.01, discount 1, batch 64, moving baseline 0.5, truncated normal noise 0.5, 128 transitions a layer.

Known deviations, for which it is called reduced:
- 60 episodes and 10 of drawn bits, not 600 and 20; noise falls by 0.9 an episode, not 0.99.
- No fine-tuning in an episode.  Ranges are chosen once for each tensor and candidate (steps of least squared error,
  quantisers at the layers' inputs), batch-normalisation statistics anew in each episode on ``calibration`` images.
- The budget is in BitOPs (or bytes): latency tables of the paper's devices are not public.
- Accuracy is measured on given images that calibrate nothing; without labels it is agreement with the network itself.
  Of few images the best of many episodes is partly the luckiest one (256 images: a deviation of 1.6 points at 93 %).
- One step per tensor, for all layers that read it; tied layers take one step together.
- What a policy leaves of the budget is used up, from the first layer to the last, weight before input, one candidate
  at a time (``fill``), so that searches are compared at equal cost.
- What this left is remembered as the action, the middle of its part of the interval where it differs.
- The candidates are those of the suite (code: 1 to 8); a state's area is that of the output.

Published (as SEAM's Tables 1 and 2 repeat them, after fine-tuning): ResNet50 4MP/8 76.1 % (full precision 76.2 %),
MobileNetV1 4MP 67.5 %, 6MP/4MP 70.4 %.  Ours stand in the board's rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from bench.interfaces import ImageSet, MethodParams, ModelHandle, RunContext, Searched, Setting
from methods.policies._base import ForSearchedLayers, SearchParams, cheapest, described, limits_of


class HaqParams(SearchParams):
    """``trials`` episodes, of which the first ``warmup`` draw their bits.  At most ``calibration`` images, and half of
    those given, calibrate; at most ``samples`` of the others measure; ``batch`` at a time.  ``noise`` of the actions
    falls by ``noise_decay`` an episode; ``memory`` transitions per layer are kept.  ``fill``: each policy uses up the
    budget."""

    trials: int = Field(default=60, ge=1, le=100_000)
    warmup: int = Field(default=10, ge=0)
    calibration: int = Field(default=512, ge=2)
    samples: int = Field(default=1000, ge=1)
    batch: int = Field(default=128, ge=2, le=4096)
    noise: float = Field(default=0.5, ge=0, le=10)
    noise_decay: float = Field(default=0.9, gt=0, le=1)
    memory: int = Field(default=128, ge=1)
    fill: bool = True


class Haq(ForSearchedLayers):
    """The search; see the module's docstring."""

    version = 1
    summary = "HAQ-reduced: a DDPG agent over the layers, rewarded with accuracy after calibration"
    paper = "Wang et al., HAQ: Hardware-Aware Automated Quantization with Mixed Precision, CVPR 2019"
    Params: type[MethodParams] = HaqParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {"trials": 200, "warmup": 20, "noise_decay": 0.97},
        "paper": {"trials": 600, "warmup": 20, "noise_decay": 0.99, "samples": 10_000},
    }

    def search(self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext) -> Searched:
        """The best policy of all episodes; the report holds the accuracy of each.

        Raises:
            BenchError: the budget cannot be reached, with the smallest value that can.
        """
        from methods.policies._haq_episodes import accuracy_of, explore
        from methods.policies._sensitivity import labelled, logits_of
        from methods.policies._space import space_of
        from methods.policies._switched import Switched, lsq_weight

        half = min(params.calibration, max(len(images.images) // 2, 1))
        data = labelled(model.module, images, half + params.samples, params.batch, ctx)
        held, labels = (part[half:] if len(part) > half else part for part in (data.images, data.labels))
        space = space_of(model.module, data.images[:2], setting)
        limits = limits_of(space, setting, params.budget)
        cheapest(space, setting, params, lambda place, bits: 0.0)  # raises where nothing is within the budget
        full = 100.0 * float((logits_of(model.module, held, params.batch).argmax(1) == labels).double().mean())
        calibration, bits = data.images[:half], (params.weight_bits, params.act_bits)
        switched = Switched(model.module, calibration, space, setting, bits, lsq_weight("mse"), "mse")
        worth = accuracy_of(switched, space, calibration, held, labels, params.batch)
        found = explore(space, model.module, limits, params, ctx, full, worth)
        report = described(space, found.best.policy, limits) | {
            "accuracy_full": full,
            "accuracy_best": found.best.accuracy,
            "accuracies": list(found.accuracies),
            "policies_measured": found.looked_at,
            "labels": "given" if data.passes == 0 else "the network's own answers",
        }
        passes = data.passes + half + len(held) + found.looked_at * float(half + len(held))
        return Searched(found.best.policy, report, passes)


METHOD = Haq()
