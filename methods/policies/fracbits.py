"""FracBits: real numbers of bits, trained with the weights, that a penalty draws to the budget.

Yang and Jin, "FracBits: Mixed Precision Quantization via Fractional Bit-Widths", AAAI 2021 (arXiv 2007.02017).  A
quantiser of lambda bits is the linear mixture of its neighbours,

    Q_lambda(x) = (1 - f) Q_n(x) + f Q_(n+1)(x),   n = floor(lambda), f = lambda - n
    L = CE + kappa abs(C / T - 1),   C = sum_l M_l lambda_w lambda_a,   T the budget

At the end all lambda are moved by one offset, the largest for which their rounded values are within the budget.

Deviations:
- Quantisers are LSQ's, a learned step per layer and whole number of bits; the paper has DoReFa's weights and PACT's
  activations.  The public code starts at 7.5 bits; here (``start`` none) half a bit above the setting's, as 5 epochs
  on 5,000 images do not bring 7.5 down (``paper``: 7.5).
- The penalty's exact form, kappa (0.1 here, C counted in budgets) and the split of the schedule are not printed.  The
  search stops where the paper goes on with fixed bits: the compressor trains then.
- Bits are real between the first and the last candidate, whatever is missing between them.  Rounded bits that are no
  candidates, break ties or a budget of bytes, or (``fill``) leave more than 1 % of a budget of BitOPs, are projected by
  the integer program, cost the squared distance from the moved lambdas; ``projected_from_rounded`` in the report says
  whether they were.
- ``answer: argmax`` gives the lambdas rounded without offset, which may exceed the budget.
- Start, labels and clip as for EdMIPS (`methods.policies.edmips`).

Published figures (SEAM's Table 1, ImageNet): ResNet-18 at 3 bits 69.4 % (22.93 GBitOPs, 150 GPU hours), at 4 bits
70.6 % (34.7); ResNet-50 76.5 % (71.17, 631 hours); MobileNetV1 68.7 and 71.4 % (SEAM's Table 2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.interfaces import BitPolicy, MethodParams, Setting
from methods.policies._base import FULL, choices_of, pair_costs, searched_bits
from methods.policies._differentiable import DifferentiableSearch, TrainingParams

if TYPE_CHECKING:
    from methods.policies._mixed import Choice
    from methods.policies._proxy import Proxy
    from methods.policies._supernet import Supernet
    from methods.policies._supernet_loop import Objective
    from methods.policies._supernet_search import Search, Trained


class FracbitsParams(TrainingParams):
    """``kappa`` weighs the distance from the budget, in budgets; ``start``: bits at first, none for half a bit above
    the setting's.  ``lr_arch`` moves the bits: they have to
    part by one before the rounded ones differ."""

    lr_arch: float = Field(default=5.0, ge=0, le=100)
    kappa: float = Field(default=0.1, ge=0, le=1000)
    start: float | None = Field(default=None, ge=2, le=8)


class Fracbits(DifferentiableSearch):
    """The search; see the module's docstring."""

    version = 1
    summary = "real numbers of bits, trained with the weights and drawn to the budget"
    paper = "Yang and Jin, FracBits: Mixed Precision Quantization via Fractional Bit-Widths, AAAI 2021"
    Params: type[MethodParams] = FracbitsParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {"epochs": 15, "samples": 50_000},
        "paper": {
            "weight_bits": [2, 3, 4, 5, 6, 7, 8],
            "act_bits": [2, 3, 4, 5, 6, 7, 8],
            "epochs": 120,
            "batch": 256,
            "lr_arch": 0.01,
            "samples": 2_000_000,
            "start": 7.5,
            "shift": 4,
            "flip": True,
            "quantisers": "lsq",
        },
    }

    def choices(self, params: Any, setting: Setting) -> tuple[Callable[[], Choice], Callable[[], Choice]]:
        """Real numbers."""
        from methods.policies._fractional import choice

        weight, act = (bits + 0.5 if params.start is None else params.start for bits in searched_bits(setting))
        return choice(params.weight_bits, weight), choice(params.act_bits, act)

    def objective(self, net: Supernet, proxy: Proxy, params: Any, limit: float) -> Objective:
        """Cross-entropy and the penalty."""
        from methods.policies._fractional import FractionalObjective

        return FractionalObjective(net, proxy, params, limit)

    def answer(self, trained: Trained, search: Search) -> tuple[BitPolicy, dict[str, Any]]:
        """Rounded at the largest offset within the budget, then projected where that is not allowed."""
        from methods.policies._fractional import distance, largest_offset, real_bits, rounded
        from methods.policies._knobs import fits

        space, limits, params = search.space, search.limits, search.params
        bits = real_bits(trained.net)

        def at(offset: float) -> BitPolicy:
            return rounded(space, bits, params.weight_bits, params.act_bits, offset)

        offset = largest_offset(lambda offset: fits(space, at(offset), limits))
        moved = at(offset or 0.0)
        allowed = offset is not None and _allowed(moved, search)
        if params.fill and limits.bitops is not None:
            allowed = allowed and space.used(moved).bitops >= FULL * limits.bitops
        costs = distance(bits, offset or 0.0)
        held = moved if allowed else search.filled(costs)[0]
        raw = at(0.0)
        report = search.both(raw, held) | {
            "real_bits": {name: list(pair) for name, pair in bits.items()},
            "offset": offset,
            "rounded": moved.to_json(),
            "projected_from_rounded": not allowed,
            "pair_costs": pair_costs(space, params, costs),
        }
        return (held if params.answer == "projected" else raw), report


def _allowed(policy: BitPolicy, search: Search) -> bool:
    """Whether all bits are candidates and tied layers have the same."""
    choices = choices_of(search.space, search.params, lambda place, bits: 0.0)
    tied: dict[str, Any] = {}
    for choice in choices:
        pair = policy[choice.name]
        if pair not in choice.costs or (choice.tied and tied.setdefault(choice.tied, pair) != pair):
            return False
    return True


METHOD = Fracbits()
