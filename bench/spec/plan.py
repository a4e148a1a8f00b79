"""SuiteSpec → Plan: every image set and search once, then every cell; pure, and checked before any compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.errors import SuiteError
from bench.interfaces import Preset
from bench.spec.axes import WHOLE, axis_names
from bench.spec.catalogue import Catalogue, ShippedCatalogue
from bench.spec.claims import check_claims
from bench.spec.expand import Expansion
from bench.spec.graph import Job, counts, make_graph
from bench.spec.jobs import CellJob, SearchJob, SynthJob
from bench.spec.plugins import Plugin
from bench.spec.resolved import ResolvedCompressor, ResolvedSource
from bench.spec.select import check_selection, own_labels, parse_only
from bench.spec.suite import SuiteSpec

__all__ = ["CellJob", "Plan", "ResolvedCompressor", "ResolvedSource", "SynthJob", "make_plan", "require_applicable"]

MOST_SEEDS = 10_000


def only_axes() -> tuple[str, ...]:
    """The axes ``--only`` takes."""
    return ("source", "model", "target", "compressor", "policy", WHOLE, *axis_names(), "variant", "seed", "membership")


@dataclass(frozen=True)
class Plan:
    """What a suite asks for: unique image sets and policy searches, then cells in the suite's order.

    One that only not-applicable cells would use is not among them; ``idle`` holds such image sets, never made.
    ``plugins`` are the methods in files that it was made with.
    """

    suite: SuiteSpec
    preset: Preset
    synths: tuple[SynthJob, ...]
    searches: tuple[SearchJob, ...]
    cells: tuple[CellJob, ...]
    idle: tuple[SynthJob, ...] = ()
    dtype: str = "float32"
    plugins: tuple[Plugin, ...] = ()

    @cached_property
    def _by_id(self) -> dict[str, SynthJob]:
        return {job.synth_id: job for job in (*self.idle, *self.synths)}

    def synth(self, synth_id: str) -> SynthJob:
        """The image set with this id."""
        return self._by_id[synth_id]

    @property
    def applicable(self) -> tuple[CellJob, ...]:
        """The cells that can run."""
        return tuple(cell for cell in self.cells if cell.not_applicable is None)

    def graph(self, cells: Sequence[CellJob] | None = None) -> tuple[Job, ...]:
        """The jobs that make ``cells`` (all that can run, unless given), each after those it needs."""
        return make_graph(self, self.applicable if cells is None else cells)

    def disk_bytes(self, has: Callable[[str, int], bool] | None = None) -> int:
        """Bytes the image sets take; ``has(synth_id, batch)`` leaves out what is stored already."""
        return sum(
            job.batch_bytes
            for job in self.synths
            for index in range(job.batches)
            if has is None or not has(job.synth_id, index)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for ``bench plan --json``; ``graph`` lists every job with the keys of those it needs."""
        graph = self.graph()
        return {
            "suite": self.suite.suite,
            "version": self.suite.version,
            "dataset": self.suite.dataset,
            "preset": self.preset,
            "jobs": counts(graph),
            "disk_bytes": self.disk_bytes(),
            "synths": [_synth_json(job) for job in self.synths],
            "cells": [{**cell.axes(), "not_applicable": cell.not_applicable} for cell in self.cells],
            "graph": [{"kind": j.kind, "key": j.key, "title": j.title, "needs": sorted(j.needs)} for j in graph],
        }


def make_plan(
    suite: SuiteSpec,
    *,
    preset: Preset | None = None,
    only: str | None = None,
    seeds: int | Sequence[int] | None = None,
    dtype: str = "float32",
    catalogue: Catalogue | None = None,
) -> Plan:
    """Expand ``suite``.

    Args:
        preset: overrides the suite's.
        only: ``source=kw|mixmix,target=resnet*,seed=1``: comma is "and", ``|`` is "or", values may be patterns.
        seeds: a number (the first so many of the suite's, continued upwards), or the seeds themselves.
        dtype: compute dtype of the synthesis; part of an image set's identity.
        catalogue: what exists (methods, networks, data sets); the real one unless a test brings its own.

    Raises:
        SuiteError: unknown method, network, key or value; fewer images than classes; equal rows; a selection or a
            suite of which nothing is left.
        DataError: unknown data set, missing folder, a test subset that cannot be.
        WeightsError: a network's manifest is missing or damaged.
    """
    expansion = Expansion(suite, preset or suite.preset, dtype, catalogue or ShippedCatalogue())
    points = expansion.points(_seeds(suite, seeds))
    # A grid the command line changed need not hold what the claims speak of; the board then calls them open.
    if not suite.changed("grid"):
        check_claims(suite, [cell.labels() for *_, cell in points])
    if only is not None:
        selection, rows = parse_only(only, only_axes()), own_labels([cell.labels() for *_, cell in points])
        check_selection(selection, rows)
        points = [point for point, row in zip(points, rows, strict=True) if selection.accepts(row)]
    synths, searches = _unique(points)
    made = {job.synth_id for job in synths}
    idle = {job.synth_id: job for job, *_ in points if job.synth_id not in made}
    cells = tuple(cell for *_, cell in points)
    plan = Plan(suite, expansion.preset, synths, searches, cells, tuple(idle.values()), dtype)
    require_applicable(suite, [cell.not_applicable for cell in plan.cells])
    return plan


def require_applicable(suite: SuiteSpec, reasons: Sequence[str | None]) -> None:
    """Raise SuiteError when every cell has a reason (one per cell, None for "can run") why it cannot be.

    The runner calls it again once the methods' own checks have seen the networks.
    """
    if all(reason is not None for reason in reasons):
        found = sorted({str(reason) for reason in reasons})
        raise SuiteError("nothing of the suite can run", where=suite.at(), got="; ".join(found) or "no cell")


def _unique(
    points: Sequence[tuple[SynthJob, SearchJob | None, CellJob]],
) -> tuple[tuple[SynthJob, ...], tuple[SearchJob, ...]]:
    """Each image set and each search once, in the order of first use; rows that differ in name only share one."""
    synths: dict[str, SynthJob] = {}
    searches: dict[str, SearchJob] = {}
    for job, search, cell in points:
        if cell.not_applicable is None:
            looked_at = search.images.chain if search is not None else ()
            for images in (*job.chain, *looked_at):
                synths.setdefault(images.synth_id, images)
            if search is not None:
                searches.setdefault(search.policy_id, search)
    return tuple(synths.values()), tuple(searches.values())


def _seeds(suite: SuiteSpec, asked: int | Sequence[int] | None) -> tuple[int, ...]:
    if asked is None:
        return suite.seeds
    if not isinstance(asked, int):
        return tuple(dict.fromkeys(asked))
    if not 1 <= asked <= MOST_SEEDS:
        what = "no seed is left" if asked < 1 else "too many seeds"
        raise SuiteError(what, where="--seeds", got=asked, expected=f"1 to {MOST_SEEDS}")
    more = range(max(suite.seeds) + 1, max(suite.seeds) + 1 + asked)
    return (*suite.seeds, *more)[:asked]


def _synth_json(job: SynthJob) -> dict[str, Any]:
    source: Mapping[str, Any] = {
        "method": job.source.method,
        "label": job.source.label,
        "version": job.source.version,
        "params": job.source.described,
        "batch_size": job.source.batch_size,
    }
    return {
        "synth_id": job.synth_id,
        "source": source,
        "models": list(job.models),
        "student": job.student,
        "seed": job.seed,
        "count": job.count,
        "batches": job.batches,
        "preset": job.preset,
    }
