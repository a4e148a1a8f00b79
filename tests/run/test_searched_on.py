"""A search on other images than the compressor's, run for real: tier, cost and report in the record, and the board."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from rich.console import Console

from bench.board.index.frame import frame
from bench.board.tables.grids import board_grids
from bench.run import session
from bench.run.session import Options
from tests import pick
from tests.spec.test_policy_axis import SEARCH, SUITE

pytestmark = pytest.mark.skipif(not SEARCH, reason="no policy search is a control")


def test_the_row_has_the_higher_tier_and_says_what_was_searched(tmp_path: Path) -> None:
    pick.need_small_runs()
    file = tmp_path / "bits.yaml"
    file.write_text(dedent(SUITE).replace("POLICY", f"[{SEARCH}, {{{SEARCH}: {{on: {pick.UPPER}, images: 50}}}}]"))
    options = Options(suite=str(file), workers=0, tracker="none", store=tmp_path / "store")
    own, other = session.run(options, Console(quiet=True))[1]
    assert [own.status, other.status] == ["ok", "ok"], [own.reason, other.reason]
    assert (own.access, other.access) == ("T1", "T5")
    assert (own.report["search"]["on"], own.report["search"]["images"]) == (pick.LOWER, 40)
    assert (other.report["search"]["on"], other.report["search"]["images"]) == (pick.UPPER, 50)
    for record in (own, other):
        assert record.report["search"]["bitops"] == pytest.approx(1e9 * record.metrics["bitops_g"])  # type: ignore[operator]
        assert "search" in record.costs
    (grid,) = board_grids(frame([own, other]))
    policies = [row[grid.headers.index("policy")].text for row in grid.rows]
    assert sorted(policies) == [SEARCH, f"{SEARCH} on {pick.UPPER}"]
