"""Whatever decides a measurement and is changed is noticed, and the process it was changed in measures no more."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from bench.data.datasets import Dataset
from bench.measure import accuracy
from bench.run.executors.inline import InlineExecutor
from bench.run.executors.processes import ProcessExecutor
from bench.run.integrity import Integrity
from bench.run.perform import perform
from bench.run.tasks import Done, Event, Progress, Settings
from bench.run.worker import Bench, Report
from bench.spec.jobs import CellJob
from bench.store.records import ResultRecord
from bench.zoo.checkpoints import freeze

Patch = pytest.MonkeyPatch
NETWORK = "fashion_mnist/resnet18_w10"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(x))  # type: ignore[no-any-return]


def other(*_: Any, **__: Any) -> Any:
    return None


def swapped_code(patch: Patch) -> None:
    patch.setattr(accuracy.to_input, "__code__", other.__code__)


def other_defaults(patch: Patch) -> None:
    patch.setattr(accuracy.batches, "__defaults__", (None, 1))


def other_inner_function(patch: Patch) -> None:
    cell = accuracy.eval_mode.__closure__[0]  # type: ignore[attr-defined]
    patch.setattr(cell, "cell_contents", other)


CODE: dict[str, Callable[[Patch], None]] = {
    "bench.measure.accuracy.evaluate": lambda patch: patch.setattr(accuracy, "evaluate", other),
    "bench.measure.accuracy.to_input": swapped_code,
    "bench.measure.accuracy.batches": other_defaults,
    "bench.measure.accuracy.eval_mode": other_inner_function,
    "bench.data.datasets.Dataset.test_batches": lambda patch: patch.setattr(Dataset, "test_batches", other),
    "Tensor.argmax": lambda patch: patch.setattr(torch.Tensor, "argmax", other),
    "bench.measure.accuracy.len": lambda patch: patch.setattr(accuracy, "len", other, raising=False),
    "torch.isfinite": lambda patch: patch.setattr(torch, "isfinite", other),
    "torch.nn.functional.linear": lambda patch: patch.setattr(nn.functional, "linear", other),
    "Linear.forward": lambda patch: patch.setattr(nn.Linear, "forward", other),
    "Net.forward": lambda patch: patch.setattr(Net, "forward", other),
}


@pytest.fixture(scope="module")
def held() -> tuple[Integrity, Net]:
    integrity, net = Integrity(), Net()
    integrity.watch("net", freeze(net))
    return integrity, net


@pytest.mark.parametrize("name", CODE)
def test_changed_code_is_named(name: str, held: tuple[Integrity, Net]) -> None:
    integrity, _ = held
    with pytest.MonkeyPatch.context() as patch:
        CODE[name](patch)
        assert any(name in found for found in integrity.changes())
    assert integrity.changes() == ()


def weights(net: Net) -> Callable[[], object]:
    net.fc.weight.data[0, 0] += 1e-6
    return lambda: net.fc.weight.data[0, 0].sub_(1e-6)


def statistics(net: Net) -> Callable[[], object]:
    net.norm.running_mean += 1  # type: ignore[operator]
    return lambda: net.norm.running_mean.sub_(1)  # type: ignore[union-attr, operator]


def mode(net: Net) -> Callable[[], object]:
    net.norm.train()
    return net.norm.eval


def hook(net: Net) -> Callable[[], object]:
    return net.fc.register_forward_hook(other).remove


def own_forward(net: Net) -> Callable[[], object]:
    net.fc.forward = other
    return lambda: delattr(net.fc, "forward")


def hook_on_all(_: Net) -> Callable[[], object]:
    return nn.modules.module.register_module_forward_hook(other).remove


@pytest.mark.parametrize("change", [statistics, mode, hook, own_forward, hook_on_all])
def test_a_changed_network_is_named(change: Callable[[Net], Callable[[], object]], held: tuple[Integrity, Net]) -> None:
    integrity, net = held
    undo = change(net)
    assert integrity.changes() == (("hooks on all modules",) if change is hook_on_all else ("net",))
    undo()
    assert integrity.changes() == ()


def test_a_weight_that_moved_by_a_rounding_error_is_noticed() -> None:
    integrity, net = Integrity(), Net()
    integrity.watch("net", freeze(net))
    weights(net)
    assert integrity.changes() == ("net",)


@dataclass(frozen=True)
class Spoils:
    """A job that changes what others share, and says in its progress what it found."""

    number: int
    what: str

    kind: ClassVar[str] = "spoils"
    needs: ClassVar[frozenset[str]] = frozenset()
    cells: ClassVar[tuple[CellJob, ...]] = ()
    like: ClassVar[tuple[str, ...]] = ("spoils",)

    @property
    def key(self) -> str:
        return f"spoils/{self.number}"

    title = key


@perform.register
def _(job: Spoils, bench: Bench, report: Report) -> tuple[ResultRecord, ...]:
    net = bench.model(NETWORK).module
    clean = accuracy.evaluate.__module__ == accuracy.__name__ and not net._forward_hooks
    report("clean" if clean else "spoilt", os.getpid(), 0)
    if job.what == "code":
        accuracy.evaluate = other
    if job.what == "network":
        net.register_forward_hook(other)
    return ()


def done(executor: ProcessExecutor, job: Spoils) -> tuple[Progress, Done]:
    executor.submit(job)
    events: list[Event] = []
    while not any(isinstance(event, Done) for event in events):
        events += executor.poll(10)
    said = next(event for event in events if isinstance(event, Progress))
    return said, next(event for event in events if isinstance(event, Done))


@pytest.mark.slow
def test_a_spoilt_worker_is_replaced(tmp_path: Path) -> None:
    executor = ProcessExecutor(Settings(str(tmp_path / "store")), 1)
    try:
        first, ended = done(executor, Spoils(0, "code"))
        assert (first.stage, ended.spoilt) == ("clean", True)
        assert executor.free() == 1
        second, ended = done(executor, Spoils(1, "nothing"))
        assert (second.stage, ended.spoilt) == ("clean", False)
        third, _ = done(executor, Spoils(2, "nothing"))
    finally:
        executor.close()
    assert first.step != second.step == third.step  # process ids


def test_a_spoilt_network_is_loaded_anew_where_jobs_share_a_process(tmp_path: Path) -> None:
    said: list[Progress] = []
    executor = InlineExecutor(Settings(str(tmp_path / "store")), said.append)
    spoilt = []
    for number, what in enumerate(("network", "nothing")):
        executor.submit(Spoils(number, what))
        spoilt += [event.spoilt for event in executor.poll(1) if isinstance(event, Done)]
    assert [event.stage for event in said] == ["clean", "clean"]
    assert spoilt == [True, False]
