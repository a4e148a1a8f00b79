"""DDPQ's labels: similar classes by the classifier's rows, shares of controlled difficulty, and what is recorded of
them (docs/methods/sources.md#ddpq)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from bench.errors import NotApplicable
from bench.interfaces.ranks import rank_correlation
from methods.sources._conditional import ConditionalObjective
from methods.sources._generators import Codes
from methods.sources._objectives import Network

if TYPE_CHECKING:
    from methods.sources.ddpq import DdpqParams

_SHARPEST = 30.0
"""Natural logarithm of the largest and (negative) of the least factor of the logits that is tried for an entropy."""


def similarity(rows: Tensor, measure: Literal["cosine", "dot"] = "cosine") -> Tensor:
    """How alike classes are: cosine (or dot product) of the classifier's ``rows`` [C,F], without the bias.

    Returns [C,C] float64 on the CPU, symmetric; of the cosine with a unit diagonal.
    """
    rows = rows.detach().cpu().double()
    if measure == "cosine":
        rows = F.normalize(rows, dim=1)
    found = rows @ rows.T
    found = (found + found.T) / 2  # a product of matrices need not be symmetric to the last bit
    return found.clamp(-1, 1).fill_diagonal_(1.0) if measure == "cosine" else found


def groups(alike: Tensor, size: int) -> Tensor:
    """For each class itself and behind it the ``size`` - 1 classes most like it, the likest first: [C,size] int64.

    Raises:
        NotApplicable: there are not so many classes.
    """
    if size > len(alike):
        raise NotApplicable(
            "more similar classes are asked for than there are classes",
            where="similar",
            got=size,
            expected=f"at most {len(alike)}",
        )
    ranked = alike.clone().fill_diagonal_(math.inf)  # by the dot product another class may be nearer than itself
    return ranked.argsort(dim=1, descending=True, stable=True)[:, :size]


def entropy(shares: Tensor) -> Tensor:
    """-sum_k q_k log q_k of rows [B,K], in nats; [B]."""
    terms: Tensor = torch.special.xlogy(shares, shares)
    return -terms.sum(1)


def with_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    """softmax(s ``logits``) [B,K] with the factor s > 0 of each row by which its entropy is ``wanted`` [B] nats, found
    by bisection; float64.  Rows whose largest entries are equal have no entropy below that of these."""
    low, high = torch.full_like(wanted, -_SHARPEST), torch.full_like(wanted, _SHARPEST)
    for _ in range(60):
        middle = (low + high) / 2
        flat = entropy((logits * middle.exp()[:, None]).softmax(1)) > wanted
        low, high = torch.where(flat, middle, low), torch.where(flat, high, middle)
    return (logits * ((low + high) / 2).exp()[:, None]).softmax(1)


class Law:
    """How codes are drawn: anchors, their groups, shares and latents, from one generator on the CPU.

    Every draw is as large whatever ``similar`` and ``groups`` are, so that the rows of an ablation start alike.
    """

    def __init__(self, params: DdpqParams, alike: Tensor, latent: int, generator: Generator) -> None:
        self.params, self.alike, self.latent, self.generator = params, alike, latent, generator
        self.classes = len(alike)
        self.groups = groups(alike, params.similar)

    def draw(self, anchors: Tensor | None = None) -> Codes:
        """Codes of one training batch, or of these ``anchors`` [B]."""
        if anchors is None:
            anchors = torch.randint(self.classes, (self.params.batch,), generator=self.generator)
        classes, shares = self.labels(anchors)
        return Codes(torch.randn(len(anchors), 1, self.latent, generator=self.generator), classes, shares)

    def labels(self, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """The classes of each image, the anchor first, and their shares in falling order: int64 and float32 [B,K]."""
        shares = self._shares(len(anchors))
        others = torch.rand(len(anchors), self.classes, generator=self.generator)
        if self.params.groups == "similar":
            return self.groups[anchors], shares
        others[torch.arange(len(anchors)), anchors] = 2.0
        return others.argsort(dim=1, descending=True)[:, : self.params.similar], shares

    def _shares(self, count: int) -> Tensor:
        """By the law that is asked for, [count,K]."""
        params, shape = self.params, (count, self.classes)
        if params.law == "uniform":
            # exponentials over their sum are uniform on the simplex; of two the larger is U(1/2, 1)
            drawn = -torch.log1p(-torch.rand(shape, generator=self.generator, dtype=torch.float64))
            drawn = drawn[:, : params.similar]
            shares = drawn / drawn.sum(1, keepdim=True)
        else:
            logits = torch.randn(shape, generator=self.generator, dtype=torch.float64)[:, : params.similar]
            if params.law == "softmax":
                shares = (logits / params.temperature).softmax(1)
            else:
                share = torch.rand(count, generator=self.generator, dtype=torch.float64)
                shares = with_entropy(logits, share * math.log(params.similar))
        shares = shares.sort(dim=1, descending=True).values.float()
        if params.similar > 1:  # of shares that are equal in float32 the anchor's is the larger
            above = torch.nextafter(shares[:, 1], torch.full_like(shares[:, 1], math.inf))
            shares[:, 0] = torch.maximum(shares[:, 0], above)
        return shares


class GroupObjective(ConditionalObjective):
    """Cross-entropy with the soft labels and statistics; holds the law of the labels for the record."""

    def __init__(self, teacher: Network, params: DdpqParams, law: Law) -> None:
        super().__init__(teacher, law.classes, params, law.draw)
        self.law = law


def read(soft: Tensor, anchors: Tensor, logits: Tensor, alike: Tensor) -> dict[str, Any]:
    """What is recorded of images with soft labels [B,C] and ``anchors`` [B], by their network's ``logits`` [B,C] and
    the classes' similarity [C,C] (JSON).

    Entropies are divided by log C: ``difficulty`` has that of each label, that of the network's answer, and their rank
    correlation (None where one of them is constant).  ``plausibility`` is the mean similarity to the anchor over the
    mass of all other classes, None without any; ``group_top1`` the percentage of answers inside the label's classes.
    """
    soft, logits = soft.double().cpu(), logits.double().cpu()
    labelled, answered = (entropy(q) / math.log(soft.shape[1]) for q in (soft, logits.softmax(1)))
    others = soft.clone()
    others[torch.arange(len(soft)), anchors] = 0.0
    mass = float(others.sum())
    inside = soft.gather(1, logits.argmax(1)[:, None])[:, 0] > 0
    return {
        "difficulty": {
            "label": labelled.tolist(),
            "achieved": answered.tolist(),
            "rank_correlation": rank_correlation(labelled.tolist(), answered.tolist()),
        },
        "plausibility": float((others * alike[anchors]).sum()) / mass if mass else None,
        "group_top1": 100.0 * float(inside.double().mean()),
    }


def described(soft: Tensor, anchors: Tensor, logits: Tensor, law: Law) -> Mapping[str, Any]:
    """:func:`read` by the classes' cosines or dot products, with the classes of each anchor's group."""
    grouped = law.groups.tolist() if law.params.groups == "similar" else None
    return {**read(soft, anchors, logits, law.alike), "groups": grouped}
