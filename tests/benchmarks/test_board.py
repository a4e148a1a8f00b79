"""The board's statistics at the size of a large suite."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from bench.board.index.frame import frame
from bench.board.stats.paired import spread
from bench.board.stats.standings import standings
from tests.board.make import paired_rows, record

pytestmark = pytest.mark.skipif("--benchmark-only" not in sys.argv, reason="timed; `make benchmarks`")


def test_a_frame_of_seven_hundred_records(benchmark: Any) -> None:
    rng = np.random.default_rng(0)
    easy = rng.random(10_000)
    records = [
        record(
            easy < 0.9 - 0.01 * k + rng.normal(0, 0.002),
            source=f"m{k:02}",
            target=f"t{t}",
            target_digest=f"t{t}",
            seed=s,
        )
        for k in range(15)
        for t in range(15)
        for s in range(3)
    ]
    table = benchmark(frame, records)
    assert len(table) == 225
    assert table["letters"].notna().all()


def test_standings_of_fifteen_rows(benchmark: Any) -> None:
    assert len(benchmark(standings, paired_rows([0.8 - 0.005 * i for i in range(15)], seeds=3, images=10_000))) == 15


def test_bootstrap_of_ten_thousand_images(benchmark: Any) -> None:
    table = (np.random.default_rng(7).random((20, 10_000)) < 0.9).astype(float)
    assert benchmark(spread, table).half_width() > 0
