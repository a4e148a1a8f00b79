"""BRECQ's Fisher weights: how much the task's loss cares for each value of a unit's output.

Equation 10 of the paper (arXiv 2102.05426) weighs the squared error of a unit's output by the squared gradient of the
loss there (the diagonal of the Fisher information, which stands for the Hessian).  Without labels the loss is, as in
the public script, the divergence of the network quantised up to and with this unit from the full-precision one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from bench.errors import NotApplicable
from methods.quant.model import QuantModel
from methods.quant.units import Unit


class _Cut(fx.Interpreter):
    """Runs a graph and starts the gradient at the output of one node."""

    def __init__(self, graph: fx.GraphModule, name: str) -> None:
        super().__init__(graph)
        self._name = name
        self.cut: Tensor | None = None

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name == self._name:
            value = self.cut = value.detach().requires_grad_(True)
        return value


def fisher_weights(model: QuantModel, unit: Unit, images: Tensor, done: Iterable[str], batch: int) -> Tensor:
    """Squared gradients at the unit's output, of its shape [N, ...] and of mean 1 (so that lambda keeps its meaning).

    Weight quantisers are left on for the layers ``done`` and the unit's own, activation quantisers off; all are as they
    were given afterwards.

    Args:
        images: [N, C, H, W].
        done: layers that are quantised before the unit.
        batch: images at a time.

    Raises:
        NotApplicable: the network could not be traced, so that no gradient can start inside it.
    """
    body = model.body
    if not isinstance(body, fx.GraphModule):
        raise NotApplicable("Fisher weights need a network that can be traced")
    before = [(q, q.enabled) for q in (*model.weights.values(), *model.activations.values())]
    on = {*done, *unit.layers}
    found = []
    for part in torch.split(images, batch):
        model.set_state(False, False)
        with torch.no_grad():
            full = F.softmax(model(part), 1)
        for name, quantiser in model.weights.items():
            quantiser.enabled = name in on
        run = _Cut(body, unit.output)
        with torch.enable_grad():
            loss = F.kl_div(F.log_softmax(run.run(part), 1), full, reduction="sum")
            assert run.cut is not None
            (gradient,) = torch.autograd.grad(loss, run.cut)
        found.append(gradient.square())
    for other, enabled in before:
        other.enabled = enabled
    weights = torch.cat(found)
    mean = weights.mean(dtype=torch.float64).float()
    return weights / mean if mean > 0 else torch.ones_like(weights)
