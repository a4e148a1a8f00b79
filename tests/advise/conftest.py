"""A user's tiny network and folders of images, so that whole searches take seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.advise.network import Network, find
from bench.run.tasks import Settings
from bench.run.worker import Bench
from bench.spec.catalogue import ShippedCatalogue
from bench.zoo.bring import Own, bring

CLASSES, SIDE = 3, 16

MODULE = f"""
import torch
from torch import nn


def net(norm=True):
    torch.manual_seed(3)
    middle = nn.BatchNorm2d(8) if norm else nn.Identity()
    body = [nn.Conv2d(3, 8, 3, 2, 1), middle, nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, {CLASSES}))


def bare():
    return net(norm=False)
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the user's module and, in ``data``, a labelled folder; a cache folder of its own."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_tiny.py").write_text(MODULE)
    for part, each in (("train", 100), ("test", 20)):
        for number in range(CLASSES):
            write_images(tmp_path / "data" / part / f"c{number}", each, seed=number)
    yield tmp_path
    sys.modules.pop("own_tiny", None)


def write_images(folder: Path, count: int, seed: int) -> None:
    """Noise around a grey that tells the class."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    for number in range(count):
        pixels = draw.integers(0, 150, (SIDE, SIDE, 3)) + 40 * (seed % CLASSES)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:03d}.png")


def registered(data: Path, name: str = "own_tiny:net") -> Network:
    """The user's network as `bench zoo add` registers it; ``data`` is what it was trained on."""
    constants = ((0.5,) * 3, (0.25,) * 3)
    bring(name, None, None, Own(None, f"{data}@{SIDE}", *constants))
    return find(name, None, ShippedCatalogue())


def bench_at(store: Path) -> Bench:
    return Bench(Settings(str(store)))
