"""A run of 100,000 cells that all stand: the plan, finding what stands (index rebuilt, warm), the whole command.

BENCH_CELLS sets another number.  ``extra_info`` holds CPU seconds; the benchmark's own clock is the wall's.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.cli.plan import show_plan
from bench.run import session
from bench.run.executors.inline import InlineExecutor
from bench.run.observers import Observer, Observers, RunStart
from bench.run.runner import Runner
from bench.run.tasks import Settings
from bench.spec.plan import Plan
from bench.store.artifacts import ArtifactStore
from bench.store.index import INDEX, Listing
from tests.benchmarks.records import write_cells

pytestmark = pytest.mark.skipif("--benchmark-only" not in sys.argv, reason="timed; `make benchmarks`")

PER_SEED = 16  # cells of the suite below
CELLS = int(os.environ.get("BENCH_CELLS", "100000"))


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> session.Options:
    return session.Options(
        "quickstart", seeds=-(-CELLS // PER_SEED), store=tmp_path_factory.mktemp("resume"), tracker="none", workers=0
    )


@pytest.fixture(scope="module")
def plan(options: session.Options) -> Plan:
    found = session.plan_of(options)
    write_cells(options.store, found)
    return found


def timed(benchmark: Any, call: Callable[[], Any], setup: Callable[[], None] | None = None) -> Any:
    """One round; the CPU seconds besides."""
    begun: list[float] = []

    def start() -> None:
        if setup is not None:
            setup()
        begun.append(time.process_time())

    found = benchmark.pedantic(call, setup=start, rounds=1)
    benchmark.extra_info["cpu_seconds"] = round(time.process_time() - begun[0], 2)
    return found


@pytest.mark.parametrize("index", ["rebuilt", "warm"])
def test_what_stands(benchmark: Any, options: session.Options, plan: Plan, index: str) -> None:
    def find() -> int:
        listing = Listing(session.open_records(options.store))
        suite = plan.suite
        return sum(listing.standing(c.cell_id, suite.suite, suite.version) is not None for c in plan.cells)

    def forget() -> None:
        if index == "rebuilt":
            (options.store / INDEX).unlink(missing_ok=True)

    assert timed(benchmark, find, forget) == len(plan.cells) >= CELLS
    assert benchmark.stats.stats.max <= {"rebuilt": 60, "warm": 5}[index] * max(1, CELLS / 100_000)


@pytest.mark.parametrize("index", ["rebuilt", "warm"])
def test_a_run_says_that_nothing_is_left(benchmark: Any, options: session.Options, plan: Plan, index: str) -> None:
    """Until observers are told, and then until the records are returned."""
    told: list[float] = []

    class Watch(Observer):
        def run_started(self, start: RunStart) -> None:
            told.append(time.perf_counter())
            assert (len(start.done), len(start.jobs)) == (len(plan.cells), 0)

    def resume() -> int:
        begun = time.perf_counter()
        artifacts = ArtifactStore(options.store)
        executor = InlineExecutor(Settings(str(options.store), "cpu", 1), lambda event: None)
        runner = Runner(plan, artifacts, session.open_records(options.store), executor, Observers([Watch()]))
        found = len(runner.run())
        benchmark.extra_info["nothing_left_after"] = round(told[-1] - begun, 2)
        return found

    def forget() -> None:
        if index == "rebuilt":
            (options.store / INDEX).unlink(missing_ok=True)

    assert timed(benchmark, resume, forget) == len(plan.cells)


def test_the_plan_alone(benchmark: Any, options: session.Options) -> None:
    assert len(timed(benchmark, lambda: session.plan_of(options)).cells) >= CELLS


def test_the_plan_shown(benchmark: Any, options: session.Options, plan: Plan, tmp_path: Path) -> None:
    with (tmp_path / "shown").open("w") as file:
        timed(benchmark, lambda: show_plan(options, Console(file=file), False))
    assert f"0 of {len(plan.cells)} cells to do" in (tmp_path / "shown").read_text()
