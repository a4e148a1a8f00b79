"""A policy's bits are used by every quantising compressor, counted in the cost and listed in the record."""

from __future__ import annotations

import math

import pytest

from bench.interfaces import BitPolicy, Setting, Variant
from bench.measure.complexity import complexity, count, layer_table
from tests import pick
from tests.compressors.recon_toys import context, handle, image_set
from tests.contracts import kit

SHAPE = (3, 8, 8)
METHODS = pick.methods("compressors", accepts="bits")
POLICY = BitPolicy.of({"conv1": (2, 6), "pointwise": (3, 2), "head": (4, 4)})
USED = {
    "stem.0": (8, 8),
    "conv1": (2, 6),
    "conv2": (4, 4),
    "depthwise": (4, 4),
    "pointwise": (3, 2),
    "head": (4, 4),
}


def compress(name: str, setting: Setting) -> Variant:
    method = METHODS[name]
    made = method.compress(handle(), image_set(), setting, kit.small(method), context())
    variant: Variant = made.variants[0]
    return variant


@pytest.mark.parametrize("name", METHODS)
def test_requested_bits_are_used_and_counted(name: str) -> None:
    net = handle().module
    plain, mixed = compress(name, Setting(4, 4)), compress(name, Setting(4, 4, policy=POLICY))
    assert dict(mixed.layer_bits) == USED
    macs = {layer: found.macs for layer, found in count(net, SHAPE).layers.items()}
    for variant in (plain, mixed):
        expected = sum(macs[layer] * weight * act for layer, (weight, act) in variant.layer_bits.items())
        assert complexity(net, SHAPE, variant)["bitops_g"] == pytest.approx(expected / 1e9)
    changed = {layer for layer in USED if plain.layer_bits[layer] != mixed.layer_bits[layer]}
    assert changed == set(POLICY)
    cheaper, dearer = complexity(net, SHAPE, mixed), complexity(net, SHAPE, plain)
    assert cheaper["bitops_g"] < dearer["bitops_g"]
    assert cheaper["size_bytes"] < dearer["size_bytes"]


@pytest.mark.parametrize("name", METHODS)
def test_the_table_of_layers_holds_requested_used_and_effective_bits(name: str) -> None:
    variant = compress(name, Setting(4, 4, policy=POLICY))
    table = {row["name"]: row for row in layer_table(handle().module, SHAPE, variant)}
    assert table.keys() == USED.keys()
    for layer, row in table.items():
        assert (row["weight_bits"], row["activation_bits"]) == USED[layer]
        most = variant.bits_between[layer][1] if layer in variant.bits_between else USED[layer]
        assert 1 < row["weight_levels"] <= 2 ** most[0]
        assert row["effective_weight_bits"] == math.log2(row["weight_levels"])
        assert row.get("activation_levels") == (None if layer == "stem.0" else 2 ** most[1])
        wish = (row["requested_weight_bits"], row["requested_activation_bits"])
        assert wish == (tuple(POLICY[layer]) if layer in POLICY else (4, 4))


@pytest.mark.parametrize("name", METHODS)
def test_a_layer_of_32_bits_has_no_levels(name: str) -> None:
    loose = BitPolicy.of({"conv2": (32, 32)})
    variant = compress(name, Setting(4, 4, policy=loose))
    assert variant.layer_bits["conv2"] == (32, 32)
    assert set(USED) - set(variant.weight_levels) == {"conv2"}
    assert set(USED) - set(variant.activation_levels) == {"stem.0", "conv2"}
    row = next(row for row in layer_table(handle().module, SHAPE, variant) if row["name"] == "conv2")
    assert not {"weight_levels", "effective_weight_bits", "activation_levels"} & row.keys()
