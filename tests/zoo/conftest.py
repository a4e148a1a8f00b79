"""A small data set and a small entry, so that training takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from bench.data.datasets import Dataset
from bench.data.splits import ArraySplit
from bench.interfaces import DatasetSpec
from bench.zoo.table import Entry

SPEC = DatasetSpec("toy", 10, (1, 32, 32), (0.5,), (0.25,))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: sums are then made in one order, and other work beside the tests is not disturbed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def toy_images(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with a bright bar whose thickness tells the class; uint8 [count,1,32,32] and int64 [count]."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    images = torch.randint(0, 120, (count, 1, 32, 32), generator=generator).to(torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, : 3 * label + 1] = 255
    return images, labels


@pytest.fixture(scope="session")
def toy() -> Dataset:
    """512 training and 100 test images."""
    train, test = (ArraySplit(*(part.numpy() for part in toy_images(*given))) for given in ((512, 0), (100, 1)))
    return Dataset(SPEC, lambda: train, lambda: train, lambda: test)


@pytest.fixture
def tiny() -> Entry:
    """A network of batch norms and depthwise convolutions that trains on the toy set within seconds."""
    kwargs = {"repeats": (1, 1, 1), "channels": (8, 16, 16, 16, 32)}
    return Entry("tiny", "shufflenetv2", "shufflenetv2", "zoo", "shufflenet_v2", kwargs, epochs=3, view_epochs=1)
