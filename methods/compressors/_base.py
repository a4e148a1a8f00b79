"""What a compressor declares unless it says otherwise, and the base of those that need weighted layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.errors import NotApplicable
from bench.interfaces import Delivery, ModelHandle, Offer, Setting, Units, Variant

if TYPE_CHECKING:
    from torch import Tensor, nn

    from methods.quant.model import QuantModel


class Defaults:
    """Cached images, no zeros made or kept, nothing offered besides, one network for what was asked; see
    `bench.interfaces.Compressor`."""

    needs: frozenset[str] = frozenset()
    deliveries: frozenset[Delivery] = frozenset({"cached"})
    makes_zeros: bool = False
    keeps_zeros: bool = False
    offers: frozenset[Offer] = frozenset()

    def variants(self, params: Any, setting: Setting) -> tuple[Setting, ...]:
        """The setting itself."""
        return (setting,)


class ForWeightedLayers(Defaults):
    """Base of the compressors that work on convolutions and linear layers."""

    def check(self, params: Any, model: ModelHandle) -> None:
        """Raise NotApplicable when the network has no convolution or linear layer."""
        from torch import nn

        if not any(isinstance(part, nn.Conv2d | nn.Linear) for part in model.module.modules()):
            raise NotApplicable(
                "the network has no Conv2d or Linear layer to compress", where=model.name, got=model.architecture
            )


class Blockwise(ForWeightedLayers):
    """Base of those that reconstruct block by block; see `bench.interfaces.BlockwiseCompressor`."""

    offers: frozenset[Offer] = frozenset({"units"})

    def units(self, module: nn.Module, example: Tensor) -> Units:
        """The blocks with the default parameters."""
        from methods.quant.units import describe_units

        return tuple(describe_units(module, example))


def quantised(net: QuantModel, setting: Setting, **protocol: Any) -> Variant:
    """The finished ``net`` (eval mode, frozen) as the variant for ``setting``, with what its quantisers really use;
    ``protocol`` adds to the network's own."""
    from methods.quant.inspected import Inspected

    net.eval().requires_grad_(False)
    scales, zero_points = net.parameter_count()
    return Variant(
        setting,
        net,
        net.layer_bits(),
        scales,
        zero_points,
        nonzero=net.nonzero(),
        weight_levels=net.weight_levels(),
        activation_levels=net.activation_levels(),
        protocol={**net.protocol(), **protocol},
        inspection=Inspected(net),
        integers=net.integers,
    )
