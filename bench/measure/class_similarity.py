"""How alike classes are by a network's classifier, beside how often its predictions mix them, and the images it is
surest and least sure of (docs/methods/measures.md#class-similarity).

Hong et al., Difficulty, Diversity, and Plausibility: Dynamic Data-Free Quantization, supplementary Figures S2 and S3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import NotApplicable
from bench.interfaces.inventory import take_inventory
from bench.interfaces.ranks import rank_correlation


@dataclass(frozen=True)
class ClassSimilarity:
    """Cosine of each two classes' rows of the classifier and mean product of their probabilities over ``n`` images,
    symmetric float64 [C,C] on the CPU; Spearman's correlation of the two over all pairs of classes, None where one of
    them is constant or there are fewer than two pairs."""

    cosine: Tensor
    co_occurrence: Tensor
    rank_correlation: float | None
    n: int

    def pairs(self, most: int) -> list[tuple[int, int, float, float]]:
        """(class, other class, cosine, co-occurrence) of the ``most`` pairs of largest cosine, in falling order."""
        rows, columns = torch.triu_indices(len(self.cosine), len(self.cosine), offset=1)
        order = self.cosine[rows, columns].argsort(descending=True, stable=True)[:most]
        kept = rows[order], columns[order]
        values = (part.tolist() for part in (*kept, self.cosine[kept], self.co_occurrence[kept]))
        return list(zip(*values, strict=True))


@dataclass(frozen=True)
class Extremes:
    """Of one class's ``n`` images those of lowest and highest prediction entropy: indices in the set, entropies in
    nats."""

    label: int
    n: int
    lowest_index: int
    lowest_entropy: float
    highest_index: int
    highest_entropy: float


def classifier_rows(module: nn.Module, images: Tensor, classes: int) -> Tensor:
    """Weights of the last layer that ``images`` [N,C,H,W] (one or two will do) reach, a row per class [C,F] float64 on
    the CPU; a convolution's kernel is flattened, the bias left out.

    Raises:
        NotApplicable: the network does not end in a layer with ``classes`` outputs.
    """
    layers = list(take_inventory(module, images).layers.values())
    weight = layers[-1].module.get_parameter("weight").detach() if layers else None
    if weight is None or len(weight) != classes:
        raise NotApplicable(
            f"the network does not end in a layer with an output for each of {classes} classes",
            where="classifier",
            expected="a network that ends in a linear layer or a 1x1 convolution",
        )
    return weight.flatten(1).double().cpu()


@torch.no_grad()
def class_similarity(rows: Tensor, logits: Tensor) -> ClassSimilarity:
    """Compare the classifier's ``rows`` [C,F] with predictions ``logits`` [N,C].

    Raises:
        ValueError: no image, or another number of classes.
    """
    if not len(logits) or logits.shape[1] != len(rows):
        raise ValueError(f"{len(rows)} rows of a classifier, logits {tuple(logits.shape)}")
    unit = F.normalize(rows.double().cpu(), dim=1)
    shares = logits.double().cpu().softmax(1)
    cosine, mixed = unit @ unit.T, shares.T @ shares / len(shares)
    cosine, mixed = ((found + found.T) / 2 for found in (cosine, mixed))  # equal to the last bit
    cosine = cosine.clamp(-1, 1).fill_diagonal_(1.0)
    first, second = torch.triu_indices(len(rows), len(rows), offset=1)
    return ClassSimilarity(
        cosine, mixed, rank_correlation(cosine[first, second].tolist(), mixed[first, second].tolist()), len(logits)
    )


@torch.no_grad()
def entropy_extremes(logits: Tensor, labels: Tensor) -> tuple[Extremes, ...]:
    """Of each class that ``labels`` [N] hold, in order, the images whose predictions ``logits`` [N,C] have the lowest
    and the highest entropy; of equal ones the first.

    Raises:
        ValueError: another number of labels.
    """
    if len(labels) != len(logits):
        raise ValueError(f"{len(logits)} predictions with {len(labels)} labels")
    log_p = logits.double().cpu().log_softmax(1)
    entropies = -(log_p.exp() * log_p).sum(1)
    found = []
    for label in labels.cpu().unique().tolist():
        rows = torch.nonzero(labels.cpu() == label).flatten()
        own = entropies[rows]
        low, high = int(own.argmin()), int(own.argmax())
        found.append(Extremes(label, len(rows), int(rows[low]), float(own[low]), int(rows[high]), float(own[high])))
    return tuple(found)
