"""How the board's columns are read from a row; None where the row does not say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.board.index.ladder import Rung
from bench.board.index.rows import Row
from bench.board.stats.paired import Interval
from bench.board.stats.standings import Standing
from bench.board.tables.scores import Share
from bench.spec.catalogue import seen_in_training as seen
from bench.store.exports import PARITY

STAGES = ("synthesis", "compress", "measure")


@dataclass(frozen=True)
class Context:
    """What a column may need beyond its row: its standing among others, how many rows use its image sets, how many
    targets these serve, whether machines differ (:mod:`index.machines`) and the contents of its image sets, and
    who reproduced it (:mod:`bench.board.index.ladder`)."""

    standing: Standing | None
    best: bool
    image_set_rows: int
    image_set_targets: int
    interval: tuple[float, Interval] | None
    share: Share | None
    mixed: bool
    remade: bool
    rank_group: str
    rung: Rung | None = None


Value = Callable[[Row, Context], Any]
"""A column's value of a row; None is a blank."""


def head(name: str) -> Value:
    """A field of the row's first measured record."""
    return lambda row, _: getattr(row.head, name)


def changes(name: str) -> Value:
    """A mapping of the row's first measured record, as JSON."""
    return lambda row, _: json.dumps(getattr(row.head, name), separators=(",", ":"))


def asked(key: str) -> Value:
    """What the setting asks under ``key``."""
    return lambda row, _: row.head.setting.get(key)


def metric(name: str) -> Value:
    """The mean over the seeds of a metric of the records."""

    def value(row: Row, _: Context) -> float | None:
        found = row.metric(name)
        return float(np.mean(found)) if found else None

    return value


def parity(row: Row, _: Context) -> float | None:
    """The mean over those of its seeds that were exported; blank where none was."""
    known = (record.metrics.get(PARITY) for record in row.measured)
    found = [value for value in known if value is not None]
    return float(np.mean(found)) if found else None


def cost(field: str, stages: Sequence[str] = STAGES) -> Value:
    """Mean over the seeds of a cost summed over stages; blank unless complete, or when a seed recorded none."""

    return lambda row, _: cost_of(row, field, stages)


def cost_of(row: Row, field: str, stages: Sequence[str] = STAGES) -> float | None:
    """As :func:`cost`."""
    sums = []
    for record in row.measured if row.complete else ():
        known = [getattr(record.costs[stage], field) for stage in stages if stage in record.costs]
        if not known or None in known:
            return None
        sums.append(sum(known))
    return float(np.mean(sums)) if sums else None


def gmacs(row: Row, context: Context) -> float | None:
    """The synthesis in 1e9 multiply-accumulates."""
    found = cost("macs", STAGES[:1])(row, context)
    return None if found is None else float(found) / 1e9


def amortised(full: Value) -> Value:
    """A synthesis's cost over the targets that its image set serves (:func:`bench.board.tables.costs.amortised`)."""

    def value(row: Row, context: Context) -> float | None:
        found = full(row, context)
        if found is None or not context.image_set_targets:
            return None
        return float(found) / context.image_set_targets

    return value


def gate(name: str) -> Value:
    """Mean over the seeds of a reading by the images' own networks."""

    def value(row: Row, _: Context) -> float | None:
        found = [getattr(r.image_gate, name) for r in row.measured if r.image_gate is not None]
        known = [v for v in found if v is not None]
        return float(np.mean(known)) if row.complete and known and len(known) == len(row.measured) else None

    return value


def seen_in_training(row: Row, _: Context) -> bool:
    """Whether the networks were trained on the images that the row was measured on."""
    return seen(row.head.dataset)


def flagged(row: Row, _: Context) -> bool | None:
    """Whether a seed's images do not invert their network; None where no seed's was asked."""
    found = [r.image_gate.flagged for r in row.measured if r.image_gate is not None]
    return any(found) if found else None


def peak(row: Row, _: Context) -> float | None:
    """Highest resident memory of all stages and seeds in MiB; None unless complete."""
    peaks = [c.peak_memory_mib for r in row.measured for c in r.costs.values() if c.peak_memory_mib is not None]
    return max(peaks) if peaks and row.complete else None


def fp_top1(row: Row, _: Context) -> float | None:
    """Known as soon as one seed has it: the uncompressed network does not depend on the seed."""
    found = [v for r in row.records if (v := r.metrics.get("fp_top1")) is not None]
    return float(np.mean(found)) if found else None


def macs_effective(row: Row, _: Context) -> float | None:
    """Records list it only where weights are zero; without any, every multiply-accumulate counts."""
    found = row.metric("macs_effective") or row.metric("macs")
    return float(np.mean(found)) if found else None


def drop(row: Row, context: Context) -> float | None:
    """Points of top-1 lost by the compression."""
    before = fp_top1(row, context)
    return before - context.interval[0] if before is not None and context.interval else None


def interval_end(pick: Callable[[float, Interval], float]) -> Value:
    """Something of the mean top-1 and its interval."""
    return lambda _, context: pick(*context.interval) if context.interval else None


def ladder(row: Row, context: Context) -> str:
    """Where the row stands on the ladder; empty where nothing was measured."""
    if not row.measured:
        return ""
    return str(context.rung or Rung(True))


def standing_of(name: str) -> Value:
    """A field of the row's standing among those ranked with it."""
    return lambda _, context: getattr(context.standing, name) if context.standing else None


def share_of(name: str) -> Value:
    """A field of the share that the row recovers."""
    return lambda _, context: getattr(context.share, name) if context.share else None
