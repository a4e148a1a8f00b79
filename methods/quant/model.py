"""A quantised network: weights and activations of any classification network behind fake quantisers.

PUBLIC API (signatures are final; bodies follow).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.interfaces import Setting
from methods.quant.quantizers import ActQuantizer, WeightQuantizer
from methods.quant.ranges import RangeMethod


@dataclass(frozen=True)
class Unit:
    """A piece of the network that is reconstructed at once.

    Attributes:
        name: module path, or the layers' names joined by "+".
        rule: "class" (registry), "repeated" (class occurring twice), "cut" or "layer".
        layers: weighted layers, by their names in the original network.
        activations: the activation quantisers inside, its output's included.
        chain: one tensor in, which is the previous unit's one tensor out.  Running the modules of a network whose
            units are ALL chain units in order is the whole forward.
        input, output: names of the nodes whose tensors the unit takes and gives ("" on the "modules" path).
    """

    name: str
    rule: Literal["class", "repeated", "cut", "layer"]
    layers: tuple[str, ...]
    activations: tuple[str, ...]
    chain: bool
    input: str
    output: str
    nodes: tuple[str, ...] = ()


class QuantModel(nn.Module):
    path: Literal["graph", "modules"]
    weights: Mapping[str, WeightQuantizer]        # graph order; keyed by the layer's name in the original network
    activations: Mapping[str, ActQuantizer]       # graph order
    units: tuple[Unit, ...]                       # execution order

    def layer(self, name: str) -> nn.Conv2d | nn.Linear: ...   # folded FP layer: .weight, .bias
    def set_state(self, weights: bool, activations: bool) -> None: ...   # enabled flags of all quantisers
    def calibrate(self, images: Tensor, *, batch_size: int = 64, max_values: int = 1 << 22, seed: int = 0) -> None: ...
    def unit_module(self, unit: Unit) -> nn.Module: ...        # x -> y, shares submodules; call .eval() state kept
    def capture_inputs(self, unit: Unit, images: Tensor, batch_size: int = 64) -> Tensor: ...   # current state
    def freeze(self) -> None: ...     # cache every fake-quantised weight (WeightQuantizer.freeze), for evaluation
    def unfreeze(self) -> None: ...
    def protocol(self) -> dict[str, Any]: ...
    def layer_bits(self) -> dict[str, tuple[int, int]]: ...
    def parameter_count(self) -> tuple[int, int]: ...          # (scales, zero points)


def quantize_model(
    module: nn.Module,
    example: Tensor,
    setting: Setting,
    *,
    weight_range: RangeMethod = "mse",
    act_range: RangeMethod = "mse",
    max_layers: int = 8,
) -> QuantModel: ...
    # weight ranges are chosen here (no data needed); state after construction: weights and activations enabled,
    # activations uncalibrated -> call calibrate(images) first. module is left untouched (deep copy, eval, BN folded).
