"""Figures for papers: files that open, the board's own numbers, names as text, and the same bytes each time."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from itertools import product

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from PIL import Image

from bench.board.claims.judging import judge
from bench.board.index.rows import make_rows
from bench.board.index.selected import select
from bench.board.tables.level_differences import level_differences
from bench.errors import BenchError
from bench.store.records import ResultRecord
from dashboard.paper.cited import bibtex
from dashboard.paper.front import front_of
from dashboard.paper.kinds import KINDS, caption_text, drawn, table_text
from dashboard.paper.material import Drawing, Material, material
from dashboard.paper.style import WIDTHS, reach, to_bytes, width_of
from tests.board.make import paired_rows, record

ODD = "odd $x_1$ & <b> 100%"
"""A source's name of what TeX, matplotlib and XML read as something else."""

CLAIMS = [
    {"says": "a serves better than the odd one", "better": {"source": "a"}, "worse": {"source": ODD}, "by": "target"},
    {"says": "a serves better than what is not there", "better": {"source": "a"}, "worse": {"source": "z"}},
]


def rows(seeds: int = 3, **more: object) -> list[ResultRecord]:
    """Two methods of which one has two parameters, and both controls, on two networks."""
    means = {"a": 0.8, "a(k=2)": 0.83, ODD: 0.7, "up": 0.86, "low": 0.2}
    controls = {"up": "upper", "low": "lower"}
    found = []
    for key, (source, target) in enumerate(product(means, ("t1", "t2"))):
        (bitmaps,) = paired_rows([means[source]], seeds=seeds, images=1000, key=key)
        changes = {"k": 2} if source.endswith("(k=2)") else {}
        for seed, bitmap in bitmaps.items():
            named = {
                "source": source,
                "source_method": source.partition("(")[0],
                "control": controls.get(source, "none"),
            }
            params = {"k": 2 if changes else 1}
            own = {"target": target, "target_digest": target, "source_changes": changes, "source_params": params}
            dated = {"provenance": {"finished": 1.79e9 + seed, "datafree_bench": "0.1.0"}}
            found.append(record(bitmap, seed=seed, **(named | own | dated | more)))
    return found


def of(records: Sequence[ResultRecord], only: str | None = None) -> Material:
    selected = select(records, only)
    asked = {"s": sorted({r.seed for r in records})}
    return material("s", 1, "A title", "compressor", selected, {}, asked, judge(CLAIMS, records, seeds=asked))


@pytest.fixture(scope="module")
def whole() -> Material:
    return of(rows())


@pytest.fixture(scope="module")
def drawings(whole: Material) -> dict[str, Drawing]:
    return {kind: drawn(kind, whole, WIDTHS["page"]) for kind in KINDS}


def bars(axes: Axes) -> list[tuple[float, float, float]]:
    """(value, low, high) of every horizontal error bar, by value."""
    found = []
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        line, _, collections = container.lines
        assert line is not None
        ((ends,),) = [collection.get_segments() for collection in collections]
        found.append((float(line.get_xdata()[0]), float(ends[0][0]), float(ends[1][0])))  # type: ignore[index, arg-type]
    return sorted(found)


def texts(svg: bytes) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")]


@pytest.mark.parametrize("kind", KINDS)
def test_each_file_opens_at_its_width_and_is_the_same_each_time(
    kind: str, whole: Material, drawings: dict[str, Drawing]
) -> None:
    again = drawn(kind, of(rows()), WIDTHS["page"])
    first = {form: to_bytes(drawings[kind].figure, form) for form in ("pdf", "svg")}
    assert first == {form: to_bytes(again.figure, form) for form in first}
    assert (table_text(again), caption_text(again)) == (table_text(drawings[kind]), caption_text(drawings[kind]))
    column = to_bytes(drawn(kind, whole, WIDTHS["column"]).figure, "pdf")
    for pdf, width in ((first["pdf"], WIDTHS["page"]), (column, WIDTHS["column"])):
        box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf)
        assert box is not None
        assert float(box[1]) == pytest.approx(72 * width, abs=0.5)
        assert pdf.startswith(b"%PDF-")
        assert b"/FontFile2" in pdf  # TrueType, which editors can read
        assert b"/Type3" not in pdf
        assert b"Date" not in pdf
    assert b"dc:date" not in first["svg"]


def test_a_picture_is_one_of_300_dots_an_inch(drawings: dict[str, Drawing]) -> None:
    content = to_bytes(drawings["claims"].figure, "png")
    assert content == to_bytes(drawings["claims"].figure, "png")
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.width == pytest.approx(300 * WIDTHS["page"], abs=1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "claims"])
def test_names_are_text_as_they_are(kind: str, drawings: dict[str, Drawing]) -> None:
    said = " ".join(texts(to_bytes(drawings[kind].figure, "svg")))
    name = "k of a" if kind == "ablation" else "a(k=2)"
    assert name in said
    assert kind in ("ablation", "front") or ODD in said


def test_accuracy_and_ranks_are_the_boards(whole: Material, drawings: dict[str, Drawing]) -> None:
    (table,) = whole.tables
    left, right = drawings["ranks"].figure.axes
    known = [(line.mean, *line.interval) for line in table.lines if line.mean and line.interval and line.name != "low"]
    assert len(known) == 4
    assert np.array(bars(left)) == pytest.approx(np.array(sorted(known)))
    spans = {tuple(map(float, line.get_xdata())) for line in right.lines if len(line.get_xdata()) == 2}  # type: ignore[arg-type]
    assert spans == {tuple(map(float, line.ranks)) for line in table.ranked if line.ranks}
    (lower,) = [line.mean for line in table.lines if line.name == "low"]
    assert [text.get_text() for text in left.texts] == [f"◂ {lower:.1f}"]  # too far off for the axis


def test_differences_are_those_of_the_levels_and_claims(whole: Material, drawings: dict[str, Drawing]) -> None:
    (line,) = level_differences(make_rows(rows()))
    assert bars(drawings["ablation"].figure.axes[0]) == [pytest.approx((line.difference, line.low, line.high))]
    judged = [v for v in whole.verdicts if v.difference is not None]
    assert len(judged) == 1
    assert bars(drawings["claims"].figure.axes[0]) == [
        pytest.approx((judged[0].difference, judged[0].low, judged[0].high))
    ]
    said = " ".join(texts(to_bytes(drawings["claims"].figure, "svg")))
    assert "✓ supported" in said
    assert "? open" in said


def test_a_square_of_the_map_is_the_rows_mean_and_half_width(whole: Material, drawings: dict[str, Drawing]) -> None:
    lines = [line for line in of(rows(), "target=t1").tables[0].lines if line.mean and line.interval]
    said = texts(to_bytes(drawings["map"].figure, "svg"))
    assert len(lines) == 5
    for line in lines:
        assert line.interval is not None
        assert f"{line.mean:.2f} ±{(line.interval.high - line.interval.low) / 2:.2f}" in said
    assert "up (upper control)" in said


def test_the_front_is_of_methods_that_no_other_beats(drawings: dict[str, Drawing]) -> None:
    cheap = {"costs": rows()[0].costs}
    slow = {name: cost.model_copy(update={"cpu_seconds": 100.0}) for name, cost in rows()[0].costs.items()}
    records = [r.model_copy(update={"costs": slow} if r.source == "a(k=2)" else cheap) for r in rows()]
    figure = drawn("front", of(records), WIDTHS["column"])
    (grid,) = figure.grids
    assert [row[1].text for row in grid.rows if row[1].bold] == ["a", "a(k=2)"]
    assert front_of([]) == []


def test_what_goes_with_a_figure(whole: Material, drawings: dict[str, Drawing]) -> None:
    for kind, drawing in drawings.items():
        table, caption = table_text(drawing), caption_text(drawing)
        assert table.startswith("% Caption of the figure: ")
        assert r"\toprule" in table, kind
        assert "n = 3 seeds (0, 1, 2)" in caption
        assert "1,000 test images" in caption
        assert not re.search(r"(?<!\\)[%&_#]", caption)
    assert r"odd \$x\_1\$ \& $<$b$>$ 100\%" in table_text(drawings["ranks"])


def test_a_citation_names_suite_versions_records_and_the_day_of_measuring(whole: Material) -> None:
    text = bibtex(whole)
    assert text == bibtex(of(list(reversed(rows()))))
    assert re.match(r"@misc\{datafree-bench-s-[0-9a-f]{8},\n", text)
    for words in ("suite s version 1", "datafree-bench 0.1.0", "30 records", "year = {2026}", "month = sep"):
        assert words in text
    assert re.search(r"SHA-256 [0-9a-f]{64}", text)
    assert bibtex(of(rows(seeds=2))) != text


def test_a_part_keeps_its_ranks_among_all() -> None:
    figure = drawn("ranks", of(rows(), "source=a"), WIDTHS["column"])
    (grid,) = figure.grids
    assert [(row[1].text, row[2].text) for row in grid.rows] == [
        (f"{line.ranks[0]}–{line.ranks[1]}" if line.ranks and line.ranks[0] < line.ranks[1] else "2–2", line.name)
        for line in of(rows()).tables[0].lines
        if line.name == "a"
    ]


def test_one_seed_has_intervals_and_no_ranks() -> None:
    drawing = drawn("ranks", of(rows(seeds=1)), WIDTHS["column"])
    assert len(drawing.figure.axes) == 1
    assert "no rank" in caption_text(drawing)
    assert "n = 1 seed (0)" in caption_text(drawing)


def test_the_users_own_settings_change_nothing_and_stay(whole: Material) -> None:
    usual = to_bytes(drawn("ranks", whole, 5.0).figure, "svg")
    with mpl.rc_context({"font.size": 20, "axes.grid": True, "svg.fonttype": "path"}):
        assert to_bytes(drawn("ranks", whole, 5.0).figure, "svg") == usual
        assert mpl.rcParams["font.size"] == 20


def test_what_cannot_be_drawn_says_why() -> None:
    alone = [r for r in rows() if r.source == "a"]
    for kind, why in (("ablation", "no two rows differ"), ("claims", "no claim")):
        selected = select(alone, None)
        bare = material("s", 1, "", "compressor", selected, {}, {"s": [0, 1, 2]})
        with pytest.raises(BenchError, match=why):
            drawn(kind, bare, 5.0)
    with pytest.raises(BenchError, match="no such figure"):
        drawn("rank", of(alone), 5.0)
    many = [
        r.model_copy(update={"target": f"t{i}", "row_id": f"{r.row_id}{i}", "cell_id": f"{r.cell_id}{i}"})
        for i in range(20)
        for r in alone
    ]
    with pytest.raises(BenchError, match="too many networks for this width"):
        drawn("map", of(many), WIDTHS["column"])


@pytest.mark.parametrize(("text", "inches"), [("column", 3.3), ("page", 6.9), ("127", 5.0), ("50.8mm", 2.0)])
def test_widths(text: str, inches: float) -> None:
    assert width_of(text) == pytest.approx(inches)


@pytest.mark.parametrize("text", ["colum", "10", "1e9", "nan", ""])
def test_widths_that_are_none(text: str) -> None:
    with pytest.raises(BenchError):
        width_of(text)


def test_a_control_far_off_does_not_stretch_the_axis() -> None:
    low, high = reach([80.0, 90.0], [[85.0, 84.0, 86.0], [20.0, 19.0, 21.0], [92.0, 91.0, 95.0]])
    assert 75 < low < 80
    assert 95 < high < 97
