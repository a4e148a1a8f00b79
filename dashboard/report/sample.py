"""How much is behind a figure or a table: seeds, images, test images, in the words of its caption."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from bench.board.claims.judging import Verdict
from bench.store.records import ResultRecord
from dashboard.text import counted

LISTED = 3
"""More different counts than these are told by their ends."""


def sample(records: Iterable[ResultRecord]) -> str:
    """``n: 3 seeds a row, 256 images, 10,000 test images`` of what was measured; empty where nothing was."""
    found = [record for record in records if record.status == "ok"]
    rows: dict[str, set[int]] = defaultdict(set)
    for record in found:
        rows[record.row_id].add(record.seed)
    told = [
        _counts({len(seeds) for seeds in rows.values()}, "seed", " a row"),
        _counts({int(record.n) for record in found if record.n}, "image"),
        _counts({int(record.test_count) for record in found if record.test_count}, "test image"),
    ]
    return f"n: {', '.join(filter(None, told))}" if found else ""


def sample_of_rows(records: Iterable[ResultRecord], rows: Collection[str]) -> str:
    """:func:`sample` of the records of these rows, by ``row_id``."""
    return sample(record for record in records if record.row_id in rows)


def sample_of_group(records: Iterable[ResultRecord], group: Mapping[str, Any]) -> str:
    """:func:`sample` of the records whose fields are those of ``group``."""
    return sample(r for r in records if all(str(getattr(r, name)) == str(value) for name, value in group.items()))


def sample_of_claims(verdicts: Sequence[Verdict]) -> str:
    """Paired settings, seeds and test images behind claims; those without a difference have none."""
    found = [verdict for verdict in verdicts if verdict.difference is not None]
    told = [
        _counts({verdict.pairs for verdict in found}, "paired setting", " a claim"),
        _counts({verdict.seeds for verdict in found}, "seed"),
        _counts({verdict.images for verdict in found if verdict.images}, "test image"),
    ]
    return f"n: {', '.join(filter(None, told))}" if found else ""


def _counts(counts: Collection[int], thing: str, per: str = "") -> str:
    """``3 seeds``, ``64, 256 images``, ``16 to 1,024 images``."""
    known = sorted(counts)
    if not known:
        return ""
    if len(known) == 1:
        return counted(known[0], thing) + per
    listed = ", ".join(f"{count:,}" for count in known)
    return f"{listed if len(known) <= LISTED else f'{known[0]:,} to {known[-1]:,}'} {thing}s{per}"
