"""Short trainings of quantised networks, for the tests of each trainer and of what they share."""

from __future__ import annotations

from typing import Any

from bench.interfaces import Setting
from methods.quant.learned import PactActivation, StepActivation
from tests.compressors.recon_toys import context, handle, image_set

W2A4 = Setting(2, 4)


def compress(method: Any, seed: int = 0, setting: Setting = W2A4, **params: Any) -> Any:
    """What 30 steps make of the toy network."""
    few = {"steps": 30, "batch": 16} | params
    return method.compress(handle(), image_set(), setting, method.Params(**few), context(seed))


def moved(method: Any, optimiser: str, **params: Any) -> list[bool]:
    """For each activation quantiser whether five steps change its size."""
    seen = []
    for steps in (0, 5):
        module = compress(method, steps=steps, optimiser=optimiser, lr=0.01, **params).variants[0].module
        quants = [m for m in module.modules() if isinstance(m, StepActivation | PactActivation)]
        seen.append([float((q.scale if isinstance(q, StepActivation) else q.alpha).detach()) for q in quants])
    assert seen[0]
    return [a != b for a, b in zip(*seen, strict=True)]
