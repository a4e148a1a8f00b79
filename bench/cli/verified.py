"""What `bench verify` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from bench.cli.options import out

if TYPE_CHECKING:
    from bench.store.verifications import Verification
    from bench.submit.verify import Verified

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Shares of forged cells whose chance of being caught is printed."""


def show(made: Verified, path: Path) -> None:
    """Print cells, kinds of cells, what a forgery would meet, and the verdict; ``path`` is the report's."""
    from bench.board.stats.rerun import POWER, caught

    report = made.report
    out.print(_cells_table(report))
    out.print(_kinds_table(report))
    count = len(report.checked)
    if made.elsewhere:
        reasons = "; ".join(sorted(set(made.elsewhere.values())))
        _say(f"{len(made.elsewhere)} cells cannot be run again here and were not drawn: {reasons}")
    chances = ", ".join(
        f"{share:.0%}: {caught(share, count):.0%} ({caught(share, count, POWER):.0%})" for share in SHARES
    )
    _say(
        f"{count} of {report.cells} cells were drawn with seed {report.seed}. A forgery of a share f of the cells is "
        f"caught with probability 1-(1-f)^{count}, where each is off by far more than its interval (in brackets: by "
        f"the smallest forgery above, each shown with {POWER:.0%}): {chances}"
    )
    alike = [cell for cell in report.checked if cell.machine == report.machine]
    if alike:
        unlike = sum(not cell.equal for cell in alike)
        _say(
            f"{len(alike)} of them were submitted from a machine of this kind ({report.machine}), where equal answers "
            f"are expected ({unlike} differ); such a re-run is no reproduction on another machine."
        )
    for cell in report.checked:
        told = ", ".join(f"{name} {first} → {again}" for name, (first, again) in cell.differs.items())
        if told:
            _say(f"{cell.title}: not judged, and other than submitted: {told}")
    verdict = "inside" if report.passed else "outside" if report.contradicts else "not verified: cells failed"
    _say(f"{verdict}; report: {path}")


def _say(text: str) -> None:
    out.print(text, highlight=False)


def _cells_table(report: Verification) -> Table:
    table = Table("cell", "submitted %", "again %", "difference", "interval", "equal answers", "", title="cells")
    for cell in report.checked:
        again = "–" if cell.again is None else f"{cell.again:.2f}"
        gap = "–" if cell.again is None else f"{cell.again - cell.submitted:+.2f}"
        equal = "–" if cell.agreement is None else "all" if cell.equal else f"{cell.agreement:.2%}"
        verdict = "inside" if cell.inside else (cell.reason or "outside")
        table.add_row(cell.title, f"{cell.submitted:.2f}", again, gap, f"±{cell.half_width:.2f}", equal, verdict)
    return table


def _kinds_table(report: Verification) -> Table:
    table = Table("kind of cell", "cells", "spread from", "deviation of a run", "smallest forgery", "widest")
    table.title = "what is detected"
    table.caption = (
        "points of top-1, medians over the kind's cells; the smallest forgery is the one that a re-run shows with 80 % "
        "power, the widest that of the cell whose runs spread most"
    )
    for kind in report.kinds:
        numbers = (f"{value:.2f}" for value in (kind.deviation, kind.smallest_forgery, kind.widest))
        table.add_row(kind.title, str(kind.cells), kind.basis, *numbers)
    return table
