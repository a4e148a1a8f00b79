"""DAFL's objective with MixMix's on mixed images beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from bench.interfaces import DatasetSpec
from methods.sources._augment import mix_data
from methods.sources._dafl import DaflObjective
from methods.sources._generators import Codes
from methods.sources._losses import l2norm
from methods.sources._mixing import LossWeights, Targets
from methods.sources._objectives import Network, StatisticsWeight
from methods.sources._settings import alpha_rate

if TYPE_CHECKING:
    from methods.sources.dafl_mixmix import DaflMixMixParams


class DaflMixMixObjective(DaflObjective):
    """DAFL's terms on the images, then MixMix's on mixed ones; one network is in memory at a time."""

    def __init__(
        self,
        teacher: Network,
        pool: Sequence[Network],
        dataset: DatasetSpec,
        params: DaflMixMixParams,
        generator: Generator,
    ) -> None:
        super().__init__(teacher, dataset.shape, dataset.classes, params, generator)
        self.pool, self.mixing = tuple(pool), params
        self.chosen: list[int] = []
        self.fixed = [StatisticsWeight(params.bn_weight, params.kappa) for _ in self.pool]
        self.weights: LossWeights | None = None
        if params.weights == "learned":
            self.weights = LossWeights(
                2 * len(self.pool), alpha_rate(params.alpha_lr, params.iterations), teacher.device
            )

    @property
    def macs(self) -> float:
        """One forward and backward of the teacher and of each of the last step's networks."""
        return super().macs + 2.0 * sum(self.pool[index].macs for index in self.chosen)

    def backward(self, images: Tensor, codes: Codes, log: bool) -> tuple[dict[str, Tensor], Tensor]:
        """DAFL's gradient and MixMix's add up on the leaf ``images``."""
        found, logits = super().backward(images, codes, log)
        mixed = mix_data(images, self.generator, self.mixing.box) if self.mixing.data_mixing else None
        shown = images if mixed is None else mixed.images
        leaf = shown.detach().requires_grad_()
        targets = Targets.of(logits.argmax(1), mixed)
        terms: dict[str, list[Tensor]] = {"mixed": [], "ce": [], "bn": []}
        self.chosen = self.subset()
        for index in self.chosen:
            answer, stats = self.pool[index](leaf)
            assert stats is not None
            parts = {"ce": targets.loss(answer), "bn": l2norm(stats)}
            loss = self._combined(index, parts)
            loss.backward()
            for name, term in (("mixed", loss), *parts.items()):
                terms[name].append(term.detach())
        shown.backward(leaf.grad)
        found |= {name: torch.stack(values).mean() for name, values in terms.items()}
        found["mixed"] = torch.stack(terms["mixed"]).sum()
        found["loss"] = found["loss"] + found["mixed"]
        return found, logits

    def subset(self) -> list[int]:
        """This step's networks, as positions in the pool."""
        return torch.randperm(len(self.pool), generator=self.generator)[: self.mixing.mix].tolist()

    def _combined(self, index: int, parts: Mapping[str, Tensor]) -> Tensor:
        """One network's share of the average over the step's networks."""
        if self.weights is not None:
            weighted = [self.weights(2 * index + k, term) for k, term in enumerate(parts.values())]
        else:
            weighted = [self.mixing.ce_weight * parts["ce"], self.fixed[index](parts["bn"])]
        return torch.stack(weighted).sum() / self.mixing.mix

    def stepped(self) -> None:
        """Move the loss weights."""
        if self.weights is not None:
            self.weights.step()

    def info(self) -> Mapping[str, Any]:
        """Teacher and pool, and a_t of each of the pool's networks where they are learned."""
        names = dict.fromkeys((self.teacher.name, *(network.name for network in self.pool)))
        out: dict[str, Any] = {"models": list(names)}
        if self.weights is not None:
            rows = self.weights.alpha.detach().view(-1, 2).tolist()
            out["alphas"] = {n.name: {"ce": row[0], "bn": row[1]} for n, row in zip(self.pool, rows, strict=True)}
        else:
            out["bn_weight"] = {n.name: weight.value for n, weight in zip(self.pool, self.fixed, strict=True)}
        return out
