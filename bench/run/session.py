"""From a command's options to a finished run: suite, plan, store, executor, observers put together.

What computes is imported where it is used: a plan, a check and a board need none of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import runtime
from bench.errors import BenchError
from bench.interfaces import Preset
from bench.machine import check_in_process, kernels_chosen
from bench.spec.catalogue import ShippedCatalogue
from bench.spec.lacking import LackingCatalogue, Lacks
from bench.spec.overrides import parse_override
from bench.spec.plan import Plan, make_plan
from bench.spec.plugins import Plugin, read_plugins
from bench.spec.suite import load_suite, suite_from_text
from bench.store.files import require_free
from bench.store.index import Listing
from bench.store.packs import PackedRecords
from bench.store.record_store import RecordReader, RecordStore
from bench.store.records import FINAL, ResultRecord

if TYPE_CHECKING:
    from rich.console import Console

    from bench.run.executors.base import Executor
    from bench.run.observers import Observer, Observers
    from bench.run.tracked import Summarise

TRACKERS = ("mlflow", "none")
DEFAULT_STORE = Path(".bench")


@dataclass(frozen=True)
class Options:
    """The options of ``bench run``; see its help."""

    suite: str
    only: str | None = None
    overrides: Sequence[str] = field(default_factory=tuple)
    dataset: str | None = None
    preset: Preset | None = None
    seeds: int | None = None
    workers: int | None = None
    threads: int = 1
    device: str = "cpu"
    kernels: str = "native"
    tracker: str = "mlflow"
    store: Path = DEFAULT_STORE
    data_root: Path | None = None
    fresh: bool = False
    dtype: str = "float32"
    job_timeout: float | None = None
    plugins: Sequence[Path] = ()


@dataclass(frozen=True)
class Draft:
    """A plan, what it was made from, and what of weights and data is not here: where something lacks, its ids are none
    and it is for showing alone."""

    plan: Plan
    catalogue: ShippedCatalogue
    lacks: Lacks

    def error(self, root: Path | None) -> BenchError:
        """The one error that lists what lacks; ``root`` is the data set's folder where the user named one."""
        suite = self.plan.suite
        return self.lacks.error(suite.dataset, suite.at("grid"), root)


def plan_of(options: Options, text: str | None = None) -> Plan:
    """Load the suite with its overrides and expand it; with its ``text`` at hand no file is read, and
    ``options.suite`` is what it is called in messages.

    Raises:
        BenchError: whatever is wrong with the suite, its data or weights, or with a method's file.
    """
    draft = draft_of(options, text)
    if draft.lacks:
        raise draft.error(options.data_root)
    return draft.plan


def draft_of(options: Options, text: str | None = None) -> Draft:
    """As :func:`plan_of`, but that a suite of trained networks is planned before its weights and data are here.

    Raises:
        BenchError: whatever else is wrong with the suite, or with a method's file; any missing data or weights of a
            suite that does not say ``trained``.
    """
    plugins = read_plugins(options.plugins)
    pairs = [parse_override(text) for text in options.overrides]
    if options.dataset is not None:
        pairs.append(("dataset", options.dataset))
    suite = (
        load_suite(options.suite, dict(pairs)) if text is None else suite_from_text(text, options.suite, dict(pairs))
    )
    catalogue = (LackingCatalogue if suite.trained else ShippedCatalogue).of(options.data_root, plugins)
    plan = make_plan(
        suite, preset=options.preset, only=options.only, seeds=options.seeds, dtype=options.dtype, catalogue=catalogue
    )
    lacks = catalogue.lacks if isinstance(catalogue, LackingCatalogue) else Lacks()
    return Draft(replace(plan, plugins=plugins), catalogue, lacks)


def workers_of(options: Options, device: str) -> int:
    """Workers asked for, else one per core; one on CUDA, where jobs share the device."""
    if options.workers is not None:
        return options.workers
    return 1 if device == "cuda" else max(1, (os.cpu_count() or 1) // max(1, options.threads))


def open_records(store: Path) -> RecordStore:
    """The store's records and, behind them, those shipped with the package, for who adds to them."""
    return RecordStore(store, PackedRecords())


def read_records(store: Path) -> RecordReader:
    """As :func:`open_records`, for who only looks: nothing is written, and the store need not be there."""
    return RecordReader(store, PackedRecords())


def run(
    options: Options,
    console: Console,
    planned: Callable[[Options], Plan] = plan_of,
    summarise: Summarise | None = None,
) -> tuple[Plan, list[ResultRecord]]:
    """Run a suite and return its plan and records; ``planned`` says what of it is run, ``summarise`` makes the board
    that a tracker is told.

    Raises:
        BenchError: bad input, before any compute; a store that fails.
    """
    if options.workers == 0:
        check_in_process(options.kernels)
    with kernels_chosen(options.kernels):  # before anything below loads torch, and for the workers
        return _run(options, console, planned, summarise)


def _run(
    options: Options, console: Console, planned: Callable[[Options], Plan], summarise: Summarise | None
) -> tuple[Plan, list[ResultRecord]]:
    from bench.run.integrity import Integrity
    from bench.run.live import LiveObserver
    from bench.run.observers import Observers
    from bench.run.progress import ProgressObserver
    from bench.run.runner import Runner
    from bench.run.tracking import MlflowObserver, tracking_uri
    from bench.store.artifacts import ArtifactStore

    if options.tracker not in TRACKERS:
        raise BenchError("unknown tracker", where="--tracker", got=options.tracker, expected=TRACKERS)
    device = runtime.resolve_device(options.device)
    workers = workers_of(options, device)
    _check_timeout(options.job_timeout, workers)
    shipped = Integrity()
    plan = planned(options)
    shipped.check()  # planning imports the suite's methods, those of installed packages too
    _check_readable(plan)
    _check_made(plan, options)
    artifacts, records = ArtifactStore(options.store), open_records(options.store)
    require_free(options.store, plan.disk_bytes(artifacts.has))
    artifacts.sweep()
    watchers: list[Observer] = [ProgressObserver(console, workers), LiveObserver(options.store, workers)]
    if options.tracker == "mlflow":
        watchers.append(MlflowObserver(tracking_uri(), summarise))
    with Observers(watchers) as observers:
        executor = _executor(options, device, workers, plan.plugins, observers)
        return plan, Runner(plan, artifacts, records, executor, observers, options.fresh).run()


def _check_timeout(seconds: float | None, workers: int) -> None:
    """Raise BenchError for a limit that cannot be kept."""
    if seconds is None:
        return
    if not 0 < seconds < float("inf"):
        raise BenchError("is no duration", where="--job-timeout", got=seconds, expected="seconds, above 0")
    if workers == 0:
        hint = "Give --workers 1 or more."
        raise BenchError("a job in this process cannot be ended", where="--job-timeout", got="--workers 0", hint=hint)


def _executor(
    options: Options, device: str, workers: int, plugins: tuple[Plugin, ...], observers: Observers
) -> Executor:
    from bench.run.executors.inline import InlineExecutor
    from bench.run.executors.processes import ProcessExecutor
    from bench.run.tasks import Settings

    root = str(options.data_root) if options.data_root else None
    store = str(options.store.resolve())
    settings = Settings(store, device, options.threads, root, dtype=options.dtype, plugins=plugins)
    if workers == 0:
        return InlineExecutor(settings, lambda event: observers.tell("progress", event))
    return ProcessExecutor(settings, workers, options.job_timeout)


def _check_readable(plan: Plan) -> None:
    """Damaged or foreign weights are found before the first second of compute, not in the middle of the night."""
    from bench.zoo.targets import check_weights

    names = {name for job in plan.synths for name in job.models} | {cell.target_name for cell in plan.applicable}
    for name in sorted(names):
        check_weights(name)


def not_made(plan: Plan, options: Options) -> BenchError | None:
    """What reading the plan's data set would end with because its files have to be made first; None where it can be
    read, or is read from a folder."""
    from bench.data import places

    return places.not_made(plan.suite.dataset, options.data_root)


def _check_made(plan: Plan, options: Options) -> None:
    """One error before any compute instead of a failed record for each cell; none where every cell stands already."""
    lacking = not_made(plan, options)
    if lacking is None:
        return
    listing, suite = Listing(read_records(options.store)), plan.suite
    standing = (listing.standing(cell.cell_id, suite.suite, suite.version) for cell in plan.applicable)
    if options.fresh or None in standing:
        raise lacking


def summary(records: Sequence[ResultRecord]) -> dict[str, int]:
    """How many records have which status."""
    counts: dict[str, int] = {}
    for record in records:
        counts[record.status] = counts.get(record.status, 0) + 1
    return counts


def succeeded(records: Sequence[ResultRecord]) -> bool:
    """Whether every cell stands: ok, or not applicable for a stated reason."""
    return all(record.status in FINAL for record in records)
