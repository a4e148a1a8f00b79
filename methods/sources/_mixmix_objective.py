"""MixMix's objective: several networks on mixed pairs, with learned or fixed weights of their terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from methods.sources._augment import Augment, Mixed, mix_data
from methods.sources._losses import image_prior, l2norm
from methods.sources._mixing import LossWeights, Targets
from methods.sources._objectives import Network, top1
from methods.sources._settings import Prior

if TYPE_CHECKING:
    from methods.sources.mixmix import MixMixParams


class MixMixObjective:
    """The objective for a fixed subset of networks; one network is in memory at a time (gradients add up on Xh)."""

    def __init__(
        self, networks: Sequence[Network], labels: Tensor, params: MixMixParams, augment: Augment, generator: Generator
    ) -> None:
        self.networks, self.labels, self.params = tuple(networks), labels, params
        self.augment, self.generator = augment, generator
        self.prior = Prior(tv_l2=params.tv, l2=params.l2, tv_norm=params.tv_norm)
        self.weights: LossWeights | None = None
        if params.weights == "learned":
            self.weights = LossWeights(2 * len(networks) + 1, params.resolved_alpha_lr(), labels.device)

    def backward(self, view: Tensor, scale: int, log: bool) -> Mapping[str, Tensor]:
        """Augment, mix, run the networks one after another, then send what gathered on the mixed images back."""
        augmented = self.augment(view, self.generator, scale)
        mixed = self._mixed(augmented)
        shown = augmented if mixed is None else mixed.images
        leaf = shown.detach().requires_grad_()
        targets = Targets.of(self.labels, mixed)
        found: dict[str, list[Tensor]] = {"loss": [], "ce": [], "bn": [], "top1": []}
        for position, network in enumerate(self.networks):
            logits, stats = network(leaf, scale)
            terms = {"ce": targets.loss(logits)}
            if self.params.bn and stats is not None:
                terms["bn"] = l2norm(stats)
            loss = self._combined(position, terms)
            loss.backward()
            for name, term in (("loss", loss), *terms.items()):
                found[name].append(term.detach())
            if log:
                found["top1"].append(top1(logits, self.labels))
        prior = self._prior(view)
        roots, grads = ([shown], [leaf.grad]) if prior is None else ([shown, prior], [leaf.grad, None])
        torch.autograd.backward(roots, grads)
        return self._report(found, prior)

    def _mixed(self, x: Tensor) -> Mixed | None:
        p = self.params
        if not p.data_mixing:
            return None
        return mix_data(x, self.generator, p.box, antialias=p.antialias, per_sample=p.per_sample)

    def _combined(self, position: int, terms: Mapping[str, Tensor]) -> Tensor:
        """One network's part of the loss: eq. 8 of the appendix, or fixed weights and the average over networks."""
        if self.weights is not None:
            parts = [self.weights(2 * position + k, term) for k, term in enumerate(terms.values())]
            # eq. 6's average: without it the prior would weigh 1 / m' of what it does for one network
            return torch.stack(parts).sum() / len(self.networks)
        fixed = {"ce": self.params.ce_weight, "bn": self.params.bn_weight}
        parts = [fixed[name] * term for name, term in terms.items()]
        return torch.stack(parts).sum() / len(self.networks)

    def _prior(self, view: Tensor) -> Tensor | None:
        """Prior of the unmixed images (algorithm 1), None when all its weights are 0."""
        if not (self.params.tv or self.params.l2):
            return None
        prior = image_prior(view, self.prior)
        if self.params.learn_prior and self.weights is not None:
            return self.weights(2 * len(self.networks), prior)
        return prior

    def _report(self, found: Mapping[str, list[Tensor]], prior: Tensor | None) -> dict[str, Tensor]:
        """Averages over networks; ``loss`` is the sum that was minimised."""
        out = {name: torch.stack(values).mean() for name, values in found.items() if values}
        out["loss"] = torch.stack(found["loss"]).sum()
        if prior is not None:
            out["prior"] = prior.detach()
            out["loss"] = out["loss"] + out["prior"]
        return out

    def alphas(self) -> dict[str, dict[str, float]]:
        """Current a_t by network and term; empty with fixed weights."""
        if self.weights is None:
            return {}
        names = ("ce", "bn") if self.params.bn else ("ce",)
        values = self.weights.alpha.tolist()
        out = {n.name: {t: values[2 * i + k] for k, t in enumerate(names)} for i, n in enumerate(self.networks)}
        return {**out, "prior": {"prior": values[-1]}} if self.params.learn_prior else out

    def stepped(self) -> None:
        """Move the loss weights."""
        if self.weights is not None:
            self.weights.step()

    def reset(self) -> None:
        """Back to the first iteration's loss weights."""
        if self.weights is not None:
            self.weights.reset()
