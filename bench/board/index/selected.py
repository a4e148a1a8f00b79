"""``--only`` for what was measured: the grammar of the suite's grid (:mod:`bench.spec.select`), asked of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.interfaces import Setting
from bench.spec.axes import names
from bench.spec.plan import only_axes
from bench.spec.select import Labels, Selection, check_selection, own_labels, parse_only
from bench.store.records import ResultRecord

OF_A_LINE = ("source", "model", "compressor", "policy", "variant", "membership")
"""Axes that pick lines of a table; all others (targets, settings, seeds) say what its lines are measured on."""


@dataclass(frozen=True)
class Selected:
    """``records``: those of the seeds asked for; ``shown``: ids of the rows that were selected; ``measured_on``: of
    these and of the rows beside them, on the same targets and settings, which they are ranked with."""

    records: tuple[ResultRecord, ...]
    shown: frozenset[str]
    measured_on: frozenset[str]


def labels_of(record: ResultRecord) -> Labels:
    """Axis → what the record's cell is called there, its own label first."""
    return {
        "source": (record.source, record.source_method),
        "compressor": (record.compressor, record.compressor_method),
        "policy": (record.policy, record.policy_method),
        **names(Setting.of(record.setting)),
        **{axis: (str(getattr(record, axis)),) for axis in ("model", "target", "variant", "seed", "membership")},
    }


def select(records: Sequence[ResultRecord], only: str | None) -> Selected:
    """What ``only`` (None: everything) selects among ``records`` of one suite.

    Raises:
        SuiteError: it is no selection, or none of the records matches it.
    """
    if only is None:
        every = frozenset(record.row_id for record in records)
        return Selected(tuple(records), every, every)
    selection = parse_only(only, only_axes())
    labels = own_labels([labels_of(record) for record in records])
    check_selection(selection, labels)
    seeds, lines, cells = (
        _part(selection, ("seed",)),
        _part(selection, OF_A_LINE),
        _part(selection, ("seed",), but=True),
    )
    on = Selection(tuple(pair for pair in cells.wanted if pair not in lines.wanted))
    return Selected(
        tuple(record for record, own in zip(records, labels, strict=True) if seeds.accepts(own)),
        frozenset(record.row_id for record, own in zip(records, labels, strict=True) if cells.accepts(own)),
        frozenset(record.row_id for record, own in zip(records, labels, strict=True) if on.accepts(own)),
    )


def _part(selection: Selection, axes: Sequence[str], *, but: bool = False) -> Selection:
    """What a selection says of ``axes``, or of all others."""
    return Selection(tuple(pair for pair in selection.wanted if (pair[0] in axes) is not but))
