"""A search by gradients from request to answer: start network, gamma, training, reading, projection, report."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from bench.interfaces import BitPolicy, ImageSet, LayerBits, ModelHandle, RunContext, Searched, Setting
from methods.policies._base import FULL, cheapest, described, limits_of, pair_costs, searched_bits
from methods.policies._differentiable import PressureParams
from methods.policies._margins import class_margins
from methods.policies._proxy import pretrain, proxy_of, start_of
from methods.policies._space import Place, space_of
from methods.policies._supernet import Deciders, Supernet
from methods.policies._supernet_loop import Curve, Objective, train

if TYPE_CHECKING:
    from methods.policies._differentiable import DifferentiableSearch

LOWEST, HIGHEST = 1e-5, 1e-1
CLOSE = 0.02
"""Distance from the budget at which looking for gamma ends, relative."""
_CALIBRATION = 128
_REWARDS = (1e-3, 1e3)
_HALVINGS = 14


@dataclass(frozen=True)
class Trained:
    """A supernet after its training."""

    net: Supernet
    objective: Objective
    curve: Curve


def rewarded(cost: Callable[[Place, LayerBits], float], reward: float) -> Callable[[Place, LayerBits], float]:
    """``cost`` less ``reward`` per BitOP."""
    return lambda place, bits: cost(place, bits) - reward * place.macs * bits.weight * bits.input


class Search:
    """One search."""

    def __init__(
        self,
        method: DifferentiableSearch,
        model: ModelHandle,
        images: ImageSet,
        setting: Setting,
        params: Any,
        ctx: RunContext,
    ) -> None:
        self.method, self.setting, self.params, self.ctx = method, setting, params, ctx
        self.model = model
        self.space = space_of(model.module, images.images[:2].to(ctx.device), setting)
        self.limits = limits_of(self.space, setting, params.budget)
        cheapest(self.space, setting, params, lambda place, bits: 0.0)  # raises before the training, not after
        self.proxy, self.passes = proxy_of(model, images, params, ctx)

    def run(self) -> Searched:
        """The policy with its report."""
        start = start_of(self.model, self.space.places[-1].name, self.proxy, self.params, self.ctx)
        self.passes += pretrain(start, self.proxy, self.params, self.ctx)
        gamma, trials = self._gamma(start)
        trained = self._trained(start, gamma, self.params.epochs, "search")
        answer, found = self.method.answer(trained, self)
        margins, passes = class_margins(start, trained.net, self.proxy)
        self.passes += passes
        report = described(self.space, answer, self.limits) | {
            "answer": self.params.answer,
            "labels": self.proxy.source,
            "images": len(self.proxy.images),
            "gamma": trained.objective.gamma,
            "gamma_trials": trials,
            "expected_bitops": self._expected(trained.net),
            "probabilities": trained.net.probabilities(),
            "path": trained.net.path,
            "class_margins": margins,
            **trained.curve.report(),
            **found,
        }
        return Searched(answer, report, self.passes)

    def projected(self, trained: Trained) -> tuple[BitPolicy, dict[str, Any]]:
        """The likeliest policy within the budget, and the report's part on both it and each layer's likeliest bits."""
        raw = trained.net.picked()
        costs = trained.net.costs()
        held, reward = self.filled(costs)
        answer = held if self.params.answer == "projected" else raw
        found = {"reward_of_filling": reward, "pair_costs": pair_costs(self.space, self.params, costs)}
        return answer, self.both(raw, held) | found

    def filled(self, cost: Callable[[Place, LayerBits], float]) -> tuple[BitPolicy, float]:
        """The cheapest policy within the budget and, where it leaves more than 1 % of the searched layers' BitOPs
        unused and ``fill`` is on, the least reward for using them (of the whole budget, in the cost's unit) with which
        it does not."""
        found = cheapest(self.space, self.setting, self.params, cost)
        limit = self.limits.bitops
        if limit is None or not self.params.fill or found.bitops >= FULL * limit:
            return found.policy, 0.0
        reward, (low, high) = 0.0, _REWARDS
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            tried = cheapest(self.space, self.setting, self.params, rewarded(cost, middle / limit))
            full = tried.bitops >= FULL * limit
            if full or tried.bitops >= found.bitops:
                found, reward = tried, middle
            low, high = (low, middle) if full else (middle, high)
        return found.policy, reward

    def both(self, raw: BitPolicy, held: BitPolicy) -> dict[str, Any]:
        """What is reported of the policy before and after the projection."""
        return {
            "argmax": raw.to_json(),
            "argmax_bitops": self.space.bitops(raw),
            "argmax_effective_bits": self.space.effective_bits(raw),
            "projected": held.to_json(),
            "projected_bitops": self.space.bitops(held),
            "moved_by_projection": sum(raw[name] != held[name] for name in raw),
        }

    def _expected(self, net: Supernet) -> float:
        """Expected BitOPs of the whole network."""
        return float(net.bitops().detach()) + self.space.fixed.bitops

    def _trained(self, start: nn.Module, gamma: float | None, epochs: int, stage: str) -> Trained:
        weight, act = self.method.choices(self.params, self.setting)
        init = None if self.params.quantisers == "fixed" else self.params.quantisers
        example = self.proxy.first(_CALIBRATION)
        net = Supernet(deepcopy(start), example, self.setting, self.space, Deciders(weight, act, init))
        net.begin(example)
        limit, own = self.limits.bitops, self.space.uniform(*searched_bits(self.setting))
        limit = self.space.used(own).bitops if limit is None else limit
        objective = self.method.objective(net, self.proxy, self.params, float(limit))
        objective.gamma = gamma
        curve = train(objective, epochs, self.ctx, stage)
        self.passes += curve.passes + len(example)
        return Trained(net, objective, curve)

    def _gamma(self, start: nn.Module) -> tuple[float | None, list[dict[str, float]]]:
        """gamma, None where the first step chooses it, and what was tried: halving [1e-5, 1e-1] in its logarithm."""
        params = self.params
        if not isinstance(params, PressureParams):  # its loss has no gamma
            return None, []
        if params.gamma is not None or params.pressure is not None or self.limits.bitops is None:
            return params.gamma, []
        budget = self.limits.bitops + self.space.fixed.bitops
        low, high = math.log(LOWEST), math.log(HIGHEST)
        trials: list[dict[str, float]] = []
        for trial in range(params.gamma_trials):
            gamma = math.exp((low + high) / 2)
            before = self.passes
            tried = self._trained(start, gamma, params.trial_epochs, f"gamma {trial + 1}")
            bitops = self.space.bitops(tried.net.picked())
            off = bitops / budget - 1
            trials.append(
                {
                    "gamma": gamma,
                    "argmax_bitops": float(bitops),
                    "off_budget": off,
                    "forward_equivalents": self.passes - before,
                }
            )
            if abs(off) < CLOSE:
                break
            if off > 0:
                low = math.log(gamma)
            else:
                high = math.log(gamma)
        best = min(trials, key=lambda trial: abs(trial["off_budget"]))
        return best["gamma"], trials
