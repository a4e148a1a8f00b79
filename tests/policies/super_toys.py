"""Supernets of a small residual network, and plain quantised networks to compare them with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.interfaces import BitPolicy, Setting
from methods.policies._mixed import Choice, SoftmaxChoice
from methods.policies._proxy import Batch, Proxy
from methods.policies._space import space_of
from methods.policies._supernet import Deciders, Supernet
from methods.quant.choices import StepInit
from methods.quant.learned import StepActivation
from methods.quant.learned_weights import LsqWeight
from methods.quant.training import TrainedModel
from methods.quant.training_parts import Makers
from tests.compressors.recon_toys import Residual
from tests.quant.nets import randomise, seeded

BITS = (2, 3, 4, 6)
SETTING = Setting(3, 3)


def net() -> nn.Module:
    """A residual network of five searched tensors, random normalisation."""
    return randomise(seeded(Residual))


def pictures(count: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def supernet(
    module: nn.Module | None = None,
    *,
    bits: tuple[int, ...] = BITS,
    init: StepInit | None = "mse",
    make: Callable[[], Choice] | None = None,
    on: Callable[[int], int] | None = None,
) -> Supernet:
    """Begun on `pictures`; ``on`` gives the candidate that each choice, by its number, has all of the share on."""
    module = module or net()
    choice = make or (lambda: SoftmaxChoice(bits))
    space = space_of(module, pictures()[:2], SETTING)
    found = Supernet(module, pictures(), SETTING, space, Deciders(choice, choice, init))
    for number, decider in enumerate(found.choices if on else []):
        put(decider, on(number))  # type: ignore[misc]
    found.begin(pictures())  # with these weights: where steps start depends on them
    return found


def plain(module: nn.Module, policy: BitPolicy, init: StepInit = "mse") -> TrainedModel:
    """LSQ's quantisers at the policy's bits."""
    makers = Makers(lambda w, b: LsqWeight(w, b, init), lambda b, n: StepActivation(b, n, init))
    found = TrainedModel(module, pictures(), SETTING.with_policy(policy), makers)
    found.begin(pictures())
    return found


def put(choice: Choice, index: int, size: float = 1e4) -> None:
    """All of the share on one candidate."""
    assert isinstance(choice, SoftmaxChoice)
    with torch.no_grad():
        choice.logits.fill_(-size)
        choice.logits[index] = size


def proxy(count: int = 16, classes: int = 5, **more: Any) -> Proxy:
    """`pictures` with labels in turn."""
    settings = {"shift": 0, "flip": False, "device": torch.device("cpu")} | more
    return Proxy(pictures(count), torch.arange(count) % classes, None, classes, False, "images", **settings)


def batch(count: int = 16) -> Batch:
    made = proxy(count)
    return Batch(made.images, made.labels, None)
