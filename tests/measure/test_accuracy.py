"""Top-1: hand-counted cases, normalisation of bytes, flags restored, broken logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bench.data.datasets import get_dataset, whole
from bench.measure.accuracy import batches, evaluate, marked, predictions

CPU = torch.device("cpu")


class _Fixed(nn.Module):
    """Logits are the image's first three pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3].float()


def test_counts_and_order() -> None:
    images = torch.tensor([[3.0, 1, 2], [0, 5, 1], [0, 1, 9], [4, 1, 1]]).view(4, 1, 1, 3)
    top1, correct = evaluate(_Fixed(), batches(images, torch.tensor([0, 1, 1, 0]), 3), device="cpu")
    assert top1 == 75.0
    np.testing.assert_array_equal(correct, [True, True, False, True])
    assert correct.dtype == np.bool_


def test_logits_that_are_not_finite_are_wrong() -> None:
    images = torch.tensor([[float("nan"), 0, 0], [float("inf"), 0, 0], [1, 0, 0]]).view(3, 1, 1, 3)
    top1, correct = evaluate(_Fixed(), batches(images, torch.zeros(3, dtype=torch.int64)), device=CPU)
    np.testing.assert_array_equal(correct, [False, False, True])
    assert top1 == pytest.approx(100 / 3)


def test_answers_marked_elsewhere_are_what_an_evaluation_says() -> None:
    images = torch.randn(50, 1, 1, 3, generator=torch.Generator().manual_seed(0))
    images[7, 0, 0, 1], labels = float("nan"), torch.arange(50) % 3
    labels[7] = 0
    answers = predictions(_Fixed(), batches(images, None, 8), device="cpu")
    assert (answers.dtype, int(answers[7])) == (torch.int64, -1)
    top1, correct = marked(answers, labels)
    expected = evaluate(_Fixed(), batches(images, labels, 8), device="cpu")
    assert top1 == expected[0]
    np.testing.assert_array_equal(correct, expected[1])
    for wrong in (answers[:-1], answers[:, None], answers[:0]):
        with pytest.raises(ValueError, match="answers to 50 images"):
            marked(wrong, labels)


def test_bytes_are_normalised_like_floats() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    raw = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    ready = (raw.float() / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    labels = net(ready).argmax(1)
    labels[:10] = (labels[:10] + 1) % 5
    from_bytes = evaluate(net, batches(raw, labels, 7), mean=mean, std=std, device=CPU)
    assert from_bytes[0] == 75.0
    np.testing.assert_array_equal(from_bytes[1], evaluate(net, batches(ready, labels), device=CPU)[1])
    with pytest.raises(ValueError, match="constants"):
        evaluate(net, batches(raw, labels), device=CPU)


def test_eval_mode_within_and_flags_restored() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3), nn.Dropout(0.9))
    net.train()
    net[2].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    images, labels = torch.randn(9, 3, 2, 2), torch.zeros(9, dtype=torch.int64)
    first = evaluate(net, batches(images, labels), device=CPU)
    assert first[0] == evaluate(net, batches(images, labels, 2), device=CPU)[0]
    assert [part.training for part in net] == [True, True, False, True]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_split_read_in_batches_gives_what_its_tensor_gives(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog", "owl"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(17):
                Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 196, 3))
    data = get_dataset(f"imagefolder:{tmp_path}@16")
    constants = {"mean": data.spec.mean, "std": data.spec.std}
    images, labels = whole(data.test())
    for size in (7, 250):
        top1, correct = evaluate(net, data.test_batches(size=size), device=CPU, **constants)
        expected = evaluate(net, batches(images, labels, size), device=CPU, **constants)
        assert top1 == expected[0]
        np.testing.assert_array_equal(correct, expected[1])
        assert 0 < top1 < 100
        subset = evaluate(net, data.test_batches(9, size=size), device=CPU, **constants)[1]
        picks = [0, 1, 2, 17, 18, 19, 34, 35, 36]  # the first three of each class
        np.testing.assert_array_equal(
            subset, evaluate(net, batches(images[picks], labels[picks], size), device=CPU, **constants)[1]
        )


def test_bad_batches() -> None:
    with pytest.raises(ValueError, match="no images"):
        evaluate(_Fixed(), [], device=CPU)
    with pytest.raises(ValueError, match="labels"):
        evaluate(_Fixed(), [(torch.zeros(2, 1, 1, 3), torch.zeros(3))], device=CPU)
    with pytest.raises(ValueError, match="labels"):
        next(batches(torch.zeros(2, 1, 1, 3), torch.zeros(3)))
