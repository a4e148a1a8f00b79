"""Records → board, for the commands that print one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.board.claims import judge
from bench.board.frame import frame
from bench.board.report import report
from bench.spec.plan import Plan
from bench.spec.registry import Registry
from bench.store.records import ResultRecord

STANDARD = {"top1", "fp_top1", "macs", "bitops_g", "size_bytes", "size_ratio"}
"""Metrics of every compressed cell; others (image measures) become columns of their own."""


def versions() -> dict[tuple[str, str], int]:
    """(kind, method) → version of the code at hand, to tell stale records."""
    found: dict[tuple[str, str], int] = {}
    for kind in ("sources", "compressors"):
        registry = Registry(kind)
        found |= {(kind, name): int(registry.get(name).version) for name in registry.names()}
    return found


def board_of(records: Sequence[ResultRecord], form: str, plan: Plan | None = None, *, details: bool = False) -> Any:
    """The board of ``records`` in ``form`` (table, csv, md, json, latex), with the claims of the plan's suite."""
    known = versions()
    seeds = None
    verdicts = []
    if plan is not None:
        seeds = {plan.suite.suite: sorted({cell.seed for cell in plan.cells})}
        verdicts = judge(plan.suite.claims, records, versions=known, seeds=seeds) if plan.suite.claims else []
    extra = sorted({name for r in records for name in r.metrics} - STANDARD)
    table = frame(records, versions=known, seeds=seeds, extra=extra)
    return report(table, form, verdicts=verdicts, records=records, details=details)
