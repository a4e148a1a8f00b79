"""DDPG for actions in [0, 1] (Lillicrap et al., arXiv 1509.02971), small, on the CPU: HAQ's agent.

Everything is drawn from one generator, the first weights too.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Habits:
    """``baseline``: weight of the past in the moving mean of rewards that is taken off them."""

    hidden: int = 300
    actor_lr: float = 1e-4
    critic_lr: float = 1e-3
    tau: float = 0.01
    discount: float = 1.0
    batch: int = 64
    baseline: float = 0.5


@dataclass(frozen=True)
class Transition:
    """``state`` and ``after`` [S]; ``last`` ends an episode, after which nothing comes."""

    state: Tensor
    action: float
    reward: float
    after: Tensor
    last: bool


class Agent:
    """An actor that maps a state [S] to an action, a critic that values both, slow copies of both, a memory."""

    def __init__(self, size: int, memory: int, habits: Habits, generator: torch.Generator) -> None:
        self.habits, self._generator = habits, generator
        self._actor = _layers((size, habits.hidden, habits.hidden, 1), generator)
        self._critic = _layers((size + 1, habits.hidden, habits.hidden, 1), generator)
        self._slow_actor, self._slow_critic = copy.deepcopy(self._actor), copy.deepcopy(self._critic)
        self._actor_rule = torch.optim.Adam(self._actor.parameters(), lr=habits.actor_lr)
        self._critic_rule = torch.optim.Adam(self._critic.parameters(), lr=habits.critic_lr)
        self._memory: deque[Transition] = deque(maxlen=memory)
        self._mean: float | None = None

    def guess(self) -> float:
        """An action drawn uniformly."""
        return float(torch.rand((), generator=self._generator))

    @torch.no_grad()
    def act(self, state: Tensor, noise: float) -> float:
        """The actor's action with truncated normal noise of this standard deviation."""
        mean = float(self._actor(state).sigmoid())
        return mean if noise <= 0 else truncated_normal(mean, noise, self.guess())

    def remember(self, transitions: list[Transition]) -> None:
        """Keep an episode."""
        self._memory.extend(transitions)

    def learn(self) -> None:
        """One step of critic and actor on a batch of remembered transitions."""
        size = len(self._memory)
        picks = torch.randint(size, (self.habits.batch,), generator=self._generator).tolist()
        drawn = [self._memory[pick] for pick in picks]
        states, after = torch.stack([t.state for t in drawn]), torch.stack([t.after for t in drawn])
        actions = torch.tensor([[t.action] for t in drawn])
        rewards = torch.tensor([[t.reward] for t in drawn])
        going = torch.tensor([[0.0 if t.last else 1.0] for t in drawn])
        own, mean = self.habits.baseline, float(rewards.mean())
        self._mean = mean if self._mean is None else own * self._mean + (1 - own) * mean
        with torch.no_grad():
            then = self._slow_critic(torch.cat([after, self._slow_actor(after).sigmoid()], 1))
            wanted = rewards - self._mean + self.habits.discount * going * then
        self._critic_rule.zero_grad()
        F.mse_loss(self._critic(torch.cat([states, actions], 1)), wanted).backward()
        self._critic_rule.step()
        self._actor_rule.zero_grad()
        (-self._critic(torch.cat([states, self._actor(states).sigmoid()], 1)).mean()).backward()
        self._actor_rule.step()
        self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        for slow, fast in ((self._slow_actor, self._actor), (self._slow_critic, self._critic)):
            for left, right in zip(slow.parameters(), fast.parameters(), strict=True):
                left.lerp_(right, self.habits.tau)


def truncated_normal(mean: float, deviation: float, share: float) -> float:
    """The value below which ``share`` of a normal density cut to [0, 1] lies."""
    low, high = (torch.special.ndtr(torch.tensor((end - mean) / deviation, dtype=torch.float64)) for end in (0.0, 1.0))
    value = mean + deviation * float(torch.special.ndtri(low + share * (high - low)))
    return min(max(value, 0.0), 1.0)


def _layers(sizes: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
    """Linear layers with ReLUs between, drawn as torch draws them by default, but from ``generator``."""
    parts: list[nn.Module] = []
    for left, right in pairwise(sizes):
        layer = nn.utils.skip_init(nn.Linear, left, right)
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(left), 1 / math.sqrt(left), generator=generator)
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts[:-1])
