"""What is asked of a compressor: the setting, and the bits of each layer. No torch import at run time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from bench.errors import BenchError, nearest

Preset = Literal["mini", "thorough", "paper"]

FLOAT_BITS = 32
"""This many bits, or more, mean "left in floating point"."""

ALLOWED_BITS = (*range(2, 9), FLOAT_BITS)
"""Bits that a layer's weight or input may be asked to have."""

ALLOWED_WORDS = f"2 to 8, or {FLOAT_BITS} for floating point"


class LayerBits(NamedTuple):
    """Bits of a layer's weight and of its input: 2..8, or 32 for floating point."""

    weight: int
    input: int


@dataclass(frozen=True)
class BitPolicy(Mapping[str, LayerBits]):
    """Layer's name → bits, in the network's order; hashable, and JSON by :meth:`to_json`.

    As a wish it names the layers that depart from the setting; as an answer it names every weighted layer.
    """

    layers: tuple[tuple[str, LayerBits], ...] = ()

    @staticmethod
    def of(layers: Mapping[str, tuple[int, int]]) -> BitPolicy:
        """From a plain mapping of names to (weight bits, input bits)."""
        return BitPolicy(tuple((name, LayerBits(*bits)) for name, bits in layers.items()))

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> BitPolicy:
        """Inverse of :meth:`to_json`.

        Raises:
            ValueError: a layer without two whole numbers of bits.
        """
        for name, bits in value.items():
            if not isinstance(bits, list | tuple) or [type(b) for b in bits] != [int, int]:
                raise ValueError(f"layer {name}: {bits!r} is no pair of weight bits and input bits")
        return BitPolicy.of({name: (bits[0], bits[1]) for name, bits in value.items()})

    def to_json(self) -> dict[str, list[int]]:
        """``{layer: [weight bits, input bits]}``."""
        return {name: list(bits) for name, bits in self.layers}

    @cached_property
    def _by_name(self) -> dict[str, LayerBits]:
        return dict(self.layers)

    def __getitem__(self, name: str) -> LayerBits:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.layers)

    def __len__(self) -> int:
        return len(self.layers)


def check_layers(
    policy: Mapping[str, LayerBits], known: Sequence[str], needed: Collection[str] = (), *, where: str
) -> None:
    """Compare the layers that ``policy`` names with a network's.

    Raises:
        BenchError: it names one that is not ``known``, or misses one that is ``needed``, with the nearest name.
    """
    for name in policy:
        if name not in known:
            raise BenchError(
                "the policy names a layer that the network does not have",
                where=where,
                got=name,
                expected=f"one of its {len(known)} weighted layers, {known[0]} to {known[-1]}" if known else "none",
                nearest=nearest(name, known),
            )
    missing = [name for name in known if name in needed and name not in policy]
    if missing:
        raise BenchError(
            "the policy misses a layer",
            where=where,
            got=f"{len(policy)} layers",
            expected=f"{missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
            nearest=nearest(missing[0], list(policy)),
        )


@dataclass(frozen=True, init=False)
class Setting:
    """What is asked of a compressor: values by key, and the bits of single layers where a policy was searched.

    The suite's axes own the keys (:mod:`bench.spec.axes`).  ``weight_bits``, ``act_bits`` and ``first_last_bits`` are
    2..8, or 32 for "leave in floating point"; ``sparsity`` is the part of the weights or channels of each layer that is
    removed; ``student`` is the full name of the network to be trained.  A key that was not asked for reads as "leave
    it as it is"; values of other axes are read with :meth:`get`.
    """

    values: tuple[tuple[str, Any], ...]
    policy: BitPolicy | None

    def __init__(
        self,
        weight_bits: int | None = None,
        act_bits: int | None = None,
        *,
        policy: BitPolicy | None = None,
        **values: Any,
    ) -> None:
        bits = {"weight_bits": weight_bits, "act_bits": act_bits}
        given = {key: bit for key, bit in bits.items() if bit is not None} | values
        object.__setattr__(self, "values", tuple(sorted(given.items())))
        object.__setattr__(self, "policy", policy)

    def get(self, key: str, default: Any = None) -> Any:
        """The value asked for under ``key``."""
        return next((value for name, value in self.values if name == key), default)

    @staticmethod
    def of(values: Mapping[str, Any], policy: BitPolicy | None = None) -> Setting:
        """From values by key, as a record or a suite has them."""
        return Setting(policy=policy, **dict(values))

    def part(self, keys: Collection[str]) -> Setting:
        """The values of ``keys`` alone, without the policy."""
        return Setting.of({key: value for key, value in self.values if key in keys})

    def joined(self, other: Setting) -> Setting:
        """This setting and ``other``'s values, which win."""
        return Setting.of(dict(self.values) | dict(other.values), other.policy or self.policy)

    def with_policy(self, policy: BitPolicy | None) -> Setting:
        """These values with the bits of single layers."""
        return Setting.of(dict(self.values), policy)

    @property
    def weight_bits(self) -> int:
        """Bits of the weights."""
        return int(self.get("weight_bits", FLOAT_BITS))

    @property
    def act_bits(self) -> int:
        """Bits of the activations."""
        return int(self.get("act_bits", FLOAT_BITS))

    @property
    def first_last_bits(self) -> int:
        """Bits of the first and the last layer, where the others are quantised."""
        return int(self.get("first_last_bits", 8))

    @property
    def sparsity(self) -> float:
        """The part of each layer that is removed."""
        return float(self.get("sparsity", 0.0))

    @property
    def student(self) -> str | None:
        """Full name of the network to be trained."""
        found: str | None = self.get("student")
        return found
