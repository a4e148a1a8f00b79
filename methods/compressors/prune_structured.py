"""Structured pruning: a fifth of the channels goes by L1 norm, the rest makes up for them; the network gets smaller.

MixMix (Li et al., ICCV 2021), section 5.3 and appendix B, equation 10: L1 magnitude selects, 1024 images reconstruct
each unit's output in two stages (masks and weights jointly, absorbed and ranked again; then weights, masks frozen).
Which channels depend on each other is torch-pruning's answer (Fang et al., "DepGraph", CVPR 2023).

Modes (part of the protocol):
- ``physical_all`` (default): channels tied by additions, gates, depthwise layers or concatenations form a group, scored
  by the sum of all its filters' L1 norms; round(r * channels) of every group are masked, reconstruction runs under the
  coupled masks, and in the end the channels are removed.  Grouped convolutions lose the same positions in each group,
  group normalisations whole groups.
- ``physical_interior``: as above, but groups that an addition carries from unit to unit (residual streams) stay.
- ``mask``: filters of each layer by themselves are zeroed, biases with them, and stay in place, as the formula says;
  works on any network that can be traced.

Known deviations:
- The paper does not say how channels are coupled; its formula masks layers singly.  The default here is a network that
  is really smaller.
- ``mini`` runs 200 iterations per stage at 1e-3 (paper: 5000 at 4e-5, both falling along a cosine): lr * T is kept.
- Optimiser, batch and whether biases train are not printed: Adam, 32, yes.  Equation 10 prints an unsquared difference
  of a linear layer's outputs; a unit's (block's) output after its activation and the squared norm are used.
- Selection is by L1 norm, as the text says, not by the LASSO of He et al. (2017) that it cites.
- Both stages go through the whole network, one after the other: groups are ranked over several units.
- The classifier's outputs always stay; the first layer is pruned (not printed; ``skip_first_last``).
- A filter whose mask is 0 and that a ReLU follows cannot come back: the derivative of ReLU at 0 is 0, so its mask gets
  no gradient in stage 1, where only linear outputs and what stays learn their masks.
- ``positions`` (not in the paper; off): a least-squares fit of each layer before stage 1, as in He et al.
- ``mask`` leaves norms that do not fold into a convolution (DenseNet) as they are: a channel of zeros comes out as
  their shift.
- Guard (not in the paper): a unit that learning made worse over all images keeps its original weights, pruned.

Published figures (MixMix, table 5, ImageNet, real data, 20 %): ResNet-50 70.95 % (FP 77.00 %), MobileNet-b 48.38 %,
MobileNetV2 45.24 % (72.49 %), MNasNet 47.81 % (73.52 %).
Ours, on the networks before their second training cycle (suite ``pruning``, narrow networks at 32 pixels, 256 images,
one seed; real, DeepInversion, MixMix, noise): ResNet-50 89.6, 88.2, 87.4, 43.2 (91.4), MobileNet-b 84.9, 70.9, 63.5,
16.0 (89.7), MobileNetV2 87.8, 62.1, 64.3, 29.3 (90.9), MNasNet 87.0, 73.8, 72.7, 23.9 (90.7). In no cell of that suite
did stage 1 change which channels go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench.errors import NotApplicable
from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._pruner import PruneParams, Pruner

if TYPE_CHECKING:
    from torch import Tensor, nn

    from methods.compressors._masked import Folded, Schedule
    from methods.compressors._masks import ChannelGroup
    from methods.compressors._prune import Pruning


class PruneStructuredParams(PruneParams):
    """As PruneParams, with the mode (see the module's docstring), and how many places per image fit each layer by
    least squares before stage 1 (0: no fit; He et al. take 10)."""

    mode: Literal["physical_all", "physical_interior", "mask"] = "physical_all"
    positions: int = Field(default=0, ge=0, le=10_000)

    def schedule(self) -> Schedule:
        """As PruneParams', with the fit."""
        return replace(super().schedule(), positions=self.positions)


class PruneStructured(Pruner):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "channels of least L1 norm removed, the others reconstruct each block's output"
    Params: type[MethodParams] = PruneStructuredParams

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Remove ``setting.sparsity`` of the channels; the report holds a row per unit.

        Raises:
            NotApplicable: the network cannot be traced, nothing would be removed, or (physical modes) its channels
                cannot be followed or taken out.
        """
        from methods.compressors._channels import remove
        from methods.compressors._masks import Coupled, Filters
        from methods.compressors._pruned import Plan, compress, folded, prunable
        from methods.compressors._surgery import check_equal

        example = images.images[:2].to(ctx.device, ctx.dtype)
        work = folded(model, example, params)
        protocol = {"pruned": "channels", "criterion": "L1", "mode": params.mode}
        if params.mode == "mask":
            filters = Filters(setting.sparsity, prunable(work, params, outputs=False))
            return compress(work, Plan(filters, protocol), images, setting, params, ctx)
        groups = groups_of(work, example[:1], params)
        coupled = Coupled(setting.sparsity, groups)

        def shrink(pruning: Pruning) -> nn.Module:
            small = remove(work.net, example[:1], coupled.cuts(pruning.masks))
            check_equal(work.net, small, example, pruning.masks)
            return small

        return compress(work, Plan(coupled, protocol, shrink), images, setting, params, ctx)


def groups_of(work: Folded, example: Tensor, params: PruneStructuredParams) -> list[ChannelGroup]:
    """The groups that ``params`` lets be pruned.

    Raises:
        NotApplicable: the channels cannot be followed, or something ties them so that none can be taken out.
    """
    from methods.compressors._channels import find_groups
    from methods.compressors._pruned import prunable
    from methods.compressors._surgery import HINT

    kept = set(work.order) - set(prunable(work, params, outputs=False))
    groups = find_groups(work.net, example, work.order, kept)
    if params.mode == "physical_interior":
        unit_of = {name: index for index, unit in enumerate(work.units) for name in unit.layers}
        groups = [group for group in groups if not is_stream(group, work.net, unit_of)]
    for group in groups:
        if group.blocked:
            what = "channels of this layer cannot be taken out"
            raise NotApplicable(what, where=next(iter(group.producers)), got=group.blocked, hint=HINT)
    return groups


def is_stream(group: ChannelGroup, net: nn.Module, unit_of: Mapping[str, int]) -> bool:
    """Whether several layers (depthwise ones aside) add up to these channels and more than one unit sees them; a layer
    in no unit counts as one."""
    producers = [name for name in group.producers if getattr(net.get_submodule(name), "groups", 1) == 1]
    units = {unit_of.get(name, name) for name in (*producers, *group.consumers)}
    return len(producers) > 1 and len(units) > 1


METHOD = PruneStructured()
