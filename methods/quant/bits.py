"""Bits decided once: how many each weight and each tensor gets, for both wrappers.

A wrapper says how its network is wired (`Wiring`, made in `methods.quant.place`) and by which rule it goes
(`BitRule`); `decide` adds the setting with its policy and answers with the plan that the wrapper follows.  A policy
wins where it names a layer, the first and the last included; a layer it does not name follows the setting by the rule.
A tensor has one quantiser, so of all layers that read it the one that wants most bits decides.  Nothing quantises the
image: it has its own 8 bits, of which a policy can take none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.errors import BenchError
from bench.interfaces import ALLOWED_BITS, ALLOWED_WORDS, FLOAT_BITS, BitPolicy, Setting, check_layers

WeightRole = Literal["ends", "inner"]
Role = Literal["inner", "stem", "last", "se", "image", "float"]
Grant = Literal["setting", "first_last"] | int
"""What a class of weights or tensors gets: the setting's bits, the setting's first/last bits, or this number."""

IMAGE, FLOAT = "<image>", "<float>"
"""What a layer may read that no quantiser stands behind; no node and no module has such a name."""

_LEAST: Mapping[str, int] = {IMAGE: 8, FLOAT: FLOAT_BITS}

_WORDS: Mapping[object, str] = {
    "ends": "first and last layer",
    "stem": "the first layer's output",
    "last": "the last layer's input",
    "se": "tensors inside squeeze-excite",
    "image": "the image",
    "inner": "all others",
    "setting": "the setting's bits",
    "first_last": "the first/last bits",
}


@dataclass(frozen=True)
class BitRule:
    """Which classes of weights and tensors depart from the setting's bits.

    Layers on shortcuts and in squeeze-excite blocks are inner ones.  Where the setting leaves weights (or activations)
    in floating point, all of them stay so.
    """

    weights: Mapping[WeightRole, Grant]
    tensors: Mapping[Role, Grant]

    def weight_bits(self, role: WeightRole, setting: Setting) -> int:
        """Bits of such a weight, without a policy."""
        return _granted(self.weights[role], setting.weight_bits, setting)

    def tensor_bits(self, role: Role, setting: Setting) -> int:
        """Bits of such a tensor, without a policy."""
        return _granted(self.tensors[role], setting.act_bits, setting)

    def words(self) -> str:
        """The rule as a sentence."""
        weights, tensors = (
            ", ".join(f"{_WORDS[role]} {_WORDS.get(grant, f'{grant} bits')}" for role, grant in table if role in _WORDS)
            for table in (self.weights.items(), self.tensors.items())
        )
        return f"weights: {weights} (shortcuts and squeeze-excite among them); tensors: {tensors}"

    def protocol(self, setting: Setting) -> dict[str, Any]:
        """The rule at ``setting``, JSON; with a policy also in words, as it then holds for some layers only."""
        found: dict[str, Any] = {
            "weight_bits": setting.weight_bits,
            "activation_bits": setting.act_bits,
            "first_last_weight_bits": self.weight_bits("ends", setting),
            "stem_output_bits": self.tensor_bits("stem", setting),
            "last_input_bits": self.tensor_bits("last", setting),
            "squeeze_excite_bits": self.tensor_bits("se", setting),
            "logit_bits": FLOAT_BITS,
            "image_bits": self.tensor_bits("image", setting),
        }
        if setting.policy:
            found["bit_rule"] = f"policy, the most where several layers read one tensor; else {self.words()}"
        return found


_ENDS: Mapping[WeightRole, Grant] = {"ends": "first_last", "inner": "setting"}
_FIXED: Mapping[Role, Grant] = {"image": _LEAST[IMAGE], "float": FLOAT_BITS, "inner": "setting"}

OUTPUT = BitRule(_ENDS, {"stem": "first_last", "last": "first_last", "se": 8, **_FIXED})
"""Quantisers at the tensors (post-training): the stem's output counts as the first layer's."""

INPUT = BitRule(_ENDS, {"stem": "setting", "last": "first_last", "se": 8, **_FIXED})
"""Quantisers at the layers' inputs (training): the stem's output counts as the second layer's input."""

UNTRACED = BitRule(_ENDS, {"stem": "setting", "last": "first_last", "se": "setting", **_FIXED})
"""Layers replaced one by one: which tensors lie in a squeeze-excite block is not known."""


@dataclass(frozen=True)
class Wiring:
    """What bits are decided on.

    Attributes:
        order: weighted layers in the order of their first call.
        roles: {tensor to quantise: its role}; a tensor inside a leaf of the trace bears the name of the layer that
            reads it.
        reads: {layer: the tensors it reads}, of ``roles``, or `IMAGE`, or `FLOAT`.
    """

    order: tuple[str, ...]
    roles: Mapping[str, Role]
    reads: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class BitPlan:
    """Bits in use.

    Attributes:
        layers: all weighted layers; input bits are the most among the tensors a layer reads.
        tensors: {tensor to quantise: bits}.
        reads: as in `Wiring`.
    """

    layers: BitPolicy
    tensors: Mapping[str, int]
    reads: Mapping[str, frozenset[str]]


def decide(wiring: Wiring, setting: Setting, rule: BitRule) -> BitPlan:
    """The one place where bits are decided; see the module's docstring.

    Raises:
        BenchError: the policy names a layer the network does not have, or bits other than 2 to 8 and 32.
    """
    policy = setting.policy or BitPolicy()
    _check(policy, wiring.order)
    roles: dict[str, Role] = {**wiring.roles, IMAGE: "image", FLOAT: "float"}
    wishes: dict[str, list[int]] = {name: [] for name in roles}
    for layer in wiring.order:
        for name in wiring.reads[layer]:
            plain = rule.tensor_bits(roles[name], setting)
            wishes[name].append(policy[layer].input if layer in policy else plain)
    bits = {
        name: max(_LEAST.get(name, 0), *wishes[name]) if wishes[name] else rule.tensor_bits(role, setting)
        for name, role in roles.items()
    }
    layers = {}
    for layer in wiring.order:
        ends = layer in (wiring.order[0], wiring.order[-1])
        weight = policy[layer].weight if layer in policy else rule.weight_bits("ends" if ends else "inner", setting)
        layers[layer] = (weight, max(bits[name] for name in wiring.reads[layer]))
    return BitPlan(BitPolicy.of(layers), {name: bits[name] for name in wiring.roles}, wiring.reads)


def _granted(grant: Grant, own: int, setting: Setting) -> int:
    if own >= FLOAT_BITS:
        return FLOAT_BITS
    if grant == "setting":
        return own
    return setting.first_last_bits if grant == "first_last" else grant


def _check(policy: BitPolicy, order: tuple[str, ...]) -> None:
    check_layers(policy, order, where="policy")
    for layer, bits in policy.items():
        for bit in bits:
            if bit not in ALLOWED_BITS:
                raise BenchError(
                    "no such bit-width",
                    where=f"policy.{layer}",
                    got=bit,
                    expected=ALLOWED_WORDS,
                    nearest=str(min(ALLOWED_BITS, key=lambda allowed: abs(allowed - bit))),
                )
