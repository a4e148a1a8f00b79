"""From the command's arguments to the answer: network, exam, candidates, rounds, and the suite that repeats them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench.advise import candidates, exam, network
from bench.advise.answer import Answer, answer, random_weights
from bench.advise.budget import Candidate, Costs
from bench.advise.rounds import LEVELS, Field
from bench.advise.search import Clock, NothingRuns, Search
from bench.atomic import replace_file
from bench.data.places import open_split
from bench.errors import BenchError, DataError
from bench.identity import digest
from bench.run.session import Options, workers_of
from bench.spec.axes import NoValue, axis
from bench.spec.catalogue import ShippedCatalogue
from bench.spec.plugins import Plugin, read_plugins
from bench.spec.select import Selection, parse_only

if TYPE_CHECKING:
    from bench.run.worker import Bench

WIDTHS = ("W8A8", "W6A8", "W4A8", "W4A4", "W3A4", "W2A4")
"""Bits that are tried where a size is asked for and no bits are."""


@dataclass(frozen=True)
class Request:
    """The arguments of ``bench advise``; ``seconds`` is the budget."""

    network: str
    bits: tuple[str, ...]
    size: int | None
    seconds: float
    store: Path
    test: Path | None = None
    images: Path | None = None
    blind: bool = False
    dataset: str | None = None
    only: str | None = None
    workers: int | None = None
    device: str = "cpu"
    data_root: Path | None = None
    plugins: tuple[Path, ...] = ()
    suite: Path | None = None
    cpu: bool = False
    """Count CPU seconds of this process, in which everything must then run."""


def ask(request: Request, console: Console) -> tuple[Answer, Path]:
    """Run the rounds and return the answer and the file of the finalists' suite; progress goes to ``console``.

    Raises:
        BenchError: no such network, bits or images; nothing that can run; too little time for one candidate.
    """
    began = _now(request)()
    bits = _bits(request)
    selection = _selection(request.only)
    plugins = read_plugins(request.plugins)
    catalogue = ShippedCatalogue.of(request.data_root, plugins)
    found = network.find(request.network, request.dataset, catalogue)
    bench = _bench(request, plugins)
    if found.random:
        console.print(f"warning: {random_weights(found)}", highlight=False)
    place = request.store / "advise" / found.slug
    asked = exam.Asked(request.test, request.images, request.blind, request.data_root)
    chosen = exam.choose(asked, found, place, bench)
    real = chosen.kind == "accuracy" and request.test is None and _has_training(found.owner, request.data_root)
    pool = candidates.find(found, catalogue, real, selection)
    field = Field(found, chosen, pool)
    search = _search(request, field, bits, plugins, console)
    search.clock.start(began)
    try:
        search.run(bits, request.size)
    except NothingRuns as error:
        hint = "Give it more --minutes." if search.clock.left <= 0 else None
        raise BenchError("nothing can be compared", where=found.shown, got=error, hint=hint) from error
    if not search.stages or not search.stages[-1].full:
        # in the order of what they take: the first tells how much time is needed
        got = "; ".join(f"{one.name}: {one.why}" for one in search.left_out[:2])
        raise BenchError("no candidate was measured", where=found.shown, got=got, hint="Give it more --minutes.")
    said = answer(search)
    file = request.suite or Path(f"{search.name}.yaml")
    _save(file, said, search.name)
    return said, file


def _bits(request: Request) -> tuple[str, ...]:
    """The bits to try, as rows are labelled.

    Raises:
        BenchError: none are given, or they do not exist.
    """
    if not request.bits and request.size is None:
        raise BenchError("neither bits nor a size is asked for", where="--bits", expected="W4A4, or --size BYTES")
    entry = axis("bits")
    try:
        return tuple(dict.fromkeys(entry.text(entry.read(text)) for text in request.bits or WIDTHS))
    except NoValue as error:
        raise BenchError(str(error), where="--bits", got=", ".join(request.bits), expected=error.expected) from error


def _now(request: Request) -> Callable[[], float]:
    return time.process_time if request.cpu else time.monotonic


def _selection(text: str | None) -> Selection | None:
    return None if text is None else parse_only(text, ("source", "compressor"))


def _bench(request: Request, plugins: tuple[Plugin, ...]) -> Bench:
    from bench import runtime
    from bench.run.tasks import Settings
    from bench.run.worker import Bench

    root = str(request.data_root) if request.data_root else None
    device = runtime.resolve_device(request.device)
    return Bench(Settings(str(request.store.resolve()), device, 1, root, plugins=plugins))


def _has_training(owner: str, root: Path | None) -> bool:
    try:
        return bool(owner) and len(open_split(owner, "train", root).labels) > 0
    except DataError:
        return False


def _search(
    request: Request, field: Field, bits: Sequence[str], plugins: tuple[Plugin, ...], console: Console
) -> Search:
    name = f"advise_{field.network.slug}"
    options = Options(
        suite=name,
        workers=request.workers,
        device=request.device,
        tracker="none",
        store=request.store,
        data_root=request.data_root,
        plugins=request.plugins,
    )
    facts = [field.network.info.digest, list(bits), request.size, field.exam.small, field.exam.full, request.only]
    key = digest([*facts, request.device, [plugin.digest for plugin in plugins]])[:16]
    clock = Clock(request.seconds, request.store / "advise" / field.network.slug / f"{key}.json", _now(request))
    workers = max(1, workers_of(options, request.device))
    return Search(field, name, options, clock, Costs(workers, request.cpu), console)


def _save(file: Path, said: Answer, name: str) -> None:
    """Write the finalists' suite.

    Raises:
        BenchError: the file cannot be written.
    """
    cells: list[Candidate] = [line.cell for line in said.lines if not line.reference]
    beside = [line.cell.source for line in said.lines if line.reference]
    level = said.stage.level
    names = dict.fromkeys([*(cell.source for cell in cells), *beside])
    text = said.field.suite(name, level, list(names), cells, level == LEVELS[-1], said.pick.seeds)
    head = [f"# What `bench advise {said.field.network.shown}` compared last, on {said.field.exam.images}.", ""]
    notes = [f"# {sentence}" for sentence in said.sentences()]
    try:
        replace_file(file, "\n".join([head[0], *notes, text]).encode())
    except OSError as error:
        raise BenchError("cannot be written", where=str(file), got=error.strerror) from error
