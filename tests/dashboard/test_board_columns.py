"""Columns of a ranked table: which stand first, which may be chosen, what a cell says, which rows share a table."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.board.index.columns import COLUMNS as DOCUMENTED
from bench.board.index.frame import frame
from dashboard.board_cells import day, recovered
from dashboard.board_columns import DATE, LEADING, classes, leading_columns, shown_columns, with_dates
from dashboard.board_columns import rows as table_rows
from dashboard.column_choice import columns_of, offered
from dashboard.figures.costs import WORK, with_work
from dashboard.figures.leaderboard import leaderboard_bars
from dashboard.text import BLANK
from dashboard.views.leaderboard import with_sections
from tests.board.make import record, seeds
from tests.dashboard.test_leaderboard import SAME, ranked_rows


def test_the_answer_stands_first() -> None:
    """Source, accuracy, interval, cost and seeds before anything else, chosen columns after."""
    table = with_work(frame(ranked_rows(one=0.7)))
    names = [name for _, name, _ in shown_columns(table)]
    assert tuple(names[: len(LEADING)]) == LEADING
    some = ["bitops_g", "stale", "macs"]
    assert [name for _, name, _ in columns_of(table, some)] == [*LEADING, *some]
    assert {column.name for column in DOCUMENTED} <= {*offered(table), *LEADING}


def test_a_chosen_column_says_what_the_row_has() -> None:
    table = frame(seeds([0.5, 0.6], metrics={"macs": 1234567.0})).assign(cell_id="c", work_cpu_s=90.0)
    columns = columns_of(table, ["macs", "stale", "test_count", "source_changes"])
    (cells,) = table_rows(table, columns)
    told = dict(zip([name for _, name, _ in columns], cells, strict=True))
    assert (told["macs"], told["stale"], told["test_count"]) == ("1,234,567", "no", "2,000")
    assert (told[WORK], told["seeds"]) == ("1.5", "2")


def test_what_tells_rows_apart_stands_in_their_names() -> None:
    table = frame(seeds([0.5, 0.6], n=64) + seeds([0.7, 0.6], n=128, compressor="other")).assign(cell_id="c")
    names = [str(cells[0]) for cells in table_rows(table, leading_columns(table))]
    assert sum("· brecq · 64 images" in name for name in names) == 1
    assert sum("· other · 128 images" in name for name in names) == 1
    alone = table_rows(table.head(1), leading_columns(table.head(1)))
    assert "images" not in str(alone[0][0])


def test_a_row_of_one_seed_is_pale_and_has_no_rank() -> None:
    table = frame([*ranked_rows(one=0.7, two=0.6), record(0.9, source="once", **SAME)], seeds={"s": [0]})
    table = with_work(table).assign(cell_id="c")
    place = list(table["source"]).index("once")
    marks = classes(table)
    assert [i for i, mark in enumerate(marks) if "single" in mark] == [place]
    columns = [item for item in shown_columns(table) if item[1] in ("rank", "letters")]
    assert len(columns) == 2
    assert table_rows(table, columns)[place] == [BLANK, ""]
    dots = next(trace for trace in leaderboard_bars(table).data if trace.name == "methods")
    symbols = dict(zip(dots.y, dots.marker.symbol, strict=True))
    assert symbols == {"one": "circle", "two": "circle", "once": "circle-open"}


def test_dates_are_of_the_last_seed_measured() -> None:
    table = frame([*seeds([0.5, 0.6]), record(None, source="failed")])
    cells = pd.DataFrame(
        {
            "suite": "s",
            "suite_version": 1,
            "row_id": [table.loc[table["status"] == "ok", "row_id"].iloc[0]] * 3,
            "status": ["ok", "ok", "failed"],
            DATE: [0.0, 86400.0, 9e8],
        }
    )
    dated = with_dates(table, cells)
    assert len(dated) == len(table)
    assert {row.status: day(row, (0, 1)) for row in dated.itertuples()} == {"ok": "1970-01-02", "failed": BLANK}


def test_sections_hold_what_is_ranked_together() -> None:
    """Ranks of one table never fall while its means rise, whatever protocols, compressors and versions it is of."""
    records = []
    for compressor, best in (("fit", 0.9), ("loose", 0.5)):
        for protocol in ("p1", "p2"):
            same = {"compressor": compressor, "protocol_id": protocol, "target_digest": protocol}
            for k in range(3):
                records += seeds([best - 0.1 * k, best - 0.1 * k + 0.02], source=f"s{k}", n=64, **same)
    records += seeds([0.3, 0.31], source="s0", suite_version=2)
    table = with_sections(frame(records))
    assert table["section"].nunique() == 5
    assert falls(table, "target") == (True, True)  # in one heap they would
    assert falls(table, "section") == (False, True)


def falls(table: pd.DataFrame, by: str) -> tuple[bool, bool]:
    """Whether in some group a lower mean has a better rank, and whether any rank was compared."""
    found, compared = False, False
    for _, part in table[table["rank"].notna()].groupby(by):
        ranks = list(part.sort_values("top1_mean", ascending=False, kind="stable")["rank"])
        found |= ranks != sorted(ranks)
        compared |= len(set(ranks)) > 1
    return found, compared


def test_what_was_not_measured_stands_with_the_rows_beside_it() -> None:
    table = with_sections(frame([*seeds([0.5, 0.6], source="one"), record(None, source="failed")]))
    assert table["section"].nunique() == 1
    several = with_sections(
        frame([*seeds([0.5]), *seeds([0.6], protocol_id="p2", source="b"), record(None, source="failed")])
    )
    assert several["section"].nunique() == 3


def test_columns_by_what_the_board_has() -> None:
    table = frame(ranked_rows(one=0.7))
    bare = table.drop(columns=["rank_low", "letters", "mde", "recovered"], errors="ignore")
    headers = [column.header for column, _, _ in shown_columns(bare)]
    assert not {"rank interval", "ties", "detectable", "recovered %", "remark"} & set(headers)
    full = bare.assign(rank_low=1, rank_high=2, letters="ab", mde=0.5, recovered=80.0)
    assert {"rank interval", "ties", "detectable", "recovered %"} < {c.header for c, _, _ in shown_columns(full)}


def test_long_tie_letters_are_shown_by_their_ends_and_told_in_full() -> None:
    table = frame(ranked_rows(one=0.7)).assign(letters="abcdef", cell_id="c")
    columns = shown_columns(table)
    place = [column.header for column, _, _ in columns].index("ties")
    cell = table_rows(table.head(1), columns)[0][place]
    assert ">a–f<" in str(cell)
    assert "letters abcdef" in str(cell)


@pytest.mark.parametrize(
    ("share", "low", "high", "shown"),
    [
        (91.2, 72.4, 216.9, "91 [72, 217]"),
        (109.3, 62.2, 14664.0, "109 [62, > 999]"),
        (50.0, -2000.0, 3000.0, "50 [< -999, > 999]"),
    ],
)
def test_a_recovered_share_has_no_end_beyond_reading(share: float, low: float, high: float, shown: str) -> None:
    assert recovered(share, low, high) == shown
