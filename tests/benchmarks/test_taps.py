"""Speed of the inversions against the bare pass: ``pytest tests/benchmarks --benchmark-only -s`` prints the ratios.

Bare is the forward and input-gradient backward of the same frozen networks, same batch, dtype, memory format and
compile state, in the same run.  CPU time, because the machine may be shared; bare and method alternate, so that a slow
minute hits both.  Wanted (issue 2, section 7): a geometric mean of 0.80 or more over the zoo, and 0.70 on each network.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from bench.data.datasets import get_dataset
from bench.interfaces import DatasetSpec, ModelHandle, RunContext, SynthRequest
from bench.zoo import targets
from methods.sources._inversion import invert
from tests.sources.toy import ToyData

DATASET = "fashion_mnist"
NAMES = targets.zoo_names(DATASET, "full")
ROUNDS, ITERATIONS = 4, 4
RATIOS: dict[str, dict[str, float]] = {}


@cache
def _load(name: str) -> ModelHandle:
    return targets.load(name)


def _spec() -> DatasetSpec:
    return get_dataset(DATASET).spec


def _bare(handles: tuple[ModelHandle, ...], batch: int) -> Callable[[], None]:
    """One forward and input-gradient backward through each network, channels last, cross-entropy at the end."""
    nets = [h.module.to(memory_format=torch.channels_last) for h in handles]  # type: ignore[call-overload]
    x = torch.randn(batch, *_spec().shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(batch) % _spec().classes

    def step() -> None:
        for net in nets:
            torch.autograd.grad(F.cross_entropy(net(x), labels), x)

    return step


def _method(name: str, handles: tuple[ModelHandle, ...], batch: int) -> Callable[[], None]:
    """``ITERATIONS`` iterations of the whole loop, logging as often as a ``mini`` run does (every 20)."""
    source = pytest.importorskip(f"methods.sources.{name}").METHOD
    params = source.Params(**{**source.presets["mini"], "batch": batch})
    context = RunContext(
        device=torch.device("cpu"),
        dtype=torch.float32,
        generator=torch.Generator().manual_seed(0),
        data=ToyData(),
        scratch=Path("."),
        logger=logging.getLogger("benchmark"),
    )
    prepared = source.prepare(SynthRequest(_spec(), handles, params, 0, batch, 0), context)
    settings = type(prepared.settings)(**{**prepared.settings.__dict__, "iterations": ITERATIONS, "log_interval": 20})

    def run() -> None:
        invert(prepared.init, prepared.objective, prepared.augment.space, settings, context)

    return run


def _seconds(function: Callable[[], None]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def _ratio(bare: Callable[[], None], run: Callable[[], None]) -> float:
    """Bare time over method time per iteration, from the fastest of alternating rounds."""
    times: dict[str, list[float]] = {"bare": [], "run": []}
    bare()
    run()
    for _ in range(ROUNDS):
        times["bare"].append(sum(_seconds(bare) for _ in range(ITERATIONS)))
        times["run"].append(_seconds(run))
    return min(times["bare"]) / min(times["run"])


@pytest.fixture(scope="module", autouse=True)
def _summary(request: pytest.FixtureRequest) -> Any:
    """Print the table after the last benchmark of this file."""
    yield
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not RATIOS:
        return
    for method, found in RATIOS.items():
        mean = math.exp(sum(math.log(v) for v in found.values()) / len(found))
        reporter.write_line(f"\n{method}: geometric mean {mean:.2f}, lowest {min(found.values()):.2f}")
        for name, value in found.items():
            reporter.write_line(f"  {name:40s} {value:.2f}")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", NAMES)
def test_kw_against_the_bare_pass(benchmark: Any, name: str) -> None:
    handles = (_load(name),)
    run = _method("kw", handles, 128)
    ratio = _ratio(_bare(handles, 128), run)
    RATIOS.setdefault("kw, batch 128", {})[name] = ratio
    benchmark.extra_info["ratio"] = ratio
    benchmark.extra_info["images_iterations_per_s"] = 128 * ITERATIONS / _seconds(run)
    benchmark.pedantic(run, rounds=1)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", NAMES)
def test_mixmix_against_the_bare_pass(benchmark: Any, name: str) -> None:
    """Three networks: this one and the two that follow it in the zoo."""
    place = NAMES.index(name)
    handles = tuple(_load(NAMES[(place + k) % len(NAMES)]) for k in range(3))
    run = _method("mixmix", handles, 32)
    ratio = _ratio(_bare(handles, 32), run)
    RATIOS.setdefault("mixmix, m'=3, batch 32", {})[name] = ratio
    benchmark.extra_info["ratio"] = ratio
    benchmark.extra_info["images_iterations_per_s"] = 32 * ITERATIONS / _seconds(run)
    benchmark.pedantic(run, rounds=1)
