"""What a step of a supernet costs against one in floating point: ``pytest tests/benchmarks/test_supernet.py
--benchmark-only -s`` prints the ratios.

Both train the same network with cross-entropy on the same batch; the supernet mixes four candidates for every weight
and four for every input.  CPU time on one thread, the fastest of alternating rounds, because the machine may be shared.
Wanted: at most 3.6.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.data.datasets import get_dataset
from bench.interfaces import Setting
from bench.zoo import targets
from methods.policies._mixed import SoftmaxChoice
from methods.policies._space import space_of
from methods.policies._supernet import Deciders, Supernet

DATASET, BATCH, ROUNDS, MOST = "fashion_mnist", 64, 8, 3.6
BITS = (2, 3, 4, 6)
NAMES = targets.zoo_names(DATASET, "full")
RATIOS: dict[str, float] = {}


def _step(net: nn.Module, images: torch.Tensor, extra: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """One step of SGD."""
    net.train().requires_grad_(True)
    rule = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    labels = torch.arange(len(images)) % 10

    def run() -> None:
        out = net(images)
        logits = out[0] if isinstance(out, tuple) else out
        rule.zero_grad(set_to_none=True)
        (F.cross_entropy(logits, labels) + extra()).backward()
        rule.step()

    return run


def _seconds(function: Callable[[], None]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


@pytest.fixture(scope="module", autouse=True)
def _summary(request: pytest.FixtureRequest) -> Any:
    """Print the ratios after the last benchmark of this file."""
    yield
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    for name, ratio in RATIOS.items() if reporter else ():
        reporter.write_line(f"  {name:40s} {ratio:.2f}")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_a_supernet(benchmark: Any, name: str) -> None:
    module = targets.load(name).module
    shape = get_dataset(DATASET).spec.shape
    images = torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0))
    setting = Setting(3, 3)
    space = space_of(module, images[:2], setting)
    decide = Deciders(lambda: SoftmaxChoice(BITS), lambda: SoftmaxChoice(BITS), "mse")
    net = Supernet(module, images, setting, space, decide)
    net.begin(images)
    bare = _step(deepcopy(module), images, lambda: torch.zeros(()))
    mixed = _step(net.student, images, lambda: 1e-4 * net.complexity())
    times: dict[str, list[float]] = {"bare": [], "mixed": []}
    bare()
    mixed()
    for _ in range(ROUNDS):
        times["bare"].append(_seconds(bare))
        times["mixed"].append(_seconds(mixed))
    ratio = min(times["mixed"]) / min(times["bare"])
    benchmark.extra_info["ratio"] = ratio
    RATIOS[name] = ratio
    benchmark.pedantic(mixed, rounds=1)
    assert ratio <= MOST
