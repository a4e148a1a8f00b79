"""Rows of several suites that measure the same thing, as one: seeds united, costs and machines gathered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bench.board.index.machines import machines_of
from bench.board.index.rows import UNKNOWN
from bench.board.stats.intervals import accuracy_interval
from bench.board.stats.moderation import Replicates, SeedVariance, seed_variances
from bench.board.stats.paired import Bitmaps, Interval
from bench.board.tables.averages import average_interval, averaged
from bench.board.tables.names import OWN
from bench.store.bitmaps import unpack_bits
from bench.store.records import ResultRecord

Key = tuple[str, str]
"""Row and protocol."""
_Value = Callable[[ResultRecord], float | None]


@dataclass(frozen=True)
class Member:
    """One row of one network, its measured records in ascending order of the seed, from whichever suites."""

    records: tuple[ResultRecord, ...]
    suites: tuple[str, ...]
    ladder: str
    doubted: tuple[str, ...]
    between: SeedVariance

    @property
    def head(self) -> ResultRecord:
        """A record to read its keys from."""
        return self.records[0]

    @cached_property
    def bitmaps(self) -> Bitmaps:
        """Seed → correctness [N]; empty where a seed has none."""
        if any(one.correct is None or one.test_count < 1 for one in self.records):
            return {}
        return {one.seed: unpack_bits(one.correct, one.test_count) for one in self.records if one.correct is not None}


@dataclass(frozen=True)
class Choice:
    """A source with a compressor: one row, or the mean over several networks' rows.

    ``control``: its source, or the search of its bits, is one.  ``top1`` and ``ends`` in percent; costs in CPU seconds,
    means over the seeds and networks.
    """

    members: tuple[Member, ...]
    control: bool
    bitmaps: Bitmaps
    between: SeedVariance
    top1: float
    ends: Interval

    @property
    def head(self) -> ResultRecord:
        """A record to read its keys from."""
        return self.members[0].head

    @property
    def protocol_id(self) -> str:
        """Of all its rows."""
        return self.head.protocol_id or ""

    @property
    def n(self) -> int:
        """Images."""
        return self.head.n

    @property
    def access(self) -> str:
        """The tier of its source."""
        return self.head.access

    @property
    def compressor(self) -> str:
        """Its label."""
        return self.head.compressor

    @property
    def model(self) -> str:
        """The network of its images; :data:`tables.names.OWN` for each network's own where there are several."""
        own = len(self.members) > 1 and self.head.model == self.head.target
        return OWN if own else self.head.model

    @property
    def source(self) -> str:
        """The source's label and, in brackets, the network of its images."""
        return f"{self.head.source} [{self.model}]" if self.model else self.head.source

    @property
    def method(self) -> tuple[object, ...]:
        """What makes it the same on several networks."""
        head = self.head
        model = OWN if head.model == head.target else head.model
        named = (head.source, model, head.compressor, head.policy, head.variant, head.setting_label, head.n)
        return (*named, head.preset, head.delivery)

    @property
    def per_layer(self) -> bool:
        """Whether its bits differ by layer or image, or it is one of several widths of one training."""
        head = self.head
        return bool(head.policy or head.variant) or head.image_bits is not None

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those all its rows have."""
        return tuple(sorted(set.intersection(*({one.seed for one in member.records} for member in self.members))))

    @property
    def suites(self) -> tuple[str, ...]:
        """Which measured it."""
        return tuple(dict.fromkeys(suite for member in self.members for suite in member.suites))

    @property
    def machines(self) -> tuple[str, ...]:
        """Kinds of machine that measured it."""
        return tuple(machines_of(one for member in self.members for one in member.records))

    @property
    def fp(self) -> float | None:
        """Top-1 of the uncompressed network, mean over networks, in percent."""
        return self._mean(lambda one: one.metrics.get("fp_top1"))

    @property
    def bitops_g(self) -> float | None:
        """1e9 bit operations of an image."""
        return self._mean(lambda one: one.metrics.get("bitops_g"))

    @property
    def synthesis_s(self) -> float | None:
        """CPU seconds of an image set."""
        return self._mean(lambda one: _cpu(one, "synthesis"))

    @property
    def compress_s(self) -> float | None:
        """CPU seconds of the compression and, where there is one, of the search of its bits."""
        search = self._mean(lambda one: _cpu(one, "search")) if self.head.policy else 0.0
        own = self._mean(lambda one: _cpu(one, "compress"))
        return None if own is None or search is None else own + search

    @cached_property
    def cpu_s(self) -> float | None:
        """CPU seconds of images and compression."""
        first, second = self.synthesis_s, self.compress_s
        return None if first is None or second is None else first + second

    def _mean(self, value: _Value) -> float | None:
        """Each network with the same weight; None where some record does not say."""
        found = [[value(one) for one in member.records] for member in self.members]
        known = [[one for one in values if one is not None] for values in found]
        if not all(values and len(values) == len(told) for values, told in zip(known, found, strict=True)):
            return None
        return float(np.mean([np.mean(values) for values in known]))

    @classmethod
    def of(cls, member: Member, controls: Collection[str] = ()) -> Choice | None:
        """One row; None where it was measured without accuracies."""
        top1 = [one.metrics.get("top1") for one in member.records]
        known = [one for one in top1 if one is not None]
        if not known or len(known) < len(top1):
            return None
        ends = Interval(float("nan"), float("nan"))
        if member.bitmaps:
            stack = np.stack([member.bitmaps[one.seed] for one in member.records])
            _, ends = accuracy_interval(stack, between=member.between)
        head = member.head
        control = head.control != "none" or head.source_method in controls or head.policy_method in controls
        return cls((member,), control, member.bitmaps, member.between, float(np.mean(known)), ends)

    @classmethod
    def over(cls, choices: Sequence[Choice]) -> Choice | None:
        """The mean over networks that share test images; None where they share no seed or lack answers per image.

        The interval is that of a board's means (:func:`bench.board.tables.averages.average_interval`).
        """
        bitmaps, between = [one.bitmaps for one in choices], [one.between for one in choices]
        if len({np.shape(bits) for table in bitmaps for bits in table.values()}) > 1:
            return None
        found = averaged(bitmaps, between)
        if not found.bitmaps:
            return None
        members = tuple(member for one in choices for member in one.members)
        top1 = 100 * float(np.mean(list(found.bitmaps.values())))
        control = any(one.control for one in choices)
        return cls(members, control, found.bitmaps, found.between, top1, average_interval(found, between))


def chosen(
    rows: pd.DataFrame,
    records: Sequence[ResultRecord],
    between: Mapping[Key, SeedVariance],
    controls: Collection[str] = (),
) -> list[Choice]:
    """The board's rows joined by identity and protocol, in the order of their first record.

    Args:
        rows: lines of the frame, each complete in its suite.
        records: measured ones of these rows, the latest of a cell last.
        controls: sources and searches that are controls, where the rows do not say so.
    """
    told: dict[Key, list[dict[str, object]]] = defaultdict(list)
    names = ["row_id", "protocol_id", "suite", "ladder", "mixed", "remade", "flagged"]
    for line in rows[names].to_dict("records"):
        told[str(line["row_id"]), str(line["protocol_id"])].append({str(k): v for k, v in line.items()})
    found: dict[Key, dict[int, ResultRecord]] = defaultdict(dict)
    for record in records:
        key = record.row_id, str(record.protocol_id)
        if record.status == "ok" and key in told:
            found[key][record.seed] = record
    choices = []
    for key, seeds in found.items():
        lines = told[key]
        doubted = [sign for sign in ("mixed", "remade", "flagged") if any(line[sign] is True for line in lines)]
        member = Member(
            tuple(seeds[seed] for seed in sorted(seeds)),
            tuple(dict.fromkeys(str(line["suite"]) for line in lines)),
            max((str(line["ladder"]) for line in lines), default=""),
            tuple(doubted),
            between.get(key, UNKNOWN),
        )
        choices.append(Choice.of(member, controls))
    return [one for one in choices if one is not None]


def seed_variances_of(
    table: pd.DataFrame, cells: pd.DataFrame, dataset: str, targets: Sequence[str], stale: bool = False
) -> dict[Key, SeedVariance]:
    """(row, protocol) → its moderated variance between seeds, by all measured rows of these networks, whichever suite
    has them: rows of a network and compressor have one slope, those of a setting and protocol one level.  No record is
    opened."""
    kept = (table["dataset"] == dataset) & table["target"].isin(targets) & (table["status"] == "ok")
    names = ["row_id", "protocol_id", "target", "compressor", "policy", "setting_label", "test_count"]
    names += ["target_digest", "test_digest"]
    rows = table[kept & (table["compressor"] != "") & (table["stale"].astype(bool) == stale)]
    rows = rows[names].drop_duplicates(["row_id", "protocol_id"])
    near = cells[cells["row_id"].isin(rows["row_id"]) & (cells["status"] == "ok") & cells["top1"].notna()]
    near = near.sort_values("finished", kind="stable", na_position="first")
    seeds = (
        near.drop_duplicates(["row_id", "seed"], keep="last")
        .groupby("row_id")["top1"]
        .agg(variance="var", seeds="count", mean="mean")
    )
    keys, found = list[Key](), list[Replicates]()
    line: Any
    for line in rows.merge(seeds, left_on="row_id", right_index=True).itertuples(index=False):
        part = line.target, line.compressor, line.target_digest, line.test_digest
        group = line.setting_label, str(line.protocol_id), line.policy != ""
        variance = 0.0 if pd.isna(line.variance) else float(line.variance)
        keys.append((str(line.row_id), str(line.protocol_id)))
        found.append(Replicates(variance, int(line.seeds) - 1, float(line.mean), int(line.test_count), part, group))
    return dict(zip(keys, seed_variances(found), strict=True))


def _cpu(record: ResultRecord, stage: str) -> float | None:
    cost = record.costs.get(stage)
    return None if cost is None else cost.cpu_seconds
