"""Class similarity by rows and by predictions, and the surest and least sure images
(docs/methods/measures.md#class-similarity, #image-measure-invariants)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.datasets import Dataset
from bench.data.splits import ArraySplit
from bench.errors import NotApplicable
from bench.interfaces import DatasetSpec, ImageSet, LabelKind, ModelHandle
from bench.measure.class_similarity import class_similarity, classifier_rows, entropy_extremes
from bench.run.measures import measure_images


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_similarity_is_symmetric_with_a_unit_diagonal_and_co_occurrence_is_by_hand() -> None:
    rows, logits = _normal(5, 7), _normal(40, 5, seed=1)
    found = class_similarity(rows, logits)
    assert torch.equal(found.cosine, found.cosine.T)
    assert torch.equal(found.cosine.diagonal(), torch.ones(5, dtype=torch.float64))
    assert float(found.cosine.abs().max()) <= 1
    assert float(found.cosine[1, 3]) == pytest.approx(float(F.cosine_similarity(rows[1], rows[3], dim=0)))
    p = logits.softmax(1)
    assert torch.equal(found.co_occurrence, found.co_occurrence.T)
    assert float(found.co_occurrence[1, 3]) == pytest.approx(float(np.mean([float(q[1] * q[3]) for q in p])))
    assert float(found.co_occurrence.sum()) == pytest.approx(1.0)  # of all pairs of classes, with their order
    assert found.n == 40


def test_correlation_is_of_the_ranks_of_all_pairs_by_hand() -> None:
    """Rows at angles of a plane; predictions that mix each pair as its cosine's rank says, or the other way round."""
    angles = torch.tensor([0.0, 0.3, 1.0, 2.2], dtype=torch.float64)
    rows = torch.stack([angles.cos(), angles.sin()], 1)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    order = sorted(pairs, key=lambda pair: abs(float(angles[pair[0]] - angles[pair[1]])))  # likest first

    def predicted(ranked: list[tuple[int, int]]) -> Tensor:
        p = torch.full((6, 4), 1e-9, dtype=torch.float64)
        for row, (i, j) in enumerate(ranked):
            p[row, i], p[row, j] = 1.0, 0.1 * 0.5**row
        return p.log()

    assert class_similarity(rows, predicted(order)).rank_correlation == pytest.approx(1.0)
    assert class_similarity(rows, predicted(order[::-1])).rank_correlation == pytest.approx(-1.0)
    swapped = [order[1], order[0], *order[2:]]  # sum of squared rank differences 2: 1 - 6 * 2 / (6 * 35)
    assert class_similarity(rows, predicted(swapped)).rank_correlation == pytest.approx(1 - 12 / 210)
    assert [pair[:2] for pair in class_similarity(rows, predicted(order)).pairs(3)] == order[:3]


def test_no_correlation_where_there_is_none() -> None:
    assert class_similarity(_normal(2, 3), _normal(4, 2)).rank_correlation is None  # one pair
    assert class_similarity(torch.eye(4), _normal(9, 4)).rank_correlation is None  # all rows are equally unlike
    with pytest.raises(ValueError, match="rows of a classifier"):
        class_similarity(_normal(4, 3), _normal(9, 5))
    with pytest.raises(ValueError, match="rows of a classifier"):
        class_similarity(_normal(4, 3), _normal(0, 4))


def test_extremes_of_each_class_are_found_by_their_indices() -> None:
    shares = torch.tensor([[0.6, 0.4], [1.0, 1e-12], [0.5, 0.5], [0.2, 0.8], [0.9, 0.1]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1, 0])
    first, second = entropy_extremes(shares.log(), labels)
    assert (first.label, first.n, first.lowest_index, first.highest_index) == (0, 3, 1, 0)
    assert (second.label, second.n, second.lowest_index, second.highest_index) == (1, 2, 3, 2)
    assert second.highest_entropy == pytest.approx(math.log(2))
    assert first.highest_entropy == pytest.approx(-(0.6 * math.log(0.6) + 0.4 * math.log(0.4)))
    assert first.lowest_entropy == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="5 predictions"):
        entropy_extremes(shares.log(), labels[:3])


class _Net(nn.Module):
    """Layers registered in another order than they run in."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.body = nn.Conv2d(1, 6, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.body(x)))
        out: Tensor = self.head(x.flatten(1) if isinstance(self.head, nn.Linear) else x)
        return out.flatten(1)


@pytest.fixture(params=["linear", "convolution"])
def net(request: pytest.FixtureRequest) -> _Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _Net(nn.Linear(6, 4) if request.param == "linear" else nn.Conv2d(6, 4, 1)).eval()


def test_rows_are_those_of_the_layer_that_runs_last(net: _Net) -> None:
    images = torch.zeros(1, 1, 8, 8)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    rows = classifier_rows(net.train(), images, 4)
    assert torch.equal(rows, net.head.get_parameter("weight").detach().flatten(1).double())
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    with pytest.raises(NotApplicable, match="each of 5 classes"):
        classifier_rows(net, images, 5)
    with pytest.raises(NotApplicable, match="does not end"):
        classifier_rows(nn.Flatten(), images, 64)


@pytest.mark.parametrize("kind", ["native", "assigned", "pseudo", "foreign", "none"])
def test_the_record_names_classes_and_images(net: _Net, kind: LabelKind) -> None:
    """Labels count where they are the target's classes; else each image is of the class that it is called."""
    spec = DatasetSpec("toy", 4, (1, 8, 8), (0.4,), (0.25,), ("a", "b", "c", "d"))
    unread = ArraySplit(np.zeros((4, 1, 8, 8), np.uint8), np.arange(4))
    images = _normal(24, 1, 8, 8, seed=3).float()
    labels = None if kind == "none" else torch.arange(24) % 3
    given = ImageSet(images, labels, None, kind, "", "")
    handle = ModelHandle("toy", net, "", "toy", "toy", 1, "toy", spec.mean, spec.std)
    dataset = Dataset(spec, lambda: unread, lambda: unread, lambda: unread)
    found = measure_images(("class_similarity",), given, handle, dataset, 0)
    with torch.no_grad():
        logits = net(images).double()
    expected = class_similarity(net.head.get_parameter("weight").flatten(1), logits)
    own = labels if kind in ("native", "assigned") else logits.argmax(1)
    assert own is not None
    entropies = -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
    each = {label: entropies[own == label] for label in own.unique().tolist()}
    assert found.metrics["class_similarity"] == pytest.approx(expected.rank_correlation)
    assert found.metrics["entropy_surest"] == pytest.approx(float(np.mean([float(e.min()) for e in each.values()])))
    assert found.metrics["entropy_least_sure"] == pytest.approx(float(np.mean([float(e.max()) for e in each.values()])))
    assert [item["class"] for item in found.report["entropy_extremes"]] == ["abcd"[label] for label in each]
    for item in found.report["entropy_extremes"]:
        assert int(own[item["lowest_index"]]) == int(own[item["highest_index"]]) == item["label"]
        assert float(entropies[item["highest_index"]]) == pytest.approx(item["highest_entropy"])
    pairs = found.report["classes_alike"]
    assert len(pairs) == 6
    assert [pair["cosine"] for pair in pairs] == sorted((pair["cosine"] for pair in pairs), reverse=True)
    assert {frozenset((pair["class"], pair["other"])) for pair in pairs} == {
        frozenset(pair) for pair in ("ab", "ac", "ad", "bc", "bd", "cd")
    }
