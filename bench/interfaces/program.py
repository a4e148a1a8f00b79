"""Bits for each layer within hard budgets, as an integer program: what searches and ``bench policy solve`` share.

Binary x[l, k] says whether layer l gets option k, a pair of weight bits w and input bits a (docs/methods/policies.md):

    minimise  sum cost[l, k] x[l, k]
    with      sum_k x[l, k] = 1                      for each layer
              sum_l macs[l] w a x[l, k] <= bitops    and
              sum_l weights[l] w x[l, k] <= weight_bits

as HAWQ-V3 (arXiv 2011.10680, section 3.3) and LIMPQ (arXiv 2203.08368, eq. 6) have it.  Layers of one ``tied`` name get
the same pair, layers of one ``reads`` name the same input bits.  Budgets are checked in whole numbers.  Imported by
itself, as it needs scipy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from bench.errors import BenchError
from bench.interfaces.settings import BitPolicy, LayerBits

_SLACK = 2e-6
"""HiGHS lets a row of size 1 be exceeded by up to 1e-6."""
_TRIES = 4
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Choice:
    """A layer to decide on.

    ``costs`` maps the pairs (weight bits, input bits) it may get to what they cost in the objective's unit; ``macs``
    are those of one image, ``weights`` its scalars.
    """

    name: str
    macs: int
    weights: int
    costs: Mapping[LayerBits, float]
    tied: str = ""
    reads: str = ""


@dataclass(frozen=True)
class Limits:
    """What all layers together may take, None for as much as they like: sum of macs * w * a, and sum of weights * w."""

    bitops: int | None = None
    weight_bits: int | None = None

    def items(self) -> tuple[tuple[str, int], ...]:
        """Those that limit."""
        given = (("bitops", self.bitops), ("weight_bits", self.weight_bits))
        return tuple((name, limit) for name, limit in given if limit is not None)


@dataclass(frozen=True)
class Solution:
    """The bits, what they cost and what they take."""

    policy: BitPolicy
    cost: float
    bitops: int
    weight_bits: int


@dataclass(frozen=True)
class _Item:
    """Layers that get one pair: costs and uses of each pair are sums over them."""

    layers: tuple[str, ...]
    pairs: tuple[LayerBits, ...]
    cost: tuple[float, ...]
    bitops: tuple[int, ...]
    weight_bits: tuple[int, ...]
    reads: frozenset[str]


def solve(choices: Sequence[Choice], limits: Limits) -> Solution:
    """The cheapest policy within ``limits``.

    Of several the one that takes fewest BitOPs, then one that depends on the order of layers and pairs alone, so that
    every machine gives the same.  Two policies are as cheap when they differ by less than 1e-9 of the costs' range.

    Raises:
        BenchError: a cost is not finite, tied layers have no pair in common, or no policy is within the limits; then
            with the smallest value that can be reached.
    """
    program = _Program(choices)
    return program.within(limits)


def front(choices: Sequence[Choice], points: int = 40) -> tuple[Solution, ...]:
    """Optimal policies over BitOPs, most BitOPs first, each cheaper than all that take fewer: those at ``points``
    limits evenly spaced in their logarithm between the least that can be reached and what the cheapest policy takes.

    Raises:
        BenchError: as :func:`solve`.
    """
    program = _Program(choices)
    most, least = program.within(Limits()).bitops, program.least("bitops", Limits())
    steps = np.geomspace(max(most, 1), max(least, 1), max(points, 2))
    found = [program.within(Limits(bitops=max(least, math.floor(step)))) for step in steps]
    kept: list[Solution] = []
    for solution in reversed(found):
        if not kept or solution.cost < kept[-1].cost:
            kept.append(solution)
    return tuple(reversed(kept))


class _Program:
    """The rows and columns that every question to one table shares; a column is a pair of an item."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._choices = choices
        self._items = _items(choices)
        columns = [(item, index) for item in self._items for index in range(len(item.pairs))]
        self._cost = np.array([item.cost[index] for item, index in columns])
        self._uses = {
            "bitops": np.array([item.bitops[index] for item, index in columns], dtype=float),
            "weight_bits": np.array([item.weight_bits[index] for item, index in columns], dtype=float),
        }
        self._first = np.cumsum([0, *(len(item.pairs) for item in self._items)])
        self._same = self._equalities()

    def _equalities(self) -> LinearConstraint | None:
        """One pair per item; the same input bits where the same tensor is read."""
        if not self._items:
            return None
        rows, right = [], []
        width = int(self._first[-1])
        for start, item in zip(self._first, self._items, strict=False):
            row = np.zeros(width)
            row[start : start + len(item.pairs)] = 1
            rows.append(row)
            right.append(1.0)
        leader: dict[str, int] = {}
        for number, item in enumerate(self._items):
            for tensor in sorted(item.reads):
                first = leader.setdefault(tensor, number)
                if first == number:
                    continue
                bits = {pair.input for pair in (*item.pairs, *self._items[first].pairs)}
                for bit in sorted(bits):
                    row = np.zeros(width)
                    for sign, at in ((1, first), (-1, number)):
                        for index, pair in enumerate(self._items[at].pairs):
                            row[self._first[at] + index] += sign * (pair.input == bit)
                    rows.append(row)
                    right.append(0.0)
        return LinearConstraint(sparse.csr_array(np.array(rows)), right, right)

    def within(self, limits: Limits) -> Solution:
        """See :func:`solve`."""
        if not self._items:
            return Solution(BitPolicy(), 0.0, 0, 0)
        first = self._cheapest(limits)
        if first is None:
            raise self._unreachable(limits)
        best = self._value(first, self._cost)
        span = max(float(np.ptp(self._cost)), abs(best), 1e-300)
        as_cheap = [(self._cost / span, best / span)]
        fewest = self._solved(self._uses["bitops"], limits, as_cheap)
        generic = (np.arange(1, len(self._cost) + 1) * _GOLDEN) % 1.0
        chosen = first
        if fewest is not None:
            chosen = fewest if self._value(fewest, self._cost) <= best + 1e-9 * span else first
            total = self._value(chosen, self._uses["bitops"])
            scale = max(float(self._uses["bitops"].max()), 1.0)
            last = self._solved(generic, limits, [*as_cheap, (self._uses["bitops"] / scale, total / scale)])
            if last is not None and self._value(last, self._cost) <= best + 1e-9 * span:
                chosen = last if self._value(last, self._uses["bitops"]) <= total else chosen
        return self._solution(chosen)

    def _cheapest(self, limits: Limits) -> np.ndarray[Any, Any] | None:
        """Columns of least cost, one per item, or None where nothing is within the limits.

        HiGHS stops within 1e-6 of the optimum, in units of the greatest cost.  Where costs span many decades that is
        much, so columns that alone cost more than what was found are closed, and the rest is solved in its own unit.
        """
        least = np.minimum.reduceat(self._cost, self._first[:-1])
        above = self._cost - np.repeat(least, np.diff(self._first))
        picked, unit = self._solved(above, limits, []), float(above.max())
        while picked is not None:
            total = self._value(picked, above)
            open_ = above <= total
            greatest = float(above[open_].max())
            if greatest > 0.1 * unit or greatest == 0:
                break
            closer = self._solved(np.where(open_, above, 0.0), limits, [], open_)
            if closer is None or self._value(closer, above) > total:
                break
            picked, unit = closer, greatest
        return picked

    def least(self, what: str, limits: Limits) -> int:
        """The smallest value that ``what`` can have within ``limits``.

        Raises:
            BenchError: nothing is within the limits.
        """
        if not self._items:
            return 0
        found = self._solved(self._uses[what], limits, [])
        if found is None:
            raise self._unreachable(limits)
        return getattr(self._solution(found), what)  # type: ignore[no-any-return]

    def _value(self, picked: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> float:
        return float(weights[picked].sum())

    def _solved(
        self,
        objective: np.ndarray[Any, Any],
        limits: Limits,
        more: list[tuple[np.ndarray[Any, Any], float]],
        open_: np.ndarray[Any, Any] | None = None,
    ) -> np.ndarray[Any, Any] | None:
        """Columns picked, one per item, of those that are ``open_`` (None: all), or None where nothing is within the
        limits and ``more`` (row, most).

        The limits are whole numbers and HiGHS's rows are not: where a solution exceeds one, its row is drawn in.
        """
        assert self._same is not None
        scale = max(float(np.abs(objective).max()), 1e-300)
        for attempt in range(_TRIES):
            rows = [self._same]
            for name, limit in limits.items():
                unit = max(float(limit), 1.0)
                rows.append(LinearConstraint(self._uses[name][None] / unit, -np.inf, limit / unit - attempt * _SLACK))
            rows += [LinearConstraint(row[None], -np.inf, most + 1e-9) for row, most in more]
            found = milp(
                objective / scale,
                constraints=rows,
                integrality=np.ones_like(objective),
                bounds=Bounds(0, 1 if open_ is None else open_.astype(float)),
                options={"mip_rel_gap": 0.0},
            )
            if found.x is None:
                return None
            picked = np.array(
                [
                    start + int(np.argmax(found.x[start:end]))
                    for start, end in zip(self._first[:-1], self._first[1:], strict=True)
                ]
            )
            solution = self._solution(picked)
            if all(getattr(solution, name) <= limit for name, limit in limits.items()):
                return picked
        return None

    def _solution(self, picked: np.ndarray[Any, Any]) -> Solution:
        bits: dict[str, tuple[int, int]] = {}
        bitops = weight_bits = 0
        for item, column, start in zip(self._items, picked, self._first, strict=False):
            index = int(column - start)
            bits |= dict.fromkeys(item.layers, item.pairs[index])
            bitops += item.bitops[index]
            weight_bits += item.weight_bits[index]
        policy = BitPolicy.of({choice.name: bits[choice.name] for choice in self._choices})
        return Solution(policy, self._value(picked, self._cost), bitops, weight_bits)

    def _unreachable(self, limits: Limits) -> BenchError:
        """What can be reached: of each limit alone, or of one within the other."""
        shown = ", ".join(f"{name}={limit}" for name, limit in limits.items())
        for name, limit in limits.items():
            least = self.least(name, Limits())
            if least > limit:
                return BenchError(
                    "no policy is within the budget", where=f"budget.{name}", got=limit, expected=f"at least {least}"
                )
        (name, limit), *others = limits.items()
        least = self.least(name, Limits(**dict(others))) if others else limit
        more = f"at least {least} within {', '.join(f'{key}={value}' for key, value in others)}"
        return BenchError("no policy is within all budgets at once", where=f"budget.{name}", got=shown, expected=more)


def _items(choices: Sequence[Choice]) -> tuple[_Item, ...]:
    groups: dict[str, list[Choice]] = {}
    for number, choice in enumerate(choices):
        for pair, cost in choice.costs.items():
            if not math.isfinite(cost):
                raise BenchError("a cost is not finite", where=f"{choice.name}, W{pair[0]}A{pair[1]}", got=cost)
        groups.setdefault(f"tied {choice.tied}" if choice.tied else f"layer {number}", []).append(choice)
    found = []
    for together in groups.values():
        pairs = [pair for pair in together[0].costs if all(pair in other.costs for other in together)]
        if not pairs:
            names = ", ".join(choice.name for choice in together)
            raise BenchError("layers that are tied have no pair of bits in common", where=together[0].tied, got=names)
        pairs.sort()
        found.append(
            _Item(
                tuple(choice.name for choice in together),
                tuple(LayerBits(*pair) for pair in pairs),
                tuple(sum(choice.costs[pair] for choice in together) for pair in pairs),
                tuple(sum(choice.macs for choice in together) * pair[0] * pair[1] for pair in pairs),
                tuple(sum(choice.weights for choice in together) * pair[0] for pair in pairs),
                frozenset(choice.reads for choice in together if choice.reads),
            )
        )
    return tuple(found)
