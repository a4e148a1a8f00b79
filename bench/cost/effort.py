"""How much work a method's parameters ask for, read off names that all methods share.  No torch.

Methods count what they did in forward-equivalents after the fact; before it, what is known are their parameters.  The
words below are those by which methods say how often they repeat a step and on how many images, so that the cost of one
setting of them follows from the measured cost of another: twice the iterations, twice the passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Step = Literal["synthesis", "ptq", "training", "forward"]
"""What a piece of work does over and over: a gradient step on images; one on the rounding of weights; one on all
weights beside a teacher; a look alone."""

STEPS: tuple[Step, ...] = ("synthesis", "ptq", "training", "forward")

TRAINED = ("steps", "epochs")
REPEATED = (*TRAINED, "iterations", "step_iterations", "mask_iterations", "weight_iterations", "trials", "probes")
"""Parameters that say how often; several of a method come one after the other."""

HALVED = "half_iterations"
"""So many of the iterations see images of half the side: a quarter of the work."""

SOUGHT = ("gamma", "pressure")
"""Where both of a policy search are left open, it tries weights of the cost first."""

SEEN = ("samples", "calibration")
"""Parameters that say how many images at most."""

TIMES = ("mix", "groups")
"""Parameters that say of how many networks or groups of images each repetition is."""


def effort(params: Mapping[str, Any], images: int) -> float:
    """Images that go through the network over all repetitions, up to a factor that is the method's own; 0 where the
    parameters name no repetition.

    Args:
        params: a method's parameters as plain JSON; those of a chain have the steps' under ``steps``.
        images: how many there are, of which an epoch sees no more than all.
    """
    if (chain := chained(params)) is not None:
        return sum(effort(one, images) for one in chain)
    repeats = sum(_number(params, name) for name in REPEATED) - 0.75 * _number(params, HALVED)
    if all(name in params and params[name] is None for name in SOUGHT):
        repeats += _number(params, "gamma_trials") * _number(params, "trial_epochs")
    width = min(_number(params, SEEN[0]), images) if SEEN[0] in params else _number(params, "batch", 1.0)
    for name in TIMES:
        width *= _number(params, name, 1.0)
    return repeats * width


def looked_at(params: Mapping[str, Any], images: int, other: float) -> float:
    """Images that a method without repetitions looks at; ``other`` where its parameters do not say."""
    for name in SEEN:
        if name in params:
            return max(1.0, min(_number(params, name), images))
    return other


def step_of(params: Mapping[str, Any]) -> Step:
    """What a compression or a policy search with these parameters does most of the time."""
    parts = chained(params) or [params]
    if any(_number(one, name) for one in parts for name in TRAINED):
        return "training"
    return "ptq" if any(_number(one, name) for one in parts for name in REPEATED) else "forward"


def chained(params: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The parameters of each method of a chain; None where it is none."""
    steps = params.get("steps")
    return [step.get("params", {}) for step in steps] if isinstance(steps, list | tuple) else None


def _number(params: Mapping[str, Any], name: str, other: float = 0.0) -> float:
    found = params.get(name)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else other
