"""Top-1: hand-counted cases, normalisation of bytes, flags restored, broken logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.measure.accuracy import evaluate, evaluate_batches

CPU = torch.device("cpu")


class _Fixed(nn.Module):
    """Logits are the image's first three pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3].float()


def test_counts_and_order() -> None:
    images = torch.tensor([[3.0, 1, 2], [0, 5, 1], [0, 1, 9], [4, 1, 1]]).view(4, 1, 1, 3)
    top1, correct = evaluate(_Fixed(), images, torch.tensor([0, 1, 1, 0]), None, None, "cpu", size=3)
    assert top1 == 75.0
    np.testing.assert_array_equal(correct, [True, True, False, True])
    assert correct.dtype == np.bool_


def test_logits_that_are_not_finite_are_wrong() -> None:
    images = torch.tensor([[float("nan"), 0, 0], [float("inf"), 0, 0], [1, 0, 0]]).view(3, 1, 1, 3)
    top1, correct = evaluate(_Fixed(), images, torch.zeros(3, dtype=torch.int64), None, None, CPU)
    np.testing.assert_array_equal(correct, [False, False, True])
    assert top1 == pytest.approx(100 / 3)


def test_bytes_are_normalised_like_floats() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    raw = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    ready = (raw.float() / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    labels = net(ready).argmax(1)
    labels[:10] = (labels[:10] + 1) % 5
    from_bytes = evaluate(net, raw, labels, mean, std, CPU, size=7)
    assert from_bytes[0] == 75.0
    np.testing.assert_array_equal(from_bytes[1], evaluate(net, ready, labels, None, None, CPU)[1])
    with pytest.raises(ValueError, match="constants"):
        evaluate(net, raw, labels, None, None, CPU)


def test_eval_mode_within_and_flags_restored() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3), nn.Dropout(0.9))
    net.train()
    net[2].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    images, labels = torch.randn(9, 3, 2, 2), torch.zeros(9, dtype=torch.int64)
    first = evaluate(net, images, labels, None, None, CPU)
    assert first[0] == evaluate(net, images, labels, None, None, CPU, size=2)[0]
    assert [part.training for part in net] == [True, True, False, True]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_bad_batches() -> None:
    with pytest.raises(ValueError, match="no images"):
        evaluate_batches(_Fixed(), [], device=CPU)
    with pytest.raises(ValueError, match="labels"):
        evaluate_batches(_Fixed(), [(torch.zeros(2, 1, 1, 3), torch.zeros(3))], device=CPU)
    with pytest.raises(ValueError, match="labels"):
        evaluate(_Fixed(), torch.zeros(2, 1, 1, 3), torch.zeros(3), None, None, CPU)
