"""What could be used for a network: the sources and compressors of the registry that apply, by what each declares, with
the parameters of a given effort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.advise.network import Network
from bench.errors import BenchError
from bench.interfaces import TIERS, Setting
from bench.spec.catalogue import Catalogue
from bench.spec.registry import resolve_params
from bench.spec.select import Selection, own_labels

DATA = TIERS.index("T4")
"""From this tier on a source reads the training images that are not at hand."""

PIXELS = 128 * 64 * 64
"""Pixels of a synthesis' batch at most; ``mini`` presets are made for 32 pixels a side."""

SMALLEST_BATCH = 16


@dataclass(frozen=True)
class Level:
    """How much: images of a set, and the share of a preset's iterations."""

    images: int
    effort: float


@dataclass(frozen=True)
class Source:
    """A source that applies.  ``iterations`` per batch of ``batch`` images, or per set where it ``streams`` (a
    generator); ``values`` are its preset's."""

    name: str
    control: str
    batch: int | None
    streams: bool
    values: Mapping[str, Any] = field(repr=False)

    def params(self, level: Level, pixels: int) -> dict[str, Any]:
        """What differs from the preset at ``level`` for images of so many pixels."""
        out = scaled(self.values, level.effort)
        if self.batch is not None and not self.streams:
            batch = min(self.batch, level.images, max(SMALLEST_BATCH, PIXELS // pixels))
            out |= {} if batch == self.batch else {"batch": batch}
        return out

    def passes(self, level: Level) -> float:
        """Forward passes of an image as far as declarations tell: a step is a forward and a backward."""
        steps = max(1.0, level.effort * iterations(self.values))
        return (2 * steps * (self.batch or 1) if self.streams else 2 * steps * level.images) if steps > 1 else 1.0


@dataclass(frozen=True)
class Compressor:
    """A compressor that calibrates on stored images."""

    name: str
    batch: int
    values: Mapping[str, Any] = field(repr=False)

    def params(self, level: Level) -> dict[str, Any]:
        """What differs from the preset at ``level``."""
        return scaled(self.values, level.effort)

    def passes(self, level: Level) -> float:
        """As of a source, through the whole network."""
        return level.images + 3 * level.effort * iterations(self.values) * self.batch


@dataclass(frozen=True)
class LeftOut:
    """A method that is not tried, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Candidates:
    """``sources`` to choose from, ``references`` that are shown beside them and never chosen, ``compressors``, and what
    is left out."""

    sources: tuple[Source, ...]
    references: tuple[Source, ...]
    compressors: tuple[Compressor, ...]
    left_out: tuple[LeftOut, ...]


def iterations(values: Mapping[str, Any]) -> int:
    """The sum of what a preset iterates."""
    return sum(value for name, value in values.items() if _iterated(name, value))


def scaled(values: Mapping[str, Any], effort: float) -> dict[str, Any]:
    """The share ``effort`` of every number of iterations; nothing at the preset's own."""
    if effort == 1:
        return {}
    return {name: max(1, round(effort * value)) for name, value in values.items() if _iterated(name, value)}


def _iterated(name: str, value: Any) -> bool:
    return name.endswith("iterations") and isinstance(value, int) and value > 0


def find(network: Network, catalogue: Catalogue, with_training_images: bool, only: Selection | None) -> Candidates:
    """What applies to ``network`` as far as declarations tell; what only its own check can tell is found by running it.

    Raises:
        BenchError: nothing is left.
    """
    fitting: list[Source] = []
    references: list[Source] = []
    left: list[LeftOut] = []
    for name in catalogue.sources.names():
        method = catalogue.sources.get(name)
        if method.control == "none" and not _wanted(only, "source", name):
            continue
        if (why := _unfit(method, network, catalogue, with_training_images)) is not None:
            left.append(LeftOut(name, why))
            continue
        values = resolve_params(method, "mini", {}, name=name).model_dump(mode="json")
        batch = values.get("batch")
        found = Source(
            name, method.control, batch if isinstance(batch, int) else None, "stream" in method.offers, values
        )
        (fitting if method.control == "none" else references).append(found)
    compressors = _compressors(catalogue, only)
    lower = tuple(source for source in references if source.control == "lower")
    if not fitting and only is None:
        fitting, references = list(lower), [source for source in references if source not in lower]
    if not fitting or not compressors:
        what = "source" if compressors else "compressor"
        got = "; ".join(f"{one.name}: {one.why}" for one in left)
        raise BenchError(f"no {what} applies to this network", where=network.shown, got=got or None)
    return Candidates(tuple(fitting), tuple(references), compressors, tuple(left))


def _compressors(catalogue: Catalogue, only: Selection | None) -> tuple[Compressor, ...]:
    """Those that are asked for bits alone and take stored images as they are: what trains on them, from a teacher or
    for several networks, is no matter of minutes."""
    out = []
    for name in catalogue.compressors.names():
        method = catalogue.compressors.get(name)
        calibrates = method.accepts == {"bits"} and method.deliveries == {"cached"}
        if not calibrates or method.offers & {"teacher", "alone"} or not _wanted(only, "compressor", name):
            continue
        params = resolve_params(method, "mini", {}, name=name)
        if len(method.variants(params, Setting(4, 4))) == 1:
            values = params.model_dump(mode="json")
            batch = values.get("batch", 1)
            out.append(Compressor(name, batch if isinstance(batch, int) else 1, values))
    return tuple(out)


def _unfit(method: Any, network: Network, catalogue: Catalogue, with_training_images: bool) -> str | None:
    """Why the source does not apply; None where it does."""
    if TIERS.index(method.access) >= DATA and not (method.control == "upper" and with_training_images):
        return "reads training images, and none are at hand"
    if "bn" in method.needs and network.info.batch_norms == 0:
        return "needs batch normalisation, and the network has none"
    if method.models == "zoo" and not _zoo(network, catalogue):
        return "mixes several networks trained on the same data, and none but this one is known"
    return None


def _zoo(network: Network, catalogue: Catalogue) -> bool:
    """Whether the networks that a zoo source looks at by default are here."""
    if not network.owner or not catalogue.zoo_groups(network.owner):
        return False
    try:
        return all(
            catalogue.info(name) for name in catalogue.zoo(network.owner, catalogue.zoo_groups(network.owner)[0])
        )
    except BenchError:
        return False


def _wanted(only: Selection | None, axis: str, name: str) -> bool:
    """Whether ``--only`` keeps a method of this name."""
    if only is None or all(wanted != axis for wanted, _ in only.wanted):
        return True
    part = Selection(tuple((wanted, values) for wanted, values in only.wanted if wanted == axis))
    return part.accepts(own_labels([{axis: (name,)}])[0])
