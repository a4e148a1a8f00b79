"""What searches of bit policies share: candidates, budgets, and the integer program between costs and a policy
(docs/methods/policies.md#budget)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from bench.errors import NotApplicable
from bench.interfaces import BitPolicy, LayerBits, MethodParams, ModelHandle, Setting

if TYPE_CHECKING:
    from bench.interfaces.program import Choice, Limits, Solution
    from methods.policies._space import Place, Space

Tie = Literal["add", "sibling", "depthwise"]
"""Layers a device must treat alike: those whose outputs are added, those that read one tensor (a downsample and the
convolution beside it), a depthwise convolution and the pointwise one behind it."""


def _ascending(bits: tuple[int, ...]) -> tuple[int, ...]:
    if not bits or list(bits) != sorted(set(bits)) or not 2 <= bits[0] <= bits[-1] <= 8:
        raise ValueError("candidates are different bit-widths from 2 to 8, ascending")
    return bits


Candidates = Annotated[tuple[int, ...], AfterValidator(_ascending)]


class Budget(MethodParams):
    """What a policy may take at most; several hold at once.  Without any it is what the setting's own bits take.

    ``uniform``: times the BitOPs that the whole network takes with the setting's bits in every searched layer.
    ``bitops``: 1e9 BitOPs of the whole network.  ``average``: effective bits of the searched layers, sqrt(sum M w a /
    sum M) ("3MP" is 3).  ``bytes``: of all weights at their bits, scales aside.
    """

    uniform: float | None = Field(default=None, gt=0, le=64)
    bitops: float | None = Field(default=None, gt=0)
    average: float | None = Field(default=None, ge=1, le=8)
    bytes: int | None = Field(default=None, gt=0)


FULL = 0.99
"""Share of a budget of BitOPs from which a policy fills it, so that searches are compared at equal cost."""


class SearchParams(MethodParams):
    """``weight_bits`` and ``act_bits`` are the candidates; ``equal``: a layer's weight and input get the same, where
    both are open.  ``ties``: layers that get the same pair."""

    weight_bits: Candidates = (2, 3, 4, 6)
    act_bits: Candidates = (2, 3, 4, 6)
    budget: Budget = Budget()
    equal: bool = False
    ties: tuple[Tie, ...] = ()


class ForSearchedLayers:
    """Base of the searches."""

    needs: frozenset[str] = frozenset()
    control: bool = False
    written: bool = False

    def check(self, params: Any, model: ModelHandle) -> None:
        """Raise NotApplicable when the network has no inner convolution or linear layer."""
        from torch import nn

        weighted = sum(isinstance(part, nn.Conv2d | nn.Linear) for part in model.module.modules())
        if weighted < 3:
            raise NotApplicable(
                "the network has no layer between its first and its last whose bits could be searched",
                where=model.name,
                got=f"{weighted} weighted layers",
            )


def searched_bits(setting: Setting) -> tuple[int, int]:
    """The setting's bits of weights and activations.

    Raises:
        NotApplicable: it leaves one of them in floating point.
    """
    weight, act = setting.weight_bits, setting.act_bits
    if max(weight, act) > 8:
        raise NotApplicable("bits are searched where weights and activations are quantised", got=f"W{weight}A{act}")
    return weight, act


def limits_of(space: Space, setting: Setting, budget: Budget) -> Limits:
    """The budget as limits of the integer program, whose sums run over the searched layers."""
    from bench.interfaces.program import Limits

    own = space.bitops(space.uniform(*searched_bits(setting)))
    most: list[int] = []
    if budget.bitops is not None:
        most.append(int(budget.bitops * 1e9) - space.fixed.bitops)
    if budget.average is not None:
        most.append(int(space.macs * budget.average**2))
    if budget.uniform is not None or (not most and budget.bytes is None):
        most.append(int(own * (1.0 if budget.uniform is None else budget.uniform)) - space.fixed.bitops)
    size = None if budget.bytes is None else 8 * budget.bytes - space.fixed.weight_bits
    return Limits(min(most, default=None), size)


def choices_of(space: Space, params: SearchParams, cost: Callable[[Place, LayerBits], float]) -> list[Choice]:
    """The integer program's layers with the search's candidates and ties."""
    tied = space.tied(params.ties)
    return space.choices(
        params.weight_bits, params.act_bits, cost, tie=lambda place: tied.get(place.name, ""), equal=params.equal
    )


def pair_costs(
    space: Space, params: SearchParams, cost: Callable[[Place, LayerBits], float]
) -> dict[str, dict[str, float]]:
    """What a search gave each pair of candidates, for its report: layer -> "weight bits,input bits" -> cost, to six
    digits.  A policy costs the sum over its layers, so that any other policy can be rated by this search."""
    choices = space.choices(params.weight_bits, params.act_bits, cost)
    return {c.name: {f"{w},{a}": float(f"{own:.6g}") for (w, a), own in c.costs.items()} for c in choices}


def cheapest(
    space: Space, setting: Setting, params: SearchParams, cost: Callable[[Place, LayerBits], float]
) -> Solution:
    """The policy of least cost within the budget.

    Raises:
        BenchError: the budget cannot be reached, with the smallest value that can.
    """
    from bench.interfaces.program import solve

    return solve(choices_of(space, params, cost), limits_of(space, setting, params.budget))


def described(space: Space, policy: BitPolicy, limits: Limits) -> dict[str, Any]:
    """What every search reports of its policy: BitOPs of the whole network and of the budget, effective bits, bytes."""
    most, size = limits.bitops, limits.weight_bits
    return {
        "bitops": space.bitops(policy),
        "budget_bitops": None if most is None else most + space.fixed.bitops,
        "effective_bits": space.effective_bits(policy),
        "weight_bytes": space.weight_bits(policy) / 8,
        "budget_bytes": None if size is None else (size + space.fixed.weight_bits) / 8,
        "searched": len(space.searched),
    }
