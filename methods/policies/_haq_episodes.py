"""HAQ's episodes: what the agent sees of a layer, what its actions mean, what a policy is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.interfaces import BitPolicy, RunContext
from bench.interfaces.program import Limits
from methods.policies._agent import Agent, Habits, Transition
from methods.policies._knobs import Knob, knobs_of, policy_of, raised, swept
from methods.policies._sensitivity import logits_of
from methods.policies._space import Space
from methods.policies._switched import Switched

if TYPE_CHECKING:
    from methods.policies.haq import HaqParams

Worth = Callable[[BitPolicy], float]
"""Accuracy of a policy in percent."""

_ACTION = 8
"""Where in a state the previous action stands."""


def choice_of(action: float, count: int) -> int:
    """Which of ``count`` candidates an action in [0, 1] means; all get an equal part of the interval.

    HAQ's b = round(b_min - 1/2 + a (b_max - b_min + 1)), with candidates counted through.  Half to even would give -1/2
    the value 0 and candidates uneven parts, so halves go up.
    """
    return min(max(math.floor(action * count), 0), count - 1)


@dataclass(frozen=True)
class Episode:
    """A policy and what it is worth: percent."""

    policy: BitPolicy
    accuracy: float


@dataclass(frozen=True)
class Exploration:
    """The best episode (the first of equals), all accuracies, how many policies were looked at."""

    best: Episode
    accuracies: tuple[float, ...]
    looked_at: int


def explore(
    space: Space, module: nn.Module, limits: Limits, params: HaqParams, ctx: RunContext, full: float, worth: Worth
) -> Exploration:
    """Let an agent choose bits for ``params.trials`` episodes and learn from them.

    Args:
        full: accuracy in floating point, percent.
        worth: of a policy; each is asked for once.
    """
    knobs = knobs_of(space, params)
    states = states_of(space, module, knobs)
    agent = Agent(states.shape[1], params.memory * len(space.searched), Habits(), ctx.generator)
    known: dict[BitPolicy, float] = {}
    best: Episode | None = None
    accuracies: list[float] = []
    for trial in range(params.trials):
        noise = params.noise * params.noise_decay ** max(trial - params.warmup, 0)
        seen, actions = _actions(agent, states, None if trial < params.warmup else noise)
        wished = [choice_of(action, len(knob.bits)) for action, knob in zip(actions, knobs, strict=True)]
        at = swept(space, knobs, wished, limits)
        if params.fill:
            at = raised(space, knobs, at, limits)
        policy = policy_of(space, knobs, at)
        if policy not in known:
            known[policy] = worth(policy)
        accuracies.append(known[policy])
        if best is None or known[policy] > best.accuracy:
            best = Episode(policy, known[policy])
        # What was done counts, not what was wished for before it was made to fit.
        done = [(place + 0.5) / len(knob.bits) for place, knob in zip(at, knobs, strict=True)]
        kept = [a if i == w else d for a, i, w, d in zip(actions, at, wished, done, strict=True)]
        agent.remember(_transitions(seen, kept, 0.1 * (known[policy] - full)))
        for _ in knobs if trial >= params.warmup else ():
            agent.learn()
        ctx.report("episodes", trial + 1, params.trials)
        ctx.log_scalar("accuracy", trial, known[policy])
    assert best is not None
    return Exploration(best, tuple(accuracies), len(known))


def _actions(agent: Agent, states: Tensor, noise: float | None) -> tuple[list[Tensor], list[float]]:
    """States with the action before each filled in, and the actions; drawn uniformly where there is no ``noise``."""
    seen: list[Tensor] = []
    actions: list[float] = []
    for state in states:
        own = state.clone()
        own[_ACTION] = actions[-1] if actions else 1.0
        seen.append(own)
        actions.append(agent.guess() if noise is None else agent.act(own, noise))
    return seen, actions


def _transitions(seen: Sequence[Tensor], actions: Sequence[float], reward: float) -> list[Transition]:
    """One per knob; all of an episode share its reward."""
    last = len(seen) - 1
    return [
        Transition(state, action, reward, seen[min(index + 1, last)], index == last)
        for index, (state, action) in enumerate(zip(seen, actions, strict=True))
    ]


def states_of(space: Space, module: nn.Module, knobs: Sequence[Knob]) -> Tensor:
    """What the agent sees [knobs, 10], each number between 0 and 1 over the knobs: whether the layer is depthwise, its
    channels in and out, stride, kernel size, weights, places of the output, number, the action before (left 0), whether
    it is about an input."""
    places = {place.name: (number, place) for number, place in enumerate(space.searched)}
    rows = []
    for knob in knobs:
        number, place = places[knob.layer]
        shape = _shape(module.get_submodule(knob.layer))
        area = place.macs / max(place.weights, 1)
        rows.append([*shape, place.weights, area, number, 0.0, float(not knob.weights)])
    found = torch.tensor(rows, dtype=torch.float32)
    low, high = found.amin(0), found.amax(0)
    return (found - low) / (high - low).clamp_min(1e-12)


def _shape(layer: Any) -> tuple[float, ...]:
    if isinstance(layer, nn.Linear):
        return 0.0, float(layer.in_features), float(layer.out_features), 0.0, 1.0
    depthwise = float(layer.groups == layer.in_channels > 1)
    return (
        depthwise,
        float(layer.in_channels),
        float(layer.out_channels),
        float(layer.stride[0]),
        float(layer.kernel_size[0]),
    )


def accuracy_of(
    switched: Switched, space: Space, calibration: Tensor, images: Tensor, labels: Tensor, batch: int
) -> Worth:
    """Accuracy on ``images`` [N, C, H, W] of a policy, with batch-normalisation statistics from ``calibration``."""

    def worth(policy: BitPolicy) -> float:
        switched.choose(space, policy)
        switched.settle_norms(calibration, batch)
        right = logits_of(switched.net, images, batch).argmax(1) == labels
        return 100.0 * float(right.double().mean())

    return worth
