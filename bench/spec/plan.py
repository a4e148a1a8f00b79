"""SuiteSpec → Plan: every synthesis once, then every cell; pure, and checked as a whole before any compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.errors import SuiteError
from bench.interfaces import Preset
from bench.spec.catalogue import Catalogue, ShippedCatalogue
from bench.spec.claims import check_claims
from bench.spec.expand import Expansion
from bench.spec.jobs import CellJob, ResolvedCompressor, ResolvedSource, SynthJob
from bench.spec.select import check_selection, own_labels, parse_only
from bench.spec.suite import SuiteSpec

__all__ = ["CellJob", "Plan", "ResolvedCompressor", "ResolvedSource", "SynthJob", "make_plan", "require_applicable"]

ONLY_AXES = ("source", "model", "target", "compressor", "bits", "seed", "membership")
_READS_TRAINING_IMAGES = ("T4", "T5", "T6")


@dataclass(frozen=True)
class Plan:
    """What a suite asks for: unique syntheses, then cells in the suite's order.

    A synthesis that only not-applicable cells would use is not listed.
    """

    suite: SuiteSpec
    preset: Preset
    synths: tuple[SynthJob, ...]
    cells: tuple[CellJob, ...]

    @cached_property
    def _by_id(self) -> dict[str, SynthJob]:
        return {job.synth_id: job for job in self.synths}

    def synth(self, synth_id: str) -> SynthJob:
        """The synthesis with this id."""
        return self._by_id[synth_id]

    @property
    def applicable(self) -> tuple[CellJob, ...]:
        """The cells that can run."""
        return tuple(cell for cell in self.cells if cell.not_applicable is None)

    def jobs(self) -> int:
        """Syntheses plus cells that can run."""
        return len(self.synths) + len(self.applicable)

    def disk_bytes(self, has: Callable[[str, int], bool] | None = None) -> int:
        """Bytes the image sets take; ``has(synth_id, batch)`` leaves out what is stored already."""
        return sum(
            job.batch_bytes
            for job in self.synths
            for index in range(job.batches)
            if has is None or not has(job.synth_id, index)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for ``bench plan --json``."""
        return {
            "suite": self.suite.suite,
            "version": self.suite.version,
            "dataset": self.suite.dataset,
            "preset": self.preset,
            "jobs": self.jobs(),
            "disk_bytes": self.disk_bytes(),
            "synths": [_synth_json(job) for job in self.synths],
            "cells": [{**cell.axes(), "not_applicable": cell.not_applicable} for cell in self.cells],
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
    pairs = expansion.pairs(_seeds(suite, seeds))
    # A grid the command line changed need not hold what the claims speak of; the board then calls them open.
    if not suite.changed("grid"):
        check_claims(suite, [{axis: str(label) for axis, label in cell.axes().items()} for _, cell in pairs])
    if only is not None:
        selection, rows = parse_only(only, ONLY_AXES), own_labels([cell.labels() for _, cell in pairs])
        check_selection(selection, rows)
        pairs = [pair for pair, row in zip(pairs, rows, strict=True) if selection.accepts(row)]
    plan = Plan(suite, expansion.preset, _unique(pairs), tuple(cell for _, cell in pairs))
    require_applicable(suite, [cell.not_applicable for cell in plan.cells])
    return plan


def require_applicable(suite: SuiteSpec, reasons: Sequence[str | None]) -> None:
    """Raise SuiteError when every cell has a reason (one per cell, None for "can run") why it cannot be.

    The runner calls it again once the methods' own checks have seen the networks.
    """
    if all(reason is not None for reason in reasons):
        found = sorted({str(reason) for reason in reasons})
        raise SuiteError("nothing of the suite can run", where=suite.at(), got="; ".join(found) or "no cell")


def _unique(pairs: Sequence[tuple[SynthJob, CellJob]]) -> tuple[SynthJob, ...]:
    """Each synthesis once, in the order of first use; rows that differ in name only share one."""
    out: dict[str, SynthJob] = {}
    for job, cell in pairs:
        if cell.not_applicable is None:
            out.setdefault(job.synth_id, job)
    return tuple(out.values())


def _seeds(suite: SuiteSpec, asked: int | Sequence[int] | None) -> tuple[int, ...]:
    if asked is None:
        return suite.seeds
    if not isinstance(asked, int):
        return tuple(dict.fromkeys(asked))
    if asked < 1:
        raise SuiteError("no seed is left", where="--seeds", got=asked, expected="at least 1")
    more = range(max(suite.seeds) + 1, max(suite.seeds) + 1 + asked)
    return (*suite.seeds, *more)[:asked]


def _synth_json(job: SynthJob) -> dict[str, Any]:
    source: Mapping[str, Any] = {
        "method": job.source.method,
        "label": job.source.label,
        "version": job.source.version,
        "params": job.source.params_json,
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
