"""MACs, BitOPs and size in bytes of a network, counted on the original (uncompressed, unfolded) module.

Conventions (docs/methods/measures.md#macs): a MAC is one multiply-accumulate of a convolution or linear layer for one
image, a projection that the network runs by a function included; bias, normalisation, activations and pooling are left
out, groups are divided by.  A layer's BitOPs are MACs × weight bits × bits of its input; a layer left in floating point
counts 32 × 32.  MACs and BitOPs are dense: zeroed weights count (a dense kernel multiplies by them), except in
``macs_effective``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from bench.interfaces import FLOAT_BITS, BitPolicy, LayerBits, Variant
from bench.interfaces.inventory import LayerUse, probe_images, take_inventory

BitsByLayer = Mapping[str, tuple[int, int]]
"""Layer → bits of its weight and of its input; a BitPolicy is one."""


@dataclass(frozen=True)
class LayerCount:
    """A weighted layer: MACs for one image (all calls together), weight scalars, floating-point scalars beside the
    weight (its bias, a folded normalisation's shift included), rows (filters) of the weight, and its MACs by the legacy
    count (docs/methods/measures.md#bitops-legacy)."""

    macs: int
    weights: int
    bias: int
    rows: int = 1
    legacy_macs: int = 0


@dataclass(frozen=True)
class Counts:
    """``layers`` in the order of their first execution; ``other`` counts the parameters that belong to no weighted
    layer and cannot be folded; ``parameters`` all that a forward of the original module reads.  ``loose`` of the others
    have two or more axes (attention projections, embeddings) and ``loose_macs`` are what they are multiplied with."""

    layers: Mapping[str, LayerCount]
    other: int
    parameters: int
    loose: int = 0
    loose_macs: int = 0

    @property
    def macs(self) -> int:
        """MACs of the network for one image."""
        return self.loose_macs + sum(layer.macs for layer in self.layers.values())


def count(module: nn.Module, shape: tuple[int, int, int]) -> Counts:
    """Count one forward pass of one image of ``shape`` (C, H, W); the module is left as it was.

    A plain BatchNorm whose input is the very tensor a convolution or linear layer returned is taken as folded into it:
    its scale vanishes in the weights, its shift becomes the layer's bias.  Any other keeps scale and shift.  What no
    forward reads (auxiliary heads of a training) is not counted.
    """
    first = next(module.parameters())
    used = take_inventory(module, probe_images(first.new_empty(1, *shape), 1))
    layers = {name: _counted(name, use) for name, use in used.layers.items()}
    held = {id(p) for use in used.layers.values() for p in use.module.parameters()}
    inside = held | {id(p) for part in used.folded for p in part.parameters(recurse=False)}
    read = [p for name, p in module.named_parameters() if name in used.read]
    other = sum(p.numel() for p in read if id(p) not in inside)
    loose = sum(p.numel() for p in read if id(p) not in held and p.dim() > 1)
    return Counts(layers, other, sum(p.numel() for p in read), loose, used.loose_macs)


def macs(module: nn.Module, shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of one image; see :func:`count`."""
    return count(module, shape).macs


def bitops(counts: Counts, layer_bits: BitsByLayer, *, legacy: bool = False) -> int:
    """Bit operations of one image: sum of MACs × weight bits × input bits; an unlisted layer is floating point.

    Args:
        legacy: count MACs as some printed tables do (docs/methods/measures.md#bitops-legacy).

    Raises:
        ValueError: ``layer_bits`` names a layer the network does not have.
    """
    _check_names(counts, layer_bits)
    full = (FLOAT_BITS, FLOAT_BITS)
    inside = sum(
        (layer.legacy_macs if legacy else layer.macs) * math.prod(layer_bits.get(name, full))
        for name, layer in counts.layers.items()
    )
    return inside + counts.loose_macs * math.prod(full)


def float_share(counts: Counts, layer_bits: BitsByLayer) -> tuple[float, float]:
    """Percent of the weights (parameters of two or more axes that a forward reads), and of the MACs, that stay in
    floating point: layers whose weight has 32 bits, and what runs outside the layers.

    Raises:
        ValueError: as :func:`bitops`.
    """
    _check_names(counts, layer_bits)
    full = (FLOAT_BITS, FLOAT_BITS)
    left = [layer for name, layer in counts.layers.items() if layer_bits.get(name, full)[0] >= FLOAT_BITS]
    weights = counts.loose + sum(layer.weights for layer in counts.layers.values())
    floats = counts.loose + sum(layer.weights for layer in left), counts.loose_macs + sum(layer.macs for layer in left)
    return 100 * floats[0] / max(weights, 1), 100 * floats[1] / max(counts.macs, 1)


def size_bytes(
    counts: Counts,
    layer_bits: BitsByLayer,
    *,
    scales: int = 0,
    zero_points: int = 0,
    nonzero: Mapping[str, int] | None = None,
) -> int:
    """Bytes to store: weights at their bits (rounded up to a byte per layer), 4 per scale, 1 per zero point, and 4 for
    every scalar that stays in floating point (biases, folded shifts, normalisations that do not fold, the rest).

    A layer in ``nonzero`` has that many weights that are not zero and is stored as :func:`sparse_bytes` says.

    Raises:
        ValueError: as :func:`bitops`.
    """
    _check_names(counts, layer_bits)
    _check_names(counts, nonzero or {})
    total = 4 * scales + zero_points + 4 * counts.other
    for name, layer in counts.layers.items():
        bits = layer_bits.get(name, (FLOAT_BITS, FLOAT_BITS))[0]
        left = layer.weights if nonzero is None else nonzero.get(name, layer.weights)
        total += sparse_bytes(layer, left, bits) + 4 * layer.bias
    return total


def sparse_bytes(layer: LayerCount, nonzero: int, bits: int) -> int:
    """Bytes of a weight of which ``nonzero`` scalars are not zero: dense, or these alone with a bitmap (1 bit per
    weight), or in compressed rows (an index of 1, 2 or 4 bytes each and 4 bytes per row), whichever is least."""
    columns = layer.weights // max(layer.rows, 1)
    index = 1 if columns <= 1 << 8 else 2 if columns <= 1 << 16 else 4
    values = -(-nonzero * bits // 8)
    dense = -(-layer.weights * bits // 8)
    return min(dense, values + -(-layer.weights // 8), values + index * nonzero + 4 * (layer.rows + 1))


def effective_macs(counts: Counts, nonzero: Mapping[str, int]) -> int:
    """MACs of one image by weights that are not zero; an unlisted layer is dense.

    Raises:
        ValueError: as :func:`bitops`.
    """
    _check_names(counts, nonzero)
    return counts.loose_macs + sum(
        layer.macs * nonzero.get(name, layer.weights) // max(layer.weights, 1) for name, layer in counts.layers.items()
    )


def complexity(module: nn.Module, shape: tuple[int, int, int], variant: Variant) -> dict[str, float]:
    """Cost of ``variant`` as metrics of a record; ``module`` is the original network.

    Layers are those of the original, or of ``variant.network`` where that is another one (pruned, a student).

    Returns:
        macs; bitops_g (1e9 BitOPs); size_bytes; size_ratio (bytes over 4 per parameter of the original);
        macs_effective (by weights that are not zero) where ``variant.nonzero`` lists any; and float_weights and
        float_macs (percent, see :func:`float_share`) where any layer is quantised.
    """
    original = count(module, shape)
    counts = count(variant.network, shape) if variant.network is not None else original
    size = size_bytes(
        counts,
        variant.layer_bits,
        scales=variant.scales,
        zero_points=variant.zero_points,
        nonzero=variant.nonzero,
    )
    some: dict[str, float] = {}
    if variant.nonzero:
        some["macs_effective"] = effective_macs(counts, variant.nonzero)
    if any(weight < FLOAT_BITS for weight, _ in variant.layer_bits.values()):
        some["float_weights"], some["float_macs"] = float_share(counts, variant.layer_bits)
    return {
        **some,
        "macs": counts.macs,
        "bitops_g": (bitops(counts, variant.layer_bits) if variant.bitops is None else variant.bitops) / 1e9,
        "size_bytes": size,
        "size_ratio": size / (4 * original.parameters),
    }


def layer_table(module: nn.Module, shape: tuple[int, int, int], variant: Variant) -> list[dict[str, Any]]:
    """The weighted layers of ``module``, which ``variant`` names, in the order of their first execution, as JSON.

    Returns:
        per layer: name; kind; weight_bits and activation_bits (of its input) in use; macs (for one image); parameters
        (scalars of its weight, bias aside); and where ``variant`` knows of it: nonzero (of these), weight_levels (the
        most distinct values that share a scale), effective_weight_bits (their logarithm to base 2), activation_levels
        (values its input's quantiser has).  requested_weight_bits and requested_activation_bits are what its setting
        asks of the layer, by the policy where that names it; the rule for first and last layers and the like, which
        decides the bits in use, is not in them.  32 bits: left in floating point.

    Raises:
        ValueError: as :func:`bitops`.
    """
    counts = count(module, shape)
    for names in (variant.layer_bits, variant.nonzero, variant.weight_levels, variant.activation_levels):
        _check_names(counts, names)
    table = []
    for name, layer in counts.layers.items():
        weight, act = variant.layer_bits.get(name, (FLOAT_BITS, FLOAT_BITS))
        row: dict[str, Any] = {"name": name, "kind": _kind(module.get_submodule(name))}
        row |= {"weight_bits": weight, "activation_bits": act, "macs": layer.macs, "parameters": layer.weights}
        table.append(row | _known(name, variant))
    return table


def _known(name: str, variant: Variant) -> dict[str, Any]:
    """What ``variant`` says of a layer besides its bits in use."""
    row: dict[str, Any] = {}
    if name in variant.nonzero:
        row["nonzero"] = variant.nonzero[name]
    if name in variant.weight_levels:
        row["weight_levels"] = variant.weight_levels[name]
        row["effective_weight_bits"] = math.log2(variant.weight_levels[name])
    if name in variant.activation_levels:
        row["activation_levels"] = variant.activation_levels[name]
    asked = variant.setting
    plain = LayerBits(asked.weight_bits, asked.act_bits)
    wish = (asked.policy or BitPolicy()).get(name, plain)
    return row | {"requested_weight_bits": wish.weight, "requested_activation_bits": wish.input}


def _kind(part: nn.Module) -> str:
    if not isinstance(part, _ConvNd):
        return "linear"
    if isinstance(part, _ConvTransposeNd):
        return "transposed convolution"
    if part.groups > 1:
        return "depthwise convolution" if part.groups == part.in_channels else "grouped convolution"
    return "convolution" if math.prod(part.kernel_size) > 1 else "pointwise convolution"


def _check_names(counts: Counts, names: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(counts.layers))
    if unknown:
        raise ValueError(f"no such weighted layers: {', '.join(unknown[:5])}")


def _counted(name: str, use: LayerUse) -> LayerCount:
    part = use.module
    outputs = part.out_features if isinstance(part, nn.Linear) else int(getattr(part, "out_channels", 0))
    has_bias = getattr(part, "bias", None) is not None or use.shifted
    weight = part.weight
    assert isinstance(weight, Tensor), name
    return LayerCount(use.macs, weight.numel(), outputs if has_bias else 0, outputs, use.legacy_macs)
