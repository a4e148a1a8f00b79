"""Records → rows: what belongs together under one line of the board, which seeds it has, and whether it is stale."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.board.index.versions import FILES, NETWORKS
from bench.board.stats.moderation import SHIPPED, Replicates, SeedVariance, seed_variances
from bench.spec.catalogue import full_name
from bench.spec.plugins import KEY
from bench.store.bitmaps import unpack_bits
from bench.store.records import ResultRecord

Versions = Mapping[tuple[str, str], int | str]
"""(kind, name) → what the code has: a method's version, kind being its folder ("sources", "compressors", "policies"),
or the digest of a network's weights (:data:`bench.board.index.versions.NETWORKS`, full name)."""

Asked = Mapping[Any, Collection[int]]
"""Suite, or (suite, version, preset) → the seeds it was asked for."""

ROW_KEY = ("suite", "dataset", "source", "model", "target", "compressor", "policy", "setting_label", "variant", "n")
"""What a row is named by."""
BESIDE = ("suite", "dataset", "target", "compressor")
"""Which rows' variances between seeds are estimated together, besides versions, weights and test set."""
UNKNOWN = SHIPPED.variance(Replicates(0.0, 0, 50.0, 1, "", ""))
_SEVERITY = ("failed", "skipped", "not_applicable")


@dataclass(frozen=True)
class Row:
    """One line of the board: the records of one setting, one per seed, in ascending order of the seed.

    ``expected`` holds the seeds the suite was asked for; ``versions`` what the code has now; ``between`` its
    variance between seeds, moderated by the rows beside it.
    """

    records: tuple[ResultRecord, ...]
    expected: tuple[int, ...]
    versions: Versions
    between: SeedVariance = UNKNOWN

    @property
    def head(self) -> ResultRecord:
        """A record to read the row's keys from; a measured one when there is any, since only those know a protocol."""
        return self.measured[0] if self.measured else self.records[0]

    @property
    def setting(self) -> tuple[object, ...]:
        """What a row is named by, its preset included; versions, weights and protocol left out."""
        return (*(getattr(self.head, name) for name in ROW_KEY), self.head.preset)

    @cached_property
    def measured(self) -> tuple[ResultRecord, ...]:
        """The records with status ok."""
        return tuple(r for r in self.records if r.status == "ok")

    @property
    def complete(self) -> bool:
        """Every expected seed was measured; only then may a mean be formed."""
        return bool(self.measured) and set(self.expected) <= {r.seed for r in self.measured}

    @property
    def status(self) -> str:
        """ok, the worst status among the seeds (failed, skipped, not_applicable), or incomplete: seeds not yet run."""
        found = {r.status for r in self.records}
        for status in _SEVERITY:
            if status in found:
                return status
        return "ok" if self.complete else "incomplete"

    @property
    def reason(self) -> str:
        """Why seeds are missing, each distinct reason once with its seeds when they differ; empty when all is well."""
        seeds: dict[str, list[int]] = defaultdict(list)
        for record in self.records:
            if record.status != "ok":
                seeds[record.reason or record.status].append(record.seed)
        if len(seeds) == 1 and not self.measured:
            return next(iter(seeds))
        return "; ".join(f"seed {', '.join(map(str, s))}: {reason}" for reason, s in seeds.items())

    @property
    def seeds(self) -> str:
        """ "k of n": measured seeds of expected ones."""
        return f"{len(self.measured)} of {len(set(self.expected) | {r.seed for r in self.measured})}"

    @cached_property
    def stale(self) -> bool:
        """Some record was made by an older version of its source or compressor than the code has, by another content of
        a method's file, or on other weights of its target."""
        older = any(
            version < _current(self.versions, key, version)
            for r in self.records
            for key, version in _record_versions(r)
        )
        older = older or any(
            self.versions.get((FILES, name), code) != code for r in self.records for name, code in _record_files(r)
        )
        return older or any(r.target_digest and r.target_digest != self._weights(r) for r in self.records)

    def _weights(self, record: ResultRecord) -> str:
        """Digest of the weights its target has now; the recorded one where the target did not come with the package."""
        return str(self.versions.get((NETWORKS, full_name(record.dataset, record.target)), record.target_digest))

    @cached_property
    def bitmaps(self) -> dict[int, npt.NDArray[np.bool_]]:
        """Seed → correctness [N] for the measured seeds; empty when any of them has none."""
        if any(r.correct is None or r.test_count < 1 for r in self.measured):
            return {}
        return {r.seed: unpack_bits(r.correct, r.test_count) for r in self.measured if r.correct is not None}

    def metric(self, name: str) -> list[float]:
        """The metric of every measured seed; empty unless the row is complete and each seed has it."""
        values = [r.metrics.get(name) for r in self.measured]
        found = [v for v in values if v is not None]
        return found if self.complete and len(found) == len(values) else []


def _current(versions: Versions, key: tuple[str, str], recorded: int) -> int:
    """The code's version of a method; of several in a chain (``a+b``) their sum, as a record holds it.  What is not
    installed makes nothing stale."""
    kind, name = key
    known = [versions.get((kind, step)) for step in name.split("+")]
    return recorded if None in known else sum(int(version) for version in known if version is not None)


def _record_versions(record: ResultRecord) -> Iterable[tuple[tuple[str, str], int]]:
    yield ("sources", record.source_method), record.source_version
    yield ("compressors", record.compressor_method), record.compressor_version
    yield ("policies", record.policy_method), record.policy_version


def _record_files(record: ResultRecord) -> Iterable[tuple[str, str]]:
    """kind/name and digest of each method of the record that came as a file."""
    chain = record.compressor_params.get("steps")
    steps = [(step["method"], step["params"]) for step in chain] if isinstance(chain, list) else []
    used = [("sources", record.source_method, record.source_params)]
    used += [("policies", record.policy_method, record.policy_params)]
    used += [("compressors", *step) for step in steps or [(record.compressor_method, record.compressor_params)]]
    for kind, name, params in used:
        if KEY in params:
            yield f"{kind}/{name}", str(params[KEY])


def latest(records: Iterable[ResultRecord]) -> list[ResultRecord]:
    """One record per (suite, cell): a measured one wins over one that is not, else the later in the order given."""
    kept: dict[tuple[str, int, str], ResultRecord] = {}
    for record in records:
        key = (record.suite, record.suite_version, record.cell_id)
        old = kept.get(key)
        if old is None or record.status == "ok" or old.status != "ok":
            kept[key] = record
    return list(kept.values())


def make_rows(
    records: Iterable[ResultRecord],
    *,
    versions: Versions | None = None,
    seeds: Asked | None = None,
) -> list[Row]:
    """Group records into rows by their ``row_id``, in the order of their first appearance.

    A row never mixes what may not be averaged: the id holds parameters, versions, weights and test set; presets, suite
    versions and protocols are kept apart here.  ``seeds`` maps a suite, or a (suite, version, preset), to the seeds it
    was asked for; without an entry they are all the seeds found in that suite, suite version and preset.

    Their variance between seeds is estimated together (:mod:`stats.moderation`), so ``records`` hold all rows of
    a target and compressor, whichever of them are then shown.
    """
    found = latest(records)
    asked: dict[tuple[str, int, str], set[int]] = defaultdict(set)
    for record in found:
        asked[record.suite, record.suite_version, record.preset].add(record.seed)
    groups: dict[tuple[object, ...], list[ResultRecord]] = defaultdict(list)
    for record in found:
        groups[record.suite, record.suite_version, record.preset, record.row_id].append(record)
    rows = []
    for group in groups.values():
        head = group[0]
        run = (head.suite, head.suite_version, head.preset)
        known = seeds or {}
        expected = tuple(sorted(known.get(run, known.get(head.suite, asked[run]))))
        for part in _by_protocol(group):
            ordered = tuple(sorted(part, key=lambda r: r.seed))
            rows.append(Row(ordered, expected, versions or {}))
    between = seed_variances([_replicates(row) for row in rows])
    return [replace(row, between=variance) for row, variance in zip(rows, between, strict=True)]


_PART = (*BESIDE, "suite_version", "preset", "target_digest", "test_digest")


def _replicates(row: Row) -> Replicates:
    """What the row's seeds say; with other rows of its target and compressor, at its setting, it is estimated."""
    head = row.head
    top1 = [value for r in row.measured if (value := r.metrics.get("top1")) is not None]
    part = tuple(getattr(head, name) for name in _PART)
    variance = float(np.var(top1, ddof=1)) if len(top1) > 1 else 0.0
    mean = float(np.mean(top1)) if top1 else 50.0
    return Replicates(variance, max(len(top1) - 1, 0), mean, head.test_count, part, head.setting_label)


def _by_protocol(group: Sequence[ResultRecord]) -> list[list[ResultRecord]]:
    """Parts of one row that share a protocol, one record per seed; cells that failed know no protocol and join the
    first part that lacks their seed, if any does."""
    parts: dict[str | None, dict[int, ResultRecord]] = defaultdict(dict)
    for record in sorted((r for r in group if r.status == "ok"), key=_finished):
        parts[record.protocol_id][record.seed] = record
    done = list(parts.values())
    for record in sorted((r for r in group if r.status != "ok"), key=_finished):
        home = next((part for part in done if part.get(record.seed, record).status != "ok"), None)
        if home is not None:
            home[record.seed] = record
        elif not done:
            done.append({record.seed: record})
    return [list(part.values()) for part in done]


def _finished(record: ResultRecord) -> float:
    """When the cell was done, in seconds since 1970; 0 where that was not written down."""
    return record.finished or 0.0
