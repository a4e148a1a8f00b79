"""Rows of unlike machines, and image sets of unlike content: what a reader must know before he compares."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from bench.board.index.rows import Row
from bench.board.stats.ranks import GROUP
from bench.machine import machine_key
from bench.store.records import ResultRecord

Content = tuple[object, object, object]
"""Of a record: its image set's id, how many images it took, and their digest."""


def machines_of(records: Iterable[ResultRecord]) -> list[str]:
    """The keys of the machines that measured these records, each once; "" stands for records that say nothing of it."""
    return sorted({machine_key(record.provenance) for record in records})


def mixed_rows(rows: Sequence[Row]) -> set[int]:
    """Indices of the rows whose seeds come from unlike machines, or one of whose seeds comes from another machine than
    most rows beside it (one target and protocol; all of them where there is no most)."""
    found = {i for i, row in enumerate(rows) if len(machines_of(row.measured)) > 1}
    beside: dict[tuple[object, ...], list[tuple[int, str]]] = defaultdict(list)
    for i, row in enumerate(rows):
        for record in () if row.stale else row.measured:
            key = (*(getattr(record, name) for name in GROUP), record.seed)
            beside[key].append((i, machine_key(record.provenance)))
    for members in beside.values():
        counts = Counter(key for _, key in members).most_common()
        usual = counts[0][0] if len(counts) == 1 or counts[0][1] > counts[1][1] else None
        found |= {i for i, key in members if key != usual}
    return found


def unlike(first: Iterable[Row], second: Iterable[Row]) -> bool:
    """Whether two sides of a comparison come from unlike machines at a seed that both have."""
    sides: list[dict[int, set[str]]] = []
    for rows in (first, second):
        found: dict[int, set[str]] = defaultdict(set)
        for row in rows:
            for record in row.measured:
                found[record.seed].add(machine_key(record.provenance))
        sides.append(found)
    return any(len(sides[0][seed] | sides[1][seed]) > 1 for seed in sides[0].keys() & sides[1].keys())


def content_of(record: ResultRecord) -> Content:
    """See :data:`Content`."""
    return record.synth_id, record.n, record.image_digest


def several_contents(found: Iterable[Content]) -> frozenset[str]:
    """Ids of image sets that were made more than once, with another content: one id, one count, several digests.
    Streams and records without images have no digest."""
    seen: dict[tuple[str, object], set[str]] = defaultdict(set)
    for synth_id, n, digest in found:
        if isinstance(synth_id, str) and isinstance(digest, str) and digest:
            seen[synth_id, n].add(digest)
    return frozenset(synth_id for (synth_id, _), digests in seen.items() if len(digests) > 1)
