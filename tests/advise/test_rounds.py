"""Halving within the time, and what a round is taken to cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench.advise.budget import Candidate, Costs
from bench.advise.candidates import Candidates, Compressor, Level, Source
from bench.advise.exam import Exam
from bench.advise.network import Network
from bench.advise.rounds import FINALS, LEVELS, Field, better_half, by_source_and_bits, finals, only
from bench.advise.search import Clock, Search
from bench.interfaces import NetworkInfo
from bench.run.session import Options
from bench.store.records import ResultRecord, StageCost

POOL = [Candidate(f"s{i}", "c", "W4A4") for i in range(7)]


@given(st.integers(2, 7), st.integers(0, 7))
def test_the_better_half_goes_on_as_far_as_time_allows(count: int, most: int) -> None:
    found = better_half(POOL[:count], lambda cells: len(cells) <= most)
    assert found == POOL[: len(found)]
    assert 2 <= len(found) <= max(2, (count + 1) // 2)
    assert len(found) == 2 or len(found) <= most


@given(st.integers(0, 20))
def test_the_last_round_is_the_largest_that_fits(budget: int) -> None:
    def fits(cells: Sequence[Candidate], seeds: int) -> bool:
        return len(cells) * seeds <= budget

    found = finals(POOL, fits)
    possible = [(seeds, count) for seeds, count in FINALS if seeds * count <= budget]
    assert (found is None) == (not possible)
    assert found is None or (found[0], len(found[1])) == possible[0]
    assert all(seeds >= 2 for seeds, _ in FINALS[:5])


def record(source: str, compressor: str, synthesis: float, compress: float, measure: float) -> ResultRecord:
    costs = {"synthesis": synthesis, "compress": compress, "measure": measure}
    return ResultRecord.model_validate(
        {
            **dict.fromkeys(("cell_id", "row_id", "job_id", "synth_id", "suite", "dataset", "model", "target"), "x"),
            **dict.fromkeys(("preset", "membership"), "x"),
            "suite_version": 1,
            "source": source,
            "source_method": source,
            "compressor": compressor,
            "compressor_method": compressor,
            "setting_label": "W4A4",
            "n": 64,
            "seed": 0,
            "control": "none",
            "status": "ok",
            "test_count": 100,
            "metrics": {"size_bytes": 10.0},
            "costs": {
                name: StageCost(seconds=value, cpu_seconds=value / 2).model_dump() for name, value in costs.items()
            },
        }
    )


def test_costs_follow_what_was_measured() -> None:
    source = Source("s", "none", 64, False, {"iterations": 100, "batch": 64})
    compressor = Compressor("c", 32, {"iterations": 200, "batch": 32})
    small, large = Level(64, 0.25), Level(256, 1.0)
    costs = Costs(2)
    costs.calibrate([record("n", "c", 0, 0, 2.0)])
    guess = costs.images(source, small)
    assert guess > 0  # 2 × 25 × 64 passes of 0.02 s, doubled
    assert abs(guess - 2 * 2 * 25 * 64 * 0.02) < 1e-9
    costs.learn([record("s", "c", 8.0, 3.0, 2.0)], {"s": source.passes(small)}, {"c": compressor.passes(small)})
    assert costs.images(source, small) == 8.0
    assert costs.images(source, large) == 8.0 * 16  # four times the images, four times the iterations
    assert costs.cell(compressor, small) == 3.0 + 2.0
    assert costs.cell(compressor, large) > 3 * costs.cell(compressor, small) - 10
    assert costs.sizes == {"W4A4": 10.0}
    processor = Costs(1, cpu=True)
    processor.learn([record("s", "c", 8.0, 3.0, 2.0)], {"s": source.passes(small)}, {})
    assert processor.images(source, small) == 4.0


def test_a_dearer_seed_raises_the_expectation_and_a_new_level_replaces_it() -> None:
    source = Source("s", "none", 64, False, {"iterations": 100})
    costs = Costs(1)
    for seconds, level in ((8.0, Level(64, 0.25)), (9.0, Level(64, 0.25)), (20.0, Level(128, 0.5))):
        costs.learn([record("s", "c", seconds, 0, 0)], {"s": source.passes(level)}, {})
    assert costs.images(source, Level(128, 0.5)) == 20.0


def test_cells_run_together_at_as_many_workers() -> None:
    assert Costs(2, overhead=1.0).chunk(10.0, [4.0, 4.0]) == 15.0
    assert Costs(4, overhead=1.0).chunk(10.0, [4.0]) == 15.0  # one job is not divided


def test_parts_are_of_one_source_and_width_and_name_their_cells() -> None:
    cells = [Candidate("a", "x", "W4A4"), Candidate("b", "x", "W4A4"), Candidate("a", "y", "W4A4")]
    assert by_source_and_bits(cells) == [[cells[0], cells[2]], [cells[1]]]
    assert only(by_source_and_bits(cells)[0]) == "source=a,compressor=x|y,bits=W4A4"


def test_the_clock_counts_what_an_interrupted_run_used(tmp_path) -> None:  # type: ignore[no-untyped-def]
    moment = [100.0]
    clock = Clock(60.0, tmp_path / "used.json", lambda: moment[0])
    clock.start(90.0)
    assert (clock.used, clock.left) == (10.0, 50.0)
    moment[0] = 120.0
    clock.note()
    again = Clock(60.0, tmp_path / "used.json", lambda: moment[0])
    again.start(115.0)
    assert again.used == 30.0 + 5.0
    (tmp_path / "used.json").write_text("no JSON")
    again.start(115.0)
    assert again.used == 5.0


def test_where_no_source_fits_as_a_whole_the_cheapest_compressors_come_first() -> None:
    network = Network(
        "n", "n", "", NetworkInfo("n", "d", (0.5,), (0.25,), 1, 10, (1, 8, 8), 3, 1, 1, None), (1, 8, 8), 10
    )
    pool = (Compressor("dear", 9, {"iterations": 100}), Compressor("cheap", 1, {}))
    field = Field(network, Exam("accuracy", "a", "a", "x"), Candidates((), (), pool, ()))
    clock = Clock(1.0, Path("none"), lambda: 0.0)
    search = Search(field, "s", Options("s"), clock, Costs(1), Console(quiet=True))
    cells = [Candidate(source, name, "W4A4") for source in ("a", "b") for name in ("dear", "cheap")]
    found = search._cheapest(by_source_and_bits(cells), LEVELS[0])
    assert [(cell.compressor, cell.source) for (cell,) in found] == [
        ("cheap", "a"),
        ("cheap", "b"),
        ("dear", "a"),
        ("dear", "b"),
    ]
