"""What the searches by gradients share: hyper-parameters, presets, and the way from a request to a policy.

All train a `methods.policies._supernet.Supernet` on the images given.  No torch: a plan reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench.interfaces import BitPolicy, ImageSet, ModelHandle, RunContext, Searched, Setting
from methods.policies._base import ForSearchedLayers, SearchParams

if TYPE_CHECKING:
    from methods.policies._mixed import Choice
    from methods.policies._proxy import Proxy
    from methods.policies._supernet import Supernet
    from methods.policies._supernet_loop import Objective
    from methods.policies._supernet_search import Search, Trained

Quantisers = Literal["lsq", "mse", "fixed"]


class TrainingParams(SearchParams):
    """How a supernet is trained (docs/methods/policies.md).

    At most ``samples`` images are used.  ``lr`` moves weights and learned steps, ``lr_arch`` what decides on bits; both
    follow ``shape`` (drops multiplies by 0.1 at the shares ``drops`` of the steps).  ``decay`` acts on weights,
    ``decay_arch`` on what decides on bits; ``clip`` bounds the gradient's norm (0: never).  ``shift`` moves each image
    by up to so many pixels, its edges repeated, ``flip`` mirrors half of them.  ``head`` new: the images' labels are of
    other classes than the network's, so a fresh linear classifier takes the last layer's place; auto: where the source
    says that they are; ``pretrain_epochs`` train the copy in floating point first.  ``quantisers``: learned steps that
    start by LSQ's rule or at the least squared error, or EdMIPS' fixed ones.  ``answer``: the policy projected onto the
    budget, or each layer's likeliest bits, which may exceed it.  ``fill``: a projected policy that leaves more than 1 %
    of a budget of BitOPs unused is looked for again with the least reward for using them, so that searches are compared
    at equal cost.
    """

    epochs: int = Field(default=5, ge=1, le=1000)
    batch: int = Field(default=64, ge=1, le=4096)
    samples: int = Field(default=5000, ge=1)
    lr: float = Field(default=0.01, gt=0, le=10)
    lr_arch: float = Field(default=1.0, ge=0, le=100)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    decay: float = Field(default=1e-4, ge=0, le=1)
    decay_arch: float = Field(default=0.0, ge=0, le=1)
    shape: Literal["cosine", "drops"] = "cosine"
    drops: tuple[float, ...] = ()
    clip: float = Field(default=5.0, ge=0)
    shift: int = Field(default=2, ge=0, le=64)
    flip: bool = False
    head: Literal["auto", "target", "new"] = "auto"
    pretrain_epochs: int = Field(default=0, ge=0, le=1000)
    quantisers: Quantisers = "mse"
    answer: Literal["projected", "argmax"] = "projected"
    fill: bool = True


class PressureParams(TrainingParams):
    """``gamma`` weighs L_comp in the loss.  Without it, ``pressure`` chooses it once, in the first step: gamma L_comp
    is then this share of the task's loss, so that one number serves networks of any size.  It is small: the
    likeliest bits shall exceed the budget, so that the projection decides what to give up.  Without both, gamma is
    looked for in [1e-5, 1e-1] by halving its logarithm's range, at most ``gamma_trials`` times with searches of
    ``trial_epochs`` each, until the likeliest bits lie within 2 % of the budget; every trial is counted in the cost.
    """

    gamma: float | None = Field(default=None, ge=0)
    pressure: float | None = Field(default=0.01, ge=0)
    gamma_trials: int = Field(default=6, ge=1, le=30)
    trial_epochs: int = Field(default=1, ge=1, le=1000)


MINI: Mapping[str, Any] = {}
"""The defaults: 5 epochs on up to 5,000 images, one search whose policy is projected onto the budget.  So few steps ask
for choices that move a hundred times as fast as published: at 0.01 all shares stayed at 0.250 in a trial of 8 steps."""


class DifferentiableSearch(ForSearchedLayers):
    """Base of the searches by gradients; a subclass gives its loss, and its choices where they are no softmax."""

    def search(self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext) -> Searched:
        """Train a supernet of a copy of ``model`` on ``images`` and read its bits.

        Raises:
            BenchError: the budget cannot be reached, the labels do not fit the network, or the loss is not finite.
        """
        from methods.policies._supernet_search import Search

        return Search(self, model, images, setting, params, ctx).run()

    def objective(self, net: Supernet, proxy: Proxy, params: Any, limit: float) -> Objective:
        """The loss; ``limit`` is what the searched layers' BitOPs may be, without a budget of BitOPs what they are at
        the setting's own bits."""
        from methods.policies._supernet_loop import Objective

        return Objective(net, proxy, params)

    def choices(self, params: Any, setting: Setting) -> tuple[Callable[[], Choice], Callable[[], Choice]]:
        """What makes the choice of a weight's bits, and of a tensor's."""
        from methods.policies._mixed import SoftmaxChoice

        return (lambda: SoftmaxChoice(params.weight_bits)), (lambda: SoftmaxChoice(params.act_bits))

    def answer(self, trained: Trained, search: Search) -> tuple[BitPolicy, dict[str, Any]]:
        """The policy of a trained supernet and the report's part on it."""
        return search.projected(trained)
