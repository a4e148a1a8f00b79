"""The steps that methods repeat, in their plainest form, timed on this machine."""

from __future__ import annotations

import copy
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench import runtime
from bench.cost.calibration import Calibration, Timed
from bench.cost.effort import STEPS, Step
from bench.data.table import spec_of
from bench.errors import BenchError
from bench.interfaces import ModelHandle
from bench.machine import cpu_facts
from bench.zoo.targets import info, load, target_names

Report = Callable[[str, int, int], None]

BATCHES: dict[Step, int] = {"synthesis": 128, "ptq": 32, "training": 64, "forward": 256}
"""Images of a step, as the methods' presets have them."""

MOST_MACS = {"cpu": 4e9, "cuda": 1e12}
"""Multiply-accumulates of a step's images going forward once at most: large networks get smaller batches."""

LEAST = 3
"""Repetitions of a step at least, of which the median counts; one before them is not timed."""


LARGE = ("torchvision:mobilenet_v2", "torchvision:resnet18", "torchvision:resnet50")
"""Timed on CUDA, with random weights: 0.3, 1.8 and 4.1 GMACs at 224 pixels."""

EMBEDDED = "fashion_mnist"
"""Data set whose targets are timed on a CPU."""


def usual_networks(device: str) -> tuple[str, ...]:
    """Full names of the networks that are timed unless others are named: on a CPU the embedded targets."""
    return LARGE if device == "cuda" else target_names(EMBEDDED)


@dataclass(frozen=True)
class Work:
    """One step to repeat, and how many forward-equivalents it takes: a backward pass counts as one more."""

    run: Callable[[], object]
    passes: float


def calibrate(networks: Sequence[str], device: str, threads: int, seconds: float, report: Report) -> Calibration:
    """Time every kind of step on every network (full names).

    Args:
        seconds: of each kind of step on each network, about; three repetitions at least.

    Raises:
        SuiteError: no such network.
        WeightsError: its weights are missing or damaged.
        BenchError: the step does not run on this device.
    """
    runtime.set_threads(threads)
    found = []
    for place, name in enumerate(networks):
        handle = load(name)
        shape = info(name).shape or spec_of(handle.dataset).shape
        for number, step in enumerate(STEPS):
            report(f"{name} {step}", place * len(STEPS) + number, len(networks) * len(STEPS))
            found.append(_timed(handle, shape, step, device, seconds))
    return Calibration(
        device="cuda" if device == "cuda" else "cpu",
        machine=platform.node(),
        facts={name: value for name, value in machine_facts(device).items() if name not in ("instruction_sets",)},
        threads=threads,
        cores=os.cpu_count() or 1,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        timed=tuple(found),
    )


def machine_facts(device: str) -> dict[str, str]:
    """What tells machines apart: processor, libraries, and the GPU where it is asked for."""
    gpu = {"gpu": str(runtime.facts(device, 1)["gpu"])} if device == "cuda" else {}
    return {**cpu_facts(), "torch": torch.__version__, **gpu}


def _timed(handle: ModelHandle, shape: tuple[int, int, int], step: Step, device: str, seconds: float) -> Timed:
    batch = max(2, min(BATCHES[step], int(MOST_MACS[device] / max(1, handle.macs))))
    generator = runtime.make_generator(0)
    module = copy.deepcopy(handle.module).to(device)
    images = torch.randn(batch, *shape, generator=generator).to(device)
    try:
        with _work(step, module, images) as work:
            wall, cpu = _repeated(work.run, device, seconds)
    except RuntimeError as error:
        raise BenchError(f"the {step} step does not run", where=handle.name, got=str(error)[:300]) from error
    return Timed(
        step=step,
        network=handle.name,
        macs=float(handle.macs),
        batch=batch,
        passes=work.passes,
        seconds=max(wall / work.passes, 1e-12),
        cpu_seconds=max(cpu / work.passes, 1e-12),
    )


def _repeated(run: Callable[[], object], device: str, seconds: float) -> tuple[float, float]:
    """Median wall and CPU seconds of a step."""
    walls: list[float] = []
    cpus: list[float] = []
    run()
    runtime.synchronise(device)
    end = time.perf_counter() + seconds
    while len(walls) < LEAST or time.perf_counter() < end:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        runtime.synchronise(device)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return median(walls), median(cpus)


@contextmanager
def _work(step: Step, module: nn.Module, images: Tensor) -> Iterator[Work]:
    makers = {"synthesis": _synthesis, "ptq": _rounding, "training": _training, "forward": _forward}
    with makers[step](module, images) as work:
        yield work


@contextmanager
def _synthesis(module: nn.Module, images: Tensor) -> Iterator[Work]:
    """A step on the images: cross-entropy and the distance of the batch's statistics from those of each batch norm."""
    images = images.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([images], lr=0.1)
    terms: list[Tensor] = []

    def tap(layer: nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean, var = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False)
        terms.append((mean - layer.running_mean).norm() + (var - layer.running_var).norm())

    taps = [layer.register_forward_hook(tap) for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad():
        labels = module(images).argmax(1)
    terms.clear()

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(module(images), labels)
        torch.stack([loss, *terms]).sum().backward()
        optimiser.step()
        terms.clear()

    try:
        yield Work(run, 2.0 * len(images))
    finally:
        for one in taps:
            one.remove()


@contextmanager
def _rounding(module: nn.Module, images: Tensor) -> Iterator[Work]:
    """A step on the rounding of the weights, towards the network's own outputs."""
    with torch.no_grad():
        outputs = module(images)
    weights = _weights(module)
    optimiser = torch.optim.Adam(list(weights.values()), lr=1e-3)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        made = functional_call(module, {name: _rounded(value) for name, value in weights.items()}, (images,))
        nn.functional.mse_loss(made, outputs).backward()
        optimiser.step()

    yield Work(run, 2.0 * len(images))


@contextmanager
def _training(module: nn.Module, images: Tensor) -> Iterator[Work]:
    """A step on all weights, rounded, towards what the network itself says of the images."""
    student = copy.deepcopy(module).train()
    weights = _weights(student)
    optimiser = torch.optim.SGD(list(weights.values()), lr=1e-4, momentum=0.9)

    def run() -> None:
        with torch.no_grad():
            taught = module(images).softmax(1)
        optimiser.zero_grad(set_to_none=True)
        made = functional_call(student, {name: _rounded(value) for name, value in weights.items()}, (images,))
        nn.functional.cross_entropy(made, taught).backward()
        optimiser.step()

    yield Work(run, 3.0 * len(images))


@contextmanager
def _forward(module: nn.Module, images: Tensor) -> Iterator[Work]:
    """A look at the images."""

    def run() -> None:
        with torch.inference_mode():
            module(images)

    yield Work(run, float(len(images)))


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the weights of convolutions and linear layers, to be trained."""
    return {
        name: value.detach().clone().requires_grad_(True)
        for name, value in module.named_parameters()
        if value.dim() > 1
    }


def _rounded(weight: Tensor) -> Tensor:
    """Four bits for each output channel; the gradient passes through the rounding."""
    scale = weight.detach().abs().amax(tuple(range(1, weight.dim())), keepdim=True).clamp_min(1e-8) / 7
    steps = (weight / scale).clamp(-8, 7)
    return (steps + (steps.round() - steps).detach()) * scale
